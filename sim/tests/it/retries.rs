//! Clients that try again: at once, after half an answer, within a budget; and what a storm of them does.

use crate::kit::{Engine, Outcome, Run, Spec, near, outcome, trace};

fn spec(replicas: u32, retries: &str, faults: &str) -> Spec {
    Spec {
        replicas,
        clients: format!("timeout = \"30d\"\nretries = {{ {retries} }}"),
        faults: faults.to_owned(),
        ..Spec::default()
    }
}

const CRASH: &str = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 20.5\nnoticed_after = 4\nback_after = 30\n";

/// An answer of 1 s is half done when its stream breaks. Whoever minds sees an error; whoever sends it again after 5 s has
/// the whole answer 1 s after that, and its times count from its arrival.
#[test]
fn a_client_that_resubmits_a_broken_stream_is_answered_late() {
    let requests = trace([(20.0, 10, 100), (20.0, 10, 100)]);
    let minds = spec(2, "", CRASH).run(&requests);
    assert_eq!(minds.rows.iter().filter(|row| outcome(row) == Outcome::Cut).count(), 1);
    // Before 24.5 s replica 0, dead and not yet known to be, would refuse it: it counts as idle.
    let again = spec(2, "after_first_token = true, backoff = 5, jitter = 0", CRASH).run(&requests);
    let late = again.rows.iter().find(|row| row.attempts > 1).unwrap();
    assert!(again.rows.iter().all(|row| outcome(row) == Outcome::Completed));
    assert_eq!((late.attempts, late.replica), (2, Some(1)));
    near(late.e2e_s, 0.5 + 5.0 + 1.0);
    near(late.ttft_s.unwrap(), 0.5 + 5.0 + 0.01);
}

/// Without back-off, and with nobody there, all attempts of a request fail in the instant it arrives.
#[test]
fn without_back_off_every_attempt_is_made_at_once() {
    let run = spec(1, "max = 7, backoff = 0", CRASH).run(&trace([(21.0, 1, 1), (22.0, 1, 1)]));
    assert_eq!(run.result.attempts.rejected, 2 * 8);
    assert!(run.rows.iter().all(|row| row.attempts == 8 && row.e2e_s == 0.0));
}

/// One retry for ten arrivals: of twenty that all fail, two are retried, and the two retries fail too.
#[test]
fn a_budget_lets_so_many_retries_pass() {
    let requests = trace((0..20).map(|number| (21.0 + f64::from(number) / 10.0, 1, 1)));
    let run = spec(1, "max = 5, backoff = 0, budget = 0.1", CRASH).run(&requests);
    assert_eq!(run.result.attempts.sent, 20 + 2);
    // Every failed attempt but those two asked: 22 failures, 2 of them granted.
    assert_eq!(run.result.retries.out_of_budget, 20);
    // What is not used is saved up, but not without end: 10 retries after a hundred quiet arrivals.
    let quiet = (0..200).map(|number| (f64::from(number) / 10.0, 1, 1));
    let burst = (0..40).map(|_| (21.0, 1, 1));
    let run = spec(1, "max = 5, backoff = 0, budget = 0.1", CRASH).run(&trace(quiet.chain(burst)));
    // Each of the forty adds a tenth as well, but to a store that is full at first: 10 + 39 / 10.
    assert_eq!(run.result.attempts.sent, 240 + 13);
}

/// By hand: six a minute for ten minutes, of which those of the crashed half minute are sent eight times.
#[test]
fn the_amplification_is_attempts_by_requests_and_its_worst_minute_is_found() {
    let requests = trace((0..60).map(|number| (f64::from(number) * 10.0 + 5.0, 1, 1)));
    let run = spec(1, "max = 7, backoff = 0", CRASH).run(&requests);
    // 25, 35 and 45 s: the process is back at 50.5 s.
    near(run.result.retries.amplification, (60.0 + 3.0 * 7.0) / 60.0);
    near(run.result.retries.worst_minute, (6.0 + 3.0 * 7.0) / 6.0);
    near(run.result.retries.worst_minute_at_s, 0.0);
    let series = &run.result.series;
    let place = series.at_s.iter().position(|at| *at == 30.0).unwrap();
    near(series.attempts_per_s[place], 0.8);
    near(series.arrivals_per_s[place], 0.1);
}

/// Two replicas that carry 16 a second have 12. One is gone for a minute, so the other is overloaded, as it must be. Clients
/// that give up once and for all bring the fleet back; those that send again at once what they gave up on keep a fleet
/// of two down that had room for a third more, long after its second replica is back.
#[test]
fn a_storm_of_retries_keeps_a_fleet_down_that_is_whole_again() {
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = 100\nback_after = 60\n";
    let storm = |retries: &str| {
        let requests = trace((0..12_000).map(|number| (f64::from(number) / 12.0, 1, 100)));
        let engine = Engine { max_num_seqs: 8, ..Engine::default() };
        let clients = format!("timeout = 10\nretries = {{ {retries} }}");
        Spec { replicas: 2, engine, clients, faults: crash.to_owned(), ..Spec::default() }.run(&requests)
    };
    let answered = |run: &Run| {
        let late = run.rows.iter().filter(|row| (600.0..900.0).contains(&row.arrived_s));
        late.clone().filter(|row| outcome(row) == Outcome::Completed).count() as f64 / late.count() as f64
    };
    let calm = storm("max = 0");
    near(answered(&calm), 1.0);
    near(calm.result.retries.amplification, 1.0);
    let storm = storm("max = 8, backoff = 0, after_first_token = true");
    assert!(answered(&storm) < 0.9, "{}", answered(&storm));
    assert!(storm.result.retries.worst_minute > 2.0, "{:?}", storm.result.retries);
}
