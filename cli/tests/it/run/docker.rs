//! Replicas in Docker containers, by an engine of the test's own.

use std::path::Path;
use std::process::Command;

use slackwater_exec::deployment::{Deployment, SupervisorSpec};
use slackwater_exec::supervisor::{Docker, Supervisor};
use slackwater_policy::VersionRef;

use super::crash::killed_again_and_again;
use super::dockerd::Dockerd;
use super::fleet::{BINARY, Fleet, Front, Spec, exit, first_runs_new, first_runs_new_now, is_there, text};

/// A fleet whose replicas are containers `chat-0`, `chat-1`, ….
fn fleet(dockerd: &Dockerd, spec: &Spec) -> Fleet {
    let change = |written: String, _: &Fleet| in_containers(&written, &dockerd.socket());
    Fleet::start_by(spec, change, |_, deployment| {
        for place in &deployment.replicas {
            let arguments = deployment.arguments(place, VersionRef::From).unwrap();
            let mut command =
                vec!["run", "-d", "--name", place.unit(), "--network", "host", "--restart", "unless-stopped"];
            command.extend(["-e", "TEAM=chat", "-v", "/cache", "--label", "team=chat", "slackwater-test:v1"]);
            command.extend(arguments.iter().map(String::as_str));
            dockerd.did(&command);
        }
    })
}

/// A deployment of processes as one of containers.
fn in_containers(written: &str, socket: &str) -> String {
    let mut text = written
        .replace(&format!("'{BINARY}'"), "'/bin/slackwater'")
        .replace("[engine]", &format!("[supervisor]\nkind = 'docker'\nsocket = 'unix:{socket}'\n\n[engine]"))
        .replace("[versions.from]\n", "[versions.from]\nimage = 'slackwater-test:v1'\n")
        .replace("[versions.to]\n", "[versions.to]\nimage = 'slackwater-test:v2'\n");
    for index in 0..4 {
        text = text.replace(
            &format!("name = 'replica-{index}'\n"),
            &format!("name = 'replica-{index}'\nunit = 'chat-{index}'\n"),
        );
    }
    text
}

fn image(dockerd: &Dockerd, name: &str) -> String {
    dockerd.did(&["container", "inspect", "-f", "{{.Config.Image}} {{.State.Running}}", name])
}

/// What must be the same of a container that was there before, and of one that was made like it.
fn host_part(container: &serde_json::Value) -> serde_json::Value {
    let mut host = container["HostConfig"].clone();
    // The volume that nobody named is named now.
    host["Binds"] = serde_json::Value::Null;
    host
}

#[test]
fn containers_are_rolled_and_rolled_back_without_losing_a_stream() {
    if !is_there("nginx") {
        return;
    }
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.import_stand_ins();
    let mut fleet = fleet(&dockerd, &Spec::new(Front::Nginx, 3));
    let load = fleet.load(6);
    let before = dockerd.inspect("chat-0");

    let dry = fleet.run(&["--dry-run"]);
    assert_eq!(exit(&dry), 0, "{}", text(&dry));
    for said in [
        "replica-0: stop  container chat-0 (SIGTERM, then SIGKILL after 2 s)",
        "-image slackwater-test:v1 (sha256:",
        "+image slackwater-test:v2 (sha256:",
        "--model /models/v2",
        "docker_ rename chat-0.slackwater-old chat-0",
    ] {
        assert!(text(&dry).contains(said), "{said}: {}", text(&dry));
    }
    assert_eq!(dockerd.inspect("chat-0")["Id"], before["Id"]);

    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    let after = dockerd.inspect("chat-0");
    assert_eq!(host_part(&after), host_part(&before), "the host's part is the same");
    let mounts = |it: &serde_json::Value| it["Mounts"][0]["Name"].clone();
    assert_eq!(mounts(&after), mounts(&before), "the unnamed volume went along");
    let list = |it: &serde_json::Value| it["Config"]["Env"].as_array().unwrap().clone();
    assert!(list(&after).contains(&"TEAM=chat".into()) && list(&after).contains(&"IMAGE_VERSION=v2".into()));
    assert_eq!(after["Config"]["Labels"]["team"], "chat");
    // What was kept is gone with the end.
    assert_eq!(dockerd.did(&["ps", "-a", "--format", "{{.Names}}"]).lines().count(), 3);

    // The other way round, and half-way the person wants back.
    fleet.turn_round();
    fleet.plan.rollout.soak = slackwater_policy::Span::from_secs(2);
    fleet.write_plan();
    let was = dockerd.inspect("chat-0");
    let executor = fleet.spawn(&[]);
    fleet.until("one is changed", first_runs_new_now);
    assert_eq!(image(&dockerd, "chat-0"), "slackwater-test:v1 true");
    assert_eq!(dockerd.inspect("chat-0.slackwater-old")["Id"], was["Id"]);
    assert_eq!(exit(&fleet.order("rollback")), 0);
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 4, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    let back = dockerd.inspect("chat-0");
    assert_eq!(back["Id"], was["Id"], "it is the very same container");
    assert_eq!((&back["Config"], &back["HostConfig"]), (&was["Config"], &was["HostConfig"]));
    assert_eq!(dockerd.did(&["ps", "-a", "--format", "{{.Names}}"]).lines().count(), 3);
    let report = fleet.stop_load(load);
    eprintln!("docker: {} streams sent, {} completed", report.sent, report.completed);
    assert!(report.is_clean() && report.sent > 20, "{:?}", report.faults);
}

