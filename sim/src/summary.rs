//! From the books of a finished run to its result.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use slackwater_engine::{Counters, PS_PER_S, PrefixCounters, Ps};
use slackwater_policy::{Block, Compared, MoveReport, MoveResult, Note, Record, TimedNote, VersionRef, fold};
use slackwater_scenarios::Scenario;
use slackwater_scenarios::calibration::Calibration;
use slackwater_scenarios::traffic::Traffic;

use crate::books::{Distribution, Distributions, Phase, TICK_PS, seconds};
use crate::driver::Driver;
use crate::result::{
    AttemptLedger, CanaryFigures, DrainFigures, FleetFacts, LatencySummary, MoveFigures, PhaseDistribution,
    PhaseResult, PrefixCacheResult, PrefixShare, RESULT_SCHEMA, RequestLedger, RetryFigures, RolloutResult,
    Series, ServiceVerdict, SessionsResult, SimulationResult, SloFacts, TrafficFacts,
};
use crate::sessions::{MixedTally, SessionTally};
use crate::world::World;

/// What a result says about the run beside what the run itself knows.
#[derive(Debug, Clone, Default)]
pub struct RunInfo {
    /// The version of Slackwater.
    pub slackwater: String,
    /// SHA-256 of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// Seconds spent simulating.
    pub wall_s: f64,
    /// Where the judged period ends when there is no rollout (see [`World::judged_until`]); absent: with the run.
    pub judged_until: Option<Ps>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// The measurements behind the engines, each with the names of the versions that run it; the new version only where it is run.
#[must_use]
pub fn measured_engines(scenario: &Scenario, rolled: bool) -> Vec<(Vec<&str>, &Calibration)> {
    let mut found: Vec<(Vec<&str>, &Calibration)> = Vec::new();
    for version in [Some(&scenario.from), rolled.then_some(&scenario.to)].into_iter().flatten() {
        let Some(calibration) = &version.engine.calibration else { continue };
        match found.iter_mut().find(|(_, of)| *of == calibration) {
            Some((names, _)) => names.push(&version.name),
            None => found.push((vec![&version.name], calibration)),
        }
    }
    found
}

/// How well each of them is known, a sentence each.
fn known(scenario: &Scenario, rolled: bool) -> Vec<String> {
    let said = |(names, of): (Vec<&str>, &Calibration)| {
        format!("the engine of {} was {}", names.join(" and "), of.in_words())
    };
    measured_engines(scenario, rolled).into_iter().map(said).collect()
}

/// Five minutes, the sliding window of the service level.
pub(crate) const WINDOW_TICKS: usize = 30;

/// A minute, the sliding window of the amplification.
const MINUTE_TICKS: usize = 6;

impl<T: Traffic> World<T> {
    /// Closes the books and makes the result; the second value is the rollout's journal.
    #[must_use]
    pub fn finish(mut self, info: RunInfo) -> (SimulationResult, Vec<Record>) {
        self.close();
        let counters = self.total_counters();
        let (requests, all) = self.totals();
        let verdict = self.verdict(info.judged_until);
        let rollout = self.driver.as_ref().map(|driver| self.rollout_result(driver));
        let hash = self.hash(&counters);
        let faults = self.fault_log.figures().to_vec();
        let report = self.traffic.report();
        let reach = self.engine_reach();
        let setup = &self.setup;
        let scenario = &setup.scenario;
        let span_s = seconds(self.books.last_arrival) - seconds(self.books.first_arrival.unwrap_or(0));
        let result = SimulationResult {
            schema: RESULT_SCHEMA.to_owned(),
            slackwater: info.slackwater,
            scenario: scenario.name.clone(),
            seed: scenario.seed,
            inputs: info.inputs,
            traffic: TrafficFacts {
                source: report.source,
                format: report.format,
                rate_scale: scenario.traffic.rate_scale,
                span_s,
                mean_rate_per_s: ratio(requests.arrived, span_s),
                mean_input_tokens: mean(self.books.input_tokens, requests.arrived - requests.never_sent),
                mean_output_tokens: mean(self.books.output_tokens, requests.arrived - requests.never_sent),
                dropped: report.dropped.into_iter().map(|d| (d.reason, d.count, d.first_row)).collect(),
                epoch: self.traffic.epoch_ns().map(|ns| crate::plan::epoch(Some(ns))),
            },
            fleet: FleetFacts {
                replicas: setup.names.clone(),
                serving: usize::from(setup.serving),
                tensor_parallel: scenario.fleet.tensor_parallel,
                from: (scenario.from.name.clone(), scenario.from.engine.source.clone()),
                to: (scenario.to.name.clone(), scenario.to.engine.source.clone()),
                router: router_name(scenario),
                known: known(scenario, rollout.is_some()),
            },
            slo: slo_facts(scenario),
            requests,
            attempts: self.books.attempts,
            ttft_s: summary(&all.ttft),
            tpot_s: summary(&all.tpot),
            e2e_s: summary(&all.e2e),
            service: verdict,
            sessions: self.sessions_result(),
            prefix_cache: self.prefix_result(),
            phases: self.phase_results(),
            rollout,
            faults,
            retries: self.retry_figures(),
            series: self.series(),
            distributions: self.books.phases.iter().map(distribution).collect(),
            steps: counters.steps,
            preemptions: counters.preemptions,
            kv_peak_share: self.kv_peak_share(),
            wall_s: info.wall_s,
            requests_per_wall_s: ratio(requests.arrived, info.wall_s),
            hash,
            reach,
            baseline: None,
            capacity: Vec::new(),
            warnings: info.warnings,
        };
        let journal = self.driver.map(|driver| driver.journal).unwrap_or_default();
        (result, journal)
    }

