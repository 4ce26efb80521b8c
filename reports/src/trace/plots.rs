//! A trace as drawings: its rate, its lengths, the shape of its day and week.

use slackwater_scenarios::traffic::statistics::{LengthFigures, TraceFigures};

use super::{Against, file_name};
use crate::clock::Clock;
use crate::format::{count, duration, figure};
use crate::plots::Style;
use crate::plots::axis::{Axis, Panel, ceiling, plain};
use crate::plots::sheet::{Anchor, Face, Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

/// One of the drawings.
pub(super) struct TracePlot {
    /// File name without extension.
    pub(super) name: &'static str,
    /// One line on what to see in it.
    pub(super) caption: &'static str,
    pub(super) draw: fn(&TraceFigures, Option<Against<'_>>, Style) -> String,
    applies: fn(&TraceFigures) -> bool,
}

const PLOTS: [TracePlot; 3] = [
    TracePlot {
        name: "rate",
        caption: "Requests a second over the trace; the shaded stretch is its busiest ten minutes.",
        draw: rate,
        applies: |_| true,
    },
    TracePlot {
        name: "lengths",
        caption: "The share of requests that are no longer than so many tokens.",
        draw: lengths,
        applies: |_| true,
    },
    TracePlot {
        name: "week",
        caption: "The mean rate in each hour of the day and on each weekday, UTC; hours and days the trace does not hold stay empty.",
        draw: week,
        applies: |figures| {
            figures.calendar.as_ref().is_some_and(|c| c.hourly_per_s.iter().flatten().count() >= 6)
        },
    },
];

/// Those that this trace has something for.
pub(super) fn applicable(figures: &TraceFigures) -> impl Iterator<Item = &'static TracePlot> {
    PLOTS.iter().filter(|plot| (plot.applies)(figures))
}

fn rate(figures: &TraceFigures, _: Option<Against<'_>>, style: Style) -> String {
    let rate = &figures.rate;
    let mut sheet = Sheet::new(style, "Arrivals", "");
    if rate.per_s.is_empty() {
        return sheet.no_data("all requests come at the same time");
    }
    let each = format!("in each {}", step_name(rate.step_s));
    sheet.legend(&[
        (Swatch::Line(Pen::new(Ink::Blue, 2.0)), &each),
        (Swatch::Line(Pen::new(Ink::Baseline, 1.6).dashed()), "mean"),
    ]);
    let top = sheet.cursor + 24.0;
    let bottom = top + 190.0;
    let (left, right) = (50.0, sheet.width() - 14.0);
    let busiest = rate.peak_10min_at_s.filter(|_| figures.span_s >= 1_200.0);
    // The band's name must not hide the peak it is about.
    let headroom = if busiest.is_some() { 1.2 } else { 1.08 };
    let panel = Panel {
        x: Axis::linear(0.0, figures.span_s, left, right),
        y: Axis::linear(0.0, ceiling(rate.per_s.iter().copied(), 1e-9) * headroom, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    if let Some(at_s) = busiest {
        panel.band(&mut sheet, at_s, at_s + 600.0);
    }
    panel.rules(&mut sheet, 5, plain);
    panel.heading(&mut sheet, "requests a second");
    let mut line = Vec::new();
    // A first step that the calendar cuts short shows a rate of almost nothing but chance.
    let cut_short = rate.at_s.get(1).is_some_and(|next| next - rate.at_s[0] < rate.step_s / 2.0);
    for (place, (at_s, per_s)) in rate.at_s.iter().zip(&rate.per_s).enumerate().skip(usize::from(cut_short)) {
        let until = rate.at_s.get(place + 1).copied().unwrap_or((at_s + rate.step_s).min(figures.span_s));
        line.extend([panel.at((*at_s, *per_s)), panel.at((until, *per_s))]);
    }
    let mut area = line.clone();
    area.extend([(area[area.len() - 1].0, bottom), (area[0].0, bottom)]);
    sheet.area(area, Ink::Blue, 0.12);
    sheet.line(line, Pen::new(Ink::Blue, if rate.per_s.len() > 400 { 1.2 } else { 1.8 }));
    let mean = panel.y.at(rate.mean_per_s);
    sheet.line(vec![(left, mean), (right, mean)], Pen::new(Ink::Baseline, 1.6).dashed());
    if let Some(at_s) = busiest {
        panel.band_name(&mut sheet, at_s, at_s + 600.0, "busiest 10 min");
    }
    panel.time_axis(&mut sheet, &Clock::starting(figures.import.epoch_ns, figures.span_s), true);
    sheet.cursor = bottom + 34.0;
    sheet.finish()
}

fn step_name(step_s: f64) -> String {
    if (step_s - 60.0).abs() < 1.0 { "minute".to_owned() } else { duration(step_s) }
}

fn lengths(figures: &TraceFigures, against: Option<Against<'_>>, style: Style) -> String {
    let mut sheet = Sheet::new(style, "Lengths", "");
    let there = against.map(|against| file_name(&against.figures.import.source, 40));
    let mut entries = vec![(Swatch::Line(Pen::new(Ink::Blue, 2.0)), "this trace")];
    if let Some(there) = &there {
        entries.push((Swatch::Line(Pen::new(Ink::Orange, 2.0)), there));
        sheet.legend(&entries);
    }
    let top = sheet.cursor + 26.0;
    let (width, middle) = (sheet.width(), sheet.width() / 2.0);
    let mut panel = |of: fn(&TraceFigures) -> &LengthFigures, name: &str, edges: (f64, f64), top: f64| {
        distribution(&mut sheet, of(figures), against.map(|against| of(against.figures)), name, edges, top);
    };
    if style.form == crate::plots::Form::Narrow {
        panel(|f| &f.input, "prompt tokens", (46.0, width - 14.0), top);
        panel(|f| &f.output, "output tokens", (46.0, width - 14.0), top + 262.0);
    } else {
        panel(|f| &f.input, "prompt tokens", (54.0, middle - 8.0), top);
        panel(|f| &f.output, "output tokens", (middle + 48.0, width - 14.0), top);
    }
    sheet.finish()
}

fn distribution(
    sheet: &mut Sheet,
    of: &LengthFigures,
    there: Option<&LengthFigures>,
    name: &str,
    (left, right): (f64, f64),
    top: f64,
) {
    let bottom = top + 200.0;
    let least = there.map_or(of.least, |there| there.least.min(of.least)).max(1);
    let most = there.map_or(of.most, |there| there.most.max(of.most));
    let panel = Panel {
        x: Axis::log(f64::from(least), f64::from(most), left, right),
        y: Axis::linear(0.0, 1.0, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    panel.heading(sheet, "share of requests no longer");
    panel.rules(sheet, 5, |value| format!("{:.0} %", value * 100.0));
    panel.value_axis(sheet, name, figure);
    for (lengths, ink) in there.map(|there| (there, Ink::Orange)).into_iter().chain([(of, Ink::Blue)]) {
        sheet.line(steps(&lengths.distribution, &panel), Pen::new(ink, 2.0));
    }
    for (share, length, label) in [(0.5, of.p50, "p50"), (0.9, of.p90, "p90"), (0.99, of.p99, "p99")] {
        let at = panel.at((f64::from(length), share));
        sheet.dot(at, 3.5, Ink::Blue);
        let text = format!("{label} {}", count(u64::from(length)));
        // Beside the curve where nothing is: to the right and below, or to the left where there is no room.
        let (x, anchor) =
            if at.0 + 80.0 < right { (at.0 + 7.0, Anchor::Start) } else { (at.0 - 7.0, Anchor::End) };
        let down = if anchor == Anchor::Start { 14.0 } else { 4.0 };
        sheet.label((x, at.1 + down), &text, Ink::Text, anchor);
    }
    sheet.cursor = bottom + 34.0;
}

/// A distribution function: flat until the next length.
fn steps(points: &[(f64, f64)], panel: &Panel) -> Vec<(f64, f64)> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut line = vec![panel.at((first.0, 0.0))];
    // Points are closer than can be seen, save where lengths are few.
    for (tokens, share) in points {
        let at = panel.at((*tokens, *share));
        if line.last().is_some_and(|last| at.0 - last.0 > 4.0) {
            line.push((at.0, line[line.len() - 1].1));
        }
        line.push(at);
    }
    line
}

fn week(figures: &TraceFigures, against: Option<Against<'_>>, style: Style) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let mut sheet = Sheet::new(style, "Day and week", "");
    let Some(calendar) = &figures.calendar else { return sheet.no_data("the trace has no calendar") };
    let there = against.and_then(|against| against.figures.calendar.as_ref());
    if let Some(against) = against.filter(|_| there.is_some()) {
        let name = format!("{}, at the same mean", file_name(&against.figures.import.source, 30));
        sheet.legend(&[
            (Swatch::Block(Ink::Blue, 0.75), "this trace"),
            (Swatch::Line(Pen::new(Ink::Orange, 2.0)), &name),
        ]);
    }
    let top = sheet.cursor + 26.0;
    let width = sheet.width();
    let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
    let hours: Vec<&str> = hours.iter().map(String::as_str).collect();
    let days = calendar.weekday_per_s.iter().flatten().count() >= 2;
    let narrow = sheet.narrow();
    let (end, beside) = match (narrow, days) {
        (false, true) => (width * 0.66, Some(((width * 0.66 + 46.0, width - 14.0), top))),
        (true, true) => (width - 14.0, Some(((46.0, width - 14.0), top + 226.0))),
        (_, false) => (width - 14.0, None),
    };
    let other = there.map(|there| there.hourly_per_s.as_slice());
    bars(&mut sheet, &calendar.hourly_per_s, other, ("requests a second, by hour", &hours), (50.0, end), top);
    if let Some((edges, top)) = beside {
        let other = there.map(|there| there.weekday_per_s.as_slice());
        bars(&mut sheet, &calendar.weekday_per_s, other, ("by weekday", &DAYS), edges, top);
    }
    sheet.finish()
}

fn bars(
    sheet: &mut Sheet,
    values: &[Option<f64>],
    there: Option<&[Option<f64>]>,
    (heading, names): (&str, &[&str]),
    (left, right): (f64, f64),
    top: f64,
) {
    let bottom = top + 170.0;
    // Where both have a value the other is scaled to the same mean: the shape is what is compared.
    let there: Vec<Option<f64>> = there.map_or_else(Vec::new, |there| {
        let both = || values.iter().zip(there).filter_map(|(here, there)| here.zip(*there));
        let scale =
            both().map(|pair| pair.0).sum::<f64>() / both().map(|pair| pair.1).sum::<f64>().max(1e-12);
        there.iter().map(|value| value.map(|value| value * scale)).collect()
    });
    let most = ceiling(values.iter().chain(&there).flatten().copied(), 1e-9);
    let panel = Panel {
        x: Axis::linear(0.0, values.len() as f64, left, right),
        y: Axis::linear(0.0, most * 1.08, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    panel.heading(sheet, heading);
    panel.rules(sheet, 5, plain);
    panel.floor(sheet);
    let step = (right - left) / values.len() as f64;
    let every = if step < 22.0 { 3 } else { 1 };
    for (place, value) in values.iter().enumerate() {
        let x = panel.x.at(place as f64);
        if let Some(value) = value {
            let y = panel.y.at(*value);
            sheet.rect(x + 0.12 * step, y, 0.76 * step, bottom - y, Ink::Blue, 0.75);
        }
        if let Some(Some(value)) = there.get(place) {
            let y = panel.y.at(*value);
            sheet.line(vec![(x + 0.05 * step, y), (x + 0.95 * step, y)], Pen::new(Ink::Orange, 2.0));
        }
        if place % every == 0 {
            let at = (x + step / 2.0, bottom + 16.0);
            sheet.text(at, names[place], Face::Small, Ink::Muted, Anchor::Middle);
        }
    }
    sheet.cursor = bottom + 22.0;
}
