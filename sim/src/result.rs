//! What a simulation found: plain data, serialisable, without any drawing.
//!
//! Units: seconds since the start of the traffic (`_s`), requests a second (`_per_s`), shares between 0 and 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slackwater_policy::{RolloutReport, Time};

use crate::reach::EngineReach;

/// Schema id of [`SimulationResult`].
pub const RESULT_SCHEMA: &str = "slackwater.result/1";

/// One simulated stretch of traffic, with or without a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulationResult {
    /// Always [`RESULT_SCHEMA`].
    pub schema: String,
    /// The version of Slackwater that made it.
    pub slackwater: String,
    /// The scenario's name.
    pub scenario: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// SHA-256 of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// What the traffic was.
    pub traffic: TrafficFacts,
    /// The fleet as simulated.
    pub fleet: FleetFacts,
    /// The service level it is judged by.
    pub slo: SloFacts,
    /// Logical requests, by what became of them.
    pub requests: RequestLedger,
    /// Attempts, by what became of them.
    pub attempts: AttemptLedger,
    /// Time to first token of completed logical requests, seconds.
    pub ttft_s: LatencySummary,
    /// Mean time per output token after the first, seconds; requests of one token have none.
    pub tpot_s: LatencySummary,
    /// End to end, retries and back-off included, seconds.
    pub e2e_s: LatencySummary,
    /// How the service level was met.
    pub service: ServiceVerdict,
    /// Users who stay for several turns, where the traffic has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionsResult>,
    /// What the engines found in their prefix caches, where they have such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_cache: Option<PrefixCacheResult>,
    /// Before, each move, after.
    pub phases: Vec<PhaseResult>,
    /// The rollout, if there was one.
    pub rollout: Option<RolloutResult>,
    /// What came of each of the scenario's faults, in its order.
    #[serde(default)]
    pub faults: Vec<FaultFigures>,
    /// How much more clients sent than they wanted.
    #[serde(default)]
    pub retries: RetryFigures,
    /// The figures over time.
    pub series: Series,
    /// Latency distributions by phase: points of the cumulative distribution, for plots.
    pub distributions: Vec<PhaseDistribution>,
    /// Engine iterations, over all replicas.
    pub steps: u64,
    /// KV preemptions, over all replicas.
    pub preemptions: u64,
    /// Most KV blocks in use at one replica, as a share of its blocks.
    pub kv_peak_share: f64,
    /// Seconds spent simulating, without reading the input.
    pub wall_s: f64,
    /// Logical requests simulated a second of `wall_s`.
    pub requests_per_wall_s: f64,
    /// SHA-256 over every counter, sum, histogram and move of the run: equal hashes, equal runs. Wall time is not in it.
    pub hash: String,
    /// What measured engines were given, against what they were measured on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<EngineReach>,
    /// The same period without a rollout.
    pub baseline: Option<Box<SimulationResult>>,
    /// What N, N-1, ... replicas carry within the service level, where it was computed.
    pub capacity: Vec<CapacityPoint>,
    /// What the reader should know about the input or the model.
    pub warnings: Vec<String>,
}

/// The traffic that was replayed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficFacts {
    /// File, or `generated`.
    pub source: String,
    /// Format it was read as.
    pub format: String,
    /// Rate scale applied.
    pub rate_scale: f64,
    /// First arrival to last, seconds.
    pub span_s: f64,
    /// Mean rate.
    pub mean_rate_per_s: f64,
    /// Mean prompt tokens.
    pub mean_input_tokens: f64,
    /// Mean output tokens, as the old version would generate them.
    pub mean_output_tokens: f64,
    /// Rows left out: reason, count, first row.
    pub dropped: Vec<(String, u64, u64)>,
    /// Time 0 on the calendar.
    pub epoch: Option<Time>,
}

