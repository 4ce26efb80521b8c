//! Both ledgers against the rows, over random small worlds.
//!
//! A failure is kept in `tests/ledgers-regressions.txt` and tried first from then on. The [`Small`] it prints holds the
//! seed and all else there is to reproduce it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slackwater_policy::{Figure, Guard, GuardAction, Span};
use slackwater_sim::{RequestLedger, RequestRow, SimulationResult};

use crate::kit::{Engine, Outcome, Run, Spec, WITH_ROWS, near, outcome, ps, trace};
use crate::rollouts::sent_while_out;

/// A small world: everything that can go wrong is near.
#[derive(Debug, Clone)]
pub(crate) struct Small {
    pub(crate) spec: Spec,
    /// (gap to the one before in milliseconds, prompt, output).
    requests: Vec<(u32, u32, u32)>,
    /// When the rollout begins: a share of the time until the last arrival.
    start: f64,
}

impl Small {
    pub(crate) fn trace(&self) -> std::sync::Arc<slackwater_scenarios::SharedTrace> {
        let mut at_ms = 0_u32;
        trace(self.requests.iter().map(|&(gap_ms, prompt, output)| {
            at_ms += gap_ms;
            (f64::from(at_ms) / 1e3, prompt, output)
        }))
    }

    /// Seconds until the last arrival.
    pub(crate) fn span_s(&self) -> f64 {
        f64::from(self.requests.iter().map(|request| request.0).sum::<u32>()) / 1e3
    }

    pub(crate) fn start_s(&self) -> f64 {
        (self.start * self.span_s() * 1e3).floor() / 1e3
    }

    pub(crate) fn roll(&self) -> Run {
        self.spec.roll(&self.trace(), ps(self.start_s()))
    }
}

/// In quick succession, far apart, or at the same time; prompts of which some never fit the cache.
fn requests() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let gap = prop_oneof![2 => Just(0_u32), 6 => 0..600_u32, 1 => 0..30_000_u32];
    let prompt = prop_oneof![8 => 1..300_u32, 1 => 300..4_000_u32];
    let output = prop_oneof![1 => Just(1_u32), 8 => 1..200_u32, 1 => 200..1_500_u32];
    vec((gap, prompt, output), 1..120)
}

fn engine() -> impl Strategy<Value = Engine> {
    let shape = (2.0..60.0, 0.0..400.0, 0.0..300.0, 1..20_u32, 20..400_u32, 20..300_u32);
    let ways = (any::<[bool; 3]>(), prop_oneof![Just(0.0), 0.0..200.0], prop_oneof![Just(0.0), 0.0..1.0]);
    (shape, ways).prop_map(|(shape, ways)| {
        let (c0_ms, c_tok_us, c_seq_us, max_num_seqs, tokens, kv_blocks) = shape;
        let ([asynchronous, reserve_chunk, prefix_caching], delay_ms, jitter) = ways;
        Engine {
            c0_ms,
            c_tok_us,
            c_seq_us,
            max_num_seqs,
            max_num_batched_tokens: tokens.max(max_num_seqs),
            block_size: 16,
            kv_blocks,
            asynchronous,
            reserve_chunk,
            prefix_caching,
            inbound_ms: delay_ms,
            outbound_ms: delay_ms / 2.0,
            jitter,
        }
    })
}

fn to() -> impl Strategy<Value = String> {
    let takes = prop_oneof![Just(0.0), 0.0..20.0];
    (0.2..4.0, 0.3..3.0, takes.clone(), takes.clone(), takes).prop_map(
        |(length, pace, stop, startup, warm_up)| {
            format!(
                "output_length_factor = {length:?}\nstep_time_factor = {pace:?}\nstop = {stop:?}\nstartup = \
             {startup:?}\nwarm_up = {warm_up:?}"
            )
        },
    )
}

