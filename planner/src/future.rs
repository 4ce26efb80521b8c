//! Futures: traffic that may come. Drawn afresh where the traffic is a profile; else days of the history, resampled.
//!
//! ```text
//! future f, day d:  a day of d's class  --moved by up to 15 min-->  requests  --rate noise: thinned or doubled-->  traffic
//! ```
//! The noise is a slow multiplicative one (autoregressive in steps of 10 min, memory of some 3 h), of the standard
//! deviation `day_sd * sqrt(2 / n)`: n days can't show all ways in which a day may differ. What a request is (its lengths, its
//! place among the others) stays as it was, so bursts and runs of long requests stay too.
//!
//! Every draw is keyed by (seed, future, day or slot or request): the same future meets all candidates, whatever is asked
//! of it first, and on however many threads.

use std::sync::Arc;

use rand_distr::{Distribution, StandardNormal};
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_scenarios::traffic::{
    Arrival, Bursts, ImportReport, LengthSource, SeriesTraffic, SharedTrace,
};
use slackwater_scenarios::{EngineProfile, Generate, Keyed, Scenario, TraceError};

use crate::calendar::{Calendar, DAY_PS};
use crate::history::{History, SLOT_PS};

/// Horizon time begins so long before the horizon does, so that worlds are met in their course from its first start on.
pub const LEAD_PS: Ps = 900 * PS_PER_S;
/// A resampled day is moved by up to this, either way.
const SHIFT_PS: i64 = 900 * PS_PER_S.cast_signed();
/// A doubled request comes within this of itself.
const JITTER_S: f64 = 30.0;
/// Of the noise, from one slot to the next.
const MEMORY: f64 = 0.95;
/// What days differ by where the history can't tell.
const UNKNOWN_DAY_SD: f64 = 0.15;
/// Bounds of the noise.
const NOISE: (f64, f64) = (0.04, 0.5);

/// Where futures come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A stated profile.
    Profile(Box<Generate>),
    /// A recording.
    Recorded(Box<History>),
    /// What did come, replayed as it was: one future, whatever its number.
    Replay(Arc<SharedTrace>),
    /// Expected rates.
    Forecast(Arc<Forecast>),
}

/// Rates that are expected, from the horizon's start on, and what the requests are like.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Requests a second, one a slot.
    pub rates: Vec<f64>,
    /// Seconds a slot.
    pub slot_s: f64,
    /// Lengths, in the order of the traffic; at least one.
    pub lengths: Arc<[Arrival]>,
    /// Consecutive ones that stay together.
    pub block: u32,
    /// How arrivals lie around the rate.
    pub bursts: Bursts,
    /// How far the whole level may be off: standard deviation of the logarithm.
    pub sd: f64,
}

/// All futures of a plan.
#[derive(Clone, Debug)]
pub struct Futures {
    source: Source,
    calendar: Calendar,
    keyed: Keyed,
    /// The horizon's start on the calendar (or, without one, since the history's zero).
    start_ns: i64,
    has_calendar: bool,
    /// Traffic as a multiple of the history's (or the profile's).
    pub growth: f64,
    sd: f64,
}

impl Futures {
    /// Those of a source from `start_ns` on.
    #[must_use]
    pub fn new(
        source: Source,
        calendar: Calendar,
        seed: u64,
        start_ns: i64,
        has_calendar: bool,
        growth: f64,
    ) -> Self {
        let sd = match &source {
            Source::Profile(_) | Source::Replay(_) | Source::Forecast(_) => 0.0,
            Source::Recorded(history) if history.has_days() && history.days.len() > 1 => {
                (history.day_sd * (2.0 / history.days.len() as f64).sqrt()).clamp(NOISE.0, NOISE.1)
            }
            Source::Recorded(_) => UNKNOWN_DAY_SD,
        };
        Self { source, calendar, keyed: Keyed::new(seed), start_ns, has_calendar, growth, sd }
    }

