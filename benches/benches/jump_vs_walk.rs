//! Claim: jumping from change to change is many times faster than walking every step, and computes the same.
//!
//! The hour of Azure's conversation trace on four replicas without a world around them. `jump` is the engine, `walk`
//! the same engine held to one step at a time, `oracle` the plain one of the engine's tests, which also checks its own
//! invariants at every step. The honest ratio is walk over jump; oracle over jump says what the tests cost.

use criterion::criterion_main;
use slackwater_benches::replicas::{Fleet, Gait};
use slackwater_benches::workload::{Source, announce};
use slackwater_benches::{clock, recorded};
use slackwater_scenarios::Scheduling;

#[allow(clippy::print_stdout)]
fn benches() {
    announce();
    let source = Source::Trace { repeat: 1 };
    let arrivals = &source.load().arrivals;
    let mut criterion = clock::criterion();
    let mut ratios = Vec::new();
    for (name, scheduling) in [("sync", Scheduling::Sync), ("async", Scheduling::Async)] {
        let profile = source.scenario(scheduling).from.engine;
        let fleet = Fleet::new(&profile, 4);
        let jumped = fleet.run(Gait::Jump, arrivals);
        for gait in [Gait::Walk, Gait::Oracle] {
            assert_eq!(fleet.run(gait, arrivals), jumped, "{gait:?} and Jump compute the same");
        }
        recorded::check(&format!("jump_vs_walk/{name}/{}", source.label()), &jumped.hex());

        let mut group = criterion.benchmark_group(format!("jump_vs_walk/{name}"));
        group.throughput(clock::requests(arrivals.len() as u64)).sample_size(10);
        for gait in [Gait::Jump, Gait::Walk, Gait::Oracle] {
            let label = format!("{gait:?}").to_lowercase();
            group.bench_function(label, |bencher| bencher.iter(|| fleet.run(gait, arrivals)));
        }
        group.finish();

        // Interleaved, so that whatever else the machine does falls on all three alike.
        let once = |gait| clock::cpu_seconds(|| fleet.run(gait, arrivals)).1;
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        for _ in 0..5 {
            rounds.push([once(Gait::Jump), once(Gait::Walk), once(Gait::Oracle)]);
        }
        let ratio = |of: usize| clock::Spread::of(rounds.iter().map(|round| round[of] / round[0]).collect());
        ratios.push((name, ratio(1), ratio(2), jumped.counters.steps));
    }
    criterion.final_summary();
    println!("CPU time over the jump's, median (least to most) of 5 rounds; all three computed the same:");
    for (name, walk, oracle, steps) in ratios {
        println!(
            "  {name:5}  walk {:.1} ({:.1} to {:.1})   oracle {:.0} ({:.0} to {:.0})   {steps} steps",
            walk.median, walk.least, walk.most, oracle.median, oracle.least, oracle.most
        );
    }
}

criterion_main!(benches);
