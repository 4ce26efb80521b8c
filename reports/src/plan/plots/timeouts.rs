//! The trade-off of drain timeouts: the chance of cutting any request, against the time below full strength.

use slackwater_planner::planned::{DrainRow, Planned};

use crate::format::{duration, share};
use crate::plots::Style;
use crate::plots::axis::{Axis, Panel, ceiling, plain};
use crate::plots::sheet::{Anchor, Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

const MINUTE: f64 = 60.0;

/// The drawing.
pub(super) fn timeouts(planned: &Planned, style: Style) -> String {
    let mut sheet = Sheet::new(style, "Drain timeouts compared", "");
    let mut rows: Vec<&DrainRow> =
        planned.drain.iter().filter(|row| row.timeout_s.is_finite() && row.timeout_s > 0.0).collect();
    rows.sort_by(|a, b| a.timeout_s.total_cmp(&b.timeout_s));
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return sheet.no_data("no drain timeout was tried");
    };
    let budget = Some(planned.asked.cut_risk).filter(|budget| *budget > 0.0 && *budget < 1.0);
    let mut entries = vec![
        (Swatch::Line(Pen::new(Ink::Blue, 2.0)), "P(any request cut)"),
        (Swatch::Line(Pen::new(Ink::Blue, 1.2).alpha(0.6)), "its upper bound"),
        (Swatch::Line(Pen::new(Ink::Orange, 2.0)), "time below full strength, mean"),
        (Swatch::Line(Pen::new(Ink::Green, 2.0)), "duration, 95 %"),
    ];
    if budget.is_some() {
        entries.push((Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "budget for cuts"));
    }
    entries.push((Swatch::Line(Pen::new(Ink::Text, 1.6).dashed()), "recommended"));
    sheet.legend(&entries);
    let (left, right) = (56.0, sheet.width() - 14.0);
    let x = Axis::log(first.timeout_s, last.timeout_s, left, right);

    let top = sheet.cursor + 26.0;
    let bottom = top + 150.0;
    let upper = rows.iter().flat_map(|row| [row.p_any_cut, row.p_any_cut_upper]);
    let most = (ceiling(upper.chain(budget), 0.01) * 1.15).min(1.0);
    let panel = Panel { x, y: Axis::linear(0.0, most, bottom, top), left, right, top, bottom };
    panel.rules(&mut sheet, 5, share);
    panel.heading(&mut sheet, "chance that any request is cut");
    curve(&mut sheet, &panel, &rows, |row| row.p_any_cut_upper, Pen::new(Ink::Blue, 1.2).alpha(0.6));
    curve(&mut sheet, &panel, &rows, |row| row.p_any_cut, Pen::new(Ink::Blue, 2.0));
    if let Some(budget) = budget {
        let y = panel.y.at(budget);
        sheet.line(vec![(left, y), (right, y)], Pen::new(Ink::Red, 1.6).dashed());
        sheet.label((right - 2.0, y - 5.0), &format!("budget {}", share(budget)), Ink::Text, Anchor::End);
    }
    recommended(&mut sheet, &panel, &rows, true);
    panel.floor(&mut sheet);

    let top = bottom + 36.0;
    let bottom = top + 150.0;
    let times = rows.iter().flat_map(|row| [row.below_n_s / MINUTE, row.duration_p95_s / MINUTE]);
    let panel =
        Panel { x, y: Axis::linear(0.0, ceiling(times, 0.1) * 1.15, bottom, top), left, right, top, bottom };
    panel.rules(&mut sheet, 5, plain);
    panel.heading(&mut sheet, "minutes in a rollout");
    curve(&mut sheet, &panel, &rows, |row| row.duration_p95_s / MINUTE, Pen::new(Ink::Green, 2.0));
    curve(&mut sheet, &panel, &rows, |row| row.below_n_s / MINUTE, Pen::new(Ink::Orange, 2.0));
    recommended(&mut sheet, &panel, &rows, false);
    panel.value_axis(&mut sheet, "drain timeout, seconds", plain);
    sheet.cursor = bottom + 34.0;
    sheet.finish()
}

fn curve(sheet: &mut Sheet, panel: &Panel, rows: &[&DrainRow], of: impl Fn(&DrainRow) -> f64, pen: Pen) {
    let line: Vec<(f64, f64)> = rows
        .iter()
        .map(|row| (row.timeout_s, of(row)))
        .filter(|(_, v)| v.is_finite())
        .map(|at| panel.at(at))
        .collect();
    for at in &line {
        sheet.dot(*at, pen.width + 0.8, pen.ink);
    }
    sheet.line(line, pen);
}

fn recommended(sheet: &mut Sheet, panel: &Panel, rows: &[&DrainRow], named: bool) {
    let Some(row) = rows.iter().find(|row| row.recommended) else { return };
    let x = panel.x.at(row.timeout_s);
    sheet.line(vec![(x, panel.top), (x, panel.bottom)], Pen::new(Ink::Text, 1.6).dashed());
    if named {
        let (x, anchor) = if x > f64::midpoint(panel.left, panel.right) {
            (x - 5.0, Anchor::End)
        } else {
            (x + 5.0, Anchor::Start)
        };
        sheet.label((x, panel.top + 12.0), &format!("use {}", duration(row.timeout_s)), Ink::Text, anchor);
    }
}
