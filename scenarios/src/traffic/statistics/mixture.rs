//! A mixture of lognormals for counted lengths, by expectation and maximisation.
//!
//! Lengths are whole and lie in buckets, so the likelihood is that of a bucket, not of a point: a part can't gain by
//! shrinking onto a single length. Starts are fixed (the sorted lengths cut at given shares), iterations bounded, and the
//! number of parts is the one of the least BIC.

use super::lengths::Lengths;
use crate::traffic::Lognormal;
use crate::traffic::normal::normal;

/// Rounds of one climb. Most are done after a hundred; what a later round gains is far below what BIC weighs.
const MOST_ROUNDS: usize = 300;
/// Nats a request that a round must gain to be worth another.
const LEAST_GAIN: f64 = 1e-7;
/// A part with a smaller share is noise.
const LEAST_SHARE: f64 = 1e-3;
/// Where the sorted lengths are cut to start from: one list a start.
const STARTS: [&[f64]; 7] = [&[], &[0.5], &[0.2], &[0.8], &[1.0 / 3.0, 2.0 / 3.0], &[0.5, 0.9], &[0.1, 0.5]];

/// A bucket on the logarithmic axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) middle: f64,
    pub(super) width: f64,
    pub(super) count: f64,
}

/// A lognormal by its logarithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) share: f64,
    pub(super) mean: f64,
    pub(super) sigma: f64,
}

/// One to three parts, shortest first; their weights add up to 1.
#[expect(clippy::cast_precision_loss)]
pub(super) fn mixture(lengths: &Lengths) -> Vec<Lognormal> {
    let buckets: Vec<Bucket> = lengths
        .intervals()
        .map(|(from, until, count)| {
            // A request of no tokens is none, so nothing lies below the first half.
            let (from, until) = (from.max(0.5).ln(), until.ln());
            Bucket { middle: f64::midpoint(from, until), width: until - from, count: count as f64 }
        })
        .collect();
    let total = lengths.total() as f64;
    let mut best: Option<(f64, Vec<Part>)> = None;
    for cuts in STARTS {
        let Some((likelihood, parts)) = climb(&buckets, total, start(&buckets, total, cuts)) else {
            continue;
        };
        let bic = (3 * parts.len() - 1) as f64 * total.ln() - 2.0 * likelihood;
        if best.as_ref().is_none_or(|(least, _)| bic < *least) {
            best = Some((bic, parts));
        }
    }
    let mut parts = best.map_or_else(Vec::new, |(_, parts)| parts);
    parts.sort_by(|one, other| one.mean.total_cmp(&other.mean));
    parts
        .iter()
        .map(|part| Lognormal { weight: part.share, median: part.mean.exp().max(1.0), sigma: part.sigma })
        .collect()
}

/// A part for each stretch between the cuts: its mean and spread.
fn start(buckets: &[Bucket], total: f64, cuts: &[f64]) -> Vec<Part> {
    let mut sums = vec![(0.0, 0.0, 0.0); cuts.len() + 1];
    let mut below = 0.0;
    for bucket in buckets {
        let share = (below + bucket.count / 2.0) / total;
        let sum = &mut sums[cuts.iter().filter(|cut| **cut <= share).count()];
        sum.0 += bucket.count;
        sum.1 += bucket.count * bucket.middle;
        sum.2 += bucket.count * (bucket.middle * bucket.middle + bucket.width * bucket.width / 12.0);
        below += bucket.count;
    }
    sums.iter().map(|sums| part(*sums, total)).collect()
}

/// The part of these sums: of requests, of their logarithms, of their squares.
pub(super) fn part((count, sum, squares): (f64, f64, f64), total: f64) -> Part {
    let count = count.max(f64::MIN_POSITIVE);
    let mean = sum / count;
    // The width of a bucket keeps it above zero; the floor is for rounding errors.
    Part { share: count / total, mean, sigma: (squares / count - mean * mean).max(1e-8).sqrt() }
}

