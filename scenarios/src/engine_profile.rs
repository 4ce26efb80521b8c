//! How fast one replica is: coefficients of the step time, KV cache size, scheduler limits.
//!
//! ```text
//! form "max":    t = max(c0, c_tok * (prefill + decoding)) + c_seq * decoding + c_kv * context + c_attn * pairs
//! form "linear": t = c0 + c_tok * (prefill + decoding)     + c_seq * decoding + c_kv * context + c_attn * pairs
//! ```
//! `prefill` prompt tokens computed in the step, `decoding` sequences that emit a token, `context` the sum of their
//! contexts, `pairs` the sum over prefill chunks of `chunk * (context before it + chunk / 2)`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;

/// The words by which the source of a profile says that it was computed from a data sheet.
pub const PRESET_MARK: &str = "roofline preset";

/// The words between which the source of a preset says how far such presets were off.
pub(crate) const PRESET_ERROR_MARKS: (&str, &str) =
    ("presets like it were ", " on models it was not fitted to");

/// One replica's engine: step time, memory, scheduler. `source` says where the numbers come from and is printed with
/// every result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineProfile {
    /// Where the numbers come from: a measurement, a fit, a data sheet, a guess.
    pub source: String,
    /// Shape of the step time.
    #[serde(default)]
    pub form: StepForm,
    /// `max`: the shortest a step can be (weights read once, launch overhead); `linear`: its constant part.
    pub c0_ms: f64,
    /// Per token computed in the step, prompt or output.
    pub c_tok_us: f64,
    /// Per decoding sequence.
    #[serde(default)]
    pub c_seq_us: f64,
    /// Per token of context of the decoding sequences.
    #[serde(default)]
    pub c_kv_us: f64,
    /// Per (new token, earlier token) pair of a prefill chunk.
    #[serde(default)]
    pub c_attn_us_per_token2: f64,
    /// KV cache blocks that fit beside the weights.
    pub kv_blocks: u32,
    /// Tokens a KV block holds.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    /// Most sequences in a step (vLLM `--max-num-seqs`).
    #[serde(default = "default_max_num_seqs")]
    pub max_num_seqs: u32,
    /// Most tokens computed in a step (vLLM `--max-num-batched-tokens`).
    #[serde(default = "default_max_num_batched_tokens")]
    pub max_num_batched_tokens: u32,
    /// When the next step's batch is fixed.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// How much KV room a request needs to be admitted.
    #[serde(default)]
    pub reserve: KvReservation,
    /// Keep KV blocks of earlier prompts and answers, and reuse those that a new prompt begins with (vLLM
    /// `--enable-prefix-caching`, its default; off here). Only sessions, shared system prompts and Mooncake traces say which
    /// prompts share their beginnings. The cache is empty at the start of the traffic and after each restart.
    #[serde(default, skip_serializing_if = "is_off")]
    pub prefix_caching: bool,
    /// Delays outside the engine: HTTP, tokenising, detokenising.
    #[serde(default)]
    pub front_end: FrontEnd,
    /// The measurement behind it; none for data sheets and guesses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

#[expect(clippy::trivially_copy_pass_by_ref)] // serde wants it so
const fn is_off(flag: &bool) -> bool {
    !*flag
}
const fn default_block_size() -> u32 {
    16
}
const fn default_max_num_seqs() -> u32 {
    256
}
const fn default_max_num_batched_tokens() -> u32 {
    2048
}

/// Shape of the step time; see the module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepForm {
    /// A floor, passed once there is enough to compute. Shows the overload cliff.
    #[default]
    Max,
    /// A plain sum, as older calibrations are written.
    Linear,
}

/// When the next step's batch is fixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// When the step before has ended.
    Sync,
    /// While the step before still runs: a one-deep pipeline, vLLM's newer default.
    #[default]
    Async,
}

/// How much KV room a request needs to be admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KvReservation {
    /// Room for its whole prompt, as newer vLLM.
    #[default]
    WholePrompt,
    /// Room for the chunk computed in this step, as older vLLM.
    Chunk,
}

/// Delays outside the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FrontEnd {
    /// Before a request can be scheduled.
    pub inbound_ms: f64,
    /// After a token is computed, until the client has it.
    pub outbound_ms: f64,
    /// Each delay is drawn from `1 - jitter .. 1 + jitter` times its value; equal delays would keep requests in cohorts.
    pub jitter: f64,
}

impl Default for FrontEnd {
    fn default() -> Self {
        Self { inbound_ms: 2.9, outbound_ms: 2.9, jitter: 0.2 }
    }
}

impl EngineProfile {
    /// The profiles that come with the program: name and TOML text, whose comments show the arithmetic.
    pub const BUILT_IN: &[(&str, &str)] = &[
        ("a100-llama-3.1-8b", include_str!("../profiles/a100-llama-3.1-8b.toml")),
        ("h100-qwen3-14b", include_str!("../profiles/h100-qwen3-14b.toml")),
    ];

    /// The built-in profile of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let text = Self::built_in_text(name)?;
        // A test parses every built-in profile, so a failure here can't reach a user.
        toml::from_str(text).ok()
    }

    /// Whether this source of a profile says that the profile, or what it was changed from, is a preset.
    #[must_use]
    pub fn source_is_preset(source: &str) -> bool {
        source.contains(PRESET_MARK)
    }

    /// How far presets like the one that this source is of were off where they were measured, in words.
    #[must_use]
    pub fn preset_error(source: &str) -> Option<&str> {
        let (begin, end) = PRESET_ERROR_MARKS;
        let said = source.split_once(begin)?.1;
        Some(&said[..said.find(end)? + end.len()])
    }

    pub(crate) fn built_in_text(name: &str) -> Option<&'static str> {
        Self::BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }
}
