//! Users who stay: conversations followed by hand, rates, and what they see of two versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use slackwater_sim::{RequestRow, RunInfo, Setup, World};

use crate::kit::{Engine, Outcome, Run, Spec, WITH_ROWS, near, outcome, ps, trace};

/// Messages of 7 tokens, answers of 50, a pause of 2 s, nobody there at the start.
fn fixed(turns: u32) -> String {
    format!(
        "input = [{{ median = 7, sigma = 0 }}]\noutput = [{{ median = 50, sigma = 0 \
         }}]\n[traffic.generate.sessions]\nturns = {{ fixed = {turns} }}\nthink = 2\nin_course = false"
    )
}

/// (arrived, prompt, output, session, turn), a row each.
fn told(run: &Run) -> Vec<(f64, u32, u32, u64, u32)> {
    let place = |row: &RequestRow| (row.session.unwrap(), row.turn.unwrap());
    run.rows
        .iter()
        .map(|row| (row.arrived_s, row.input_tokens, row.output_tokens, place(row).0, place(row).1))
        .collect()
}

/// Catches: a turn sent before its answer was there or thought about, a context that misses a message or an answer.
#[test]
fn a_conversation_by_hand() {
    let spec = Spec { generate: fixed(3), ..Spec::default() };
    // A token takes 10 ms: the first answer takes 1 s, the later ones 0.5 s.
    let run = spec.run(&trace([(1.0, 5, 100)]));
    assert_eq!(told(&run), [(1.0, 5, 100, 0, 0), (4.0, 112, 50, 0, 1), (6.5, 169, 50, 0, 2)]);
    // Two at once share the steps, which cost the same; each has its own context.
    let run = spec.run(&trace([(1.0, 5, 100), (1.0, 50, 10)]));
    assert_eq!(
        told(&run),
        [
            (1.0, 5, 100, 0, 0),
            (1.0, 50, 10, 1, 0),
            (3.1, 67, 50, 1, 1),
            (4.0, 112, 50, 0, 1),
            (5.6, 124, 50, 1, 2),
            (6.5, 169, 50, 0, 2)
        ]
    );
    let sessions = run.result.sessions.unwrap();
    assert_eq!((sessions.begun, sessions.broken, sessions.judged, sessions.saw_both), (2, 0, 2, 0));
}

/// Catches: a way back of the answer that the user does not wait for.
#[test]
fn the_pause_begins_when_the_user_has_the_answer() {
    let engine = Engine { inbound_ms: 300.0, outbound_ms: 200.0, ..Engine::default() };
    let run = Spec { engine, generate: fixed(2), ..Spec::default() }.run(&trace([(1.0, 5, 100)]));
    assert_eq!(told(&run), [(1.0, 5, 100, 0, 0), (4.5, 112, 50, 0, 1)]);
}

/// The new version is twice as verbose: the context grows by what was really generated.
#[test]
fn the_context_is_of_what_was_generated() {
    let spec = Spec {
        replicas: 2,
        to: "output_length_factor = 2".to_owned(),
        generate: fixed(60),
        ..Spec::default()
    };
    let run = spec.roll(&trace([(1.0, 5, 100)]), ps(20.0));
    assert_eq!(run.rollout().outcome, "completed");
    let mut context = 0;
    for row in &run.rows {
        let message = if row.turn == Some(0) { 5 } else { 7 };
        assert_eq!(row.input_tokens, context + message);
        context = row.input_tokens + row.output_tokens;
    }
    assert!(run.rows.iter().any(|row| row.output_tokens == 50));
    assert!(run.rows.iter().any(|row| row.output_tokens == 100 && row.turn != Some(0)));
}

