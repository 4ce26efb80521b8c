//! A stand-in for `systemctl`, where no systemd is: it keeps units, reads their files as systemd does, and really starts and stops processes.
//!
//! The program is this test binary, run again for its ignored test behind a script, so that nothing of it is in the product. What it keeps to of systemd:
//! - a unit is its file and its drop-ins *as they were at the last `daemon-reload`* (`NeedDaemonReload` says when they differ); its environment
//!   files are read at each start;
//! - an empty `ExecStart=` takes back the one before; words are unquoted, `%%` and `$$` and `${NAME}` are what systemd makes of them;
//! - `start` and `stop` with `--no-block` return at once; the stop asks the whole control group (here: the session), and kills it after
//!   `TimeoutStopSec`; `kill --signal` signals it;
//! - a main process that ends by itself is restarted after `RestartSec` as `Restart=` has it, with a new `InvocationID`, five times at most,
//!   then the unit has failed until `reset-failed`.
//!
//! What is to happen in time (a restart, the kill after a time-out) happens at the next call, as there is no manager in between.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use slackwater_exec::procfs;

/// Writes the script that is called as `systemctl`.
pub(crate) fn install(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("systemctl");
    let program = std::env::current_exe().unwrap();
    // The test runner's own lines go nowhere; what it prints is in a file.
    let script = format!(
        "#!/bin/sh\nout=$(mktemp)\nSYSTEMCTL_FOLDER='{}' SYSTEMCTL_OUT=\"$out\" SYSTEMCTL_ARGS=\"$*\" '{}' --ignored --exact \
         run::systemctl::stand_in >/dev/null 2>&1\ncode=$?\ncat \"$out\"; [ -s \"$out.err\" ] && cat \"$out.err\" >&2\nrm -f \"$out\" \"$out.err\"\nexit $code\n",
        folder.display(),
        program.display()
    );
    fs::create_dir_all(folder.join("units")).unwrap();
    fs::create_dir_all(folder.join("state")).unwrap();
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[ignore = "the program that other tests call as systemctl"]
fn stand_in() {
    let (Some(folder), Some(arguments), Some(out)) = (
        std::env::var_os("SYSTEMCTL_FOLDER"),
        std::env::var("SYSTEMCTL_ARGS").ok(),
        std::env::var_os("SYSTEMCTL_OUT"),
    ) else {
        return;
    };
    let manager = Manager { folder: folder.into() };
    let lock = File::create(manager.folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let code = match manager.call(&words) {
        Ok(text) => {
            fs::write(&out, text).unwrap();
            0
        }
        Err((code, text)) => {
            fs::write(PathBuf::from(out).with_extension("err"), text).unwrap();
            code
        }
    };
    std::process::exit(code);
}

type Called = Result<String, (i32, String)>;

struct Manager {
    folder: PathBuf,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

impl Manager {
    fn call(&self, words: &[&str]) -> Called {
        let options: Vec<&str> = words.iter().copied().filter(|word| word.starts_with('-')).collect();
        let mut rest = words.iter().copied().filter(|word| !word.starts_with('-'));
        let verb = rest.next().unwrap_or_default();
        let mut rest: Vec<&str> = rest.collect();
        let properties = words.iter().position(|word| *word == "-p").map(|at| words[at + 1]);
        rest.retain(|word| Some(*word) != properties);
        if verb == "daemon-reload" {
            for unit in self.units() {
                self.load(&unit);
            }
            return Ok(String::new());
        }
        let [unit] = rest[..] else { return Err((1, "Too few or too many arguments.".to_owned())) };
        let unit = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
        if verb == "show" && !self.file(&unit).exists() {
            return Ok("LoadState=not-found\nActiveState=inactive\nMainPID=0\n".to_owned());
        }
        if !self.file(&unit).exists() {
            return Err((5, format!("Failed to {verb} {unit}: Unit {unit} not found.")));
        }
        if !self.state_file(&unit).exists() {
            self.load(&unit);
        }
        self.go_on(&unit);
        match verb {
            "show" => Ok(self.show(&unit, properties.unwrap_or_default())),
            "start" => self.start(&unit),
            "stop" => Ok(self.stop(&unit)),
            "restart" => {
                self.stop(&unit);
                while self.state(&unit)["active"] == "deactivating" {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    self.go_on(&unit);
                }
                self.start(&unit)
            }
            "kill" => {
                let name = options.iter().find_map(|it| it.strip_prefix("--signal=")).unwrap_or("SIGTERM");
                self.signal(&unit, name.trim_start_matches("SIG"));
                Ok(String::new())
            }
            "reset-failed" => {
                self.change(&unit, |state| {
                    if state["active"] == "failed" {
                        state["active"] = json!("inactive");
                        state["sub"] = json!("dead");
                    }
                    state["starts"] = json!(0);
                });
                Ok(String::new())
            }
            other => Err((1, format!("Unknown command verb {other}."))),
        }
    }

    fn units(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("units")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".service")).collect()
    }

    fn file(&self, unit: &str) -> PathBuf {
        self.folder.join("units").join(unit)
    }

    fn state_file(&self, unit: &str) -> PathBuf {
        self.folder.join("state").join(format!("{unit}.json"))
    }

    fn state(&self, unit: &str) -> Value {
        let text = fs::read_to_string(self.state_file(unit)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn change(&self, unit: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state(unit);
        change(&mut state);
        fs::write(self.state_file(unit), state.to_string()).unwrap();
    }

    /// The unit's file and its drop-ins, one after the other.
    fn text(&self, unit: &str) -> String {
        let mut text = fs::read_to_string(self.file(unit)).unwrap();
        let drop_ins = fs::read_dir(self.folder.join("units").join(format!("{unit}.d")));
        let mut paths: Vec<PathBuf> =
            drop_ins.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
        paths.retain(|path| path.extension().is_some_and(|it| it == "conf"));
        paths.sort();
        for path in paths {
            text.push('\n');
            text.push_str(&fs::read_to_string(path).unwrap());
        }
        text
    }

    fn load(&self, unit: &str) {
        let text = self.text(unit);
        if self.state_file(unit).exists() {
            self.change(unit, |state| state["loaded"] = json!(text));
        } else {
            let state = json!({ "loaded": text, "active": "inactive", "sub": "dead", "pid": 0, "started": 0, "starts": 0, "invocation": "" });
            fs::write(self.state_file(unit), state.to_string()).unwrap();
        }
    }

    /// The settings that are in force: each with all its values since it was last emptied.
    fn settings(&self, unit: &str) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let loaded = self.state(unit)["loaded"].as_str().unwrap().to_owned();
        let lines = loaded.lines().filter(|line| !line.starts_with(['#', ';', '[']));
        for (name, value) in lines.filter_map(|line| line.split_once('=')) {
            let values = all.entry(name.trim().to_owned()).or_default();
            if value.trim().is_empty() {
                values.clear();
            } else {
                values.push(value.trim().to_owned());
            }
        }
        all
    }

    fn setting(&self, unit: &str, name: &str, default: &str) -> String {
        let settings = self.settings(unit);
        settings.get(name).and_then(|values| values.last()).cloned().unwrap_or_else(|| default.to_owned())
    }

    fn alive(state: &Value) -> bool {
        let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        pid > 0 && procfs::alive(pid, state["started"].as_u64().unwrap_or(0))
    }

    /// All of the control group: here the session that the main process leads.
    fn members(state: &Value) -> Vec<u32> {
        let Some(session) =
            state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)
        else {
            return Vec::new();
        };
        let of = |pid: &u32| procfs::stat(*pid).is_some_and(|stat| stat.session == session && !stat.zombie);
        procfs::pids().into_iter().filter(of).collect()
    }

    fn signal(&self, unit: &str, name: &str) {
        let pids: Vec<String> = Manager::members(&self.state(unit)).iter().map(u32::to_string).collect();
        if !pids.is_empty() {
            let _ = Command::new("kill").arg(format!("-{name}")).args(pids).status();
        }
    }

    /// What has happened, and what had to happen, since the last call.
    fn go_on(&self, unit: &str) {
        let state = self.state(unit);
        let active = state["active"].as_str().unwrap_or_default();
        let gone = !Manager::alive(&state);
        match active {
            "deactivating" if gone && Manager::members(&state).is_empty() => self.change(unit, |state| {
                state["active"] = json!("inactive");
                state["sub"] = json!("dead");
                state["pid"] = json!(0);
            }),
            "deactivating" if now() > state["kill_at"].as_f64().unwrap_or(f64::MAX) => {
                self.signal(unit, "KILL");
            }
            "active" if gone => {
                // How it ended is not known to whoever is not its parent: for `on-failure` it is taken to have failed.
                self.signal(unit, "KILL");
                let restarts = self.setting(unit, "Restart", "no") != "no";
                let again = restarts && state["starts"].as_u64().unwrap_or(0) < 5;
                let after: f64 =
                    self.setting(unit, "RestartSec", "0.1").trim_end_matches('s').parse().unwrap();
                self.change(unit, |state| {
                    state["pid"] = json!(0);
                    state["active"] = json!(if again { "activating" } else { "failed" });
                    state["sub"] = json!(if again { "auto-restart" } else { "failed" });
                    state["restart_at"] = json!(now() + after);
                });
            }
            "activating" if now() > state["restart_at"].as_f64().unwrap_or(f64::MAX) => {
                let _ = self.start(unit);
            }
            _ => {}
        }
    }

    fn start(&self, unit: &str) -> Called {
        let state = self.state(unit);
        if state["active"] == "active" || state["active"] == "deactivating" {
            return Ok(String::new());
        }
        let settings = self.settings(unit);
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |word: &str| {
            if let Some((name, value)) = word.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        };
        for line in settings.get("Environment").into_iter().flatten() {
            words(line).iter().for_each(|word| set(&word.replace("%%", "%")));
        }
        for file in settings.get("EnvironmentFile").into_iter().flatten() {
            let text = fs::read_to_string(file.trim_start_matches('-'))
                .map_err(|error| (1, format!("{file}: {error}")))?;
            for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
                set(&words(line).join(" "));
            }
        }
        let Some(line) = settings.get("ExecStart").and_then(|values| values.last()) else {
            return Err((1, format!("Unit {unit} has a bad unit file setting.")));
        };
        let command: Vec<String> = words(line).iter().map(|word| expanded(word, &environment)).collect();
        let log =
            File::options().create(true).append(true).open(self.folder.join(format!("{unit}.log"))).unwrap();
        // systemd gives a unit an environment of its own, not the manager's.
        let mut child = Command::new("setsid");
        child.args(&command).env_clear().envs(&environment).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        child.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = child.spawn().map_err(|error| (1, error.to_string()))?;
        let started = procfs::stat(child.id()).map_or(0, |stat| stat.started);
        self.change(unit, |state| {
            state["pid"] = json!(child.id());
            state["started"] = json!(started);
            state["active"] = json!("active");
            state["sub"] = json!("running");
            state["invocation"] =
                json!(format!("{:032x}", u128::from(child.id()) << 64 | u128::from(started)));
            state["starts"] = json!(state["starts"].as_u64().unwrap_or(0) + 1);
        });
        Ok(String::new())
    }

    fn stop(&self, unit: &str) -> String {
        let state = self.state(unit);
        match state["active"].as_str() {
            Some("active") => {
                let name = self.setting(unit, "KillSignal", "SIGTERM");
                self.signal(unit, name.trim_start_matches("SIG"));
                let limit: f64 =
                    self.setting(unit, "TimeoutStopSec", "90").trim_end_matches('s').parse().unwrap();
                self.change(unit, |state| {
                    state["active"] = json!("deactivating");
                    state["sub"] = json!("stop-sigterm");
                    state["kill_at"] = json!(now() + limit);
                    state["starts"] = json!(0);
                });
            }
            Some("activating") => self.change(unit, |state| {
                state["active"] = json!("inactive");
                state["sub"] = json!("dead");
                state["starts"] = json!(0);
            }),
            _ => {}
        }
        String::new()
    }

    fn show(&self, unit: &str, properties: &str) -> String {
        let state = self.state(unit);
        let settings = self.settings(unit);
        let setting = |name: &str, default: &str| self.setting(unit, name, default);
        let mut all: Vec<(&str, String)> = vec![
            ("LoadState", "loaded".to_owned()),
            ("ActiveState", state["active"].as_str().unwrap().to_owned()),
            ("SubState", state["sub"].as_str().unwrap().to_owned()),
            ("MainPID", if Manager::alive(&state) { state["pid"].to_string() } else { "0".to_owned() }),
            ("InvocationID", state["invocation"].as_str().unwrap().to_owned()),
            ("Type", setting("Type", "simple")),
            ("KillMode", setting("KillMode", "control-group")),
            ("SendSIGKILL", setting("SendSIGKILL", "yes")),
            ("Restart", setting("Restart", "no")),
            ("TimeoutStopUSec", format!("{}s", setting("TimeoutStopSec", "90"))),
            (
                "NeedDaemonReload",
                if self.text(unit) == state["loaded"].as_str().unwrap() { "no" } else { "yes" }.to_owned(),
            ),
            ("FragmentPath", self.file(unit).display().to_string()),
            ("RefuseManualStart", setting("RefuseManualStart", "no")),
            ("RefuseManualStop", setting("RefuseManualStop", "no")),
            ("TriggeredBy", String::new()),
        ];
        for file in settings.get("EnvironmentFile").into_iter().flatten() {
            let (file, ignore) = file.strip_prefix('-').map_or((file.as_str(), "no"), |file| (file, "yes"));
            all.push(("EnvironmentFiles", format!("{file} (ignore_errors={ignore})")));
        }
        let asked: Vec<&str> = properties.split(',').collect();
        all.retain(|(name, _)| asked.contains(name));
        all.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

/// A line's words, unquoted.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', Some('"') | None) => {
                word.push(match characters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => '\\',
                });
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => (quote, any) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (c, None) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// A word of a command: `%%`, `$$` and `${NAME}`.
fn expanded(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut text = word.replace("%%", "%").replace("$$", "\u{0}");
    for (name, value) in environment {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    text.replace('\u{0}', "$")
}

#[test]
fn its_words_are_systemds() {
    assert_eq!(words(r#"/bin/x "a b" 'c d' e\ f "" "q\"q""#), ["/bin/x", "a b", "c d", "e f", "", "q\"q"]);
    let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    assert_eq!(expanded("${A} $$A 100%%", &environment), "1 $A 100%");
}
