//! A history, chunk by chunk, and the file that keeps it.
//!
//! ```text
//! time    |-- day --|-- day --|-- day --|- ..     chunks lie on a grid of their own, so that tomorrow's are today's
//! asked      |------------------------|           their first and last may be parts
//! ```

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slackwater_scenarios::traffic::{Chunk, Counts, HISTORY_VERSION, History, Lengths, Series};
use slackwater_scenarios::{MetricsOf, PrometheusSource};

use crate::answer::{Found, FoundSeries};
use crate::client::Client;
use crate::error::PrometheusError;
use crate::metrics::{self, Metrics, Recorded};

/// Prometheus gives at most 11,000 points a series.
const MOST_POINTS: i64 = 10_000;
/// A chunk is no longer than a day, so that an answer stays small.
const LONGEST_CHUNK_S: i64 = 86_400;
/// What is fetched is kept at least so often.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// No cache is larger.
const LARGEST_CACHE: u64 = 1 << 30;

/// What to fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which replicas, as PromQL label matchers, with or without braces.
    pub selector: String,
    /// Unix seconds of the first point; rounded down to a whole step.
    pub from_s: i64,
    /// Unix seconds; points are before it. Rounded down to a whole step.
    pub until_s: i64,
    /// Seconds between points.
    pub step_s: i64,
    /// Whose metrics.
    pub engine: MetricsOf,
}

/// How far a fetch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Chunks that are there.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// Points fetched so far.
    pub points: u64,
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// All of it, what the cache had included.
    pub history: History,
    /// Chunks asked for.
    pub asked: usize,
    /// Chunks that the cache had.
    pub kept: usize,
    /// What the server had to say.
    pub warnings: Vec<String>,
}

impl Request {
    /// What a scenario's `traffic.prometheus` asks for at `now_s` (Unix seconds).
    #[must_use]
    pub fn new(source: &PrometheusSource, now_s: i64) -> Self {
        let until_s =
            source.until.map_or(now_s - now_s.rem_euclid(3600), |until| until.0 / 1_000_000_000).min(now_s);
        // Days and steps were checked with the scenario; a cast saturates.
        #[expect(clippy::cast_possible_truncation)]
        let (back_s, step_s) = (
            (source.days * 86_400.0).round() as i64,
            source.step.unwrap_or(PrometheusSource::STEP).as_secs_f64() as i64,
        );
        Self {
            selector: source.selector.clone(),
            from_s: until_s.saturating_sub(back_s),
            until_s,
            step_s,
            engine: source.engine,
        }
    }

    /// The same on whole steps.
    fn on_steps(&self) -> Result<Self, PrometheusError> {
        let wrong = |problem: String, help: &str| PrometheusError::Request { problem, help: help.to_owned() };
        if !(1..=3600).contains(&self.step_s) {
            return Err(wrong(format!("a step of {} s", self.step_s), "give 1 s to an hour"));
        }
        let down = |at_s: i64| at_s - at_s.rem_euclid(self.step_s);
        let (from_s, until_s) = (down(self.from_s.max(0)), down(self.until_s));
        if until_s - from_s < 2 * self.step_s {
            return Err(wrong(
                format!(
                    "from {} until {} there are not two steps of {} s",
                    self.from_s, self.until_s, self.step_s
                ),
                "ask for more days, or a shorter step",
            ));
        }
        Ok(Self { selector: metrics::matchers(&self.selector)?, from_s, until_s, ..self.clone() })
    }

    /// The chunks that make it up.
    fn chunks(&self) -> Vec<(i64, i64)> {
        let length_s = self.step_s * (LONGEST_CHUNK_S / self.step_s).clamp(1, MOST_POINTS);
        let mut chunks = Vec::new();
        let mut from_s = self.from_s;
        while from_s < self.until_s {
            let until_s = (from_s - from_s.rem_euclid(length_s) + length_s).min(self.until_s);
            chunks.push((from_s, until_s));
            from_s = until_s;
        }
        chunks
    }
}

