//! The phase table for a terminal of 80 columns. No colour, no box drawing: it pastes into a chat as it is.
//!
//! Two blocks, because eighty columns hold either what happened or how fast it was, not both legibly.

use std::fmt::Write as _;

use slackwater_sim::{LatencySummary, PhaseResult, SimulationResult};

use crate::clock::Clock;
use crate::facts::{self, Part, part};
use crate::format::{NONE, duration, figure, latency, millis_cell, percent, seconds_cell, share, token_time};
pub use crate::verdict::verdict_sentence;

/// Rows of a block at most; past it the moves that met the service level best are left out, and counted.
const ROWS: usize = 14;

/// Faults told one by one.
const FAULTS: usize = 8;

/// Columns of the terminal.
const WIDTH: usize = 80;

/// Widest a phase's name may be.
const NAME: usize = 16;

/// What happened by phase, how fast it was, and what it came to. Every line fits into 80 columns.
#[must_use]
pub fn phase_table(result: &SimulationResult) -> String {
    let (phases, left_out) = shown(&result.phases);
    let mut out = String::new();
    out.push_str(&traffic_block(result, &phases));
    out.push('\n');
    out.push_str(&latency_block(&phases));
    if left_out > 0 {
        line(
            &mut out,
            &format!("{left_out} moves that met the SLO better are left out; all are in phases.csv"),
        );
    }
    out.push('\n');
    for fact in footer(result) {
        wrapped(&mut out, &fact);
    }
    out
}

/// Before, after, and of the moves those that met the service level worst, in the order of time.
pub(crate) fn shown(phases: &[PhaseResult]) -> (Vec<&PhaseResult>, usize) {
    // Moves that begin together leave phases without length.
    let lasted = |phase: &PhaseResult| phase.until_s > phase.from_s || phase.requests.arrived > 0;
    let mut moves: Vec<usize> =
        (0..phases.len()).filter(|i| part(&phases[*i].name) == Part::During && lasted(&phases[*i])).collect();
    let others = phases.iter().filter(|phase| part(&phase.name) != Part::During).count();
    let room = ROWS.saturating_sub(others);
    let left_out = moves.len().saturating_sub(room);
    if left_out > 0 {
        moves.sort_by(|a, b| phases[*a].attainment.total_cmp(&phases[*b].attainment));
        moves.truncate(room);
    }
    let shown = phases.iter().enumerate();
    let kept = |i: usize, p: &PhaseResult| part(&p.name) != Part::During || moves.contains(&i);
    (shown.filter(|(i, p)| kept(*i, p)).map(|(_, p)| p).collect(), left_out)
}

fn traffic_block(result: &SimulationResult, phases: &[&PhaseResult]) -> String {
    let head = [
        "phase",
        "lasted",
        "serving",
        "req/s",
        "in-flight",
        "queue",
        "SLO met %",
        "cut",
        "retry",
        "t/o",
        "drain",
    ];
    let rows = phases.iter().map(|p| {
        let drain = result.rollout.as_ref().and_then(|r| facts::move_of(r, p)).and_then(facts::drain_s);
        vec![
            p.name.clone(),
            short_duration(p.until_s - p.from_s),
            p.serving_min.to_string(),
            short_figure(p.rate_per_s),
            short_figure(p.in_flight_mean),
            short_count(p.queue_max),
            percent(p.attainment),
            short_count(p.requests.cut),
            short_count(p.requests.retried),
            short_count(p.requests.timed_out),
            drain.map_or_else(|| NONE.to_owned(), short_duration),
        ]
    });
    columns(&[], &head, rows.collect())
}

fn latency_block(phases: &[&PhaseResult]) -> String {
    let head = ["phase", "p50", "p90", "p99", "p50", "p90", "p99", "p50", "p90", "p99"];
    let groups = [(1, "TTFT s"), (4, "TPOT ms"), (7, "E2E s")];
    let three = |l: &LatencySummary, cell: fn(Option<f64>) -> String| [cell(l.p50), cell(l.p90), cell(l.p99)];
    let rows = phases.iter().map(|p| {
        let mut row = vec![p.name.clone()];
        row.extend(three(&p.ttft_s, seconds_cell));
        row.extend(three(&p.tpot_s, millis_cell));
        row.extend(three(&p.e2e_s, seconds_cell));
        row
    });
    columns(&groups, &head, rows.collect())
}

