//! The traffic read ahead in chunks, so that the time spent reading can be told from the time spent simulating.

use std::time::{Duration, Instant};

use slackwater_scenarios::TraceError;
use slackwater_scenarios::traffic::{Arrival, ImportReport, Traffic};

/// Arrivals read at a time: one megabyte, and what their prompts begin with where that is wanted.
const CHUNK: usize = 65_536;

/// A source of arrivals with a stopwatch.
pub(crate) struct Chunked {
    source: Box<dyn Traffic + Send>,
    chunk: Vec<Arrival>,
    /// What the prompts of the chunk begin with; empty when none says it.
    prefixes: Vec<Box<[u64]>>,
    place: usize,
    reading: Duration,
    /// An error met while reading ahead; told when its place is reached.
    error: Option<TraceError>,
    ended: bool,
}

impl Chunked {
    pub(crate) fn new(source: Box<dyn Traffic + Send>) -> Self {
        Self {
            source,
            chunk: Vec::new(),
            prefixes: Vec::new(),
            place: 0,
            reading: Duration::ZERO,
            error: None,
            ended: false,
        }
    }

    /// Time spent reading so far.
    pub(crate) fn reading(&self) -> Duration {
        self.reading
    }

    fn refill(&mut self) {
        let began = Instant::now();
        self.chunk.clear();
        self.prefixes.clear();
        self.place = 0;
        while self.chunk.len() < CHUNK && !self.ended {
            match self.source.next_arrival() {
                Ok(Some(arrival)) => {
                    let prefix = self.source.prefix();
                    if !prefix.is_empty() || !self.prefixes.is_empty() {
                        self.prefixes.resize(self.chunk.len(), Box::default());
                        self.prefixes.push(prefix.into());
                    }
                    self.chunk.push(arrival);
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.error = Some(error);
                    self.ended = true;
                }
            }
        }
        self.reading += began.elapsed();
    }
}

impl Traffic for Chunked {
    #[inline]
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        if self.place == self.chunk.len() {
            if !self.ended {
                self.refill();
            }
            if self.place == self.chunk.len() {
                return self.error.take().map_or(Ok(None), Err);
            }
        }
        let arrival = self.chunk[self.place];
        self.place += 1;
        Ok(Some(arrival))
    }

    fn prefix(&self) -> &[u64] {
        let last = self.place.checked_sub(1).and_then(|place| self.prefixes.get(place));
        last.map_or(&[], |prefix| &**prefix)
    }

    fn epoch_ns(&self) -> Option<i64> {
        self.source.epoch_ns()
    }

    fn report(&self) -> ImportReport {
        self.source.report()
    }
}
