//! What moves a rate beside the hours of the week: noise with memory, rare jumps, on and off.
//!
//! ```text
//! pieces of the rate ──┐
//! noise, by slot ──────┼─► product, cut wherever one of them steps ─► pieces
//! on and off ──────────┘
//! ```
//!
//! Each factor has mean 1. Noise is drawn by slots of the calendar, so that at one time it is the same in every run with
//! the same seed, wherever that began and whatever else is drawn. It is recomputed from far enough back at fixed slots,
//! which makes it the same to the last bit.

use rand::RngExt;
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::bursts::{Bursts, Flicker, Noise, OnOff};
use super::rate::{Piece, Pieces};
use crate::random::Keyed;

/// After so many memories nothing is left of what was.
const MEMORIES: f64 = 12.0;
/// Steps that a flicker makes in its memory.
const FLICKER_STEPS: f64 = 5.0;
const NOISE_SLOT_NS: i64 = 600 * 1_000_000_000;
/// Slots of [`Noise`] in a week.
const SLOTS_A_WEEK: f64 = 1_008.0;

/// A sum of what each slot brought, fading slot by slot.
#[derive(Clone, Debug)]
struct Fading {
    keyed: Keyed,
    purpose: &'static str,
    brings: Brings,
    /// What is left after one slot.
    left: f64,
    /// The sum is begun anew at multiples of so many slots, from as many before.
    block: i64,
    /// The slot of `sum`.
    slot: Option<i64>,
    sum: f64,
}

/// What a slot brings.
#[derive(Clone, Copy, Debug)]
enum Brings {
    Normal { sd: f64 },
    Jump { chance: f64, height: f64 },
}

impl Fading {
    fn new(keyed: Keyed, purpose: &'static str, brings: Brings, memory_slots: f64) -> Self {
        // Memory is bounded by validation; a day of seconds is the most steps there are.
        #[expect(clippy::cast_possible_truncation)]
        let block = (MEMORIES * memory_slots).ceil().clamp(1.0, 1e6) as i64;
        Self { keyed, purpose, brings, left: (-1.0 / memory_slots).exp(), block, slot: None, sum: 0.0 }
    }

    fn at(&mut self, slot: i64) -> f64 {
        let from = match self.slot {
            Some(last) if last == slot => return self.sum,
            Some(last) if last + 1 == slot && slot.rem_euclid(self.block) != 0 => slot,
            _ => {
                self.sum = 0.0;
                (slot.div_euclid(self.block) - 1) * self.block
            }
        };
        for slot in from..=slot {
            self.sum = self.sum * self.left + self.brought(slot);
        }
        self.slot = Some(slot);
        self.sum
    }

    fn brought(&self, slot: i64) -> f64 {
        let ids = [slot.cast_unsigned()];
        match self.brings {
            Brings::Normal { sd } => {
                let normal: f64 = StandardNormal.sample(&mut self.keyed.stream(self.purpose, &ids));
                sd * normal
            }
            Brings::Jump { chance, height } => {
                if self.keyed.uniform(self.purpose, &ids) < chance {
                    height
                } else {
                    0.0
                }
            }
        }
    }
}

/// The exponential of a fading sum, of mean 1, by slots.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    sum: Fading,
    slot_ns: i64,
    /// The logarithm of the exponential's mean.
    log_mean: f64,
}

impl Slots {
    /// A lognormal of this standard deviation of the logarithm; the logarithm's correlation falls with `memory_slots`.
    fn normal(keyed: Keyed, purpose: &'static str, slot_ns: i64, sd: f64, memory_slots: f64) -> Self {
        let left = (-1.0 / memory_slots).exp();
        let brings = Brings::Normal { sd: sd * (1.0 - left * left).sqrt() };
        let sum = Fading::new(keyed, purpose, brings, memory_slots);
        Self { sum, slot_ns, log_mean: sd * sd / 2.0 }
    }

    /// The same without memory.
    pub(super) fn apart(keyed: Keyed, purpose: &'static str, slot_ns: i64, sd: f64) -> Self {
        Self::normal(keyed, purpose, slot_ns, sd, 1e-3)
    }

    fn jumps(keyed: Keyed, slot_ns: i64, chance: f64, height: f64, memory_slots: f64) -> Self {
        let sum = Fading::new(keyed, "traffic.noise-jump", Brings::Jump { chance, height }, memory_slots);
        // Slots are independent: the mean of the product is the product of the means.
        let (mut log_mean, mut left) = (0.0, height);
        for _ in 0..sum.block {
            log_mean += (chance * left.exp_m1()).ln_1p();
            left *= sum.left;
        }
        Self { sum, slot_ns, log_mean }
    }

    /// The factor at this time, and when it steps next.
    pub(super) fn at(&mut self, time_ns: i64) -> (f64, i64) {
        let slot = time_ns.div_euclid(self.slot_ns);
        let value = (self.sum.at(slot) - self.log_mean).exp();
        (value, (slot + 1).saturating_mul(self.slot_ns))
    }
}

/// A telegraph: on and off for exponential times, met in its course.
#[derive(Clone, Debug)]
struct Telegraph {
    random: Xoshiro256PlusPlus,
    on_s: f64,
    off_s: f64,
    is_on: bool,
    until_ns: Option<i64>,
}

impl Telegraph {
    fn new(keyed: Keyed, spec: OnOff) -> Self {
        let mut random = keyed.stream("traffic.on-off", &[]);
        let (on_s, off_s) = (spec.on.as_secs_f64(), spec.off.as_secs_f64());
        let is_on = random.random::<f64>() * (on_s + off_s) < on_s;
        Self { random, on_s, off_s, is_on, until_ns: None }
    }

