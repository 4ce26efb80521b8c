//! What is known of the past: whole requests, cut into local days, with the holes of the recording.
//!
//! ```text
//!        day 0          day 1          day 2        slots of 10 min; a hole is one or more without a request
//!  |-------------|------ . . ----|-------------|    where the usual rates of that time promise a hundred
//! ```
//! A history shorter than a day and a half is one "day" as long as itself, which comes again and again; then nothing is
//! known of how days differ.

use std::sync::Arc;

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_scenarios::traffic::{Arrival, SharedTrace};

use crate::calendar::{Calendar, DAY_PS};

/// The grain at which rates are looked at.
pub const SLOT_PS: Ps = 600 * PS_PER_S;
/// Where fewer requests are usual, bursty traffic may well pause.
const HOLE_EXPECTED: f64 = 100.0;
/// And no slot of a hole has usually fewer than so many.
const HOLE_A_SLOT: f64 = 10.0;
/// A day with more holes is left out.
const HOLES_MOST: f64 = 0.25;
/// A history as long as this has days.
const DAYS_FROM_PS: Ps = DAY_PS + DAY_PS / 2;

/// One local day of the history.
#[derive(Clone, Debug)]
pub(crate) struct Day {
    /// Its midnight, in the trace's own time; may lie before the trace begins.
    pub(crate) start_ps: i64,
    /// Monday is 0.
    pub(crate) weekday: u8,
    /// For each slot of it, whether the recording has it.
    pub(crate) known: Vec<bool>,
}

impl Day {
    /// Whether it is known at this time of the day.
    pub(crate) fn knows(&self, at_ps: Ps) -> bool {
        usize::try_from(at_ps / SLOT_PS).ok().and_then(|slot| self.known.get(slot)).copied().unwrap_or(false)
    }
}

/// A hole in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins, in the trace's time.
    pub from_ps: Ps,
    /// Where it ends.
    pub until_ps: Ps,
}

/// The past.
#[derive(Clone, Debug)]
pub struct History {
    pub(crate) trace: Arc<SharedTrace>,
    pub(crate) days: Vec<Day>,
    /// A day's length: 24 h, or the history's when it is shorter.
    pub(crate) period_ps: Ps,
    /// Holes that were found.
    pub holes: Vec<Hole>,
    /// How far days of one class differ: the standard deviation of the logarithm of the rate at the same time of the day.
    pub day_sd: f64,
}

impl History {
    /// Cuts a trace into days.
    #[must_use]
    pub fn new(trace: Arc<SharedTrace>, calendar: &Calendar) -> Self {
        let span = trace.arrivals.last().map_or(0, |last| last.at_ps + 1);
        let short = span < DAYS_FROM_PS;
        let period_ps = if short { span.max(SLOT_PS) } else { DAY_PS };
        let epoch_ns = trace.epoch_ns.unwrap_or(0);
        let first =
            if short { 0 } else { (calendar.midnight_before(epoch_ns) - epoch_ns).saturating_mul(1000) };
        let slots = usize::try_from(period_ps.div_ceil(SLOT_PS)).unwrap_or(1);
        let mut days = Vec::new();
        let mut start = first;
        while start < span.cast_signed() {
            // Noon, so that a day of 23 or 25 hours does not slip.
            let noon_ns = epoch_ns + start / 1000 + (DAY_PS / 2000).cast_signed();
            let inside = |slot: usize| {
                let from = start + (slot as u64 * SLOT_PS).cast_signed();
                from >= 0 && (short || from + SLOT_PS.cast_signed() <= span.cast_signed())
            };
            days.push(Day {
                start_ps: start,
                weekday: calendar.weekday(noon_ns),
                known: (0..slots).map(inside).collect(),
            });
            start = if short {
                i64::MAX
            } else {
                // By the calendar, which knows of summer time.
                (calendar.midnight_after(noon_ns) - epoch_ns).saturating_mul(1000)
            };
        }
        let mut history = Self { trace, days, period_ps, holes: Vec::new(), day_sd: 0.0 };
        let counts: Vec<Vec<f64>> = (0..history.days.len()).map(|day| history.counts(day)).collect();
        history.find_holes(&counts);
        history.day_sd = history.spread(&counts);
        history
    }

    /// Requests in each slot of a day.
    fn counts(&self, day: usize) -> Vec<f64> {
        let mut counts = vec![0.0; self.days[day].known.len()];
        for arrival in self.between(self.days[day].start_ps, self.period_ps) {
            let into = arrival.at_ps.cast_signed() - self.days[day].start_ps;
            if let Some(count) =
                usize::try_from(into.cast_unsigned() / SLOT_PS).ok().and_then(|slot| counts.get_mut(slot))
            {
                *count += 1.0;
            }
        }
        counts
    }

