//! Rates over time in pieces, and their exact inverse integral.
//!
//! ```text
//! rate  ^        /\            the week: straight lines between the middles of hours, times the weekday's factor
//!       |   ____/  \___        (a step at midnight where weekdays differ), by the clock of a time zone
//!       +-----------------> t  half-hour pieces, 336 a week; the integral over a piece is a quadratic
//!
//! Weekly or Series --pieces--> (Modulated) --pieces--> Cursor: area under the rate --inverse--> time
//! ```

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const PIECE_S: f64 = 1800.0;
const PIECES: usize = 7 * 48;
const PIECE_NS: i64 = 1_800 * 1_000_000_000;
const WEEK_NS: i64 = 7 * 86_400 * 1_000_000_000;

/// A stretch of time over which the rate is a straight line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Requests a second at its start.
    pub(crate) start: f64,
    /// Requests a second at its end.
    pub(crate) end: f64,
    /// How long it is.
    pub(crate) seconds: f64,
    /// The same in picoseconds.
    pub(crate) ps: u64,
}

/// Pieces one after the other.
pub(crate) trait Pieces {
    /// The next one; `None` at the end, from where the rate is zero for ever.
    fn next_piece(&mut self) -> Option<Piece>;
}

/// Relative rates of the hours of the day and of weekdays, Monday first; empty ones are flat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape<'a> {
    pub(crate) hourly: &'a [f64],
    /// Saturdays and Sundays; empty: as the other days.
    pub(crate) weekend_hourly: &'a [f64],
    pub(crate) weekday: &'a [f64],
}

/// Requests a second as a function of the time of the week, Monday 0:00 first.
#[derive(Clone, Debug)]
pub(crate) struct WeeklyRate {
    /// Rate at each piece's start and end.
    pieces: Arc<[(f64, f64)]>,
}

impl WeeklyRate {
    /// The shape scaled to a mean of `mean_per_s` over the week.
    pub(crate) fn new(mean_per_s: f64, shape: Shape<'_>) -> Self {
        let mut pieces = Vec::with_capacity(PIECES);
        for day in 0..7 {
            let weekend = day >= 5 && !shape.weekend_hourly.is_empty();
            let hours = if weekend { shape.weekend_hourly } else { shape.hourly };
            let hour_rate = |hour: usize| hours.get(hour % 24).copied().unwrap_or(1.0);
            // Two pieces an hour: up to its middle from the mid-point with the hour before, then on to the next.
            let at_boundary = |hour: usize| f64::midpoint(hour_rate(hour + 23), hour_rate(hour));
            let factor = shape.weekday.get(day).copied().unwrap_or(1.0);
            for hour in 0..24 {
                let middle = hour_rate(hour) * factor;
                pieces.push((at_boundary(hour) * factor, middle));
                pieces.push((middle, at_boundary(hour + 1) * factor));
            }
        }
        #[expect(clippy::cast_precision_loss)]
        let mean = pieces.iter().map(|(start, end)| f64::midpoint(*start, *end)).sum::<f64>() / PIECES as f64;
        for (start, end) in &mut pieces {
            *start *= mean_per_s / mean;
            *end *= mean_per_s / mean;
        }
        Self { pieces: pieces.into() }
    }
}

impl WeeklyRate {
    /// The rate so far into the week.
    pub(crate) fn at(&self, in_week_ns: i64) -> f64 {
        let piece = usize::try_from(in_week_ns / PIECE_NS).map_or(0, |piece| piece % PIECES);
        let (start, end) = self.pieces[piece];
        (start + (end - start) * seconds(in_week_ns % PIECE_NS) / PIECE_S).max(0.0)
    }
}

/// The week's rate from a point in time on, by the clock of a zone.
#[derive(Clone, Debug)]
pub(crate) struct Weekly {
    rate: WeeklyRate,
    /// Absent: UTC, in whole pieces from the one on that the start lies in.
    zone: Option<TimeZone>,
    now_ns: i64,
    /// Where in the week the clock stands.
    in_week_ns: i64,
    /// When the zone's offset changes next.
    change_ns: i64,
}

