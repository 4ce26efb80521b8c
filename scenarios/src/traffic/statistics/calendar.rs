//! Arrivals by the minute, and what follows: the rate over time, the shape of day and week.
//!
//! Minutes are the calendar's where there is one, so that hours and days are sums of them; the first and the last minute
//! are then parts. 200 days, the longest trace, are 288,000 minutes.

use super::{CalendarFigures, PS_PER_S, RateFigures};

const MINUTE_PS: u64 = 60 * 1_000_000_000_000;
const HOUR_MINUTES: usize = 60;
/// Steps of the series that is shown: no more than a wide plot has columns, twice.
const MOST_STEPS: usize = 1_500;
const WEEK_HOURS: usize = 168;

/// Counts by the minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Minutes {
    /// How far into its first minute the trace starts.
    lead_ps: u64,
    /// Minutes from Monday 0:00 UTC to the first minute.
    first: Option<u64>,
    counts: Vec<u64>,
    end_ps: u64,
}

/// Arrivals and seconds in each hour of the week.
#[derive(Clone, Debug)]
pub(super) struct Week {
    pub(super) counts: [f64; WEEK_HOURS],
    pub(super) seconds: [f64; WEEK_HOURS],
}

impl Minutes {
    pub(super) fn new(epoch_ns: Option<i64>) -> Self {
        const MINUTE_NS: i64 = 60 * 1_000_000_000;
        let Some(epoch_ns) = epoch_ns else { return Self::default() };
        let lead_ps = epoch_ns.rem_euclid(MINUTE_NS).unsigned_abs() * 1000;
        // 1970-01-01 was a Thursday, three days after a Monday.
        let minute = epoch_ns.div_euclid(MINUTE_NS) + 3 * 1_440;
        Self { lead_ps, first: Some(minute.rem_euclid(7 * 1_440).unsigned_abs()), ..Self::default() }
    }

    /// How far into its first hour the trace starts.
    pub(super) fn lead_ps(&self) -> u64 {
        self.lead_ps + self.first.unwrap_or(0) % 60 * MINUTE_PS
    }

    pub(super) fn count(&mut self, at_ps: u64) {
        // At most 200 days of minutes: importers and generators go no further.
        let place = usize::try_from((at_ps + self.lead_ps) / MINUTE_PS).unwrap_or(usize::MAX);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
    }

    pub(super) fn close(&mut self, end_ps: u64) {
        self.end_ps = end_ps;
    }

    pub(super) fn has_calendar(&self) -> bool {
        self.first.is_some()
    }

    /// Where a minute begins, seconds since the start; the first one at 0.
    #[expect(clippy::cast_precision_loss)]
    fn starts_s(&self, minute: usize) -> f64 {
        ((minute as u64 * MINUTE_PS).saturating_sub(self.lead_ps)).min(self.end_ps) as f64 / PS_PER_S
    }

    /// Rates of steps of so many minutes, with their starts; a last part that is shorter than half a step is left out.
    fn steps(&self, minutes: usize) -> (Vec<f64>, Vec<f64>) {
        let (mut at_s, mut per_s) = (Vec::new(), Vec::new());
        // Steps begin on whole multiples of the calendar, so the first may be a part.
        let into = usize::try_from(self.first.unwrap_or(0)).unwrap_or(0) % minutes;
        let mut from = 0;
        while from < self.counts.len() {
            let until = ((from + into) / minutes * minutes + minutes - into).min(self.counts.len());
            let (start, end) = (self.starts_s(from), self.starts_s(until));
            #[expect(clippy::cast_precision_loss)]
            let count = self.counts[from..until].iter().sum::<u64>() as f64;
            #[expect(clippy::cast_precision_loss)]
            if end - start >= 30.0 * minutes as f64 || (per_s.is_empty() && end > start) {
                at_s.push(start);
                per_s.push(count / (end - start));
            }
            from = until;
        }
        (at_s, per_s)
    }

    /// The busiest and the quietest stretch of so many whole minutes: (per second, where it begins), of either.
    #[expect(clippy::cast_precision_loss)]
    fn extremes(&self, minutes: usize) -> Option<[(f64, f64); 2]> {
        let first = usize::from(self.lead_ps > 0);
        let whole = self.counts.get(first..self.counts.len().checked_sub(1)?)?;
        let rate = |count: u64| count as f64 / (60.0 * minutes as f64);
        let mut here: u64 = whole.get(..minutes)?.iter().sum();
        let (mut most, mut least) = ((here, 0), (here, 0));
        for (start, pair) in whole.iter().zip(&whole[minutes..]).enumerate() {
            here = here - pair.0 + pair.1;
            most = if here > most.0 { (here, start + 1) } else { most };
            least = if here < least.0 { (here, start + 1) } else { least };
        }
        Some([most, least].map(|(count, start)| (rate(count), self.starts_s(first + start))))
    }

