//! Recorded servers, where the data lie beside the repository.

use std::path::PathBuf;

use slackwater_calibrate::{Experiment, Options, validate};

fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/validation");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("not run: no recorded experiments in {}", folder.display());
    None
}

#[test]
fn what_the_description_says_was_measured_is_what_we_compute() {
    let Some(folder) = folder() else { return };
    for experiment in Experiment::all(&folder).unwrap() {
        let text = std::fs::read_to_string(folder.join(&experiment.name).join("experiment.json")).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        let figures = slackwater_calibrate::measured(&experiment.rows, |_| true);
        for (latency, ours) in
            [("ttft_s", figures.ttft_s), ("tpot_s", figures.tpot_s), ("e2e_s", figures.e2e_s)]
        {
            let ours = ours.unwrap();
            for (figure, ours) in
                [("mean", ours.mean), ("p50", ours.p50), ("p90", ours.p90), ("p99", ours.p99)]
            {
                let theirs = description["measured"][latency][figure].as_f64().unwrap();
                assert!(
                    (ours / theirs - 1.0).abs() < 0.01,
                    "{} {latency} {figure}: {ours}, {theirs}",
                    experiment.name
                );
            }
        }
    }
}

/// The figures of docs/accuracy.md: fitted to the first part, the rest predicted.
#[test]
fn the_rest_of_a_recorded_run_is_predicted() {
    let Some(folder) = folder() else { return };
    let experiments: Vec<Experiment> = Experiment::all(&folder)
        .unwrap()
        .into_iter()
        .filter(|experiment| experiment.name == "rtxpro6000_llama-3.1-8b_sharegpt10")
        .collect();
    let options = Options { fit_until_s: Some(40.0), seed: 1, ..Options::default() };
    let validation = validate(&experiments, &options, &|_| {}).unwrap();
    let rest = validation.experiments[0].rest.as_ref().unwrap();
    for (measured, predicted) in [
        (rest.measured.ttft_s, rest.predicted.ttft_s),
        (rest.measured.tpot_s, rest.predicted.tpot_s),
        (rest.measured.e2e_s, rest.predicted.e2e_s),
    ] {
        let (measured, predicted) = (measured.unwrap(), predicted.unwrap());
        for (measured, predicted) in [(measured.mean, predicted.mean), (measured.p90, predicted.p90)] {
            let error = predicted / measured - 1.0;
            assert!(error.abs() < 0.05, "off by {error}: {measured} measured, {predicted} predicted");
        }
    }
}
