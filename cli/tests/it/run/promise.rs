//! Is the promise kept? A scenario is given the delays that were measured in some live rollouts, and predicts others, of another fleet.
//!
//! Nothing is asserted on time: how often the figures lay within what was predicted is printed, and is in `docs/actuals.md`.

use std::fs;

use slackwater_load::Pace;
use slackwater_policy::Span;

use super::fleet::{Fleet, Front, Spec, text};
use super::rollouts::{how_many, rolled};

/// The stand-ins of [`Fleet`] as a scenario: their engine is sped up twenty times.
const SCENARIO: &str = "\
seed = 1
[fleet]
replicas = 4
[from]
name = 'v1'
engine = 'a100-llama-3.1-8b'
step_time_factor = 0.05
stop = '1s'
gpu_release = '0s'
startup = '3s'   # a guess
warm_up = '1s'
[to]
name = 'v2'
[traffic.generate]
duration = '10m'
rate_per_s = 20.0
input = [{ median = 100, sigma = 0.5 }]
output = [{ median = 100, sigma = 0.5 }]
[slo]
ttft = '1s'
tpot = '50ms'
share = 0.99
[rollout]
start = '1m'
";

/// A fleet that was rolled so many times under open load.
fn lived(rollouts: usize) -> Fleet {
    let mut spec = Spec::new(Front::Gateway, 4);
    spec.soak = Span::from_secs(1);
    let mut fleet = Fleet::start(&spec);
    let load = fleet.load_with(4, |options| options.pace = Pace::Rate(20.0));
    rolled(&mut fleet, rollouts);
    assert!(fleet.stop_load(load).is_clean());
    fleet
}

#[test]
fn a_scenario_measured_in_some_rollouts_predicts_others() {
    let measured = lived(how_many());
    let scenario = measured.path("scenario.toml");
    fs::write(&scenario, SCENARIO).unwrap();
    let (path, state) = (scenario.display().to_string(), measured.state().display().to_string());
    let output = measured.slackwater(&[
        "report",
        "--actual",
        &state,
        "--all",
        "--update",
        &path,
        "--in-place",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["rollouts"].as_array().unwrap().len(), how_many());
    let changed = fs::read_to_string(&scenario).unwrap();
    assert!(changed.contains(&format!("# measured in {} moves", 4 * how_many())), "{changed}");
    assert!(
        changed.contains("startup = '3s'   # a guess"),
        "how the old version starts nobody has seen: {changed}"
    );

    let other = lived(how_many());
    let state = other.state().display().to_string();
    let arguments = ["report", "--actual", &state, "--all", "--predicted", &path];
    let output = other.slackwater(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    let output_text = text(&output);
    eprintln!("{output_text}");
    assert!(
        output_text.contains(&format!("{0} rollouts ({0} completed), {1} moves", how_many(), 4 * how_many())),
        "{output_text}"
    );
    let output = other.slackwater(&[&arguments[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = told["calibration"]["figures"].as_array().unwrap();
    let load = figures.iter().find(|figure| figure["name"] == "load").unwrap();
    assert_eq!(load["count"], 4 * how_many(), "{load}");
    assert_eq!(
        load["within_p95"]["count"], load["count"],
        "a hundred simulated rollouts have a 95 % point: {load}"
    );
}
