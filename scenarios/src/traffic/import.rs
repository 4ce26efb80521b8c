//! Trace files, whatever their format: order, time zero, limits, counts.
//!
//! ```text
//! Input --FormatReader (one file a format)--> Row { time, lengths } --order, spread, scale--> Arrival
//! ```
//!
//! Rules. A row that can't be read is an error that names it; nothing is skipped in silence. A row without input or
//! output tokens is a request that failed before it began: left out and counted. Rows of a trace must be in order of time:
//! one that is earlier than the row before it is an error, unless `sort` is asked for, which holds the file in memory, sorts
//! it (rows of equal time stay in the file's order) and says how many rows had to move. Rows of a log come in order of the
//! requests' ends: they are put in order of their starts while they stream, as far as the longest request reaches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::formats::{Context, FormatEntry, FormatReader, Order, Row, recognise};
use super::input::Input;
use super::reorder::{MOST_HELD, Reorder};
use super::sessions::chained;
use super::spread::{LOOKED_AT, MOST_AT_ONCE, Spread, tick_ns};
use super::timestamp::known_zone;
use super::{Arrival, AssumeTokens, Bursts, Dropped, Format, ImportReport, MOST_TOKENS, Tally, Traffic};
use crate::error::TraceError;
use crate::time::HumanDuration;

/// The longest trace: the simulator's picosecond clock ends after 213 days.
const LONGEST_NS: i64 = 200 * 86_400 * 1_000_000_000;

/// How a file is to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Its format.
    pub format: Format,
    /// Times are divided by this.
    pub rate_scale: f64,
    /// How often it is played, one after the other.
    pub repeat: u32,
    /// Sort rows by time, in memory.
    pub sort: bool,
    /// Read the names of the prompts' blocks too, where the format has them.
    pub prefixes: bool,
    /// The zone of times that have none.
    pub time_zone: Option<String>,
    /// Spread arrivals that stand on a grid.
    pub dequantise: bool,
    /// How far back a log's rows are sorted.
    pub longest_request: HumanDuration,
    /// The one model, series or path to read.
    pub only: Option<String>,
    /// Token counts where the file has none.
    pub assume_tokens: Option<AssumeTokens>,
    /// How arrivals drawn from rates lie around them; absent: a Poisson process.
    pub bursts: Option<Bursts>,
    /// Of draws: assumed lengths, arrivals at a rate, places within a tick.
    pub seed: u64,
}

/// How far back a log's rows are sorted when nothing else is said.
pub(super) const LONGEST_REQUEST: HumanDuration = HumanDuration::from_secs(3600);

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            rate_scale: 1.0,
            repeat: 1,
            sort: false,
            prefixes: false,
            time_zone: None,
            dequantise: false,
            longest_request: LONGEST_REQUEST,
            only: None,
            assume_tokens: None,
            bursts: None,
            seed: 0,
        }
    }
}

/// The arrivals of a trace file, streamed.
pub struct FileTraffic {
    path: PathBuf,
    options: ReadOptions,
    reader: Box<dyn FormatReader>,
    /// Rows in order of time, when they had to be sorted.
    sorted: Option<std::vec::IntoIter<(Row, Vec<u64>)>>,
    /// A log's rows on their way into order.
    reorder: Option<Reorder>,
    /// A grid's rows on their way off it.
    spread: Option<Spread>,
    /// The grid's tick, when it is spread.
    tick_ns: Option<i64>,
    /// Names of the blocks of the arrival handed out last.
    prefix: Vec<u64>,
    entry: &'static FormatEntry,
    hash: Arc<Mutex<Sha256>>,
    sha256: String,
    /// The time of the first row: the trace's zero.
    zero_ns: Option<i64>,
    last_ns: i64,
    /// Where this pass over the file begins, before scaling.
    pass_start_ns: i64,
    passes_done: u32,
    rows: u64,
    reordered: u64,
    /// The longest request met, where the file says how long they took.
    longest_ns: i64,
    /// By reason.
    dropped: Vec<Dropped>,
    tally: Tally,
}

