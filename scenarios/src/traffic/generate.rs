//! Drawn traffic: arrivals around a weekly rate, with their lengths. Streaming, flat in memory.
//!
//! With sessions these are the sessions' first turns, as many fewer as a session has turns on average.
//!
//! ```text
//! gaps of mean 1 (one process, or clients merged) --sum--> area under the rate --inverse--> time
//! request number --keyed streams--> lengths
//! ```
//!
//! Rescaling time by the integrated rate is exact: at a constant rate the gaps keep their distribution, and a varying rate
//! stretches them without bias. Lengths are keyed by the request's number, so request 1,000 is as long at any rate.

use jiff::tz::TimeZone;

use super::bursts::Bursts;
use super::draw::{LengthClass, LengthSource, Lengths, Mixture};
use super::gaps::Gaps;
use super::modulate::{Factors, Modulated};
use super::rate::{Cursor, Shape, Weekly, WeeklyRate};
use super::sessions::SessionPlan;
use super::{Arrival, Generate, ImportReport, Tally, Traffic, known_zone};
use crate::error::TraceError;
use crate::random::{Keyed, Purpose};

/// Traffic as a [`Generate`] table describes it.
#[derive(Clone, Debug)]
pub struct Generator {
    /// Of input and output lengths.
    purposes: (Purpose, Purpose),
    gaps: Gaps,
    cursor: Cursor<Modulated<Weekly>>,
    end_ps: u64,
    last_ps: u64,
    epoch_ns: i64,
    input: Mixture,
    output: Mixture,
    /// In place of the mixtures, where there are classes or drift.
    lengths: Option<Lengths>,
    sessions: Option<SessionPlan>,
    index: u64,
    tally: Tally,
}

impl Generate {
    /// How arrivals lie around the rate.
    #[must_use]
    pub fn bursts(&self) -> Bursts {
        Bursts {
            arrivals: self.arrivals,
            clients: self.clients,
            on_off: self.on_off,
            flicker: self.flicker,
            noise: self.noise,
        }
    }

    /// The hours and days that are written, else the profile's.
    fn shape(&self) -> Shape<'_> {
        let profile = self.profile.map(super::Archetype::days);
        let profile = profile.as_ref();
        Shape {
            hourly: or(&self.hourly, profile.map(|days| days.hourly)),
            weekend_hourly: or(&self.weekend_hourly, profile.map(|days| days.weekend_hourly)),
            weekday: &self.weekday,
        }
    }

    /// The rate over the week from the start on, and how far into its first piece the start is.
    pub(crate) fn weekly(&self, rate_per_s: f64, from_start: bool) -> (Weekly, u64) {
        let rate = WeeklyRate::new(rate_per_s, self.shape());
        // A checked scenario names a zone that is known.
        let zone = self.time_zone.as_ref().and_then(|name| known_zone(name).ok());
        match zone {
            None if !from_start => Weekly::utc(rate, self.start.0),
            zone => (Weekly::zoned(rate, self.start.0, zone.unwrap_or(TimeZone::UTC)), 0),
        }
    }
}

fn or<'a>(own: &'a [f64], named: Option<&'static [f64]>) -> &'a [f64] {
    if own.is_empty() { named.unwrap_or(&[]) } else { own }
}

impl Generator {
    /// Traffic drawn with this randomness; the rate is multiplied by `rate_scale`.
    #[must_use]
    pub fn new(spec: &Generate, rate_scale: f64, keyed: Keyed) -> Self {
        let turns = spec.sessions.as_ref().map_or(1.0, |sessions| sessions.turns.mean());
        let bursts = spec.bursts();
        let factors = Factors::new(&bursts, keyed);
        let (weekly, lead_ns) = spec.weekly(spec.rate_per_s * rate_scale / turns, !factors.is_empty());
        let lengths = (!spec.classes.is_empty() || spec.drift.is_some()).then(|| {
            let alone =
                || LengthClass { weight: 1.0, input: spec.input.clone(), output: spec.output.clone() };
            LengthSource::Classes {
                classes: if spec.classes.is_empty() { vec![alone()] } else { spec.classes.clone() },
                class_run: spec.class_run,
                drift: spec.drift,
                max_input_tokens: spec.max_input_tokens,
                max_output_tokens: spec.max_output_tokens,
            }
        });
        Self {
            purposes: (keyed.purpose("traffic.input"), keyed.purpose("traffic.output")),
            gaps: Gaps::new(&bursts, keyed),
            cursor: Cursor::new(Modulated::new(weekly, factors, spec.start.0), lead_ns),
            end_ps: spec.duration.as_picos(),
            last_ps: 0,
            epoch_ns: spec.start.0,
            input: Mixture::new(&spec.input, spec.max_input_tokens),
            output: Mixture::new(&spec.output, spec.max_output_tokens),
            lengths: lengths.and_then(|lengths| Lengths::new(&lengths, keyed)),
            sessions: SessionPlan::new(spec, rate_scale, keyed),
            index: 0,
            tally: Tally::default(),
        }
    }

    fn tokens(&mut self) -> (u32, u32) {
        if let Some(lengths) = &mut self.lengths {
            return lengths.draw(self.index, self.epoch_ns.saturating_add_unsigned(self.last_ps / 1000));
        }
        let (input, output) = self.purposes;
        let input = self.input.draw(&mut input.stream(&[self.index]));
        (input, self.output.draw(&mut output.stream(&[self.index])))
    }
}

impl Traffic for Generator {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        let Some(at_ps) = self.cursor.advance(self.gaps.draw(), self.end_ps) else {
            // Past the end for good: asking again must not walk on.
            self.end_ps = 0;
            return Ok(None);
        };
        self.last_ps = self.last_ps.max(at_ps);
        let arrival = if let Some(sessions) = &self.sessions {
            sessions.first(self.index, self.last_ps)
        } else {
            let (input_tokens, output_tokens) = self.tokens();
            Arrival { at_ps: self.last_ps, input_tokens, output_tokens }
        };
        self.index += 1;
        self.tally.count(&arrival);
        Ok(Some(arrival))
    }

    fn epoch_ns(&self) -> Option<i64> {
        Some(self.epoch_ns)
    }

    fn report(&self) -> ImportReport {
        let mut report = ImportReport {
            source: "generated".into(),
            format: "generated".into(),
            rows: self.index,
            epoch_ns: Some(self.epoch_ns),
            ..ImportReport::default()
        };
        self.tally.fill(&mut report);
        report
    }
}
