//! What kernels reach of a data sheet's figures, by GPU generation and number format; and how far presets at these
//! efficiencies are off on models that they were not fitted to.
//!
//! The numbers are data (`presets/efficiencies.toml`): `calibrate`'s comparison with measured servers writes them, and
//! `docs/presets.md` says how. What was not measured takes the entry without a generation, a fit to one H100.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gpus::Generation;
use crate::engine_profile::PRESET_ERROR_MARKS;

const LIST: &str = include_str!("../../presets/efficiencies.toml");

/// Shares of a sheet's figures, and what each step costs besides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efficiencies {
    /// Share of the memory bandwidth that reading weights and KV cache gets.
    pub bandwidth: f64,
    /// Share of the tensor cores' rate that large matrix products get.
    pub flop: f64,
    /// The same of the experts' products, where a token meets a few of many.
    pub expert_flop: f64,
    /// Share of the bf16 rate that attention over a long prompt gets.
    pub attention: f64,
    /// Of each step: scheduling that is not hidden.
    pub step_ms: f64,
    /// Of each layer of each step: kernels too short to fill the GPU.
    pub layer_us: f64,
    /// Of each decoding sequence of a step: sampling and what the host does.
    pub sequence_us: f64,
    /// The same of each layer: attention's kernels.
    pub sequence_layer_us: f64,
    /// The latency of one all-reduce of few bytes, over NVLink.
    pub nvlink_all_reduce_us: f64,
    /// The same over PCIe.
    pub pcie_all_reduce_us: f64,
    /// Share of a link's rate that an all-reduce gets.
    pub link: f64,
    /// Outside the engine, of each request: half on the way in, half on the way out.
    pub front_end_ms: f64,
}

/// Errors of one latency, of all rows held out, in percent of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffBy {
    /// Median of the errors without their signs.
    pub median: f64,
    /// Their 90th percentile.
    pub p90: f64,
    /// Median of the errors with their signs.
    pub bias: f64,
}

/// How far presets were off on models that the efficiencies were not fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Measurements.
    pub rows: u32,
    /// Models, each held out in turn.
    pub models: Vec<String>,
    /// Mean time to the first token.
    pub ttft: OffBy,
    /// Mean time of a later token.
    pub tpot: OffBy,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efficiency {
    /// The GPUs it is of; `None`: those without an entry of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The formats of the matrix products it is of (`bf16`, `fp8`, `fp4`); empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Where the numbers come from, in a few words.
    pub source: String,
    /// The pairs of GPU and model that it was fitted to, as `H100 qwen3-32b`; empty: it was fitted to none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fitted_to: Vec<String>,
    /// The numbers.
    pub reached: Efficiencies,
    /// How far off; `None`: nobody measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    efficiency: Vec<Efficiency>,
}

impl Efficiency {
    /// Whether this pair of GPU and model had a part in the numbers.
    #[must_use]
    pub fn was_fitted_to(&self, gpu: &str, model: &str) -> bool {
        let pair = format!("{gpu} {model}");
        self.fitted_to.contains(&pair)
    }

    /// All entries.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // A test parses the list, so a failure here can't reach a user.
        toml::from_str::<List>(LIST).map_or_else(|_| Vec::new(), |list| list.efficiency)
    }

    /// The entry of that generation and format.
    #[must_use]
    pub fn of(generation: Generation, format: &str) -> Self {
        let all = Self::all();
        let own = all.iter().find(|entry| {
            entry.generation == Some(generation)
                && (entry.formats.is_empty() || entry.formats.iter().any(|known| known == format))
        });
        own.cloned().unwrap_or_else(|| Self::usual(all))
    }

    /// The entry of whatever was not measured.
    #[must_use]
    pub fn not_measured() -> Self {
        Self::usual(Self::all())
    }

    fn usual(all: Vec<Self>) -> Self {
        // A test holds that the list has it.
        all.into_iter().find(|entry| entry.generation.is_none()).expect("the list ends with a general entry")
    }
}

impl fmt::Display for HeldOut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "off in TPOT by a median of {:.0} % (p90 {:.0} %) and in TTFT by {:.0} % (p90 {:.0} %){}",
            self.tpot.median, self.tpot.p90, self.ttft.median, self.ttft.p90, PRESET_ERROR_MARKS.1
        )
    }
}
