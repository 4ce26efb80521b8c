//! Is the canary worse than the old version, by more than was declared? A test that may be looked at any time.
//!
//! ```text
//!  requests that ended in one block of time ──► Block::of ──► Event::Evidence ──► Comparison: worse? enough seen?
//!   old version's, canary's, same minutes        (driver)                            (policy)
//! ```
//!
//! # Method
//! The two versions serve side by side, so a block of time ([`Block::SPAN`]) gives both the same traffic. For a latency the block yields
//! `u`, the share of pairs (one request of the canary, one of the old version) in which the canary's figure *divided by the
//! declared ratio* is the larger, ties counting half: the Mann-Whitney statistic. The null hypothesis is that the canary is no
//! worse than declared: the mean of `u` is at most 1/2. For failures it is that the canary's share of them exceeds the old
//! version's by at most the declared margin `m`.
//!
//! Each figure bets against its null: for a share `b` of its wealth, the wealth is multiplied by `1 + b*(2u - 1)` a block
//! (failures: by `1 + b*(e_new - e_old - m)/(1 + m)`). Under the null no bet gains on average, so the wealth is a
//! non-negative supermartingale that starts at 1, and the chance that it *ever* reaches `1/a` is at most `a` (Ville's
//! inequality): it may be looked at after every block, and may stop at any. The wealth of several `b` is averaged, as no single
//! one is best; that of the three figures likewise, which leaves the bound on the false alarms of the whole comparison. The
//! construction is that of I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting" (2023).
//!
//! What it assumes: that under the null a block's mean is at most 1/2 whatever the blocks before were. Queues have a memory
//! shorter than a block, not zero, so the error rates were tried in whole simulated rollouts, a thousand of each kind: chat
//! traffic on three replicas, one of them the canary, watched for 14 minutes, `false_alarm = 0.05`
//! (`sim/tests/it/comparison.rs` has the command):
//!
//! | new version's step time | declared ratio | requests/s | router | found worse | median time that took |
//! |---|---|---|---|---|---|
//! | 1.0 | 1.0 | 6.0 | least-connections | 0.0 % | - |
//! | 1.05 | 1.0 | 6.0 | least-connections | 4.1 % | 12 min 30 s |
//! | 1.1 | 1.0 | 6.0 | least-connections | 100.0 % | 9 min |
//! | 1.2 | 1.0 | 6.0 | least-connections | 100.0 % | 6 min 30 s |
//! | 1.3 | 1.0 | 6.0 | least-connections | 100.0 % | 5 min 30 s |
//! | 1.2 | 1.2 | 6.0 | least-connections | 0.0 % | - |
//! | 1.3 | 1.2 | 6.0 | least-connections | 99.9 % | 10 min |
//! | 1.5 | 1.2 | 6.0 | least-connections | 100.0 % | 6 min |
//! | 1.0 | 1.0 | 6.0 | round-robin | 0.0 % | - |
//! | 1.0 | 1.0 | 6.0 | nginx-least-conn | 0.0 % | - |
//! | 1.0 | 1.0 | 12.0 | least-connections | 0.0 % | - |
//! | 1.0 | 1.0 | 2.0 | least-connections | 0.0 % | - |
//!
//! Equals are never called worse here, although one in twenty was allowed: bets that are safe against any distribution win
//! little from the shares near 1/2 that real blocks give. A difference of 5 % is seldom found in 14 minutes; it would be later.

use serde::{Deserialize, Serialize};

use crate::Span;
use crate::canonical::Form;
use crate::time::human;

/// What the canary may be worse by, and how sure the word must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompareSpec {
    /// The canary's time to first token may be so many times the old version's.
    pub ttft_ratio: f64,
    /// The canary's time per output token may be so many times the old version's.
    pub tpot_ratio: f64,
    /// The canary's share of failed requests may be greater by this.
    pub error_margin: f64,
    /// The chance that a canary which is as declared is called worse, over the whole comparison.
    pub false_alarm: f64,
    /// After the canary's admission, evidence is not counted for this long: its caches are cold.
    #[serde(with = "human")]
    pub warm_up: Span,
    /// Blocks of evidence without which the canary is not called fit.
    pub blocks_min: u32,
}

