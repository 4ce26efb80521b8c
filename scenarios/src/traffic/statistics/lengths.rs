//! Counts of lengths: a histogram with HDR's layout, and a coarser one of input and output together.

use std::collections::BTreeMap;

use super::LengthFigures;

/// Lengths up to 2,047 have a bucket each; above, a bucket is as wide as 1/1,024 of its length.
const FINE_BITS: u32 = 10;
/// For ranks 1/16 is fine enough: exact to 31.
const COARSE_BITS: u32 = 4;
/// Points of the distribution that are kept for drawing.
const POINTS: usize = 240;

/// The bucket of a length: linear at first, then 2^bits of them for each doubling.
fn bucket(length: u32, bits: u32) -> usize {
    let shift = (u32::BITS - length.leading_zeros()).saturating_sub(bits + 1);
    ((shift as usize) << bits) + (length >> shift) as usize
}

/// The least and the greatest length of a bucket.
fn bounds(bucket: usize, bits: u32) -> (u64, u64) {
    let shift = (bucket >> bits).saturating_sub(1);
    let least = ((bucket - (shift << bits)) as u64) << shift;
    (least, least + (1 << shift) - 1)
}

/// Lengths of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
    least: u32,
    most: u32,
}

impl Lengths {
    pub(super) fn count(&mut self, length: u32) {
        let place = bucket(length, FINE_BITS);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.least = if self.total == 0 { length } else { self.least.min(length) };
        self.most = self.most.max(length);
        self.total += 1;
        self.sum += u64::from(length);
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The buckets that hold something: where its lengths begin and end, as real numbers that are rounded, and how many.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn intervals(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(place, count)| {
            let (least, most) = bounds(place, FINE_BITS);
            (least as f64 - 0.5, most as f64 + 0.5, *count)
        })
    }

    /// The buckets that hold something: (the middle of its lengths, how many).
    fn filled(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.intervals().map(|(from, until, count)| (f64::midpoint(from, until), count))
    }

    /// The least length that at least this share does not exceed.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn quantile(&self, share: f64) -> u32 {
        let wanted = ((share * self.total as f64).ceil() as u64).max(1);
        let mut sum = 0;
        for (middle, count) in self.filled() {
            sum += count;
            if sum >= wanted {
                return (middle.round() as u32).clamp(self.least, self.most);
            }
        }
        self.most
    }

    #[expect(clippy::cast_precision_loss)]
    pub(super) fn figures(&self) -> LengthFigures {
        LengthFigures {
            mean: self.sum as f64 / self.total.max(1) as f64,
            least: self.least,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            most: self.most,
            distribution: self.distribution(),
        }
    }

    /// A point wherever the share or the logarithm of the length has moved on by a little.
    #[expect(clippy::cast_precision_loss)]
    fn distribution(&self) -> Vec<(f64, f64)> {
        let total = self.total.max(1) as f64;
        let width = (f64::from(self.most.max(1)) / f64::from(self.least.max(1))).ln().max(1e-9);
        let mut points: Vec<(f64, f64)> = Vec::new();
        let (mut sum, mut kept) = (0, (f64::NEG_INFINITY, 0.0));
        for (middle, count) in self.filled() {
            sum += count;
            let at = (middle.ln(), sum as f64 / total);
            let moved =
                (at.0 - kept.0) / width * POINTS as f64 >= 1.0 || (at.1 - kept.1) * POINTS as f64 >= 1.0;
            if moved || sum == self.total {
                points.push((middle, at.1));
                kept = at;
            }
        }
        points
    }

    /// The Kolmogorov-Smirnov distance: the largest difference of the two distribution functions. Both histograms have
    /// the same buckets, so it is exact but for what lies within one.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn distance(&self, other: &Self) -> f64 {
        let (mut mine, mut theirs, mut most) = (0, 0, 0.0_f64);
        for place in 0..self.counts.len().max(other.counts.len()) {
            mine += self.counts.get(place).copied().unwrap_or(0);
            theirs += other.counts.get(place).copied().unwrap_or(0);
            let difference =
                mine as f64 / self.total.max(1) as f64 - theirs as f64 / other.total.max(1) as f64;
            most = most.max(difference.abs());
        }
        most
    }
}

/// Input and output length of a request together.
#[derive(Clone, Debug, Default)]
pub(super) struct Joint {
    /// (bucket of input, bucket of output) -> requests; at most some 340 by 340.
    counts: BTreeMap<(u16, u16), u64>,
}

