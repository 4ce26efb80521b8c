//! Latency over time: TTFT and TPOT, median and 99th percentile, against the service level's bounds.

use slackwater_sim::{Series, SimulationResult};

use super::axis::{Axis, Keep, Panel, runs, thin};
use super::sheet::{Anchor, Pen, Sheet, Swatch};
use super::theme::{Ink, Style};
use super::{View, period, samples};
use crate::clock::Clock;
use crate::format::{latency as latency_text, token_time};

type Quantile = fn(&Series) -> &Vec<Option<f64>>;

/// One latency's panel.
struct Kind {
    heading: &'static str,
    p50: Quantile,
    p99: Quantile,
    bound_s: f64,
    say: fn(f64) -> String,
}

/// TTFT and TPOT p50 and p99 over time, logarithmic.
#[must_use]
pub fn latency(result: &SimulationResult, style: Style) -> String {
    let view = View::near(result, 3.0);
    let mut text = String::new();
    if view.zoomed {
        text.push_str("The rollout and its surroundings; all of the time is in series.csv.");
    }
    let mut sheet = Sheet::new(style, "Latency over time", &text);
    if !any(result) {
        return sheet.no_data("no request completed in this result");
    }
    panels(&mut sheet, result, view, (&Clock::of(&result.traffic), 50.0));
    sheet.finish()
}

fn kinds(result: &SimulationResult) -> [Kind; 2] {
    [
        Kind {
            heading: "time to first token (TTFT)",
            p50: |s| &s.ttft_p50_s,
            p99: |s| &s.ttft_p99_s,
            bound_s: result.slo.ttft_s,
            say: latency_text,
        },
        Kind {
            heading: "time per output token (TPOT)",
            p50: |s| &s.tpot_p50_s,
            p99: |s| &s.tpot_p99_s,
            bound_s: result.slo.tpot_s,
            say: token_time,
        },
    ]
}

/// Whether there is anything to draw.
pub(super) fn any(result: &SimulationResult) -> bool {
    let series = &result.series;
    let seen = |k: &Kind| (k.p50)(series).iter().chain((k.p99)(series)).any(Option::is_some);
    kinds(result).iter().any(seen) && !series.at_s.is_empty()
}

/// Both panels with their legend, below what is on the sheet, from this left edge on.
pub(super) fn panels(sheet: &mut Sheet, result: &SimulationResult, view: View, (clock, left): (&Clock, f64)) {
    let kinds = kinds(result);
    let baseline = result.baseline.as_deref();
    let mut entries = vec![
        (Swatch::Line(Pen::new(Ink::Orange, 2.0)), "p99"),
        (Swatch::Line(Pen::new(Ink::Blue, 2.0)), "p50"),
        (Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "SLO bound"),
    ];
    if baseline.is_some() {
        entries.push((Swatch::Line(Pen::new(Ink::Baseline, 1.6)), "without a rollout, p99 and p50"));
    }
    sheet.legend(&entries);
    for (i, kind) in kinds.iter().enumerate() {
        panel(sheet, (result, baseline), kind, view, (clock, left, i + 1 == kinds.len()));
    }
}

fn panel(
    sheet: &mut Sheet,
    (result, baseline): (&SimulationResult, Option<&SimulationResult>),
    kind: &Kind,
    view: View,
    (clock, left, last): (&Clock, f64, bool),
) {
    let columns = sheet.style.form.columns();
    let lines = |of: &SimulationResult| {
        [kind.p99, kind.p50]
            .map(|q| thin(samples(&of.series.at_s, q(&of.series), view, |v| v), columns, Keep::Peak))
    };
    let own = lines(result);
    let other = baseline.map(lines);
    let bound = Some(kind.bound_s).filter(|b| b.is_finite() && *b > 0.0);
    let shown = own.iter().chain(other.iter().flatten()).flatten();
    let values: Vec<f64> = shown.filter_map(|(_, v)| *v).filter(|v| *v > 0.0).chain(bound).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);

    let top = sheet.cursor + 24.0;
    let bottom = top + 150.0;
    let right = sheet.width() - 14.0;
    let panel = Panel {
        x: Axis::linear(view.from, view.until, left, right),
        y: Axis::log(low / 1.15, high * 1.3, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    let rollout = result.rollout.as_ref().and_then(period);
    if let Some((from, until)) = rollout {
        panel.band(sheet, from, until);
    }
    panel.rules(sheet, 6, kind.say);
    panel.heading(sheet, kind.heading);
    for (lines, pens) in [
        (other.as_ref(), [Pen::new(Ink::Baseline, 1.2).alpha(0.75); 2]),
        (Some(&own), [Pen::new(Ink::Orange, 1.6), Pen::new(Ink::Blue, 1.6)]),
    ] {
        for (line, pen) in lines.into_iter().flatten().zip(pens) {
            for run in runs(line) {
                sheet.line(run.into_iter().map(|p| panel.at(p)).collect(), pen);
            }
        }
    }
    if let Some(bound) = bound {
        let y = panel.y.at(bound);
        sheet.line(vec![(left, y), (right, y)], Pen::new(Ink::Red, 1.6).dashed());
        sheet.label((right - 2.0, y - 5.0), &format!("SLO {}", (kind.say)(bound)), Ink::Text, Anchor::End);
    }
    // Last of all, or the bound would cross it out.
    if let Some((from, until)) = rollout {
        panel.band_name(sheet, from, until, "rollout");
    }
    panel.time_axis(sheet, clock, last);
    sheet.cursor = bottom + if last { 34.0 } else { 20.0 };
}
