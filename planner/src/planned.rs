//! What a plan found: plain data, serialisable, without any drawing.
//!
//! Instants are RFC 3339 text in the plan's time zone (`start`) beside seconds since the horizon's start (`start_s`); of
//! traffic without a calendar only the seconds are there, and the text says so. Durations are seconds (`_s`), rates requests a
//! second (`_per_s`), shares and risks between 0 and 1.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slackwater_sim::Peaks;

use crate::certify::Found;
use crate::chance::Risk;

/// Schema id of [`Planned`].
pub const PLANNED_SCHEMA: &str = "slackwater.planned/1";

/// The JSON Schema of [`Planned`]. What the simulator and the policy own is described there in outline only: a whole simulated rollout is
/// an object (`slackwater.result/1`), a guarded figure a name.
#[must_use]
pub fn planned_json_schema() -> serde_json::Value {
    schemars::schema_for!(Planned).into()
}

/// The fields of [`slackwater_sim::SloFacts`], whose crate knows no schemas.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct SloSchema {
    /// Time to first token, seconds.
    ttft_s: f64,
    /// Time per output token, seconds.
    tpot_s: f64,
    /// End to end, seconds.
    e2e_s: Option<f64>,
    /// Share of requests that must meet all bounds.
    share: f64,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A window is certified, and nothing speaks against it.
    Go,
    /// A window is certified, but on a condition the reasons name.
    Conditional,
    /// There is none.
    NoGo,
}

/// What is said of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Certified within the risk budget, on fresh futures.
    Safe,
    /// Shown to be above the budget.
    Unsafe,
    /// Neither; most often because it was screened only.
    Undecided,
}

impl From<Found> for Verdict {
    fn from(found: Found) -> Self {
        match found {
            Found::Safe => Self::Safe,
            Found::Unsafe => Self::Unsafe,
            Found::Undecided => Self::Undecided,
        }
    }
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// Always [`PLANNED_SCHEMA`].
    pub schema: String,
    /// The version of Slackwater that made it.
    pub slackwater: String,
    /// The scenario's name.
    pub scenario: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// SHA-256 of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// It was stopped before all was computed; what is here stands.
    pub partial: bool,
    /// Go or no go.
    pub answer: Answer,
    /// Why, a sentence each; the first is the headline.
    pub reasons: Vec<String>,
    /// What would work, where nothing does as asked: a sentence each.
    pub nearest: Vec<String>,
    /// What the reader should know about the input or the model.
    pub warnings: Vec<String>,
    /// What is upgraded.
    pub fleet: FleetPlanned,
    /// The service level.
    #[schemars(with = "SloSchema")]
    pub slo: slackwater_sim::SloFacts,
    /// What was asked.
    pub asked: Asked,
    /// The traffic that was learnt from.
    pub history: HistoryFacts,
    /// The window to use; absent when there is none.
    pub recommended: Option<Recommended>,
    /// Every window that was certified or refuted on fresh futures, the recommended one among them.
    pub certified: Vec<CertifiedWindow>,
    /// Every start.
    pub windows: Vec<StartVerdict>,
    /// The load to be expected, by slots of time.
    pub load: Vec<LoadSlot>,
    /// What N, N-1, ... replicas carry.
    pub capacity: Vec<CapacityRange>,
    /// What all replicas carry once they run the new version; absent where it computes as the old one does.
    #[serde(default)]
    pub capacity_new: Option<CapacityRange>,
    /// How much the answer moves with the seed; absent where nothing could be said of it.
    #[serde(default)]
    pub seeds: Option<SeedSpread>,
    /// The drain timeouts that were compared.
    pub drain: Vec<DrainRow>,
    /// How long drained replicas take, by hour of the day.
    pub drain_by_hour: Vec<DrainHour>,
    /// What to set elsewhere so that no other time-out cuts a drain short.
    pub matching: Option<Matching>,
    /// The strategies that were compared.
    pub strategies: Vec<StrategyRow>,
    /// What turns the recommended window red.
    pub sensitivity: Vec<SensitivityRow>,
    /// Bands for the live figures.
    pub bands: Vec<Band>,
    /// What measured engines are given in the recommended window, against what they were measured on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::reach::ReachSchema>")]
    pub reach: Vec<slackwater_sim::EngineReach>,
    /// The rollout as it is expected to go.
    pub expected: Option<ExpectedRollout>,
    /// Today's ways, beside the plan.
    pub today: Vec<TodayRow>,
    /// Requests simulated for all this.
    pub simulated_requests: u64,
    /// Seconds it took. Not in the hash.
    pub wall_s: f64,
    /// SHA-256 over everything here but `wall_s`: equal hashes, equal answers.
    pub hash: String,
}

