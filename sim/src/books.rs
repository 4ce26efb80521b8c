//! What is written down during a run: two ledgers, histograms by phase, the service level by arrival time, samples.
//!
//! Nothing here grows with the number of requests, except the rows asked for with `rows`. Histograms are a fixed size;
//! the service level takes 12 bytes for each 10 s simulated; the samples are thinned to at most [`SAMPLES_MAX`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use slackwater_engine::{PS_PER_S, PrefixCounters, Ps};

use crate::requests::{Failure, Request};
use crate::result::{AttemptLedger, RequestLedger};
use crate::sessions::{ALONE, Session, Sessions};
use crate::setup::SloBounds;
use crate::trial::{LeanLatencies, Peaks, Service};

/// Between two ticks: gauges are sampled, and the service level is counted in such buckets.
pub(crate) const TICK_PS: Ps = 10 * PS_PER_S;

/// Rows of the series at which neighbours are merged and the interval doubles.
const SAMPLES_MAX: usize = 720;

/// Units of the samples' histograms: as coarse as a plot allows, because their percentiles are taken at every tick, and
/// that costs as much as there are bins below them.
const SAMPLE_TTFT_PS: Ps = PS_PER_S / 10_000;
const SAMPLE_TPOT_PS: Ps = PS_PER_S / 100_000;

/// The three latencies of one completed logical request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latencies {
    pub(crate) ttft: Ps,
    /// `None` for an output of one token.
    pub(crate) tpot: Option<Ps>,
    pub(crate) e2e: Ps,
}

impl Latencies {
    #[inline]
    pub(crate) fn meets(&self, slo: &SloBounds) -> bool {
        self.ttft <= slo.ttft && self.e2e <= slo.e2e && self.tpot.is_none_or(|tpot| tpot <= slo.tpot)
    }
}

/// Not `saturating_record`, which clamps to the present size instead of growing.
#[inline]
fn record<C: hdrhistogram::Counter>(histogram: &mut Histogram<C>, nanoseconds: u64) {
    histogram.record(nanoseconds).expect("a histogram made by `new` grows to any u64");
}

/// A histogram in nanoseconds with the exact sum beside it.
#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    pub(crate) histogram: Histogram<u64>,
    pub(crate) sum_ps: u128,
}

impl Distribution {
    /// `significant` decimal digits, growing as values ask for it.
    pub(crate) fn new(significant: u8) -> Self {
        let histogram = Histogram::new(significant).expect("1 to 5 significant digits are allowed");
        Self { histogram, sum_ps: 0 }
    }

    #[inline]
    fn record(&mut self, value: Ps) {
        self.sum_ps += u128::from(value);
        record(&mut self.histogram, value / 1000);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sum_ps += other.sum_ps;
        self.histogram.add(&other.histogram).expect("both grow as needed");
    }
}

/// TTFT, TPOT and E2E together.
#[derive(Debug, Clone)]
pub(crate) struct Distributions {
    pub(crate) ttft: Distribution,
    pub(crate) tpot: Distribution,
    pub(crate) e2e: Distribution,
}

impl Distributions {
    pub(crate) fn new() -> Self {
        Self { ttft: Distribution::new(3), tpot: Distribution::new(3), e2e: Distribution::new(3) }
    }

    #[inline]
    fn record(&mut self, latencies: &Latencies) {
        self.ttft.record(latencies.ttft);
        if let Some(tpot) = latencies.tpot {
            self.tpot.record(tpot);
        }
        self.e2e.record(latencies.e2e);
    }
}

/// One phase of the timeline.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) from: Ps,
    pub(crate) until: Ps,
    pub(crate) serving_min: usize,
    pub(crate) queue_max: u64,
    /// Integral of requests in flight over time, picoseconds.
    pub(crate) in_flight_ps: u128,
    pub(crate) requests: RequestLedger,
    pub(crate) missed: u64,
    pub(crate) latencies: Distributions,
    /// What all engines had found in their prefix caches by its end, since the start of the run.
    pub(crate) prefix_by_end: PrefixCounters,
}

impl Phase {
    fn new(name: String, from: Ps, serving: usize) -> Self {
        Self {
            name,
            from,
            until: from,
            serving_min: serving,
            queue_max: 0,
            in_flight_ps: 0,
            requests: RequestLedger::default(),
            missed: 0,
            latencies: Distributions::new(),
            prefix_by_end: PrefixCounters::default(),
        }
    }
}

