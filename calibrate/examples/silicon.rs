//! Presets held against measured GPUs: `cargo run --release -p slackwater-calibrate --example silicon -- FILE [--refit]`.
//!
//! Without `--refit` the presets as they are (seconds); with it, efficiencies fitted anew with each model and each pair of
//! GPU and model held out in turn (minutes). `--json` prints everything, row by row; `--refit --toml` the entries of
//! `scenarios/presets/efficiencies.toml`.
#![allow(clippy::print_stdout)] // it is a command

use std::path::Path;
use std::process::ExitCode;

use slackwater_calibrate::silicon::{Errors, Silicon, SiliconOptions, entries, silicon};
use slackwater_scenarios::presets::Efficiency;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let Some(file) = arguments.iter().find(|argument| !argument.starts_with("--")) else {
        println!("usage: silicon FILE [--refit] [--json | --toml]");
        return ExitCode::from(2);
    };
    let options = SiliconOptions { refit: asked("--refit"), ..SiliconOptions::default() };
    let found = match silicon(Path::new(file), options) {
        Ok(found) => found,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if asked("--toml") {
        print_entries(&found);
        return ExitCode::SUCCESS;
    }
    match serde_json::to_string_pretty(&found) {
        Ok(json) if asked("--json") => println!("{json}"),
        _ => print(&found),
    }
    ExitCode::SUCCESS
}

fn print(found: &Silicon) {
    println!("{} rows, {} of them said by presets", found.rows, found.said);
    for (reason, rows) in &found.refused {
        println!("  {rows:>4}  {reason}");
    }
    for group in &found.groups {
        println!("\n{} {} ({})", group.group.generation.name(), group.group.format, group.models.join(", "));
        line("one H100 fit", group.one_fit.as_ref());
        line("presets as they are", group.presets.as_ref());
        for set in &group.sets {
            line(&format!("  {} {} {}", set.gpu, set.model, set.precision), Some(&set.errors));
        }
        if let Some(refitted) = &group.refitted {
            println!("  {:?}", refitted.reached);
            line("fitted anew, seen", refitted.fitted.as_ref());
            line("models held out", refitted.models_held_out.as_ref());
            for set in &refitted.sets_held_out {
                line(&format!("  {} {} {}", set.gpu, set.model, set.precision), Some(&set.errors));
            }
            line("pairs held out", refitted.pairs_held_out.as_ref());
        }
        line("sglang, by presets", group.sglang.as_ref());
    }
    println!("\nOne H100, Qwen3-14B, Poisson: predicted over measured, percent");
    for point in &found.public_points {
        println!(
            "  {} /s {:15} TTFT mean {:+5.1} p50 {:+5.1} p90 {:+5.1} p99 {:+5.1}  TPOT mean {:+5.1} p90 {:+5.1}",
            point.rate,
            point.profile,
            point.ttft_off[0],
            point.ttft_off[1],
            point.ttft_off[2],
            point.ttft_off[3],
            point.tpot_off[0],
            point.tpot_off[1],
        );
    }
}

fn print_entries(found: &Silicon) {
    #[derive(serde::Serialize)]
    struct List {
        efficiency: Vec<Efficiency>,
    }
    match toml::to_string(&List { efficiency: entries(found) }) {
        Ok(text) => println!("{text}"),
        Err(error) => println!("{error}"),
    }
}

fn line(name: &str, errors: Option<&Errors>) {
    let Some(Errors { rows, ttft, tpot }) = errors else { return };
    println!(
        "{name:38} {rows:>4} rows  TPOT {:5.1} % (p90 {:5.1}, bias {:+6.1})  TTFT {:5.1} % (p90 {:5.1}, bias {:+6.1})",
        tpot.median, tpot.p90, tpot.bias, ttft.median, ttft.p90, ttft.bias
    );
}
