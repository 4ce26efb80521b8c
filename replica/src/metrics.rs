//! `/metrics`, with vLLM's names, labels and buckets (`vllm/v1/metrics/loggers.py`).
//!
//! Latencies are seconds of real time. Left out: those that need to know when a request was admitted
//! (`request_queue_time_seconds`, `request_prefill_time_seconds`), which the engine model does not report.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use slackwater_engine::{Replica, ReplicaConfig, StepTimeForm};

const TTFT: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const TOKEN: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const REQUEST: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    finished_reason: &'static str,
}

/// Everything that is counted; the engine's thread writes, `/metrics` reads.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    running: Gauge,
    waiting: Gauge,
    kv_cache_usage: Gauge<f64, AtomicU64>,
    preemptions: Counter,
    prefix_queries: Counter,
    prefix_hits: Counter,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    success: Family<Reason, Counter>,
    prompt_sizes: Histogram,
    generation_sizes: Histogram,
    ttft: Histogram,
    token_gaps: Histogram,
    tpot: Histogram,
    e2e: Histogram,
    decode: Histogram,
    /// What the fault `stuck-gauge` adds, once a request has left.
    stuck: Option<AtomicI64>,
}

impl Metrics {
    pub(crate) fn new(
        served_name: &str,
        config: &ReplicaConfig,
        max_model_len: u32,
        stuck_gauge: bool,
    ) -> Self {
        let labels = [("model_name".into(), served_name.to_owned().into()), ("engine".into(), "0".into())];
        let mut all = Registry::with_labels(labels.into_iter());
        let registry = &mut all;
        let sizes = || one_two_five(max_model_len);
        let running = gauge(registry, "num_requests_running", "Requests in model execution batches");
        let waiting = gauge(registry, "num_requests_waiting", "Requests waiting to be processed");
        let kv_cache_usage = Gauge::<f64, AtomicU64>::default();
        registry.register("vllm:kv_cache_usage_perc", "KV cache usage, 1 is full", kv_cache_usage.clone());
        let preemptions = counter(registry, "num_preemptions", "Preemptions");
        let prefix_queries =
            counter(registry, "prefix_cache_queries", "Tokens looked up in the prefix cache");
        let prefix_hits = counter(registry, "prefix_cache_hits", "Tokens found in the prefix cache");
        let prompt_tokens = counter(registry, "prompt_tokens", "Prompt tokens of requests");
        let generation_tokens = counter(registry, "generation_tokens", "Tokens generated");
        // vLLM counts its null block too, which no request can have.
        let cache = [
            ("block_size", config.block_size.to_string()),
            ("num_gpu_blocks", (config.kv_blocks + 1).to_string()),
            ("enable_prefix_caching", if config.prefix_caching { "True" } else { "False" }.to_owned()),
        ];
        registry.register("vllm:cache_config", "The KV cache as it is set up", Info::new(cache.to_vec()));
        let success = Family::<Reason, Counter>::default();
        registry.register("vllm:request_success", "Requests that ended", success.clone());
        for finished_reason in ["stop", "length", "abort"] {
            drop(success.get_or_create(&Reason { finished_reason }));
        }
        Self {
            running,
            waiting,
            kv_cache_usage,
            preemptions,
            prefix_queries,
            prefix_hits,
            prompt_tokens,
            generation_tokens,
            success,
            prompt_sizes: histogram(registry, "request_prompt_tokens", "Prompt tokens a request", sizes()),
            generation_sizes: histogram(registry, "request_generation_tokens", "Tokens a request", sizes()),
            ttft: histogram(registry, "time_to_first_token_seconds", "Time to first token", TTFT),
            token_gaps: histogram(registry, "inter_token_latency_seconds", "Gaps between tokens", TOKEN),
            tpot: histogram(
                registry,
                "request_time_per_output_token_seconds",
                "Mean time per output token after the first, a request",
                TOKEN,
            ),
            e2e: histogram(registry, "e2e_request_latency_seconds", "Whole requests", REQUEST),
            decode: histogram(
                registry,
                "request_decode_time_seconds",
                "From a request's first token to its last",
                REQUEST,
            ),
            stuck: stuck_gauge.then(AtomicI64::default),
            registry: all,
        }
    }

    /// The page's text, in OpenMetrics, which Prometheus' text parsers read too.
    pub(crate) fn page(&self) -> String {
        let mut text = String::new();
        // A String can be written to without fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn engine_state(&self, replica: &Replica<StepTimeForm>) {
        let stuck = self.stuck.as_ref().map_or(0, |stuck| stuck.load(Ordering::Relaxed));
        self.running.set(i64::from(replica.running()) + stuck);
        self.waiting.set(i64::from(replica.waiting()));
        let all = replica.config().kv_blocks;
        self.kv_cache_usage.set(f64::from(all - replica.free_blocks()) / f64::from(all));
        let catch_up = |counter: &Counter, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        catch_up(&self.preemptions, replica.counters().preemptions);
        let prefix = replica.prefix_counters();
        catch_up(&self.prefix_queries, prefix.looked_up_tokens);
        catch_up(&self.prefix_hits, prefix.hit_tokens);
    }

    pub(crate) fn arrived(&self, prompt: u32) {
        self.prompt_tokens.inc_by(prompt.into());
    }

    /// A request has left, however.
    pub(crate) fn left(&self) {
        if let Some(stuck) = &self.stuck {
            stuck.store(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn aborted(&self) {
        self.success.get_or_create(&Reason { finished_reason: "abort" }).inc();
    }

    pub(crate) fn first_token(&self, after_s: f64) {
        self.ttft.observe(after_s);
    }

    pub(crate) fn token_gap(&self, gap_s: f64) {
        self.token_gaps.observe(gap_s);
    }

    pub(crate) fn generated(&self, tokens: u32) {
        self.generation_tokens.inc_by(tokens.into());
    }

    pub(crate) fn finished(&self, foreseen: bool, prompt: u32, output: u32, e2e_s: f64, decode_s: f64) {
        let finished_reason = if foreseen { "length" } else { "stop" };
        self.success.get_or_create(&Reason { finished_reason }).inc();
        self.prompt_sizes.observe(prompt.into());
        self.generation_sizes.observe(output.into());
        self.e2e.observe(e2e_s);
        self.decode.observe(decode_s);
        if output > 1 {
            self.tpot.observe(decode_s / f64::from(output - 1));
        }
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(format!("vllm:{name}"), help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(format!("vllm:{name}"), help, counter.clone());
    counter
}

fn histogram(
    registry: &mut Registry,
    name: &str,
    help: &str,
    bounds: impl IntoIterator<Item = f64>,
) -> Histogram {
    let histogram = Histogram::new(bounds);
    registry.register(format!("vllm:{name}"), help, histogram.clone());
    histogram
}

/// 1, 2, 5, 10, 20, 50, ... up to `most`, as vLLM builds them.
fn one_two_five(most: u32) -> Vec<f64> {
    let powers = (0..10).map(|exponent| 10_u64.pow(exponent));
    powers
        .flat_map(|power| [1, 2, 5].map(|digit| digit * power))
        .filter_map(|bound| u32::try_from(bound).ok())
        .take_while(|bound| *bound <= most)
        .map(f64::from)
        .collect()
}
