//! Strategies as data: a strategy says which replicas move together and which steps a move is made of; one interpreter runs the steps.
//!
//! A strategy that is added later is a variant of [`StrategySpec`] and its lists here. Canary adds a step, side by side orders `Start` before
//! `TakeOut`, recreate accepts downtime in its form of the safety conditions; the interpreter stays as it is.

use serde::{Deserialize, Serialize};

use crate::VersionRef;

/// How the fleet is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum StrategySpec {
    /// A few replicas at a time, in place.
    Rolling {
        /// How many replicas may be out at once, at least 1.
        #[serde(default = "one")]
        max_unavailable: u16,
        /// Names of replicas to move first, in this order; the others follow as listed. Replicas that are down come before all.
        #[serde(default)]
        order: Vec<String>,
    },
}

fn one() -> u16 {
    1
}

impl Default for StrategySpec {
    fn default() -> StrategySpec {
        StrategySpec::Rolling { max_unavailable: 1, order: Vec::new() }
    }
}

impl StrategySpec {
    /// How many replicas may be out of service at once.
    pub fn max_unavailable(&self) -> usize {
        match self {
            StrategySpec::Rolling { max_unavailable, .. } => usize::from(*max_unavailable),
        }
    }

    pub(crate) fn order(&self) -> &[String] {
        match self {
            StrategySpec::Rolling { order, .. } => order,
        }
    }

    /// The steps that bring a replica, wherever it is, to serve `target`.
    pub(crate) fn full_move(&self, target: VersionRef, parameters: MoveParameters) -> Vec<Step> {
        match self {
            StrategySpec::Rolling { .. } => {
                let gate = parameters.gate.then_some(Step::Gate);
                let warm_up = parameters.warm_up.then_some(Step::WarmUp);
                let soak = parameters.soak.then_some(Step::Soak);
                let middle =
                    [Step::TakeOut, Step::AwaitZero, Step::Stop, Step::GpuFree(target), Step::Start(target)];
                let checks = [Step::Health, Step::Identity(target), Step::Smoke];
                gate.into_iter()
                    .chain(middle)
                    .chain(checks)
                    .chain(warm_up)
                    .chain([Step::Admit])
                    .chain(soak)
                    .collect()
            }
        }
    }

    /// The steps that put a replica that was not stopped back into rotation with the version it still runs.
    pub(crate) fn put_back(&self, running: VersionRef) -> Vec<Step> {
        match self {
            StrategySpec::Rolling { .. } => {
                vec![Step::Health, Step::Identity(running), Step::Smoke, Step::Admit]
            }
        }
    }
}

/// Which of the optional steps a move has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoveParameters {
    pub(crate) gate: bool,
    pub(crate) warm_up: bool,
    pub(crate) soak: bool,
}

/// One step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Look at the replica, the window, the load; wait or hold when a drain would hurt.
    Gate,
    /// Out of rotation, confirmed.
    TakeOut,
    /// Nothing in flight, or the drain's time over.
    AwaitZero,
    /// The process gone.
    Stop,
    /// Memory free for this version.
    GpuFree(VersionRef),
    /// A process of this version.
    Start(VersionRef),
    /// Ready.
    Health,
    /// This version answers.
    Identity(VersionRef),
    /// The smoke prompt answered.
    Smoke,
    /// Caches filled, kernels compiled.
    WarmUp,
    /// Back in rotation, confirmed.
    Admit,
    /// Watched for a while.
    Soak,
}
