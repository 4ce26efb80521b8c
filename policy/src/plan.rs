//! The plan: everything a rollout is told before it begins, and the file it is written in (TOML, schema `slackwater.plan/1`).
//!
//! Durations are text (`"90s"`, `"1h30m"`) or seconds, instants RFC 3339 text. Everything but the versions and the replicas has a default.
//! An unknown key is an error, so that a misspelt limit can't be silently ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::{human, human_opt, human_time, human_time_opt};
use crate::{Figure, QualitySpec, RampSpec, Span, StrategySpec, Time};

/// The schema id this crate reads and writes.
pub const SCHEMA: &str = "slackwater.plan/1";

/// A rollout's plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The version of Slackwater that wrote the plan.
    #[serde(default)]
    pub slackwater: String,
    /// The seed of the simulations behind it.
    #[serde(default)]
    pub seed: u64,
    /// Hashes of the inputs it was computed from, by name.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// The old version.
    pub from: VersionSpec,
    /// The new version.
    pub to: VersionSpec,
    /// The replicas, in the order of their [`ReplicaId`](crate::ReplicaId)s.
    pub replicas: Vec<ReplicaSpec>,
    /// When moves may be made; empty means at any time. In order, without overlap.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Whether the replicas get the new version, or are restarted with the one they have.
    #[serde(default, skip_serializing_if = "Target::is_new")]
    pub target: Target,
    /// Names of the replicas to move; empty means all. The others are counted, looked at and named in the report, but never touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// How the fleet is moved.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// How one replica is moved.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// The check before each drain.
    #[serde(default)]
    pub gate: GateSpec,
    /// The checks during the rollout.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// The service level promised. Kept for the reports; the guards say what stops a rollout.
    #[serde(default)]
    pub slo: Slo,
    /// What the simulation expects of one move. Kept for the comparison with what happened.
    #[serde(default)]
    pub expected: ExpectedPhases,
}

/// What a moved replica is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The new version.
    #[default]
    New,
    /// A restart drill: the version it runs, in a new process. `from` and `to` name the same version, and both
    /// [`VersionRef`](crate::VersionRef)s mean its one definition; a driver may report either.
    ///
    /// No fingerprint tells a new process from the old one, so the policy does: a replica counts as restarted once a stop of its process
    /// was confirmed, since whatever answers after that was started after it. One that crashed and came back by itself before its turn
    /// is still restarted. To roll back is to bring up what does not serve; what serves is left as it is, restarted or not.
    Same,
}

impl Target {
    fn is_new(&self) -> bool {
        *self == Target::New
    }
}

/// One of the two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSpec {
    /// Its name.
    pub name: String,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaSpec {
    /// Its name.
    pub name: String,
    /// The GPUs it runs on, by index on the chassis.
    #[serde(default)]
    pub gpus: Vec<u32>,
    /// Nothing runs there at first; its GPUs are free. N counts the replicas that are not spare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
    /// The name of the replica whose GPUs it shares, as its twin. Such a place is spare, said or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

/// A time in which moves may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From this instant.
    #[serde(with = "human_time")]
    pub opens: Time,
    /// To this instant: a move that would not be over by then does not begin.
    #[serde(with = "human_time")]
    pub closes: Time,
    /// A rollout that has not begun by then is not begun in this window, although its first move would still fit: the rest of it
    /// would not be over in the time that was looked at. It binds who begins a rollout; one that is under way goes by `closes`.
    #[serde(with = "human_time_opt", default, skip_serializing_if = "Option::is_none")]
    pub latest_start: Option<Time>,
}

impl Window {
    /// In which a rollout may be begun as long as a move fits.
    #[must_use]
    pub const fn new(opens: Time, closes: Time) -> Self {
        Self { opens, closes, latest_start: None }
    }

    /// Whether a rollout may be begun at this time.
    #[must_use]
    pub fn may_begin(&self, now: Time) -> bool {
        self.opens <= now && now < self.closes && self.latest_start.is_none_or(|latest| now <= latest)
    }
}

/// How one replica is moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutSpec {
    /// How long one move is expected to take at most; the window must still hold it. Needed where `windows` are given.
    #[serde(with = "human")]
    pub move_expected: Span,
    /// How long to watch a replica after its admission before the next move.
    #[serde(with = "human")]
    pub soak: Span,
    /// Whether a person approves.
    pub approve: Approve,
    /// What happens when the new version does not come up.
    pub on_failure: OnFailure,
    /// How often a replica is started afresh before the move has failed.
    pub bring_ups: u32,
    /// How often a replica that went down after its move is brought up again before it is parked.
    pub revivals: u32,
    /// Between the polite request to stop and the kill.
    #[serde(with = "human")]
    pub stop_grace: Span,
    /// Warm-up requests after the smoke prompt; 0 skips the step.
    pub warm_up_requests: u32,
    /// The weight to admit with, in percent; absent leaves the balancer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit_weight: Option<u8>,
    /// Slow start: the way from a small weight to the whole; absent admits at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RampSpec>,
    /// The user's own check of the new version; absent has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualitySpec>,
    /// Whether moves back to the old version wait for headroom too. They never wait for windows or approvals.
    pub rollback_gated: bool,
    /// The drain.
    pub drain: DrainSpec,
    /// Attempts and times of each step.
    pub steps: StepLimits,
}

