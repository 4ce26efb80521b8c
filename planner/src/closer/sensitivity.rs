//! What turns the window red, and at what value.

use slackwater_engine::Ps;
use slackwater_policy::Operator;
use slackwater_scenarios::Scenario;

use super::{Together, fresh, try_start};
use crate::chance::Risk;
use crate::plan::{PlanError, Search};
use crate::planned::SensitivityRow;
use crate::stretch::{Tried, ps};
use crate::variant;

/// Futures for each change.
const FUTURES: u64 = 100;
/// Futures for each step of the search for the value that turns red: enough that a few misses show a risk above a hundredth.
const SEARCH: u64 = 30;
/// Steps of that search.
const STEPS: u32 = 4;
/// No factor above this is looked at.
const MOST: f64 = 3.0;

/// A way in which things may turn out, by a factor.
struct Axis {
    kind: &'static str,
    /// Factors that are shown.
    shown: &'static [f64],
    words: fn(f64) -> String,
    change: fn(&Scenario, f64) -> Scenario,
}

const AXES: [Axis; 4] = [
    Axis {
        kind: "traffic",
        shown: &[1.1, 1.2, 1.5],
        words: |factor| format!("traffic +{:.0} %", (factor - 1.0) * 100.0),
        change: |scenario, _| scenario.clone(),
    },
    Axis {
        kind: "slower",
        shown: &[1.1, 1.2],
        words: |factor| format!("the new version {:.0} % slower", (factor - 1.0) * 100.0),
        change: variant::slower,
    },
    Axis {
        kind: "verbose",
        shown: &[1.2],
        words: |factor| format!("its answers {factor:.1} times as long"),
        change: variant::more_verbose,
    },
    Axis {
        kind: "startup",
        shown: &[2.0],
        words: |factor| format!("start-up {factor:.0} times as long"),
        change: variant::slower_to_start,
    },
];

pub(crate) fn sensitivity(
    search: &mut Search<'_>,
    start: Ps,
    usual: Ps,
) -> Result<Vec<SensitivityRow>, PlanError> {
    let mut rows = Vec::new();
    let scenario = search.scenario.clone();
    for axis in &AXES {
        let mut red = None;
        for factor in axis.shown {
            let Some(trials) = tried(search, axis, *factor, (start, 2 * usual), FUTURES)? else {
                return Ok(rows);
            };
            let risk = together(&trials).risk(search.planning.confidence);
            if is_red(&risk, search.planning.risk) {
                red = red.or(Some(*factor));
            }
            rows.push(row(search, (axis.words)(*factor), axis.kind, *factor, risk));
        }
        let from = red_from(search, axis, red, (start, 2 * usual))?;
        for row in rows.iter_mut().filter(|row| row.kind == axis.kind) {
            row.red_from = from;
        }
    }
    if let Some(lost) = variant::gpu_lost(&scenario) {
        let stage = ("one more GPU lost", None);
        let Some(trials) =
            try_start(search, &lost, (start, 2 * usual), (fresh::SENSITIVITY, FUTURES), stage)?
        else {
            return Ok(rows);
        };
        // A rollout that holds because a GPU is gone has done what it should; whether users noticed is the question.
        let missed = trials.iter().filter(|tried| !tried.trial.service.kept).count() as u64;
        let risk = Risk::of(missed, trials.len() as u64, search.planning.confidence);
        rows.push(row(
            search,
            "one more GPU lost while the first replica drains".to_owned(),
            "gpu_lost",
            1.0,
            risk,
        ));
    }
    let Some(plain) = try_start(
        search,
        &scenario,
        (start, usual),
        (fresh::SENSITIVITY, FUTURES / 2),
        ("as planned", None),
    )?
    else {
        return Ok(rows);
    };
    let usually = together(&plain).duration_s(0.5);
    let order = Some((ps(usually * super::strategies::LATE), Operator::Rollback));
    let stage = ("rollback at the worst moment", order);
    let Some(trials) =
        try_start(search, &scenario, (start, 3 * usual), (fresh::SENSITIVITY, FUTURES), stage)?
    else {
        return Ok(rows);
    };
    let missed = trials
        .iter()
        .filter(|tried| {
            !tried.trial.service.kept || !matches!(tried.trial.outcome.as_str(), "rolled_back" | "completed")
        })
        .count() as u64;
    let risk = Risk::of(missed, trials.len() as u64, search.planning.confidence);
    rows.push(row(search, "rollback at the worst moment".to_owned(), "rollback", 1.0, risk));
    Ok(rows)
}

fn together(trials: &[Tried]) -> Together {
    Together::of(trials.iter())
}

fn is_red(risk: &Risk, budget: f64) -> bool {
    risk.lower > budget
}

fn row(search: &Search<'_>, change: String, kind: &str, factor: f64, risk: Risk) -> SensitivityRow {
    let budget = search.planning.risk;
    let colour = if is_red(&risk, budget) {
        "red"
    } else if risk.misses == 0 || risk.estimate <= budget {
        "green"
    } else {
        "amber"
    };
    SensitivityRow { change, kind: kind.to_owned(), factor, risk, colour: colour.to_owned(), red_from: None }
}

fn tried(
    search: &mut Search<'_>,
    axis: &Axis,
    factor: f64,
    at: (Ps, Ps),
    futures: u64,
) -> Result<Option<Vec<Tried>>, PlanError> {
    let scenario = (axis.change)(&search.scenario, factor);
    let growth = search.futures.growth;
    if axis.kind == "traffic" {
        search.futures.growth = growth * factor;
    }
    let stage = format!("what if: {}", (axis.words)(factor));
    let found = try_start(search, &scenario, at, (fresh::SENSITIVITY, futures), (&stage, None));
    search.futures.growth = growth;
    found
}

/// Bisects for the smallest factor that is red, to within a few hundredths; `None` where none is up to [`MOST`].
fn red_from(
    search: &mut Search<'_>,
    axis: &Axis,
    known: Option<f64>,
    at: (Ps, Ps),
) -> Result<Option<f64>, PlanError> {
    let budget = search.planning.risk;
    let (mut low, mut high) = (1.0, known.unwrap_or(MOST));
    if known.is_none() {
        let Some(trials) = tried(search, axis, high, at, SEARCH)? else { return Ok(None) };
        if !is_red(&together(&trials).risk(search.planning.confidence), budget) {
            return Ok(None);
        }
        low = axis.shown.last().copied().unwrap_or(1.0);
    } else if let Some(before) = axis.shown.iter().rev().find(|factor| Some(**factor) < known) {
        low = *before;
    }
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        let Some(trials) = tried(search, axis, middle, at, SEARCH)? else { return Ok(Some(high)) };
        if is_red(&together(&trials).risk(search.planning.confidence), budget) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(Some(high))
}
