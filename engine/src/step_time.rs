//! How long one engine step takes, as a function of the batch it computes.
//!
//! All coefficients are integer picoseconds, so that a jump over many steps and the walk through them add up to the
//! same bits. Source of the forms: fits to recorded vLLM servers, see `ARCHITECTURE.md` ("The replica model").

use serde::{Deserialize, Serialize};

use crate::{PS_PER_S, Ps};

/// What one step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Batch {
    /// Prompt tokens computed in this step, over all requests in prefill.
    pub prefill_tokens: u64,
    /// Requests that decode one token in this step.
    pub decode_seqs: u64,
    /// Sum over the decoding requests of the tokens in their KV cache, the one being computed included.
    pub context_tokens: u64,
    /// Twice the sum over prefill chunks of `chunk * (context before it + chunk / 2)`, which is an integer.
    pub attention_pairs_twice: u64,
}

impl Batch {
    /// Whether the step computes anything at all.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefill_tokens == 0 && self.decode_seqs == 0
    }
}

/// Durations of the steps that follow while the batch stays the same and every decoding request grows by one token:
/// step `i` (from 0) takes `first_ps + i * slope_ps`, for `i < valid_steps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Duration of the first step.
    pub first_ps: u64,
    /// What each later step takes more than the one before it.
    pub slope_ps: u64,
    /// How many steps this holds for, at least 1.
    pub valid_steps: u64,
}

impl Piece {
    /// Duration of the first `steps` steps: `m*first + slope*m*(m-1)/2`, or `None` when it does not fit.
    #[inline]
    #[must_use]
    pub fn sum(&self, steps: u64) -> Option<Ps> {
        // m*(m-1)/2 without a remainder: one of the two is even, and `| 1` picks the odd one of m-1 and m.
        let pairs = (steps >> 1).checked_mul(steps.wrapping_sub(1) | 1)?;
        steps.checked_mul(self.first_ps)?.checked_add(self.slope_ps.checked_mul(pairs)?)
    }

    /// The smallest number of steps (at most `limit`) that last at least `span`.
    ///
    /// The root of the quadratic is found in floating point and put right by comparing integers, so the integers decide.
    #[inline]
    #[must_use]
    pub fn steps_covering(&self, span: Ps, limit: u64) -> u64 {
        if span == 0 {
            return 0;
        }
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mut steps = {
            // slope/2 m^2 + (first - slope/2) m - span = 0, in the form that does not cancel when slope is small.
            let half = self.slope_ps as f64 * 0.5;
            let linear = self.first_ps as f64 - half;
            let span = span as f64;
            let root = 2.0 * span / (linear + (linear * linear + 4.0 * half * span).sqrt());
            // A NaN (0/0) becomes 0; the loops below put any estimate right.
            (root as u64).min(limit)
        };
        let reaches = |m: u64| self.sum(m).is_none_or(|sum| sum >= span);
        // The estimate is the whole part of the root, so nearly always one too low, and never far off.
        while steps > 0 && reaches(steps) {
            steps -= 1;
        }
        loop {
            steps += 1;
            if steps >= limit || reaches(steps) {
                return steps.min(limit);
            }
        }
    }
}

/// A duration, or a sum of them, does not fit in 64 bits of picoseconds (213 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run's clock left its range of 213 days (2^64 picoseconds): the coefficients or the backlog are unbounded"
)]
pub struct TimeOverflow;

/// A model of the step duration.
pub trait StepTime {
    /// Durations from this batch on, while only the contexts of the decoding requests grow.
    ///
    /// # Errors
    /// When a duration does not fit.
    fn piece(&self, batch: &Batch) -> Result<Piece, TimeOverflow>;
}

/// What a step costs, in picoseconds. What `c0` and `c_tok` make together is the form's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coefficients {
    /// Floor (form `max`) or constant (form `linear`) of a step: weights read once, launch and scheduling.
    pub c0_ps: u64,
    /// Compute of one token.
    pub c_tok_ps: u64,
    /// Cost of one decoding request.
    pub c_seq_ps: u64,
    /// Cost of one token of context read by a decoding request.
    pub c_kv_ps: u64,
    /// Cost of one (query token, context token) pair in a prefill chunk. Half pairs round down, once a step.
    pub c_attn_ps: u64,
}

/// The forms a scenario can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum StepTimeForm {
    /// `max(c0, c_tok * tokens) + c_seq * decoding + c_kv * context + c_attn * pairs`.
    Max(Coefficients),
    /// `c0 + c_tok * tokens + c_seq * decoding + c_kv * context + c_attn * pairs`.
    Linear(Coefficients),
}

