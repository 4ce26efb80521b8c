//! A cursor over a shared trace: the traffic of simulations that fork.

use std::sync::Arc;

use slackwater_scenarios::TraceError;
use slackwater_scenarios::traffic::{Arrival, ImportReport, SharedTrace, Traffic};

/// Replays a trace held in memory. Clones share the trace and keep their own place in it.
#[derive(Debug, Clone)]
pub struct TraceCursor {
    trace: Arc<SharedTrace>,
    place: usize,
}

impl TraceCursor {
    /// A cursor at the start.
    #[must_use]
    pub fn new(trace: Arc<SharedTrace>) -> Self {
        Self { trace, place: 0 }
    }
}

impl Traffic for TraceCursor {
    #[inline]
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        let arrival = self.trace.arrivals.get(self.place).copied();
        self.place += usize::from(arrival.is_some());
        Ok(arrival)
    }

    fn prefix(&self) -> &[u64] {
        let last = self.place.checked_sub(1).and_then(|place| self.trace.prefixes.get(place));
        last.map_or(&[], |prefix| &**prefix)
    }

    fn epoch_ns(&self) -> Option<i64> {
        self.trace.epoch_ns
    }

    fn report(&self) -> ImportReport {
        self.trace.report.clone()
    }
}
