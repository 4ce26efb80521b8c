//! Renders reports to look at: `cargo run -p slackwater-reports --example render -- OUT [result.json]`. Without a result it makes some up
//! (`ONLY=four` one of them), and prints the terminal table either way.

#[path = "../tests/it/made_up.rs"]
mod made_up;

use std::path::Path;

use slackwater_reports::{ReportContext, phase_table, verdict_sentence, write_report};
use slackwater_sim::SimulationResult;

fn policy_report<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_str(
        r#"{"outcome":null,"started_at":null,"ended_at":null,"last_at":null,"moves":[],"time_below_n":0,
            "serving_min":0,"holds":[],"cut":0,"notes":[]}"#,
    )
    .expect("an empty report")
}

#[allow(clippy::print_stdout)] // A program for the developer's eye; results go to stdout.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("say where to write")?;
    let results: Vec<(String, SimulationResult)> = match args.next() {
        Some(file) => vec![(String::new(), serde_json::from_reader(std::fs::File::open(file)?)?)],
        None => [
            ("four", made_up::Wish::default()),
            (
                "hurt",
                made_up::Wish {
                    rate_per_s: 6.2,
                    drain_timeout_s: 15.0,
                    epoch_s: Some(1_700_158_546),
                    ..Default::default()
                },
            ),
            ("none", made_up::Wish { start_s: None, ..Default::default() }),
            ("single", made_up::Wish { replicas: 1, rate_per_s: 1.2, ..Default::default() }),
            (
                "hundred",
                made_up::Wish {
                    replicas: 100,
                    rate_per_s: 130.0,
                    span_s: 7_200.0,
                    epoch_s: Some(1_700_158_546),
                    ..Default::default()
                },
            ),
            (
                "week",
                made_up::Wish {
                    rate_per_s: 3.0,
                    span_s: 604_800.0,
                    start_s: Some(200_000.0),
                    epoch_s: Some(1_700_158_546),
                    ..Default::default()
                },
            ),
        ]
        .into_iter()
        .filter(|(name, _)| {
            std::env::var("ONLY").is_ok_and(|only| only.contains(name)) || std::env::var("ONLY").is_err()
        })
        .map(|(name, wish)| (name.to_owned(), made_up::result(&wish)))
        .collect(),
    };
    let context =
        ReportContext { command_line: "slackwater simulate scenarios/catalog/four-gpu-chat.toml".into() };
    for (name, result) in &results {
        println!("{}\n{}\n", phase_table(result), verdict_sentence(result));
        write_report(&Path::new(&out).join(name), result, &context)?;
    }
    Ok(())
}
