//! Replicas that do exactly one thing, byte by byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::unchunk;

/// What it does with each request, but for health checks: those are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with the request as it came.
    Echo,
    /// Answers 204, and a HEAD with the length of what a GET would be answered with.
    Nothing,
    /// As `Echo`, then closes the connection without having said so.
    EchoAndClose,
    /// Closes without a word.
    DieBeforeHead,
    /// Sends the head of a stream and closes.
    DieAfterHead,
    /// Sends two events of a stream and closes.
    DieMidBody,
    /// Promises more bytes than it sends.
    DieShort,
    /// Takes the request and says nothing.
    Silent,
    /// Sends a stream without end, as fast as it is taken.
    Endless,
    /// Sends the head and one event, then nothing.
    FallSilent,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) last: Mutex<String>,
}

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let noting = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noting.connections.fetch_add(1, Ordering::SeqCst);
                let noting = Arc::clone(&noting);
                tokio::spawn(async move {
                    noting.open.fetch_add(1, Ordering::SeqCst);
                    let _ = serve(stream, does, &noting).await;
                    noting.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn last(&self) -> String {
        self.seen.last.lock().unwrap().clone()
    }
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(event: &str) -> String {
    let event = format!("data: {event}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

async fn serve(mut stream: TcpStream, does: Does, seen: &Seen) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(request) = next_request(&mut stream, &mut read).await? else { return Ok(()) };
        if request.starts_with("GET /health") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        }
        seen.requests.fetch_add(1, Ordering::SeqCst);
        seen.last.lock().unwrap().clone_from(&request);
        let answer = match does {
            Does::Echo | Does::EchoAndClose => {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nkeep-alive: timeout=9\r\nx-replica: yes\r\n\r\n{request}",
                    request.len()
                )
            }
            Does::Nothing if request.starts_with("HEAD") => {
                "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n".to_owned()
            }
            Does::Nothing => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Does::DieBeforeHead => return Ok(()),
            Does::DieAfterHead => STREAM.to_owned(),
            Does::DieMidBody => format!("{STREAM}{}{}", chunk("one"), chunk("two")),
            Does::DieShort => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.".to_owned(),
            Does::Silent => String::new(),
            Does::Endless => STREAM.to_owned(),
            Does::FallSilent => format!("{STREAM}{}", chunk("one")),
        };
        stream.write_all(answer.as_bytes()).await?;
        match does {
            Does::Echo | Does::Nothing => {}
            Does::Silent | Does::FallSilent => {
                // Until the other side has had enough.
                while stream.read(&mut [0; 64]).await? > 0 {}
                return Ok(());
            }
            Does::Endless => loop {
                let data = chunk(&"x".repeat(8000));
                stream.write_all(data.as_bytes()).await?;
                seen.bytes_sent.fetch_add(data.len() as u64, Ordering::SeqCst);
            },
            _ => {
                // What was written must be read before the end is seen.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Ok(());
            }
        }
    }
}

/// A request as text, its chunks put together; `None` at the end of the connection.
async fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    let mut buffer = [0; 65_536];
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let length =
                lower.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if lower.contains("transfer-encoding: chunked") {
                if let (body, true) = unchunk(body) {
                    read.clear();
                    return Ok(Some(format!("{head}\r\n\r\n{body}")));
                }
            } else if body.len() >= length.unwrap_or(0) {
                read.clear();
                return Ok(Some(text));
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
}
