//! Measured profiles in use: from `calibrate` into a scenario, and what answers say of how far they can be trusted. Presets
//! against measured GPUs.

use std::path::Path;

use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::calibration::{Calibration, HoldOut};

use crate::servers::Running;
use crate::{at, root, simulated, slackwater, stderr, stdout};

const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";

/// A profile as `calibrate --out` writes it, measured on prompts this long.
fn write_profile(folder: &Path, prompt_tokens: u32, c0_ms: f64) {
    let profile = EngineProfile {
        source: "measured on llama on 2026-11-23: 900 requests".into(),
        c0_ms,
        calibration: Some(Calibration {
            date: "2026-11-23".into(),
            engine: Some("0.19.0".into()),
            requests: 900,
            prompt_tokens_up_to: prompt_tokens,
            context_tokens_up_to: 1_000_000,
            in_flight_up_to: 1000,
            hold_out: Some(HoldOut { requests: 90, ttft_mean: 0.03, tpot_mean: -0.02, e2e_mean: 0.01 }),
            intervals: [("c0_ms".to_owned(), [c0_ms, c0_ms])].into(),
            ..Calibration::default()
        }),
        ..EngineProfile::built_in("a100-llama-3.1-8b").expect("it is built in")
    };
    std::fs::write(folder.join("engine.toml"), toml::to_string(&profile).expect("a profile"))
        .expect("written");
}

