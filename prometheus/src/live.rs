//! How many requests a second a fleet is sent now.

use slackwater_scenarios::MetricsOf;
use slackwater_scenarios::traffic::Counts;

use crate::answer::Found;
use crate::client::Client;
use crate::error::{NoMetrics, PrometheusError};
use crate::metrics;

/// Over this time the rate is a mean; scrapes are rarely more than a minute apart, and a rate needs two.
const WINDOW_S: i64 = 300;

/// A rate, and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRate {
    /// Requests a second, all replicas together, counted as the counter counts them.
    pub requests_per_s: f64,
    /// The counter.
    pub counter: String,
    /// Whether requests are counted when they end.
    pub counted_at_end: bool,
    /// The time over which this is the mean.
    pub window_s: i64,
}

/// The rate over the five minutes before `now_s` (Unix seconds) of the replicas that `selector` names.
///
/// # Errors
/// When the server can't be asked, or has no counter of requests of them.
pub fn live_rate(
    client: &Client,
    selector: &str,
    engine: MetricsOf,
    now_s: i64,
) -> Result<LiveRate, PrometheusError> {
    let matchers = metrics::matchers(selector)?;
    let (metrics, _) = metrics::find(client, &matchers, engine, (now_s - WINDOW_S, now_s))?;
    if metrics.counts == Counts::PromptTokens {
        return Err(PrometheusError::Request {
            problem: format!("{} does not count requests, only tokens ({})", metrics.name, metrics.counter),
            help: "state the rate, or count requests at the balancer".into(),
        });
    }
    let query = format!("sum(rate({}{{{matchers}}}[{WINDOW_S}s]))", metrics.counter);
    let at = now_s.to_string();
    let (found, _) = client.ask::<Found>("/api/v1/query", &[("query", &query), ("time", &at)], &query)?;
    let rate = found.result.first().and_then(crate::answer::FoundSeries::number).filter(|rate| *rate >= 0.0);
    let requests_per_s = rate
        .ok_or_else(|| NoMetrics {
            url: client.url().to_owned(),
            selector: matchers.clone(),
            when: format!("with two scrapes in the last {WINDOW_S} s"),
            looked_for: metrics.counter.to_owned(),
            there: "fewer than two were found".to_owned(),
            help:
                "check that the replicas are scraped at least every two minutes, and that both clocks agree"
                    .into(),
        })
        .map_err(Box::new)?;
    Ok(LiveRate {
        requests_per_s,
        counter: metrics.counter.to_owned(),
        counted_at_end: metrics.counts == Counts::Finished,
        window_s: WINDOW_S,
    })
}
