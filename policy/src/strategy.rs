//! Strategies as data: a strategy says which replicas move together and which steps a move is made of; one interpreter runs the steps.
//!
//! A strategy that is added later is a variant of [`StrategySpec`] and its lists here, and, where it does not simply move each replica in its
//! place, a line in `rollout/due.rs`, which says what a place needs now.

use serde::{Deserialize, Serialize};

use crate::time::human;
use crate::{CompareSpec, Span, VersionRef};

/// How the fleet is moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        /// The comparison of the canary with the old version that must say pass before anybody else is moved; absent: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compare: Option<Compare>,
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
    /// Spare places first: they are brought up in the new version, the others are moved in place while they serve, then the spares are emptied.
    ///
    /// So many move at a time that no fewer than `N - max_unavailable` serve, spares counted: as many as spares serve, and `max_unavailable`
    /// more. A rollback moves those that were moved back while spares serve (they are brought up for it where they are needed), then
    /// empties them.
    Surge {
        /// How many fewer than N may serve; 0 is the point of it.
        #[serde(default)]
        max_unavailable: u16,
        /// As in `rolling`, for the replicas that are not spare.
        #[serde(default)]
        order: Vec<String>,
    },
    /// Onto spare places, as many as there are replicas: all come up in the new version out of rotation, wait for each other, and are admitted
    /// together; then all old ones are taken out, drained, kept for a way back, and stopped. The versions are mixed only for the moment of the
    /// switch. The spares serve in the end and the old places are empty.
    BlueGreen {
        /// How long an old one is kept, drained but running, after it left: a rollback in that time only changes the rotation back.
        #[serde(default = "ten_minutes", with = "human")]
        keep_old: Span,
    },
    /// Blue-green on the same chassis, without spares: the first half leaves, comes up in the new version out of rotation, and is admitted
    /// when all of it is ready; at once the other half leaves and is moved in its turn. `N - half` serve meanwhile, which the gate asks for
    /// before any leaves. A replica that is down by itself is moved before both and waits for nobody.
    Halves {
        /// Names of the first half; empty means the first half as listed, rounded up, of those the plan moves.
        #[serde(default)]
        first: Vec<String>,
    },
    /// Every replica has a twin `beside` it on the same GPUs: the twin is started in the new version while the old one serves, checked and
    /// admitted; then the old one is taken out, drained, kept for a way back, and stopped. The twins serve in the end and the old places are
    /// empty. Never fewer than N serve.
    SideBySide {
        /// How many pairs at a time, at least 1.
        #[serde(default = "one")]
        pairs_at_once: u16,
        /// As in `blue_green`; a kept one does not keep the next pair from beginning.
        #[serde(default = "ten_minutes", with = "human")]
        keep_old: Span,
        /// As in `rolling`, names of the old ones.
        #[serde(default)]
        order: Vec<String>,
    },
    /// As rolling, but the process stays and changes its weights ([`Action::Swap`](crate::Action::Swap)) where it is up. A swap that fails,
    /// or leaves something wrong, is never tried twice: the way back is a full stop and a start.
    Swap {
        /// As in `rolling`.
        #[serde(default = "one")]
        max_unavailable: u16,
        /// As in `rolling`.
        #[serde(default)]
        order: Vec<String>,
    },
}

/// Where the new version comes up, and what becomes of the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In place.
    InPlace,
    /// In place, in two groups.
    Halves,
    /// In place, with the help of spares.
    Surge,
    /// On the spares, all at once.
    Switch,
    /// On each one's twin.
    Pairs,
}

/// Who compares the canary with the old version. Either may find it worse from its admission on, which rolls it back at once; it passes
/// when its soak is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Compare {
    /// Somebody outside, who tells it as [`Event::Comparison`](crate::Event::Comparison) while the canary soaks or after; the last word
    /// counts.
    Told,
    /// The policy itself, of what it is told as [`Event::Evidence`](crate::Event::Evidence), by the test of [`Comparison`](crate::Comparison).
    Measured(CompareSpec),
}

