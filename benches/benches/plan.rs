//! What `plan` costs against its size, and what its search saves: two tables, each result held against the one on file.

use slackwater_benches::clock::process_cpu_seconds;
use slackwater_benches::planning::{Found, Search, Size};
use slackwater_benches::recorded;
use slackwater_benches::workload::announce;

/// Ablations are of this size: the plain ways take long.
const SMALL: Size = Size { hours: 2, futures: 10, replicas: 4, rate: 1.375 };

#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn main() {
    announce();
    let usual = Size::USUAL;
    let sizes = [
        ("usual: 6 h, 20 futures, 4 replicas, 5.5/s", usual),
        ("twice the horizon", Size { hours: 2 * usual.hours, ..usual }),
        ("twice the futures", Size { futures: 2 * usual.futures, ..usual }),
        ("twice the replicas, and the rate with them", Size { replicas: 2 * usual.replicas, ..usual }),
        ("twice the rate", Size { rate: 2.0 * usual.rate, ..usual }),
    ];
    println!("{:44} {:>12} {:>8} {:>12}", "a plan", "requests", "CPU s", "requests/s");
    for (name, size) in sizes {
        let ((requests, hash), seconds) = process_cpu_seconds(|| size.plan(&[]));
        recorded::check(&format!("plan/{}", name.replace(' ', "-")), &hash);
        println!("{name:44} {requests:>12} {seconds:>8.1} {:>12.0}", requests as f64 / seconds);
    }
    let search = Search::new(SMALL);
    println!("\n{:44} {:>8} {:>12} {:>8}", "2 h, 10 futures", "trials", "requests", "CPU s");
    let row = |name: &str, (found, seconds): (Found, f64)| {
        recorded::check(&format!("plan/{}", name.replace(' ', "-")), &found.hash);
        println!("{name:44} {:>8} {:>12} {seconds:>8.2}", found.trials, found.requests);
        found.hash
    };
    let forked = row("every start in every future, forked", process_cpu_seconds(|| search.screened(false).1));
    let restarted = row("the same from the day's beginning", process_cpu_seconds(|| search.restarted()));
    assert_eq!(forked, restarted, "forking changes no outcome");
    row("calm and hopeless starts spared", process_cpu_seconds(|| search.screened(true).1));
    let all = search.all_starts();
    row("the best three certified", process_cpu_seconds(|| search.certified(&all[..3], 3)));
    row("every start certified, unscreened", process_cpu_seconds(|| search.certified(&all, all.len())));
}
