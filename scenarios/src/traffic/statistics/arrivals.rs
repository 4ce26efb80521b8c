//! How irregular arrivals are: the spread of gaps, and of counts in bins.

use super::PS_PER_S;

const HOUR_PS: u64 = 3_600 * 1_000_000_000_000;

/// Gaps of an hour, or of all of it.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: f64,
    mean: f64,
    /// Sum of squared differences from the mean (Welford).
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    fn squared_cv(&self) -> Option<f64> {
        (self.count >= 2.0 && self.mean > 0.0)
            .then(|| self.squares / (self.count - 1.0) / (self.mean * self.mean))
    }
}

/// Gaps between arrivals.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    last_ps: Option<u64>,
    all: Spread,
    hour: u64,
    here: Spread,
    /// Gaps in the hours that are over, and their squared CVs weighted by them.
    pooled: (f64, f64),
    /// Arrivals at the time of the last one.
    at_once: u64,
    at_times: Spread,
}

impl Gaps {
    /// Fewer gaps than these say too little about an hour.
    const LEAST: f64 = 30.0;

    /// `lead_ps`: how far into its first hour the trace starts.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn count(&mut self, at_ps: u64, lead_ps: u64) {
        let last = self.last_ps.replace(at_ps);
        if last.is_some_and(|last| last != at_ps) {
            self.at_times.add(self.at_once as f64);
            self.at_once = 0;
        }
        self.at_once += 1;
        let Some(last) = last else { return };
        let gap = (at_ps - last) as f64 / PS_PER_S;
        self.all.add(gap);
        let hour = (at_ps + lead_ps) / HOUR_PS;
        if hour != self.hour {
            self.pooled = self.with_this_hour();
            self.here = Spread::default();
            self.hour = hour;
        }
        self.here.add(gap);
    }

    fn with_this_hour(&self) -> (f64, f64) {
        let (count, sum) = self.pooled;
        match self.here.squared_cv() {
            Some(squared) if self.here.count >= Self::LEAST => {
                (count + self.here.count, sum + squared * self.here.count)
            }
            _ => (count, sum),
        }
    }

    /// Variance over mean of the number of arrivals at one time. Times without any are not seen, so it says something
    /// only where there are many at each.
    pub(super) fn dispersion_at_once(&self) -> Option<f64> {
        let times = &self.at_times;
        (times.count >= 10.0 && times.mean >= 3.0).then(|| times.squares / (times.count - 1.0) / times.mean)
    }

    pub(super) fn cv(&self) -> Option<f64> {
        self.all.squared_cv().map(f64::sqrt)
    }

    pub(super) fn cv_within_hours(&self) -> Option<f64> {
        let (count, sum) = self.with_this_hour();
        (count > 0.0).then(|| (sum / count).sqrt())
    }
}

/// Counts of arrivals in bins of one width, from the start of the trace; the last bin, cut by its end, is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispersion {
    width_ps: u64,
    bin: u64,
    here: u64,
    sum: u64,
    squares: u128,
    /// The hour of the trace that is being counted, what the sums were at its start.
    hour: u64,
    before: (u64, u128),
    hours: Hours,
}

/// Sums over whole hours of the trace.
#[derive(Clone, Copy, Debug, Default)]
struct Hours {
    /// Of each hour's variance of counts, around its own mean.
    variances: f64,
    means: f64,
    squared_means: f64,
}

impl Dispersion {
    /// Fewer bins than these have no variance to speak of.
    const LEAST_BINS: u64 = 10;

    pub(super) fn new(width_s: u64) -> Self {
        Self {
            width_ps: width_s * 1_000_000_000_000,
            bin: 0,
            here: 0,
            sum: 0,
            squares: 0,
            hour: 0,
            before: (0, 0),
            hours: Hours::default(),
        }
    }

    pub(super) fn count(&mut self, at_ps: u64) {
        let bin = at_ps / self.width_ps;
        if bin != self.bin {
            self.sum += self.here;
            self.squares += u128::from(self.here) * u128::from(self.here);
            // Bins between were empty; they count by their number alone.
            (self.bin, self.here) = (bin, 0);
            if at_ps / HOUR_PS != self.hour {
                self.close_hour(at_ps / HOUR_PS);
            }
        }
        self.here += 1;
    }

