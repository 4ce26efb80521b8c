//! Which blocks can be found, by the id of what is in them.
//!
//! ```text
//!   bucket of an id ──► first block of id A ──► first block of id B ──► ...
//!                         │ newer                  (each the oldest of its id)
//!                         ▼
//!                       second block of id A ──► ...
//! ```
//!
//! There are never more entries than blocks, so all of it is allocated once, and nothing depends on the order of a walk.

const NONE: u32 = u32::MAX;

/// What is in a block: its chained id, and its place in the list that named it. An id at another place is another one,
/// so that no block is found twice for one request, whatever the caller's ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: u64,
    pub(crate) place: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// `None`: the block can't be found.
    key: Option<Key>,
    /// Of the first block of a key: the first block of another key in the same bucket.
    next: u32,
    /// The block of the same key that became findable before; of the first, the last.
    older: u32,
    newer: u32,
}

/// An index from keys to blocks.
#[derive(Debug, Clone)]
pub(crate) struct Findable {
    /// By block.
    entries: Vec<Entry>,
    /// The first block of the first key; a power of two of them.
    buckets: Vec<u32>,
    /// Turns a 64 bit hash into a bucket.
    shift: u32,
}

impl Findable {
    pub(crate) fn new(blocks: usize) -> Self {
        let buckets = blocks.next_power_of_two().max(2);
        Self {
            entries: vec![Entry { key: None, next: NONE, older: NONE, newer: NONE }; blocks],
            buckets: vec![NONE; buckets],
            shift: 64 - buckets.trailing_zeros(),
        }
    }

    pub(crate) fn clear(&mut self) {
        for entry in &mut self.entries {
            entry.key = None;
        }
        self.buckets.fill(NONE);
    }

    /// The block of this key that became findable first.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<u32> {
        let mut block = self.buckets[self.bucket(key)];
        while block != NONE {
            let entry = &self.entries[block as usize];
            if entry.key == Some(key) {
                return Some(block);
            }
            block = entry.next;
        }
        None
    }

    /// Makes a block findable that is not yet.
    pub(crate) fn insert(&mut self, block: u32, key: Key) {
        debug_assert_eq!(self.key(block), None, "a block holds one thing at a time");
        if let Some(first) = self.find(key) {
            let last = self.entries[first as usize].older;
            self.entries[last as usize].newer = block;
            self.entries[first as usize].older = block;
            self.entries[block as usize] = Entry { key: Some(key), next: NONE, older: last, newer: NONE };
        } else {
            let bucket = self.bucket(key);
            let next = std::mem::replace(&mut self.buckets[bucket], block);
            self.entries[block as usize] = Entry { key: Some(key), next, older: block, newer: NONE };
        }
    }

    /// Makes a block impossible to find; `false` when it was so already.
    #[inline]
    pub(crate) fn remove(&mut self, block: u32) -> bool {
        let Some(key) = self.entries[block as usize].key.take() else { return false };
        let Entry { next, older, newer, .. } = self.entries[block as usize];
        let is_first = self.entries[older as usize].newer == NONE;
        if !is_first {
            self.entries[older as usize].newer = newer;
            // The first one names the last as the one before it.
            let after = if newer == NONE { self.find(key).expect("it is not the first") } else { newer };
            self.entries[after as usize].older = older;
            return true;
        }
        let heir = if newer == NONE {
            next
        } else {
            let last = older;
            self.entries[newer as usize].older = last;
            self.entries[newer as usize].next = next;
            newer
        };
        let bucket = self.bucket(key);
        let mut before = self.buckets[bucket];
        if before == block {
            self.buckets[bucket] = heir;
        } else {
            while self.entries[before as usize].next != block {
                before = self.entries[before as usize].next;
            }
            self.entries[before as usize].next = heir;
        }
        true
    }

    /// What can be found in a block.
    pub(crate) fn key(&self, block: u32) -> Option<Key> {
        self.entries[block as usize].key
    }

    /// Multiplicative hashing by two odd constants (from the golden ratio and its like); the high bits are the good ones.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fewer buckets than 2^33
    fn bucket(&self, key: Key) -> usize {
        let mixed = key.id ^ u64::from(key.place).wrapping_mul(0xD1B5_4A32_D192_ED03);
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain list in the order of insertion, with so few keys that they collide and repeat.
        #[test]
        fn finds_the_oldest_of_a_key(steps in prop::collection::vec((0_u32..12, 0_u64..4, 0_u32..2), 0..200)) {
            let mut findable = Findable::new(12);
            let mut list: Vec<(u32, Key)> = Vec::new();
            for (block, id, place) in steps {
                let key = Key { id, place };
                let known = list.iter().position(|&(other, _)| other == block);
                prop_assert_eq!(findable.key(block), known.map(|index| list[index].1));
                if let Some(index) = known {
                    list.remove(index);
                    prop_assert!(findable.remove(block));
                } else {
                    prop_assert!(!findable.remove(block));
                    list.push((block, key));
                    findable.insert(block, key);
                }
                for key in (0..4).flat_map(|id| (0..2).map(move |place| Key { id, place })) {
                    let oldest = list.iter().find(|&&(_, other)| other == key).map(|&(block, _)| block);
                    prop_assert_eq!(findable.find(key), oldest);
                }
            }
            findable.clear();
            let found = (0..4).any(|id| findable.find(Key { id, place: 0 }).is_some());
            prop_assert!(!found);
        }
    }
}
