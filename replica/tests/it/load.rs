//! Many streams at once, every token of them checked.

use std::time::Duration;

use slackwater_load::{Load, Options, Pace, Prompt};
use slackwater_replica::text;

use crate::support::{metric, options, ready, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_streams_at_once_are_whole_and_leave_nothing_behind() {
    let server = ready(options()).await;
    let to = server.address();
    let prompt = Prompt { prompt_tokens: (10, 40), output_tokens: (5, 20) };
    let load = Load::start(Options { prompt, ..Options::new(to, Pace::Concurrency(300)) });
    until("600 are answered", || async { load.so_far().completed >= 600 }).await;
    let report = load.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.by_label.keys().collect::<Vec<_>>(), [&text::label("/models/v1")]);
    assert_eq!(report.by_label.values().sum::<u64>(), report.sent);
    until("nothing is in flight", || async { server.in_flight() == 0 }).await;
    assert!(metric(to, "vllm:kv_cache_usage_perc").await < 1e-9);
    assert!(metric(to, "vllm:num_requests_running").await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_on_average() {
    let server = ready(options()).await;
    let load =
        Load::start(Options { keep_alive: false, ..Options::new(server.address(), Pace::Rate(100.0)) });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = load.stop().await;
    assert!(report.is_clean(), "{report:?}");
    // 300 on average with a standard deviation of 17, of one fixed seed; a machine that stands still sends fewer.
    assert!((150..=360).contains(&report.sent), "{}", report.sent);
}
