//! The wall clock jumps in the middle of a rollout, and the disk with the journal fills up.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use slackwater_exec::clock::{Clock, SystemClock};
use slackwater_exec::driver::{Ended, View};
use slackwater_exec::preflight::AtTime;
use slackwater_exec::session::{RunOptions, Session};
use slackwater_policy::{
    Entry, HoldReason, Note, Outcome, Phase, Record, ReplicaState, Rollout, Span, Time, Window, fold,
};

use super::fleet::{Fleet, Front, Spec, exit, first_runs_new, records, text};

/// The machine's clocks, the wall one set ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn wall(&self) -> Time {
        SystemClock.wall() + Span::from_secs(self.0.load(Ordering::SeqCst))
    }
    fn steady(&self) -> Span {
        SystemClock.steady()
    }
    fn boot(&self) -> String {
        SystemClock.boot()
    }
}

/// Sets the clock an hour ahead when the first replica is back in rotation; notes how long it was then watched.
struct Jumps {
    clock: Arc<Ahead>,
    back: Option<Instant>,
    watched: Arc<AtomicU64>,
}

impl View for Jumps {
    fn record(&mut self, record: &Record, _: &Rollout) {
        match &record.entry {
            Entry::Note(Note::State { state: ReplicaState::Readmitted, .. }) if self.back.is_none() => {
                self.back = Some(Instant::now());
                self.clock.0.store(3_600, Ordering::SeqCst);
            }
            Entry::Note(Note::MoveEnded { .. }) if self.watched.load(Ordering::SeqCst) == 0 => {
                let watched = self.back.unwrap().elapsed().as_millis();
                self.watched.store(u64::try_from(watched).unwrap(), Ordering::SeqCst);
            }
            _ => {}
        }
    }

    fn say(&mut self, _: &str) {}
}

/// A rollout whose clock jumps while its first replica soaks for 2 s; how it ended, and how long that soak lasted, in milliseconds.
fn jumped(fleet: &Fleet) -> (Ended, u64) {
    let (clock, watched) = (Arc::new(Ahead::default()), Arc::new(AtomicU64::new(0)));
    let view = Jumps { clock: Arc::clone(&clock), back: None, watched: Arc::clone(&watched) };
    let options = RunOptions { leave_when_held: true, ..RunOptions::default() };
    let session = Session::new(fleet.plan.clone(), &fleet.deployment(), options).unwrap().by(clock);
    let ended = fleet.runtime.block_on(async {
        let found = session.preflight(AtTime::Now).await;
        assert_eq!(found.refusals, Vec::<String>::new());
        session.run(view).await
    });
    (ended.unwrap(), watched.load(Ordering::SeqCst))
}

fn fleet() -> Fleet {
    let mut spec = Spec::new(Front::Gateway, 2);
    spec.soak = Span::from_secs(2);
    Fleet::start(&spec)
}

#[test]
fn a_clock_that_jumps_skips_no_soak() {
    let fleet = fleet();
    let (ended, watched) = jumped(&fleet);
    assert!(matches!(ended, Ended::Over(Outcome::Completed, _)), "{ended:?}");
    assert!(watched >= 2_000, "watched for {watched} ms in place of 2 s");
    let report = fold(&fleet.plan, &records(&fleet.state()));
    let lasted = report.ended_at.unwrap().since(report.started_at.unwrap());
    assert!(lasted < Span::from_secs(600), "the journal's times do not jump either: {lasted}");
}

#[test]
fn with_windows_it_holds_and_looks_at_them_again() {
    let mut fleet = fleet();
    let now = SystemClock.wall();
    fleet.plan.windows = vec![Window::new(now, now + Span::from_secs(1_800))];
    fleet.plan.rollout.move_expected = Span::from_secs(60);
    fleet.write_plan();
    let (ended, watched) = jumped(&fleet);
    let Ended::Held(_, report) = ended else { panic!("the window is over by the wall clock: {ended:?}") };
    assert!(matches!(report.phase, Phase::Holding { reason: HoldReason::Window, .. }), "{:?}", report.phase);
    assert!(watched >= 2_000, "watched for {watched} ms in place of 2 s");
    assert_eq!(fleet.roots(), ["/models/v2", "/models/v1"], "both serve");
}

/// A file system of its own, as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn small(at: &std::path::Path) -> Option<Mounted> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=80m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_in_a_hold_with_all_serving_and_is_gone_on_with() {
    let mut spec = Spec::new(Front::Gateway, 3);
    spec.soak = Span::from_secs(2);
    let fleet = Fleet::start(&spec);
    let Some(_mounted) = Mounted::small(&fleet.state()) else {
        eprintln!("skipped: a file system can't be mounted here (needs root)");
        return;
    };
    let load = fleet.load(4);
    let executor = fleet.spawn(&[]);
    fleet.until("one is new", first_runs_new);
    let filler = fleet.state().join("filler");
    let full = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", filler.display()))
        .output()
        .unwrap();
    assert!(!full.status.success(), "the disk is full now");
    let output = executor.wait_with_output().unwrap();
    assert_eq!(exit(&output), 3, "{}", text(&output));
    assert!(text(&output).contains("the disk with the journal is full"), "{}", text(&output));
    let served = fleet.roots();
    assert!(served.iter().all(|root| root.starts_with("/models/")), "{served:?}");
    assert!(served.contains(&"/models/v1".to_owned()), "it came to a hold before the end: {served:?}");

    fs::remove_file(filler).unwrap();
    let output = fleet.resume(&[]);
    assert_eq!(exit(&output), 0, "{}", text(&output));
    assert_eq!(fleet.roots(), vec!["/models/v2"; 3]);
    assert!(fleet.stop_load(load).is_clean());
}
