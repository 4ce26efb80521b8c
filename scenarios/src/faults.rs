//! What goes wrong in the simulated world, and when.
//!
//! ```text
//! [[faults]]
//! kind = "replica-crash"
//! replica = "replica-2"
//! at = "20m"               # after the start of the traffic; or { between = ["10m", "40m"] }, drawn from the seed
//! back_after = "3m"
//!
//! [[faults]]
//! kind = "gpu-lost"
//! replica = "replica-2"
//! during = "starting"      # or at a point of a move
//! of = "replica-1"
//! ```
//!
//! One flat table for all kinds, so that a mistake is shown at its own key; which key belongs to which kind is checked
//! afterwards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::HumanDuration;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The replica it befalls. Needed by a fault that comes `at` a time, except `lost-replies`; with `during`, absent
    /// means the replica whose move it is; for the others absent means every replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// When, after the start of the traffic: `"20m"`, or `{ between = ["10m", "40m"] }`, drawn from the seed. For
    /// `lost-replies` absent means from the start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<FaultTime>,
    /// In place of `at`: when a move first gets to this point. It comes once; without a rollout, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<MovePoint>,
    /// For `during`: the replica whose move it is, which may be another than the one befallen. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// When it is over, after the start of the traffic; absent: never. For `lost-replies`, and with a plain `at` for
    /// `slow-gpu` and `lost-health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<HumanDuration>,
    /// For `replica-crash`: how long after the crash the replica answers again on the version it had, its supervisor
    /// having restarted it. Absent: nobody does. A replica that the rollout has stopped or started since is left to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_after: Option<HumanDuration>,
    /// For `replica-crash` and `gpu-lost`: how long after the crash the balancer's health check takes the replica out and
    /// the rollout is told; until then requests are sent there and refused at once. For `lost-health`: how long until the
    /// balancer takes it out. Default 6 s: three failed checks, one every 2 s, as HAProxy does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_after: Option<HumanDuration>,
    /// Which start of the replica, counted from 1 and over the whole run (for `gpu-memory-lingers`: which stop). Absent:
    /// each one. For `start-failure`, `never-healthy`, `slow-start`, `gpu-memory-lingers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u32>,
    /// Only for processes of this version. Absent: of both. For `start-failure`, `never-healthy`, `slow-start`,
    /// `gpu-memory-lingers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<FaultVersion>,
    /// For `slow-start`: the start takes so many times as long. For `slow-gpu`: each step does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// For `lost-replies`: the share of the replies that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// For `gpu-memory-lingers`: how much longer the memory stays held. For `slow-gpu` and `lost-health`: how long it
    /// lasts; absent, and without `until`: for good.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<HumanDuration>,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The engine's process dies: what is in flight there is cut, and new attempts are refused until the balancer notices.
    ReplicaCrash,
    /// A start fails: the process exits when it should have become healthy.
    StartFailure,
    /// A started process stays, but never answers its health check well.
    NeverHealthy,
    /// A start takes longer.
    SlowStart,
    /// The GPU memory of a stopped process stays held longer.
    GpuMemoryLingers,
    /// What the rollout asks for is done, but word of it does not come back.
    LostReplies,
    /// The engine's in-flight gauge never shows zero again until its process is replaced.
    StuckInFlight,
    /// The GPU's steps take longer, whatever process runs on it.
    SlowGpu,
    /// Health checks go unanswered though the replica serves: the balancer takes it out, what is in flight goes on, and
    /// the rollout's own looks at its health fail.
    LostHealth,
    /// The GPU is gone for good: the process dies as in a `replica-crash`, and every later start there fails.
    GpuLost,
}

/// When a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultTime {
    /// At this time after the start of the traffic.
    At(HumanDuration),
    /// At a time between these two, drawn from the seed.
    Between(HumanDuration, HumanDuration),
}

/// A point of a replica's move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MovePoint {
    /// It is out of rotation and finishes what it has.
    Drain,
    /// Its old process is gone.
    Stopped,
    /// Its new process was started.
    Starting,
    /// It is healthy and the right version; the smoke prompt and the warm-up begin.
    WarmUp,
    /// It is back in rotation.
    Soak,
}

impl MovePoint {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::WarmUp => "warm-up",
            Self::Soak => "soak",
        }
    }
}

impl FaultTime {
    /// The time, `bits` being a uniform draw. Whole nanoseconds.
    #[must_use]
    pub fn draw(self, bits: u64) -> HumanDuration {
        match self {
            Self::At(at) => at,
            Self::Between(from, to) => {
                let span = u128::from(to.as_nanos().saturating_sub(from.as_nanos()));
                let into = ((span * u128::from(bits)) >> 64) as u64;
                HumanDuration::from_nanos(from.as_nanos() + into)
            }
        }
    }

    /// The earliest and the latest it can be.
    #[must_use]
    pub const fn bounds(self) -> (HumanDuration, HumanDuration) {
        match self {
            Self::At(at) => (at, at),
            Self::Between(from, to) => (from, to),
        }
    }
}

/// One of the scenario's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultVersion {
    /// The old one.
    From,
    /// The new one.
    To,
}