/// The fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetFacts {
    /// Names of the replicas, then of the places that are empty at first.
    pub replicas: Vec<String>,
    /// How many serve at first: N.
    pub serving: usize,
    /// GPUs a replica.
    pub tensor_parallel: u32,
    /// Old version and where its engine profile comes from.
    pub from: (String, String),
    /// New version and where its engine profile comes from.
    pub to: (String, String),
    /// Router policy.
    pub router: String,
    /// How well measured engines are known, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

/// The service level's bounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SloFacts {
    /// Time to first token, seconds.
    pub ttft_s: f64,
    /// Time per output token, seconds.
    pub tpot_s: f64,
    /// End to end, seconds.
    pub e2e_s: Option<f64>,
    /// Share of logical requests that must meet all bounds.
    pub share: f64,
}

/// Logical requests: `arrived = completed + cut + timed_out + rejected + never_sent + unfinished`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLedger {
    /// Wanted by clients.
    pub arrived: u64,
    /// Answered whole, by whichever attempt.
    pub completed: u64,
    /// Failed: the replica was stopped under it.
    pub cut: u64,
    /// Failed: the client or the balancer gave up waiting.
    pub timed_out: u64,
    /// Failed: no replica would or could take it.
    pub rejected: u64,
    /// Never sent, because its session broke: an earlier turn had failed. A miss like the failures; it counts where its turn
    /// would have come had the failed one been answered at once.
    #[serde(default)]
    pub never_sent: u64,
    /// Still open when the simulation ended.
    pub unfinished: u64,
    /// Of all these, those that needed more than one attempt.
    pub retried: u64,
}

impl RequestLedger {
    /// Whether the ledger is closed.
    #[must_use]
    pub fn balances(&self) -> bool {
        let failed = self.cut + self.timed_out + self.rejected + self.never_sent;
        self.arrived == self.completed + failed + self.unfinished
    }
}

/// Attempts: `sent = completed + cut + timed_out + rejected + unfinished`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLedger {
    /// Sent to the balancer.
    pub sent: u64,
    /// Answered whole.
    pub completed: u64,
    /// Ended by a stop or a crash.
    pub cut: u64,
    /// Given up by the client or the balancer.
    pub timed_out: u64,
    /// Refused: no replica in rotation, its process gone, or too long for any.
    pub rejected: u64,
    /// Still open when the simulation ended.
    pub unfinished: u64,
}

impl AttemptLedger {
    /// Whether the ledger is closed.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.sent == self.completed + self.cut + self.timed_out + self.rejected + self.unfinished
    }
}

/// A latency's mean and percentiles, seconds. `None` where there was no sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Samples.
    pub count: u64,
    /// Exact mean.
    pub mean: Option<f64>,
    /// Median, to 3 significant digits, like all percentiles.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
}

/// Users who stay for several turns, and what they saw of two versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionsResult {
    /// Sessions of the run, those under way at its start included.
    pub begun: u64,
    /// Those that broke: a turn before their last one failed for good, and the later ones were never sent.
    pub broken: u64,
    /// Those with at least two turns answered in the judged period (without a rollout: from its start to the run's end).
    pub judged: u64,
    /// Of these, those that were answered by both versions in it.
    pub saw_both: u64,
    /// `saw_both` over `judged`; 0 when there is none.
    pub saw_both_share: f64,
    /// Answers of the new version that followed one of the old version in the same session, both in the judged period.
    pub flips: u64,
    /// The other way round.
    pub flips_back: u64,
}

/// How the service level was met from the rollout's start until the service was back to its baseline (without a
/// rollout: over the same period).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceVerdict {
    /// Start of the judged period.
    pub from_s: f64,
    /// Its end.
    pub until_s: f64,
    /// Logical requests that arrived in it.
    pub arrived: u64,
    /// Those that missed the service level (failed, or outside a bound).
    pub missed: u64,
    /// Share that met it.
    pub attainment: f64,
    /// The same in the worst 5 minutes, sliding by 10 s.
    pub worst_5min_attainment: f64,
    /// Where those begin.
    pub worst_5min_at_s: f64,
    /// Whether the period as a whole and every 5 minutes of it kept the promised share.
    pub kept: bool,
}

