//! Drawn traffic: arrivals around a weekly rate, lengths from mixtures of lognormals. Streaming, flat in memory.
//!
//! With sessions these are the sessions' first turns, as many fewer as a session has turns on average.
//!
//! ```text
//! gaps of mean 1 (exponential or Gamma) --sum--> area under the rate --inverse--> time
//! request number --keyed streams--> lengths
//! ```
//!
//! Rescaling time by the integrated rate is exact: at a constant rate the gaps keep their distribution, and a varying rate
//! stretches them without bias. Lengths are keyed by the request's number, so request 1,000 is as long at any rate.

use rand::RngExt;
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::rate::{RateCursor, WeeklyRate};
use super::sessions::SessionPlan;
use super::{Arrival, Arrivals, Generate, ImportReport, Lognormal, Tally, Traffic};
use crate::error::TraceError;
use crate::random::Keyed;

/// Traffic as a [`Generate`] table describes it.
#[derive(Clone, Debug)]
pub struct Generator {
    keyed: Keyed,
    gaps: Xoshiro256PlusPlus,
    gap: Gap,
    cursor: RateCursor,
    /// Area from time 0 to the first arrival; spent by it.
    first_gap: Option<f64>,
    end_ps: u64,
    last_ps: u64,
    epoch_ns: i64,
    input: Mixture,
    output: Mixture,
    sessions: Option<SessionPlan>,
    index: u64,
    tally: Tally,
}

#[derive(Clone, Copy, Debug)]
enum Gap {
    Exponential,
    Gamma(Gamma<f64>),
}

impl Gap {
    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match self {
            Self::Exponential => Exp1.sample(random),
            Self::Gamma(gamma) => gamma.sample(random),
        }
    }
}

impl Generator {
    /// Traffic drawn with this randomness; the rate is multiplied by `rate_scale`.
    #[must_use]
    pub fn new(spec: &Generate, rate_scale: f64, keyed: Keyed) -> Self {
        let turns = spec.sessions.as_ref().map_or(1.0, |sessions| sessions.turns.mean());
        let rate = WeeklyRate::new(spec.rate_per_s * rate_scale / turns, &spec.hourly, &spec.weekday);
        let (gap, burn_in) = match spec.arrivals {
            Arrivals::Poisson => (Gap::Exponential, 0.0),
            Arrivals::GammaCv(cv) => {
                // Mean 1, variance cv^2. A checked scenario has a cv that Gamma takes; one built by hand may not.
                let gamma = Gamma::new(1.0 / (cv * cv), cv * cv).map_or(Gap::Exponential, Gap::Gamma);
                (gamma, 50.0 * (cv * cv).max(1.0))
            }
        };
        let mut gaps = keyed.stream("traffic.gaps", &[]);
        // A renewal process met in its course, not at a renewal: it began long ago, and what is left over of the gap
        // that covers time 0 is the first one. Exponential gaps have no memory and need none of this.
        let mut before = gap.draw(&mut gaps) - burn_in;
        while before < 0.0 {
            before += gap.draw(&mut gaps);
        }
        Self {
            keyed,
            gaps,
            gap,
            cursor: RateCursor::new(rate, spec.start.0),
            first_gap: Some(before),
            end_ps: spec.duration.as_picos(),
            last_ps: 0,
            epoch_ns: spec.start.0,
            input: Mixture::new(&spec.input, spec.max_input_tokens),
            output: Mixture::new(&spec.output, spec.max_output_tokens),
            sessions: SessionPlan::new(spec, rate_scale, keyed),
            index: 0,
            tally: Tally::default(),
        }
    }
}

impl Traffic for Generator {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        let gap = self.first_gap.take().unwrap_or_else(|| self.gap.draw(&mut self.gaps));
        let Some(at_ps) = self.cursor.advance(gap, self.end_ps) else {
            // Past the end for good: asking again must not walk on.
            self.end_ps = 0;
            return Ok(None);
        };
        self.last_ps = self.last_ps.max(at_ps);
        let arrival = match &self.sessions {
            Some(sessions) => sessions.first(self.index, self.last_ps),
            None => Arrival {
                at_ps: self.last_ps,
                input_tokens: self.input.draw(&mut self.keyed.stream("traffic.input", &[self.index])),
                output_tokens: self.output.draw(&mut self.keyed.stream("traffic.output", &[self.index])),
            },
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

/// A mixture of lognormals, ready to draw from.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    /// Cumulated weight up to and with each part, its median, its sigma.
    parts: Vec<(f64, f64, f64)>,
    most: u32,
}

impl Mixture {
    pub(crate) fn new(parts: &[Lognormal], most: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = parts.iter().map(|part| {
            sum += part.weight;
            (sum, part.median, part.sigma)
        });
        Self { parts: cumulated.collect(), most }
    }

    pub(crate) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> u32 {
        let total = self.parts.last().map_or(0.0, |last| last.0);
        let pick = random.random::<f64>() * total;
        let normal: f64 = StandardNormal.sample(random);
        let part = self.parts.iter().find(|part| pick < part.0).or(self.parts.last());
        let tokens = part.map_or(1.0, |(_, median, sigma)| median * (sigma * normal).exp());
        // Clamped first, so the cast loses nothing but the fraction.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = tokens.round().clamp(1.0, f64::from(self.most)) as u32;
        whole
    }
}
