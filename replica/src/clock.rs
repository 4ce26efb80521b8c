//! The engine's time against the wall's.

use std::time::{Duration, Instant};

use slackwater_engine::Ps;

/// The engine's picoseconds since `start`, so many thousandths of them for each real one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    speed_milli: u32,
}

impl Clock {
    /// `speed_up` is checked with the options.
    pub(crate) fn new(speed_up: f64) -> Self {
        // In range by the options' check: 0.001 to 1000.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let speed_milli = (speed_up * 1000.0).round() as u32;
        Self { start: Instant::now(), speed_milli: speed_milli.max(1) }
    }

    /// The engine's time now.
    pub(crate) fn now(&self) -> Ps {
        self.at(Instant::now())
    }

    /// The engine's time at a moment; it stands still at the end of its 64 bits.
    pub(crate) fn at(&self, moment: Instant) -> Ps {
        let nanoseconds = moment.saturating_duration_since(self.start).as_nanos();
        // A nanosecond is 1000 ps, and the speed is in thousandths: the two cancel.
        u64::try_from(nanoseconds * u128::from(self.speed_milli)).unwrap_or(u64::MAX)
    }

    /// How long from now until the engine's time is `at`, rounded up.
    pub(crate) fn until(&self, at: Ps) -> Duration {
        let nanoseconds = at.div_ceil(u64::from(self.speed_milli));
        Duration::from_nanos(nanoseconds).saturating_sub(self.start.elapsed())
    }

    /// Seconds of real time that a span of the engine's time takes.
    #[expect(clippy::cast_precision_loss)] // for histograms
    pub(crate) fn seconds(&self, span: Ps) -> f64 {
        span as f64 / (f64::from(self.speed_milli) * 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_as_fast_is_ten_times_the_picoseconds() {
        let clock = Clock::new(10.0);
        let later = clock.start + Duration::from_millis(3);
        assert_eq!(clock.at(later), 30_000_000_000);
        assert!((clock.seconds(30_000_000_000) - 0.003).abs() < 1e-12);
        assert!(clock.until(20_000_000_000) <= Duration::from_millis(2));
        assert_eq!(clock.until(0), Duration::ZERO);
    }
}
