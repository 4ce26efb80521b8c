//! What each feature costs where it is on, beside the same traffic without it, in turns: a table.
//!
//! Claim: a feature that is off costs nothing (the first row of each base is the noise), and README.md states the cost of each
//! that is on.

use slackwater_benches::clock::{Spread, cpu_seconds};
use slackwater_benches::features::FEATURES;
use slackwater_benches::recorded;
use slackwater_benches::workload::{Source, announce};

const ROUNDS: usize = 5;

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn main() {
    announce();
    let source = Source::Trace { repeat: 5 };
    println!("{:40} {:>10} {:>11} {:>11} {:>7}", "feature", "requests", "without us", "with it us", "ratio");
    for feature in FEATURES {
        let (without, with) = (feature.job(source, false), feature.job(source, true));
        recorded::check(&format!("features/{}/{}", feature.key(), source.label()), &with.run().hash);
        let (mut before, mut after, mut requests) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let (result, seconds) = cpu_seconds(|| without.run());
            before.push(seconds * 1e6 / result.requests.arrived as f64);
            let (result, seconds) = cpu_seconds(|| with.run());
            after.push(seconds * 1e6 / result.requests.arrived as f64);
            requests = result.requests.arrived;
        }
        let (before, after) = (Spread::of(before).median, Spread::of(after).median);
        println!("{:40} {requests:>10} {before:>11.3} {after:>11.3} {:>7.2}", feature.name, after / before);
    }
}
