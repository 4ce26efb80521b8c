//! What goes through, as it is on the wire.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{Does, Scripted};
use crate::support::{call, gateway, read_response, stand_in, stream, until, view};

#[tokio::test]
async fn a_stream_arrives_token_by_token_as_the_replica_sends_it() {
    let server = stand_in("/models/v1").await;
    let gateway = gateway(&[server.address()]).await;
    let direct = stream(server.address(), 5).await;
    let through = stream(gateway.address(), 5).await;
    assert!(direct.whole && through.whole);
    assert_eq!(through.status, 200);
    assert_eq!(through.header("content-type"), Some("text/event-stream; charset=utf-8"));
    // But for the answer's id and time.
    let tokens = |body: &str| body.matches("#").count();
    assert_eq!((tokens(&through.body), tokens(&direct.body)), (5, 5));
    assert!(through.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(view(&gateway, "r0").served, 1);
}

#[tokio::test]
async fn headers_of_one_connection_stay_on_it() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    let start = "POST /v1/x?a=%20b HTTP/1.1\r\nauthorization: Bearer key\r\nkeep-alive: timeout=5\r\nte: trailers\r\n\
                 proxy-authorization: Basic eA==\r\nx-request-id: mine-1\r\nx-forwarded-for: 10.9.9.9\r\n";
    let answer = call(gateway.address(), start, "{\"a\":1}").await;
    let (head, body) = answer.body.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"a\":1}");
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "post /v1/x?a=%20b http/1.1");
    lines.sort();
    assert_eq!(
        lines,
        [
            "authorization: bearer key".to_owned(),
            "content-length: 7".to_owned(),
            format!("host: {}", replica.address),
            "via: 1.1 slackwater".to_owned(),
            "x-forwarded-for: 10.9.9.9, 127.0.0.1".to_owned(),
            "x-forwarded-host: test".to_owned(),
            "x-forwarded-proto: http".to_owned(),
            "x-request-id: mine-1".to_owned(),
        ]
    );
    assert_eq!(answer.header("x-replica"), Some("yes"));
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(answer.header("keep-alive"), None);
}

#[tokio::test]
async fn requests_without_an_id_get_different_ones() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer =
            call(gateway.address(), "GET /v1/models HTTP/1.1\r\nx-request-id: no good\r\n", "").await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(replica.last().contains(&id), "the replica was told another id");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
    assert!(ids[0].starts_with("req-"), "{ids:?}");
}

#[tokio::test]
async fn bodies_in_chunks_and_with_expectation_go_through() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let head = "POST /v1/x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\
                connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 100];
    let read = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"HTTP/1.1 100 Continue\r\n\r\n");
    for piece in ["3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = read_response(&mut stream).await;
    assert!(answer.body.ends_with("\r\n\r\nabcde"), "{answer:?}");
    // It was kept, so its length is known by now.
    assert!(answer.body.contains("content-length: 5") && !answer.body.contains("expect"), "{answer:?}");
}

#[tokio::test]
async fn a_long_body_streams_through() {
    let replica = Scripted::start(Does::Echo).await;
    let mut config = crate::support::config(&[replica.address]);
    config.limits.kept_body_bytes = 1000;
    let gateway = crate::support::start(config).await;
    let body = "0123456789".repeat(20_000);
    let answer = call(gateway.address(), "POST /v1/x HTTP/1.1\r\n", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.ends_with(&format!("\r\n\r\n{body}")));
    assert!(answer.body.contains("content-length: 200000"));

    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let head = "POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        stream.write_all(format!("2710\r\n{}\r\n", "x".repeat(10_000)).as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_response(&mut stream).await;
    assert!(answer.body.ends_with(&"x".repeat(200_000)), "{}", answer.body.len());
}

