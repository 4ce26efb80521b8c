//! Gateways over stand-ins, and clients of both.

use std::net::SocketAddr;
use std::time::Duration;

use slackwater_gateway::config::{HealthConfig, ReplicaConfig, Timeouts};
use slackwater_gateway::{Admin, Config, Gateway, ReplicaView};
use slackwater_replica::{Options, Profile, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Longer than anything here should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come true.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it never came true: {what}");
}

/// A stand-in of that model, ready.
pub(crate) async fn stand_in(model: &str) -> Server {
    let server = Server::start(Options::new(model, Profile::find("h100-qwen3-14b").unwrap())).await.unwrap();
    let ready = || async { call(server.address(), "GET /health HTTP/1.1\r\n", "").await.status == 200 };
    until("the stand-in is ready", ready).await;
    server
}

/// A configuration over replicas that are named r0, r1, ...
pub(crate) fn config(replicas: &[SocketAddr]) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        admin: Some(Admin::Loopback(SocketAddr::from(([127, 0, 0, 1], 0)))),
        replicas: replicas
            .iter()
            .enumerate()
            .map(|(index, address)| replica(&format!("r{index}"), *address))
            .collect(),
        // Checks are for the tests of checks.
        health: HealthConfig { interval: Duration::from_secs(3600), ..HealthConfig::default() },
        timeouts: Timeouts { shutdown: Duration::from_secs(5), ..Timeouts::default() },
        ..Config::default()
    }
}

pub(crate) fn replica(name: &str, address: SocketAddr) -> ReplicaConfig {
    format!("{name}=http://{address}").parse().unwrap()
}

pub(crate) async fn start(config: Config) -> Gateway {
    Gateway::start(config, |_, _| {}).await.unwrap()
}

pub(crate) async fn gateway(replicas: &[SocketAddr]) -> Gateway {
    start(config(replicas)).await
}

pub(crate) fn admin_of(gateway: &Gateway) -> SocketAddr {
    match gateway.admin() {
        Some(Admin::Loopback(address)) => *address,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn view(gateway: &Gateway, name: &str) -> ReplicaView {
    gateway.fleet().view_of(name).unwrap()
}

/// What came back on the wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) status: u16,
    /// Lines behind the first one, names in lower case.
    pub(crate) head: Vec<String>,
    /// Chunks put together.
    pub(crate) body: String,
    /// Whether it came to the end that its head or its chunks promise.
    pub(crate) whole: bool,
}

impl Wire {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A request by hand: `start` is its first line and headers, `\r\n` behind each. Lengths and `Connection: close` are added.
pub(crate) async fn call(to: SocketAddr, start: &str, body: &str) -> Wire {
    match TcpStream::connect(to).await {
        Ok(stream) => call_on(stream, start, body).await,
        Err(_) => Wire { status: 0, head: Vec::new(), body: String::new(), whole: false },
    }
}

pub(crate) async fn call_socket(to: &std::path::Path, start: &str, body: &str) -> Wire {
    call_on(UnixStream::connect(to).await.unwrap(), start, body).await
}

async fn call_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, start: &str, body: &str) -> Wire {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{start}host: test\r\nconnection: close\r\n{length}\r\n{body}");
    // What is refused early may be closed before all of it is written.
    let _ = stream.write_all(request.as_bytes()).await;
    read_response(&mut stream).await
}

/// Reads to the end of the connection.
pub(crate) async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> Wire {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..read]);
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "the response has no end");
    parse(&all)
}

pub(crate) fn parse(all: &[u8]) -> Wire {
    let text = String::from_utf8_lossy(all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let head: Vec<String> = lines
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    if head.iter().any(|line| line == "transfer-encoding: chunked") {
        let (body, whole) = unchunk(body);
        return Wire { status, head, body, whole };
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let whole = length.is_none_or(|length| length == body.len()) && status != 0;
    Wire { status, head, body: body.to_owned(), whole }
}

/// The data of chunks, and whether the last one came.
pub(crate) fn unchunk(mut text: &str) -> (String, bool) {
    let mut data = String::new();
    loop {
        let Some((size, rest)) = text.split_once("\r\n") else { return (data, false) };
        let Ok(size) = usize::from_str_radix(size, 16) else { return (data, false) };
        if size == 0 {
            return (data, true);
        }
        let Some(piece) = rest.get(..size) else { return (data, false) };
        data.push_str(piece);
        text = rest.get(size + 2..).unwrap_or("");
    }
}

/// A streamed completion of so many tokens, read to its end.
pub(crate) async fn stream(to: SocketAddr, tokens: u32) -> Wire {
    let body = format!(
        "{{\"prompt\":\"a\",\"max_tokens\":{tokens},\"ignore_eos\":true,\"stream\":true,\
         \"stream_options\":{{\"include_usage\":true}}}}"
    );
    call(to, "POST /v1/completions HTTP/1.1\r\n", &body).await
}

/// One that is not streamed.
pub(crate) async fn whole(to: SocketAddr, tokens: u32, headers: &str) -> Wire {
    let body = format!("{{\"prompt\":\"a\",\"max_tokens\":{tokens},\"ignore_eos\":true}}");
    call(to, &format!("POST /v1/completions HTTP/1.1\r\n{headers}"), &body).await
}
