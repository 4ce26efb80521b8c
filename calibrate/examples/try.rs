use slackwater_calibrate::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let experiments = Experiment::all(std::path::Path::new(&args[1])).unwrap();
    let cut: f64 = args[2].parse().unwrap();
    for e in &experiments {
        if args.len() > 3 && !e.name.contains(&args[3]) {
            continue;
        }
        for s in Structure::candidates(e) {
            let t = std::time::Instant::now();
            let part = Part {
                experiment: e,
                drive: Drive::Open,
                fitted: e
                    .rows
                    .iter()
                    .map(|r| r.answer.is_some_and(|a| r.arrival_s + a.e2e_s <= cut))
                    .collect(),
            };
            let n = part.fitted.iter().filter(|f| **f).count();
            let loss = Loss::new(vec![part.clone()], s, 1);
            let (v, l) = fit(&loss, 12, 1);
            println!("{} {s:?} fitted {n} loss {l:.6} {:?}", e.name, t.elapsed());
            println!("   {:?}", v.iter().map(|x| (x.exp() * 1e5).round() / 1e5).collect::<Vec<_>>());
            let (mut p, _) = limits(e, s);
            put(&v, &mut p);
            let r = replay(e, &p, Drive::Open, 1).unwrap();
            for (name, pick) in [("all", None), ("fit", Some(true)), ("rest", Some(false))] {
                let ok = |i: usize| pick.is_none_or(|w| part.fitted[i] == w);
                let m = measured(&e.rows, ok);
                let q: Vec<_> = e
                    .rows
                    .iter()
                    .zip(&r)
                    .enumerate()
                    .filter(|(i, _)| ok(*i))
                    .map(|(_, (row, r))| (r.sent_s, row.output_tokens, r.answer))
                    .collect();
                let q = figures(&q);
                let pc = |a: f64, b: f64| (b / a - 1.0) * 100.0;
                print!("   {name:4}");
                for (a, b) in [(m.ttft_s, q.ttft_s), (m.tpot_s, q.tpot_s), (m.e2e_s, q.e2e_s)] {
                    if let (Some(a), Some(b)) = (a, b) {
                        print!(
                            " | {:+.1} {:+.1} {:+.1} {:+.1}",
                            pc(a.mean, b.mean),
                            pc(a.p50, b.p50),
                            pc(a.p90, b.p90),
                            pc(a.p99, b.p99)
                        );
                    }
                }
                println!(
                    " | thr {:+.1}",
                    pc(m.throughput_rps.unwrap_or(1.0), q.throughput_rps.unwrap_or(1.0))
                );
            }
        }
    }
}
