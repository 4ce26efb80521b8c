//! What is handed to a replica from outside, and what can be asked about a moment: each comes before whatever the
//! replica does by itself at that time.

use crate::Ps;
use crate::replica::Replica;
use crate::sequence::{NONE, Place, Rejected, Request, Sequence, SequenceId};
use crate::step_time::StepTime;

/// A request that was alive when its replica was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The tag given at submission.
    pub tag: u32,
    /// Tokens emitted before the kill.
    pub tokens: u32,
}

impl<S: StepTime> Replica<S> {
    /// Hands in a request that can be scheduled from `ready_at` on, which must not be before the time advanced to.
    ///
    /// # Errors
    /// When the request could never be served here; nothing is changed then.
    pub fn submit(&mut self, ready_at: Ps, request: Request) -> Result<SequenceId, Rejected> {
        if request.prompt == 0 || request.output == 0 {
            return Err(Rejected::Empty);
        }
        let longest = u64::from(request.prompt) + u64::from(request.output) - 1;
        let needed = longest.div_ceil(u64::from(self.config.block_size));
        if needed > u64::from(self.config.kv_blocks) || longest >= u64::from(u32::MAX) {
            return Err(Rejected::TooLong { needed, available: self.config.kv_blocks });
        }
        self.born += 1;
        let sequence = Sequence {
            tag: request.tag,
            prompt: request.prompt,
            output: request.output,
            emitted_before: 0,
            computed: 0,
            stop: request.stop,
            place: Place::Inbox,
            in_batch: false,
            cancelled: false,
            older: NONE,
            newer: NONE,
            admission: 0,
            born: self.born,
            first_step: 0,
            end_step: 0,
        };
        let slot = if let Some(slot) = self.vacant.pop() {
            self.sequences[slot as usize] = sequence;
            slot
        } else {
            self.sequences.push(sequence);
            u32::try_from(self.sequences.len() - 1).expect("fewer than 2^32 requests alive at once")
        };
        if let Some(pool) = &mut self.pool {
            pool.name(slot, &[]);
        }
        // Ready times come nearly in order, so the place is found from the back; equal times keep their order.
        let mut place = self.inbox.len();
        while place > 0 && self.inbox[place - 1].0 > ready_at {
            place -= 1;
        }
        if place == self.inbox.len() {
            self.inbox.push_back((ready_at, slot, self.born));
        } else {
            self.inbox.insert(place, (ready_at, slot, self.born));
        }
        self.alive += 1;
        self.counters.submitted += 1;
        self.cut_jump_at(ready_at);
        Ok(SequenceId { slot, born: self.born })
    }

    /// Hands in a request as [`Self::submit`] does, with the chained ids of the full blocks of its whole context, prompt
    /// and then generated tokens, from the first on, in the block size of this replica. The list may be shorter than the
    /// context (what is past its end can't be found by anybody); what is longer is ignored.
    ///
    /// # Errors
    /// When the request could never be served here; nothing is changed then.
    pub fn submit_with_blocks(
        &mut self,
        ready_at: Ps,
        request: Request,
        blocks: &[u64],
    ) -> Result<SequenceId, Rejected> {
        let id = self.submit(ready_at, request)?;
        if let Some(pool) = &mut self.pool {
            // The last token emitted is never computed on.
            let filled = (request.prompt + request.output - 1) / self.config.block_size;
            pool.name(id.slot, &blocks[..blocks.len().min(filled as usize)]);
        }
        Ok(id)
    }

    /// Output tokens that a request emitted at times before `at`, asked before what the replica does at `at`; `None` when
    /// it has ended, was cancelled, or is not this replica's.
    #[must_use]
    pub fn emitted(&self, id: SequenceId, at: Ps) -> Option<u32> {
        let sequence = self.sequences.get(id.slot as usize)?;
        if sequence.born != id.born || sequence.place == Place::Vacant || sequence.cancelled {
            return None;
        }
        Some(sequence.emitted_by(self.ended_before(at)))
    }

    /// When the first step that ends after `after` does so, if nothing is handed in before: the next moment at which tokens
    /// can come out. While idle, when the next request is ready; `None` when there is none. `after` must not lie before the
    /// last decision, nor at or after [`Self::next_event`].
    #[must_use]
    pub fn next_step_end(&self, after: Ps) -> Option<Ps> {
        let Some(jump) = &self.jump else { return self.next_event() };
        let span = (after + 1).saturating_sub(self.at);
        let steps = jump.piece.steps_covering(span, jump.steps).max(1);
        // Shorter than the sum that fitted before.
        Some(self.at + jump.piece.sum(steps).unwrap_or(jump.end - self.at))
    }

    /// From time `at` on decisions time their steps by `form`, before what the replica does at `at`. Steps decided before
    /// keep their durations.
    pub fn set_form(&mut self, at: Ps, form: S) {
        self.former.get_or_insert(std::mem::replace(&mut self.form, form));
        self.cut_jump_at(at);
    }