    #[expect(clippy::cast_precision_loss)]
    pub(super) fn rate(&self, requests: u64, span_s: f64) -> RateFigures {
        let step = [1, 5, 10, 30, 60, 360].into_iter().find(|step| self.counts.len() / step <= MOST_STEPS);
        let step = step.unwrap_or(360);
        let (at_s, per_s) = self.steps(step);
        let ten = self.extremes(10);
        let hour = self.extremes(HOUR_MINUTES);
        RateFigures {
            // Gaps, not arrivals, fill the span; a lone request has no rate.
            mean_per_s: if span_s > 0.0 { requests.saturating_sub(1) as f64 / span_s } else { 0.0 },
            peak_10min_per_s: ten.map(|[most, _]| most.0),
            peak_10min_at_s: ten.map(|[most, _]| most.1),
            peak_hour_per_s: hour.map(|[most, _]| most.0),
            low_hour_per_s: hour.map(|[_, least]| least.0),
            step_s: 60.0 * step as f64,
            at_s,
            per_s,
            hours_per_s: self.steps(HOUR_MINUTES).1,
        }
    }

    /// Arrivals and seconds in each hour of the week; without a calendar as if it had started on a Monday at 0:00.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn week(&self) -> Week {
        let mut week = Week { counts: [0.0; WEEK_HOURS], seconds: [0.0; WEEK_HOURS] };
        let first = usize::try_from(self.first.unwrap_or(0)).unwrap_or(0);
        for (minute, count) in self.counts.iter().enumerate() {
            let hour = (first + minute) / HOUR_MINUTES % WEEK_HOURS;
            week.counts[hour] += *count as f64;
            week.seconds[hour] += self.starts_s(minute + 1) - self.starts_s(minute);
        }
        week
    }

    /// Logarithms of how far whole stretches of 10 minutes are above what is expected of them, by the requests a second at
    /// so many minutes into the week; `None` where fewer than 20 are expected, which would say little.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn levels(&self, expected_per_s: impl Fn(usize) -> f64) -> Vec<Option<f64>> {
        let first = usize::try_from(self.first.unwrap_or(0)).unwrap_or(0);
        // The first and the last minute are parts.
        let from = usize::from(self.lead_ps > 0);
        let from = from + (10 - (first + from) % 10) % 10;
        let whole = self.counts.get(from..self.counts.len().saturating_sub(1)).unwrap_or_default();
        let level = |(place, counts): (usize, &[u64])| {
            let expected = expected_per_s((first + from + place * 10 + 5) % (7 * 1_440)) * 600.0;
            let count = counts.iter().sum::<u64>() as f64;
            (expected >= 20.0 && count > 0.0).then(|| (count / expected).ln())
        };
        whole.chunks_exact(10).enumerate().map(level).collect()
    }

    pub(super) fn calendar(&self) -> CalendarFigures {
        let week = self.week();
        let hour_of_day = |hour: usize| {
            let of = |list: &[f64; WEEK_HOURS]| list[hour..].iter().step_by(24).sum::<f64>();
            (of(&week.seconds) >= 1_800.0).then(|| of(&week.counts) / of(&week.seconds))
        };
        let weekday = |day: usize| {
            let hours = day * 24..(day + 1) * 24;
            // Hours alike, so that a day whose busy half comes twice is not taken for a busier one.
            let rates = hours
                .map(|hour| (week.seconds[hour] >= 1_800.0).then(|| week.counts[hour] / week.seconds[hour]));
            rates.sum::<Option<f64>>().map(|sum| sum / 24.0)
        };
        CalendarFigures {
            hourly_per_s: (0..24).map(hour_of_day).collect(),
            weekday_per_s: (0..7).map(weekday).collect(),
        }
    }
}

impl Week {
    /// Seconds covered in each hour of the day.
    pub(super) fn day_seconds(&self) -> [f64; 24] {
        std::array::from_fn(|hour| self.seconds[hour..].iter().step_by(24).sum())
    }

    /// Whether Saturdays and Sundays have another shape than the other days: more of their requests lie in other hours than
    /// chance would put there.
    pub(super) fn weekend_differs(&self) -> bool {
        let day_seconds = |days: std::ops::Range<usize>| {
            (0..24)
                .map(|hour| days.clone().map(|day| self.seconds[day * 24 + hour]).sum::<f64>())
                .fold(f64::MAX, f64::min)
        };
        if day_seconds(0..5) < 1_800.0 || day_seconds(5..7) < 1_800.0 {
            return false;
        }
        let (working, free) = (self.profile(0..5, true).0, self.profile(5..7, true).0);
        let apart = working.iter().zip(&free).map(|(one, other)| (one - other).abs()).sum::<f64>() / 48.0;
        let fewer = self.counts[..120].iter().sum::<f64>().min(self.counts[120..].iter().sum());
        // Of n independent requests some 2 over the root of n are misplaced so by chance; bursty ones are fewer.
        apart > 0.03 + 4.0 / fewer.max(1.0).sqrt()
    }

