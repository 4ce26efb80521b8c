//! What SIGTERM does to requests in flight: abort by default, drain when there is a time for it.

use std::time::{Duration, Instant};

use serde_json::json;
use slackwater_replica::{Ended, Options};

use crate::support::{get, metric, options, post, ready, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_streams_are_cut_at_once() {
    let server = ready(options()).await;
    let to = server.address();
    let body = json!({"prompt": "a", "max_tokens": 5000, "ignore_eos": true, "stream": true});
    let asking = tokio::spawn(async move { post(to, "/v1/completions", &body).await });
    until("it runs", || async { metric(to, "vllm:generation_tokens_total").await > 3.0 }).await;
    let told = Instant::now();
    server.terminate();
    assert_eq!(server.ended().await.unwrap(), Ended::Terminated { aborted: 1 });
    assert!(told.elapsed() < Duration::from_secs(10), "5000 tokens would take a minute");
    let response = asking.await.unwrap();
    assert!(!response.whole && !response.text.contains("[DONE]"));
    assert!(!response.events().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_timeout_streams_end_well_and_new_requests_are_aborted() {
    let server = ready(Options { shutdown_timeout: Duration::from_secs(60), ..options() }).await;
    let to = server.address();
    let body = json!({"prompt": "a", "max_tokens": 120, "ignore_eos": true, "stream": true});
    let asking = tokio::spawn(async move { post(to, "/v1/completions", &body).await });
    until("it runs", || async { metric(to, "vllm:generation_tokens_total").await > 3.0 }).await;
    server.terminate();
    let late = json!({"prompt": "a", "max_tokens": 1});
    until("it drains", || async { post(to, "/v1/completions", &late).await.status == 500 }).await;
    assert_eq!(get(to, "/health").await.status, 200, "vLLM stays healthy while it drains");
    let response = asking.await.unwrap();
    assert!(response.whole && response.events().last() == Some(&"[DONE]"), "{}", response.text);
    assert_eq!(response.events().len(), 121);
    assert_eq!(server.ended().await.unwrap(), Ended::Terminated { aborted: 0 });
    assert_eq!(get(to, "/health").await.status, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_over_in_time_is_cut() {
    let server = ready(Options { shutdown_timeout: Duration::from_millis(300), ..options() }).await;
    let to = server.address();
    let body = json!({"prompt": "a", "max_tokens": 5000, "ignore_eos": true, "stream": true});
    let asking = tokio::spawn(async move { post(to, "/v1/completions", &body).await });
    until("it runs", || async { metric(to, "vllm:generation_tokens_total").await > 3.0 }).await;
    let told = Instant::now();
    server.terminate();
    assert_eq!(server.ended().await.unwrap(), Ended::Terminated { aborted: 1 });
    assert!(told.elapsed() > Duration::from_millis(290));
    assert!(!asking.await.unwrap().whole);
}
