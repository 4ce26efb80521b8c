//! What `plan` costs against its size, and what its search saves: two tables, each row with the hash of its result.

use slackwater_benches::clock::process_cpu_seconds;
use slackwater_benches::planning::{Found, Search, Size};
use slackwater_benches::workload::announce;

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn main() {
    announce();
    let row = |name: &str, (found, seconds): (Found, f64)| {
        println!("{name:44} {:>8} {:>12} {seconds:>8.2}  {}", found.trials, found.requests, found.hash);
        found.hash
    };
    let head = |name: &str| println!("\n{name:44} {:>8} {:>12} {:>8}", "trials", "requests", "CPU s");
    // Of a size each that the plain way ends in half a minute.
    let half_a_day = Search::new(Size { hours: 12, futures: 2, ..Size::USUAL });
    head("12 h, 2 futures");
    let forked =
        row("every start in every future, forked", process_cpu_seconds(|| half_a_day.screened(false).1));
    let restarted = row("the same from the beginning", process_cpu_seconds(|| half_a_day.restarted()));
    assert_eq!(forked, restarted, "forking changes no outcome");

    for (name, rate) in [("6 h, 20 futures, calm", 1.375), ("6 h, 20 futures, busy", 2.2)] {
        let search = Search::new(Size { hours: 6, futures: 20, rate, ..Size::USUAL });
        head(name);
        row("every start in every future", process_cpu_seconds(|| search.screened(false).1));
        row("calm and hopeless starts spared", process_cpu_seconds(|| search.screened(true).1));
    }

    let hour = Search::new(Size { hours: 1, ..Size::USUAL });
    let all = hour.all_starts();
    head("1 h, 10 futures");
    row(
        "screened, the best three certified",
        process_cpu_seconds(|| {
            let (screened, best) = (hour.screened(true).1, hour.certified(&all[..3], 3));
            Found {
                trials: screened.trials + best.trials,
                requests: screened.requests + best.requests,
                hash: best.hash,
            }
        }),
    );
    row("every start certified, unscreened", process_cpu_seconds(|| hour.certified(&all, all.len())));

    let usual = Size::USUAL;
    let sizes = [
        ("6 h, 10 futures, 4 replicas, 8.8/s", usual),
        ("twice the horizon", Size { hours: 2 * usual.hours, ..usual }),
        ("twice the futures", Size { futures: 2 * usual.futures, ..usual }),
        ("twice the replicas, and the rate with them", Size { replicas: 2 * usual.replicas, ..usual }),
        ("twice the rate", Size { rate: 2.0 * usual.rate, ..usual }),
    ];
    println!("\n{:44} {:>12} {:>8} {:>12}", "a plan", "requests", "CPU s", "requests/s");
    for (name, size) in sizes {
        let ((requests, hash), seconds) = process_cpu_seconds(|| size.plan(&Size::CLOSER));
        println!("{name:44} {requests:>12} {seconds:>8.1} {:>12.0}  {:.16}", requests as f64 / seconds, hash);
    }
}
