//! What a rollout does to the requests around it.

use slackwater_sim::RequestRow;

use crate::kit::{Engine, Outcome, Run, Spec, near, outcome, ps, trace};

/// A second a hundred tokens: a step of 10 ms, whatever it holds.
fn spec(replicas: u32, rollout: &str) -> Spec {
    Spec { replicas, rollout: rollout.to_owned(), ..Spec::default() }
}

fn of<'a>(run: &'a Run, replica: &'a str) -> impl Iterator<Item = &'a RequestRow> {
    run.rows.iter().filter(move |row| row.replica.is_some_and(|index| format!("replica-{index}") == replica))
}

/// Policy times are rounded up to the nanosecond.
const ROUNDING_S: f64 = 2e-9;

/// Rows of single attempts that were sent to a replica while it was out: from a move that took it out to the next one
/// (the same, or that which mended it) that put it back.
pub(crate) fn sent_while_out(run: &Run) -> Vec<&RequestRow> {
    let moves = &run.rollout().moves;
    let mut sent = Vec::new();
    for (place, moved) in moves.iter().enumerate() {
        let Some(out) = moved.taken_out_s else { continue };
        let same = moves[place..].iter().filter(|other| other.replica == moved.replica);
        let back = same.filter_map(|other| other.admitted_s).next().unwrap_or(f64::INFINITY);
        sent.extend(of(run, &moved.replica).filter(|row| {
            row.attempts == 1 && row.arrived_s > out + ROUNDING_S && row.arrived_s < back - ROUNDING_S
        }));
    }
    sent
}

/// Catches: a rotation that takes effect late or for some policies only, a replica admitted before it is warm.
#[test]
fn nothing_is_sent_to_a_replica_that_is_out() {
    let routers = [
        "policy = \"round-robin\"",
        "policy = \"least-connections\"",
        "policy = \"random-two-choices\"",
        "policy = \"nginx-least-conn\"\nworkers = 3",
    ];
    for router in routers {
        for unavailable in [1, 2] {
            let rollout = format!("soak = 3\nmax_unavailable = {unavailable}");
            let spec = Spec { router: router.to_owned(), ..spec(4, &rollout) };
            let run = spec.roll(&trace((0..3000).map(|number| (f64::from(number) * 0.05, 10, 80))), ps(10.0));
            assert_eq!(run.rollout().outcome, "completed");
            assert!(sent_while_out(&run).is_empty(), "{router}: {:?}", sent_while_out(&run)[0]);
            for moved in &run.rollout().moves {
                // While it is in, it gets its share; so the check above is not about nothing.
                assert!(of(&run, &moved.replica).count() > 300);
                let in_order = [
                    Some(moved.started_s),
                    moved.taken_out_s,
                    moved.drained_s,
                    moved.stopped_s,
                    moved.gpu_free_s,
                    moved.start_issued_s,
                    moved.healthy_s,
                    moved.warmed_s,
                    moved.admitted_s,
                    moved.ended_s,
                ];
                assert!(in_order.is_sorted() && in_order.iter().all(Option::is_some), "{moved:?}");
                assert!(
                    moved.healthy_s.unwrap() - moved.start_issued_s.unwrap() >= 10.0 - 1e-6,
                    "it takes 10 s to start"
                );
                assert!(moved.stopped_s.unwrap() - moved.drained_s.unwrap() >= 1.0 - 1e-6, "and 1 s to stop");
                assert!(
                    moved.gpu_free_s.unwrap() - moved.stopped_s.unwrap() >= 1.0 - 1e-6,
                    "and 1 s to free its memory"
                );
                assert!(
                    moved.ended_s.unwrap() - moved.admitted_s.unwrap() >= 3.0 - 1e-6,
                    "and soaks for 3 s"
                );
            }
            let fewest = run.result.phases.iter().map(|phase| phase.serving_min).min();
            assert_eq!(fewest, Some(4 - unavailable));
            assert_eq!(run.result.requests.completed, 3000);
        }
    }
}

