//! Lengths: from mixtures of lognormals, from classes of requests, or from blocks of a sample.
//!
//! ```text
//! request number ─keyed─► class (stays for a run) ─► input, output, both of the class's mixtures ─┐ × drift at its time
//! request number ─keyed─► block of consecutive requests of a sample ─► their pairs as they are    ┘
//! ```
//!
//! Lengths are keyed by the request's number, so request 1,000 is as long at any rate.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::SplitMix64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::modulate::Slots;
use super::{Arrival, Lognormal};
use crate::random::{Keyed, mix};
use crate::time::HumanDuration;

/// Requests of one kind: one application's, or one task's. A request has its input and its output of the same class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthClass {
    /// Its share of the requests, relative to the other classes.
    #[serde(default = "one")]
    pub weight: f64,
    /// Prompt lengths: a mixture of lognormals. With `sessions` these are the new message of each turn.
    pub input: Vec<Lognormal>,
    /// Output lengths: a mixture of lognormals.
    pub output: Vec<Lognormal>,
}

/// Mean lengths that change from one stretch of time to the next: each stretch has a factor of its own for all inputs, and
/// one for all outputs, lognormal with mean 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Coefficient of variation of the factor on inputs; 0.26 to 0.45 were measured over 6 hours.
    #[serde(default)]
    pub input: f64,
    /// The same on outputs; 0.27 to 0.55 were measured.
    #[serde(default)]
    pub output: f64,
    /// How long a stretch is.
    #[serde(default = "six_hours")]
    pub every: HumanDuration,
}

const fn one() -> f64 {
    1.0
}
const fn six_hours() -> HumanDuration {
    HumanDuration::from_secs(6 * 3_600)
}

/// Where the lengths of requests come from.
#[derive(Clone, Debug)]
pub enum LengthSource {
    /// Drawn from classes; one is enough.
    Classes {
        /// At least one, each with at least one part on both sides.
        classes: Vec<LengthClass>,
        /// A class stays for so many requests on average; 1: each request has one of its own.
        class_run: f64,
        /// How mean lengths change over time.
        drift: Option<Drift>,
        /// No prompt is longer; a longer draw is cut to it.
        max_input_tokens: u32,
        /// No output is longer; a longer draw is cut to it.
        max_output_tokens: u32,
    },
    /// The (input, output) pairs of a sample, in blocks of consecutive requests that begin anywhere in it; its times are
    /// not looked at. After its last request the first one follows.
    Sample {
        /// At least one request.
        pairs: Arc<[Arrival]>,
        /// Requests of a block, at least 1.
        block: u32,
    },
}

/// A mixture of lognormals, ready to draw from.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    /// Cumulated weight up to and with each part, its median, its sigma.
    parts: Vec<(f64, f64, f64)>,
    most: u32,
}

impl Mixture {
    pub(crate) fn new(parts: &[Lognormal], most: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = parts.iter().map(|part| {
            sum += part.weight;
            (sum, part.median, part.sigma)
        });
        Self { parts: cumulated.collect(), most }
    }

    #[inline]
    pub(crate) fn draw(&self, random: &mut impl rand::Rng) -> u32 {
        self.draw_times(random, 1.0)
    }

    /// A draw, multiplied by this.
    #[inline]
    pub(crate) fn draw_times(&self, random: &mut impl rand::Rng, factor: f64) -> u32 {
        let total = self.parts.last().map_or(0.0, |last| last.0);
        let pick = random.random::<f64>() * total;
        let normal: f64 = StandardNormal.sample(random);
        let part = self.parts.iter().find(|part| pick < part.0).or(self.parts.last());
        let tokens = part.map_or(1.0, |(_, median, sigma)| median * (sigma * normal).exp());
        // Clamped first, so the cast loses nothing but the fraction.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = (tokens * factor).round().clamp(1.0, f64::from(self.most)) as u32;
        whole
    }
}

/// Classes, ready to draw from.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    /// Cumulated weight up to and with each class, and its lengths.
    classes: Vec<(f64, Mixture, Mixture)>,
}