impl Coefficients {
    /// The piece, `floor` saying what `c0` and the compute of all tokens make together.
    #[inline]
    fn piece(&self, batch: &Batch, floor: impl FnOnce(u64, u64) -> Option<u64>) -> Option<Piece> {
        let tokens = batch.prefill_tokens + batch.decode_seqs;
        let mut first_ps = floor(self.c0_ps, self.c_tok_ps.checked_mul(tokens)?)?
            .checked_add(self.c_seq_ps.checked_mul(batch.decode_seqs)?)?
            .checked_add(self.c_kv_ps.checked_mul(batch.context_tokens)?)?;
        if batch.attention_pairs_twice > 0 {
            first_ps = first_ps.checked_add(self.c_attn_ps.checked_mul(batch.attention_pairs_twice)? / 2)?;
        }
        let slope_ps = self.c_kv_ps.checked_mul(batch.decode_seqs)?;
        Some(Piece { first_ps, slope_ps, valid_steps: u64::MAX })
    }

    fn scaled(&self, factor: f64) -> Self {
        Self {
            c0_ps: scale(self.c0_ps, factor),
            c_tok_ps: scale(self.c_tok_ps, factor),
            c_seq_ps: scale(self.c_seq_ps, factor),
            c_kv_ps: scale(self.c_kv_ps, factor),
            c_attn_ps: scale(self.c_attn_ps, factor),
        }
    }
}

impl StepTime for StepTimeForm {
    #[inline]
    fn piece(&self, batch: &Batch) -> Result<Piece, TimeOverflow> {
        let piece = match self {
            StepTimeForm::Max(of) => of.piece(batch, |c0, compute| Some(c0.max(compute))),
            StepTimeForm::Linear(of) => of.piece(batch, u64::checked_add),
        };
        piece.ok_or(TimeOverflow)
    }
}

impl StepTimeForm {
    /// The same form with every coefficient multiplied by `factor` (a slow GPU), each rounded once to a picosecond.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        match self {
            StepTimeForm::Max(of) => StepTimeForm::Max(of.scaled(factor)),
            StepTimeForm::Linear(of) => StepTimeForm::Linear(of.scaled(factor)),
        }
    }
}

/// Seconds to the nearest picosecond; negative and not-a-number become 0, too large becomes the largest.
#[must_use]
pub fn ps_from_s(seconds: f64) -> Ps {
    scale(PS_PER_S, seconds)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn scale(value: u64, factor: f64) -> u64 {
    // `as` saturates, which is what the documentation above promises.
    (value as f64 * factor).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_sum_of_its_steps() {
        let piece = Piece { first_ps: 7, slope_ps: 3, valid_steps: u64::MAX };
        let mut walked = 0;
        for m in 0..50_u64 {
            assert_eq!(piece.sum(m), Some(walked), "m = {m}");
            walked += 7 + 3 * m;
        }
        assert_eq!(Piece { first_ps: u64::MAX, slope_ps: 0, valid_steps: 1 }.sum(2), None);
    }

    #[test]
    fn steps_covering_is_the_smallest() {
        for (first_ps, slope_ps) in [(7, 3), (1, 0), (0, 1), (1_000_000_007, 1), (5, 1_000_000)] {
            let piece = Piece { first_ps, slope_ps, valid_steps: u64::MAX };
            for span in [1, 2, 6, 7, 8, 100, 101, 999_999, 1_000_000_007, 1_000_000_008] {
                let m = piece.steps_covering(span, 2_000_000_000);
                assert!(piece.sum(m).unwrap() >= span, "{piece:?} {span}");
                assert!(piece.sum(m - 1).unwrap() < span, "{piece:?} {span}");
            }
        }
        assert_eq!(Piece { first_ps: 10, slope_ps: 0, valid_steps: 9 }.steps_covering(1_000, 5), 5);
    }

    #[test]
    fn the_floor_holds_until_compute_passes_it() {
        let form = StepTimeForm::Max(Coefficients {
            c0_ps: 100,
            c_tok_ps: 10,
            c_seq_ps: 1,
            c_kv_ps: 2,
            c_attn_ps: 1,
        });
        let decode = Batch { decode_seqs: 3, context_tokens: 50, ..Batch::default() };
        assert_eq!(form.piece(&decode).unwrap(), Piece { first_ps: 203, slope_ps: 6, valid_steps: u64::MAX });
        let prefill = Batch { prefill_tokens: 20, attention_pairs_twice: 401, ..Batch::default() };
        assert_eq!(form.piece(&prefill).unwrap().first_ps, 400, "half a pair rounds down");
    }
}
