//! The command as a user meets it.

#![allow(clippy::print_stdout)] // a skipped test says so

mod actuals;
mod calibrations;
mod catalog;
mod files;
mod history;
mod measured;
mod mistakes;
mod plans;
mod presets;
mod run;
mod servers;
mod strategies;
mod traces;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn slackwater(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args(arguments)
        .current_dir(root())
        .env("COLUMNS", "80")
        .output()
        .expect("the binary was built for this test")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

/// The result of `simulate --json` with these further arguments.
fn simulated(arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = ["simulate", "--json"].iter().chain(arguments).copied().collect();
    let output = slackwater(&all);
    assert!(output.status.success(), "{all:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON and nothing else")
}

/// The value at a path such as `requests.cut`.
fn at<'a>(result: &'a serde_json::Value, path: &str) -> &'a serde_json::Value {
    path.split('.').fold(result, |value, key| match key.parse::<usize>() {
        Ok(index) => &value[index],
        Err(_) => &value[key],
    })
}

fn number(result: &serde_json::Value, path: &str) -> f64 {
    at(result, path).as_f64().unwrap_or_else(|| panic!("{path} is no number: {}", at(result, path)))
}