/// Arrivals and misses among those that arrived in the same 10 s, and the retries sent in these 10 s.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServiceBucket {
    pub(crate) arrived: u32,
    pub(crate) missed: u32,
    pub(crate) retries: u32,
}

/// One row of the series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) at: Ps,
    pub(crate) arrived: u64,
    pub(crate) retries: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) serving: u32,
    /// (running, waiting) by replica.
    pub(crate) gauges: Vec<(u32, u32)>,
    /// TTFT p50, p99, TPOT p50, p99, picoseconds.
    pub(crate) percentiles: [Option<Ps>; 4],
}

impl Sample {
    /// Takes in the sample before this one: counts add up, gauges are this one's, of percentiles the larger stays and of
    /// replicas in rotation the fewer (a plot over a long time should not lose its peaks).
    fn take_in(&mut self, before: &Self) {
        self.arrived += before.arrived;
        self.retries += before.retries;
        self.completed += before.completed;
        self.failed += before.failed;
        self.serving = self.serving.min(before.serving);
        for (kept, other) in self.percentiles.iter_mut().zip(before.percentiles) {
            *kept = (*kept).max(other);
        }
    }
}

/// The samples so far, one a tick, merged so that there are never more than [`SAMPLES_MAX`].
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    rows: Vec<Sample>,
    /// Ticks a row.
    pub(crate) every: u32,
    /// The row under way, and its ticks so far.
    pending: Option<Sample>,
    ticks: u32,
    /// The tick under way.
    open: Sample,
    ttft: Histogram<u32>,
    tpot: Histogram<u32>,
    /// Whether rows are kept at all.
    keep: bool,
    /// Percentiles of the last tick, for guards.
    last: [Option<Ps>; 4],
}

impl Samples {
    fn new(keep: bool) -> Self {
        let histogram = || Histogram::new(2).expect("1 to 5 significant digits are allowed");
        Self {
            rows: Vec::new(),
            every: 1,
            pending: None,
            ticks: 0,
            open: Sample::default(),
            ttft: histogram(),
            tpot: histogram(),
            keep,
            last: [None; 4],
        }
    }

    fn tick(&mut self, at: Ps, serving: usize, gauges: impl Iterator<Item = (u32, u32)>) {
        let quantile = |histogram: &Histogram<u32>, q, unit: Ps| {
            (!histogram.is_empty()).then(|| histogram.value_at_quantile(q) * unit)
        };
        self.last = [
            quantile(&self.ttft, 0.5, SAMPLE_TTFT_PS),
            quantile(&self.ttft, 0.99, SAMPLE_TTFT_PS),
            quantile(&self.tpot, 0.5, SAMPLE_TPOT_PS),
            quantile(&self.tpot, 0.99, SAMPLE_TPOT_PS),
        ];
        self.ttft.reset();
        self.tpot.reset();
        let mut row = std::mem::take(&mut self.open);
        if !self.keep {
            return;
        }
        row.percentiles = self.last;
        row.at = at;
        row.serving = u32::try_from(serving).unwrap_or(u32::MAX);
        row.gauges = gauges.collect();
        if let Some(before) = self.pending.take() {
            row.take_in(&before);
        }
        self.ticks += 1;
        if self.ticks < self.every {
            self.pending = Some(row);
            return;
        }
        self.ticks = 0;
        self.rows.push(row);
        if self.rows.len() >= SAMPLES_MAX {
            self.thin();
        }
    }

    /// Merges neighbours; [`SAMPLES_MAX`] is even, so each has one.
    fn thin(&mut self) {
        let pairs = self.rows.chunks_exact(2);
        self.rows = pairs
            .map(|pair| {
                let mut row = pair[1].clone();
                row.take_in(&pair[0]);
                row
            })
            .collect();
        self.every *= 2;
    }

    /// Every row, the one under way included.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Sample> {
        self.rows.iter().chain(&self.pending)
    }
}

/// One logical request's line in the per-request output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its number in the traffic, from 0.
    pub number: u64,
    /// Seconds since the start of the traffic.
    pub arrived_s: f64,
    /// Prompt tokens.
    pub input_tokens: u32,
    /// Tokens generated by the last attempt's version (those wanted, also when it failed).
    pub output_tokens: u32,
    /// The replica of the last attempt; absent when no replica took it.
    pub replica: Option<u16>,
    /// Attempts made.
    pub attempts: u32,
    /// The session it is a turn of; absent for a request that stands alone. Numbers from 2^63 on are of sessions that were
    /// under way when the traffic began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// Which turn, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// `completed`, `cut`, `timed_out`, `rejected` or `never_sent`.
    pub outcome: Outcome,
    /// Whether it met the service level.
    pub met_slo: bool,
    /// Seconds to the first token; absent when it failed.
    pub ttft_s: Option<f64>,
    /// Seconds a token after the first.
    pub tpot_s: Option<f64>,
    /// Seconds end to end; for failed ones until the failure.
    pub e2e_s: f64,
}

