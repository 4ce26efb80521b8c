//! A version: what a replica serves, and how long it takes to stop and start.

use std::fmt;

use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::engine_profile::EngineProfile;
use crate::time::HumanDuration;

/// What a replica serves before (`[from]`) or after (`[to]`) the rollout. Keys that `[to]` leaves out are those of
/// `[from]`, except the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// How reports call it. Default `old` in `[from]`, `new` in `[to]`.
    #[serde(default)]
    pub name: String,
    /// The engine: the name of a built-in profile or of an `[engines.NAME]` table, or the profile itself.
    /// `{ base = "NAME", ... }` takes a named profile and changes the keys given; `{ gpu = "H100", model = "llama-3.1-8b" }`
    /// computes one from a data sheet and a model's shape; `{ file = "engine.toml" }` reads a measured one.
    #[schemars(schema_with = "engine_schema")]
    pub engine: EngineProfile,
    /// Output tokens of every request are multiplied by this: a more verbose model is above 1.
    #[serde(default = "one")]
    pub output_length_factor: f64,
    /// Every coefficient of the engine's step time is multiplied by this: 1.2 is 20 % slower.
    #[serde(default = "one")]
    pub step_time_factor: f64,
    /// Output tokens that are generated before anything is streamed: a model that thinks in silence. The balancer's
    /// `read_timeout` counts that silence. Latencies do not: as in the engines' own metrics, TTFT is to the first token
    /// generated, silent or not. Absent: every token is streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_tokens: Option<SilentTokens>,
    /// From the stop signal to an idle engine to its last process gone.
    #[serde(default = "default_stop")]
    pub stop: Delay,
    /// From the last process gone to its GPU memory free.
    #[serde(default = "default_gpu_release")]
    pub gpu_release: Delay,
    /// From process start to the first good health answer: imports, weights, compile, graph capture. The default
    /// (60 s, p95 90 s) is between vLLM 0.10 on a 13B model with weights on disk and compile cache warm (75 s) and a
    /// 7B model with it cold (67 s, 48-98 s over six models).
    #[serde(default = "default_startup")]
    pub startup: Delay,
    /// Warm-up prompts after health, before traffic.
    #[serde(default = "default_warm_up")]
    pub warm_up: Delay,
    /// Strategy `swap`: to put the old weights to sleep, load these, and wake. The default is a guess at a model of some 15 GB
    /// read from a local disk at 1.5 GB/s, and says nothing about yours.
    #[serde(default = "default_swap")]
    pub swap: Delay,
    /// What the user's evaluation (`rollout.quality`) finds in a simulation.
    #[serde(default = "passes")]
    pub passes_evaluation: bool,
}

/// How many tokens are silent: a `share` of the output, or lognormal by `median` and `sigma`; always fewer than the output.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SilentTokens {
    /// A share of each request's output, below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// In place of `share`: half of the requests have fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// With `median`: the standard deviation of the logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// The share of requests that think at all.
    #[serde(default = "one")]
    pub requests: f64,
}

impl SilentTokens {
    /// The silent ones of `output` tokens, drawn for the request whose stream this is.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
    pub fn draw(&self, output: u32, random: &mut impl rand::Rng) -> u32 {
        let thinks: f64 = random.random();
        let normal: f64 = random.sample(rand_distr::StandardNormal);
        if thinks >= self.requests {
            return 0;
        }
        let tokens = match (self.share, self.median) {
            (Some(share), _) => f64::from(output) * share,
            (None, median) => median.unwrap_or(0.0) * (self.sigma.unwrap_or(0.0) * normal).exp(),
        };
        (tokens.floor().clamp(0.0, f64::from(u32::MAX)) as u32).min(output.saturating_sub(1))
    }
}

const fn one() -> f64 {
    1.0
}
const fn default_stop() -> Delay {
    Delay::Constant(HumanDuration::from_secs(3))
}
const fn default_gpu_release() -> Delay {
    Delay::Constant(HumanDuration::from_secs(2))
}
const fn default_startup() -> Delay {
    Delay::Lognormal { median: HumanDuration::from_secs(60), p95: HumanDuration::from_secs(90) }
}
const fn default_warm_up() -> Delay {
    Delay::Constant(HumanDuration::from_secs(5))
}

const fn default_swap() -> Delay {
    Delay::Constant(HumanDuration::from_secs(12))
}
const fn passes() -> bool {
    true
}

pub(crate) fn engine_schema(generator: &mut SchemaGenerator) -> Schema {
    let profile = generator.subschema_for::<EngineProfile>();
    let built_in: Vec<&str> = EngineProfile::BUILT_IN.iter().map(|(name, _)| *name).collect();
    let preset: serde_json::Map<String, serde_json::Value> = crate::presets::expand::KEYS
        .into_iter()
        .map(|key| {
            let (kind, meaning) = preset_key(key);
            (key.to_owned(), serde_json::json!({ "type": kind, "description": meaning }))
        })
        .collect();
    json_schema!({
        "description": "A built-in profile's name, the name of an [engines.NAME] table, a whole profile, { base = \"NAME\", ... } to change some keys of a named one, or { gpu = \"H100\", model = \"llama-3.1-8b\", ... } to compute one, or { file = \"engine.toml\", ... } to take what `slackwater calibrate` measured; any key of a profile may stand beside and wins.",
        "anyOf": [
            { "type": "string", "examples": built_in },
            profile,
            { "type": "object", "properties": { "base": { "type": "string" } }, "required": ["base"] },
            { "type": "object", "properties": preset, "required": ["gpu", "model"] },
            {
                "type": "object",
                "properties": { "file": {
                    "type": "string",
                    "description": "The path of an engine profile, relative to the scenario's folder."
                } },
                "required": ["file"]
            }
        ]
    })
}

