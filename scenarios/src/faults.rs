//! What goes wrong in the simulated world, and when.
//!
//! ```text
//! [[faults]]
//! kind = "replica-crash"
//! replica = "replica-2"
//! at = "20m"               # after the start of the traffic
//! back_after = "3m"
//! ```
//!
//! One flat table for all kinds, so that a mistake is shown at its own key; which key belongs to which kind is checked
//! afterwards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::HumanDuration;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The replica it befalls. `replica-crash` and `stuck-in-flight` need one; for the others absent means every replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// When, after the start of the traffic. `replica-crash` and `stuck-in-flight` need it; for `lost-replies` absent
    /// means from the start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<HumanDuration>,
    /// When it is over, after the start of the traffic; absent: never. For `lost-replies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<HumanDuration>,
    /// For `replica-crash`: how long after the crash the replica answers again on the version it had, its supervisor
    /// having restarted it. Absent: nobody does. A replica that the rollout has stopped or started since is left to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_after: Option<HumanDuration>,
    /// For `replica-crash`: how long after the crash the balancer's health check takes the replica out and the rollout
    /// is told; until then requests are sent there and refused at once. Default 6 s: three failed checks, one every 2 s,
    /// as HAProxy does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_after: Option<HumanDuration>,
    /// Which start of the replica, counted from 1 and over the whole run (for `gpu-memory-lingers`: which stop). Absent:
    /// each one. For `start-failure`, `never-healthy`, `slow-start`, `gpu-memory-lingers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u32>,
    /// Only for processes of this version. Absent: of both. For `start-failure`, `never-healthy`, `slow-start`,
    /// `gpu-memory-lingers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<FaultVersion>,
    /// For `slow-start`: the start takes so many times as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// For `lost-replies`: the share of the replies that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// For `gpu-memory-lingers`: how much longer the memory stays held.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<HumanDuration>,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The engine's process dies: what is in flight there is cut, and new attempts are refused until the balancer notices.
    ReplicaCrash,
    /// A start fails: the process exits when it should have become healthy.
    StartFailure,
    /// A started process stays, but never answers its health check well.
    NeverHealthy,
    /// A start takes longer.
    SlowStart,
    /// The GPU memory of a stopped process stays held longer.
    GpuMemoryLingers,
    /// What the rollout asks for is done, but word of it does not come back.
    LostReplies,
    /// The engine's in-flight gauge never shows zero again until its process is replaced.
    StuckInFlight,
}

/// One of the scenario's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultVersion {
    /// The old one.
    From,
    /// The new one.
    To,
}

/// A key of [`Fault`] beside `kind`, whether the fault has it.
type Given = (&'static str, bool);

impl Fault {
    /// How long a crash stays unnoticed when the scenario does not say.
    pub const NOTICED_AFTER: HumanDuration = HumanDuration::from_secs(6);

    /// A fault of this kind with no other key given.
    #[must_use]
    pub const fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            replica: None,
            at: None,
            until: None,
            back_after: None,
            noticed_after: None,
            nth: None,
            version: None,
            factor: None,
            share: None,
            lasts: None,
        }
    }

    /// How long the crash stays unnoticed.
    #[must_use]
    pub fn noticed_after(&self) -> HumanDuration {
        self.noticed_after.unwrap_or(Self::NOTICED_AFTER)
    }

    pub(crate) const fn given(&self) -> [Given; 10] {
        [
            ("replica", self.replica.is_some()),
            ("at", self.at.is_some()),
            ("until", self.until.is_some()),
            ("back_after", self.back_after.is_some()),
            ("noticed_after", self.noticed_after.is_some()),
            ("nth", self.nth.is_some()),
            ("version", self.version.is_some()),
            ("factor", self.factor.is_some()),
            ("share", self.share.is_some()),
            ("for", self.lasts.is_some()),
        ]
    }
}

impl FaultKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplicaCrash => "replica-crash",
            Self::StartFailure => "start-failure",
            Self::NeverHealthy => "never-healthy",
            Self::SlowStart => "slow-start",
            Self::GpuMemoryLingers => "gpu-memory-lingers",
            Self::LostReplies => "lost-replies",
            Self::StuckInFlight => "stuck-in-flight",
        }
    }

    /// The keys it can't do without, and those it may have.
    pub(crate) const fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::ReplicaCrash => (&["replica", "at"], &["back_after", "noticed_after"]),
            Self::StartFailure | Self::NeverHealthy => (&[], &["replica", "nth", "version"]),
            Self::SlowStart => (&["factor"], &["replica", "nth", "version"]),
            Self::GpuMemoryLingers => (&["for"], &["replica", "nth", "version"]),
            Self::LostReplies => (&["share"], &["replica", "at", "until"]),
            Self::StuckInFlight => (&["replica", "at"], &[]),
        }
    }
}