    fn at(&mut self, time_ns: i64) -> (f64, i64) {
        // What is left of an exponential time is drawn as the whole is.
        let mut until_ns = match self.until_ns {
            Some(until_ns) => until_ns,
            None => time_ns.saturating_add(self.lasts_ns()),
        };
        while until_ns <= time_ns {
            self.is_on = !self.is_on;
            until_ns = until_ns.saturating_add(self.lasts_ns());
        }
        self.until_ns = Some(until_ns);
        (if self.is_on { (self.on_s + self.off_s) / self.on_s } else { 0.0 }, until_ns)
    }

    fn lasts_ns(&mut self) -> i64 {
        let mean_s = if self.is_on { self.on_s } else { self.off_s };
        let draw: f64 = Exp1.sample(&mut self.random);
        // A cast saturates; times of 200 days are far from that.
        #[expect(clippy::cast_possible_truncation)]
        let ns = (draw * mean_s * 1e9) as i64;
        ns.max(1)
    }
}

/// All that moves a rate; nothing of it is the usual case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Factors {
    slots: Vec<Slots>,
    telegraph: Option<Telegraph>,
}

impl Factors {
    pub(crate) fn new(bursts: &Bursts, keyed: Keyed) -> Self {
        let mut slots = Vec::new();
        if let Some(flicker) = bursts.flicker {
            slots.push(flicker_slots(flicker, keyed));
        }
        if let Some(noise) = bursts.noise {
            slots.extend(noise_slots(noise, keyed));
        }
        Self { slots, telegraph: bursts.on_off.map(|spec| Telegraph::new(keyed, spec)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.telegraph.is_none()
    }

    /// Their product at this time, and when it may change. Times only grow.
    pub(crate) fn at(&mut self, time_ns: i64) -> (f64, i64) {
        let (mut product, mut until_ns) = (1.0, i64::MAX);
        for slots in &mut self.slots {
            let (value, until) = slots.at(time_ns);
            product *= value;
            until_ns = until_ns.min(until);
        }
        if let Some(telegraph) = &mut self.telegraph {
            let (value, until) = telegraph.at(time_ns);
            product *= value;
            until_ns = until_ns.min(until);
        }
        (product, until_ns)
    }
}

/// A flicker steps five times in its memory, but not more often than ten times a second.
pub(super) fn flicker_slot_s(memory_s: f64) -> f64 {
    (memory_s / FLICKER_STEPS).clamp(0.1, 600.0)
}

fn flicker_slots(spec: Flicker, keyed: Keyed) -> Slots {
    let slot_s = flicker_slot_s(spec.memory.as_secs_f64());
    #[expect(clippy::cast_possible_truncation)] // At most 600 s.
    let slot_ns = (slot_s * 1e9) as i64;
    let memory_slots = spec.memory.as_secs_f64() / slot_s;
    Slots::normal(keyed, "traffic.flicker", slot_ns, spec.sd, memory_slots)
}

fn noise_slots(spec: Noise, keyed: Keyed) -> impl Iterator<Item = Slots> {
    let in_slots = |seconds: f64| seconds / 600.0;
    let memory_slots = in_slots(spec.memory.as_secs_f64());
    let normal = (spec.change > 0.0).then(|| {
        let sd = spec.log_sd();
        Slots::normal(keyed, "traffic.noise", NOISE_SLOT_NS, sd, memory_slots)
    });
    let jumps = (spec.jumps_per_week > 0.0).then(|| {
        let chance = (spec.jumps_per_week / SLOTS_A_WEEK).min(1.0);
        let decay = in_slots(spec.jump_decay.as_secs_f64());
        Slots::jumps(keyed, NOISE_SLOT_NS, chance, spec.jump.ln(), decay)
    });
    normal.into_iter().chain(jumps)
}

/// Pieces times factors; without factors the pieces as they are.
#[derive(Clone, Debug)]
pub(crate) struct Modulated<P> {
    pieces: P,
    factors: Factors,
    /// The piece that is being cut: what is left of it.
    rest: Option<Piece>,
    now_ps: u64,
    epoch_ns: i64,
}

impl<P: Pieces> Modulated<P> {
    /// `epoch_ns`: when the first piece begins.
    pub(crate) fn new(pieces: P, factors: Factors, epoch_ns: i64) -> Self {
        Self { pieces, factors, rest: None, now_ps: 0, epoch_ns }
    }
}

impl<P: Pieces> Pieces for Modulated<P> {
    #[expect(clippy::cast_precision_loss)]
    fn next_piece(&mut self) -> Option<Piece> {
        if self.factors.is_empty() {
            return self.pieces.next_piece();
        }
        let piece = match self.rest.take() {
            Some(rest) => rest,
            None => self.pieces.next_piece()?,
        };
        let now_ns = self.epoch_ns.saturating_add_unsigned(self.now_ps / 1000);
        let (factor, until_ns) = self.factors.at(now_ns);
        // Steps stand on whole nanoseconds; a piece that begins between two has its factors from the one before.
        let until_ps = until_ns.saturating_sub(self.epoch_ns).unsigned_abs().saturating_mul(1000);
        let length_ps = until_ps.saturating_sub(self.now_ps).clamp(1, piece.ps.max(1));
        self.now_ps = self.now_ps.saturating_add(length_ps);
        if length_ps >= piece.ps {
            return Some(Piece { start: piece.start * factor, end: piece.end * factor, ..piece });
        }
        let seconds = length_ps as f64 / 1e12;
        let cut = piece.start + (piece.end - piece.start) * (length_ps as f64 / piece.ps as f64);
        let rest_ps = piece.ps - length_ps;
        self.rest = Some(Piece { start: cut, end: piece.end, seconds: rest_ps as f64 / 1e12, ps: rest_ps });
        Some(Piece { start: piece.start * factor, end: cut * factor, seconds, ps: length_ps })
    }
}