/// Catches: time below N that starts at the decision or ends at health.
#[test]
fn time_below_n_is_the_time_out_of_rotation() {
    let run =
        spec(3, "soak = 3").roll(&trace((0..800).map(|number| (f64::from(number) * 0.1, 10, 80))), ps(10.0));
    let out: f64 =
        run.rollout().moves.iter().map(|moved| moved.admitted_s.unwrap() - moved.taken_out_s.unwrap()).sum();
    assert!((run.rollout().below_n_s - out).abs() < 1e-6, "{} against {out}", run.rollout().below_n_s);
}

/// Catches: an order that is not kept; those not named follow as listed.
#[test]
fn moves_follow_the_order_asked_for() {
    let run =
        spec(3, "soak = 1\norder = [\"replica-2\"]").roll(&trace([(0.0, 1, 1), (20.0, 1, 1)]), ps(10.0));
    let order: Vec<&str> = run.rollout().moves.iter().map(|moved| moved.replica.as_str()).collect();
    assert_eq!(order, ["replica-2", "replica-0", "replica-1"]);
    let phases: Vec<&str> = run.result.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["before", "replica-2", "replica-0", "replica-1", "after"]);
}

/// Twenty answers of 2 to 40 s, all begun within the first two seconds on two replicas, ten each.
fn long_answers() -> impl Iterator<Item = (f64, u32, u32)> {
    (1..=20_u32).map(|number| (f64::from(number) * 0.1, 1, number * 200))
}

/// Catches: a drain that ends before its requests do, or long after: zero must be seen twice, a second apart.
#[test]
fn a_drain_that_has_time_cuts_nothing_and_ends_at_the_second_sight_of_zero() {
    let run =
        spec(2, "drain_timeout = 60\nsoak = 60\nin_flight_poll = 1").roll(&trace(long_answers()), ps(3.0));
    assert_eq!(run.rollout().outcome, "completed");
    assert_eq!((run.result.requests.completed, run.result.attempts.cut), (20, 0));
    let (drain, moved) = (&run.rollout().drains[0], &run.rollout().moves[0]);
    assert_eq!((drain.replica.as_str(), drain.cut_after_s.len()), ("replica-0", 0));
    // Of its ten, those of 2 s (0.1 to 2.1 s) have ended by themselves before.
    assert_eq!(drain.residual_s.len(), 9);
    let empty = drain.from_s + drain.residual_s.last().unwrap();
    let seen = moved.drained_s.unwrap() - empty;
    assert!((1.0..2.2).contains(&seen), "{seen} s from empty to drained");
    assert!(!moved.drain_timed_out);
}

/// Catches: a cut that takes one too many or too few, a drain timed from elsewhere, a cut told to the wrong ledger.
#[test]
fn a_short_drain_cuts_exactly_what_would_have_gone_on() {
    let whole = spec(2, "drain_timeout = 60\nsoak = 60").roll(&trace(long_answers()), ps(3.0));
    let short = spec(2, "drain_timeout = 15\nsoak = 60").roll(&trace(long_answers()), ps(3.0));
    let (before, after) = (&whole.rollout().drains[0], &short.rollout().drains[0]);
    near(before.from_s, after.from_s);
    let (in_time, late): (Vec<f64>, Vec<f64>) =
        before.residual_s.iter().partition(|residual| **residual < 15.0);
    assert!(!in_time.is_empty() && !late.is_empty());
    assert_eq!(after.residual_s, in_time);
    assert_eq!(after.cut_after_s.len(), late.len());
    for cut in &after.cut_after_s {
        assert!((15.0..15.1).contains(cut), "cut after {cut} s");
    }
    let moved = &short.rollout().moves[0];
    assert!(moved.drain_timed_out);
    assert_eq!((moved.cut, short.result.requests.cut), (late.len() as u64, late.len() as u64));
    assert_eq!(short.rollout().outcome, "completed");
    // Their answers had begun: nobody tries again. The rest is the same to the bit.
    for (one, other) in whole.rows.iter().zip(&short.rows) {
        match outcome(other) {
            Outcome::Cut => assert_eq!(other.attempts, 1),
            _ => assert_eq!(one, other),
        }
    }
}

