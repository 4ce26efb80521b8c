//! What a live server's own counters said while it was only watched: sums over intervals, no single request.

use slackwater_scenarios::Keyed;

use crate::experiment::{Answer, Description, Experiment, Row};

/// What was counted between two looks at one engine. Sums over the interval; times in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Interval {
    /// Which of the engines that were watched.
    pub engine: usize,
    /// Its begin, since the first look.
    pub from_s: f64,
    /// Its length.
    pub seconds: f64,
    /// Tokens after the first of their answers.
    pub gaps: f64,
    /// What passed before each of them since the one before it, together.
    pub gaps_s: f64,
    /// Answers that began.
    pub first_tokens: f64,
    /// From their arrivals to then, together.
    pub ttft_s: f64,
    /// Answers that ended.
    pub ended: f64,
    /// From their arrivals to then, together.
    pub e2e_s: f64,
    /// Prompt tokens that were computed: those that the prefix cache had are not among them.
    pub prompt_tokens: f64,
    /// Prompt tokens that the prefix cache had.
    pub cached_tokens: f64,
    /// Requests in the engine's batches at its end, less those at its begin.
    pub running_change: f64,
    /// Requests in the engine, waiting ones too; the higher of both ends.
    pub in_flight: f64,
    /// Tokens in the KV cache, the mean of both ends; `None` where nobody says.
    pub kv_tokens: Option<f64>,
}

/// A live server, watched.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// How it is set up, as far as it says so.
    pub about: Description,
    /// In order of time, one engine's after the other's.
    pub intervals: Vec<Interval>,
    /// Prompt lengths and how many had them, in coarse steps; all times together.
    pub prompts: Vec<(f64, f64)>,
    /// Answer lengths likewise.
    pub outputs: Vec<(f64, f64)>,
    /// What was assumed or could not be seen.
    pub notes: Vec<String>,
}

impl Interval {
    /// Sequences that decode, averaged over time: each of them waits for its next token all the time.
    #[must_use]
    pub fn decoding(&self) -> f64 {
        self.gaps_s / self.seconds
    }

    /// Sequences that decode in the step of a token, averaged over tokens: there are more tokens in fuller steps.
    ///
    /// The variance is that of a straight line between both ends, and of arrivals and departures that come at random on its
    /// way: a random walk held at both ends has a twelfth of its steps; no more than requests that come at random have.
    #[must_use]
    pub fn decoding_by_token(&self) -> f64 {
        let mean = self.decoding();
        let random = ((self.first_tokens + self.ended) / 12.0).min(mean);
        let trend = self.running_change.powi(2).min(4.0 * mean * mean) / 12.0;
        (mean + (random + trend) / mean.max(1e-9)).max(1.0)
    }

    /// What passes before a token, on average: how long a step takes, averaged over the tokens of all steps.
    #[must_use]
    pub fn gap_s(&self) -> f64 {
        self.gaps_s / self.gaps
    }

    /// Tokens in the KV caches of the sequences that decode, averaged over tokens.
    #[must_use]
    pub fn context_by_token(&self, block_size: f64) -> Option<f64> {
        let mean = self.decoding();
        // A sequence's last block is half full on average.
        let used = (self.kv_tokens? - mean * block_size / 2.0).max(0.0);
        Some(used * self.decoding_by_token() / mean.max(1e-9))
    }
}

/// The mean of weighted values; `None` of nothing.
pub(crate) fn weighted_mean(values: &[(f64, f64)]) -> Option<f64> {
    let weight: f64 = values.iter().map(|(_, weight)| weight).sum();
    (weight > 0.0).then(|| values.iter().map(|(value, weight)| value * weight).sum::<f64>() / weight)
}

/// The value below which this share of the weight lies.
fn at_share(values: &[(f64, f64)], share: f64) -> Option<f64> {
    let all: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (value, weight) in values.iter().filter(|(_, weight)| *weight > 0.0) {
        below += weight;
        if below >= share * all {
            return Some(*value);
        }
    }
    None
}

/// No interval had so many requests.
const MOST_REQUESTS: f64 = 1e6;

