//! Calendar timestamps straight from bytes: `2023-11-16 18:15:46.6805900`, `2024-05-12 00:00:00+00:00`.
//!
//! A general parser costs more than the rest of a row. The date is the same for many rows, so its day number is kept.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Nanoseconds in a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// From a fraction's digits to nanoseconds.
const TENS: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// What a time zone is to be.
pub(crate) const ZONE_HELP: &str =
    "give a name such as \"Europe/Berlin\" or \"UTC\", or an offset such as \"+02:00\"";

/// Offsets change at whole quarters of an hour only, so one is kept for so long.
const QUARTER_NS: i64 = 900_000_000_000;

/// The zone of this name or offset; what is wrong with it when there is none.
pub(crate) fn known_zone(name: &str) -> Result<TimeZone, String> {
    if let Some(offset_ns) = name.starts_with(['+', '-']).then(|| zone_ns(name.as_bytes())).flatten() {
        let offset = i32::try_from(offset_ns / 1_000_000_000).ok().and_then(|s| Offset::from_seconds(s).ok());
        return offset.map(TimeZone::fixed).ok_or_else(|| format!("is `{name}`, not an offset of a zone"));
    }
    TimeZone::get(name).map_err(|_| format!("is `{name}`, not a time zone known here"))
}

/// Reads timestamps; a time without a zone is of the zone said, else UTC.
#[derive(Debug, Default)]
pub(crate) struct TimestampReader {
    date: [u8; 10],
    day_start_ns: i64,
    zone: Option<TimeZone>,
    /// The quarter of an hour, by the zone's own clock, whose offset was looked up last.
    quarter: Option<(i64, i64)>,
    zone_assumed: bool,
}

impl TimestampReader {
    /// Times without a zone are of this one; of UTC when it is not said or not known.
    pub(crate) fn in_zone(name: Option<&str>) -> Self {
        Self { zone: name.and_then(|name| known_zone(name).ok()), ..Self::default() }
    }

    /// Whether a time without a zone was taken for UTC.
    pub(crate) fn zone_assumed(&self) -> bool {
        self.zone_assumed
    }

    /// A time by the clock of the zone said, in nanoseconds since the Unix epoch by that clock, as UTC.
    pub(crate) fn unzoned(&mut self, civil_ns: i64) -> Option<i64> {
        let Some(zone) = &self.zone else {
            self.zone_assumed = true;
            return Some(civil_ns);
        };
        let quarter = civil_ns.div_euclid(QUARTER_NS);
        let offset_ns = match self.quarter {
            Some((known, offset_ns)) if known == quarter => offset_ns,
            _ => {
                // An hour that comes twice is the first one; one that is left out is read as if the clock had gone on.
                let civil = Timestamp::from_nanosecond(i128::from(civil_ns)).ok()?;
                let civil = Offset::UTC.to_datetime(civil);
                let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
                // Not the zone's offset at that instant: after an hour that is left out, that is the new one already.
                let instant_ns = i64::try_from(instant.as_nanosecond()).ok()?;
                let offset_ns = civil_ns.checked_sub(instant_ns)?;
                self.quarter = Some((quarter, offset_ns));
                offset_ns
            }
        };
        civil_ns.checked_sub(offset_ns)
    }

    /// A log's time such as `05/Jan/2026:09:00:04 +0000` or `05/Jan/2026:09:00:04.123`.
    pub(crate) fn read_log(&mut self, text: &[u8]) -> Option<i64> {
        const MONTHS: [&[u8]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let (date, rest) = text.split_first_chunk::<11>()?;
        if date[2] != b'/' || date[6] != b'/' || rest.first() != Some(&b':') {
            return None;
        }
        let month = MONTHS.iter().position(|name| *name == &date[3..6])? + 1;
        let mut iso = [0_u8; 40];
        let zone = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let clock = &rest[1..zone.max(1)];
        let zone = rest.get(zone + 1..).unwrap_or_default();
        if clock.len() > 18 || zone.len() > 6 {
            return None;
        }
        iso[..4].copy_from_slice(&date[7..]);
        iso[4] = b'-';
        iso[5] = b'0' + u8::from(month > 9);
        iso[6] = b'0' + u8::try_from(month % 10).ok()?;
        iso[7] = b'-';
        iso[8..10].copy_from_slice(&date[..2]);
        iso[10] = b'T';
        let end = 11 + clock.len();
        iso[11..end].copy_from_slice(clock);
        iso[end..end + zone.len()].copy_from_slice(zone);
        self.read(&iso[..end + zone.len()])
    }

    /// Nanoseconds since the Unix epoch; `None` when the text is not a timestamp. Digits beyond nanoseconds are refused.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<i64> {
        // The clock first: `2024-05-10 00:00:00` is 19 bytes, then a fraction and a zone may follow.
        let (date, rest) = text.split_first_chunk::<10>()?;
        let (clock, mut rest) = rest.split_first_chunk::<9>()?;
        if !matches!(clock[0], b' ' | b'T') || clock[3] != b':' || clock[6] != b':' {
            return None;
        }
        let (hour, minute, second) = (
            pair(clock[1..3].try_into().ok()?)?,
            pair(clock[4..6].try_into().ok()?)?,
            pair(clock[7..9].try_into().ok()?)?,
        );
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if *date != self.date {
            self.day_start_ns = day_start_ns(date)?;
            self.date = *date;
        }
        let mut fraction_ns = 0;
        if let Some(after) = rest.strip_prefix(b".") {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let (written, unwritten) = (&after[..digits], 9 - digits);
            fraction_ns = written.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            fraction_ns *= TENS[unwritten];
            rest = &after[digits..];
        }
        let clock_ns = ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + fraction_ns;
        let civil_ns = self.day_start_ns.checked_add(clock_ns)?;
        if rest.is_empty() { self.unzoned(civil_ns) } else { civil_ns.checked_sub(zone_ns(rest)?) }
    }
}

