//! How long drained replicas stay busy, by the hour of the day.

use slackwater_planner::planned::{DrainHour, Planned};

use super::when;
use crate::format::{count, duration};
use crate::plots::Style;
use crate::plots::axis::{Axis, Panel, plain};
use crate::plots::sheet::{Anchor, Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

/// The drawing.
pub(super) fn survival(planned: &Planned, style: Style) -> String {
    let hours: Vec<&DrainHour> =
        planned.drain_by_hour.iter().filter(|hour| points(hour).count() > 0).collect();
    let drains: u64 = hours.iter().map(|hour| hour.drains).sum();
    let text = if drains == 0 {
        String::new()
    } else {
        format!("{} drains in the screening, by the hour of the start.", count(drains))
    };
    let mut sheet = Sheet::new(style, "Drain survival by hour", &text);
    if hours.is_empty() {
        return sheet.no_data("nothing was drained");
    }
    let own = planned.recommended.as_ref().and_then(|best| when::local(&best.start)).map(|at| at.hour());
    let own = hours.iter().find(|hour| own.is_some_and(|own| u32::try_from(own) == Ok(hour.hour))).copied();
    let slowest = hours.iter().copied().max_by(|a, b| weight(a).total_cmp(&weight(b)));
    let name = |hour: &DrainHour| format!("{:02}:00 to {:02}:00", hour.hour, (hour.hour + 1) % 24);
    let (own_name, slowest_name) = (own.map(name), slowest.map(name));
    let own_name = own_name.map(|name| format!("{name}, where the recommended start is"));
    let slowest_name = slowest_name.map(|name| format!("{name}, the slowest"));
    let mut entries = Vec::new();
    if let Some(name) = &own_name {
        entries.push((Swatch::Line(Pen::new(Ink::Blue, 2.2)), name.as_str()));
    }
    if let Some(name) = &slowest_name {
        entries.push((Swatch::Line(Pen::new(Ink::Orange, 2.2)), name.as_str()));
    }
    entries.push((Swatch::Line(Pen::new(Ink::Baseline, 1.2)), "each other hour"));
    let timeout =
        planned.recommended.as_ref().map(|best| best.drain_timeout_s).filter(|timeout| *timeout > 0.0);
    if timeout.is_some() {
        entries.push((Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "recommended drain timeout"));
    }
    sheet.legend(&entries);
    let top = sheet.cursor + 26.0;
    let bottom = top + 200.0;
    let (left, right) = (50.0, sheet.width() - 14.0);
    let first =
        hours.iter().flat_map(|hour| points(hour)).map(|(after, _)| after).fold(f64::INFINITY, f64::min);
    let panel = Panel {
        x: Axis::log(first, last(&hours).max(timeout.unwrap_or(0.0) * 1.2), left, right),
        y: Axis::linear(0.0, 1.0, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    panel.rules(&mut sheet, 5, |value| format!("{:.0} %", value * 100.0));
    panel.heading(&mut sheet, "share of drains not over yet");
    let is = |of: Option<&DrainHour>, hour: &DrainHour| of.is_some_and(|of| std::ptr::eq(of, hour));
    let special = |hour: &DrainHour| is(own, hour) || is(slowest, hour);
    let mut curve = |hour: &DrainHour, pen: Pen| {
        let line = points(hour).filter(|(after, _)| panel.x.holds(*after)).map(|at| panel.at(at)).collect();
        sheet.line(line, pen);
    };
    for hour in hours.iter().filter(|hour| !special(hour)) {
        curve(hour, Pen::new(Ink::Baseline, 1.0).alpha(0.7));
    }
    if let Some(slowest) = slowest {
        curve(slowest, Pen::new(Ink::Orange, 2.2));
    }
    if let Some(own) = own {
        curve(own, Pen::new(Ink::Blue, 2.2));
    }
    if let Some(timeout) = timeout {
        let x = panel.x.at(timeout);
        sheet.line(vec![(x, top), (x, bottom)], Pen::new(Ink::Red, 1.6).dashed());
        let (x, anchor) =
            if x > f64::midpoint(left, right) { (x - 5.0, Anchor::End) } else { (x + 5.0, Anchor::Start) };
        sheet.label((x, top + 13.0), &duration(timeout), Ink::Text, anchor);
    }
    panel.value_axis(&mut sheet, "seconds since the replica left the rotation", plain);
    sheet.cursor = bottom + 34.0;
    sheet.finish()
}

fn points(hour: &DrainHour) -> impl Iterator<Item = (f64, f64)> + '_ {
    let fine = |(after, share): &&(f64, f64)| *after > 0.0 && after.is_finite() && share.is_finite();
    hour.survival.iter().filter(fine).map(|(after, share)| (*after, share.clamp(0.0, 1.0)))
}

/// The sum of shares: larger where drains last longer, for all hours are told at the same points.
fn weight(hour: &DrainHour) -> f64 {
    points(hour).map(|(_, share)| share).sum()
}

/// The first point at which every drain is over, or the last.
fn last(hours: &[&DrainHour]) -> f64 {
    let end = |hour: &DrainHour| {
        points(hour)
            .find(|(_, share)| *share <= 0.0)
            .or_else(|| points(hour).last())
            .map_or(1.0, |(after, _)| after)
    };
    hours.iter().map(|hour| end(hour)).fold(1.0, f64::max)
}
