//! What clients saw, by phase of the rollout: before it, during each move, after it.
//!
//! A request belongs to the phase in which it was sent, as in the simulator's own books (`PhaseResult`).

use serde::{Deserialize, Serialize};
use slackwater_policy::{Entry, Event, Figure, Plan, Record, RolloutReport, Time};
use slackwater_sim::PhaseResult;

use super::sorted;
use crate::screen::quantile;

/// Before the first move began.
pub(crate) const BEFORE: &str = "before";
/// After the rollout's end.
pub(crate) const AFTER: &str = "after";
const HOLD: &str = "hold";

/// Latencies of one phase, seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseLatency {
    /// `before`, a replica's name, `hold`, `after`.
    pub phase: String,
    /// Requests, or samples of live figures.
    pub count: u64,
    /// Time to first token, median.
    pub ttft_p50_s: Option<f64>,
    /// 99th percentile.
    pub ttft_p99_s: Option<f64>,
    /// Mean time per output token after the first of each request, median.
    pub tpot_p50_s: Option<f64>,
    /// 99th percentile.
    pub tpot_p99_s: Option<f64>,
}

/// One request as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was sent, on the clock of the journal.
    pub sent_at: Time,
    /// Time to first token.
    pub ttft_s: Option<f64>,
    /// Mean time per output token after the first.
    pub tpot_s: Option<f64>,
}

impl From<&PhaseResult> for PhaseLatency {
    fn from(phase: &PhaseResult) -> Self {
        Self {
            phase: phase.name.clone(),
            count: phase.requests.completed,
            ttft_p50_s: phase.ttft_s.p50,
            ttft_p99_s: phase.ttft_s.p99,
            tpot_p50_s: phase.tpot_s.p50,
            tpot_p99_s: phase.tpot_s.p99,
        }
    }
}

impl PhaseLatency {
    pub(crate) fn figures(&self) -> [Option<f64>; 4] {
        [self.ttft_p50_s, self.ttft_p99_s, self.tpot_p50_s, self.tpot_p99_s]
    }
}

/// When each phase began, in order.
fn phases(plan: &Plan, report: &RolloutReport) -> Vec<(Time, String)> {
    let name = |index: usize| plan.replicas.get(index).map_or_else(String::new, |it| it.name.clone());
    let mut begun = vec![(Time::ZERO, BEFORE.to_owned())];
    begun.extend(report.moves.iter().map(|moved| (moved.started_at, name(moved.replica.index()))));
    begun.extend(report.holds.iter().map(|hold| (hold.began_at, HOLD.to_owned())));
    // What came at one instant stays in the order of the journal.
    begun.sort_by_key(|(at, _)| *at);
    begun.extend(report.ended_at.map(|at| (at, AFTER.to_owned())));
    begun
}

/// The phase of an instant.
fn phase_at(phases: &[(Time, String)], at: Time) -> usize {
    phases.partition_point(|(begun, _)| *begun <= at).saturating_sub(1)
}

/// Requests to the phases in which they were sent; a phase in which none was is left out.
#[must_use]
pub fn by_phase(plan: &Plan, report: &RolloutReport, samples: &[Sample]) -> Vec<PhaseLatency> {
    let phases = phases(plan, report);
    let mut found = vec![(Vec::new(), Vec::new(), 0); phases.len()];
    for sample in samples {
        let (ttft, tpot, count) = &mut found[phase_at(&phases, sample.sent_at)];
        ttft.extend(sample.ttft_s);
        tpot.extend(sample.tpot_s);
        *count += 1;
    }
    let rows = phases.into_iter().zip(found).filter(|(_, (_, _, count))| *count > 0);
    rows.map(|((_, phase), (ttft, tpot, count))| {
        let (ttft, tpot) = (sorted(ttft), sorted(tpot));
        PhaseLatency {
            phase,
            count,
            ttft_p50_s: quantile(&ttft, 0.5),
            ttft_p99_s: quantile(&ttft, 0.99),
            tpot_p50_s: quantile(&tpot, 0.5),
            tpot_p99_s: quantile(&tpot, 0.99),
        }
    })
    .collect()
}

/// What the journal itself has: the live figures that its guards were shown, each of the minute before it. Medians of the medians, and the
/// largest of the 99th percentiles: a phase is often shorter than the minute, so this is coarser than requests one by one.
#[must_use]
pub fn of_figures(plan: &Plan, report: &RolloutReport, records: &[Record]) -> Vec<PhaseLatency> {
    let phases = phases(plan, report);
    let mut found: Vec<[Vec<f64>; 4]> = vec![Default::default(); phases.len()];
    for record in records {
        let Entry::Event(Event::Figure { figure, value }) = &record.entry else { continue };
        let place = match figure {
            Figure::TtftP50 => 0,
            Figure::TtftP99 => 1,
            Figure::TpotP50 => 2,
            Figure::TpotP99 => 3,
            Figure::E2eP99 | Figure::ErrorRate | Figure::QueueDepth => continue,
        };
        found[phase_at(&phases, record.at)][place].push(*value);
    }
    let median = |values: &[f64]| quantile(&sorted(values.to_vec()), 0.5);
    let largest = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let rows = phases.into_iter().zip(found).filter(|(_, found)| found.iter().any(|it| !it.is_empty()));
    rows.map(|((_, phase), [ttft_p50, ttft_p99, tpot_p50, tpot_p99])| PhaseLatency {
        phase,
        count: ttft_p50.len().max(ttft_p99.len()).max(tpot_p50.len()).max(tpot_p99.len()) as u64,
        ttft_p50_s: median(&ttft_p50),
        ttft_p99_s: largest(&ttft_p99),
        tpot_p50_s: median(&tpot_p50),
        tpot_p99_s: largest(&tpot_p99),
    })
    .collect()
}

/// Each of the plan's guards and the largest value it was shown.
#[must_use]
pub fn bands_seen(plan: &Plan, records: &[Record]) -> Vec<super::BandSeen> {
    let largest = |wanted: Figure| {
        let values = records.iter().filter_map(|record| match &record.entry {
            Entry::Event(Event::Figure { figure, value }) if *figure == wanted => Some(*value),
            _ => None,
        });
        values.reduce(f64::max)
    };
    let guards = plan.guards.iter();
    guards
        .map(|guard| super::BandSeen {
            figure: guard.figure,
            limit: guard.limit,
            sustained_s: guard.sustained.as_secs_f64(),
            largest: largest(guard.figure),
        })
        .collect()
}
