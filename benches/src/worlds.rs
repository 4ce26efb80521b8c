//! Whole simulations: how fast, and what a fork costs.

use std::sync::Arc;

use slackwater_scenarios::Scheduling;
use slackwater_scenarios::traffic::SharedTrace;
use slackwater_sim::{RunInfo, RunOptions, Setup, SimulationResult, TraceCursor, World};

use crate::workload::Source;

/// A simulation ready to be run any number of times.
#[derive(Debug, Clone)]
pub struct Job {
    setup: Arc<Setup>,
    trace: Arc<SharedTrace>,
    options: RunOptions,
}

impl Job {
    /// Four replicas, least connections, histograms, KV blocks and series on; no rollout.
    ///
    /// # Panics
    /// When the benchmark's scenario can't be simulated.
    #[must_use]
    pub fn new(source: Source, scheduling: Scheduling, trace: &Arc<SharedTrace>) -> Self {
        let setup = Setup::new(&source.scenario(scheduling)).expect("a scenario that can be simulated");
        Self { setup: Arc::new(setup), trace: Arc::clone(trace), options: RunOptions::default() }
    }

    /// The same with another scenario.
    #[must_use]
    pub fn of(setup: Setup, trace: &Arc<SharedTrace>, options: RunOptions) -> Self {
        Self { setup: Arc::new(setup), trace: Arc::clone(trace), options }
    }

    /// Requests a run simulates.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.trace.arrivals.len() as u64
    }

    /// A world at time 0.
    ///
    /// # Panics
    /// When the simulation fails.
    #[must_use]
    pub fn world(&self) -> World<TraceCursor> {
        let cursor = TraceCursor::new(Arc::clone(&self.trace));
        World::new(Arc::clone(&self.setup), cursor, self.options).expect("a world")
    }

    /// A world half-way through its traffic, requests in flight.
    ///
    /// # Panics
    /// When the simulation fails.
    #[must_use]
    pub fn half_way(&self) -> World<TraceCursor> {
        let mut world = self.world();
        let arrivals = &self.trace.arrivals;
        world.run_until(arrivals[arrivals.len() / 2].at_ps).expect("a run");
        world
    }

    /// Runs it from begin to end, result included.
    #[must_use]
    pub fn run(&self) -> SimulationResult {
        run_to_end(self.world())
    }
}

/// Runs a world to its end.
///
/// # Panics
/// When the simulation fails.
#[must_use]
pub fn run_to_end(mut world: World<TraceCursor>) -> SimulationResult {
    world.run().expect("a run");
    world.finish(RunInfo::default()).0
}

/// Checks that a fork and what it was forked from end alike; the hash of both.
///
/// # Panics
/// When they do not.
#[must_use]
pub fn fork_and_compare(job: &Job) -> String {
    let original = job.half_way();
    let fork = original.clone();
    let (original, fork) = (run_to_end(original), run_to_end(fork));
    assert_eq!(original.hash, fork.hash, "a fork goes on exactly as the original would");
    assert_eq!(original.hash, job.run().hash, "a stop on the way changes nothing");
    fork.hash
}

/// Bytes a fork takes, by holding many and looking at this process's resident memory. `None` where /proc is not there.
#[must_use]
pub fn fork_bytes(job: &Job, forks: u64) -> Option<u64> {
    let world = job.half_way();
    // The first few warm the allocator up.
    let mut held: Vec<_> = (0..8).map(|_| world.clone()).collect();
    let before = crate::memory::status_kib("VmRSS")?;
    held.extend((0..forks).map(|_| world.clone()));
    let after = crate::memory::status_kib("VmRSS")?;
    drop(held);
    Some(after.saturating_sub(before) * 1024 / forks)
}
