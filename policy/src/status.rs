//! What can be asked of a rollout at any time: where it stands, and what a person must know at its end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Compared, Figure, ReplicaId, Step, Time, Verdict, VersionRef};

/// How a rollout has ended, or stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Ended: every replica serves the new version, or its place is rightly empty.
    Completed,
    /// Ended: every replica serves the old version again, and spares are empty.
    RolledBack,
    /// Ended by a person; the report names each replica that does not serve the old version.
    Aborted,
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not started.
    Waiting,
    /// Looking at every replica, at the start or after a recovery.
    Surveying,
    /// Moving replicas to this version.
    Moving {
        /// The version.
        to: VersionRef,
    },
    /// No further moves for now.
    Holding {
        /// Why.
        reason: HoldReason,
        /// Since when.
        since: Time,
        /// When it goes on by itself; `None`: it waits for a person.
        until: Option<Time>,
        /// No replica is in hand any more.
        settled: bool,
    },
    /// A person said abort; the replica in hand is being restored.
    Aborting,
    /// Over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// Why a rollout holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// A person said pause.
    Operator,
    /// The plan asks for an approval.
    Approval,
    /// The window does not hold another move.
    Window,
    /// The gate stayed shut.
    Gate {
        /// The replica that was to be next.
        replica: ReplicaId,
        /// What was seen.
        seen: String,
    },
    /// A move could not be undone.
    NoWayBack {
        /// The replica that was to be next.
        replica: ReplicaId,
    },
    /// The plan asks for a comparison of the canary with the old version, and none has said pass in time.
    Comparison,
    /// A guard was breached.
    Guard {
        /// What was measured.
        figure: Figure,
        /// Its last value.
        value: f64,
        /// Its limit.
        limit: f64,
    },
    /// A drain ran out of time and the plan says abort.
    DrainTimedOut {
        /// Whose.
        replica: ReplicaId,
    },
    /// A move failed.
    MoveFailed {
        /// Whose.
        replica: ReplicaId,
        /// Why.
        reason: String,
    },
}

impl HoldReason {
    /// The replica it is about, where it is about one.
    pub fn replica(&self) -> Option<ReplicaId> {
        match self {
            HoldReason::Gate { replica, .. }
            | HoldReason::NoWayBack { replica }
            | HoldReason::DrainTimedOut { replica }
            | HoldReason::MoveFailed { replica, .. } => Some(*replica),
            HoldReason::Operator
            | HoldReason::Approval
            | HoldReason::Window
            | HoldReason::Comparison
            | HoldReason::Guard { .. } => None,
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldReason::Operator => f.write_str("a person said pause"),
            HoldReason::Approval => f.write_str("an approval is needed"),
            HoldReason::Window => f.write_str("the window does not hold another move"),
            HoldReason::Comparison => {
                f.write_str("no comparison of the canary with the old version has said pass in time")
            }
            HoldReason::Gate { replica, seen } => write!(f, "the gate stayed shut for {replica}: {seen}"),
            HoldReason::NoWayBack { replica } => {
                write!(
                    f,
                    "the old version's definition or weights are missing, a move of {replica} could not be undone"
                )
            }
            HoldReason::Guard { figure, value, limit } => {
                write!(f, "{figure:?} stayed above {limit} (last {value})")
            }
            HoldReason::DrainTimedOut { replica } => write!(f, "the drain of {replica} ran out of time"),
            HoldReason::MoveFailed { replica, reason } => write!(f, "the move of {replica} failed: {reason}"),
        }
    }
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Serving the version it is known to run.
    Serving,
    /// The balancer was asked to send it nothing new.
    DrainRequested,
    /// The balancer confirmed.
    DrainConfirmed,
    /// Nothing in flight.
    Drained,
    /// The drain's time was over with requests in flight.
    DrainTimedOut,
    /// Asked to stop.
    Stopping,
    /// The process is gone.
    Stopped,
    /// Its GPUs have room for the version to come.
    GpuFree,
    /// The process was started.
    Starting,
    /// It answers its health check.
    Healthy,
    /// It is the version it should be.
    IdentityVerified,
    /// It answered the smoke prompt and the warm-up.
    WarmedUp,
    /// Back in rotation.
    Readmitted,
    /// Watched long enough: its move is over.
    Soaked,
    /// A failed move is being undone.
    RollingBack,
    /// Its process is changing its weights.
    Swapping,
    /// Its process is up and takes no requests: checked and waiting for the others, or drained and kept for a way back.
    Standby,
    /// Nothing runs there, as it should be at some time of the rollout.
    Empty,
    /// Left for a person, with a reason.
    Parked,
    /// Not serving, and not by a move.
    Down,
}

impl ReplicaState {
    /// Whether it takes new requests.
    pub fn serves(self) -> bool {
        matches!(self, ReplicaState::Serving | ReplicaState::Readmitted | ReplicaState::Soaked)
    }
}

/// Which source an in-flight count was believed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The load balancer.
    Balancer,
    /// The engine.
    Engine,
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveResult {
    /// The replica serves the move's target, or has left as the move was to make it.
    Done,
    /// It was called off before anything was touched.
    CalledOff,
    /// Its drain was called off; the replica is put back into rotation by a move of its own.
    PutBack {
        /// Why.
        reason: String,
    },
    /// It failed or was undone; the replica is restored to the old version by a move of its own.
    Undone {
        /// Why.
        reason: String,
    },
    /// It failed; the replica is parked.
    Parked {
        /// Why.
        reason: String,
    },
}

