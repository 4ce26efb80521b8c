//! Replicas as units: against a stand-in for `systemctl`, and, where a person asks for it, against systemd itself.

use std::fs;
use std::process::Command;

use slackwater_exec::deployment::{Deployment, Place};
use slackwater_policy::VersionRef;

use super::crash::killed_again_and_again;
use super::fleet::{BINARY, Fleet, Front, Spec, exit, first_runs_new, first_runs_new_now, is_there, text};
use super::systemctl;

/// What a unit's file is edited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edited {
    DropIn,
    EnvironmentFile,
}

const UNIT: &str = "[Service]\nType=exec\nRestart=on-failure\nTimeoutStopSec=10\n";

fn fleet(edited: Edited, spec: &Spec) -> Fleet {
    let change = |written: String, fleet: &Fleet| {
        let program = systemctl::install(&fleet.path("systemd"));
        let folder = fleet.path("systemd");
        let mut supervisor =
            format!("[supervisor]\nkind = 'systemd'\nsystemctl = ['{}']\n", program.display());
        match edited {
            Edited::DropIn => supervisor.push_str(&format!("units = '{}'\n", folder.join("units").display())),
            Edited::EnvironmentFile => {
                supervisor.push_str(&format!("environment_file = '{}/{{name}}.env'\n", folder.display()));
            }
        }
        let mut text = written.replace("[engine]", &format!("{supervisor}\n[engine]"));
        if edited == Edited::EnvironmentFile {
            for version in ["from", "to"] {
                let at = text.find(&format!("[versions.{version}]\ncommand = ")).unwrap();
                let end = at + text[at..].find("\nidentity").unwrap();
                let model = if version == "from" { "/models/v1" } else { "/models/v2" };
                text.replace_range(at..end, &format!("[versions.{version}]\nenv = {{ MODEL = '{model}' }}"));
            }
        }
        for index in 0..spec.replicas {
            let name = format!("name = 'replica-{index}'\n");
            text = text.replace(&name, &format!("{name}unit = 'chat-{index}.service'\n"));
        }
        text
    };
    Fleet::start_by(spec, change, |fleet, deployment| {
        for place in &deployment.replicas {
            unit(fleet, deployment, place, edited);
            did(fleet, &["start", place.unit()]);
        }
    })
}

fn unit(fleet: &Fleet, deployment: &Deployment, place: &Place, edited: Edited) {
    let folder = fleet.path("systemd");
    let arguments = match edited {
        Edited::DropIn => deployment.arguments(place, VersionRef::From).unwrap().join(" "),
        Edited::EnvironmentFile => {
            let listen = place.url.trim_start_matches("http://");
            fs::write(
                folder.join(format!("{}.env", place.name)),
                "# the chat\nMODEL='/models/v1'\nTEAM=chat\n",
            )
            .unwrap();
            format!(
                "{BINARY} replica --listen {listen} --model ${{MODEL}} --engine a100-llama-3.1-8b --speed-up 20"
            )
        }
    };
    let mut text = format!("{UNIT}ExecStart={arguments}\n");
    if edited == Edited::EnvironmentFile {
        text.push_str(&format!("EnvironmentFile={}/{}.env\n", folder.display(), place.name));
    }
    fs::write(folder.join("units").join(place.unit()), text).unwrap();
}

