//! Time as the policy counts it: integer nanoseconds, so that both worlds agree to the last bit.
//!
//! `Time` is an instant (nanoseconds since the Unix epoch), `Span` a length of time. In the journal both are plain integers of
//! nanoseconds; in a plan file spans are human text (`"1h30m"`) and instants RFC 3339 in UTC, through [`human`] and [`human_time`].
//!
//! Arithmetic saturates: a deadline beyond the end of time means "never", which is what a saturated `Time` is; a difference that would be
//! negative is zero, because the policy's own clock never runs backwards. No operation here can panic.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// An instant: nanoseconds since the Unix epoch (UTC, no leap seconds). Covers 1970 to 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A length of time in nanoseconds. Up to 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

/// A duration or an instant that could not be read.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TimeError {
    /// Not a duration.
    #[error(
        "`{0}` is not a duration; write it as \"90s\", \"2m\", \"1h30m\" or \"250ms\" (units: d h m s ms us ns)"
    )]
    Span(String),
    /// Not an instant.
    #[error("`{0}` is not an instant; write it as \"2026-03-01T02:00:00Z\" (RFC 3339, 1970 to 2554)")]
    Time(String),
    /// Seconds that are negative, not a number, or too many.
    #[error("{0} is not a usable number of seconds; it must be finite, zero or more, and below 18 billion")]
    Seconds(f64),
}

impl Time {
    /// The Unix epoch.
    pub const ZERO: Time = Time(0);
    /// The end of time: a deadline here never comes.
    pub const MAX: Time = Time(u64::MAX);

    /// The instant this many whole seconds after the epoch.
    pub const fn from_secs(seconds: u64) -> Time {
        Time(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Time;

    /// Saturates at [`Time::MAX`], which reads as "never".
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Add for Span {
    type Output = Span;

    /// Saturates at the longest span.
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Longer than anything.
    pub const MAX: Span = Span(u64::MAX);

    /// A span of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Span {
        Span(nanos)
    }

    /// A span of milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(millis.saturating_mul(1_000_000))
    }

    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Span {
        Span(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// A span of seconds, rounded to the nearest nanosecond.
    ///
    /// # Errors
    /// When `seconds` is negative, not finite, or too long.
    pub fn from_secs_f64(seconds: f64) -> Result<Span, TimeError> {
        let nanos = (seconds * 1e9).round();
        if !(0.0..1.8e19).contains(&nanos) {
            return Err(TimeError::Seconds(seconds));
        }
        // In range by the check above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Span(nanos as u64))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds, for printing and plotting only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This span `factor` times over, saturating.
    pub const fn times(self, factor: u64) -> Span {
        Span(self.0.saturating_mul(factor))
    }
}

/// Units from long to short, with their nanoseconds. Printing goes down this list, so that text and value round-trip.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, nanos) in UNITS {
            if rest >= nanos {
                write!(f, "{}{unit}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Span, TimeError> {
        let bad = || TimeError::Span(text.to_owned());
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, after) = tail.split_at(unit_end);
            let nanos = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
            let part = decimal_times(number, nanos).ok_or_else(bad)?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = after.trim_start();
        }
        Ok(Span(total))
    }
}

/// `"1.5"` times `unit` in integers, so that no duration written in a plan depends on floating point.
fn decimal_times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.chars() {
        scale /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?).checked_mul(scale)?)?;
    }
    Some(total)
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC, with as many fractional digits as the instant needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / NANOS_PER_SECOND, self.0 % NANOS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let second_of_day = seconds % 86_400;
        let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos > 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Time, TimeError> {
        parse_rfc3339(text.trim()).ok_or_else(|| TimeError::Time(text.to_owned()))
    }
}

fn parse_rfc3339(text: &str) -> Option<Time> {
    let digits = |range: std::ops::Range<usize>| -> Option<u64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let mark = |at: usize, allowed: &[u8]| text.as_bytes().get(at).is_some_and(|b| allowed.contains(b));
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let marks = mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":");
    if !marks
        || !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit())?;
        if end == 0 || end > 9 {
            return None;
        }
        nanos = decimal_times(&format!("0.{}", &fraction[..end]), NANOS_PER_SECOND)?;
        rest = &fraction[end..];
    }
    let local = i128::from(days_from_civil(year, month, day)?) * 86_400
        + i128::from(hour * 3_600 + minute * 60 + second);
    let utc = local - i128::from(offset_seconds(rest)?);
    u64::try_from(utc * i128::from(NANOS_PER_SECOND) + i128::from(nanos)).ok().map(Time)
}