impl Joint {
    pub(super) fn count(&mut self, input: u32, output: u32) {
        // 2^24 tokens, the most there are, lie in bucket 352.
        #[expect(clippy::cast_possible_truncation)]
        let place = |length| bucket(length, COARSE_BITS) as u16;
        *self.counts.entry((place(input), place(output))).or_default() += 1;
    }

    /// The cells that hold something: (logarithm of the lengths where it begins, where it ends) of input and of output, and
    /// how many.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn cells(&self) -> impl Iterator<Item = ([(f64, f64); 2], u64)> + '_ {
        // A request of no tokens is none, so nothing lies below the first half.
        let sides = |place: u16| {
            let (least, most) = bounds(usize::from(place), COARSE_BITS);
            ((least as f64 - 0.5).max(0.5).ln(), (most as f64 + 0.5).ln())
        };
        self.counts.iter().map(move |((input, output), count)| ([sides(*input), sides(*output)], *count))
    }

    /// Spearman's: the correlation of mid-ranks.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn rank_correlation(&self) -> Option<f64> {
        let ranks = |pick: fn(&(u16, u16)) -> u16| {
            let mut sums: BTreeMap<u16, f64> = BTreeMap::new();
            for (key, count) in &self.counts {
                *sums.entry(pick(key)).or_default() += *count as f64;
            }
            let mut below = 0.0;
            for sum in sums.values_mut() {
                let count = *sum;
                *sum = below + count / 2.0;
                below += count;
            }
            (sums, below)
        };
        let ((inputs, total), (outputs, _)) = (ranks(|key| key.0), ranks(|key| key.1));
        let mean = total / 2.0;
        let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
        for ((input, output), count) in &self.counts {
            let (x, y) = (inputs[input] - mean, outputs[output] - mean);
            both += x * y * *count as f64;
            first += x * x * *count as f64;
            second += y * y * *count as f64;
        }
        (first > 0.0 && second > 0.0).then(|| both / (first * second).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for bits in [COARSE_BITS, FINE_BITS] {
            let mut last = 0;
            for length in (0..5_000).chain([65_535, 65_536, 1 << 20, (1 << 24) - 1, 1 << 24]) {
                let place = bucket(length, bits);
                let (least, most) = bounds(place, bits);
                assert!((least..=most).contains(&u64::from(length)), "{length} in {least}..={most}");
                assert!(most - least <= u64::from(length >> bits), "{length}: {least}..={most}");
                assert!(
                    place >= last && (length >= 5_000 || place <= last + 1),
                    "{length}: no bucket is skipped"
                );
                last = place;
            }
        }
        assert!(bucket(1 << 24, COARSE_BITS) < 353);
    }

    #[test]
    fn quantiles_of_known_lengths() {
        let mut lengths = Lengths::default();
        (1..=1000).for_each(|length| lengths.count(length));
        let figures = lengths.figures();
        assert_eq!(
            (figures.least, figures.p50, figures.p90, figures.p99, figures.most),
            (1, 500, 900, 990, 1000)
        );
        assert!((figures.mean - 500.5).abs() < 1e-9);
        assert!(figures.distribution.len() <= 2 * POINTS + 2);
        assert_eq!(figures.distribution.last(), Some(&(1000.0, 1.0)));
    }

    #[test]
    fn distance_is_that_of_the_distribution_functions() {
        let of = |values: &[u32]| {
            let mut lengths = Lengths::default();
            values.iter().for_each(|value| lengths.count(*value));
            lengths
        };
        let all = of(&[1, 2, 3, 4]);
        assert!(all.distance(&all) < 1e-12);
        assert!((all.distance(&of(&[3, 4, 5, 6])) - 0.5).abs() < 1e-12);
        assert!((all.distance(&of(&[1000, 2000])) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rank_correlation_knows_order_only() {
        let of = |pairs: &[(u32, u32)]| {
            let mut joint = Joint::default();
            pairs.iter().for_each(|(input, output)| joint.count(*input, *output));
            joint.rank_correlation()
        };
        assert!((of(&[(1, 1), (2, 10), (3, 10_000)]).unwrap() - 1.0).abs() < 1e-12);
        assert!((of(&[(1, 30), (2, 20), (3, 10)]).unwrap() + 1.0).abs() < 1e-12);
        // Ranks 1 2 3 4 against 2 1 4 3: 1 - 6*4/(4*15) = 0.6.
        assert!((of(&[(1, 2), (2, 1), (3, 4), (4, 3)]).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(of(&[(5, 1), (5, 2)]), None);
    }
}
