//! Rows that come in order of the requests' ends, put in order of their starts.
//!
//! ```text
//! ends      1  2  3  4  5  6 ...                 a row may go on when no later one can have begun before it:
//! starts    .  .  .|<- longest ->| newest end    newest end - longest request
//! ```
//!
//! What is held is bounded twice: by the requests that ended within the longest request's time, and by [`MOST_HELD`]. A row
//! that comes later than that is the caller's error to tell.
//!
//! Starts are gathered in buckets of a thousandth of the longest request's time. A bucket is sorted once, when all of it may
//! go on: rows are nearly in order, and a heap of an hour of them is too large for the processor's caches.

use std::collections::BTreeMap;

use super::formats::Row;

/// No more rows are held (about 200 MB); the earliest goes on when there are more.
pub(super) const MOST_HELD: usize = 1 << 22;

/// Start, place in the file, input tokens, output tokens.
type Held = (i64, u64, u64, u64);

pub(super) struct Reorder {
    /// By their start in units of `bucket_ns`.
    buckets: BTreeMap<i64, Vec<Held>>,
    bucket_ns: i64,
    /// The bucket that goes on now, the latest first; what belongs into it later is put into its place.
    ready: Vec<Held>,
    ready_bucket: i64,
    /// Rows in `buckets` and `ready`.
    held: usize,
    longest_ns: i64,
    newest_end_ns: i64,
    newest_start_ns: i64,
    last_out_ns: i64,
    rows: u64,
    ended: bool,
    /// Rows that came after one that had begun later.
    pub(super) moved: u64,
}

impl Reorder {
    pub(super) fn new(longest_ns: i64) -> Self {
        Self {
            buckets: BTreeMap::new(),
            bucket_ns: (longest_ns / 1024).max(1),
            ready: Vec::new(),
            ready_bucket: i64::MIN,
            held: 0,
            longest_ns,
            newest_end_ns: i64::MIN,
            newest_start_ns: i64::MIN,
            last_out_ns: i64::MIN,
            rows: 0,
            ended: false,
            moved: 0,
        }
    }

    /// Takes the file's next row; by how much it is too late when it can't be sorted in any more.
    pub(super) fn push(&mut self, row: &Row) -> Result<(), u64> {
        if row.time_ns < self.last_out_ns {
            return Err(self.last_out_ns.abs_diff(row.time_ns));
        }
        self.moved += u64::from(row.time_ns < self.newest_start_ns);
        self.newest_start_ns = self.newest_start_ns.max(row.time_ns);
        self.newest_end_ns = self.newest_end_ns.max(row.end_ns);
        let held = (row.time_ns, self.rows, row.input_tokens, row.output_tokens);
        let bucket = row.time_ns.div_euclid(self.bucket_ns);
        if bucket <= self.ready_bucket {
            let place = self.ready.partition_point(|other| *other > held);
            self.ready.insert(place, held);
        } else {
            self.buckets.entry(bucket).or_default().push(held);
        }
        self.held += 1;
        self.rows += 1;
        Ok(())
    }

    /// The file has no more rows.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The next row in order of start, when it is sure.
    pub(super) fn pop(&mut self) -> Option<Row> {
        if self.ready.is_empty() {
            let (bucket, _) = self.buckets.first_key_value()?;
            let ends_ns = bucket.saturating_add(1).saturating_mul(self.bucket_ns);
            let sure = ends_ns <= self.newest_end_ns.saturating_sub(self.longest_ns);
            if !(sure || self.ended || self.held > MOST_HELD) {
                return None;
            }
            (self.ready_bucket, self.ready) = self.buckets.pop_first()?;
            self.ready.sort_unstable_by(|one, other| other.cmp(one));
        }
        let (time_ns, _, input_tokens, output_tokens) = self.ready.pop()?;
        self.held -= 1;
        self.last_out_ns = time_ns;
        Some(Row::new(time_ns, input_tokens, output_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::Reorder;
    use crate::traffic::formats::Row;

    /// A request a nanosecond, each up to a hundred long: no more are held than can still be overtaken.
    #[test]
    fn what_is_held_is_bounded_by_the_longest_request() {
        let mut reorder = Reorder::new(100);
        let (mut out, mut most, mut last) = (0, 0, 0);
        for end_ns in 100..100_000 {
            let row = Row { end_ns, ..Row::new(end_ns - end_ns * 7919 % 101, 1, 1) };
            reorder.push(&row).unwrap();
            while let Some(row) = reorder.pop() {
                assert!(row.time_ns >= last);
                last = row.time_ns;
                out += 1;
            }
            most = most.max(reorder.held);
        }
        reorder.end();
        while reorder.pop().is_some() {
            out += 1;
        }
        assert_eq!(out, 99_900);
        assert!(most <= 201, "{most}");
    }
}
