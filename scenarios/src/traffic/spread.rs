//! Arrivals on a grid, spread within its ticks.
//!
//! ```text
//! file      ||||        |||         ||||||            requests of one tick share its time
//! spread    | || |      |  | |      ||| | ||          each at a uniform draw within the tick, in the file's order
//! ```
//!
//! The tick is estimated from the file's first requests: the tenth percentile of the gaps between different times, so that
//! neither an idle stretch nor one stray time decides it. A request never passes the next tick.

use std::collections::VecDeque;

use super::formats::Row;
use crate::random::Keyed;

/// Requests looked at to find the tick.
pub(super) const LOOKED_AT: usize = 20_000;

/// Requests of one tick that are held; more at one time are no tick but a broken file.
pub(super) const MOST_AT_ONCE: usize = 1 << 22;

/// The tick of these times, which are in order; `None` when fewer than one in a hundred stand at the time before them: no grid.
pub(super) fn tick_ns(times_ns: &[i64]) -> Option<i64> {
    let mut gaps: Vec<i64> = times_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let all = gaps.len();
    gaps.retain(|gap| *gap > 0);
    if gaps.is_empty() || (all - gaps.len()) * 100 < all {
        return None;
    }
    gaps.sort_unstable();
    Some(gaps[gaps.len() / 10])
}

pub(super) struct Spread {
    tick_ns: i64,
    keyed: Keyed,
    /// Requests of the tick that is being read.
    together: Vec<(Row, Vec<u64>)>,
    ready: VecDeque<(Row, Vec<u64>)>,
    arrivals: u64,
}

impl Spread {
    pub(super) fn new(tick_ns: i64, seed: u64) -> Self {
        let (together, ready) = (Vec::new(), VecDeque::new());
        Self { tick_ns, keyed: Keyed::new(seed), together, ready, arrivals: 0 }
    }

    pub(super) fn pop(&mut self) -> Option<(Row, Vec<u64>)> {
        self.ready.pop_front()
    }

    /// Takes the next row in order of time; false when too many share one time.
    pub(super) fn push(&mut self, row: Row, prefix: Vec<u64>) -> bool {
        if let Some((first, _)) = self.together.first()
            && first.time_ns != row.time_ns
        {
            self.release(row.time_ns - first.time_ns);
        }
        self.together.push((row, prefix));
        self.together.len() <= MOST_AT_ONCE
    }

    /// No more rows come.
    pub(super) fn end(&mut self) {
        self.release(self.tick_ns);
    }

    fn release(&mut self, gap_ns: i64) {
        let width_ns = gap_ns.min(self.tick_ns);
        let mut shifts: Vec<i64> = (0..self.together.len() as u64)
            .map(|index| {
                let draw = self.keyed.uniform("traffic.dequantise", &[self.arrivals + index]);
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
                // Less than the width.
                let shift = (draw * width_ns as f64) as i64;
                shift
            })
            .collect();
        shifts.sort_unstable();
        self.arrivals += shifts.len() as u64;
        for ((row, prefix), shift) in self.together.drain(..).zip(shifts) {
            let row = Row { time_ns: row.time_ns.saturating_add(shift), ..row };
            self.ready.push_back((row, prefix));
        }
    }
}
