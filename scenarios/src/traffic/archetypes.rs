//! Measured shapes of day and week, by name.
//!
//! Hours are local, 0:00 first; a weekday's and a weekend day's numbers are on one scale. Where the source's hours are UTC
//! and its users' are known only roughly, the shift is said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A shape of day and week, by the kind of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Archetype {
    /// A tool of people at work: the afternoon has nine times the night's rate, weekends a third of a working day's
    /// requests. Azure's coding service, May 2024; its hours are UTC and are read here as those of UTC-5, the middle of the
    /// Americas' working day.
    Office,
    /// Users all over the world: the busiest hour has twice the quietest one's rate, a weekend day three fifths of a weekday's
    /// requests. Azure's conversation service, May 2024, hours UTC.
    Global,
    /// One university: ten times the night's rate, all afternoon and evening; all days alike. BurstGPT, local hours.
    Campus,
    /// No daily period, as many API services have; give it `noise` to wander. After ServeGen's largest service, whose rate a
    /// day later is as good as independent.
    Aperiodic,
}

/// Days of 24 hours.
pub(crate) struct Days {
    pub(crate) hourly: &'static [f64],
    /// Saturdays and Sundays; empty: as the other days.
    pub(crate) weekend_hourly: &'static [f64],
}

impl Archetype {
    pub(crate) fn days(self) -> Days {
        let (hourly, weekend_hourly): (&[f64], &[f64]) = match self {
            Self::Office => (&OFFICE, &OFFICE_WEEKEND),
            Self::Global => (&GLOBAL, &GLOBAL_WEEKEND),
            Self::Campus => (&CAMPUS, &[]),
            Self::Aperiodic => (&[], &[]),
        };
        Days { hourly, weekend_hourly }
    }
}

const OFFICE: [f64; 24] = [
    0.42, 0.37, 0.31, 0.29, 0.30, 0.32, 0.47, 0.86, 1.49, 2.09, 2.26, 2.14, 2.46, 2.71, 2.76, 2.56, 1.88,
    1.36, 1.01, 0.87, 0.85, 0.79, 0.65, 0.52,
];
const OFFICE_WEEKEND: [f64; 24] = [
    0.31, 0.25, 0.17, 0.13, 0.12, 0.11, 0.16, 0.24, 0.32, 0.40, 0.45, 0.49, 0.53, 0.59, 0.60, 0.60, 0.60,
    0.60, 0.55, 0.54, 0.53, 0.47, 0.46, 0.38,
];
const GLOBAL: [f64; 24] = [
    1.02, 1.11, 1.09, 0.90, 0.92, 1.00, 1.15, 1.24, 1.27, 1.24, 1.11, 1.17, 1.31, 1.46, 1.53, 1.42, 1.29,
    1.24, 1.23, 1.16, 1.05, 0.88, 0.79, 0.82,
];
const GLOBAL_WEEKEND: [f64; 24] = [
    0.57, 0.60, 0.60, 0.51, 0.50, 0.52, 0.53, 0.59, 0.61, 0.56, 0.59, 0.66, 0.71, 0.79, 0.80, 0.82, 0.77,
    0.76, 0.73, 0.68, 0.69, 0.66, 0.61, 0.65,
];
const CAMPUS: [f64; 24] = [
    0.96, 0.91, 0.59, 0.53, 0.38, 0.35, 0.20, 0.16, 0.18, 0.43, 0.90, 1.32, 1.79, 1.54, 1.84, 1.43, 1.51,
    1.39, 1.21, 1.61, 1.39, 1.20, 1.16, 1.05,
];
