//! `slackwater calibrate` where it does not load a server: watched ones, logs, restarts.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{slackwater, stderr, stdout};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

fn replica(port: u16) -> Vec<String> {
    let own = env!("CARGO_BIN_EXE_slackwater");
    [own, "replica", "--listen", &format!("127.0.0.1:{port}"), "--startup", "weights=300ms,compile=200ms"]
        .map(str::to_owned)
        .to_vec()
}

fn runs(mark: &str) -> bool {
    slackwater_exec::procfs::pids().into_iter().any(|pid| {
        let arguments = slackwater_exec::procfs::arguments(pid);
        arguments.iter().any(|argument| argument == mark) && arguments.iter().any(|it| it == "replica")
    })
}

#[test]
fn restarts_of_a_stand_in_become_the_keys_of_a_scenario() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("fleet.toml");
    let text = "[fleet]\nreplicas = 3\n[from]\nengine = 'a100-llama-3.1-8b'\n[to]\n# As long as it seems.\nstartup = '90s'\n\
                [traffic.generate]\nrate = 1.0\nduration = '10m'\n";
    fs::write(&scenario, text).expect("written");
    let port = free_port();
    let (url, state) = (format!("http://127.0.0.1:{port}"), folder.path().join("state"));
    let mut arguments: Vec<String> =
        ["calibrate", "--startup", "--times", "3", "--url", &url, "--state"].map(str::to_owned).to_vec();
    arguments.push(state.display().to_string());
    arguments.extend(["--update".to_owned(), scenario.display().to_string(), "--".to_owned()]);
    arguments.extend(replica(port));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = slackwater(&arguments);
    let (told, said) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{said}");
    assert!(
        told.contains("[to]\nstartup = ") && told.contains("warm_up = ") && told.contains("stop = "),
        "{told}"
    );
    assert!(told.contains("measured in 3 starts"), "{told}");
    assert!(told.contains("# weights") && told.contains("0.30 s") && told.contains("# compile"), "{told}");
    let changed = fs::read_to_string(folder.path().join("fleet.measured.toml")).expect("a copy");
    assert!(
        changed.contains("# As long as it seems.") && changed.contains("# measured in 3 starts"),
        "{changed}"
    );
    let value: toml::Table = changed.parse().expect("TOML");
    let startup = &value["to"]["startup"];
    let median = startup.get("median").unwrap_or(startup).as_str().expect("a duration").to_owned();
    let median: slackwater_scenarios::HumanDuration = median.parse().expect("a duration");
    assert!((0.5..5.0).contains(&median.as_secs_f64()), "loading takes half a second: {changed}");
    assert!(!runs(&format!("127.0.0.1:{port}")), "nothing stays");
}

#[test]
fn ctrl_c_stops_what_was_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args(["calibrate", "--startup", "--url", &format!("http://127.0.0.1:{port}"), "--state"])
        .arg(folder.path())
        .arg("--")
        .args(replica(port).iter().map(|word| if word.starts_with("weights") { "1h" } else { word }))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let address = format!("127.0.0.1:{port}");
    let began = std::time::Instant::now();
    while !runs(&address) {
        assert!(began.elapsed().as_secs() < 60, "the stand-in is started");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it is there");
    let said: Vec<String> =
        BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(said.iter().any(|line| line.contains("interrupted in start 1")), "{said:?}");
    assert!(!runs(&address), "no process stays");
}

#[test]
fn a_log_tells_its_phases_and_one_that_does_not_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("vllm.log");
    fs::write(&log, "INFO [default_loader.py:384] Loading weights took 24.84 seconds\n").expect("written");
    let path = log.to_str().expect("plain");
    let output = slackwater(&["calibrate", "--startup-log", path]);
    assert!(output.status.success() && stdout(&output).contains("24.84 s"), "{}", stderr(&output));
    fs::write(&log, "ready\n").expect("written");
    let output = slackwater(&["calibrate", "--startup-log", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Loading weights took"), "{}", stderr(&output));
}

/// The engine model itself behind a gateway that logs: its requests replayed are a fit.
#[test]
fn a_gateways_log_is_fitted_like_a_measurement() {
    use slackwater_calibrate::{Description, Drive, Experiment, Row, replay};
    let truth = slackwater_scenarios::EngineProfile::built_in("h100-qwen3-14b").expect("built in");
    let keyed = slackwater_scenarios::Keyed::new(3);
    let mut at = 0.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rows = (0..240_u64).map(|index| {
        at -= (1.0 - keyed.uniform("gap", &[index])).ln() / 5.0;
        Row {
            arrival_s: at,
            scheduled_s: None,
            input_tokens: 100 + (2000.0 * keyed.uniform("in", &[index])) as u32,
            output_tokens: 20 + (150.0 * keyed.uniform("out", &[index])) as u32,
            prompt: None,
            answer: None,
        }
    });
    let experiment = Experiment {
        name: "r0".to_owned(),
        about: Description::default(),
        rows: rows.collect(),
        assumed: Vec::new(),
        hash: String::new(),
    };
    let answers = replay(&experiment, &truth, Drive::Open, 1).expect("it holds them");
    let mut log = String::new();
    for (row, answer) in experiment.rows.iter().zip(answers) {
        let answer = answer.answer.expect("answered");
        let _ = writeln!(
            log,
            "{{\"msec\":\"{:.6}\",\"request_time\":\"{:.6}\",\"status\":200,\"request_method\":\"POST\",\"input_tokens\":{},\
             \"output_tokens\":{},\"replica\":\"r0\",\"tries\":1,\"outcome\":\"completed\",\"ttft\":\"{:.6}\"}}",
            1_767_571_200.0 + row.arrival_s + answer.e2e_s,
            answer.e2e_s,
            row.input_tokens,
            row.output_tokens,
            answer.ttft_s
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, out) = (folder.path().join("access.log"), folder.path().join("engine.toml"));
    fs::write(&file, log).expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("plain").to_owned();
    let output = slackwater(&["calibrate", "--passive", "--log", &path(&file), "--out", &path(&out)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let profile: toml::Table = fs::read_to_string(&out).expect("written").parse().expect("TOML");
    assert_eq!(profile["calibration"]["watched"].as_bool(), Some(true));
    let off = profile["calibration"]["hold_out"]["tpot_mean"].as_float().expect("held out");
    assert!(off.abs() < 0.05, "{profile}");
}

#[test]
fn mistakes_in_watching_are_named() {
    for (arguments, code, said) in [
        (&["calibrate"][..], 2, "--url"),
        (&["calibrate", "--passive"], 2, "--url"),
        (&["calibrate", "--url", "http://127.0.0.1:1", "--for", "20"], 2, "--passive"),
        (&["calibrate", "--passive", "--url", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (
            &["calibrate", "--passive", "--prometheus", "http://127.0.0.1:1", "--url", "http://a:1"],
            2,
            "cannot be used with",
        ),
        (&["calibrate", "--passive", "--log", "/no/such/log"], 1, "/no/such/log"),
        (&["calibrate", "--startup", "--url", "http://127.0.0.1:1"], 2, "COMMAND"),
        (
            &["calibrate", "--startup", "--url", "http://127.0.0.1:1", "--", "/no/such/engine"],
            1,
            "/no/such/engine",
        ),
        (&["calibrate", "--startup", "--url", "ftp://a", "--", "true"], 1, "ftp://a"),
    ] {
        let output = slackwater(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
}