/// What became of a logical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered whole.
    Completed,
    /// A stop ended it.
    Cut,
    /// Somebody gave up waiting.
    TimedOut,
    /// Nobody took it.
    Rejected,
    /// Its session had broken.
    NeverSent,
}

/// The run's books.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) attempts: AttemptLedger,
    pub(crate) phases: Vec<Phase>,
    pub(crate) service: Service,
    /// Since when the service is judged.
    pub(crate) judged_from: Ps,
    /// Requests under way then, and those that arrived before the first whole bucket: what becomes of them counts too.
    pub(crate) carried: ServiceBucket,
    pub(crate) samples: Samples,
    /// In a lean world: all latencies there are, in place of the phases'.
    pub(crate) lean: Option<Box<LeanLatencies>>,
    /// Attempts cut, and failed otherwise, before the judged period.
    pub(crate) failures_before: [u64; 2],
    /// Percentiles are wanted though nobody guards them.
    pub(crate) peaks_wanted: bool,
    /// Of what guards watch, since the judged period began.
    pub(crate) peaks: Peaks,
    /// Whether percentiles over time are wanted: for the series, or for a guard.
    pub(crate) watch: bool,
    pub(crate) rows: Option<Vec<RequestRow>>,
    /// Retries not made because the budget was spent.
    pub(crate) out_of_budget: u64,
    /// Attempts that the balancer's read time-out ended.
    pub(crate) read_timed_out: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) first_arrival: Option<Ps>,
    pub(crate) last_arrival: Ps,
}

#[allow(clippy::cast_precision_loss)] // seconds for people
pub(crate) fn seconds(ps: Ps) -> f64 {
    ps as f64 / PS_PER_S as f64
}

fn session_of<'s>(request: &Request, sessions: &'s Sessions) -> Option<&'s Session> {
    (request.session != ALONE).then(|| sessions.get(request.session))
}

