//! Latency distribution by phase: the share of requests slower than so many seconds, both axes logarithmic, so that the tail is seen.

use slackwater_sim::{LatencySummary, PhaseDistribution, PhaseResult, SimulationResult};

use super::axis::{Axis, Panel, time};
use super::sheet::{Anchor, Face, Pen, Sheet, Swatch};
use super::theme::{Ink, Style};
use crate::facts::{Part, part, weight};
use crate::format::latency as said;

/// The smallest share shown.
const FLOOR: f64 = 1e-3;

/// Single moves are drawn faintly behind their sum up to this many; more would be fog.
const MOVES_DRAWN: usize = 8;

/// Points of a distribution: (seconds, share at or below).
type Points = Vec<(f64, f64)>;

struct Kind {
    heading: &'static str,
    points: fn(&PhaseDistribution) -> &Points,
    summary: fn(&PhaseResult) -> &LatencySummary,
    bound_s: Option<f64>,
}

/// TTFT and E2E, before, during and after the moves.
#[must_use]
pub fn distribution(result: &SimulationResult, style: Style) -> String {
    let mut sheet = Sheet::new(style, "Latency distribution by phase", "");
    let kinds = [
        Kind {
            heading: "time to first token (TTFT)",
            points: |d| &d.ttft,
            summary: |p| &p.ttft_s,
            bound_s: Some(result.slo.ttft_s),
        },
        Kind {
            heading: "end to end (E2E)",
            points: |d| &d.e2e,
            summary: |p| &p.e2e_s,
            bound_s: result.slo.e2e_s,
        },
    ];
    if !kinds.iter().any(|k| result.distributions.iter().any(|d| !clean((k.points)(d)).is_empty())) {
        return sheet.no_data("no request completed in this result");
    }
    let during = result.distributions.iter().filter(|d| part(&d.phase) == Part::During).count();
    let mut entries = Vec::new();
    for (which, name) in
        [(Part::Before, "before"), (Part::During, "during the moves"), (Part::After, "after")]
    {
        if result.distributions.iter().any(|d| part(&d.phase) == which) {
            entries.push((Swatch::Line(pen(which)), name));
        }
    }
    if (2..=MOVES_DRAWN).contains(&during) {
        entries.push((Swatch::Line(Pen::new(Ink::Orange, 1.0).alpha(0.45)), "each move"));
    }
    if kinds.iter().any(|k| k.bound_s.is_some()) {
        entries.push((Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "SLO bound"));
    }
    sheet.legend(&entries);

    let top = sheet.cursor + 24.0;
    let width = sheet.width();
    if sheet.narrow() {
        panel(&mut sheet, result, &kinds[0], (46.0, width - 12.0), top);
        panel(&mut sheet, result, &kinds[1], (46.0, width - 12.0), top + 230.0 + 62.0);
    } else {
        let middle = width / 2.0;
        panel(&mut sheet, result, &kinds[0], (54.0, middle - 6.0), top);
        panel(&mut sheet, result, &kinds[1], (middle + 50.0, width - 14.0), top);
    }
    sheet.finish()
}

fn pen(which: Part) -> Pen {
    match which {
        Part::Before => Pen::new(Ink::Blue, 2.0),
        Part::During => Pen::new(Ink::Orange, 2.2),
        Part::After => Pen::new(Ink::Green, 2.0),
    }
}

