//! What is written down: the access log and the metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use slackwater_scenarios::traffic::{FileTraffic, ReadOptions, SharedTrace};

use crate::scripted::{Does, Scripted};
use crate::support::{admin_of, call, config, stand_in, start, stream, until, view, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_a_line_that_the_importers_understand() {
    let server = stand_in("/models/v1").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config(&[server.address()]);
    config.access_log = Some(path.clone());
    config.replicas[0].version = Some("v1".to_owned());
    let gateway = start(config).await;
    let to = gateway.address();
    assert!(stream(to, 7).await.whole);
    assert_eq!(whole(to, 3, "x-request-id: my-id\r\n").await.status, 200);
    assert_eq!(call(to, "GET /v1/models?key=secret HTTP/1.1\r\n", "").await.status, 200);
    assert_eq!(
        call(to, "POST /v1/completions HTTP/1.1\r\n", "{\"prompt\":\"secret\",\"n\":9}").await.status,
        400
    );
    let asking = tokio::spawn(async move { stream(to, 1000).await });
    until("it runs", || async { view(&gateway, "r0").in_flight == 1 }).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    asking.abort();
    until("it is given up", || async { view(&gateway, "r0").in_flight == 0 }).await;
    gateway.stop();
    gateway.ended().await.unwrap();

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{text}");
    let tokens = |line: &serde_json::Value| (line["input_tokens"].as_u64(), line["output_tokens"].as_u64());
    assert_eq!(
        (tokens(&lines[0]), tokens(&lines[1]), tokens(&lines[2])),
        ((Some(1), Some(7)), (Some(1), Some(3)), (None, None))
    );
    assert_eq!((&lines[1]["request_id"], &lines[1]["version"]), (&"my-id".into(), &"v1".into()));
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["completed", "completed", "completed", "completed", "client_gone"]);
    assert_eq!((&lines[3]["status"], &lines[4]["status"]), (&400.into(), &499.into()));
    assert!(lines[0]["ttft"].as_str().unwrap().parse::<f64>().unwrap() > 0.01);

    // As `slackwater trace` reads it.
    let traffic = FileTraffic::open(&path, ReadOptions::default()).unwrap();
    let trace = SharedTrace::load_all(traffic).unwrap();
    assert_eq!(trace.report.format, "nginx-json");
    let lengths: Vec<_> =
        trace.arrivals.iter().map(|arrival| (arrival.input_tokens, arrival.output_tokens)).collect();
    assert_eq!(lengths, [(1, 7), (1, 3)]);
    assert_eq!(trace.report.dropped.iter().map(|dropped| dropped.count).sum::<u64>(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_a_page_that_adds_up() {
    let (good, bad) = (stand_in("/models/v1").await, Scripted::start(Does::DieBeforeHead).await);
    let mut config = config(&[bad.address, good.address()]);
    config.replicas[0].weight = 256;
    config.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let gateway = start(config).await;
    for _ in 0..4 {
        assert!(stream(gateway.address(), 5).await.whole);
    }
    let page = call(gateway.metrics().unwrap(), "GET /metrics HTTP/1.1\r\n", "").await;
    assert_eq!(page.status, 200);
    assert_eq!(call(gateway.metrics().unwrap(), "GET /replicas HTTP/1.1\r\n", "").await.status, 404);
    assert_eq!(call(admin_of(&gateway), "GET /metrics HTTP/1.1\r\n", "").await.status, 200);
    let samples: BTreeMap<&str, f64> = page
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let of = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("{name}: {}", page.body));
    let is = |name: &str, value: f64| assert!((of(name) - value).abs() < 1e-9, "{name} {}", of(name));
    is("slackwater_gateway_requests_total{replica=\"r1\",outcome=\"completed\"}", 4.0);
    is("slackwater_gateway_in_flight{replica=\"r1\"}", 0.0);
    is("slackwater_gateway_replica_healthy{replica=\"r1\"}", 1.0);
    is("slackwater_gateway_time_to_first_token_seconds_count", 4.0);
    is("slackwater_gateway_time_per_output_token_seconds_count", 4.0);
    is("slackwater_gateway_request_duration_seconds_bucket{le=\"+Inf\"}", 4.0);
    assert!(of("slackwater_gateway_retries_total{replica=\"r0\"}") >= 1.0);
}
