//! The oracle's KV blocks, one by one: who holds each, under which id it can be found, and where it lies in the queue.
//!
//! ```text
//!             take                        let go
//!   head ──────────────► held by requests ──────► tail (filled) or head (not filled)
//!     ▲                      ▲
//!     └──── free queue ──────┘ hold (found)
//! ```

use std::collections::BTreeMap;

/// Index of a block; never changes.
pub(crate) type BlockIndex = usize;

/// What a block can be found under: its place in a list, and the number there.
pub(crate) type BlockId = (usize, u64);

#[derive(Debug, Clone, Default)]
struct Block {
    holders: u32,
    /// The id it can be found under, and which it was among all that ever became findable.
    findable: Option<(BlockId, u64)>,
    /// Where it lies in the free queue while nobody holds it.
    position: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Lower positions are nearer to the head.
    free: BTreeMap<i64, BlockIndex>,
    /// Findable blocks by (id, which it was), so that the first of an id is the one that became findable first.
    findable: BTreeMap<(BlockId, u64), BlockIndex>,
    became_findable: u64,
    evicted: u64,
}

impl Blocks {
    pub(crate) fn new(count: u32) -> Self {
        let mut blocks = Self {
            blocks: vec![Block::default(); count as usize],
            free: BTreeMap::new(),
            findable: BTreeMap::new(),
            became_findable: 0,
            evicted: 0,
        };
        for index in 0..count as usize {
            blocks.lay_at_tail(index);
        }
        blocks
    }

    pub(crate) fn free(&self) -> u32 {
        u32::try_from(self.free.len()).expect("as many as there are blocks")
    }

    /// Findable blocks taken for other tokens.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn is_free(&self, index: BlockIndex) -> bool {
        self.blocks[index].position.is_some()
    }

    pub(crate) fn is_findable(&self, index: BlockIndex) -> bool {
        self.blocks[index].findable.is_some()
    }

    /// The block that became findable first among those under this id.
    pub(crate) fn find(&self, id: BlockId) -> Option<BlockIndex> {
        self.findable.range((id, 0)..=(id, u64::MAX)).next().map(|(_, &index)| index)
    }

    /// The block at the head of the queue, for tokens of its own.
    pub(crate) fn take(&mut self) -> BlockIndex {
        let (_, index) = self.free.pop_first().expect("whoever takes has asked for room");
        let block = &mut self.blocks[index];
        block.position = None;
        block.holders = 1;
        if let Some(key) = block.findable.take() {
            self.findable.remove(&key);
            self.evicted += 1;
        }
        index
    }

    /// One more holder of a block that was found.
    pub(crate) fn hold(&mut self, index: BlockIndex) {
        let block = &mut self.blocks[index];
        if let Some(position) = block.position.take() {
            self.free.remove(&position);
        }
        block.holders += 1;
    }

    pub(crate) fn make_findable(&mut self, index: BlockIndex, id: BlockId) {
        assert!(!self.is_free(index) && !self.is_findable(index));
        let key = (id, self.became_findable);
        self.became_findable += 1;
        self.blocks[index].findable = Some(key);
        self.findable.insert(key, index);
    }

    /// One holder less.
    pub(crate) fn let_go(&mut self, index: BlockIndex, filled: bool) {
        let block = &mut self.blocks[index];
        block.holders -= 1;
        if block.holders == 0 {
            if filled {
                self.lay_at_tail(index);
            } else {
                assert!(!self.is_findable(index), "what can be found is filled");
                self.lay_at_head(index);
            }
        }
    }

    fn lay_at_tail(&mut self, index: BlockIndex) {
        let position = self.free.last_key_value().map_or(0, |(last, _)| last + 1);
        self.lay_at(position, index);
    }

    fn lay_at_head(&mut self, index: BlockIndex) {
        let position = self.free.first_key_value().map_or(0, |(first, _)| first - 1);
        self.lay_at(position, index);
    }

    fn lay_at(&mut self, position: i64, index: BlockIndex) {
        self.free.insert(position, index);
        self.blocks[index].position = Some(position);
    }

    /// What was found can't be found any more, and all blocks are free.
    pub(crate) fn forget_all(&mut self) {
        let evicted = self.evicted;
        *self = Self::new(u32::try_from(self.blocks.len()).expect("it was made of a u32"));
        self.evicted = evicted;
    }

    /// Every block is either free or held by as many as `held` names it.
    pub(crate) fn assert_invariants(&self, held: impl Iterator<Item = BlockIndex>) {
        let mut holders = vec![0; self.blocks.len()];
        for index in held {
            holders[index] += 1;
        }
        for (index, (block, holders)) in self.blocks.iter().zip(holders).enumerate() {
            assert_eq!(block.holders, holders, "holders of block {index}");
            assert_eq!(block.position.is_some(), holders == 0, "block {index} is free when nobody holds it");
        }
        assert_eq!(self.free.len(), self.blocks.iter().filter(|block| block.holders == 0).count());
    }
}
