//! The first screen, as data: what an operator forwards.

use slackwater_planner::planned::{Answer, Planned, Recommended, SeedSpread, SensitivityRow};

use super::{when, words};
use crate::format::{NONE, count, counted, duration, figure, latency, latency_or_none, token_time};

/// Rows of what turns the window red.
const TELLING: usize = 3;

/// The first screen.
pub(super) struct Brief {
    /// `v1 → v2`.
    pub(super) title: String,
    /// On which fleet.
    pub(super) fleet: String,
    /// The answer's word.
    pub(super) answer: &'static str,
    /// Said in large where the search was stopped.
    pub(super) partial: Option<&'static str>,
    /// Why; the headline first.
    pub(super) reasons: Vec<String>,
    /// What would work, where nothing does.
    pub(super) nearest: Vec<String>,
    /// The figures.
    pub(super) facts: Vec<Fact>,
    /// What turns the window red, a line each.
    pub(super) red: Vec<String>,
    /// How far to trust it, a line each.
    pub(super) trust: Vec<String>,
    /// What to run; none without a window.
    pub(super) command: Option<&'static str>,
}

/// One figure of the first screen.
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

/// The answer in a word.
pub(super) const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Go => "GO",
        Answer::Conditional => "GO, on a condition",
        Answer::NoGo => "NO-GO",
    }
}

/// The first screen of a plan.
pub(super) fn brief(planned: &Planned) -> Brief {
    Brief {
        title: format!("{} → {}", named(&planned.fleet.from), named(&planned.fleet.to)),
        fleet: fleet(planned),
        answer: answer(planned.answer),
        partial: planned.partial.then_some(
            "PARTIAL ANSWER: the search was stopped before all was computed. What is here stands; what is missing may change the advice.",
        ),
        reasons: planned.reasons.iter().map(|reason| when::in_sentence(reason)).collect(),
        nearest: planned.nearest.iter().map(|way| when::in_sentence(way)).collect(),
        facts: planned.recommended.as_ref().map_or_else(Vec::new, |best| facts(planned, best)),
        // Without a window all is red already.
        red: planned.recommended.as_ref().map_or_else(Vec::new, |_| red(planned)),
        trust: trust(planned),
        command: planned.recommended.is_some().then_some("slackwater run plan.toml --deployment FILE"),
    }
}

fn named(version: &str) -> &str {
    if version.is_empty() { "unnamed version" } else { version }
}

fn fleet(planned: &Planned) -> String {
    let fleet = &planned.fleet;
    let replicas = match fleet.replicas.as_slice() {
        [] => "no replicas".to_owned(),
        [one] => format!("1 replica ({one})"),
        [first, .., last] => format!("{} replicas ({first} to {last})", count(fleet.replicas.len() as u64)),
    };
    let gpus = match fleet.tensor_parallel {
        0 | 1 => "1 GPU each".to_owned(),
        n => format!("{n} GPUs each"),
    };
    let spares = if fleet.spares == 0 {
        String::new()
    } else {
        format!(" and {}", counted(u64::from(fleet.spares), "spare place"))
    };
    let router = if fleet.router.is_empty() { "router not named" } else { &fleet.router };
    format!("{} · {replicas}{spares}, {gpus} · {router}", planned.scenario)
}

