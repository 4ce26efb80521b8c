//! What the policy asks of the world.
//!
//! Every command is a single shot: *ensure this is so* or *look once*. The policy owns all schedules, attempts and time-outs; a driver
//! carries a command out once, reports one [`Reply`](crate::Reply) under its id, and decides nothing. Asking twice must be harmless.
//!
//! Commands to one replica take effect in the order of their ids. The policy has at most one outstanding command a replica; one it gave up
//! on (its time ran out) is superseded by the next one to that replica: a driver abandons it if it still can.

use serde::{Deserialize, Serialize};

use crate::{CommandId, ReplicaId, Span, VersionRef};

/// One request to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The id the reply must carry.
    pub id: CommandId,
    /// The replica it concerns; `None` for those about the whole service ([`Action::MeasureLoad`]).
    pub replica: Option<ReplicaId>,
    /// What to do.
    pub action: Action,
}

/// What to do. The comment names the reply that means success; any may be answered with [`Reply::Failed`](crate::Reply::Failed).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Look at everything: rotation, process, version, health, and whether the old definition and weights are still there. → `Observed`
    Observe,
    /// Ensure no new request is routed to it, confirmed by the balancer (its generation answers). In-flight ones go on. → `Out`
    TakeOut {
        /// The version this move is toward, for the record.
        toward: VersionRef,
    },
    /// Count what is in flight, from the balancer and from the engine. → `InFlight`
    ProbeInFlight,
    /// End what is still in flight, where the balancer can. Where it can't, fail with `retryable: false`: the stop does it. → `Cut`
    CutInFlight,
    /// Ensure the process (group) is gone: ask politely, kill after `grace`. A process already gone is success. → `Stopped`
    Stop {
        /// How long between asking and killing.
        grace: Span,
    },
    /// Is enough GPU memory free for `version`, and are all recorded processes gone? Not yet: fail with `retryable: true`. → `GpuFree`
    ProbeGpu {
        /// The version that is to be started.
        version: VersionRef,
    },
    /// Ensure a process of this version is running; it need not be ready. One already running is success. → `Started`
    Start {
        /// The version to start.
        version: VersionRef,
    },
    /// Is it ready? Not yet: fail with `retryable: true`; its process is gone: `retryable: false` ends the attempt. → `Healthy`
    ProbeHealth,
    /// Which version answers? Report what was seen; the policy compares. → `Fingerprint`
    ProbeFingerprint {
        /// The version hoped for, for the record.
        expect: VersionRef,
    },
    /// Send the smoke prompt and check the answer. → `SmokeAnswered`
    SmokePrompt,
    /// Send this many warm-up requests and wait for them. → `WarmedUp`
    WarmUp {
        /// How many.
        requests: u32,
    },
    /// Ensure it is in rotation, confirmed by the balancer. → `Admitted`
    Admit {
        /// Weight in percent of the usual one, where the balancer can; `None` leaves it as it was.
        weight: Option<u8>,
    },
    /// Ensure the running process serves this version, by putting it to sleep, loading the version's weights and waking it; the process stays.
    /// One that serves it already is success. → `Swapped`
    Swap {
        /// The version to serve.
        version: VersionRef,
    },
    /// Run the user's evaluation (`rollout.quality`) against this replica and wait for its verdict. → `Evaluated`
    Evaluate {
        /// It serves; else it is out of rotation.
        live: bool,
    },
    /// The demand on the whole service now, requests a second. → `Load`
    MeasureLoad,
}

impl Action {
    /// Whether it changes the world (an "ensure") rather than only looks at it.
    pub fn changes_the_world(&self) -> bool {
        match self {
            Action::TakeOut { .. }
            | Action::CutInFlight
            | Action::Stop { .. }
            | Action::Start { .. }
            | Action::Swap { .. }
            | Action::Admit { .. } => true,
            Action::Observe
            | Action::ProbeInFlight
            | Action::ProbeGpu { .. }
            | Action::ProbeHealth
            | Action::ProbeFingerprint { .. }
            | Action::SmokePrompt
            | Action::WarmUp { .. }
            | Action::Evaluate { .. }
            | Action::MeasureLoad => false,
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Observe => "observe",
            Action::TakeOut { .. } => "take out",
            Action::ProbeInFlight => "probe in-flight",
            Action::CutInFlight => "cut in-flight",
            Action::Stop { .. } => "stop",
            Action::ProbeGpu { .. } => "probe GPU",
            Action::Start { .. } => "start",
            Action::ProbeHealth => "probe health",
            Action::ProbeFingerprint { .. } => "probe fingerprint",
            Action::SmokePrompt => "smoke prompt",
            Action::WarmUp { .. } => "warm up",
            Action::Admit { .. } => "admit",
            Action::Swap { .. } => "swap",
            Action::Evaluate { live: false } => "evaluate",
            Action::Evaluate { live: true } => "evaluate live",
            Action::MeasureLoad => "measure load",
        }
    }
}