/// The first answer takes 100 s, the client waits for 5. Catches: a loop that looks better because it sends less.
#[test]
fn turns_never_sent_are_misses() {
    let spec = Spec {
        clients: "timeout = 5\nretries = { max = 0 }".to_owned(),
        generate: fixed(4),
        ..Spec::default()
    };
    let run = spec.run(&trace([(1.0, 5, 10_000), (1.0, 5, 10)]));
    let lost: Vec<(f64, u32, Outcome)> = run
        .rows
        .iter()
        .filter(|row| row.session == Some(0))
        .map(|row| (row.arrived_s, row.attempts, outcome(row)))
        .collect();
    let never = Outcome::NeverSent;
    assert_eq!(lost, [(1.0, 1, Outcome::TimedOut), (8.0, 0, never), (10.0, 0, never), (12.0, 0, never)]);
    let (requests, service) = (run.result.requests, &run.result.service);
    assert_eq!((requests.arrived, requests.completed, requests.timed_out, requests.never_sent), (8, 4, 1, 3));
    assert_eq!((service.arrived, service.missed), (8, 4));
    assert_eq!((run.result.attempts.sent, run.result.sessions.unwrap().broken), (5, 1));
    // Tokens that nobody sent are in no mean.
    near(run.result.traffic.mean_input_tokens, f64::from(5 + 5 + 22 + 79 + 136) / 5.0);
}

/// Catches: messages that grow beyond the model's context.
#[test]
fn a_full_context_loses_its_oldest_messages() {
    let generate = format!("max_input_tokens = 150\n{}", fixed(4));
    let run = Spec { generate, ..Spec::default() }.run(&trace([(1.0, 5, 100)]));
    let prompts: Vec<u32> = run.rows.iter().map(|row| row.input_tokens).collect();
    assert_eq!(prompts, [5, 112, 150, 150]);
}

/// A whole drawn hour, of ten requests a second in sessions of four turns on average.
fn drawn(sessions: &str) -> (Run, f64) {
    let generate = format!(
        "input = [{{ median = 60, sigma = 0.8 }}]\noutput = [{{ median = 20, sigma = 0.5 \
         }}]\n[traffic.generate.sessions]\nturns = {{ geometric = 4 }}\nthink = {{ median = \"40s\", p95 = \"200s\" \
         }}\n{sessions}"
    );
    let spec = Spec { replicas: 2, generate, ..Spec::default() };
    let text = spec.toml().replace("rate_per_s = 1.0", "rate_per_s = 10.0");
    let scenario = slackwater_scenarios::Scenario::parse(&text, "test.toml").unwrap();
    let mut world =
        World::new(Arc::new(Setup::new(&scenario).unwrap()), scenario.open_traffic().unwrap(), WITH_ROWS)
            .unwrap();
    world.run().unwrap();
    let mut rows = world.take_rows();
    rows.sort_by_key(|row| row.number);
    let (result, journal) = world.finish(RunInfo::default());
    let early = rows.iter().filter(|row| row.arrived_s < 300.0).count() as f64 / 300.0;
    (Run { result, journal, rows }, early)
}

/// Turns of a session come together, so the count of requests in an hour varies as that of `E[turns^2] / E[turns]` = 7
/// independent ones does. Catches: a rate of sessions taken for one of requests, and a start or an end that is empty.
#[test]
fn the_rate_is_that_of_requests_from_the_start_to_the_end() {
    let (run, early) = drawn("");
    let rate = run.result.requests.arrived as f64 / 3600.0;
    let deviation = (10.0 * 7.0 / 3600.0_f64).sqrt();
    assert!((rate - 10.0).abs() < 4.0 * deviation, "{rate} a second, of {deviation}");
    let deviation = (10.0 * 7.0 / 300.0_f64).sqrt();
    assert!((early - 10.0).abs() < 3.0 * deviation, "{early} a second in the first five minutes");
    let late = run.rows.iter().filter(|row| row.arrived_s >= 3300.0).count() as f64 / 300.0;
    assert!((late - 10.0).abs() < 3.0 * deviation, "{late} a second in the last five minutes");
    assert!(run.rows.iter().all(|row| row.arrived_s < 3600.0));
    // Without sessions that are under way it takes the length of a session to get there.
    let (_, early) = drawn("in_course = false");
    assert!(early < 7.0, "{early} a second");
}

