//! Calendar timestamps straight from bytes: `2023-11-16 18:15:46.6805900`, `2024-05-12 00:00:00+00:00`.
//!
//! A general parser costs more than the rest of a row. The date is the same for many rows, so its day number is kept.

/// Nanoseconds in a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// From a fraction's digits to nanoseconds.
const TENS: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Reads timestamps; a time without a zone is UTC.
#[derive(Debug, Default)]
pub(crate) struct TimestampReader {
    date: [u8; 10],
    day_start_ns: i64,
}

impl TimestampReader {
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
        self.day_start_ns.checked_add(clock_ns)?.checked_sub(zone_ns(rest)?)
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
        b"" | b"Z" | b"z" | b"+00:00" => Some(0),
        [sign @ (b'+' | b'-'), hour_tens, hour, b':', minute_tens, minute] => {
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
