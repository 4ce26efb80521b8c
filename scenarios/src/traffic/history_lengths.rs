//! Lengths drawn from a recorded histogram.
//!
//! Within a bucket a length's logarithm is spread evenly; then all buckets are tilted alike, so that the mean is the
//! recorded one (`_sum / _count`). A bucket (l, u] holds the whole numbers l + 1 to u, drawn as reals from l + 1/2 to
//! u + 1/2 and rounded. The bucket without an upper bound ends where its mean is what the sum leaves for it, or at twice
//! its lower bound where no sum says it.

use super::MOST_TOKENS;
use super::history::Lengths;

/// The bucket without an upper bound ends no farther up than so many times its lower bound.
const FARTHEST: f64 = 64.0;

/// The strongest tilt.
const STEEPEST: f64 = 6.0;

/// Buckets with something in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    parts: Vec<Part>,
    /// How many, up to and with each part.
    cumulated: Vec<f64>,
    /// The density within a bucket goes with x^(tilt - 1).
    tilt: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    from: f64,
    until: f64,
    count: f64,
}

impl Histogram {
    /// The histogram of all chunks together, whose bounds may differ; `None` when it is empty.
    pub(super) fn new<'a>(chunks: impl Iterator<Item = &'a Lengths>) -> Option<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let (mut sum, mut observed, mut open) = (Some(0.0), 0.0, Vec::new());
        for lengths in chunks {
            let mut below = (0.5, 0.0_f64);
            let mut here = 0.0;
            for (bound, cumulated) in &lengths.buckets {
                let bound = bound.filter(|bound| bound.is_finite());
                let count = (cumulated - below.1).max(0.0);
                let until = bound.map(|bound| (bound.floor() + 0.5).clamp(1.5, f64::from(MOST_TOKENS)));
                if count.is_finite() && count > 0.0 {
                    here += count;
                    match until {
                        Some(until) if until > below.0 => parts.push(Part { from: below.0, until, count }),
                        // A bucket between two bounds without a whole number between them.
                        Some(until) => parts.push(Part { from: until - 1.0, until, count }),
                        None => open.push(Part { from: below.0, until: 2.0 * below.0, count }),
                    }
                }
                below = (until.unwrap_or(below.0).max(below.0), cumulated.max(below.1));
            }
            observed += here;
            sum = match lengths.sum {
                Some(more) if more.is_finite() => sum.map(|sum| sum + more),
                _ if here > 0.0 => None,
                _ => sum,
            };
        }
        parts.extend(close(&open, &parts, sum));
        let mut total = 0.0;
        let cumulated: Vec<f64> = parts
            .iter()
            .map(|part| {
                total += part.count;
                total
            })
            .collect();
        let mut histogram = Self { parts, cumulated, tilt: 0.0 };
        if !(total > 0.0 && total.is_finite()) {
            return None;
        }
        if let Some(sum) = sum.filter(|sum| *sum > 0.0) {
            histogram.tilt = solve(-STEEPEST, STEEPEST, |tilt| histogram.mean(tilt) < sum / observed);
        }
        Some(histogram)
    }

    /// A length, for a uniform draw.
    pub(super) fn at(&self, uniform: f64) -> u64 {
        let total = self.cumulated.last().copied().unwrap_or(0.0);
        let wanted = uniform * total;
        let place = self.cumulated.partition_point(|sum| *sum <= wanted).min(self.parts.len() - 1);
        let part = self.parts[place];
        let before = self.cumulated[place] - part.count;
        let length = part.at(((wanted - before) / part.count).clamp(0.0, 1.0), self.tilt);
        // Clamped first, so the cast loses nothing but the fraction.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = length.round().clamp(1.0, f64::from(MOST_TOKENS)) as u64;
        whole
    }

    /// The mean at this tilt.
    pub(super) fn mean(&self, tilt: f64) -> f64 {
        let total = self.cumulated.last().copied().unwrap_or(0.0);
        self.parts.iter().map(|part| part.mean(tilt) * part.count).sum::<f64>() / total
    }
}

/// Upper ends for the buckets that have none.
fn close(open: &[Part], parts: &[Part], sum: Option<f64>) -> Vec<Part> {
    let (count, least) =
        open.iter().fold((0.0, f64::INFINITY), |(sum, least), part| (sum + part.count, part.from.min(least)));
    if count <= 0.0 {
        return Vec::new();
    }
    let known: f64 = parts.iter().map(|part| part.mean(0.0) * part.count).sum();
    let factor = match sum.map(|sum| (sum - known) / count) {
        Some(mean) if mean > least => solve(1.001, FARTHEST, |factor| {
            open.iter()
                .map(|part| Part { until: part.from * factor, ..*part }.mean(0.0) * part.count)
                .sum::<f64>()
                < mean * count
        }),
        _ => 2.0,
    };
    open.iter().map(|part| Part { until: part.from * factor, ..*part }).collect()
}

