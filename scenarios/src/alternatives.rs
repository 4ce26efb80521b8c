//! Other profiles with which a measurement's data can live, and engines drawn between them and the profile.
//!
//! Coefficients are correlated: what one takes more of a step, another takes less. So none is drawn from its own interval.
//! An alternative holds one coefficient at an end of its interval and has all others as they then fit best. Step times are
//! linear in the coefficients, so what lies between two profiles with which the data can live, the data can live with too.
//!
//! ```text
//! a normal draw for each held coefficient --sign--> its lower or its upper alternative
//!                                         --size--> how far towards it; 1.96 is the whole way, and none goes further
//! the engine = the profile + the sum of these moves
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine_profile::EngineProfile;

/// The coefficients of an engine with which the data can live about as well as with the profile's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// The coefficient that was held at an end of its interval, by its name in `intervals`, while the others were fitted anew.
    pub held: String,
    /// As in the profile, here and below.
    pub c0_ms: f64,
    /// Per token.
    pub c_tok_us: f64,
    /// Per decoding sequence.
    pub c_seq_us: f64,
    /// Per token of context.
    pub c_kv_us: f64,
    /// Per attention pair.
    pub c_attn_us_per_token2: f64,
    /// Of the front end, on the way in.
    pub inbound_ms: f64,
    /// On the way out.
    pub outbound_ms: f64,
}

/// What may be held: five coefficients, the front end's delay, and how that is divided.
const HELD: [&str; 7] = [
    "c0_ms",
    "c_tok_us",
    "c_seq_us",
    "c_kv_us",
    "c_attn_us_per_token2",
    "front_end_ms",
    "inbound_over_outbound",
];

/// Two ends of each.
pub(crate) const MOST: usize = 2 * HELD.len();

/// Standard deviations from the middle of an interval to its end.
const END: f64 = 1.96;

/// The numbers of an engine, in the order of [`Alternative`]'s.
type Values = [f64; 7];

impl Alternative {
    /// The coefficients of this profile, with `held` at an end.
    #[must_use]
    pub fn of(held: &str, profile: &EngineProfile) -> Self {
        let [c0_ms, c_tok_us, c_seq_us, c_kv_us, c_attn_us_per_token2, inbound_ms, outbound_ms] =
            values_of(profile);
        let held = held.to_owned();
        Self { held, c0_ms, c_tok_us, c_seq_us, c_kv_us, c_attn_us_per_token2, inbound_ms, outbound_ms }
    }

    /// Whether a number differs from the profile's by more than rounding.
    #[must_use]
    pub fn differs_from(&self, profile: &EngineProfile) -> bool {
        let differ = |(one, other): (f64, f64)| (one - other).abs() > 1e-3 * one.abs().max(other.abs());
        self.values().into_iter().zip(values_of(profile)).any(differ)
    }

    fn values(&self) -> Values {
        [
            self.c0_ms,
            self.c_tok_us,
            self.c_seq_us,
            self.c_kv_us,
            self.c_attn_us_per_token2,
            self.inbound_ms,
            self.outbound_ms,
        ]
    }

    fn axis(&self) -> Option<usize> {
        HELD.iter().position(|name| *name == self.held)
    }

    /// What is wrong with it, if anything.
    pub(crate) fn mistake(&self) -> Option<String> {
        if self.axis().is_none() {
            return Some(format!("`held` is \"{}\": expected one of {}", self.held, HELD.join(", ")));
        }
        let wrong = |value: &f64| !value.is_finite() || *value < 0.0 || *value > 3.6e6;
        self.values().iter().find(|value| wrong(value)).map(|value| {
            format!("{value} is no coefficient: expected numbers from 0 up, in the profile's own units")
        })
    }
}

fn values_of(profile: &EngineProfile) -> Values {
    [
        profile.c0_ms,
        profile.c_tok_us,
        profile.c_seq_us,
        profile.c_kv_us,
        profile.c_attn_us_per_token2,
        profile.front_end.inbound_ms,
        profile.front_end.outbound_ms,
    ]
}

