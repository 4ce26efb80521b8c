//! The small names everything else is keyed by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A replica: its index into the plan's `replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub u16);

impl ReplicaId {
    /// The index into the plan's `replicas`.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}", self.0)
    }
}

/// One of the plan's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionRef {
    /// The old version: what the fleet serves before the rollout, and what a rollback goes back to.
    From,
    /// The new version.
    To,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VersionRef::From => "the old version",
            VersionRef::To => "the new version",
        })
    }
}

/// A command, numbered from 1 in the order issued. Never used twice in a rollout, not even after a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);