fn router() -> impl Strategy<Value = String> {
    let policy = prop_oneof![
        Just("policy = \"round-robin\"".to_owned()),
        Just("policy = \"least-connections\"".to_owned()),
        Just("policy = \"random-two-choices\"".to_owned()),
        Just("policy = \"haproxy-leastconn\"\nslow_start = 3".to_owned()),
        Just("policy = \"prefix-aware\"\nprefix_aware = { balance_abs_threshold = 3 }".to_owned()),
        (1..4_u32, any::<bool>()).prop_map(|(workers, zone)| format!(
            "policy = \"nginx-least-conn\"\nworkers = {workers}\nzone = {zone}"
        )),
    ];
    let read_timeout = prop_oneof![
        2 => Just(String::new()),
        1 => (0.1..10.0).prop_map(|seconds: f64| format!("\nread_timeout = {seconds:?}"))
    ];
    let sticky = prop_oneof![
        2 => Just(""),
        1 => Just("\nsticky = \"session\""),
        1 => Just("\nsticky = \"version\"")
    ];
    (policy, sticky, read_timeout).prop_map(|(policy, sticky, read_timeout)| policy + sticky + &read_timeout)
}

fn clients() -> impl Strategy<Value = String> {
    let timeout = prop_oneof![1 => 0.2..30.0, 1 => Just(1e6)];
    (timeout, 0..4_u32, 0.0..3.0, 0.0..1.0).prop_map(|(timeout, retries, backoff, jitter)| {
        format!(
            "timeout = {timeout:?}\nretries = {{ max = {retries}, backoff = {backoff:?}, jitter = {jitter:?}, max_backoff \
             = 5 }}"
        )
    })
}

fn rollout() -> impl Strategy<Value = String> {
    let drain = prop_oneof![Just(0.001), Just(1.0), 0.1..30.0, Just(600.0)];
    let deadline = prop_oneof![
        Just("\"cut\""),
        Just("\"abort\""),
        Just("{ extend = { to = 700, then = \"cut\" } }"),
        Just("{ extend = { to = 700, then = \"abort\" } }"),
    ];
    let extras = prop_oneof![
        6 => Just(""),
        1 => Just("\ngate = { capacity_per_replica = 0.5, give_up = 60 }"),
        1 => Just("\nwindow = 900"),
        1 => Just("\napproval = \"each_move\"\napproval_delay = 7"),
        1 => Just("\non_failure = \"hold\"\nhealth = { timeout = 5 }"),
        1 => Just("\nstart_attempts = 3\nhealth = { timeout = 5, interval = 1 }"),
    ];
    (drain, deadline, 1..3_u32, 0.0..20.0, 0.3..3.0, 2..4_u32, extras).prop_map(
        |(drain, deadline, unavailable, soak, poll, zeroes, extras)| {
            format!(
                "drain_timeout = {drain:?}\nat_deadline = {deadline}\nmax_unavailable = {unavailable}\nsoak = \
                 {soak:?}\nin_flight_poll = {poll:?}\nzero_sightings = {zeroes}{extras}"
            )
        },
    )
}

/// A bound on the error rate that is sometimes reached.
fn guards() -> impl Strategy<Value = Vec<Guard>> {
    let guard =
        |limit, action| Guard { figure: Figure::ErrorRate, limit, sustained: Span::from_secs(10), action };
    prop_oneof![
        3 => Just(vec![]),
        1 => (0.0..0.5).prop_map(move |limit| vec![guard(limit, GuardAction::Hold)]),
        1 => (0.0..0.5).prop_map(move |limit| vec![guard(limit, GuardAction::RollBack)]),
    ]
}

/// Requests that stand alone, or users who come back.
fn generate() -> impl Strategy<Value = String> {
    let turns = prop_oneof![
        (1..6_u32).prop_map(|count| format!("{{ fixed = {count} }}")),
        (1.0..5.0).prop_map(|mean: f64| format!("{{ geometric = {mean:?} }}")),
    ];
    let think = prop_oneof![Just("0"), Just("3"), Just("{ median = \"2s\", p95 = \"20s\" }")];
    let prompts = prop_oneof![Just(""), Just("system_prompts = { count = 3, tokens = 40 }")];
    let sessions = (turns, think, any::<bool>(), prompts, 60..2_000_u32).prop_map(
        |(turns, think, in_course, prompts, most)| {
            format!(
                "input = [{{ median = 40, sigma = 1 }}]\noutput = [{{ median = 50, sigma = 1 }}]\nmax_input_tokens = \
                 {most}\n[traffic.generate.sessions]\nturns = {turns}\nthink = {think}\nin_course = \
                 {in_course}\n{prompts}"
            )
        },
    );
    prop_oneof![Just(String::new()), sessions]
}

