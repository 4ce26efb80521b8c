//! The demo's prediction: a scenario of the same engine, the same kind of traffic, and the start-up that the stand-ins are given.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::SplitMix64;
use slackwater_load::Prompt;
use slackwater_planner::actual::{Prediction, of_scenario};
use slackwater_policy::Plan;
use slackwater_scenarios::Scenario;
use slackwater_sim::{plan_for, start_offset_ps};

use super::Balancer;

/// The engine of both.
pub(super) const ENGINE: &str = "a100-llama-3.1-8b";
/// How long a stand-in takes to start; a real engine takes a minute or more.
pub(super) const START_UP: &str = "3s";
/// What is asked.
pub(super) const PROMPT: Prompt = Prompt { prompt_tokens: (50, 500), output_tokens: (40, 240) };

/// Seconds of traffic: longer than the demo of the largest fleet.
const TRACE_S: f64 = 600.0;

/// Simulated rollouts behind the prediction.
const ROLLOUTS: u64 = 40;

/// Draws a trace, simulates rollouts in it, and writes trace and scenario into the folder.
pub(super) fn predicted(
    folder: &Path,
    replicas: u16,
    balancer: Balancer,
    rate: f64,
) -> anyhow::Result<(Plan, Prediction)> {
    let trace = folder.join("trace.csv");
    std::fs::write(&trace, drawn(rate)).with_context(|| format!("cannot write {}", trace.display()))?;
    let path = folder.join("scenario.toml");
    // Stopping and warming up take a stand-in as long as they did when it was measured (`slackwater report --update`), and its memory is
    // free at once; the rest are the executor's own habits.
    let router = match balancer {
        Balancer::Gateway => "least-connections",
        Balancer::Nginx => "nginx-least-conn",
        Balancer::Haproxy => "haproxy-leastconn",
    };
    let text = format!(
        r#"seed = 1

[router]
policy = "{router}"

[fleet]
replicas = {replicas}

[from]
name = "v1"
engine = "{ENGINE}"
stop = "40ms"
gpu_release = "0s"
startup = "{START_UP}"
warm_up = "700ms"

[to]
name = "v2"

[traffic]
file = {trace}

[slo]
ttft = "1s"
tpot = "50ms"
share = 0.99

[rollout]
start = "{lead_in}s"
drain_timeout = "60s"
soak = "3s"
in_flight_poll = "100ms"
stop_timeout = "5s"
on_failure = "hold"

[rollout.health]
interval = "100ms"
timeout = "30s"
"#,
        trace = toml::Value::from(trace.display().to_string()),
        lead_in = super::LEAD_IN.as_secs(),
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let scenario = Scenario::load_with(&path, &[] as &[&str])?;
    let start = start_offset_ps(scenario.rollout.start, None)?;
    let plan = plan_for(&scenario, None, start, &[])?;
    let prediction = of_scenario(&scenario, &plan, ROLLOUTS, "the demo's scenario.toml")?;
    Ok((plan, prediction))
}

/// Requests of the demo's kind, in the form of Azure's traces.
fn drawn(rate: f64) -> String {
    let mut draws = SplitMix64::seed_from_u64(1);
    let mut text = "TIMESTAMP,ContextTokens,GeneratedTokens\n".to_owned();
    let mut at = 0.0;
    while at < TRACE_S {
        at += -(1.0 - draws.random::<f64>()).ln() / rate;
        let (hours, minutes, seconds) = ((at / 3600.0).floor(), (at % 3600.0 / 60.0).floor(), at % 60.0);
        let prompt = draws.random_range(PROMPT.prompt_tokens.0..=PROMPT.prompt_tokens.1);
        let output = draws.random_range(PROMPT.output_tokens.0..=PROMPT.output_tokens.1);
        // A String can be written to without fail.
        let _ = writeln!(text, "2026-01-01 {hours:02.0}:{minutes:02.0}:{seconds:09.6},{prompt},{output}",);
    }
    text
}
