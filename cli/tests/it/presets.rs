//! `slackwater presets`, and a preset in a scenario.

use crate::{at, number, simulated, slackwater, stderr, stdout};

fn shown(arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = ["presets", "show", "--json"].iter().chain(arguments).copied().collect();
    let output = slackwater(&all);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON and nothing else")
}

#[test]
fn all_text_fits_a_terminal() {
    for arguments in [
        vec!["presets", "list"],
        vec!["presets", "list", "gpus"],
        vec!["presets", "list", "models"],
        vec!["presets", "show", "H100", "qwen3-14b"],
        vec!["presets", "show", "L4", "llama-3.1-70b"],
        vec![
            "presets",
            "show",
            "rtx pro 6000",
            "qwen3-30b-a3b",
            "--tensor-parallel",
            "4",
            "--kv-dtype",
            "fp8",
        ],
        vec![
            "presets",
            "show",
            "RTX 4060 Ti 16 GB",
            "gemma-3-27b",
            "--tensor-parallel",
            "8",
            "--disk",
            "0.123",
        ],
        vec!["presets", "show", "B200", "gpt-oss-120b", "--context-tokens", "100000000"],
    ] {
        let output = slackwater(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        for line in stdout(&output).lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
            assert_eq!(line, line.trim_end(), "{arguments:?}");
        }
    }
}

#[test]
fn the_lists_name_their_sources() {
    let output = slackwater(&["presets", "list", "--json"]);
    let lists: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for list in ["gpus", "models"] {
        let entries = at(&lists, list).as_array().expect("a list");
        assert!(entries.len() >= 12);
        assert!(
            entries.iter().all(|entry| at(entry, "source").as_str().is_some_and(|source| source.len() > 20))
        );
    }
    let output = slackwater(&["presets", "list", "gpus", "--json"]);
    let lists: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(lists.get("models").is_none());
}

#[test]
fn what_fits_and_what_does_not() {
    let fits = shown(&["h100", "Qwen/Qwen3-14B"]);
    assert_eq!(at(&fits, "fit.kv_bytes_per_token"), 163_840.0);
    assert!((number(&fits, "fit.weights_bytes") - 29.54e9).abs() < 1e7);
    assert_eq!(number(&fits, "profile.kv_blocks") * 16.0, number(&fits, "fit.kv_tokens"));
    assert_eq!(at(&fits, "profile.c0_ms"), at(&fits, "roofline.coefficients.c0_ms"));
    assert!(at(&fits, "does_not_fit").is_null());
    // One sequence can't decode as fast as 64, nor 64 times slower.
    let (one, many) = (number(&fits, "decode.0.tokens_per_s"), number(&fits, "decode.1.tokens_per_s"));
    assert!(one < many && many < 64.0 * one);

    let too_large = shown(&["L4", "qwen3-14b"]);
    assert!(at(&too_large, "profile").is_null());
    assert!(at(&too_large, "does_not_fit").as_str().is_some_and(|text| text.contains("does not fit")));
    let text = stdout(&slackwater(&["presets", "show", "L4", "qwen3-14b"]));
    assert!(text.contains("does not fit") && text.contains("would fit"), "{text}");
}

