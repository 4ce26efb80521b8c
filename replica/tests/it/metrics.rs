//! `/metrics` is a page that parses, and whose histograms add up.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{get, options, post, ready, sample};

/// Every sample by name and labels.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_add_up_and_bounds_are_vllm_s() {
    let server = ready(options()).await;
    let to = server.address();
    for tokens in [1, 2, 30] {
        let body = json!({"prompt": [1, 2, 3], "max_tokens": tokens, "ignore_eos": true});
        assert_eq!(post(to, "/v1/completions", &body).await.status, 200);
    }
    let page = get(to, "/metrics").await;
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(page.text.ends_with("# EOF\n"));
    let samples = parse(&page.text);
    let labels = "model_name=\"chat\",engine=\"0\"";
    for (name, count) in [
        ("vllm:time_to_first_token_seconds", 3.0),
        ("vllm:inter_token_latency_seconds", 30.0),
        ("vllm:request_time_per_output_token_seconds", 2.0),
        ("vllm:e2e_request_latency_seconds", 3.0),
        ("vllm:request_prompt_tokens", 3.0),
        ("vllm:request_generation_tokens", 3.0),
        ("vllm:request_decode_time_seconds", 3.0),
    ] {
        // In the page's order, which is that of the bounds.
        let buckets: Vec<f64> = page
            .text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}_bucket{{")))
            .map(|line| samples[line.rsplit_once(' ').unwrap().0])
            .collect();
        assert!(buckets.windows(2).all(|pair| pair[0] <= pair[1]), "{name}: {buckets:?}");
        let total = samples[&format!("{name}_count{{{labels}}}")];
        assert!((total - count).abs() < 0.5, "{name}: {total}");
        assert_eq!(buckets.last(), Some(&total), "{name}: the last bucket holds all");
    }
    // A first bucket below the model's own floor is empty, and the tokens' sum is what was asked for.
    assert!(samples[&format!("vllm:time_to_first_token_seconds_bucket{{{labels},le=\"0.001\"}}")] < 0.5);
    assert!((sample(&page.text, "vllm:request_generation_tokens_sum") - 33.0).abs() < 0.5);
    assert!(
        (samples[&format!("vllm:request_generation_tokens_bucket{{{labels},le=\"1.0\"}}")] - 1.0).abs() < 0.5
    );
    assert!(samples.contains_key(&format!("vllm:request_prompt_tokens_bucket{{{labels},le=\"20000.0\"}}")));
    for gauge in ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"] {
        assert!(samples[&format!("{gauge}{{{labels}}}")].abs() < 1e-9, "{gauge}");
    }
    let ended = format!("vllm:request_success_total{{{labels},finished_reason=\"length\"}}");
    assert!((samples[&ended] - 3.0).abs() < 0.5);
}
