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

    /// The one that a driver calls so ("NVIDIA H100 80GB HBM3") and that has so much memory; `None` where none surely is the same: a
    /// "Ti", a "SUPER", a laptop's, one of another size or with another link is another GPU.
    #[must_use]
    pub fn of_device(device: &str, memory_mib: u64) -> Option<Self> {
        const OTHERS: [&str; 7] = ["ti", "super", "laptop", "mobile", "max", "d", "nvl"];
        let words = |name: &str| -> Vec<String> {
            let split = name.split(|letter: char| !letter.is_ascii_alphanumeric());
            split.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect()
        };
        let said = words(device);
        let is = |gpu: &Self| {
            // Its memory stands at the end of some names, and is compared as a number.
            let mut own = words(&gpu.name);
            own.retain(|word| {
                word != "gb" && !(word.len() == 2 && word.bytes().all(|digit| digit.is_ascii_digit()))
            });
            let place = said.windows(own.len()).position(|part| part == own);
            let other = |word: &String| OTHERS.contains(&word.as_str()) && !own.contains(word);
            let link = !said.iter().any(|word| word == "pcie") || gpu.is_on_pcie();
            let size = memory_mib.abs_diff(u64::from(gpu.memory_mib)) * 100 <= 3 * u64::from(gpu.memory_mib);
            place.is_some() && !said.iter().any(other) && link && size
        };
        Self::all().into_iter().find(is)
    }

    /// Whether the group's link is a PCIe bus.
    #[must_use]
    pub fn is_on_pcie(&self) -> bool {
        self.link.starts_with("PCIe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_what_their_driver_calls_them() {
        for (device, memory_mib, expected) in [
            ("NVIDIA H100 80GB HBM3", 81_559, Some("H100")),
            ("NVIDIA H100 PCIe", 81_559, None),
            ("NVIDIA H100 NVL", 95_830, None),
            ("NVIDIA H200", 143_771, Some("H200")),
            ("NVIDIA GH200 480GB", 97_871, None),
            ("NVIDIA A100-SXM4-80GB", 81_920, Some("A100-80")),
            ("NVIDIA A100-SXM4-40GB", 40_960, Some("A100-40")),
            ("NVIDIA L4", 23_034, Some("L4")),
            ("NVIDIA L40S", 46_068, Some("L40S")),
            ("NVIDIA L40", 46_068, None),
            ("NVIDIA GeForce RTX 4090", 24_564, Some("RTX 4090")),
            ("NVIDIA GeForce RTX 4090 D", 24_564, None),
            ("NVIDIA GeForce RTX 4060 Ti", 16_380, Some("RTX 4060 Ti 16 GB")),
            ("NVIDIA GeForce RTX 3060 Ti", 8192, None),
            ("NVIDIA GeForce RTX 5090 Laptop GPU", 24_463, None),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97_887, Some("RTX PRO 6000")),
            ("AMD Instinct MI300X", 196_592, None),
        ] {
            assert_eq!(
                Gpu::of_device(device, memory_mib).map(|gpu| gpu.name).as_deref(),
                expected,
                "{device}"
            );
        }
    }
}
