//! How requests are spread, seen in the rows.

use rand::RngExt;
use rand_distr::Exp1;
use slackwater_scenarios::Keyed;

use crate::kit::{Engine, Run, Spec, WITH_ROWS, ps, trace};

/// Largest and mean difference between the most and the least loaded replica, just after each arrival.
fn spread(run: &Run, replicas: u16) -> (i32, f64) {
    let mut events: Vec<(f64, bool, u16)> = Vec::new();
    for row in &run.rows {
        let replica = row.replica.unwrap();
        events.push((row.arrived_s, true, replica));
        events.push((row.arrived_s + row.e2e_s, false, replica));
    }
    // Arrivals come before ends at the same time, as in the world.
    events.sort_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
    let mut in_flight = vec![0_i32; usize::from(replicas)];
    let (mut largest, mut sum) = (0, 0);
    for (_, arrives, replica) in events {
        in_flight[usize::from(replica)] += if arrives { 1 } else { -1 };
        if arrives {
            let difference = in_flight.iter().max().unwrap() - in_flight.iter().min().unwrap();
            largest = largest.max(difference);
            sum += difference;
        }
    }
    (largest, f64::from(sum) / run.rows.len() as f64)
}

/// Poisson arrivals on four replicas of eight slots, answers of 1 s each: eighty percent full.
fn busy(router: &str) -> Run {
    let mut random = Keyed::new(11).stream("arrivals", &[]);
    let mut at = 0.0;
    let requests = (0..6000).map(|_| {
        let gap: f64 = random.sample(Exp1);
        at += gap / 25.6;
        (at, 1, 100)
    });
    let engine = Engine { max_num_seqs: 8, ..Engine::default() };
    Spec { replicas: 4, engine, router: router.to_owned(), ..Spec::default() }.run(&trace(requests))
}

/// Catches: a count that is not taken back, a tie always broken the same way. With equal answers, which end in the order
/// they came, the least loaded is never two behind.
#[test]
fn least_connections_keeps_equal_work_level() {
    let (largest, mean) = spread(&busy("policy = \"least-connections\""), 4);
    assert!(largest <= 2, "{largest}");
    assert!(mean < 1.0, "{mean}");
}

/// Catches: workers that share their counts. The queues are those of the balancer's making: same requests, same engines.
#[test]
fn nginx_by_worker_is_worse_than_ideal_and_a_shared_zone_is_not() {
    let ideal = busy("policy = \"least-connections\"");
    let zone = busy("policy = \"nginx-least-conn\"\nworkers = 8\nzone = true");
    let workers = busy("policy = \"nginx-least-conn\"\nworkers = 8");
    let wait = |run: &Run| run.result.ttft_s.mean.unwrap();
    let spread = |run: &Run| spread(run, 4).1;
    // Its ties do not simply go round, so it is near the ideal, not the same.
    assert!(spread(&zone) < 1.3 * spread(&ideal), "{} against {}", spread(&zone), spread(&ideal));
    assert!(spread(&workers) > 2.0 * spread(&ideal), "{} against {}", spread(&workers), spread(&ideal));
    assert!(wait(&workers) > 1.2 * wait(&ideal), "{} against {}", wait(&workers), wait(&ideal));
    assert!(wait(&zone) < 1.1 * wait(&ideal), "{} against {}", wait(&zone), wait(&ideal));
}

/// Catches: two choices that are one or all. In between, on the same requests.
#[test]
fn two_choices_lie_between_the_best_and_round_robin_of_unequal_work() {
    let mut random = Keyed::new(12).stream("unequal", &[]);
    let mut at = 0.0;
    let requests: Vec<(f64, u32, u32)> = (0..6000)
        .map(|_| {
            let (gap, length): (f64, f64) = (random.sample(Exp1), random.sample(Exp1));
            at += gap / 6.4;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let tokens = (length * 100.0).ceil() as u32;
            (at, 1, tokens)
        })
        .collect();
    let requests = trace(requests);
    let wait = |router: &str| {
        let engine = Engine { max_num_seqs: 1, ..Engine::default() };
        let spec = Spec { replicas: 8, engine, router: format!("policy = \"{router}\""), ..Spec::default() };
        spec.run(&requests).result.ttft_s.mean.unwrap()
    };
    let (best, two, robin) = (wait("least-connections"), wait("random-two-choices"), wait("round-robin"));
    assert!(1.3 * best < two && 1.3 * two < robin, "{best} {two} {robin}");
}

/// Catches: a round that is not one.
#[test]
fn round_robin_goes_round() {
    for replicas in [1, 3, 5] {
        let router = "policy = \"round-robin\"".to_owned();
        let run = Spec { replicas, router, ..Spec::default() }
            .run(&trace((0..40).map(|i| (f64::from(i), 1, i + 1))));
        for row in &run.rows {
            assert_eq!(u64::from(row.replica.unwrap()), row.number % u64::from(replicas));
        }
    }
}

/// Replica 0's client gives up: it is as empty as replica 1, and its turn has come. Catches: a request given up that the
/// balancer goes on counting.
#[test]
fn a_request_given_up_counts_no_longer() {
    // nginx breaks ties by smooth weighted round robin, whose state after the first tie is (-100, 100): the next goes to 1.
    for (router, expected) in [
        ("policy = \"least-connections\"", [0, 1, 0, 1, 0]),
        ("policy = \"haproxy-leastconn\"", [0, 1, 1, 0, 1]),
        ("policy = \"nginx-least-conn\"\nworkers = 1", [0, 1, 1, 0, 0]),
    ] {
        let spec = Spec {
            replicas: 2,
            router: router.to_owned(),
            clients: "timeout = 5\nretries = { max = 0 }".to_owned(),
            ..Spec::default()
        };
        let run = spec.run(&trace([
            (0.1, 1, 10_000),
            (0.2, 1, 10),
            (10.0, 1, 100),
            (10.1, 1, 100),
            (10.2, 1, 100),
        ]));
        let replicas: Vec<u16> = run.rows.iter().map(|row| row.replica.unwrap()).collect();
        assert_eq!(replicas, expected, "{router}");
    }
}

