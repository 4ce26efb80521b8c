//! The scheduler proper: which tokens the next step computes.
//!
//! All decoding requests are handled as one sum. Two facts make that exact:
//! - a request is admitted only while token budget is left, so at most one request, the newest, is ever in the middle of
//!   its prefill, and no decoding request comes after it;
//! - the budget is at least `max_num_seqs` (checked), so every decoding request always gets its token.

use std::cmp::Reverse;

use crate::config::Room;
use crate::pool::Hits;
use crate::replica::{Departure, PendingFirst, Replica, Scheduled};
use crate::sequence::{NONE, Place};
use crate::step_time::{Batch, StepTime};

impl<S: StepTime> Replica<S> {
    #[inline]
    pub(crate) fn schedule(&mut self, step: u64) -> Scheduled {
        let mut preempted = false;
        let wanted = self.decoding.blocks_in(step);
        if wanted <= u64::from(self.free_blocks) {
            // At most free_blocks, a u32.
            #[allow(clippy::cast_possible_truncation)]
            let wanted = wanted as u32;
            self.take_unassigned(wanted);
        } else {
            self.decode_with_preemption(step);
            preempted = true;
        }

        // Both bounded by max_num_batched_tokens.
        #[allow(clippy::cast_possible_truncation)]
        let mut budget = self.config.max_num_batched_tokens - self.decoding.seqs as u32;
        let mut batch = Batch::default();
        if self.prefilling != NONE {
            preempted |= !self.continue_prefill(step, &mut budget, &mut batch);
        }
        if !preempted && self.waiting_len > 0 {
            self.admit(step, &mut budget, &mut batch);
        }
        batch.decode_seqs = self.decoding.seqs;
        batch.context_tokens = self.decoding.context;
        Scheduled { batch, preempted }
    }

    /// Fewer blocks are free than the decoding requests need: in admission order, each takes its block or preempts the
    /// newest for it.
    #[cold]
    fn decode_with_preemption(&mut self, step: u64) {
        let mut slot = self.oldest;
        while slot != NONE {
            let sequence = &self.sequences[slot as usize];
            if sequence.in_batch
                && self.decoding.takes_block(step, sequence.first_step, sequence.to_prefill())
            {
                while self.free_blocks == 0 {
                    let newest = self.newest;
                    self.preempt(newest, step);
                    if newest == slot {
                        return;
                    }
                }
                self.take_unassigned(1);
            }
            slot = self.sequences[slot as usize].newer;
        }
    }

    /// The request in the middle of its prefill takes its chunk; `false` when it had to preempt itself.
    fn continue_prefill(&mut self, step: u64, budget: &mut u32, batch: &mut Batch) -> bool {
        let slot = self.prefilling;
        debug_assert_eq!(slot, self.newest, "only the newest request can be in prefill");
        let sequence = &self.sequences[slot as usize];
        let chunk = (sequence.to_prefill() - sequence.computed).min(*budget);
        debug_assert!(chunk > 0, "the budget covers every decoding request and one token more");
        let more = self.blocks(sequence.computed + chunk) - self.blocks(sequence.computed);
        if more > self.free_blocks {
            self.preempt(slot, step);
            return false;
        }
        self.take_for_chunk(slot, more, chunk);
        self.compute_chunk(slot, chunk, step, batch);
        *budget -= chunk;
        true
    }

    /// Waiting requests are admitted while there is budget, a place and room.
    fn admit(&mut self, step: u64, budget: &mut u32, batch: &mut Batch) {
        while *budget > 0 && self.running < self.config.max_num_seqs {
            let Some(&(slot, born)) = self.waiting.front() else { break };
            let sequence = &self.sequences[slot as usize];
            if sequence.born != born || sequence.place != Place::Waiting {
                self.waiting.pop_front();
                continue;
            }
            let to_prefill = sequence.to_prefill();
            let hits = self.look_up(slot, to_prefill);
            // Fewer tokens than are to be computed.
            let hit_tokens = hits.blocks * self.config.block_size;
            let chunk = (to_prefill - hit_tokens).min(*budget);
            let blocks = self.blocks(hit_tokens + chunk) - hits.blocks;
            let room = match self.config.room {
                Room::WholePrompt => self.blocks(to_prefill) - hits.blocks,
                Room::Chunk => blocks,
            };
            if room + hits.free > self.free_blocks {
                break;
            }
            self.waiting.pop_front();
            self.waiting_len -= 1;
            self.admissions += 1;
            let sequence = &mut self.sequences[slot as usize];
            sequence.admission = self.admissions;
            sequence.place = Place::Prefill;
            sequence.computed = hit_tokens;
            self.link_newest(slot);
            self.prefilling = slot;
            if self.pool.is_some() {
                self.hold_hits(slot, to_prefill, hits);
            }
            self.take_for_chunk(slot, blocks, chunk);
            self.compute_chunk(slot, chunk, step, batch);
            *budget -= chunk;
        }
    }

