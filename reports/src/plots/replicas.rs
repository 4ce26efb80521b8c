//! In-flight and queue of each replica over time, with the moves' stages underneath on the same time axis.

use slackwater_sim::{RolloutResult, SimulationResult};

use super::axis::{Axis, Keep, Panel, Sample, Samples, ceiling, plain, runs, thin};
use super::sheet::{Anchor, Face, Pen, Sheet, Swatch};
use super::theme::{Ink, Style};
use super::{View, befallen, gantt, samples};
use crate::clock::Clock;
use crate::format::count;

/// Up to here each replica has a small chart of its own; more become a strip whose colour is the load.
const SMALL_MULTIPLES: usize = 8;

/// Rows of the strip at most; more replicas share rows.
const STRIP_ROWS: usize = 160;

/// Columns of the strip: wide enough to see, few enough to keep the file small.
const STRIP_COLUMNS: usize = 150;

/// Shades of the strip.
const SHADES: f64 = 8.0;

/// Running and waiting requests by replica, and the Gantt of the rollout.
#[must_use]
pub fn replicas(result: &SimulationResult, style: Style) -> String {
    let view = View::near(result, 0.6);
    let names = names(result);
    let text = if view.zoomed { "The rollout and its surroundings." } else { "" };
    let mut sheet = Sheet::new(style, "Requests at each replica, and the moves", text);
    let sampled = result.series.running.iter().any(|r| !r.is_empty()) && !result.series.at_s.is_empty();
    if !sampled {
        return sheet.no_data("no samples over time in this result");
    }
    let left = if sheet.narrow() { 86.0 } else { 90.0 };
    let right = sheet.width() - 14.0;
    let frame = Frame { view, x: Axis::linear(view.from, view.until, left, right), left, right };
    if names.len() <= SMALL_MULTIPLES {
        small_multiples(&mut sheet, result, &names, &frame);
    } else {
        strip(&mut sheet, result, &names, &frame);
    }
    match &result.rollout {
        Some(rollout) if !rollout.moves.is_empty() => moves(&mut sheet, result, rollout, &frame),
        _ => {
            let bottom = sheet.cursor;
            let panel = frame.panel(bottom, bottom, Axis::linear(0.0, 1.0, bottom, bottom));
            panel.time_axis(&mut sheet, &Clock::of(&result.traffic), true);
            sheet.cursor = bottom + 34.0;
        }
    }
    sheet.finish()
}

/// What all parts of this plot share.
struct Frame {
    view: View,
    x: Axis,
    left: f64,
    right: f64,
}

impl Frame {
    fn panel(&self, top: f64, bottom: f64, y: Axis) -> Panel {
        Panel { x: self.x, y, left: self.left, right: self.right, top, bottom }
    }
}

/// The replicas' names; those the fleet does not name are numbered.
fn names(result: &SimulationResult) -> Vec<String> {
    let sampled = result.series.running.len();
    let mut names: Vec<String> = result.fleet.replicas.iter().take(sampled).cloned().collect();
    names.extend((names.len()..sampled).map(|i| format!("#{i}")));
    names
}

