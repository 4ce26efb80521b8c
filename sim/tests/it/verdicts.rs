//! The service level, worked out by hand.
//!
//! One engine, one second a step: a request that comes to an idle engine has its first token after 1 s and one more each
//! second. Requests come 10 s apart, each alone in its bucket; one of three tokens takes 3 s, one of nine takes 9 s.

use slackwater_sim::{RunInfo, ServiceVerdict};

use crate::kit::{Engine, Outcome, Spec, WITH_ROWS, near, outcome, ps, trace};

fn spec(slo: &str) -> Spec {
    let engine = Engine { c0_ms: 1000.0, ..Engine::default() };
    Spec { engine, slo: slo.to_owned(), ..Spec::default() }
}

/// A hundred requests, of which number 40 to 45 and 80 take 9 s, the others 3 s.
fn hundred() -> impl Iterator<Item = (f64, u32, u32)> {
    (0..100_u32).map(|number| {
        let slow = (40..=45).contains(&number) || number == 80;
        (f64::from(number) * 10.0 + 0.5, 1, if slow { 9 } else { 3 })
    })
}

fn verdict(slo: &str) -> ServiceVerdict {
    spec(slo).run(&trace(hundred())).result.service
}

/// From `from` to `until`.
fn stretch(slo: &str, from: f64, until: f64) -> ServiceVerdict {
    let mut world = spec(slo).world(&trace(hundred()), WITH_ROWS);
    world.run_until(ps(from)).unwrap();
    world.judge_from_now();
    world.run().unwrap();
    world.finish(RunInfo { judged_until: Some(ps(until)), ..RunInfo::default() }).0.service
}

/// Seven of a hundred miss; the worst thirty buckets are the first that hold all six neighbours: 16 to 45.
/// Catches: windows of another length, a window off by one, a share of the wrong whole, `kept` by one of the two only.
#[test]
fn attainment_and_the_worst_five_minutes() {
    let bounds = "ttft = 1.5\ntpot = 1.5\ne2e = 5";
    let judged = verdict(&format!("{bounds}\nshare = 0.8"));
    assert_eq!((judged.arrived, judged.missed), (100, 7));
    near(judged.attainment, 0.93);
    near(judged.worst_5min_attainment, 24.0 / 30.0);
    near(judged.worst_5min_at_s, 160.0);
    near(judged.from_s, 0.0);
    near(judged.until_s, 993.5);
    assert!(judged.kept);
    // The whole keeps 0.9; five minutes of it do not.
    assert!(!verdict(&format!("{bounds}\nshare = 0.9")).kept);
}

/// Catches: a judged period that is not cut out by arrival, or forgets those under way when it begins.
#[test]
fn a_period_asked_for_is_judged_alone() {
    let bounds = "ttft = 1.5\ntpot = 1.5\ne2e = 5";
    let judged = stretch(bounds, 400.0, 500.0);
    assert_eq!((judged.arrived, judged.missed), (10, 6));
    near(judged.attainment, 0.4);
    // Shorter than five minutes, it is its own worst.
    near(judged.worst_5min_attainment, 0.4);
    near(judged.worst_5min_at_s, 400.0);
    near(judged.from_s, 400.0);
    near(judged.until_s, 500.0);
    // Number 39 came at 390.5 s and took 3 s: under way at 392 s, not at 395 s.
    for (from, arrived) in [(392.0, 11), (395.0, 10)] {
        let judged = stretch(bounds, from, 500.0);
        assert_eq!((judged.arrived, judged.missed), (arrived, 6), "from {from} s");
    }
    // Number 45 came at 450.5 s and takes 9 s: it misses in whichever period it ends.
    let judged = stretch(bounds, 455.0, 500.0);
    assert_eq!((judged.arrived, judged.missed), (5, 1));
}

/// Nobody came: nothing was missed, and nothing divides by nothing.
#[test]
fn a_period_without_arrivals_is_kept() {
    for (from, until) in [(995.0, 3_000.0), (0.0, 0.0), (500.0, 400.0)] {
        let judged = stretch("ttft = 0.5", from, until);
        assert_eq!(
            (judged.arrived, judged.missed, judged.kept),
            (0, 0, true),
            "from {from} s until {until} s"
        );
        near(judged.attainment, 1.0);
        near(judged.worst_5min_attainment, 1.0);
    }
    let empty = spec("").run(&trace([]));
    assert_eq!(empty.result.requests.arrived, 0);
    near(empty.result.service.attainment, 1.0);
    assert_eq!(empty.result.ttft_s.p99, None);
}

