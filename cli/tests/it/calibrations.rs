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
        let has = |word: &str| arguments.iter().any(|argument| argument == word);
        has(mark) && has("replica") && !has("calibrate")
    })
}

#[test]
fn restarts_of_a_stand_in_become_the_keys_of_a_scenario() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("fleet.toml");
    let text = "[fleet]\nreplicas = 3\n[from]\nengine = 'a100-llama-3.1-8b'\n[to]\n# As long as it seems.\nstartup = '90s'\n\
                [traffic.generate]\nrate_per_s = 1.0\nduration = '10m'\n";
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

/// Half an hour of a replica, scraped every fifteen seconds: its steps take 10 ms and 0.2 ms more for each sequence, which swing between
/// 2 and 40.
fn scraped(now_s: f64) -> String {
    let names = [
        "vllm:inter_token_latency_seconds_sum",
        "vllm:inter_token_latency_seconds_count",
        "vllm:time_to_first_token_seconds_sum",
        "vllm:time_to_first_token_seconds_count",
        "vllm:e2e_request_latency_seconds_sum",
        "vllm:e2e_request_latency_seconds_count",
        "vllm:prompt_tokens_total",
    ];
    let mut counted = [0.0; 7];
    let mut points = vec![String::new(); names.len()];
    let keyed = slackwater_scenarios::Keyed::new(9);
    for scrape in 0..118_u32 {
        let decoding = 21.0 - 19.0 * (f64::from(scrape) / 9.0).cos();
        // Clocks and machines are off by a little.
        let off = 1.0 + 0.01 * (2.0 * keyed.uniform("clock", &[u64::from(scrape)]) - 1.0);
        let gap_s = (0.010 + 0.0002 * decoding) * off;
        let gaps = decoding * 15.0 / gap_s;
        let requests = gaps / 99.0;
        let up = [
            decoding * 15.0,
            gaps,
            0.03 * requests,
            requests,
            (99.0 * gap_s + 0.03) * requests,
            requests,
            10.0 * requests,
        ];
        for (total, up) in counted.iter_mut().zip(up) {
            *total += up;
        }
        let at_s = now_s - 1785.0 + 15.0 * f64::from(scrape);
        for (points, total) in points.iter_mut().zip(counted) {
            let _ = write!(points, "{}[{at_s:.3},\"{total}\"]", if points.is_empty() { "" } else { "," });
        }
    }
    let rows: Vec<String> = names
        .iter()
        .zip(points)
        .map(|(name, points)| {
            format!(
                "{{\"metric\":{{\"__name__\":\"{name}\",\"instance\":\"a:8000\"}},\"values\":[{points}]}}"
            )
        })
        .collect();
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}}}",
        rows.join(",")
    )
}

#[test]
fn what_a_prometheus_server_has_recorded_is_fitted_and_marked_as_watched() {
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let (listener, answer) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), scraped(now_s));
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            for _ in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {}
            let body = if first.contains("increase") {
                "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}"
            } else {
                answer.as_str()
            };
            let mut stream = &stream;
            // One that goes away in the middle is no fault of the test.
            let _ = std::io::Write::write_all(
                &mut stream,
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("engine.toml");
    let arguments = [
        "calibrate",
        "--passive",
        "--prometheus",
        &url,
        "--for",
        "1800",
        "--out",
        out.to_str().expect("plain"),
    ];
    let output = slackwater(&arguments);
    let (told, said) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{said}");
    assert!(
        told.contains("rougher than a measurement") && told.contains("they are taken to be all alike"),
        "{told}"
    );
    let profile: toml::Table = fs::read_to_string(&out).expect("written").parse().expect("TOML");
    let number = |name: &str| profile[name].as_float().expect("a number");
    assert!(
        (number("c0_ms") / 10.0 - 1.0).abs() < 0.05 && (number("c_seq_us") / 200.0 - 1.0).abs() < 0.1,
        "{told}"
    );
    let calibration = profile["calibration"].as_table().expect("it was fitted");
    assert_eq!(calibration["watched"].as_bool(), Some(true));
    assert!(profile["source"].as_str().expect("text").starts_with("watched only, so rougher"), "{profile}");
    let unknown = calibration["not_identified"].as_array().expect("a list");
    assert!(
        unknown.iter().any(|name| name.as_str() == Some("c_kv_us")),
        "no gauge tells of contexts: {profile}"
    );
}

/// NVML by a library that the test builds; the stand-in holds the memory of the second of two GPUs.
#[test]
fn a_server_on_this_machine_has_its_gpu_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let gpus = folder.path().join("gpus");
    fs::create_dir_all(gpus.join("held")).expect("a folder");
    fs::write(gpus.join("gpus"), "0 8192 Fake-GPU\n1 81559 NVIDIA H100 80GB HBM3\n").expect("written");
    if !crate::run::fake_nvml(&gpus, &folder.path().join("libnvidia-ml.so.1")) {
        println!("skipped: no C compiler (cc)");
        return;
    }
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut server = Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args([
            "replica",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--gpu",
            "1",
            "--gpu-memory",
            "50000",
            "--fake-gpu",
        ])
        .arg(&gpus)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let asked = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_slackwater"))
            .args(["calibrate", "--passive", "--dry-run", "--url", &url])
            .args(more)
            .env("LD_LIBRARY_PATH", folder.path())
            .output()
            .expect("it runs");
        (output.status.success(), stderr(&output))
    };
    let began = std::time::Instant::now();
    let said = loop {
        let (done, said) = asked(&[]);
        if done || began.elapsed().as_secs() > 60 {
            break said;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let (_, told) = asked(&["--gpu", "H200"]);
    server.kill().expect("it is there");
    server.wait().expect("it ends");
    let expected = "GPU: NVIDIA H100 80GB HBM3, 81559 MiB, driver 999.1; its preset is H100.";
    assert!(said.contains(expected), "{said}");
    assert!(!told.contains("driver"), "what was told is not asked for: {told}");
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
            &[
                "calibrate",
                "--startup",
                "--url",
                "http://127.0.0.1:1",
                "--state",
                env!("CARGO_TARGET_TMPDIR"),
                "--",
                "/no/such/engine",
            ],
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