/// One phase of the timeline: before, a move, after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// `before`, a replica's name, `hold`, `after`.
    pub name: String,
    /// When it began.
    pub from_s: f64,
    /// When it ended.
    pub until_s: f64,
    /// Fewest replicas in rotation during it.
    pub serving_min: u32,
    /// Arrivals a second.
    pub rate_per_s: f64,
    /// Mean requests in flight over all replicas.
    pub in_flight_mean: f64,
    /// Most requests in the replicas' waiting queues at a sample.
    pub queue_max: u64,
    /// Logical requests that arrived in it.
    pub requests: RequestLedger,
    /// Those that missed the service level.
    pub missed: u64,
    /// Share that met it.
    pub attainment: f64,
    /// Of the requests that arrived in it.
    pub ttft_s: LatencySummary,
    /// Likewise.
    pub tpot_s: LatencySummary,
    /// Likewise.
    pub e2e_s: LatencySummary,
    /// What the engines found in their prefix caches during it, where they have such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_cache: Option<PrefixShare>,
}

/// What the engines found in their prefix caches: at each admission, readmissions included, the tokens to compute are looked
/// up. A replica that was restarted has an empty cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefixCacheResult {
    /// Over the whole run.
    pub all: PrefixShare,
    /// Before the rollout; without one the whole run.
    pub before: PrefixShare,
    /// From its start to its end.
    pub during: PrefixShare,
    /// After it.
    pub after: PrefixShare,
    /// Blocks that were taken for other tokens while they could still be found.
    pub evicted_blocks: u64,
}

/// Tokens found of those looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefixShare {
    /// Tokens to compute.
    pub looked_up_tokens: u64,
    /// Those that were found, and so not computed.
    pub hit_tokens: u64,
    /// `hit_tokens` over `looked_up_tokens`; `None` when nothing was looked up.
    pub hit_share: Option<f64>,
}

/// The rollout as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutResult {
    /// `completed`, `rolled_back`, `aborted`, or `held: why`.
    pub outcome: String,
    /// Start of the first move (or of the rollout).
    pub started_s: f64,
    /// Its end; the simulation's end when it still holds.
    pub ended_s: f64,
    /// Each move.
    pub moves: Vec<MoveFigures>,
    /// Seconds with fewer than all replicas in rotation.
    pub below_n_s: f64,
    /// In-flight requests at each drain, and how long they went on.
    pub drains: Vec<DrainFigures>,
    /// The last word of the canary's comparison with the old version, where it said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryFigures>,
    /// The policy's own fold of the journal.
    pub report: RolloutReport,
}

/// What the comparison of the canary with the old version said last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryFigures {
    /// In what above all it is worse than declared: `ttft`, `tpot` or `errors`; `None`: it is not found worse.
    pub worse_in: Option<String>,
    /// When that was said, seconds since the start of the traffic.
    pub at_s: f64,
    /// Minutes of evidence counted by then.
    pub evidence_minutes: f64,
    /// The evidence against "no worse than declared": it reaches `1 / false_alarm` when the canary is called worse.
    pub evidence: f64,
}

/// One move, in seconds since the start of the traffic. `None`: not reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MoveFigures {
    /// The replica.
    pub replica: String,
    /// Version moved to.
    pub target: String,
    /// It leaves for others that serve that version, and does not come back: its place is to be empty.
    #[serde(default)]
    pub leaves: bool,
    /// Began (its gate opened or was looked at).
    pub started_s: f64,
    /// Out of rotation.
    pub taken_out_s: Option<f64>,
    /// Nothing in flight (or cut).
    pub drained_s: Option<f64>,
    /// Process gone.
    pub stopped_s: Option<f64>,
    /// GPU memory free.
    pub gpu_free_s: Option<f64>,
    /// New process started.
    pub start_issued_s: Option<f64>,
    /// Healthy.
    pub healthy_s: Option<f64>,
    /// Warm.
    pub warmed_s: Option<f64>,
    /// Back in rotation.
    pub admitted_s: Option<f64>,
    /// Over (soak included).
    pub ended_s: Option<f64>,
    /// The drain ran out of time.
    pub drain_timed_out: bool,
    /// Requests cut.
    pub cut: u64,
    /// How it ended, in words.
    pub result: String,
}

