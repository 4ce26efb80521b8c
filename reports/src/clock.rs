//! Seconds since the start of the traffic, in words: on the calendar (UTC, or a zone that is asked for) where the traffic has one,
//! else counted from its start.

use jiff::{Timestamp, tz::TimeZone};
use slackwater_sim::TrafficFacts;

use crate::format::duration;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// Says when things happened.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Seconds since the Unix epoch at time 0.
    epoch_s: Option<f64>,
    zone: TimeZone,
    /// Whether a time of day alone would be ambiguous.
    many_days: bool,
}

impl Clock {
    /// The clock of this traffic.
    #[must_use]
    pub fn of(traffic: &TrafficFacts) -> Clock {
        // Nanoseconds to seconds: a double holds today's date to better than a microsecond, far below anything shown.
        let epoch_s = traffic.epoch.map(|t| t.as_nanos() as f64 / 1e9).filter(|s| s + traffic.span_s < 2e11);
        Clock { epoch_s, zone: TimeZone::UTC, many_days: traffic.span_s > DAY }
    }

    /// The clock of traffic whose time 0 is so many nanoseconds after the Unix epoch, if it is known.
    #[must_use]
    pub fn starting(epoch_ns: Option<i64>, span_s: f64) -> Clock {
        Clock { epoch_s: epoch_ns.map(|ns| ns as f64 / 1e9), zone: TimeZone::UTC, many_days: span_s > DAY }
    }

    /// The same in a zone: a name of the IANA's, or an offset. One that is not known is taken for UTC.
    #[must_use]
    pub fn in_zone(self, name: &str) -> Clock {
        Clock { zone: slackwater_scenarios::time::zone(name).unwrap_or(TimeZone::UTC), ..self }
    }

    /// Of all times it tells.
    fn zone_name(&self) -> String {
        if self.zone == TimeZone::UTC {
            return "UTC".to_owned();
        }
        self.zone
            .iana_name()
            .map_or_else(|| self.calendar(self.epoch_s.unwrap_or(0.0), "UTC%:z"), str::to_owned)
    }

    fn calendar(&self, unix_s: f64, format: &str) -> String {
        // Rounded to whole seconds; out of range is answered with the plain number.
        #[allow(clippy::cast_possible_truncation)]
        let second = unix_s.round() as i64;
        Timestamp::from_second(second)
            .map(|t| t.to_zoned(self.zone.clone()).strftime(format).to_string())
            .unwrap_or_else(|_| format!("{unix_s:.0}"))
    }

