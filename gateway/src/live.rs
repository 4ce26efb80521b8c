//! How it goes right now: rates, latencies and errors of the last minute, as a whole and by version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How far back can be asked for.
const LONGEST: Duration = Duration::from_secs(600);
/// What is remembered at most of each kind; at more than this in ten minutes the window shrinks, and says so.
const MOST: usize = 200_000;
/// The version of replicas that were given none.
const UNKNOWN: &str = "unknown";

/// What `GET /live` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveView {
    /// Requests that arrived (by version: that ended), a second.
    pub rate_per_s: f64,
    /// Over how long; shorter than asked for when the gateway is younger, or remembers less.
    pub window_s: f64,
    /// From a request's arrival to the first event of its stream.
    pub ttft_s: Quantiles,
    /// From there to its last event, by tokens after the first.
    pub tpot_s: Quantiles,
    /// The share of requests that ended badly: no response, one of 5xx, or a broken one. Those that the client gave up
    /// count as neither.
    pub error_rate: f64,
    /// The same, by version of the replica; empty within.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_version: BTreeMap<String, LiveView>,
}

/// Of some observations; zeros when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// How many there are.
    pub count: usize,
}

type Version = Option<Arc<str>>;

#[derive(Clone, Debug)]
struct Ended {
    at: Instant,
    version: Version,
    tpot_s: Option<f64>,
    failed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    arrivals: Bounded<Instant>,
    firsts: Bounded<(Instant, Version, f64)>,
    ends: Bounded<Ended>,
}

/// The last minutes.
#[derive(Debug)]
pub(crate) struct Live {
    since: Instant,
    inner: Mutex<Inner>,
}

/// A queue in order of time that forgets its oldest.
#[derive(Debug)]
struct Bounded<T> {
    all: VecDeque<T>,
    /// When the newest was that had to be forgotten for want of room.
    forgotten: Option<Instant>,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { all: VecDeque::new(), forgotten: None }
    }
}

impl<T> Bounded<T> {
    fn push(&mut self, value: T, at: impl Fn(&T) -> Instant, now: Instant) {
        while self.all.front().is_some_and(|old| now.saturating_duration_since(at(old)) > LONGEST) {
            self.all.pop_front();
        }
        if self.all.len() >= MOST {
            self.forgotten = self.all.pop_front().map(|old| at(&old));
        }
        self.all.push_back(value);
    }
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), inner: Mutex::default() }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the queues are in order of time.
        act(&mut inner, Instant::now())
    }

    pub(crate) fn arrived(&self) {
        self.with(|inner, now| inner.arrivals.push(now, |at| *at, now));
    }

    pub(crate) fn first_token(&self, version: &Version, ttft: Duration) {
        self.with(|inner, now| {
            inner.firsts.push((now, version.clone(), ttft.as_secs_f64()), |(at, ..)| *at, now);
        });
    }

    pub(crate) fn ended(&self, version: &Version, tpot_s: Option<f64>, failed: bool) {
        self.with(|inner, now| {
            let ended = Ended { at: now, version: version.clone(), tpot_s, failed };
            inner.ends.push(ended, |ended| ended.at, now);
        });
    }

    /// Over at most so long.
    pub(crate) fn view(&self, over: Duration) -> LiveView {
        self.with(|inner, now| {
            let forgotten = [inner.arrivals.forgotten, inner.firsts.forgotten, inner.ends.forgotten]
                .into_iter()
                .flatten();
            let oldest = forgotten.chain([self.since]).max().unwrap_or(self.since);
            let window = over.min(LONGEST).min(now.saturating_duration_since(oldest));
            let recent = |at: Instant| now.saturating_duration_since(at) <= window;
            let arrivals = inner.arrivals.all.iter().rev().take_while(|at| recent(**at)).count();
            let firsts: Vec<_> = inner.firsts.all.iter().rev().take_while(|(at, ..)| recent(*at)).collect();
            let ends: Vec<_> = inner.ends.all.iter().rev().take_while(|ended| recent(ended.at)).collect();
            let named = |version: &Version| version.as_deref().unwrap_or(UNKNOWN).to_owned();
            let mut by_version = BTreeMap::new();
            let versions =
                firsts.iter().map(|(_, version, _)| version).chain(ends.iter().map(|e| &e.version));
            for version in versions {
                by_version.entry(named(version)).or_insert_with(|| {
                    let ends: Vec<_> =
                        ends.iter().copied().filter(|ended| ended.version == *version).collect();
                    let firsts = firsts.iter().filter(|(_, of, _)| of == version).map(|(.., ttft)| *ttft);
                    one_view(ends.len(), window, firsts.collect(), &ends)
                });
            }
            let firsts = firsts.iter().map(|(.., ttft)| *ttft).collect();
            LiveView { by_version, ..one_view(arrivals, window, firsts, &ends) }
        })
    }
}

#[expect(clippy::cast_precision_loss)] // for people and guards
fn one_view(requests: usize, window: Duration, firsts: Vec<f64>, ends: &[&Ended]) -> LiveView {
    let failed = ends.iter().filter(|ended| ended.failed).count();
    LiveView {
        rate_per_s: if window.is_zero() { 0.0 } else { requests as f64 / window.as_secs_f64() },
        window_s: window.as_secs_f64(),
        ttft_s: quantiles(firsts),
        tpot_s: quantiles(ends.iter().filter_map(|ended| ended.tpot_s).collect()),
        error_rate: if ends.is_empty() { 0.0 } else { failed as f64 / ends.len() as f64 },
        by_version: BTreeMap::new(),
    }
}

/// The smallest value that at least that share of all do not exceed.
fn quantiles(mut values: Vec<f64>) -> Quantiles {
    values.sort_unstable_by(f64::total_cmp);
    let at = |hundredths: usize| {
        let rank = (values.len() * hundredths).div_ceil(100).max(1) - 1;
        values.get(rank).copied().unwrap_or(0.0)
    };
    Quantiles { p50: at(50), p99: at(99), count: values.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        assert_eq!(quantiles(vec![]), Quantiles::default());
        let values = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantiles(values), Quantiles { p50: 50.0, p99: 99.0, count: 100 });
        assert_eq!(quantiles(vec![7.0]), Quantiles { p50: 7.0, p99: 7.0, count: 1 });
    }

    #[test]
    fn versions_are_told_apart() {
        let live = Live::new();
        let (one, two): (Version, Version) = (Some("v1".into()), Some("v2".into()));
        for _ in 0..4 {
            live.arrived();
        }
        live.first_token(&one, Duration::from_millis(100));
        live.first_token(&two, Duration::from_millis(300));
        live.ended(&one, Some(0.01), false);
        live.ended(&two, None, true);
        live.ended(&two, Some(0.03), false);
        let view = live.view(Duration::from_secs(60));
        assert_eq!((view.ttft_s.count, view.tpot_s.count), (2, 2));
        assert!((view.error_rate - 1.0 / 3.0).abs() < 1e-9);
        assert!((view.rate_per_s * view.window_s - 4.0).abs() < 1e-6);
        assert!((view.by_version["v2"].error_rate - 0.5).abs() < 1e-9);
        assert_eq!(view.by_version["v1"].ttft_s.p50, 0.1);
        assert_eq!(live.view(Duration::ZERO).ttft_s.count, 0);
    }
}
