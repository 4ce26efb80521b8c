//! What clients saw lately: from the balancer where it knows, else from the engines' own counters.

use std::collections::BTreeMap;

use slackwater_policy::{Event, Figure, Span, Time};

use crate::metrics::{Histogram, Metrics};

/// Two quantiles, seconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// What is known of the whole service lately; `None` where nobody says.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Live {
    /// Requests a second.
    pub rate: Option<f64>,
    /// Time to first token, seconds.
    pub ttft: Option<Quantiles>,
    /// Time per output token, seconds.
    pub tpot: Option<Quantiles>,
    /// The share of requests that failed.
    pub error_rate: Option<f64>,
    /// Requests that wait in the engines' queues.
    pub queue: Option<f64>,
    /// Requests counted since the balancer was started, to be differenced.
    pub answered: Option<u64>,
    /// Those of them that failed.
    pub failed: Option<u64>,
}

impl Live {
    /// As guard samples for the policy.
    pub fn events(&self) -> Vec<Event> {
        let figures = [
            (Figure::TtftP50, self.ttft.map(|it| it.p50)),
            (Figure::TtftP99, self.ttft.map(|it| it.p99)),
            (Figure::TpotP50, self.tpot.map(|it| it.p50)),
            (Figure::TpotP99, self.tpot.map(|it| it.p99)),
            (Figure::ErrorRate, self.error_rate),
            (Figure::QueueDepth, self.queue),
        ];
        let sound = |value: &f64| value.is_finite() && *value >= 0.0;
        let load = self.rate.filter(sound).map(|rate| Event::Load { rate });
        let figures = figures
            .into_iter()
            .filter_map(|(figure, value)| Some(Event::Figure { figure, value: value.filter(sound)? }));
        load.into_iter().chain(figures).collect()
    }
}

/// How far back counters are differenced.
const OVER: Span = Span::from_secs(60);

/// Counters of the engines and the balancer over the last minute.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Oldest first; one a look, so a few dozen.
    seen: Vec<(Time, Totals)>,
    last: BTreeMap<usize, Metrics>,
    /// What processes that are gone had counted, so that a restart is no step back.
    gone: Totals,
}

/// Counters since the beginning.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    finished: f64,
    answered: f64,
    failed: f64,
    ttft: Histogram,
    tpot: Histogram,
}

impl Counted {
    /// Takes one look: what each replica's metrics page says, where it answered, and the balancer's counters.
    pub(crate) fn saw(&mut self, now: Time, pages: Vec<(usize, Metrics)>, balancer: &Live) {
        for (replica, page) in pages {
            let before = self.last.insert(replica, page);
            let after = &self.last[&replica];
            // Counters that went back belong to a new process.
            if let Some(before) =
                before.filter(|before| after.finished() < before.finished() && after.finished().is_some())
            {
                self.gone.finished += before.finished().unwrap_or(0.0);
                self.gone.ttft.add(&before.ttft());
                self.gone.tpot.add(&before.tpot());
            }
        }
        let mut totals = self.gone.clone();
        for page in self.last.values() {
            totals.finished += page.finished().unwrap_or(0.0);
            totals.ttft.add(&page.ttft());
            totals.tpot.add(&page.tpot());
        }
        #[allow(clippy::cast_precision_loss)] // counts of requests
        {
            totals.answered = balancer.answered.unwrap_or(0) as f64;
            totals.failed = balancer.failed.unwrap_or(0) as f64;
        }
        self.seen.push((now, totals));
        self.seen.retain(|(at, _)| now.since(*at) <= OVER);
    }

    /// What the counters say of the last minute, in place of what the balancer did not say itself.
    pub(crate) fn complete(&self, mut live: Live) -> Live {
        let (Some((first, old)), Some((last, new))) = (self.seen.first(), self.seen.last()) else {
            return live;
        };
        let seconds = last.since(*first).as_secs_f64();
        if seconds <= 0.0 {
            return live;
        }
        let answered = new.answered - old.answered;
        let finished = new.finished - old.finished;
        if live.rate.is_none() {
            let engines = self.last.values().any(|page| page.finished().is_some()).then_some(finished);
            let count = live.answered.filter(|_| answered >= 0.0).map(|_| answered).or(engines);
            live.rate = count.map(|count| (count / seconds).max(0.0));
        }
        if live.error_rate.is_none() && live.answered.is_some() && answered > 0.0 {
            live.error_rate = Some(((new.failed - old.failed) / answered).clamp(0.0, 1.0));
        }
        let quantiles = |new: &Histogram, old: &Histogram| {
            let between = new.less(old);
            Some(Quantiles { p50: between.quantile(0.5)?, p99: between.quantile(0.99)? })
        };
        live.ttft = live.ttft.or_else(|| quantiles(&new.ttft, &old.ttft));
        live.tpot = live.tpot.or_else(|| quantiles(&new.tpot, &old.tpot));
        let waiting: Vec<f64> = self.last.values().filter_map(Metrics::waiting).collect();
        live.queue = live.queue.or((!waiting.is_empty()).then(|| waiting.iter().sum()));
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(finished: u32, quick: u32) -> Metrics {
        let text = format!(
            "vllm:request_success_total{{a=\"b\"}} {finished}\nvllm:num_requests_waiting 2\n\
             vllm:time_to_first_token_seconds_bucket{{le=\"0.1\"}} {quick}\n\
             vllm:time_to_first_token_seconds_bucket{{le=\"+Inf\"}} {finished}\n"
        );
        Metrics::read(crate::deployment::EngineKind::Vllm, &text)
    }

    #[test]
    fn rates_and_quantiles_are_of_the_last_minute_and_survive_a_restart() {
        let mut counted = Counted::default();
        counted.saw(Time::from_secs(0), vec![(0, page(1_000, 10))], &Live::default());
        counted.saw(Time::from_secs(10), vec![(0, page(1_050, 60))], &Live::default());
        let live = counted.complete(Live::default());
        assert_eq!(live.rate, Some(5.0));
        assert!(live.ttft.unwrap().p99 <= 0.1, "{live:?}");
        assert_eq!(live.queue, Some(2.0));
        counted.saw(Time::from_secs(20), vec![(0, page(10, 10))], &Live::default());
        assert_eq!(counted.complete(Live::default()).rate, Some(3.0), "1,050 and 10 more");
        counted.saw(Time::from_secs(120), vec![(0, page(10, 10))], &Live::default());
        assert_eq!(counted.complete(Live::default()).rate, None, "nothing to difference with");
    }

    #[test]
    fn what_is_not_a_number_is_no_sample() {
        let live = Live { rate: Some(f64::NAN), error_rate: Some(0.1), ..Live::default() };
        assert_eq!(live.events(), [Event::Figure { figure: Figure::ErrorRate, value: 0.1 }]);
    }
}
