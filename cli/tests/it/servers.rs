//! `slackwater gateway` and `slackwater replica` as processes: what they print, how they end, what signals do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{at, slackwater, stderr, stdout};

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that is killed if the test does not see it end.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    /// What it printed before that, and what it prints from then on.
    before: Vec<String>,
    lines: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_slackwater"))
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        let printed = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self { child, address: String::new(), before: Vec::new(), lines };
        let listening = running.wait_for("listening on http://");
        running.address = listening["listening on http://".len()..].to_owned();
        running
    }

    /// The next line that begins so.
    fn wait_for(&mut self, beginning: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(beginning) => return line,
                Ok(line) => self.before.push(line),
                Err(_) => panic!("it never said `{beginning}`: {:?}", self.before),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    fn ended(&mut self) -> ExitStatus {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }

    /// A request that closes its connection; the response as it came.
    fn call(&self, method: &str, path: &str, body: &str) -> String {
        call(&self.address, method, path, body)
    }

    fn is_healthy(&self) -> bool {
        self.call("GET", "/health", "").starts_with("HTTP/1.1 200")
    }

    fn until_healthy(&self) {
        let since = Instant::now();
        while !self.is_healthy() {
            assert!(since.elapsed() < PATIENCE, "it does not get healthy");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn call(address: &str, method: &str, path: &str, body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(request.as_bytes());
    let mut all = Vec::new();
    // A response that breaks off is what it is.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

const ANY: [&str; 3] = ["replica", "--listen", "127.0.0.1:0"];

fn replica(more: &[&str]) -> Running {
    Running::start(&[&ANY, more].concat())
}

#[test]
fn a_replica_loads_serves_and_ends_with_0_at_sigterm() {
    let mut server = replica(&["--model", "/models/v1", "--startup", "weights=200ms,compile=100ms"]);
    assert!(!server.is_healthy());
    server.wait_for("loading: compile");
    server.wait_for("ready");
    assert!(server.call("GET", "/v1/models", "").contains("/models/v1"));
    let address = server.address.clone();
    let body = "{\"prompt\":\"a\",\"max_tokens\":5000,\"ignore_eos\":true,\"stream\":true}";
    let asking = std::thread::spawn(move || call(&address, "POST", "/v1/completions", body));
    while !server
        .call("GET", "/metrics", "")
        .contains("vllm:num_requests_running{model_name=\"chat\",engine=\"0\"} 1")
    {}
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    let answer = asking.join().expect("the client does not panic");
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n")
    );
}

#[test]
fn with_a_timeout_it_drains() {
    let mut server = replica(&["--shutdown-timeout", "60s"]);
    server.until_healthy();
    let address = server.address.clone();
    let body = "{\"prompt\":\"a\",\"max_tokens\":60,\"ignore_eos\":true,\"stream\":true}";
    let asking = std::thread::spawn(move || call(&address, "POST", "/v1/completions", body));
    while !server
        .call("GET", "/metrics", "")
        .contains("vllm:num_requests_running{model_name=\"chat\",engine=\"0\"} 1")
    {}
    server.signal(Signal::TERM);
    server.wait_for("draining");
    assert_eq!(server.ended().code(), Some(0));
    assert!(asking.join().expect("the client does not panic").contains("[DONE]"));
}

#[test]
fn faults_end_the_process_or_keep_it() {
    let mut crashes = replica(&["--startup", "100ms", "--fault", "crash-while-loading"]);
    assert_eq!(crashes.ended().code(), Some(1));
    crashes.wait_for("error: crash-while-loading");

    let mut dies = replica(&["--fault", "dies-mid-stream=3"]);
    dies.until_healthy();
    let answer = dies.call("POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":9,\"stream\":true}");
    assert!(!answer.contains("[DONE]"));
    assert_eq!(dies.ended().code(), Some(1));

    let mut deaf = replica(&["--fault", "ignore-sigterm"]);
    deaf.until_healthy();
    deaf.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    assert!(deaf.is_healthy());
    deaf.signal(Signal::KILL);
    assert_eq!(deaf.ended().code(), None);
}

#[test]
fn memory_of_a_killed_replica_is_free_at_once_or_lingers() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let gpus = folder.path().join("gpus");
    let path = gpus.to_str().expect("it is UTF-8");
    let free = || slackwater_replica::fake_gpu::read(&gpus).expect("it was made")[3].free_mib();
    let claim = ["--fake-gpu", path, "--gpu", "3", "--gpu-memory", "50000"];
    let mut server = replica(&claim);
    server.until_healthy();
    assert_eq!(free(), 80 * 1024 - 50_000);
    let mut second = replica(&claim);
    assert_eq!(second.ended().code(), Some(1));
    second.wait_for("error: free memory on fake GPU 3");
    server.signal(Signal::KILL);
    server.ended();
    assert_eq!(free(), 80 * 1024);

    let mut server = replica(&[&claim[..], &["--fault", "lingering-memory=1s"]].concat());
    server.until_healthy();
    server.signal(Signal::KILL);
    server.ended();
    assert_eq!(free(), 80 * 1024 - 50_000, "the process is gone, its memory is not");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(free(), 80 * 1024);
}

#[test]
fn a_gateway_over_replicas_and_its_log_as_a_trace() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let log = folder.path().join("access.log");
    let socket = folder.path().join("admin.sock");
    let (one, two) = (replica(&["--model", "v1"]), replica(&["--model", "v2"]));
    one.until_healthy();
    two.until_healthy();
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "access_log = {log:?}\n[[replica]]\nname = \"r0\"\nurl = \"http://127.0.0.1:1\"\n\
         [[replica]]\nname = \"r1\"\nurl = \"http://{}\"\nversion = \"v2\"\n[health]\ninterval = 0.1\n",
        two.address
    );
    std::fs::write(&config, text).expect("it can be written");
    let mut gateway = Running::start(&[
        "gateway",
        "--config",
        config.to_str().expect("it is UTF-8"),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        socket.to_str().expect("it is UTF-8"),
        "--replica",
        &format!("r0=http://{}", one.address),
    ]);
    assert!(gateway.before.iter().any(|line| line.starts_with("admin on ")), "{:?}", gateway.before);
    let mut labels = String::new();
    for _ in 0..6 {
        let body = "{\"prompt\":[1,2,3],\"max_tokens\":4,\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
        let answer = gateway.call("POST", "/v1/completions", body);
        assert!(answer.contains("[DONE]"), "{answer}");
        labels.push_str(if answer.contains("v1-") { "1" } else { "2" });
    }
    assert!(labels.contains('1') && labels.contains('2'), "both take their part: {labels}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(!socket.exists());

    let inspected = slackwater(&["trace", "inspect", log.to_str().expect("it is UTF-8"), "--json"]);
    assert!(inspected.status.success(), "{}", stderr(&inspected));
    let figures: serde_json::Value = serde_json::from_str(&stdout(&inspected)).expect("it is JSON");
    let text = figures.to_string();
    assert!(text.contains("nginx-json"), "{text}");
    assert_eq!(at(&figures, "import.arrivals"), &serde_json::json!(6), "{text}");
}

#[test]
fn mistakes_are_named() {
    for (arguments, code, said) in [
        (&["gateway"][..], 1, "--replica"),
        (&["gateway", "--replica", "r0=https://a:1", "--listen", "127.0.0.1:0"], 1, "without TLS"),
        (&["gateway", "--admin", "0.0.0.0:9", "--replica", "r0=http://a:1"], 2, "loopback"),
        (&["gateway", "--config", "/nonexistent.toml"], 1, "/nonexistent.toml"),
        (&["replica", "--engine", "h100"], 1, "h100-qwen3-14b"),
        (&["replica", "--fault", "slow"], 2, "slow=3"),
        (&["replica", "--speed-up", "0"], 1, "0.001 to 1000"),
        (&["replica", "--listen", "192.0.2.1:1"], 1, "192.0.2.1:1"),
        (&["replica", "--gpu", "1"], 2, "--fake-gpu"),
    ] {
        let output = slackwater(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
}
