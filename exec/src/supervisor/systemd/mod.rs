//! Replicas as units of systemd, spoken to through `systemctl`.
//!
//! ```text
//!   stop   systemctl stop --no-block UNIT ─ the plan's grace ─► systemctl kill --signal=SIGKILL UNIT
//!   start  UNIT.d/50-slackwater.conf and daemon-reload, or lines of the environment file ─► systemctl start --no-block UNIT
//!   look   systemctl show -p … UNIT, and the main process's own environment and arguments
//! ```
//!
//! `--no-block`, as a unit of `Type=notify` would otherwise keep the caller until the weights are loaded. The units are the operator's own;
//! all that is written is that one file.

mod unit;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use slackwater_policy::VersionRef;
use tokio::time::Instant;

use self::unit::{PROPERTIES, Unit};
use super::definition::{Definitions, Form};
use super::members::Members;
use super::{Recovery, Running, Supervisor};
use crate::deployment::{Deployment, Place, SystemdSpec};
use crate::hook;
use crate::http::short;
use crate::procfs;
use crate::shell::{join, quote};
use crate::trouble::Trouble;

/// A look starts a program; the stop is part of the time on N-1.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A killed process is gone when the kernel has given back what it held, a GPU's memory above all.
const KILL_WITHIN: Duration = Duration::from_secs(30);

/// The supervisor.
#[derive(Debug)]
pub struct Systemd {
    spec: SystemdSpec,
    deployment: Deployment,
    definitions: Definitions,
    members: Members,
}

impl Systemd {
    /// As the deployment has it.
    pub fn new(spec: SystemdSpec, deployment: Deployment) -> Systemd {
        let form = match &spec.environment_file {
            Some(template) => Form::Variables(template.clone()),
            None => Form::DropIn(spec.units.clone().unwrap_or_else(|| units(spec.user))),
        };
        let definitions = Definitions::new(deployment.clone(), form);
        Systemd { spec, deployment, definitions, members: Members::default() }
    }

    fn command(&self, rest: &[&str]) -> Vec<String> {
        let mut command = self.spec.systemctl.clone();
        command.extend(self.spec.user.then(|| "--user".to_owned()));
        command.extend(rest.iter().map(|word| (*word).to_owned()));
        command
    }

    async fn run(&self, what: &str, rest: &[&str]) -> Result<String, Trouble> {
        let within = hook::duration(self.spec.within);
        hook::run(&format!("supervisor.systemctl {what}"), &self.command(rest), within).await
    }

    async fn unit(&self, place: &Place) -> Result<Unit, Trouble> {
        let shown = self.run("show", &["show", "-p", PROPERTIES, place.unit()]).await;
        shown.map(|text| Unit::read(&text)).map_err(|trouble| trouble.while_doing(&place.name))
    }

    /// Whether systemd has to read its files again for a change of ours.
    fn reloads(&self) -> bool {
        self.spec.environment_file.is_none()
    }

    /// The version whose command and environment a process has; `None` when neither's, or both.
    fn version(&self, place: &Place, pid: u32) -> Option<VersionRef> {
        let own = procfs::arguments(pid);
        let is = |version: VersionRef| {
            let command = self.deployment.arguments(place, version).ok()?;
            let variables = self.deployment.plain_environment(place, version).ok()?;
            let set =
                |(name, value): &(String, String)| procfs::has_variable(pid, &format!("{name}={value}"));
            Some(own.ends_with(command.get(1..).unwrap_or_default()) && variables.iter().all(set))
        };
        match (is(VersionRef::From)?, is(VersionRef::To)?) {
            (true, false) => Some(VersionRef::From),
            (false, true) => Some(VersionRef::To),
            (true, true) if self.deployment.versions.from == self.deployment.versions.to => {
                Some(VersionRef::From)
            }
            _ => None,
        }
    }

