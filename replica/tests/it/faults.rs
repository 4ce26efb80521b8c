//! Each fault does what it says, and nothing else does.

use std::time::Duration;

use serde_json::json;
use slackwater_replica::{Ended, Fault, GpuClaim, Options, Server, fake_gpu, text};

use crate::support::{get, metric, options, post, ready, sample, until};

fn with(fault: Fault) -> Options {
    Options { faults: vec![fault], ..options() }
}

#[tokio::test]
async fn never_healthy_is_never_healthy_and_can_be_stopped() {
    let server = Server::start(with(Fault::NeverHealthy)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(server.address(), "/health").await.status, 503);
    assert_eq!(get(server.address(), "/v1/models").await.status, 503);
    assert_eq!(post(server.address(), "/v1/completions", &json!({"prompt": "a"})).await.status, 503);
    server.terminate();
    assert_eq!(server.ended().await.unwrap(), Ended::Terminated { aborted: 0 });
}

#[tokio::test]
async fn loading_takes_its_time_and_may_crash_half_way() {
    let start_up = || "weights=300ms,compile=100ms".parse().unwrap();
    let server = Server::start(Options { start_up: start_up(), ..options() }).await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(get(server.address(), "/health").await.status, 503);
    until("it is ready", || async { get(server.address(), "/health").await.status == 200 }).await;
    assert!(begun.elapsed() > Duration::from_millis(350));

    let begun = std::time::Instant::now();
    let server =
        Server::start(Options { start_up: start_up(), ..with(Fault::CrashWhileLoading) }).await.unwrap();
    let to = server.address();
    assert_eq!(get(to, "/health").await.status, 503);
    assert!(matches!(server.ended().await.unwrap(), Ended::Crashed(reason) if reason.contains("crash")));
    assert!(begun.elapsed() > Duration::from_millis(190));
    assert_eq!(get(to, "/health").await.status, 0, "nobody listens any more");
}

#[tokio::test]
async fn the_wrong_model_has_the_right_name() {
    let server = ready(with(Fault::WrongModel)).await;
    let model = &get(server.address(), "/v1/models").await.json()["data"][0];
    assert_eq!((&model["id"], &model["root"]), (&json!("chat"), &json!("/models/v1-wrong")));
    let answer = post(server.address(), "/v1/completions", &json!({"prompt": "a", "max_tokens": 1})).await;
    assert_eq!(answer.json()["choices"][0]["text"], text::answer(&text::label("/models/v1-wrong"), 1));
}

#[tokio::test]
async fn slow_is_slow() {
    let mut times = Vec::new();
    for options in [options(), with(Fault::Slow(5.0))] {
        let server = ready(options).await;
        post(
            server.address(),
            "/v1/completions",
            &json!({"prompt": "a", "max_tokens": 10, "ignore_eos": true}),
        )
        .await;
        times.push(metric(server.address(), "vllm:request_decode_time_seconds_sum").await);
    }
    let ratio = times[1] / times[0];
    assert!((ratio - 5.0).abs() < 0.01, "{times:?}");
}

#[tokio::test]
async fn a_stuck_gauge_sticks_once_a_request_has_left() {
    let server = ready(with(Fault::StuckGauge)).await;
    let to = server.address();
    assert!(metric(to, "vllm:num_requests_running").await < 0.5);
    post(to, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1})).await;
    until("the gauge is stuck", || async { metric(to, "vllm:num_requests_running").await > 0.5 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let page = get(to, "/metrics").await.text;
    assert!((sample(&page, "vllm:num_requests_running") - 1.0).abs() < 0.1);
    assert!(sample(&page, "vllm:num_requests_waiting") < 0.1);
}

#[tokio::test]
async fn it_ignores_sigterm_and_nothing_more() {
    let server = ready(with(Fault::IgnoreSigterm)).await;
    server.terminate();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(server.address(), "/health").await.status, 200);
    server.kill();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn it_dies_in_the_middle_of_a_stream() {
    let server = ready(with(Fault::DiesMidStream(5))).await;
    let to = server.address();
    let short = json!({"prompt": "a", "max_tokens": 4, "stream": true});
    let response = post(to, "/v1/completions", &short).await;
    assert!(response.whole && response.events().last() == Some(&"[DONE]"), "{}", response.text);
    let long = json!({"prompt": "a", "max_tokens": 50, "ignore_eos": true, "stream": true});
    let response = post(to, "/v1/completions", &long).await;
    assert!(!response.whole, "{}", response.text);
    assert!((4..=6).contains(&response.events().len()), "{}", response.text);
    assert!(matches!(server.ended().await.unwrap(), Ended::Crashed(reason) if reason.contains("5 tokens")));
}

#[tokio::test]
async fn memory_is_held_while_it_lives_and_lingers_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    fake_gpu::create(folder.path(), 1, 1000).unwrap();
    let claim = GpuClaim { folder: folder.path().to_owned(), gpus: vec![0], memory_mib: 600 };
    let free = || fake_gpu::read(folder.path()).unwrap()[0].free_mib();

    let server = ready(Options { gpu: Some(claim.clone()), ..options() }).await;
    assert_eq!(free(), 400);
    // A second one finds too little, as vLLM does.
    let refused = Server::start(Options { gpu: Some(claim.clone()), ..options() }).await.unwrap();
    let error = refused.ended().await.unwrap_err().to_string();
    assert!(error.contains("400/1000 MiB") && error.contains("600 MiB"), "{error}");
    server.kill();
    server.ended().await.unwrap();
    assert_eq!(free(), 1000);

    let lingers = Fault::LingeringMemory("700ms".parse().unwrap());
    let server = ready(Options { gpu: Some(claim), ..with(lingers) }).await;
    // Longer than it lingers: the living one keeps saying so.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(free(), 400);
    server.kill();
    server.ended().await.unwrap();
    assert_eq!(free(), 400, "the process is gone, its memory is not");
    until("the memory is free", || async { free() == 1000 }).await;
}
