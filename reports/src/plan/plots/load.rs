//! The load to be expected against what N and N-1 replicas carry, the safe windows shaded.

use slackwater_planner::planned::{Planned, Verdict};

use super::when;
use crate::format::{counted, figure};
use crate::plots::Style;
use crate::plots::axis::{Axis, Keep, Panel, Samples, ceiling, plain, runs, thin};
use crate::plots::sheet::{Anchor, Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

/// The drawing.
pub(super) fn load(planned: &Planned, style: Style) -> String {
    let mut sheet = Sheet::new(style, "Traffic and capacity", "");
    let slots: Vec<_> = planned.load.iter().filter(|slot| slot.at_s.is_finite()).collect();
    if slots.is_empty() {
        return sheet.no_data("no load was computed");
    }
    sheet.legend(&[
        (Swatch::Line(Pen::new(Ink::Blue, 2.0)), "expected load"),
        (Swatch::Block(Ink::Blue, 0.25), "least to most over the futures"),
        (Swatch::Line(Pen::new(Ink::Text, 1.6)), "capacity of all replicas"),
        (Swatch::Line(Pen::new(Ink::Red, 1.6).dashed()), "of one fewer"),
        (Swatch::Block(Ink::Green, 0.45), "safe to start"),
    ]);
    // A slot lasts until the next; the last one as long as the one before.
    let step =
        slots.windows(2).map(|pair| pair[1].at_s - pair[0].at_s).find(|step| *step > 0.0).unwrap_or(600.0);
    let until = slots[slots.len() - 1].at_s + step;
    let from = slots[0].at_s;
    let carry = |fewer: usize| {
        let replicas = planned.fleet.replicas.len().checked_sub(fewer)?;
        planned.capacity.iter().find(|row| usize::try_from(row.replicas) == Ok(replicas) && replicas > 0)
    };
    let capacities = [carry(0), carry(1)];
    let highest = slots.iter().map(|slot| slot.high_per_s.max(slot.mean_per_s));
    let highest = ceiling(highest.chain(capacities.iter().flatten().map(|row| row.rate_per_s)), 1e-9);
    let top = sheet.cursor + 26.0;
    let bottom = top + 220.0;
    let (left, right) = (50.0, sheet.width() - 14.0);
    let panel = Panel {
        x: Axis::linear(from, until, left, right),
        y: Axis::linear(0.0, highest * 1.12, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    for (from, until) in safe(planned) {
        let (x, wide) = (panel.x.at(from), panel.x.at(until) - panel.x.at(from));
        sheet.rect(x, top, wide.max(2.0), bottom - top, Ink::Green, 0.45);
    }
    panel.rules(&mut sheet, 5, plain);
    panel.heading(&mut sheet, "requests a second");
    let columns = sheet.style.form.columns();
    let line = |of: fn(&slackwater_planner::planned::LoadSlot) -> f64| -> Samples {
        let all = slots
            .iter()
            .map(|slot| (slot.at_s + step / 2.0, Some(of(slot)).filter(|v| v.is_finite())))
            .collect();
        thin(all, columns, Keep::Mean)
    };
    let (low, high) = (line(|slot| slot.low_per_s), line(|slot| slot.high_per_s));
    for (low, high) in runs(&low).into_iter().zip(runs(&high)) {
        let back = low.into_iter().rev();
        sheet.area(high.into_iter().chain(back).map(|at| panel.at(at)).collect(), Ink::Blue, 0.25);
    }
    for run in runs(&line(|slot| slot.mean_per_s)) {
        sheet.line(run.into_iter().map(|at| panel.at(at)).collect(), Pen::new(Ink::Blue, 1.8));
    }
    let pens = [Pen::new(Ink::Text, 1.6), Pen::new(Ink::Red, 1.6).dashed()];
    for ((row, pen), above) in capacities.into_iter().zip(pens).zip([true, false]) {
        let Some(row) = row else { continue };
        let y = panel.y.at(row.rate_per_s);
        sheet.line(vec![(left, y), (right, y)], pen);
        let text =
            format!("{} carry {}/s", counted(u64::from(row.replicas), "replica"), figure(row.rate_per_s));
        sheet.label((right - 2.0, if above { y - 5.0 } else { y + 14.0 }), &text, Ink::Text, Anchor::End);
    }
    panel.time_axis(&mut sheet, &when::clock(planned), true);
    sheet.cursor = bottom + 34.0;
    sheet.finish()
}

/// Stretches in which every start is safe, and the step after the last.
fn safe(planned: &Planned) -> Vec<(f64, f64)> {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    let every = planned.asked.every_s.max(1.0);
    for start in
        planned.windows.iter().filter(|start| start.verdict == Verdict::Safe && start.start_s.is_finite())
    {
        let until = start.start_s + every;
        match stretches.last_mut() {
            Some(last) if start.start_s <= last.1 + 1.0 => last.1 = until,
            _ => stretches.push((start.start_s, until)),
        }
    }
    stretches
}