/// Right-aligned columns under their heads, the first left-aligned; as far apart as 80 columns allow. Where even one space between is too
/// much, the first column gives way. `groups` are heads over three columns each, from the column named.
fn columns(groups: &[(usize, &str)], head: &[&str], mut rows: Vec<Vec<String>>) -> String {
    rows.insert(0, head.iter().map(|h| (*h).to_owned()).collect());
    let width_of =
        |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..head.len()).map(width_of).collect();
    widths[0] = widths[0].min(NAME);
    let gaps = head.len().saturating_sub(1);
    let taken: usize = widths.iter().sum();
    let gap = (WIDTH.saturating_sub(taken) / gaps.max(1)).clamp(1, 3);
    let others: usize = widths[1..].iter().sum::<usize>() + gap * gaps;
    widths[0] = widths[0].min(WIDTH.saturating_sub(others)).max(1);

    let mut out = String::new();
    if !groups.is_empty() {
        let mut text = String::new();
        for (from, label) in groups {
            let start = widths[..*from].iter().sum::<usize>() + gap * from;
            let wide = widths[*from..(from + 3).min(widths.len())].iter().sum::<usize>() + gap * 2;
            let _ =
                write!(text, "{:fill$}{label:^wide$}", "", fill = start.saturating_sub(text.chars().count()));
        }
        line(&mut out, text.trim_end());
    }
    for row in &rows {
        let mut text = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if i == 0 {
                write!(text, "{:<width$}", clip(cell, *width))
            } else {
                write!(text, "{:gap$}{cell:>width$}", "")
            };
        }
        line(&mut out, text.trim_end());
    }
    out
}

fn footer(result: &SimulationResult) -> Vec<String> {
    let slo = &result.slo;
    let mut bounds =
        vec![format!("TTFT {}", latency(slo.ttft_s)), format!("TPOT {}", token_time(slo.tpot_s))];
    bounds.extend(slo.e2e_s.map(|e| format!("E2E {}", latency(e))));
    let mut lines = vec![format!("SLO: {} within {}", share(slo.share), bounds.join(", "))];
    let service = &result.service;
    let without = result
        .baseline
        .as_ref()
        .map_or_else(String::new, |b| format!(" (without a rollout {})", share(b.service.attainment)));
    lines.push(format!("met by {}{without}", share(service.attainment)));
    lines.push(format!(
        "worst 5 minutes: {} from {}",
        share(service.worst_5min_attainment),
        Clock::of(&result.traffic).cell(service.worst_5min_at_s)
    ));
    if let Some(rollout) = &result.rollout {
        lines.push(format!(
            "rollout: {}; {}, {} of it below {} replicas",
            rollout.outcome,
            duration(rollout.ended_s - rollout.started_s),
            duration(rollout.below_n_s),
            result.fleet.serving
        ));
    }
    lines.extend(facts::canary(result));
    let clock = Clock::of(&result.traffic);
    let at = |at_s: f64| clock.cell(at_s);
    lines.extend(facts::retries_in_words(result, at).map(|text| format!("retries: {text}")));
    lines.extend(facts::read_time_outs_in_words(result).map(|text| format!("read time-outs: {text}")));
    let faults = result.faults.iter().take(FAULTS);
    lines.extend(faults.map(|fault| format!("fault: {}", facts::fault_in_words(fault, at))));
    if result.faults.len() > FAULTS {
        lines.push(format!("{} more faults are in result.json", result.faults.len() - FAULTS));
    }
    lines.extend(facts::sessions(result));
    lines.extend(facts::prefix_cache(result));
    lines
}

/// `2m47s`: durations in a table of 80 columns.
fn short_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.to_owned();
    }
    duration(seconds).replace(" min", "m").replace(' ', "")
}

/// Three digits of a rate, in thousands where it is long.
fn short_figure(value: f64) -> String {
    if value >= 1e10 {
        format!("{value:.0e}")
    } else if value >= 1e7 {
        format!("{}M", figure(value / 1e6))
    } else if value >= 1e4 {
        format!("{}k", figure(value / 1e3))
    } else {
        figure(value).replace(',', "")
    }
}

/// Counts of more than five digits in thousands and millions, so that no column bursts.
fn short_count(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..10_000_000 => format!("{}k", n / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{:.0e}", n as f64),
    }
}

/// Control characters would break the table; a long name keeps its end, which tells replicas apart.
pub(crate) fn clip(name: &str, most: usize) -> String {
    let clean: Vec<char> = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= most {
        return clean.into_iter().collect();
    }
    std::iter::once('…').chain(clean[clean.len() - most.saturating_sub(1)..].iter().copied()).collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// A sentence over as many lines as it needs, the later ones indented.
pub(crate) fn wrapped(out: &mut String, text: &str) {
    let mut row = String::new();
    for word in text.split_whitespace() {
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > WIDTH {
            line(out, &row);
            row = "  ".to_owned();
        } else if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(&clip(word, WIDTH - 2));
    }
    line(out, &row);
}
