//! What `plan` is asked: which starts, how much risk, at what cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{HumanDuration, WallTime};

/// Parameters of the search for a safe window. All have defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Planning {
    /// From when on starts are looked at. Absent: the first midnight after the history ends; for drawn traffic, its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<WallTime>,
    /// For how long.
    pub horizon: HumanDuration,
    /// From one start to the next.
    pub every: HumanDuration,
    /// How long a recommended window is open for the start.
    pub window: HumanDuration,
    /// Weekdays and midnights are this zone's, and reports are in it ("Europe/Berlin"). Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The risk budget: the most that the chance of a missed service level (or of a rollout that does not come to its end)
    /// may be.
    pub risk: f64,
    /// The most that the chance of any request being cut may be; decides the drain timeout.
    pub cut_risk: f64,
    /// What every bound holds with.
    pub confidence: f64,
    /// Traffic is expected to be so many times the history's.
    pub growth: f64,
    /// Futures in which every start is tried.
    pub futures: u32,
    /// Fresh futures for each window to be certified; what the budget needs at least is taken when this is less.
    pub certify_futures: u32,
    /// How many windows are certified.
    pub certify_windows: u32,
    /// Drain timeouts to compare.
    pub drain_timeouts: Vec<HumanDuration>,
    /// What trouble costs, in units of one request that misses the service level.
    pub cost: Cost,
}

impl Default for Planning {
    fn default() -> Self {
        let seconds = HumanDuration::from_secs;
        Self {
            from: None,
            horizon: seconds(7 * 86_400),
            every: seconds(300),
            window: seconds(1_800),
            time_zone: None,
            risk: 0.01,
            cut_risk: 0.05,
            confidence: 0.95,
            growth: 1.0,
            futures: 20,
            certify_futures: 300,
            certify_windows: 3,
            drain_timeouts: [5, 10, 20, 30, 45, 60, 90, 120, 180, 300].map(seconds).to_vec(),
            cost: Cost::default(),
        }
    }
}

/// What trouble costs, in units of one request that misses the service level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cost {
    /// A request that misses the service level.
    pub miss: f64,
    /// A request that is cut.
    pub cut: f64,
    /// An hour with fewer than all replicas in rotation.
    pub hour_below_n: f64,
}

impl Default for Cost {
    fn default() -> Self {
        Self { miss: 1.0, cut: 5.0, hour_below_n: 20.0 }
    }
}
