//! Orders from another terminal, signals, two executors, and the way without Slackwater.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::fleet::{Fleet, Front, Spec, exit, first_runs_new, is_there, text};

fn serving(status: &serde_json::Value) -> u64 {
    status["status"]["serving"].as_u64().unwrap_or(0)
}

/// A fleet slow enough for orders to come in the middle.
fn slow(replicas: usize) -> Fleet {
    let mut spec = Spec::new(Front::Gateway, replicas);
    spec.soak = slackwater_policy::Span::from_secs(2);
    Fleet::start(&spec)
}

#[test]
fn pause_holds_with_all_serving_and_resume_goes_on() {
    let fleet = slow(3);
    let deployment = fleet.deployment_path().display().to_string();
    let plan = fleet.plan_path().display().to_string();
    let mut executor = Command::new(super::fleet::BINARY)
        .args(["run", &plan, "--deployment", &deployment, "--yes"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    fleet.until("under way", first_runs_new);
    let socket = fleet.state().join("control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(exit(&fleet.order("pause")), 0);
    let settled = |status: &serde_json::Value| status["status"]["phase"]["holding"]["settled"] == true;
    let status = fleet.until("held", settled);
    assert_eq!(serving(&status), 3, "{status}");
    assert!(status["says"].as_str().unwrap().contains("slackwater resume"), "{status}");
    assert_eq!(exit(&fleet.order("resume")), 0);
    assert_eq!(executor.wait().unwrap().code(), Some(0));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    let history = fleet.slackwater(&["history", "--deployment", &deployment]);
    assert!(text(&history).contains("v1 to v2: Completed, 3 moves"), "{}", text(&history));
}

#[test]
fn rollback_and_abort_work_from_the_middle() {
    for (order, code, first) in [("rollback", 4, "/models/v1"), ("abort", 4, "/models/v2")] {
        let fleet = slow(2);
        let executor = fleet.spawn(&[]);
        fleet.until("under way", first_runs_new);
        assert_eq!(exit(&fleet.order(order)), 0);
        let output = executor.wait_with_output().unwrap();
        assert_eq!(exit(&output), code, "{order}: {}", text(&output));
        assert_eq!(fleet.roots(), [first, "/models/v1"], "{order}");
    }
}

#[test]
fn approval_is_asked_for_and_given() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let deployment = fleet.deployment_path().display().to_string();
    let plan = fleet.plan_path().display().to_string();
    let mut executor = Command::new(super::fleet::BINARY)
        .args(["run", &plan, "--deployment", &deployment, "--yes", "--approve", "first"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    fleet.until("approval is wanted", |status| status["status"]["phase"]["holding"]["reason"] == "approval");
    assert_eq!(exit(&fleet.order("approve")), 0);
    assert_eq!(executor.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupt_ends_with_all_serving_and_resume_finishes() {
    let fleet = slow(3);
    let load = fleet.load(6);
    let executor = fleet.spawn(&[]);
    fleet.until("under way", first_runs_new);
    let pid = Pid::from_child(&executor);
    // A lost terminal changes nothing.
    kill_process(pid, Signal::HUP).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("the terminal is gone; the rollout goes on"), "{}", text(&output));
    assert!(text(&output).contains("holds: a person said pause"), "{}", text(&output));
    assert_eq!(serving(&fleet.status()), 3);
    let output = fleet.resume(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(fleet.stop_load(load).is_clean());
}

#[test]
fn a_second_executor_is_refused_and_one_that_was_taken_over_stops_itself() {
    let fleet = slow(2);
    let first = fleet.spawn(&[]);
    fleet.until("under way", |status| status["pid"].is_number());
    let second = fleet.resume(&[]);
    assert_eq!(exit(&second), 5, "{}", text(&second));
    assert!(text(&second).contains(&format!("process {}", first.id())), "{}", text(&second));

    // The first one is stuck, and taken over.
    let pid = Pid::from_child(&first);
    kill_process(pid, Signal::STOP).unwrap();
    let taken = fleet.resume(&["--take-over"]);
    assert_eq!(exit(&taken), 0, "{}", text(&taken));
    kill_process(pid, Signal::CONT).unwrap();
    let output = first.wait_with_output().unwrap();
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("another executor has taken over"), "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}

#[test]
fn the_dry_run_says_all_and_does_nothing() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let before = fleet.pids();
    let output = fleet.run(&["--dry-run"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    for said in
        ["replica-1: start", "--model /models/v2", "PATCH /replicas/NAME", "TERM, then KILL", "#!/bin/sh"]
    {
        assert!(text(&output).contains(said), "{said}: {}", text(&output));
    }
    assert_eq!((fleet.pids(), fleet.roots()), (before, vec!["/models/v1".to_owned(); 2]));
    assert!(!fleet.state().join("recover.sh").exists());
}

#[test]
fn recover_sh_restores_the_old_version_without_slackwater() {
    for front in [Front::Gateway, Front::Nginx, Front::Haproxy] {
        let needed = match front {
            Front::Gateway => "curl",
            Front::Nginx => "nginx",
            Front::Haproxy => "haproxy",
        };
        if !is_there(needed) {
            continue;
        }
        let mut spec = Spec::new(front, 2);
        spec.new = vec!["--startup".to_owned(), "2s".to_owned()];
        let fleet = Fleet::start(&spec);
        let mut executor = fleet.spawn(&[]);
        // The second one is out of rotation and not yet up when the executor dies.
        fleet.until("one is new, one on its way", |status| {
            first_runs_new(status) && status["status"]["replicas"][1]["state"] == "starting"
        });
        executor.kill().unwrap();
        executor.wait().unwrap();
        let output = Command::new(fleet.state().join("recover.sh")).output().unwrap();
        assert!(output.status.success(), "{front:?}: {}", text(&output));
        assert_eq!(fleet.roots(), ["/models/v1", "/models/v1"], "{front:?}");
        let load = fleet.load(4);
        std::thread::sleep(std::time::Duration::from_secs(1));
        let report = fleet.stop_load(load);
        assert!(report.is_clean() && report.sent > 0, "{front:?}: {:?}", report.faults);
        assert_eq!(report.by_label.len(), 1, "{front:?}: one version answers: {:?}", report.by_label);
    }
}

#[test]
fn detached_it_goes_on_by_itself() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let output = fleet.run(&["--detach"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("running in the background"), "{}", text(&output));
    fleet.until("over", |status| status["status"]["phase"]["ended"]["outcome"] == "completed");
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}
