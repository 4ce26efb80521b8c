//! The plan's tables as heads and rows, for the page and for Markdown alike.

use slackwater_planner::planned::{CapacityRange, Planned};
use slackwater_policy::Figure;

use super::{brief, when, words};
use crate::format::{NONE, count, duration, figure, latency, token_time};

/// Windows shown; the rest are in `plan.json`.
const WINDOWS: usize = 40;

/// One table.
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// Said below it.
    pub(super) notes: Vec<String>,
}

/// The strategies at the recommended start.
pub(super) fn strategies(planned: &Planned) -> Option<Table> {
    let sessions =
        planned.strategies.iter().any(|row| row.figures.is_some_and(|f| f.saw_both_share.is_some()));
    let mut head = vec![
        "strategy",
        "risk",
        "at most",
        "takes",
        "95 %",
        "below N",
        "cut",
        "miss SLO",
        "GPU-hours",
        "back-out",
        "cost",
    ];
    if sessions {
        head.push("saw both");
    }
    let rows = planned.strategies.iter().map(|row| {
        let mut cells = vec![if row.with.is_empty() {
            row.strategy.clone()
        } else {
            format!("{} ({})", row.strategy, row.with)
        }];
        match &row.figures {
            Some(f) => {
                cells.extend([
                    words::chance(f.risk.estimate),
                    words::chance(f.risk.upper),
                    duration(f.duration_p50_s),
                    duration(f.duration_p95_s),
                    duration(f.below_n_s),
                    words::few(f.cut),
                    words::few(f.missed),
                    figure(f.extra_gpu_hours),
                    f.back_out_p95_s.map_or_else(|| NONE.to_owned(), duration),
                    figure(f.cost),
                ]);
                if sessions {
                    cells.push(f.saw_both_share.map_or_else(|| NONE.to_owned(), words::chance));
                }
            }
            None => {
                cells.push(if row.possible { NONE } else { "not possible" }.to_owned());
                cells.resize(head.len(), NONE.to_owned());
            }
        }
        cells
    });
    Some(Table {
        caption: "Each at the recommended start (or the least bad one), in the same futures. Means over futures; cost in requests that \
                  miss; back-out is the 95 % point."
            .to_owned(),
        notes: planned
            .strategies
            .iter()
            .filter(|row| !row.note.is_empty())
            .map(|row| format!("{} ({}): {}", row.strategy, row.with, row.note))
            .collect(),
        rows: rows.collect(),
        head,
    })
    .filter(filled)
}

/// What if.
pub(super) fn sensitivity(planned: &Planned) -> Option<Table> {
    let rows = planned.sensitivity.iter().map(|row| {
        let colour = match row.colour.as_str() {
            "green" => "✓ green",
            "red" => "✗ red",
            "amber" => "! amber",
            other => other,
        };
        vec![
            row.change.clone(),
            colour.to_owned(),
            words::chance(row.risk.estimate),
            format!("{} to {}", words::chance(row.risk.lower), words::chance(row.risk.upper)),
            format!("{} of {}", count(row.risk.misses), count(row.risk.futures)),
            brief::red_from(row).unwrap_or_else(|| NONE.to_owned()),
        ]
    });
    Some(Table {
        caption: format!(
            "Red: shown to be above the budget of {}; green: within it as far as these futures show; amber: neither. “Red from” is the \
             smallest change that a search found red.",
            words::chance(planned.asked.risk)
        ),
        head: vec!["if", "then", "risk", "between", "futures missed", "red from"],
        rows: rows.collect(),
        notes: Vec::new(),
    })
    .filter(filled)
}

/// Every window that fresh futures were spent on.
pub(super) fn certified(planned: &Planned) -> Option<Table> {
    let rows = planned.certified.iter().take(WINDOWS).map(|window| {
        vec![
            when::short(&window.start),
            duration(window.window_s),
            words::verdict(window.verdict).to_owned(),
            words::chance(window.risk.estimate),
            words::chance(window.risk.upper),
            format!("{} of {}", count(window.risk.misses), count(window.risk.futures)),
            if window.risk.comparable_days == 0 {
                NONE.to_owned()
            } else {
                words::chance(window.risk.history_floor)
            },
            figure(window.cost),
        ]
    });
    let more = planned.certified.len().saturating_sub(WINDOWS);
    let more = if more == 0 { String::new() } else { format!(" {more} more are in plan.json.") };
    Some(Table {
        caption: format!(
            "The windows tried on fresh futures, none of which was used to choose them. A window's risk is that of a rollout begun at any of \
             its starts.{more}"
        ),
        head: vec!["first start", "lasts", "verdict", "risk", "at most", "futures missed", "history floor", "cost"],
        rows: rows.collect(),
        notes: Vec::new(),
    })
    .filter(filled)
}