pub(crate) fn small() -> impl Strategy<Value = Small> {
    let slo = (0.05..5.0, 0.01..0.2, 0.1..20.0).prop_map(|(ttft, tpot, e2e): (f64, f64, f64)| {
        format!("ttft = {ttft:?}\ntpot = {tpot:?}\ne2e = {e2e:?}")
    });
    let start = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    let world = (0..1_000_000_u64, 2..6_u32, engine(), to(), router(), generate());
    (world, clients(), slo, rollout(), guards(), requests(), start).prop_map(
        |((seed, replicas, engine, to, router, generate), clients, slo, rollout, guards, requests, start)| {
            // Two at once need a third that serves.
            // And approvals of single moves are not for two at once (`regressions` says why).
            let alone = replicas == 2 || rollout.contains("approval");
            let rollout = if alone { rollout.replace("unavailable = 2", "unavailable = 1") } else { rollout };
            Small {
                spec: Spec {
                    seed,
                    replicas,
                    engine,
                    to,
                    router,
                    clients,
                    slo,
                    rollout,
                    generate,
                    guards,
                    ..Spec::default()
                },
                requests,
                start,
            }
        },
    )
}

pub(crate) fn cases(count: u32, kept_in: &'static str) -> Config {
    let count = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(count);
    Config {
        cases: count,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept_in))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases(300, "tests/ledgers-regressions.txt"))]

    /// Catches: a request counted twice, in no phase, in the wrong phase or as the wrong failure; a percentile over other
    /// requests than the ledger's; a rollout that stands still; a cut the policy did not hear of.
    #[test]
    fn rows_and_ledgers_agree(small in small()) {
        let run = small.roll();
        agree(&run);
        outcomes(&run, &small);
        drains(&run, &small);
    }

    /// The same where the run is closed before its end, with requests under way.
    #[test]
    fn a_run_closed_midway_agrees_too(small in small(), at in 0.0..1.2) {
        let mut world = small.spec.rolling(&small.trace(), ps(small.start_s()), WITH_ROWS);
        world.run_until(world.now() + ps((small.span_s() - small.start_s()) * at + 0.001)).unwrap();
        agree(&Run::so_far(world));
    }

    /// And without a rollout: nobody is cut, nobody is without a replica.
    #[test]
    fn without_a_rollout_nothing_is_cut(small in small()) {
        let run = small.spec.run(&small.trace());
        agree(&run);
        prop_assert_eq!((run.result.requests.cut, run.result.attempts.cut), (0, 0));
        prop_assert!(run.result.rollout.is_none());
        prop_assert_eq!(run.result.phases.len(), 1);
        // The judged period is the whole run (one that ends with a bucket of 10 s is a case of its own, in `regressions`).
        let (service, phase) = (&run.result.service, &run.result.phases[0]);
        if phase.until_s % 10.0 > 0.0 {
            prop_assert_eq!((service.arrived, service.missed), (run.result.requests.arrived, phase.missed));
        }
    }
}

/// What holds for every run, whatever became of its rollout.
fn agree(run: &Run) {
    let Run { result, rows, .. } = run;
    let (requests, attempts) = (result.requests, result.attempts);
    assert!(requests.balances() && attempts.balances(), "{requests:?} {attempts:?}");

    // Rows: one for each request that ended, of which each is what the ledger says.
    assert_eq!(rows.len() as u64, requests.arrived - requests.unfinished);
    let by_number: BTreeMap<u64, &RequestRow> = rows.iter().map(|row| (row.number, row)).collect();
    assert_eq!(by_number.len(), rows.len(), "a request with two rows");
    let count = |kind| rows.iter().filter(|row| outcome(row) == kind).count() as u64;
    assert_eq!(count(Outcome::Completed), requests.completed);
    assert_eq!(count(Outcome::Cut), requests.cut);
    assert_eq!(count(Outcome::TimedOut), requests.timed_out);
    assert_eq!(count(Outcome::Rejected), requests.rejected);
    assert_eq!(count(Outcome::NeverSent), requests.never_sent);
    let missed: u64 = result.phases.iter().map(|phase| phase.missed).sum();
    let rows_missed = rows.iter().filter(|row| !row.met_slo).count() as u64;
    assert_eq!(missed, rows_missed + requests.unfinished);

    // Attempts: a request completes in one, and every other attempt is a failure of its kind.
    assert_eq!(attempts.completed, requests.completed);
    assert!(attempts.cut >= requests.cut && attempts.timed_out >= requests.timed_out);
    assert!(attempts.rejected >= requests.rejected && attempts.unfinished <= requests.unfinished);
    let by_rows: u64 = rows.iter().map(|row| u64::from(row.attempts)).sum();
    assert!(by_rows <= attempts.sent);
    let retried = rows.iter().filter(|row| row.attempts > 1).count() as u64;
    assert!(retried <= requests.retried && requests.retried <= retried + requests.unfinished);
    if requests.unfinished == 0 {
        assert_eq!((by_rows, retried), (attempts.sent, requests.retried));
    }

    phases(result, rows);
    latencies(result, rows);
    little(run);
    for row in rows {
        let completed = outcome(row) == Outcome::Completed;
        assert_eq!(completed, row.ttft_s.is_some());
        assert_eq!(completed && row.output_tokens > 1, row.tpot_s.is_some());
        assert!(completed || !row.met_slo);
    }
    assert!(result.kv_peak_share <= 1.0);
}