/// Each bound by itself, met exactly and just not. Catches: `<` for `<=`, a bound on the wrong figure, a time per token of
/// one-token answers.
#[test]
fn a_bound_that_is_met_exactly_is_met() {
    let loose = "ttft = 100\ntpot = 100";
    let missed = |slo: &str| verdict(slo).missed;
    assert_eq!(missed("ttft = 1\ntpot = 100"), 0);
    assert_eq!(missed("ttft = 0.999999999\ntpot = 100"), 100);
    assert_eq!(missed("ttft = 100\ntpot = 1"), 0);
    assert_eq!(missed("ttft = 100\ntpot = 0.999999999"), 100);
    assert_eq!(missed(&format!("{loose}\ne2e = 9")), 0);
    assert_eq!(missed(&format!("{loose}\ne2e = 8.999999999")), 7);
    assert_eq!(missed(&format!("{loose}\ne2e = 3")), 7);
    let one_token = spec("ttft = 100\ntpot = 0.000001").run(&trace([(0.5, 1, 1)]));
    assert_eq!(one_token.result.service.missed, 0);
}

/// The second comes while the first's step runs: it waits 0.4 s for its end, then a step. The third, 30 s later, is alone.
/// Front-end delays are added on both sides. Catches: delays counted twice or not at all, TTFT of the wrong token.
#[test]
fn latencies_are_what_a_stopwatch_shows() {
    let engine = Engine { c0_ms: 1000.0, inbound_ms: 100.0, outbound_ms: 250.0, ..Engine::default() };
    let run = Spec { engine, ..spec("") }.run(&trace([(0.4, 5, 4), (1.0, 5, 2), (30.0, 5, 1)]));
    // Scheduled at 0.5 and, at the step's end, 1.5 (it was ready at 1.1).
    let expected = [(1.35, Some(1.0), 4.35), (1.75, Some(1.0), 2.75), (1.35, None, 1.35)];
    for (row, (ttft, tpot, e2e)) in run.rows.iter().zip(expected) {
        near(row.ttft_s.unwrap(), ttft);
        assert_eq!(row.tpot_s.is_some(), tpot.is_some());
        near(row.e2e_s, e2e);
    }
}

/// Cut, timed out, rejected: each a miss, however quick. Catches: a percentile bettered by failing.
#[test]
fn whoever_fails_misses() {
    let base = spec("ttft = 100\ntpot = 100");
    let impatient = Spec { clients: "timeout = 5\nretries = { max = 0 }".to_owned(), ..base.clone() };
    let run = impatient.run(&trace([(0.5, 1, 3), (10.5, 1, 9)]));
    assert_eq!(outcome(&run.rows[1]), Outcome::TimedOut);
    assert_eq!((run.result.service.missed, run.result.e2e_s.count), (1, 1));
    near(run.result.service.attainment, 0.5);

    let small = Engine { c0_ms: 1000.0, block_size: 16, kv_blocks: 10, ..Engine::default() };
    let run = Spec { engine: small, ..base }.run(&trace([(0.5, 1, 3), (10.5, 200, 1), (25.5, 1, 1)]));
    assert_eq!(outcome(&run.rows[1]), Outcome::Rejected);
    assert_eq!((run.result.service.arrived, run.result.service.missed), (3, 1));
}

/// From the rollout's start, with what is under way then, to the first look after its end that finds no queue.
/// Two replicas of one slot each: while one is away the other can't keep up, and its queue outlives the rollout.
/// Catches: a verdict over the whole run, or one that ends with the rollout though the service is not back.
#[test]
fn a_rollout_is_judged_until_the_service_is_back() {
    let base = Spec {
        replicas: 2,
        engine: Engine { c0_ms: 1000.0, max_num_seqs: 1, ..Engine::default() },
        rollout: "soak = 1\ndrain_timeout = 600".to_owned(),
        ..spec("ttft = 2\ntpot = 10")
    };
    // A request of 3 s every 1.6 s: one replica carries half, two a little more than all.
    let run = base.roll(&trace((0..400_u32).map(|number| (f64::from(number) * 1.6, 1, 3))), ps(95.0));
    let (rollout, service) = (run.rollout(), &run.result.service);
    assert_eq!(rollout.outcome, "completed");
    near(service.from_s, 95.0);
    assert!(
        service.until_s > rollout.ended_s + 60.0,
        "the queue is worked off slowly: {service:?}, {}",
        rollout.ended_s
    );
    near(service.until_s % 10.0, 0.0);
    let inside: Vec<_> = run
        .rows
        .iter()
        .filter(|row| row.arrived_s + row.e2e_s >= 95.0 && row.arrived_s < service.until_s)
        .collect();
    let missed = inside.iter().filter(|row| !row.met_slo).count() as u64;
    assert_eq!((service.arrived, service.missed), (inside.len() as u64, missed));
    assert!(missed > 0 && !service.kept);
    // Before it nobody waited long.
    assert_eq!(run.result.phases[0].missed, 0);
}
