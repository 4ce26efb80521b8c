//! Each kind of fault does what the scenario's documentation says of it, and is answered by the rollout as it should be.

use slackwater_policy::{Entry, Event, Note, Record, ReplicaState, Reply};

use crate::kit::{Outcome, Run, Spec, WITH_ROWS, near, outcome, ps, trace};

/// Each start takes 10 s, each request 1 s; one request a second for ten minutes; the rollout begins at 100 s.
fn rolled(replicas: u32, rollout: &str, faults: &str) -> Run {
    let requests = trace((0..600).map(|number| (f64::from(number), 10, 100)));
    spec(replicas, rollout, faults).roll(&requests, ps(100.0))
}

fn spec(replicas: u32, rollout: &str, faults: &str) -> Spec {
    Spec { replicas, rollout: format!("soak = 5\n{rollout}"), faults: faults.to_owned(), ..Spec::default() }
}

fn notes(run: &Run) -> impl Iterator<Item = &Note> {
    run.journal.iter().filter_map(|record| match &record.entry {
        Entry::Note(note) => Some(note),
        _ => None,
    })
}

fn replies(run: &Run) -> impl Iterator<Item = (&Record, &Reply)> {
    run.journal.iter().filter_map(|record| match &record.entry {
        Entry::Event(Event::Outcome { outcome, .. }) => Some((record, outcome)),
        _ => None,
    })
}

/// Seconds since the start of the traffic.
fn told_at(run: &Run, wanted: impl Fn(&Event) -> bool) -> Option<f64> {
    let mut told =
        run.journal.iter().filter(|record| matches!(&record.entry, Entry::Event(event) if wanted(event)));
    told.next().map(|record| record.at.since(slackwater_policy::Time::ZERO).as_secs_f64())
}

const CRASH: &str = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = 20.5\n";

/// What is in flight is cut and retried, new attempts are refused until it is noticed, then nobody is sent there; once it
/// is back it serves as before.
#[test]
fn a_crash_cuts_then_refuses_until_it_is_noticed_and_is_over_once_it_is_back() {
    let spec = spec(2, "", &format!("{CRASH}noticed_after = 4\nback_after = 30\n"));
    let requests = trace((0..200).map(|number| (f64::from(number) / 2.0, 10, 100)));
    let run = spec.run(&requests);
    let attempts = run.result.attempts;
    // Two requests of 1 s are always under way, one at each replica. The dead one counts as idle from 20.5 s on.
    assert_eq!(attempts.cut, 1);
    assert!((4..=20).contains(&attempts.rejected), "{attempts:?}");
    let failed = |row: &&slackwater_sim::RequestRow| row.attempts > 1;
    for row in run.rows.iter().filter(failed) {
        assert!((19.0..24.5).contains(&row.arrived_s), "{row:?}");
    }
    let on_dead = run.rows.iter().filter(|row| row.replica == Some(1) && row.attempts == 1);
    assert!(on_dead.clone().all(|row| row.arrived_s < 20.0 || row.arrived_s >= 50.5), "nobody answers there");
    assert!(on_dead.filter(|row| row.arrived_s >= 50.5).count() > 10, "and then it is in use again");
    let serving = |at: f64| {
        let series = &run.result.series;
        let place = series.at_s.iter().position(|sample| *sample >= at).unwrap();
        series.serving[place]
    };
    assert_eq!((serving(20.0), serving(30.0), serving(60.0)), (2, 1, 2));
}

#[test]
fn a_stream_that_breaks_with_the_crash_is_a_failure_the_user_saw() {
    let run = spec(2, "", CRASH).run(&trace([(20.0, 10, 100), (20.0, 10, 100)]));
    let mut seen: Vec<Outcome> = run.rows.iter().map(outcome).collect();
    seen.sort_by_key(|outcome| *outcome == Outcome::Cut);
    assert_eq!(seen, [Outcome::Completed, Outcome::Cut], "half an answer can't be retried");
}