/// What is held along an axis.
fn held_value(values: &Values, axis: usize) -> f64 {
    match axis {
        5 => values[5] + values[6],
        6 => values[5] / values[6],
        _ => values[axis],
    }
}

/// By how much an axis differs, as a logarithm; 0 where there is none.
fn log_distance(from: &Values, to: &Values, axis: usize) -> f64 {
    let log = (held_value(to, axis) / held_value(from, axis)).ln();
    if log.is_finite() { log } else { 0.0 }
}

/// An alternative as a move away from the profile.
struct Move {
    axis: usize,
    to: Values,
    /// Of the held coefficient, as a logarithm.
    distance: f64,
    /// The share of a draw's variance that is its own: alternatives that move the same coefficients share it.
    weight: f64,
}

fn moves(own: &Values, alternatives: &[Alternative]) -> Vec<Move> {
    let mut moves: Vec<Move> = alternatives
        .iter()
        .filter_map(|alternative| {
            let (axis, to) = (alternative.axis()?, alternative.values());
            Some(Move { axis, to, distance: log_distance(own, &to, axis), weight: 1.0 })
        })
        .collect();
    // How far an alternative takes another coefficient, of how far that goes by itself, is their correlation.
    let correlation = |one: &Move, axis: usize| {
        let taken = log_distance(own, &one.to, axis);
        let itself = moves.iter().filter(|of| of.axis == axis && of.distance * taken > 0.0);
        let furthest = itself.map(|of| of.distance.abs()).fold(0.0, f64::max);
        if furthest > 0.0 { (taken.abs() / furthest).min(1.0) } else { 0.0 }
    };
    let shared = |one: &Move| {
        let others = (0..HELD.len()).filter(|axis| *axis != one.axis);
        1.0 + others.map(|axis| correlation(one, axis).powi(2)).sum::<f64>()
    };
    let weights: Vec<f64> = moves.iter().map(|one| 1.0 / shared(one)).collect();
    moves.iter_mut().zip(weights).for_each(|(one, weight)| one.weight = weight);
    moves
}

