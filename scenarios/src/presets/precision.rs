//! Number formats: how many bits a weight takes, and at which of a GPU's rates it is multiplied.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PresetError;
use super::gpus::Gpu;
use super::names::{find, plain};

/// How weights are stored. Embeddings, the output head, norms and routers stay in 16 bits in the quantised ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 16 bits.
    Bf16,
    /// 16 bits.
    Fp16,
    /// 8 bits; products in FP8 where the GPU has it, else in bf16.
    Fp8,
    /// 4 bits and an 8-bit scale for 32 weights. In a mixture of experts the experts alone, as gpt-oss is published.
    /// Activations stay in bf16, and so do the products.
    Mxfp4,
    /// 4 bits and an 8-bit scale for 16 weights; products in FP4 where the GPU has it, else in bf16.
    Nvfp4,
    /// 4 bits, a 16-bit scale and a 4-bit zero for 128 weights (AWQ, GPTQ); products in bf16.
    Int4,
}

impl Precision {
    const ALL: [(&'static str, Self); 6] = [
        ("bf16", Self::Bf16),
        ("fp16", Self::Fp16),
        ("fp8", Self::Fp8),
        ("mxfp4", Self::Mxfp4),
        ("nvfp4", Self::Nvfp4),
        ("int4", Self::Int4),
    ];

    /// Bits of one weight, its share of the scales included.
    #[must_use]
    pub const fn bits(self) -> f64 {
        match self {
            Self::Bf16 | Self::Fp16 => 16.0,
            Self::Fp8 => 8.0,
            Self::Mxfp4 => 4.0 + 8.0 / 32.0,
            Self::Nvfp4 => 4.0 + 8.0 / 16.0,
            Self::Int4 => 4.0 + 20.0 / 128.0,
        }
    }

    /// The rate of matrix products with such weights, 10^12 operations a second, and its name.
    #[must_use]
    pub fn rate(self, gpu: &Gpu) -> (f64, &'static str) {
        match (self, gpu.fp8_tflops, gpu.fp4_tflops) {
            (Self::Fp8, Some(rate), _) => (rate, "fp8"),
            (Self::Nvfp4, _, Some(rate)) => (rate, "fp4"),
            _ => (gpu.bf16_tflops, "bf16"),
        }
    }

    /// Reads `auto` as `None`.
    ///
    /// # Errors
    /// When the text is neither `auto` nor a format.
    pub fn or_auto(text: &str) -> Result<Option<Self>, PresetError> {
        if plain(text) == "auto" { Ok(None) } else { text.parse().map(Some) }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, precision)| precision == self).map_or("", |(name, _)| name);
        out.pad(name)
    }
}

impl FromStr for Precision {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Self, PresetError> {
        let wanted = match plain(text).as_str() {
            "bfloat16" => "bf16".to_owned(),
            "float16" | "half" => "fp16".to_owned(),
            other => other.to_owned(),
        };
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        find(&wanted, &names).map(|index| Self::ALL[index].1).map_err(|help| PresetError {
            key: "dtype",
            problem: format!("no weights are stored as `{text}`"),
            help: format!("{help}; or `auto`, as the checkpoint is published"),
        })
    }
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvPrecision {
    /// 16 bits, as activations are.
    #[default]
    Auto,
    /// 8 bits.
    Fp8,
}

impl KvPrecision {
    /// Bytes of one number.
    #[must_use]
    pub const fn bytes(self) -> f64 {
        match self {
            Self::Auto => 2.0,
            Self::Fp8 => 1.0,
        }
    }
}

impl FromStr for KvPrecision {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Self, PresetError> {
        match plain(text).as_str() {
            "auto" | "bf16" | "fp16" | "bfloat16" | "float16" => Ok(Self::Auto),
            "fp8" | "fp8e4m3" | "fp8e5m2" => Ok(Self::Fp8),
            _ => Err(PresetError {
                key: "kv_dtype",
                problem: format!("no KV cache is stored as `{text}`"),
                help: "known are `auto` (16 bits) and `fp8`".into(),
            }),
        }
    }
}
