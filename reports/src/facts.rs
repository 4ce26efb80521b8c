//! Selections from a result that several renderers need: nothing here is computed that is not already in the data.

use slackwater_sim::{
    FaultFigures, LatencySummary, MoveFigures, PhaseDistribution, PhaseResult, PrefixShare, RolloutResult,
    SessionsResult, SimulationResult,
};

use crate::format::{NONE, count, counted, figure, share};

/// Whether clients sent anything twice.
pub(crate) fn any_retries(result: &SimulationResult) -> bool {
    result.attempts.sent > result.requests.arrived
}

/// A fault in words: what it was, when it was to come, and what came of it. `at` names a time.
pub(crate) fn fault_in_words(fault: &FaultFigures, at: impl Fn(f64) -> String) -> String {
    let planned = format!("{} {}", fault.kind, fault.when);
    match (fault.came_s, fault.befell.first()) {
        (None, _) => format!("{planned}: never came"),
        (Some(came), None) => format!("{planned}: came {} and found nothing to befall", at(came)),
        (Some(_), Some(first)) => {
            let place = if first.replica.is_empty() { "the rollout" } else { &first.replica };
            let often = match fault.times {
                0 | 1 => String::new(),
                times => format!(", {} in all", counted(times, "time")),
            };
            let over = fault.until_s.map_or_else(String::new, |until| format!(", over {}", at(until)));
            format!("{planned}: befell {place} {}{often}{over}", at(first.at_s))
        }
    }
}

/// Attempts against requests, in words; `None` where nothing was sent twice.
pub(crate) fn retries_in_words(result: &SimulationResult, at: impl Fn(f64) -> String) -> Option<String> {
    let retries = &result.retries;
    any_retries(result).then(|| {
        let mut text = format!(
            "{} attempts a request, {} in the worst minute (from {})",
            figure(retries.amplification),
            figure(retries.worst_minute),
            at(retries.worst_minute_at_s)
        );
        if retries.out_of_budget > 0 {
            text.push_str(&format!("; {} not made, the budget being spent", count(retries.out_of_budget)));
        }
        text
    })
}

/// What the balancer's read time-out did, in words; `None` where it did nothing.
pub(crate) fn read_time_outs_in_words(result: &SimulationResult) -> Option<String> {
    let cut = result.retries.read_timed_out;
    (cut > 0).then(|| format!("{} ended by the balancer, which saw nothing to read", counted(cut, "attempt")))
}

/// Where a phase lies relative to the moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Before,
    During,
    After,
}

/// A phase is before, after, or (a replica's move, a hold) during.
pub(crate) fn part(phase: &str) -> Part {
    match phase {
        "before" => Part::Before,
        "after" => Part::After,
        _ => Part::During,
    }
}

/// The phase before the first move, if anything arrived in it.
pub(crate) fn before(result: &SimulationResult) -> Option<&PhaseResult> {
    result.phases.iter().find(|p| part(&p.name) == Part::Before)
}

/// The phases of moves and holds.
pub(crate) fn during(result: &SimulationResult) -> impl Iterator<Item = &PhaseResult> {
    result.phases.iter().filter(|p| part(&p.name) == Part::During)
}

/// The highest p99 of any move: percentiles of parts can't be merged, so the worst part is what is quoted.
pub(crate) fn worst_p99(
    result: &SimulationResult,
    summary: impl Fn(&PhaseResult) -> &LatencySummary,
) -> Option<f64> {
    during(result).filter_map(|p| summary(p).p99).filter(|v| v.is_finite()).reduce(f64::max)
}

/// Fewest replicas in rotation during the rollout.
pub(crate) fn serving_min(result: &SimulationResult) -> Option<u32> {
    during(result).map(|p| p.serving_min).min()
}