    /// Seconds by which the zone is ahead of UTC.
    fn ahead_s(&self, unix_s: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation)] // whole seconds; saturating is right beyond
        let second = unix_s.round() as i64;
        Timestamp::from_second(second).map_or(0.0, |t| f64::from(self.zone.to_offset(t).seconds()))
    }

    /// Day and time: `16 Nov 2023, 15:04:10`, or as in [`cell`](Self::cell) without a calendar.
    #[must_use]
    pub fn date(&self, at_s: f64) -> String {
        self.epoch_s
            .map_or_else(|| self.cell(at_s), |epoch| self.calendar(epoch + at_s, "%-d %b %Y, %H:%M:%S"))
    }

    /// A clock that counts from the start of the traffic.
    #[must_use]
    pub const fn relative() -> Clock {
        Clock { epoch_s: None, zone: TimeZone::UTC, many_days: false }
    }

    /// For a table: `15:04:10`, `16 Nov 15:04:10`, or `0:24:10` since the start.
    #[must_use]
    pub fn cell(&self, at_s: f64) -> String {
        match self.epoch_s {
            _ if !at_s.is_finite() => crate::format::NONE.to_owned(),
            Some(epoch) if self.many_days => self.calendar(epoch + at_s, "%-d %b %H:%M:%S"),
            Some(epoch) => self.calendar(epoch + at_s, "%H:%M:%S"),
            None => h_mm_ss(at_s),
        }
    }

    /// After "rolling": `at 15:00 UTC`, `on 16 Nov at 15:00 UTC`, `20 min into the traffic`.
    #[must_use]
    pub fn phrase(&self, at_s: f64) -> String {
        match self.epoch_s {
            _ if !at_s.is_finite() => "at an unknown time".to_owned(),
            Some(epoch) if self.many_days => {
                format!("on {} {}", self.calendar(epoch + at_s, "%-d %b at %H:%M"), self.zone_name())
            }
            Some(epoch) => format!("at {} {}", self.calendar(epoch + at_s, "%H:%M"), self.zone_name()),
            None if at_s < 1.0 => "at the start of the traffic".to_owned(),
            None => format!("{} into the traffic", duration(at_s)),
        }
    }

    /// What table cells are: for a column head or a caption.
    #[must_use]
    pub fn cell_unit(&self) -> String {
        if self.epoch_s.is_some() { self.zone_name() } else { "h:mm:ss since the start".to_owned() }
    }

    /// Ticks between two times, at sane places, no more than `most`, and what the labels mean.
    #[must_use]
    pub fn ticks(&self, from_s: f64, until_s: f64, most: usize) -> TimeTicks {
        let span = (until_s - from_s).max(1e-3);
        let step = step_for(span, most.max(2));
        // On the calendar, ticks fall on whole hours and days of the calendar, wherever the traffic starts.
        let origin = self.epoch_s.map_or(0.0, |epoch| epoch + self.ahead_s(epoch + from_s));
        let first = ((from_s + origin) / step).ceil() * step - origin;
        let mut marks = Vec::new();
        for i in 0..=most.max(2) * 2 {
            let at = first + i as f64 * step;
            if at > until_s + step * 1e-6 {
                break;
            }
            marks.push((at, self.tick_label(at, step)));
        }
        TimeTicks { marks, title: self.axis_title(from_s, step) }
    }

    fn tick_label(&self, at_s: f64, step: f64) -> String {
        let Some(epoch) = self.epoch_s else {
            return if step < 1.0 {
                format!("{at_s:.1}")
            } else if step < MINUTE {
                m_ss(at_s)
            } else if step < DAY {
                h_mm(at_s)
            } else {
                format!("{:.0}", at_s / DAY)
            };
        };
        let absolute = epoch + at_s;
        let local = absolute + self.ahead_s(absolute);
        let midnight = (local / DAY - (local / DAY).round()).abs() * DAY < 0.5;
        if step < 1.0 {
            format!("{:.1}", absolute.rem_euclid(MINUTE))
        } else if step >= DAY || (midnight && step >= HOUR) {
            self.calendar(absolute, "%-d %b")
        } else if step < MINUTE {
            self.calendar(absolute, "%H:%M:%S")
        } else {
            self.calendar(absolute, "%H:%M")
        }
    }

    fn axis_title(&self, from_s: f64, step: f64) -> String {
        match self.epoch_s {
            Some(epoch) if step >= HOUR => {
                format!("date and time, {}, {}", self.zone_name(), self.calendar(epoch + from_s, "%Y"))
            }
            Some(epoch) => {
                format!("time of day, {}, {}", self.zone_name(), self.calendar(epoch + from_s, "%-d %b %Y"))
            }
            None if step < 1.0 => "seconds since the start of the traffic".to_owned(),
            None if step < MINUTE => "time since the start of the traffic, min:s".to_owned(),
            None if step < DAY => "time since the start of the traffic, h:min".to_owned(),
            None => "days since the start of the traffic".to_owned(),
        }
    }
}

/// Where the ticks of a time axis are, and what their labels mean.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeTicks {
    /// Seconds since the start of the traffic, and the label there.
    pub marks: Vec<(f64, String)>,
    /// The axis title, with the unit.
    pub title: String,
}