    /// Logical requests and latencies over all phases.
    fn totals(&self) -> (RequestLedger, Distributions) {
        let mut requests = RequestLedger::default();
        let mut all = Distributions::new();
        for phase in &self.books.phases {
            let from = &phase.requests;
            requests.arrived += from.arrived;
            requests.completed += from.completed;
            requests.cut += from.cut;
            requests.timed_out += from.timed_out;
            requests.rejected += from.rejected;
            requests.never_sent += from.never_sent;
            requests.unfinished += from.unfinished;
            requests.retried += from.retried;
            all.ttft.add(&phase.latencies.ttft);
            all.tpot.add(&phase.latencies.tpot);
            all.e2e.add(&phase.latencies.e2e);
        }
        assert!(requests.balances(), "a ledger that does not balance is a bug: {requests:?}");
        assert!(
            self.books.attempts.balances(),
            "a ledger that does not balance is a bug: {:?}",
            self.books.attempts
        );
        (requests, all)
    }

    /// Where the judged period ends (exclusive): when the queues were empty again after the rollout's end, or with the run.
    #[must_use]
    pub fn judged_until(&self) -> Ps {
        self.driver
            .as_ref()
            .and_then(|driver| driver.settled)
            .unwrap_or(self.end() + 1)
            .max(self.books.judged_from)
    }

    /// The service level over the judged period: requests under way at its start, and those that arrived in it, in
    /// buckets of 10 s.
    #[allow(clippy::cast_possible_truncation)] // 10 s buckets of a 213-day clock
    pub(crate) fn verdict(&self, asked: Option<Ps>) -> ServiceVerdict {
        let from = self.books.judged_from;
        let until = asked.unwrap_or_else(|| self.judged_until()).max(from);
        let buckets = &self.books.service;
        let first = ((self.books.first_whole_bucket() / TICK_PS) as usize).min(buckets.len());
        let last = ((until.div_ceil(TICK_PS)) as usize).min(buckets.len()).max(first);
        let mut judged = buckets.range(first, last).to_vec();
        match judged.first_mut() {
            Some(bucket) => {
                bucket.arrived += self.books.carried.arrived;
                bucket.missed += self.books.carried.missed;
            }
            None => judged.push(self.books.carried),
        }
        let arrived: u64 = judged.iter().map(|bucket| u64::from(bucket.arrived)).sum();
        let missed: u64 = judged.iter().map(|bucket| u64::from(bucket.missed)).sum();
        let attainment = share(arrived - missed, arrived);
        let (mut worst, mut worst_at) = (attainment, first);
        for (place, window) in judged.windows(WINDOW_TICKS.min(judged.len())).enumerate() {
            let (arrived, missed) = window.iter().fold((0_u64, 0_u64), |(a, m), bucket| {
                (a + u64::from(bucket.arrived), m + u64::from(bucket.missed))
            });
            let met = share(arrived - missed, arrived);
            if met < worst {
                (worst, worst_at) = (met, first + place);
            }
        }
        let promised = self.setup.scenario.slo.share;
        ServiceVerdict {
            from_s: seconds(from),
            until_s: seconds(until),
            arrived,
            missed,
            attainment,
            worst_5min_attainment: worst,
            worst_5min_at_s: seconds(worst_at as u64 * TICK_PS),
            kept: attainment >= promised && worst >= promised,
        }
    }

