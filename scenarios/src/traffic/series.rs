//! Arrivals around any series of rates.
//!
//! ```text
//! rates, one a slot ─► × factors ─► area ◄── gaps ──► time ─► lengths ─► Arrival
//! ```

use std::sync::Arc;

use thiserror::Error;

use super::bursts::Bursts;
use super::draw::{LengthSource, Lengths};
use super::gaps::Gaps;
use super::modulate::{Factors, Modulated};
use super::rate::{Cursor, Series};
use super::{Arrival, ImportReport, Tally, Traffic};
use crate::error::TraceError;
use crate::random::Keyed;

/// Why nothing can be drawn.
#[derive(Debug, Error, PartialEq)]
pub enum SeriesError {
    /// A slot of no, or of endless length.
    #[error("a slot of {slot_s} s: give a length from a millisecond to 200 days")]
    Slot {
        /// What was asked for.
        slot_s: f64,
    },
    /// Not a rate.
    #[error("the rate of slot {index} is {rate} a second: give a number from 0 to 1000000")]
    Rate {
        /// Which slot.
        index: usize,
        /// What it has.
        rate: f64,
    },
    /// More than a simulation's clock holds.
    #[error("{slots} slots of {slot_s} s are longer than 200 days: give fewer")]
    TooLong {
        /// How many.
        slots: usize,
        /// Of which length.
        slot_s: f64,
    },
    /// Nothing to draw lengths from.
    #[error(
        "the source of lengths is empty: give at least one class with both mixtures, or one request of a sample"
    )]
    NoLengths,
}

const LONGEST_S: f64 = 200.0 * 86_400.0;
const MOST_PER_S: f64 = 1e6;

/// Requests drawn around a series of rates, streaming; memory does not grow with them.
#[derive(Clone, Debug)]
pub struct SeriesTraffic {
    cursor: Cursor<Modulated<Series>>,
    gaps: Gaps,
    lengths: Lengths,
    epoch_ns: Option<i64>,
    index: u64,
    over: bool,
    tally: Tally,
}

impl SeriesTraffic {
    /// Requests at `rates`, requests a second, each for `slot_s`, as irregular as `bursts` says. `epoch_ns`: when the series
    /// begins, in nanoseconds since the Unix epoch; what goes by slots of the calendar (noise, drift) is then the same in
    /// every series of the same `keyed`. `None`: it begins at 0, and the traffic has no calendar.
    ///
    /// # Errors
    /// When the rates are none, or there is nothing to draw lengths from. `bursts` is taken as checked.
    pub fn new(
        rates: Arc<[f64]>,
        slot_s: f64,
        bursts: &Bursts,
        lengths: &LengthSource,
        epoch_ns: Option<i64>,
        keyed: Keyed,
    ) -> Result<Self, SeriesError> {
        if !(1e-3..=LONGEST_S).contains(&slot_s) {
            return Err(SeriesError::Slot { slot_s });
        }
        let wrong = rates.iter().position(|rate| !(0.0..=MOST_PER_S).contains(rate));
        if let Some((index, rate)) = wrong.and_then(|index| Some((index, *rates.get(index)?))) {
            return Err(SeriesError::Rate { index, rate });
        }
        #[expect(clippy::cast_precision_loss)]
        if rates.len() as f64 * slot_s > LONGEST_S {
            return Err(SeriesError::TooLong { slots: rates.len(), slot_s });
        }
        let lengths = Lengths::new(lengths, keyed).ok_or(SeriesError::NoLengths)?;
        // Positive and at most 200 days.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let slot_ps = (slot_s * 1e12).round() as u64;
        let series = Series::new(rates, slot_s, slot_ps);
        let pieces = Modulated::new(series, Factors::new(bursts, keyed), epoch_ns.unwrap_or(0));
        Ok(Self {
            cursor: Cursor::new(pieces, 0),
            gaps: Gaps::new(bursts, keyed),
            lengths,
            epoch_ns,
            index: 0,
            over: false,
            tally: Tally::default(),
        })
    }
}

impl Traffic for SeriesTraffic {
    #[inline]
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        if self.over {
            return Ok(None);
        }
        let Some(at_ps) = self.cursor.advance(self.gaps.draw(), u64::MAX) else {
            self.over = true;
            return Ok(None);
        };
        let at_ps = at_ps.max(self.tally.last_ps());
        let time_ns = self.epoch_ns.unwrap_or(0).saturating_add_unsigned(at_ps / 1000);
        let (input_tokens, output_tokens) = self.lengths.draw(self.index, time_ns);
        self.index += 1;
        let arrival = Arrival { at_ps, input_tokens, output_tokens };
        self.tally.count(&arrival);
        Ok(Some(arrival))
    }

    fn epoch_ns(&self) -> Option<i64> {
        self.epoch_ns
    }

    fn report(&self) -> ImportReport {
        let mut report = ImportReport {
            source: "generated".into(),
            format: "generated".into(),
            rows: self.index,
            epoch_ns: self.epoch_ns,
            ..ImportReport::default()
        };
        self.tally.fill(&mut report);
        report
    }
}
