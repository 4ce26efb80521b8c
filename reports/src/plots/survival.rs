//! Drain survival: of the requests in flight when a replica left the rotation, the share still running so many seconds later.

use slackwater_sim::{DrainFigures, SimulationResult};

use super::axis::{Axis, Panel, time};
use super::sheet::{Anchor, Pen, Sheet, Swatch};
use super::theme::{Ink, Style};
use crate::format::{counted, duration, percent};

/// Step curves of each drain and of all together, with the drain timeout where one cut requests.
#[must_use]
pub fn survival(result: &SimulationResult, style: Style) -> String {
    let drains = result.rollout.as_ref().map_or(&[][..], |r| &r.drains);
    let curves: Vec<Curve> = drains.iter().map(Curve::of).filter(|c| c.total > 0).collect();
    let all = Curve::joined(&curves);
    let mut sheet = Sheet::new(style, "Drain survival", &description(&all, drains.len()));
    if result.rollout.is_none() {
        return sheet.no_data("there was no rollout, so nothing was drained");
    }
    let longest = all.ended.last().copied().unwrap_or(0.0).max(all.cut.last().copied().unwrap_or(0.0));
    if all.total == 0 {
        return sheet.no_data("nothing was in flight at any drain");
    }
    let mut entries = vec![(Swatch::Line(Pen::new(Ink::Blue, 2.2)), "all drains together")];
    if curves.len() > 1 {
        entries.push((Swatch::Line(Pen::new(Ink::Sky, 1.2)), "each drain"));
    }
    if !all.cut.is_empty() {
        entries.push((Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "drain timeout: the rest is cut"));
    }
    sheet.legend(&entries);

    let top = sheet.cursor + 24.0;
    let bottom = top + 190.0;
    let (left, right) = (50.0, sheet.width() - 14.0);
    let panel = Panel {
        x: Axis::linear(0.0, longest * 1.06, left, right),
        y: Axis::linear(0.0, 1.0, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    panel.rules(&mut sheet, 5, |v| format!("{} %", percent(v)));
    panel.heading(&mut sheet, "share of requests still running");
    if curves.len() > 1 {
        // Many drains together are a cloud: fainter the more there are.
        let alpha = (6.0 / curves.len() as f64).clamp(0.15, 0.8);
        for curve in &curves {
            sheet.line(curve.steps(&panel), Pen::new(Ink::Sky, 1.2).alpha(alpha));
        }
    }
    sheet.line(all.steps(&panel), Pen::new(Ink::Blue, 2.2));
    if let Some(timeout) = all.cut.last() {
        let x = panel.x.at(*timeout);
        sheet.line(vec![(x, top), (x, bottom)], Pen::new(Ink::Red, 1.6).dashed());
        let text = format!("{} cut at {}", all.cut.len(), duration(*timeout));
        sheet.label((x - 5.0, top + 13.0), &text, Ink::Text, Anchor::End);
        let left_over = all.cut.len() as f64 / all.total as f64;
        sheet.dot((x, panel.y.at(left_over)), 4.0, Ink::Red);
    }
    panel.value_axis(&mut sheet, "time since the replica left the rotation", time);
    sheet.cursor = bottom + 34.0;
    sheet.finish()
}

/// One survival curve.
struct Curve {
    /// When requests ended by themselves, ascending.
    ended: Vec<f64>,
    /// When the rest were cut, ascending.
    cut: Vec<f64>,
    total: usize,
}

impl Curve {
    fn of(drain: &DrainFigures) -> Curve {
        Curve::new(drain.residual_s.clone(), drain.cut_after_s.clone())
    }

    fn joined(curves: &[Curve]) -> Curve {
        let gather = |of: fn(&Curve) -> &Vec<f64>| curves.iter().flat_map(of).copied().collect();
        Curve::new(gather(|c| &c.ended), gather(|c| &c.cut))
    }

    fn new(mut ended: Vec<f64>, mut cut: Vec<f64>) -> Curve {
        for list in [&mut ended, &mut cut] {
            list.retain(|v| v.is_finite() && *v >= 0.0);
            list.sort_by(f64::total_cmp);
        }
        let total = ended.len() + cut.len();
        Curve { ended, cut, total }
    }

    /// Down a step at each end; a cut request runs until it is cut, and is not counted as having ended.
    fn steps(&self, panel: &Panel) -> Vec<(f64, f64)> {
        let total = self.total as f64;
        let mut line = vec![panel.at((0.0, 1.0))];
        for (i, end) in self.ended.iter().enumerate() {
            let still = (self.total - i) as f64;
            line.extend([panel.at((*end, still / total)), panel.at((*end, (still - 1.0) / total))]);
        }
        if let Some(last) = self.cut.last() {
            line.push(panel.at((*last, self.cut.len() as f64 / total)));
        }
        thin_steps(line)
    }
}

/// Drops steps finer than the drawing shows.
fn thin_steps(line: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let last = line.len().saturating_sub(1);
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, p) in line.into_iter().enumerate() {
        let near = kept.last().is_some_and(|k| (k.0 - p.0).abs() < 0.3 && (k.1 - p.1).abs() < 0.3);
        if !near || i == last {
            kept.push(p);
        }
    }
    kept
}

fn description(all: &Curve, drains: usize) -> String {
    if all.total == 0 {
        return String::new();
    }
    let total = u64::try_from(all.total).unwrap_or(u64::MAX);
    let longest = all.ended.last().map_or_else(String::new, |s| {
        format!(" The longest that ended by itself took {} more.", duration(*s))
    });
    let drains = u64::try_from(drains).unwrap_or(u64::MAX);
    format!("{} in flight at {}.{longest}", counted(total, "request"), counted(drains, "drain"))
}
