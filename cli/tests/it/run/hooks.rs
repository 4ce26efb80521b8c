//! Balancer and supervisor by commands: a script that speaks to the gateway, another that starts and stops stand-ins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fleet::{BINARY, Fleet, Front, Spec, exit, is_there, text};

const BALANCER: &str = r#"#!/bin/sh
# balancer.sh SOCKET ACT NAME
say() { curl -fsS --unix-socket "$1" -X PATCH -d "{\"state\": \"$3\"}" "http://localhost/replicas/$2" >/dev/null; }
of() { curl -fsS --unix-socket "$1" "http://localhost/replicas/$2"; }
case "$2" in
    take_out) say "$1" "$3" drain ;;
    admit) say "$1" "$3" ready ;;
    state) if of "$1" "$3" | grep -q '"state":"ready"'; then echo in; else echo out; fi ;;
    in_flight) of "$1" "$3" | sed 's/.*"in_flight":\([0-9]*\).*/\1/' ;;
    *) exit 127 ;;
esac
"#;

const SUPERVISOR: &str = r#"#!/bin/sh
# supervisor.sh FOLDER PROGRAM ACT NAME ADDRESS VERSION
file="$1/$4.pid"
runs() { [ -f "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$(cat "$file")/status"; }
case "$3" in
    state) if runs; then echo running; else echo gone; fi ;;
    stop)
        runs || exit 0
        kill -TERM "$(cat "$file")"
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do runs || exit 0; sleep 0.1; done
        kill -KILL "$(cat "$file")"; sleep 0.2 ;;
    start)
        if [ "$6" = from ]; then model=/models/v1; else model=/models/v2; fi
        setsid "$2" replica --listen "$5" --model "$model" --engine a100-llama-3.1-8b --speed-up 20 </dev/null >>"$1/$4.log" 2>&1 &
        echo $! >"$file" ;;
    *) exit 127 ;;
esac
"#;

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn commands_reach_what_no_adapter_knows() {
    if !is_there("curl") {
        return;
    }
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let at = |name: &str| fleet.path(name).display().to_string();
    script(&fleet.path("balancer.sh"), BALANCER);
    script(&fleet.path("supervisor.sh"), SUPERVISOR);
    for (index, pid) in fleet.pids().into_iter().enumerate() {
        fs::write(fleet.path(&format!("replica-{index}.pid")), pid.unwrap().to_string()).unwrap();
    }
    let written = fs::read_to_string(fleet.deployment_path()).unwrap();
    let hook = |act: &str| {
        format!("{act} = ['{}', '{}', '{act}', '{{server}}']\n", at("balancer.sh"), at("gateway.sock"))
    };
    let balancer: String = ["take_out", "admit", "state", "in_flight"].map(hook).concat();
    let hook = |act: &str, version: &str| {
        format!(
            "{act} = ['{}', '{}', '{BINARY}', '{act}', '{{name}}', '{{host}}:{{port}}'{version}]\n",
            at("supervisor.sh"),
            fleet.folder.path().display()
        )
    };
    let supervisor = [hook("start", ", '{version}'"), hook("stop", ""), hook("state", "")].concat();
    let changed = written
        .replace(
            &format!("kind = 'gateway'\nadmin = 'unix:{}'", at("gateway.sock")),
            &format!("kind = 'command'\n{balancer}"),
        )
        .replace("[engine]", &format!("[supervisor]\nkind = 'command'\n{supervisor}\n[engine]"));
    fs::write(fleet.deployment_path(), changed).unwrap();

    let load = fleet.load(4);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
    let report = fleet.stop_load(load);
    assert!(report.is_clean(), "{:?}", report.faults);

    // A hook that says something else than was agreed on is named with what was expected.
    let wrong = fs::read_to_string(fleet.path("balancer.sh")).unwrap().replace("echo in;", "echo yes;");
    script(&fleet.path("balancer.sh"), &wrong);
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 5, "{}", text(&output));
    assert!(
        text(&output).contains("balancer.state printed `yes`; expected `in` or `out`"),
        "{}",
        text(&output)
    );
}