/// The chat scenario, short, in this folder, on the profile beside it.
fn write_scenario(folder: &Path) -> String {
    let text = std::fs::read_to_string(root().join(CHAT)).expect("the catalog has it");
    let text = text
        .replace("engine = \"a100-llama-3.1-8b\"", "engine = { file = \"engine.toml\" }")
        .replace("duration = \"1h\"", "duration = \"30m\"");
    assert!(text.contains("file = \"engine.toml\"") && text.contains("30m"), "{text}");
    let path = folder.join("scenario.toml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Catches: a profile that changes without its result saying so, a held-out error that is not said, a scenario beyond what was
/// measured that is not warned of, a written-out scenario that is refused.
#[test]
fn a_simulation_says_how_far_its_profile_can_be_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    write_profile(folder.path(), 1_000_000, 11.0);
    let scenario = write_scenario(folder.path());
    let within = simulated(&[&scenario]);
    assert_eq!(at(&within, "reach.0.beyond"), 0);
    let out = folder.path().join("out");
    let output = slackwater(&["simulate", &scenario, "--out", out.to_str().expect("text")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = words(&stdout(&output));
    let error = "was measured on 2026-11-23, and off by +3.0 % in TTFT, -2.0 % in TPOT and +1.0 % in E2E, the means of 90 requests";
    assert!(said.contains(error), "{said}");
    assert!(!said.contains("no promise"), "{said}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(page.contains("off by +3.0"), "the report says it too");
    // Written out, the scenario has no need of the file.
    let written = out.join("scenario.toml");
    let again = simulated(&[written.to_str().expect("text")]);
    assert_eq!(at(&again, "hash"), at(&within, "hash"));

    // Another measurement, another input.
    write_profile(folder.path(), 1000, 11.5);
    let beyond = simulated(&[&scenario]);
    assert_ne!(at(&beyond, "inputs.scenario"), at(&within, "inputs.scenario"));
    let output = slackwater(&["simulate", &scenario]);
    let (said, warned) = (words(&stdout(&output)), stderr(&output));
    assert!(said.contains("That is no promise: the engine is used beyond what was measured"), "{said}");
    let met = at(&beyond, "reach.0.prompt_tokens.met").as_u64().expect("a number");
    assert!(warned.contains(&format!("for prompts of up to 1000 and meets up to {met}")), "{warned}");

    // What is wrong in the file is said of the file, at the scenario's key.
    std::fs::write(folder.path().join("engine.toml"), "c0_ms = 11\n").expect("written");
    let output = slackwater(&["simulate", &scenario]);
    assert_eq!(output.status.code(), Some(1));
    for part in ["scenario.toml:", "from.engine.file", "engine.toml", "missing key"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

/// Sixty requests, half a second apart, of a server that is never busy.
fn write_experiment(folder: &Path) {
    let folder = folder.join("quiet");
    std::fs::create_dir_all(&folder).expect("a folder");
    let about = r#"{"gpu": "L4", "model": "ours", "engine": "vllm", "engine_version": "0.19.0", "kv_cache_tokens": 80000}"#;
    std::fs::write(folder.join("experiment.json"), about).expect("written");
    let mut rows = "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n".to_owned();
    for number in 0..60_u32 {
        let (input, output) = (200 + 37 * (number % 11), 8 + number % 5);
        let ttft_s = 0.015 + 80e-6 * f64::from(input);
        let e2e_s = ttft_s + 0.02 * f64::from(output - 1);
        let row = format!("{:.1},{input},{output},{ttft_s:.5},{e2e_s:.5}\n", 0.5 * f64::from(number));
        rows.push_str(&row);
    }
    std::fs::write(folder.join("requests.csv"), rows).expect("written");
}

/// Catches: a fitted profile that is written without what is known of it, and so counts as exact in every answer.
#[test]
fn what_validate_writes_is_a_measured_profile() {
    let folder = tempfile::tempdir().expect("a folder");
    write_experiment(&folder.path().join("experiments"));
    let (experiments, out) = (folder.path().join("experiments"), folder.path().join("engine.toml"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let output =
        slackwater(&["validate", &text(&experiments), "--fit-until", "20", "--write", &text(&out), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let written = std::fs::read_to_string(&out).expect("a profile");
    let profile: EngineProfile = toml::from_str(&written).expect("a profile");
    let known = profile.calibration.expect("it was measured");
    assert_eq!((known.engine.as_deref(), known.gpu.as_deref()), (Some("0.19.0"), Some("L4")), "{written}");
    assert_eq!((known.requests, known.prompt_tokens_up_to), (40, 570), "{written}");
    let held_out = known.hold_out.expect("a third was not fitted");
    assert!(held_out.requests == 20 && held_out.e2e_mean.abs() < 0.05, "{written}");
    assert!(known.not_identified.contains(&"c_kv_us".to_owned()) && known.intervals.len() == 7, "{written}");
    assert!(known.alternatives.iter().any(|of| of.held == "c_kv_us"), "{written}");
    let scenario = write_scenario(folder.path());
    let output = slackwater(&["simulate", &scenario]);
    let said = words(&stdout(&output));
    assert!(said.contains("held out of its fit") && said.contains("; its data leave open"), "{said}");
    assert!(said.contains("c_kv_us (0 to "), "{said}");
}

/// From a server to a scenario by what `calibrate` says at its end. The budget is the least there is: nothing is said of how good
/// the fit is.
#[test]
fn what_calibrate_writes_a_scenario_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Running::start(&[
        "replica",
        "--engine",
        "a100-llama-3.1-8b",
        "--listen",
        "127.0.0.1:0",
        "--speed-up",
        "20",
    ]);
    let url = format!("http://{}", server.address);
    let out = folder.path().join("engine.toml");
    let output = slackwater(&[
        "calibrate",
        "--url",
        &url,
        "--budget-s",
        "10",
        "--most-at-once",
        "16",
        "--longest",
        "1024",
        "--out",
        out.to_str().expect("text"),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let line = said.lines().find(|line| line.starts_with("engine = {")).unwrap_or_else(|| panic!("{said}"));
    let text = std::fs::read_to_string(root().join(CHAT)).expect("the catalog has it");
    let scenario = folder.path().join("scenario.toml");
    std::fs::write(&scenario, text.replace("engine = \"a100-llama-3.1-8b\"", line)).expect("written");
    let result = simulated(&[scenario.to_str().expect("text"), "--set", "traffic.generate.duration=20m"]);
    let source = at(&result, "fleet.from.1").as_str().expect("a source");
    assert!(source.starts_with("measured on "), "{source}");
    assert!(
        at(&result, "fleet.known.0").as_str().is_some_and(|known| known.contains("measured on")),
        "{result}"
    );
}

const SILICON: &str = "\
backend,model_path,system,precision,isl,osl,concurrency,tp_size,silicon_ttft_ms,silicon_tpot_ms,measured
vllm,meta-llama/Llama-3.1-70B,h100_sxm,fp8,1024,256,4,2,150,18,2025-10-29
vllm,meta-llama/Llama-3.1-70B,h100_sxm,fp8,1024,256,8,2,170,19,2025-10-29
vllm,Qwen/Qwen3-32B,h200_sxm,fp8,1024,256,4,1,120,14,
vllm,deepseek-ai/DeepSeek-R1,h200_sxm,fp8,1024,256,4,8,120,14,
";

#[test]
fn presets_are_held_against_measured_gpus() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("silicon.csv");
    std::fs::write(&file, SILICON).expect("written");
    let file = file.to_str().expect("text");
    let output = slackwater(&["validate", "--silicon", file]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.starts_with("4 rows, 3 of them said by presets"), "{said}");
    for part in [
        "latent attention",
        "Hopper, fp8 (llama-3.1-70b, qwen3-32b)",
        "presets: pairs fitted               2",
        "presets: pairs not fitted           1",
        "  H200 qwen3-32b fp8 *",
        "stated: models held out           203",
        "the one H100 fit                    3",
        "Seed 1; slackwater",
    ] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    for line in said.lines().filter(|line| !line.contains("sha256")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let output = slackwater(&["validate", "--silicon", file, "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(at(&found, "compared").as_array().map(Vec::len), Some(3));
    assert_eq!(
        (at(&found, "groups.0.pairs_fitted.rows"), at(&found, "groups.0.pairs_not_fitted.rows")),
        (&2.into(), &1.into())
    );
    assert_eq!(at(&found, "groups.0.sets.1.fitted"), false);

    for (arguments, words) in [
        (&["validate"][..], "FOLDER"),
        (&["validate", ".", "--silicon", file], "cannot be used with"),
        (&["validate", ".", "--refit"], "cannot be used with"),
        (&["validate", "--silicon", file, "--toml"], "--refit"),
    ] {
        let output = slackwater(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let output = slackwater(&["validate", "--silicon", "nowhere.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere.csv"), "{}", stderr(&output));
}