impl Default for CompareSpec {
    fn default() -> CompareSpec {
        CompareSpec {
            ttft_ratio: 1.0,
            tpot_ratio: 1.0,
            error_margin: 0.0,
            false_alarm: 0.01,
            warm_up: Span::from_secs(120),
            blocks_min: 20,
        }
    }
}

/// One request as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Time to first token, seconds; `None` where it failed.
    pub ttft_s: Option<f64>,
    /// Mean time per output token after the first, seconds; `None` where it failed or had one token.
    pub tpot_s: Option<f64>,
    /// Whether it failed.
    pub failed: bool,
}

/// What one block of time says of both versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The share of pairs in which the canary's time to first token is the larger, its declared ratio taken off; `None` where
    /// one version served nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft: Option<f64>,
    /// The same for the time per output token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot: Option<f64>,
    /// The canary's share of failures less the old version's, -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
}

impl Block {
    /// How long a block is: long enough that queues forget what was before, short enough to find a bad canary in minutes.
    pub const SPAN: Span = Span::from_secs(30);

    /// The block of these requests. Not-a-number counts as failed to be measured and is left out.
    pub fn of(spec: &CompareSpec, old: &[Served], new: &[Served]) -> Block {
        let figures = |of: fn(&Served) -> Option<f64>, ratio: f64| {
            let take = |served: &[Served], ratio: f64| -> Vec<f64> {
                served
                    .iter()
                    .filter_map(of)
                    .filter(|value| value.is_finite())
                    .map(|value| value / ratio)
                    .collect()
            };
            share_larger(take(old, 1.0), take(new, ratio))
        };
        Block {
            ttft: figures(|served| served.ttft_s, spec.ttft_ratio),
            tpot: figures(|served| served.tpot_s, spec.tpot_ratio),
            errors: failed(new).zip(failed(old)).map(|(new, old)| new - old),
        }
    }

    /// Whether its shares are such.
    pub(crate) fn is_sound(&self) -> bool {
        let within =
            |value: Option<f64>, least: f64| value.is_none_or(|value| (least..=1.0).contains(&value));
        within(self.ttft, 0.0) && within(self.tpot, 0.0) && within(self.errors, -1.0)
    }
}

#[allow(clippy::cast_precision_loss)] // counts of one block
fn failed(served: &[Served]) -> Option<f64> {
    let count = served.iter().filter(|served| served.failed).count();
    (!served.is_empty()).then(|| count as f64 / served.len() as f64)
}

/// The share of pairs (`new`, `old`) in which `new` is larger, ties counting half.
#[allow(clippy::cast_precision_loss)] // counts of one block
fn share_larger(mut old: Vec<f64>, new: Vec<f64>) -> Option<f64> {
    if old.is_empty() || new.is_empty() {
        return None;
    }
    old.sort_by(f64::total_cmp);
    let below = |value: f64| old.partition_point(|other| *other < value);
    let not_above = |value: f64| old.partition_point(|other| *other <= value);
    let halves: usize = new.iter().map(|value| below(*value) + not_above(*value)).sum();
    Some(halves as f64 / (2 * old.len() * new.len()) as f64)
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Time to first token.
    Ttft,
    /// Mean time per output token.
    Tpot,
    /// Failures.
    Errors,
}

/// Shares of the wealth that are bet; small ones see small differences late, large ones large differences at once.
const BETS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.8];

/// The wealth of the bets against one null, each beginning at 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bets([f64; BETS.len()]);

impl Bets {
    const NONE: Bets = Bets([1.0; BETS.len()]);

