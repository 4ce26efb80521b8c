//! Series of rates (`time,rate`), from which requests are drawn: a Poisson process at each rate until the next row's time,
//! or as `traffic.bursts` says.
//!
//! ```text
//! rate ^  ____            a row's rate holds until the next row; the last one's as long as the one before it
//!      | |    |____
//!      +-----------> t    exponential gaps of mean 1 --area under the rate--> arrivals; lengths: traffic.assume_tokens
//! ```
//!
//! The unit is in the rate's name: `rate`, `rps`, `total_rps`, `rate_per_s`, `requests_per_s` are requests a second,
//! `requests_per_min` and `rpm` a minute, `requests_per_hour` an hour, `requests` and `count` are requests in the row's time.
//! Times are on the calendar, or a number of seconds (Unix seconds from 10^9 on). A file with several series, named in a
//! column `series`, `service` or `model`, needs `traffic.only`. Zero is a rate; a gap in a recording looks the same.

use rand_distr::{Distribution, Exp1};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::assumed::{Assumed, HELP};
use super::csv_table::{CsvTable, bare};
use super::formats::{Context, FormatReader, Row};
use super::gaps::Gaps;
use super::input::{Head, Input, excerpt};
use super::modulate::Factors;
use super::number::decimal_ns;
use super::timestamp::TimestampReader;
use crate::error::TraceError;
use crate::random::Keyed;

const TIMES: [&str; 9] =
    ["time", "timestamp", "t_s", "time_s", "t", "ts", "window_start_utc", "window_start", "date"];
const SERIES: [&str; 3] = ["series", "service", "model"];
const RATES: [(&str, Unit); 11] = [
    ("rate", Unit::Second),
    ("rps", Unit::Second),
    ("total_rps", Unit::Second),
    ("rate_per_s", Unit::Second),
    ("requests_per_s", Unit::Second),
    ("requests_per_second", Unit::Second),
    ("requests_per_min", Unit::Minute),
    ("rpm", Unit::Minute),
    ("requests_per_hour", Unit::Hour),
    ("requests", Unit::Step),
    ("count", Unit::Step),
];
const HEADER: &str = "time,rate (requests a second) or time,requests_per_min";

/// Unix seconds from here on: seconds since a zero of the file's own end far earlier.
const UNIX_NS: i64 = 1_000_000_000_000_000_000;

/// No rate is higher: that of a million requests a second.
const MOST_PER_S: f64 = 1e6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    /// Requests in the row's own time.
    Step,
}

/// A row of the file.
#[derive(Clone, Copy, Debug)]
struct Point {
    time_ns: i64,
    rate: f64,
}

/// Arrivals that are not a Poisson process.
struct Around {
    gaps: Gaps,
    factors: Factors,
}

pub(super) struct RateCsv {
    table: CsvTable,
    time: usize,
    rate: usize,
    unit: Unit,
    series: Option<usize>,
    only: Option<String>,
    /// The series that the rows so far were of.
    met: Option<Vec<u8>>,
    timestamps: TimestampReader,
    calendar: bool,
    /// The row whose rate holds now, and the one after it.
    now: Option<Point>,
    next: Option<Point>,
    step_ns: i64,
    /// Where in the row's time the last arrival was, in seconds, and what is left of the area to the next one.
    offset_s: f64,
    area: Option<f64>,
    scale: f64,
    gaps: Xoshiro256PlusPlus,
    around: Option<Around>,
    assumed: Assumed,
    /// Lengths are keyed by the arrival's number, which goes on when the file is played again.
    index: u64,
    rows: u64,
    begun: bool,
}

