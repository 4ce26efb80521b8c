//! Rollouts of real processes behind real balancers.

// Helpers of tests unwrap as tests do, and say what was counted or skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod clock;
mod compose;
mod conformance;
mod crash;
mod demo;
mod docker;
mod dockerd;
mod faults;
mod fleet;
mod foreign;
mod gguf;
mod hooks;
mod llama;
mod orders;
mod outside;
mod promise;
mod rollouts;
mod systemctl;
mod systemd;

pub(crate) use faults::fake_nvml;
