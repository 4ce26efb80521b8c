//! Which GPU a server runs on: as told, or as the driver knows it where the server is on this machine.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use slackwater_exec::gpu::{Device, Gpus, NvmlGpus};
use slackwater_exec::procfs;
use slackwater_measure::Server;
use slackwater_scenarios::presets::Gpu;

use crate::calibrate_args::Calibrate;
use crate::output;

/// A GPU, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identified {
    /// For a person, and for `[calibration]`.
    pub(crate) words: Option<String>,
    /// Its name among the presets, where it has one.
    pub(crate) preset: Option<String>,
    /// How many of them; 0: not known.
    pub(crate) count: u32,
}

/// The GPU that `--gpu` names, else that of a server on this machine.
pub(crate) fn identify(arguments: &Calibrate, server: &Server) -> Identified {
    if let Some(gpu) = as_told(arguments) {
        return gpu;
    }
    if !is_here(server.address.ip()) {
        return Identified::default();
    }
    let Ok(gpus) = NvmlGpus::open(None) else { return Identified::default() };
    let (identified, said) = of_process(&gpus, server.address);
    if let Some(said) = said {
        output::say(&said);
    }
    identified
}

/// The GPU that `--gpu` names.
pub(crate) fn as_told(arguments: &Calibrate) -> Option<Identified> {
    let gpu = arguments.gpu.clone()?;
    Some(Identified { words: Some(gpu.clone()), preset: Some(gpu), count: 0 })
}

/// Whether an address is one of this machine: only those can be bound.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// The GPUs whose memory is held by the process that listens there; where that can't be seen, the only kind there is.
fn of_process(gpus: &NvmlGpus, address: SocketAddr) -> (Identified, Option<String>) {
    let devices = gpus.devices();
    let tree = procfs::listener(address.port()).map(procfs::tree).unwrap_or_default();
    let holds = |device: &&Device| gpus.holders(device.index).iter().any(|pid| tree.contains(pid));
    let held: Vec<&Device> = devices.iter().filter(holds).collect();
    // A container's processes have other numbers, or may not be looked at.
    let (of, count) =
        if held.is_empty() { (devices.iter().collect(), 0) } else { (held.clone(), held.len()) };
    let count = u32::try_from(count).unwrap_or(0);
    let Some(first) = of.first() else { return (Identified::default(), None) };
    if of.iter().any(|device| device.name != first.name) {
        let said = "there are different GPUs here, and it can't be seen which of them the server has: name it with --gpu";
        return (Identified::default(), Some(said.to_owned()));
    }
    let times = if count > 1 { format!("{count} x ") } else { String::new() };
    let words = format!("{times}{}, {} MiB, driver {}", first.name, first.memory_mib, first.driver);
    let preset = Gpu::of_device(&first.name, first.memory_mib).map(|gpu| gpu.name);
    let begins = preset.as_ref().map_or_else(
        || "no preset is known to be the same; --gpu names one".to_owned(),
        |preset| format!("its preset is {preset}"),
    );
    (Identified { words: Some(words.clone()), preset, count }, Some(format!("GPU: {words}; {begins}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        assert!(is_here("127.0.0.1".parse().unwrap()) && is_here("::1".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()), "an address of documentation");
    }
}