/// Catches: draws that depend on what was asked for before. The same users say the same, whoever answers and when.
#[test]
fn two_strategies_meet_the_same_sessions() {
    let requests = trace((0..200_u32).map(|number| (f64::from(number) * 0.5, 20, 100)));
    let run = |router: &str, rolls: bool| {
        let generate = "input = [{ median = 30, sigma = 1 }]\noutput = [{ median = 60, sigma = 1 \
                        }]\n[traffic.generate.sessions]\nturns = { geometric = 3 }\nthink = { median = \"5s\", p95 = \
                        \"30s\" }";
        let spec = Spec {
            replicas: 3,
            router: router.to_owned(),
            generate: generate.to_owned(),
            engine: Engine { max_num_seqs: 8, ..Engine::default() },
            ..Spec::default()
        };
        if rolls { spec.roll(&requests, ps(20.0)) } else { spec.run(&requests) }
    };
    let said = |run: &Run| {
        let rows = run.rows.iter().filter(|row| outcome(row) == Outcome::Completed);
        rows.map(|row| ((row.session.unwrap(), row.turn.unwrap()), (row.input_tokens, row.output_tokens)))
            .collect::<BTreeMap<_, _>>()
    };
    let one = run("policy = \"round-robin\"", false);
    let other = run("policy = \"least-connections\"", true);
    assert_ne!(one.rows, other.rows);
    assert_eq!(said(&one), said(&other));
    let first = |run: &Run| {
        let rows = run.rows.iter().filter(|row| row.turn == Some(0));
        rows.map(|row| (row.session, row.arrived_s.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(first(&one), first(&other));
}

/// Sessions judged, those that saw both, flips and flips back, by the rows: which version answered is told by the times at
/// which replicas came back.
fn by_rows(run: &Run) -> (u64, u64, u64, u64) {
    let (rollout, service) = (run.rollout(), &run.result.service);
    let is_new = |row: &RequestRow| {
        let name = format!("replica-{}", row.replica.unwrap());
        let moved = rollout.moves.iter().find(|moved| moved.replica == name);
        moved.is_some_and(|moved| moved.admitted_s.unwrap() <= row.arrived_s)
    };
    let mut answers: BTreeMap<u64, Vec<(f64, bool)>> = BTreeMap::new();
    for row in run.rows.iter().filter(|row| outcome(row) == Outcome::Completed) {
        assert_eq!(row.attempts, 1);
        let end = row.arrived_s + row.e2e_s;
        if (service.from_s..service.until_s).contains(&end) {
            answers.entry(row.session.unwrap()).or_default().push((end, is_new(row)));
        }
    }
    let (mut judged, mut both, mut flips, mut back) = (0, 0, 0, 0);
    for turns in answers.values() {
        assert!(turns.is_sorted_by(|one, other| one.0 < other.0));
        judged += u64::from(turns.len() >= 2);
        both += u64::from(turns.iter().any(|turn| turn.1) && turns.iter().any(|turn| !turn.1));
        flips += turns.windows(2).filter(|pair| !pair[0].1 && pair[1].1).count() as u64;
        back += turns.windows(2).filter(|pair| pair[0].1 && !pair[1].1).count() as u64;
    }
    (judged, both, flips, back)
}

fn told_mixed(run: &Run) -> (u64, u64, u64, u64) {
    let sessions = run.result.sessions.unwrap();
    (sessions.judged, sessions.saw_both, sessions.flips, sessions.flips_back)
}

/// Two replicas in turn. Catches: a flip that is not counted or counted twice, a user judged who was there for one turn.
#[test]
fn two_users_by_hand() {
    let spec = Spec {
        replicas: 2,
        router: "policy = \"round-robin\"".to_owned(),
        rollout: "soak = 10".to_owned(),
        generate: fixed(40),
        ..Spec::default()
    };
    // The first user's turns are at 1, 3.5, 6, ... seconds; the second comes when the rollout is over. Replica-0 is back at
    // 20.34 s and replica-1 goes at 30.37 s; since it was alone, its turn was the last. So 21 s: old, 23.5: new, 26: old,
    // 28.5: new, and from 31 on new for good.
    let run = spec.roll(&trace([(1.0, 5, 50), (200.0, 5, 50)]), ps(5.0));
    let moves = &run.rollout().moves;
    near(moves[0].admitted_s.unwrap(), 20.34);
    near(moves[1].taken_out_s.unwrap(), 30.37);
    assert_eq!(told_mixed(&run), (1, 1, 2, 1));
    assert_eq!(by_rows(&run), told_mixed(&run));
    near(run.result.sessions.unwrap().saw_both_share, 1.0);
    let kept = Spec { router: "policy = \"round-robin\"\nsticky = \"version\"".to_owned(), ..spec };
    let run = kept.roll(&trace([(1.0, 5, 50), (200.0, 5, 50)]), ps(5.0));
    assert_eq!(told_mixed(&run), (1, 1, 1, 0));
}

/// Every router, against the rows.
#[test]
fn what_users_saw_is_what_the_rows_say() {
    let requests = trace((0..300_u32).map(|number| (f64::from(number) * 0.5, 20, 100)));
    for router in ["policy = \"round-robin\"", "", "sticky = \"session\"", "sticky = \"version\""] {
        let spec = Spec {
            replicas: 3,
            router: router.to_owned(),
            rollout: "soak = 10".to_owned(),
            generate:
                "[traffic.generate.sessions]\nturns = { geometric = 6 }\nthink = { median = \"5s\", p95 = \
                       \"30s\" }\nin_course = false"
                    .to_owned(),
            ..Spec::default()
        };
        let run = spec.roll(&requests, ps(30.0));
        assert_eq!(run.rollout().outcome, "completed");
        let mixed = told_mixed(&run);
        assert_eq!(by_rows(&run), mixed, "{router}");
        let (judged, both, flips, back) = mixed;
        assert!(judged > 100 && both > 0 && flips >= both - back, "{router}: {mixed:?}");
        if router.contains("version") {
            assert_eq!((flips, back), (both, 0), "kept at a version, a session goes over once");
        }
        if router.is_empty() {
            assert!(back > 10);
        }
    }
}

/// Catches: a home that depends on the load, or on the turn.
#[test]
fn a_sticky_session_stays_where_it_is() {
    let requests = trace((0..300_u32).map(|number| (f64::from(number) * 0.2, 20, 100)));
    let spec = Spec {
        replicas: 4,
        router: "sticky = \"session\"".to_owned(),
        generate: fixed(5),
        ..Spec::default()
    };
    let run = spec.run(&requests);
    let mut homes: BTreeMap<u64, u16> = BTreeMap::new();
    for row in &run.rows {
        assert_eq!(*homes.entry(row.session.unwrap()).or_insert(row.replica.unwrap()), row.replica.unwrap());
    }
    for replica in 0..4 {
        assert!(homes.values().filter(|home| **home == replica).count() > 40);
    }
}

/// A restart drill changes no version: nobody sees two.
#[test]
fn a_restart_is_no_other_version() {
    let requests = trace((0..100_u32).map(|number| (f64::from(number) * 0.5, 20, 100)));
    let rollout = "soak = 5\nrestart_only = true".to_owned();
    let spec = Spec { replicas: 2, rollout, generate: fixed(30), ..Spec::default() };
    let run = spec.roll(&requests, ps(20.0));
    assert_eq!(run.rollout().outcome, "completed");
    let (judged, both, flips, back) = told_mixed(&run);
    assert!(judged > 50);
    assert_eq!((both, flips, back), (0, 0, 0));
}