/// What is upgraded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetPlanned {
    /// The old version's name.
    pub from: String,
    /// The new one's.
    pub to: String,
    /// Names of the replicas.
    pub replicas: Vec<String>,
    /// GPUs a replica.
    pub tensor_parallel: u32,
    /// Places on spare GPUs.
    pub spares: u32,
    /// Where the engine profiles come from, old and new.
    pub profiles: (String, String),
    /// Whether the profile was measured on the user's own server (else it is a preset or a published one).
    pub measured: bool,
    /// The balancer.
    pub router: String,
}

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// The risk budget.
    pub risk: f64,
    /// The budget for any request being cut.
    pub cut_risk: f64,
    /// Of every bound.
    pub confidence: f64,
    /// From one start to the next, seconds.
    pub every_s: f64,
    /// How long the horizon is, seconds.
    pub horizon_s: f64,
    /// Futures every start is tried in.
    pub futures: u64,
    /// Traffic as a multiple of the history's.
    pub growth: f64,
    /// The zone of all local times.
    pub time_zone: String,
    /// The strategy asked for.
    pub strategy: String,
    /// Costs in requests that miss: a miss, a cut, an hour below N.
    pub cost: (f64, f64, f64),
}

/// The traffic that was learnt from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryFacts {
    /// `profile` (stated, drawn) or `recorded`.
    pub kind: String,
    /// The file, or `generated`.
    pub source: String,
    /// Days recorded; 0 of a profile.
    pub days: f64,
    /// Requests recorded (of a profile: none).
    pub requests: u64,
    /// When it ends; absent without a calendar.
    pub ends: Option<String>,
    /// Holes in the recording: from and until.
    pub holes: Vec<(String, String)>,
    /// Rows left out: reason and count.
    pub dropped: Vec<(String, u64)>,
    /// Days alike differ by so much: standard deviation of the logarithm of the rate.
    pub day_sd: f64,
    /// Slow noise laid over resampled days: standard deviation of the logarithm.
    pub noise_sd: f64,
}

/// The window to use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recommended {
    /// When to start.
    pub start: String,
    /// The same in seconds since the horizon's start.
    pub start_s: f64,
    /// The start may be so much later.
    pub window_s: f64,
    /// The latest safe start.
    pub latest_start: String,
    /// By when the last of the rollouts is over, with 95 %.
    pub until: String,
    /// How long a draining replica may finish.
    pub drain_timeout_s: f64,
    /// How the fleet is moved.
    pub strategy: String,
    /// The chance of a missed service level or a rollout that does not end well.
    pub risk: RiskFacts,
    /// The chance that any request is cut.
    pub any_cut: Risk,
    /// Requests cut, on average.
    pub expected_cut: f64,
    /// Its bound: 95 % of rollouts cut no more.
    pub cut_p95: f64,
    /// Requests that miss the service level while it lasts, on average.
    pub expected_missed: f64,
    /// Requests that arrive while it lasts, on average.
    pub requests_during: f64,
    /// How long it takes: half of the rollouts.
    pub duration_p50_s: f64,
    /// 95 % of them.
    pub duration_p95_s: f64,
    /// Time with fewer than all replicas, on average.
    pub below_n_s: f64,
    /// Latencies without it and with it.
    pub latency: LatencyChange,
    /// From the order to go back until all serve the old version again, at the worst moment; 95 % of rollouts.
    pub back_out_p95_s: Option<f64>,
    /// The traffic may grow by this before the window closes: capacity of N-1 over the busiest five minutes.
    pub growth_until_closed: Option<f64>,
    /// After this the plan should be computed anew.
    pub valid_until: String,
}

