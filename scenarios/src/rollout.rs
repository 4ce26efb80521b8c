//! The rolling upgrade: when it starts, how many replicas at once, what is waited for and for how long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{HumanDuration, WallTime};

/// The rollout's parameters. All have defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// When it begins: a duration after the start of the traffic (`"15m"`), or a time (`"2026-01-05T03:00:00Z"`).
    pub start: StartTime,
    /// How long after `start` a move may still be under way; a move that would not fit is not begun. Absent: no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<HumanDuration>,
    /// Windows after that one, in order: a rollout that a closing window holds goes on in the next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next_windows: Vec<NextWindow>,
    /// How the fleet is moved.
    pub strategy: Strategy,
    /// Strategy `canary`: the replica that goes first. Absent: the first in the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// Strategy `canary`: how long the first replica is watched before any other is moved.
    pub canary_soak: HumanDuration,
    /// Strategy `canary`: the new version must not be found worse than this while the canary serves beside the old one. Absent:
    /// not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Comparison>,
    /// Strategy `canary`: how long after the canary's soak enough evidence is waited for before the rollout holds.
    pub compare_within: HumanDuration,
    /// Strategy `recreate`: must be true, as nobody serves for a while.
    pub accept_downtime: bool,
    /// Restart the replicas in place of giving them another version: a drill, or a change of flags or driver (which
    /// `[to]` may describe).
    pub restart_only: bool,
    /// Names of the replicas to move. Empty: all.
    pub only: Vec<String>,
    /// Replicas that may be out of service at once; for strategy `surge` 0 is usual, and the default there. Not for
    /// `recreate`, `blue-green`, `halves`, `side-by-side`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    /// Strategies `blue-green` and `side-by-side`: how long an old replica stays up, drained, for a way back at once.
    pub keep_old: HumanDuration,
    /// Strategy `side-by-side`: how many replicas get their twin at a time.
    pub pairs_at_once: u32,
    /// Strategy `side-by-side`: while two engines work on the same GPUs, every step of either takes so many times as long.
    pub beside_slowdown: f64,
    /// Strategy `halves`: names of the replicas that go first. Empty: the first half as listed, rounded up.
    pub first_half: Vec<String>,
    /// A replica that comes back gets its share of the traffic little by little, where the balancer can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// The user's own evaluation of the new version. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Replica names in the order of their moves; those not named follow as listed in the fleet.
    pub order: Vec<String>,
    /// Wait after a replica is back in service, before the next move.
    pub soak: HumanDuration,
    /// How long a draining replica may finish what it has.
    pub drain_timeout: HumanDuration,
    /// What happens at the drain deadline to requests still in flight.
    pub at_deadline: AtDeadline,
    /// How often in-flight requests are looked at while draining.
    pub in_flight_poll: HumanDuration,
    /// How many looks in a row must see zero in flight before a replica counts as drained.
    pub zero_sightings: u32,
    /// From the stop signal to the kill signal.
    pub stop_timeout: HumanDuration,
    /// How long a stopped engine's GPU memory may stay held before the replica is parked.
    pub gpu_release_timeout: HumanDuration,
    /// How often a replica may be started anew before it is given up.
    pub start_attempts: u32,
    /// Waiting for a started engine to be healthy: `interval` between looks; `timeout` for one start.
    pub health: Probe,
    /// The smoke prompt that must be answered well.
    pub smoke: Probe,
    /// The warm-up prompts.
    pub warm_up: Probe,
    /// The check before each move that the others can carry the load.
    pub gate: Gate,
    /// The check while a move is under way.
    pub guard: Guard,
    /// What a new version that is unhealthy, failing or wrong leads to.
    pub on_failure: OnFailure,
    /// Where a person must say yes.
    pub approval: Approval,
    /// How long that person takes, in a simulation.
    pub approval_delay: HumanDuration,
}

