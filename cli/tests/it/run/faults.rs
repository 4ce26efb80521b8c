//! What goes wrong, and how it ends: every replica on one known version, or each that is not named with what mends it.

use std::fs;

use slackwater_load::Pace;
use slackwater_policy::{Figure, Guard, GuardAction, Outcome, Span, fold};

use super::fleet::{BINARY, Fleet, Front, Spec, exit, first_runs_new, is_there, records, text};

/// The new version does not come up: one replica is tried, goes back, and the rollout holds with all serving.
fn goes_back(spec: Spec, said: &str) {
    let fleet = Fleet::start(&spec);
    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains(said), "{said}: {}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v1", "/models/v1"], "{}", text(&output));
    let report = fleet.stop_load(load);
    assert!(report.is_clean(), "{:?}", report.faults);
}

#[test]
fn one_that_never_gets_healthy_goes_back() {
    goes_back(Spec::new(Front::Gateway, 2).new_fault("never-healthy"), "/health answers 503");
}

#[test]
fn one_that_crashes_while_loading_goes_back_with_its_last_words() {
    let mut spec = Spec::new(Front::Gateway, 2).new_fault("crash-while-loading");
    spec.new.extend(["--startup".to_owned(), "300ms".to_owned()]);
    goes_back(spec, "process");
}

#[test]
fn the_wrong_model_goes_back() {
    goes_back(
        Spec::new(Front::Gateway, 2).new_fault("wrong-model"),
        "neither of the plan's versions answers",
    );
}

#[test]
fn a_gauge_that_sticks_is_not_believed_for_ever() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2).old_fault("stuck-gauge"));
    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("is believed; the engine says"), "{}", text(&output));
    assert!(fleet.stop_load(load).is_clean());
}

#[test]
fn one_that_ignores_the_stop_is_killed() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2).old_fault("ignore-sigterm"));
    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(fleet.stop_load(load).is_clean());
}

#[test]
fn a_new_version_that_is_slow_is_noticed_by_a_guard_and_taken_back_by_a_person() {
    let mut spec = Spec::new(Front::Gateway, 3).new_fault("slow=400");
    // Live figures are brought every ten seconds, and one is not enough.
    spec.soak = Span::from_secs(30);
    let mut fleet = Fleet::start(&spec);
    // A token takes some 0.6 ms, and a quarter of a second with the new version.
    let guard = Guard {
        figure: Figure::TpotP99,
        limit: 0.12,
        sustained: Span::from_secs(5),
        action: GuardAction::Hold,
    };
    fleet.plan.guards = vec![guard];
    fleet.write_plan();
    // At a rate: behind a balancer that looks at what is in flight, clients that wait for their answers send a slow replica so few
    // requests that the 99th percentile does not see them.
    let load = fleet.load_with(6, |options| {
        options.pace = Pace::Rate(6.0);
        options.prompt.output_tokens = (10, 20);
    });
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("TpotP99 stayed above 0.12"), "{}", text(&output));
    assert!(text(&output).contains("slackwater rollback"), "it names what mends it: {}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v1", "/models/v1"], "held with all serving");

    let deployment = fleet.deployment_path().display().to_string();
    let mut executor = std::process::Command::new(BINARY)
        .args(["run", "--resume", "--deployment", &deployment])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    fleet.until("an executor waits", |status| status["pid"].is_number());
    assert_eq!(exit(&fleet.order("rollback")), 0);
    assert_eq!(executor.wait().unwrap().code(), Some(4));
    assert_eq!(fleet.roots(), vec!["/models/v1"; 3]);
    let report = fleet.stop_load(load);
    assert!(report.is_clean(), "{:?}", report.faults);
}

#[test]
fn one_that_dies_in_mid_stream_goes_back_and_breaks_no_other_stream() {
    let mut spec = Spec::new(Front::Gateway, 3).new_fault("dies-mid-stream=40");
    spec.soak = Span::from_secs(2);
    let fleet = Fleet::start(&spec);
    let load = fleet.load_of(6, (60, 200));
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("replica-0"), "{}", text(&output));
    assert!(text(&output).contains("went down"), "{}", text(&output));
    // Every replica serves one known version, or it is named with what mends it.
    for (index, root) in fleet.roots().iter().enumerate() {
        let named =
            text(&output).contains(&format!("replica-{index}: ")) && text(&output).contains("mend it: ");
        assert!(root == "/models/v1" || named, "replica-{index} {root}: {}", text(&output));
    }
    assert_eq!(fleet.roots()[1..], ["/models/v1", "/models/v1"], "the others were not touched");
    let report = fleet.stop_load(load);
    assert_eq!(report.duplicated, 0, "{:?}", report.faults);
    // What it had under way broke with it, at most six at each of its deaths; nothing else did.
    let lost = report.sent - report.completed;
    assert!((1..=18).contains(&lost), "{lost} lost: {:?}", report.faults);
    eprintln!("dies-mid-stream: {} streams, {lost} broke with the replica that died", report.sent);
}

