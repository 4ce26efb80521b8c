//! Whole rollouts under the load of a client that nobody here wrote: wrk counts what is not 2xx, and a response that ends before its last
//! chunk is a read error to it. It does not look into a stream: the client of `load/`, which looks at every token, is beside it.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::fleet::{Fleet, Front, Spec, is_there};
use super::rollouts::{how_many, rolled};

/// What wrk sends, and its summary as JSON.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
local tokens = 20
request = function()
  tokens = 20 + (tokens * 7 + 11) % 180
  return wrk.format(nil, nil, nil, string.format(
    '{"model":"chat","messages":[{"role":"user","content":"How high is the tide?"}],"max_tokens":%d,"ignore_eos":true,"stream":true}', tokens))
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.bytes, errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
"#;

/// wrk at work; ended with the test, whatever comes of it.
struct Wrk(Option<Child>);

impl Wrk {
    /// Eight streams at a time, on two threads.
    fn start(fleet: &Fleet) -> Wrk {
        let script = fleet.path("wrk.lua");
        fs::write(&script, SCRIPT).unwrap();
        let mut command = Command::new("wrk");
        command.args(["--threads", "2", "--connections", "8", "--duration", "3600", "--timeout", "120"]);
        if fleet.kind == Front::Nginx {
            // As in `Fleet::load_with`: a reload closes idle connections, which is no matter of draining.
            command.args(["--header", "Connection: close"]);
        }
        command.arg("--script").arg(script).arg(format!("http://127.0.0.1:{}", fleet.front));
        Wrk(Some(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()))
    }

    /// Its summary: an interrupt ends it as its time does.
    fn stop(mut self) -> serde_json::Value {
        let child = self.0.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = said.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(summary.unwrap_or_else(|| panic!("wrk said no summary: {said}"))).unwrap()
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn nothing_is_lost(front: Front) {
    if !is_there("wrk") {
        return;
    }
    let mut fleet = Fleet::start(&Spec::new(front, 4));
    let wrk = Wrk::start(&fleet);
    let ours = fleet.load(4);
    rolled(&mut fleet, how_many());
    let counted = wrk.stop();
    let report = fleet.stop_load(ours);
    eprintln!(
        "{front:?}: {} rollouts of 4; wrk {counted}; beside it {} streams sent, {} completed",
        how_many(),
        report.sent,
        report.completed
    );
    for what in ["status", "connect", "read", "write", "timeout"] {
        assert_eq!(counted[what], 0, "{front:?}, {what}: {counted}");
    }
    assert!(counted["requests"].as_u64().unwrap() > 50, "{front:?}: {counted}");
    assert!(report.is_clean() && report.sent > 50, "{front:?}: {:?}", report.faults);
}

#[test]
fn nothing_is_lost_of_another_client_behind_the_gateway() {
    nothing_is_lost(Front::Gateway);
}

#[test]
fn nothing_is_lost_of_another_client_behind_nginx() {
    if is_there("nginx") {
        nothing_is_lost(Front::Nginx);
    }
}

#[test]
fn nothing_is_lost_of_another_client_behind_haproxy() {
    if is_there("haproxy") {
        nothing_is_lost(Front::Haproxy);
    }
}

#[test]
fn wrk_counts_a_stream_that_breaks() {
    if !is_there("wrk") {
        return;
    }
    // Else its zeroes would mean nothing.
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2).old_fault("dies-mid-stream=150"));
    let wrk = Wrk::start(&fleet);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let counted = wrk.stop();
    assert!(counted["read"].as_u64().unwrap() > 0, "{counted}");
    assert!(
        counted["status"].as_u64().unwrap() > 0,
        "with both dead the gateway answers 502 or 503: {counted}"
    );
}
