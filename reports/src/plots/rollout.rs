//! A rollout's stages as bars, and latency under them on the same time axis.

use slackwater_sim::SimulationResult;

use super::axis::{Axis, Panel};
use super::sheet::{Anchor, Face, Sheet};
use super::theme::{Ink, Style};
use super::{View, gantt, latency};
use crate::clock::Clock;

/// What it is called.
pub(crate) const TITLE: &str = "The rollout as it is expected to go";

/// Left edge of all panels: names and axis labels fit before it.
const LEFT: f64 = 84.0;

/// Gantt and latency of the rollout and its surroundings, told by `clock`.
pub(crate) fn rollout(result: &SimulationResult, clock: &Clock, style: Style) -> String {
    let mut sheet = Sheet::new(style, TITLE, "");
    let Some(moved) = result.rollout.as_ref().filter(|rollout| !rollout.moves.is_empty()) else {
        return sheet.no_data("no replica moved in this result");
    };
    let view = View::near(result, 0.25);
    sheet.legend(&gantt::legend());
    sheet.cursor += 20.0;
    sheet.text((sheet.left(), sheet.cursor), "stages of each move", Face::Small, Ink::Text, Anchor::Start);
    let rows = gantt::rows(moved, &result.fleet);
    let top = sheet.cursor + 6.0;
    let bottom = top + rows.len() as f64 * gantt::row_height(rows.len());
    let right = sheet.width() - 14.0;
    let panel = Panel {
        x: Axis::linear(view.from, view.until, LEFT, right),
        y: Axis::linear(0.0, 1.0, bottom, top),
        left: LEFT,
        right,
        top,
        bottom,
    };
    gantt::draw(&mut sheet, &panel, moved, &rows);
    panel.time_axis(&mut sheet, clock, false);
    sheet.cursor = bottom + 26.0;
    if latency::any(result) {
        latency::panels(&mut sheet, result, view, (clock, LEFT));
    } else {
        sheet.paragraph("No request completed meanwhile, so there is no latency to show.");
    }
    sheet.finish()
}
