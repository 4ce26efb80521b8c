//! Claim: at least 3 million requests a second are simulated on one core (aim: 5 million), with histograms, KV blocks
//! and series on.
//!
//! The hour of Azure's conversation trace, 20 times over, on four replicas with least connections. Measured is a whole
//! run from an empty world to the finished result; reading the trace is not.

use criterion::criterion_main;
use slackwater_benches::workload::{Source, announce};
use slackwater_benches::worlds::Job;
use slackwater_benches::{clock, recorded};
use slackwater_scenarios::Scheduling;

fn benches() {
    announce();
    let source = Source::Trace { repeat: 20 };
    let trace = source.load();
    let mut criterion = clock::criterion();
    let mut group = criterion.benchmark_group("simulate");
    for (name, scheduling) in [("sync", Scheduling::Sync), ("async", Scheduling::Async)] {
        let job = Job::new(source, scheduling, &trace);
        recorded::check(&format!("simulate/{name}/{}", source.label()), &job.run().hash);
        group.throughput(clock::requests(job.requests()));
        group.bench_function(name, |bencher| bencher.iter(|| job.run()));
    }
    group.finish();
    criterion.final_summary();
}

criterion_main!(benches);