/// Phases tile the time line, and their ledgers are those of the requests that arrived in them.
fn phases(result: &SimulationResult, rows: &[RequestRow]) {
    let mut sum = RequestLedger::default();
    near(result.phases[0].from_s, 0.0);
    for (index, phase) in result.phases.iter().enumerate() {
        let ledger = phase.requests;
        assert!(ledger.balances(), "{phase:?}");
        sum.arrived += ledger.arrived;
        sum.completed += ledger.completed;
        sum.cut += ledger.cut;
        sum.timed_out += ledger.timed_out;
        sum.rejected += ledger.rejected;
        sum.never_sent += ledger.never_sent;
        sum.unfinished += ledger.unfinished;
        sum.retried += ledger.retried;
        assert!(phase.from_s <= phase.until_s);
        let next = result.phases.get(index + 1);
        if let Some(next) = next {
            assert!(phase.until_s == next.from_s, "a gap after {}", phase.name);
        }
        let inside = rows
            .iter()
            .filter(|row| row.arrived_s >= phase.from_s && (next.is_none() || row.arrived_s < phase.until_s));
        // At equal times arrivals come after a change of phase.
        assert_eq!(inside.count() as u64 + ledger.unfinished, ledger.arrived, "{phase:?}");
        let share = if ledger.arrived == 0 {
            1.0
        } else {
            (ledger.arrived - phase.missed) as f64 / ledger.arrived as f64
        };
        near(phase.attainment, share);
        if phase.until_s > phase.from_s {
            near(phase.rate_per_s, ledger.arrived as f64 / (phase.until_s - phase.from_s));
        }
    }
    assert_eq!(sum, result.requests);
}

/// Histograms hold what the rows hold.
fn latencies(result: &SimulationResult, rows: &[RequestRow]) {
    let of = |value: fn(&RequestRow) -> Option<f64>| {
        let mut values: Vec<f64> = rows.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let e2e = of(|row| (outcome(row) == Outcome::Completed).then_some(row.e2e_s));
    for (summary, values) in
        [(result.ttft_s, of(|row| row.ttft_s)), (result.tpot_s, of(|row| row.tpot_s)), (result.e2e_s, e2e)]
    {
        assert_eq!(summary.count, values.len() as u64);
        let Some(mean) = summary.mean else {
            assert!(values.is_empty());
            continue;
        };
        near(mean, values.iter().sum::<f64>() / values.len() as f64);
        for (share, quantile) in
            [(0.5, summary.p50), (0.9, summary.p90), (0.99, summary.p99), (1.0, summary.max)]
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let (exact, told) = (values[rank - 1], quantile.unwrap());
            // Three significant digits and whole nanoseconds.
            assert!((told - exact).abs() <= 1.1e-3 * exact + 2e-9, "{told} for {exact} at {share}");
        }
    }
    let phases =
        |count: fn(&slackwater_sim::PhaseResult) -> u64| result.phases.iter().map(count).sum::<u64>();
    assert_eq!(phases(|phase| phase.ttft_s.count), result.ttft_s.count);
    assert_eq!(phases(|phase| phase.tpot_s.count), result.tpot_s.count);
    assert_eq!(phases(|phase| phase.e2e_s.count), result.e2e_s.count);
}