    /// What a waiting request with so many tokens to compute finds in the prefix cache.
    #[inline]
    fn look_up(&mut self, slot: u32, to_prefill: u32) -> Hits {
        match &mut self.pool {
            // Without a free block there is no room for the last token, and so no need to look.
            Some(pool) if self.free_blocks > 0 => {
                pool.look_up(slot, (to_prefill - 1) / self.config.block_size)
            }
            _ => Hits::default(),
        }
    }

    /// An admitted request holds what it has just found.
    #[inline(never)]
    fn hold_hits(&mut self, slot: u32, to_prefill: u32, hits: Hits) {
        if let Some(pool) = &mut self.pool {
            pool.hold_found(slot);
            self.free_blocks -= hits.free;
            pool.counters.looked_up_tokens += u64::from(to_prefill);
            pool.counters.hit_tokens += u64::from(hits.blocks) * u64::from(self.config.block_size);
        }
    }

    /// A request takes blocks for the chunk it computes next.
    #[inline]
    fn take_for_chunk(&mut self, slot: u32, blocks: u32, chunk: u32) {
        self.free_blocks -= blocks;
        if self.pool.is_some() {
            self.take_from_pool_for_chunk(slot, blocks, chunk);
        }
    }

    #[inline(never)]
    fn take_from_pool_for_chunk(&mut self, slot: u32, blocks: u32, chunk: u32) {
        if let Some(pool) = &mut self.pool {
            pool.take(blocks, Some(slot));
            let computed = self.sequences[slot as usize].computed + chunk;
            pool.fill(slot, computed / self.config.block_size);
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // no more blocks than tokens
    fn blocks(&self, tokens: u32) -> u32 {
        self.decoding.blocks(u64::from(tokens)) as u32
    }

    /// Accounts for a prefill chunk; the last one makes the request decode from the next step on.
    #[inline]
    fn compute_chunk(&mut self, slot: u32, chunk: u32, step: u64, batch: &mut Batch) {
        let lag = self.lag;
        let sequence = &mut self.sequences[slot as usize];
        let (before, tokens) = (u64::from(sequence.computed), u64::from(chunk));
        batch.prefill_tokens += tokens;
        batch.attention_pairs_twice += tokens * (2 * before + tokens);
        sequence.computed += chunk;
        if sequence.computed < sequence.to_prefill() {
            return;
        }
        sequence.place = Place::Decode;
        sequence.first_step = step;
        sequence.end_step = step + u64::from(sequence.output - sequence.emitted_before) - 1;
        self.ends.push(Reverse(Departure {
            decision: sequence.end_step + 1 + lag,
            admission: sequence.admission,
            slot,
        }));
        if sequence.emitted_before == 0 {
            let (admission, born) = (sequence.admission, sequence.born);
            self.first_tokens.push_back(PendingFirst { step, admission, slot, born });
        }
        let born = self.sequences[slot as usize].born;
        self.joining.push((slot, born));
        self.prefilling = NONE;
    }

    /// The newest request gives its blocks back and waits at the head of the queue, to compute again all it had.
    fn preempt(&mut self, slot: u32, step: u64) {
        self.counters.preemptions += 1;
        self.give_blocks_back(slot, step);
        self.leave_batch(slot, step);
        self.unlink(slot);
        let sequence = &mut self.sequences[slot as usize];
        let in_flight = step - 1;
        if sequence.place == Place::Decode {
            // The token of the step in flight (asynchronous scheduling) is counted, and still comes.
            sequence.emitted_before = sequence.emitted_through(in_flight);
            if sequence.end_step > in_flight {
                sequence.admission = 0;
            }
            // From now on: the step that carries the last token counted in `emitted_before`.
            sequence.end_step = sequence.end_step.min(in_flight);
        } else {
            sequence.admission = 0;
        }
        sequence.computed = 0;
        sequence.place = Place::Waiting;
        self.waiting.push_front((slot, sequence.born));
        self.waiting_len += 1;
    }
}
