//! A cut breaks what is open at one replica, visibly, and nothing else.

use crate::scripted::{Does, Scripted};
use crate::support::{admin_of, call, config, gateway, stand_in, start, stream, until, view, whole};

async fn cut(gateway: &slackwater_gateway::Gateway, name: &str) -> serde_json::Value {
    let answer = call(admin_of(gateway), &format!("POST /replicas/{name}/cut HTTP/1.1\r\n"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_replica_break_and_those_of_others_do_not() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v1").await);
    let gateway = gateway(&[one.address(), two.address()]).await;
    let to = gateway.address();
    let asking: Vec<_> = (0..12).map(|_| tokio::spawn(async move { stream(to, 150).await })).collect();
    let in_flight = || view(&gateway, "r0").in_flight + view(&gateway, "r1").in_flight;
    until("all run", || async { in_flight() == 12 && one.in_flight() == 6 && two.in_flight() == 6 }).await;
    // The heads are there with the first token.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let told = cut(&gateway, "r0").await;
    assert_eq!(told, serde_json::json!({"cut": 6, "sent_on": 0}));
    assert_eq!(view(&gateway, "r0").in_flight, 0, "they are gone when the cut is answered");
    until("the replica has let them go", || async { one.in_flight() == 0 }).await;
    let mut whole = 0;
    for asked in asking {
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.whole, answer.body.ends_with("[DONE]\n\n"), "{answer:?}");
        whole += u32::from(answer.whole);
    }
    assert_eq!(whole, 6);
    let (one, two) = (view(&gateway, "r0"), view(&gateway, "r1"));
    assert_eq!((one.served, one.failed, two.served, two.failed), (0, 0, 6, 0));
    assert_eq!(cut(&gateway, "r0").await, serde_json::json!({"cut": 0, "sent_on": 0}));
    assert!(stream(to, 2).await.whole, "the replica itself still serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_still_wait_are_sent_on() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v2").await);
    let mut config = config(&[one.address(), two.address()]);
    config.replicas[1].state = slackwater_gateway::State::Drain;
    let gateway = start(config).await;
    let to = gateway.address();
    // Not streamed: there is no head before the end.
    let asking: Vec<_> = (0..4).map(|_| tokio::spawn(async move { whole(to, 80, "").await })).collect();
    until("all run", || async { one.in_flight() == 4 }).await;
    let change = |name: &str, state: &str| {
        let start = format!("PATCH /replicas/{name} HTTP/1.1\r\n");
        let body = format!("{{\"state\": \"{state}\"}}");
        let admin = admin_of(&gateway);
        async move { call(admin, &start, &body).await.status }
    };
    assert_eq!((change("r1", "ready").await, change("r0", "drain").await), (200, 200));
    assert_eq!(cut(&gateway, "r0").await, serde_json::json!({"cut": 0, "sent_on": 4}));
    for asked in asking {
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("v2-"), "another one answered: {answer:?}");
    }
    until("the first one has let them go", || async { one.in_flight() == 0 }).await;
    assert_eq!((view(&gateway, "r0").served, view(&gateway, "r1").served), (0, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_reaches_a_stream_whose_client_takes_nothing() {
    use tokio::io::AsyncWriteExt;
    let replica = Scripted::start(Does::Endless).await;
    let gateway = gateway(&[replica.address]).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until("it has begun", || async { view(&gateway, "r0").in_flight == 1 }).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(cut(&gateway, "r0").await["cut"], 1);
    assert_eq!(view(&gateway, "r0").in_flight, 0);
    let open = || replica.seen.open.load(std::sync::atomic::Ordering::SeqCst);
    until("the replica is let go", || async { open() == 0 }).await;
}

/// Cuts at the very moments at which streams end: each is either whole or broken, and the counts agree with the clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_counted_exactly_when_its_client_saw_a_break() {
    let server = stand_in("/models/v1").await;
    let gateway = gateway(&[server.address()]).await;
    let to = gateway.address();
    let (mut broken, mut counted) = (0, 0);
    for round in 0..40 {
        let asking: Vec<_> = (0..5).map(|_| tokio::spawn(async move { stream(to, 2).await })).collect();
        // Some 35 ms are what two tokens take.
        tokio::time::sleep(std::time::Duration::from_millis(25 + round)).await;
        counted += cut(&gateway, "r0").await["cut"].as_u64().unwrap();
        for asked in asking {
            let answer = asked.await.unwrap();
            match answer.status {
                // Not even the head got out, or what got out does not end; it may be all there but for its end.
                0 => broken += 1,
                200 => {
                    assert!(!answer.whole || answer.body.ends_with("[DONE]\n\n"));
                    broken += u64::from(!answer.whole);
                }
                // With one replica, what was cut before its head has nowhere to go.
                status => assert_eq!(status, 503, "{answer:?}"),
            }
        }
    }
    assert_eq!(broken, counted);
    assert_eq!(view(&gateway, "r0").in_flight, 0);
}