fn one() -> u16 {
    1
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
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
    /// How many fewer than N may serve, by our doing. (For `halves` see [`Plan::unavailable_max`](crate::Plan::unavailable_max).)
    pub fn max_unavailable(&self) -> usize {
        match self {
            StrategySpec::Rolling { max_unavailable, .. }
            | StrategySpec::Canary { max_unavailable, .. }
            | StrategySpec::Surge { max_unavailable, .. }
            | StrategySpec::Swap { max_unavailable, .. } => usize::from(*max_unavailable),
            StrategySpec::Recreate { at_once, .. } => at_once.map_or(usize::MAX, usize::from),
            StrategySpec::BlueGreen { .. }
            | StrategySpec::Halves { .. }
            | StrategySpec::SideBySide { .. } => 0,
        }
    }

    /// Whether the plan says that nobody may serve for a while.
    pub fn accepts_downtime(&self) -> bool {
        matches!(self, StrategySpec::Recreate { accept_downtime: true, .. })
    }

    /// How long the first replica is watched before any other is moved; `None` where it is as the others.
    pub fn canary_soak(&self) -> Option<Span> {
        match self {
            StrategySpec::Canary { canary_soak, .. } => Some(*canary_soak),
            _ => None,
        }
    }

    /// How long a comparison of the canary with the old version is waited for; `None` where the plan asks for none.
    pub fn compare_within(&self) -> Option<Span> {
        match self {
            StrategySpec::Canary { compare: Some(_), compare_within, .. } => Some(*compare_within),
            _ => None,
        }
    }

    /// The test the policy makes itself of what it is told of both versions; `None` where it makes none.
    pub fn measured_comparison(&self) -> Option<CompareSpec> {
        match self {
            StrategySpec::Canary { compare: Some(Compare::Measured(spec)), .. } => Some(*spec),
            _ => None,
        }
    }

    pub(crate) fn canary(&self) -> Option<&String> {
        match self {
            StrategySpec::Canary { canary, .. } => canary.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        match self {
            StrategySpec::Rolling { .. }
            | StrategySpec::Canary { .. }
            | StrategySpec::Recreate { .. }
            | StrategySpec::Swap { .. } => Layout::InPlace,
            StrategySpec::Surge { .. } => Layout::Surge,
            StrategySpec::BlueGreen { .. } => Layout::Switch,
            StrategySpec::Halves { .. } => Layout::Halves,
            StrategySpec::SideBySide { .. } => Layout::Pairs,
        }
    }

    /// How long an old one is kept running after it left.
    pub(crate) fn keep_old(&self) -> Span {
        match self {
            StrategySpec::BlueGreen { keep_old } | StrategySpec::SideBySide { keep_old, .. } => *keep_old,
            _ => Span::ZERO,
        }
    }

    /// Whether an old one that others have taken over from is kept before it is stopped.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self.layout(), Layout::Switch | Layout::Pairs)
    }

    /// Whether one that does not serve waits for others as those that do: where it is empty because all come up together, or all are down.
    pub(crate) fn waits_when_down(&self) -> bool {
        !matches!(self, StrategySpec::Halves { .. })
    }

    pub(crate) fn pairs_at_once(&self) -> usize {
        match self {
            StrategySpec::SideBySide { pairs_at_once, .. } => usize::from(*pairs_at_once),
            _ => usize::MAX,
        }
    }

    /// Whether replicas leave together, and the next do so when these are done.
    pub(crate) fn together(&self) -> bool {
        matches!(self, StrategySpec::Recreate { .. } | StrategySpec::Halves { .. })
    }

    /// Whether nobody is first: many get the new version at the same time.
    pub(crate) fn nobody_first(&self) -> bool {
        self.together() || self.layout() == Layout::Switch
    }

    pub(crate) fn order(&self) -> &[String] {
        match self {
            StrategySpec::Rolling { order, .. }
            | StrategySpec::Canary { order, .. }
            | StrategySpec::Recreate { order, .. }
            | StrategySpec::Surge { order, .. }
            | StrategySpec::SideBySide { order, .. }
            | StrategySpec::Swap { order, .. } => order,
            StrategySpec::BlueGreen { .. } | StrategySpec::Halves { .. } => &[],
        }
    }

    /// The steps that bring a place, wherever it is, to serve `target`.
    pub(crate) fn bring(&self, target: VersionRef, parameters: MoveParameters) -> Vec<Step> {
        // A move that mends waits for nobody, and neither does one of a replica that was down.
        let recreates = parameters.waits && matches!(self, StrategySpec::Recreate { .. });
        let swaps = parameters.swap && matches!(self, StrategySpec::Swap { .. });
        let switches = matches!(self.layout(), Layout::Switch | Layout::Halves) && target == VersionRef::To;
        let checked = parameters.waits && switches;
        let mut steps = Vec::with_capacity(20);
        let mut add = |when: bool, step: Step| {
            if when {
                steps.push(step);
            }
        };
        let down = !parameters.runs_already;
        add(parameters.gate, Step::Gate);
        add(parameters.waits && down && self.together(), Step::AllReady);
        add(down, Step::TakeOut);
        add(down, Step::AwaitZero);
        add(down && swaps, Step::Swap(target));
        add(down && !swaps, Step::Stop);
        add(down && recreates, Step::AllStopped);
        add(down && !swaps, Step::GpuFree(target));
        add(down && !swaps, Step::Start(target));
        add(true, Step::Health);
        add(true, Step::Identity(target));
        add(true, Step::Smoke);
        add(down && parameters.warm_up, Step::WarmUp);
        add(down && parameters.evaluate_out, Step::Evaluate { live: false });
        add(checked, Step::AllChecked);
        add(true, Step::Admit);
        add(parameters.ramp, Step::Ramp);
        add(parameters.soak, Step::Soak);
        add(parameters.evaluate_live, Step::Evaluate { live: true });
        add(parameters.compare, Step::Compare);
        steps
    }

    /// The steps that empty a place, or only bring it out of rotation with nothing in flight.
    pub(crate) fn retire(&self, gate: bool, keep: bool) -> Vec<Step> {
        let gate = gate.then_some(Step::Gate);
        let stop = (!keep).then_some(Step::Stop);
        gate.into_iter().chain([Step::TakeOut, Step::AwaitZero]).chain(stop).collect()
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
    /// It goes through the steps at which replicas wait for each other.
    pub(crate) waits: bool,
    /// Its process is up with the right version: only checks and the admission are left.
    pub(crate) runs_already: bool,
    /// In place of a stop and a start, where the strategy has it.
    pub(crate) swap: bool,
    pub(crate) warm_up: bool,
    pub(crate) evaluate_out: bool,
    pub(crate) ramp: bool,
    pub(crate) evaluate_live: bool,
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
    /// The process changes its weights to this version's.
    Swap(VersionRef),
    /// Ready.
    Health,
    /// This version answers.
    Identity(VersionRef),
    /// The smoke prompt answered.
    Smoke,
    /// Caches filled, kernels compiled.
    WarmUp,
    /// The user's own check of its quality.
    Evaluate {
        /// On a replica that serves.
        live: bool,
    },
    /// Every replica that is to be admitted with it is ready for it.
    AllChecked,
    /// Back in rotation, confirmed.
    Admit,
    /// Its weight in the balancer raised to the whole, by and by.
    Ramp,
    /// Watched for a while.
    Soak,
    /// A comparison with the old version has said pass.
    Compare,
}
