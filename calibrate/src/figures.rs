//! What is compared: mean and percentiles of TTFT, TPOT and E2E, throughput, failures.

use serde::Serialize;

use crate::experiment::{Answer, Row};

/// Mean and percentiles of one latency, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Spread {
    /// Of these values; `None` when there are none. Percentiles are interpolated linearly between order statistics.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss)]
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { mean, p50: at(&values, 0.5), p90: at(&values, 0.9), p99: at(&values, 0.99) })
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// The figures of one experiment, measured or predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Requests compared.
    pub requests: usize,
    /// To the first token.
    pub ttft_s: Option<Spread>,
    /// A token after the first.
    pub tpot_s: Option<Spread>,
    /// To the last token.
    pub e2e_s: Option<Spread>,
    /// Answers a second, from the first arrival to the last answer's end.
    pub throughput_rps: Option<f64>,
    /// Requests that failed, percent.
    pub error_percent: f64,
}

/// The figures of these requests: arrival (seconds), output tokens, and what became of it.
#[must_use]
pub fn figures(requests: &[(f64, u32, Option<Answer>)]) -> Figures {
    let answered: Vec<(f64, u32, Answer)> =
        requests.iter().filter_map(|&(at, output, answer)| Some((at, output, answer?))).collect();
    let first = requests.iter().map(|request| request.0).fold(f64::MAX, f64::min);
    let last = answered.iter().map(|(at, _, answer)| at + answer.e2e_s).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss)]
    Figures {
        requests: requests.len(),
        ttft_s: Spread::of(answered.iter().map(|(_, _, answer)| answer.ttft_s).collect()),
        tpot_s: Spread::of(
            answered.iter().filter_map(|(_, output, answer)| answer.tpot_s(*output)).collect(),
        ),
        e2e_s: Spread::of(answered.iter().map(|(_, _, answer)| answer.e2e_s).collect()),
        throughput_rps: (last > first).then(|| answered.len() as f64 / (last - first)),
        error_percent: 100.0 * (requests.len() - answered.len()) as f64 / requests.len().max(1) as f64,
    }
}

/// The figures as measured of the rows that are compared.
#[must_use]
pub fn measured(rows: &[Row], compared: impl Fn(usize) -> bool) -> Figures {
    let of = |(index, row): (usize, &Row)| {
        compared(index).then_some((row.arrival_s, row.output_tokens, row.answer))
    };
    figures(&rows.iter().enumerate().filter_map(of).collect::<Vec<_>>())
}