    /// The seed of all their draws.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.keyed.seed()
    }

    /// Where they come from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The horizon's start, nanoseconds since the Unix epoch (since the history's zero, without a calendar).
    #[must_use]
    pub fn start_ns(&self) -> i64 {
        self.start_ns
    }

    /// Whether times are on a calendar.
    #[must_use]
    pub fn has_calendar(&self) -> bool {
        self.has_calendar
    }

    /// The local calendar.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The standard deviation of the slow rate noise laid over resampled days.
    #[must_use]
    pub fn noise_sd(&self) -> f64 {
        self.sd
    }

    /// The instant of a horizon time.
    #[must_use]
    pub fn instant_ns(&self, at_ps: Ps) -> i64 {
        self.start_ns + (at_ps / 1000).cast_signed() - (LEAD_PS / 1000).cast_signed()
    }

    /// Recorded days that are comparable with that of this time; 0 of a stated profile, which is no record of anything.
    #[must_use]
    pub fn comparable_days(&self, at_ps: Ps) -> usize {
        let instant = self.instant_ns(at_ps);
        match &self.source {
            Source::Profile(_) | Source::Replay(_) | Source::Forecast(_) => 0,
            Source::Recorded(history) => {
                let into = (instant - self.calendar.midnight_before(instant)).max(0).cast_unsigned() * 1000;
                history.comparable(self.calendar.weekday(instant), into)
            }
        }
    }

    /// The scenario of one stretch of a future: its own seed, so that start-up times and all else are drawn anew, and of a
    /// profile the sessions of that stretch.
    #[must_use]
    pub fn scenario(&self, base: &Scenario, future: u64, from: Ps, until: Ps) -> Scenario {
        let mut scenario = base.clone();
        // Scenario seeds have 63 bits.
        scenario.seed = self.keyed.bits("future", &[future, from]) >> 1;
        if let (Source::Profile(_), Some(generate)) = (&self.source, &mut scenario.traffic.generate) {
            generate.start.0 = self.instant_ns(from);
            generate.duration = duration(until - from);
            scenario.traffic.rate_scale *= self.growth;
        }
        for version in [&mut scenario.from, &mut scenario.to] {
            version.step_time_factor *= self.speed(&version.engine, future);
            if let Some(engine) = self.coefficients(&version.engine, future) {
                version.engine = engine;
            }
        }
        scenario
    }

    /// By how much an engine is slower in this future than its profile says: a measured profile is off by what it was off on
    /// data that were held out of its fit. Versions whose profiles are of one measurement share the error.
    fn speed(&self, engine: &EngineProfile, future: u64) -> f64 {
        let Some(calibration) = &engine.calibration else { return 1.0 };
        let Some(sd) = calibration.step_time_sd() else { return 1.0 };
        // Not by the profile's source, which tells of limits set beside it: that is the same engine measured once.
        let purpose = format!("speed of {calibration:?}");
        let off: f64 = StandardNormal.sample(&mut self.keyed.stream(&purpose, &[future]));
        (sd * off).exp()
    }

    /// The engine in this future, between its profile and the other ones with which the measurement's data can live; `None` where
    /// there are none. Versions whose profiles are of one measurement share the draws.
    fn coefficients(&self, engine: &EngineProfile, future: u64) -> Option<EngineProfile> {
        let calibration = engine.calibration.as_ref().filter(|of| !of.alternatives.is_empty())?;
        let measurement = format!("{calibration:?}");
        engine.moved(|coefficient| {
            let purpose = format!("{coefficient} of {measurement}");
            StandardNormal.sample(&mut self.keyed.stream(&purpose, &[future]))
        })
    }

    /// The traffic of a stretch of a future; its time 0 is `from`. `scenario` is that of [`scenario`](Self::scenario).
    ///
    /// # Errors
    /// When the traffic can't be drawn.
    pub fn draw(
        &self,
        scenario: &Scenario,
        future: u64,
        from: Ps,
        until: Ps,
    ) -> Result<SharedTrace, TraceError> {
        match &self.source {
            Source::Profile(_) => scenario.load_traffic(),
            Source::Recorded(history) => {
                Ok(self.resampled(history, scenario.wants_prefixes(), future, from, until))
            }
            Source::Replay(trace) => Ok(self.replayed(trace, from, until)),
            Source::Forecast(forecast) => self.forecast(forecast, future, from, until),
        }
    }

    /// Requests at the expected rates, the whole level moved by one draw.
    fn forecast(
        &self,
        forecast: &Forecast,
        future: u64,
        from: Ps,
        until: Ps,
    ) -> Result<SharedTrace, TraceError> {
        let mut random = self.keyed.stream("future.level", &[future]);
        let normal: f64 = StandardNormal.sample(&mut random);
        let level = self.growth * (forecast.sd * normal - forecast.sd * forecast.sd / 2.0).exp();
        // In steps of a minute, so that the stretch may begin anywhere.
        let step_s = 60.0;
        let begins_s = (from as f64 - LEAD_PS as f64) / PS_PER_S as f64;
        let steps = (until - from).div_ceil(60 * PS_PER_S);
        let last = forecast.rates.len().saturating_sub(1);
        let rates: Arc<[f64]> = (0..steps)
            .map(|number| {
                let slot = (begins_s + number as f64 * step_s) / forecast.slot_s;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
                let place = (slot.max(0.0) as usize).min(last);
                forecast.rates.get(place).copied().unwrap_or(0.0) * level
            })
            .collect();
        let lengths = LengthSource::Sample { pairs: Arc::clone(&forecast.lengths), block: forecast.block };
        let keyed = Keyed::new(self.keyed.bits("future.forecast", &[future]) >> 1);
        let epoch = self.has_calendar.then(|| self.instant_ns(from));
        let drawn = SeriesTraffic::new(rates, step_s, &forecast.bursts, &lengths, epoch, keyed);
        SharedTrace::load_all(drawn.map_err(|error| TraceError {
            path: "the forecast".into(),
            row: None,
            problem: error.to_string(),
            help: "make a new plan".into(),
            source: None,
        })?)
    }

    /// The requests of a stretch as they came; the horizon is on the trace's own calendar.
    fn replayed(&self, trace: &SharedTrace, from: Ps, until: Ps) -> SharedTrace {
        let begins = (self.instant_ns(from) - trace.epoch_ns.unwrap_or(0)).saturating_mul(1000);
        let at =
            |time: i64| trace.arrivals.partition_point(|arrival| arrival.at_ps < time.max(0).cast_unsigned());
        let places = at(begins)..at(begins.saturating_add_unsigned(until - from));
        let moved = |arrival: &Arrival| Arrival {
            at_ps: (arrival.at_ps.cast_signed() - begins).max(0).cast_unsigned(),
            ..*arrival
        };
        SharedTrace {
            arrivals: trace.arrivals[places.clone()].iter().map(moved).collect(),
            prefixes: trace.prefixes.get(places).map(Arc::from).unwrap_or_default(),
            epoch_ns: self.has_calendar.then(|| self.instant_ns(from)),
            report: ImportReport { source: trace.report.source.clone(), ..ImportReport::default() },
        }
    }

    fn resampled(&self, history: &History, prefixes: bool, future: u64, from: Ps, until: Ps) -> SharedTrace {
        let mut arrivals: Vec<(Arrival, usize)> = Vec::new();
        let mut at = from;
        while at < until {
            let (into, day_left, weekday, key) = self.day_at(history, at);
            let length = day_left.min(until - at);
            self.one_day(history, (future, key, weekday), (into, at - from, length), &mut arrivals);
            at += length;
        }
        // Doubled requests were appended; those of one time stay in the order in which they were made.
        arrivals.sort_by_key(|(arrival, _)| arrival.at_ps);
        let known = &history.trace.prefixes;
        let names = if prefixes && !known.is_empty() {
            arrivals.iter().map(|(_, place)| known.get(*place).cloned().unwrap_or_default()).collect()
        } else {
            Arc::default()
        };
        SharedTrace {
            arrivals: arrivals.into_iter().map(|(arrival, _)| arrival).collect(),
            prefixes: names,
            epoch_ns: self.has_calendar.then(|| self.instant_ns(from)),
            report: ImportReport { source: history.trace.report.source.clone(), ..ImportReport::default() },
        }
    }

    /// Of a time of the horizon: how far it is into its day, how much of that is left, the weekday, and the day's key.
    fn day_at(&self, history: &History, at: Ps) -> (Ps, Ps, u8, u64) {
        if !history.has_days() {
            // The horizon begins where the history does.
            let at = at + history.period_ps * LEAD_PS.div_ceil(history.period_ps) - LEAD_PS;
            let into = at % history.period_ps;
            return (into, history.period_ps - into, 0, at / history.period_ps);
        }
        let instant = self.instant_ns(at);
        let midnight = self.calendar.midnight_before(instant);
        let into = (instant - midnight).max(0).cast_unsigned() * 1000 + at % 1000;
        let next = self.calendar.midnight_after(instant + 1);
        let left = (next - instant).max(1).cast_unsigned() * 1000;
        (into, left, self.calendar.weekday(instant), midnight.cast_unsigned())
    }

    /// Appends what a resampled day brings from `into` on for `length`; `offset` is where that lies in the stretch.
    fn one_day(
        &self,
        history: &History,
        (future, key, weekday): (u64, u64, u8),
        (into, offset, length): (Ps, Ps, Ps),
        arrivals: &mut Vec<(Arrival, usize)>,
    ) {
        let class = history.class(weekday);
        if class.is_empty() {
            return;
        }
        let pick = self.keyed.bits("future.day", &[future, key]);
        let chosen = class[usize::try_from(pick % class.len() as u64).unwrap_or(0)];
        #[allow(clippy::cast_possible_truncation)] // a quarter of an hour
        let shift =
            ((self.keyed.uniform("future.shift", &[future, key]) * 2.0 - 1.0) * SHIFT_PS as f64) as i64;
        let noise = self.noise(future, key, history.period_ps);
        let mut done = 0;
        // Slot by slot, since each has its own factor, and may have to come from another day.
        while done < length {
            let here = into + done;
            let piece = (SLOT_PS - here % SLOT_PS).min(length - done);
            let day = [chosen]
                .into_iter()
                .chain(class.iter().copied())
                .find(|day| history.days[*day].knows(here))
                .unwrap_or(chosen);
            let factor =
                self.growth * noise.get(usize::try_from(here / SLOT_PS).unwrap_or(0)).copied().unwrap_or(1.0);
            let source = history.days[day].start_ps + here.cast_signed() + shift;
            let source = within(source, piece, history);
            let first = history
                .trace
                .arrivals
                .partition_point(|arrival| arrival.at_ps < source.max(0).cast_unsigned());
            for (number, arrival) in history.between(source, piece).iter().enumerate() {
                let at = offset + done + (arrival.at_ps.cast_signed() - source).cast_unsigned();
                let draw = self.keyed.uniform("future.copies", &[future, at]);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few
                let copies = factor.floor() as u64 + u64::from(draw < factor.fract());
                for copy in 0..copies {
                    let mut at_ps = at;
                    if copy > 0 {
                        let jitter = self.keyed.uniform("future.jitter", &[future, at, copy]) * 2.0 - 1.0;
                        let moved = at as f64 + jitter * JITTER_S * PS_PER_S as f64;
                        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
                        let moved = moved.max(offset as f64) as u64;
                        at_ps = moved.min(offset + length - 1);
                    }
                    arrivals.push((Arrival { at_ps, ..*arrival }, first + number));
                }
            }
            done += piece;
        }
    }

    /// The factors of a day's slots: exp of a stationary autoregressive walk, of mean 1.
    fn noise(&self, future: u64, key: u64, period: Ps) -> Vec<f64> {
        let mut random = self.keyed.stream("future.noise", &[future, key]);
        let step = (1.0 - MEMORY * MEMORY).sqrt();
        let mut level: f64 = StandardNormal.sample(&mut random);
        (0..period.div_ceil(SLOT_PS))
            .map(|_| {
                let factor = (self.sd * level - self.sd * self.sd / 2.0).exp();
                let change: f64 = StandardNormal.sample(&mut random);
                level = MEMORY * level + step * change;
                factor
            })
            .collect()
    }
}

/// A piece that the history has: one that would begin before it or end after it is moved by a day (or by its whole length,
/// when it is shorter).
fn within(source: i64, piece: Ps, history: &History) -> i64 {
    let period = history.period_ps.cast_signed();
    let end = history.trace.arrivals.last().map_or(0, |last| last.at_ps).cast_signed();
    if source < 0 {
        return (source + period).min((end - piece.cast_signed()).max(0));
    }
    if source + piece.cast_signed() > end + SLOT_PS.cast_signed() && source >= period {
        return source - period;
    }
    source
}

fn duration(length: Ps) -> slackwater_scenarios::HumanDuration {
    let seconds = length as f64 / PS_PER_S as f64;
    slackwater_scenarios::HumanDuration::from_secs_f64(seconds)
        .unwrap_or(slackwater_scenarios::HumanDuration::from_secs(DAY_PS / PS_PER_S))
}
