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

fn figures(run: &Run, place: usize) -> &slackwater_sim::FaultFigures {
    &run.result.faults[place]
}

/// Closed form: a step takes 10 ms, so an answer of 100 tokens 1 s; three times slower from 50 s to 100 s, so 3 s.
#[test]
fn a_slow_gpu_takes_so_many_times_as_long_until_it_is_over() {
    let slow = "[[faults]]\nkind = 'slow-gpu'\nreplica = 'replica-0'\nat = 50\nuntil = 100\nfactor = 3\n";
    let requests = trace([(10.0, 10, 100), (60.0, 10, 100), (99.0, 10, 100), (110.0, 10, 100)]);
    let run = spec(1, "", slow).run(&requests);
    let took: Vec<f64> = run.rows.iter().map(|row| row.e2e_s).collect();
    near(took[0], 1.0);
    near(took[1], 3.0);
    // A third of it is done at 100 s (33 whole steps, the 34th ends at 100.02 s), the rest at full speed.
    near(took[2], 34.0 * 0.03 + 66.0 * 0.01);
    near(took[3], 1.0);
    let figures = figures(&run, 0);
    assert_eq!((figures.kind.as_str(), figures.when.as_str(), figures.times), ("slow-gpu", "at 50s", 1));
    assert_eq!((figures.came_s, figures.until_s), (Some(50.0), Some(100.0)));
}

/// It is the GPU that is slow: the process started on it during the rollout is so too.
#[test]
fn a_slow_gpu_stays_slow_for_the_next_process() {
    let slow = "[[faults]]\nkind = 'slow-gpu'\nreplica = 'replica-0'\nat = 0\nfactor = 2\n";
    let run = rolled(2, "", slow);
    assert_eq!(run.rollout().outcome, "completed");
    let last = run.rows.iter().filter(|row| row.arrived_s > 500.0);
    for row in last {
        near(row.e2e_s, if row.replica == Some(0) { 2.0 } else { 1.0 });
    }
}

/// A replica whose health checks go unanswered is taken out by the balancer, finishes what it has, and is back after.
#[test]
fn lost_health_takes_a_replica_out_of_rotation_and_cuts_nothing() {
    let lost =
        "[[faults]]\nkind = 'lost-health'\nreplica = 'replica-1'\nat = 20\nfor = 30\nnoticed_after = 5\n";
    let requests = trace((0..200).map(|number| (f64::from(number) / 2.0, 10, 100)));
    let run = spec(2, "", lost).run(&requests);
    assert_eq!(run.result.requests.completed, 200);
    assert_eq!(run.result.attempts.sent, 200, "nothing failed");
    let there = |from: f64, until: f64| {
        let there = run.rows.iter().filter(|row| row.replica == Some(1));
        there.filter(|row| (from..until).contains(&row.arrived_s)).count()
    };
    assert!(there(10.0, 25.0) > 10 && there(25.5, 49.5) == 0 && there(51.0, 90.0) > 20);
}

/// The rollout looks for itself and waits: a new process is not healthy before its health check answers.
#[test]
fn a_rollout_waits_for_health_that_does_not_answer() {
    let lost = "[[faults]]\nkind = 'lost-health'\nduring = 'starting'\nof = 'replica-0'\nfor = 60\n";
    let run = rolled(2, "", lost);
    assert_eq!(run.rollout().outcome, "completed");
    assert!((60.0..63.0).contains(&start_s(&run, 0)), "{}", start_s(&run, 0));
    assert!((10.0..13.0).contains(&start_s(&run, 1)), "{}", start_s(&run, 1));
    assert_eq!(figures(&run, 0).befell[0].replica, "replica-0", "the one whose move it is");
}

/// "replica-2 crashes while replica-1 is starting": the crash lies between that move's start and its health.
#[test]
fn a_fault_at_a_point_of_a_move_comes_there() {
    for (during, from, until) in [
        ("drain", "taken_out_s", "stopped_s"),
        ("stopped", "stopped_s", "gpu_free_s"),
        ("starting", "start_issued_s", "healthy_s"),
        ("warm-up", "healthy_s", "admitted_s"),
        ("soak", "admitted_s", "ended_s"),
    ] {
        let fault = format!(
            "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-2'\nduring = '{during}'\nof = 'replica-1'\n\
             back_after = 20\n"
        );
        let run = rolled(4, "", &fault);
        let figures = figures(&run, 0);
        let moved = run.rollout().moves.iter().find(|moved| moved.replica == "replica-1").unwrap();
        let moved = serde_json::to_value(moved).unwrap();
        let came = figures.came_s.unwrap();
        assert_eq!(figures.befell[0].replica, "replica-2");
        let (from, until) = (moved[from].as_f64().unwrap(), moved[until].as_f64().unwrap());
        assert!((from - 1e-6..=until).contains(&came), "{during}: {came} not in {from} to {until}");
    }
}

/// A time drawn from the seed lies between the two, differs with the seed, and is the same for the same seed.
#[test]
fn a_random_time_is_drawn_from_the_seed() {
    let fault = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = { between = [20, 80] }\n";
    let came = |seed| {
        let spec = Spec { seed, ..spec(2, "", fault) };
        figures(&spec.run(&trace([(1.0, 10, 100), (90.0, 10, 100)])), 0).came_s.unwrap()
    };
    let times: Vec<f64> = (1..40).map(came).collect();
    assert!(times.iter().all(|at| (20.0..80.0).contains(at)));
    assert!(times.iter().any(|at| *at < 35.0) && times.iter().any(|at| *at > 65.0), "{times:?}");
    near(came(7), times[6]);
}

/// A lost GPU at N-1: the rollout can't mend it, names it, and takes no other out.
#[test]
fn a_second_gpu_lost_at_n_minus_one_is_named() {
    let fault =
        "[[faults]]\nkind = 'gpu-lost'\nreplica = 'replica-2'\nduring = 'starting'\nof = 'replica-0'\n";
    let run = rolled(4, "", fault);
    let outcome = &run.rollout().outcome;
    assert!(outcome.starts_with("held: ") && outcome.contains("replica-2"), "{outcome}");
    assert!(run.result.phases.iter().all(|phase| phase.serving_min >= 2));
}

#[test]
fn a_fault_that_finds_nothing_says_so_and_one_that_never_comes_too() {
    let faults = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 20\n\
                  [[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 30\n\
                  [[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = '2h'\n";
    let run = spec(2, "", faults).run(&trace((0..100).map(|number| (f64::from(number), 10, 100))));
    let told: Vec<_> = run.result.faults.iter().map(|fault| (fault.came_s, fault.times)).collect();
    assert_eq!(told, [(Some(20.0), 1), (Some(30.0), 0), (None, 0)]);
}