    /// Attempts against what clients wanted.
    fn retry_figures(&self) -> RetryFigures {
        let books = &self.books;
        // Past the last arrival there are retries of nothing that still arrives.
        let last = usize::try_from(books.last_arrival / TICK_PS).unwrap_or(usize::MAX).saturating_add(1);
        let buckets = books.service.range(0, last);
        let (mut worst, mut worst_at) = (0.0, 0);
        for (place, minute) in buckets.windows(MINUTE_TICKS.min(buckets.len()).max(1)).enumerate() {
            let arrived: u64 = minute.iter().map(|bucket| u64::from(bucket.arrived)).sum();
            let retries: u64 = minute.iter().map(|bucket| u64::from(bucket.retries)).sum();
            let times = mean(arrived + retries, arrived);
            if times > worst {
                (worst, worst_at) = (times, place);
            }
        }
        RetryFigures {
            amplification: mean(books.attempts.sent, buckets.iter().map(|b| u64::from(b.arrived)).sum()),
            worst_minute: worst,
            worst_minute_at_s: seconds(worst_at as u64 * TICK_PS),
            out_of_budget: books.out_of_budget,
            read_timed_out: books.read_timed_out,
        }
    }

    /// Whether the judged period has ended before the run does.
    fn has_settled(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.settled.is_some())
    }

    fn phase_results(&self) -> Vec<PhaseResult> {
        let mut results: Vec<PhaseResult> = self.books.phases.iter().map(phase_result).collect();
        if self.setup.caches_prefixes() {
            let mut before = PrefixCounters::default();
            for (result, phase) in results.iter_mut().zip(&self.books.phases) {
                result.prefix_cache = Some(found(&before, &phase.prefix_by_end));
                before = phase.prefix_by_end;
            }
        }
        results
    }

    fn prefix_result(&self) -> Option<PrefixCacheResult> {
        if !self.setup.caches_prefixes() {
            return None;
        }
        let start = PrefixCounters::default();
        let total = self.total_prefix_counters();
        let last_of = |after: bool| {
            let mut named = self.books.phases.iter().skip(usize::from(after));
            if after { named.rfind(|phase| phase.name != "after") } else { named.next() }
        };
        let before = last_of(false).map_or(start, |phase| phase.prefix_by_end);
        let during = last_of(true).map_or(before, |phase| phase.prefix_by_end);
        Some(PrefixCacheResult {
            all: found(&start, &total),
            before: found(&start, &before),
            during: found(&before, &during),
            after: found(&during, &total),
            evicted_blocks: total.evicted_blocks,
        })
    }

    fn sessions_result(&self) -> Option<SessionsResult> {
        self.setup.sessions.as_ref()?;
        let SessionTally { begun, broken, mixed } = self.sessions.tally(self.has_settled());
        #[allow(clippy::cast_precision_loss)] // figures for people
        let saw_both_share = ratio(mixed.saw_both, mixed.judged as f64);
        Some(SessionsResult {
            begun,
            broken,
            judged: mixed.judged,
            saw_both: mixed.saw_both,
            saw_both_share,
            flips: mixed.flips,
            flips_back: mixed.flips_back,
        })
    }

