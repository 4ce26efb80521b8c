//! What went wrong in the simulated world, and what clients made of it.

use std::fmt::Write as _;

use slackwater_sim::{FaultFigures, SimulationResult};

use super::{escape, table};
use crate::clock::Clock;
use crate::facts;
use crate::format::{NONE, count};

/// Faults shown; a swarm has its list in `result.json`.
const ROWS: usize = 60;

/// Replicas named in a row.
const NAMED: usize = 6;

pub(super) fn write(page: &mut String, result: &SimulationResult) {
    let clock = Clock::of(&result.traffic);
    let at = |at_s: f64| clock.cell(at_s);
    let told: Vec<String> = facts::retries_in_words(result, at)
        .into_iter()
        .chain(facts::read_time_outs_in_words(result))
        .collect();
    if told.is_empty() && result.faults.is_empty() {
        return;
    }
    page.push_str("<section id=\"faults\">\n<h2>Faults and retries</h2>\n");
    for text in told {
        let _ = writeln!(page, "<p>{}.</p>", escape(&text));
    }
    if !result.faults.is_empty() {
        let head = ["fault", "was to come", "came", "over", "befell", "times"];
        let rows = result.faults.iter().take(ROWS).map(|fault| {
            let time = |at_s: Option<f64>, absent: &str| at_s.map_or_else(|| absent.to_owned(), at);
            vec![
                fault.kind.clone(),
                fault.when.clone(),
                time(fault.came_s, "never"),
                time(fault.until_s, NONE),
                befell(fault),
                count(fault.times),
            ]
        });
        let caption = format!("What the scenario had go wrong. Times are {}.", clock.cell_unit());
        table(page, &caption, &head, rows);
        if result.faults.len() > ROWS {
            let _ =
                writeln!(page, "<p>The first {ROWS} of {}; all are in result.json.</p>", result.faults.len());
        }
    }
    page.push_str("</section>\n");
}

/// The replicas it befell, each once.
fn befell(fault: &FaultFigures) -> String {
    let mut names: Vec<&str> = Vec::new();
    for one in &fault.befell {
        let name = if one.replica.is_empty() { "the rollout" } else { one.replica.as_str() };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match (names.len(), fault.came_s) {
        (0, Some(_)) => "nothing was there to befall".to_owned(),
        (0, None) => NONE.to_owned(),
        (more, _) if more > NAMED => format!("{} and {} more", names[..NAMED].join(", "), more - NAMED),
        _ => names.join(", "),
    }
}
