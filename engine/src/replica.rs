//! The replica: its requests, its clock, and the jump from one decision to the next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::batch::DecodeSet;
use crate::config::{ConfigError, ReplicaConfig};
use crate::counters::{Counters, PrefixCounters};
use crate::pool::BlockPool;
use crate::sequence::{NONE, Place, Sequence, Stop};
use crate::step_time::{Batch, Piece, StepTime, TimeOverflow};
use crate::{Output, Ps};

/// Why a replica can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The clock left its range.
    #[error(transparent)]
    Time(#[from] TimeOverflow),
}

/// When the last token of a request is reported (or when it leaves the batch), in the order of a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Departure {
    pub(crate) decision: u64,
    /// Orders departures at the same decision, and tells whether the request is still the same admission.
    pub(crate) admission: u64,
    pub(crate) slot: u32,
}

/// A first token that is computed but not yet reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingFirst {
    pub(crate) step: u64,
    pub(crate) admission: u64,
    pub(crate) slot: u32,
    pub(crate) born: u64,
}

/// Steps that run without anything to decide between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jump {
    pub(crate) piece: Piece,
    pub(crate) steps: u64,
    pub(crate) end: Ps,
}

/// One inference replica. See the crate's documentation for what it does.
#[derive(Debug, Clone)]
pub struct Replica<S> {
    pub(crate) config: ReplicaConfig,
    pub(crate) lag: u64,
    pub(crate) form: S,
    /// The form that was in force at the last decision, when it has been replaced since.
    pub(crate) former: Option<S>,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) vacant: Vec<u32>,
    pub(crate) born: u64,
    pub(crate) admissions: u64,

    // Running requests, linked in admission order.
    pub(crate) oldest: u32,
    pub(crate) newest: u32,
    pub(crate) running: u32,
    /// The one request whose prefill is under way, if any: always the newest (see `schedule`).
    pub(crate) prefilling: u32,
    /// Slot and `born` of the waiting; entries of cancelled requests are stale and skipped.
    pub(crate) waiting: VecDeque<(u32, u64)>,
    pub(crate) waiting_len: u32,
    pub(crate) inbox: VecDeque<(Ps, u32, u64)>,
    pub(crate) cancelled: Vec<u32>,
    pub(crate) alive: u32,

    pub(crate) decoding: DecodeSet,
    pub(crate) free_blocks: u32,
    /// The blocks one by one, with prefix caching only.
    pub(crate) pool: Option<Box<BlockPool>>,
    /// Requests that finished their prefill in the last decided step, to decode from the next on.
    pub(crate) joining: Vec<(u32, u64)>,
    pub(crate) first_tokens: VecDeque<PendingFirst>,
    pub(crate) ends: BinaryHeap<Reverse<Departure>>,
    /// Asynchronous scheduling: requests whose foreseen end takes them out of the batch before it is reported.
    pub(crate) leaves: BinaryHeap<Reverse<Departure>>,

    /// Time and step of the last decision.
    pub(crate) at: Ps,
    pub(crate) step: u64,
    pub(crate) jump: Option<Jump>,
    /// Asynchronous scheduling: the step decided last, which runs after the one in flight. `None`: it is empty.
    pub(crate) ahead: Option<Piece>,
    /// Whether the step decided last computed prompts.
    pub(crate) had_prefill: bool,
    pub(crate) counters: Counters,
}

