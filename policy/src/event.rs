//! What the world tells the policy: facts, replies and a person's orders.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Action, Block, CommandId, ReplicaId, VersionRef};

/// One fact. Units: rates in requests a second, latencies in seconds, shares between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Begin. Once, and first.
    Start,
    /// A deadline has come (see [`Rollout::deadline`](crate::Rollout::deadline)); harmless at any other time.
    Tick,
    /// A command's outcome.
    Outcome {
        /// The command's id.
        id: CommandId,
        /// What came of it.
        outcome: Reply,
    },
    /// The replica's process or GPU is gone: nothing in flight on it can still finish. (A slow or flapping health check is not this.)
    ReplicaDown {
        /// Which one.
        replica: ReplicaId,
        /// Why, in words.
        reason: String,
    },
    /// A replica that was down is there again by itself. The policy looks before it believes.
    ReplicaUp {
        /// Which one.
        replica: ReplicaId,
    },
    /// The demand on the service, unasked (kept for the status; the gate asks for itself).
    Load {
        /// Requests a second.
        rate: f64,
    },
    /// A guard sample.
    Figure {
        /// What was measured.
        figure: Figure,
        /// Its value.
        value: f64,
    },
    /// What a comparison of the canary with the old version says now. Ignored where the plan asks for none or no canary serves.
    Comparison {
        /// The word.
        verdict: Verdict,
    },
    /// What clients of both versions saw in one block of time. Only what comes while a canary serves and the plan asks for a
    /// comparison of its own ([`Compare::Measured`](crate::Compare::Measured)) is counted.
    Evidence {
        /// The block.
        block: Block,
    },
    /// An order from a person.
    Operator(Operator),
    /// The executor was restarted and has rebuilt the policy from its journal: look at everything, then ask again for what is outstanding.
    Recovered,
}

/// What a guard watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Time to first token, 50th percentile, seconds.
    TtftP50,
    /// Time to first token, 99th percentile, seconds.
    TtftP99,
    /// Mean time per output token, 50th percentile, seconds.
    TpotP50,
    /// Mean time per output token, 99th percentile, seconds.
    TpotP99,
    /// End-to-end time, 99th percentile, seconds.
    E2eP99,
    /// Share of requests that failed, 0 to 1.
    ErrorRate,
    /// Requests waiting in all replicas' queues.
    QueueDepth,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The new version is no worse than the plan allows.
    Pass,
    /// It is worse: the canary goes back, and the rollout ends.
    Fail,
    /// It can't be told yet.
    Undecided,
}

/// An order from a person. Each works at any time before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Finish or put back the replica in hand so that all serve, then wait.
    Pause,
    /// Go on after a hold; parked replicas are tried again. After a hold for the window: don't wait for the next one.
    Resume,
    /// The approval the plan asks for.
    Approve,
    /// Restore the replica in hand to the old version, or empty the spare place in hand, leave the others as they are, end.
    Abort,
    /// Take every replica back to the old version, then end.
    Rollback,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Observe`.
    Observed(Observed),
    /// To `TakeOut`: the balancer confirms that no new request reaches it.
    Out,
    /// To `ProbeInFlight`: requests running or queued at the replica; `None` where a source can't say.
    InFlight {
        /// As the balancer counts.
        balancer: Option<u32>,
        /// As the engine counts.
        engine: Option<u32>,
    },
    /// To `CutInFlight`.
    Cut {
        /// How many requests were ended.
        requests: u32,
    },
    /// To `Stop`: the process is gone.
    Stopped {
        /// How many requests were still in flight and were ended by it.
        cut: u32,
    },
    /// To `ProbeGpu`: memory enough, recorded processes gone.
    GpuFree,
    /// To `Start`.
    Started,
    /// To `ProbeHealth`.
    Healthy,
    /// To `ProbeFingerprint`.
    Fingerprint {
        /// The version that answers; `None` when it is neither of the plan's.
        seen: Option<VersionRef>,
    },
    /// To `SmokePrompt`: the answer passed its check.
    SmokeAnswered,
    /// To `WarmUp`.
    WarmedUp,
    /// To `Admit`: the balancer confirms.
    Admitted,
    /// To `Swap`.
    Swapped,
    /// To `Evaluate`. That it could not be run is a `Failed`.
    Evaluated {
        /// Whether the version is good enough.
        passed: bool,
        /// What the evaluation said, in words.
        said: String,
    },
    /// To `MeasureLoad`.
    Load {
        /// Requests a second.
        rate: f64,
    },
    /// To any command: it did not come about.
    Failed {
        /// Why, in words, with what would mend it where that is known.
        reason: String,
        /// Whether asking again may help. `false` ends the step at once.
        retryable: bool,
    },
}

/// A replica as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The balancer routes new requests to it.
    pub in_rotation: bool,
    /// Its process is there.
    pub process: bool,
    /// It answers its health check.
    pub healthy: bool,
    /// The version it serves; `None` when unknown or neither of the plan's.
    pub version: Option<VersionRef>,
    /// The old version's definition and weights are still there, so that a move could be undone.
    pub undo_ready: bool,
}

impl Reply {
    /// Whether this can be an answer to `action`.
    pub fn answers(&self, action: &Action) -> bool {
        matches!(
            (self, action),
            (Reply::Failed { .. }, _)
                | (Reply::Observed(_), Action::Observe)
                | (Reply::Out, Action::TakeOut { .. })
                | (Reply::InFlight { .. }, Action::ProbeInFlight)
                | (Reply::Cut { .. }, Action::CutInFlight)
                | (Reply::Stopped { .. }, Action::Stop { .. })
                | (Reply::GpuFree, Action::ProbeGpu { .. })
                | (Reply::Started, Action::Start { .. })
                | (Reply::Healthy, Action::ProbeHealth)
                | (Reply::Fingerprint { .. }, Action::ProbeFingerprint { .. })
                | (Reply::SmokeAnswered, Action::SmokePrompt)
                | (Reply::WarmedUp, Action::WarmUp { .. })
                | (Reply::Admitted, Action::Admit { .. })
                | (Reply::Swapped, Action::Swap { .. })
                | (Reply::Evaluated { .. }, Action::Evaluate { .. })
                | (Reply::Load { .. }, Action::MeasureLoad)
        )
    }
}

/// An event the policy refuses. It has changed nothing, not even the policy's clock; none of these is fatal.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum EventError {
    /// Anything before `Start`.
    #[error("the rollout has not been started; send Event::Start first")]
    NotStarted,
    /// A second `Start`.
    #[error("the rollout was started already; after a restart replay the journal and send Event::Recovered")]
    AlreadyStarted,
    /// A replica the plan doesn't have.
    #[error("{replica} is not in the plan, which has {count} replicas")]
    UnknownReplica {
        /// The one named.
        replica: ReplicaId,
        /// How many there are.
        count: usize,
    },
    /// A reply to a command that was never issued.
    #[error("command {} was never issued", id.0)]
    NeverIssued {
        /// The id named.
        id: CommandId,
    },
    /// A reply of a kind that does not fit its command.
    #[error("command {} was to {action}; `{reply:?}` is no answer to that", id.0)]
    Contradictory {
        /// The command's id.
        id: CommandId,
        /// What it was to do.
        action: &'static str,
        /// What came.
        reply: Box<Reply>,
    },
    /// A rate or figure that is negative or not a number.
    #[error("{what} is {value}; it must be finite and zero or more")]
    BadNumber {
        /// What it was.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Evidence that is none.
    #[error("{block:?} is no block of evidence: shares are 0 to 1, the difference of failures -1 to 1")]
    BadBlock {
        /// What came.
        block: Block,
    },
}
