//! The KV blocks one by one, as prefix caching needs them: who holds which, what can be found in them, and the queue of
//! the free.
//!
//! ```text
//!            taken from the head            given back, last block first
//!   free queue ────────────────► held ───────────────────────────────────► free queue (filled: tail, else: head)
//!        └───────── hit, from anywhere ───────┘
//! ```
//!
//! A request that decodes takes a block now and then, and only at its end does it matter which: blocks taken by decoding
//! lie in one heap, `unassigned`, until whoever holds so many of them leaves. That is what lets the replica jump.
//!
//! What the replica calls is never inlined: the paths of a replica without a pool stay as short as they were.

use crate::counters::PrefixCounters;
use crate::findable::{Findable, Key};

/// The most blocks that are kept one by one. They take about 1 GiB of memory; a real replica has some ten thousand.
pub(crate) const MOST_BLOCKS: u32 = 1 << 24;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

/// What a request has to do with the pool.
#[derive(Debug, Clone, Default)]
struct Holding {
    /// Ids of its full blocks, from the first.
    ids: Vec<u64>,
    /// Its first blocks: those hit, and those taken in prefill.
    blocks: Vec<u32>,
    /// So many of them are findable, or were once and can't be again.
    findable: u32,
}

/// What a look at the cache found for a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hits {
    pub(crate) blocks: u32,
    /// Of these, in the free queue.
    pub(crate) free: u32,
}

/// All blocks of a replica.
#[derive(Debug, Clone)]
pub(crate) struct BlockPool {
    /// The free queue, a ring: one link for each block, and a last one between tail and head.
    links: Vec<Link>,
    /// Requests that hold a block.
    holders: Vec<u32>,
    findable: Findable,
    /// By slot.
    holdings: Vec<Holding>,
    /// Taken in decode steps, and not yet told apart.
    unassigned: Vec<u32>,
    /// What the last look found.
    found: Vec<u32>,
    pub(crate) counters: PrefixCounters,
}

impl BlockPool {
    pub(crate) fn new(blocks: u32) -> Self {
        let mut pool = Self {
            links: vec![Link { before: 0, after: 0 }; blocks as usize + 1],
            holders: vec![0; blocks as usize],
            findable: Findable::new(blocks as usize),
            holdings: Vec::new(),
            unassigned: Vec::new(),
            found: Vec::new(),
            counters: PrefixCounters::default(),
        };
        pool.free_all();
        pool
    }

    /// Everything is free and nothing can be found, as in a new process.
    pub(crate) fn clear(&mut self) {
        self.findable.clear();
        self.unassigned.clear();
        self.holders.fill(0);
        for holding in &mut self.holdings {
            holding.blocks.clear();
            holding.findable = 0;
        }
        self.free_all();
    }

    fn free_all(&mut self) {
        let ends = self.ends();
        self.links[ends as usize] = Link { before: ends, after: ends };
        for block in 0..ends {
            self.link_before(ends, block);
        }
    }

    /// Names the blocks of the request that is now in `slot`.
    #[inline(never)]
    pub(crate) fn name(&mut self, slot: u32, ids: &[u64]) {
        let slot = slot as usize;
        if slot >= self.holdings.len() {
            self.holdings.resize_with(slot + 1, Holding::default);
        }
        let holding = &mut self.holdings[slot];
        debug_assert!(holding.blocks.is_empty(), "a slot is reused when its blocks were given back");
        holding.ids.clear();
        holding.ids.extend_from_slice(ids);
    }

    /// The longest run of the request's ids that can be found, of at most `limit` blocks. Moves nothing.
    #[inline(never)]
    pub(crate) fn look_up(&mut self, slot: u32, limit: u32) -> Hits {
        self.found.clear();
        let mut hits = Hits::default();
        for (place, &id) in (0..limit).zip(&self.holdings[slot as usize].ids) {
            let Some(block) = self.findable.find(Key { id, place }) else { break };
            self.found.push(block);
            hits.blocks += 1;
            hits.free += u32::from(self.holders[block as usize] == 0);
        }
        hits
    }

    /// The request holds what the last look found.
    #[inline(never)]
    pub(crate) fn hold_found(&mut self, slot: u32) {
        let mut found = std::mem::take(&mut self.found);
        for &block in &found {
            if self.holders[block as usize] == 0 {
                self.unlink(block);
            }
            self.holders[block as usize] += 1;
        }
        let holding = &mut self.holdings[slot as usize];
        // At most kv_blocks, a u32.
        #[allow(clippy::cast_possible_truncation)]
        let hits = found.len() as u32;
        holding.findable = hits;
        holding.blocks.append(&mut found);
        self.found = found;
    }

    /// So many blocks are taken by requests in prefill or, with no slot, by whoever decodes.
    #[inline(never)]
    pub(crate) fn take(&mut self, count: u32, slot: Option<u32>) {
        for _ in 0..count {
            let block = self.links[self.ends() as usize].after;
            debug_assert_ne!(block, self.ends(), "whoever takes blocks has looked how many are free");
            self.unlink(block);
            self.counters.evicted_blocks += u64::from(self.findable.remove(block));
            self.holders[block as usize] = 1;
            match slot {
                Some(slot) => self.holdings[slot as usize].blocks.push(block),
                None => self.unassigned.push(block),
            }
        }
    }

    /// The request's first `filled` blocks are filled: those with an id can be found from now on.
    #[inline(never)]
    pub(crate) fn fill(&mut self, slot: u32, filled: u32) {
        let holding = &mut self.holdings[slot as usize];
        let named = holding.ids.iter().zip(&holding.blocks).zip(0..filled);
        for ((&id, &block), place) in named.skip(holding.findable as usize) {
            self.findable.insert(block, Key { id, place });
        }
        holding.findable = holding.findable.max(filled);
    }

    /// The request, which holds `held` blocks of which the first `filled` are filled, lets go of them all. Returns how
    /// many became free.
    #[inline(never)]
    pub(crate) fn give_back(&mut self, slot: u32, held: u32, filled: u32) -> u32 {
        let mut blocks = std::mem::take(&mut self.holdings[slot as usize].blocks);
        let assigned = blocks.len();
        debug_assert!(assigned <= held as usize, "prefill took no more than the request holds");
        let from = self.unassigned.len() + assigned - held as usize;
        blocks.extend(self.unassigned.drain(from..));
        self.holdings[slot as usize].blocks = blocks;
        self.fill(slot, filled);

        let mut blocks = std::mem::take(&mut self.holdings[slot as usize].blocks);
        let mut freed = 0;
        for (index, &block) in blocks.iter().enumerate().rev() {
            self.holders[block as usize] -= 1;
            if self.holders[block as usize] > 0 {
                continue;
            }
            freed += 1;
            let ends = self.ends();
            let place = if index < filled as usize { ends } else { self.links[ends as usize].after };
            self.link_before(place, block);
        }
        blocks.clear();
        let holding = &mut self.holdings[slot as usize];
        holding.blocks = blocks;
        holding.findable = 0;
        freed
    }

    /// The link between the tail of the queue and its head.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // one more than MOST_BLOCKS at most
    fn ends(&self) -> u32 {
        self.holders.len() as u32
    }

    #[inline]
    fn unlink(&mut self, block: u32) {
        let Link { before, after } = self.links[block as usize];
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }

    /// Puts a block into the queue before `place`.
    #[inline]
    fn link_before(&mut self, place: u32, block: u32) {
        let before = self.links[place as usize].before;
        self.links[block as usize] = Link { before, after: place };
        self.links[before as usize].after = block;
        self.links[place as usize].before = block;
    }
}

#[cfg(test)]
mod tests;