impl<S: StepTime> Replica<S> {
    /// An empty, idle replica at time 0.
    ///
    /// # Errors
    /// When the limits contradict each other.
    pub fn new(config: ReplicaConfig, form: S) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            lag: config.lag(),
            form,
            former: None,
            sequences: Vec::new(),
            vacant: Vec::new(),
            born: 0,
            admissions: 0,
            oldest: NONE,
            newest: NONE,
            running: 0,
            prefilling: NONE,
            waiting: VecDeque::new(),
            waiting_len: 0,
            inbox: VecDeque::new(),
            cancelled: Vec::new(),
            alive: 0,
            decoding: DecodeSet::new(config.block_size),
            free_blocks: config.kv_blocks,
            pool: config.prefix_caching.then(|| Box::new(BlockPool::new(config.kv_blocks))),
            joining: Vec::new(),
            first_tokens: VecDeque::new(),
            ends: BinaryHeap::new(),
            leaves: BinaryHeap::new(),
            at: 0,
            // The first decision is for step 3, so that `step - 1 - lag` needs no special case.
            step: 2,
            jump: None,
            ahead: None,
            had_prefill: false,
            counters: Counters::default(),
            config,
        })
    }

    /// Requests admitted and not ended (those cancelled stay until the next decision).
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Requests in the waiting queue.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting_len
    }

    /// Requests submitted and neither ended nor cancelled nor killed.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.alive
    }

    /// KV blocks free as of the last decision; blocks that running requests took since then are not yet counted.
    #[must_use]
    pub fn free_blocks(&self) -> u32 {
        self.free_blocks
    }

    /// The limits it was made with.
    #[must_use]
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// Totals so far. Steps inside a jump are counted when the jump ends.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the prefix cache did so far; all zero without one. Blocks that a jump takes are counted when the jump ends.
    #[must_use]
    pub fn prefix_counters(&self) -> PrefixCounters {
        self.pool.as_ref().map(|pool| pool.counters).unwrap_or_default()
    }

    /// Time of the next decision at which something can change; `None` when idle with nothing submitted.
    #[inline]
    #[must_use]
    pub fn next_event(&self) -> Option<Ps> {
        match &self.jump {
            Some(jump) => Some(jump.end),
            None => self.inbox.front().map(|&(ready_at, ..)| ready_at),
        }
    }

    /// Does everything the replica decides before `until`, and reports it in order.
    ///
    /// # Errors
    /// When the clock leaves its range; the replica must not be used any more then.
    #[inline]
    pub fn advance_before(&mut self, until: Ps, sink: &mut impl FnMut(Output)) -> Result<(), ReplicaError> {
        while let Some(at) = self.next_event() {
            if at >= until {
                break;
            }
            self.decide(at, sink)?;
        }
        Ok(())
    }

    /// Takes the decision at `at`: the end of the jump, or the wake-up from idleness.
    fn decide(&mut self, at: Ps, sink: &mut impl FnMut(Output)) -> Result<(), ReplicaError> {
        if let Some(jump) = self.jump {
            let silent = jump.steps - 1;
            self.settle(jump.steps, silent);
            if silent > 0 && self.lag == 1 {
                self.ahead = Some(self.piece_in_flight(silent)?);
            }
            self.counters.busy_ps += jump.end - self.at;
        } else {
            self.step += 1;
        }
        self.at = at;
        let step = self.step;

        // With asynchronous scheduling the step in flight is still timed by the form before.
        let mut changed = self.former.take().is_some();
        changed |= self.take_out_foreseen(step);
        changed |= self.report(step, at, sink);
        if !self.cancelled.is_empty() {
            self.drop_cancelled(step);
            changed = true;
        }
        self.take_in(at);
        if !self.joining.is_empty() {
            changed |= self.join(step);
        }
        let scheduled = self.schedule(step);
        let batch = scheduled.batch;
        changed |= scheduled.preempted;

        let piece = if batch.is_empty() {
            None
        } else {
            self.counters.steps += 1;
            self.counters.prefill_tokens += batch.prefill_tokens;
            self.counters.decode_tokens += batch.decode_seqs;
            Some(self.form.piece(&batch)?)
        };
        self.note_peak();

        let has_prefill = batch.prefill_tokens > 0;
        // The step that runs from now on: this one, or with asynchronous scheduling the one before it.
        let in_flight = if self.lag == 0 { piece } else { self.ahead };
        let same_as_before = self.lag == 0 || (!changed && !self.had_prefill);
        self.ahead = piece;
        self.had_prefill = has_prefill;
        self.jump = match in_flight {
            None if piece.is_none() && !scheduled.preempted => None,
            // Nothing in flight: a step of no duration.
            None => {
                Some(Jump { piece: Piece { first_ps: 0, slope_ps: 0, valid_steps: 1 }, steps: 1, end: at })
            }
            Some(run) => {
                let steady = same_as_before && !has_prefill && !scheduled.preempted && piece.is_some();
                let mut steps = if steady { self.steady_steps(step, run.valid_steps) } else { 1 };
                if steps > 1
                    && let Some(&(ready_at, ..)) = self.inbox.front()
                {
                    steps = run.steps_covering(ready_at - at, steps).max(1);
                }
                let span = run.sum(steps).ok_or(TimeOverflow)?;
                Some(Jump { piece: run, steps, end: at.checked_add(span).ok_or(TimeOverflow)? })
            }
        };
        Ok(())
    }

    /// The piece of the step in flight, decided in silence `silent` steps after the one in `ahead`.
    #[inline]
    fn piece_in_flight(&self, silent: u64) -> Result<Piece, TimeOverflow> {
        match self.ahead {
            Some(piece) if piece.valid_steps > silent => Ok(Piece {
                first_ps: piece.first_ps + piece.slope_ps * silent,
                slope_ps: piece.slope_ps,
                valid_steps: piece.valid_steps - silent,
            }),
            _ => {
                let decode_seqs = self.decoding.seqs;
                let context_tokens = self.decoding.context - decode_seqs;
                let form = self.former.as_ref().unwrap_or(&self.form);
                form.piece(&Batch { decode_seqs, context_tokens, ..Batch::default() })
            }
        }
    }

    /// Decisions from `step` on until the first that can find anything changed.
    fn steady_steps(&mut self, step: u64, valid_steps: u64) -> u64 {
        let mut limit = valid_steps;
        while let Some(&Reverse(end)) = self.ends.peek() {
            if self.sequences[end.slot as usize].admission == end.admission {
                limit = limit.min(end.decision - step);
                break;
            }
            self.ends.pop();
        }
        if let Some(&Reverse(leave)) = self.leaves.peek() {
            limit = limit.min(leave.decision - step);
        }
        // The decision after the last silent one meets the want of blocks.
        1 + self.decoding.steps_that_fit(step, self.free_blocks, limit - 1)
    }

    /// Moves the clock's step on by `steps`, of which the first `silent` decisions changed nothing but the contexts.
    #[inline]
    pub(crate) fn settle(&mut self, steps: u64, silent: u64) {
        self.decoding.context += steps * self.decoding.seqs;
        if silent > 0 {
            let blocks = self.decoding.blocks_after(self.step, silent);
            // Jumps are limited so that the blocks are there.
            let blocks = u32::try_from(blocks).expect("a jump takes no more blocks than are free");
            self.take_unassigned(blocks);
            self.counters.steps += silent;
            self.counters.decode_tokens += silent * self.decoding.seqs;
            self.note_peak();
        }
        self.step += steps;
    }

    #[inline]
    fn note_peak(&mut self) {
        let used = u64::from(self.config.kv_blocks - self.free_blocks);
        self.counters.kv_blocks_peak = self.counters.kv_blocks_peak.max(used);
    }

    /// Requests whose foreseen last token is in flight leave the batch (asynchronous scheduling only).
    fn take_out_foreseen(&mut self, step: u64) -> bool {
        let mut changed = false;
        while let Some(&Reverse(leave)) = self.leaves.peek()
            && leave.decision <= step
        {
            self.leaves.pop();
            let sequence = &self.sequences[leave.slot as usize];
            if sequence.admission == leave.admission && sequence.in_batch {
                self.leave_batch(leave.slot, step);
                changed = true;
            }
        }
        changed
    }

    /// Reports the outputs of the step that has just ended, and frees what the ended requests held.
    #[inline]
    fn report(&mut self, step: u64, at: Ps, sink: &mut impl FnMut(Output)) -> bool {
        let ended = step - 1 - self.lag;
        let mut changed = false;
        while let Some(&Reverse(end)) = self.ends.peek()
            && end.decision <= step
        {
            self.ends.pop();
            let sequence = &self.sequences[end.slot as usize];
            if sequence.admission != end.admission || sequence.cancelled {
                continue;
            }
            // Decoding requests come first: those that finished their prefill in this step were admitted later.
            if sequence.first_step == ended {
                self.report_first_tokens(ended, end.admission, at, sink);
            }
            let sequence = &self.sequences[end.slot as usize];
            sink(Output::Finished { at, tag: sequence.tag });
            self.counters.finished += 1;
            self.alive -= 1;
            changed = true;
            if sequence.place == Place::Waiting {
                // Preempted while its last token was in flight.
                self.waiting_len -= 1;
                self.vacate(end.slot);
            } else {
                self.counters.wasted_tokens += self.lag * u64::from(sequence.stop == Stop::EndOfText);
                self.release(end.slot, step);
            }
        }
        self.report_first_tokens(ended, u64::MAX, at, sink);
        changed
    }

    /// Reports the first tokens of step `ended`, in admission order, up to and including admission `last`.
    #[inline]
    fn report_first_tokens(&mut self, ended: u64, last: u64, at: Ps, sink: &mut impl FnMut(Output)) {
        while let Some(&first) = self.first_tokens.front()
            && first.step <= ended
            && first.admission <= last
        {
            self.first_tokens.pop_front();
            let sequence = &self.sequences[first.slot as usize];
            if sequence.born == first.born && !sequence.cancelled {
                sink(Output::FirstToken { at, tag: sequence.tag });
            }
        }
    }

    /// Cancelled requests that were running leave.
    #[cold]
    fn drop_cancelled(&mut self, step: u64) {
        let mut cancelled = std::mem::take(&mut self.cancelled);
        for slot in cancelled.drain(..) {
            let sequence = &self.sequences[slot as usize];
            debug_assert_ne!(sequence.place, Place::Waiting, "dropped before it could be preempted");
            if sequence.in_batch && sequence.end_step + 1 < step {
                self.counters.wasted_tokens += 1;
            }
            self.release(slot, step);
        }
        self.cancelled = cancelled;
    }

    fn take_in(&mut self, at: Ps) {
        while let Some(&(ready_at, slot, born)) = self.inbox.front()
            && ready_at <= at
        {
            self.inbox.pop_front();
            self.sequences[slot as usize].place = Place::Waiting;
            self.waiting.push_back((slot, born));
            self.waiting_len += 1;
        }
    }

    /// Requests that finished their prefill in the step decided last decode from this one on.
    fn join(&mut self, step: u64) -> bool {
        let mut changed = false;
        let mut joining = std::mem::take(&mut self.joining);
        for (slot, born) in joining.drain(..) {
            let sequence = &mut self.sequences[slot as usize];
            if sequence.born != born || sequence.place != Place::Decode || sequence.last_step(self.lag) < step
            {
                continue;
            }
            sequence.in_batch = true;
            self.decoding.join(step, sequence.first_step, sequence.to_prefill());
            if self.lag == 1 && sequence.stop == Stop::Length {
                self.leaves.push(Reverse(Departure {
                    decision: sequence.end_step + 1,
                    admission: sequence.admission,
                    slot,
                }));
            }
            changed = true;
        }
        self.joining = joining;
        changed
    }
}

/// What a decision scheduled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheduled {
    pub(crate) batch: Batch,
    pub(crate) preempted: bool,
}