impl Default for Rollout {
    fn default() -> Self {
        let seconds = HumanDuration::from_secs;
        Self {
            start: StartTime::After(seconds(15 * 60)),
            window: None,
            next_windows: vec![],
            strategy: Strategy::Rolling,
            canary: None,
            canary_soak: seconds(15 * 60),
            compare: None,
            compare_within: seconds(60 * 60),
            accept_downtime: false,
            restart_only: false,
            only: vec![],
            max_unavailable: None,
            keep_old: seconds(600),
            pairs_at_once: 1,
            beside_slowdown: 2.0,
            first_half: vec![],
            ramp: None,
            quality: None,
            order: vec![],
            soak: seconds(60),
            drain_timeout: seconds(120),
            at_deadline: AtDeadline::Cut,
            in_flight_poll: seconds(1),
            zero_sightings: 2,
            stop_timeout: seconds(30),
            gpu_release_timeout: seconds(60),
            start_attempts: 2,
            // vLLM needs 30 to 280 s to start; ten minutes are for the slow disk.
            health: Probe { interval: seconds(2), timeout: seconds(600), attempts: 1 },
            smoke: Probe { interval: seconds(5), timeout: seconds(30), attempts: 3 },
            warm_up: Probe { interval: seconds(5), timeout: seconds(120), attempts: 2 },
            gate: Gate::default(),
            guard: Guard::default(),
            on_failure: OnFailure::Rollback,
            approval: Approval::None,
            approval_delay: HumanDuration::ZERO,
        }
    }
}

/// How the fleet is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A few replicas at a time, in place.
    Rolling,
    /// One replica first, watched for longer; then rolling.
    Canary,
    /// All at once: drained, stopped and started together. Nobody serves meanwhile.
    Recreate,
    /// On spare GPUs first (`fleet.spares`), so that as many serve as before while the others move in place; then the spares
    /// are emptied.
    Surge,
    /// A whole second fleet on spare GPUs (`fleet.spares`), and one switch.
    BlueGreen,
    /// Blue-green on the same GPUs: one half of the fleet, a switch, the other half.
    Halves,
    /// Each new engine beside the old one on the same GPUs. The engines' `kv_blocks` must leave room for each other.
    SideBySide,
    /// In place, without a restart: the engine sleeps, loads the new weights, and wakes.
    Swap,
}

/// A further window: `{ start = "26h", lasts = "2h" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextWindow {
    /// When it opens: as `rollout.start` is given.
    pub start: StartTime,
    /// How long it is open.
    pub lasts: HumanDuration,
}

/// Slow start: `{ from = 20, steps = 4, over = "60s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// Its first share, in percent of the usual.
    pub from: u8,
    /// In how many steps it comes to the whole.
    pub steps: u32,
    /// How long that takes.
    pub over: HumanDuration,
}

/// The user's own evaluation of the new version, by a command of theirs. How it ends in a simulation is
/// `to.passes_evaluation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    /// Asked before a replica is admitted.
    pub out_of_rotation: bool,
    /// Asked again when it has served for its soak.
    pub live: bool,
    /// Of which replicas.
    pub replicas: Evaluated,
    /// How long it takes, in a simulation.
    pub takes: HumanDuration,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            out_of_rotation: true,
            live: false,
            replicas: Evaluated::First,
            takes: HumanDuration::from_secs(120),
        }
    }
}

/// Which replicas are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evaluated {
    /// The first one that gets the new version.
    First,
    /// Each one.
    Each,
}

impl Rollout {
    /// How many replicas may be out of service at once.
    #[must_use]
    pub fn max_unavailable(&self) -> u32 {
        self.max_unavailable.unwrap_or(u32::from(self.strategy != Strategy::Surge))
    }
}

/// What the new version is declared to be worse by; a test that is looked at every 30 s finds out whether it is worse still.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Comparison {
    /// Its time to first token may be so many times the old version's.
    pub ttft_ratio: f64,
    /// Its time per output token may be so many times the old version's.
    pub tpot_ratio: f64,
    /// Its share of failed requests may be greater by this.
    pub error_margin: f64,
    /// The chance that a version which is as declared is called worse, over the whole comparison.
    pub false_alarm: f64,
    /// After the canary's admission, nothing is counted for this long: its caches are cold.
    pub warm_up: HumanDuration,
    /// Blocks of 30 s without which the new version is not called fit.
    pub blocks_min: u32,
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            ttft_ratio: 1.0,
            tpot_ratio: 1.0,
            error_margin: 0.0,
            false_alarm: 0.01,
            warm_up: HumanDuration::from_secs(120),
            blocks_min: 20,
        }
    }
}