/// The drain timeouts.
pub(super) fn drain(planned: &Planned) -> Option<Table> {
    let rows = planned.drain.iter().map(|row| {
        vec![
            format!("{}{}", duration(row.timeout_s), if row.recommended { " ← use" } else { "" }),
            words::few(row.cut),
            words::chance(row.p_any_cut),
            words::chance(row.p_any_cut_upper),
            duration(row.below_n_s),
            duration(row.duration_p50_s),
            duration(row.duration_p95_s),
            words::few(row.missed),
            words::bounded(&row.risk),
            figure(row.cost),
        ]
    });
    Some(Table {
        caption: "The drain timeouts compared, in the same futures.".to_owned(),
        head: vec![
            "timeout",
            "cut",
            "P(any cut)",
            "at most",
            "below N",
            "takes",
            "95 %",
            "miss SLO",
            "risk",
            "cost",
        ],
        rows: rows.collect(),
        notes: Vec::new(),
    })
    .filter(filled)
}

/// What N, N-1, ... replicas carry.
pub(super) fn capacity(planned: &Planned) -> Option<Table> {
    let rows = planned.capacity.iter().rev().map(|row| {
        vec![
            count(u64::from(row.replicas)),
            figure(row.rate_per_s),
            format!("{} to {}", figure(row.low), figure(row.high)),
        ]
    });
    Some(Table {
        caption: "The highest steady rate that keeps the SLO. The policy's gate goes by this table."
            .to_owned(),
        head: vec!["replicas", "requests/s", "between"],
        rows: rows.collect(),
        notes: planned.capacity_new.iter().map(new_version).collect(),
    })
    .filter(filled)
}

fn new_version(row: &CapacityRange) -> String {
    format!(
        "Of the new version {} replicas carry {} requests/s ({} to {}).",
        count(u64::from(row.replicas)),
        figure(row.rate_per_s),
        figure(row.low),
        figure(row.high)
    )
}

/// Today's ways beside the plan.
pub(super) fn today(planned: &Planned) -> Option<Table> {
    let plan = planned.recommended.as_ref().map(|best| {
        vec![
            format!("this plan: {}, drain {}", best.strategy, duration(best.drain_timeout_s)),
            when::short(&best.start),
            format!("{}, at most {}", words::chance(best.risk.estimate), words::chance(best.risk.upper)),
            words::few(best.expected_cut),
            words::chance(best.any_cut.estimate),
            words::few(best.expected_missed),
            duration(best.duration_p50_s),
            planned
                .certified
                .iter()
                .find(|window| window.start == best.start)
                .map_or_else(|| NONE.to_owned(), |window| figure(window.cost)),
        ]
    });
    let rows = planned.today.iter().map(|row| {
        vec![
            row.way.replace('`', ""),
            when::short(&row.start),
            words::bounded(&row.risk),
            words::few(row.cut),
            words::chance(row.p_any_cut),
            words::few(row.missed),
            duration(row.duration_p50_s),
            figure(row.cost),
        ]
    });
    Some(Table {
        caption: "What is done today, at the same horizon.".to_owned(),
        head: vec!["way", "start", "risk", "cut", "P(any cut)", "miss SLO", "takes", "cost"],
        rows: rows.collect(),
        notes: Vec::new(),
    })
    .filter(filled)
    .map(|mut table| {
        table.rows.splice(0..0, plan);
        table
    })
}

/// Bands of the live figures.
pub(super) fn bands(planned: &Planned) -> Option<Table> {
    let said = |figure_of: Figure, value: f64| match figure_of {
        Figure::TtftP50 | Figure::TtftP99 | Figure::E2eP99 => latency(value),
        Figure::TpotP50 | Figure::TpotP99 => token_time(value),
        Figure::ErrorRate => words::chance(value),
        Figure::QueueDepth => figure(value),
    };
    let rows = planned.bands.iter().map(|band| {
        vec![
            words::guarded(band.figure).to_owned(),
            said(band.figure, band.usual),
            said(band.figure, band.limit),
            words::chance(band.false_pause),
        ]
    });
    let used = if planned.fleet.measured {
        "The plan's guards hold the rollout when a figure stays above its limit."
    } else {
        "Shown to compare with; the plan has no guard from them, for the engine profile was not measured on this server."
    };
    Some(Table {
        caption: format!("The largest value of each live figure in a rollout that goes as predicted. {used}"),
        head: vec!["figure", "half stay below", "limit", "false pauses at most"],
        rows: rows.collect(),
        notes: Vec::new(),
    })
    .filter(filled)
}

fn filled(table: &Table) -> bool {
    !table.rows.is_empty()
}
