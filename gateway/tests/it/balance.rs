//! Who is given a request: the least loaded for its weight, of the session's version.

use slackwater_gateway::{Patch, State};

use crate::scripted::{Does, Scripted};
use crate::support::{call, config, gateway, replica, stand_in, start, stream, until, view, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_requests_are_shared_out_by_weight() {
    let silent = [
        Scripted::start(Does::Silent).await,
        Scripted::start(Does::Silent).await,
        Scripted::start(Does::Silent).await,
    ];
    let mut config = config(&silent.iter().map(|replica| replica.address).collect::<Vec<_>>());
    config.replicas[0].weight = 200;
    config.replicas[1].weight = 100;
    config.replicas[2].weight = 0;
    let gateway = start(config).await;
    let to = gateway.address();
    for _ in 0..30 {
        tokio::spawn(async move { call(to, "POST /v1/x HTTP/1.1\r\n", "a").await });
    }
    let open = |name: &str| view(&gateway, name).in_flight;
    until("all are open", || async { open("r0") + open("r1") == 30 }).await;
    assert_eq!((open("r0"), open("r1"), open("r2")), (20, 10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_after_the_other_they_take_turns() {
    let replicas = [Scripted::start(Does::Echo).await, Scripted::start(Does::Echo).await];
    let gateway = gateway(&[replicas[0].address, replicas[1].address]).await;
    for _ in 0..10 {
        call(gateway.address(), "GET /v1/models HTTP/1.1\r\n", "").await;
    }
    assert_eq!((replicas[0].requests(), replicas[1].requests()), (5, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_at_its_version_while_that_can_serve() {
    let (old, new) = (stand_in("/models/v1").await, stand_in("/models/v2").await);
    let other = stand_in("/models/v1").await;
    let mut config = config(&[old.address(), new.address()]);
    config.replicas[0].version = Some("v1".to_owned());
    config.replicas[1].version = Some("v2".to_owned());
    let mut third = replica("r2", other.address());
    third.version = Some("v1".to_owned());
    config.replicas.push(third);
    let gateway = start(config).await;
    let to = gateway.address();
    let ask = |session: &'static str| async move {
        let answer = whole(to, 1, &format!("x-session-id: {session}\r\n")).await;
        if answer.body.contains("v1-") { "v1" } else { "v2" }
    };
    // By turns: the first to r0, the second to r1.
    assert_eq!((ask("a").await, ask("b").await), ("v1", "v2"));
    for _ in 0..6 {
        assert_eq!((ask("a").await, ask("b").await), ("v1", "v2"));
    }
    let served = |name: &str| view(&gateway, name).served;
    assert!(served("r2") > 0, "the other one of the same version takes its part");

    // Its version goes away: it takes the other one, and stays there when the first comes back.
    let set = |name: &str, state| {
        gateway.fleet().patch(name, Patch { state: Some(state), ..Patch::default() }).unwrap().unwrap();
    };
    set("r1", State::Drain);
    assert_eq!(ask("b").await, "v1");
    set("r1", State::Ready);
    for _ in 0..4 {
        assert_eq!(ask("b").await, "v1");
    }
    // The body's key names a session where no header does.
    let ask_body = || async move {
        let body = "{\"prompt\":\"a\",\"max_tokens\":1,\"user\":\"b\"}";
        call(to, "POST /v1/completions HTTP/1.1\r\n", body).await.body.contains("v1-")
    };
    for _ in 0..4 {
        assert!(ask_body().await);
    }
    assert_eq!(stream(to, 1).await.status, 200);
}