impl Classes {
    pub(crate) fn new(classes: &[LengthClass], max_input_tokens: u32, max_output_tokens: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = classes.iter().map(|class| {
            sum += class.weight;
            (
                sum,
                Mixture::new(&class.input, max_input_tokens),
                Mixture::new(&class.output, max_output_tokens),
            )
        });
        Self { classes: cumulated.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The class of a uniform draw.
    pub(crate) fn pick(&self, uniform: f64) -> usize {
        let total = self.classes.last().map_or(0.0, |last| last.0);
        let place = self.classes.iter().position(|class| uniform * total < class.0);
        place.unwrap_or(self.classes.len().saturating_sub(1))
    }

    /// The lengths of a class, which is one of those picked.
    pub(crate) fn of(&self, class: usize) -> (&Mixture, &Mixture) {
        let (_, input, output) = &self.classes[class];
        (input, output)
    }
}

/// Draws the lengths of requests in their order.
#[derive(Clone, Debug)]
pub(crate) enum Lengths {
    Drawn { classes: Classes, class: usize, change: f64, drift: Option<Box<Drifting>>, key: u64 },
    Sample { pairs: Arc<[Arrival]>, block: u64, key: u64, next: usize },
}

/// The factors of [`Drift`].
#[derive(Clone, Debug)]
pub(crate) struct Drifting {
    input: Slots,
    output: Slots,
    until_ns: i64,
    factors: (f64, f64),
}

impl Drifting {
    fn new(spec: Drift, keyed: Keyed) -> Self {
        let every_ns = i64::try_from(spec.every.as_nanos()).unwrap_or(i64::MAX).max(1);
        // A lognormal with this coefficient of variation.
        let sd = |cv: f64| (cv * cv).ln_1p().sqrt();
        Self {
            input: Slots::apart(keyed, "traffic.drift-input", every_ns, sd(spec.input)),
            output: Slots::apart(keyed, "traffic.drift-output", every_ns, sd(spec.output)),
            until_ns: i64::MIN,
            factors: (1.0, 1.0),
        }
    }

    fn at(&mut self, time_ns: i64) -> (f64, f64) {
        if time_ns >= self.until_ns {
            let (input, until_ns) = self.input.at(time_ns);
            self.factors = (input, self.output.at(time_ns).0);
            self.until_ns = until_ns;
        }
        self.factors
    }
}

impl Lengths {
    /// `None` when the source holds nothing to draw from.
    pub(crate) fn new(source: &LengthSource, keyed: Keyed) -> Option<Self> {
        match source {
            LengthSource::Classes { classes, class_run, drift, max_input_tokens, max_output_tokens } => {
                let whole = classes.iter().all(|class| !class.input.is_empty() && !class.output.is_empty());
                (whole && !classes.is_empty()).then(|| Self::Drawn {
                    classes: Classes::new(classes, *max_input_tokens, *max_output_tokens),
                    class: 0,
                    change: 1.0 / class_run.max(1.0),
                    drift: drift.map(|drift| Box::new(Drifting::new(drift, keyed))),
                    key: keyed.bits("traffic.class-lengths", &[]),
                })
            }
            LengthSource::Sample { pairs, block } => (!pairs.is_empty()).then(|| Self::Sample {
                pairs: Arc::clone(pairs),
                block: u64::from((*block).max(1)),
                key: keyed.bits("traffic.sample-block", &[]),
                next: 0,
            }),
        }
    }

    /// The lengths of request `index`, which comes at this time; indices are asked for one after the other from 0.
    #[inline]
    pub(crate) fn draw(&mut self, index: u64, time_ns: i64) -> (u32, u32) {
        match self {
            Self::Drawn { classes, class, change, drift, key } => {
                let mut random = numbered(*key, index);
                if classes.classes.len() > 1 && (index == 0 || random.random::<f64>() < *change) {
                    *class = classes.pick(random.random());
                }
                let (input, output) = classes.of(*class);
                let (long, talkative) = drift.as_mut().map_or((1.0, 1.0), |drift| drift.at(time_ns));
                (input.draw_times(&mut random, long), output.draw_times(&mut random, talkative))
            }
            Self::Sample { pairs, block, key, next } => {
                if index.is_multiple_of(*block) {
                    // A product's upper half is uniform below the other factor, but for one in 2^64 of it.
                    let draw = u128::from(mix(*key ^ mix(index / *block))) * pairs.len() as u128;
                    *next = usize::try_from(draw >> 64).unwrap_or(0);
                }
                let pair = pairs[*next];
                *next = if *next + 1 == pairs.len() { 0 } else { *next + 1 };
                (pair.input_tokens, pair.output_tokens)
            }
        }
    }
}

/// A stream for a number: as independent as [`Keyed::stream`], its state one word, so that it costs nothing to begin.
#[inline]
fn numbered(key: u64, index: u64) -> SplitMix64 {
    SplitMix64::from_seed(mix(key ^ mix(index)).to_le_bytes())
}