/// A key of [`Fault`] beside `kind`, whether the fault has it.
type Given = (&'static str, bool);

impl Fault {
    /// How long a crash stays unnoticed when the scenario does not say.
    pub const NOTICED_AFTER: HumanDuration = HumanDuration::from_secs(6);

    /// A fault of this kind with no other key given.
    #[must_use]
    pub const fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            replica: None,
            at: None,
            during: None,
            of: None,
            until: None,
            back_after: None,
            noticed_after: None,
            nth: None,
            version: None,
            factor: None,
            share: None,
            lasts: None,
        }
    }

    /// How long the crash stays unnoticed.
    #[must_use]
    pub fn noticed_after(&self) -> HumanDuration {
        self.noticed_after.unwrap_or(Self::NOTICED_AFTER)
    }

    pub(crate) const fn given(&self) -> [Given; 12] {
        [
            ("replica", self.replica.is_some()),
            ("at", self.at.is_some()),
            ("during", self.during.is_some()),
            ("of", self.of.is_some()),
            ("until", self.until.is_some()),
            ("back_after", self.back_after.is_some()),
            ("noticed_after", self.noticed_after.is_some()),
            ("nth", self.nth.is_some()),
            ("version", self.version.is_some()),
            ("factor", self.factor.is_some()),
            ("share", self.share.is_some()),
            ("for", self.lasts.is_some()),
        ]
    }
}

impl FaultKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplicaCrash => "replica-crash",
            Self::StartFailure => "start-failure",
            Self::NeverHealthy => "never-healthy",
            Self::SlowStart => "slow-start",
            Self::GpuMemoryLingers => "gpu-memory-lingers",
            Self::LostReplies => "lost-replies",
            Self::StuckInFlight => "stuck-in-flight",
            Self::SlowGpu => "slow-gpu",
            Self::LostHealth => "lost-health",
            Self::GpuLost => "gpu-lost",
        }
    }

    /// Whether it comes at a moment of its own: `at` a time, or `during` a move.
    #[must_use]
    pub const fn has_a_moment(self) -> bool {
        matches!(
            self,
            Self::ReplicaCrash | Self::StuckInFlight | Self::SlowGpu | Self::LostHealth | Self::GpuLost
        )
    }

    /// The keys it can't do without, and those it may have. One that comes at a moment needs `at` or `during` as well.
    pub(crate) const fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::ReplicaCrash => (&[], &["replica", "at", "during", "of", "back_after", "noticed_after"]),
            Self::GpuLost => (&[], &["replica", "at", "during", "of", "noticed_after"]),
            Self::StuckInFlight => (&[], &["replica", "at", "during", "of"]),
            Self::SlowGpu => (&["factor"], &["replica", "at", "during", "of", "until", "for"]),
            Self::LostHealth => (&[], &["replica", "at", "during", "of", "until", "for", "noticed_after"]),
            Self::StartFailure | Self::NeverHealthy => (&[], &["replica", "nth", "version"]),
            Self::SlowStart => (&["factor"], &["replica", "nth", "version"]),
            Self::GpuMemoryLingers => (&["for"], &["replica", "nth", "version"]),
            Self::LostReplies => (&["share"], &["replica", "at", "until"]),
        }
    }
}

/// `"20m"` or `{ between = ["10m", "40m"] }`, as a file has it.
mod fault_time {
    use std::fmt;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::FaultTime;
    use crate::time::HumanDuration;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        between: (HumanDuration, HumanDuration),
    }

    impl Serialize for FaultTime {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match *self {
                Self::At(at) => at.serialize(serializer),
                Self::Between(from, to) => Keys { between: (from, to) }.serialize(serializer),
            }
        }
    }

    impl<'de> Deserialize<'de> for FaultTime {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(FaultTimeVisitor)
        }
    }

    struct FaultTimeVisitor;

    impl<'de> Visitor<'de> for FaultTimeVisitor {
        type Value = FaultTime;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a duration such as \"20m\", or { between = [\"10m\", \"40m\"] }")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<FaultTime, E> {
            text.parse().map(FaultTime::At).map_err(E::custom)
        }

        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<FaultTime, E> {
            HumanDuration::from_secs_f64(seconds)
                .map(FaultTime::At)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
        }

        #[expect(clippy::cast_precision_loss)]
        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<FaultTime, E> {
            self.visit_f64(seconds as f64)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FaultTime, A::Error> {
            let Keys { between: (from, to) } = Keys::deserialize(MapAccessDeserializer::new(map))?;
            if to <= from {
                return Err(de::Error::custom("`between` needs two durations, the earlier one first"));
            }
            Ok(FaultTime::Between(from, to))
        }
    }

    impl JsonSchema for FaultTime {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "FaultTime".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let duration = generator.subschema_for::<HumanDuration>();
            json_schema!({
                "description": "A time after the start of the traffic, or a stretch of it out of which one is drawn.",
                "anyOf": [duration, {
                    "type": "object",
                    "properties": {
                        "between": { "type": "array", "items": duration, "minItems": 2, "maxItems": 2 }
                    },
                    "required": ["between"],
                    "additionalProperties": false
                }]
            })
        }
    }
}
