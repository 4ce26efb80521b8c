//! Counts of latencies in logarithmic bins: small enough to copy with every fork.
//!
//! ```text
//! bin = 32 * (octave of the picoseconds) + the next 5 bits          below 2^20 ps: the first bin; from 2^50 ps: the last
//! ```
//! A bin is at most 1/32 wide, so a quantile read at its middle is within 1.6 %.

use slackwater_engine::{PS_PER_S, Ps};

/// Bits of a value below its leading one that tell bins apart.
const BITS: u32 = 5;
/// 2^20 ps is a microsecond, 2^50 ps is 19 minutes.
const LOWEST: u32 = 20;
const HIGHEST: u32 = 50;
const COUNT: usize = ((HIGHEST - LOWEST) as usize) << BITS;

/// A distribution of latencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyBins {
    counts: Vec<u32>,
}

impl Default for LatencyBins {
    fn default() -> Self {
        Self { counts: vec![0; COUNT] }
    }
}

impl LatencyBins {
    /// Counts one.
    #[inline]
    pub fn record(&mut self, value: Ps) {
        self.counts[bin(value)] += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// Takes in all of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// The value in seconds that a share `q` is not above, in the middle of its bin; `None` of an empty distribution.
    #[must_use]
    pub fn quantile_s(&self, q: f64) -> Option<f64> {
        let total = self.count();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut below = 0;
        for (place, count) in self.counts.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                return Some(middle_s(place));
            }
        }
        None
    }
}

#[inline]
fn bin(value: Ps) -> usize {
    let value = value.max(1 << LOWEST);
    let octave = value.ilog2();
    if octave >= HIGHEST {
        return COUNT - 1;
    }
    let low = (value >> (octave - BITS)) & ((1 << BITS) - 1);
    // Both parts are below COUNT.
    #[allow(clippy::cast_possible_truncation)]
    let place = (((octave - LOWEST) << BITS) as usize) + low as usize;
    place
}

/// The middle of a bin.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a figure for people
fn middle_s(place: usize) -> f64 {
    let octave = LOWEST + (place >> BITS) as u32;
    let low = (place & ((1 << BITS) - 1)) as f64;
    let width = f64::from(1_u32 << BITS);
    (1.0 + (low + 0.5) / width) * 2.0_f64.powi(octave.cast_signed()) / PS_PER_S as f64
}

#[cfg(test)]
mod tests {
    use super::{LatencyBins, bin, middle_s};

    #[test]
    fn bins_are_in_order_and_hold_their_middles() {
        let mut last = 0;
        let mut value: u64 = 1;
        while value < 1 << 52 {
            let place = bin(value);
            assert!(place >= last, "{value}");
            if (1 << 20..1 << 50).contains(&value) {
                let seconds = value as f64 / 1e12;
                assert!((middle_s(place) / seconds - 1.0).abs() <= 1.0 / 32.0, "{value}");
            }
            last = place;
            value += value / 50 + 1;
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut bins = LatencyBins::default();
        for milliseconds in 1..=1000_u64 {
            bins.record(milliseconds * 1_000_000_000);
        }
        for (q, expected) in [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0)] {
            let found = bins.quantile_s(q).unwrap();
            assert!((found / expected - 1.0).abs() < 1.0 / 32.0, "{q}: {found}");
        }
        assert_eq!(LatencyBins::default().quantile_s(0.5), None);
    }
}
