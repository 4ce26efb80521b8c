//! How arrivals lie around a rate: gaps, clients that are bursty each, on and off, flicker and noise of the rate.
//!
//! ```text
//! gaps of mean 1 (one process, or many clients merged) ─► area under rate × factors ─► time
//! factors of mean 1: on/off (seconds), flicker (seconds to minutes), noise (hours), rare jumps
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::HumanDuration;

/// How arrivals lie around a rate. All of it keeps the mean rate; the default is a Poisson process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// How irregular gaps are.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Many clients, each with gaps of its own, in place of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
    /// Requests come in bursts with nothing between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_off: Option<OnOff>,
    /// The rate flickers around its level, for seconds or minutes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flicker: Option<Flicker>,
    /// The level wanders, for hours at a time, and jumps now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// How irregular arrivals are around the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independent of each other.
    #[default]
    Poisson,
    /// Gamma-distributed gaps with this coefficient of variation: above 1 bursty, below 1 even.
    GammaCv(f64),
    /// Weibull-distributed gaps with this coefficient of variation.
    WeibullCv(f64),
}

/// Clients with gaps of their own, all of their requests together the traffic. The k-th has a share of the requests
/// proportional to k to the power of minus `zipf`. Memory is some 100 bytes a client.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// 0: all send alike. 1 and more: a few send most.
    #[serde(default = "one")]
    pub zipf: f64,
    /// Coefficient of variation of a client's gaps: of the client that half of the requests are above of, where `cv_p95` is
    /// given, else of every client.
    #[serde(default = "one")]
    pub cv: f64,
    /// 5 % of the requests are of clients with a larger one; it is lognormal over requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cv_p95: Option<f64>,
    /// The distribution of a client's gaps.
    #[serde(default)]
    pub shape: GapShape,
}

/// The distribution of gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapShape {
    /// Gamma.
    #[default]
    Gamma,
    /// Weibull: for the same coefficient of variation fewer of the shortest gaps and a longer tail.
    Weibull,
}

/// Bursts with nothing between, both of exponentially distributed length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnOff {
    /// Mean length of a burst; while it lasts the rate is `(on + off) / on` times as high.
    pub on: HumanDuration,
    /// Mean time between bursts.
    pub off: HumanDuration,
}

/// A factor on the rate: lognormal, of mean 1, with memory. It steps five times in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flicker {
    /// Standard deviation of its logarithm.
    pub sd: f64,
    /// After so long the correlation has fallen to 1/e.
    pub memory: HumanDuration,
}

/// A factor on the rate by slots of 10 minutes: lognormal, of mean 1, going back to it; and jumps that fade.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Standard deviation of the change of its logarithm from one 10 minutes to the next; 0.04 and 0.07 were measured.
    #[serde(default = "default_change")]
    pub change: f64,
    /// After so long the correlation has fallen to 1/e; the longer, the further the level wanders.
    #[serde(default = "default_memory")]
    pub memory: HumanDuration,
    /// How many jumps there are in a week, on average.
    #[serde(default)]
    pub jumps_per_week: f64,
    /// By what factor the rate jumps up.
    #[serde(default = "default_jump")]
    pub jump: f64,
    /// After so long the jump's logarithm has fallen to 1/e.
    #[serde(default = "default_decay")]
    pub jump_decay: HumanDuration,
}

const fn one() -> f64 {
    1.0
}
const fn default_change() -> f64 {
    0.05
}
const fn default_memory() -> HumanDuration {
    HumanDuration::from_secs(3 * 3_600)
}
const fn default_jump() -> f64 {
    2.0
}
const fn default_decay() -> HumanDuration {
    HumanDuration::from_secs(1_800)
}

impl Noise {
    /// The standard deviation of the logarithm around its level, jumps apart: changes from slot to slot have twice the
    /// variance that one slot forgets of the other.
    #[must_use]
    pub fn log_sd(&self) -> f64 {
        let kept = (-600.0 / self.memory.as_secs_f64().max(1.0)).exp();
        self.change / (2.0 * (1.0 - kept)).sqrt()
    }
}
