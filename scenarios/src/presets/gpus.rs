//! The GPUs known by name, and their figures as their vendor publishes them.

use serde::{Deserialize, Serialize};

use super::PresetError;
use super::names::{find, plain};

const LIST: &str = include_str!("../../presets/gpus.toml");

/// One GPU of a vendor's sheet; dense figures, FP32 accumulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Its name here.
    pub name: String,
    /// Whose tensor cores it has.
    pub generation: Generation,
    /// Memory as the driver lists it.
    pub memory_mib: u32,
    /// Memory bandwidth, 10^9 bytes a second.
    pub bandwidth_gb_s: f64,
    /// Dense matrix products in bf16 or fp16, 10^12 operations a second.
    pub bf16_tflops: f64,
    /// The same in FP8, where the tensor cores have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8_tflops: Option<f64>,
    /// The same in FP4, where the tensor cores have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp4_tflops: Option<f64>,
    /// What joins it to the other GPUs of a tensor-parallel group.
    pub link: String,
    /// That link's rate in one direction, 10^9 bytes a second.
    pub link_gb_s: f64,
    /// Where the figures are published.
    pub source: String,
}

/// Generations that differ in what kernels reach of the sheet's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// A100, RTX 30.
    Ampere,
    /// L4, L40S, RTX 40.
    Ada,
    /// H100, H200.
    Hopper,
    /// B200, B300.
    Blackwell,
    /// RTX 50, RTX PRO.
    RtxBlackwell,
}

impl Generation {
    /// As in a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ampere => "Ampere",
            Self::Ada => "Ada",
            Self::Hopper => "Hopper",
            Self::Blackwell => "Blackwell",
            Self::RtxBlackwell => "RTX Blackwell",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    gpu: Vec<Gpu>,
}

impl Gpu {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // A test parses the list, so a failure here can't reach a user.
        toml::from_str::<List>(LIST).map_or_else(|_| Vec::new(), |list| list.gpu)
    }

    /// The one of that name; case, spaces and hyphens don't matter, nor do "NVIDIA" and "GeForce".
    ///
    /// # Errors
    /// When none has it; the error names the nearest and all.
    pub fn named(name: &str) -> Result<Self, PresetError> {
        let all = Self::all();
        let wanted = plain(name);
        let mut wanted = wanted.as_str();
        for brand in ["nvidia", "geforce"] {
            wanted = wanted.strip_prefix(brand).unwrap_or(wanted);
        }
        let names: Vec<&str> = all.iter().map(|gpu| gpu.name.as_str()).collect();
        find(wanted, &names).map(|index| all[index].clone()).map_err(|help| PresetError {
            key: "gpu",
            problem: format!("no GPU is called `{name}`"),
            help: format!(
                "{help}; for another one, give the engine's own numbers in an [engines.NAME] table"
            ),
        })
    }

    /// Whether the group's link is a PCIe bus.
    #[must_use]
    pub fn is_on_pcie(&self) -> bool {
        self.link.starts_with("PCIe")
    }
}
