//! Stand-ins, and a client that shows everything.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use slackwater_replica::{Options, Profile, Server};
use tokio::net::TcpStream;

/// Longer than anything here should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn options() -> Options {
    Options::new("/models/v1", Profile::find("h100-qwen3-14b").unwrap())
}

/// A stand-in that is ready.
pub(crate) async fn ready(options: Options) -> Server {
    let server = Server::start(options).await.unwrap();
    until("the stand-in is ready", || async { get(server.address(), "/health").await.status == 200 }).await;
    server
}

/// Waits for what must come true.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it never came true: {what}");
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Whether it ended as it should.
    pub(crate) whole: bool,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The payloads of its events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

pub(crate) async fn get(to: SocketAddr, path: &str) -> Response {
    send(to, Request::get(path).body(String::new()).unwrap()).await
}

pub(crate) async fn post(to: SocketAddr, path: &str, body: &Value) -> Response {
    send(to, Request::post(path).body(body.to_string()).unwrap()).await
}

/// A response of status 0 is none.
pub(crate) async fn send(to: SocketAddr, request: Request<String>) -> Response {
    let asked = async {
        let stream = TcpStream::connect(to).await.ok()?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let driver = tokio::spawn(driver);
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        request.headers_mut().insert("host", to.to_string().parse().unwrap());
        let (head, mut body) = sender.send_request(request).await.ok()?.into_parts();
        let (mut text, mut whole) = (Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => whole = false,
            }
        }
        driver.abort();
        let text = String::from_utf8_lossy(&text).into_owned();
        Some(Response { status: head.status.as_u16(), headers: head.headers, text, whole })
    };
    let none = Response { status: 0, headers: HeaderMap::new(), text: String::new(), whole: false };
    asked.await.unwrap_or(none)
}

/// A metric's value: of the sample whose name and labels begin so.
pub(crate) fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in\n{page}"))
}

pub(crate) async fn metric(to: SocketAddr, name: &str) -> f64 {
    sample(&get(to, "/metrics").await.text, name)
}
