//! What each feature of the world costs where it is on: the same traffic with and without it.

use std::sync::Arc;

use slackwater_scenarios::traffic::SharedTrace;
use slackwater_scenarios::{Scenario, Scheduling};
use slackwater_sim::{
    RunInfo, RunOptions, Setup, SimulationResult, TraceCursor, World, plan_for, start_offset_ps,
};

use crate::workload::Source;

/// Conversations of five turns, as many requests as the trace's hour has, so many hours: their prompts grow.
const SESSIONS: &[&str] = &[
    "traffic.generate.sessions.turns={ geometric = 5 }",
    "traffic.generate.sessions.think=\"30s\"",
    "traffic.generate.input=[{ median = 150, sigma = 0.8 }]",
];

const ROLLING: &[&str] = &["rollout.start=2m", "rollout.soak=20s"];

/// One feature, and what it is measured against.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// As the table calls it.
    pub name: &'static str,
    /// Overrides that both have.
    pub base: &'static [&'static str],
    /// Overrides that turn it on.
    pub on: &'static [&'static str],
    /// Whether there is a rollout in it.
    pub rollout: bool,
}

const fn feature(name: &'static str, on: &'static [&'static str]) -> Feature {
    Feature { name, base: &[], on, rollout: false }
}

const fn of_sessions(name: &'static str, on: &'static [&'static str]) -> Feature {
    Feature { name, base: SESSIONS, on, rollout: false }
}

const fn rollout(name: &'static str, on: &'static [&'static str]) -> Feature {
    Feature { name, base: ROLLING, on, rollout: true }
}

/// Every feature. The first of each base turns nothing on: its cost is the noise.
pub const FEATURES: &[Feature] = &[
    feature("nothing", &[]),
    feature("router: round robin", &["router.policy=round-robin"]),
    feature("router: nginx least_conn, 4 workers", &["router.policy=nginx-least-conn"]),
    feature("router: HAProxy leastconn", &["router.policy=haproxy-leastconn"]),
    feature("router: two random choices", &["router.policy=random-two-choices"]),
    feature(
        "silent tokens and a read time-out",
        &["from.silent_tokens.share=0.5", "router.read_timeout=60s"],
    ),
    feature(
        "retries after a broken stream, budget",
        &["clients.retries={ after_first_token = true, budget = 0.1 }"],
    ),
    feature(
        "a slow GPU",
        &["faults=[{ kind = \"slow-gpu\", replica = \"replica-0\", at = \"1m\", factor = 1.5 }]"],
    ),
    feature(
        "prefix cache, nothing shared",
        &["from.engine={ base = \"a100-llama-3.1-8b\", prefix_caching = true, scheduling = \"async\" }"],
    ),
    rollout("a rolling rollout", &[]),
    rollout(
        "canary, compared",
        &["rollout.strategy=canary", "rollout.canary_soak=2m", "rollout.compare={ blocks_min = 1 }"],
    ),
    rollout("side by side", &["rollout.strategy=side-by-side", "rollout.keep_old=20s"]),
    of_sessions("sessions", &[]),
    of_sessions("sticky sessions", &["router.sticky=session"]),
    of_sessions("sessions kept at their version", &["router.sticky=version"]),
    of_sessions(
        "prefix cache",
        &["from.engine={ base = \"a100-llama-3.1-8b\", prefix_caching = true, scheduling = \"async\" }"],
    ),
    of_sessions("prefix-aware router", &["router.policy=prefix-aware"]),
];

/// A feature's world, or its base's, ready to be run.
#[derive(Debug, Clone)]
pub struct FeatureJob {
    scenario: Scenario,
    setup: Arc<Setup>,
    trace: Arc<SharedTrace>,
    rollout: bool,
}

impl Feature {
    /// Its name in the file of recorded hashes.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.replace([' ', ',', ':'], "-")
    }

    /// The world with the feature on, or without it.
    ///
    /// # Panics
    /// When an override above is wrong.
    #[must_use]
    pub fn job(&self, source: Source, on: bool) -> FeatureJob {
        let mut overrides = self.base.to_vec();
        if on {
            overrides.extend(self.on);
        }
        // Sessions are drawn: no trace of ours has them.
        let drawn = self.base == SESSIONS;
        let scenario = source.scenario_with(Scheduling::Async, drawn, &overrides);
        let trace = scenario.load_traffic().unwrap_or_else(|error| panic!("{error:?}"));
        let setup = Setup::new(&scenario).expect("a scenario that can be simulated");
        let rollout = self.rollout && on;
        FeatureJob { scenario, setup: Arc::new(setup), trace: Arc::new(trace), rollout }
    }
}

impl FeatureJob {
    /// Runs it from begin to end.
    ///
    /// # Panics
    /// When the simulation fails.
    #[must_use]
    pub fn run(&self) -> SimulationResult {
        let cursor = TraceCursor::new(Arc::clone(&self.trace));
        let mut world = World::new(Arc::clone(&self.setup), cursor, RunOptions::default()).expect("a world");
        if self.rollout {
            let epoch = self.trace.epoch_ns;
            let start = start_offset_ps(self.scenario.rollout.start, epoch).expect("a start");
            world.run_until(start).expect("a run");
            let plan = plan_for(&self.scenario, epoch, start, &[]).expect("a plan");
            world.begin_rollout(plan).expect("a rollout");
        }
        world.run().expect("a run");
        world.finish(RunInfo::default()).0
    }
}