impl Books {
    pub(crate) fn new(serving: usize, series: bool, rows: bool) -> Self {
        Self {
            attempts: AttemptLedger::default(),
            phases: vec![Phase::new("before".to_owned(), 0, serving)],
            service: Service::default(),
            lean: None,
            failures_before: [0; 2],
            peaks_wanted: false,
            peaks: Peaks::default(),
            judged_from: 0,
            carried: ServiceBucket::default(),
            samples: Samples::new(series),
            watch: false,
            rows: rows.then(Vec::new),
            out_of_budget: 0,
            read_timed_out: 0,
            input_tokens: 0,
            output_tokens: 0,
            first_arrival: None,
            last_arrival: 0,
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> u16 {
        // A phase a move: far below 65536.
        u16::try_from(self.phases.len() - 1).unwrap_or(u16::MAX)
    }

    /// From now on another phase.
    pub(crate) fn begin_phase(&mut self, name: String, at: Ps, serving: usize) {
        if self.lean.is_some() {
            return;
        }
        let last = self.phases.last_mut().expect("there is always a phase");
        last.until = at;
        self.phases.push(Phase::new(name, at, serving));
    }

    /// What all engines have found in their prefix caches so far.
    pub(crate) fn prefix_until_now(&mut self, counters: PrefixCounters) {
        let last = self.phases.last_mut().expect("there is always a phase");
        last.prefix_by_end = counters;
    }

    pub(crate) fn end(&mut self, at: Ps) {
        let last = self.phases.last_mut().expect("there is always a phase");
        last.until = at.max(last.from);
    }

    pub(crate) fn serving_changed(&mut self, serving: usize) {
        let last = self.phases.last_mut().expect("there is always a phase");
        last.serving_min = last.serving_min.min(serving);
    }

    /// A logical request that missed the service level.
    fn miss(&mut self, request: &Request) {
        self.service.at(request.arrived).missed += 1;
        self.carried.missed += u32::from(request.arrived < self.first_whole_bucket());
    }

    /// Start of the first bucket that lies wholly in the judged period.
    #[inline]
    pub(crate) fn first_whole_bucket(&self) -> Ps {
        self.judged_from.div_ceil(TICK_PS) * TICK_PS
    }

    /// The service is judged from `at` on: `open` requests are under way.
    pub(crate) fn judge_from(&mut self, at: Ps, open: u32) {
        self.judged_from = at;
        self.carried = ServiceBucket { arrived: open, ..ServiceBucket::default() };
        self.failures_before = [self.attempts.cut, self.attempts.timed_out + self.attempts.rejected];
        self.peaks = Peaks::default();
        if let Some(lean) = &mut self.lean {
            lean.ttft.clear();
            lean.tpot.clear();
        }
    }

    #[inline]
    pub(crate) fn arrival(&mut self, at: Ps, input: u32, output: u32) {
        self.service.at(at).arrived += 1;
        self.carried.arrived += u32::from(at < self.first_whole_bucket());
        let last = self.phases.last_mut().expect("there is always a phase");
        last.requests.arrived += 1;
        self.input_tokens += u64::from(input);
        self.output_tokens += u64::from(output);
        self.first_arrival.get_or_insert(at);
        self.last_arrival = at;
        self.samples.open.arrived += 1;
    }

    /// A client tries again at `at`.
    pub(crate) fn retried(&mut self, at: Ps) {
        self.service.at(at).retries += 1;
        self.samples.open.retries += 1;
    }

    /// An attempt was in flight from `sent` to `end`, which lies in the present phase.
    #[inline]
    fn in_flight(&mut self, sent: Ps, end: Ps) {
        let mut end = end;
        for phase in self.phases.iter_mut().rev() {
            if sent >= phase.from {
                phase.in_flight_ps += u128::from(end.saturating_sub(sent));
                break;
            }
            phase.in_flight_ps += u128::from(end.saturating_sub(phase.from));
            end = phase.from;
        }
    }

    /// A logical request was answered whole at `at`, as the engine sees it.
    #[inline]
    pub(crate) fn completed(&mut self, request: &Request, sessions: &Sessions, at: Ps, slo: &SloBounds) {
        let first = request.first_token;
        let steps = u64::from(request.output_now) - 1;
        let latencies = Latencies {
            ttft: first + request.outbound - request.arrived,
            tpot: (at - first).checked_div(steps),
            e2e: at + request.outbound - request.arrived,
        };
        let met = latencies.meets(slo);
        self.attempts.completed += 1;
        self.in_flight(request.sent, at);
        let phase = &mut self.phases[usize::from(request.phase)];
        phase.requests.completed += 1;
        phase.requests.retried += u64::from(request.retries > 0);
        phase.missed += u64::from(!met);
        match &mut self.lean {
            None => phase.latencies.record(&latencies),
            Some(lean) => {
                lean.ttft.record(latencies.ttft);
                if let Some(tpot) = latencies.tpot {
                    lean.tpot.record(tpot);
                }
            }
        }
        if !met {
            self.miss(request);
        }
        let samples = &mut self.samples;
        samples.open.completed += 1;
        if samples.keep || self.watch {
            record(&mut samples.ttft, latencies.ttft / SAMPLE_TTFT_PS);
            if let Some(tpot) = latencies.tpot {
                record(&mut samples.tpot, tpot / SAMPLE_TPOT_PS);
            }
        }
        if self.rows.is_some() {
            let session = session_of(request, sessions);
            self.row(request, session, Outcome::Completed, met, Some(&latencies), at + request.outbound);
        }
    }

    /// An attempt failed at `at`.
    pub(crate) fn attempt_failed(&mut self, request: &Request, failure: Failure, at: Ps) {
        match failure {
            Failure::Cut => self.attempts.cut += 1,
            Failure::TimedOut => self.attempts.timed_out += 1,
            Failure::NoReplica | Failure::Refused | Failure::TooLong => self.attempts.rejected += 1,
        }
        self.in_flight(request.sent, at);
    }

    /// A logical request failed for good at `at`.
    pub(crate) fn failed(&mut self, request: &Request, sessions: &Sessions, failure: Failure, at: Ps) {
        let phase = &mut self.phases[usize::from(request.phase)];
        let outcome = match failure {
            Failure::Cut => {
                phase.requests.cut += 1;
                Outcome::Cut
            }
            Failure::TimedOut => {
                phase.requests.timed_out += 1;
                Outcome::TimedOut
            }
            Failure::NoReplica | Failure::Refused | Failure::TooLong => {
                phase.requests.rejected += 1;
                Outcome::Rejected
            }
        };
        phase.requests.retried += u64::from(request.retries > 0);
        phase.missed += 1;
        self.miss(request);
        self.samples.open.failed += 1;
        if self.rows.is_some() {
            self.row(request, session_of(request, sessions), outcome, false, None, at);
        }
    }

    /// At `at` a turn of this session would have been sent, had the session not broken.
    pub(crate) fn never_sent(&mut self, number: u64, session: &Session, at: Ps) {
        let bucket = self.service.at(at);
        bucket.arrived += 1;
        bucket.missed += 1;
        let carried = u32::from(at < self.first_whole_bucket());
        self.carried.arrived += carried;
        self.carried.missed += carried;
        let phase = self.phases.last_mut().expect("there is always a phase");
        phase.requests.arrived += 1;
        phase.requests.never_sent += 1;
        phase.missed += 1;
        self.samples.open.arrived += 1;
        self.samples.open.failed += 1;
        if let Some(rows) = &mut self.rows {
            rows.push(RequestRow {
                number,
                arrived_s: seconds(at),
                input_tokens: 0,
                output_tokens: 0,
                replica: None,
                attempts: 0,
                session: Some(session.number),
                turn: Some(session.turn),
                outcome: Outcome::NeverSent,
                met_slo: false,
                ttft_s: None,
                tpot_s: None,
                e2e_s: 0.0,
            });
        }
    }

    /// A logical request was still open when the run ended.
    pub(crate) fn unfinished(&mut self, request: &Request, sent: bool, at: Ps) {
        if sent {
            self.in_flight(request.sent, at);
        }
        let phase = &mut self.phases[usize::from(request.phase)];
        phase.requests.unfinished += 1;
        phase.requests.retried += u64::from(request.retries > 0);
        phase.missed += 1;
        self.attempts.unfinished += u64::from(sent);
        self.miss(request);
    }

    fn row(
        &mut self,
        request: &Request,
        session: Option<&Session>,
        outcome: Outcome,
        met_slo: bool,
        latencies: Option<&Latencies>,
        end: Ps,
    ) {
        let Some(rows) = &mut self.rows else { return };
        rows.push(RequestRow {
            number: request.number,
            arrived_s: seconds(request.arrived),
            input_tokens: request.input,
            output_tokens: request.output_now,
            replica: (request.route != crate::router::Route::NOWHERE).then_some(request.route.replica),
            attempts: u32::from(request.retries) + 1,
            session: session.map(|session| session.number),
            turn: session.map(|session| session.turn),
            outcome,
            met_slo,
            ttft_s: latencies.map(|latencies| seconds(latencies.ttft)),
            tpot_s: latencies.and_then(|latencies| latencies.tpot).map(seconds),
            e2e_s: seconds(end - request.arrived),
        });
    }

    /// A tick: gauges by replica.
    pub(crate) fn tick(&mut self, at: Ps, serving: usize, gauges: impl Iterator<Item = (u32, u32)> + Clone) {
        let queue = gauges.clone().map(|(_, waiting)| u64::from(waiting)).sum();
        let last = self.phases.last_mut().expect("there is always a phase");
        last.queue_max = last.queue_max.max(queue);
        self.samples.tick(at, serving, gauges);
        if self.lean.is_some() && self.watch {
            let [ttft_p50, ttft_p99, tpot_p50, tpot_p99] =
                self.samples.last.map(|value| value.map_or(0.0, seconds));
            let peaks = &mut self.peaks;
            peaks.ttft_p50_s = peaks.ttft_p50_s.max(ttft_p50);
            peaks.ttft_p99_s = peaks.ttft_p99_s.max(ttft_p99);
            peaks.tpot_p50_s = peaks.tpot_p50_s.max(tpot_p50);
            peaks.tpot_p99_s = peaks.tpot_p99_s.max(tpot_p99);
            peaks.queue = peaks.queue.max(queue);
        }
    }

    /// Logical arrivals a second over the last minute of whole buckets before `at`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub(crate) fn recent_rate(&self, at: Ps) -> f64 {
        let now = (at / TICK_PS) as usize;
        let from = now.saturating_sub(6);
        if now == from {
            return 0.0;
        }
        let arrived: u64 =
            (from..now).filter_map(|bucket| self.service.get(bucket)).map(|b| u64::from(b.arrived)).sum();
        arrived as f64 / ((now - from) as f64 * seconds(TICK_PS))
    }

    /// Percentiles of the last tick, picoseconds, for guards: TTFT p50, p99, TPOT p50, p99.
    pub(crate) fn last_percentiles(&self) -> [Option<Ps>; 4] {
        self.samples.last
    }
}
