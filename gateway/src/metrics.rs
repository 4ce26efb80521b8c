//! `/metrics`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::fleet::{Fleet, State};

/// What the page is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const TTFT: [f64; 16] =
    [0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];
const TPOT: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0, 2.5];
const WHOLE: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 600.0, 3600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReplica {
    replica: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    replica: String,
    outcome: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    retries: Family<OfReplica, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) log_lines_lost: Counter,
    ttft: Histogram,
    tpot: Histogram,
    whole: Histogram,
    in_flight: Family<OfReplica, Gauge>,
    healthy: Family<OfReplica, Gauge>,
    takes_requests: Family<OfReplica, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("slackwater_gateway");
        let metrics = Self {
            requests: Family::default(),
            retries: Family::default(),
            connections: Gauge::default(),
            log_lines_lost: Counter::default(),
            ttft: Histogram::new(TTFT),
            tpot: Histogram::new(TPOT),
            whole: Histogram::new(WHOLE),
            in_flight: Family::default(),
            healthy: Family::default(),
            takes_requests: Family::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests that ended, by replica and how", metrics.requests.clone());
        registry.register(
            "retries",
            "Tries that this replica failed and another got",
            metrics.retries.clone(),
        );
        registry.register("connections", "Client connections", metrics.connections.clone());
        registry.register(
            "log_lines_lost",
            "Lines the access log had no room for",
            metrics.log_lines_lost.clone(),
        );
        registry.register("time_to_first_token_seconds", "To a stream's first event", metrics.ttft.clone());
        registry.register(
            "time_per_output_token_seconds",
            "After a stream's first event",
            metrics.tpot.clone(),
        );
        registry.register("request_duration_seconds", "Whole requests", metrics.whole.clone());
        registry.register("in_flight", "Requests at a replica", metrics.in_flight.clone());
        registry.register("replica_healthy", "1 when it works", metrics.healthy.clone());
        registry.register(
            "replica_ready",
            "1 when the operator lets it take requests",
            metrics.takes_requests.clone(),
        );
        Self { registry, ..metrics }
    }

    pub(crate) fn ended(&self, replica: &str, outcome: &'static str, seconds: f64) {
        self.requests.get_or_create(&Ended { replica: replica.to_owned(), outcome }).inc();
        self.whole.observe(seconds);
    }

    pub(crate) fn first_token(&self, seconds: f64) {
        self.ttft.observe(seconds);
    }

    pub(crate) fn tpot(&self, seconds: f64) {
        self.tpot.observe(seconds);
    }

    pub(crate) fn retried(&self, replica: &str) {
        self.retries.get_or_create(&OfReplica { replica: replica.to_owned() }).inc();
    }

    /// The page's text. What is known of replicas is as of now.
    pub(crate) fn page(&self, fleet: &Fleet) -> String {
        for replica in fleet.view().1 {
            let label = OfReplica { replica: replica.name };
            self.in_flight.get_or_create(&label).set(i64::try_from(replica.in_flight).unwrap_or(i64::MAX));
            self.healthy.get_or_create(&label).set(i64::from(replica.healthy));
            self.takes_requests.get_or_create(&label).set(i64::from(replica.state == State::Ready));
        }
        let mut text = String::new();
        // A String can be written to without fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