/// The type and the meaning of a preset's key.
fn preset_key(key: &str) -> (&'static str, &'static str) {
    match key {
        "gpu" => ("string", "A GPU's name; `slackwater presets list` shows the known ones."),
        "model" => ("string", "A model's name, or the path of its Hugging Face config.json."),
        "tensor_parallel" => {
            ("integer", "GPUs a replica spans. Default, and no other: fleet.tensor_parallel.")
        }
        "dtype" => (
            "string",
            "How weights are stored: auto (default: as published), bf16, fp16, fp8, mxfp4, nvfp4, int4.",
        ),
        "kv_dtype" => ("string", "How keys and values are stored: auto (default: 16 bits) or fp8."),
        "memory_utilization" => ("number", "The share of a GPU's memory the engine may take. Default 0.9."),
        "context_tokens" => {
            ("integer", "With sliding windows: the context at which their share is taken. Default 2048.")
        }
        _ => (
            "integer",
            "With experts: the tokens of a step, which decide how many experts are read. Default 32.",
        ),
    }
}

/// The standard normal's 95 % point.
const Z95: f64 = 1.644_853_626_951_472_2;

/// How long a phase takes: a constant (`"5s"`), or lognormal (`{ median = "60s", p95 = "90s" }`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Delay {
    /// Always the same.
    Constant(HumanDuration),
    /// Lognormal, by its median and 95 % point.
    Lognormal {
        /// Half of the draws are below.
        median: HumanDuration,
        /// 95 % of the draws are below.
        p95: HumanDuration,
    },
}

impl Delay {
    /// One draw. A lognormal draw is capped at 200 days, like every duration.
    pub fn sample(&self, random: &mut impl rand::Rng) -> HumanDuration {
        match *self {
            Self::Constant(value) => value,
            Self::Lognormal { median, p95 } => {
                let sigma = self.sigma(median, p95);
                let normal: f64 = random.sample(rand_distr::StandardNormal);
                HumanDuration::from_secs_f64(median.as_secs_f64() * (sigma * normal).exp())
                    .unwrap_or(HumanDuration::from_secs(200 * 86_400))
            }
        }
    }

    /// The median.
    #[must_use]
    pub const fn median(&self) -> HumanDuration {
        match *self {
            Self::Constant(value) => value,
            Self::Lognormal { median, .. } => median,
        }
    }

    /// The 95 % point.
    #[must_use]
    pub const fn p95(&self) -> HumanDuration {
        match *self {
            Self::Constant(value) => value,
            Self::Lognormal { p95, .. } => p95,
        }
    }

    /// The mean of the draws, in seconds.
    #[must_use]
    pub fn mean_s(&self) -> f64 {
        match *self {
            Self::Constant(value) => value.as_secs_f64(),
            Self::Lognormal { median, p95 } => {
                median.as_secs_f64() * (0.5 * self.sigma(median, p95).powi(2)).exp()
            }
        }
    }

    /// A draw met in proportion to its length, in seconds: for a lognormal another one, its median larger by the square of
    /// its sigma in the logarithm. `normal` is standard normal.
    #[must_use]
    pub fn length_biased_s(&self, normal: f64) -> f64 {
        match *self {
            Self::Constant(value) => value.as_secs_f64(),
            Self::Lognormal { median, p95 } => {
                let sigma = self.sigma(median, p95);
                median.as_secs_f64() * (sigma * sigma + sigma * normal).exp()
            }
        }
    }

    fn sigma(&self, median: HumanDuration, p95: HumanDuration) -> f64 {
        (p95.as_secs_f64() / median.as_secs_f64()).ln() / Z95
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LognormalKeys {
    median: HumanDuration,
    p95: HumanDuration,
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DelayVisitor)
    }
}

struct DelayVisitor;

impl<'de> Visitor<'de> for DelayVisitor {
    type Value = Delay;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a duration such as \"60s\", or { median = \"60s\", p95 = \"90s\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Delay, E> {
        text.parse().map(Delay::Constant).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Delay, E> {
        HumanDuration::from_secs_f64(seconds)
            .map(Delay::Constant)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Delay, E> {
        self.visit_f64(seconds as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Delay, A::Error> {
        let keys = LognormalKeys::deserialize(MapAccessDeserializer::new(map))?;
        if keys.median.is_zero() || keys.p95 < keys.median {
            return Err(de::Error::custom("a lognormal delay needs 0 < median <= p95"));
        }
        Ok(Delay::Lognormal { median: keys.median, p95: keys.p95 })
    }
}

impl JsonSchema for Delay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Delay".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<HumanDuration>();
        json_schema!({
            "description": "How long a phase takes: a constant, or a lognormal by its median and 95 % point.",
            "anyOf": [duration, {
                "type": "object",
                "properties": { "median": duration, "p95": duration },
                "required": ["median", "p95"],
                "additionalProperties": false
            }]
        })
    }
}
