//! A trace in a terminal: never wider than 80 columns.

use std::fmt::Write as _;

use slackwater_scenarios::traffic::statistics::{Comparison, LengthFigures, TraceFigures};

use super::{distances, file_name, pairs, ratio};
use crate::clock::Clock;
use crate::format::{NONE, count, counted, duration, figure, share};

const COLUMNS: usize = 80;
/// Columns of a sparkline under its heading.
const SPARK: usize = COLUMNS - 4;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What a trace is like.
#[must_use]
pub fn trace_text(figures: &TraceFigures) -> String {
    let mut out = String::new();
    head(&mut out, figures);
    rate(&mut out, figures);
    lengths(&mut out, figures);
    arrivals(&mut out, figures);
    if let Some(prefixes) = &figures.prefixes {
        let about = if prefixes.sampled < 1.0 { "about " } else { "" };
        paragraph(
            &mut out,
            &format!(
                "prefixes: {about}{} of prompt tokens lie in blocks seen before (a cache that forgets nothing); {about}{} \
                 of requests go on beyond a first block together with an earlier one",
                share(prefixes.seen_share),
                share(prefixes.follow_up_share)
            ),
        );
    }
    for warning in figures.import.warnings() {
        paragraph(&mut out, &format!("warning: {warning}"));
    }
    out.truncate(out.trim_end().len());
    out
}

/// How far a trace is from another.
#[must_use]
pub fn comparison_text(comparison: &Comparison) -> String {
    let (here, there) = (file_name(&comparison.here, 23), file_name(&comparison.there, 23));
    let mut out = String::new();
    let _ = writeln!(out, "{:<30}{here:>25}{there:>25}", "compared");
    for (name, pair) in pairs(comparison) {
        let _ = writeln!(out, "{name:<30}{:>25}{:>25}", ratio(pair.here), ratio(pair.there));
    }
    let _ = writeln!(out, "\ndistance, from 0 (alike) to 1");
    for (name, distance) in distances(comparison) {
        let distance = distance.map_or_else(|| NONE.to_owned(), |distance| format!("{distance:.3}"));
        let _ = writeln!(out, "{name:<52}{distance:>28}");
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn head(out: &mut String, figures: &TraceFigures) {
    let import = &figures.import;
    let _ = writeln!(out, "{} ({})", file_name(&import.source, 50), import.format);
    let mut text = format!("{} in {}", counted(figures.requests, "request"), duration(figures.span_s));
    if import.rows != figures.requests {
        let _ = write!(text, ", of {}", counted(import.rows, "row"));
    }
    if let Some(epoch_ns) = import.epoch_ns {
        let from = Clock::starting(Some(epoch_ns), f64::INFINITY);
        let _ = write!(text, ", from {} UTC", from.date(0.0));
    }
    paragraph(out, &text);
}

fn rate(out: &mut String, figures: &TraceFigures) {
    let rate = &figures.rate;
    let clock = Clock::starting(figures.import.epoch_ns, figures.span_s);
    let cell = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), figure);
    let _ = writeln!(
        out,
        "{:<22}{:>10}{:>16}{:>14}{:>16}",
        "requests a second", "mean", "busiest 10 min", "busiest hour", "quietest hour"
    );
    let _ = writeln!(
        out,
        "{:<22}{:>10}{:>16}{:>14}{:>16}",
        "",
        figure(rate.mean_per_s),
        cell(rate.peak_10min_per_s),
        cell(rate.peak_hour_per_s),
        cell(rate.low_hour_per_s)
    );
    if rate.per_s.len() > 1 {
        let values: Vec<Option<f64>> = rate.per_s.iter().copied().map(Some).collect();
        let line = spark(&pooled(&values, SPARK));
        let (from, until) = (clock.cell(0.0), clock.cell(figures.span_s));
        let room = line.chars().count().max(from.chars().count() + until.chars().count() + 2);
        let _ = writeln!(out, "  {line}\n  {from}{until:>width$}", width = room - from.chars().count());
    }
    out.push('\n');
    let Some(calendar) = &figures.calendar else { return };
    if known(&calendar.hourly_per_s) >= 6 {
        let days = if known(&calendar.weekday_per_s) >= 2 { "Mon ... Sun" } else { "" };
        let _ = writeln!(out, "  {:<36}{days}", "hour of the day, UTC: 0 ... 23");
        let week = if days.is_empty() { String::new() } else { spark(&wide(&calendar.weekday_per_s, 2)) };
        let _ = writeln!(out, "  {:<36}{week}\n", spark(&calendar.hourly_per_s));
    }
}