impl Default for RolloutSpec {
    fn default() -> RolloutSpec {
        RolloutSpec {
            move_expected: Span::ZERO,
            soak: Span::from_secs(60),
            approve: Approve::None,
            on_failure: OnFailure::RollBackReplica,
            bring_ups: 2,
            revivals: 1,
            stop_grace: Span::from_secs(30),
            warm_up_requests: 8,
            admit_weight: None,
            ramp: None,
            quality: None,
            rollback_gated: false,
            drain: DrainSpec::default(),
            steps: StepLimits::default(),
        }
    }
}

/// When a person's approval is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approve {
    /// Before each move.
    Each,
    /// Once: when the first replica serves the new version and has soaked, before the others follow.
    First,
    /// Never.
    #[default]
    None,
}

/// What happens when the new version does not come up on a replica. Trouble that is not the new version's (the balancer does not
/// confirm, a process does not die, GPU memory lingers) never rolls the fleet back: it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The replica goes back to the old version, or its place is emptied where it was spare; then hold.
    #[default]
    RollBackReplica,
    /// The whole fleet goes back to the old version.
    RollBackAll,
    /// The replica stays out of rotation as it is, for a person to look at; hold.
    Park,
}

/// How a replica is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainSpec {
    /// How long after the balancer's confirmation requests in flight may go on.
    #[serde(with = "human")]
    pub timeout: Span,
    /// What happens then.
    pub at_deadline: AtDeadline,
    /// How often in-flight is looked at.
    #[serde(with = "human")]
    pub probe_every: Span,
    /// How many looks in a row must find zero.
    pub zeroes: u32,
    /// When only one source can be had, or the balancer says zero and the engine does not: how long zero must stand before it is believed.
    #[serde(with = "human")]
    pub believe_after: Span,
}

impl Default for DrainSpec {
    fn default() -> DrainSpec {
        DrainSpec {
            timeout: Span::from_secs(120),
            at_deadline: AtDeadline::default(),
            probe_every: Span::from_secs(1),
            zeroes: 2,
            believe_after: Span::from_secs(20),
        }
    }
}

/// What happens when the drain's time is over and requests are still in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum AtDeadline {
    /// They are ended, and counted.
    #[default]
    Cut,
    /// The replica goes back into rotation; hold.
    Abort,
    /// They may go on until `hard_limit` after the balancer's confirmation.
    Extend {
        /// Measured from the balancer's confirmation, as the time-out is.
        #[serde(with = "human")]
        hard_limit: Span,
        /// What happens then.
        then: Then,
    },
}

/// What happens at the hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// They are ended, and counted.
    Cut,
    /// The replica goes back into rotation; hold.
    Abort,
}

/// How often and how long one step is tried. It has failed when either bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many tries; absent leaves only `within`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long in all; absent leaves only `attempts`.
    #[serde(default, with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// From a failed try to the next.
    #[serde(with = "human")]
    pub every: Span,
    /// How long a reply may take before the command counts as lost.
    #[serde(with = "human")]
    pub reply_within: Span,
}

impl Limits {
    /// This many tries.
    pub const fn tries(attempts: u32, every_s: u64, reply_within_s: u64) -> Limits {
        Limits {
            attempts: Some(attempts),
            within: None,
            every: Span::from_secs(every_s),
            reply_within: Span::from_secs(reply_within_s),
        }
    }

    /// Asking until this long has passed.
    pub const fn polled(within_s: u64, every_s: u64, reply_within_s: u64) -> Limits {
        Limits {
            attempts: None,
            within: Some(Span::from_secs(within_s)),
            every: Span::from_secs(every_s),
            reply_within: Span::from_secs(reply_within_s),
        }
    }
}

/// Attempts and times of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepLimits {
    /// Looking at a replica, at the start and after a recovery.
    pub observe: Limits,
    /// Taking it out of rotation.
    pub take_out: Limits,
    /// Counting what is in flight: only `reply_within` and `every` after a failed look matter, the drain's time bounds it.
    pub in_flight: Limits,
    /// Cutting through the balancer.
    pub cut: Limits,
    /// Stopping; a reply may take longer than the grace.
    pub stop: Limits,
    /// Waiting for GPU memory.
    pub gpu_free: Limits,
    /// Starting the process.
    pub start: Limits,
    /// From the start to healthy.
    pub health: Limits,
    /// The fingerprint.
    pub identity: Limits,
    /// The smoke prompt.
    pub smoke: Limits,
    /// Warming up.
    pub warm_up: Limits,
    /// Putting it back into rotation.
    pub admit: Limits,
    /// Swapping weights.
    pub swap: Limits,
    /// The user's evaluation.
    pub evaluate: Limits,
    /// Measuring the load at the gate: only `reply_within` matters, the gate's own times bound it.
    pub load: Limits,
}