/// The rollout hears of it when the balancer notices, and moves the replica that is down first.
#[test]
fn a_crash_during_the_rollout_is_told_and_mended_by_it() {
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-2'\nat = 102\n";
    let run = rolled(3, "", crash);
    assert_eq!(run.rollout().outcome, "completed");
    let told = told_at(&run, |event| matches!(event, Event::ReplicaDown { replica, .. } if replica.0 == 2));
    near(told.unwrap(), 108.0);
    let moved: Vec<&str> = run.rollout().moves.iter().map(|moved| moved.replica.as_str()).collect();
    assert_eq!(moved.iter().filter(|name| **name == "replica-2").count(), 1, "{moved:?}");
}

/// A replica that comes back by itself while the rollout is busy elsewhere is looked at and moved in its turn.
#[test]
fn a_replica_that_is_back_is_looked_at_and_moved_in_its_turn() {
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-2'\nat = 101\nback_after = 8\n";
    let run = rolled(3, "", crash);
    assert_eq!(run.rollout().outcome, "completed");
    assert!(told_at(&run, |event| matches!(event, Event::ReplicaUp { .. })).is_some());
}

/// A process that exits is a last word: the new version does not start, so the old one does.
#[test]
fn a_failed_start_is_final_and_the_old_version_comes_back() {
    let run = rolled(2, "", "[[faults]]\nkind = 'start-failure'\nversion = 'to'\n");
    assert_eq!(run.rollout().outcome, "rolled_back");
    assert!(replies(&run).any(|(_, reply)| matches!(reply, Reply::Failed { retryable: false, .. })));
    assert!(run.rollout().report.cut == 0 && run.result.requests.cut == 0);
}

/// Where even the old version does not start again the replica is parked, and the report names it.
#[test]
fn a_gpu_that_starts_nothing_any_more_is_parked_and_named() {
    let run = rolled(2, "", "[[faults]]\nkind = 'start-failure'\nreplica = 'replica-0'\n");
    let outcome = &run.rollout().outcome;
    assert!(outcome.starts_with("held: ") && outcome.contains("replica-0"), "{outcome}");
    let parked = |note: &Note| matches!(note, Note::State { replica, state: ReplicaState::Parked, .. } if replica.0 == 0);
    assert!(notes(&run).any(parked));
    assert_eq!(run.result.requests.rejected, 0, "the other one serves on");
}

#[test]
fn a_version_that_never_gets_healthy_is_given_up_after_its_attempts_and_rolled_back() {
    let run = rolled(
        2,
        "health = { timeout = 20 }\nstart_attempts = 2",
        "[[faults]]\nkind = 'never-healthy'\nversion = 'to'\n",
    );
    assert_eq!(run.rollout().outcome, "rolled_back");
    assert_eq!(notes(&run).filter(|note| matches!(note, Note::BringUpAgain { .. })).count(), 1);
}

#[test]
fn the_nth_start_alone_is_befallen() {
    let faults = "[[faults]]\nkind = 'never-healthy'\nreplica = 'replica-1'\nnth = 1\n";
    let run = rolled(2, "health = { timeout = 20 }", faults);
    assert_eq!(run.rollout().outcome, "completed", "the second start of replica-1 is a good one");
    let again = |note: &&Note| matches!(note, Note::BringUpAgain { replica, .. } if replica.0 == 1);
    assert_eq!(notes(&run).filter(again).count(), 1);
}

/// From start to healthy, in whole looks of 2 s.
fn start_s(run: &Run, place: usize) -> f64 {
    let moved = &run.rollout().moves[place];
    moved.healthy_s.unwrap() - moved.start_issued_s.unwrap()
}

#[test]
fn a_slow_start_takes_so_many_times_as_long() {
    let run = rolled(2, "", "[[faults]]\nkind = 'slow-start'\nfactor = 5\nreplica = 'replica-0'\n");
    assert_eq!(run.rollout().outcome, "completed");
    assert!((50.0..53.0).contains(&start_s(&run, 0)), "{}", start_s(&run, 0));
    assert!((10.0..13.0).contains(&start_s(&run, 1)), "{}", start_s(&run, 1));
}

