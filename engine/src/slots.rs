//! The slots of the requests: the list of the running in admission order, and what a request holds and gives back.

use crate::replica::Replica;
use crate::sequence::{NONE, Place, Sequence};

impl<S> Replica<S> {
    #[inline]
    pub(crate) fn leave_batch(&mut self, slot: u32, step: u64) {
        let sequence = &mut self.sequences[slot as usize];
        if sequence.in_batch {
            sequence.in_batch = false;
            self.decoding.leave(step, sequence.first_step, sequence.to_prefill());
        }
    }

    /// KV blocks a running request holds when the decision for `step` begins.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // at most kv_blocks, by the check at submission
    pub(crate) fn blocks_held(&self, slot: u32, step: u64) -> u32 {
        let sequence = &self.sequences[slot as usize];
        let tokens = match sequence.place {
            Place::Prefill => u64::from(sequence.computed),
            Place::Decode => {
                let last = (step - 1).min(sequence.last_step(self.lag));
                u64::from(sequence.to_prefill()) + last.saturating_sub(sequence.first_step)
            }
            Place::Vacant | Place::Inbox | Place::Waiting => 0,
        };
        self.decoding.blocks(tokens) as u32
    }

    /// A running request gives its blocks back in the decision for `step`.
    #[inline]
    pub(crate) fn give_blocks_back(&mut self, slot: u32, step: u64) {
        let held = self.blocks_held(slot, step);
        self.free_blocks += if self.pool.is_some() { self.give_back_to_pool(slot, step, held) } else { held };
    }

    #[inline(never)]
    #[allow(clippy::cast_possible_truncation)] // at most kv_blocks, by the check at submission
    fn give_back_to_pool(&mut self, slot: u32, step: u64, held: u32) -> u32 {
        let Some(pool) = &mut self.pool else { return held };
        let sequence = &self.sequences[slot as usize];
        let tokens = match sequence.place {
            Place::Decode => {
                let ended = (step - 1 - self.lag).min(sequence.end_step);
                u64::from(sequence.to_prefill()) + ended.saturating_sub(sequence.first_step)
            }
            _ => u64::from(sequence.computed),
        };
        pool.give_back(slot, held, self.decoding.full_blocks(tokens) as u32)
    }

    /// So many blocks are taken by decoding requests.
    #[inline]
    pub(crate) fn take_unassigned(&mut self, blocks: u32) {
        self.free_blocks -= blocks;
        if let Some(pool) = &mut self.pool {
            pool.take(blocks, None);
        }
    }

    /// A running request gives everything back and is gone.
    pub(crate) fn release(&mut self, slot: u32, step: u64) {
        self.give_blocks_back(slot, step);
        self.leave_batch(slot, step);
        self.unlink(slot);
        self.vacate(slot);
    }

    pub(crate) fn vacate(&mut self, slot: u32) {
        let sequence = &mut self.sequences[slot as usize];
        sequence.place = Place::Vacant;
        sequence.admission = 0;
        sequence.born = 0;
        self.vacant.push(slot);
        if self.waiting_len == 0 {
            // Only stale entries are left.
            self.waiting.clear();
        }
    }

    #[inline]
    pub(crate) fn link_newest(&mut self, slot: u32) {
        let newest = self.newest;
        let sequence = &mut self.sequences[slot as usize];
        sequence.older = newest;
        sequence.newer = NONE;
        if newest == NONE {
            self.oldest = slot;
        } else {
            self.sequences[newest as usize].newer = slot;
        }
        self.newest = slot;
        self.running += 1;
    }

    #[inline]
    pub(crate) fn unlink(&mut self, slot: u32) {
        let Sequence { older, newer, .. } = self.sequences[slot as usize];
        if older == NONE {
            self.oldest = newer;
        } else {
            self.sequences[older as usize].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.sequences[newer as usize].older = older;
        }
        self.running -= 1;
        if self.prefilling == slot {
            self.prefilling = NONE;
        }
    }
}
