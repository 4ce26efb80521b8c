//! The body of every benchmark on a small input, its results held against those on file, so that none of them rots; and
//! what was found out about the peer, held fast.

#[path = "../../benches/peer/lab.rs"]
#[allow(dead_code)] // shared with the benchmark, which uses all of it
mod lab;
mod peer;

use slackwater_benches::features::FEATURES;
use slackwater_benches::planning::{Search, Size};
use slackwater_benches::replicas::{Fleet, Gait};
use slackwater_benches::workload::Source;
use slackwater_benches::worlds::{Job, fork_and_compare, fork_bytes};
use slackwater_benches::{clock, memory, recorded};
use slackwater_scenarios::Scheduling;

const SCHEDULINGS: [(&str, Scheduling); 2] = [("sync", Scheduling::Sync), ("async", Scheduling::Async)];

#[test]
fn simulate() {
    let trace = Source::Tiny.load();
    for (name, scheduling) in SCHEDULINGS {
        let job = Job::new(Source::Tiny, scheduling, &trace);
        let result = job.run();
        assert_eq!(result.requests.completed, job.requests());
        recorded::check(&format!("simulate/{name}/tiny"), &result.hash);
    }
}

#[test]
fn features() {
    for feature in FEATURES {
        let (without, with) = (feature.job(Source::Tiny, false).run(), feature.job(Source::Tiny, true).run());
        recorded::check(&format!("features/{}/tiny", feature.key()), &with.hash);
        let changes = feature.rollout || !feature.on.is_empty();
        if !changes {
            assert_eq!(with.hash, without.hash, "{}", feature.name);
        }
    }
}

#[test]
fn jump_and_walks_compute_the_same() {
    let trace = Source::Tiny.load();
    for (name, scheduling) in SCHEDULINGS {
        let fleet = Fleet::new(&Source::Tiny.scenario(scheduling).from.engine, 4);
        let jumped = fleet.run(Gait::Jump, &trace.arrivals);
        assert_eq!(jumped.counters.finished, trace.arrivals.len() as u64);
        assert_eq!(fleet.run(Gait::Walk, &trace.arrivals), jumped);
        assert_eq!(fleet.run(Gait::Oracle, &trace.arrivals), jumped);
        recorded::check(&format!("jump_vs_walk/{name}/tiny"), &jumped.hex());
    }
}

#[test]
fn forks_end_alike_and_have_a_size() {
    let job = Job::new(Source::Tiny, Scheduling::Async, &Source::Tiny.load());
    recorded::check("fork/tiny", &fork_and_compare(&job));
    if cfg!(target_os = "linux") {
        assert!(fork_bytes(&job, 50).is_some());
    }
}

#[test]
fn plans_are_those_on_file_and_forking_changes_no_trial() {
    let (requests, hash) = Size::TINY.plan(&Size::CLOSER);
    assert_eq!((requests, hash), Size::TINY.plan(&Size::CLOSER));
    assert!(requests > 10_000);
    let search = Search::new(Size::TINY);
    let (_, forked) = search.screened(false);
    assert_eq!(forked.trials, 12 * Size::TINY.futures);
    recorded::check("plan/trials", &forked.hash);
    let restarted = search.restarted();
    assert_eq!((forked.trials, forked.hash), (restarted.trials, restarted.hash));
    let (_, spared) = search.screened(true);
    assert!(spared.trials < forked.trials && spared.requests < forked.requests);
    let (one, all) = (search.certified(&search.all_starts()[..1], 1), search.all_starts().len());
    assert!(one.trials >= 368 && all == 12);
}

#[test]
fn a_streamed_run_is_the_run_from_memory() {
    let (requests, hash) = memory::simulate_streaming(Source::Tiny);
    let job = Job::new(Source::Tiny, Scheduling::Async, &Source::Tiny.load());
    assert_eq!((requests, hash), (job.requests(), job.run().hash));
}

#[test]
fn a_wrong_answer_fails() {
    // While recording there is nothing to fail.
    if std::env::var(recorded::RECORD).is_ok() {
        return;
    }
    let complaint = std::panic::catch_unwind(|| recorded::check("canary", "0")).unwrap_err();
    let complaint = complaint.downcast_ref::<String>().unwrap();
    assert!(complaint.contains("canary") && complaint.contains(recorded::RECORD), "{complaint}");
}

#[test]
fn cpu_time_is_spent_by_working() {
    let (_, seconds) = clock::cpu_seconds(|| {
        let mut hash = slackwater_benches::WordHash::default();
        (0..200_000).for_each(|word| hash.word(word));
        std::hint::black_box(hash)
    });
    assert!(seconds > 0.0);
    let spread = clock::Spread::of(vec![3.0, 1.0, 2.0]);
    assert_eq!([spread.least, spread.median, spread.most], [1.0, 2.0, 3.0]);
}
