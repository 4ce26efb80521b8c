//! A generator whose traffic resembles a trace: rate, profile, burstiness, lengths. And what it can't say.

use std::fmt::Write as _;

use thiserror::Error;

use super::Collected;
use super::classes::classes;
use super::mixture::mixture;
use crate::time::{HumanDuration, WallTime};
use crate::traffic::rate::{Shape, WeeklyRate};
use crate::traffic::spec::{chat_input, chat_output};
use crate::traffic::{
    Arrivals, BurstFigures, BurstFit, Bursts, Flicker, Generate, LengthClass, Lognormal, Noise, OnOff,
};

/// Fewer requests say too little about three parts of lengths.
const LEAST_REQUESTS: u64 = 200;
/// A shorter trace says too little about a rate.
const LEAST_SPAN_S: f64 = 60.0;
const DAY_S: f64 = 86_400.0;
/// A level that changes less than this in 10 minutes does not move.
const LEAST_CHANGE: f64 = 0.005;
/// Stretches of 10 minutes.
const SLOTS_A_DAY: usize = 144;
/// A figure that the process misses by more than this is told.
const WORST_FACTOR: f64 = 1.25;
/// What a scenario may ask for.
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
        match generate.arrivals {
            Arrivals::Poisson => {}
            Arrivals::GammaCv(cv) => _ = writeln!(text, "arrivals = {{ gamma_cv = {cv:?} }}"),
            Arrivals::WeibullCv(cv) => _ = writeln!(text, "arrivals = {{ weibull_cv = {cv:?} }}"),
        }
        if let Some(OnOff { on, off }) = generate.on_off {
            let _ = writeln!(text, "on_off = {{ on = \"{on}\", off = \"{off}\" }}");
        }
        if let Some(Flicker { sd, memory }) = generate.flicker {
            let _ = writeln!(text, "flicker = {{ sd = {sd:?}, memory = \"{memory}\" }}");
        }
        if let Some(Noise { change, memory, .. }) = generate.noise {
            let _ = writeln!(text, "noise = {{ change = {change:?}, memory = \"{memory}\" }}");
        }
        let profiles = [
            ("hourly", &generate.hourly),
            ("weekend_hourly", &generate.weekend_hourly),
            ("weekday", &generate.weekday),
        ];
        for (key, profile) in profiles {
            if !profile.is_empty() {
                let _ = writeln!(text, "{key} = {profile:?}");
            }
        }
        if generate.classes.is_empty() {
            write_lengths(&mut text, &generate.input, &generate.output);
        }
        let _ = writeln!(text, "max_input_tokens = {}", generate.max_input_tokens);
        let _ = writeln!(text, "max_output_tokens = {}", generate.max_output_tokens);
        for class in &generate.classes {
            let _ = writeln!(text, "\n[[traffic.generate.classes]]\nweight = {:?}", class.weight);
            write_lengths(&mut text, &class.input, &class.output);
        }
        text
    }
}