    /// `gain` is between -1 and 1, at most 0 on average under the null.
    fn bet(&mut self, gain: f64) {
        for (wealth, share) in self.0.iter_mut().zip(BETS) {
            // Kept finite: 1e200 is beyond any threshold, and a bet that is lost may yet be won back.
            *wealth = (*wealth * share.mul_add(gain, 1.0)).clamp(1e-200, 1e200);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn wealth(&self) -> f64 {
        self.0.iter().sum::<f64>() / BETS.len() as f64
    }
}

/// The evidence so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    spec: CompareSpec,
    blocks: u32,
    bets: [Bets; 3],
}

impl Comparison {
    /// Nothing seen.
    pub fn new(spec: CompareSpec) -> Comparison {
        Comparison { spec, blocks: 0, bets: [Bets::NONE; 3] }
    }

    /// Counts a block. One in which a version served nobody says nothing, and is not counted.
    pub fn see(&mut self, block: &Block) {
        if block.errors.is_none() {
            return;
        }
        let margin = self.spec.error_margin;
        let gains = [
            block.ttft.map(|share| 2.0 * share - 1.0),
            block.tpot.map(|share| 2.0 * share - 1.0),
            block.errors.map(|difference| (difference - margin) / (1.0 + margin)),
        ];
        for (bets, gain) in self.bets.iter_mut().zip(gains) {
            if let Some(gain) = gain {
                bets.bet(gain);
            }
        }
        self.blocks += 1;
    }

    /// Its part of the rollout's canonical form.
    pub(crate) fn write(&self, form: &mut Form) {
        let Comparison { spec: _, blocks, bets } = self;
        form.put(blocks);
        for Bets(wealth) in bets {
            form.put(wealth.map(f64::to_bits));
        }
    }

    /// Blocks counted.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The evidence against "no worse than declared": the chance that it ever reaches `1/a` although the canary is as declared
    /// is at most `a`.
    pub fn evidence(&self) -> f64 {
        self.bets.iter().map(Bets::wealth).sum::<f64>() / 3.0
    }

    /// Whether the canary is worse than declared, and in what above all.
    pub fn worse(&self) -> Option<Compared> {
        if self.evidence() * self.spec.false_alarm < 1.0 {
            return None;
        }
        let figures = [Compared::Ttft, Compared::Tpot, Compared::Errors];
        let most = self.bets.iter().zip(figures).max_by(|(a, _), (b, _)| a.wealth().total_cmp(&b.wealth()));
        most.map(|(_, figure)| figure)
    }

