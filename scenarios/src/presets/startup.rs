//! How long a start takes, phase by phase.
//!
//! The lines below were laid through vLLM 0.10.1.1 in thirteen starts on an H100 NVL and an L40S, models of 0.5 to 14
//! billion parameters in 16 bits (upb-cn/vllm-startup-profiler, arXiv 2606.07362). Compile phases go with the number of
//! layers, loading with bytes. Nothing larger, no group of GPUs and no newer vLLM is in them: `docs/presets.md` shows starts
//! that took several times as long.

use serde::Serialize;

use super::Preset;

/// What the recorded machine's disk gave.
pub const DISK_GB_PER_S: f64 = 0.54;
/// What copying from the page cache to one GPU gave.
const PAGE_CACHE_GB_PER_S: f64 = 8.2;

/// One phase of a start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// What happens.
    pub name: &'static str,
    /// How long it takes with weights in the page cache and compiled code on disk.
    pub warm_s: f64,
    /// How long it takes with neither.
    pub cold_s: f64,
    /// How that was reckoned.
    pub reckoned: String,
}

/// A start, warm (weights in the page cache, compiled code on disk) and cold (neither).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartUp {
    /// In their order.
    pub phases: Vec<Phase>,
    /// All of them, warm.
    pub warm_s: f64,
    /// All of them, cold.
    pub cold_s: f64,
}

impl Preset {
    /// The start's phases; `disk_gb_per_s` is what the disk with the weights gives.
    #[must_use]
    pub fn start_up(&self, disk_gb_per_s: f64) -> StartUp {
        let layers = f64::from(self.model.layers);
        let fit = self.fit();
        let same =
            |name, seconds: f64, reckoned: String| Phase { name, warm_s: seconds, cold_s: seconds, reckoned };
        let by_layers = |from: f64, each: f64| from + each * layers;
        let phases = vec![
            same("framework", 8.5, "8.5 s: Python, imports, CUDA".into()),
            Phase {
                name: "weights",
                warm_s: fit.weights_bytes_per_gpu / 1e9 / PAGE_CACHE_GB_PER_S,
                // The group's GPUs read different parts from one disk.
                cold_s: fit.weights_bytes / 1e9 / disk_gb_per_s,
                reckoned: format!("page cache {PAGE_CACHE_GB_PER_S} GB/s, disk {disk_gb_per_s} GB/s"),
            },
            same("graph trace", by_layers(0.35, 0.16), "0.35 s + 0.16 s a layer (dynamo)".into()),
            Phase {
                name: "compile",
                warm_s: by_layers(0.1, 0.14),
                cold_s: by_layers(1.8, 0.50),
                reckoned: "0.1 s + 0.14 s a layer; cold 1.8 s + 0.5 s".into(),
            },
            same("KV profiling", 2.0, "2 s".into()),
            same("graph capture", 0.05 * layers, "0.05 s a layer".into()),
            same("the rest", 1.3, "1.3 s".into()),
        ];
        StartUp {
            warm_s: phases.iter().map(|phase| phase.warm_s).sum(),
            cold_s: phases.iter().map(|phase| phase.cold_s).sum(),
            phases,
        }
    }
}