impl RateCsv {
    pub(super) fn recognise(head: &Head) -> bool {
        let names: Vec<&[u8]> = head.first_line.split(|byte| *byte == b',').map(bare).collect();
        let named = |name: &&str| names.contains(&name.as_bytes());
        let rates = RATES.iter().filter(|(name, _)| named(name)).count();
        rates == 1 && TIMES.iter().any(named)
    }

    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let table = CsvTable::open(input, false)?;
        let time = table.find(&TIMES).map_or_else(|| table.column("time", HEADER), Ok)?;
        let rate = RATES.iter().find_map(|(name, unit)| Some((table.find(&[name])?, *unit)));
        let (rate, unit) = rate.map_or_else(|| Ok((table.column("rate", HEADER)?, Unit::Second)), Ok)?;
        let series = match (&context.options.only, table.find(&SERIES)) {
            (Some(_), None) => Some(table.column(SERIES[0], "series,time,rate, or leave traffic.only out")?),
            (_, found) => found,
        };
        let pass = u64::from(context.pass);
        let seed = Keyed::new(context.options.seed);
        // Played again it has other gaps, as the rows' own have.
        let keyed = if pass == 0 { seed } else { Keyed::new(seed.bits("traffic.rate-pass", &[pass])) };
        let around =
            |bursts| Around { gaps: Gaps::new(&bursts, keyed), factors: Factors::new(&bursts, keyed) };
        Ok(Box::new(Self {
            time,
            rate,
            unit,
            series,
            table,
            only: context.options.only.clone(),
            met: None,
            timestamps: context.timestamps(),
            calendar: false,
            now: None,
            next: None,
            step_ns: 0,
            offset_s: 0.0,
            area: None,
            scale: context.options.rate_scale,
            gaps: seed.stream("traffic.rate-gaps", &[pass]),
            around: context.options.bursts.map(around),
            assumed: context.assumed(),
            index: pass << 40,
            rows: 0,
            begun: false,
        }))
    }

    /// The file's next row of the series.
    fn point(&mut self) -> Result<Option<Point>, TraceError> {
        loop {
            if !self.table.advance()? {
                return Ok(None);
            }
            self.rows += 1;
            if let Some(series) = self.series {
                let name = self.table.field(series);
                if let Some(only) = &self.only {
                    if name != only.as_bytes() {
                        continue;
                    }
                } else if *self.met.get_or_insert_with(|| name.to_vec()) != name {
                    let met = excerpt(self.met.as_deref().unwrap_or_default());
                    let problem =
                        format!("the file has several series, such as `{met}` and `{}`", excerpt(name));
                    return Err(self.table.error(problem, &format!("choose one: traffic.only = \"{met}\"")));
                }
            }
            return self.read_point().map(Some);
        }
    }

    fn read_point(&mut self) -> Result<Point, TraceError> {
        let field = self.table.field(self.time);
        let time_ns = if let Some(ns) = decimal_ns(field, 1_000_000_000) {
            self.calendar = ns >= UNIX_NS;
            ns
        } else {
            self.calendar = true;
            let expected = "seconds, or a time such as 2026-01-05T00:00:00Z";
            self.timestamps.read(field).ok_or_else(|| self.table.bad(self.time, expected))?
        };
        let rate =
            std::str::from_utf8(self.table.field(self.rate)).ok().and_then(|text| text.parse::<f64>().ok());
        let rate = rate.filter(|rate| (0.0..f64::INFINITY).contains(rate));
        let rate = rate.ok_or_else(|| self.table.bad(self.rate, "a rate, zero or more"))?;
        Ok(Point { time_ns, rate })
    }

    /// Goes on to the next row's rate; false at the end.
    fn step(&mut self) -> Result<bool, TraceError> {
        let next = if self.begun { self.next.take() } else { self.point()? };
        let Some(now) = next else { return Ok(false) };
        self.begun = true;
        self.offset_s = 0.0;
        self.next = self.point()?;
        if let Some(next) = self.next {
            self.step_ns =
                next.time_ns.checked_sub(now.time_ns).filter(|step| *step > 0).ok_or_else(|| {
                    self.table.error(
                    "its time is not after that of the row before it".into(),
                    "sort the file by time and keep one row for each; several series need a column `series`",
                )
                })?;
        } else if self.step_ns == 0 {
            return Err(self.table.error(
                "the file has one row only: how long its rate holds is not said".into(),
                "add a last row with the time of the end and a rate of 0",
            ));
        }
        let seconds = match self.unit {
            Unit::Second => 1.0,
            Unit::Minute => 60.0,
            Unit::Hour => 3600.0,
            Unit::Step => self.step_s(),
        };
        let rate = now.rate / seconds * self.scale;
        if rate > MOST_PER_S {
            return Err(self.table.error(
                format!("a rate of {rate} requests a second is more than {MOST_PER_S}"),
                "check the unit, which the column's name says, and traffic.rate_scale",
            ));
        }
        self.now = Some(Point { rate, ..now });
        Ok(true)
    }

    /// The rate here, and until when in the row's time it holds.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // Within a row's time.
    fn here(&mut self, time_ns: i64, rate: f64) -> (f64, f64) {
        let step_s = self.step_s();
        let Some(around) = self.around.as_mut().filter(|around| !around.factors.is_empty()) else {
            return (rate, step_s);
        };
        let now_ns = time_ns.saturating_add((self.offset_s * 1e9).round() as i64);
        let (factor, until_ns) = around.factors.at(now_ns);
        let until_s = until_ns.saturating_sub(time_ns) as f64 / 1e9;
        (rate * factor, until_s.min(step_s).max(self.offset_s))
    }

    #[expect(clippy::cast_precision_loss)]
    fn step_s(&self) -> f64 {
        self.step_ns as f64 / 1e9
    }
}

