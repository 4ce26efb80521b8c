//! Replicas as services of a Docker Compose project, by the real program and an engine of the test's own.

use std::fs;
use std::process::{Command, Output, Stdio};

use slackwater_policy::VersionRef;

use super::crash::killed_again_and_again;
use super::dockerd::Dockerd;
use super::fleet::{BINARY, Fleet, Front, Spec, exit, first_runs_new_now, is_there, text};

/// What of the project is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edited {
    Env,
    Override,
}

/// Compose as it is here: the program of its own, or Docker's plug-in.
fn program() -> Option<Vec<&'static str>> {
    let works = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).arg("version").output();
        output.is_ok_and(|output| output.status.success())
    };
    if works(&["docker", "compose"]) {
        return Some(vec!["docker", "compose"]);
    }
    if works(&["docker-compose"]) {
        return Some(vec!["docker-compose"]);
    }
    // It fails the test where it must be there.
    is_there("docker-compose").then(|| vec!["docker-compose"])
}

fn compose(fleet: &Fleet, dockerd: &Dockerd, program: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg("--project-directory").arg(fleet.path("chat")).args(["-p", "chat"]);
    command.args(arguments).env("DOCKER_HOST", format!("unix://{}", dockerd.socket()));
    command.current_dir(fleet.path("chat")).stdin(Stdio::null()).output().unwrap()
}

fn fleet(dockerd: &Dockerd, program: &[&str], edited: Edited, spec: &Spec) -> Fleet {
    let change = |written: String, fleet: &Fleet| {
        let words: Vec<String> = program.iter().map(|word| format!("'{word}'")).collect();
        let file = match edited {
            Edited::Env => "env_file = '.env'",
            Edited::Override => "override_file = 'docker-compose.override.yml'",
        };
        let supervisor = format!(
            "[supervisor]\nkind = 'compose'\nprogram = [{}]\ndirectory = 'chat'\nproject = 'chat'\n{file}\nsocket = 'unix:{}'\n",
            words.join(", "),
            dockerd.socket()
        );
        let mut text = written.replace("[engine]", &format!("{supervisor}\n[engine]"));
        for (version, tag) in [("from", "v1"), ("to", "v2")] {
            let head = format!("[versions.{version}]\n");
            match edited {
                Edited::Override => {
                    text = text.replace(&head, &format!("{head}image = 'slackwater-test:{tag}'\n"));
                }
                Edited::Env => {
                    let at = text.find(&format!("{head}command = ")).unwrap() + head.len();
                    let end = at + text[at..].find("\nidentity").unwrap();
                    let variables = format!(
                        "image = 'slackwater-test:{tag}'\nenv = {{ \"{{slot}}_TAG\" = '{tag}', \"{{slot}}_MODEL\" = '/models/{tag}' }}"
                    );
                    text.replace_range(at..end, &variables);
                }
            }
        }
        let mut services = "services:\n".to_owned();
        let mut variables = "# tags of the chat\nSECRET=of somebody\n".to_owned();
        for (index, port) in fleet.ports.iter().enumerate() {
            let name = format!("name = 'replica-{index}'\n");
            text = text.replace(
                &name,
                &format!("{name}unit = 'chat{index}'\nvalues = {{ slot = 'CHAT_{index}' }}\n"),
            );
            let (tag, model) = match edited {
                Edited::Env => (format!("${{CHAT_{index}_TAG}}"), format!("${{CHAT_{index}_MODEL}}")),
                Edited::Override => ("v1".to_owned(), "/models/v1".to_owned()),
            };
            services.push_str(&format!(
                "  chat{index}:\n    image: slackwater-test:{tag}\n    network_mode: host\n    restart: unless-stopped\n    \
                 environment: {{ TEAM: chat }}\n    command: [\"/bin/slackwater\", replica, --listen, \"127.0.0.1:{port}\", --model, \
                 \"{model}\", --engine, a100-llama-3.1-8b, --speed-up, \"20\"]\n"
            ));
            variables.push_str(&format!("CHAT_{index}_TAG=v1\nCHAT_{index}_MODEL=/models/v1\n"));
        }
        fs::create_dir_all(fleet.path("chat")).unwrap();
        fs::write(fleet.path("chat/docker-compose.yml"), format!("version: '3.8'\n{services}")).unwrap();
        fs::write(fleet.path("chat/.env"), variables).unwrap();
        text.replace(&format!("'{BINARY}'"), "'/bin/slackwater'")
    };
    Fleet::start_by(spec, change, |fleet, deployment| {
        assert_eq!(deployment.versions.of(VersionRef::From).command.is_empty(), edited == Edited::Env);
        let output = compose(fleet, dockerd, program, &["up", "-d"]);
        assert!(output.status.success(), "{}", text(&output));
    })
}

