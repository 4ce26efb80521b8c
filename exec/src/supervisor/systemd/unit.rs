//! A unit as `systemctl show` has it, and what of it would fight a rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deployment::Place;

/// What is asked for.
pub(super) const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,InvocationID,Type,KillMode,KillSignal,SendSIGKILL,Restart,\
TimeoutStopUSec,EnvironmentFiles,DropInPaths,FragmentPath,NeedDaemonReload,RefuseManualStart,RefuseManualStop,TriggeredBy,ConsistsOf,BoundBy";

/// A unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    properties: BTreeMap<String, String>,
}

impl Unit {
    /// Reads lines `Name=value`. A property that is given twice (`EnvironmentFiles`) has both, on lines of their own.
    pub(super) fn read(text: &str) -> Unit {
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let held = properties.entry(name.to_owned()).or_default();
            if !held.is_empty() {
                held.push('\n');
            }
            held.push_str(value);
        }
        Unit { properties }
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// Its main process, where there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        self.get("MainPID").parse().ok().filter(|pid| *pid > 0)
    }

    /// Whether it is there. One that waits to be restarted (`activating`, `auto-restart`) has ended.
    pub(super) fn runs(&self) -> bool {
        self.pid().is_some() && !matches!(self.get("ActiveState"), "inactive" | "failed")
    }

    /// Whether nothing of it is left and nothing is to come.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.get("ActiveState"), "inactive" | "failed") && self.pid().is_none()
    }

    /// How long systemd itself lets it stop; `None`: for ever.
    pub(super) fn timeout_stop(&self) -> Option<Duration> {
        match self.get("TimeoutStopUSec") {
            "infinity" => None,
            text => span(text),
        }
    }

    /// Why it can't be rolled as it is: what, and the remedy.
    pub(super) fn refusal(&self, place: &Place) -> Option<String> {
        let unit = place.unit();
        let is = |name: &str, value: &str| self.get(name) == value;
        if is("LoadState", "not-found") || is("LoadState", "") {
            return Some(format!(
                "there is no unit {unit}; correct the replica's `unit`, or supervisor.user"
            ));
        }
        if is("LoadState", "masked") {
            return Some(format!("unit {unit} is masked and can't be started: systemctl unmask {unit}"));
        }
        if !is("LoadState", "loaded") {
            return Some(format!(
                "unit {unit} is not loaded ({}): systemd-analyze verify {unit}",
                self.get("LoadState")
            ));
        }
        for (property, key) in [("RefuseManualStop", "stopped"), ("RefuseManualStart", "started")] {
            if is(property, "yes") {
                return Some(format!(
                    "unit {unit} refuses to be {key} by hand: take {property}=yes out of it"
                ));
            }
        }
        if !matches!(self.get("KillMode"), "control-group" | "mixed") {
            return Some(format!(
                "unit {unit} has KillMode={}: a stop leaves its children behind, an engine's workers with the GPU's memory among them; set \
                 KillMode=control-group (or mixed) in its [Service]",
                self.get("KillMode")
            ));
        }
        if is("SendSIGKILL", "no") {
            return Some(format!(
                "unit {unit} has SendSIGKILL=no: one that ignores the stop would stay for ever; take that out of its [Service]"
            ));
        }
        None
    }

    /// What a person should think about.
    pub(super) fn warnings(&self, place: &Place, grace: Duration) -> Vec<String> {
        let unit = place.unit();
        let mut all = Vec::new();
        if let Some(limit) = self.timeout_stop().filter(|limit| *limit < grace) {
            all.push(format!(
                "unit {unit} has TimeoutStopSec={} s, the plan gives the stop {} s: systemd kills before that; set TimeoutStopSec={} in its \
                 [Service], or shorten rollout.stop_grace",
                limit.as_secs(),
                grace.as_secs(),
                grace.as_secs()
            ));
        }
        match self.get("Restart") {
            "no" | "" => all.push(format!(
                "unit {unit} has Restart=no: after a crash it stays down; Restart=on-failure mends that"
            )),
            "always" | "on-success" => all.push(format!(
                "unit {unit} has Restart={}: `systemctl stop` is respected, but whoever ends the process otherwise (kill, a shutdown request to \
                 the engine) sees it come back; Restart=on-failure does not",
                self.get("Restart")
            )),
            _ => {}
        }
        if self.get("NeedDaemonReload") == "yes" {
            all.push(format!(
                "unit {unit} was edited since systemd read it, and the rollout's daemon-reload brings that into force; see `systemctl cat {unit}`"
            ));
        }
        for (property, what) in [
            ("TriggeredBy", "may start it in the middle of a move: stop that for the time"),
            ("ConsistsOf", "is stopped with it"),
            ("BoundBy", "is stopped with it"),
        ] {
            if !self.get(property).is_empty() {
                all.push(format!("unit {unit}: {} {what}", self.get(property)));
            }
        }
        if matches!(self.get("Type"), "oneshot" | "forking") {
            all.push(format!(
                "unit {unit} has Type={}: its main process may not be known to systemd; Type=exec is what an engine wants",
                self.get("Type")
            ));
        }
        all.into_iter().map(|line| format!("warning: {}: {line}", place.name)).collect()
    }

    /// Whether it reads this environment file.
    pub(super) fn reads(&self, file: &std::path::Path) -> bool {
        let file = file.to_string_lossy();
        let mut lines = self.get("EnvironmentFiles").lines();
        lines.any(|line| {
            line.strip_prefix(&*file).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        })
    }
}