    /// Whether enough was seen to call a canary fit that is not found worse.
    pub fn enough(&self) -> bool {
        self.blocks >= self.spec.blocks_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(ttft_s: f64) -> Served {
        Served { ttft_s: Some(ttft_s), tpot_s: Some(ttft_s / 10.0), failed: false }
    }

    const FAILED: Served = Served { ttft_s: None, tpot_s: None, failed: true };

    /// Xorshift, for draws that need no more.
    struct Draw(u64);

    impl Draw {
        #[allow(clippy::cast_precision_loss)]
        fn uniform(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// Lognormal by the sum of twelve uniforms.
        fn latency(&mut self) -> f64 {
            let normal: f64 = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
            (0.8 * normal).exp()
        }
    }

    #[test]
    fn the_share_of_pairs_is_counted_with_ties_as_halves() {
        assert_eq!(share_larger(vec![1.0, 2.0, 3.0], vec![2.0]), Some(0.5));
        assert_eq!(share_larger(vec![1.0, 2.0], vec![3.0, 0.0, 2.0]), Some((2.0 + 0.0 + 1.5) / 6.0));
        assert_eq!(share_larger(vec![], vec![1.0]), None);
        let (mut draw, mut brute) = (Draw(7), 0.0);
        let old: Vec<f64> = (0..40).map(|_| (draw.uniform() * 10.0).floor()).collect();
        let new: Vec<f64> = (0..30).map(|_| (draw.uniform() * 10.0).floor()).collect();
        for a in &new {
            for b in &old {
                brute += if a > b {
                    1.0
                } else if a < b {
                    0.0
                } else {
                    0.5
                };
            }
        }
        assert_eq!(share_larger(old, new), Some(brute / 1_200.0));
    }

    #[test]
    fn a_declared_ratio_is_taken_off_and_failures_are_compared() {
        let spec = CompareSpec { ttft_ratio: 2.0, ..CompareSpec::default() };
        let old = [served(1.0), FAILED];
        let block = Block::of(&spec, &old, &[served(2.0), served(2.0), FAILED, FAILED]);
        assert_eq!(block, Block { ttft: Some(0.5), tpot: Some(1.0), errors: Some(0.0) });
        assert_eq!(Block::of(&spec, &old, &[]), Block::default());
        assert!(block.is_sound() && !Block { errors: Some(-1.1), ..block }.is_sound());
        assert!(!Block { ttft: Some(f64::NAN), ..block }.is_sound());
    }

    /// One comparison of 60 blocks of 20 old and 7 new requests; the block that found the canary worse.
    fn compared(seed: u64, spec: CompareSpec, new_times: f64, new_fails: f64) -> Option<u32> {
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut comparison = Comparison::new(spec);
        for _ in 0..60 {
            let mut requests = |count: usize, times: f64, fails: f64| -> Vec<Served> {
                (0..count)
                    .map(|_| {
                        let (fate, latency) = (draw.uniform(), draw.latency() * times);
                        if fate < fails { FAILED } else { served(latency) }
                    })
                    .collect()
            };
            let old = requests(20, 1.0, 0.002);
            comparison.see(&Block::of(&spec, &old, &requests(7, new_times, new_fails)));
            if comparison.worse().is_some() {
                return Some(comparison.blocks());
            }
        }
        None
    }

    /// A thousand comparisons of independent requests, each looked at after every block.
    fn found_worse(spec: CompareSpec, new_times: f64, new_fails: f64) -> usize {
        (1..=1000).filter(|seed| compared(*seed, spec, new_times, new_fails).is_some()).count()
    }

    #[test]
    fn a_thousand_looks_at_equals_raise_few_false_alarms_and_real_differences_are_found() {
        let spec = CompareSpec { false_alarm: 0.05, ..CompareSpec::default() };
        // At most 5 % by Ville; 7 % is beyond four standard deviations of a thousand draws at 5 %.
        assert!(found_worse(spec, 1.0, 0.002) < 70);
        let declared = CompareSpec { ttft_ratio: 1.2, tpot_ratio: 1.2, error_margin: 0.01, ..spec };
        assert!(found_worse(declared, 1.2, 0.012) < 70, "as declared is no worse than declared");
        assert!(found_worse(spec, 1.5, 0.002) > 990, "half as slow again is found");
        assert!(found_worse(spec, 1.0, 0.3) > 990, "three failures in ten are found");
        assert!(found_worse(declared, 1.8, 0.012) > 990, "worse than declared is found");
    }

    #[test]
    fn a_canary_that_is_better_is_not_called_worse_and_little_evidence_is_not_enough() {
        let spec = CompareSpec::default();
        assert_eq!(found_worse(spec, 0.7, 0.0), 0);
        let mut comparison = Comparison::new(spec);
        for _ in 0..19 {
            comparison.see(&Block { ttft: Some(0.5), tpot: None, errors: Some(0.0) });
            comparison.see(&Block::default());
        }
        assert!(!comparison.enough());
        comparison.see(&Block { errors: Some(0.0), ..Block::default() });
        assert!(comparison.enough() && comparison.worse().is_none());
    }

    #[test]
    fn the_figure_that_is_worse_is_named() {
        let mut comparison = Comparison::new(CompareSpec::default());
        for _ in 0..40 {
            comparison.see(&Block { ttft: Some(0.5), tpot: Some(0.9), errors: Some(0.0) });
        }
        assert_eq!(comparison.worse(), Some(Compared::Tpot));
    }
}