/// When the rollout begins: `"15m"` after the start of the traffic, or at an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTime {
    /// So long after the start of the traffic.
    After(HumanDuration),
    /// At this time; the traffic must have a calendar.
    At(WallTime),
}

/// What happens at the drain deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtDeadline {
    /// Requests still in flight are cut: clients see an error.
    Cut,
    /// The replica is put back into service and the rollout holds for a person.
    Abort,
    /// Wait longer, up to a hard limit, then one of the above.
    Extend(Extend),
}

/// A longer drain: `{ extend = { to = "300s", then = "cut" } }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// The hard limit, counted from the start of the drain.
    pub to: HumanDuration,
    /// What happens then.
    #[serde(default)]
    pub then: AtHardLimit,
}

/// What happens when even the extended drain is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtHardLimit {
    /// Cut what is left.
    #[default]
    Cut,
    /// Put the replica back into service and hold for a person.
    Abort,
}

/// A repeated check with bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Between two tries.
    #[serde(default = "default_interval")]
    pub interval: HumanDuration,
    /// The longest that one try (for health: the whole wait after one start) may take.
    pub timeout: HumanDuration,
    /// How many tries.
    #[serde(default = "one_attempt")]
    pub attempts: u32,
}

const fn default_interval() -> HumanDuration {
    HumanDuration::from_secs(2)
}
const fn one_attempt() -> u32 {
    1
}

/// The capacity gate. Off unless a capacity is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Requests a second one replica carries within the service level. Absent: the gate lets every move pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_per_replica: Option<f64>,
    /// The share of capacity that must stay free after a replica is taken out.
    pub margin: f64,
    /// How often the gate looks again while it is closed.
    pub poll: HumanDuration,
    /// How long it may stay closed before the rollout holds for a person.
    pub give_up: HumanDuration,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            capacity_per_replica: None,
            margin: 0.1,
            poll: HumanDuration::from_secs(10),
            give_up: HumanDuration::from_secs(3600),
        }
    }
}

/// The guard while a move is under way. Off unless a bound is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// The share of failed attempts over `over` that ends the rollout. Absent: no guard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error_share: Option<f64>,
    /// The sliding time it is taken over.
    pub over: HumanDuration,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_error_share: None, over: HumanDuration::from_secs(60) }
    }
}

/// What a failing new version leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Every moved replica goes back to the old version.
    Rollback,
    /// The rollout waits for a person.
    Hold,
}

/// Where a person must say yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nowhere.
    None,
    /// After the first replica has moved.
    AfterFirst,
    /// Before each move.
    EachMove,
}

mod start_time {
    use std::fmt;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::de::{self, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::StartTime;
    use crate::time::HumanDuration;

    impl Serialize for StartTime {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::After(offset) => offset.serialize(serializer),
                Self::At(time) => time.serialize(serializer),
            }
        }
    }

    impl<'de> Deserialize<'de> for StartTime {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(StartTimeVisitor)
        }
    }

    struct StartTimeVisitor;

    impl Visitor<'_> for StartTimeVisitor {
        type Value = StartTime;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a duration after the start of the traffic such as \"15m\", or a time such as \"2026-01-05T03:00:00Z\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<StartTime, E> {
            if let Ok(offset) = text.parse() {
                return Ok(StartTime::After(offset));
            }
            text.parse().map(StartTime::At).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }

        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<StartTime, E> {
            HumanDuration::from_secs_f64(seconds)
                .map(StartTime::After)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
        }

        #[expect(clippy::cast_precision_loss)]
        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<StartTime, E> {
            self.visit_f64(seconds as f64)
        }
    }

    impl JsonSchema for StartTime {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "StartTime".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "A duration after the start of the traffic (\"15m\"), or an RFC 3339 time.",
                "anyOf": [{ "type": "string" }, { "type": "number", "minimum": 0 }]
            })
        }
    }
}
