//! Claim: a simulation under way is forked in microseconds and kilobytes, and the fork ends as the original does.

use criterion::criterion_main;
use slackwater_benches::workload::{Source, announce};
use slackwater_benches::worlds::{Job, fork_and_compare, fork_bytes};
use slackwater_benches::{clock, recorded};
use slackwater_scenarios::Scheduling;

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn benches() {
    announce();
    let source = Source::Trace { repeat: 1 };
    let job = Job::new(source, Scheduling::Async, &source.load());
    recorded::check(&format!("fork/{}", source.label()), &fork_and_compare(&job));
    match fork_bytes(&job, 200) {
        Some(bytes) => println!("a fork takes {:.0} KiB", bytes as f64 / 1024.0),
        None => println!("/proc/self/status is not there, so the size of a fork was not measured"),
    }
    let mut criterion = clock::criterion();
    let world = job.half_way();
    criterion.bench_function("fork/clone_half_way", |bencher| bencher.iter(|| world.clone()));
    criterion.final_summary();
}

criterion_main!(benches);
