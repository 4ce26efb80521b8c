//! Starts by day and time of day.

use jiff::civil::Date;
use slackwater_planner::planned::{Planned, StartVerdict, Verdict};

use super::when;

const DAY_S: f64 = 86_400.0;

/// The starts of one local day.
pub(super) struct Day<'a> {
    /// `Mon 5 Jan`, or `day 1` without a calendar.
    pub(super) label: String,
    /// Hours since midnight by the wall clock, and the start, in the order of time.
    pub(super) starts: Vec<(f64, &'a StartVerdict)>,
}

/// All days of the horizon that have starts.
pub(super) fn days(planned: &Planned) -> Vec<Day<'_>> {
    let mut days: Vec<(Option<Date>, Day<'_>)> = Vec::new();
    for start in planned.windows.iter().filter(|start| start.start_s.is_finite()) {
        let (date, label, hour) = match when::local(&start.start) {
            Some(at) => {
                let time = at.time();
                let hour = f64::from(time.hour()) + f64::from(time.minute()) / 60.0;
                (Some(at.date()), at.strftime("%a %-d %b").to_string(), hour)
            }
            None => {
                let day = (start.start_s / DAY_S).floor();
                (None, format!("day {:.0}", day + 1.0), (start.start_s - day * DAY_S) / 3_600.0)
            }
        };
        match days.last_mut() {
            Some((last, day)) if *last == date && day.label == label => day.starts.push((hour, start)),
            _ => days.push((date, Day { label, starts: vec![(hour, start)] })),
        }
    }
    days.into_iter().map(|(_, day)| day).collect()
}

/// An hour of a day as one sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hour {
    /// No start was tried.
    Empty,
    /// At least one start is certified.
    Safe,
    /// No future missed.
    Clean,
    /// Of some starts no future missed, of others some.
    Mixed,
    /// Some futures missed, whichever start.
    Risky,
    /// Every start is shown to be above the budget.
    Unsafe,
}

impl Hour {
    /// One column of text.
    pub(super) const fn sign(self) -> char {
        match self {
            Hour::Empty => ' ',
            Hour::Safe => 'S',
            Hour::Clean => '.',
            Hour::Mixed => '-',
            Hour::Risky => 'o',
            Hour::Unsafe => '#',
        }
    }
}

/// The hours of a day.
pub(super) fn hours(day: &Day<'_>) -> [Hour; 24] {
    let mut hours = [Hour::Empty; 24];
    for (number, sign) in (0_u8..).zip(&mut hours) {
        let from = f64::from(number);
        let within: Vec<&StartVerdict> = day
            .starts
            .iter()
            .filter(|(at, _)| *at >= from && *at < from + 1.0)
            .map(|(_, start)| *start)
            .collect();
        let clean = within.iter().filter(|start| start.risk.misses == 0).count();
        *sign = if within.is_empty() {
            Hour::Empty
        } else if within.iter().any(|start| start.verdict == Verdict::Safe) {
            Hour::Safe
        } else if within.iter().all(|start| start.verdict == Verdict::Unsafe) {
            Hour::Unsafe
        } else if clean == within.len() {
            Hour::Clean
        } else if clean > 0 {
            Hour::Mixed
        } else {
            Hour::Risky
        };
    }
    hours
}
