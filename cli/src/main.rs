//! The `slackwater` command: arguments in, results on standard output, talk on standard error, exit codes.

mod args;
mod backtest;
mod check;
mod history;
mod output;
mod plan;
mod presets;
mod progress;
mod simulate;
mod trace;
mod trace_args;
mod trace_write;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command, SchemaOf};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Backtest(arguments) => {
            return backtest::backtest(&arguments).unwrap_or_else(|error| output::failed(&error));
        }
        Command::Check(arguments) => return check::check(&arguments).unwrap_or_else(|error| output::failed(&error)),
        Command::Plan(arguments) => return plan::plan(&arguments).unwrap_or_else(|error| output::failed(&error)),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Schema { of: SchemaOf::Scenario } => {
            output::json(&slackwater_scenarios::scenario_json_schema())
        }
        Command::Schema { of: SchemaOf::Plan } => {
            output::json(&slackwater_planner::planned::planned_json_schema())
        }
        Command::Presets(arguments) => presets::presets(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&error),
    }
}
