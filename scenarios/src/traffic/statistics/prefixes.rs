//! How much of the prompts an earlier prompt began with too.
//!
//! Names of blocks are kept in a set. When it is full, only names whose hash lies below half the bound are kept on, and
//! each that is looked at counts for two, and so on: an estimate without bias, in flat memory.

use std::collections::HashSet;

use super::PrefixFigures;
use crate::random::mix;
use crate::traffic::PREFIX_BLOCK;

/// Names held at a time: about 20 MB.
const MOST_NAMES: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    seen: HashSet<u64>,
    /// Names whose hash has so many leading zeros are looked at.
    halvings: u32,
    requests: u64,
    tokens: u64,
    seen_tokens: f64,
    follow_ups: f64,
}

impl Prefixes {
    pub(super) fn count(&mut self, prefix: &[u64], input_tokens: u32) {
        if prefix.is_empty() {
            return;
        }
        self.requests += 1;
        self.tokens += u64::from(input_tokens);
        let mut left = input_tokens;
        for (place, name) in prefix.iter().enumerate() {
            let tokens = left.min(PREFIX_BLOCK);
            left -= tokens;
            if !self.is_sampled(*name) {
                continue;
            }
            let weight = f64::from(self.halvings).exp2();
            if !self.seen.insert(*name) {
                self.seen_tokens += weight * f64::from(tokens);
                if place == 1 {
                    self.follow_ups += weight;
                }
            }
        }
        while self.seen.len() > MOST_NAMES {
            self.halvings += 1;
            let halvings = self.halvings;
            self.seen.retain(|name| mix(*name).leading_zeros() >= halvings);
        }
    }

    fn is_sampled(&self, name: u64) -> bool {
        mix(name).leading_zeros() >= self.halvings
    }

    #[expect(clippy::cast_precision_loss)]
    pub(super) fn figures(&self) -> Option<PrefixFigures> {
        (self.requests > 0).then(|| PrefixFigures {
            named_requests: self.requests,
            seen_share: (self.seen_tokens / self.tokens.max(1) as f64).min(1.0),
            follow_up_share: (self.follow_ups / self.requests as f64).min(1.0),
            sampled: (-f64::from(self.halvings)).exp2(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.figures(), None);
        prefixes.count(&[1, 2, 3], 1300);
        // The first two blocks whole, a new third.
        prefixes.count(&[1, 2, 4], 1100);
        // All of a block that is 100 tokens long.
        prefixes.count(&[1], 100);
        let figures = prefixes.figures().unwrap();
        assert_eq!(figures.named_requests, 3);
        assert!((figures.seen_share - (1024.0 + 100.0) / 2500.0).abs() < 1e-12, "{figures:?}");
        assert!((figures.follow_up_share - 1.0 / 3.0).abs() < 1e-12, "{figures:?}");
    }

    #[test]
    fn a_sample_estimates_what_no_set_could_hold() {
        let mut prefixes = Prefixes::default();
        // Every name twice, one after the other.
        for name in 0..3_000_000_u64 {
            prefixes.count(&[name], 512);
            prefixes.count(&[name], 512);
        }
        let figures = prefixes.figures().unwrap();
        assert!(prefixes.seen.len() <= MOST_NAMES && figures.sampled <= 0.5, "{figures:?}");
        assert!((figures.seen_share - 0.5).abs() < 0.01, "{figures:?}");
    }
}