    fn series(&self) -> Series {
        let samples = &self.books.samples;
        let interval = u64::from(samples.every) * TICK_PS;
        let interval_s = seconds(interval);
        let rate = |count: u64| ratio(count, interval_s);
        let replicas = self.engines.len();
        let mut series = Series {
            interval_s,
            running: vec![Vec::new(); replicas],
            waiting: vec![Vec::new(); replicas],
            ..Series::default()
        };
        for row in samples.rows() {
            series.at_s.push(seconds(row.at));
            series.arrivals_per_s.push(rate(row.arrived));
            series.attempts_per_s.push(rate(row.arrived + row.retries));
            series.completed_per_s.push(rate(row.completed));
            series.failed_per_s.push(rate(row.failed));
            series.serving.push(row.serving);
            for (replica, &(running, waiting)) in row.gauges.iter().enumerate() {
                series.running[replica].push(running);
                series.waiting[replica].push(waiting);
            }
            let [ttft_p50, ttft_p99, tpot_p50, tpot_p99] = row.percentiles.map(|value| value.map(seconds));
            series.ttft_p50_s.push(ttft_p50);
            series.ttft_p99_s.push(ttft_p99);
            series.tpot_p50_s.push(tpot_p50);
            series.tpot_p99_s.push(tpot_p99);
        }
        series
    }

    fn rollout_result(&self, driver: &Driver) -> RolloutResult {
        let report = fold(driver.plan(), &driver.journal);
        let end = driver.over.unwrap_or(self.end());
        let below_now = driver.below_since.map_or(0, |since| end.saturating_sub(since));
        RolloutResult {
            outcome: driver.outcome(),
            started_s: seconds(driver.begun),
            ended_s: seconds(end),
            moves: report.moves.iter().map(|moved| self.move_figures(driver, moved)).collect(),
            below_n_s: seconds(driver.below_n + below_now),
            drains: driver
                .drains
                .iter()
                .map(|drain| {
                    let sorted = |spans: &[Ps]| {
                        let mut spans = spans.to_vec();
                        spans.sort_unstable();
                        spans.into_iter().map(seconds).collect()
                    };
                    DrainFigures {
                        replica: self.setup.names[usize::from(drain.replica)].clone(),
                        from_s: seconds(drain.from),
                        residual_s: sorted(&drain.residual),
                        cut_after_s: sorted(&drain.cut_after),
                    }
                })
                .collect(),
            canary: report.notes.iter().rev().find_map(|timed| canary_figures(driver, timed)),
            report,
        }
    }

    fn move_figures(&self, driver: &Driver, moved: &MoveReport) -> MoveFigures {
        let at = |time| driver.world_s(time);
        let version = match moved.target {
            VersionRef::From => &self.setup.from,
            VersionRef::To => &self.setup.to,
        };
        MoveFigures {
            replica: self.setup.names[moved.replica.index()].clone(),
            target: version.delays.name.clone(),
            leaves: moved.leaves,
            started_s: at(moved.started_at),
            taken_out_s: moved.confirmed_out_at.or(moved.taken_out_at).map(at),
            drained_s: moved.drained_at.map(at),
            stopped_s: moved.stopped_at.map(at),
            gpu_free_s: moved.gpu_free_at.map(at),
            start_issued_s: moved.start_issued_at.map(at),
            healthy_s: moved.healthy_at.map(at),
            warmed_s: moved.warmed_at.map(at),
            admitted_s: moved.admitted_at.map(at),
            ended_s: moved.ended_at.map(at),
            drain_timed_out: moved.drain_timed_out,
            cut: moved.cut,
            result: move_result(moved.result.as_ref()),
        }
    }

