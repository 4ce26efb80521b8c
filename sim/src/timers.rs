//! The world's own timers, in the order of (time, number): ties go to the one set first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use slackwater_engine::Ps;

#[derive(Debug, Clone)]
struct Entry<T> {
    at: Ps,
    number: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A queue of things to do at given times.
#[derive(Debug, Clone)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    number: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), number: 0 }
    }

    pub(crate) fn set(&mut self, at: Ps, what: T) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, what }));
    }

    /// Time of the next one; `Ps::MAX` when there is none.
    #[inline]
    pub(crate) fn next_at(&self) -> Ps {
        self.heap.peek().map_or(Ps::MAX, |entry| entry.0.at)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|entry| entry.0.what)
    }
}
