//! The wall clock against the model's own word for the same requests.
//!
//! Two rungs: the figures the stand-in reports about itself are the model's times, and are held to it closely; what a client
//! measures is never early, and late by no more than a busy machine can excuse.

use std::time::Duration;

use slackwater_engine::{Output, PS_PER_S, Replica, Request, Stop};
use slackwater_load::{Check, ask};
use slackwater_replica::{Options, Profile};

use crate::support::{get, options, ready, sample};

/// When the model gives a request its first and its last token, when `count` of them come at once to an idle engine; seconds
/// from the arrival, the front end's delays at their averages.
#[expect(clippy::cast_precision_loss)]
fn predicted(profile: &Profile, count: u32, prompt: u32, output: u32) -> (f64, f64) {
    let mut engine = Replica::new(profile.config.clone(), profile.form).unwrap();
    for tag in 0..count {
        let request = Request { tag, prompt, output, stop: Stop::Length };
        engine.submit(profile.inbound_ps, request).unwrap();
    }
    let (mut first, mut last) = (0, 0);
    engine
        .advance_before(u64::MAX, &mut |out| match out {
            Output::FirstToken { at, .. } => first = at,
            Output::Finished { at, .. } => last = at,
        })
        .unwrap();
    let seconds = |at: u64| (at + profile.outbound_ps) as f64 / PS_PER_S as f64;
    (seconds(first), seconds(last))
}

/// Sends them all at once; the latest first token and the latest last one.
async fn measured(options: &Options, count: u32, prompt: u32, output: u32) -> (f64, f64, String) {
    let server = ready(options.clone()).await;
    let to = server.address();
    let asking: Vec<_> = (0..count)
        .map(|_| {
            let ids: Vec<u32> = (0..prompt).collect();
            let body =
                serde_json::json!({"prompt": ids, "max_tokens": output, "ignore_eos": true, "stream": true});
            let check = Check::new(true, output);
            let within = crate::support::PATIENCE;
            tokio::spawn(async move {
                ask(to, "/v1/completions", &[], body.to_string(), check, None, within).await
            })
        })
        .collect();
    let (mut first, mut last) = (Duration::ZERO, Duration::ZERO);
    for asked in asking {
        let answer = asked.await.unwrap();
        answer.verdict.unwrap();
        first = first.max(answer.ttft.unwrap());
        last = last.max(answer.lasted);
    }
    (first.as_secs_f64(), last.as_secs_f64(), get(to, "/metrics").await.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_alone_takes_what_the_model_says() {
    let options = options();
    let (first, last) = predicted(&options.profile, 1, 2000, 60);
    let (seen_first, seen_last, page) = measured(&options, 1, 2000, 60).await;
    // Two delays of 2.9 ms, each up to 20 % off.
    let jitter = 2.0 * 0.0029 * 0.2 + 1e-4;
    let reported = sample(&page, "vllm:time_to_first_token_seconds_sum");
    assert!((reported - first).abs() < jitter, "the model: {first} s, reported: {reported} s");
    let reported = sample(&page, "vllm:e2e_request_latency_seconds_sum");
    assert!((reported - last).abs() < jitter, "the model: {last} s, reported: {reported} s");
    assert!(seen_first > first - jitter && seen_last > last - jitter, "early: {seen_first} {seen_last}");
    assert!(seen_first < first * 1.5 + 0.25, "the model: {first} s, seen: {seen_first} s");
    assert!(seen_last < last * 1.5 + 0.25, "the model: {last} s, seen: {seen_last} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_the_engine_as_the_model_says() {
    let options = options();
    let (_, last) = predicted(&options.profile, 40, 500, 40);
    let (_, seen_last, page) = measured(&options, 40, 500, 40).await;
    // They don't come at quite the same moment, so that batches are a little different.
    assert!(seen_last > last * 0.9 - 0.02, "early: {seen_last}, the model: {last}");
    assert!(seen_last < last * 1.6 + 0.5, "the model: {last} s, seen: {seen_last} s");
    assert!((sample(&page, "vllm:generation_tokens_total") - 1600.0).abs() < 0.5);
    assert!((sample(&page, "vllm:prompt_tokens_total") - 20_000.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_as_fast_is_a_tenth_of_the_time() {
    let options = Options { speed_up: 10.0, ..options() };
    let (first, last) = predicted(&options.profile, 1, 2000, 200);
    let (_, _, page) = measured(&options, 1, 2000, 200).await;
    let jitter = (2.0 * 0.0029 * 0.2) / 10.0 + 1e-4;
    let reported = sample(&page, "vllm:time_to_first_token_seconds_sum");
    assert!((reported - first / 10.0).abs() < jitter, "{reported} {first}");
    let reported = sample(&page, "vllm:e2e_request_latency_seconds_sum");
    assert!((reported - last / 10.0).abs() < jitter, "{reported} {last}");
}

#[test]
fn engines_are_found_by_name_by_file_and_by_part() {
    let catalog =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/catalog/canary-slower-than-declared.toml");
    Profile::find(catalog).unwrap();
    Profile::find(&format!("{catalog}#to")).unwrap();
    let built_in = Profile::find("a100-llama-3.1-8b").unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/profiles/a100-llama-3.1-8b.toml");
    assert_eq!(Profile::find(file).unwrap().form, built_in.form);
    for (wrong, said) in
        [("h100", "a100-llama-3.1-8b"), (&*format!("{catalog}#other"), "[engines.other]"), (file!(), "")]
    {
        let error = Profile::find(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