#[tokio::test]
async fn old_clients_are_answered() {
    let server = stand_in("/models/v1").await;
    let gateway = gateway(&[server.address()]).await;
    let answer = call(gateway.address(), "GET /v1/models HTTP/1.0\r\n", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.whole && answer.body.contains("/models/v1"), "{answer:?}");
    let body = "{\"prompt\":\"a\",\"max_tokens\":3,\"stream\":true}";
    let answer = call(gateway.address(), "POST /v1/completions HTTP/1.0\r\n", body).await;
    assert_eq!(answer.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
    assert!(answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
}

#[tokio::test]
async fn what_is_no_plain_request_is_refused_plainly() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    for (start, status, said) in [
        ("GET /v1/x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n", 501, "no upgrade"),
        ("CONNECT example:443 HTTP/1.1\r\n", 501, "no tunnel"),
        ("TRACE /v1/x HTTP/1.1\r\n", 405, "TRACE"),
        ("OPTIONS * HTTP/1.1\r\n", 400, "path"),
    ] {
        let answer = call(gateway.address(), start, "").await;
        assert_eq!(answer.status, status, "{start}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(said), "{answer:?}");
    }
    assert_eq!(replica.requests(), 0);
}

/// A proxy and a replica that disagree about where a body ends is how requests are smuggled in.
#[tokio::test]
async fn contradictory_lengths_are_one_thing_to_the_replica() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    let both = "POST /v1/x HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let answer = call(gateway.address(), both, smuggled).await;
    assert_eq!((answer.status, replica.requests()), (200, 1), "{answer:?}");
    let last = replica.last().to_lowercase();
    assert!(
        !last.contains("chunked") && !last.contains("smuggled") && !last.contains("content-length: 3"),
        "{last}"
    );
    for wrong in
        ["content-length: 1\r\ncontent-length: 2\r\n", "content-length: x\r\n", "transfer-encoding: odd\r\n"]
    {
        let answer = call(gateway.address(), &format!("POST /v1/x HTTP/1.1\r\n{wrong}"), "").await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    assert_eq!(replica.requests(), 1);
}

#[tokio::test]
async fn one_connection_to_a_replica_serves_many_requests() {
    let replica = Scripted::start(Does::Echo).await;
    let gateway = gateway(&[replica.address]).await;
    for _ in 0..20 {
        assert_eq!(call(gateway.address(), "GET /v1/models HTTP/1.1\r\n", "").await.status, 200);
        // A connection is taken back a moment after its response has ended.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(replica.requests(), 20);
    assert!(replica.seen.connections.load(Ordering::SeqCst) <= 3, "{:?}", replica.seen);
}

#[tokio::test]
async fn responses_without_a_body_are_whole_and_keep_their_connection() {
    let replica = Scripted::start(Does::Nothing).await;
    let gateway = gateway(&[replica.address]).await;
    for _ in 0..10 {
        let answer = call(gateway.address(), "DELETE /v1/x HTTP/1.1\r\n", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        let answer = call(gateway.address(), "HEAD /v1/x HTTP/1.1\r\n", "").await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("77")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((view(&gateway, "r0").served, replica.requests()), (20, 20));
    // Three at most: health checks have a connection each.
    assert!(replica.seen.connections.load(Ordering::SeqCst) <= 4, "{:?}", replica.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_slows_the_replica_and_a_gone_one_stops_it() {
    let replica = Scripted::start(Does::Endless).await;
    let gateway = gateway(&[replica.address]).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until("it has begun", || async { replica.seen.bytes_sent.load(Ordering::SeqCst) > 0 }).await;
    // Nothing is read: what is under way fills the sockets' buffers and no more.
    let mut before = 0;
    let mut still = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = replica.seen.bytes_sent.load(Ordering::SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        if still == 6 {
            break;
        }
    }
    assert_eq!(still, 6, "the replica goes on sending: {before} bytes");
    assert!(before < 64 << 20, "{before} bytes are kept somewhere");
    assert_eq!(view(&gateway, "r0").in_flight, 1);
    drop(stream);
    until("the replica is let go", || async { replica.seen.open.load(Ordering::SeqCst) == 0 }).await;
    until("it is not in flight", || async { view(&gateway, "r0").in_flight == 0 }).await;
}
