//! The one sentence an operator forwards: would it have gone well, against the same period without a rollout.

use slackwater_scenarios::EngineProfile;
use slackwater_sim::{LatencySummary, PhaseResult, RolloutResult, SimulationResult};

use crate::clock::Clock;
use crate::facts;
use crate::format::{NONE, count, counted, duration, latency, latency_or_none, sentence, share, token_time};

/// What the service level came to, and whose doing that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Kept, no request cut, the rollout (if any) completed.
    Kept,
    /// Kept, but requests were cut or the rollout did not complete.
    KeptAtACost,
    /// Missed, and missed without a rollout as well.
    MissedAnyway,
    /// Missed, and kept without the rollout, or there is nothing to compare with.
    Missed,
}

impl Standing {
    /// In a word or two, for a badge.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Kept => "SLO kept",
            Standing::KeptAtACost => "SLO kept, at a cost",
            Standing::MissedAnyway => "SLO missed even without it",
            Standing::Missed => "SLO missed",
        }
    }
}

/// The judgement and its sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The judgement.
    pub standing: Standing,
    /// The sentence.
    pub sentence: String,
}

/// One honest sentence on the result.
#[must_use]
pub fn verdict_sentence(result: &SimulationResult) -> String {
    verdict(result).sentence
}

/// The judgement and its sentence, which says so where it rests on engines that nobody measured, how far off measured ones were,
/// and where these were asked for more than was measured.
#[must_use]
pub fn verdict(result: &SimulationResult) -> Verdict {
    let mut verdict = judged(result);
    for known in &result.fleet.known {
        verdict.sentence.push_str(&format!(" {}", sentence(known)));
    }
    if result.reach.iter().any(|engine| engine.voids_a_promise(result.slo.share)) {
        verdict
            .sentence
            .push_str(" That is no promise: the engine is used beyond what was measured (see the warnings).");
    }
    let preset = |(_, source): &(String, String)| EngineProfile::source_is_preset(source);
    // Without a rollout the new version's engine is never run.
    let engines = match (preset(&result.fleet.from), result.rollout.is_some() && preset(&result.fleet.to)) {
        (true, true) => "engine speeds are roofline presets",
        (true, false) if result.rollout.is_some() => "the old version's engine speed is a roofline preset",
        (true, false) => "the engine speed is a roofline preset",
        (false, true) => "the new version's engine speed is a roofline preset",
        (false, false) => return verdict,
    };
    verdict
        .sentence
        .push_str(&format!(" This rests on a preset: {engines}, not measured{}.", known_errors(result)));
    verdict
}

/// How far such presets were off where somebody measured, the same said once.
fn known_errors(result: &SimulationResult) -> String {
    let from = EngineProfile::preset_error(&result.fleet.from.1);
    let to = result.rollout.as_ref().and_then(|_| EngineProfile::preset_error(&result.fleet.to.1));
    match (from, to) {
        (Some(from), Some(to)) if from != to => {
            format!("; presets like the old version's were {from}, like the new one's {to}")
        }
        (Some(said), _) | (_, Some(said)) => format!("; presets like it were {said}"),
        (None, None) => String::new(),
    }
}

fn judged(result: &SimulationResult) -> Verdict {
    let kept = result.service.kept;
    let Some(rollout) = &result.rollout else {
        let standing = if kept { Standing::Kept } else { Standing::Missed };
        return Verdict { standing, sentence: without_rollout(result) };
    };
    let baseline_kept = result.baseline.as_ref().map(|b| b.service.kept);
    let unhurt = result.requests.cut == 0 && rollout.outcome == "completed";
    let standing = match (kept, baseline_kept) {
        (true, _) if unhurt => Standing::Kept,
        (true, _) => Standing::KeptAtACost,
        (false, Some(false)) => Standing::MissedAnyway,
        (false, _) => Standing::Missed,
    };
    let mut sentence = opening(result, rollout, baseline_kept);
    let mut facts = vec![
        cuts(result),
        other_failures(result),
        latency_change(result),
        time_below(result, rollout),
        mixed(result),
    ];
    facts.retain(|f| !f.is_empty());
    sentence.push_str(": ");
    sentence.push_str(&facts.join("; "));
    sentence.push('.');
    Verdict { standing, sentence }
}

fn without_rollout(result: &SimulationResult) -> String {
    format!(
        "Without a rollout the SLO is {}: {} of {} met it ({} promised), {} in the worst 5 minutes; {} failed; p99 TTFT {}.",
        if result.service.kept { "kept" } else { "missed" },
        share(result.service.attainment),
        counted(result.service.arrived, "request"),
        share(result.slo.share),
        share(result.service.worst_5min_attainment),
        count(failed(result)),
        latency_or_none(result.ttft_s.p99),
    )
}