impl EngineProfile {
    /// The coefficients along which the measurement leaves alternatives, each once.
    #[must_use]
    pub fn left_open(&self) -> Vec<&'static str> {
        let alternatives = self.calibration.as_ref().map_or(&[][..], |of| &of.alternatives);
        let held = |name: &&str| alternatives.iter().any(|of| of.held == **name);
        HELD.into_iter().filter(held).collect()
    }

    /// This engine moved along the alternatives of its measurement: by so many standard deviations as `normal` says of each
    /// coefficient [`left_open`](Self::left_open). `None` where nothing is left open.
    #[must_use]
    pub fn moved(&self, mut normal: impl FnMut(&str) -> f64) -> Option<Self> {
        let alternatives = &self.calibration.as_ref()?.alternatives;
        let own = values_of(self);
        let moves = moves(&own, alternatives);
        if moves.is_empty() {
            return None;
        }
        let (mut change, mut least): (Values, Values) = ([0.0; 7], own);
        for of in &moves {
            least.iter_mut().zip(of.to).for_each(|(least, value)| *least = least.min(value));
        }
        for (axis, name) in
            HELD.iter().enumerate().filter(|(axis, _)| moves.iter().any(|of| of.axis == *axis))
        {
            let draw = normal(name);
            let Some(of) = moves.iter().find(|of| of.axis == axis && of.distance * draw > 0.0) else {
                continue;
            };
            let far = (draw.abs() * of.weight.sqrt() / END).min(1.0);
            // The held coefficient goes in its logarithm; the others go with it as step times do, linearly.
            let share = (far * of.distance).exp_m1() / of.distance.exp_m1();
            for ((change, to), from) in change.iter_mut().zip(of.to).zip(own) {
                *change += share * (to - from);
            }
        }
        // Several moves may together take a coefficient lower than any profile with which the data can live.
        let room =
            change.iter().zip(own).zip(least).map(|((change, own), least)| {
                if own + change < least { (own - least) / -change } else { 1.0 }
            });
        let room = room.fold(1.0, f64::min);
        let at = |place: usize| own[place] + room * change[place];
        let mut moved = self.clone();
        (moved.c0_ms, moved.c_tok_us, moved.c_seq_us) = (at(0), at(1), at(2));
        (moved.c_kv_us, moved.c_attn_us_per_token2) = (at(3), at(4));
        (moved.front_end.inbound_ms, moved.front_end.outbound_ms) = (at(5), at(6));
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Calibration;

    /// A cache cost that nothing showed, paid for by the floor; beside it a cost of a sequence that is another's matter.
    fn profile() -> EngineProfile {
        let mut profile = EngineProfile::built_in("h100-qwen3-14b").unwrap();
        (profile.c0_ms, profile.c_seq_us, profile.c_kv_us) = (10.0, 20.0, 0.05);
        let of = |held: &str, c0_ms: f64, c_seq_us: f64, c_kv_us: f64| Alternative {
            c0_ms,
            c_seq_us,
            c_kv_us,
            ..Alternative::of(held, &profile)
        };
        let alternatives = vec![
            of("c_kv_us", 10.1, 20.0, 0.005),
            of("c_kv_us", 9.0, 20.0, 0.55),
            of("c_seq_us", 10.0, 15.0, 0.05),
            of("c_seq_us", 10.0, 26.0, 0.05),
        ];
        profile.calibration = Some(Calibration { alternatives, ..Calibration::default() });
        profile
    }

    #[test]
    fn a_move_stays_where_the_data_can_live() {
        let profile = profile();
        assert_eq!(profile.left_open(), ["c_seq_us", "c_kv_us"]);
        let to = |draw: f64| profile.moved(|name| if name == "c_kv_us" { draw } else { 0.0 }).unwrap();
        assert_eq!(to(0.0), profile);
        let (end, further, half) = (to(1.96), to(5.0), to(0.98));
        assert!((end.c_kv_us - 0.55).abs() < 1e-9 && (end.c0_ms - 9.0).abs() < 1e-9, "{end:?}");
        assert_eq!(further.c_kv_us, end.c_kv_us);
        // Half the way is half the logarithm; 1 ms of floor pays for 0.5 us of context all along.
        assert!((half.c_kv_us - (0.05_f64 * 0.55).sqrt()).abs() < 1e-9, "{half:?}");
        assert!(((10.0 - half.c0_ms) - (half.c_kv_us - 0.05) * 2.0).abs() < 1e-9, "{half:?}");
        assert_eq!((half.c_seq_us, half.kv_blocks), (20.0, profile.kv_blocks));
        assert!((to(-1.96).c_kv_us - 0.005).abs() < 1e-9);
        let both = profile.moved(|_| -1.96).unwrap();
        assert!((both.c_seq_us - 15.0).abs() < 1e-9 && (both.c_kv_us - 0.005).abs() < 1e-9, "{both:?}");
        let plain = EngineProfile { calibration: None, ..profile };
        assert_eq!(plain.moved(|_| 1.0), None);
    }

    #[test]
    fn alternatives_of_one_kind_do_not_add_up() {
        let mut profile = profile();
        // Two names for the same uncertainty: whichever is held, the other goes with it.
        let same = |held: &str, by: f64| Alternative {
            c0_ms: 10.0 * by,
            c_tok_us: profile.c_tok_us / by,
            ..Alternative::of(held, &profile)
        };
        let alternatives =
            vec![same("c0_ms", 0.9), same("c0_ms", 1.1), same("c_tok_us", 1.1), same("c_tok_us", 0.9)];
        profile.calibration.as_mut().unwrap().alternatives = alternatives;
        // Both draws at one deviation, in the directions that agree: as far as one draw of sqrt(2) takes it, not of 2.
        let moved = profile.moved(|name| if name == "c0_ms" { 1.0 } else { -1.0 }).unwrap();
        let sds = (moved.c0_ms / 10.0).ln() / (1.1_f64.ln() / END);
        assert!((sds - 2.0_f64.sqrt()).abs() < 0.05, "{sds}");
        // And never lower than the lowest that the data can live with.
        let moved = profile.moved(|name| if name == "c0_ms" { -1.96 } else { 1.96 }).unwrap();
        assert!((moved.c0_ms - 9.0).abs() < 1e-9, "{moved:?}");
    }
}
