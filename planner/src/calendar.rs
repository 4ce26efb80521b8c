//! Local days: midnights and classes of weekdays.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use slackwater_engine::Ps;

pub(crate) const DAY_PS: Ps = 86_400 * slackwater_engine::PS_PER_S;
const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// A zone, and what it makes of an instant.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
}

impl Calendar {
    /// That of this zone; of UTC when there is none.
    #[must_use]
    pub fn new(zone: Option<&str>) -> Self {
        let zone = zone.and_then(|name| slackwater_scenarios::time::zone(name).ok());
        Self { zone: zone.unwrap_or(TimeZone::UTC) }
    }

    fn local(&self, ns: i64) -> Option<Zoned> {
        Timestamp::from_nanosecond(i128::from(ns)).ok().map(|instant| instant.to_zoned(self.zone.clone()))
    }

    /// The midnight that the local day of this instant began with.
    #[must_use]
    pub fn midnight_before(&self, ns: i64) -> i64 {
        let midnight = self.local(ns).and_then(|local| local.start_of_day().ok());
        midnight
            .and_then(|at| i64::try_from(at.timestamp().as_nanosecond()).ok())
            .unwrap_or(ns - ns.rem_euclid(DAY_NS))
    }

    /// The first midnight that is not before this instant.
    #[must_use]
    pub fn midnight_after(&self, ns: i64) -> i64 {
        let before = self.midnight_before(ns);
        if before == ns {
            return ns;
        }
        let next = self.local(ns).and_then(|local| local.checked_add(1.day()).ok()?.start_of_day().ok());
        next.and_then(|at| i64::try_from(at.timestamp().as_nanosecond()).ok()).unwrap_or(before + DAY_NS)
    }

    /// Monday is 0.
    #[must_use]
    pub fn weekday(&self, ns: i64) -> u8 {
        let weekday = self.local(ns).map_or(Weekday::Monday, |local| local.weekday());
        u8::try_from(weekday.to_monday_zero_offset()).unwrap_or(0)
    }

    /// Seconds since the local midnight.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a day
    pub fn second_of_day(&self, ns: i64) -> f64 {
        (ns - self.midnight_before(ns)) as f64 / 1e9
    }

    /// RFC 3339 with the zone's offset, to the second.
    #[must_use]
    pub fn text(&self, ns: i64) -> String {
        self.local(ns)
            .map_or_else(|| format!("{ns} ns"), |local| local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }
}