/// "Rolling at 15:00 would have kept the SLO", and the sad variants.
fn opening(result: &SimulationResult, rollout: &RolloutResult, baseline_kept: Option<bool>) -> String {
    let clock = Clock::of(&result.traffic);
    let when = clock.phrase(rollout.started_s);
    let met = share(result.service.attainment);
    let promised = share(result.slo.share);
    let worst = share(result.service.worst_5min_attainment);
    let without = result.baseline.as_ref().map(|b| share(b.service.attainment));
    let ended = not_completed(rollout);
    let shortfall = if result.service.attainment >= result.slo.share {
        // The whole kept it; it was five minutes of it that did not.
        format!("{met} met it, but only {worst} in the worst 5 minutes ({promised} promised")
    } else {
        format!("{met} met it ({promised} promised")
    };
    let main = match (result.service.kept, baseline_kept, without) {
        (true, Some(false), Some(without)) => format!(
            "Rolling {when} would have kept the SLO, which the same period without a rollout narrowly misses ({met} met it with, {without} \
             without)"
        ),
        (true, _, _) => format!("Rolling {when} would have kept the SLO"),
        (false, Some(false), Some(without)) => format!(
            "The SLO is missed even without a rollout ({without} met it, {promised} promised), and rolling {when} would have left it at {met}"
        ),
        (false, Some(true), Some(without)) => format!(
            "Rolling {when} would have broken the SLO, which is kept without it: {shortfall}, {without} without the rollout)"
        ),
        (false, _, _) => format!(
            "Rolling {when} would have missed the SLO: {shortfall}; no run without a rollout to compare with)"
        ),
    };
    if ended.is_empty() { main } else { format!("{main}, and the rollout {ended}") }
}

/// How a rollout ended that did not complete.
fn not_completed(rollout: &RolloutResult) -> String {
    let done = facts::admitted(rollout);
    let moves = facts::arrivals(rollout).count();
    match rollout.outcome.as_str() {
        "completed" => String::new(),
        "rolled_back" => "was rolled back".to_owned(),
        "aborted" => format!("was aborted with {done} of {moves} begun moves back in rotation"),
        other => {
            let why = other.strip_prefix("held").map_or(other, |rest| rest.trim_start_matches([':', ' ']));
            let why = if why.is_empty() { "no reason recorded" } else { why.trim_end_matches('.') };
            format!("held ({why}) with {done} of {moves} begun moves back in rotation")
        }
    }
}

fn cuts(result: &SimulationResult) -> String {
    let (r, a) = (&result.requests, &result.attempts);
    let cut = format!("{} of {} cut", count(r.cut), counted(r.arrived, "request"));
    if a.cut > r.cut {
        format!("{cut} ({} more, answered or failed on a retry)", counted(a.cut - r.cut, "attempt"))
    } else {
        cut
    }
}

fn other_failures(result: &SimulationResult) -> String {
    let r = &result.requests;
    let mut parts = Vec::new();
    if r.timed_out > 0 {
        parts.push(format!("{} timed out", count(r.timed_out)));
    }
    if r.rejected > 0 {
        parts.push(format!("{} rejected", count(r.rejected)));
    }
    if r.never_sent > 0 {
        parts.push(format!("{} never sent because their session broke", count(r.never_sent)));
    }
    parts.join(", ")
}

/// p99 TTFT before and during; then whichever other latency is beyond its bound during, since that is what broke the level.
fn latency_change(result: &SimulationResult) -> String {
    type Summary = fn(&PhaseResult) -> &LatencySummary;
    let slo = &result.slo;
    type Say = fn(f64) -> String;
    let latencies: [(&str, Summary, Option<f64>, Say); 3] = [
        ("TTFT", |p| &p.ttft_s, Some(slo.ttft_s), latency),
        ("TPOT", |p| &p.tpot_s, Some(slo.tpot_s), token_time),
        ("E2E", |p| &p.e2e_s, slo.e2e_s, latency),
    ];
    let several = facts::during(result).count() > 1;
    let mut parts = Vec::new();
    for (i, (name, summary, bound, say)) in latencies.into_iter().enumerate() {
        let before = facts::before(result).and_then(|p| summary(p).p99);
        let during = facts::worst_p99(result, summary);
        let beyond = bound.filter(|b| during.is_some_and(|d| d > *b));
        if (i > 0 && beyond.is_none()) || (before.is_none() && during.is_none()) {
            continue;
        }
        let bound = beyond.map_or_else(String::new, |b| format!(" (bound {})", say(b)));
        parts.push(format!(
            "p99 {name} {} before, {} during{}{bound}",
            before.map_or_else(|| NONE.to_owned(), say),
            during.map_or_else(|| NONE.to_owned(), say),
            if several && parts.is_empty() { " the worst move" } else { "" }
        ));
    }
    parts.join("; ")
}

fn time_below(result: &SimulationResult, rollout: &RolloutResult) -> String {
    let all = result.fleet.serving;
    match facts::serving_min(result) {
        Some(fewest) if rollout.below_n_s > 0.0 => {
            format!("{} on {fewest} of {all} replicas", duration(rollout.below_n_s))
        }
        _ if rollout.below_n_s > 0.0 => {
            format!("{} on fewer than {all} replicas", duration(rollout.below_n_s))
        }
        _ => String::new(),
    }
}

/// The share of sessions that saw both versions, where there are sessions to see them.
fn mixed(result: &SimulationResult) -> String {
    match &result.sessions {
        Some(sessions) if sessions.judged > 0 => {
            format!("{} of sessions saw both versions", share(sessions.saw_both_share))
        }
        _ => String::new(),
    }
}

/// Logical requests that were never answered, apart from those still open at the end.
pub(crate) fn failed(result: &SimulationResult) -> u64 {
    result.requests.cut + result.requests.timed_out + result.requests.rejected + result.requests.never_sent
}