/// A risk, its budget, and what the history can't promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RiskFacts {
    /// Misses over futures.
    pub estimate: f64,
    /// The bound that Monte Carlo error leaves: more futures shrink it.
    pub upper: f64,
    /// The budget.
    pub budget: f64,
    /// Of the bound.
    pub confidence: f64,
    /// Futures behind it, none of them used for the choice.
    pub futures: u64,
    /// Of these, with a miss.
    pub misses: u64,
    /// What no number of futures shrinks: with n comparable recorded days, about 1/(n+1). 1 where nothing was recorded: the
    /// risk is that of the stated profile.
    pub history_floor: f64,
    /// That n.
    pub comparable_days: u64,
}

/// Latencies without the rollout and with it, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyChange {
    /// Time to first token, median.
    pub ttft_p50_s: (Option<f64>, Option<f64>),
    /// 95th percentile.
    pub ttft_p95_s: (Option<f64>, Option<f64>),
    /// 99th percentile.
    pub ttft_p99_s: (Option<f64>, Option<f64>),
    /// Time per output token, median.
    pub tpot_p50_s: (Option<f64>, Option<f64>),
    /// 95th percentile.
    pub tpot_p95_s: (Option<f64>, Option<f64>),
    /// 99th percentile.
    pub tpot_p99_s: (Option<f64>, Option<f64>),
}

/// A window tried on fresh futures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertifiedWindow {
    /// Its first start.
    pub start: String,
    /// In seconds since the horizon's start.
    pub start_s: f64,
    /// Until its last.
    pub window_s: f64,
    /// What it was found to be.
    pub verdict: Verdict,
    /// That a rollout begun at any of its starts misses.
    pub risk: RiskFacts,
    /// Expected cost, in requests that miss.
    pub cost: f64,
}

/// How much the answer would move with another seed, from the futures that were simulated for it: those of the screening
/// are drawn anew from themselves, and what is chosen from each such draw is compared with what was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedSpread {
    /// So often the screening's futures were drawn from themselves.
    pub resamples: u64,
    /// Share of these in which some window is clean exactly if one was: whether there is anything to certify.
    pub same_answer: f64,
    /// Share in which the window chosen first overlaps with the one chosen.
    pub same_window: f64,
    /// Share in which it begins on the same day.
    pub same_day: f64,
    /// Share of starts, over all these, that are found to be unsafe exactly if they were.
    pub same_verdicts: f64,
    /// The chance that fresh futures of another seed would certify the recommended window again, by what its own said of its
    /// risk; absent without one.
    pub certified_again: Option<f64>,
    /// Its estimated risk under another seed lies between these, with 90 %.
    pub risk_estimate: Option<(f64, f64)>,
}

