//! After a drain has been answered nothing arrives: counted at the replica, not by the gateway's word.

use std::time::Duration;

use slackwater_load::{Load, Options, Pace, Prompt};
use slackwater_replica::Server;

use crate::support::{admin_of, call, gateway, stand_in, stream, until, view};

async fn set(gateway: &slackwater_gateway::Gateway, name: &str, state: &str) -> serde_json::Value {
    let start = format!("PATCH /replicas/{name} HTTP/1.1\r\n");
    let answer = call(admin_of(gateway), &start, &format!("{{\"state\": \"{state}\"}}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Requests that the replica itself has ended, however.
async fn ended_at(server: &Server) -> f64 {
    let page = call(server.address(), "GET /metrics HTTP/1.1\r\n", "").await.body;
    let samples = page.lines().filter(|line| line.starts_with("vllm:request_success_total"));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_arrives_after_a_drain_was_answered() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v1").await);
    let gateway = gateway(&[one.address(), two.address()]).await;
    let prompt = Prompt { prompt_tokens: (5, 10), output_tokens: (1, 8) };
    let pace = Pace::Concurrency(24);
    let load = Load::start(Options { prompt, ..Options::new(gateway.address(), pace) });
    let mut served_while_drained = 0;
    for round in 0..15 {
        until("both work", || async { view(&gateway, "r0").in_flight > 2 }).await;
        let told = set(&gateway, "r0", "drain").await;
        let number = |key: &str| told[key].as_u64().unwrap();
        // All that it will ever have been given, unless it is readied again.
        let given = number("served") + number("failed") + number("in_flight");
        assert_eq!(number("failed"), 0);
        until("it is drained", || async { view(&gateway, "r0").in_flight == 0 }).await;
        let before = view(&gateway, "r1").served;
        tokio::time::sleep(Duration::from_millis(30)).await;
        #[expect(clippy::cast_precision_loss)]
        let given = given as f64;
        assert!((ended_at(&one).await - given).abs() < 0.5, "round {round}: something arrived later");
        assert_eq!(one.in_flight(), 0);
        served_while_drained += view(&gateway, "r1").served - before;
        set(&gateway, "r0", "ready").await;
    }
    assert!(served_while_drained > 0, "the other one goes on");
    let report = load.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert!(report.sent > 200, "{}", report.sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_flight_end_well_in_drain_and_down() {
    for state in ["drain", "down"] {
        let server = stand_in("/models/v1").await;
        let gateway = gateway(&[server.address()]).await;
        let to = gateway.address();
        let asking = tokio::spawn(async move { stream(to, 100).await });
        until("it runs", || async { view(&gateway, "r0").in_flight == 1 }).await;
        set(&gateway, "r0", state).await;
        assert_eq!(stream(to, 1).await.status, 503, "there is nobody else");
        let answer = asking.await.unwrap();
        assert!(answer.whole && answer.body.ends_with("[DONE]\n\n"));
        until("the count is 0", || async { view(&gateway, "r0").in_flight == 0 }).await;
        assert_eq!(view(&gateway, "r0").served, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_can_be_moved_to_another_address() {
    let (old, new) = (stand_in("/models/v1").await, stand_in("/models/v2").await);
    let gateway = gateway(&[old.address()]).await;
    assert!(stream(gateway.address(), 1).await.body.contains("v1-"));
    let change = format!("{{\"url\": \"http://{}\", \"version\": \"v2\"}}", new.address());
    let answer = call(admin_of(&gateway), "PATCH /replicas/r0 HTTP/1.1\r\n", &change).await;
    assert_eq!((answer.status, &answer.json()["version"]), (200, &"v2".into()));
    for _ in 0..3 {
        assert!(stream(gateway.address(), 1).await.body.contains("v2-"));
    }
    assert_eq!(old.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_ends_what_it_has_begun() {
    let server = stand_in("/models/v1").await;
    let gateway = gateway(&[server.address()]).await;
    let to = gateway.address();
    let asking = tokio::spawn(async move { stream(to, 60).await });
    until("it runs", || async { view(&gateway, "r0").in_flight == 1 }).await;
    gateway.stop();
    until("nobody is let in", || async { call(to, "GET /v1/models HTTP/1.1\r\n", "").await.status == 0 })
        .await;
    assert!(asking.await.unwrap().whole);
    assert_eq!(gateway.ended().await.unwrap(), 0);
}