fn step_for(span: f64, most: usize) -> f64 {
    const STEPS: [f64; 24] = [
        0.1,
        0.2,
        0.5,
        1.0,
        2.0,
        5.0,
        10.0,
        15.0,
        30.0,
        MINUTE,
        2.0 * MINUTE,
        5.0 * MINUTE,
        10.0 * MINUTE,
        15.0 * MINUTE,
        30.0 * MINUTE,
        HOUR,
        2.0 * HOUR,
        3.0 * HOUR,
        6.0 * HOUR,
        12.0 * HOUR,
        DAY,
        2.0 * DAY,
        7.0 * DAY,
        28.0 * DAY,
    ];
    let wanted = span / most as f64;
    STEPS.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| (wanted / DAY).ceil() * DAY)
}

fn whole_seconds(at_s: f64) -> (bool, u64) {
    // Rounded, checked finite by the callers; a saturating cast is right beyond.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (at_s <= -0.5, at_s.abs().round() as u64)
}

fn h_mm_ss(at_s: f64) -> String {
    let (negative, s) = whole_seconds(at_s);
    format!("{}{}:{:02}:{:02}", if negative { "-" } else { "" }, s / 3_600, s / 60 % 60, s % 60)
}

fn h_mm(at_s: f64) -> String {
    let (negative, s) = whole_seconds(at_s);
    format!("{}{}:{:02}", if negative { "-" } else { "" }, s / 3_600, s / 60 % 60)
}

fn m_ss(at_s: f64) -> String {
    let (negative, s) = whole_seconds(at_s);
    format!("{}{}:{:02}", if negative { "-" } else { "" }, s / 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(clock: &Clock, from: f64, until: f64) -> Vec<String> {
        clock.ticks(from, until, 8).marks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_at_sane_times_over_any_span() {
        let clock = Clock::relative();
        assert_eq!(labels(&clock, 0.0, 60.0), ["0:00", "0:10", "0:20", "0:30", "0:40", "0:50", "1:00"]);
        assert_eq!(labels(&clock, 0.0, 3_600.0), ["0:00", "0:10", "0:20", "0:30", "0:40", "0:50", "1:00"]);
        assert_eq!(labels(&clock, 0.0, 7.0 * DAY), ["0", "1", "2", "3", "4", "5", "6", "7"]);
        for span in [0.0, 0.3, 3.0, 1e3, 1e5, 1e6, 1e9] {
            assert!(clock.ticks(0.0, span, 8).marks.len() <= 9, "{span}");
        }
    }

    #[test]
    fn a_calendar_is_used_when_there_is_one() {
        // 2023-11-16T18:15:46Z, an hour.
        let clock = Clock::starting(Some(1_700_158_546_000_000_000), 3_600.0);
        assert_eq!(labels(&clock, 0.0, 3_600.0)[..2], ["18:20", "18:30"]);
        assert_eq!(clock.phrase(0.0), "at 18:15 UTC");
        assert_eq!(clock.cell(14.0), "18:16:00");
        let week = Clock::starting(Some(1_700_158_546_000_000_000), 7.0 * DAY);
        assert_eq!(labels(&week, 0.0, 7.0 * DAY)[0], "17 Nov");
        assert_eq!(week.phrase(0.0), "on 16 Nov at 18:15 UTC");
        // Ticks fall on the zone's own hours, which are half an hour off those of UTC.
        let ahead = clock.in_zone("+05:30");
        assert_eq!(labels(&ahead, 0.0, 7_200.0)[..2], ["00:00", "00:15"]);
        assert_eq!(ahead.phrase(0.0), "at 23:45 UTC+05:30");
        assert_eq!(ahead.ticks(0.0, 3_600.0, 8).title, "time of day, UTC+05:30, 16 Nov 2023");
        assert_eq!(labels(&week.in_zone("+05:30"), 0.0, 7.0 * DAY)[0], "17 Nov");
    }

    #[test]
    fn without_a_calendar_time_is_counted_from_the_start() {
        assert_eq!(Clock::relative().phrase(1_200.0), "20 min into the traffic");
        assert_eq!(Clock::relative().phrase(0.0), "at the start of the traffic");
        assert_eq!(Clock::relative().cell(4_210.0), "1:10:10");
        assert_eq!(Clock::relative().cell(f64::NAN), "–");
    }
}
