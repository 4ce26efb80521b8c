//! GPUs: how much memory is free, who holds it, is one in trouble.

mod nvml;

use std::sync::Arc;

pub use nvml::NvmlGpus;

use crate::deployment::{Deployment, GpuKind};

/// A GPU as its driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// All of its memory, MiB.
    pub memory_mib: u64,
    /// The driver's version.
    pub driver: String,
}

/// What can be asked of the GPUs of this machine, by index.
pub trait Gpus: Send + Sync {
    /// Free memory, MiB.
    ///
    /// # Errors
    /// In words, when it can't be read.
    fn free_mib(&self, gpu: u32) -> Result<u64, String>;

    /// The processes that hold its memory, by PID.
    fn holders(&self, gpu: u32) -> Vec<u32>;

    /// What is wrong with it: uncorrected memory errors, throttling for heat or power.
    fn troubles(&self, gpu: u32) -> Vec<String>;
}

/// The GPUs of a deployment; an error says why they can't be asked.
///
/// # Errors
/// When NVML is asked for and can't be had.
pub fn adapter(deployment: &Deployment) -> Result<Option<Arc<dyn Gpus>>, String> {
    match deployment.gpu.kind {
        GpuKind::None => Ok(None),
        GpuKind::Nvml => NvmlGpus::open(deployment.gpu.library.as_deref())
            .map(|gpus| Some(Arc::new(gpus) as Arc<dyn Gpus>)),
    }
}