/// Catches: an extension that does not extend, or ends before the hard limit.
#[test]
fn an_extended_drain_cuts_at_the_hard_limit() {
    let rollout =
        |to: u32| format!("drain_timeout = 5\nsoak = 60\nat_deadline = {{ extend = {{ to = {to} }} }}");
    let run = |to| spec(2, &rollout(to)).roll(&trace(long_answers()), ps(3.0));
    assert_eq!(run(60).result.attempts.cut, 0);
    let cut = run(15);
    let same = spec(2, "drain_timeout = 15\nsoak = 60").roll(&trace(long_answers()), ps(3.0));
    assert!(cut.result.attempts.cut > 0);
    assert_eq!(cut.rows, same.rows);
}

/// Catches: an abort that leaves the replica out, or cuts after all.
#[test]
fn an_abort_at_the_deadline_puts_the_replica_back() {
    let more = (0..200_u32).map(|number| (20.0 + f64::from(number), 1, 50));
    let run = spec(2, "drain_timeout = 5\nat_deadline = \"abort\"")
        .roll(&trace(long_answers().chain(more)), ps(3.0));
    let rollout = run.rollout();
    assert!(rollout.outcome.starts_with("held: "), "{}", rollout.outcome);
    let [given_up, back] = &rollout.moves[..] else { panic!("{:?}", rollout.moves) };
    assert!(given_up.result.starts_with("put back: ") && given_up.drain_timed_out, "{}", given_up.result);
    assert_eq!(
        (back.replica.as_str(), back.target.as_str(), back.result.as_str()),
        ("replica-0", "old", "done")
    );
    assert_eq!((run.result.requests.completed, run.result.attempts.sent), (220, 220));
    let again = of(&run, "replica-0").filter(|row| row.arrived_s > rollout.ended_s).count();
    assert!((80..=120).contains(&again), "{again} of 200");
    assert_eq!(run.result.series.serving.last(), Some(&2));
    assert!(rollout.below_n_s < 6.0, "{}", rollout.below_n_s);
}

/// Catches: engines that keep the old version's pace, or take the new one's before their move.
#[test]
fn a_slower_and_wordier_version_shows_from_its_admission_on() {
    let base =
        Spec { to: "step_time_factor = 3\noutput_length_factor = 2".to_owned(), ..spec(3, "soak = 5") };
    let run = base.roll(&trace((0..1500).map(|number| (f64::from(number) * 0.1, 1, 40))), ps(20.0));
    assert_eq!(run.rollout().outcome, "completed");
    for moved in &run.rollout().moves {
        for row in of(&run, &moved.replica) {
            let new = row.arrived_s >= moved.admitted_s.unwrap() - ROUNDING_S;
            let (tokens, pace) = if new { (80, 0.03) } else { (40, 0.01) };
            assert_eq!(row.output_tokens, tokens, "{row:?}");
            near(row.tpot_s.unwrap(), pace);
            // An arrival waits for the step under way, then for its own.
            assert!((pace..=2.0 * pace + 1e-9).contains(&row.ttft_s.unwrap()), "{row:?}");
        }
    }
    let (before, after) = (&run.result.phases[0], run.result.phases.last().unwrap());
    assert_eq!((before.name.as_str(), after.name.as_str()), ("before", "after"));
    near(before.tpot_s.mean.unwrap(), 0.01);
    near(after.tpot_s.mean.unwrap(), 0.03);
}