/// Fetches what the cache does not have, keeps it there, and calls `progress` after each chunk.
///
/// # Errors
/// When the server can't be asked or has no such metrics, or the cache can't be read or written. What was fetched until
/// then is kept.
pub fn fetch(
    client: &Client,
    request: &Request,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fetched, PrometheusError> {
    let request = request.on_steps()?;
    let mut history = History {
        slackwater_history: HISTORY_VERSION,
        url: client.url().to_owned(),
        selector: request.selector.clone(),
        engine: String::new(),
        step_s: request.step_s,
        from_s: request.from_s,
        until_s: request.until_s,
        chunks: Vec::new(),
    };
    let before = cached(cache, &history, request.engine)?;
    let wanted = request.chunks();
    let mut fetched = Fetched { history: History::default(), asked: 0, kept: 0, warnings: Vec::new() };
    let mut found: Option<(&'static Metrics, Vec<String>)> = None;
    let mut points = 0;
    let mut kept_at = Instant::now();
    for (place, &(from_s, until_s)) in wanted.iter().enumerate() {
        let had = before.as_ref().and_then(|before| part(before, from_s, until_s));
        if let (Some(chunk), Some(before)) = (had, &before) {
            history.engine.clone_from(&before.engine);
            history.chunks.push(chunk);
            fetched.kept += 1;
        } else {
            let chunk = match &found {
                Some(found) => Ok(found),
                None => metrics::find(
                    client,
                    &request.selector,
                    request.engine,
                    (request.from_s, request.until_s),
                )
                .map(|it| &*found.insert(it)),
            }
            .and_then(|(metrics, names)| {
                metrics.name.clone_into(&mut history.engine);
                fetch_chunk(client, &request, metrics, names, (from_s, until_s), &mut fetched.warnings)
            });
            match chunk {
                Ok(chunk) => {
                    points += chunk.series.iter().map(|series| series.points.len() as u64).sum::<u64>();
                    history.chunks.push(chunk);
                    fetched.asked += 1;
                }
                Err(error) => {
                    if fetched.asked > 0 {
                        keep(cache, &history)?;
                    }
                    return Err(error);
                }
            }
            if kept_at.elapsed() > KEEP_EVERY {
                keep(cache, &history)?;
                kept_at = Instant::now();
            }
        }
        progress(Progress { done: place + 1, of: wanted.len(), points });
    }
    if fetched.asked > 0 || before.as_ref() != Some(&history) {
        keep(cache, &history)?;
    }
    fetched.warnings.sort_unstable();
    fetched.warnings.dedup();
    Ok(Fetched { history, ..fetched })
}

/// The time from..until of a history that has all of it in one chunk.
fn part(history: &History, from_s: i64, until_s: i64) -> Option<Chunk> {
    let whole = history.chunks.iter().find(|chunk| chunk.from_s <= from_s && chunk.until_s >= until_s)?;
    let mut chunk = Chunk { from_s, until_s, ..whole.clone() };
    for series in &mut chunk.series {
        series.points.retain(|(at_s, _)| (from_s..until_s).contains(at_s));
    }
    chunk.series.retain(|series| !series.points.is_empty());
    Some(chunk)
}

fn fetch_chunk(
    client: &Client,
    request: &Request,
    metrics: &Metrics,
    names: &[String],
    (from_s, until_s): (i64, i64),
    warnings: &mut Vec<String>,
) -> Result<Chunk, PrometheusError> {
    let Request { selector, step_s, .. } = request;
    let query = format!("last_over_time({}{{{selector}}}[{step_s}s])", metrics.counter);
    let (start, end, step) = (from_s.to_string(), (until_s - step_s).to_string(), step_s.to_string());
    let parameters = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
    let (found, said) = client.ask::<Found>("/api/v1/query_range", &parameters, &query)?;
    warnings.extend(said);
    let mut series: Vec<Series> = found
        .result
        .into_iter()
        .map(|found| {
            let points =
                found.points().into_iter().filter(|(at_s, _)| (from_s..until_s).contains(at_s)).collect();
            let mut labels = found.metric;
            labels.remove("__name__");
            Series { labels, points }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    series.sort_by(|one, other| one.labels.cmp(&other.labels));

    let window_s = until_s - from_s;
    let mut instant = |query: &str| -> Result<Vec<FoundSeries>, PrometheusError> {
        let at = until_s.to_string();
        let (found, said) =
            client.ask::<Found>("/api/v1/query", &[("query", query), ("time", &at)], query)?;
        warnings.extend(said);
        Ok(found.result)
    };
    let there = |name: &str| names.iter().any(|known| known == name);
    let mut total = |name: &str| -> Result<Option<f64>, PrometheusError> {
        if !there(name) {
            return Ok(None);
        }
        let found = instant(&format!("sum(increase({name}{{{selector}}}[{window_s}s]))"))?;
        Ok(found.first().and_then(FoundSeries::number))
    };
    let latency = match metrics.latency {
        Some(name) => {
            let (sum, count) = (total(&format!("{name}_sum"))?, total(&format!("{name}_count"))?);
            sum.zip(count).map(|(sum, count)| Lengths {
                metric: name.to_owned(),
                sum: Some(sum),
                count: Some(count),
                buckets: Vec::new(),
            })
        }
        None => None,
    };
    let mut lengths = |recorded: &Recorded| -> Result<Option<Lengths>, PrometheusError> {
        if let Some(name) = recorded.histogram.filter(|name| there(&format!("{name}_bucket"))) {
            let sum = total(&format!("{name}_sum"))?;
            let metric = name.to_owned();
            return Ok(Some(Lengths { metric, sum, count: None, buckets: Vec::new() }));
        }
        let Some(name) = recorded.total else { return Ok(None) };
        let sum = total(name)?;
        // The server extrapolates both alike, so that their ratio is right where a series begins within the window.
        let count = if metrics.counts == Counts::PromptTokens { None } else { total(metrics.counter)? };
        Ok(sum.map(|sum| Lengths { metric: name.to_owned(), sum: Some(sum), count, ..Lengths::default() }))
    };
    let (mut input, mut output) = (lengths(&metrics.input)?, lengths(&metrics.output)?);
    for (lengths, recorded) in [(&mut input, &metrics.input), (&mut output, &metrics.output)] {
        if let (Some(lengths), Some(name)) = (lengths, recorded.histogram)
            && lengths.metric == name
        {
            let query = format!("sum by (le) (increase({name}_bucket{{{selector}}}[{window_s}s]))");
            lengths.buckets = buckets(&instant(&query)?);
        }
    }
    Ok(Chunk {
        from_s,
        until_s,
        counter: metrics.counter.to_owned(),
        counts: metrics.counts,
        series,
        input,
        output,
        latency,
    })
}

/// Buckets in order of their bounds.
fn buckets(found: &[FoundSeries]) -> Vec<(Option<f64>, f64)> {
    let mut buckets: Vec<(f64, f64)> = found
        .iter()
        .filter_map(|series| {
            // Rust reads "+Inf" as Prometheus writes it.
            let bound = series.metric.get("le")?.parse::<f64>().ok().filter(|bound| !bound.is_nan())?;
            Some((bound, series.number()?))
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    buckets.into_iter().map(|(bound, count)| (bound.is_finite().then_some(bound), count)).collect()
}

/// What the file has of the same question; nothing when there is no file.
fn cached(path: &Path, wanted: &History, engine: MetricsOf) -> Result<Option<History>, PrometheusError> {
    let wrong = |problem: String, help: &str| PrometheusError::Cache {
        path: path.to_owned(),
        problem,
        help: help.to_owned(),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot read the cache: {error}"), "name another file")),
    };
    let large = file.metadata().map_or(0, |metadata| metadata.len()) > LARGEST_CACHE;
    let read = (!large).then(|| serde_json::from_reader::<_, History>(BufReader::new(file)));
    let Some(Ok(history)) = read.filter(|read| read.as_ref().is_ok_and(|it| it.slackwater_history > 0))
    else {
        return Err(wrong(
            "it is there and is no history that slackwater fetched: it is left as it is".into(),
            "delete it, or name another file",
        ));
    };
    let asked = metrics::ENGINES.iter().find(|metrics| metrics.engine == engine);
    let same = history.slackwater_history == HISTORY_VERSION
        && (&history.url, &history.selector, history.step_s)
            == (&wanted.url, &wanted.selector, wanted.step_s)
        && asked.is_none_or(|asked| asked.name == history.engine);
    // Damaged by hand, or by another version: asked for anew. Another question's: the file's owner should know.
    if !same {
        return Err(wrong(
            format!(
                "it is the history of {} with {{{}}} in steps of {} s, which is not what is asked for now",
                history.url, history.selector, history.step_s
            ),
            "delete it, or name another file",
        ));
    }
    Ok(history.rate().is_ok().then_some(history))
}

/// Writes the file anew, whole or not at all.
fn keep(path: &Path, history: &History) -> Result<(), PrometheusError> {
    let wrong = |error: std::io::Error| PrometheusError::Cache {
        path: path.to_owned(),
        problem: format!("cannot write what was fetched: {error}"),
        help: "check the folder and the disk, or name another file".into(),
    };
    // What was fetched so far ends where it ends.
    let until_s = history.chunks.last().map_or(history.until_s, |chunk| chunk.until_s);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part: PathBuf = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(&part)?);
        serde_json::to_writer(&mut out, &History { until_s, ..history.clone() })?;
        out.write_all(b"\n")?;
        out.into_inner()?.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(|error| {
        // What is half written is of no use; that it can't be removed is the lesser trouble.
        let _ = std::fs::remove_file(&part);
        wrong(error)
    })
}
