//! Numbers as logs and traces write them, read exactly: times in whole nanoseconds.

use std::fmt;

use serde::de::{self, Visitor};

/// Digits only; ten of them are beyond any request, and can't overflow.
pub(super) fn whole_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// A decimal number of units of `unit_ns` nanoseconds, not negative; exact where its fraction has no more digits than a
/// nanosecond takes.
pub(super) fn decimal_ns(text: &[u8], unit_ns: i64) -> Option<i64> {
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 15 || !digits(whole) || !digits(fraction) {
        let number = std::str::from_utf8(text).ok()?.parse::<f64>().ok()?;
        return float_ns(number, unit_ns);
    }
    let whole_ns = i64::try_from(whole_number(whole)?).ok()?.checked_mul(unit_ns)?;
    let mut place_ns = unit_ns;
    let mut fraction_ns = 0;
    for digit in fraction {
        place_ns /= 10;
        fraction_ns += i64::from(digit - b'0') * place_ns;
    }
    whole_ns.checked_add(fraction_ns)
}

/// The same of a float; `None` when negative, no number, or beyond 2255.
pub(super) fn float_ns(number: f64, unit_ns: i64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss)]
    let ns = number * unit_ns as f64;
    #[expect(clippy::cast_possible_truncation)]
    (0.0..9e18).contains(&ns).then(|| ns.round() as i64)
}

/// A JSON number of units of `UNIT_NS` nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time<const UNIT_NS: i64>(pub(super) i64);

/// Milliseconds as a JSON number, in nanoseconds.
pub(super) type Milliseconds = Time<1_000_000>;
/// Seconds as a JSON number, in nanoseconds.
pub(super) type Seconds = Time<1_000_000_000>;

impl<'de, const UNIT_NS: i64> de::Deserialize<'de> for Time<UNIT_NS> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor::<UNIT_NS>)
    }
}

struct TimeVisitor<const UNIT_NS: i64>;

impl<const UNIT_NS: i64> Visitor<'_> for TimeVisitor<UNIT_NS> {
    type Value = Time<UNIT_NS>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if UNIT_NS == 1_000_000 { "milliseconds" } else { "seconds" };
        write!(out, "{unit} since the start of the trace, not negative")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Self::Value, E> {
        i64::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(UNIT_NS))
            .map(Time)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(count), &self))
    }

    fn visit_f64<E: de::Error>(self, count: f64) -> Result<Self::Value, E> {
        float_ns(count, UNIT_NS)
            .map(Time)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(count), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::decimal_ns;

    #[test]
    fn decimals_are_exact() {
        for (text, expected) in [
            ("5", Some(5_000_000_000)),
            ("1767603604.456", Some(1_767_603_604_456_000_000)),
            ("0.1234567891", Some(123_456_789)),
            ("7.", Some(7_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("", None),
            (".", None),
            ("-1", None),
            ("nan", None),
            ("inf", None),
            ("99999999999", None),
        ] {
            assert_eq!(decimal_ns(text.as_bytes(), 1_000_000_000), expected, "{text}");
        }
    }
}
