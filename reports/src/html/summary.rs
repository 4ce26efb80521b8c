//! The first screen: from -> to on which fleet, the verdict, the figures that decide.

use std::fmt::Write as _;

use slackwater_sim::SimulationResult;

use super::escape;
use crate::clock::Clock;
use crate::facts;
use crate::format::{NONE, count, duration, latency, latency_or_none, share};
use crate::verdict::{Standing, verdict};

/// What the page is called.
pub(super) fn title(result: &SimulationResult) -> String {
    let fleet = &result.fleet;
    if result.rollout.is_some() {
        format!("{} → {}", named(&fleet.from.0), named(&fleet.to.0))
    } else {
        format!("{}, no rollout", named(&fleet.from.0))
    }
}

fn named(version: &str) -> &str {
    if version.is_empty() { "unnamed version" } else { version }
}

pub(super) fn write(page: &mut String, result: &SimulationResult, title: &str) {
    let verdict = verdict(result);
    let (class, sign) = match verdict.standing {
        Standing::Kept => ("good", "✓"),
        Standing::KeptAtACost | Standing::MissedAnyway => ("mixed", "!"),
        Standing::Missed => ("bad", "✗"),
    };
    let _ = write!(
        page,
        "<header>\n<p class=\"kicker\">Slackwater · simulated {}</p>\n<h1>{}</h1>\n<p class=\"fleet\">{}</p>\n\
         <div class=\"verdict {class}\"><p class=\"badge\"><span aria-hidden=\"true\">{sign}</span> {}</p><p>{}</p></div>\n",
        if result.rollout.is_some() { "rolling upgrade" } else { "traffic" },
        heading(title),
        escape(&fleet(result)),
        escape(verdict.standing.word()),
        prose(&verdict.sentence),
    );
    page.push_str("<dl class=\"tiles\">\n");
    for tile in tiles(result) {
        let _ = writeln!(
            page,
            "<div><dt>{}</dt><dd><strong>{}</strong><small>{}</small></dd></div>",
            escape(tile.label),
            prose(&tile.value),
            prose(&tile.note)
        );
    }
    page.push_str("</dl>\n</header>\n");
}

/// A title that breaks at its arrow rather than within a version.
fn heading(title: &str) -> String {
    let parts: Vec<String> = title.split(" → ").map(|p| format!("<span>{}</span>", escape(p))).collect();
    parts.join(" → ")
}

/// Text in which a number keeps its percent sign.
fn prose(text: &str) -> String {
    escape(text).replace(" %", "&#160;%")
}

fn fleet(result: &SimulationResult) -> String {
    let fleet = &result.fleet;
    let (replicas, spares) = fleet.replicas.split_at(fleet.serving.min(fleet.replicas.len()));
    let replicas = match replicas {
        [] => "no replicas".to_owned(),
        [one] => format!("1 replica ({one})"),
        [first, .., last] => format!("{} replicas ({first} to {last})", count(replicas.len() as u64)),
    };
    let spares = match spares {
        [] => String::new(),
        [one] => format!(" and an empty place ({one})"),
        [first, .., last] => format!(" and {} empty places ({first} to {last})", count(spares.len() as u64)),
    };
    let gpus = match fleet.tensor_parallel {
        0 | 1 => "1 GPU each".to_owned(),
        n => format!("{n} GPUs each"),
    };
    let router = if fleet.router.is_empty() { "router not named" } else { &fleet.router };
    format!("{} · {replicas}{spares}, {gpus} · {router}", result.scenario)
}

struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

fn tiles(result: &SimulationResult) -> Vec<Tile> {
    let (service, requests) = (&result.service, &result.requests);
    let clock = Clock::of(&result.traffic);
    let baseline = result.baseline.as_deref();
    let beside = |of: fn(&SimulationResult) -> f64| {
        baseline.map_or_else(String::new, |b| format!("without a rollout {} · ", share(of(b))))
    };
    let failed = crate::verdict::failed(result);
    let mut tiles = vec![
        Tile {
            label: if result.rollout.is_some() { "SLO met during the rollout" } else { "SLO met" },
            value: share(service.attainment),
            note: format!("{}promised {}", beside(|b| b.service.attainment), share(result.slo.share)),
        },
        Tile {
            label: "Worst 5 minutes",
            value: share(service.worst_5min_attainment),
            note: format!(
                "{}from {}",
                beside(|b| b.service.worst_5min_attainment),
                clock.cell(service.worst_5min_at_s)
            ),
        },
        Tile {
            label: "Cut / timed out / rejected",
            value: format!(
                "{} / {} / {}",
                count(requests.cut),
                count(requests.timed_out),
                count(requests.rejected)
            ),
            note: format!("{} of {} requests failed", count(failed), count(requests.arrived)),
        },
    ];
    let Some(rollout) = &result.rollout else {
        tiles.push(Tile {
            label: "TTFT p99",
            value: latency_or_none(result.ttft_s.p99),
            note: format!("bound {}", latency(result.slo.ttft_s)),
        });
        return tiles;
    };
    let before = facts::before(result).and_then(|p| p.ttft_s.p99);
    let during = facts::worst_p99(result, |p| &p.ttft_s);
    let all = result.fleet.serving;
    let fewest = facts::serving_min(result).map_or_else(|| NONE.to_owned(), |n| n.to_string());
    let moved = facts::admitted(rollout);
    tiles.extend([
        Tile {
            label: "TTFT p99, before → worst move",
            value: format!("{} → {}", latency_or_none(before), latency_or_none(during)),
            note: format!("bound {}", latency(result.slo.ttft_s)),
        },
        Tile {
            label: "Time below full strength",
            value: duration(rollout.below_n_s),
            note: format!("at least {fewest} of {all} replicas served"),
        },
    ]);
    if let Some(sessions) = result.sessions.as_ref().filter(|sessions| sessions.judged > 0) {
        tiles.push(Tile {
            label: "Sessions that saw both versions",
            value: share(sessions.saw_both_share),
            note: format!(
                "{} of {} with two turns or more · {} old to new, {} back",
                count(sessions.saw_both),
                count(sessions.judged),
                count(sessions.flips),
                count(sessions.flips_back)
            ),
        });
    }
    tiles.extend([Tile {
        label: "Rollout",
        value: duration(rollout.ended_s - rollout.started_s),
        note: format!(
            "{} · {moved} of {} moves admitted · from {}",
            rollout.outcome,
            facts::arrivals(rollout).count(),
            clock.cell(rollout.started_s)
        ),
    }]);
    tiles
}