    /// Over every counter, sum, histogram and journal record; equal hashes, equal runs.
    fn hash(&self, counters: &Counters) -> String {
        let mut hash = Sha256::new();
        let mut word = |value: u64| hash.update(value.to_le_bytes());
        for value in counters.values() {
            word(value);
        }
        let AttemptLedger { sent, completed, cut, timed_out, rejected, unfinished } = self.books.attempts;
        for value in [sent, completed, cut, timed_out, rejected, unfinished] {
            word(value);
        }
        for phase in &self.books.phases {
            let RequestLedger {
                arrived,
                completed,
                cut,
                timed_out,
                rejected,
                never_sent,
                unfinished,
                retried,
            } = phase.requests;
            for value in [
                phase.from,
                phase.until,
                arrived,
                completed,
                cut,
                timed_out,
                rejected,
                unfinished,
                retried,
                phase.missed,
            ] {
                word(value);
            }
            if self.setup.sessions.is_some() {
                word(never_sent);
            }
            for distribution in [&phase.latencies.ttft, &phase.latencies.tpot, &phase.latencies.e2e] {
                for half in distribution.sum_ps.to_le_bytes().chunks_exact(8) {
                    word(u64::from_le_bytes(half.try_into().unwrap_or_default()));
                }
                for bin in distribution.histogram.iter_recorded() {
                    word(bin.value_iterated_to());
                    word(bin.count_at_value());
                }
            }
        }
        if self.setup.sessions.is_some() {
            let SessionTally { begun, broken, mixed } = self.sessions.tally(self.has_settled());
            let MixedTally { judged, saw_both, flips, flips_back } = mixed;
            for value in [begun, broken, judged, saw_both, flips, flips_back] {
                word(value);
            }
        }
        if self.setup.caches_prefixes() {
            for phase in &self.books.phases {
                let PrefixCounters { looked_up_tokens, hit_tokens, evicted_blocks } = phase.prefix_by_end;
                for value in [looked_up_tokens, hit_tokens, evicted_blocks] {
                    word(value);
                }
            }
        }
        for record in self.driver.iter().flat_map(|driver| &driver.journal) {
            // Records are plain data with string keys, which always serialise.
            hash.update(serde_json::to_vec(record).unwrap_or_default());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn move_result(result: Option<&MoveResult>) -> String {
    match result {
        None => "under way".to_owned(),
        Some(MoveResult::Done) => "done".to_owned(),
        Some(MoveResult::CalledOff) => "called off before anything was touched".to_owned(),
        Some(MoveResult::PutBack { reason }) => format!("put back: {reason}"),
        Some(MoveResult::Undone { reason }) => format!("undone: {reason}"),
        Some(MoveResult::Parked { reason }) => format!("parked: {reason}"),
    }
}

/// The service level's bounds.
#[must_use]
pub fn slo_facts(scenario: &Scenario) -> SloFacts {
    let slo = &scenario.slo;
    SloFacts {
        ttft_s: slo.ttft.as_secs_f64(),
        tpot_s: slo.tpot.as_secs_f64(),
        e2e_s: slo.e2e.map(slackwater_scenarios::HumanDuration::as_secs_f64),
        share: slo.share,
    }
}

/// The balancer, in words.
#[must_use]
pub fn router_name(scenario: &Scenario) -> String {
    use slackwater_scenarios::{RouterPolicy, Sticky};
    let policy = match scenario.router.policy {
        RouterPolicy::RoundRobin => "round robin".to_owned(),
        RouterPolicy::LeastConnections => "least connections".to_owned(),
        RouterPolicy::HaproxyLeastconn => match scenario.router.slow_start {
            Some(whole) => format!("HAProxy leastconn, slow start over {whole}"),
            None => "HAProxy leastconn".to_owned(),
        },
        RouterPolicy::NginxLeastConn if scenario.router.zone => {
            "nginx least_conn with a shared zone".to_owned()
        }
        RouterPolicy::NginxLeastConn => {
            format!("nginx least_conn, {} workers, no shared zone", scenario.router.workers)
        }
        RouterPolicy::RandomTwoChoices => "random two choices".to_owned(),
        RouterPolicy::PrefixAware => "prefix-aware".to_owned(),
    };
    match scenario.router.sticky {
        Sticky::None => policy,
        Sticky::Session => format!("{policy}, sessions hashed to replicas"),
        Sticky::Version => format!("{policy}, sessions kept at their version"),
    }
}

/// What was found between two looks at the counters.
#[allow(clippy::cast_precision_loss)] // figures for people
fn found(from: &PrefixCounters, until: &PrefixCounters) -> PrefixShare {
    let looked_up_tokens = until.looked_up_tokens - from.looked_up_tokens;
    let hit_tokens = until.hit_tokens - from.hit_tokens;
    PrefixShare {
        looked_up_tokens,
        hit_tokens,
        hit_share: (looked_up_tokens > 0).then(|| ratio(hit_tokens, looked_up_tokens as f64)),
    }
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn ratio(count: u64, over: f64) -> f64 {
    if over > 0.0 { count as f64 / over } else { 0.0 }
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn mean(sum: u64, count: u64) -> f64 {
    ratio(sum, count as f64)
}

/// A share; of nothing, everything is well.
#[allow(clippy::cast_precision_loss)] // figures for people
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn nanoseconds_s(value: u64) -> f64 {
    value as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn summary(distribution: &Distribution) -> LatencySummary {
    let histogram = &distribution.histogram;
    if histogram.is_empty() {
        return LatencySummary::default();
    }
    let quantile = |q| Some(nanoseconds_s(histogram.value_at_quantile(q)));
    LatencySummary {
        count: histogram.len(),
        mean: Some(distribution.sum_ps as f64 / histogram.len() as f64 / PS_PER_S as f64),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        max: Some(nanoseconds_s(histogram.max())),
    }
}

fn phase_result(phase: &Phase) -> PhaseResult {
    let span_s = seconds(phase.until - phase.from);
    #[allow(clippy::cast_precision_loss)] // figures for people
    let in_flight_mean =
        if span_s > 0.0 { phase.in_flight_ps as f64 / PS_PER_S as f64 / span_s } else { 0.0 };
    PhaseResult {
        name: phase.name.clone(),
        from_s: seconds(phase.from),
        until_s: seconds(phase.until),
        serving_min: u32::try_from(phase.serving_min).unwrap_or(u32::MAX),
        rate_per_s: ratio(phase.requests.arrived, span_s),
        in_flight_mean,
        queue_max: phase.queue_max,
        requests: phase.requests,
        missed: phase.missed,
        attainment: share(phase.requests.arrived - phase.missed, phase.requests.arrived),
        ttft_s: summary(&phase.latencies.ttft),
        tpot_s: summary(&phase.latencies.tpot),
        e2e_s: summary(&phase.latencies.e2e),
        prefix_cache: None,
    }
}

/// Points of the cumulative distributions, dense in the tail.
fn distribution(phase: &Phase) -> PhaseDistribution {
    let points = |distribution: &Distribution| {
        let histogram = &distribution.histogram;
        if histogram.is_empty() {
            return Vec::new();
        }
        let body = (1..100).map(|percent| f64::from(percent) / 100.0);
        let tail = [0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 1.0];
        let mut wanted = body.chain(tail).peekable();
        let mut points = Vec::new();
        // One pass over the bins for all points, since each quantile would begin at the first bin again.
        for bin in histogram.iter_recorded() {
            let below = bin.quantile();
            while let Some(q) = wanted.next_if(|q| *q <= below) {
                points.push((nanoseconds_s(bin.value_iterated_to()), q));
            }
        }
        points
    };
    PhaseDistribution {
        phase: phase.name.clone(),
        ttft: points(&phase.latencies.ttft),
        tpot: points(&phase.latencies.tpot),
        e2e: points(&phase.latencies.e2e),
    }
}

fn canary_figures(driver: &Driver, timed: &TimedNote) -> Option<CanaryFigures> {
    let Note::Compared { worse, blocks, evidence, .. } = &timed.note else { return None };
    let worse_in = worse.map(|figure| match figure {
        Compared::Ttft => "ttft",
        Compared::Tpot => "tpot",
        Compared::Errors => "errors",
    });
    Some(CanaryFigures {
        worse_in: worse_in.map(str::to_owned),
        at_s: driver.world_s(timed.at),
        evidence_minutes: f64::from(*blocks) * Block::SPAN.as_secs_f64() / 60.0,
        evidence: *evidence,
    })
}
