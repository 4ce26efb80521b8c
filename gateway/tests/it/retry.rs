//! A request is tried again before the first byte of a response, and never after.

use std::sync::atomic::Ordering;
use std::time::Duration;

use slackwater_gateway::{Patch, State};

use crate::scripted::{Does, Scripted};
use crate::support::{call, config, gateway, replica, stand_in, start, stream, until, view};

/// A gateway whose first choice is the scripted replica: the other one is only there to be tried next.
async fn first_choice(bad: &Scripted, good: &Scripted) -> slackwater_gateway::Gateway {
    let mut config = config(&[bad.address, good.address]);
    config.replicas[0].weight = 256;
    config.replicas[1].weight = 1;
    start(config).await
}

#[tokio::test]
async fn before_the_head_another_replica_is_tried() {
    let (bad, good) = (Scripted::start(Does::DieBeforeHead).await, Scripted::start(Does::Echo).await);
    let gateway = first_choice(&bad, &good).await;
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.ends_with("body"), "all of it is sent again");
    assert_eq!((bad.requests(), good.requests()), (1, 1));
    assert_eq!((view(&gateway, "r0").failed, view(&gateway, "r1").served), (1, 1));
    assert_eq!((view(&gateway, "r0").in_flight, view(&gateway, "r1").in_flight), (0, 0));
}

#[tokio::test]
async fn after_the_head_nothing_is_tried_and_the_client_sees_the_break() {
    for does in [Does::DieAfterHead, Does::DieMidBody, Does::DieShort] {
        let (bad, good) = (Scripted::start(does).await, Scripted::start(Does::Echo).await);
        let gateway = first_choice(&bad, &good).await;
        let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.whole, "{does:?}: {answer:?}");
        assert_eq!((bad.requests(), good.requests()), (1, 0), "{does:?}");
        assert_eq!(view(&gateway, "r0").failed, 1, "{does:?}");
    }
}

#[tokio::test]
async fn a_replica_that_is_not_there_is_tried_once_and_left_alone() {
    let gone = Scripted::start(Does::Echo).await;
    let address = gone.address;
    drop(gone);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let good = stand_in("/models/v1").await;
    let mut config = config(&[address, good.address()]);
    config.replicas[0].weight = 256;
    let gateway = start(config).await;
    for _ in 0..5 {
        let answer = stream(gateway.address(), 2).await;
        assert!(answer.whole && answer.status == 200, "{answer:?}");
    }
    let seen = view(&gateway, "r0");
    assert_eq!((seen.failed, seen.healthy), (1, false));
}

#[tokio::test]
async fn when_all_have_failed_the_client_is_told() {
    let (one, two) = (Scripted::start(Does::DieBeforeHead).await, Scripted::start(Does::DieBeforeHead).await);
    let gateway = gateway(&[one.address, two.address]).await;
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["type"], "gateway_error");
    assert_eq!((one.requests(), two.requests()), (1, 1), "each is tried once");

    gateway.fleet().patch("r0", Patch { state: Some(State::Down), ..Patch::default() }).unwrap().unwrap();
    gateway.fleet().patch("r1", Patch { weight: Some(0), ..Patch::default() }).unwrap().unwrap();
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn tries_are_bounded() {
    let bad: Vec<Scripted> = [
        Scripted::start(Does::DieBeforeHead).await,
        Scripted::start(Does::DieBeforeHead).await,
        Scripted::start(Does::DieBeforeHead).await,
        Scripted::start(Does::DieBeforeHead).await,
    ]
    .into();
    let mut config = config(&bad.iter().map(|replica| replica.address).collect::<Vec<_>>());
    config.retries = 1;
    let gateway = start(config).await;
    assert_eq!(call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await.status, 502);
    assert_eq!(bad.iter().map(Scripted::requests).sum::<u64>(), 2);
}

#[tokio::test]
async fn a_body_that_is_not_kept_is_sent_once() {
    let (bad, good) = (Scripted::start(Does::DieBeforeHead).await, Scripted::start(Does::Echo).await);
    let mut config = config(&[bad.address, good.address]);
    config.replicas[0].weight = 256;
    config.limits.kept_body_bytes = 10;
    let gateway = start(config.clone()).await;
    let body = "x".repeat(1000);
    assert_eq!(call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", &body).await.status, 502);
    assert_eq!(good.requests(), 0);

    // As long as nothing of it has left it can go elsewhere.
    let gone = Scripted::start(Does::Echo).await.address;
    tokio::time::sleep(Duration::from_millis(20)).await;
    config.replicas[0] = replica("r0", gone);
    config.replicas[0].weight = 256;
    let gateway = start(config).await;
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with(&body));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_nobody_s_failure() {
    let replica = Scripted::start(Does::EchoAndClose).await;
    let gateway = gateway(&[replica.address]).await;
    for round in 0..30_u64 {
        // Sometimes before, sometimes while, sometimes after the replica closes (20 ms after each answer).
        tokio::time::sleep(Duration::from_millis(round)).await;
        let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
    }
    let seen = view(&gateway, "r0");
    assert_eq!((seen.served, seen.failed, seen.in_flight), (30, 0, 0));
}

#[tokio::test]
async fn a_silent_replica_is_waited_for_only_so_long() {
    let (silent, other) = (Scripted::start(Does::Silent).await, Scripted::start(Does::Echo).await);
    let mut config = config(&[silent.address, other.address]);
    config.replicas[0].weight = 256;
    config.timeouts.response_headers = Duration::from_millis(200);
    let gateway = start(config).await;
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
    assert_eq!(answer.status, 504, "it may be working on it: it is not asked of another");
    assert_eq!(other.requests(), 0);
    until("the silent one is let go", || async { silent.seen.open.load(Ordering::SeqCst) == 0 }).await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_broken_after_a_while() {
    let replica = Scripted::start(Does::FallSilent).await;
    let mut config = config(&[replica.address]);
    config.timeouts.silence = Duration::from_millis(200);
    let gateway = start(config).await;
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", "body").await;
    assert!(!answer.whole && answer.body == "data: one\n\n", "{answer:?}");
    assert_eq!(view(&gateway, "r0").failed, 1);
}