impl Default for StepLimits {
    fn default() -> StepLimits {
        StepLimits {
            observe: Limits::tries(3, 2, 15),
            take_out: Limits::tries(5, 2, 30),
            in_flight: Limits::tries(1, 1, 5),
            cut: Limits::tries(2, 1, 15),
            stop: Limits::tries(3, 5, 90),
            gpu_free: Limits::polled(120, 2, 15),
            start: Limits::tries(2, 5, 60),
            health: Limits::polled(900, 2, 10),
            identity: Limits::tries(3, 2, 15),
            smoke: Limits::tries(3, 2, 60),
            warm_up: Limits::tries(2, 5, 300),
            admit: Limits::tries(5, 2, 30),
            swap: Limits::tries(2, 5, 600),
            evaluate: Limits::tries(2, 10, 3_600),
            load: Limits::tries(1, 1, 10),
        }
    }
}

/// The check before each drain: will the others carry the load?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateSpec {
    /// What so many serving replicas carry within the SLO, as the planner found it. Empty: headroom is not checked.
    pub capacity: Vec<CapacityRow>,
    /// Headroom wanted: 0.1 asks for capacity of 1.1 times the load.
    pub margin: f64,
    /// From one look to the next while the gate is shut.
    #[serde(with = "human")]
    pub recheck: Span,
    /// How long to wait at the gate before holding.
    #[serde(with = "human")]
    pub wait_max: Span,
}

impl Default for GateSpec {
    fn default() -> GateSpec {
        GateSpec {
            capacity: Vec::new(),
            margin: 0.1,
            recheck: Span::from_secs(30),
            wait_max: Span::from_secs(1_800),
        }
    }
}

/// One row of the capacity table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityRow {
    /// With so many replicas serving
    pub serving: u16,
    /// the service carries this many requests a second within its SLO.
    pub rate: f64,
}

/// A bound on a live figure. Breached when it is above `limit` without a break for `sustained`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// What is watched.
    pub figure: Figure,
    /// The upper edge of its band, in the figure's unit.
    pub limit: f64,
    /// For how long it must be above. Figures come every ten seconds, and two of them are the least it takes.
    #[serde(with = "human")]
    pub sustained: Span,
    /// What a breach does.
    #[serde(default)]
    pub action: GuardAction,
}

/// What a breach does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// Hold at N.
    #[default]
    Hold,
    /// Roll the fleet back. Only for the error rate: slowness is no clear error.
    RollBack,
}

/// The service level: bounds, and the share of requests that must keep them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// Time to first token, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_s: Option<f64>,
    /// Mean time per output token, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpot_s: Option<f64>,
    /// End to end, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_s: Option<f64>,
    /// The share that must keep them, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// Predicted spans of one move's phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedPhases {
    /// From taken out to drained.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub drain: Option<Span>,
    /// From drained to stopped.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub stop: Option<Span>,
    /// From stopped to GPU free.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub gpu_free: Option<Span>,
    /// From start to healthy.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub load: Option<Span>,
    /// From healthy to warmed up.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub warm: Option<Span>,
    /// The whole move.
    #[serde(with = "human_opt", skip_serializing_if = "Option::is_none")]
    pub whole: Option<Span>,
}

impl Plan {
    /// Whether it restarts replicas with the version they run.
    pub fn is_drill(&self) -> bool {
        self.target == Target::Same
    }

    /// A rolling plan with every default: versions and replica names are all it takes.
    pub fn rolling<S: Into<String>>(from: &str, to: &str, replicas: impl IntoIterator<Item = S>) -> Plan {
        let replicas = replicas
            .into_iter()
            .zip(0..)
            .map(|(name, gpu)| ReplicaSpec { name: name.into(), gpus: vec![gpu], spare: false, beside: None })
            .collect();
        Plan {
            schema: SCHEMA.to_owned(),
            slackwater: env!("CARGO_PKG_VERSION").to_owned(),
            seed: 0,
            inputs: BTreeMap::new(),
            from: VersionSpec { name: from.to_owned() },
            to: VersionSpec { name: to.to_owned() },
            replicas,
            windows: Vec::new(),
            target: Target::default(),
            only: Vec::new(),
            strategy: StrategySpec::default(),
            rollout: RolloutSpec::default(),
            gate: GateSpec::default(),
            guards: Vec::new(),
            slo: Slo::default(),
            expected: ExpectedPhases::default(),
        }
    }
}
