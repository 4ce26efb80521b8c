//! Presets: an engine profile from a GPU's data sheet and a model's shape, for whoever has not measured yet.
//!
//! ```text
//! gpus.toml ---------> Gpu --+
//!                            +--> Preset --+--> fit: weights, KV tokens left, or why it does not fit
//! models.toml --+--> Model --+             +--> roofline: coefficients of the step time -> EngineProfile
//! config.json --+        Setting           +--> start-up by phases
//! ```
//!
//! A roofline with efficiencies taken from one recorded server is a first guess, and every result that rests on one says
//! so; `docs/presets.md` shows how far it is off on servers that were recorded. Floating point here never meets a time
//! that decides: the profile's coefficients are rounded to picoseconds like a measured one's.

pub(crate) mod expand;

mod config_json;
mod efficiency;
mod fit;
mod gpus;
mod models;
mod names;
mod precision;
mod profile_file;
mod roofline;
mod startup;

use std::path::Path;

use thiserror::Error;

pub use efficiency::{Efficiencies, Efficiency, HeldOut, OffBy};
pub use fit::Fit;
pub use gpus::{Generation, Gpu};
pub use models::{Experts, Family, Model, Parameters, Window};
pub use precision::{KvPrecision, Precision};
pub use roofline::{Coefficients, Roofline, Speed};
pub use startup::{DISK_GB_PER_S, Phase, StartUp};

/// Why there is no preset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}\n  help: {help}")]
pub struct PresetError {
    /// The key, or the argument, at fault.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

/// How the model is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// GPUs that one replica spans.
    pub tensor_parallel: u32,
    /// How the weights are stored; `None`: as published.
    pub dtype: Option<Precision>,
    /// How keys and values are stored.
    pub kv_dtype: KvPrecision,
    /// The share of a GPU's memory the engine may take (vLLM `--gpu-memory-utilization`).
    pub memory_utilization: f64,
    /// The context at which a sliding window's share is taken; nothing else depends on it.
    pub context_tokens: u32,
    /// The tokens a step of a mixture of experts is taken to have; nothing else depends on it.
    pub experts_batch: u32,
    /// Most sequences in a step.
    pub max_num_seqs: u32,
    /// Most tokens in a step.
    pub max_num_batched_tokens: u32,
    /// Tokens a KV block holds.
    pub block_size: u32,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            tensor_parallel: 1,
            dtype: None,
            kv_dtype: KvPrecision::Auto,
            memory_utilization: 0.9,
            context_tokens: 2048,
            experts_batch: 32,
            max_num_seqs: 256,
            max_num_batched_tokens: 2048,
            block_size: 16,
        }
    }
}

/// A GPU, a model, and how the one runs on the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The GPU.
    pub gpu: Gpu,
    /// The model.
    pub model: Model,
    /// How it runs.
    pub setting: Setting,
}

impl Preset {
    /// Checks that the model can be split so, and the numbers' ranges. Whether it fits is [`Preset::fit`]'s.
    ///
    /// # Errors
    /// When it can't be split, or a number is out of range.
    pub fn new(gpu: Gpu, model: Model, setting: Setting) -> Result<Self, PresetError> {
        let width = setting.tensor_parallel;
        let out_of_range = |key, value: &dyn std::fmt::Display, range: &str| {
            Err(PresetError {
                key,
                problem: format!("{value} is out of range"),
                help: format!("give a number {range}"),
            })
        };
        if !(1..=64).contains(&width) {
            return out_of_range("tensor_parallel", &width, "from 1 to 64");
        }
        if !(setting.memory_utilization > 0.0 && setting.memory_utilization <= 1.0) {
            return out_of_range("memory_utilization", &setting.memory_utilization, "above 0, up to 1");
        }
        for (key, value, most) in [
            ("context_tokens", setting.context_tokens, 100_000_000),
            ("experts_batch", setting.experts_batch, 1_000_000),
            ("max_num_seqs", setting.max_num_seqs, 1_000_000),
            ("max_num_batched_tokens", setting.max_num_batched_tokens, 100_000_000),
            ("block_size", setting.block_size, 1_000_000),
        ] {
            if !(1..=most).contains(&value) {
                return out_of_range(key, &value, &format!("from 1 to {most}"));
            }
        }
        let even = model.heads.is_multiple_of(width)
            && (model.kv_heads.is_multiple_of(width) || width.is_multiple_of(model.kv_heads));
        if !even {
            let fit: Vec<String> = (1..=64)
                .filter(|width| {
                    model.heads.is_multiple_of(*width)
                        && (model.kv_heads.is_multiple_of(*width) || width.is_multiple_of(model.kv_heads))
                })
                .map(|width: u32| width.to_string())
                .collect();
            return Err(PresetError {
                key: "tensor_parallel",
                problem: format!(
                    "{} has {} heads and {} KV heads: they can't be split over {width} GPUs",
                    model.name, model.heads, model.kv_heads
                ),
                help: format!("give {}", fit.join(", ")),
            });
        }
        Ok(Self { gpu, model, setting })
    }

    /// From names as a user gives them; `folder` is where the path of a config.json starts.
    ///
    /// # Errors
    /// When the GPU or the model is not known, or they do not go together.
    pub fn named(gpu: &str, model: &str, folder: &Path, setting: Setting) -> Result<Self, PresetError> {
        Self::new(Gpu::named(gpu)?, Model::named(model, folder)?, setting)
    }

    /// How the weights are stored.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.setting.dtype.unwrap_or(self.model.weights)
    }

    /// In a few words: `llama-3.1-8b in bf16 on 2 x H100`.
    #[must_use]
    pub fn title(&self) -> String {
        let count = match self.setting.tensor_parallel {
            1 => String::new(),
            width => format!("{width} x "),
        };
        format!("{} in {} on {count}{}", self.model.name, self.precision(), self.gpu.name)
    }
}
