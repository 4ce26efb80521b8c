//! Predicted against actual: journals of rollouts that were lived through, beside simulated ones. Both are told by `policy::fold`.
//!
//! ```text
//! simulated rollouts of the same plan (many.rs) ─┐
//!                                                ├─► compare ─► Compared      one rollout: each move, each phase, latency
//! the executor's journal ─ fold ─► Seen ─────────┤
//!                                                ├─► calibrate ─► Calibration many rollouts: is what was promised kept?
//!                                                └─► measured ─► delays for the scenario
//! ```
//!
//! Seconds (`_s`) everywhere. `None`: not reached, or nobody measured it.

mod calibration;
mod compared;
mod latency;
mod many;
mod measured;

use serde::{Deserialize, Serialize};
use slackwater_policy::{ExpectedPhases, MoveReport, MoveResult, Outcome, Plan, RolloutReport, Span, Time};

pub use calibration::{CALIBRATION_SCHEMA, Calibration, Coverage, Kept, Share, TOLERANCE_S, calibrate};
pub use compared::{ACTUAL_SCHEMA, Band, BandSeen, Basis, Compared, LatencyRow, PhaseRow, compare};
pub use latency::{PhaseLatency, Sample, bands_seen, by_phase, of_figures};
pub use many::{SPREAD_PS, of_plan, of_scenario};
pub use measured::{Measured, measured};

/// How many phases a move is told in.
pub const PHASES: usize = 8;

/// Their names, for people, in the order of [`Phases::list`].
pub const PHASE_NAMES: [&str; PHASES] =
    ["drain", "stop", "GPU free", "load", "warm-up", "soak", "out", "whole"];

/// Seconds of a move's phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// From out of rotation to nothing in flight.
    pub drain_s: Option<f64>,
    /// From there to the process gone.
    pub stop_s: Option<f64>,
    /// From there to the GPU's memory free.
    pub gpu_free_s: Option<f64>,
    /// From the start to healthy.
    pub load_s: Option<f64>,
    /// From there to warm: fingerprint and smoke prompt included.
    pub warm_s: Option<f64>,
    /// From the confirmed return to the end of the move.
    pub soak_s: Option<f64>,
    /// From the order to leave to the confirmed return.
    pub out_s: Option<f64>,
    /// All of it, from the look at its gate on.
    pub whole_s: Option<f64>,
}

impl Phases {
    /// Those of a move.
    #[must_use]
    pub fn of(moved: &MoveReport) -> Self {
        let between = |from: Option<Time>, to: Option<Time>| Some(to?.since(from?).as_secs_f64());
        Self {
            drain_s: moved.drain().map(Span::as_secs_f64),
            stop_s: between(moved.drained_at, moved.stopped_at),
            gpu_free_s: between(moved.stopped_at, moved.gpu_free_at),
            load_s: moved.load().map(Span::as_secs_f64),
            warm_s: between(moved.healthy_at, moved.warmed_at),
            soak_s: between(moved.admitted_at, moved.ended_at),
            out_s: moved.out().map(Span::as_secs_f64),
            whole_s: between(Some(moved.started_at), moved.ended_at),
        }
    }

    /// In the order of [`PHASE_NAMES`].
    #[must_use]
    pub fn list(self) -> [Option<f64>; PHASES] {
        let Self { drain_s, stop_s, gpu_free_s, load_s, warm_s, soak_s, out_s, whole_s } = self;
        [drain_s, stop_s, gpu_free_s, load_s, warm_s, soak_s, out_s, whole_s]
    }

    /// From a list in that order.
    #[must_use]
    pub fn from_list(list: [Option<f64>; PHASES]) -> Self {
        let [drain_s, stop_s, gpu_free_s, load_s, warm_s, soak_s, out_s, whole_s] = list;
        Self { drain_s, stop_s, gpu_free_s, load_s, warm_s, soak_s, out_s, whole_s }
    }

    /// Each phase by itself.
    fn each(value: impl Fn(usize) -> Option<f64>) -> Self {
        Self::from_list(std::array::from_fn(value))
    }
}

/// One move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The replica's name.
    pub replica: String,
    /// It ended as it was to; `None`: it has not ended.
    pub done: Option<bool>,
    /// Requests cut.
    pub cut: u64,
    /// How often it was brought up.
    pub attempts: u32,
    /// How long it took.
    #[serde(flatten)]
    pub phases: Phases,
}

