//! Renders a plan's report to look at: `cargo run -p slackwater-reports --example render_plan -- OUT plan.json`. Prints the terminal's text.

use std::path::Path;

use slackwater_planner::planned::Planned;
use slackwater_reports::{ReportContext, plan_text, write_plan_report};

#[allow(clippy::print_stdout)] // A program for the developer's eye; results go to stdout.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("say where to write")?;
    let file = args.next().ok_or("say which plan.json to read")?;
    let planned: Planned = serde_json::from_reader(std::fs::File::open(&file)?)?;
    let context =
        ReportContext { command_line: format!("slackwater plan {}.toml --out {out}", planned.scenario) };
    write_plan_report(Path::new(&out), &planned, &context)?;
    println!("{}", plan_text(&planned));
    Ok(())
}