    /// Cancels a request at time `at`, before what the replica does at `at`. Returns the tokens it had emitted at
    /// steps that ended before `at`, or `None` when it had already ended.
    pub fn cancel(&mut self, at: Ps, id: SequenceId) -> Option<u32> {
        let sequence = self.sequences.get(id.slot as usize)?;
        if sequence.born != id.born || sequence.place == Place::Vacant || sequence.cancelled {
            return None;
        }
        let tokens = sequence.emitted_by(self.ended_before(at));
        match sequence.place {
            Place::Vacant => return None,
            Place::Inbox => {
                self.inbox.retain(|&(_, slot, born)| (slot, born) != (id.slot, id.born));
                self.vacate(id.slot);
            }
            Place::Waiting => {
                self.waiting_len -= 1;
                self.vacate(id.slot);
                // Whoever waited behind it may be admitted at the next decision.
                self.cut_jump_at(at);
            }
            Place::Prefill | Place::Decode => {
                self.sequences[id.slot as usize].cancelled = true;
                self.cancelled.push(id.slot);
                self.cut_jump_at(at);
            }
        }
        self.alive -= 1;
        self.counters.cancelled += 1;
        Some(tokens)
    }

    /// Ends everything at time `at`, before what the replica does at `at`, and leaves it empty and idle. Returns the
    /// requests that were alive: running ones in admission order, waiting ones in the order of the queue, then those
    /// not yet ready.
    pub fn kill(&mut self, at: Ps) -> Vec<Unfinished> {
        if self.jump.is_some() {
            let silent = self.silent_decisions_before(at);
            self.settle(silent, silent);
            // Of the step in flight too: the GPU was busy until it was killed.
            self.counters.busy_ps += at.saturating_sub(self.at);
        }
        let ended = self.step - 1 - self.lag;
        let mut unfinished = Vec::with_capacity(self.alive as usize);
        let mut note = |sequence: &Sequence| {
            if !sequence.cancelled {
                unfinished.push(Unfinished { tag: sequence.tag, tokens: sequence.emitted_by(ended) });
            }
        };
        let mut wasted = 0;
        let mut slot = self.oldest;
        while slot != NONE {
            let sequence = &self.sequences[slot as usize];
            note(sequence);
            wasted += u64::from(sequence.in_batch && sequence.end_step < self.step);
            slot = sequence.newer;
        }
        let queued = self.waiting.iter().map(|&(slot, born)| (slot, born));
        for (slot, born) in queued.chain(self.inbox.iter().map(|&(_, slot, born)| (slot, born))) {
            let sequence = &self.sequences[slot as usize];
            if sequence.born == born && matches!(sequence.place, Place::Waiting | Place::Inbox) {
                note(sequence);
            }
        }
        self.counters.wasted_tokens += wasted;
        self.counters.killed += u64::from(self.alive);
        debug_assert_eq!(unfinished.len(), self.alive as usize);
        self.clear();
        unfinished
    }

    fn clear(&mut self) {
        self.sequences.clear();
        self.vacant.clear();
        self.oldest = NONE;
        self.newest = NONE;
        self.running = 0;
        self.prefilling = NONE;
        self.waiting.clear();
        self.waiting_len = 0;
        self.inbox.clear();
        self.cancelled.clear();
        self.alive = 0;
        self.decoding.clear();
        self.free_blocks = self.config.kv_blocks;
        if let Some(pool) = &mut self.pool {
            pool.clear();
        }
        self.joining.clear();
        self.first_tokens.clear();
        self.ends.clear();
        self.leaves.clear();
        self.former = None;
        self.jump = None;
        self.ahead = None;
        self.had_prefill = false;
        // Steps that never ran must not be taken for one in flight.
        self.step += 2;
    }

    /// Ends the jump at its first decision at or after `at`.
    #[inline]
    fn cut_jump_at(&mut self, at: Ps) {
        if let Some(jump) = &mut self.jump
            && at < jump.end
            && jump.steps > 1
        {
            jump.steps = jump.piece.steps_covering(at.saturating_sub(self.at), jump.steps).max(1);
            // Shorter than the sum that fitted before.
            jump.end = self.at + jump.piece.sum(jump.steps).unwrap_or(u64::MAX - self.at);
        }
    }

    /// Decisions after the last one that lie before `at`, all of them silent.
    fn silent_decisions_before(&self, at: Ps) -> u64 {
        match &self.jump {
            Some(jump) if at > self.at => {
                jump.piece.steps_covering(at - self.at, jump.steps).saturating_sub(1).min(jump.steps - 1)
            }
            _ => 0,
        }
    }

    /// The last step that ended before `at`.
    fn ended_before(&self, at: Ps) -> u64 {
        // At the decision for `step` the step before the one in flight has ended.
        self.step + self.silent_decisions_before(at) - 1 - self.lag
    }
}