fn facts(planned: &Planned, best: &Recommended) -> Vec<Fact> {
    let fact = |label, value, note| Fact { label, value, note };
    let zone = when::local(&best.start)
        .map_or_else(String::new, |at| format!("{}, {}; ", planned.asked.time_zone, at.year()));
    let all = count(planned.fleet.replicas.len() as u64);
    let mut facts = vec![
        fact(
            "Start",
            when::short(&best.start),
            format!(
                "{zone}latest safe start {} ({} later)",
                when::beside(&best.latest_start, &best.start),
                duration(best.window_s)
            ),
        ),
        fact(
            "Over by",
            when::beside(&best.until, &best.start),
            format!(
                "95 % of rollouts, begun at the latest safe start; takes {}, 95 % within {}",
                duration(best.duration_p50_s),
                duration(best.duration_p95_s)
            ),
        ),
        fact(
            "How",
            format!("{}, drain {}", best.strategy, duration(best.drain_timeout_s)),
            format!("strategy, drain timeout; {} with fewer than {all} replicas", duration(best.below_n_s)),
        ),
        fact("Risk", format!("≤ {}", words::chance(best.risk.upper)), risk_note(best)),
        floor(best),
        fact(
            "Requests affected",
            words::few(best.expected_missed),
            format!(
                "expected to miss the SLO, of {} that arrive meanwhile",
                words::whole(best.requests_during)
            ),
        ),
        fact(
            "Requests cut",
            words::few(best.expected_cut),
            format!(
                "expected; 95 % of rollouts cut no more than {}; any at all in {} of rollouts, at most {}",
                words::few(best.cut_p95),
                words::chance(best.any_cut.estimate),
                words::chance(best.any_cut.upper)
            ),
        ),
        fact(
            "TTFT p99, before → during",
            change(best.latency.ttft_p99_s, latency),
            format!(
                "for {}; p50 {}; TPOT p99 {}",
                duration(best.duration_p50_s),
                change(best.latency.ttft_p50_s, latency),
                change(best.latency.tpot_p99_s, token_time)
            ),
        ),
        fact(
            "Worst-case back-out",
            latency_or_none(best.back_out_p95_s),
            best.back_out_p95_s.map_or_else(
                || "not computed".to_owned(),
                |_| {
                    "from the order to go back, given late, until the old version serves everywhere; 95 %"
                        .to_owned()
                },
            ),
        ),
    ];
    if let Some(first) = planned.today.first() {
        let ways = planned.today.iter().map(|row| {
            format!(
                "{}: risk {}, {} cut, {} miss",
                plain(&row.way),
                words::chance(row.risk.estimate),
                words::few(row.cut),
                words::few(row.missed)
            )
        });
        facts.push(fact(
            "Against today's way",
            format!("{} → {} cut", words::few(first.cut), words::few(best.expected_cut)),
            ways.collect::<Vec<_>>().join("; "),
        ));
    }
    facts.push(fact(
        "Valid until",
        when::short(&best.valid_until),
        "then to be computed anew; “slackwater check plan.toml” looks again in a second".to_owned(),
    ));
    if let Some(growth) = best.growth_until_closed {
        facts.push(fact(
            "Traffic may grow",
            format!("× {}", figure(growth)),
            "before the replicas that stay no longer carry the busiest 5 minutes".to_owned(),
        ));
    }
    facts
}

/// A way's name without the marks of code, which only Markdown knows.
fn plain(way: &str) -> String {
    way.replace('`', "")
}

fn risk_note(best: &Recommended) -> String {
    let risk = &best.risk;
    format!(
        "{} of {} missed; budget {}, {} confidence",
        count(risk.misses),
        counted(risk.futures, "fresh future"),
        words::chance(risk.budget),
        crate::format::share(risk.confidence)
    )
}

/// What the history can't promise.
fn floor(best: &Recommended) -> Fact {
    let label = "History floor";
    if best.risk.comparable_days == 0 {
        return Fact {
            label,
            value: "no comparable day".to_owned(),
            note: "no recorded day stands behind it: how one day differs from the next is as stated, or not known".to_owned(),
        };
    }
    Fact {
        label,
        value: words::chance(best.risk.history_floor),
        note: format!(
            "{} can't promise a next day better than that; more futures don't help, more history does",
            counted(best.risk.comparable_days, "comparable day")
        ),
    }
}

fn change((before, during): (Option<f64>, Option<f64>), say: fn(f64) -> String) -> String {
    let said = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), say);
    format!("{} → {}", said(before), said(during))
}

/// The most telling rows of the sensitivity: what is red as it was tried, then what turns red soonest, a line a kind.
fn red(planned: &Planned) -> Vec<String> {
    let mut kinds: Vec<&SensitivityRow> = Vec::new();
    for row in &planned.sensitivity {
        match kinds.iter_mut().find(|known| known.kind == row.kind) {
            // The mildest change that is red says the most; where none is, the strongest.
            Some(known) if known.colour != "red" => *known = row,
            Some(_) => {}
            None => kinds.push(row),
        }
    }
    let rank = |row: &SensitivityRow| match (row.colour.as_str(), row.red_from) {
        ("red", None) => 1.0,
        (_, Some(from)) if from.is_finite() => from,
        ("amber", _) => 100.0,
        _ => f64::INFINITY,
    };
    kinds.retain(|row| rank(row) < f64::INFINITY);
    kinds.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    let mut lines: Vec<String> = kinds.iter().take(TELLING).map(|row| telling(row)).collect();
    if lines.len() < TELLING && !planned.sensitivity.is_empty() {
        let green: Vec<&str> = planned
            .sensitivity
            .iter()
            .filter(|row| row.colour == "green" && row.red_from.is_none())
            .map(|row| row.change.as_str())
            .collect();
        if !green.is_empty() {
            lines.push(format!("no red seen with: {}", green.join("; ")));
        }
    }
    lines
}