#[test]
fn an_executor_of_containers_is_killed_and_goes_on() {
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.import_stand_ins();
    let mut fleet = fleet(&dockerd, &Spec::new(Front::Gateway, 2));
    let kills = killed_again_and_again(&mut fleet, "docker", 16);
    assert!(kills > 2, "{kills}");
}

#[test]
fn recover_sh_brings_the_old_containers_back() {
    if !is_there("curl") {
        return;
    }
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.import_stand_ins();
    let mut spec = Spec::new(Front::Gateway, 2);
    spec.new = vec!["--startup".to_owned(), "2s".to_owned()];
    let fleet = fleet(&dockerd, &spec);
    let ids = ["chat-0", "chat-1"].map(|name| dockerd.inspect(name)["Id"].clone());
    let mut executor = fleet.spawn(&[]);
    fleet.until("one is new, one on its way", |status| {
        first_runs_new(status) && status["status"]["replicas"][1]["state"] == "starting"
    });
    executor.kill().unwrap();
    executor.wait().unwrap();
    for _ in 0..2 {
        let output = Command::new(fleet.state().join("recover.sh")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(fleet.roots(), ["/models/v1", "/models/v1"]);
        assert_eq!(["chat-0", "chat-1"].map(|name| dockerd.inspect(name)["Id"].clone()), ids);
    }
    assert_eq!(dockerd.inspect("chat-0")["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    let output = fleet.load(2);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(fleet.stop_load(output).is_clean());
}

#[test]
fn every_step_of_a_change_of_containers_may_be_the_last() {
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.import_stand_ins();
    let fleet = fleet(&dockerd, &Spec::new(Front::Gateway, 1));
    let deployment = fleet.deployment();
    let place = &deployment.replicas[0];
    let SupervisorSpec::Docker(spec) = deployment.supervisor.clone() else { panic!("it is of containers") };
    let docker = || Docker::new((*spec).clone(), deployment.clone());
    let first = dockerd.inspect("chat-0");
    let grace = std::time::Duration::from_secs(2);
    let all = std::slice::from_ref(place);
    // What the steps make, and the state after each of them, made by hand out of the whole.
    let after_step: [&[&[&str]]; 5] = [
        &[],
        // The new one is made.
        &[&["rename", "chat-0", "chat-0.slackwater-new"], &["rename", "chat-0.slackwater-old", "chat-0"]],
        // The old one has no restart policy: as before, as it lost it on the way.
        &[
            &["rename", "chat-0", "chat-0.slackwater-new"],
            &["rename", "chat-0.slackwater-old", "chat-0"],
            &["update", "--restart", "unless-stopped", "chat-0"],
        ],
        // The old one is renamed.
        &[&["rename", "chat-0", "chat-0.slackwater-new"]],
        // Somebody threw the old one away.
        &[&["rm", "chat-0.slackwater-old"]],
    ];
    let run = |version: VersionRef, steps: &[&[&str]]| {
        fleet.runtime.block_on(async {
            docker().save(all).await.unwrap();
            docker().stop(place, grace).await.unwrap();
            docker().start(place, VersionRef::To).await.unwrap();
            docker().stop(place, grace).await.unwrap();
        });
        for step in steps {
            dockerd.did(step);
        }
        fleet.runtime.block_on(async {
            docker().start(place, version).await.unwrap();
            docker().start(place, version).await.unwrap();
            let running = docker().find(place).await.unwrap().unwrap();
            assert_eq!(running.version, Some(version), "{steps:?}");
        });
    };
    for (index, steps) in after_step.iter().enumerate() {
        run(VersionRef::To, steps);
        assert_eq!(image(&dockerd, "chat-0"), "slackwater-test:v2 true");
        let gone = index == 4;
        fleet.runtime.block_on(async {
            let beside = docker().start(place, VersionRef::From).await.unwrap_err();
            assert!(beside.reason.contains("still runs") && beside.retryable, "{beside}");
            docker().stop(place, grace).await.unwrap();
            docker().start(place, VersionRef::From).await.unwrap();
        });
        let back = dockerd.inspect("chat-0");
        assert_eq!(back["Id"] == first["Id"], !gone, "{steps:?}: it comes back itself");
        assert_eq!(host_part(&back), host_part(&first), "{steps:?}");
        assert_eq!(dockerd.did(&["ps", "-a", "--format", "{{.Names}}"]), "chat-0", "{steps:?}");
    }
    // And straight back from each.
    for steps in &after_step {
        run(VersionRef::From, steps);
        assert_eq!(image(&dockerd, "chat-0"), "slackwater-test:v1 true", "{steps:?}");
        assert_eq!(dockerd.did(&["ps", "-a", "--format", "{{.Names}}"]), "chat-0", "{steps:?}");
        assert_eq!(host_part(&dockerd.inspect("chat-0")), host_part(&first), "{steps:?}");
    }
}

#[test]
fn what_speaks_against_containers_is_named_with_its_remedy() {
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.import_stand_ins();
    let fleet = fleet(&dockerd, &Spec::new(Front::Gateway, 1));
    let written = std::fs::read_to_string(fleet.deployment_path()).unwrap();
    let said = |change: &dyn Fn(&str) -> String| {
        let deployment = Deployment::parse(&change(&written), Path::new("/tmp")).unwrap();
        let SupervisorSpec::Docker(spec) = deployment.supervisor.clone() else {
            panic!("it is of containers")
        };
        let docker = Docker::new(*spec, deployment.clone());
        let grace = std::time::Duration::from_secs(2);
        match fleet.runtime.block_on(docker.prepare(&deployment.replicas, grace)) {
            Ok(lines) => lines.join("\n"),
            Err(trouble) => trouble.reason,
        }
    };
    let missing = said(&|text| text.replace("slackwater-test:v2", "vllm/vllm-openai:v0.33"));
    assert!(
        missing.contains("docker pull vllm/vllm-openai:v0.33") && missing.contains("replica-0"),
        "{missing}"
    );
    let nobody = said(&|text| text.replace("unit = 'chat-0'", "unit = 'chat-9'"));
    assert!(nobody.contains("docker create --name chat-9"), "{nobody}");
    let gone = said(&|text| text.replace("/docker.sock", "/none.sock"));
    assert!(gone.contains("cannot connect") && gone.contains("none.sock"), "{gone}");
    dockerd.did(&["update", "--restart", "always", "chat-0"]);
    let always = said(&str::to_owned);
    assert!(
        always.contains("warning: replica-0")
            && always.contains("docker update --restart unless-stopped chat-0"),
        "{always}"
    );

    // A GPU that is not here: what is asked for goes along to the letter, and Docker's own word is passed on.
    dockerd.did(&["stop", "-t", "1", "chat-0"]);
    dockerd.did(&["rm", "chat-0"]);
    let port = fleet.ports[0].to_string();
    dockerd.did(&[
        "create",
        "--name",
        "chat-0",
        "--gpus",
        "device=0",
        "--memory",
        "1g",
        "--ulimit",
        "memlock=-1",
        "--shm-size",
        "64m",
        "slackwater-test:v1",
        "x",
        &port,
    ]);
    let before = dockerd.inspect("chat-0");
    let deployment = fleet.deployment();
    let SupervisorSpec::Docker(spec) = deployment.supervisor.clone() else { panic!("it is of containers") };
    let docker = Docker::new(*spec, deployment.clone());
    let failed = fleet.runtime.block_on(docker.start(&deployment.replicas[0], VersionRef::To)).unwrap_err();
    assert!(failed.reason.contains("could not select device driver"), "{failed}");
    let after = dockerd.inspect("chat-0");
    assert_eq!(after["HostConfig"], before["HostConfig"]);
    assert_eq!(after["HostConfig"]["DeviceRequests"][0]["DeviceIDs"][0], "0");
    dockerd.did(&["rm", "chat-0"]);
    dockerd.did(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "chat-0",
        "--network",
        "host",
        "slackwater-test:v1",
        "/bin/slackwater",
        "replica",
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    let thrown_away = said(&str::to_owned);
    assert!(thrown_away.contains("`--rm`"), "{thrown_away}");
}
