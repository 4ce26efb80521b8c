//! A preset in a scenario: keys, what wins over it, and mistakes shown where they were written.

use slackwater_scenarios::presets::{Precision, Setting};
use slackwater_scenarios::{EngineProfile, Scenario, ScenarioError, scenario_json_schema};

use crate::presets::preset;
use crate::support::SHORT;

/// The short scenario with this engine.
fn with(engine: &str) -> String {
    SHORT.replace("engine = \"h100-qwen3-14b\"", &format!("engine = {engine}"))
}

fn engine(engine: &str) -> EngineProfile {
    Scenario::parse(&with(engine), "short.toml").unwrap_or_else(|error| panic!("{error}")).from.engine
}

fn refused(text: &str) -> String {
    match Scenario::parse(text, "short.toml") {
        Err(ScenarioError::Invalid(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_preset_is_a_profile() {
    let expected = preset("H100", "qwen3-14b", Setting::default()).profile().unwrap();
    let scenario = Scenario::parse(&with("{ gpu = \"H100\", model = \"qwen3-14b\" }"), "short.toml").unwrap();
    assert_eq!(scenario.from.engine, expected);
    assert_eq!(scenario.to.engine, expected);
    assert!(
        expected.source.starts_with("roofline preset of qwen3-14b in bf16 on H100"),
        "{}",
        expected.source
    );
    assert!(EngineProfile::source_is_preset(&expected.source));
    for (name, _) in EngineProfile::BUILT_IN {
        assert!(!EngineProfile::source_is_preset(&EngineProfile::built_in(name).unwrap().source));
    }
    // The resolved scenario stands alone.
    let again = Scenario::parse(&scenario.to_toml(), "again.toml").unwrap();
    assert_eq!(again.from.engine, expected);
}

#[test]
fn what_was_measured_wins() {
    let found = engine(
        "{ gpu = \"h100\", model = \"Qwen/Qwen3-14B\", dtype = \"fp8\", kv_dtype = \"fp8\", c0_ms = 7.5, \
         max_num_batched_tokens = 8192, memory_utilization = 0.85 }",
    );
    let setting = Setting {
        dtype: Some(Precision::Fp8),
        kv_dtype: "fp8".parse().unwrap(),
        max_num_batched_tokens: 8192,
        memory_utilization: 0.85,
        ..Setting::default()
    };
    let expected = preset("H100", "qwen3-14b", setting).profile().unwrap();
    assert_eq!(found.c0_ms, 7.5);
    assert_eq!((found.c_tok_us, found.kv_blocks), (expected.c_tok_us, expected.kv_blocks));
    assert_eq!(found.max_num_batched_tokens, 8192);
    assert!(
        found
            .source
            .starts_with("qwen3-14b in fp8 on H100 with c0_ms, max_num_batched_tokens set in the scenario")
    );
    assert!(EngineProfile::source_is_preset(&found.source), "{}", found.source);
    // A source of one's own speaks for one's own numbers.
    let found = engine("{ gpu = \"H100\", model = \"qwen3-14b\", c0_ms = 7.5, source = \"our bench\" }");
    assert!(
        found.source.starts_with("our bench; what it does not give: roofline preset"),
        "{}",
        found.source
    );
}

#[test]
fn presets_have_names_and_overrides() {
    let named = SHORT.replace("\"h100-qwen3-14b\"", "\"ours\"")
        + "[engines.ours]\ngpu = \"H100\"\nmodel = \"qwen3-14b\"\n[to.engine]\nbase = \"ours\"\nc0_ms = 9\n";
    let scenario = Scenario::parse(&named, "short.toml").unwrap();
    assert_eq!(scenario.from.engine, scenario.engines["ours"]);
    assert_eq!(scenario.to.engine.c0_ms, 9.0);
    assert!(EngineProfile::source_is_preset(&scenario.to.engine.source));

    let text = with("{ gpu = \"H100\", model = \"qwen3-14b\" }");
    let changed =
        Scenario::parse_with(&text, "short.toml", &["to.engine.gpu=H200", "from.engine.c_kv_us=0.05"])
            .unwrap();
    assert!(changed.to.engine.c0_ms < changed.from.engine.c0_ms);
    assert_eq!(changed.from.engine.c_kv_us, 0.05);
    let wide = Scenario::parse_with(&text, "short.toml", &["fleet.tensor_parallel=2"]).unwrap();
    assert!(wide.from.engine.source.contains("on 2 x H100"), "{}", wide.from.engine.source);
}

#[test]
fn a_config_json_lies_beside_the_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": true}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let path = folder.path().join("scenario.toml");
    std::fs::write(&path, with("{ gpu = \"L4\", model = \"config.json\" }")).unwrap();
    let scenario = Scenario::load(&path).unwrap();
    assert!(
        scenario.from.engine.source.contains("config.json in bf16 on L4"),
        "{}",
        scenario.from.engine.source
    );
    let text = with("{ gpu = \"L4\", model = \"elsewhere/config.json\" }");
    assert!(refused(&text).contains("cannot read the model's config.json"));
}

/// A profile as `slackwater calibrate --out` writes it: every table it may have.
fn measured() -> EngineProfile {
    use slackwater_scenarios::alternatives::Alternative;
    use slackwater_scenarios::calibration::{Calibration, HoldOut};
    let built_in = EngineProfile::built_in("h100-qwen3-14b").unwrap();
    EngineProfile {
        source: "measured on qwen3-14b on 2026-11-23: 900 requests".into(),
        c0_ms: 9.75,
        prefix_caching: true,
        calibration: Some(Calibration {
            date: "2026-11-23".into(),
            engine: Some("0.19.0".into()),
            gpu: Some("H100".into()),
            requests: 900,
            prompt_tokens_up_to: 6000,
            context_tokens_up_to: 8000,
            in_flight_up_to: 192,
            hold_out: Some(HoldOut { requests: 90, ttft_mean: 0.03, tpot_mean: -0.02, e2e_mean: 0.01 }),
            intervals: [("c0_ms".to_owned(), [9.5, 10.0])].into(),
            not_identified: vec!["c_kv_us".into()],
            watched: false,
            alternatives: vec![Alternative { c_kv_us: 0.5, ..Alternative::of("c_kv_us", &built_in) }],
        }),
        ..built_in
    }
}

#[test]
fn a_measured_profile_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let measured = measured();
    std::fs::create_dir(folder.path().join("engines")).unwrap();
    let file = folder.path().join("engines/engine.toml");
    std::fs::write(&file, toml::to_string(&measured).unwrap()).unwrap();
    let path = folder.path().join("scenario.toml");
    std::fs::write(&path, with("{ file = \"engines/engine.toml\" }")).unwrap();
    let scenario = Scenario::load(&path).unwrap();
    assert_eq!(scenario.from.engine, measured);
    assert_eq!(scenario.to.engine, measured, "inherited");
    // Written out it stands alone, and what the file says is part of it.
    let written = scenario.to_toml();
    let again = Scenario::parse(&written, "again.toml").unwrap();
    assert_eq!((&again.from, again.to_toml()), (&scenario.from, written.clone()));
    std::fs::write(&file, toml::to_string(&EngineProfile { c0_ms: 9.8, ..measured.clone() }).unwrap())
        .unwrap();
    assert_ne!(Scenario::load(&path).unwrap().to_toml(), written);

    // A limit beside it is another setting of the same engine; a coefficient is no longer what was measured.
    std::fs::write(&path, with("{ file = \"engines/engine.toml\", max_num_seqs = 64 }")).unwrap();
    let limited = Scenario::load_with(&path, &["to.engine.c_kv_us=0.05"]).unwrap();
    assert_eq!((limited.from.engine.max_num_seqs, limited.from.engine.c0_ms), (64, 9.8));
    assert_eq!(limited.from.engine.calibration, measured.calibration);
    assert!(
        limited.from.engine.source.starts_with("engines/engine.toml with max_num_seqs set in the scenario; "),
        "{}",
        limited.from.engine.source
    );
    assert_eq!((limited.to.engine.c_kv_us, &limited.to.engine.calibration), (0.05, &None));
    // By name, and in an override, where paths begin in the working directory.
    let named = SHORT.replace("\"h100-qwen3-14b\"", "\"ours\"")
        + &format!(
            "[engines.ours]\nfile = {:?}\n[to.engine]\nbase = \"ours\"\nkv_blocks = 9000\n",
            file.display()
        );
    let named = Scenario::parse(&named, "short.toml").unwrap();
    assert_eq!((named.from.engine.c0_ms, named.to.engine.kv_blocks), (9.8, 9000));
    assert_eq!(named.to.engine.calibration, measured.calibration);
    let set = format!("from.engine={{ file = {:?} }}", file.display());
    assert_eq!(Scenario::parse_with(SHORT, "elsewhere/short.toml", &[set]).unwrap().from.engine.c0_ms, 9.8);
}

#[test]
fn mistakes_in_a_profile_file_name_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.toml");
    let refused = |engine: &str, profile: &str| {
        std::fs::write(folder.path().join("engine.toml"), profile).unwrap();
        std::fs::write(&path, with(engine)).unwrap();
        Scenario::load(&path).unwrap_err().to_string()
    };
    let good = toml::to_string(&measured()).unwrap();
    let file = "{ file = \"engine.toml\" }";
    for (engine, profile, words) in [
        (
            "{ file = \"other.toml\" }",
            good.clone(),
            ["other.toml: cannot read the engine profile", "calibrate --out"],
        ),
        (
            file,
            good.replace("c0_ms", "c0_mss"),
            ["engine.toml, line 3: unknown key `c0_mss`", "did you mean `c0_ms`?"],
        ),
        (file, good.replace("c0_ms = 9.75\n", ""), ["missing key `c0_ms`", "help"]),
        (file, good.replace("9.75", "-9.75"), ["engine.toml: `profile.c0_ms`: -9.75", "give a number"]),
        (
            file,
            good.replace("held = \"c_kv_us\"", "held = \"c_kv\""),
            ["profile.calibration.alternatives`: `held` is \"c_kv\": expected one of c0_ms", "leave it as"],
        ),
        (file, "source = ".into(), ["engine.toml, line 1", "help"]),
        (file, "[engines.x]\nc0_ms = 3\n".into(), ["unknown key `engines`", "help"]),
        ("{ file = 3 }", good.clone(), ["expected a text in quotes", "help"]),
        (
            "{ file = \"engine.toml\", base = \"h100-qwen3-14b\" }",
            good.clone(),
            ["either a `file` or a `base`", "keep one"],
        ),
        (
            "{ file = \"engine.toml\", gpu = \"H100\" }",
            good.clone(),
            ["either a `file` or a `gpu`", "keep one"],
        ),
    ] {
        let said = refused(engine, &profile);
        for word in words.iter().chain(&["scenario.toml:", "from.engine.file"]) {
            assert!(said.contains(word), "{said}\nlacks {word}");
        }
    }
    let large = "#".repeat((1 << 20) + 1);
    assert!(refused(file, &large).contains("larger than"));
    // What is beside the file is the scenario's own.
    let said = refused("{ file = \"engine.toml\", c_0 = 9 }", &good);
    assert!(said.contains("unknown key `c_0`") && said.contains("c0_ms"), "{said}");
}

#[test]
fn mistakes() {
    for (engine, words) in [
        ("{ gpu = \"H10\", model = \"qwen3-14b\" }", ["from.engine.gpu", "did you mean `H100`?"]),
        ("{ gpu = \"H100\" }", ["`from.engine.model`", "a preset needs this key beside `gpu`"]),
        ("{ model = \"qwen3-14b\" }", ["`from.engine.gpu`", "a preset needs this key"]),
        ("{ dtype = \"fp8\", base = \"h100-qwen3-14b\" }", ["either a `base` or a `gpu`", "keep one"]),
        ("{ gpu = 100, model = \"qwen3-14b\" }", ["`from.engine.gpu`", "expected a text in quotes"]),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", dtype = \"fp7\" }",
            ["from.engine.dtype", "did you mean `fp"],
        ),
        ("{ gpu = \"H100\", model = \"qwen3-14b\", kv_dtype = \"int2\" }", ["from.engine.kv_dtype", "`fp8`"]),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", tensor_parallel = 2 }",
            ["2, but fleet.tensor_parallel is 1", "set fleet.tensor_parallel = 2"],
        ),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", tensor_parallel = \"2\" }",
            ["tensor_parallel", "whole number"],
        ),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", memory_utilization = 90 }",
            ["memory_utilization", "up to 1"],
        ),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", memory_utilization = nan }",
            ["memory_utilization", "up to 1"],
        ),
        ("{ gpu = \"H100\", model = \"qwen3-14b\", experts_batch = 9 }", ["has no experts", "leave it out"]),
        (
            "{ gpu = \"H100\", model = \"qwen3-14b\", context_tokens = 9 }",
            ["has no sliding window", "leave it out"],
        ),
        ("{ gpu = \"L4\", model = \"qwen3-14b\" }", ["does not fit", "or dtype = \"fp8\" (leaves"]),
        ("{ gpu = \"H100\", model = \"qwen3-14b\", c_0 = 9 }", ["unknown key `c_0`", "c0_ms"]),
        ("{ gpu = \"H100\", model = \"qwen3-14b\", c0_ms = -9 }", ["`from.engine.c0_ms`", "out of range"]),
    ] {
        let text = refused(&with(engine));
        assert!(text.starts_with("short.toml:5:"), "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn the_schema_knows_the_keys() {
    let schema = serde_json::to_string(&scenario_json_schema()).unwrap();
    for key in ["gpu", "model", "kv_dtype", "experts_batch"] {
        assert!(
            schema.contains(&format!("\"{key}\":{{\"description\""))
                || schema.contains(&format!("\"{key}\":{{\"type\"")),
            "{key}"
        );
    }
}
