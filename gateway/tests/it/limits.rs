//! What a client may take, and what happens when it wants more.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{Does, Scripted};
use crate::support::{call, config, read_response, start, until, view};

#[tokio::test]
async fn bodies_headers_and_their_times_are_bounded() {
    let replica = Scripted::start(Does::Echo).await;
    let mut config = config(&[replica.address]);
    config.limits.body_bytes = 2000;
    config.limits.kept_body_bytes = 500;
    config.limits.header_bytes = 8192;
    config.timeouts.client_headers = Duration::from_millis(300);
    config.timeouts.client_body = Duration::from_millis(300);
    let gateway = start(config).await;
    let to = gateway.address();

    let answer = call(to, "POST /v1/x HTTP/1.1\r\nexpect: 100-continue\r\n", &"x".repeat(2001)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(call(to, "POST /v1/x HTTP/1.1\r\n", &"x".repeat(2000)).await.status, 200);

    // Of a body without a length it is seen only when it comes: within what is kept, and behind it.
    for (pieces, status) in [(4, 200), (21, 413)] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head =
            "POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            stream.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, status, "{pieces}");
    }

    let long = format!("GET /v1/x HTTP/1.1\r\nx-long: {}\r\n", "y".repeat(20_000));
    assert_eq!(call(to, &long, "").await.status, 431);
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert_eq!(call(to, &format!("GET /v1/x HTTP/1.1\r\n{many}"), "").await.status, 431);

    let mut slow = TcpStream::connect(to).await.unwrap();
    slow.write_all(b"GET /v1/x HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "headers that do not come are not waited for");

    let mut slow = TcpStream::connect(to).await.unwrap();
    slow.write_all(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    assert_eq!(read_response(&mut slow).await.status, 408);
    assert_eq!(view(&gateway, "r0").in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_allowed_wait_their_turn() {
    let replica = Scripted::start(Does::Echo).await;
    let mut config = config(&[replica.address]);
    config.limits.connections = 2;
    let gateway = start(config).await;
    let to = gateway.address();
    let idle: Vec<TcpStream> =
        [TcpStream::connect(to).await.unwrap(), TcpStream::connect(to).await.unwrap()].into();
    let third = tokio::spawn(async move { call(to, "GET /v1/x HTTP/1.1\r\n", "").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!third.is_finished() && replica.requests() == 0);
    drop(idle);
    assert_eq!(third.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_left() {
    let replica = Scripted::start(Does::Endless).await;
    let mut config = config(&[replica.address]);
    config.timeouts.client_stalled = Duration::from_millis(300);
    let gateway = start(config).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until("it has begun", || async { view(&gateway, "r0").in_flight == 1 }).await;
    until("it is left", || async { view(&gateway, "r0").in_flight == 0 }).await;
}
