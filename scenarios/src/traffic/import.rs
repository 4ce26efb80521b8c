//! Trace files, whatever their format: order, time zero, limits, counts.
//!
//! ```text
//! Input --FormatReader (one file a format)--> Row { time, lengths } --here--> Arrival
//! ```
//!
//! Another format is one file with a [`FormatReader`] and a line in [`FORMATS`].
//!
//! Rules. A row that can't be read is an error that names it; nothing is skipped in silence. A row without input or
//! output tokens is a request that failed before it began: left out and counted. Rows must be in order of time: one that
//! is earlier than the row before it is an error, unless `sort` is asked for, which holds the file in memory, sorts it
//! (rows of equal time stay in the file's order) and says how many rows had to move.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::azure_csv::AzureCsv;
use super::input::{Input, unrecognised};
use super::mooncake_jsonl::MooncakeJsonl;
use super::sessions::chained;
use super::{Arrival, Dropped, Format, ImportReport, MOST_TOKENS, Tally, Traffic};
use crate::error::TraceError;

/// A row as its format reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Since the Unix epoch when the format has a calendar, else since a zero of the file's own.
    pub(crate) time_ns: i64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
}

/// One format's reader.
pub(crate) trait FormatReader: Send {
    /// The next row, or the end.
    fn next_row(&mut self) -> Result<Option<Row>, TraceError>;
    /// The line of the row last read, from 1.
    fn line(&self) -> u64;
    /// From now on the names of the prompts' blocks are wanted.
    fn read_prefixes(&mut self) {}
    /// Those of the row last read.
    fn take_prefix(&mut self) -> Vec<u64> {
        Vec::new()
    }
}

/// What is known about a format.
struct FormatEntry {
    format: Format,
    name: &'static str,
    /// Whether times are points on the calendar.
    calendar: bool,
    /// Whether a file that begins with this line is surely of this format.
    recognise: fn(&[u8]) -> bool,
    open: fn(Input) -> Result<Box<dyn FormatReader>, TraceError>,
}

const FORMATS: [FormatEntry; 2] = [
    FormatEntry {
        format: Format::AzureCsv,
        name: "azure-csv",
        calendar: true,
        recognise: AzureCsv::recognise,
        open: AzureCsv::open,
    },
    FormatEntry {
        format: Format::MooncakeJsonl,
        name: "mooncake-jsonl",
        calendar: false,
        recognise: MooncakeJsonl::recognise,
        open: MooncakeJsonl::open,
    },
];

/// The longest trace: the simulator's picosecond clock ends after 213 days.
const LONGEST_NS: i64 = 200 * 86_400 * 1_000_000_000;

/// How a file is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { format: Format::Auto, rate_scale: 1.0, repeat: 1, sort: false, prefixes: false }
    }
}

/// The arrivals of a trace file, streamed.
pub struct FileTraffic {
    path: PathBuf,
    options: ReadOptions,
    reader: Box<dyn FormatReader>,
    /// Rows in order of time, when they had to be sorted.
    sorted: Option<std::vec::IntoIter<(Row, Vec<u64>)>>,
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
    no_input: Option<Dropped>,
    no_output: Option<Dropped>,
    tally: Tally,
}

impl FileTraffic {
    /// Opens a trace file, plain or gzip, and recognises its format.
    ///
    /// # Errors
    /// When it can't be opened, is empty, or is of no known format.
    pub fn open(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self, TraceError> {
        let path = path.as_ref();
        let input = Input::open(path)?;
        let known: Vec<&str> = FORMATS.iter().map(|entry| entry.name).collect();
        let entry = FORMATS.iter().find(|entry| match options.format {
            Format::Auto => (entry.recognise)(&input.first_line),
            asked => entry.format == asked,
        });
        let entry = match entry {
            Some(entry) if !input.first_line.is_empty() => entry,
            _ => return Err(unrecognised(&input, options.format, &known.join(", "))),
        };
        let hash = Arc::clone(&input.hash);
        let mut reader = (entry.open)(input)?;
        if options.prefixes {
            reader.read_prefixes();
        }
        Ok(Self {
            path: path.to_owned(),
            options,
            reader,
            sorted: None,
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
            no_input: None,
            no_output: None,
            tally: Tally::default(),
        })
    }

    fn error(&self, problem: String, help: &str) -> TraceError {
        let row = (self.sorted.is_none()).then(|| self.reader.line());
        TraceError { path: self.path.display().to_string(), row, problem, help: help.into(), source: None }
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
            if row.input_tokens == 0 {
                drop_row(&mut self.no_input, "no input tokens", self.reader.line());
            } else if row.output_tokens == 0 {
                drop_row(&mut self.no_output, "no output tokens: the request failed", self.reader.line());
            } else {
                return Ok(Some(row));
            }
        }
    }

    fn next_ordered_row(&mut self) -> Result<Option<Row>, TraceError> {
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
            let problem = match self.rows {
                0 => "the file has no rows".to_owned(),
                rows => format!("none of the {rows} rows is a request with input and output tokens"),
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
        self.reader = (self.entry.open)(input)?;
        if self.options.prefixes {
            self.reader.read_prefixes();
        }
        self.sorted = None;
        self.last_ns = i64::MIN;
        Ok(true)
    }

    fn arrival(&self, row: Row, zero_ns: i64) -> Result<Arrival, TraceError> {
        let since_zero = row.time_ns.checked_sub(zero_ns).and_then(|ns| ns.checked_add(self.pass_start_ns));
        let at_ps = since_zero.and_then(|ns| scaled_ps(ns, self.options.rate_scale)).ok_or_else(|| {
            self.error(
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

fn drop_row(dropped: &mut Option<Dropped>, reason: &str, line: u64) {
    dropped.get_or_insert_with(|| Dropped { reason: reason.into(), count: 0, first_row: line }).count += 1;
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
            let Some(row) = self.next_ordered_row()? else {
                if self.begin_again()? {
                    continue;
                }
                return Ok(None);
            };
            let zero_ns = *self.zero_ns.get_or_insert(row.time_ns);
            self.last_ns = row.time_ns;
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
        self.zero_ns.filter(|_| self.entry.calendar)
    }

    fn report(&self) -> ImportReport {
        let mut report = ImportReport {
            source: self.path.display().to_string(),
            format: self.entry.name.into(),
            rows: self.rows,
            dropped: [&self.no_input, &self.no_output].into_iter().flatten().cloned().collect(),
            reordered: self.reordered,
            epoch_ns: self.epoch_ns(),
            sha256: self.sha256.clone(),
            ..ImportReport::default()
        };
        self.tally.fill(&mut report);
        report
    }
}