fn lengths(out: &mut String, figures: &TraceFigures) {
    let line = |name: &str, cells: [&str; 6]| {
        cells.iter().fold(format!("{name:<20}"), |line, cell| line + &format!("{cell:>10}"))
    };
    let _ = writeln!(out, "{}", line("tokens", ["mean", "p50", "p90", "p99", "least", "most"]));
    for (name, of) in [("prompt", &figures.input), ("output", &figures.output)] {
        let LengthFigures { mean, least, p50, p90, p99, most, .. } = of;
        let counts = [p50, p90, p99, least, most].map(|length| count(u64::from(*length)));
        let [p50, p90, p99, least, most] = counts.each_ref().map(String::as_str);
        let _ = writeln!(out, "{}", line(name, [&figure(*mean), p50, p90, p99, least, most]));
    }
    let _ = writeln!(out, "{:<38}{:>12}\n", "their rank correlation", ratio(figures.rank_correlation));
}

fn arrivals(out: &mut String, figures: &TraceFigures) {
    let arrivals = &figures.arrivals;
    let _ = writeln!(
        out,
        "{:<20}{:>10}{:>14}{:>16}{:>10}{:>10}",
        "arrivals", "CV of gaps", "within hours", "dispersion 1 s", "10 s", "60 s"
    );
    let _ = writeln!(
        out,
        "{:<20}{:>10}{:>14}{:>16}{:>10}{:>10}\n",
        "(Poisson: 1)",
        ratio(arrivals.cv),
        ratio(arrivals.cv_within_hours),
        ratio(arrivals.dispersion_1s),
        ratio(arrivals.dispersion_10s),
        ratio(arrivals.dispersion_60s)
    );
    if let Some(index) = arrivals.dispersion_at_once {
        paragraph(
            out,
            &format!(
                "times are quantised: the counts at each time have a dispersion of {}, and that, not the line above, says \
                 how bursty arrivals are",
                ratio(Some(index))
            ),
        );
    }
}

fn paragraph(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}\n", textwrap::fill(text, COLUMNS));
}

fn known(values: &[Option<f64>]) -> usize {
    values.iter().flatten().count()
}

/// Every value so many times.
fn wide(values: &[Option<f64>], times: usize) -> Vec<Option<f64>> {
    values.iter().flat_map(|value| std::iter::repeat_n(*value, times)).collect()
}

/// The means of so many stretches, or the values where there are fewer.
fn pooled(values: &[Option<f64>], most: usize) -> Vec<Option<f64>> {
    let columns = values.len().min(most);
    let column = |place: usize| {
        let part = &values[place * values.len() / columns..(place + 1) * values.len() / columns];
        (known(part) > 0).then(|| part.iter().flatten().sum::<f64>() / known(part) as f64)
    };
    (0..columns).map(column).collect()
}

/// Bars from 0 to the greatest value; a dot where there is none.
fn spark(values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: f64| {
        // Between 0 and 7 by the clamp.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let height = (value / most * 8.0).ceil().clamp(1.0, 8.0) as usize - 1;
        BARS[height]
    };
    values.iter().map(|value| value.map_or('·', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        assert_eq!(spark(&[Some(0.0), Some(4.0), None, Some(8.0)]), "▁▄·█");
        assert_eq!(spark(&[Some(0.0); 2]), "▁▁");
        assert_eq!(pooled(&[Some(1.0), Some(3.0), Some(5.0), None], 2), [Some(2.0), Some(5.0)]);
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(file_name("/a/b/requests.csv.gz", 20), "requests.csv.gz");
        assert_eq!(file_name("/a/0123456789", 5), "0123…");
        assert!(!file_name("a\u{1b}[2Jb", 20).contains('\u{1b}'));
    }
}
