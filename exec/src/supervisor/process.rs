//! Replicas as plain processes: each in a session of its own, so that it outlives the executor and a lost terminal.
//!
//! ```text
//!   start: setsid COMMAND … with SLACKWATER_REPLICA=<folder>/<name> in its environment ─► record {pid, start time, version}
//!   find : the record ─► the mark in some process's environment ─► whoever listens on the replica's port
//!   stop : TERM to the group ─ grace ─ KILL to the group, its session, and all that carry the mark
//! ```
//!
//! The mark closes the gap between the start and the record: an executor that is killed in between finds its process again. A replica
//! that somebody else has started is found by its port; where it leads no group of its own, it and its descendants are signalled one by
//! one, as a group may hold other replicas.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use slackwater_policy::VersionRef;
use tokio::process::Command;
use tokio::time::Instant;

use super::record::{Known, ProcessRecord};
use super::secrets::secrets;
use super::{Recovery, Running, Supervisor};
use crate::deployment::{Deployment, Place, fill};
use crate::http::{Base, short};
use crate::procfs;
use crate::shell::{join, quote};
use crate::trouble::Trouble;

const MARK: &str = "SLACKWATER_REPLICA";
const DEFINITION: &str = "SLACKWATER_DEFINITION";
/// How often it is looked whether a process is gone: the stop is part of the time on N-1.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A killed process is gone when the kernel has given back what it held, a GPU's memory above all.
const KILL_WITHIN: Duration = Duration::from_secs(30);

/// The supervisor.
#[derive(Debug)]
pub struct Processes {
    deployment: Deployment,
}

impl Processes {
    /// As the deployment has it.
    pub fn new(deployment: Deployment) -> Processes {
        Processes { deployment }
    }

    fn record(&self, place: &Place) -> PathBuf {
        self.deployment.directory.join("processes").join(format!("{}.json", place.name))
    }

    /// Where its output goes.
    pub fn log(&self, place: &Place) -> PathBuf {
        let default = || self.deployment.directory.join("logs").join(format!("{}.log", place.name));
        place.log.clone().unwrap_or_else(default)
    }

    fn mark(&self, place: &Place) -> String {
        format!("{MARK}={}/{}", self.deployment.directory.display(), place.name)
    }

    /// Which version's definition it was started by.
    fn version(&self, place: &Place, record: &ProcessRecord) -> Option<VersionRef> {
        let definition = record.definition.as_ref()?;
        let is = |version: &VersionRef| self.deployment.definition_hash(place, *version) == *definition;
        [VersionRef::From, VersionRef::To].into_iter().find(is)
    }

    /// Every process that carries the mark.
    fn marked(&self, place: &Place) -> Vec<Known> {
        let mark = self.mark(place);
        let marked = |pid: &u32| procfs::has_variable(*pid, &mark);
        procfs::pids().into_iter().filter(marked).filter_map(Known::of).collect()
    }

    /// The replica's process, from the record, its mark or its port.
    fn look(&self, place: &Place) -> Option<ProcessRecord> {
        let path = self.record(place);
        let recorded = ProcessRecord::read(&path).filter(|record| record.main.alive());
        if recorded.is_some() {
            return recorded;
        }
        let marked = self.marked(place);
        let leads = |known: &&Known| procfs::stat(known.pid).is_some_and(|stat| stat.session == known.pid);
        let found = if let Some(leader) = marked.iter().find(leads) {
            ProcessRecord::of(*leader, procfs::variable(leader.pid, DEFINITION))
        } else {
            let port = Base::parse(&place.url).ok()?.port()?;
            ProcessRecord::of(Known::of(procfs::listener(port)?)?, None)
        };
        // Written down for whoever comes after; it can be found again without.
        let _ = found.write(&path);
        Some(found)
    }

