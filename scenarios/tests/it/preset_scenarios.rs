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