    /// An hour is a whole number of bins; hours without an arrival have no variance and no mean.
    #[expect(clippy::cast_precision_loss)]
    fn close_hour(&mut self, next: u64) {
        let bins = (HOUR_PS / self.width_ps) as f64;
        let mean = (self.sum - self.before.0) as f64 / bins;
        let squares = (self.squares - self.before.1) as f64;
        self.hours.variances += (squares - bins * mean * mean).max(0.0) / (bins - 1.0);
        self.hours.means += mean;
        self.hours.squared_means += mean * mean;
        (self.hour, self.before) = (next, (self.sum, self.squares));
    }

    /// Variance over mean of counts in whole hours, each around its own mean; and the rate, in arrivals a bin, at which
    /// that was seen: busy hours weigh more.
    pub(super) fn within_hours(&self) -> Option<(f64, f64)> {
        let Hours { variances, means, squared_means } = self.hours;
        (means > 0.0).then(|| (variances / means, squared_means / means))
    }

    /// Variance over mean.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn index(&self) -> Option<f64> {
        if self.bin < Self::LEAST_BINS || self.sum == 0 {
            return None;
        }
        let bins = self.bin as f64;
        let mean = self.sum as f64 / bins;
        Some((self.squares as f64 - bins * mean * mean).max(0.0) / (bins - 1.0) / mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000_000;

    #[test]
    fn gaps_by_hand() {
        let mut gaps = Gaps::default();
        // Gaps 1, 2, 3: mean 2, sample variance 1.
        for at in [0, 1, 3, 6] {
            gaps.count(at * S, 0);
        }
        assert!((gaps.cv().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(gaps.cv_within_hours(), None, "three gaps are too few");
    }

    #[test]
    fn a_changing_rate_is_not_burstiness_within_hours() {
        let mut gaps = Gaps::default();
        // Clockwork, ten times as fast in every second hour.
        for hour in 0..10_u64 {
            let count = if hour % 2 == 0 { 360 } else { 3_600 };
            for tick in 0..count {
                gaps.count(hour * HOUR_PS + tick * (HOUR_PS / count), 0);
            }
        }
        assert!(gaps.cv().unwrap() > 1.0, "{:?}", gaps.cv());
        assert!(gaps.cv_within_hours().unwrap() < 0.25, "{:?}", gaps.cv_within_hours());
    }

    #[test]
    fn counts_at_one_time_by_hand() {
        let mut gaps = Gaps::default();
        // Twelve times with four and eight arrivals by turns, and one that is not over: mean 6, sample variance 48/11.
        for time in 0..12_u64 {
            (0..4 + time % 2 * 4).for_each(|_| gaps.count(time * S, 0));
        }
        gaps.count(12 * S, 0);
        assert!((gaps.dispersion_at_once().unwrap() - 48.0 / 11.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn dispersion_within_hours_forgets_the_hours() {
        let mut counts = Dispersion::new(60);
        // By turns ten and thirty a minute for an hour, each minute one more and one less by turns.
        for minute in 0..240_u64 {
            let count = if minute / 60 % 2 == 0 { 10 } else { 30 } + minute % 2;
            (0..count).for_each(|_| counts.count(minute * 60 * S));
        }
        counts.count(240 * 60 * S);
        assert!(counts.index().unwrap() > 4.0);
        // A variance of 1/4 and the correction of one in 60 in each, means of 10.5 and 30.5.
        let (index, rate) = counts.within_hours().unwrap();
        assert!((index - 0.25 * 60.0 / 59.0 / 20.5).abs() < 1e-9, "{index}");
        assert!((rate - (10.5 * 10.5 + 30.5 * 30.5) / 41.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn dispersion_by_hand() {
        let mut counts = Dispersion::new(1);
        // Twelve whole seconds: two arrivals in every even one. Mean 1, sample variance 12/11.
        for second in (0..12).step_by(2) {
            counts.count(second * S);
            counts.count(second * S + S / 2);
        }
        counts.count(12 * S);
        assert!((counts.index().unwrap() - 12.0 / 11.0).abs() < 1e-12, "{:?}", counts.index());
    }
}
