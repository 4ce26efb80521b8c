//! Scenarios in a few words, and runs of them.
//!
//! Every scenario goes the way a user's does: TOML text, parser, set-up, plan.

use std::fmt::Write;
use std::sync::Arc;

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{Guard, Plan, Record};
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::{Arrival, ImportReport, SharedTrace};
use slackwater_sim::{
    RequestRow, RolloutResult, RunInfo, RunOptions, Setup, SimulationResult, TraceCursor, World, plan_for,
};

const LONGEST_S: f64 = 3.0 * 86_400.0;

pub(crate) const WITH_ROWS: RunOptions = RunOptions { series: true, rows: true };

/// One replica's engine. The default: one step, whatever it holds, takes `c0_ms`; nothing else costs anything.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Engine {
    pub(crate) c0_ms: f64,
    pub(crate) c_tok_us: f64,
    pub(crate) c_seq_us: f64,
    pub(crate) max_num_seqs: u32,
    pub(crate) max_num_batched_tokens: u32,
    pub(crate) block_size: u32,
    pub(crate) kv_blocks: u32,
    pub(crate) asynchronous: bool,
    /// Reserve room for the first chunk only.
    pub(crate) reserve_chunk: bool,
    pub(crate) prefix_caching: bool,
    pub(crate) inbound_ms: f64,
    pub(crate) outbound_ms: f64,
    pub(crate) jitter: f64,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            c0_ms: 10.0,
            c_tok_us: 0.0,
            c_seq_us: 0.0,
            max_num_seqs: 64,
            max_num_batched_tokens: 8192,
            block_size: 1024,
            kv_blocks: 65_536,
            asynchronous: false,
            reserve_chunk: false,
            prefix_caching: false,
            inbound_ms: 0.0,
            outbound_ms: 0.0,
            jitter: 0.0,
        }
    }
}

/// A scenario by the few things that tests vary; the rest of the file is given as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) seed: u64,
    pub(crate) replicas: u32,
    pub(crate) engine: Engine,
    /// Lines under `[to]`.
    pub(crate) to: String,
    /// Lines under `[router]`.
    pub(crate) router: String,
    /// Lines under `[clients]`.
    pub(crate) clients: String,
    /// Lines under `[slo]`.
    pub(crate) slo: String,
    /// Lines under `[rollout]`.
    pub(crate) rollout: String,
    /// Lines under `[traffic.generate]`, of which only the sessions matter here.
    pub(crate) generate: String,
    /// `[[faults]]` tables.
    pub(crate) faults: String,
    /// Guards of the plan, beside those of the scenario.
    pub(crate) guards: Vec<Guard>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            seed: 1,
            replicas: 1,
            engine: Engine::default(),
            to: String::new(),
            router: String::new(),
            clients: "timeout = \"30d\"".to_owned(),
            slo: String::new(),
            rollout: String::new(),
            generate: String::new(),
            faults: String::new(),
            guards: Vec::new(),
        }
    }
}

impl Spec {
    pub(crate) fn toml(&self) -> String {
        let Self { seed, replicas, engine, to, router, clients, slo, rollout, generate, faults, guards: _ } =
            self;
        let mut text = format!("seed = {seed}\n[fleet]\nreplicas = {replicas}\n[from]\n");
        let scheduling = if engine.asynchronous { "async" } else { "sync" };
        let reserve = if engine.reserve_chunk { "chunk" } else { "whole_prompt" };
        // `{:?}` writes a float as TOML reads it.
        writeln!(
            text,
            "stop = \"1s\"\ngpu_release = \"1s\"\nstartup = \"10s\"\nwarm_up = \"1s\"\n[from.engine]\nsource = \
             \"test\"\nform = \"linear\"\nc0_ms = {:?}\nc_tok_us = {:?}\nc_seq_us = {:?}\nmax_num_seqs = \
             {}\nmax_num_batched_tokens = {}\nblock_size = {}\nkv_blocks = {}\nscheduling = \"{scheduling}\"\nreserve = \
             \"{reserve}\"\nprefix_caching = {}\nfront_end = {{ inbound_ms = {:?}, outbound_ms = {:?}, jitter = {:?} }}",
            engine.c0_ms,
            engine.c_tok_us,
            engine.c_seq_us,
            engine.max_num_seqs,
            engine.max_num_batched_tokens,
            engine.block_size,
            engine.kv_blocks,
            engine.prefix_caching,
            engine.inbound_ms,
            engine.outbound_ms,
            engine.jitter,
        )
        .unwrap();
        let sections =
            [("to", to), ("router", router), ("clients", clients), ("slo", slo), ("rollout", rollout)];
        for (name, lines) in sections {
            writeln!(text, "[{name}]\n{lines}").unwrap();
        }
        text.push_str("[traffic.generate]\nduration = \"1h\"\nrate_per_s = 1.0\n");
        writeln!(text, "{generate}").unwrap();
        text.push_str(faults);
        text
    }