/// One rollout, lived through or simulated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// How it ended; `None` while it has not.
    pub outcome: Option<Outcome>,
    /// In the order begun.
    pub moves: Vec<Move>,
    /// Means over the moves.
    pub mean: Phases,
    /// From its start to its end.
    pub rollout_s: Option<f64>,
    /// With fewer than N serving.
    pub below_n_s: Option<f64>,
    /// The fewest that served at once.
    pub serving_min: Option<usize>,
    /// Requests cut.
    pub cut: Option<u64>,
    /// Before the rollout, during each move, after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<PhaseLatency>,
}

impl Seen {
    /// As a folded journal has it; latency is not in the fold.
    #[must_use]
    pub fn of(plan: &Plan, report: &RolloutReport) -> Self {
        let named = |moved: &MoveReport| Move {
            replica: plan
                .replicas
                .get(moved.replica.index())
                .map_or_else(|| moved.replica.to_string(), |replica| replica.name.clone()),
            done: moved.result.as_ref().map(|result| *result == MoveResult::Done),
            cut: moved.cut,
            attempts: moved.attempts,
            phases: Phases::of(moved),
        };
        let moves: Vec<Move> = report.moves.iter().map(named).collect();
        Self {
            outcome: report.outcome,
            mean: mean(&moves),
            moves,
            rollout_s: report.started_at.zip(report.ended_at).map(|(from, to)| to.since(from).as_secs_f64()),
            below_n_s: report.started_at.map(|_| report.time_below_n.as_secs_f64()),
            serving_min: Some(report.serving_min),
            cut: Some(report.cut),
            latency: Vec::new(),
        }
    }

    /// The same with what clients saw.
    #[must_use]
    pub fn with_latency(self, latency: Vec<PhaseLatency>) -> Self {
        Self { latency, ..self }
    }
}

fn mean(moves: &[Move]) -> Phases {
    Phases::each(|index| {
        let values: Vec<f64> = moves.iter().filter_map(|moved| moved.phases.list()[index]).collect();
        #[allow(clippy::cast_precision_loss)] // a handful of moves
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    })
}

/// What a rollout was expected to be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// From what, in words.
    pub source: String,
    /// Simulated rollouts; of a plan's own expectations one, without spread.
    pub rollouts: Vec<Seen>,
    /// They are the plan's expectations, nothing was simulated.
    pub stated: bool,
}

impl Prediction {
    /// What the plan itself expects of a move: medians, no spread, no rollout.
    #[must_use]
    pub fn stated(plan: &Plan) -> Self {
        let ExpectedPhases { drain, stop, gpu_free, load, warm, .. } = plan.expected;
        let seconds = |span: Option<Span>| span.map(Span::as_secs_f64);
        let phases = Phases {
            drain_s: seconds(drain),
            stop_s: seconds(stop),
            gpu_free_s: seconds(gpu_free),
            load_s: seconds(load),
            warm_s: seconds(warm),
            soak_s: Some(plan.rollout.soak.as_secs_f64()),
            // The plan's own `whole` is what a move takes at most, for its window.
            out_s: None,
            whole_s: None,
        };
        let moved = |name: &str| Move { replica: name.to_owned(), phases, ..Move::default() };
        let chosen = |name: &String| plan.only.is_empty() || plan.only.contains(name);
        let names = plan.replicas.iter().filter(|replica| !replica.is_spare()).map(|replica| &replica.name);
        let moves: Vec<Move> = names.filter(|name| chosen(name)).map(|name| moved(name)).collect();
        let seen = Seen { mean: mean(&moves), moves, ..Seen::default() };
        Self { source: "the plan's own expectations".to_owned(), rollouts: vec![seen], stated: true }
    }

    /// One simulated rollout.
    #[must_use]
    pub fn one(source: &str, seen: Seen) -> Self {
        Self { source: source.to_owned(), rollouts: vec![seen], stated: false }
    }

    /// All values of a phase, in order.
    pub(crate) fn phase(&self, index: usize) -> Vec<f64> {
        let moves = self.rollouts.iter().flat_map(|seen| &seen.moves);
        sorted(moves.filter_map(|moved| moved.phases.list()[index]).collect())
    }

    /// All values of a figure of the whole rollout, in order.
    pub(crate) fn whole(&self, value: impl Fn(&Seen) -> Option<f64>) -> Vec<f64> {
        sorted(self.rollouts.iter().filter_map(value).collect())
    }
}

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
