//! One run of the `simulate` benchmark's body, for a profiler:
//!
//! ```sh
//! cargo build --release -p slackwater-benches --example profile
//! valgrind --tool=callgrind --dump-line=yes target/release/examples/profile async 1
//! ```

use slackwater_benches::workload::Source;
use slackwater_benches::worlds::Job;
use slackwater_scenarios::Scheduling;

#[allow(clippy::print_stdout)]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let scheduling = match arguments.next().as_deref() {
        Some("sync") => Scheduling::Sync,
        _ => Scheduling::Async,
    };
    let repeat = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let source = Source::Trace { repeat };
    let job = Job::new(source, scheduling, &source.load());
    let result = job.run();
    println!("{} requests, {} steps, {}", job.requests(), result.steps, result.hash);
}