/// What is known of one start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartVerdict {
    /// When.
    pub start: String,
    /// In seconds since the horizon's start.
    pub start_s: f64,
    /// What it was found to be.
    pub verdict: Verdict,
    /// By `certified` (fresh futures), `screened`, or `load` (the gate would never open).
    pub by: String,
    /// The chance of a missed service level or a rollout that does not end well.
    pub risk: Risk,
    /// The same as well as it can be told: of a certified start its estimate; else its own futures, weighed with what all starts met
    /// at loads like its own.
    pub promised: f64,
    /// Of a missed service level alone.
    pub slo_missed: f64,
    /// Of a missed service level in the same time without any rollout.
    pub missed_without: f64,
    /// Of any request being cut, with the scenario's own drain timeout.
    pub any_cut: f64,
    /// Requests cut, on average.
    pub expected_cut: f64,
    /// Requests that miss, on average.
    pub expected_missed: f64,
    /// Half of the rollouts take no longer.
    pub duration_p50_s: Option<f64>,
    /// 95 % of them.
    pub duration_p95_s: Option<f64>,
    /// 95th percentile of the time to first token: what the rollout adds.
    pub extra_ttft_p95_s: Option<f64>,
    /// 99th percentile.
    pub extra_ttft_p99_s: Option<f64>,
    /// 95th percentile of the time per output token.
    pub extra_tpot_p95_s: Option<f64>,
    /// 99th percentile.
    pub extra_tpot_p99_s: Option<f64>,
    /// Futures in which it was not simulated, because the load was far below what the replicas that stay carry.
    #[serde(default)]
    pub calm: u64,
    /// Arrivals a second in the busiest five minutes: mean over futures.
    pub peak_rate_per_s: f64,
    /// The traffic may be so many times as much before N-1 no longer carry those five minutes.
    pub growth_until_closed: Option<f64>,
    /// Expected cost, in requests that miss.
    pub cost: f64,
}

/// The load in a slot of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSlot {
    /// Since the horizon's start.
    pub at_s: f64,
    /// Mean over futures.
    pub mean_per_s: f64,
    /// Least and most of them.
    pub low_per_s: f64,
    /// See `low_per_s`.
    pub high_per_s: f64,
}

/// What so many replicas carry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityRange {
    /// Serving.
    pub replicas: u32,
    /// Highest steady rate that keeps the service level: the middle of several bisections.
    pub rate_per_s: f64,
    /// The lowest that any of them found to keep it.
    pub low: f64,
    /// The highest rate that any of them bracketed it with.
    pub high: f64,
}

/// One drain timeout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrainRow {
    /// How long a draining replica may finish.
    pub timeout_s: f64,
    /// Requests cut, on average over futures.
    pub cut: f64,
    /// The chance of any.
    pub p_any_cut: f64,
    /// Its upper bound.
    pub p_any_cut_upper: f64,
    /// Half of the rollouts take no longer.
    pub duration_p50_s: f64,
    /// 95 % of them.
    pub duration_p95_s: f64,
    /// Time below N, on average.
    pub below_n_s: f64,
    /// Requests that miss the service level, on average.
    pub missed: f64,
    /// The chance of a missed service level or a rollout that does not end well.
    pub risk: Risk,
    /// Expected cost, in requests that miss.
    pub cost: f64,
    /// The one to use.
    pub recommended: bool,
}

/// How long drained replicas take, in one hour of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrainHour {
    /// Local hour, 0 to 23.
    pub hour: u32,
    /// Drains seen.
    pub drains: u64,
    /// (seconds, share of drains that are not over by then); flat after the timeout used, where the rest was cut.
    pub survival: Vec<(f64, f64)>,
}

/// What to set elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Matching {
    /// nginx: `proxy_read_timeout`, at least.
    pub proxy_read_timeout_s: f64,
    /// nginx: `worker_shutdown_timeout`, at least, if it is set at all.
    pub worker_shutdown_timeout_s: f64,
    /// The engine's own shutdown time-out (vLLM: `--shutdown-timeout`), at least.
    pub engine_shutdown_timeout_s: f64,
    /// The supervisor's grace period (systemd: `TimeoutStopSec`, Docker: `stop_grace_period`, Kubernetes:
    /// `terminationGracePeriodSeconds`), at least.
    pub grace_period_s: f64,
}

/// One strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StrategyRow {
    /// Its name, as the scenario has it.
    pub strategy: String,
    /// What parameters it was tried with.
    pub with: String,
    /// Whether it can be done here.
    pub possible: bool,
    /// Why not, or what it needs.
    pub note: String,
    /// Absent where it is impossible.
    pub figures: Option<StrategyFigures>,
}