fn telling(row: &SensitivityRow) -> String {
    let missed = format!("{} of {} futures missed", count(row.risk.misses), count(row.risk.futures));
    match red_from(row) {
        Some(from) if row.colour == "red" => format!("{from} ({}: {missed})", row.change),
        Some(from) if row.colour == "green" => format!("{from}; not with {}", row.change),
        Some(from) => from,
        None if row.colour == "red" => format!("{}: {missed}", row.change),
        None => format!("{}: {missed}; not shown to be red, nor clean", row.change),
    }
}

/// From where on a kind is red.
pub(super) fn red_from(row: &SensitivityRow) -> Option<String> {
    let from = row.red_from.filter(|from| from.is_finite())?;
    let more = crate::format::figure((from - 1.0) * 100.0);
    Some(match row.kind.as_str() {
        "traffic" => format!("traffic from +{more} % on"),
        "slower" => format!("the new version from {more} % slower on"),
        "verbose" => format!("its answers from {} times as long on", figure(from)),
        "startup" => format!("start-up from {} times as long on", figure(from)),
        other => format!("{other} from a factor of {} on", figure(from)),
    })
}

/// How far the answer can be trusted.
fn trust(planned: &Planned) -> Vec<String> {
    let (fleet, history) = (&planned.fleet, &planned.history);
    let profiles = if fleet.profiles.0 == fleet.profiles.1 {
        kind(&fleet.profiles.0).to_owned()
    } else {
        format!("{}, {}", kind(&fleet.profiles.0), kind(&fleet.profiles.1))
    };
    let measured = if fleet.measured {
        "engine profile measured on this server"
    } else {
        "engine profile NOT measured on this server"
    };
    let mut lines =
        vec![if profiles.is_empty() { measured.to_owned() } else { format!("{measured}: {profiles}") }];
    let mut errors: Vec<&str> = [&fleet.profiles.0, &fleet.profiles.1]
        .into_iter()
        .filter_map(|source| slackwater_scenarios::EngineProfile::preset_error(source))
        .collect();
    errors.dedup();
    lines.extend(errors.into_iter().map(|said| format!("presets like it were {said}")));
    lines.push(if history.kind == "recorded" {
        let ends =
            history.ends.as_ref().map_or_else(String::new, |ends| format!(", until {}", when::moment(ends)));
        format!(
            "traffic learnt from {} of {} ({}{ends})",
            days(history.days),
            history.source,
            counted(history.requests, "request")
        )
    } else {
        format!("traffic is a stated profile ({}), 0 days recorded", history.source)
    });
    if history.kind == "recorded" {
        let dropped: u64 = history.dropped.iter().map(|(_, n)| n).sum();
        lines.push(format!(
            "{} left out, {} in the recording",
            counted(dropped, "row"),
            counted(history.holes.len() as u64, "hole")
        ));
    }
    lines.extend(planned.seeds.as_ref().map(seeds));
    lines
}

/// How much the answer moves with the seed.
fn seeds(seeds: &SeedSpread) -> String {
    let again = seeds
        .certified_again
        .map_or_else(String::new, |chance| format!(", certified again with a chance of {}", odds(chance)));
    format!(
        "with another seed: this window first in {}, this day in {}; {} of the starts keep their verdict{again}",
        odds(seeds.same_window),
        odds(seeds.same_day),
        odds(seeds.same_verdicts)
    )
}

/// A share that is not a risk: rounded down, so that 99.6 % is not called all.
fn odds(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

/// What kind of profile it is; the whole of its source is among the assumptions.
fn kind(source: &str) -> &str {
    source.split(':').next().unwrap_or_default()
}

fn days(days: f64) -> String {
    let said = figure((days * 10.0).round() / 10.0);
    format!("{said} day{}", if said == "1" { "" } else { "s" })
}