/// One drain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DrainFigures {
    /// The replica.
    pub replica: String,
    /// When it was out of rotation.
    pub from_s: f64,
    /// How long each request then in flight went on until it ended by itself, seconds, ascending.
    pub residual_s: Vec<f64>,
    /// How long those went on that were then cut.
    pub cut_after_s: Vec<f64>,
}

/// Samples at even intervals, one entry a sample in each list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Seconds between samples; a sample covers the interval before it.
    pub interval_s: f64,
    /// When the sample was taken.
    pub at_s: Vec<f64>,
    /// Logical arrivals a second in the interval.
    pub arrivals_per_s: Vec<f64>,
    /// Attempts a second in the interval: arrivals and retries.
    #[serde(default)]
    pub attempts_per_s: Vec<f64>,
    /// Completions a second in the interval.
    pub completed_per_s: Vec<f64>,
    /// Failed logical requests a second in the interval.
    pub failed_per_s: Vec<f64>,
    /// Replicas in rotation at the sample.
    pub serving: Vec<u32>,
    /// By replica: running in its engine at the sample.
    pub running: Vec<Vec<u32>>,
    /// By replica: waiting in its queue at the sample.
    pub waiting: Vec<Vec<u32>>,
    /// Of requests completed in the interval; `None` where there were none.
    pub ttft_p50_s: Vec<Option<f64>>,
    /// Likewise.
    pub ttft_p99_s: Vec<Option<f64>>,
    /// Likewise.
    pub tpot_p50_s: Vec<Option<f64>>,
    /// Likewise.
    pub tpot_p99_s: Vec<Option<f64>>,
}

/// Points of the cumulative distributions of one phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseDistribution {
    /// The phase's name.
    pub phase: String,
    /// (seconds, share of requests at or below), ascending.
    pub ttft: Vec<(f64, f64)>,
    /// Likewise.
    pub tpot: Vec<(f64, f64)>,
    /// Likewise.
    pub e2e: Vec<(f64, f64)>,
}

/// What came of one fault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultFigures {
    /// `replica-crash`, `slow-gpu`, ...
    pub kind: String,
    /// When it was to come, in words.
    pub when: String,
    /// When it first came; absent: it never did.
    pub came_s: Option<f64>,
    /// When it was over, for one that lasts and ended.
    pub until_s: Option<f64>,
    /// How often it found something to befall.
    pub times: u64,
    /// The first of these, at most 64.
    pub befell: Vec<Befallen>,
}

/// A fault that befell something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Befallen {
    /// When.
    pub at_s: f64,
    /// The replica; empty for a reply about the whole service.
    pub replica: String,
}

/// Attempts against logical requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RetryFigures {
    /// Attempts a logical request, over the whole run: the amplification.
    pub amplification: f64,
    /// The same in the worst minute, sliding by 10 s, of the time in which requests arrived.
    pub worst_minute: f64,
    /// Where that begins.
    pub worst_minute_at_s: f64,
    /// Retries that were not made because the budget was spent.
    pub out_of_budget: u64,
    /// Attempts that the balancer ended because nothing to be read had come for its read time-out.
    pub read_timed_out: u64,
}

/// What so many replicas carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityPoint {
    /// Serving replicas.
    pub replicas: u32,
    /// Highest rate found to keep the service level.
    pub rate_per_s: f64,
    /// Highest rate simulated that kept it; of a measured engine, were it as much slower as its profile's error makes likely.
    pub low: f64,
    /// Lowest rate simulated that did not; were it as much faster.
    pub high: f64,
}