    async fn gone(&self, place: &Place, within: Duration) -> Result<bool, Trouble> {
        let until = Instant::now() + within;
        loop {
            if self.unit(place).await?.is_gone() {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Where an administrator's units are, or a user's own.
fn units(user: bool) -> PathBuf {
    if !user {
        return PathBuf::from("/etc/systemd/system");
    }
    let of = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let configuration = of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")));
    configuration.unwrap_or_else(|| PathBuf::from("/root/.config")).join("systemd/user")
}

#[async_trait]
impl Supervisor for Systemd {
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        let unit = self.unit(place).await?;
        let Some(pid) = unit.pid().filter(|_| unit.runs()) else { return Ok(None) };
        let (version, arguments) = (self.version(place, pid), procfs::arguments(pid));
        Ok(Some(Running { pid: Some(pid), version, arguments }))
    }

    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble> {
        let unit = self.unit(place).await?;
        if unit.runs() {
            if self.definitions.version(place)? == Some(version) {
                return Ok(());
            }
            return Err(Trouble::passing(format!(
                "{}: unit {} still runs (process {}); {version} is not started in its place: stop it",
                place.name,
                place.unit(),
                unit.get("MainPID")
            )));
        }
        self.definitions.put(place, version)?;
        if self.reloads() {
            // Also where the file was written already: an executor may have been killed in between.
            self.run("daemon-reload", &["daemon-reload"]).await?;
        }
        if unit.get("ActiveState") == "failed" {
            // Its count of starts may be used up.
            self.run("reset-failed", &["reset-failed", place.unit()]).await?;
        }
        let started = self.run("start", &["start", "--no-block", place.unit()]).await;
        started.map(|_| ()).map_err(|trouble| trouble.while_doing(&place.name))
    }

    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble> {
        let unit = self.unit(place).await?;
        if unit.is_gone() {
            return Ok(());
        }
        self.members.note(place, unit.pid());
        let stopped = self.run("stop", &["stop", "--no-block", place.unit()]).await;
        stopped.map_err(|trouble| trouble.while_doing(&place.name))?;
        if self.gone(place, grace).await? {
            return Ok(());
        }
        self.run("kill", &["kill", "--signal=SIGKILL", place.unit()]).await?;
        if self.gone(place, KILL_WITHIN).await? {
            return Ok(());
        }
        let unit = self.unit(place).await?;
        Err(Trouble::passing(format!(
            "{}: unit {} was stopped and killed and is still {} ({}), process {}: held by the kernel, or started again by somebody else",
            place.name,
            place.unit(),
            unit.get("ActiveState"),
            unit.get("SubState"),
            unit.get("MainPID")
        )))
    }

    async fn leftovers(&self, place: &Place) -> Vec<u32> {
        self.members.left(place)
    }

    async fn prepare(&self, places: &[Place], grace: Duration) -> Result<Vec<String>, Trouble> {
        let mut lines = Vec::new();
        for place in places {
            let unit = self.unit(place).await?;
            if let Some(refusal) = unit.refusal(place) {
                return Err(Trouble::lasting(format!("{}: {refusal}", place.name)));
            }
            if self.spec.environment_file.is_some() {
                let file = self.definitions.path(place)?;
                if !unit.reads(&file) {
                    return Err(Trouble::lasting(format!(
                        "{}: unit {} does not read {}: set EnvironmentFile={} in its [Service], or correct supervisor.environment_file",
                        place.name,
                        place.unit(),
                        file.display(),
                        file.display()
                    )));
                }
            }
            lines.push(format!(
                "{}: stop  {} (after {} s: {})",
                place.name,
                join(&self.command(&["stop", "--no-block", place.unit()])),
                grace.as_secs(),
                join(&self.command(&["kill", "--signal=SIGKILL", place.unit()]))
            ));
            lines.extend(self.definitions.shown(place)?);
            if self.reloads() {
                lines.push(format!("{}: then  {}", place.name, join(&self.command(&["daemon-reload"]))));
            }
            lines.push(format!(
                "{}: start {}",
                place.name,
                join(&self.command(&["start", "--no-block", place.unit()]))
            ));
            lines.extend(unit.warnings(place, grace));
        }
        Ok(lines)
    }

    async fn save(&self, places: &[Place]) -> Result<(), Trouble> {
        places.iter().try_for_each(|place| self.definitions.save(place))
    }

    async fn last_words(&self, place: &Place) -> Option<String> {
        let mut command = vec!["journalctl".to_owned()];
        command.extend(self.spec.user.then(|| "--user".to_owned()));
        // The manager's own lines say only that it ended.
        let unit = if self.spec.user { "USER_UNIT=" } else { "_SYSTEMD_UNIT=" };
        let name = if place.unit().contains('.') {
            place.unit().to_owned()
        } else {
            format!("{}.service", place.unit())
        };
        command.extend(["-o", "cat", "-n", "5", "--no-pager"].map(str::to_owned));
        command.push(format!("{unit}{name}"));
        let said = hook::run("journalctl", &command, Duration::from_secs(5)).await.ok()?;
        said.lines().rfind(|line| !line.trim().is_empty()).map(short)
    }

    fn recovery(&self, place: &Place) -> Recovery {
        let mut lines = self.definitions.recovery(place).unwrap_or_default();
        lines.extend(self.reloads().then(|| join(&self.command(&["daemon-reload"]))));
        lines.push(format!("{} 2>/dev/null", join(&self.command(&["reset-failed", place.unit()]))));
        // It ends what runs first, whatever that is.
        lines.push(format!("{} || failed=1", join(&self.command(&["restart", place.unit()]))));
        let is_new = match (self.definitions.path(place), self.definitions.slot_before(place)) {
            (Ok(path), Ok(slot)) => {
                let path = quote(&path.to_string_lossy());
                match (&self.spec.environment_file, slot) {
                    (None, None) => format!("[ -e {path} ]"),
                    (None, Some(slot)) => format!("! printf '%s' {} | cmp -s - {path}", quote(&slot)),
                    (Some(_), slot) => {
                        let lines: Vec<String> = slot
                            .iter()
                            .flat_map(|slot| slot.lines())
                            .map(|line| format!("grep -qxF -e {} {path}", quote(line)))
                            .collect();
                        if lines.is_empty() {
                            "true".to_owned()
                        } else {
                            format!("! {{ {}; }}", lines.join(" && "))
                        }
                    }
                }
            }
            _ => "true".to_owned(),
        };
        Recovery { is_new, lines }
    }

    fn recovery_head(&self) -> Vec<String> {
        Definitions::recovery_head()
    }
}