fn small_multiples(sheet: &mut Sheet, result: &SimulationResult, names: &[String], frame: &Frame) {
    let mut legend = vec![
        (Swatch::Block(Ink::Blue, 0.55), "running"),
        (Swatch::Block(Ink::Red, 0.85), "waiting in its queue"),
        (Swatch::Block(Ink::Shade, 1.0), "out of rotation"),
    ];
    if names.iter().any(|name| befallen(result, name, frame.view).next().is_some()) {
        legend.push((Swatch::Line(fault_pen()), "fault"));
    }
    sheet.legend(&legend);
    sheet.cursor += 12.0;
    let series = &result.series;
    let columns = sheet.style.form.columns();
    let stacked: Vec<[Samples; 2]> = (0..names.len())
        .map(|i| {
            let running = samples(&series.at_s, &series.running[i], frame.view, |n| Some(f64::from(n)));
            let waiting = series.waiting.get(i).map_or(&[][..], Vec::as_slice);
            let both = running
                .iter()
                .zip(samples(&series.at_s, waiting, frame.view, |n| Some(f64::from(n))))
                .map(|((at, r), (_, w))| (*at, Some(r.unwrap_or(0.0) + w.unwrap_or(0.0))))
                .collect();
            [thin(running, columns, Keep::Peak), thin(both, columns, Keep::Peak)]
        })
        .collect();
    // One scale for all, or the rows could not be compared.
    let most = ceiling(stacked.iter().flatten().flatten().filter_map(|(_, v)| *v), 1.0);
    for (i, name) in names.iter().enumerate() {
        let top = sheet.cursor;
        let bottom = top + 44.0;
        let panel = frame.panel(top, bottom, Axis::linear(0.0, most * 1.05, bottom, top));
        out_of_rotation(sheet, result, name, &panel);
        let y = panel.y.at(most);
        sheet.line(vec![(panel.left, y), (panel.right, y)], Pen::new(Ink::Grid, 1.0));
        let [running, both] = &stacked[i];
        for run in runs(both) {
            sheet.area(under(&run, &panel), Ink::Red, 0.85);
        }
        for run in runs(running) {
            // Paper first: the waiting area lies behind, and would shine through.
            let area = under(&run, &panel);
            sheet.area(area.clone(), Ink::Paper, 1.0);
            sheet.area(area, Ink::Blue, 0.55);
        }
        sheet.line(vec![(panel.left, bottom), (panel.right, bottom)], Pen::new(Ink::Axis, 1.0));
        fault_marks(sheet, result, name, &panel);
        let shown = gantt::fit(name, panel.left - 34.0);
        let middle = f64::midpoint(top, bottom) + 4.0;
        sheet.text((sheet.left(), middle), &shown, Face::Small, Ink::Text, Anchor::Start);
        sheet.text((panel.left - 6.0, y + 7.0), &plain(most), Face::Small, Ink::Muted, Anchor::End);
        sheet.text((panel.left - 6.0, bottom + 1.0), "0", Face::Small, Ink::Muted, Anchor::End);
        sheet.cursor = bottom + 8.0;
    }
}

fn fault_pen() -> Pen {
    Pen::new(Ink::Text, 1.6)
}

/// A line where a fault befell the replica, over the whole height of its chart.
fn fault_marks(sheet: &mut Sheet, result: &SimulationResult, name: &str, panel: &Panel) {
    let (from, until) = panel.x.range();
    for at in befallen(result, name, View { from, until, zoomed: false }) {
        let x = panel.x.at(at);
        sheet.line(vec![(x, panel.top), (x, panel.bottom)], fault_pen());
    }
}

fn out_of_rotation(sheet: &mut Sheet, result: &SimulationResult, name: &str, panel: &Panel) {
    let Some(rollout) = &result.rollout else { return };
    for m in rollout.moves.iter().filter(|m| m.replica == name) {
        if let Some(out) = m.taken_out_s {
            panel.band(sheet, out, m.admitted_s.or(m.ended_s).unwrap_or(rollout.ended_s));
        }
    }
}

fn under(run: &[(f64, f64)], panel: &Panel) -> Vec<(f64, f64)> {
    let mut area: Vec<_> = run.iter().map(|p| panel.at(*p)).collect();
    if let (Some(first), Some(last)) = (area.first().copied(), area.last().copied()) {
        area.extend([(last.0, panel.bottom), (first.0, panel.bottom)]);
    }
    area
}

