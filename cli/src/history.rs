//! History out of Prometheus: fetched here, read from its file by the scenario's traffic.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use slackwater_prometheus::{Client, Credentials, Fetched, Patience, PrometheusError, Request, fetch};
use slackwater_scenarios::{PrometheusSource, Scenario, WallTime};

use crate::output;
use crate::progress::Progress;
use crate::trace_args;

/// Fetches what the scenario's traffic asks a Prometheus server for, where it does.
pub(crate) fn fetch_for(scenario: &Scenario) -> anyhow::Result<()> {
    let Some(source) = &scenario.traffic.prometheus else { return Ok(()) };
    fetch_source(source).map(drop)
}

/// `slackwater trace fetch`.
pub(crate) fn fetch_command(arguments: &trace_args::Fetch) -> anyhow::Result<()> {
    let source = PrometheusSource {
        url: arguments.url.clone(),
        selector: arguments.selector.clone(),
        days: arguments.days,
        until: arguments.until,
        step: arguments.step,
        engine: arguments.engine,
        cache: Some(arguments.out.clone()),
    };
    let file = arguments.out.display();
    let fetched = fetch_source(&source)?;
    let rate = fetched
        .history
        .rate()
        .map_err(|(problem, help)| anyhow::anyhow!("{file}: {problem}\n  help: {help}"))?;
    let chunks = format!("{} chunks fetched, {} were there", fetched.asked, fetched.kept);
    match rate {
        Some(rate) => {
            let counted: f64 = rate.steps.iter().sum();
            let counter = fetched.history.chunks.first().map_or("", |chunk| chunk.counter.as_str());
            output::say(&format!(
                "{file}: {chunks}; {counter} went up by {counted:.0}, with {} gaps",
                rate.gaps.len()
            ));
            output::say(&format!("look at it: slackwater trace inspect {file}"));
        }
        None => output::say(&format!("{file}: {chunks}; nothing was recorded")),
    }
    Ok(())
}

fn fetch_source(source: &PrometheusSource) -> anyhow::Result<Fetched> {
    let now_s =
        SystemTime::now().duration_since(UNIX_EPOCH).context("this host's clock stands before 1970")?;
    let now_s = i64::try_from(now_s.as_secs()).context("this host's clock is beyond its range")?;
    let client = Client::new(&source.url, Credentials::from_environment()?, Patience::default())?;
    let cache = source.cache_file();
    let mut progress: Option<Progress> = None;
    let fetched = fetch(&client, &Request::new(source, now_s), &cache, &mut |at| {
        #[allow(clippy::cast_precision_loss)] // some hundred chunks
        let bar =
            progress.get_or_insert_with(|| Progress::counting("fetching", Some(at.of as f64), "points"));
        #[allow(clippy::cast_precision_loss)]
        bar.at(at.done as f64, at.points);
    });
    if let Some(bar) = progress {
        bar.done();
    }
    let fetched = fetched.map_err(|error| with_the_cache(error, &cache))?;
    for warning in &fetched.warnings {
        output::say(&format!("warning: {}: {warning}", client.url()));
    }
    Ok(fetched)
}

/// A server that is away need not be asked for what is there.
fn with_the_cache(error: PrometheusError, cache: &Path) -> anyhow::Error {
    #[derive(serde::Deserialize)]
    struct Until {
        until_s: i64,
    }
    let until = matches!(error, PrometheusError::Unreachable { .. })
        .then(|| std::fs::read(cache).ok())
        .flatten()
        .and_then(|bytes| serde_json::from_slice::<Until>(&bytes).ok())
        .and_then(|kept| kept.until_s.checked_mul(1_000_000_000));
    match until {
        Some(until_ns) => anyhow::anyhow!(
            "{error}\n  help: {} has the history until {}: to use it without asking, say until = \"{1}\" and no more days than \
             it has",
            cache.display(),
            WallTime(until_ns)
        ),
        None => error.into(),
    }
}