fn panel(sheet: &mut Sheet, result: &SimulationResult, kind: &Kind, (left, right): (f64, f64), top: f64) {
    let bottom = top + 230.0;
    let mut curves: Vec<(Pen, Points)> = Vec::new();
    let during: Vec<_> = of_part(result, kind, Part::During);
    if (2..=MOVES_DRAWN).contains(&during.len()) {
        curves.extend(during.iter().map(|(_, c)| (Pen::new(Ink::Orange, 1.0).alpha(0.45), c.clone())));
    }
    for which in [Part::After, Part::Before, Part::During] {
        let joined = join(&of_part(result, kind, which));
        if !joined.is_empty() {
            curves.push((pen(which), joined));
        }
    }
    // The axis begins where the first 2 % are done: the left foot of a distribution says nothing here.
    let low = curves.iter().filter_map(|(_, c)| quantile(c, 0.02)).fold(f64::INFINITY, f64::min);
    let high = curves.iter().filter_map(|(_, c)| c.last()).map(|p| p.0).fold(0.0, f64::max);
    let bound = kind.bound_s.filter(|b| b.is_finite() && *b > 0.0);
    let panel = Panel {
        x: Axis::log(
            low.min(bound.unwrap_or(low)) / 1.1,
            high.max(bound.unwrap_or(high)) * 1.15,
            left,
            right,
        ),
        y: Axis::log(FLOOR, 1.0, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    panel.heading(sheet, "share of requests that took longer");
    for (share, name) in [(1.0, "100 %"), (0.5, "50 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %")] {
        let y = panel.y.at(share);
        sheet.line(vec![(left, y), (right, y)], Pen::new(Ink::Grid, 1.0));
        sheet.text((left - 6.0, y + 4.0), name, Face::Small, Ink::Muted, Anchor::End);
    }
    if curves.is_empty() {
        sheet.text(
            (f64::midpoint(left, right), f64::midpoint(top, bottom)),
            "no data",
            Face::Body,
            Ink::Muted,
            Anchor::Middle,
        );
    } else {
        panel.value_axis(sheet, kind.heading, time);
    }
    for (pen, curve) in curves {
        sheet.line(exceedance(&curve, &panel), pen);
    }
    if let Some(bound) = bound {
        let x = panel.x.at(bound);
        sheet.line(vec![(x, top), (x, bottom)], Pen::new(Ink::Red, 1.6).dashed());
        let (at, anchor) = if x + 70.0 < right { (x + 5.0, Anchor::Start) } else { (x - 5.0, Anchor::End) };
        sheet.label((at, bottom - 8.0), &format!("SLO {}", said(bound)), Ink::Text, anchor);
    }
    sheet.cursor = bottom + 34.0;
}

/// The distributions of a part with their weights.
fn of_part(result: &SimulationResult, kind: &Kind, which: Part) -> Vec<(f64, Points)> {
    result
        .distributions
        .iter()
        .enumerate()
        .filter(|(_, d)| part(&d.phase) == which)
        .map(|(i, d)| (weight(result, i, d, |p| (kind.summary)(p).count), clean((kind.points)(d))))
        .filter(|(weight, points)| *weight > 0.0 && !points.is_empty())
        .collect()
}

/// Points that are numbers, ascending.
fn clean(points: &[(f64, f64)]) -> Points {
    let mut points: Points =
        points.iter().copied().filter(|(s, share)| s.is_finite() && *s > 0.0 && share.is_finite()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points
}

/// The distribution of all parts together: the mean of the parts' shares, weighted by their samples, at every point of any.
fn join(parts: &[(f64, Points)]) -> Points {
    if let [(_, only)] = parts {
        return only.clone();
    }
    let total: f64 = parts.iter().map(|(w, _)| w).sum();
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (weight, points) in parts {
        let mut before = 0.0;
        for (s, share) in points {
            steps.push((*s, (share - before).max(0.0) * weight / total));
            before = share.max(before);
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    steps
        .into_iter()
        .map(|(s, gain)| {
            sum += gain;
            (s, sum.min(1.0))
        })
        .collect()
}

fn quantile(points: &[(f64, f64)], share: f64) -> Option<f64> {
    points.iter().find(|(_, below)| *below >= share).map(|p| p.0)
}

/// The share above each value, down to the floor.
fn exceedance(points: &[(f64, f64)], panel: &Panel) -> Vec<(f64, f64)> {
    let mut line = Vec::with_capacity(points.len() + 1);
    let mut last = (f64::NEG_INFINITY, 0.0);
    for (s, below) in points {
        if !panel.x.holds(*s) {
            continue;
        }
        if line.is_empty() {
            line.push((panel.left, panel.y.at(1.0)));
        }
        let at = panel.at((*s, (1.0 - below).max(FLOOR)));
        // Finer than the drawing is noise in the file.
        if at.0 - last.0 > 0.7 || (at.1 - last.1).abs() > 0.7 {
            line.push(at);
            last = at;
        }
        if 1.0 - below <= FLOOR * 1.001 {
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_by_their_weight() {
        let quick = vec![(1.0, 0.5), (2.0, 1.0)];
        let slow = vec![(2.0, 0.5), (4.0, 1.0)];
        let joined = join(&[(3.0, quick), (1.0, slow)]);
        let at = |s: f64| joined.iter().rfind(|p| p.0 <= s).map(|p| p.1);
        assert_eq!(at(1.0), Some(0.375));
        assert_eq!(at(2.0), Some(0.875));
        assert_eq!(at(4.0), Some(1.0));
    }
}