#[test]
fn a_haproxy_whose_socket_is_gone_is_a_hold_and_gone_on_with_when_it_is_back() {
    if !is_there("haproxy") {
        return;
    }
    let mut spec = Spec::new(Front::Haproxy, 2);
    spec.soak = Span::from_secs(2);
    let mut fleet = Fleet::start(&spec);
    fleet.plan.gate.recheck = Span::from_millis(100);
    fleet.plan.gate.wait_max = Span::from_secs(1);
    fleet.write_plan();
    let load = fleet.load(4);
    let executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new);
    // It goes on to serve, but nobody can tell it anything.
    fs::remove_file(fleet.path("haproxy.sock")).unwrap();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("haproxy.sock"), "it names the socket: {}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v1"], "nobody was touched");
    let report = fleet.stop_load(load);
    assert!(report.is_clean() && report.sent > 0, "{:?}", report.faults);
    fleet.stop_balancer();
    fleet.start_balancer();
    let output = fleet.resume(&["--go-on"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}

#[test]
fn a_replica_that_is_dead_before_the_start_is_moved_first() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 3));
    let dead = fleet.pids()[2].unwrap();
    let dead = rustix::process::Pid::from_raw(i32::try_from(dead).unwrap()).unwrap();
    rustix::process::kill_process(dead, rustix::process::Signal::KILL).unwrap();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("replica-2 does not serve now"), "{}", text(&output));
    let report = fold(&fleet.plan, &records(&fleet.state()));
    assert_eq!(report.moves[0].replica.0, 2);
    assert_eq!(report.serving_min, 2, "it is brought up before another is taken out");
}

#[test]
fn a_taken_port_parks_the_replica_and_names_who_has_it() {
    let mut fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    // As soon as the old process is gone somebody else listens in its place.
    let (port, old) = (fleet.ports[0], fleet.pids()[0].unwrap());
    let squatter = std::thread::spawn(move || {
        loop {
            if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
                return listener;
            }
            assert!(slackwater_exec::procfs::stat(old).is_some() || port > 0);
        }
    });
    fleet.plan.rollout.on_failure = slackwater_policy::OnFailure::Park;
    fleet.plan.rollout.steps.start.every = Span::from_millis(100);
    fleet.plan.rollout.bring_ups = 1;
    fleet.write_plan();
    let output = fleet.run(&[]);
    let _listener = squatter.join().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    // The squatter is this very test process.
    assert!(
        text(&output).contains(&format!("process {} still runs there", std::process::id())),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("replica-0"), "{}", text(&output));
}

#[test]
fn without_its_gateway_nothing_is_begun() {
    let mut fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    fleet.stop_balancer();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("cannot connect"), "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v1", "/models/v1"]);
}

#[test]
fn a_gateway_that_goes_in_the_middle_is_a_hold_and_gone_on_with_when_it_is_back() {
    let mut spec = Spec::new(Front::Gateway, 2);
    spec.soak = Span::from_secs(2);
    let mut fleet = Fleet::start(&spec);
    fleet.plan.gate.recheck = Span::from_millis(100);
    fleet.plan.gate.wait_max = Span::from_secs(1);
    fleet.write_plan();
    let executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new);
    fleet.stop_balancer();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("the gate stayed shut for replica-1"), "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v1"], "nobody was touched");
    fleet.start_balancer();
    let output = fleet.resume(&["--go-on"]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}

#[test]
fn versions_that_can_not_be_told_apart_are_refused() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let text_ = fs::read_to_string(fleet.deployment_path()).unwrap();
    let same = text_.replace("root = '/models/v2'", "root = '/models/v1'");
    fs::write(fleet.deployment_path(), same).unwrap();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("nothing in the versions' identities differs"), "{}", text(&output));
}

#[test]
fn outside_its_window_it_is_refused() {
    let mut fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let tomorrow = slackwater_policy::Time::from_secs(4_000_000_000);
    let closes = slackwater_policy::Time::from_secs(4_000_007_200);
    fleet.plan.windows = vec![slackwater_policy::Window::new(tomorrow, closes)];
    fleet.plan.rollout.move_expected = Span::from_secs(60);
    fleet.write_plan();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("outside the plan's windows; the next opens 2096"), "{}", text(&output));

    // Open still, and a move would fit, but a whole rollout was looked at only until a while ago.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (from, until) = (now - 3_600, now + 3_600);
    let second = slackwater_policy::Time::from_secs;
    fleet.plan.windows = vec![slackwater_policy::Window {
        latest_start: Some(second(now - 600)),
        ..slackwater_policy::Window::new(second(from), second(until))
    }];
    fleet.write_plan();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(text(&output).contains("the latest safe start of this window was"), "{}", text(&output));
}