/// One row a replica (or a few), darker where more requests are.
fn strip(sheet: &mut Sheet, result: &SimulationResult, names: &[String], frame: &Frame) {
    let together = names.len().div_ceil(STRIP_ROWS);
    let rows: Vec<Samples> = (0..names.len())
        .step_by(together)
        .map(|first| strip_row(result, first..(first + together).min(names.len()), frame.view))
        .collect();
    let most = ceiling(rows.iter().flatten().filter_map(|(_, v)| *v), 1.0);
    let scale = format!("running and waiting, 0 to {} (full colour) at a replica", plain(most));
    sheet.legend(&[(Swatch::Block(Ink::Blue, 1.0), &scale)]);
    if together > 1 {
        sheet.paragraph(&format!("Each row is the busiest of {together} replicas."));
    }
    sheet.cursor += 12.0;
    let top = sheet.cursor;
    let height = (400.0 / rows.len() as f64).clamp(2.5, 16.0);
    let every = (13.0 / height).ceil().max(1.0);
    for (i, row) in rows.iter().enumerate() {
        let y = top + i as f64 * height;
        strip_cells(sheet, row, most, frame, (y, height));
        if (i as f64) % every < 0.5 {
            let shown = gantt::fit(&names[i * together], frame.left - 8.0);
            let at = (frame.left - 6.0, y + height / 2.0 + 4.0);
            sheet.text(at, &shown, Face::Small, Ink::Muted, Anchor::End);
        }
    }
    sheet.cursor = top + rows.len() as f64 * height + 6.0;
}

/// Running and waiting of the busiest of these replicas.
fn strip_row(result: &SimulationResult, of: std::ops::Range<usize>, view: View) -> Samples {
    let series = &result.series;
    let load = |replica: usize, at: usize| {
        let one = |lists: &[Vec<u32>]| lists.get(replica).and_then(|l| l.get(at)).copied().unwrap_or(0);
        f64::from(one(&series.running)) + f64::from(one(&series.waiting))
    };
    let samples = (0..series.at_s.len())
        .filter(|at| view.holds(series.at_s[*at]))
        .map(|at| (series.at_s[at], of.clone().map(|r| load(r, at)).reduce(f64::max)))
        .collect();
    thin(samples, STRIP_COLUMNS, Keep::Peak)
}

/// Cells of equal shade are drawn as one.
fn strip_cells(sheet: &mut Sheet, row: &[Sample], most: f64, frame: &Frame, (y, height): (f64, f64)) {
    let shade = |v: Option<f64>| (v.unwrap_or(0.0) / most * SHADES).ceil();
    let mut start = frame.left;
    for (i, (at, value)) in row.iter().enumerate() {
        let end = frame.x.at(*at);
        let same = row.get(i + 1).is_some_and(|(_, next)| (shade(*next) - shade(*value)).abs() < 0.5);
        if !same {
            let gap = if height > 5.0 { 1.0 } else { 0.3 };
            sheet.rect(start, y, end - start, height - gap, Ink::Blue, shade(*value) / SHADES);
            start = end;
        }
    }
}

fn moves(sheet: &mut Sheet, result: &SimulationResult, rollout: &RolloutResult, frame: &Frame) {
    let rows = gantt::rows(rollout, &result.fleet);
    sheet.cursor += 4.0;
    let heading = format!(
        "moves: {} of {} replicas",
        count(rows.len() as u64),
        count(result.fleet.replicas.len() as u64)
    );
    sheet.cursor += 16.0;
    sheet.text((sheet.left(), sheet.cursor), &heading, Face::Body, Ink::Text, Anchor::Start);
    sheet.legend(&gantt::legend());
    sheet.cursor += 4.0;
    let top = sheet.cursor;
    let bottom = top + rows.len() as f64 * gantt::row_height(rows.len());
    let panel = frame.panel(top, bottom, Axis::linear(0.0, 1.0, bottom, top));
    gantt::draw(sheet, &panel, rollout, &rows);
    let height = gantt::row_height(rows.len());
    for (row, name) in rows.iter().enumerate() {
        let (top, bottom) = (panel.top + row as f64 * height, panel.top + (row + 1) as f64 * height);
        fault_marks(sheet, result, name, &Panel { top, bottom, ..panel });
    }
    panel.time_axis(sheet, &Clock::of(&result.traffic), true);
    sheet.cursor = bottom + 34.0;
}