/// A remark of the policy, for the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// What the comparison of the canary with the old version says now.
    Compared {
        /// The word.
        verdict: Verdict,
        /// In what above all it is worse, where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worse: Option<Compared>,
        /// Blocks of evidence counted.
        blocks: u32,
        /// The evidence against "no worse than declared"; see [`Comparison`](crate::Comparison).
        evidence: f64,
    },
    /// The world's clock went back; the policy's stands still until it has caught up.
    ClockWentBack {
        /// What the world said.
        said: Time,
        /// What the policy took it for.
        taken: Time,
    },
    /// A reply to a command that is no longer waited for was ignored.
    StaleReply {
        /// The command.
        id: crate::CommandId,
    },
    /// A command's reply did not come in time.
    NoReply {
        /// The command.
        id: crate::CommandId,
    },
    /// A replica has reached a state.
    State {
        /// Which.
        replica: ReplicaId,
        /// The state.
        state: ReplicaState,
        /// The version it runs, as far as known.
        running: Option<VersionRef>,
    },
    /// A move began.
    MoveBegan {
        /// Whose.
        replica: ReplicaId,
        /// Toward which version.
        target: VersionRef,
        /// It leaves for others that serve that version: its place is to be empty.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leaves: bool,
    },
    /// The balancer can't set a weight on the way up: the replica gets all of it at once.
    RampSkipped {
        /// Whose.
        replica: ReplicaId,
        /// What the balancer said.
        reason: String,
    },
    /// A verdict of the user's evaluation.
    Evaluated {
        /// Of which replica.
        replica: ReplicaId,
        /// Whether it served.
        live: bool,
        /// The verdict.
        passed: bool,
        /// What it said.
        said: String,
    },
    /// A step was not done and is tried again.
    Retry {
        /// Whose.
        replica: ReplicaId,
        /// Which step.
        step: Step,
        /// Why.
        reason: String,
    },
    /// A replica is brought up afresh.
    BringUpAgain {
        /// Whose.
        replica: ReplicaId,
        /// Which attempt this is, from 2.
        attempt: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// A move ended.
    MoveEnded {
        /// Whose.
        replica: ReplicaId,
        /// How.
        result: MoveResult,
    },
    /// The gate is shut.
    GateShut {
        /// The replica that is to be next.
        replica: ReplicaId,
        /// What was seen.
        seen: String,
    },
    /// The two in-flight counts do not agree, or only one is there; one was believed.
    Believed {
        /// Whose.
        replica: ReplicaId,
        /// Which source said zero long enough.
        source: Source,
        /// What the other said last.
        other: Option<u32>,
    },
    /// The drain's time is over and the plan extends it.
    DrainExtended {
        /// Whose.
        replica: ReplicaId,
        /// To when.
        until: Time,
    },
    /// Requests were ended.
    Cut {
        /// Whose.
        replica: ReplicaId,
        /// How many.
        requests: u32,
    },
    /// A replica went down by itself.
    WentDown {
        /// Which.
        replica: ReplicaId,
        /// Why.
        reason: String,
    },
    /// The rollout holds from now on.
    HoldBegan {
        /// Why.
        reason: HoldReason,
        /// When it goes on by itself.
        until: Option<Time>,
    },
    /// No replica is in hand any more: the rollout holds at what serves.
    HoldSettled {
        /// How many serve.
        serving: usize,
        /// How many should: N, which counts no spare.
        of: usize,
    },
    /// The rollout goes on.
    HoldEnded,
    /// The goal is another version from now on.
    GoalChanged {
        /// The version.
        to: VersionRef,
        /// Why.
        reason: String,
    },
    /// An order came when there was nothing to do for it.
    OrderIgnored {
        /// The order.
        order: crate::Operator,
        /// Why.
        reason: String,
    },
    /// The rollout is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// One replica's line in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its name in the plan.
    pub name: String,
    /// Where it stands.
    pub state: ReplicaState,
    /// The version it is meant to serve; of a place that is to be empty, the version others are to serve for it.
    pub desired: VersionRef,
    /// The version it runs, as last seen.
    pub running: Option<VersionRef>,
    /// Its move's present step.
    pub step: Option<Step>,
    /// When that step's time is over, where it has one.
    pub until: Option<Time>,
    /// Why it is parked or what last went wrong.
    pub trouble: Option<String>,
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The rollout as a whole.
    pub phase: Phase,
    /// The version it is heading for.
    pub goal: VersionRef,
    /// Each replica, in the plan's order.
    pub replicas: Vec<ReplicaStatus>,
    /// How many serve now.
    pub serving: usize,
    /// The last load told, requests a second.
    pub load: Option<f64>,
    /// Replies ignored because they came late or twice.
    pub stale_replies: u64,
    /// Times the world's clock went back.
    pub clock_went_back: u64,
}

/// A replica that does not serve the version it should, or a place that is not empty and should be, and what mends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// Which.
    pub replica: ReplicaId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ReplicaState,
    /// The version it runs, as last seen.
    pub running: Option<VersionRef>,
    /// What is wrong.
    pub reason: String,
    /// The command that mends it.
    pub mend: String,
}

/// Safety condition 6: at the end and at every hold, each replica serves `version`, or its place is rightly empty, or it is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalReport {
    /// Where the rollout stands.
    pub phase: Phase,
    /// The version every replica is measured by.
    pub version: VersionRef,
    /// Replicas that serve it.
    pub serving: Vec<ReplicaId>,
    /// Places that are empty, as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<ReplicaId>,
    /// The others.
    pub exceptions: Vec<Exception>,
}