impl FormatReader for RateCsv {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        let mut area = self.area.take().unwrap_or_else(|| match &mut self.around {
            Some(around) => around.gaps.draw(),
            None => Exp1.sample(&mut self.gaps),
        });
        if self.now.is_none() && !self.step()? {
            return match &self.only {
                Some(only) if self.rows > 0 && !self.begun => Err(self.table.error(
                    format!("none of the {} rows is of the series `{only}`", self.rows),
                    "name one that is there with traffic.only",
                )),
                _ => Ok(None),
            };
        }
        loop {
            let Some(Point { time_ns, rate }) = self.now else { return Ok(None) };
            let (rate, until_s) = self.here(time_ns, rate);
            let rest = rate * (until_s - self.offset_s);
            if area < rest {
                self.offset_s += area / rate;
                // Within the row's time by the check above, but for the last bit.
                #[expect(clippy::cast_possible_truncation)]
                let offset_ns = ((self.offset_s * 1e9) as i64).min(self.step_ns - 1);
                let told = |problem| self.table.error(problem, HELP);
                let input_tokens = self.assumed.input(self.index, None).map_err(told)?;
                let output_tokens = self.assumed.output(self.index, None).map_err(told)?;
                self.index += 1;
                return Ok(Some(Row::new(time_ns.saturating_add(offset_ns), input_tokens, output_tokens)));
            }
            area -= rest.max(0.0);
            if until_s < self.step_s() {
                self.offset_s = until_s;
            } else if !self.step()? {
                self.now = None;
                self.area = Some(area);
                return Ok(None);
            }
        }
    }

    fn line(&self) -> u64 {
        self.table.line()
    }

    fn zone_assumed(&self) -> bool {
        self.timestamps.zone_assumed()
    }

    fn calendar(&self) -> Option<bool> {
        Some(self.calendar)
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.assumed.notes();
        notes.push(format!(
            "the file has rates, no requests: arrivals are drawn, {}, at `{}` ({})",
            if self.around.is_some() { "as traffic.bursts says" } else { "independent of each other" },
            self.table.name(self.rate),
            match self.unit {
                Unit::Second => "requests a second",
                Unit::Minute => "requests a minute",
                Unit::Hour => "requests an hour",
                Unit::Step => "requests until the next row's time",
            }
        ));
        notes
    }
}