fn did(fleet: &Fleet, arguments: &[&str]) -> String {
    let output = Command::new(fleet.path("systemd/systemctl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn drop_in(fleet: &Fleet, index: usize) -> Option<String> {
    fs::read_to_string(fleet.path(&format!("systemd/units/chat-{index}.service.d/50-slackwater.conf"))).ok()
}

#[test]
fn units_are_rolled_and_rolled_back_by_their_drop_ins() {
    if !is_there("nginx") {
        return;
    }
    let mut fleet = fleet(Edited::DropIn, &Spec::new(Front::Nginx, 3));
    let load = fleet.load(6);
    let dry = fleet.run(&["--dry-run"]);
    assert_eq!(exit(&dry), 0, "{}", text(&dry));
    for said in [
        "stop --no-block chat-0.service",
        "+ExecStart=",
        "--model /models/v2",
        "systemctl daemon-reload",
        "50-slackwater.conf",
    ] {
        assert!(text(&dry).contains(said), "{said}: {}", text(&dry));
    }
    assert_eq!(drop_in(&fleet, 0), None);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    let written = drop_in(&fleet, 2).unwrap();
    assert!(
        written.contains("ExecStart=\nExecStart=/") && written.contains("--model /models/v2"),
        "{written}"
    );
    assert_eq!(did(&fleet, &["show", "-p", "NeedDaemonReload", "chat-0"]), "NeedDaemonReload=no\n");

    fleet.turn_round();
    fleet.plan.rollout.soak = slackwater_policy::Span::from_secs(2);
    fleet.write_plan();
    let was = drop_in(&fleet, 0);
    let executor = fleet.spawn(&[]);
    fleet.until("one is changed", first_runs_new_now);
    assert_ne!(drop_in(&fleet, 0), was);
    assert_eq!(exit(&fleet.order("rollback")), 0);
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 4, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    assert_eq!(drop_in(&fleet, 0), was, "to the letter");
    let report = fleet.stop_load(load);
    eprintln!("systemd's stand-in: {} streams sent, {} completed", report.sent, report.completed);
    assert!(report.is_clean() && report.sent > 20, "{:?}", report.faults);
}

#[test]
fn units_are_rolled_by_their_environment_files_and_foreign_edits_are_seen() {
    let mut spec = Spec::new(Front::Gateway, 2);
    spec.soak = slackwater_policy::Span::from_secs(2);
    let mut fleet = fleet(Edited::EnvironmentFile, &spec);
    let file = |index: usize| fleet.path(&format!("systemd/replica-{index}.env"));
    let (first, second) = (file(0), file(1));
    let dry = fleet.run(&["--dry-run"]);
    assert!(
        text(&dry).contains("-MODEL='/models/v1'") && text(&dry).contains("+MODEL=/models/v2"),
        "{}",
        text(&dry)
    );
    let executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new);
    // Another line of the second one's file is changed: that is not to come into force by the way.
    let before = fs::read_to_string(&second).unwrap();
    fs::write(&second, before.replace("TEAM=chat", "TEAM=search")).unwrap();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(
        text(&output).contains("replica-1: ") && text(&output).contains("was edited by somebody else"),
        "{}",
        text(&output)
    );
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v1"], "it went back");
    fs::write(&second, before).unwrap();
    let output = fleet.resume(&["--go-on"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
    assert_eq!(fs::read_to_string(&first).unwrap(), "# the chat\nMODEL=/models/v2\nTEAM=chat\n");
    fleet.plan.rollout.soak = slackwater_policy::Span::from_millis(100);
    fleet.turn_round();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fs::read_to_string(&first).unwrap(), "# the chat\nMODEL=/models/v1\nTEAM=chat\n");
}

#[test]
fn an_executor_of_units_is_killed_and_goes_on_and_recover_sh_knows_them() {
    let mut fleet = fleet(Edited::DropIn, &Spec::new(Front::Gateway, 2));
    let kills = killed_again_and_again(&mut fleet, "systemd's stand-in", 16);
    assert!(kills > 2, "{kills}");

    if !is_there("curl") {
        return;
    }
    fleet.turn_round();
    let was = (fleet.roots(), [drop_in(&fleet, 0), drop_in(&fleet, 1)]);
    fleet.plan.rollout.soak = slackwater_policy::Span::from_secs(3);
    fleet.write_plan();
    let mut executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new_now);
    executor.kill().unwrap();
    executor.wait().unwrap();
    for _ in 0..2 {
        let output = Command::new(fleet.state().join("recover.sh")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!((fleet.roots(), [drop_in(&fleet, 0), drop_in(&fleet, 1)]), was);
    }
}

#[test]
fn units_that_would_fight_a_rollout_are_refused() {
    let fleet = fleet(Edited::DropIn, &Spec::new(Front::Gateway, 2));
    let path = fleet.path("systemd/units/chat-0.service");
    let good = fs::read_to_string(&path).unwrap();
    for (line, said) in [
        ("KillMode=process", "set KillMode=control-group"),
        ("RefuseManualStop=yes", "refuses to be stopped by hand"),
    ] {
        fs::write(&path, format!("{good}{line}\n")).unwrap();
        did(&fleet, &["daemon-reload"]);
        let output = fleet.run(&[]);
        assert_eq!(exit(&output), 5, "{}", text(&output));
        assert!(
            text(&output).contains(said) && text(&output).contains("replica-0"),
            "{said}: {}",
            text(&output)
        );
    }
    fs::write(&path, format!("{good}Restart=always\nTimeoutStopSec=1\n")).unwrap();
    did(&fleet, &["daemon-reload"]);
    let output = fleet.run(&["--dry-run"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(
        text(&output).contains("set TimeoutStopSec=2") && text(&output).contains("Restart=always"),
        "{}",
        text(&output)
    );
    // A drop-in of that name which somebody wrote by hand stays as it is.
    fs::create_dir_all(fleet.path("systemd/units/chat-0.service.d")).unwrap();
    let foreign = fleet.path("systemd/units/chat-0.service.d/50-slackwater.conf");
    fs::write(&foreign, "[Service]\nEnvironment=A=1\n").unwrap();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("which is neither version's"), "{}", text(&output));
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "[Service]\nEnvironment=A=1\n");
}

/// On a machine with a systemd of its own: `cargo test -p slackwater --test it run::systemd::systemd_itself -- --ignored --nocapture`, as
/// root. It makes two units `slackwater-test-N.service` in `/run/systemd/system`, and takes them away again.
#[test]
#[ignore = "needs a machine that systemd runs, and root"]
fn systemd_itself_rolls_units() {
    let running = Command::new("systemctl").arg("is-system-running").output();
    let state = running.map(|output| text(&output)).unwrap_or_default();
    assert!(["running", "degraded"].contains(&state.trim()), "this machine is not run by systemd: {state}");
    struct Units(Vec<String>);
    impl Drop for Units {
        fn drop(&mut self) {
            for unit in &self.0 {
                let _ = Command::new("systemctl").args(["stop", unit]).status();
                let _ = fs::remove_file(format!("/run/systemd/system/{unit}"));
                let _ = fs::remove_dir_all(format!("/run/systemd/system/{unit}.d"));
            }
            let _ = Command::new("systemctl").arg("daemon-reload").status();
        }
    }
    let units = Units((0..2).map(|index| format!("slackwater-test-{index}.service")).collect());
    let change = |written: String, _: &Fleet| {
        let supervisor = "[supervisor]\nkind = 'systemd'\nunits = '/run/systemd/system'\n";
        let mut text = written.replace("[engine]", &format!("{supervisor}\n[engine]"));
        for (index, unit) in units.0.iter().enumerate() {
            let name = format!("name = 'replica-{index}'\n");
            text = text.replace(&name, &format!("{name}unit = '{unit}'\n"));
        }
        text
    };
    let fleet = Fleet::start_by(&Spec::new(Front::Gateway, 2), change, |_, deployment| {
        for place in &deployment.replicas {
            let arguments = deployment.arguments(place, VersionRef::From).unwrap().join(" ");
            let path = format!("/run/systemd/system/{}", place.unit());
            fs::write(path, format!("{UNIT}ExecStart={arguments}\n")).unwrap();
        }
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
        for place in &deployment.replicas {
            assert!(Command::new("systemctl").args(["start", place.unit()]).status().unwrap().success());
        }
    });
    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
    assert!(fleet.stop_load(load).is_clean());
    drop(fleet);
}
