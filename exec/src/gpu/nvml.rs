//! NVIDIA's management library, loaded while running: without a driver the executor works too.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};

use super::{Device, Gpus};

/// NVML.
#[derive(Debug)]
pub struct NvmlGpus {
    nvml: Nvml,
}

impl NvmlGpus {
    /// Loads the library, by this path or its usual names.
    ///
    /// # Errors
    /// When there is none, or it finds no driver.
    pub fn open(library: Option<&Path>) -> Result<NvmlGpus, String> {
        let paths: Vec<&Path> = match library {
            Some(path) => vec![path],
            // The unversioned name comes with the development package only.
            None => vec![Path::new("libnvidia-ml.so.1"), Path::new("libnvidia-ml.so")],
        };
        let mut why = String::new();
        for path in paths {
            match Nvml::builder().lib_path(path.as_os_str()).init() {
                Ok(nvml) => return Ok(NvmlGpus { nvml }),
                Err(error) => why = format!("{}: {error}", path.display()),
            }
        }
        Err(format!("NVML can't be used ({why})"))
    }

    /// Every GPU that answers.
    pub fn devices(&self) -> Vec<Device> {
        let driver = self.nvml.sys_driver_version().unwrap_or_else(|_| "unknown".to_owned());
        let device = |index: u32| {
            let device = self.nvml.device_by_index(index).ok()?;
            let memory_mib = device.memory_info().ok()?.total >> 20;
            Some(Device { index, name: device.name().ok()?, memory_mib, driver: driver.clone() })
        };
        (0..self.nvml.device_count().unwrap_or(0)).filter_map(device).collect()
    }
}

impl Gpus for NvmlGpus {
    fn free_mib(&self, gpu: u32) -> Result<u64, String> {
        let memory = self.nvml.device_by_index(gpu).and_then(|device| device.memory_info());
        memory
            .map(|memory| memory.free >> 20)
            .map_err(|error| format!("GPU {gpu}: its memory can't be read: {error}"))
    }

    fn holders(&self, gpu: u32) -> Vec<u32> {
        let Ok(device) = self.nvml.device_by_index(gpu) else { return Vec::new() };
        let mut pids: Vec<u32> = device
            .running_compute_processes()
            .unwrap_or_default()
            .iter()
            .map(|process| process.pid)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn troubles(&self, gpu: u32) -> Vec<String> {
        let device = match self.nvml.device_by_index(gpu) {
            Ok(device) => device,
            Err(error) => return vec![format!("GPU {gpu} does not answer: {error}")],
        };
        let mut troubles = Vec::new();
        // Boards without error correction, and calls this driver does not have, say nothing.
        if let Ok(errors) = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
            && errors > 0
        {
            troubles.push(format!("GPU {gpu} has {errors} uncorrected memory errors since it was reset"));
        }
        let hot = ThrottleReasons::HW_SLOWDOWN
            | ThrottleReasons::HW_THERMAL_SLOWDOWN
            | ThrottleReasons::SW_THERMAL_SLOWDOWN
            | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
        if let Ok(reasons) = device.current_throttle_reasons() {
            let named: Vec<&str> = (reasons & hot).iter_names().map(|(name, _)| name).collect();
            if !named.is_empty() {
                troubles.push(format!("GPU {gpu} is slowed down: {}", named.join(", ")));
            }
        }
        troubles
    }
}
