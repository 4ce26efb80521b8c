//! Claim: memory does not grow with the length of the trace.
//!
//! The trace is streamed from its file, once and 20 times over, each in a process of its own, and the peaks compared.

use slackwater_benches::memory::{child, measure};
use slackwater_benches::recorded;
use slackwater_benches::workload::{Source, announce};

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn main() {
    if let Some(line) = child() {
        println!("{line}");
        return;
    }
    announce();
    let [once, often] = [1, 20].map(|repeat| {
        let peak = measure(repeat);
        recorded::check(&format!("memory/{}", Source::Trace { repeat }.label()), &peak.hash);
        println!("{repeat:>3} x  {:>7} requests  peak {:>6} KiB resident", peak.requests, peak.kib);
        peak
    });
    println!("ratio {:.3}", often.kib as f64 / once.kib.max(1) as f64);
}