    pub(crate) fn scenario(&self) -> Scenario {
        let text = self.toml();
        Scenario::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error:?}\n{text}"))
    }

    pub(crate) fn world(&self, trace: &Arc<SharedTrace>, options: RunOptions) -> World<TraceCursor> {
        let setup = Arc::new(Setup::new(&self.scenario()).unwrap());
        World::new(setup, TraceCursor::new(Arc::clone(trace)), options).unwrap()
    }

    pub(crate) fn plan(&self, start: Ps) -> Plan {
        let mut plan = plan_for(&self.scenario(), None, start, &[]).unwrap();
        plan.guards.extend(&self.guards);
        plan
    }

    /// A world that has come to `start` and begins its rollout.
    pub(crate) fn rolling(
        &self,
        trace: &Arc<SharedTrace>,
        start: Ps,
        options: RunOptions,
    ) -> World<TraceCursor> {
        let mut world = self.world(trace, options);
        assert!(!world.run_until(start).unwrap(), "the traffic is over before the rollout");
        world.begin_rollout(self.plan(start)).unwrap();
        world
    }

    /// The whole run, without a rollout.
    pub(crate) fn run(&self, trace: &Arc<SharedTrace>) -> Run {
        Run::of(self.world(trace, WITH_ROWS))
    }

    /// The whole run, with a rollout from `start` on.
    pub(crate) fn roll(&self, trace: &Arc<SharedTrace>, start: Ps) -> Run {
        Run::of(self.rolling(trace, start, WITH_ROWS))
    }
}

/// What a run left behind.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) result: SimulationResult,
    pub(crate) journal: Vec<Record>,
    /// In the order of the traffic.
    pub(crate) rows: Vec<RequestRow>,
}

impl Run {
    /// Runs a world to its end, which is never far: the longest test traffic is over within hours.
    pub(crate) fn of(mut world: World<TraceCursor>) -> Self {
        let ended = world.run_until(ps(LONGEST_S)).unwrap();
        assert!(ended, "after {LONGEST_S} s the run still goes on: {:?}", world.rollout_state());
        Self::so_far(world)
    }

    /// Closes a world where it stands.
    pub(crate) fn so_far(mut world: World<TraceCursor>) -> Self {
        let mut rows = world.take_rows();
        rows.sort_by_key(|row| row.number);
        let (result, journal) = world.finish(RunInfo::default());
        Self { result, journal, rows }
    }

    pub(crate) fn rollout(&self) -> &RolloutResult {
        self.result.rollout.as_ref().expect("there was a rollout")
    }
}

/// What became of a request, as the row says it (the crate's own type has no public name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Completed,
    Cut,
    TimedOut,
    Rejected,
    NeverSent,
}

pub(crate) fn outcome(row: &RequestRow) -> Outcome {
    serde_json::from_value(serde_json::to_value(row.outcome).unwrap()).unwrap()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // test times are far inside the range
pub(crate) fn ps(seconds: f64) -> Ps {
    (seconds * PS_PER_S as f64).round() as Ps
}

/// Arrivals of (second, prompt tokens, output tokens), in order of time.
pub(crate) fn trace(requests: impl IntoIterator<Item = (f64, u32, u32)>) -> Arc<SharedTrace> {
    let arrivals: Vec<Arrival> = requests
        .into_iter()
        .map(|(second, input_tokens, output_tokens)| Arrival {
            at_ps: ps(second),
            input_tokens,
            output_tokens,
        })
        .collect();
    assert!(arrivals.is_sorted_by_key(|arrival| arrival.at_ps));
    Arc::new(SharedTrace {
        arrivals: arrivals.into(),
        prefixes: Arc::default(),
        epoch_ns: None,
        report: ImportReport::default(),
    })
}

/// Equal up to the rounding of seconds in floating point.
#[track_caller]
pub(crate) fn near(left: f64, right: f64) {
    assert!((left - right).abs() <= 1e-9 * (1.0 + left.abs().max(right.abs())), "{left} is not {right}");
}