/// `Z` or `+hh:mm`, in seconds east of UTC.
fn offset_seconds(text: &str) -> Option<i64> {
    if text == "Z" || text == "z" {
        return Some(0);
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3_600 + minutes * 60))
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch as a civil date; years run from March so that the leap day comes last (Howard Hinnant's algorithm).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn days_from_civil(year: u64, month: u64, day: u64) -> Option<i64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i64::try_from(era * 146_097 + day_of_era).ok().map(|days| days - 719_468)
}

/// Spans as human text in files people write: `#[serde(with = "slackwater_policy::human")]`. Reads `"1h30m"` or a number of seconds.
pub mod human {
    use super::{Span, fmt};
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    /// Writes the span as text, for example `"1m30s"`.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(span)
    }

    /// Reads a span from text or from a number of seconds.
    ///
    /// # Errors
    /// When the value is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }

    struct SpanVisitor;

    impl Visitor<'_> for SpanVisitor {
        type Value = Span;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"90s\" or \"1h30m\", or a number of seconds")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<Span, E> {
            seconds.checked_mul(1_000_000_000).map(Span).ok_or_else(|| E::custom("the duration is too long"))
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
            u64::try_from(seconds)
                .map_err(|_| E::custom("a duration can't be negative"))
                .and_then(|s| self.visit_u64(s))
        }

        fn visit_f64<E: Error>(self, seconds: f64) -> Result<Span, E> {
            Span::from_secs_f64(seconds).map_err(E::custom)
        }
    }
}

/// As [`human`], for an optional span (absent when `None`).
pub mod human_opt {
    use super::{Span, human};
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    /// Writes the span as text.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(span: &Option<Span>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => human::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a span from text or from a number of seconds.
    ///
    /// # Errors
    /// When the value is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
        human::deserialize(deserializer).map(Some)
    }
}

/// Instants as RFC 3339 text in files people write: `#[serde(with = "slackwater_policy::human_time")]`.
pub mod human_time {
    use super::Time;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    /// Writes the instant as RFC 3339 in UTC.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    /// Reads RFC 3339 text with any offset.
    ///
    /// # Errors
    /// When the text is no instant between 1970 and 2554.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The same of an instant that may be absent: `#[serde(with = "human_time_opt", default)]`.
pub mod human_time_opt {
    use super::Time;
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    /// Writes the instant as RFC 3339 in UTC.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::human_time::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads RFC 3339 text with any offset.
    ///
    /// # Errors
    /// When the text is no instant between 1970 and 2554.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        super::human_time::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print() {
        for (text, nanos, printed) in [
            ("90s", 90_000_000_000, "1m30s"),
            ("1h30m", 5_400_000_000_000, "1h30m"),
            ("1.5s", 1_500_000_000, "1s500ms"),
            ("250ms", 250_000_000, "250ms"),
            ("2 m", 0, ""),
            ("1d 2ns", 86_400_000_000_002, "1d2ns"),
            ("0s", 0, "0s"),
        ] {
            match text.parse::<Span>() {
                Ok(span) => assert_eq!((span.0, span.to_string().as_str()), (nanos, printed), "{text}"),
                Err(_) => assert_eq!(printed, "", "{text}"),
            }
        }
        for bad in ["", "90", "s", "-1s", "1x", "1s2", "1.2.3s", "99999999999d", "é"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_read_and_print() {
        let leap: Time = "2024-02-29T23:59:59.25Z".parse().unwrap();
        assert_eq!(leap.to_string(), "2024-02-29T23:59:59.25Z");
        assert_eq!("1970-01-01T00:00:00Z".parse::<Time>().unwrap(), Time::ZERO);
        assert_eq!(
            "2026-03-01T02:00:00+02:00".parse::<Time>().unwrap(),
            "2026-03-01T00:00:00Z".parse().unwrap()
        );
        assert_eq!(Time::from_secs(1_772_323_200).to_string(), "2026-03-01T00:00:00Z");
        assert_eq!(Time::MAX.to_string().parse::<Time>().unwrap(), Time::MAX);
        for bad in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-03-01",
            "2026-03-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-03-01T02:00:00",
            "2600-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::MAX + Span::from_secs(1), Time::MAX);
        assert_eq!(Time::ZERO.since(Time::from_secs(5)), Span::ZERO);
        assert!(
            Span::from_secs_f64(f64::NAN).is_err()
                && Span::from_secs_f64(-1.0).is_err()
                && Span::from_secs_f64(1e300).is_err()
        );
    }
}
