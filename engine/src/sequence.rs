//! One request inside a replica.

/// How a request comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At its length limit: an asynchronous scheduler foresees it.
    Length,
    /// By an end-of-text token: nobody foresees it.
    EndOfText,
}

/// What is submitted to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The caller's name for it, given back in every [`crate::Output`].
    pub tag: u32,
    /// Prompt tokens, at least 1.
    pub prompt: u32,
    /// Output tokens it will emit, at least 1.
    pub output: u32,
    /// How it ends.
    pub stop: Stop,
}

/// Names one submitted request, for [`crate::Replica::cancel`]. It stays valid (and matches nothing) after the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceId {
    pub(crate) slot: u32,
    pub(crate) born: u64,
}

/// Why a request can't be served by this replica at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It asks for nothing.
    #[error("a request needs at least 1 prompt and 1 output token")]
    Empty,
    /// Its tokens would not fit in the KV cache even alone.
    #[error("it needs {needed} KV blocks at its longest; the replica has {available}")]
    TooLong {
        /// Blocks at its longest.
        needed: u64,
        /// Blocks of the replica.
        available: u32,
    },
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The slot is unused.
    Vacant,
    /// Submitted, not ready yet.
    Inbox,
    /// In the waiting queue.
    Waiting,
    /// Running, its prompt not computed to the end.
    Prefill,
    /// Running, its prompt scheduled to the end: it decodes from the step after `first_step` on.
    Decode,
}

/// The record of one request. Slots are reused; `born` tells one life of a slot from the next.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) tag: u32,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// Tokens emitted before this admission; more than 0 only after a preemption.
    pub(crate) emitted_before: u32,
    /// While in prefill: tokens computed (or scheduled to be).
    pub(crate) computed: u32,
    pub(crate) stop: Stop,
    pub(crate) place: Place,
    /// Counted in the sums of the decoding requests.
    pub(crate) in_batch: bool,
    /// Cancelled while running: leaves at the next decision.
    pub(crate) cancelled: bool,
    /// Neighbours in admission order.
    pub(crate) older: u32,
    pub(crate) newer: u32,
    /// Unique number of this admission: the order among the running, and the stamp that tells stale heap entries.
    pub(crate) admission: u64,
    /// Unique number of this submission.
    pub(crate) born: u64,
    /// Step that computes the last prompt token.
    pub(crate) first_step: u64,
    /// Step that emits the last output token. While it waits after a preemption: the step that carries the last token
    /// counted in `emitted_before`.
    pub(crate) end_step: u64,
}

pub(crate) const NONE: u32 = u32::MAX;

impl Sequence {
    /// Tokens to compute before the first token of this admission can come: the prompt and what was emitted before.
    #[inline]
    pub(crate) fn to_prefill(&self) -> u32 {
        self.prompt + self.emitted_before
    }

    /// While it decodes: tokens emitted by the end of `step`.
    #[inline]
    pub(crate) fn emitted_through(&self, step: u64) -> u32 {
        let steps = (step.min(self.end_step) + 1).saturating_sub(self.first_step);
        // At most `output`, a u32, through `end_step`.
        #[allow(clippy::cast_possible_truncation)]
        let emitted = steps as u32;
        self.emitted_before + emitted
    }

    /// Tokens emitted when `ended` was the last step to have ended.
    pub(crate) fn emitted_by(&self, ended: u64) -> u32 {
        match self.place {
            Place::Decode => self.emitted_through(ended),
            // Preempted while a token was in flight: that one is counted, but has not come yet.
            Place::Waiting if self.emitted_before > 0 && ended < self.end_step => self.emitted_before - 1,
            Place::Waiting | Place::Prefill | Place::Vacant | Place::Inbox => self.emitted_before,
        }
    }

    /// The last step that carries a token of this decoding request: an unforeseen end wastes one step more.
    #[inline]
    pub(crate) fn last_step(&self, lag: u64) -> u64 {
        match self.stop {
            Stop::Length => self.end_step,
            Stop::EndOfText => self.end_step + lag,
        }
    }
}
