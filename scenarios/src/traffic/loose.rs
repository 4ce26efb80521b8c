//! JSON values of logs, whose writers put numbers in quotes or not, and `-`, `""` or null where they have none.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};

use super::number::{decimal_ns, float_ns, whole_number};

/// A number or text, however it is written.
#[derive(Clone, Debug, Default)]
pub(super) enum Loose<'a> {
    #[default]
    Absent,
    Whole(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl<'a> Loose<'a> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// A count, where there is one.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Whole(count) => Some(*count),
            Self::Text(text) => whole_number(text.as_bytes()),
            Self::Absent | Self::Float(_) => None,
        }
    }

    /// A number of units of `unit_ns` nanoseconds.
    pub(super) fn time_ns(&self, unit_ns: i64) -> Option<i64> {
        match self {
            Self::Absent => None,
            Self::Whole(count) => i64::try_from(*count).ok()?.checked_mul(unit_ns),
            Self::Float(number) => float_ns(*number, unit_ns),
            Self::Text(text) => decimal_ns(text.as_bytes(), unit_ns),
        }
    }

    /// Its text; empty when it is a number or absent.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            _ => Cow::Borrowed(""),
        }
    }
}

impl<'de: 'a, 'a> de::Deserialize<'de> for Loose<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

fn is_none(text: &str) -> bool {
    text.is_empty() || text == "-"
}

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number or a text")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Loose::Whole(count))
    }

    #[expect(clippy::cast_precision_loss)] // Negative, so refused by all who ask.
    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Self::Value, E> {
        Ok(Loose::Float(count as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Loose::Float(number))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(if is_none(text) { Loose::Absent } else { Loose::Text(Cow::Borrowed(text)) })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if is_none(text) { Loose::Absent } else { Loose::Text(Cow::Owned(text.to_owned())) })
    }
}
