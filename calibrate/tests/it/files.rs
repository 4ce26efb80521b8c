//! Files of experiments and steps as people have them, and broken ones.

use std::path::Path;

use slackwater_calibrate::{Drive, Experiment, limits, read_steps, replay};
use slackwater_scenarios::{KvReservation, Scheduling};

const ABOUT: &str = r#"{ "engine": "vllm", "max_num_seqs": 8, "prefix_caching": "default (on)" }"#;
const ROWS: &str =
    "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n10.0,100,20,0.1,0.5\n10.5,50,1,0.1,0.1\n";

fn experiment(about: &str, rows: &str) -> Result<Experiment, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("experiment.json"), about).unwrap();
    std::fs::write(folder.path().join("requests.csv"), rows).unwrap();
    Experiment::read(folder.path()).map_err(|error| error.to_string())
}

#[test]
fn columns_are_found_by_name_and_times_begin_at_zero() {
    let read = experiment(
        ABOUT,
        "e2e_s,tenant,prompt_id,output_tokens,ttft_s,input_tokens,scheduled_s,arrival_s\n\
         0.5,x,a,20.0,0.1,100,99.5,100.0\n,x,a,,,100,100.5,100.6\n0.1,y,b,1,0.1,7,100.4,100.4\n",
    )
    .unwrap();
    let times: Vec<f64> = read.rows.iter().map(|row| (row.arrival_s * 10.0).round() / 10.0).collect();
    assert_eq!(times, [0.5, 0.9, 1.1]);
    assert_eq!(read.rows[0].prompt, read.rows[2].prompt);
    assert_ne!(read.rows[0].prompt, read.rows[1].prompt);
    assert!(read.rows[2].answer.is_none(), "empty figures: it failed");
    assert_eq!(read.assumed.len(), 2, "{:?}", read.assumed);
    assert!(read.caches_prefixes());
}

#[test]
fn what_is_not_given_is_assumed_in_words() {
    let read = experiment(ABOUT, ROWS).unwrap();
    let structure = slackwater_calibrate::Structure {
        scheduling: Scheduling::Async,
        reserve: KvReservation::WholePrompt,
    };
    let (profile, assumed) = limits(&read, structure);
    assert_eq!(profile.max_num_seqs, 8);
    let assumed = assumed.join("\n");
    for name in ["max_num_batched_tokens", "block_size", "KV cache"] {
        assert!(assumed.contains(name), "{assumed}");
    }
    // A server on a large GPU has larger limits where nobody set them, but not an A100.
    for (gpu, seqs, tokens, words) in [
        ("NVIDIA H100 80GB HBM3", 1024, 8192, "vLLM's default on a GPU of 70 GiB and more"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 1024, 8192, "of 70 GiB and more"),
        ("A100-80", 256, 2048, "of less than 70 GiB, and on an A100"),
        ("NVIDIA GeForce RTX 4090", 256, 2048, "of less than 70 GiB"),
        ("Unheard-1", 256, 2048, "this one is not known"),
    ] {
        let mut read = read.clone();
        (read.about.gpu, read.about.max_num_seqs) = (Some(gpu.to_owned()), None);
        let (profile, assumed) = limits(&read, structure);
        assert_eq!((profile.max_num_seqs, profile.max_num_batched_tokens), (seqs, tokens), "{gpu}");
        assert!(assumed.iter().filter(|said| said.contains(words)).count() == 2, "{gpu}: {assumed:?}");
    }
    // Two requests alone: nothing waits, so the first token of each comes after its own step.
    let replayed = replay(&read, &profile, Drive::Open, 1).unwrap();
    assert!(replayed.iter().all(|replayed| replayed.answer.is_some()));
}

#[test]
fn broken_experiments_say_where_and_what_was_expected() {
    for (about, rows, expected) in [
        ("{", ROWS, "experiment.json"),
        (r#"{ "prefix_caching": "perhaps" }"#, ROWS, "expected true, false"),
        (ABOUT, "arrival_s,input_tokens\n", "no column `output_tokens`; found arrival_s, input_tokens"),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n", "nothing to compare"),
        (
            ABOUT,
            "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n1,x,2,3,4\n",
            "line 2: input_tokens is `x`",
        ),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n1,0,2,3,4\n", "at least 1"),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n1,1,2,3,2\n", "less than ttft_s"),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n,1,2,3,4\n", "arrival_s is empty"),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n1,1,2,-3,4\n", "ttft_s is `-3`"),
        (ABOUT, "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s\n1,1,2,3\n", "requests.csv"),
        (
            ABOUT,
            "arrival_s,input_tokens,output_tokens,ttft_s,e2e_s,prompt_id\n1,1,2,3,4,a\n2,2,2,3,4,a\n",
            "must be the same prompt",
        ),
    ] {
        let error = experiment(about, rows).expect_err(rows);
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
    let error = Experiment::all(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = Experiment::all(empty.path()).unwrap_err().to_string();
    assert!(error.contains("experiment.json and requests.csv"), "{error}");
}

#[test]
fn a_table_of_steps_gives_the_coefficients_it_was_made_with() {
    let mut text = String::from("step_time_s,prefill_tokens,decode_seqs,kv_tokens\n");
    for index in 0_u32..400 {
        let prefill = f64::from((index * 37) % 11) * 120.0;
        let seqs = f64::from((index * 53) % 97);
        let kv = seqs * (200.0 + f64::from((index * 29) % 41) * 60.0);
        if prefill + seqs < 1.0 {
            continue;
        }
        let noise = 1.0 + 0.02 * (f64::from((index * 71) % 19) / 9.0 - 1.0);
        let us = (11_000_f64.max(42.0 * (prefill + seqs)) + 56.0 * seqs + 0.05 * kv) * noise;
        text += &format!("{},{prefill},{seqs},{kv}\n", us / 1e6);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps.csv");
    std::fs::write(&path, &text).unwrap();
    let steps = read_steps(&path).unwrap();
    let fitted = slackwater_calibrate::fit_steps(steps, None, 1, &|_| {});
    for (name, value) in [("c0_ms", 11.0), ("c_tok_us", 42.0), ("c_seq_us", 56.0), ("c_kv_us", 0.05)] {
        let estimate = fitted.coefficients.iter().find(|of| of.name == name).unwrap();
        assert!((estimate.value / value - 1.0).abs() < 0.05, "{estimate:?}");
        assert!(estimate.low <= value && value <= estimate.high, "{estimate:?}");
    }
    std::fs::write(&path, "prefill_tokens,decode_seqs,kv_tokens,step_time_s\n1,1,1,0\n").unwrap();
    let error = read_steps(&path).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}
