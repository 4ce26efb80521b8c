//! The rate over a week and its exact inverse integral.
//!
//! ```text
//! rate  ^        /\            straight lines between the middles of hours, times the weekday's factor
//!       |   ____/  \___        (a step at midnight where weekdays differ)
//!       +-----------------> t  half-hour pieces, 336 a week; the integral over a piece is a quadratic
//! ```

const PIECE_S: f64 = 1800.0;
const PIECES: usize = 7 * 48;
const PIECE_PS: u64 = 1_800 * 1_000_000_000_000;

/// Requests a second as a function of the time of the week, Monday 0:00 UTC first.
#[derive(Clone, Debug)]
pub(crate) struct WeeklyRate {
    /// Rate at each piece's start and end.
    pieces: Vec<(f64, f64)>,
}

impl WeeklyRate {
    /// The profile scaled to a mean of `mean_per_s` over the week. Empty profiles are flat.
    pub(crate) fn new(mean_per_s: f64, hourly: &[f64], weekday: &[f64]) -> Self {
        let hour_rate = |hour: usize| hourly.get(hour % 24).copied().unwrap_or(1.0);
        // Two pieces an hour: up to its middle from the mid-point with the hour before, then on to the next.
        let at_boundary = |hour: usize| f64::midpoint(hour_rate(hour + 23), hour_rate(hour));
        let mut pieces = Vec::with_capacity(PIECES);
        for day in 0..7 {
            let factor = weekday.get(day).copied().unwrap_or(1.0);
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
        Self { pieces }
    }
}

/// A place in the week, moving forward only.
#[derive(Clone, Debug)]
pub(crate) struct RateCursor {
    rate: WeeklyRate,
    piece: usize,
    /// Seconds into the piece.
    offset_s: f64,
    /// Time since the start at the piece's start; negative parts are kept in `lead_ps`.
    piece_start_ps: u64,
    /// How far into its first piece the start was.
    lead_ps: u64,
}

impl RateCursor {
    /// Starts at a point in time.
    pub(crate) fn new(rate: WeeklyRate, start_ns: i64) -> Self {
        const WEEK_NS: i64 = 7 * 86_400 * 1_000_000_000;
        const PIECE_NS: i64 = 1_800 * 1_000_000_000;
        // 1970-01-01 was a Thursday, three days after a Monday.
        let in_week = (start_ns.rem_euclid(WEEK_NS) + 3 * 86_400 * 1_000_000_000) % WEEK_NS;
        let piece = usize::try_from(in_week / PIECE_NS).unwrap_or(0);
        let lead_ns = u64::try_from(in_week % PIECE_NS).unwrap_or(0);
        #[expect(clippy::cast_precision_loss)]
        let offset_s = lead_ns as f64 / 1e9;
        Self { rate, piece, offset_s, piece_start_ps: 0, lead_ps: lead_ns * 1000 }
    }

    /// The rate here.
    pub(crate) fn rate(&self) -> f64 {
        let (start, end) = self.rate.pieces[self.piece];
        (start + (end - start) * self.offset_s / PIECE_S).max(0.0)
    }

    /// Moves on until the integral of the rate has grown by `area`; the time since the start in picoseconds, or `None`
    /// when that is after `end_ps`.
    pub(crate) fn advance(&mut self, mut area: f64, end_ps: u64) -> Option<u64> {
        loop {
            let (start, end) = self.rate.pieces[self.piece];
            let slope = (end - start) / PIECE_S;
            let here = (start + slope * self.offset_s).max(0.0);
            let rest_s = PIECE_S - self.offset_s;
            let rest_area = f64::midpoint(here, end) * rest_s;
            if area < rest_area {
                // The smaller root of slope/2 x^2 + here x = area, in the form that loses no digits.
                let root = (here * here + 2.0 * slope * area).max(0.0).sqrt();
                // No area at no rate is no time; bursty gaps are often so small.
                let step = if here + root > 0.0 { 2.0 * area / (here + root) } else { 0.0 };
                self.offset_s = (self.offset_s + step).min(PIECE_S);
                let at_ps = self.now_ps();
                return (at_ps < end_ps).then_some(at_ps);
            }
            area -= rest_area;
            self.piece = (self.piece + 1) % PIECES;
            self.offset_s = 0.0;
            self.piece_start_ps += PIECE_PS;
            if self.now_ps() >= end_ps {
                return None;
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 1800 s.
    fn now_ps(&self) -> u64 {
        (self.piece_start_ps + (self.offset_s * 1e12) as u64).saturating_sub(self.lead_ps)
    }
}

#[cfg(test)]
mod tests {
    use super::{RateCursor, WeeklyRate};

    #[test]
    fn a_flat_rate_is_a_straight_line() {
        let mut cursor = RateCursor::new(WeeklyRate::new(2.0, &[], &[]), 12_345_678_900);
        let mut time = 0;
        for _ in 0..100_000 {
            time = cursor.advance(1.0, u64::MAX).unwrap();
        }
        assert!(time.abs_diff(50_000 * 1_000_000_000_000) < 1_000_000, "{time}");
    }

    #[test]
    fn the_inverse_meets_the_integral_of_a_profile() {
        let hourly: Vec<f64> = (0..24).map(|hour| f64::from(hour % 5)).collect();
        let weekday = [1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.25];
        let rate = WeeklyRate::new(3.0, &hourly, &weekday);
        // One whole week's area, in steps that don't divide the pieces, ends a week later.
        let mut cursor = RateCursor::new(rate, 0);
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