#[test]
fn lingering_memory_delays_the_start_or_parks_the_replica() {
    let lingers =
        |seconds: u32| format!("[[faults]]\nkind = 'gpu-memory-lingers'\nfor = {seconds}\nnth = 1\n");
    let run = rolled(2, "gpu_release_timeout = 60", &lingers(40));
    assert_eq!(run.rollout().outcome, "completed");
    for moved in &run.rollout().moves {
        let held = moved.gpu_free_s.unwrap() - moved.stopped_s.unwrap();
        assert!((41.0..44.0).contains(&held), "{held}");
    }
    let run = rolled(2, "gpu_release_timeout = 60", &lingers(400));
    assert!(run.rollout().outcome.starts_with("held: "), "{}", run.rollout().outcome);
    assert!(run.rollout().outcome.contains("memory"), "{}", run.rollout().outcome);
}

/// Every command is asked again until word of it comes back: half of the replies lost make it slower, not wrong.
#[test]
fn a_rollout_survives_the_loss_of_replies() {
    let sound = rolled(3, "", "");
    let run = rolled(3, "", "[[faults]]\nkind = 'lost-replies'\nshare = 0.3\nat = 100\nuntil = 400\n");
    let lost = notes(&run).filter(|note| matches!(note, Note::NoReply { .. })).count();
    assert!(lost > 3, "{lost} lost");
    assert!(run.rollout().ended_s > sound.rollout().ended_s);
    assert_eq!(run.result.requests.cut, 0);
}

/// The balancer is believed once its zero has stood long enough; the drain does not run into its deadline.
#[test]
fn a_stuck_gauge_loses_against_the_balancer() {
    let stuck = "[[faults]]\nkind = 'stuck-in-flight'\nreplica = 'replica-1'\nat = 50\n";
    let run = rolled(2, "drain_timeout = 120", stuck);
    assert_eq!(run.rollout().outcome, "completed");
    let believed = |note: &&Note| matches!(note, Note::Believed { replica, .. } if replica.0 == 1);
    assert_eq!(notes(&run).filter(believed).count(), 1);
    assert_eq!(notes(&run).filter(|note| matches!(note, Note::Believed { .. })).count(), 1);
    assert_eq!(run.result.requests.cut, 0);
}

/// Faults that never come change nothing, draws included.
#[test]
fn a_fault_that_never_comes_changes_no_bit() {
    let sound = rolled(2, "", "");
    let late = "[[faults]]\nkind = 'start-failure'\nnth = 9\n[[faults]]\nkind = 'lost-replies'\nshare = 0\n\
                [[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = '9h'\n";
    assert_eq!(rolled(2, "", late).result.hash, sound.result.hash);
}

/// An order from a person sets a rollout going again that has come to hold.
#[test]
fn a_held_rollout_goes_on_when_it_is_resumed() {
    let faults = "[[faults]]\nkind = 'gpu-memory-lingers'\nfor = 100\nnth = 1\nreplica = 'replica-0'\n";
    let requests = trace((0..600).map(|number| (f64::from(number), 10, 100)));
    let mut world = spec(2, "gpu_release_timeout = 60", faults).rolling(&requests, ps(100.0), WITH_ROWS);
    world.run_until(ps(250.0)).unwrap();
    assert_eq!(world.rollout_state(), Some(slackwater_sim::RolloutState::Held));
    world.order(slackwater_policy::Operator::Resume).unwrap();
    assert_eq!(Run::of(world).rollout().outcome, "completed");
}

/// A replica that comes back by itself while it is being taken out, having been found dead at the gate, has requests
/// again. They deserve a drain: the rollout hears `ReplicaUp` in the middle of a move and still counts it as dead.
#[test]
fn a_replica_that_is_back_while_it_is_taken_out_is_drained() {
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 95\nnoticed_after = 5.05\nback_after = 5.1\n";
    let mut spec = spec(2, "", crash);
    spec.router = "policy = \"nginx-least-conn\"".to_owned();
    let requests = trace((0..20_000).map(|number| (f64::from(number) / 100.0, 10, 100)));
    let run = spec.roll(&requests, ps(100.0));
    let late = notes(&run)
        .any(|note| matches!(note, Note::State { replica, state: ReplicaState::DrainTimedOut, .. } if replica.0 == 0));
    assert!(late || run.rollout().report.cut == 0, "{} cut without a drain", run.rollout().report.cut);
}