    /// The profile of hours and, where wanted, weekdays, their product the rate: the most likely one for counts that are
    /// Poisson, by turns. The mean hour is 1. Only `days` are looked at; every hour of the day must be covered in them.
    pub(super) fn profile(&self, days: std::ops::Range<usize>, weekdays: bool) -> ([f64; 24], [f64; 7]) {
        let (mut hourly, mut daily) = ([1.0; 24], [1.0; 7]);
        let ratio = |count: f64, expected: f64| if expected > 0.0 { count / expected } else { 1.0 };
        // It settles within a few turns where days are whole.
        for _ in 0..50 {
            for (hour, factor) in hourly.iter_mut().enumerate() {
                let days = days.clone();
                let count = days.clone().map(|day| self.counts[day * 24 + hour]).sum();
                *factor = ratio(count, days.map(|day| self.seconds[day * 24 + hour] * daily[day]).sum());
            }
            let mean = hourly.iter().sum::<f64>() / 24.0;
            hourly.iter_mut().for_each(|factor| *factor /= mean.max(f64::MIN_POSITIVE));
            if !weekdays {
                break;
            }
            for day in days.clone() {
                let count = self.counts[day * 24..(day + 1) * 24].iter().sum();
                daily[day] =
                    ratio(count, (0..24).map(|hour| self.seconds[day * 24 + hour] * hourly[hour]).sum());
            }
        }
        (hourly, daily)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000_000;

    /// So many arrivals spread evenly over each hour from an hour of the week on.
    fn hours(first_hour: i64, counts: &[u64]) -> Minutes {
        // 2026-01-05 was a Monday.
        let mut minutes = Minutes::new(Some((1_767_571_200 + first_hour * 3_600) * 1_000_000_000));
        for (hour, count) in counts.iter().enumerate() {
            for tick in 0..*count {
                minutes.count(hour as u64 * 3_600 * S + tick * (3_600 * S / count));
            }
        }
        minutes.close(counts.len() as u64 * 3_600 * S);
        minutes
    }

    #[test]
    fn hours_land_on_the_calendar() {
        // Sunday 22:00 to Monday 2:00.
        let minutes = hours(6 * 24 + 22, &[3_600, 7_200, 36_000, 360]);
        let calendar = minutes.calendar();
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-9;
        assert!(near(calendar.hourly_per_s[22], 1.0) && near(calendar.hourly_per_s[23], 2.0), "{calendar:?}");
        assert!(near(calendar.hourly_per_s[0], 10.0) && near(calendar.hourly_per_s[1], 0.1), "{calendar:?}");
        assert_eq!(calendar.hourly_per_s[2], None);
        assert_eq!(calendar.weekday_per_s, [None; 7], "four hours are no day");
    }

    #[test]
    fn the_peak_is_found_wherever_it_lies() {
        let mut minutes = Minutes::default();
        // Six hours at one a second; from minute 93 on, ten minutes at five.
        for second in 0..21_600_u64 {
            let count = if (5_580..6_180).contains(&second) { 5 } else { 1 };
            (0..count).for_each(|_| minutes.count(second * S));
        }
        minutes.close(21_600 * S);
        let rate = minutes.rate(24_000, 21_600.0);
        assert_eq!((rate.peak_10min_per_s, rate.peak_10min_at_s), (Some(5.0), Some(5_580.0)));
        assert!((rate.peak_hour_per_s.unwrap() - 6_000.0 / 3_600.0).abs() < 1e-9);
        assert_eq!(rate.low_hour_per_s, Some(1.0));
        assert_eq!(rate.hours_per_s.len(), 6);
    }

    #[test]
    fn a_profile_of_days_in_part_is_that_of_the_whole() {
        let shape = |hour: usize| if hour % 24 < 12 { 360 } else { 1_080 };
        let weekend = |hour: usize| if hour % 168 >= 120 { 2 } else { 1 };
        // Ten days from a Wednesday noon.
        let counts: Vec<u64> = (60..300).map(|hour| shape(hour) / weekend(hour)).collect();
        let minutes = hours(60, &counts);
        let (hourly, daily) = minutes.week().profile(0..7, true);
        assert!((hourly[15] / hourly[3] - 3.0).abs() < 1e-6, "{hourly:?}");
        assert!(
            (daily[0] / daily[6] - 2.0).abs() < 1e-6 && (daily[0] / daily[4] - 1.0).abs() < 1e-6,
            "{daily:?}"
        );
        // Wednesday's and Friday's afternoons come twice, and make neither a busier day.
        let weekday = minutes.calendar().weekday_per_s;
        assert!(
            (weekday[2].unwrap() - 0.2).abs() < 1e-9 && (weekday[1].unwrap() - 0.2).abs() < 1e-9,
            "{weekday:?}"
        );
        assert!((weekday[6].unwrap() - 0.1).abs() < 1e-9, "{weekday:?}");
    }
}