impl FileTraffic {
    /// Opens a trace file, plain, gzip or zstd, and recognises its format.
    ///
    /// # Errors
    /// When it can't be opened, is empty, is of no known format, or does not take the options.
    pub fn open(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self, TraceError> {
        let path = path.as_ref();
        let tick_ns = if options.dequantise {
            let as_it_is = ReadOptions { dequantise: false, ..options.clone() };
            Self::open_at(path, as_it_is, None)?.tick()?
        } else {
            None
        };
        Self::open_at(path, options, tick_ns)
    }

    fn open_at(path: &Path, options: ReadOptions, tick_ns: Option<i64>) -> Result<Self, TraceError> {
        let input = Input::open(path)?;
        let entry = recognise(&input, options.format)?;
        check_options(&input.path, entry, &options)?;
        let hash = Arc::clone(&input.hash);
        let reader = begin(input, entry, &options, 0)?;
        let mut traffic = Self {
            path: path.to_owned(),
            reader,
            sorted: None,
            reorder: None,
            spread: None,
            tick_ns,
            prefix: Vec::new(),
            entry,
            hash,
            sha256: String::new(),
            zero_ns: None,
            last_ns: i64::MIN,
            pass_start_ns: 0,
            passes_done: 0,
            rows: 0,
            reordered: 0,
            longest_ns: 0,
            dropped: Vec::new(),
            tally: Tally::default(),
            options,
        };
        traffic.begin_stages();
        Ok(traffic)
    }

    /// What a pass over the file begins with.
    fn begin_stages(&mut self) {
        let log = self.entry.order == Order::Completion && !self.options.sort;
        let longest_ns = i64::try_from(self.options.longest_request.as_nanos()).unwrap_or(i64::MAX);
        self.sorted = None;
        self.reorder = log.then(|| Reorder::new(longest_ns));
        if self.spread.is_none() {
            self.spread = self.tick_ns.map(|tick_ns| Spread::new(tick_ns, self.options.seed));
        }
        self.last_ns = i64::MIN;
    }

    /// The tick of the grid that the first arrivals stand on.
    fn tick(&mut self) -> Result<Option<i64>, TraceError> {
        let mut times_ns = Vec::new();
        while times_ns.len() < LOOKED_AT
            && let Some(row) = self.next_ordered_row()?
        {
            self.last_ns = row.time_ns;
            times_ns.push(row.time_ns);
        }
        Ok(tick_ns(&times_ns))
    }

    fn error(&self, problem: String, help: &str) -> TraceError {
        let row = self.sorted.is_none().then(|| self.reader.line());
        TraceError { path: self.path.display().to_string(), row, problem, help: help.into(), source: None }
    }

    /// The same of a row that was held back since it was read: the reader's line is another's.
    fn error_past_order(&self, problem: String, help: &str) -> TraceError {
        let error = self.error(problem, help);
        let in_step = self.reorder.is_none() && self.spread.is_none();
        TraceError { row: error.row.filter(|_| in_step), ..error }
    }

    /// The next row worth an arrival, straight from the format.
    fn next_good_row(&mut self) -> Result<Option<Row>, TraceError> {
        loop {
            let Some(row) = self.reader.next_row()? else { return Ok(None) };
            self.rows += 1;
            if row.input_tokens > u64::from(MOST_TOKENS) || row.output_tokens > u64::from(MOST_TOKENS) {
                let count = row.input_tokens.max(row.output_tokens);
                return Err(self.error(
                    format!("{count} tokens in one request; no model takes more than {MOST_TOKENS}"),
                    "the row is damaged, or the columns are not what their names say: correct or delete it",
                ));
            }
            let reason = match row {
                Row { left_out: Some(reason), .. } => reason,
                Row { input_tokens: 0, .. } => "no input tokens",
                Row { output_tokens: 0, .. } => "no output tokens: the request failed",
                _ => {
                    self.longest_ns = self.longest_ns.max(row.end_ns.saturating_sub(row.time_ns));
                    return Ok(Some(row));
                }
            };
            self.drop_row(reason);
        }
    }

    fn drop_row(&mut self, reason: &str) {
        match self.dropped.iter_mut().find(|dropped| dropped.reason == reason) {
            Some(dropped) => dropped.count += 1,
            None => {
                let first_row = self.reader.line();
                self.dropped.push(Dropped { reason: reason.into(), count: 1, first_row });
                self.dropped.sort_by(|one, other| one.reason.cmp(&other.reason));
            }
        }
    }

    /// The next row of a log in order of start.
    fn next_of_log(&mut self) -> Result<Option<Row>, TraceError> {
        loop {
            let Some(reorder) = &mut self.reorder else { return self.next_good_row() };
            if let Some(row) = reorder.pop() {
                return Ok(Some(row));
            }
            if reorder.ended() {
                return Ok(None);
            }
            match self.next_good_row()? {
                Some(row) => {
                    let Some(reorder) = &mut self.reorder else { continue };
                    let Err(late_ns) = reorder.push(&row) else { continue };
                    return Err(self.error(
                        format!(
                            "its request began {:.6} s before one that was handed on; rows are sorted over {} \
                             (traffic.longest_request) and at most {MOST_HELD} of them",
                            seconds(late_ns),
                            self.options.longest_request
                        ),
                        "raise traffic.longest_request, sort the file by time, or set traffic.sort = true (the file is then \
                         held in memory)",
                    ));
                }
                None => reorder_end(&mut self.reorder),
            }
        }
    }

    fn next_spread_row(&mut self) -> Result<Option<Row>, TraceError> {
        loop {
            let Some(spread) = &mut self.spread else { return self.next_ordered_row() };
            if let Some((row, prefix)) = spread.pop() {
                self.prefix = prefix;
                return Ok(Some(row));
            }
            let next = self.next_ordered_row()?;
            if let Some(row) = &next {
                self.last_ns = row.time_ns;
            }
            let prefix = std::mem::take(&mut self.prefix);
            let Some(spread) = &mut self.spread else { return Ok(next) };
            match next {
                Some(row) => {
                    if !spread.push(row, prefix) {
                        return Err(self.error(
                            format!("more than {MOST_AT_ONCE} requests at one time are not spread"),
                            "the times are damaged, or set traffic.dequantise = false",
                        ));
                    }
                }
                None => {
                    spread.end();
                    let last = spread.pop();
                    return Ok(last.map(|(row, prefix)| {
                        self.prefix = prefix;
                        row
                    }));
                }
            }
        }
    }

    fn next_ordered_row(&mut self) -> Result<Option<Row>, TraceError> {
        if self.reorder.is_some() {
            return self.next_of_log();
        }
        if !self.options.sort {
            let Some(row) = self.next_good_row()? else { return Ok(None) };
            if row.time_ns < self.last_ns {
                return Err(self.error(
                    format!(
                        "its time is {:.6} s before that of the row before it",
                        seconds(self.last_ns.abs_diff(row.time_ns))
                    ),
                    "sort the file by time, or set traffic.sort = true (the file is then held in memory)",
                ));
            }
            self.prefix = self.reader.take_prefix();
            return Ok(Some(row));
        }
        if self.sorted.is_none() {
            let mut rows = Vec::new();
            let mut last_ns = i64::MIN;
            while let Some(row) = self.next_good_row()? {
                self.reordered += u64::from(row.time_ns < last_ns);
                last_ns = row.time_ns;
                rows.push((row, self.reader.take_prefix()));
            }
            rows.sort_by_key(|(row, _)| row.time_ns);
            self.sorted = Some(rows.into_iter());
        }
        let next = self.sorted.as_mut().and_then(Iterator::next);
        Ok(next.map(|(row, prefix)| {
            self.prefix = prefix;
            row
        }))
    }

    /// At the end of a pass: whether the file was begun once more.
    fn begin_again(&mut self) -> Result<bool, TraceError> {
        if self.passes_done == 0 {
            let digest = self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
            self.sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        self.passes_done += 1;
        let Some(zero_ns) = self.zero_ns else {
            let problem = match self.reader.rows().unwrap_or(self.rows) {
                0 => "the file has no rows".to_owned(),
                rows => {
                    let dropped =
                        self.dropped.iter().map(|drop| format!("; {} left out: {}", drop.count, drop.reason));
                    format!(
                        "none of the {rows} rows is a request with input and output tokens{}",
                        dropped.collect::<String>()
                    )
                }
            };
            return Err(self.error(problem, "check that the file is complete"));
        };
        if self.passes_done >= self.options.repeat {
            return Ok(false);
        }
        let span_ns = self.last_ns - zero_ns;
        let gaps = self.tally.arrivals / u64::from(self.passes_done) - 1;
        let mean_gap_ns = span_ns / i64::try_from(gaps.max(1)).unwrap_or(i64::MAX);
        self.pass_start_ns = self.pass_start_ns.saturating_add(span_ns + mean_gap_ns);
        let input = Input::open(&self.path)?;
        self.keep_of_pass();
        self.reader = begin(input, self.entry, &self.options, self.passes_done)?;
        self.begin_stages();
        Ok(true)
    }

    /// What the stages counted in this pass.
    fn keep_of_pass(&mut self) {
        self.reordered += self.reorder.as_ref().map_or(0, |reorder| reorder.moved);
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.reader.notes();
        if self.reader.zone_assumed() && self.options.time_zone.is_none() {
            notes.push("times have no zone: UTC is assumed; traffic.time_zone says another".into());
        }
        if self.longest_ns > 0 {
            let longest_s = seconds(self.longest_ns.unsigned_abs());
            notes.push(format!(
                "a log has a request when it ends: those under way at its end are missing, so up to {longest_s:.0} s (the \
                 longest request) before the last one there are too few; of those that began before its first line only \
                 the longest are there"
            ));
        }
        match (self.options.dequantise, self.tick_ns) {
            (true, Some(tick_ns)) => notes.push(format!(
                "arrival times stood on a grid of {:.3} s and are spread within it (traffic.dequantise)",
                seconds(tick_ns.unsigned_abs())
            )),
            (true, None) => {
                notes.push("arrival times stand on no grid: traffic.dequantise changes nothing".into());
            }
            (false, _) => {}
        }
        notes
    }

    fn arrival(&self, row: Row, zero_ns: i64) -> Result<Arrival, TraceError> {
        let since_zero = row.time_ns.checked_sub(zero_ns).and_then(|ns| ns.checked_add(self.pass_start_ns));
        let at_ps = since_zero.and_then(|ns| scaled_ps(ns, if self.entry.drawn { 1.0 } else { self.options.rate_scale })).ok_or_else(|| {
            self.error_past_order(
                "it is more than 200 days after the start of the trace".into(),
                "correct the row's time if it is wrong; else cut the file, lower traffic.repeat or raise traffic.rate_scale",
            )
        })?;
        // Both were checked against MOST_TOKENS.
        let tokens = |count: u64| u32::try_from(count).unwrap_or(MOST_TOKENS);
        Ok(Arrival {
            at_ps,
            input_tokens: tokens(row.input_tokens),
            output_tokens: tokens(row.output_tokens),
        })
    }
}

/// Opens a format's reader for one pass over the file.
fn begin(
    mut input: Input,
    entry: &FormatEntry,
    options: &ReadOptions,
    pass: u32,
) -> Result<Box<dyn FormatReader>, TraceError> {
    if entry.long_lines {
        input.allow_long_lines();
    }
    let mut reader = (entry.open)(input, &Context { options, pass })?;
    if options.prefixes {
        reader.read_prefixes();
    }
    Ok(reader)
}

fn reorder_end(reorder: &mut Option<Reorder>) {
    if let Some(reorder) = reorder {
        reorder.end();
    }
}

/// Keys that say nothing about a file of this format are mistakes, not decoration.
fn check_options(path: &str, entry: &FormatEntry, options: &ReadOptions) -> Result<(), TraceError> {
    let error = |problem: String, help: &str| {
        Err(TraceError { path: path.to_owned(), row: None, problem, help: help.into(), source: None })
    };
    if options.only.is_some() && !entry.takes_only {
        return error(
            format!("traffic.only chooses nothing in a file of the format {}", entry.name),
            "leave traffic.only out",
        );
    }
    if options.bursts.is_some() && entry.format != Format::RateCsv {
        return error(
            format!(
                "traffic.bursts is for requests drawn from rates; those of {} are in the file",
                entry.name
            ),
            "leave traffic.bursts out",
        );
    }
    if let Some(zone) = &options.time_zone {
        if let Err(problem) = known_zone(zone) {
            return error(format!("traffic.time_zone {problem}"), super::timestamp::ZONE_HELP);
        }
        if !entry.calendar {
            return error(
                format!(
                    "traffic.time_zone is for times on the calendar; those of {} have a zero of their own",
                    entry.name
                ),
                "leave traffic.time_zone out",
            );
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Picoseconds at `rate_scale`; the unscaled time is exact. `None` beyond 200 days.
fn scaled_ps(ns: i64, rate_scale: f64) -> Option<u64> {
    #[expect(clippy::float_cmp)] // Exactly 1 is what "unscaled" is written as.
    let ps = if rate_scale == 1.0 {
        if ns > LONGEST_NS {
            return None;
        }
        ns.checked_mul(1000)?
    } else {
        #[expect(clippy::cast_precision_loss)]
        let scaled_ns = ns as f64 / rate_scale;
        #[expect(clippy::cast_precision_loss)]
        if scaled_ns > LONGEST_NS as f64 {
            return None;
        }
        // In range by the check above. Rounding keeps the order of times.
        #[expect(clippy::cast_possible_truncation)]
        {
            (scaled_ns * 1000.0).round() as i64
        }
    };
    u64::try_from(ps).ok()
}

impl Traffic for FileTraffic {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        loop {
            if self.passes_done >= self.options.repeat.max(1) {
                return Ok(None);
            }
            let Some(row) = self.next_spread_row()? else {
                if self.begin_again()? {
                    continue;
                }
                return Ok(None);
            };
            let zero_ns = *self.zero_ns.get_or_insert(row.time_ns);
            if self.spread.is_none() {
                self.last_ns = row.time_ns;
            }
            let arrival = self.arrival(row, zero_ns)?;
            if self.passes_done > 0 {
                // Played again, other people ask other things.
                for id in &mut self.prefix {
                    *id = chained(*id, u64::from(self.passes_done));
                }
            }
            self.tally.count(&arrival);
            return Ok(Some(arrival));
        }
    }

    fn prefix(&self) -> &[u64] {
        &self.prefix
    }

    fn epoch_ns(&self) -> Option<i64> {
        self.zero_ns.filter(|_| self.reader.calendar().unwrap_or(self.entry.calendar))
    }

    fn report(&self) -> ImportReport {
        let mut report = ImportReport {
            source: self.path.display().to_string(),
            format: self.entry.name.into(),
            rows: self.reader.rows().unwrap_or(self.rows),
            dropped: self.dropped.clone(),
            reordered: self.reordered + self.reorder.as_ref().map_or(0, |reorder| reorder.moved),
            notes: self.notes(),
            epoch_ns: self.epoch_ns(),
            sha256: self.sha256.clone(),
            ..ImportReport::default()
        };
        self.tally.fill(&mut report);
        report
    }
}