/// Replica 1 has two long answers when replica 0 is taken out, replica 2 none. A balancer that remembers sends the next
/// two to replica 2; nginx was reloaded for the change, forgot, and sends them one each. Catches: counts kept over a
/// reload; and ends of requests of before counted against the new counts (the third and fourth would go astray).
#[test]
fn a_change_of_rotation_makes_nginx_forget() {
    let long = 100_000;
    let before = [(0.1, 1, 100), (0.2, 1, long), (0.3, 1, 100), (0.4, 1, 100), (0.5, 1, long), (0.6, 1, 100)];
    let after = [(20.0, 1, long), (20.1, 1, long), (20.2, 1, long), (20.3, 1, long)];
    let requests = trace(before.into_iter().chain(after));
    let sent = |router: &str, rolls: bool| {
        let spec = Spec {
            replicas: 3,
            router: format!("policy = {router}"),
            // Replica 0 stays away for the whole test.
            to: "startup = \"300s\"".to_owned(),
            ..Spec::default()
        };
        let run = if rolls { spec.roll(&requests, ps(10.0)) } else { spec.run(&requests) };
        let replicas: Vec<u16> = run.rows.iter().map(|row| row.replica.unwrap()).collect();
        // nginx's ties by hand: (-200, 100, 100), then 1 at (-200, 0, 200), then 2 alone, 2 of all at (-100, 100, 0), 1, 0.
        let first = if router.contains("nginx") { [0, 1, 2, 2, 1, 0] } else { [0, 1, 2, 0, 1, 2] };
        assert_eq!(replicas[..6], first, "{router}");
        let mut after = replicas[6..].to_vec();
        after[..2].sort_unstable();
        after[2..].sort_unstable();
        after
    };
    assert_eq!(sent("\"least-connections\"", true), [2, 2, 1, 2]);
    for nginx in ["\"nginx-least-conn\"\nworkers = 1", "\"nginx-least-conn\"\nzone = true"] {
        assert_eq!(sent(nginx, true), [1, 2, 1, 2], "{nginx}");
        // Without a reload it remembers as well.
        assert_eq!(sent(nginx, false), [0, 2, 0, 2], "{nginx}");
    }
}

/// HAProxy counts exactly: with equal weights its queues are those of the ideal.
#[test]
fn haproxy_is_as_level_as_the_ideal() {
    let (largest, mean) = spread(&busy("policy = \"haproxy-leastconn\""), 4);
    assert!(largest <= 2 && mean < 1.0, "{largest} {mean}");
}

/// Shares of what arrives in each stretch after a replica is back, by hand: the weight is k of 16 sixteenths against 16 of
/// the other, so the share of a saturated fleet of two is about k / (k + 16).
#[test]
fn slow_start_lets_a_replica_back_in_by_steps() {
    let crash = "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = 10\nnoticed_after = 1\nback_after = 20\n";
    let share = |router: &str| {
        let requests = trace((0..15_000).map(|number| (f64::from(number) / 50.0, 1, 100)));
        let spec =
            Spec { replicas: 2, router: router.to_owned(), faults: crash.to_owned(), ..Spec::default() };
        let run = spec.run(&requests);
        let share = |from: f64, until: f64| {
            let then = run.rows.iter().filter(|row| (from..until).contains(&row.arrived_s));
            let there = then.clone().filter(|row| row.replica == Some(1)).count();
            there as f64 / then.count() as f64
        };
        [share(32.0, 36.0), share(85.0, 95.0), share(150.0, 250.0)]
    };
    let at_once = share("policy = \"haproxy-leastconn\"");
    assert!(at_once.iter().all(|share| (share - 0.5).abs() < 0.03), "{at_once:?}");
    let slowly = share("policy = \"haproxy-leastconn\"\nslow_start = 120");
    // 1 or 2 sixteenths; 8 or 9 of them; all.
    assert!(slowly[0] < 0.13, "{slowly:?}");
    assert!((0.29..0.40).contains(&slowly[1]), "{slowly:?}");
    assert!((slowly[2] - 0.5).abs() < 0.03, "{slowly:?}");
}

/// A rollout that admits with a weight is obeyed, by nginx as well.
#[test]
fn a_weight_of_the_rollout_is_honoured() {
    for policy in ["haproxy-leastconn", "nginx-least-conn", "least-connections"] {
        let spec = Spec {
            replicas: 2,
            router: format!("policy = \"{policy}\""),
            rollout: "only = ['replica-1']\nsoak = 200".to_owned(),
            ..Spec::default()
        };
        let requests = trace((0..15_000).map(|number| (f64::from(number) / 50.0, 1, 100)));
        let start = ps(20.0);
        let mut plan = spec.plan(start);
        plan.rollout.admit_weight = Some(25);
        let mut world = spec.world(&requests, WITH_ROWS);
        world.run_until(start).unwrap();
        world.begin_rollout(plan).unwrap();
        let run = Run::of(world);
        let back = run.rollout().moves[0].admitted_s.unwrap() + 5.0;
        let then = run.rows.iter().filter(|row| (back..back + 100.0).contains(&row.arrived_s));
        let there = then.clone().filter(|row| row.replica == Some(1)).count();
        let share = there as f64 / then.count() as f64;
        assert!((0.17..0.23).contains(&share), "{policy}: {share}");
    }
}