fn pair(digits: [u8; 2]) -> Option<i64> {
    (digits[0].is_ascii_digit() && digits[1].is_ascii_digit())
        .then(|| i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
}

fn day_start_ns(date: &[u8; 10]) -> Option<i64> {
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = pair([date[0], date[1]])? * 100 + pair([date[2], date[3]])?;
    let month = i8::try_from(pair([date[5], date[6]])?).ok()?;
    let day = i8::try_from(pair([date[8], date[9]])?).ok()?;
    // The calendar's rules, leap years included, are the library's.
    let date = jiff::civil::Date::new(i16::try_from(year).ok()?, month, day).ok()?;
    let days = date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days();
    i64::from(days).checked_mul(DAY_NS)
}

fn zone_ns(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" | b"+00:00" => Some(0),
        [sign @ (b'+' | b'-'), hour_tens, hour] => {
            let offset = pair([*hour_tens, *hour])? * 3_600_000_000_000;
            Some(if *sign == b'-' { -offset } else { offset })
        }
        [sign @ (b'+' | b'-'), hour_tens, hour, b':', minute_tens, minute]
        | [sign @ (b'+' | b'-'), hour_tens, hour, minute_tens, minute] => {
            let minutes = pair([*hour_tens, *hour])? * 60 + pair([*minute_tens, *minute])?;
            let offset = minutes * 60_000_000_000;
            Some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::TimestampReader;

    #[test]
    fn agrees_with_the_library_on_every_form() {
        let mut reader = TimestampReader::default();
        for (text, rfc3339) in [
            ("2023-11-16 18:15:46.6805900", "2023-11-16T18:15:46.68059Z"),
            ("2024-05-10 00:00:00.009930+00:00", "2024-05-10T00:00:00.00993Z"),
            ("2024-05-12 00:00:00+00:00", "2024-05-12T00:00:00Z"),
            ("2024-02-29 23:59:59.999999999+05:30", "2024-02-29T23:59:59.999999999+05:30"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
            ("2000-03-01 00:00:00-08:00", "2000-03-01T00:00:00-08:00"),
        ] {
            let expected: jiff::Timestamp = rfc3339.parse().unwrap();
            assert_eq!(
                reader.read(text.as_bytes()).map(i128::from),
                Some(expected.as_nanosecond()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_zone_is_that_of_times_without_one() {
        let mut reader = TimestampReader::in_zone(Some("+02:00"));
        let noon = 1_767_571_200_000_000_000 + 12 * 3_600_000_000_000;
        assert_eq!(reader.read(b"2026-01-05 14:00:00"), Some(noon));
        assert_eq!(reader.read(b"2026-01-05 12:00:00Z"), Some(noon));
        assert_eq!(reader.read_log(b"05/Jan/2026:14:00:00"), Some(noon));
        assert_eq!(reader.read_log(b"05/Jan/2026:07:00:00.000 -0500"), Some(noon));
        assert_eq!(reader.read(b"2026-01-05 12:00:00+00"), Some(noon));
        assert!(!reader.zone_assumed());
        let mut utc = TimestampReader::default();
        assert_eq!(utc.read(b"2026-01-05 12:00:00"), Some(noon));
        assert!(utc.zone_assumed());
        assert!(super::known_zone("Atlantis").is_err() && super::known_zone("+99:00").is_err());
    }

    #[test]
    fn clocks_that_are_put_forward_and_back() {
        // Not every machine has a table of zones.
        let Ok(zone) = super::known_zone("Europe/Berlin") else { return };
        let mut reader = TimestampReader::in_zone(Some("Europe/Berlin"));
        for hour in 0..24 {
            for date in ["2026-03-29", "2026-10-25", "2026-07-01"] {
                let text = format!("{date} {hour:02}:59:59");
                let civil: jiff::civil::DateTime = text.parse().unwrap();
                let expected = zone.to_ambiguous_timestamp(civil).compatible().unwrap().as_nanosecond();
                assert_eq!(reader.read(text.as_bytes()).map(i128::from), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        let mut reader = TimestampReader::default();
        for text in [
            "",
            "2023-11-16",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "2023-11-16 24:00:00",
            "2023-11-16 18:15:46.",
            "2023-11-16 18:15:46.1234567890",
            "2023-11-16 18:15:46 UTC",
            "9999-12-31 00:00:00",
            "NaN",
            "1700158546",
        ] {
            assert_eq!(reader.read(text.as_bytes()), None, "{text}");
        }
    }
}
