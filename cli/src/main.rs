//! The `slackwater` command: arguments in, results on standard output, talk on standard error, exit codes.

mod args;
mod output;
mod presets;
mod progress;
mod serve;
mod serve_args;
mod simulate;
mod trace;
mod trace_args;
mod trace_write;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments),
        Command::Schema => output::json(&slackwater_scenarios::scenario_json_schema()),
        Command::Presets(arguments) => presets::presets(&arguments),
        Command::Gateway(arguments) => serve::gateway(&arguments),
        Command::Replica(arguments) => serve::replica(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&error),
    }
}