    /// The requests from a time on, for so long.
    pub(crate) fn between(&self, from: i64, length: Ps) -> &[Arrival] {
        let arrivals = &self.trace.arrivals;
        let until = from.saturating_add_unsigned(length).max(0).cast_unsigned();
        let first = arrivals.partition_point(|arrival| arrival.at_ps < from.max(0).cast_unsigned());
        let last = arrivals.partition_point(|arrival| arrival.at_ps < until);
        &arrivals[first..last.max(first)]
    }

    fn find_holes(&mut self, counts: &[Vec<f64>]) {
        let slots = self.days.first().map_or(0, |day| day.known.len());
        let usual: Vec<f64> = (0..slots)
            .map(|slot| {
                let mut seen: Vec<f64> =
                    counts.iter().map(|day| day[slot]).filter(|count| *count > 0.0).collect();
                seen.sort_by(f64::total_cmp);
                seen.get(seen.len() / 2).copied().unwrap_or(0.0)
            })
            .collect();
        for (day, counts) in self.days.iter_mut().zip(counts) {
            let mut slot = 0;
            while slot < slots {
                let empty = (slot..slots).take_while(|at| counts[*at] == 0.0 && day.known[*at]).count();
                let expected = usual[slot..slot + empty].iter().sum::<f64>();
                if expected >= HOLE_EXPECTED.max(HOLE_A_SLOT * empty as f64) {
                    day.known[slot..slot + empty].fill(false);
                    let at = |slot: usize| {
                        (day.start_ps + (slot as u64 * SLOT_PS).cast_signed()).max(0).cast_unsigned()
                    };
                    self.holes.push(Hole { from_ps: at(slot), until_ps: at(slot + empty) });
                }
                slot += empty.max(1);
            }
        }
    }

    /// Pairs of days of one class, slot by slot: half the mean square of the difference of logarithms, without what counting
    /// alone makes.
    fn spread(&self, counts: &[Vec<f64>]) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (a, first) in self.days.iter().enumerate() {
            for (b, second) in self.days.iter().enumerate().skip(a + 1) {
                if is_weekend(first.weekday) != is_weekend(second.weekday) {
                    continue;
                }
                let both = first.known.iter().zip(&second.known).map(|(one, other)| *one && *other);
                for ((x, y), known) in counts[a].iter().zip(&counts[b]).zip(both) {
                    if known && *x >= 5.0 && *y >= 5.0 {
                        sum += ((x / y).ln().powi(2) - 1.0 / x - 1.0 / y) / 2.0;
                        pairs += 1.0;
                    }
                }
            }
        }
        if pairs > 0.0 { (sum / pairs).max(0.0).sqrt() } else { 0.0 }
    }

    /// Days that may stand for one with this weekday, best class first: the same weekday where there are three of it, else
    /// all working days or all of the weekend, else all.
    pub(crate) fn class(&self, weekday: u8) -> Vec<usize> {
        let usable = |day: &Day| {
            let missing = day.known.iter().filter(|known| !**known).count();
            (missing as f64) <= HOLES_MOST * day.known.len() as f64
        };
        let days = |fits: &dyn Fn(&Day) -> bool| -> Vec<usize> {
            (0..self.days.len()).filter(|day| usable(&self.days[*day]) && fits(&self.days[*day])).collect()
        };
        let same = days(&|day| day.weekday == weekday);
        if same.len() >= 3 {
            return same;
        }
        let alike = days(&|day| is_weekend(day.weekday) == is_weekend(weekday));
        if !alike.is_empty() {
            return alike;
        }
        let all = days(&|_| true);
        if all.is_empty() { (0..self.days.len()).collect() } else { all }
    }

    /// Whether there are days to tell apart.
    #[must_use]
    pub fn has_days(&self) -> bool {
        self.period_ps == DAY_PS
    }

    /// How many days are comparable with one of this weekday at this time of the day.
    #[must_use]
    pub fn comparable(&self, weekday: u8, at_ps: Ps) -> usize {
        if !self.has_days() {
            return 0;
        }
        self.class(weekday).into_iter().filter(|day| self.days[*day].knows(at_ps)).count()
    }

    /// Where the history ends on the calendar.
    #[must_use]
    pub fn ends_ns(&self) -> Option<i64> {
        let last = self.trace.arrivals.last()?.at_ps;
        Some(self.trace.epoch_ns? + (last / 1000).cast_signed())
    }
}

pub(crate) fn is_weekend(weekday: u8) -> bool {
    weekday >= 5
}