/// What a strategy comes to at the recommended start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StrategyFigures {
    /// Missed service level, or not ended well.
    pub risk: Risk,
    /// Half take no longer.
    pub duration_p50_s: f64,
    /// 95 %.
    pub duration_p95_s: f64,
    /// Time with fewer than all replicas, on average.
    pub below_n_s: f64,
    /// Hours of GPUs beyond the fleet's own, on average.
    pub extra_gpu_hours: f64,
    /// Requests cut, on average.
    pub cut: f64,
    /// Requests that miss, on average.
    pub missed: f64,
    /// Share of sessions answered by both versions; absent where the traffic has no sessions.
    pub saw_both_share: Option<f64>,
    /// From the order to go back until the old version serves everywhere, 95 %.
    pub back_out_p95_s: Option<f64>,
    /// Expected cost, in requests that miss.
    pub cost: f64,
}

/// One thing that may turn out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SensitivityRow {
    /// What, in words.
    pub change: String,
    /// Its kind: `traffic`, `slower`, `verbose`, `startup`, `gpu_lost`, `rollback`.
    pub kind: String,
    /// By how much: a factor; 1 where there is none.
    pub factor: f64,
    /// The risk then.
    pub risk: Risk,
    /// `green` (within the budget as far as can be seen), `red` (shown to be above it), or `amber`.
    pub colour: String,
    /// For the kinds with a factor: the smallest one tried that is red.
    pub red_from: Option<f64>,
}

/// A band for a live figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Band {
    /// The figure, as the plan file's guards name it.
    #[schemars(with = "String")]
    pub figure: slackwater_policy::Figure,
    /// The largest value of a rollout that goes as predicted stays below this, but for the false-pause rate.
    pub limit: f64,
    /// Half of the rollouts stay below this.
    pub usual: f64,
    /// Rollouts that go as predicted and break it, at most, with the plan's confidence.
    pub false_pause: f64,
}

/// The rollout as it is expected to go: means over the certified futures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectedRollout {
    /// The largest values of live figures: medians.
    pub peaks: ExpectedPeaks,
    /// One rollout in full, of a future of middling duration: the simulator's own result.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub sample: Option<Box<slackwater_sim::SimulationResult>>,
}

/// See [`Peaks`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectedPeaks {
    /// Median over futures of the largest 10 s median of the time to first token.
    pub ttft_p50_s: f64,
    /// Of the 99th percentile.
    pub ttft_p99_s: f64,
    /// Of the time per output token, median.
    pub tpot_p50_s: f64,
    /// 99th percentile.
    pub tpot_p99_s: f64,
    /// Of the requests waiting.
    pub queue: f64,
}

impl ExpectedPeaks {
    /// Medians of many.
    #[must_use]
    pub fn of(peaks: &[Peaks]) -> Self {
        let median = |value: &dyn Fn(&Peaks) -> f64| {
            let mut values: Vec<f64> = peaks.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            crate::screen::quantile(&values, 0.5).unwrap_or(0.0)
        };
        Self {
            ttft_p50_s: median(&|peak| peak.ttft_p50_s),
            ttft_p99_s: median(&|peak| peak.ttft_p99_s),
            tpot_p50_s: median(&|peak| peak.tpot_p50_s),
            tpot_p99_s: median(&|peak| peak.tpot_p99_s),
            queue: median(&|peak| peak.queue as f64),
        }
    }
}

/// One of today's ways, at the same horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TodayRow {
    /// In words: "03:00 and `sleep 60`".
    pub way: String,
    /// The start it takes.
    pub start: String,
    /// Missed service level, or not ended well.
    pub risk: Risk,
    /// Requests cut, on average.
    pub cut: f64,
    /// The chance of any.
    pub p_any_cut: f64,
    /// Requests that miss, on average.
    pub missed: f64,
    /// Half take no longer.
    pub duration_p50_s: f64,
    /// Expected cost, in requests that miss.
    pub cost: f64,
}