/// A time as `systemctl show` prints it: `1min 30s`, `500ms`.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for word in text.split_ascii_whitespace() {
        let at = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = word.split_at(at);
        let number: f64 = number.parse().ok()?;
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "month" => 2_629_800.0,
            "y" => 31_557_600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
    }
    (!text.trim().is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Type=exec\nRestart=always\nTimeoutStopUSec=1min 30s\nMainPID=77\nEnvironmentFiles=/etc/chat.env (ignore_errors=no)\n\
        EnvironmentFiles=/etc/more.env (ignore_errors=yes)\nKillMode=control-group\nSendSIGKILL=yes\nLoadState=loaded\nActiveState=active\n\
        SubState=running\nNeedDaemonReload=no\n";

    fn place() -> Place {
        toml::from_str("name = 'a'\nurl = 'http://h:1'\nunit = 'chat.service'").unwrap()
    }

    #[test]
    fn a_unit_is_read() {
        let unit = Unit::read(SHOWN);
        assert_eq!((unit.pid(), unit.runs(), unit.is_gone()), (Some(77), true, false));
        assert_eq!(unit.timeout_stop(), Some(Duration::from_secs(90)));
        assert!(unit.reads("/etc/chat.env".as_ref()) && unit.reads("/etc/more.env".as_ref()));
        assert!(!unit.reads("/etc/chat".as_ref()));
        assert_eq!(unit.refusal(&place()), None);
        assert_eq!(span("infinity"), None);
        assert_eq!(span("1h 2ms"), Some(Duration::from_millis(3_600_002)));
        let waiting = Unit::read("ActiveState=activating\nSubState=auto-restart\nMainPID=0\n");
        assert!(!waiting.runs() && !waiting.is_gone());
    }

    #[test]
    fn what_fights_a_rollout_is_named_with_its_remedy() {
        for (is, instead, remedy) in [
            ("KillMode=control-group", "KillMode=process", "set KillMode=control-group"),
            ("LoadState=loaded", "LoadState=not-found", "correct the replica's `unit`"),
            ("LoadState=loaded", "LoadState=masked", "systemctl unmask chat.service"),
            ("SendSIGKILL=yes", "SendSIGKILL=no", "SendSIGKILL=no"),
        ] {
            let refusal = Unit::read(&SHOWN.replace(is, instead)).refusal(&place()).unwrap();
            assert!(refusal.contains(remedy), "{refusal}");
        }
        let grace = Duration::from_secs(120);
        let warnings = Unit::read(SHOWN).warnings(&place(), grace).join("\n");
        assert!(
            warnings.contains("set TimeoutStopSec=120") && warnings.contains("Restart=always"),
            "{warnings}"
        );
        assert!(
            Unit::read(&SHOWN.replace("always", "on-failure").replace("1min 30s", "infinity"))
                .warnings(&place(), grace)
                .is_empty()
        );
    }
}