/// Little's law: the integral of the number in flight is the sum of the times in flight. Exact where each request made
/// one attempt and has ended; with retries the waits between attempts are in no flight, so it is a bound.
fn little(run: &Run) {
    let Run { result, rows, .. } = run;
    if result.requests.unfinished > 0 {
        return;
    }
    let integral: f64 =
        result.phases.iter().map(|phase| phase.in_flight_mean * (phase.until_s - phase.from_s)).sum();
    let inside: f64 = rows.iter().map(|row| row.e2e_s).sum();
    // A completed request is out of flight before its last token is with the client: the delay, with its jitter.
    let slack: f64 = rows.iter().filter(|row| outcome(row) == Outcome::Completed).count() as f64 * 0.2;
    assert!(integral <= inside + 1e-6, "{integral} in flight, {inside} by the rows");
    if rows.iter().all(|row| row.attempts == 1) {
        assert!(integral >= inside - slack - 1e-6, "{integral} in flight, {inside} by the rows");
    }
}

/// The rollout ends or holds; and a completed one has moved everybody.
fn outcomes(run: &Run, small: &Small) {
    let rollout = run.rollout();
    let known = ["completed", "rolled_back", "aborted"];
    assert!(
        known.contains(&rollout.outcome.as_str()) || rollout.outcome.starts_with("held: "),
        "{}",
        rollout.outcome
    );
    near(rollout.started_s, small.start_s());
    assert!(rollout.ended_s >= rollout.started_s);
    assert_eq!(run.result.requests.unfinished, 0, "a run to the end leaves nothing open");
    assert!(rollout.below_n_s <= rollout.ended_s - rollout.started_s + 1e-9);
    if rollout.outcome == "completed" {
        assert!(rollout.moves.iter().all(|moved| moved.result == "done"), "{:?}", rollout.moves);
        let mut moved: Vec<&str> = rollout.moves.iter().map(|moved| moved.replica.as_str()).collect();
        moved.sort_unstable();
        moved.dedup();
        assert_eq!(moved.len(), small.spec.replicas as usize);
        assert!(rollout.below_n_s > 0.0);
    }
    assert!(sent_while_out(run).is_empty(), "sent to a replica that was out: {:?}", sent_while_out(run)[0]);
    // The verdict is over the requests under way at the start and those that came after, to the end of a bucket of 10 s.
    let service = &run.result.service;
    let last = (service.until_s / 10.0).ceil() * 10.0;
    let count = |early_s: f64, missed: bool| {
        let judged = run.rows.iter().filter(|row| {
            row.arrived_s < last
                && (row.arrived_s >= service.from_s || row.arrived_s + row.e2e_s - early_s >= service.from_s)
        });
        judged.filter(|row| !missed || !row.met_slo).count() as u64
    };
    // An engine is done before the client has the last token, by a delay of less than 0.2 s.
    assert!((count(0.2, false)..=count(0.0, false)).contains(&service.arrived), "{service:?}");
    assert!((count(0.2, true)..=count(0.0, true)).contains(&service.missed), "{service:?}");
    assert!(service.worst_5min_attainment <= service.attainment);
    // The policy counted what the ledger counts, and every cut happened in a drain.
    assert_eq!(rollout.report.cut, run.result.attempts.cut);
    assert_eq!(rollout.moves.iter().map(|moved| moved.cut).sum::<u64>(), run.result.attempts.cut);
    let in_drains: usize = rollout.drains.iter().map(|drain| drain.cut_after_s.len()).sum();
    assert_eq!(in_drains as u64, run.result.attempts.cut);
}

/// A drain accounts for each request in flight when it began: it ended by itself, or was cut.
fn drains(run: &Run, small: &Small) {
    let one_attempt = run.rows.iter().all(|row| row.attempts == 1 && outcome(row) != Outcome::TimedOut);
    let aborts = run.rollout().outcome != "completed";
    // Jitter on the way out hides when the engine was done.
    if !one_attempt || aborts || small.spec.engine.jitter > 0.0 {
        return;
    }
    let outbound = small.spec.engine.outbound_ms / 1e3;
    for drain in &run.rollout().drains {
        let inside = run.rows.iter().filter(|row| {
            let name = row.replica.map(|replica| format!("replica-{replica}"));
            let late = if outcome(row) == Outcome::Completed { outbound } else { 0.0 };
            name.as_ref() == Some(&drain.replica)
                && outcome(row) != Outcome::Rejected
                && row.arrived_s < drain.from_s
                && row.arrived_s + row.e2e_s - late >= drain.from_s - 1e-9
        });
        assert_eq!(drain.residual_s.len() + drain.cut_after_s.len(), inside.count(), "{drain:?}");
    }
}
