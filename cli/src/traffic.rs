//! The traffic read ahead in chunks, so that the time spent reading can be told from the time spent simulating.

use std::time::{Duration, Instant};

use slackwater_scenarios::TraceError;
use slackwater_scenarios::traffic::{Arrival, ImportReport, Traffic};

/// Arrivals read at a time: one megabyte.
const CHUNK: usize = 65_536;

/// A source of arrivals with a stopwatch.
pub(crate) struct Chunked {
    source: Box<dyn Traffic + Send>,
    chunk: Vec<Arrival>,
    place: usize,
    reading: Duration,
    /// An error met while reading ahead; told when its place is reached.
    error: Option<TraceError>,
    ended: bool,
}

impl Chunked {
    pub(crate) fn new(source: Box<dyn Traffic + Send>) -> Self {
        Self { source, chunk: Vec::new(), place: 0, reading: Duration::ZERO, error: None, ended: false }
    }

    /// Time spent reading so far.
    pub(crate) fn reading(&self) -> Duration {
        self.reading
    }

    fn refill(&mut self) {
        let began = Instant::now();
        self.chunk.clear();
        self.place = 0;
        while self.chunk.len() < CHUNK && !self.ended {
            match self.source.next_arrival() {
                Ok(Some(arrival)) => self.chunk.push(arrival),
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

    fn epoch_ns(&self) -> Option<i64> {
        self.source.epoch_ns()
    }

    fn report(&self) -> ImportReport {
        self.source.report()
    }
}
