//! Peak memory of a run that streams its traffic from the file, in a process of its own.

use std::process::Command;
use std::sync::Arc;

use slackwater_scenarios::Scheduling;
use slackwater_sim::{RunInfo, RunOptions, Setup, World};

use crate::workload::Source;

/// The argument that makes a benchmark's program the child.
pub const CHILD: &str = "--simulate-streaming";

/// What the child found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peak {
    /// Requests simulated.
    pub requests: u64,
    /// Most memory resident at any time, KiB.
    pub kib: u64,
    /// Of the result.
    pub hash: String,
}

/// A line of this process's /proc/self/status, KiB.
#[must_use]
pub fn status_kib(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Simulates a source that streams; nothing of the trace is held.
///
/// # Panics
/// When the simulation fails.
#[must_use]
pub fn simulate_streaming(source: Source) -> (u64, String) {
    let scenario = source.scenario(Scheduling::Async);
    let traffic = scenario.open_traffic().expect("the traffic opens");
    let setup = Arc::new(Setup::new(&scenario).expect("a scenario that can be simulated"));
    let mut world = World::new(setup, traffic, RunOptions::default()).expect("a world");
    world.run().expect("a run");
    let (result, _) = world.finish(RunInfo::default());
    (result.requests.arrived, result.hash)
}

/// The child's side: the line that [`measure`] reads. `None` when this process is not the child.
#[must_use]
pub fn child() -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != CHILD).skip(1);
    let repeat: u32 = arguments.next()?.parse().ok()?;
    let (requests, hash) = simulate_streaming(Source::Trace { repeat });
    Some(format!("{requests} {} {hash}", status_kib("VmHWM").unwrap_or(0)))
}

/// The parent's side: runs this program again as the child.
///
/// # Panics
/// When the child fails.
#[must_use]
pub fn measure(repeat: u32) -> Peak {
    let program = std::env::current_exe().expect("this program's path");
    let output = Command::new(program).args([CHILD, &repeat.to_string()]).output().expect("the child runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut words = said.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("the child said {said:?} and {complaint:?}"));
    let (requests, kib, hash) = (word(), word(), word().to_owned());
    Peak { requests: requests.parse().expect("a count"), kib: kib.parse().expect("a size"), hash }
}
