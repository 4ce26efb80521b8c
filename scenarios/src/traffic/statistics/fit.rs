//! A generator whose traffic resembles a trace: rate, profile, burstiness, lengths. And what it can't say.

use std::fmt::Write as _;

use thiserror::Error;

use super::Collected;
use super::mixture::mixture;
use crate::time::{HumanDuration, WallTime};
use crate::traffic::{Arrivals, Generate, Lognormal};

/// Fewer requests say too little about three parts of lengths.
const LEAST_REQUESTS: u64 = 200;
/// A shorter trace says too little about a rate.
const LEAST_SPAN_S: f64 = 60.0;
const DAY_S: f64 = 86_400.0;
/// What a scenario may ask for.
const CV_RANGE: (f64, f64) = (0.05, 20.0);
const RATE_RANGE: (f64, f64) = (1e-6, 1e6);

/// Why nothing was fitted.
#[derive(Debug, Error, PartialEq)]
pub enum FitError {
    /// Too few requests.
    #[error("{requests} requests are too few to fit: lengths and arrivals want {LEAST_REQUESTS} at least")]
    TooFew {
        /// How many there are.
        requests: u64,
    },
    /// Too short a time.
    #[error("{span_s:.1} s are too short to fit a rate: {LEAST_SPAN_S:.0} s at least are wanted")]
    TooShort {
        /// How long it is.
        span_s: f64,
    },
    /// Nothing a scenario could ask for.
    #[error("{rate_per_s} requests a second are outside of what a scenario may ask for, 0.000001 to 1000000")]
    Rate {
        /// The mean.
        rate_per_s: f64,
    },
}

/// A generator, and what it leaves out of the trace it was made after.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Numbers are rounded to four digits.
    pub generate: Generate,
    /// Sentences for whoever uses it.
    pub notes: Vec<String>,
}

impl Fit {
    /// The table as it stands in a scenario.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let generate = &self.generate;
        let mut text = String::from("[traffic.generate]\n");
        // Writing to a string can't fail.
        let _ = writeln!(text, "duration = \"{}\"", generate.duration);
        let _ = writeln!(text, "rate_per_s = {:?}", generate.rate_per_s);
        let _ = writeln!(text, "start = \"{}\"", generate.start);
        if let Arrivals::GammaCv(cv) = generate.arrivals {
            let _ = writeln!(text, "arrivals = {{ gamma_cv = {cv:?} }}");
        }
        for (key, profile) in [("hourly", &generate.hourly), ("weekday", &generate.weekday)] {
            if !profile.is_empty() {
                let _ = writeln!(text, "{key} = {profile:?}");
            }
        }
        for (key, parts) in [("input", &generate.input), ("output", &generate.output)] {
            let _ = writeln!(text, "{key} = [");
            for Lognormal { weight, median, sigma } in parts {
                let _ =
                    writeln!(text, "  {{ weight = {weight:?}, median = {median:?}, sigma = {sigma:?} }},");
            }
            text.push_str("]\n");
        }
        let _ = writeln!(text, "max_input_tokens = {}", generate.max_input_tokens);
        let _ = writeln!(text, "max_output_tokens = {}", generate.max_output_tokens);
        text
    }
}

impl Collected {
    /// A generator whose traffic resembles this trace.
    ///
    /// # Errors
    /// When there is too little of it.
    pub fn fit(&self) -> Result<Fit, FitError> {
        let figures = &self.figures;
        if figures.requests < LEAST_REQUESTS {
            return Err(FitError::TooFew { requests: figures.requests });
        }
        if figures.span_s < LEAST_SPAN_S {
            return Err(FitError::TooShort { span_s: figures.span_s });
        }
        let mut notes = Vec::new();
        let (rate_per_s, hourly, weekday) = self.rate(&mut notes);
        if !(RATE_RANGE.0..=RATE_RANGE.1).contains(&rate_per_s) {
            return Err(FitError::Rate { rate_per_s });
        }
        let arrivals = self.burstiness(&mut notes);
        let squared_cv = match arrivals {
            Arrivals::Poisson => 1.0,
            Arrivals::GammaCv(cv) | Arrivals::WeibullCv(cv) => cv * cv,
        };
        // Under a profile the counts hold the shape of the day too, and would say nothing.
        if let Some(index) =
            figures.arrivals.dispersion_60s.filter(|index| *index > 2.0 * squared_cv.max(1.0))
            && hourly.is_empty()
        {
            notes.push(format!(
                "the rate itself moves from minute to minute (dispersion of counts in a minute: {index:.1}); a generator \
                 with one rate does not, its traffic is smoother"
            ));
        }
        if let Some(correlation) = figures.rank_correlation.filter(|rho| rho.abs() >= 0.1) {
            notes.push(format!(
                "a request's input and output length are drawn apart; in the trace their rank correlation is {correlation:.2}"
            ));
        }
        if let Some(prefixes) = figures.prefixes.as_ref().filter(|prefixes| prefixes.seen_share >= 0.05) {
            notes.push(format!(
                "generated requests share nothing; in the trace {:.0} % of prompt tokens lie in blocks seen before",
                prefixes.seen_share * 100.0
            ));
        }
        // Calendar and span come from importers, which keep both far inside what these hold.
        let duration = HumanDuration::from_secs_f64((figures.span_s * 1e3).ceil() / 1e3);
        let generate = Generate {
            duration: duration.unwrap_or(HumanDuration::from_secs(200 * 86_400)),
            rate_per_s,
            start: figures.import.epoch_ns.map_or(DEFAULT_START, WallTime),
            profile: None,
            time_zone: None,
            arrivals,
            clients: None,
            on_off: None,
            flicker: None,
            noise: None,
            hourly,
            weekend_hourly: Vec::new(),
            weekday,
            input: rounded_parts(mixture(&self.input)),
            output: rounded_parts(mixture(&self.output)),
            classes: Vec::new(),
            class_run: 1.0,
            drift: None,
            max_input_tokens: self.input.most(),
            max_output_tokens: self.output.most(),
            sessions: None,
        };
        Ok(Fit { generate, notes })
    }

