//! The executor is killed after every record of a rollout, and goes on.
//!
//! The executor that is killed is this test binary itself, run again for its ignored test: it drives the same session as the command, with
//! a view that ends the process the moment a given record is on disk. Nothing in the program knows of it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rusqlite::params;
use slackwater_exec::deployment::Deployment;
use slackwater_exec::driver::View;
use slackwater_exec::session::{RunOptions, Session};
use slackwater_policy::{Entry, Event, Note, Outcome, Plan, Record, Rollout, fold};

use super::fleet::{Fleet, Front, Spec, exit, first_runs_new, records, text};

/// Ends this process at a record.
struct KilledAt(u64);

impl View for KilledAt {
    fn record(&mut self, record: &Record, _: &Rollout) {
        if record.seq >= self.0 {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }

    fn say(&mut self, _: &str) {}
}

#[test]
#[ignore = "the executor that the other tests of this file kill"]
fn executor_to_be_killed() {
    let Ok(folder) = std::env::var("SLACKWATER_KILL_FOLDER") else { return };
    let at = std::env::var("SLACKWATER_KILL_AT").unwrap().parse().unwrap();
    let folder = std::path::Path::new(&folder);
    let plan: Plan = toml::from_str(&std::fs::read_to_string(folder.join("plan.toml")).unwrap()).unwrap();
    let deployment = Deployment::load(&folder.join("deployment.toml")).unwrap();
    let options = RunOptions { leave_when_held: true, ..RunOptions::default() };
    let session = Session::new(plan, &deployment, options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(session.run(KilledAt(at))).unwrap();
}

/// Runs a rollout that is killed at this record; whether it was.
pub(crate) fn killed_at(fleet: &Fleet, at: u64) -> bool {
    let log = std::fs::File::create(fleet.path("killed.log")).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "run::crash::executor_to_be_killed"])
        .env("SLACKWATER_KILL_FOLDER", fleet.folder.path())
        .env("SLACKWATER_KILL_AT", at.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    // One that ends otherwise has failed, which is not what is looked for.
    let killed = status.signal() == Some(9);
    assert!(killed || status.success(), "{}", std::fs::read_to_string(fleet.path("killed.log")).unwrap());
    killed
}

/// Forgets every record after one, as if the disk had been there no longer.
pub(crate) fn cut_journal(fleet: &Fleet, keep: u64) {
    let journal = rusqlite::Connection::open(fleet.state().join("journal.sqlite")).unwrap();
    let last: i64 = journal.query_row("SELECT max(id) FROM rollouts", [], |row| row.get(0)).unwrap();
    let keep = i64::try_from(keep).unwrap();
    journal.execute("DELETE FROM records WHERE rollout = ?1 AND seq > ?2", params![last, keep]).unwrap();
}

/// Rollouts to and fro, under load, each killed some records later than the one before and resumed, until one is over
/// before it is killed; how many were killed. In strides of `every` records, or of `SLACKWATER_KILL_EVERY`.
pub(crate) fn killed_again_and_again(fleet: &mut Fleet, what: &str, every: u64) -> u64 {
    let every: u64 =
        std::env::var("SLACKWATER_KILL_EVERY").ok().and_then(|it| it.parse().ok()).unwrap_or(every);
    let load = fleet.load(4);
    let (mut kills, mut at) = (0, every / 2);
    while killed_at(fleet, at) {
        kills += 1;
        let before = fleet.pids();
        // Records of one event are on disk together; with the later ones gone it was killed between them.
        cut_journal(fleet, at);
        let output = fleet.resume(&[]);
        let report = fold(&fleet.plan, &records(&fleet.state()));
        // Killed after its last record there is nothing left to be done.
        let over = exit(&output) == 5 && text(&output).contains("is over (Completed)");
        assert!(exit(&output) == 0 || over, "killed at {at}: {}\nbefore: {before:?}", text(&output));
        assert_eq!(report.outcome, Some(Outcome::Completed), "killed at {at}");
        fleet.turn_round();
        at += every;
    }
    let report = fleet.stop_load(load);
    eprintln!(
        "{what}: killed at every {every}. record and resumed, {kills} times; {} streams, {} lost",
        report.sent,
        report.sent - report.completed
    );
    assert!(report.is_clean(), "{kills}: {:?}", report.faults);
    kills
}

#[test]
fn an_executor_killed_after_any_record_goes_on_and_loses_nothing() {
    // In steps in CI; SLACKWATER_KILL_EVERY=1 kills after every single one.
    let mut fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let kills = killed_again_and_again(&mut fleet, "processes", 9);
    assert!(kills > 5, "a rollout has more records than that");
}

#[test]
fn a_journal_that_lost_its_last_words_gets_them_back() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let output = fleet.run(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let whole = records(&fleet.state());
    let last_event = whole.iter().rev().find(|record| matches!(record.entry, Entry::Event(_))).unwrap().seq;
    for keep in last_event..whole.last().unwrap().seq {
        cut_journal(&fleet, keep);
        assert_eq!(records(&fleet.state()).last().unwrap().seq, keep);
        let output = fleet.resume(&[]);
        assert_eq!(exit(&output), 5, "{}", text(&output));
        assert!(text(&output).contains("is over (Completed)"), "{}", text(&output));
        assert_eq!(records(&fleet.state()), whole, "cut after {keep}");
    }
}

#[test]
fn replicas_outlive_their_executor() {
    let fleet = Fleet::start(&Spec::new(Front::Gateway, 2));
    let load = fleet.load(4);
    let mut executor = fleet.spawn(&[]);
    fleet.until("one replica has the new version", first_runs_new);
    executor.kill().unwrap();
    executor.wait().unwrap();
    let before = fleet.pids();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(fleet.pids(), before, "nobody died with it");
    let status = fleet.status();
    assert_eq!(status["pid"], serde_json::Value::Null, "{status}");
    let output = fleet.resume(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    let recovered = records(&fleet.state());
    assert!(recovered.iter().any(|record| record.entry == slackwater_policy::Entry::Event(Event::Recovered)));
    let ended = |record: &&Record| matches!(record.entry, slackwater_policy::Entry::Note(Note::Ended { .. }));
    assert_eq!(recovered.iter().filter(ended).count(), 1);
    assert!(fleet.stop_load(load).is_clean());
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v2"]);
}
