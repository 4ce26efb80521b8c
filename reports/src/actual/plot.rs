//! The reliability curve: a predicted share, and the share of actual figures that lay within it.

use slackwater_planner::actual::{Calibration, Coverage};

use crate::plots::Style;
use crate::plots::axis::{Axis, Panel};
use crate::plots::sheet::{Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

/// The figures that are drawn: more would be a tangle.
const DRAWN: [(&str, Ink); 4] =
    [("drain", Ink::Orange), ("load", Ink::Green), ("whole", Ink::Blue), ("rollout", Ink::Purple)];

/// The drawing.
#[must_use]
pub fn reliability(calibration: &Calibration, style: Style) -> String {
    let text = format!("{} rollouts, {} moves.", calibration.rollouts, calibration.moves);
    let mut sheet = Sheet::new(style, "Is the promise kept?", &text);
    let drawn: Vec<(&Coverage, Ink)> = DRAWN
        .iter()
        .filter_map(|(name, ink)| {
            let row = calibration.figures.iter().find(|row| row.name == *name && !row.curve.is_empty())?;
            Some((row, *ink))
        })
        .collect();
    if drawn.is_empty() {
        return sheet.no_data("no figure has both a prediction with a spread and an actual value");
    }
    let mut entries: Vec<(Swatch, &str)> =
        drawn.iter().map(|(row, ink)| (Swatch::Line(Pen::new(*ink, 2.0)), row.name.as_str())).collect();
    entries.push((Swatch::Line(Pen::new(Ink::Muted, 1.2).dashed()), "a promise kept exactly"));
    sheet.legend(&entries);
    let top = sheet.cursor + 26.0;
    let bottom = top + 220.0;
    let (left, right) = (50.0, sheet.width() - 14.0);
    let panel = Panel {
        x: Axis::linear(0.0, 1.0, left, right),
        y: Axis::linear(0.0, 1.0, bottom, top),
        left,
        right,
        top,
        bottom,
    };
    let percent = |value: f64| format!("{:.0} %", value * 100.0);
    panel.rules(&mut sheet, 5, percent);
    panel.heading(&mut sheet, "share of actual figures within");
    sheet.line(vec![panel.at((0.0, 0.0)), panel.at((1.0, 1.0))], Pen::new(Ink::Muted, 1.2).dashed());
    for (row, ink) in drawn {
        let points: Vec<(f64, f64)> = row.curve.iter().map(|point| panel.at(*point)).collect();
        for at in &points {
            sheet.dot(*at, 3.0, ink);
        }
        sheet.line(points, Pen::new(ink, 2.0));
    }
    panel.value_axis(&mut sheet, "predicted share", percent);
    sheet.finish()
}