fn rolled_and_rolled_back(edited: Edited) {
    if !is_there("nginx") {
        return;
    }
    let Some(dockerd) = Dockerd::start() else { return };
    let Some(program) = program() else { return };
    dockerd.import_stand_ins();
    let mut fleet = fleet(&dockerd, &program, edited, &Spec::new(Front::Nginx, 2));
    let file =
        fleet.path(if edited == Edited::Env { "chat/.env" } else { "chat/docker-compose.override.yml" });
    let load = fleet.load(6);
    let at_first = fs::read_to_string(&file).ok();
    let dry = fleet.run(&["--dry-run"]);
    assert_eq!(exit(&dry), 0, "{}", text(&dry));
    let difference = match edited {
        Edited::Env => "+CHAT_0_TAG=v2",
        Edited::Override => "+      \"image\": \"slackwater-test:v2\"",
    };
    for said in ["-p chat stop -t 2 chat0", "-p chat up -d --no-deps chat0", difference] {
        assert!(text(&dry).contains(said), "{said}: {}", text(&dry));
    }
    assert_eq!(fs::read_to_string(&file).ok(), at_first);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 2]);
    let new = fs::read_to_string(&file).unwrap();
    assert!(new.contains("v2") && !new.contains("v1"), "{new}");
    // The file is the truth: whoever brings the project up changes nothing.
    let ids = dockerd.did(&["ps", "-q"]);
    let output = compose(&fleet, &dockerd, &program, &["up", "-d"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(dockerd.did(&["ps", "-q"]), ids);

    fleet.turn_round();
    fleet.plan.rollout.soak = slackwater_policy::Span::from_secs(2);
    fleet.write_plan();
    let executor = fleet.spawn(&[]);
    fleet.until("one is changed", first_runs_new_now);
    assert_ne!(fs::read_to_string(&file).unwrap(), new);
    assert_eq!(exit(&fleet.order("rollback")), 0);
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 4, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 2]);
    assert_eq!(fs::read_to_string(&file).unwrap(), new, "to the letter");
    if edited == Edited::Env {
        let kept = fs::read_to_string(fleet.state().join("kept/definitions/replica-0.json")).unwrap();
        assert!(kept.contains("CHAT_0_TAG") && !kept.contains("of somebody"), "{kept}");
    }
    let report = fleet.stop_load(load);
    eprintln!("compose, {edited:?}: {} streams sent, {} completed", report.sent, report.completed);
    assert!(report.is_clean() && report.sent > 20, "{:?}", report.faults);
}

#[test]
fn services_are_rolled_and_rolled_back_by_their_variables() {
    rolled_and_rolled_back(Edited::Env);
}

#[test]
fn services_are_rolled_and_rolled_back_by_an_override_file() {
    rolled_and_rolled_back(Edited::Override);
}

#[test]
fn an_executor_of_services_is_killed_and_goes_on_and_recover_sh_knows_them() {
    let Some(dockerd) = Dockerd::start() else { return };
    let Some(program) = program() else { return };
    dockerd.import_stand_ins();
    let mut fleet = fleet(&dockerd, &program, Edited::Env, &Spec::new(Front::Gateway, 2));
    let kills = killed_again_and_again(&mut fleet, "compose", 32);
    assert!(kills > 1, "{kills}");

    if !is_there("curl") {
        return;
    }
    fleet.turn_round();
    let file = fleet.path("chat/.env");
    let variables = || fs::read_to_string(&file).unwrap();
    let was = (fleet.roots(), variables());
    fleet.plan.rollout.soak = slackwater_policy::Span::from_secs(3);
    fleet.write_plan();
    let mut executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new_now);
    executor.kill().unwrap();
    executor.wait().unwrap();
    assert_ne!(variables(), was.1);
    for _ in 0..2 {
        let output = Command::new(fleet.state().join("recover.sh")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!((fleet.roots(), variables()), was);
    }
}