impl Weekly {
    /// UTC; the first piece is whole, and the start lies so many nanoseconds within it.
    pub(crate) fn utc(rate: WeeklyRate, start_ns: i64) -> (Self, u64) {
        let in_week_ns = in_week(start_ns);
        let lead_ns = in_week_ns % PIECE_NS;
        let weekly = Self {
            rate,
            zone: None,
            now_ns: start_ns.saturating_sub(lead_ns),
            in_week_ns: in_week_ns - lead_ns,
            change_ns: i64::MAX,
        };
        (weekly, lead_ns.unsigned_abs())
    }

    /// By the clock of `zone`; the first piece begins with the start.
    pub(crate) fn zoned(rate: WeeklyRate, start_ns: i64, zone: TimeZone) -> Self {
        let mut weekly =
            Self { rate, zone: Some(zone), now_ns: start_ns, in_week_ns: 0, change_ns: i64::MAX };
        weekly.set_clock();
        weekly
    }

    /// Looks up what the clock shows now and when it is put forward or back next.
    fn set_clock(&mut self) {
        let Some(zone) = &self.zone else { return };
        // Every i64 of nanoseconds lies within what the calendar holds.
        let now = Timestamp::from_nanosecond(i128::from(self.now_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset_ns = i64::from(zone.to_offset(now).seconds()) * 1_000_000_000;
        self.in_week_ns = in_week(self.now_ns.saturating_add(offset_ns));
        let change = zone.following(now).next().map(|change| change.timestamp().as_nanosecond());
        self.change_ns = change.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(i64::MAX);
    }

    /// The rate now.
    pub(crate) fn rate(&self) -> f64 {
        self.rate.at(self.in_week_ns)
    }

    fn piece(&self) -> usize {
        usize::try_from(self.in_week_ns / PIECE_NS).map_or(0, |piece| piece % PIECES)
    }
}

impl Pieces for Weekly {
    fn next_piece(&mut self) -> Option<Piece> {
        let (start, end) = self.rate.pieces[self.piece()];
        let into_ns = self.in_week_ns % PIECE_NS;
        let left_ns = PIECE_NS - into_ns;
        let length_ns = left_ns.min(self.change_ns.saturating_sub(self.now_ns).max(1));
        let at = |offset_ns: i64| start + (end - start) * seconds(offset_ns) / PIECE_S;
        let piece = if length_ns == PIECE_NS {
            Piece { start, end, seconds: PIECE_S, ps: PIECE_NS.unsigned_abs() * 1000 }
        } else {
            Piece {
                start: at(into_ns),
                end: at(into_ns + length_ns),
                seconds: seconds(length_ns),
                ps: length_ns.unsigned_abs() * 1000,
            }
        };
        self.now_ns = self.now_ns.saturating_add(length_ns);
        self.in_week_ns = (self.in_week_ns + length_ns) % WEEK_NS;
        if self.now_ns >= self.change_ns {
            self.set_clock();
        }
        Some(piece)
    }
}

fn in_week(time_ns: i64) -> i64 {
    // 1970-01-01 was a Thursday, three days after a Monday.
    (time_ns.rem_euclid(WEEK_NS) + 3 * 86_400 * 1_000_000_000) % WEEK_NS
}

#[expect(clippy::cast_precision_loss)] // Far below 2^53.
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// A rate in each slot of a series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    rates: Arc<[f64]>,
    slot_s: f64,
    slot_ps: u64,
    next: usize,
}

impl Series {
    /// `slot_ps` is at least 1.
    pub(crate) fn new(rates: Arc<[f64]>, slot_s: f64, slot_ps: u64) -> Self {
        Self { rates, slot_s, slot_ps, next: 0 }
    }
}

impl Pieces for Series {
    fn next_piece(&mut self) -> Option<Piece> {
        let rate = *self.rates.get(self.next)?;
        self.next += 1;
        Some(Piece { start: rate, end: rate, seconds: self.slot_s, ps: self.slot_ps })
    }
}

/// A place in time, moving forward only.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<P> {
    pieces: P,
    piece: Piece,
    /// Seconds into the piece.
    offset_s: f64,
    /// Time since the start at the piece's start; negative parts are kept in `lead_ps`.
    piece_start_ps: u64,
    /// How far into its first piece the start was.
    lead_ps: u64,
}

