//! The plan's drawings: when it is safe, what the load is, what a drain timeout costs, how the rollout is expected to go.

mod heat;
mod load;
mod survival;
mod timeouts;

use slackwater_planner::planned::Planned;

use super::when;
use crate::clock::Clock;
use crate::plots::sheet::Sheet;
use crate::plots::{Style, rollout};

/// One of the plan's drawings.
#[derive(Debug, Clone, Copy)]
pub struct PlanPlot {
    /// File name without extension.
    pub name: &'static str,
    /// One line on what to see in it.
    pub caption: &'static str,
    /// Draws it; what can't be drawn is said.
    pub draw: fn(&Planned, Style) -> String,
    /// Whether this plan has something for it.
    pub applies: fn(&Planned) -> bool,
}

/// All of them, in the order of a report.
pub const PLAN_PLOTS: [PlanPlot; 5] = [
    PlanPlot {
        name: "starts",
        caption: "Every start by day and time: the chance that a rollout begun there misses. Only framed starts are certified; the others \
                  were tried in a few futures, which proves little.",
        draw: heat::heat,
        applies: |planned| !planned.windows.is_empty(),
    },
    PlanPlot {
        name: "load",
        caption: "The load to be expected, against what all replicas carry within the service level and what they carry without one.",
        draw: load::load,
        applies: |planned| !planned.load.is_empty(),
    },
    PlanPlot {
        name: "drain-by-hour",
        caption: "How long drained replicas stay busy, by the hour of the day: the share of drains that are not over after so long.",
        draw: survival::survival,
        applies: |planned| !planned.drain_by_hour.is_empty(),
    },
    PlanPlot {
        name: "drain-timeouts",
        caption: "What a drain timeout trades: a short one cuts requests, a long one keeps the fleet below its strength.",
        draw: timeouts::timeouts,
        applies: |planned| !planned.drain.is_empty(),
    },
    PlanPlot {
        name: "rollout",
        caption: "One rollout of the recommended window in full, in a future of middling duration: each move's stages, and latency under it.",
        draw: expected,
        applies: |planned| planned.expected.as_ref().is_some_and(|expected| expected.sample.is_some()),
    },
];

fn expected(planned: &Planned, style: Style) -> String {
    match planned.expected.as_ref().and_then(|expected| expected.sample.as_deref()) {
        Some(sample) => {
            let clock = Clock::of(&sample.traffic).in_zone(&when::zone(planned));
            rollout(sample, &clock, style)
        }
        None => {
            Sheet::new(style, rollout::TITLE, "").no_data("there is no window, so no rollout is expected")
        }
    }
}