/// One request at a time on each replica. A runs and C waits on replica-0 when it is cut: A's answer had begun and fails,
/// C goes to replica-1 and is answered. Catches: the two ledgers mixed up, a retry of an answer that had begun.
#[test]
fn a_cut_before_the_first_token_is_a_failed_attempt_of_an_answered_request() {
    let engine = Engine { max_num_seqs: 1, ..Engine::default() };
    let base = Spec { engine, ..spec(2, "drain_timeout = 5\nsoak = 300") };
    let requests = [(1.0, 1, 3000), (1.1, 1, 3000), (1.2, 1, 3000), (1.3, 1, 3000)];
    let run = base.roll(&trace(requests), ps(2.0));
    let (requests, attempts) = (run.result.requests, run.result.attempts);
    assert_eq!((requests.completed, requests.cut, requests.retried), (3, 1, 1));
    assert_eq!((attempts.sent, attempts.completed, attempts.cut), (5, 3, 2));
    assert_eq!((run.rollout().report.cut, run.rollout().drains[0].cut_after_s.len()), (2, 2));
    let [a, _, c, d] = &run.rows[..] else { panic!("four rows") };
    assert_eq!((a.replica, a.attempts, outcome(a)), (Some(0), 1, Outcome::Cut));
    assert_eq!((c.replica, c.attempts, outcome(c)), (Some(1), 2, Outcome::Completed));
    // B until 31.1 s, D until 61.1 s, then C, whose clock started when it first came.
    near(d.e2e_s, 61.1 - 1.3);
    near(c.e2e_s, 91.1 - 1.2);
    assert!(c.ttft_s.unwrap() > 59.9);
}

/// C again, whose client waits 86 s for an attempt: the first, cut at about 8 s, would have lasted until 87 s, the second
/// lasts until 94 s and is answered at 91 s. Catches: the patience of one attempt held against the next.
#[test]
fn every_attempt_has_the_clients_whole_patience() {
    let engine = Engine { max_num_seqs: 1, ..Engine::default() };
    let base = Spec {
        engine,
        clients: "timeout = 86".to_owned(),
        router: "read_timeout = 86".to_owned(),
        ..spec(2, "drain_timeout = 5\nsoak = 300")
    };
    let requests = [(1.0, 1, 3000), (1.1, 1, 3000), (1.2, 1, 3000), (1.3, 1, 3000)];
    let run = base.roll(&trace(requests), ps(2.0));
    assert_eq!((outcome(&run.rows[2]), run.rows[2].attempts), (Outcome::Completed, 2));
    near(run.rows[2].e2e_s, 91.1 - 1.2);
}

/// Three clients of replica 0 give up while it drains; then it is empty. Catches: a request given up that stays in the
/// balancer's or the engine's count, so that the drain never ends.
#[test]
fn a_drain_ends_when_the_last_client_has_given_up() {
    let base = Spec {
        clients: "timeout = 20\nretries = { max = 0 }".to_owned(),
        ..spec(2, "drain_timeout = 300\nsoak = 60")
    };
    for asynchronous in [false, true] {
        let base =
            Spec { engine: Engine { asynchronous, max_num_seqs: 2, ..Engine::default() }, ..base.clone() };
        let run = base.roll(&trace((0..6_u32).map(|number| (f64::from(number) * 0.1, 1, 100_000))), ps(5.0));
        assert_eq!((run.result.requests.timed_out, run.result.attempts.cut), (6, 0));
        let moved = &run.rollout().moves[0];
        assert!(!moved.drain_timed_out);
        // The last of them came at 0.4 s.
        assert!((20.4..23.0).contains(&moved.drained_s.unwrap()), "{:?}", moved.drained_s);
    }
}

/// A look takes 10 ms; a change of HAProxy's rotation 20 ms, of nginx's 200 ms. Catches: a balancer that obeys at once.
#[test]
fn a_change_of_rotation_takes_its_time() {
    for (policy, takes) in [("least-connections", 0.02), ("nginx-least-conn", 0.2)] {
        let base = Spec { router: format!("policy = \"{policy}\""), ..spec(2, "soak = 1") };
        let run = base.roll(&trace((0..500).map(|number| (f64::from(number) * 0.1, 1, 5))), ps(5.0));
        let moved = &run.rollout().moves[0];
        near(moved.taken_out_s.unwrap() - moved.started_s, 0.01 + takes);
        near(moved.admitted_s.unwrap() - moved.warmed_s.unwrap(), takes);
    }
}