/// The move a phase is named for: same replica, overlapping in time.
pub(crate) fn move_of<'a>(rollout: &'a RolloutResult, phase: &PhaseResult) -> Option<&'a MoveFigures> {
    let same = |m: &&MoveFigures| m.replica == phase.name;
    let overlaps =
        |m: &&MoveFigures| m.started_s < phase.until_s && m.ended_s.is_none_or(|end| end > phase.from_s);
    let moves = || rollout.moves.iter();
    moves().filter(same).find(overlaps).or_else(|| moves().find(same))
}

/// How long the drain of a move took: from out of rotation to nothing in flight.
pub(crate) fn drain_s(m: &MoveFigures) -> Option<f64> {
    Some(m.drained_s? - m.taken_out_s?)
}

/// Moves that are to end in rotation; the others empty a place.
pub(crate) fn arrivals(rollout: &RolloutResult) -> impl Iterator<Item = &MoveFigures> {
    rollout.moves.iter().filter(|m| !m.leaves)
}

/// Of those, the ones that did.
pub(crate) fn admitted(rollout: &RolloutResult) -> usize {
    arrivals(rollout).filter(|m| m.admitted_s.is_some()).count()
}

/// What the comparison of the canary with the old version said, in a line; `None` where none was made.
pub(crate) fn canary(result: &SimulationResult) -> Option<String> {
    let canary = result.rollout.as_ref()?.canary.as_ref()?;
    let minutes = format!("{} minutes of evidence", figure(canary.evidence_minutes));
    Some(match canary.worse_in.as_deref() {
        None => format!("canary: not found worse than declared in {minutes}"),
        Some(worse) => {
            let worse = match worse {
                "ttft" => "time to first token",
                "tpot" => "time per output token",
                _ => "failures",
            };
            format!("canary: found worse than declared in its {worse}, after {minutes}")
        }
    })
}

/// What became of users who stay for several turns, in a line; `None` when there are none.
pub(crate) fn sessions(result: &SimulationResult) -> Option<String> {
    let sessions = result.sessions.as_ref()?;
    let mut line = format!("sessions: {}", count(sessions.begun));
    if sessions.broken > 0 || result.requests.never_sent > 0 {
        let unsent = counted(result.requests.never_sent, "request");
        line.push_str(&format!(", {} broke off and left {unsent} unsent", count(sessions.broken)));
    }
    if result.rollout.is_some() {
        line.push_str(&format!("; {}", mixed_versions(sessions)));
    }
    Some(line)
}

/// What sessions saw of two versions.
pub(crate) fn mixed_versions(sessions: &SessionsResult) -> String {
    format!(
        "of {} with two turns or more during the rollout {} saw both versions ({} old to new, {} back)",
        count(sessions.judged),
        share(sessions.saw_both_share),
        counted(sessions.flips, "change"),
        count(sessions.flips_back)
    )
}

/// What the prefix caches held, in a line; `None` when the engines have none.
pub(crate) fn prefix_cache(result: &SimulationResult) -> Option<String> {
    let cache = result.prefix_cache.as_ref()?;
    let said = |part: &PrefixShare| part.hit_share.map_or_else(|| NONE.to_owned(), share);
    let mut line = format!("prefix cache: {} of prompt tokens found", said(&cache.all));
    if result.rollout.is_some() {
        let parts = [&cache.before, &cache.during, &cache.after].map(said);
        line.push_str(&format!("; before {}, during {}, after {}", parts[0], parts[1], parts[2]));
    }
    Some(line)
}

/// The samples that stand behind a phase's distribution, to weigh it by when parts are joined.
pub(crate) fn weight(
    result: &SimulationResult,
    index: usize,
    of: &PhaseDistribution,
    latency: impl Fn(&PhaseResult) -> u64,
) -> f64 {
    let in_place = result.phases.get(index).filter(|p| p.name == of.phase);
    let by_name = || result.phases.iter().find(|p| p.name == of.phase);
    // Counts of samples, far below 2^53.
    in_place.or_else(by_name).map_or(1.0, |p| latency(p) as f64)
}
