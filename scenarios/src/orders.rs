//! What a person tells the rollout while it runs, in a simulation.
//!
//! ```text
//! [[orders]]
//! at = "40m"               # after the start of the traffic
//! order = "rollback"
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::HumanDuration;

/// One order. Given before the rollout begins, it is given to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When, after the start of the traffic.
    pub at: HumanDuration,
    /// What.
    pub order: OrderKind,
}

/// What a person can tell a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// Bring what is in hand to an end, and hold.
    Pause,
    /// Go on from a hold.
    Resume,
    /// Say yes where the rollout asks for it.
    Approve,
    /// Restore the replica in hand, leave the others as they are, and end.
    Abort,
    /// Bring every replica back to the old version.
    Rollback,
}