impl Watched {
    /// Requests as they may have been in one engine: so many in each interval as there were, at random times, with lengths
    /// drawn from all that were seen. Their answers are the means of their interval. None where lengths are not known.
    #[must_use]
    pub fn drawn(&self, engine: usize, seed: u64) -> Option<Experiment> {
        let keyed = Keyed::new(seed);
        let (prompt_mean, output_mean) = (weighted_mean(&self.prompts)?, weighted_mean(&self.outputs)?);
        let mut rows = Vec::new();
        for (index, interval) in self.intervals.iter().enumerate().filter(|(_, it)| it.engine == engine) {
            if interval.first_tokens < 1.0 {
                continue;
            }
            let mean = interval.prompt_tokens / interval.first_tokens;
            let ttft_s = interval.ttft_s / interval.first_tokens;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded
            let requests = interval.first_tokens.min(MOST_REQUESTS).round() as u64;
            for number in 0..requests {
                let draw = |what: &str| keyed.uniform(what, &[index as u64, number]);
                let length = |values: &[(f64, f64)], what: &str| at_share(values, draw(what));
                let prompt = length(&self.prompts, "watched-prompt")? * mean / prompt_mean;
                let output = length(&self.outputs, "watched-output")?.max(1.0);
                let gap_s = if interval.gaps > 0.0 { interval.gap_s() } else { 0.0 };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // casts saturate
                let (input_tokens, output_tokens) =
                    (prompt.round().max(1.0) as u32, output.round().min(1e8) as u32);
                rows.push(Row {
                    arrival_s: interval.from_s + interval.seconds * draw("watched-arrival"),
                    scheduled_s: None,
                    input_tokens,
                    output_tokens,
                    prompt: None,
                    answer: Some(Answer {
                        ttft_s,
                        e2e_s: ttft_s + gap_s * f64::from(output_tokens.saturating_sub(1)),
                    }),
                });
            }
        }
        rows.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
        let name = self.about.model.clone().unwrap_or_else(|| "a live server".to_owned());
        let has_rows = !rows.is_empty() && output_mean >= 1.0;
        has_rows.then(|| Experiment {
            name,
            about: self.about.clone(),
            rows,
            assumed: Vec::new(),
            hash: String::new(),
        })
    }

    /// Engines that were watched.
    #[must_use]
    pub fn engines(&self) -> usize {
        self.intervals.iter().map(|interval| interval.engine + 1).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_counted_by_time_and_by_token() {
        // Two sequences decode all the time, 10 ms a step.
        let even = Interval {
            seconds: 10.0,
            gaps: 2000.0,
            gaps_s: 20.0,
            kv_tokens: Some(216.0),
            ..Interval::default()
        };
        assert_eq!((even.decoding(), even.decoding_by_token(), even.gap_s()), (2.0, 2.0, 0.01));
        assert_eq!(even.context_by_token(16.0), Some(200.0), "two last blocks are half full");
        // From 0 to 20 in a straight line: the mean of the squares over the mean is 40/3.
        let rising = Interval { gaps_s: 100.0, running_change: 20.0, ..even };
        assert!((rising.decoding_by_token() - 40.0 / 3.0).abs() < 1e-9);
        // Hardly ever one: a token's step has at least the one.
        assert_eq!(Interval { gaps_s: 0.1, ..even }.decoding_by_token(), 1.0);
    }

    #[test]
    fn drawn_requests_have_the_lengths_and_numbers_that_were_counted() {
        let interval = Interval {
            seconds: 10.0,
            gaps: 990.0,
            gaps_s: 9.9,
            first_tokens: 100.0,
            ttft_s: 5.0,
            prompt_tokens: 20_000.0,
            ..Interval::default()
        };
        let watched = Watched {
            intervals: vec![interval],
            prompts: vec![(50.0, 50.0), (150.0, 50.0)],
            outputs: vec![(10.9, 100.0)],
            ..Watched::default()
        };
        let drawn = watched.drawn(0, 1).unwrap();
        assert_eq!(drawn.rows.len(), 100);
        let mean = drawn.rows.iter().map(|row| f64::from(row.input_tokens)).sum::<f64>() / 100.0;
        assert!((mean / 200.0 - 1.0).abs() < 0.2, "{mean}");
        assert!(drawn.rows.iter().all(|row| row.output_tokens == 11 && row.arrival_s < 10.0));
        assert!(watched.drawn(1, 1).is_none());
    }
}
