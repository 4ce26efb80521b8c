//! The chance that a rollout begun at a start fails, as well as screening can tell it.
//!
//! A start's own futures are few, and say 0 % or 100 % too easily; what all starts met at loads like its own is much, but not
//! about this hour. The two are weighed: the load's figure counts as so many futures as makes the starts' counts the likeliest
//! (empirical Bayes, beta and binomial).
//!
//! ```text
//! promise = (failed + k * by_load) / (futures + k),      k: argmax of the sum over starts of ln BetaBinomial(failed | futures, k, by_load)
//! ```

use statrs::function::gamma::ln_gamma;

use crate::load_curve::LoadCurve;
use crate::screen::StartFigures;

/// Weights that are tried, in futures.
const WEIGHTS: [f64; 8] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// No load makes a rollout certain to fail, or not to.
const UNSURE: f64 = 0.01;

/// One promise a start, in their order.
#[must_use]
pub fn promises(starts: &[StartFigures]) -> Vec<f64> {
    let each = starts.iter().flat_map(|start| &start.each);
    let curve =
        LoadCurve::of(each.map(|one| (one.peak_per_s, f64::from(u8::from(one.failed)))).collect(), 0.0);
    let by_load: Vec<f64> =
        starts.iter().map(|start| curve.mean(&start.peaks).clamp(UNSURE, 1.0 - UNSURE)).collect();
    let likelihood = |weight: f64| -> f64 {
        let of = |(start, by_load): (&StartFigures, &f64)| beta_binomial(start, *by_load, weight);
        starts.iter().zip(&by_load).map(of).sum()
    };
    let scored = WEIGHTS.into_iter().map(|weight| (weight, likelihood(weight)));
    let weight = scored.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(weight, _)| weight);
    let promise = |(start, by_load): (&StartFigures, &f64)| {
        (start.failed as f64 + weight * by_load) / (start.futures as f64 + weight)
    };
    starts.iter().zip(&by_load).map(promise).collect()
}

/// The logarithm of the chance of a start's counts, but for what does not depend on the weight.
fn beta_binomial(start: &StartFigures, by_load: f64, weight: f64) -> f64 {
    let (failed, held) = (start.failed as f64, (start.futures - start.failed) as f64);
    let (a, b) = (weight * by_load, weight * (1.0 - by_load));
    let ln_beta = |a: f64, b: f64| ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    ln_beta(failed + a, held + b) - ln_beta(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::Outcome;

    /// `count` starts of `futures` futures each, their risk given by load and by what is their own.
    fn starts(count: u64, futures: u64, risk: impl Fn(f64, u64) -> f64) -> (Vec<StartFigures>, Vec<f64>) {
        let keyed = slackwater_scenarios::Keyed::new(11);
        let mut truth = Vec::new();
        let made = (0..count).map(|number| {
            let load = keyed.uniform("load", &[number]) * 10.0;
            truth.push(risk(load, number));
            let each: Vec<Outcome> = (0..futures)
                .map(|future| Outcome {
                    future,
                    failed: keyed.uniform("fails", &[number, future]) < risk(load, number),
                    peak_per_s: load,
                    ..Outcome::default()
                })
                .collect();
            let failed = each.iter().filter(|one| one.failed).count() as u64;
            let peaks = vec![load; each.len()];
            StartFigures { futures, failed, each, peaks, ..StartFigures::default() }
        });
        (made.collect(), truth)
    }

    fn error(promised: impl Iterator<Item = f64>, truth: &[f64]) -> f64 {
        promised.zip(truth).map(|(promised, truth)| (promised - truth).powi(2)).sum::<f64>()
            / truth.len() as f64
    }

    #[test]
    fn where_load_decides_little_is_believed_of_a_few_futures() {
        let (starts, truth) = starts(300, 6, |load, _| (load / 10.0).powi(2));
        let own = starts.iter().map(|start| start.failed as f64 / start.futures as f64);
        let (pooled, alone) = (error(promises(&starts).into_iter(), &truth), error(own, &truth));
        assert!(pooled < alone / 5.0, "{pooled} {alone}");
    }

    #[test]
    fn where_load_says_nothing_a_start_speaks_for_itself() {
        let (starts, truth) = starts(300, 20, |_, number| if number % 2 == 0 { 0.05 } else { 0.95 });
        let promised = error(promises(&starts).into_iter(), &truth);
        assert!(promised < 0.01, "{promised}");
        assert!(promises(&[]).is_empty());
    }
}