    /// All that belong to a replica: its group or descendants, its session, and those that carry the mark.
    fn members(&self, place: &Place, record: &ProcessRecord) -> Vec<Known> {
        let mut pids: BTreeSet<u32> = self.marked(place).iter().map(|known| known.pid).collect();
        pids.extend(procfs::tree(record.main.pid));
        if record.leads {
            let main = record.main.pid;
            let belongs =
                |pid: &u32| procfs::stat(*pid).is_some_and(|stat| stat.group == main || stat.session == main);
            pids.extend(procfs::pids().into_iter().filter(belongs));
        }
        let own = std::process::id();
        pids.into_iter().filter(|pid| *pid != own).filter_map(Known::of).collect()
    }

    fn signal(record: &ProcessRecord, members: &[Known], signal: Signal) {
        let pid = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
        if record.leads
            && record.main.alive()
            && let Some(group) = pid(record.main.pid)
        {
            // One that is gone meanwhile is what was wanted.
            let _ = kill_process_group(group, signal);
        }
        let outside = |known: &&Known| {
            let grouped = procfs::stat(known.pid).is_some_and(|stat| stat.group == record.main.pid);
            known.alive() && !(record.leads && grouped && record.main.alive())
        };
        for known in members.iter().filter(outside) {
            if let Some(pid) = pid(known.pid) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    async fn gone(members: &[Known], within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            if !members.iter().any(|known| known.alive()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn open_log(&self, place: &Place) -> Result<(File, PathBuf), Trouble> {
        let path = self.log(place);
        let failed = |error: std::io::Error| {
            Trouble::lasting(format!(
                "the log {} of {} can't be written: {error}",
                path.display(),
                place.name
            ))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        Ok((file, path))
    }
}

/// Whether a program is there to be started.
fn program_is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[async_trait]
impl Supervisor for Processes {
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        Ok(self.look(place).map(|record| Running {
            pid: Some(record.main.pid),
            version: self.version(place, &record),
            arguments: procfs::arguments(record.main.pid),
        }))
    }

    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble> {
        let definition_hash = self.deployment.definition_hash(place, version);
        if let Some(running) = self.look(place) {
            if running.definition.as_ref() == Some(&definition_hash) {
                return Ok(());
            }
            let what = short(&join(&procfs::arguments(running.main.pid)));
            return Err(Trouble::passing(format!(
                "{}: process {} still runs there ({what}); {version} is not started beside it: stop that process",
                place.name, running.main.pid
            )));
        }
        let port = Base::parse(&place.url).ok().and_then(|base| base.port());
        if let Some(port) = port.filter(|port| procfs::is_listening(*port)) {
            return Err(Trouble::passing(format!(
                "{}: port {port} is taken by a process that may not be looked at; {version} is not started: free the port",
                place.name
            )));
        }
        let unfilled = |reason: String| Trouble::lasting(format!("{}: {reason}", place.name));
        let definition = self.deployment.versions.of(version);
        let arguments = self.deployment.arguments(place, version).map_err(unfilled)?;
        let program = arguments.first().cloned().unwrap_or_default();
        if !program_is_there(&program) {
            return Err(Trouble::lasting(format!(
                "{}: `{program}` of {version} is not there to be started",
                place.name
            )));
        }
        let (log, path) = self.open_log(place)?;
        let errors =
            log.try_clone().map_err(|error| Trouble::passing(format!("{}: {error}", path.display())))?;
        // `setsid` makes the session and becomes the program: the process started here is the replica itself.
        let mut command = Command::new("setsid");
        command.args(&arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.envs(self.deployment.plain_environment(place, version).map_err(unfilled)?);
        command.envs(secrets(&self.deployment, version)?);
        let (mark, value) = (MARK, self.mark(place));
        command.env(mark, value.trim_start_matches(&format!("{MARK}=")));
        command.env(DEFINITION, &definition_hash);
        if let Some(directory) = &definition.directory {
            command.current_dir(fill(directory, place, Some(version), &[]).map_err(unfilled)?);
        }
        let mut child = command.spawn().map_err(|error| {
            Trouble::passing(format!("{}: `{program}` can't be started: {error}", place.name))
        })?;
        let known = child.id().and_then(Known::of);
        // Somebody has to take note when it ends, or it would stay as a zombie for as long as this executor lives.
        tokio::spawn(async move {
            let _ = child.wait().await;
        });
        match known {
            // `setsid` has yet to run, so that it leads is known, not seen.
            Some(main) => ProcessRecord { leads: true, ..ProcessRecord::of(main, Some(definition_hash)) }
                .write(&self.record(place)),
            None => Err(Trouble::passing(format!(
                "{}: `{program}` ended at once; see {}",
                place.name,
                path.display()
            ))),
        }
    }

    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble> {
        let path = self.record(place);
        let Some(mut record) = self.look(place) else {
            // What an earlier stop left behind is still to go.
            let left = self.marked(place);
            let record = ProcessRecord::read(&path);
            let known = record.iter().flat_map(|record| record.members.iter().copied());
            let left: Vec<Known> = left.into_iter().chain(known).filter(|known| known.alive()).collect();
            if left.is_empty() {
                return Ok(());
            }
            let leader = left[0];
            let record = ProcessRecord { leads: false, ..ProcessRecord::of(leader, None) };
            Processes::signal(&record, &left, Signal::KILL);
            return match Processes::gone(&left, KILL_WITHIN).await {
                true => Ok(()),
                false => Err(stuck(place, &left)),
            };
        };
        record.members = self.members(place, &record);
        record.write(&path)?;
        Processes::signal(&record, &record.members, Signal::TERM);
        if Processes::gone(&record.members, grace).await {
            return Ok(());
        }
        // Children may have come since.
        let mut all = self.members(place, &record);
        all.extend(record.members.iter().filter(|known| known.alive()));
        Processes::signal(&record, &all, Signal::KILL);
        match Processes::gone(&all, KILL_WITHIN).await {
            true => Ok(()),
            false => Err(stuck(place, &all)),
        }
    }

    async fn leftovers(&self, place: &Place) -> Vec<u32> {
        let recorded = ProcessRecord::read(&self.record(place)).map(|record| (record.main, record.members));
        let (main, members) = recorded.map_or((None, Vec::new()), |(main, members)| (Some(main), members));
        let all = members.into_iter().chain(main).chain(self.marked(place));
        let left: BTreeSet<u32> = all.filter(|known| known.alive()).map(|known| known.pid).collect();
        left.into_iter().collect()
    }

    async fn prepare(&self, places: &[Place], _grace: Duration) -> Result<Vec<String>, Trouble> {
        if !program_is_there("setsid") {
            return Err(Trouble::lasting(
                "`setsid` (util-linux) is not on the PATH; replicas are started with it: install it",
            ));
        }
        let mut lines = Vec::new();
        for version in [VersionRef::From, VersionRef::To] {
            secrets(&self.deployment, version)?;
        }
        for place in places {
            for version in [VersionRef::From, VersionRef::To] {
                let arguments = self.deployment.arguments(place, version).map_err(Trouble::lasting)?;
                let program = arguments.first().cloned().unwrap_or_default();
                if !program_is_there(&program) {
                    return Err(Trouble::lasting(format!(
                        "{}: `{program}` of {version} is not there; correct versions.{}.command",
                        place.name,
                        if version == VersionRef::From { "from" } else { "to" }
                    )));
                }
            }
            self.open_log(place)?;
            if let Some(record) = self.look(place) {
                if i32::try_from(record.main.pid)
                    .ok()
                    .and_then(Pid::from_raw)
                    .is_none_or(|pid| rustix::process::test_kill_process(pid).is_err())
                {
                    return Err(Trouble::lasting(format!(
                        "{}: process {} belongs to somebody else and can't be stopped; run as its owner",
                        place.name, record.main.pid
                    )));
                }
                let how = if record.leads { "and its group" } else { "and its descendants" };
                lines.push(format!(
                    "{}: stop  process {} {how} (TERM, then KILL)",
                    place.name, record.main.pid
                ));
            }
            let arguments = self.deployment.arguments(place, VersionRef::To).map_err(Trouble::lasting)?;
            lines.push(format!("{}: start {}", place.name, join(&arguments)));
        }
        Ok(lines)
    }

    async fn last_words(&self, place: &Place) -> Option<String> {
        let mut file = File::open(self.log(place)).ok()?;
        let end = file.seek(SeekFrom::End(0)).ok()?;
        file.seek(SeekFrom::Start(end.saturating_sub(2_000))).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let last = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(short(last))
    }

    fn recovery(&self, place: &Place) -> Recovery {
        let version = VersionRef::From;
        let definition = self.deployment.versions.of(version);
        let (Ok(arguments), Ok(plain)) =
            (self.deployment.arguments(place, version), self.deployment.plain_environment(place, version))
        else {
            return Recovery::default();
        };
        let mut variables: Vec<String> =
            plain.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
        let from = definition.env_from.iter();
        variables.extend(from.map(|(theirs, ours)| format!("{theirs}=\"${{{ours}:?}}\"")));
        let files = definition.env_files.iter();
        variables.extend(
            files.map(|(name, path)| format!("{name}=\"$(cat {})\"", quote(&path.to_string_lossy()))),
        );
        variables.push(quote(&self.mark(place)));
        variables.push(format!("{DEFINITION}={}", self.deployment.definition_hash(place, version)));
        let directory =
            definition.directory.as_ref().and_then(|template| fill(template, place, Some(version), &[]).ok());
        let go = directory.map_or(String::new(), |directory| format!("cd {} && ", quote(&directory)));
        let record = quote(&self.record(place).to_string_lossy());
        let port = Base::parse(&place.url).ok().and_then(|base| base.port()).unwrap_or(0);
        let new = self.deployment.definition_hash(place, VersionRef::To);
        Recovery {
            // What was not started by the new definition is the old version still.
            is_new: format!("grep -q {new} {record} 2>/dev/null"),
            lines: vec![
                // One that was only just started does not listen yet, and would take the port from the one that is started here.
                format!("stop_marked {}", quote(&self.mark(place))),
                format!("stop_port {port}"),
                format!(
                    "({go}exec env {} setsid {} </dev/null >>{} 2>&1) &",
                    variables.join(" "),
                    join(&arguments),
                    quote(&self.log(place).to_string_lossy())
                ),
                format!("rm -f {record}"),
            ],
        }
    }
}

fn stuck(place: &Place, members: &[Known]) -> Trouble {
    let left: Vec<String> =
        members.iter().filter(|known| known.alive()).map(|known| known.pid.to_string()).collect();
    Trouble::passing(format!(
        "{}: processes {} were killed and are still there, held by the kernel (a driver, for one)",
        place.name,
        left.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(folder: &Path, from: &str, to: &str) -> (Processes, Place) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "schema = 'slackwater.deployment/1'\ndirectory = 'state'\nengine = {{ kind = 'vllm' }}\n\
             balancer = {{ kind = 'gateway', admin = 'unix:/g' }}\nversions.from.command = {from}\nversions.to.command = {to}\n\
             [[replicas]]\nname = 'a'\nurl = 'http://127.0.0.1:{port}'\n"
        );
        let deployment = Deployment::parse(&text, folder).unwrap();
        let place = deployment.replicas[0].clone();
        (Processes::new(deployment), place)
    }

    const GRACE: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_replica_is_started_once_found_again_and_stopped_with_all_its_children() {
        let folder = tempfile::tempdir().unwrap();
        // The child makes a session of its own: only the mark tells that it belongs here.
        let (processes, place) = processes(
            folder.path(),
            "['sh', '-c', 'setsid sleep 1000 & sleep 1000 & exec sleep 1001']",
            "['sleep', '1002']",
        );
        assert_eq!(processes.find(&place).await.unwrap(), None);
        processes.start(&place, VersionRef::From).await.unwrap();
        let first = processes.find(&place).await.unwrap().unwrap();
        assert_eq!(first.version, Some(VersionRef::From));
        processes.start(&place, VersionRef::From).await.unwrap();
        let pid = first.pid.unwrap();
        assert_eq!(processes.find(&place).await.unwrap().unwrap().pid, Some(pid), "started once");
        let beside = processes.start(&place, VersionRef::To).await.unwrap_err();
        assert!(beside.reason.contains("still runs there"), "{beside}");

        // An executor that died before it wrote the record finds the process by its mark.
        let until = Instant::now() + Duration::from_secs(5);
        while procfs::stat(pid).unwrap().session != pid {
            assert!(Instant::now() < until, "it is in a session of its own");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        fs::remove_file(processes.record(&place)).unwrap();
        let again = processes.find(&place).await.unwrap().unwrap();
        assert_eq!((again.pid, again.version), (Some(pid), Some(VersionRef::From)));
        while processes.marked(&place).len() < 3 {
            assert!(Instant::now() < until, "three processes: {:?}", processes.marked(&place));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        processes.stop(&place, GRACE).await.unwrap();
        assert_eq!(processes.leftovers(&place).await, Vec::<u32>::new());
        assert!(processes.marked(&place).is_empty());
        processes.stop(&place, GRACE).await.unwrap();
    }

    /// Found by a test that killed the executor right after a start: the new process took the port a moment later.
    #[tokio::test]
    async fn recovery_stops_one_that_does_not_listen_yet() {
        let folder = tempfile::tempdir().unwrap();
        let (processes, place) = processes(folder.path(), "['sleep', '1003']", "['sleep', '1002']");
        processes.start(&place, VersionRef::To).await.unwrap();
        let script = format!("{}{}\n", crate::recover::HEAD, processes.recovery(&place).lines.join("\n"));
        let output = tokio::process::Command::new("sh").arg("-c").arg(&script).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let until = Instant::now() + Duration::from_secs(5);
        let runs = |seconds: &str| {
            let marked = processes.marked(&place);
            marked.iter().any(|known| {
                let words = fs::read(format!("/proc/{}/cmdline", known.pid)).unwrap_or_default();
                String::from_utf8_lossy(&words).contains(seconds)
            })
        };
        while !runs("1003") {
            assert!(Instant::now() < until, "the old version was started");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(!runs("1002"), "the new version was stopped");
        processes.stop(&place, GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_ignores_the_request_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (processes, place) = processes(
            folder.path(),
            "['sh', '-c', 'trap \"\" TERM; while :; do sleep 0.1; done']",
            "['sleep', '1']",
        );
        processes.start(&place, VersionRef::From).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        processes.stop(&place, GRACE).await.unwrap();
        assert!(began.elapsed() >= GRACE);
        assert_eq!(processes.find(&place).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_can_not_be_started_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (processes, place) = processes(
            folder.path(),
            "['/no/such/engine', 'x']",
            "['sh', '-c', 'sleep 0.1; echo out of memory; exit 1']",
        );
        let missing = processes.start(&place, VersionRef::From).await.unwrap_err();
        assert!(missing.reason.contains("/no/such/engine") && !missing.retryable, "{missing}");
        assert!(
            processes
                .prepare(std::slice::from_ref(&place), GRACE)
                .await
                .unwrap_err()
                .reason
                .contains("versions.from.command")
        );
        processes.start(&place, VersionRef::To).await.unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while processes.find(&place).await.unwrap().is_some() {
            assert!(Instant::now() < until);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert_eq!(processes.last_words(&place).await.as_deref(), Some("out of memory"));
    }
}
