//! `recover.sh`: what a person runs when Slackwater itself is of no more use. Plain shell; it restores the old replicas, then the balancer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use slackwater_policy::Plan;

use crate::shell::quote;
use crate::world::World;

pub(crate) const HEAD: &str = "#!/bin/sh
# Restores the old version without Slackwater: every replica that does not answer as it is stopped and started anew, then all of them are
# put back into rotation. Written before the rollout began. Safe to run twice. Needs curl.
#
# It does not drain: what is in flight at a replica that is stopped here is cut.
set -u
failed=0
say() { echo \"recover: $*\" >&2; }
answers() { curl -fsS -m 5 \"$1/health\" >/dev/null 2>&1 || curl -fsS -m 5 \"$1/v1/models\" >/dev/null 2>&1; }
# The process that listens on a port.
listener() {
    inode=$(awk -v port=\"$(printf '%04X' \"$1\")\" '$4 == \"0A\" && $2 ~ \":\" port \"$\" { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    [ -n \"$inode\" ] || return 1
    for fd in /proc/[0-9]*/fd/*; do
        if [ \"$(readlink \"$fd\" 2>/dev/null)\" = \"socket:[$inode]\" ]; then
            pid=${fd#/proc/}
            echo \"${pid%%/*}\"
            return 0
        fi
    done
    return 1
}
stop_process() {
    kill -TERM \"$1\" 2>/dev/null
    waited=0
    while kill -0 \"$1\" 2>/dev/null && [ \"$waited\" -lt 30 ]; do
        sleep 1
        waited=$((waited + 1))
    done
    kill -KILL \"$1\" 2>/dev/null
    sleep 1
}
stop_port() {
    pid=$(listener \"$1\") || return 0
    say \"stopping process $pid on port $1\"
    stop_process \"$pid\"
}
# Whatever was started with a variable in its environment, whether it listens yet or not.
stop_marked() {
    for environ in /proc/[0-9]*/environ; do
        tr '\\0' '\\n' <\"$environ\" 2>/dev/null | grep -qxF -- \"$1\" || continue
        pid=${environ#/proc/}
        pid=${pid%/environ}
        say \"stopping process $pid\"
        stop_process \"$pid\"
    done
}
";

/// Writes the script into the deployment's folder.
///
/// # Errors
/// When it can't be written.
pub fn write(world: &World, plan: &Plan) -> Result<PathBuf, String> {
    let path = world.deployment.directory.join("recover.sh");
    let text = script(world, plan);
    let failed = |error: std::io::Error| format!("{} can't be written: {error}", path.display());
    fs::write(&path, text).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    Ok(path)
}

/// The script.
pub fn script(world: &World, plan: &Plan) -> String {
    let mut script = HEAD.to_owned();
    let mut line = |text: &str| {
        script.push_str(text);
        script.push('\n');
    };
    line("# An executor that still runs would undo all this.");
    line(&format!(
        "if command -v flock >/dev/null && ! flock -n {} true; then say 'an executor is still running here: end it first (slackwater status tells its process)'; exit 1; fi",
        quote(&world.deployment.directory.join("lock").to_string_lossy())
    ));
    for command in world.supervisor.recovery_head() {
        line(&command);
    }
    let moved: Vec<_> = world.ids().filter(|id| plan.moves(*id) && !plan.is_spare(*id)).collect();
    let places: Vec<_> = moved.iter().map(|id| world.place(*id).clone()).collect();
    for place in &places {
        let (url, name) = (quote(&place.url), quote(&place.name));
        let recovery = world.supervisor.recovery(place);
        line(&format!("\n# {}", place.name));
        line(&format!("if answers {url} && ! {{ {}; }}; then", recovery.is_new));
        line(&format!("    say {name} serves"));
        line("else");
        line(&format!("    say starting {name}"));
        for command in recovery.lines {
            line(&format!("    {command}"));
        }
        line("fi");
    }
    line("\n# Every one of them must answer before it is given requests.");
    for place in &places {
        let (url, name) = (quote(&place.url), quote(&place.name));
        line(&format!(
            "waited=0; until answers {url} || [ \"$waited\" -ge 900 ]; do sleep 1; waited=$((waited + 1)); done; answers {url} || {{ say {name} does not answer; failed=1; }}"
        ));
    }
    line("\n# The balancer.");
    for command in world.balancer.recovery(&places) {
        let defines = command.contains("() {");
        line(&if defines { command } else { format!("{command} || failed=1") });
    }
    line("\n[ \"$failed\" = 0 ] && say done || say 'not all of it worked, see above'");
    line("exit \"$failed\"");
    script
}
