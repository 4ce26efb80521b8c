//! Traffic against capacity: arrivals, what N and N-1 replicas carry, and how many were in rotation.

use slackwater_sim::{CapacityPoint, SimulationResult};

use super::axis::{Axis, Keep, Panel, ceiling, plain, runs, thin};
use super::sheet::{Anchor, Face, Pen, Sheet, Swatch};
use super::theme::{Ink, Style};
use super::{View, period, samples};
use crate::clock::Clock;
use crate::facts;
use crate::format::{counted, figure};

/// Capacity lines this many times above the traffic are told in words, so that they do not flatten it.
const OFF_THE_CHART: f64 = 5.0;

/// Arrivals a second over time, with capacity lines for N, N-1 and the fewest in rotation.
#[must_use]
pub fn traffic(result: &SimulationResult, style: Style) -> String {
    let series = &result.series;
    let view = View::whole(result);
    let arrivals = samples(&series.at_s, &series.arrivals_per_s, view, Some);
    let peak = ceiling(arrivals.iter().filter_map(|(_, v)| *v), 0.0);
    let (lines, beyond): (Vec<_>, Vec<_>) =
        capacities(result).into_iter().partition(|c| peak <= 0.0 || c.rate_per_s <= peak * OFF_THE_CHART);

    let mut sheet = Sheet::new(style, "Traffic against capacity", &description(result, &beyond));
    if arrivals.is_empty() {
        return sheet.no_data("no samples over time in this result");
    }
    let failed = samples(&series.at_s, &series.failed_per_s, view, Some);
    let any_failed = failed.iter().any(|(_, v)| v.is_some_and(|v| v > 0.0));
    let attempts = if facts::any_retries(result) {
        samples(&series.at_s, &series.attempts_per_s, view, Some)
    } else {
        Vec::new()
    };
    legend(&mut sheet, !lines.is_empty(), any_failed, !attempts.is_empty());

    let top = sheet.cursor + 24.0;
    let bottom = top + 190.0;
    let (left, right) = (44.0, sheet.width() - 14.0);
    let x = Axis::linear(view.from, view.until, left, right);
    let most = ceiling(lines.iter().map(|c| c.rate_per_s), peak);
    let most = ceiling(attempts.iter().filter_map(|(_, v)| *v), most);
    let panel = Panel {
        x,
        y: Axis::linear(0.0, if most > 0.0 { most * 1.12 } else { 1.0 }, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    let rollout = result.rollout.as_ref().and_then(period);
    if let Some((from, until)) = rollout {
        panel.band(&mut sheet, from, until);
    }
    panel.rules(&mut sheet, 6, plain);
    if let Some((from, until)) = rollout {
        panel.band_name(&mut sheet, from, until, "rollout");
    }
    panel.heading(&mut sheet, "requests a second");

    let columns = style.form.columns();
    for run in runs(&thin(arrivals, columns, Keep::Mean)) {
        let points: Vec<_> = run.into_iter().map(|p| panel.at(p)).collect();
        let mut area = points.clone();
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            area.extend([(last.0, bottom), (first.0, bottom)]);
        }
        sheet.area(area, Ink::Blue, 0.16);
        sheet.line(points, Pen::new(Ink::Blue, 1.5));
    }
    for run in runs(&thin(attempts, columns, Keep::Mean)) {
        sheet.line(run.into_iter().map(|p| panel.at(p)).collect(), Pen::new(Ink::Purple, 1.3));
    }
    if any_failed {
        for run in runs(&thin(failed, columns, Keep::Mean)) {
            sheet.line(run.into_iter().map(|p| panel.at(p)).collect(), Pen::new(Ink::Red, 1.5));
        }
    }
    capacity_lines(&mut sheet, &panel, &lines);
    serving_strip(&mut sheet, result, &panel);
    sheet.finish()
}

/// Capacity of all replicas, of one fewer, and of the fewest that served, most first.
fn capacities(result: &SimulationResult) -> Vec<CapacityPoint> {
    let all = result.fleet.serving;
    let fewest = facts::serving_min(result).and_then(|n| usize::try_from(n).ok()).unwrap_or(all);
    let mut points: Vec<_> = result
        .capacity
        .iter()
        .copied()
        .filter(|c| {
            let n = usize::try_from(c.replicas).unwrap_or(usize::MAX);
            c.rate_per_s.is_finite() && (n == all || n + 1 == all || n == fewest)
        })
        .collect();
    points.sort_by_key(|c| std::cmp::Reverse(c.replicas));
    points
}

fn description(result: &SimulationResult, beyond: &[CapacityPoint]) -> String {
    // The file's name tells which trace; where it lies is among the assumptions.
    let source = result.traffic.source.rsplit(['/', '\\']).next().filter(|s| !s.is_empty());
    let mut text = format!(
        "{} requests a second on average ({}).",
        figure(result.traffic.mean_rate_per_s),
        source.unwrap_or("unnamed source")
    );
    for c in beyond {
        text.push_str(&format!(
            " {} carry {}/s, far above this chart.",
            counted(u64::from(c.replicas), "replica"),
            figure(c.rate_per_s)
        ));
    }
    text
}

fn legend(sheet: &mut Sheet, capacity: bool, failed: bool, retries: bool) {
    let mut entries = vec![(Swatch::Line(Pen::new(Ink::Blue, 2.0)), "arrivals")];
    if retries {
        entries.push((Swatch::Line(Pen::new(Ink::Purple, 2.0)), "attempts, retries included"));
    }
    if capacity {
        entries.push((Swatch::Line(Pen::new(Ink::Green, 2.0).dashed()), "carried within the SLO"));
    }
    if failed {
        entries.push((Swatch::Line(Pen::new(Ink::Red, 2.0)), "failed"));
    }
    entries.push((Swatch::Block(Ink::Sky, 0.7), "replicas in rotation"));
    sheet.legend(&entries);
}

/// Dashed lines named at the right edge; names of lines that lie close are put on either side.
fn capacity_lines(sheet: &mut Sheet, panel: &Panel, lines: &[CapacityPoint]) {
    let mut last = f64::NEG_INFINITY;
    for (i, c) in lines.iter().enumerate() {
        let y = panel.y.at(c.rate_per_s);
        let ink = if i == 0 { Ink::Green } else { Ink::Orange };
        sheet.line(vec![(panel.left, y), (panel.right, y)], Pen::new(ink, 1.6).dashed());
        let text = format!("{}: {}/s", counted(u64::from(c.replicas), "replica"), figure(c.rate_per_s));
        // Above its line, unless the line above is so near that the name would sit on it.
        let above = y - 5.0 - 10.0 > last + 3.0;
        sheet.label(
            (panel.right - 2.0, if above { y - 5.0 } else { y + 14.0 }),
            &text,
            Ink::Text,
            Anchor::End,
        );
        last = if above { y } else { y + 14.0 };
    }
}

/// Replicas in rotation as steps, under the traffic, on the same x axis.
fn serving_strip(sheet: &mut Sheet, result: &SimulationResult, over: &Panel) {
    let top = over.bottom + 26.0;
    let bottom = top + 44.0;
    let all = result.fleet.serving as f64;
    let most = ceiling(result.series.serving.iter().map(|n| f64::from(*n)), all.max(1.0));
    let panel = Panel { y: Axis::linear(0.0, most * 1.1, bottom, top), top, bottom, ..*over };
    if let Some((from, until)) = result.rollout.as_ref().and_then(period) {
        panel.band(sheet, from, until);
    }
    for value in [0.0, most] {
        let y = panel.y.at(value);
        sheet.line(vec![(panel.left, y), (panel.right, y)], Pen::new(Ink::Grid, 1.0));
        sheet.text((panel.left - 6.0, y + 4.0), &plain(value), Face::Small, Ink::Muted, Anchor::End);
    }
    panel.heading(sheet, "replicas in rotation");
    let mut steps: Vec<(f64, f64)> = Vec::new();
    let mut before = panel.left;
    for (at, n) in result.series.at_s.iter().zip(&result.series.serving).filter(|(at, _)| at.is_finite()) {
        let (x, y) = panel.at((*at, f64::from(*n)));
        match steps.last() {
            // It changed some time between two samples: half-way is the least wrong.
            Some(&(_, height)) if (height - y).abs() > 1e-9 => {
                let between = f64::midpoint(before, x);
                steps.extend([(between, height), (between, y), (x, y)]);
            }
            Some(_) => steps.push((x, y)),
            None => steps.extend([(panel.left, y), (x, y)]),
        }
        before = x;
    }
    let steps = corners(steps);
    let mut area = steps.clone();
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        area.extend([(last.0, bottom), (first.0, bottom)]);
    }
    sheet.area(area, Ink::Sky, 0.45);
    sheet.line(steps, Pen::new(Ink::Blue, 1.5));
    panel.time_axis(sheet, &Clock::of(&result.traffic), true);
    sheet.cursor = bottom + 34.0;
}

/// Drops the points in the middle of a level stretch.
fn corners(steps: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let level = |a: (f64, f64), b: (f64, f64)| (a.1 - b.1).abs() < 1e-9;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for p in steps {
        if let [.., a, b] = kept.as_slice()
            && level(*a, *b)
            && level(*b, p)
        {
            kept.pop();
        }
        kept.push(p);
    }
    kept
}