    /// The mean rate over a week of the profile, and the profile.
    #[expect(clippy::cast_precision_loss)]
    fn rate(&self, notes: &mut Vec<String>) -> (f64, Vec<f64>, Vec<f64>) {
        let (requests, span_s) = (self.figures.requests as f64, self.figures.span_s);
        let week = self.minutes.week();
        // A day's shape wants a day, and a calendar to say which hours these were.
        let a_day = week.day_seconds().iter().all(|seconds| *seconds >= 0.9 * 3_600.0);
        if !self.minutes.has_calendar() || !a_day {
            let why = if self.minutes.has_calendar() {
                "the trace is shorter than a day"
            } else {
                "the trace has no calendar"
            };
            notes.push(format!("the rate is constant: {why}"));
            return (rounded(requests / span_s), Vec::new(), Vec::new());
        }
        let a_week = span_s >= 7.0 * DAY_S;
        if !a_week {
            notes.push("all weekdays are alike: the trace is shorter than a week".to_owned());
        }
        let (hourly, daily) = week.profile(a_week);
        let mean = daily.iter().sum::<f64>() / 7.0;
        let expected: f64 =
            (0..168).map(|hour| week.seconds[hour] * hourly[hour % 24] * daily[hour / 24] / mean).sum();
        let hourly = hourly.iter().map(|factor| rounded(*factor)).collect();
        let weekday = daily.iter().map(|factor| rounded(*factor / mean)).collect();
        (rounded(requests / expected), hourly, if a_week { weekday } else { Vec::new() })
    }

    fn burstiness(&self, notes: &mut Vec<String>) -> Arrivals {
        let figures = &self.figures.arrivals;
        let cv = if self.figures.quantised {
            // A renewal process' dispersion tends to its squared CV. Bins that are no multiple of the grid hold now more
            // times of it, now fewer; the counts at each time don't suffer from that, a minute hardly.
            let (index, what) = match figures.dispersion_at_once {
                Some(index) => (Some(index), "the counts at each time"),
                None => (figures.dispersion_60s, "the counts in each minute"),
            };
            notes.push(format!("times are quantised, so burstiness is taken from {what}, not from gaps"));
            index.map(f64::sqrt)
        } else {
            figures.cv_within_hours.or(figures.cv)
        };
        let Some(cv) = cv else { return Arrivals::Poisson };
        // Within 3 % of it, a sample of this size can't be told from Poisson by a user.
        if (0.97..=1.03).contains(&cv) {
            return Arrivals::Poisson;
        }
        let bounded = cv.clamp(CV_RANGE.0, CV_RANGE.1);
        if (bounded - cv).abs() > 1e-9 {
            notes.push(format!("the gaps' CV is {cv:.2}; a generator goes no further than {bounded}"));
        }
        Arrivals::GammaCv(rounded(bounded))
    }
}

/// Where a trace without a calendar is put: Monday 2026-01-05T00:00:00Z, as a generator is by default.
const DEFAULT_START: WallTime = WallTime(1_767_571_200_000_000_000);

fn rounded_parts(parts: Vec<Lognormal>) -> Vec<Lognormal> {
    let part = |part: Lognormal| Lognormal {
        weight: rounded(part.weight),
        median: rounded(part.median),
        sigma: rounded(part.sigma),
    };
    parts.into_iter().map(part).collect()
}

/// Four significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // The text form rounds exactly, which scaling by a power of ten does not.
    format!("{value:.3e}").parse().unwrap_or(value)
}
