//! Is anything still in flight? Two sources are asked; gauges are known to stick, balancers to be blind.

use crate::canonical::Form;
use crate::{DrainSpec, Source, Time};

/// One replica's drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainWatch {
    /// When the balancer confirmed that nothing new arrives: the drain's times count from here.
    pub(crate) confirmed_at: Option<Time>,
    /// The plan's extension was used.
    pub(crate) extended: bool,
    /// The time is over and the plan says cut.
    pub(crate) cutting: bool,
    /// Zero was seen as often as the plan says. That stays so while nothing new reaches the replica.
    pub(crate) over: bool,
    zeroes: u32,
    alone: Option<(Source, Time)>,
}

/// What a look at the counts means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Zero,
    /// Zero by one source only, for so long that it is believed over the other.
    Believed(Source, Option<u32>),
}

impl DrainWatch {
    /// A look that failed, or a restart in between: zeroes must be seen in a row.
    pub(crate) fn interrupted(&mut self) {
        self.zeroes = 0;
        self.alone = None;
    }

    pub(crate) fn write(&self, form: &mut Form) {
        let DrainWatch { confirmed_at, extended, cutting, over, zeroes, alone } = self;
        // The drain's timer is set from it again when a drain begins anew.
        form.instant(confirmed_at.unwrap_or(Time::MAX));
        form.put((extended, cutting, over, zeroes, alone.map(|(source, _)| source)));
        form.since(alone.map(|(_, since)| since));
    }

    pub(crate) fn sample(
        &mut self,
        spec: &DrainSpec,
        now: Time,
        balancer: Option<u32>,
        engine: Option<u32>,
    ) -> Verdict {
        let verdict = self.weigh(spec, now, balancer, engine);
        self.over |= verdict != Verdict::Wait;
        verdict
    }

    fn weigh(&mut self, spec: &DrainSpec, now: Time, balancer: Option<u32>, engine: Option<u32>) -> Verdict {
        let alone = match (balancer, engine) {
            (Some(0), Some(0)) => {
                self.zeroes = self.zeroes.saturating_add(1);
                // The balancer's zero also counts toward believing it alone, should the engine's gauge flicker.
                self.alone = self.alone.or(Some((Source::Balancer, now)));
                return if self.zeroes >= spec.zeroes { Verdict::Zero } else { Verdict::Wait };
            }
            (Some(0), _) => Some(Source::Balancer),
            (None, Some(0)) => Some(Source::Engine),
            // The balancer sees connections. An engine that says zero against it is not believed: its gauges lag.
            _ => None,
        };
        self.zeroes = 0;
        self.alone = alone.map(|source| match self.alone {
            Some((before, since)) if before == source => (source, since),
            _ => (source, now),
        });
        match self.alone {
            Some((source, since)) if now > since && now.since(since) >= spec.believe_after => {
                Verdict::Believed(source, if source == Source::Balancer { engine } else { balancer })
            }
            _ => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(samples: &[(u64, Option<u32>, Option<u32>)]) -> Verdict {
        let spec = DrainSpec::default();
        let mut drain = DrainWatch::default();
        let mut last = Verdict::Wait;
        for (second, balancer, engine) in samples {
            last = drain.sample(&spec, Time::from_secs(*second), *balancer, *engine);
        }
        last
    }

    #[test]
    fn zero_is_seen_twice_in_a_row_by_both() {
        assert_eq!(watch(&[(0, Some(0), Some(0))]), Verdict::Wait);
        assert_eq!(watch(&[(0, Some(0), Some(0)), (1, Some(0), Some(0))]), Verdict::Zero);
        assert_eq!(
            watch(&[(0, Some(0), Some(0)), (1, Some(1), Some(0)), (2, Some(0), Some(0))]),
            Verdict::Wait
        );
    }

    #[test]
    fn a_stuck_gauge_loses_against_a_steady_balancer() {
        assert_eq!(watch(&[(0, Some(0), Some(3)), (19, Some(0), Some(3))]), Verdict::Wait);
        assert_eq!(
            watch(&[(0, Some(0), Some(3)), (20, Some(0), Some(3))]),
            Verdict::Believed(Source::Balancer, Some(3))
        );
        assert_eq!(
            watch(&[(0, None, Some(0)), (20, None, Some(0))]),
            Verdict::Believed(Source::Engine, None)
        );
        assert_eq!(watch(&[(0, Some(2), Some(0)), (90, Some(2), Some(0))]), Verdict::Wait);
        assert_eq!(watch(&[(0, None, None), (90, None, None)]), Verdict::Wait);
    }
}