impl<P: Pieces> Cursor<P> {
    /// Starts so many nanoseconds into the first piece.
    pub(crate) fn new(mut pieces: P, lead_ns: u64) -> Self {
        const NOTHING: Piece = Piece { start: 0.0, end: 0.0, seconds: 0.0, ps: 0 };
        let piece = pieces.next_piece().unwrap_or(NOTHING);
        #[expect(clippy::cast_precision_loss)]
        let offset_s = lead_ns as f64 / 1e9;
        Self { pieces, piece, offset_s, piece_start_ps: 0, lead_ps: lead_ns * 1000 }
    }

    /// Moves on until the integral of the rate has grown by `area`; the time since the start in picoseconds, or `None`
    /// when that is after `end_ps` or the pieces.
    #[inline]
    pub(crate) fn advance(&mut self, mut area: f64, end_ps: u64) -> Option<u64> {
        loop {
            let Piece { start, end, seconds, ps } = self.piece;
            let slope = (end - start) / seconds;
            let here = (start + slope * self.offset_s).max(0.0);
            let rest_s = seconds - self.offset_s;
            let rest_area = f64::midpoint(here, end) * rest_s;
            if area < rest_area {
                // The smaller root of slope/2 x^2 + here x = area, in the form that loses no digits.
                let root = (here * here + 2.0 * slope * area).max(0.0).sqrt();
                // No area at no rate is no time; bursty gaps are often so small.
                let step = if here + root > 0.0 { 2.0 * area / (here + root) } else { 0.0 };
                self.offset_s = (self.offset_s + step).min(seconds);
                let at_ps = self.now_ps();
                return (at_ps < end_ps).then_some(at_ps);
            }
            area -= rest_area;
            self.piece_start_ps = self.piece_start_ps.saturating_add(ps);
            self.offset_s = 0.0;
            if self.now_ps() >= end_ps {
                return None;
            }
            self.piece = self.pieces.next_piece()?;
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Within a piece.
    fn now_ps(&self) -> u64 {
        (self.piece_start_ps + (self.offset_s * 1e12) as u64).saturating_sub(self.lead_ps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_PS: u64 = 3_600 * 1_000_000_000_000;

    #[test]
    fn a_flat_rate_is_a_straight_line() {
        let (weekly, lead) = Weekly::utc(WeeklyRate::new(2.0, Shape::default()), 12_345_678_900);
        let mut cursor = Cursor::new(weekly, lead);
        let mut time = 0;
        for _ in 0..100_000 {
            time = cursor.advance(1.0, u64::MAX).unwrap();
        }
        assert!(time.abs_diff(50_000 * 1_000_000_000_000) < 1_000_000, "{time}");
    }

    #[test]
    fn the_inverse_meets_the_integral_of_a_profile() {
        let hourly: Vec<f64> = (0..24).map(|hour| f64::from(hour % 5)).collect();
        let weekend_hourly: Vec<f64> = (0..24).map(|hour| f64::from(hour % 3)).collect();
        let weekday = [1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.25];
        for weekend_hourly in [&[][..], &weekend_hourly] {
            let shape = Shape { hourly: &hourly, weekend_hourly, weekday: &weekday };
            let rate = WeeklyRate::new(3.0, shape);
            // One whole week's area, in steps that don't divide the pieces, ends a week later.
            let (weekly, lead) = Weekly::utc(rate, 0);
            let mut cursor = Cursor::new(weekly, lead);
            let week_s = 7.0 * 86_400.0;
            let steps = 99_991;
            let mut last = 0;
            for _ in 0..steps {
                let now = cursor.advance(3.0 * week_s / f64::from(steps), u64::MAX).unwrap();
                assert!(now >= last);
                last = now;
            }
            assert!((last as f64 / 1e12 - week_s).abs() < 1.0, "{last}");
        }
    }

    /// The area up to each hour of the trace, by adding up pieces.
    fn by_hour(mut pieces: impl Pieces, hours: usize) -> Vec<f64> {
        let mut found = vec![0.0; hours];
        let mut at_ps = 0;
        while let Some(piece) = pieces.next_piece() {
            let Some(hour) = found.get_mut(usize::try_from(at_ps / HOUR_PS).unwrap()) else { break };
            *hour += f64::midpoint(piece.start, piece.end) * piece.seconds / 3_600.0;
            at_ps += piece.ps;
        }
        found
    }

    #[test]
    fn hours_are_those_of_the_zone_and_follow_its_clock() {
        // Not every machine has a table of zones.
        let Ok(berlin) = super::super::known_zone("Europe/Berlin") else { return };
        let mut hourly = [1.0; 24];
        hourly[9] = 11.0;
        let rate = WeeklyRate::new(1.0, Shape { hourly: &hourly, ..Shape::default() });
        let busiest = |start: &str, hours: usize| {
            let start: Timestamp = start.parse().unwrap();
            let start = i64::try_from(start.as_nanosecond()).unwrap();
            let found = by_hour(Weekly::zoned(rate.clone(), start, berlin.clone()), hours);
            let busiest = (0..hours).max_by(|one, other| found[*one].total_cmp(&found[*other]));
            (busiest.unwrap(), found)
        };
        // Nine in Berlin is eight in UTC in winter, seven in summer.
        assert_eq!(busiest("2026-01-14T00:00:00Z", 24).0, 8);
        assert_eq!(busiest("2026-07-15T00:00:00Z", 24).0, 7);
        // Clocks go forward at 1:00 UTC on 2026-03-29, and back on 2026-10-25: the day before and the day itself.
        for (start, day_before, the_day) in
            [("2026-03-28T00:00:00Z", 8, 24 + 7), ("2026-10-24T00:00:00Z", 7, 24 + 8)]
        {
            let (_, found) = busiest(start, 48);
            let peak = found.iter().copied().fold(0.0, f64::max);
            assert!(
                (found[day_before] - peak).abs() < 1e-9 && (found[the_day] - peak).abs() < 1e-9,
                "{found:?}"
            );
        }
        // A start within a piece, and a zone that is no whole number of half hours away.
        let nepal = super::super::known_zone("+05:45").unwrap();
        let start = 1_768_378_200_000_000_000 + 123_456_789;
        let weekly = Weekly::zoned(rate.clone(), start, nepal);
        let here = weekly.rate();
        let first = weekly.clone().next_piece().unwrap();
        assert!((first.start - here).abs() < 1e-12 && first.seconds < 1800.0);
        let whole: f64 = by_hour(weekly, 24 * 7).iter().sum();
        assert!((whole / 168.0 - 1.0).abs() < 0.002, "{whole}");
    }

    #[test]
    fn a_series_ends() {
        let rates: Arc<[f64]> = vec![1.0, 0.0, 3.0].into();
        let mut cursor = Cursor::new(Series::new(rates, 10.0, 10_000_000_000_000), 0);
        let times: Vec<u64> = std::iter::from_fn(|| cursor.advance(2.4, u64::MAX)).collect();
        // 10 before the gap, 30 after it: 2.4 s apart, then 0.8 s; the one that spans the gap is two thirds into the rest.
        assert_eq!(times.len(), 16);
        assert!(
            times[3].abs_diff(9_600_000_000_000) < 10 && times[4].abs_diff(20_666_666_666_667) < 10,
            "{times:?}"
        );
    }
}