/// Catches: a rollback that leaves the new version somewhere, or a version that never starts taken for one that did.
#[test]
fn a_version_that_never_comes_up_leads_back_to_the_old_one() {
    let base = Spec {
        to: "startup = \"100s\"\nstep_time_factor = 2".to_owned(),
        ..spec(3, "soak = 5\nhealth = { timeout = 30 }")
    };
    let run = base.roll(&trace((0..3000).map(|number| (f64::from(number) * 0.1, 1, 40))), ps(20.0));
    assert_eq!(run.rollout().outcome, "rolled_back");
    assert_eq!(run.result.requests.completed, 3000);
    for row in &run.rows {
        near(row.tpot_s.unwrap(), 0.01);
    }
    let back = of(&run, "replica-0").filter(|row| row.arrived_s > run.rollout().ended_s).count();
    assert!(back > 100, "{back}");
}

/// Catches: a new version that does not answer within the client's patience counted as slow instead of failed.
#[test]
fn a_version_slower_than_the_clients_patience_times_them_out() {
    let base = Spec {
        to: "step_time_factor = 20".to_owned(),
        clients: "timeout = 5\nretries = { max = 0 }".to_owned(),
        ..spec(2, "soak = 5")
    };
    let run = base.roll(&trace((0..200).map(|number| (f64::from(number), 1, 40))), ps(20.0));
    assert_eq!(run.rollout().outcome, "completed");
    let after = run.result.phases.last().unwrap().requests;
    assert!(after.arrived > 50);
    assert_eq!(after.timed_out, after.arrived);
    for row in run.rows.iter().filter(|row| outcome(row) == Outcome::TimedOut) {
        near(row.e2e_s, 5.0);
    }
}

/// The balancer gives up at silence before the first byte, the client at the whole answer. Catches: one for the other.
#[test]
fn the_balancers_patience_is_for_the_first_token_only() {
    let base = Spec {
        router: "read_timeout = 3".to_owned(),
        engine: Engine { max_num_seqs: 1, ..Engine::default() },
        clients: "timeout = 1000\nretries = { max = 1, backoff = 1, jitter = 0 }".to_owned(),
        ..spec(1, "")
    };
    // The first takes 10 s, which nobody minds. The second waits behind it: silent at 4.5 s, again from 5.5 to 8.5 s.
    let run = base.run(&trace([(1.0, 1, 1000), (1.5, 1, 10)]));
    assert_eq!((outcome(&run.rows[0]), outcome(&run.rows[1])), (Outcome::Completed, Outcome::TimedOut));
    near(run.rows[0].e2e_s, 10.0);
    assert_eq!(run.rows[1].attempts, 2);
    near(run.rows[1].e2e_s, 7.0);
    assert_eq!(
        (run.result.attempts.sent, run.result.attempts.timed_out, run.result.requests.retried),
        (3, 2, 1)
    );
}

/// Catches: a fleet of one rolled into downtime without a word.
#[test]
fn a_single_replica_is_refused() {
    let spec = spec(1, "");
    let refused = slackwater_sim::plan_for(&spec.scenario(), None, 0, &[]);
    assert!(refused.is_err());
}

/// Catches: a gate that opens although the others could not carry the load.
#[test]
fn a_gate_that_stays_shut_holds_with_all_serving() {
    let run = spec(2, "gate = { capacity_per_replica = 1.0, give_up = 60 }")
        .roll(&trace((0..600).map(|number| (f64::from(number) * 0.5, 1, 10))), ps(100.0));
    assert!(run.rollout().outcome.starts_with("held: "), "{}", run.rollout().outcome);
    near(run.rollout().below_n_s, 0.0);
    assert!((150.0..200.0).contains(&run.rollout().ended_s), "{}", run.rollout().ended_s);
}
