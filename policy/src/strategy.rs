//! Strategies as data: a strategy says which replicas move together and which steps a move is made of; one interpreter runs the steps.
//!
//! A strategy that is added later is a variant of [`StrategySpec`] and its lists here. Recreate has two steps at which replicas wait for each
//! other, and accepts downtime in its form of the safety conditions; side by side will order `Start` before `TakeOut`.

use serde::{Deserialize, Serialize};

use crate::time::human;
use crate::{Span, VersionRef};

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
    /// One replica first, watched for longer; then rolling.
    ///
    /// The canary is the first replica that gets the new version: the named one, else the first of `order`. One that is down is moved before
    /// it, as that costs nothing, and is the canary then. Nobody else is moved until it has served the new version for `canary_soak` without
    /// a break; `rollout.approve = "first"` asks a person after that. A canary that goes down while it soaks has failed at once, as one that
    /// never came up (`rollout.on_failure`); a guard breached while it soaks rolls it back, whatever the guard's action is, and that ends the
    /// rollout. A rollback has no canary.
    Canary {
        /// Which replica.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<String>,
        /// How long it is watched; the others soak for `rollout.soak`.
        #[serde(default = "quarter_of_an_hour", with = "human")]
        canary_soak: Span,
        /// Whether a comparison of the canary with the old version must say pass before anybody else is moved. It is made outside and told
        /// as [`Event::Comparison`](crate::Event::Comparison) while the canary soaks or after; the last word counts.
        #[serde(default)]
        compare: bool,
        /// How long after the soak that word is waited for before the rollout holds. A person who then says resume takes it for passed.
        #[serde(default = "an_hour", with = "human")]
        compare_within: Span,
        /// As in `rolling`, for the others.
        #[serde(default = "one")]
        max_unavailable: u16,
        /// As in `rolling`.
        #[serde(default)]
        order: Vec<String>,
    },
    /// Downtime accepted: replicas are drained, stopped and started together, all at once or so many at a time.
    ///
    /// A chunk leaves service when each of its replicas has passed its gate, and starts when each that left is stopped: with all at once,
    /// the old version and the new never serve side by side. The gate asks for the window and the way back, not for headroom. While nobody
    /// serves, guards are not fed: the errors are the accepted ones.
    Recreate {
        /// Must be true: the plan says in so many words that nobody may serve for a while.
        #[serde(default)]
        accept_downtime: bool,
        /// How many go together; absent means all that the plan moves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_once: Option<u16>,
        /// As in `rolling`; matters where not all go together.
        #[serde(default)]
        order: Vec<String>,
    },
}

fn one() -> u16 {
    1
}

fn an_hour() -> Span {
    Span::from_secs(3_600)
}

fn quarter_of_an_hour() -> Span {
    Span::from_secs(900)
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
            StrategySpec::Rolling { max_unavailable, .. } | StrategySpec::Canary { max_unavailable, .. } => {
                usize::from(*max_unavailable)
            }
            StrategySpec::Recreate { at_once, .. } => at_once.map_or(usize::MAX, usize::from),
        }
    }

    /// Whether the plan says that nobody may serve for a while.
    pub fn accepts_downtime(&self) -> bool {
        match self {
            StrategySpec::Rolling { .. } | StrategySpec::Canary { .. } => false,
            StrategySpec::Recreate { accept_downtime, .. } => *accept_downtime,
        }
    }

    /// How long the first replica is watched before any other is moved; `None` where it is as the others.
    pub fn canary_soak(&self) -> Option<Span> {
        match self {
            StrategySpec::Canary { canary_soak, .. } => Some(*canary_soak),
            StrategySpec::Rolling { .. } | StrategySpec::Recreate { .. } => None,
        }
    }

    /// How long a comparison of the canary with the old version is waited for; `None` where the plan asks for none.
    pub fn compare_within(&self) -> Option<Span> {
        match self {
            StrategySpec::Canary { compare: true, compare_within, .. } => Some(*compare_within),
            _ => None,
        }
    }

    pub(crate) fn canary(&self) -> Option<&String> {
        match self {
            StrategySpec::Canary { canary, .. } => canary.as_ref(),
            StrategySpec::Rolling { .. } | StrategySpec::Recreate { .. } => None,
        }
    }

    /// Whether replicas leave and start together, and the next do so when these are done.
    pub(crate) fn together(&self) -> bool {
        matches!(self, StrategySpec::Recreate { .. })
    }

    pub(crate) fn order(&self) -> &[String] {
        match self {
            StrategySpec::Rolling { order, .. }
            | StrategySpec::Canary { order, .. }
            | StrategySpec::Recreate { order, .. } => order,
        }
    }

    /// The steps that bring a replica, wherever it is, to serve `target`.
    pub(crate) fn full_move(&self, target: VersionRef, parameters: MoveParameters) -> Vec<Step> {
        // A move that mends waits for nobody.
        let together = parameters.gate && self.together();
        let gate = parameters.gate.then_some(Step::Gate);
        let ready = together.then_some(Step::AllReady);
        let stopped = together.then_some(Step::AllStopped);
        let warm_up = parameters.warm_up.then_some(Step::WarmUp);
        let soak = parameters.soak.then_some(Step::Soak);
        let down = [Step::TakeOut, Step::AwaitZero, Step::Stop];
        let up = [Step::GpuFree(target), Step::Start(target)];
        let checks = [Step::Health, Step::Identity(target), Step::Smoke];
        gate.into_iter()
            .chain(ready)
            .chain(down)
            .chain(stopped)
            .chain(up)
            .chain(checks)
            .chain(warm_up)
            .chain([Step::Admit])
            .chain(soak)
            .chain(parameters.compare.then_some(Step::Compare))
            .collect()
    }

    /// The steps that put a replica that was not stopped back into rotation with the version it still runs.
    pub(crate) fn put_back(&self, running: VersionRef) -> Vec<Step> {
        vec![Step::Health, Step::Identity(running), Step::Smoke, Step::Admit]
    }
}

/// Which of the optional steps a move has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoveParameters {
    pub(crate) gate: bool,
    pub(crate) warm_up: bool,
    pub(crate) soak: bool,
    pub(crate) compare: bool,
}

/// One step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Look at the replica, the window, the load; wait or hold when a drain would hurt.
    Gate,
    /// Every replica of its chunk is through its gate.
    AllReady,
    /// Out of rotation, confirmed.
    TakeOut,
    /// Nothing in flight, or the drain's time over.
    AwaitZero,
    /// The process gone.
    Stop,
    /// Every replica that left with it is stopped.
    AllStopped,
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
    /// A comparison with the old version has said pass.
    Compare,
}
