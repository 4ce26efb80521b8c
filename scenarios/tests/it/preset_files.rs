//! config.json of each family, and what is wrong with those that can't be taken.

use slackwater_scenarios::presets::{Experts, Model, Precision, Window};

fn read(text: &str) -> Model {
    Model::from_config_json(text, "config.json").unwrap()
}

/// A file of the family whose other keys are those given.
fn refused(text: &str) -> String {
    Model::from_config_json(text, "m/config.json").unwrap_err().to_string()
}

const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "rope_scaling": {"factor": 8.0}}"#;

/// The file says what the list says of the same model.
fn same_as(listed: &str, text: &str) {
    let mut listed = Model::named(listed, std::path::Path::new("")).unwrap();
    let read = read(text);
    listed.name.clone_from(&read.name);
    listed.source.clone_from(&read.source);
    listed.hugging_face = None;
    assert_eq!(read, listed);
}

#[test]
fn published_files() {
    same_as("llama-3.1-8b", LLAMA);
    same_as(
        "mistral-7b",
        r#"{"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "sliding_window": null,
            "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#,
    );
    same_as(
        "qwen3-14b",
        r#"{"model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40,
            "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_window_layers": 40,
            "sliding_window": null, "use_sliding_window": false, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#,
    );
    same_as(
        "qwen3-30b-a3b",
        r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
            "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
            "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
            "vocab_size": 151936, "use_sliding_window": false, "tie_word_embeddings": false}"#,
    );
    same_as(
        "gemma-3-27b",
        r#"{"model_type": "gemma3", "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152},
            "text_config": {"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504,
            "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128,
            "sliding_window": 1024}}"#,
    );
    let kinds = ["\"sliding_attention\"", "\"full_attention\""].repeat(12).join(", ");
    same_as(
        "gpt-oss-20b",
        &format!(
            r#"{{"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
            "experts_per_token": 4, "sliding_window": 128, "layer_types": [{kinds}], "vocab_size": 201088,
            "tie_word_embeddings": false, "quantization_config": {{"quant_method": "mxfp4"}}}}"#
        ),
    );
}

#[test]
fn what_else_files_say() {
    // Written before grouped queries and head_dim.
    let old = read(&LLAMA.replace("\"num_key_value_heads\": 8,", ""));
    assert_eq!((old.kv_heads, old.head_dim), (32, 128));
    assert_eq!(read(&LLAMA.replace("bfloat16", "float16")).weights, Precision::Fp16);
    let quantised = |config: &str| {
        let config = format!("{{\"quantization_config\": {config},");
        Model::from_config_json(&LLAMA.replacen('{', &config, 1), "config.json")
    };
    assert_eq!(quantised(r#"{"quant_method": "fp8"}"#).unwrap().weights, Precision::Fp8);
    assert_eq!(quantised(r#"{"quant_method": "awq", "bits": 4}"#).unwrap().weights, Precision::Int4);
    let error = quantised(r#"{"quant_method": "gguf"}"#).unwrap_err().to_string();
    assert!(
        error.contains("`quantization_config`") && error.contains("\"gguf\"") && error.contains("dtype"),
        "{error}"
    );

    let mistral = LLAMA.replace("llama", "mistral");
    assert_eq!(read(&mistral).window, None);
    let windowed = read(&mistral.replacen('{', "{\"sliding_window\": 4096,", 1));
    assert_eq!(windowed.window, Some(Window { tokens: 4096, layers: 32 }));
    let qwen = LLAMA.replace("\"llama\"", "\"qwen2\"").replacen(
        '{',
        "{\"sliding_window\": 4096, \"use_sliding_window\": true, \"max_window_layers\": 28,",
        1,
    );
    assert_eq!(read(&qwen).window, Some(Window { tokens: 4096, layers: 4 }));
    let mixtral = LLAMA.replace("\"llama\"", "\"mixtral\"").replacen(
        '{',
        "{\"num_local_experts\": 8, \"num_experts_per_tok\": 2,",
        1,
    );
    assert_eq!(read(&mixtral).experts, Some(Experts { count: 8, active: 2 }));
}

#[test]
fn what_can_not_be_taken() {
    for (from, to, words) in [
        (
            "\"llama\"",
            "\"deepseek_v3\"",
            "`model_type` is \"deepseek_v3\", which is not known\n  help: known are llama",
        ),
        ("\"model_type\": \"llama\",", "", "`model_type` is missing"),
        ("\"hidden_size\": 4096,", "", "`hidden_size` is missing\n  help: add it"),
        ("\"vocab_size\": 128256,", "", "`vocab_size` is missing"),
        ("4096", "-1", "`hidden_size` is -1\n  help: a whole number from 1"),
        ("4096", "\"wide\"", "`hidden_size` is \"wide\""),
        ("4096", "4097", "`head_dim` is missing"),
        ("\"num_hidden_layers\": 32", "\"num_hidden_layers\": 1e9", "`num_hidden_layers` is 1000000000.0"),
        (
            "\"num_key_value_heads\": 8",
            "\"num_key_value_heads\": 7",
            "does not divide num_attention_heads, 32",
        ),
        ("false", "\"no\"", "`tie_word_embeddings` is \"no\""),
        ("\"model_type\"", "model_type", "this is no JSON"),
    ] {
        let text = refused(&LLAMA.replacen(from, to, 1));
        assert!(text.starts_with("m/config.json: ") && text.contains(words), "{text}");
    }
    assert!(refused("[1, 2]").contains("expected a table"));
    assert!(refused("").contains("no JSON"));
    let moe = r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
        "decoder_sparse_step": 2, "vocab_size": 151936}"#;
    assert!(refused(moe).contains("`decoder_sparse_step` is 2"));
    let moe = moe.replace("\"decoder_sparse_step\": 2", "\"mlp_only_layers\": [0]");
    assert!(refused(&moe).contains("`mlp_only_layers` is [0]"));
    let moe = moe.replace("\"mlp_only_layers\": [0],", "").replace("per_tok\": 8", "per_tok\": 800");
    assert!(refused(&moe).contains("`num_experts_per_tok` is 800, more than num_experts, 128"));
    let gemma = r#"{"model_type": "gemma3", "text_config": {"num_hidden_layers": 62, "hidden_size": 5376}}"#;
    assert!(refused(gemma).contains("`text_config.num_attention_heads` is missing"));
    let linear = LLAMA.replace("\"llama\"", "\"mistral\"").replacen(
        '{',
        "{\"sliding_window\": 9, \"layer_types\": [\"linear_attention\"],",
        1,
    );
    assert!(refused(&linear).contains("`layer_types` is not a list of 32"));
}
