//! Durations and points in time as a person writes them.
//!
//! A duration is a number of seconds (`90`, `0.5`) or a text with units (`"90s"`, `"1h30m"`, `"250ms"`, `"7d"`).
//! A point in time is an RFC 3339 text with a zone (`"2026-01-05T00:00:00Z"`).

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, SpanRelativeTo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest duration a scenario may name: the simulator's picosecond clock ends after 213 days.
const LONGEST: HumanDuration = HumanDuration::from_secs(200 * 86_400);

/// The time zone of this name ("Europe/Berlin") or offset ("+02:00").
///
/// # Errors
/// What is wrong with it, to be read after the key it stands under.
pub fn zone(name: &str) -> Result<jiff::tz::TimeZone, String> {
    crate::traffic::known_zone(name)
}

const EXPECTED_DURATION: &str =
    "a duration such as \"90s\", \"1h30m\", \"250ms\", \"7d\", or a number of seconds";

/// A non-negative length of time, at most 200 days, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(u64);

impl HumanDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds * 1_000_000)
    }

    /// Seconds as a number; `None` when negative, not a number, or longer than 200 days.
    #[must_use]
    pub fn from_secs_f64(seconds: f64) -> Option<Self> {
        if !(seconds >= 0.0 && seconds <= LONGEST.as_secs_f64()) {
            return None;
        }
        // In range by the check above: 200 days are 1.7e16 ns.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Self((seconds * 1e9).round() as u64))
    }

    /// So many nanoseconds.
    #[must_use]
    pub(crate) const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds, the policy's unit.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Picoseconds, the engine's unit. Fits: a duration is at most 200 days.
    #[must_use]
    pub const fn as_picos(self) -> u64 {
        self.0 * 1000
    }

    /// Seconds, for formulas and tables.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// True for a zero length.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not {EXPECTED_DURATION}");
        if let Ok(seconds) = text.trim().parse::<f64>() {
            return Self::from_secs_f64(seconds).ok_or_else(bad);
        }
        let span: jiff::Span = text.parse().map_err(|_| bad())?;
        let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
        if exact.is_negative() {
            return Err(format!("`{text}` is negative; expected {EXPECTED_DURATION}"));
        }
        u64::try_from(exact.as_nanos())
            .ok()
            .map(Self)
            .filter(|parsed| *parsed <= LONGEST)
            .ok_or_else(|| format!("`{text}` is longer than 200 days, the longest a simulation can last"))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alternate form is the friendly one: `1m 30s`. It parses back to the same value.
        write!(out, "{:#}", SignedDuration::from_nanos(self.0.try_into().unwrap_or(i64::MAX)))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = HumanDuration;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(EXPECTED_DURATION)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<HumanDuration, E> {
        HumanDuration::from_secs_f64(seconds).ok_or_else(|| {
            E::custom(format!(
                "`{seconds}` seconds is not between 0 and 200 days; expected {EXPECTED_DURATION}"
            ))
        })
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<HumanDuration, E> {
        self.visit_f64(seconds as f64)
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<HumanDuration, E> {
        self.visit_f64(seconds as f64)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: seconds as a number, or a text with units (\"90s\", \"1h30m\", \"250ms\", \"7d\").",
            "anyOf": [{ "type": "string", "examples": ["90s", "1h30m"] }, { "type": "number", "minimum": 0 }]
        })
    }
}

/// A point in time: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let stamp: jiff::Timestamp = text.parse().map_err(|_| {
            format!("`{text}` is not a time with a zone such as \"2026-01-05T00:00:00Z\" or \"2026-01-05T09:00:00+01:00\"")
        })?;
        i64::try_from(stamp.as_nanosecond())
            .map(Self)
            .map_err(|_| format!("`{text}` is not between the years 1678 and 2262"))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0.into()) {
            Ok(stamp) => write!(out, "{stamp}"),
            Err(_) => write!(out, "{} ns since 1970", self.0),
        }
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for WallTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "An RFC 3339 time with its zone." })
    }
}
