//! Exact bounds on a probability from so many misses in so many futures (Clopper and Pearson, 1934).
//!
//! ```text
//! upper: the p at which so few misses have the chance alpha          lower: the p at which so many have it
//! I_p(a, b) is the regularised incomplete beta function: P(X <= k) = 1 - I_p(k + 1, n - k) for X ~ Binomial(n, p)
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

/// What is known of a probability after a number of independent futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Risk {
    /// Misses over futures.
    pub estimate: f64,
    /// The probability is not below this, one-sided, with `confidence`.
    pub lower: f64,
    /// Nor above this, one-sided, with `confidence`.
    pub upper: f64,
    /// Of each of the two bounds.
    pub confidence: f64,
    /// Futures with a miss.
    pub misses: u64,
    /// Futures tried.
    pub futures: u64,
}

impl Risk {
    /// After `misses` in `futures`, each bound one-sided with `confidence`.
    #[must_use]
    pub fn of(misses: u64, futures: u64, confidence: f64) -> Self {
        let alpha = 1.0 - confidence;
        #[allow(clippy::cast_precision_loss)] // figures for people
        let estimate = if futures == 0 { 0.0 } else { misses as f64 / futures as f64 };
        Self {
            estimate,
            lower: lower(misses, futures, alpha),
            upper: upper(misses, futures, alpha),
            confidence,
            misses,
            futures,
        }
    }
}

/// The largest probability under which `misses` or fewer in `futures` still have the chance `alpha`.
#[must_use]
pub fn upper(misses: u64, futures: u64, alpha: f64) -> f64 {
    if misses >= futures {
        return 1.0;
    }
    // Falls as p grows.
    root(|p| at_most(misses, futures, p) > alpha)
}

/// The smallest probability under which `misses` or more in `futures` have the chance `alpha`.
#[must_use]
pub fn lower(misses: u64, futures: u64, alpha: f64) -> f64 {
    if misses == 0 {
        return 0.0;
    }
    root(|p| 1.0 - at_most(misses - 1, futures, p) < alpha)
}

/// P(X <= misses) of X ~ Binomial(futures, p).
#[must_use]
pub fn at_most(misses: u64, futures: u64, p: f64) -> f64 {
    if misses >= futures || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let (a, b) = ((misses + 1) as f64, (futures - misses) as f64);
    // Both parameters are positive and p lies between 0 and 1.
    1.0 - checked_beta_reg(a, b, p).unwrap_or(f64::NAN)
}

/// How many futures without a single miss bound the probability by `bound`.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, and small for any budget a scenario may ask for
pub fn clean_futures_needed(bound: f64, alpha: f64) -> u64 {
    (alpha.ln() / (1.0 - bound).ln()).ceil().max(1.0) as u64
}

/// Where in [0, 1] `below` turns from true to false, rounded up to the grid of doubles halved 60 times.
fn root(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Straight from the definition, term by term.
    fn summed(misses: u64, futures: u64, p: f64) -> f64 {
        let mut term = (1.0 - p).powf(futures as f64);
        let mut sum = term;
        for k in 0..misses {
            term *= (futures - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            sum += term;
        }
        sum
    }

    #[test]
    fn the_tail_is_the_sum_of_its_terms() {
        for (misses, futures) in [(0, 1), (0, 20), (3, 20), (19, 20), (7, 300), (40, 500)] {
            for p in [0.001, 0.01, 0.1, 0.5, 0.9] {
                let (found, expected) = (at_most(misses, futures, p), summed(misses, futures, p));
                assert!((found - expected).abs() < 1e-9, "{misses}/{futures} at {p}: {found} {expected}");
            }
        }
    }

    #[test]
    fn known_bounds() {
        // No miss: 1 - alpha^(1/n). The "rule of three" is its approximation.
        for n in [20_u64, 300, 2_000] {
            let expected = 1.0 - 0.05_f64.powf(1.0 / n as f64);
            assert!((upper(0, n, 0.05) - expected).abs() < 1e-12);
        }
        assert!((lower(20, 20, 0.05) - 0.05_f64.powf(1.0 / 20.0)).abs() < 1e-12);
        assert_eq!((lower(0, 20, 0.05), upper(20, 20, 0.05)), (0.0, 1.0));
        // R: binom.test(5, 100, conf.level = 0.90) gives 0.01991 and 0.10225.
        assert!(
            (lower(5, 100, 0.05) - 0.019_91).abs() < 1e-4 && (upper(5, 100, 0.05) - 0.102_25).abs() < 1e-4
        );
        assert_eq!(clean_futures_needed(0.01, 0.05), 299);
    }

    #[test]
    fn bounds_cover_as_often_as_they_say() {
        // Exactly: the chance, over all outcomes, that the bound lies below the truth.
        for (n, p) in [(20, 0.1), (50, 0.03), (300, 0.01), (300, 0.2)] {
            let wrong: f64 = (0..=n)
                .filter(|k| upper(*k, n, 0.05) < p)
                .map(|k| summed(k, n, p) - if k == 0 { 0.0 } else { summed(k - 1, n, p) })
                .sum();
            assert!(wrong <= 0.05, "{n} {p}: {wrong}");
        }
    }
}
