//! Prints the table of `explore/README.md`: `cargo run -p slackwater-explore --example table [-- long] [NAME]`.

// An example's output is its purpose.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use slackwater_explore::configurations::configurations;
use slackwater_explore::driver::Honest;
use slackwater_explore::search::explore;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let long = arguments.first().is_some_and(|first| first == "long");
    if long {
        arguments.remove(0);
    }
    println!("| N | configuration | faults | orders | crashes | states | steps | depth | seconds |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut failed = false;
    for configuration in configurations() {
        if arguments.first().is_some_and(|name| !configuration.name.contains(name.as_str())) {
            continue;
        }
        for bounds in if long { configuration.long } else { configuration.usual } {
            let began = Instant::now();
            let found = explore(&configuration.with(*bounds), &Honest);
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
                configuration.replicas,
                configuration.name,
                bounds.faults,
                bounds.orders,
                bounds.crashes,
                found.states,
                found.steps,
                found.depth,
                began.elapsed().as_secs_f64()
            );
            if let Some(counterexample) = found.counterexample {
                failed = true;
                println!("\n{}", counterexample.text);
            }
        }
    }
    if failed {
        std::process::exit(1);
    }
}