/// Where `below` turns false, by halving.
fn solve(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

impl Part {
    /// The integral of x^(power - 1), over `from^power` so that no power overflows.
    fn area(&self, power: f64) -> f64 {
        let log = (self.until / self.from).ln();
        if (power * log).abs() < 1e-6 { log } else { (power * log).exp_m1() / power }
    }

    fn mean(&self, tilt: f64) -> f64 {
        self.from * self.area(tilt + 1.0) / self.area(tilt)
    }

    /// The length below which this share of the bucket lies.
    fn at(&self, share: f64, tilt: f64) -> f64 {
        let log = (self.until / self.from).ln();
        if (tilt * log).abs() < 1e-6 {
            return self.from * (share * log).exp();
        }
        self.from * ((share * (tilt * log).exp_m1()).ln_1p() / tilt).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 14] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4];

    fn recorded(lengths: &[u64], bounds: &[f64]) -> Lengths {
        #[expect(clippy::cast_precision_loss)]
        let up_to = |bound: f64| lengths.iter().filter(|length| **length as f64 <= bound).count() as f64;
        let mut buckets: Vec<(Option<f64>, f64)> =
            bounds.iter().map(|bound| (Some(*bound), up_to(*bound))).collect();
        buckets.push((None, up_to(f64::INFINITY)));
        #[expect(clippy::cast_precision_loss)]
        let sum = lengths.iter().sum::<u64>() as f64;
        Lengths { metric: "m".into(), sum: Some(sum), count: None, buckets }
    }

    /// Lognormal lengths: quantiles of what is drawn beside those of what was recorded.
    fn lognormal(median: f64, sigma: f64) -> Vec<u64> {
        let keyed = crate::random::Keyed::new(7);
        let mut random = keyed.stream("test", &[]);
        let normal = rand_distr::StandardNormal;
        (0..20_000)
            .map(|_| {
                let draw: f64 = rand_distr::Distribution::sample(&normal, &mut random);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let length = (median * (sigma * draw).exp()).round().max(1.0) as u64;
                length
            })
            .collect()
    }

    #[expect(clippy::cast_precision_loss)]
    fn compare(lengths: &mut [u64], bounds: &[f64], mean_within: f64, quantiles_within: f64) {
        let histogram = Histogram::new([recorded(lengths, bounds)].iter()).unwrap();
        let draws: Vec<u64> = (0..10_000).map(|step| histogram.at((f64::from(step) + 0.5) / 1e4)).collect();
        lengths.sort_unstable();
        let mean = |all: &[u64]| all.iter().sum::<u64>() as f64 / all.len() as f64;
        let (drawn, true_mean) = (mean(&draws), mean(lengths));
        assert!((drawn / true_mean - 1.0).abs() < mean_within, "mean {drawn}, not {true_mean}");
        for percent in [10, 25, 50, 75, 90, 99] {
            let (drawn, sent) = (draws[percent * 100] as f64, lengths[lengths.len() * percent / 100] as f64);
            assert!((drawn / sent - 1.0).abs() < quantiles_within, "p{percent}: {drawn}, not {sent}");
        }
    }

    #[test]
    fn drawn_lengths_are_those_that_were_recorded() {
        compare(&mut lognormal(800.0, 1.0), &BOUNDS, 0.01, 0.25);
        compare(&mut lognormal(120.0, 0.7), &BOUNDS, 0.01, 0.25);
    }

    #[test]
    fn the_bucket_without_an_end_holds_what_the_sum_leaves_for_it() {
        let mut lengths = lognormal(800.0, 1.0);
        // 43 % of the requests are above the last bound.
        let cut = &BOUNDS[..10];
        compare(&mut lengths, cut, 0.02, 0.5);
        let mut without_sum = recorded(&lengths, cut);
        without_sum.sum = None;
        let histogram = Histogram::new([without_sum].iter()).unwrap();
        assert!((1900..=2100).contains(&histogram.at(0.999)), "{}", histogram.at(0.999));
    }

    #[test]
    fn a_bucket_holds_whole_numbers_only_up_to_its_bound() {
        let histogram = Histogram::new([recorded(&[1, 2, 2, 5], &BOUNDS)].iter()).unwrap();
        let drawn: Vec<u64> = (0..1000).map(|step| histogram.at(f64::from(step) / 1e3)).collect();
        assert_eq!((drawn[0], drawn[249], drawn[250], drawn[749]), (1, 1, 2, 2));
        assert!(drawn[750..].iter().all(|length| (3..=5).contains(length)));
    }

    #[test]
    fn what_no_server_sends_is_taken_all_the_same() {
        let lengths = |buckets: Vec<(Option<f64>, f64)>, sum| Lengths { buckets, sum, ..Lengths::default() };
        for odd in [
            lengths(vec![], None),
            lengths(vec![(None, 0.0)], Some(0.0)),
            lengths(vec![(Some(10.0), f64::NAN), (None, f64::INFINITY)], Some(f64::NAN)),
        ] {
            assert!(Histogram::new([odd].iter()).is_none());
        }
        for odd in [
            lengths(vec![(Some(-5.0), 3.0), (Some(-7.0), 2.0), (None, 1.0)], Some(-1.0)),
            lengths(vec![(Some(f64::MAX), 3.0), (None, 9.0)], Some(f64::MAX)),
            lengths(vec![(Some(1.2), 3.0), (Some(1.7), 4.0), (Some(1.7), 5.0), (None, 5.0)], None),
        ] {
            let histogram = Histogram::new([odd].iter()).unwrap();
            for step in 0..=100 {
                assert!((1..=u64::from(MOST_TOKENS)).contains(&histogram.at(f64::from(step) / 100.0)));
            }
        }
    }
}
