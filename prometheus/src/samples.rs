//! Samples as they were scraped, with the times at which they were: what counters went up by between two scrapes is then of
//! exactly that time.

use std::collections::BTreeMap;

use crate::answer::{Found, FoundSeries};
use crate::client::Client;
use crate::error::{NoMetrics, PrometheusError};
use crate::metrics;

/// One question is about no longer time: some metrics of a fleet, scraped every few seconds, are a few megabytes.
const CHUNK_S: i64 = 3600;

/// One series with all its scrapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// The metric.
    pub name: String,
    /// Its labels, without its name.
    pub labels: BTreeMap<String, String>,
    /// Unix seconds and values, in order of time.
    pub points: Vec<(f64, f64)>,
}

/// A series: its metric and its labels.
type Named = (String, BTreeMap<String, String>);

/// Every sample of these metrics between two times (Unix seconds), of the replicas that `selector` names.
///
/// # Errors
/// When the server can't be asked, or has none of them.
pub fn samples(
    client: &Client,
    selector: &str,
    names: &[&str],
    (from_s, until_s): (i64, i64),
) -> Result<Vec<Samples>, PrometheusError> {
    let matchers = metrics::matchers(selector)?;
    if until_s <= from_s {
        return Err(PrometheusError::Request {
            problem: format!("from {from_s} until {until_s} is no time"),
            help: "ask for a longer time".into(),
        });
    }
    let which = selected(names, &matchers);
    let mut all: BTreeMap<Named, Vec<(f64, f64)>> = BTreeMap::new();
    let mut begin_s = from_s;
    while begin_s < until_s {
        let end_s = (begin_s + CHUNK_S).min(until_s);
        // A range of an instant gives what was scraped, not what a grid makes of it.
        let query = format!("{which}[{}s]", end_s - begin_s);
        let at = end_s.to_string();
        let (found, _) = client.ask::<Found>("/api/v1/query", &[("query", &query), ("time", &at)], &query)?;
        for series in found.result {
            let points = series.samples();
            let mut labels = series.metric;
            let name = labels.remove("__name__").unwrap_or_default();
            let known = all.entry((name, labels)).or_default();
            // The ends of a range are in it, so that a sample may be in two of them.
            let last = known.last().map_or(f64::MIN, |(at_s, _)| *at_s);
            known.extend(points.into_iter().filter(|(at_s, _)| *at_s > last));
        }
        begin_s = end_s;
    }
    if all.values().all(Vec::is_empty) {
        let shown = names.len().min(4);
        return Err(Box::new(NoMetrics {
            url: client.url().to_owned(),
            selector: matchers,
            when: format!("from {from_s} to {until_s} (Unix seconds)"),
            looked_for: format!("{}, ...", names[..shown].join(", ")),
            there: "nothing was found".to_owned(),
            help: "check the selector's labels and the time; an engine needs its metrics switched on (SGLang: --enable-metrics) and \
                   scraped"
                .to_owned(),
        })
        .into());
    }
    Ok(all.into_iter().map(|((name, labels), points)| Samples { name, labels, points }).collect())
}

/// What a histogram's buckets went up by between two times, all replicas together: upper bounds (infinity the last) and cumulative
/// counts; empty where there is no such histogram.
///
/// # Errors
/// When the server can't be asked.
pub fn buckets(
    client: &Client,
    selector: &str,
    histogram: &str,
    (from_s, until_s): (i64, i64),
) -> Result<Vec<(f64, f64)>, PrometheusError> {
    let matchers = metrics::matchers(selector)?;
    let query =
        format!("sum by (le) (increase({histogram}_bucket{{{matchers}}}[{}s]))", (until_s - from_s).max(1));
    let at = until_s.to_string();
    let (found, _) = client.ask::<Found>("/api/v1/query", &[("query", &query), ("time", &at)], &query)?;
    let bucket = |series: &FoundSeries| {
        let bound = series.metric.get("le")?.parse::<f64>().ok().filter(|bound| !bound.is_nan())?;
        Some((bound, series.number()?))
    };
    let mut buckets: Vec<(f64, f64)> = found.result.iter().filter_map(bucket).collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(buckets)
}

fn selected(names: &[&str], matchers: &str) -> String {
    let pattern = names.join("|");
    if matchers.is_empty() {
        format!("{{__name__=~\"{pattern}\"}}")
    } else {
        format!("{{__name__=~\"{pattern}\",{matchers}}}")
    }
}