#[test]
fn an_include_file_edited_by_hand_is_not_overwritten() {
    if !is_there("nginx") {
        return;
    }
    let mut spec = Spec::new(Front::Nginx, 3);
    spec.soak = Span::from_secs(2);
    let mut fleet = Fleet::start(&spec);
    // The file is read at the next gate, which waits for what may pass.
    fleet.plan.gate.recheck = Span::from_millis(100);
    fleet.plan.gate.wait_max = Span::from_secs(1);
    fleet.write_plan();
    let load = fleet.load(4);
    let executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new);
    let include = fleet.path("owned/upstream.conf");
    let mut edited = fs::read_to_string(&include).unwrap();
    edited.push_str("# somebody was here\n");
    fs::write(&include, &edited).unwrap();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("edited by somebody else"), "{}", text(&output));
    assert_eq!(fs::read_to_string(&include).unwrap(), edited);
    assert!(fleet.stop_load(load).is_clean());
    assert_eq!(
        fleet.roots().iter().filter(|root| root.starts_with("/models/")).count(),
        3,
        "all still serve"
    );
}

#[test]
fn a_reload_that_is_reported_but_not_applied_is_found_out() {
    if !is_there("nginx") {
        return;
    }
    let mut fleet = Fleet::start(&Spec::new(Front::Nginx, 2));
    // As when a port can't be bound: the reload says yes, and the old configuration stays.
    let text_ = fs::read_to_string(fleet.deployment_path()).unwrap();
    let at = text_.find("reload = [").unwrap();
    let end = at + text_[at..].find('\n').unwrap();
    let deaf = format!("{}reload = ['true']{}", &text_[..at], &text_[end..])
        .replace("confirm_within = '5s'", "confirm_within = '1s'");
    fs::write(fleet.deployment_path(), deaf).unwrap();
    fleet.plan.rollout.steps.take_out.attempts = Some(2);
    fleet.plan.rollout.steps.admit.attempts = Some(2);
    fleet.write_plan();
    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("reported no error, but does not run `llm"), "{}", text(&output));
    assert!(fleet.stop_load(load).is_clean());
    assert_eq!(fleet.roots(), ["/models/v1", "/models/v1"]);
}

#[test]
fn haproxy_that_forgets_is_told_again() {
    if !is_there("haproxy") {
        return;
    }
    let mut spec = Spec::new(Front::Haproxy, 3);
    // Long enough for a restart in the middle of a start.
    spec.new = vec!["--startup".to_owned(), "3s".to_owned()];
    let mut fleet = Fleet::start(&spec);
    let executor = fleet.spawn(&[]);
    fleet.until("one is starting", |status| status["status"]["replicas"][0]["state"] == "starting");
    fleet.stop_balancer();
    fleet.start_balancer();
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("it was taken out again"), "{}", text(&output));
    let report = fold(&fleet.plan, &records(&fleet.state()));
    assert_eq!(report.outcome, Some(Outcome::Completed));
}

/// The library that stands for the machine's GPUs; `None` without a C compiler.
pub(crate) fn fake_nvml(folder: &std::path::Path, library: &std::path::Path) -> bool {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../exec/tests/fake_nvml.c");
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(library)
        .arg(format!("-DFOLDER=\"{}\"", folder.display()))
        .arg(source)
        .output();
    let built = built.is_ok_and(|output| output.status.success());
    assert!(
        built || std::env::var_os("SLACKWATER_REQUIRE_REAL").is_none(),
        "no C compiler (cc): install gcc"
    );
    built
}

/// Two GPUs, one replica each, that hold 72 of 80 GiB; their memory lingers for a while after their end.
fn with_gpus(linger: &str, folder: &std::path::Path) -> Option<Fleet> {
    let library = folder.join("libnvidia-ml.so.1");
    let gpus = folder.join("gpus");
    if !fake_nvml(&gpus, &library) {
        return None;
    }
    let mut spec = Spec::new(Front::Gateway, 2);
    let claim = ["--fake-gpu", &gpus.display().to_string(), "--gpu", "{gpus}"].map(str::to_owned);
    spec.old.extend(claim.clone());
    spec.new.extend(claim);
    let spec = spec.old_fault(&format!("lingering-memory={linger}"));
    let fleet = Fleet::start_with(&spec, |text| {
        text.replace("[gpu]\nkind = 'none'", &format!("[gpu]\nlibrary = '{}'", library.display()))
            .replace(
                "identity = { root = '/models/v2' }",
                "memory_mib = 73728\nidentity = { root = '/models/v2' }",
            )
            .replace("name = 'replica-0'", "gpus = [0]\nname = 'replica-0'")
            .replace("name = 'replica-1'", "gpus = [1]\nname = 'replica-1'")
    });
    Some(fleet)
}

#[test]
fn memory_that_lingers_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fleet) = with_gpus("1s", folder.path()) else { return };
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("MiB free, the new version needs 73728"), "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}

#[test]
fn memory_that_is_never_free_parks_the_replica_and_names_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut fleet) = with_gpus("1h", folder.path()) else { return };
    fleet.plan.rollout.steps.gpu_free.within = Some(Span::from_secs(1));
    fleet.write_plan();
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("is held by process"), "{}", text(&output));
    assert!(text(&output).contains("parked, a person is needed"), "{}", text(&output));
    assert_eq!(fleet.roots()[1], "/models/v1", "the other one was not touched");
}
