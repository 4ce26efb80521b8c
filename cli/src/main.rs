//! The `slackwater` command: arguments in, results on standard output, talk on standard error, exit codes.

mod args;
mod backtest;
mod calibrate;
mod calibrate_args;
mod check;
mod control;
mod demo;
mod gpu_identity;
mod history;
mod output;
mod passive;
mod plan;
mod presets;
mod progress;
mod report;
mod rollouts;
mod run;
mod run_args;
mod run_view;
mod serve;
mod serve_args;
mod simulate;
mod startup;
mod trace;
mod trace_args;
mod trace_write;
mod traffic;
mod validate;

use std::process::ExitCode;

use clap::Parser;
use slackwater_exec::control::Order;

use crate::args::{Arguments, Command, SchemaOf};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Backtest(arguments) => {
            return backtest::backtest(&arguments).unwrap_or_else(|error| output::failed(&error));
        }
        Command::Check(arguments) => {
            return check::check(&arguments).unwrap_or_else(|error| output::failed(&error));
        }
        Command::Plan(arguments) => {
            return plan::plan(&arguments).unwrap_or_else(|error| output::failed(&error));
        }
        Command::Calibrate(arguments) => calibrate::calibrate(&arguments),
        Command::Validate(arguments) => validate::validate(&arguments),
        Command::Run(arguments) => return run::run(&arguments),
        Command::Status(arguments) => control::status(&arguments),
        Command::Pause(arguments) => control::order(&arguments, Order::Pause),
        Command::Resume(arguments) => control::order(&arguments, Order::Resume),
        Command::Approve(arguments) => control::order(&arguments, Order::Approve),
        Command::Abort(arguments) => control::order(&arguments, Order::Abort),
        Command::Rollback(arguments) => control::order(&arguments, Order::Rollback),
        Command::History(arguments) => rollouts::history(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Deployment(command) => control::deployment(&command),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Schema { of: SchemaOf::Scenario } => {
            output::json(&slackwater_scenarios::scenario_json_schema())
        }
        Command::Schema { of: SchemaOf::Plan } => {
            output::json(&slackwater_planner::planned::planned_json_schema())
        }
        Command::Presets(arguments) => presets::presets(&arguments),
        Command::Gateway(arguments) => serve::gateway(&arguments),
        Command::Replica(arguments) => serve::replica(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&error),
    }
}