/// Climbs from a start; `None` when a part dies on the way. The likelihood is a logarithm.
fn climb(buckets: &[Bucket], total: f64, mut parts: Vec<Part>) -> Option<(f64, Vec<Part>)> {
    let mut last = f64::NEG_INFINITY;
    for _ in 0..MOST_ROUNDS {
        if parts.iter().any(|part| part.share.is_nan() || part.share < LEAST_SHARE) {
            return None;
        }
        let mut sums = vec![(0.0, 0.0, 0.0); parts.len()];
        let mut likelihood = 0.0;
        for bucket in buckets {
            let logs: [f64; 3] = std::array::from_fn(|place| {
                parts.get(place).map_or(f64::NEG_INFINITY, |part| part.share.ln() + log_mass(part, bucket))
            });
            let most = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
            likelihood += bucket.count * (most + sum.ln());
            for (sums, log) in sums.iter_mut().zip(logs) {
                let count = bucket.count * (log - most).exp() / sum;
                sums.0 += count;
                sums.1 += count * bucket.middle;
                sums.2 += count * (bucket.middle * bucket.middle + bucket.width * bucket.width / 12.0);
            }
        }
        if likelihood - last < LEAST_GAIN * total {
            return Some((likelihood.max(last), parts));
        }
        last = likelihood;
        parts = sums.into_iter().map(|sums| part(sums, total)).collect();
    }
    Some((last, parts))
}

/// The logarithm of a part's mass in a bucket.
pub(super) fn log_mass(part: &Part, bucket: &Bucket) -> f64 {
    const LOG_SQRT_TAU: f64 = 0.918_938_533_204_672_8;
    let (middle, width) = ((bucket.middle - part.mean) / part.sigma, bucket.width / part.sigma);
    if width < 0.2 || middle.abs() > 4.0 {
        // Narrow, or so far out that the difference below would be rounding: density times width.
        return width.ln() - 0.5 * middle * middle - LOG_SQRT_TAU;
    }
    (normal(middle + width / 2.0) - normal(middle - width / 2.0)).max(f64::MIN_POSITIVE).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Keyed;
    use crate::traffic::draw::Mixture;

    fn drawn(parts: &[(f64, f64, f64)], count: u64) -> Lengths {
        let parts: Vec<Lognormal> =
            parts.iter().map(|&(weight, median, sigma)| Lognormal { weight, median, sigma }).collect();
        let mixture = Mixture::new(&parts, 1 << 24);
        let mut lengths = Lengths::default();
        (0..count).for_each(|id| lengths.count(mixture.draw(&mut Keyed::new(7).stream("test", &[id]))));
        lengths
    }

    #[test]
    fn a_drawn_mixture_is_recovered() {
        let given = [(0.3, 60.0, 0.4), (0.7, 900.0, 0.6)];
        let found = mixture(&drawn(&given, 50_000));
        assert_eq!(found.len(), 2, "{found:?}");
        for (part, (weight, median, sigma)) in found.iter().zip(given) {
            // The sampling error of a median is sigma over the root of its requests: below 1 % here. Twice that.
            assert!((part.median / median - 1.0).abs() < 0.02, "{found:?}");
            assert!((part.weight - weight).abs() < 0.01, "{found:?}");
            assert!((part.sigma - sigma).abs() < 0.02, "{found:?}");
        }
    }

    #[test]
    fn one_lognormal_stays_one() {
        let found = mixture(&drawn(&[(1.0, 300.0, 0.9)], 20_000));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            (found[0].median / 300.0 - 1.0).abs() < 0.02 && (found[0].sigma - 0.9).abs() < 0.02,
            "{found:?}"
        );
    }

    #[test]
    fn a_single_length_is_a_narrow_part() {
        let mut lengths = Lengths::default();
        (0..500).for_each(|_| lengths.count(128));
        let found = mixture(&lengths);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((found[0].median - 128.0).abs() < 0.01 && found[0].sigma < 0.005, "{found:?}");
    }

    #[test]
    fn short_whole_lengths_gain_no_spikes() {
        // Half of these are of one to four tokens: a density would put a part onto each.
        let found = mixture(&drawn(&[(1.0, 4.0, 0.7)], 20_000));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            (found[0].median / 4.0 - 1.0).abs() < 0.05 && (found[0].sigma - 0.7).abs() < 0.05,
            "{found:?}"
        );
    }
}
