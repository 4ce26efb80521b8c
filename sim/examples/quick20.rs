//! scratch
use slackwater_scenarios::Scenario;
use slackwater_sim::*;
use std::sync::Arc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut s = Scenario::load_with("scenarios/catalog/four-gpu-chat.toml", &args[1..]).unwrap();
    s.traffic.file = Some("../shared/data/traces/azure2023_conv.csv.gz".into());
    s.traffic.generate = None;
    s.traffic.repeat = 20;
    let trace = Arc::new(s.load_traffic().unwrap());
    let setup = Arc::new(Setup::new(&s).unwrap());
    for _ in 0..15 {
        let t = std::time::Instant::now();
        let mut w =
            World::new(setup.clone(), TraceCursor::new(trace.clone()), RunOptions::default()).unwrap();
        w.run().unwrap();
        let el = t.elapsed();
        let (r, _) = w.finish(RunInfo { wall_s: el.as_secs_f64(), ..Default::default() });
        println!(
            "{} wall {:.4} rate/s {:.0} hash {}",
            r.requests.arrived,
            r.wall_s,
            r.requests_per_wall_s,
            &r.hash[..8]
        );
    }
}
