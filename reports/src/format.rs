//! Numbers as people read them, the same everywhere: terminal, HTML, plots.
//!
//! Shares are rounded *down*, so that 98.996 % never reads as the 99 % it missed; everything else is rounded to nearest.

/// What stands for "there is no such number".
pub const NONE: &str = "–";

/// Numbers beyond this are mistakes in the data; they would burst any column.
const ABSURD: f64 = 1e14;

fn sane(value: f64) -> bool {
    value.abs() < ABSURD
}

/// `19366` as `19,366`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 request`, `2 requests`.
#[must_use]
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Three significant digits, thousands separated, no exponent: `5.38`, `0.034`, `12,300`.
#[must_use]
pub fn figure(value: f64) -> String {
    if !sane(value) {
        return NONE.to_owned();
    }
    let size = value.abs();
    if size >= 999.5 {
        // Far below 2^53 for anything a simulation counts; a saturating cast is right for the rest.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = size.round() as u64;
        return format!("{}{}", if value < 0.0 { "-" } else { "" }, count(whole));
    }
    let decimals = match size {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 0.09995 => 3,
        0.0 => 0,
        _ => 4,
    };
    trim(&format!("{value:.decimals$}"))
}

/// A share between 0 and 1 as a percentage, rounded down to two decimals: `99.36 %`.
#[must_use]
pub fn share(share: f64) -> String {
    if sane(share * 1e10) { format!("{} %", percent(share)) } else { NONE.to_owned() }
}

/// The same without the sign, for columns headed `%`.
#[must_use]
pub fn percent(share: f64) -> String {
    if !sane(share * 1e10) {
        return NONE.to_owned();
    }
    // The nudge undoes what 0.993 * 100 loses in binary; it is far below the last digit shown.
    let hundredths = (share * 10_000.0 + 1e-7).floor() / 100.0;
    trim(&format!("{hundredths:.2}"))
}

/// A latency, in the unit that suits it: `34 ms`, `0.21 s`, `12.3 s`, `2 min 5 s`.
#[must_use]
pub fn latency(seconds: f64) -> String {
    if !sane(seconds) {
        NONE.to_owned()
    } else if seconds >= 119.5 {
        duration(seconds)
    } else if seconds.abs() >= 0.0995 || seconds == 0.0 {
        format!("{} s", two_decimals(seconds))
    } else {
        format!("{} ms", figure(seconds * 1e3))
    }
}

/// A time per token, in milliseconds up to a second: `34 ms`, `100 ms`, `1.2 s`.
#[must_use]
pub fn token_time(seconds: f64) -> String {
    if seconds.abs() < 1.0 { format!("{} ms", figure(seconds * 1e3)) } else { latency(seconds) }
}

/// A latency that may not exist.
#[must_use]
pub fn latency_or_none(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| NONE.to_owned(), latency)
}

/// Seconds for a column headed `s`: `0.034`, `0.21`, `12.3`.
#[must_use]
pub fn seconds_cell(seconds: Option<f64>) -> String {
    seconds.filter(|s| sane(*s)).map_or_else(
        || NONE.to_owned(),
        |s| match s.abs() {
            a if a >= 1e6 => format!("{s:.0e}"),
            a if a >= 99.95 => format!("{s:.0}"),
            a if a >= 9.995 => format!("{s:.1}"),
            a if a >= 0.0995 => format!("{s:.2}"),
            _ => format!("{s:.3}"),
        },
    )
}

/// Milliseconds for a column headed `ms`: `34.2`, `212`.
#[must_use]
pub fn millis_cell(seconds: Option<f64>) -> String {
    seconds.filter(|s| sane(*s)).map_or_else(
        || NONE.to_owned(),
        |s| {
            let ms = s * 1e3;
            match ms.abs() {
                a if a >= 1e6 => format!("{ms:.0e}"),
                a if a >= 99.95 => format!("{ms:.0}"),
                _ => format!("{ms:.1}"),
            }
        },
    )
}

/// A length of time: `3.2 s`, `45 s`, `11 min 40 s`, `1 h 5 min`, `2 d 3 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !sane(seconds) {
        return NONE.to_owned();
    }
    if seconds < 0.0 {
        return format!("-{}", duration(-seconds));
    }
    if seconds < 9.95 {
        return format!("{} s", trim(&format!("{seconds:.1}")));
    }
    // Negative and non-finite were answered above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = seconds.round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{} {big_unit}", count(big))
        } else {
            format!("{} {big_unit} {small} {small_unit}", count(big))
        }
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => {
            let minutes = (whole + 30) / 60;
            two(minutes / 60, "h", minutes % 60, "min")
        }
        _ => {
            let hours = (whole + 1_800) / 3_600;
            two(hours / 24, "d", hours % 24, "h")
        }
    }
}

/// `0.21`, `0.2`, `12.3`: at most three significant digits, at most two decimals.
fn two_decimals(value: f64) -> String {
    let decimals = match value.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        _ => 2,
    };
    trim(&format!("{value:.decimals$}"))
}

/// Drops zeros that say nothing: `2.50` is `2.5`, `3.00` is `3`.
pub(crate) fn trim(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// With a capital and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    let mut said = format!("{first}{}", chars.as_str());
    if !said.ends_with(['.', '!', '?', ':']) {
        said.push('.');
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let shown: Vec<_> = [0, 999, 1_000, 19_366, 1_234_567].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "999", "1,000", "19,366", "1,234,567"]);
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(2_000, "request"), "2,000 requests");
    }

    #[test]
    fn a_share_is_never_flattered() {
        assert_eq!(share(0.989_99), "98.99 %");
        assert_eq!(share(0.999_999), "99.99 %");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.993), "99.3 %");
        assert_eq!(share(0.99), "99 %");
        assert_eq!(share(f64::NAN), NONE);
    }

    #[test]
    fn durations_and_latencies_take_the_unit_that_suits_them() {
        let shown: Vec<_> =
            [0.0, 3.21, 45.0, 60.0, 700.0, 3_900.0, 183_600.0].into_iter().map(duration).collect();
        assert_eq!(shown, ["0 s", "3.2 s", "45 s", "1 min", "11 min 40 s", "1 h 5 min", "2 d 3 h"]);
        let shown: Vec<_> = [0.000_5, 0.034, 0.21, 12.34, 125.0].into_iter().map(latency).collect();
        assert_eq!(shown, ["0.5 ms", "34 ms", "0.21 s", "12.3 s", "2 min 5 s"]);
        assert_eq!([0.1, 0.034, 1.2].map(token_time), ["100 ms", "34 ms", "1.2 s"]);
    }

    #[test]
    fn figures_keep_three_digits() {
        let shown: Vec<_> = [0.0, 0.034, 5.379, 99.96, 12_345.6, -2.5].into_iter().map(figure).collect();
        assert_eq!(shown, ["0", "0.034", "5.38", "100", "12,346", "-2.5"]);
    }
}
