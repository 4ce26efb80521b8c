//! Beside the best peer: the `inference-lab` crate 1.0.0, which walks every step.
//!
//! The same trace, the same linear step time, four replicas, least loaded. CPU time of both, latencies of both, and how
//! far apart the single requests are once ties between replicas are broken alike. README.md explains what differs.

mod lab;

use lab::{Case, Latency, Run, Ties};
use slackwater_benches::clock::{Spread, cpu_seconds};
use slackwater_benches::recorded;
use slackwater_benches::workload::{Source, announce};

const CASES: [Case; 3] = [
    // Nothing is ever short of room.
    Case { name: "roomy", source: Source::Trace { repeat: 1 }, rate_scale: 1.0, kv_blocks: 25_700 },
    // A cache that hardly holds the longest request: now and then one is preempted.
    Case { name: "tight", source: Source::Trace { repeat: 1 }, rate_scale: 1.0, kv_blocks: 1_000 },
    // Four times the rate: queues grow all the time, and every request is preempted about once.
    Case { name: "overloaded", source: Source::Trace { repeat: 1 }, rate_scale: 4.0, kv_blocks: 1_500 },
];

const ROUNDS: usize = 5;
const OURS_IN_A_ROUND: usize = 5;

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn main() {
    announce();
    for case in CASES {
        let trace = case.load();
        println!(
            "\n{}: {} requests, rate x {}, {} KV blocks a replica",
            case.name,
            trace.arrivals.len(),
            case.rate_scale,
            case.kv_blocks
        );

        let job = case.our_job(&trace, false);
        // In turns, so that whatever else the machine does falls on both alike.
        let (mut ours, mut its) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.extend((0..OURS_IN_A_ROUND).map(|_| cpu_seconds(|| job.run()).1));
            let mut engine = case.peer(Ties::Its);
            its.push(cpu_seconds(|| lab::play(&mut engine, &trace.arrivals)).1);
        }
        let (ours, its) = (Spread::of(ours), Spread::of(its));
        for (who, spread) in [("slackwater", ours), ("inference-lab", its)] {
            println!(
                "  {who:13}  {:9.3} CPU-ms ({:.3} to {:.3})  {:>11.0} requests/s",
                spread.median * 1e3,
                spread.least * 1e3,
                spread.most * 1e3,
                trace.arrivals.len() as f64 / spread.median
            );
        }
        println!("  ratio of the medians {:.0}", its.median / ours.median);

        let ours = case.run_ours(&trace);
        let its = lab::play(&mut case.peer(Ties::Its), &trace.arrivals);
        let alike = lab::play(&mut case.peer(Ties::Ours), &trace.arrivals);
        for (who, run) in [("ours", &ours), ("its", &its), ("its-our-ties", &alike)] {
            recorded::check(&format!("peer/{}/{who}/{}", case.name, case.source.label()), &run.hex());
        }
        table(&ours, &its, &alike);
    }
}

#[allow(clippy::print_stdout)]
fn table(ours: &Run, its: &Run, alike: &Run) {
    println!(
        "  preemptions: ours {}, its {}, its with our ties {}",
        ours.preemptions, its.preemptions, alike.preemptions
    );
    println!("  | seconds | ours | inference-lab | difference | with our ties | difference |");
    println!("  |---|---|---|---|---|---|");
    type Pick = fn(&Latency) -> Option<f64>;
    let latencies: [(&str, Pick); 3] = [
        ("TTFT", |latency| Some(latency.ttft)),
        ("TPOT", |latency| latency.tpot),
        ("E2E", |latency| Some(latency.e2e)),
    ];
    for (name, pick) in latencies {
        let [ours, its, alike] = [ours, its, alike].map(|run| run.figures(pick));
        for (place, figure) in ["mean", "p50", "p90", "p99"].into_iter().enumerate() {
            let (ours, its, alike) = (ours[place], its[place], alike[place]);
            let percent = |other: f64| (other / ours - 1.0) * 100.0;
            println!(
                "  | {name} {figure} | {ours:.5} | {its:.5} | {:+.2} % | {alike:.5} | {:+.2} % |",
                percent(its),
                percent(alike)
            );
        }
    }
    println!(
        "  largest difference of any latency of any request, ties broken alike: {:.1e} s",
        ours.largest_difference(alike)
    );
}