#[test]
fn mistakes_say_what_was_meant() {
    for (arguments, words) in [
        (["H10O", "qwen3-14b", "--disk=1"], "did you mean `H100`?"),
        (["H100", "qwen3-41b", "--disk=1"], "did you mean `qwen3-14b`?"),
        (["H100", "qwen3-14b", "--disk=0"], "--disk 0 is out of range"),
        (["H100", "qwen3-14b", "--disk=nan"], "--disk NaN is out of range"),
        (["H100", "qwen3-14b", "--dtype=fp5"], "known are `bf16`"),
        (["H100", "qwen3-14b", "--kv-dtype=fp5"], "known are `auto`"),
        (["H100", "qwen3-14b", "--tensor-parallel=3"], "can't be split over 3 GPUs"),
        (["H100", "qwen3-14b", "--memory-utilization=2"], "out of range"),
        (["H100", "no/such/config.json", "--disk=1"], "no/such/config.json: cannot read"),
    ] {
        let all: Vec<&str> = ["presets", "show"].into_iter().chain(arguments).collect();
        let output = slackwater(&all);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}

/// A result that rests on a preset says so, in the source and in the verdict; one that does not, does not.
#[test]
fn the_verdict_names_the_preset() {
    const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";
    let preset = ["--set", "from.engine={ gpu = \"A100-80\", model = \"llama-3.1-8b\" }"];
    let on_preset = [&[CHAT, "--set", "traffic.generate.duration=30m"], &preset[..]].concat();
    let result = simulated(&on_preset);
    let source = at(&result, "fleet.from.1").as_str().expect("a source");
    assert!(source.starts_with("roofline preset of llama-3.1-8b in bf16 on A100-80"), "{source}");
    let text = |arguments: &[&str]| {
        let all: Vec<&str> = ["simulate"].iter().chain(arguments).copied().collect();
        stdout(&slackwater(&all)).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(text(&on_preset).contains("This rests on a preset: "), "{}", text(&on_preset));
    assert!(!text(&[CHAT, "--set", "traffic.generate.duration=30m"]).contains("preset"));
    // Where such presets were held against measured servers, the error is said with the verdict.
    let hopper = ["--set", "from.engine={ gpu = \"H100\", model = \"llama-3.1-8b\", dtype = \"fp8\" }"];
    let said = text(&[&[CHAT, "--set", "traffic.generate.duration=30m"], &hopper[..]].concat());
    assert!(said.contains("presets like it were off in TPOT by a median of "), "{said}");
}

/// Recorded servers (`docs/presets.md`): set-up, and how far the mean TPOT and E2E may be off before that page is wrong.
const RECORDED: &[(&str, &str, u32, u32, f64)] = &[
    (
        "rtx4090_llama-3.1-8b_sharegpt10",
        "gpu = \"RTX 4090\", model = \"llama-3.1-8b\", max_num_seqs = 256",
        1,
        1,
        0.30,
    ),
    (
        "rtxpro6000_llama-3.1-8b_sharegpt10",
        "gpu = \"RTX PRO 6000\", model = \"llama-3.1-8b\", max_num_seqs = 128",
        1,
        1,
        0.12,
    ),
    (
        "rtxpro6000_qwen3-32b_sharegpt10",
        "gpu = \"RTX PRO 6000\", model = \"qwen3-32b\", max_num_seqs = 128",
        2,
        1,
        0.30,
    ),
    (
        "rtxpro6000_qwen3-30b-a3b-instruct-2507_sharegpt10",
        "gpu = \"RTX PRO 6000\", model = \"qwen3-30b-a3b\", max_num_seqs = 128, experts_batch = 64",
        1,
        2,
        0.22,
    ),
];

#[test]
fn recorded_servers() {
    let folder = crate::root().join("../shared/data/validation");
    let away = tempfile::tempdir().expect("a folder");
    for (name, engine, width, replicas, bound) in RECORDED {
        let Ok(rows) = std::fs::read_to_string(folder.join(name).join("requests.csv")) else {
            println!("{name} is not in ../shared/data/validation: not looked at");
            continue;
        };
        let mut measured: Vec<[f64; 5]> = Vec::new();
        for row in rows.lines().skip(1) {
            let cells: Vec<f64> = row.split(',').map(|cell| cell.parse().expect("a number")).collect();
            // Arrival, input, output, E2E, TPOT.
            measured.push([cells[0], cells[2], cells[3], cells[5], cells[6]]);
        }
        measured.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut trace = "TIMESTAMP,ContextTokens,GeneratedTokens\n".to_owned();
        for [at, input, output, ..] in &measured {
            trace.push_str(&format!("2026-01-01 00:00:{at:010.7},{input},{output}\n"));
        }
        let scenario = format!(
            "[fleet]\nreplicas = {replicas}\ntensor_parallel = {width}\n[from.engine]\n{}\n\
             front_end = {{ inbound_ms = 0, outbound_ms = 0, jitter = 0 }}\n[traffic]\nfile = 'trace.csv'\n[clients]\ntimeout = '1h'\n",
            engine.replace(", ", "\n")
        );
        let path = away.path().join("scenario.toml");
        std::fs::write(away.path().join("trace.csv"), trace).expect("written");
        std::fs::write(&path, scenario).expect("written");
        let result = simulated(&[path.to_str().expect("a path"), "--no-rollout"]);
        for (index, key) in [(3, "e2e_s.mean"), (4, "tpot_s.mean")] {
            let mean = measured.iter().map(|row| row[index]).sum::<f64>() / measured.len() as f64;
            let off = number(&result, key) / mean - 1.0;
            println!("{name} {key}: {:+.0} %", off * 100.0);
            assert!(off.abs() < *bound, "{name} {key}: {off}");
        }
    }
}
