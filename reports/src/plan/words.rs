//! Chances, counts and names in words.

use slackwater_planner::chance::Risk;
use slackwater_planner::planned::{Planned, Verdict};
use slackwater_policy::Figure;

use crate::format::{NONE, count, figure, trim};

/// A chance, never flattered: rounded up to two decimals of a percent.
pub(super) fn chance(p: f64) -> String {
    if p.is_nan() || p.abs() > 1e6 {
        return NONE.to_owned();
    }
    // The nudge undoes what 0.07 * 100 gains in binary; it is far below the last digit shown.
    let hundredths = (p * 10_000.0 - 1e-7).max(0.0).ceil() / 100.0;
    format!("{} %", trim(&format!("{hundredths:.2}")))
}

/// `0 %, at most 1 %`.
pub(super) fn bounded(risk: &Risk) -> String {
    format!("{}, at most {}", chance(risk.estimate), chance(risk.upper))
}

/// A number of requests that may be a fraction, for it is a mean.
pub(super) fn few(mean: f64) -> String {
    if mean > 0.0 && mean < 0.001 { "< 0.001".to_owned() } else { figure(mean) }
}

/// `4,230`, where fractions say nothing.
pub(super) fn whole(mean: f64) -> String {
    if !mean.is_finite() {
        return NONE.to_owned();
    }
    // Saturates, which is right for what no plan can hold.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let n = mean.round().max(0.0) as u64;
    count(n)
}

/// A verdict.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "safe",
        Verdict::Unsafe => "unsafe",
        Verdict::Undecided => "undecided",
    }
}

/// Of all starts: safe, unsafe, undecided.
pub(super) fn starts_by_verdict(planned: &Planned) -> String {
    let of = |verdict| {
        let n = planned.windows.iter().filter(|start| start.verdict == verdict).count();
        count(n as u64)
    };
    format!(
        "{} starts: {} safe, {} unsafe, {} undecided",
        count(planned.windows.len() as u64),
        of(Verdict::Safe),
        of(Verdict::Unsafe),
        of(Verdict::Undecided)
    )
}

/// A guarded figure.
pub(super) const fn guarded(figure: Figure) -> &'static str {
    match figure {
        Figure::TtftP50 => "TTFT p50",
        Figure::TtftP99 => "TTFT p99",
        Figure::TpotP50 => "TPOT p50",
        Figure::TpotP99 => "TPOT p99",
        Figure::E2eP99 => "E2E p99",
        Figure::ErrorRate => "share of requests failed",
        Figure::QueueDepth => "requests waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_rounded_up() {
        let shown: Vec<_> =
            [0.0, 0.000_01, 0.009_974, 0.01, 0.07, 0.123_41, 1.0, f64::NAN].into_iter().map(chance).collect();
        assert_eq!(shown, ["0 %", "0.01 %", "1 %", "1 %", "7 %", "12.35 %", "100 %", NONE]);
    }
}
