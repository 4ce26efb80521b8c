//! What can be wrong with a plan.

use thiserror::Error;

/// A plan that can't be carried out. Each message names the key, what was expected and what to do.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Another schema.
    #[error("schema is `{found}`; this version reads `{expected}`: write the plan again with this version, or use the one that wrote it", expected = crate::SCHEMA)]
    Schema {
        /// What the plan says.
        found: String,
    },
    /// Nothing to roll.
    #[error(
        "replicas has one entry; a rolling upgrade needs another replica to serve meanwhile: add a replica, or accept downtime (strategy.kind = `recreate`), or give it a spare place (`surge`) or a twin (`side_by_side`)"
    )]
    SingleReplica,
    /// No replica or too many.
    #[error("replicas has {count} entries; expected 2 to {most}, or 1 where strategy.kind is `recreate`")]
    ReplicaCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Nobody would serve.
    #[error("strategy.max_unavailable is {found} for {replicas} replicas; expected 1 to {most}, so that somebody serves: lower it", most = replicas - 1)]
    MaxUnavailable {
        /// What the plan says.
        found: usize,
        /// How many replicas there are.
        replicas: usize,
    },
    /// A value that can't be used.
    #[error("{key} is {found}; expected {expected}")]
    Value {
        /// The key, with its path.
        key: String,
        /// What the plan says.
        found: String,
        /// What would be right, and what to do.
        expected: String,
    },
}