fn write_lengths(text: &mut String, input: &[Lognormal], output: &[Lognormal]) {
    let part = |Lognormal { weight, median, sigma }: &Lognormal| {
        format!("{{ weight = {weight:?}, median = {median:?}, sigma = {sigma:?} }}")
    };
    for (key, parts) in [("input", input), ("output", output)] {
        let parts: Vec<String> = parts.iter().map(part).collect();
        let _ = match parts.as_slice() {
            [one] => writeln!(text, "{key} = [{one}]"),
            many => writeln!(text, "{key} = [\n  {},\n]", many.join(",\n  ")),
        };
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
        let rate = self.rate(&mut notes);
        if !(RATE_RANGE.0..=RATE_RANGE.1).contains(&rate.per_s) {
            return Err(FitError::Rate { rate_per_s: rate.per_s });
        }
        let noise = self.noise(&rate, &mut notes);
        let bursts = self.bursts(&rate, noise, &mut notes);
        let (input, output) = (mixture(&self.input), mixture(&self.output));
        let classes = classes(&self.joint, &input, &output);
        if classes.is_empty()
            && let Some(correlation) = figures.rank_correlation.filter(|rho| rho.abs() >= 0.1)
        {
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
            rate_per_s: rate.per_s,
            start: figures.import.epoch_ns.map_or(DEFAULT_START, WallTime),
            profile: None,
            time_zone: None,
            arrivals: bursts.arrivals,
            clients: bursts.clients,
            on_off: bursts.on_off,
            flicker: bursts.flicker,
            noise,
            hourly: rate.hourly,
            weekend_hourly: rate.weekend_hourly,
            weekday: rate.weekday,
            // What is not drawn from is as it is by default, as in the text.
            input: if classes.is_empty() { rounded_parts(input) } else { chat_input() },
            output: if classes.is_empty() { rounded_parts(output) } else { chat_output() },
            classes: classes.into_iter().map(rounded_class).collect(),
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
    fn rate(&self, notes: &mut Vec<String>) -> Rate {
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
            return Rate { per_s: rounded(requests / span_s), ..Rate::default() };
        }
        let a_week = span_s >= 7.0 * DAY_S;
        if !a_week {
            notes.push("all weekdays are alike: the trace is shorter than a week".to_owned());
        }
        let (hourly, mut daily) = week.profile(0..7, a_week);
        let weekend = (a_week && week.weekend_differs()).then(|| {
            let ((working, days), (free, free_days)) = (week.profile(0..5, true), week.profile(5..7, true));
            daily = days;
            daily[5..].copy_from_slice(&free_days[5..]);
            (working, free)
        });
        let (hourly, free) = weekend.unwrap_or((hourly, hourly));
        let mean = daily.iter().sum::<f64>() / 7.0;
        let factor = |hour: usize| {
            let hours = if hour / 24 >= 5 { &free } else { &hourly };
            hours[hour % 24] * daily[hour / 24] / mean
        };
        let expected: f64 = (0..168).map(|hour| week.seconds[hour] * factor(hour)).sum();
        let list = |values: &[f64]| values.iter().map(|value| rounded(*value)).collect();
        Rate {
            per_s: rounded(requests / expected),
            hourly: list(&hourly),
            weekend_hourly: if weekend.is_some() { list(&free) } else { Vec::new() },
            weekday: if a_week { list(&daily.map(|factor| factor / mean)) } else { Vec::new() },
        }
    }

    /// How the level wanders around the profile, by the covariance of its logarithm in stretches of 10 minutes that are one
    /// and six apart: what is forgotten sooner, and the counts' own variance, are in neither.
    #[expect(clippy::cast_precision_loss)]
    fn noise(&self, rate: &Rate, notes: &mut Vec<String>) -> Option<Noise> {
        if rate.hourly.is_empty() {
            return None;
        }
        let week = WeeklyRate::new(rate.per_s, rate.shape());
        let minute_ns = 60 * 1_000_000_000;
        let levels = self.minutes.levels(|minute| week.at(i64::try_from(minute).unwrap_or(0) * minute_ns));
        let days = (levels.len() / SLOTS_A_DAY) as f64;
        if days < 3.0 {
            notes.push(
                "how the level wanders around the profile is not fitted: that wants three days".to_owned(),
            );
            return None;
        }
        // What a time of the day has on all days belongs to the profile, finer than by hours.
        let mut usual = [(0.0, 0.0); SLOTS_A_DAY];
        for (place, level) in levels.iter().enumerate() {
            let usual = &mut usual[place % SLOTS_A_DAY];
            *usual = level.map_or(*usual, |level| (usual.0 + level, usual.1 + 1.0));
        }
        let unusual = |(place, level): (usize, &Option<f64>)| {
            let (sum, count) = usual[place % SLOTS_A_DAY];
            Some((*level)? - sum / count)
        };
        let levels: Vec<Option<f64>> = levels.iter().enumerate().map(unusual).collect();
        let known = levels.iter().flatten().count();
        if known < 100 {
            notes.push(
                "how the level wanders around the profile is not fitted: too few requests in 10 minutes"
                    .to_owned(),
            );
            return None;
        }
        let covariance = |apart: usize| {
            let pairs = levels.iter().zip(levels.iter().skip(apart));
            let products: Vec<f64> = pairs.filter_map(|(one, other)| Some((*one)? * (*other)?)).collect();
            // Taking away the mean of some days took away a part of it.
            products.iter().sum::<f64>() / products.len().max(1) as f64 * days / (days - 1.0)
        };
        let (near, far) = (covariance(1), covariance(6));
        // A covariance of independent levels is some variance over the root of their number: that much is no finding.
        let chance = 4.0 * covariance(0) / (known as f64).sqrt();
        if near <= chance || far <= 0.0 {
            return None;
        }
        let kept = (far / near).powf(0.2).clamp((-1.0_f64 / 3.0).exp(), (-1.0_f64 / 144.0).exp());
        let sd = (near / kept).sqrt();
        let change = rounded(sd * (2.0 * (1.0 - kept)).sqrt());
        let memory = HumanDuration::from_secs_f64((-600.0 / kept.ln() / 60.0).round() * 60.0)?;
        let noise = Noise {
            change,
            memory,
            jumps_per_week: 0.0,
            jump: 2.0,
            jump_decay: HumanDuration::from_secs(1_800),
        };
        (change >= LEAST_CHANGE && noise.log_sd() <= 2.0).then_some(noise)
    }

    fn bursts(&self, rate: &Rate, noise: Option<Noise>, notes: &mut Vec<String>) -> Bursts {
        let figures = &self.figures.arrivals;
        let span_s = self.figures.span_s;
        let widths = |found: [f64; 3]| [1.0, 10.0, 60.0].into_iter().zip(found).collect::<Vec<_>>();
        let listed = |found: [Option<f64>; 3]| {
            let pairs = [1.0, 10.0, 60.0].into_iter().zip(found);
            pairs.filter_map(|(width_s, index)| Some((width_s, index?))).collect::<Vec<_>>()
        };
        // Under a profile the whole trace's counts hold the shape of the day too; within hours they do not.
        let by_hours =
            if rate.hourly.is_empty() { None } else { figures.dispersion_within_hours.zip(self.hour_rate) };
        let whole = [figures.dispersion_1s, figures.dispersion_10s, figures.dispersion_60s];
        let (mut dispersion, window_s, rate_per_s, cv) = match by_hours {
            Some((found, hour_rate)) => (widths(found), 3_600.0, hour_rate, figures.cv_within_hours),
            None => (listed(whole), span_s, self.figures.rate.mean_per_s, figures.cv),
        };
        let mut cv = cv.or(figures.cv);
        if self.figures.quantised {
            // Bins that are no multiple of the grid hold now more times of it, now fewer; the counts at each time don't
            // suffer from that, a minute hardly.
            cv = None;
            dispersion.retain(|(width_s, _)| *width_s >= 60.0);
            let at_once = figures.dispersion_at_once;
            dispersion.extend(at_once.map(|index| (self.figures.import.mean_step_s, index)));
            let what = if at_once.is_some() {
                "the counts at each time and in each minute"
            } else {
                "the counts in each minute"
            };
            notes.push(format!("times are quantised, so burstiness is taken from {what}, not from gaps"));
        }
        let known = noise.map_or((0.0, 1.0), |noise| (noise.log_sd(), noise.memory.as_secs_f64()));
        let found = BurstFigures { rate_per_s, cv, dispersion, window_s, span_s, known };
        let BurstFit { bursts, worst_factor, .. } = Bursts::fit(&found);
        if worst_factor > WORST_FACTOR {
            notes.push(format!(
                "arrivals could not be matched: of the CV of gaps and the dispersion of counts at least one is {worst_factor:.1} \
                 times off"
            ));
        }
        if bursts.flicker.is_some() || bursts.on_off.is_some() {
            notes.push(
                "the rate itself moves from minute to minute; the generator's moves as much, at other times"
                    .to_owned(),
            );
        }
        rounded_bursts(bursts)
    }
}

/// The rate and its profile.
#[derive(Default)]
struct Rate {
    per_s: f64,
    hourly: Vec<f64>,
    weekend_hourly: Vec<f64>,
    weekday: Vec<f64>,
}

impl Rate {
    fn shape(&self) -> Shape<'_> {
        Shape { hourly: &self.hourly, weekend_hourly: &self.weekend_hourly, weekday: &self.weekday }
    }
}

fn rounded_bursts(bursts: Bursts) -> Bursts {
    let duration = |value: HumanDuration| {
        let seconds = value.as_secs_f64();
        let step = if seconds < 100.0 { 0.1 } else { 1.0 };
        HumanDuration::from_secs_f64(((seconds / step).round() * step).max(0.1)).unwrap_or(value)
    };
    Bursts {
        arrivals: match bursts.arrivals {
            Arrivals::Poisson => Arrivals::Poisson,
            Arrivals::GammaCv(cv) => Arrivals::GammaCv(rounded(cv)),
            Arrivals::WeibullCv(cv) => Arrivals::WeibullCv(rounded(cv)),
        },
        on_off: bursts.on_off.map(|OnOff { on, off }| OnOff { on: duration(on), off: duration(off) }),
        flicker: bursts
            .flicker
            .map(|Flicker { sd, memory }| Flicker { sd: rounded(sd), memory: duration(memory) }),
        ..bursts
    }
}

fn rounded_class(class: LengthClass) -> LengthClass {
    LengthClass {
        weight: rounded(class.weight),
        input: rounded_parts(class.input),
        output: rounded_parts(class.output),
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
