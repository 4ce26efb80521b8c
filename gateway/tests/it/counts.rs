//! In-flight counts are exact, whatever clients do, and nothing is left behind.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::SplitMix64;
use slackwater_load::{Load, Options, Pace, Prompt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{gateway, stand_in, until, view};

const SEED: u64 = 20_260_105;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_at_random_leave_nothing_behind() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v1").await);
    let gateway = gateway(&[one.address(), two.address()]).await;
    let to = gateway.address();
    let mut draws = SplitMix64::seed_from_u64(SEED);
    let mut clients = Vec::new();
    for _ in 0..300 {
        let (stay_ms, tokens) = (draws.random_range(0..120_u64), draws.random_range(1..12_u32));
        let streamed = draws.random::<bool>();
        clients.push(tokio::spawn(async move {
            let Ok(mut stream) = TcpStream::connect(to).await else { return false };
            let body = format!(
                "{{\"prompt\":\"a\",\"max_tokens\":{tokens},\"ignore_eos\":true,\"stream\":{streamed}}}"
            );
            let request = format!(
                "POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(request.as_bytes()).await;
            let mut all = Vec::new();
            // Gone in the middle of it, as often as not.
            tokio::time::timeout(Duration::from_millis(stay_ms), stream.read_to_end(&mut all)).await.is_ok()
        }));
        if draws.random_range(0..4_u32) == 0 {
            tokio::time::sleep(Duration::from_millis(draws.random_range(0..20))).await;
            let seen = gateway.fleet().view().1;
            assert!(seen.iter().all(|replica| replica.in_flight <= 300), "{seen:?}");
        }
    }
    let mut finished = 0;
    for client in clients {
        finished += u32::from(client.await.unwrap());
    }
    assert!((1..300).contains(&finished), "seed {SEED}: {finished} finished: the test tests nothing");
    for (name, server) in [("r0", &one), ("r1", &two)] {
        until("the gateway counts 0", || async { view(&gateway, name).in_flight == 0 }).await;
        until("the replica counts 0", || async { server.in_flight() == 0 }).await;
        assert_eq!(view(&gateway, name).failed, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_at_once_are_whole_and_counted() {
    let (one, two) = (stand_in("/models/v1").await, stand_in("/models/v1").await);
    let gateway = gateway(&[one.address(), two.address()]).await;
    let prompt = Prompt { prompt_tokens: (5, 10), output_tokens: (30, 40) };
    let load = Load::start(Options { prompt, ..Options::new(gateway.address(), Pace::Concurrency(500)) });
    let counted = || view(&gateway, "r0").in_flight + view(&gateway, "r1").in_flight;
    until("500 are open", || async { counted() == 500 }).await;
    // Shared out evenly: they all cost the same.
    assert!(view(&gateway, "r0").in_flight.abs_diff(view(&gateway, "r1").in_flight) <= 50);
    until("1000 are answered", || async { load.so_far().completed >= 1000 }).await;
    let report = load.stop().await;
    assert!(report.is_clean(), "{report:?}");
    until("nothing is in flight", || async { counted() == 0 && one.in_flight() + two.in_flight() == 0 })
        .await;
    assert_eq!(view(&gateway, "r0").served + view(&gateway, "r1").served, report.sent);
}
