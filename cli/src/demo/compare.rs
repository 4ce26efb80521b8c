//! Predicted against actual: the same fold of two journals, and what clients saw of each.

use serde::Serialize;
use slackwater_load::Report;
use slackwater_policy::{MoveReport, Outcome, Plan, RolloutReport, Span};
use slackwater_sim::SimulationResult;

/// The result of a demo.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    outcome: Option<Outcome>,
    requests: Requests,
    predicted: Table,
    actual: Table,
    /// Actual less predicted, mean over the moves; seconds.
    errors: Phases,
}

#[derive(Debug, Serialize)]
struct Requests {
    sent: u64,
    completed: u64,
    failed: u64,
    truncated: u64,
    duplicated: u64,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Table {
    moves: Vec<Move>,
    mean: Phases,
    rollout_s: Option<f64>,
    below_n_s: f64,
    serving_min: usize,
    cut: u64,
    ttft_p50_s: Option<f64>,
    ttft_p99_s: Option<f64>,
    /// Predicted: mean time per output token of each request. Actual: each gap between two tokens.
    tpot_p50_s: Option<f64>,
    tpot_p99_s: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Move {
    replica: String,
    #[serde(flatten)]
    phases: Phases,
}

/// Seconds of a move's phases.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Phases {
    /// From out of rotation to nothing in flight.
    drain_s: Option<f64>,
    /// From there to the process gone.
    stop_s: Option<f64>,
    /// From the start to healthy.
    load_s: Option<f64>,
    /// From there to warm.
    warm_s: Option<f64>,
    /// From the order to leave to the confirmed return.
    out_s: Option<f64>,
    /// All of it, the soak included.
    whole_s: Option<f64>,
}

const NAMES: [&str; 6] = ["drain", "stop", "load", "warm", "out", "whole"];

impl Phases {
    fn of(mv: &MoveReport) -> Phases {
        let between = |from: Option<slackwater_policy::Time>, to: Option<slackwater_policy::Time>| {
            Some(to?.since(from?).as_secs_f64())
        };
        Phases {
            drain_s: mv.drain().map(Span::as_secs_f64),
            stop_s: between(mv.drained_at, mv.stopped_at),
            load_s: mv.load().map(Span::as_secs_f64),
            warm_s: between(mv.healthy_at, mv.warmed_at),
            out_s: mv.out().map(Span::as_secs_f64),
            whole_s: between(Some(mv.started_at), mv.ended_at),
        }
    }

    fn list(self) -> [Option<f64>; 6] {
        [self.drain_s, self.stop_s, self.load_s, self.warm_s, self.out_s, self.whole_s]
    }

    fn from_list([drain_s, stop_s, load_s, warm_s, out_s, whole_s]: [Option<f64>; 6]) -> Phases {
        Phases { drain_s, stop_s, load_s, warm_s, out_s, whole_s }
    }

    fn mean(moves: &[Move]) -> Phases {
        let mean = |index: usize| {
            let values: Vec<f64> = moves.iter().filter_map(|mv| mv.phases.list()[index]).collect();
            #[allow(clippy::cast_precision_loss)] // a handful of moves
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Phases::from_list(std::array::from_fn(mean))
    }
}

impl Table {
    fn of(plan: &Plan, report: &RolloutReport) -> Table {
        let named = |mv: &MoveReport| Move {
            replica: plan.replicas[mv.replica.index()].name.clone(),
            phases: Phases::of(mv),
        };
        let moves: Vec<Move> = report.moves.iter().map(named).collect();
        Table {
            mean: Phases::mean(&moves),
            moves,
            rollout_s: report
                .started_at
                .zip(report.ended_at)
                .map(|(start, end)| end.since(start).as_secs_f64()),
            below_n_s: report.time_below_n.as_secs_f64(),
            serving_min: report.serving_min,
            cut: report.cut,
            ttft_p50_s: None,
            ttft_p99_s: None,
            tpot_p50_s: None,
            tpot_p99_s: None,
        }
    }
}

impl Compared {
    pub(super) fn new(
        plan: &Plan,
        predicted: &RolloutReport,
        actual: &RolloutReport,
        simulated: &SimulationResult,
        load: &Report,
    ) -> Compared {
        let outcome = actual.outcome;
        let mut predicted = Table::of(plan, predicted);
        (predicted.ttft_p50_s, predicted.ttft_p99_s) = (simulated.ttft_s.p50, simulated.ttft_s.p99);
        (predicted.tpot_p50_s, predicted.tpot_p99_s) = (simulated.tpot_s.p50, simulated.tpot_s.p99);
        let mut actual = Table::of(plan, actual);
        let quantile = |latency: &slackwater_load::Latency, share| {
            (latency.count() > 0).then(|| latency.quantile_s(share))
        };
        (actual.ttft_p50_s, actual.ttft_p99_s) = (quantile(&load.ttft, 0.5), quantile(&load.ttft, 0.99));
        (actual.tpot_p50_s, actual.tpot_p99_s) = (quantile(&load.itl, 0.5), quantile(&load.itl, 0.99));
        let (old, new) = (predicted.mean.list(), actual.mean.list());
        let errors = Phases::from_list(std::array::from_fn(|index| Some(new[index]? - old[index]?)));
        let requests = Requests {
            sent: load.sent,
            completed: load.completed,
            failed: load.failed,
            truncated: load.truncated,
            duplicated: load.duplicated,
            faults: load.faults.clone(),
        };
        Compared { outcome, requests, predicted, actual, errors }
    }

    /// As a table for people.
    pub(super) fn text(&self) -> String {
        let Requests { sent, completed, failed, truncated, duplicated, .. } = self.requests;
        let outcome = self.outcome.map_or("not over".to_owned(), |outcome| format!("{outcome:?}"));
        let mut text = format!(
            "{outcome}: {sent} requests sent, {completed} completed, {failed} failed, {truncated} truncated, {duplicated} duplicated\n\n\
             seconds      {}\n",
            NAMES.map(|name| format!("{name:>16}")).concat()
        );
        let row = |name: &str, predicted: Phases, actual: Phases| {
            let cell = |(old, new): (Option<f64>, Option<f64>)| {
                let show = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
                format!("{:>16}", format!("{} → {}", show(old), show(new)))
            };
            let cells: String = predicted.list().into_iter().zip(actual.list()).map(cell).collect();
            format!("{name:<13}{cells}\n")
        };
        for (old, new) in self.predicted.moves.iter().zip(&self.actual.moves) {
            text.push_str(&row(&new.replica, old.phases, new.phases));
        }
        text.push_str(&row("mean", self.predicted.mean, self.actual.mean));
        let pair = |old: Option<f64>, new: Option<f64>, unit: f64| {
            let show =
                |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.1}", value * unit));
            format!("{} → {}", show(old), show(new))
        };
        let (old, new) = (&self.predicted, &self.actual);
        text.push_str(&format!(
            "\nrollout s {}; below N s {}; TTFT ms p50 {}, p99 {}; TPOT ms p50 {}, p99 {} (predicted → actual)",
            pair(old.rollout_s, new.rollout_s, 1.0),
            pair(Some(old.below_n_s), Some(new.below_n_s), 1.0),
            pair(old.ttft_p50_s, new.ttft_p50_s, 1e3),
            pair(old.ttft_p99_s, new.ttft_p99_s, 1e3),
            pair(old.tpot_p50_s, new.tpot_p50_s, 1e3),
            pair(old.tpot_p99_s, new.tpot_p99_s, 1e3),
        ));
        text
    }
}
