//! The decoding requests as one set of sums, so that a jump over many steps needs no walk over the requests.
//!
//! A request that finished its prefill of `P` tokens in step `f` has, in step `x`, a context of `P + x - f` tokens, and
//! takes a new KV block in step `x` exactly when `P + x - f - 1` is a multiple of the block size. So it is enough to
//! count the requests by the residue of `f + 1 - P`: nothing in the table changes while they decode.

/// Tokens in a KV block. Sizes are powers of two nearly always, and then no division is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSize {
    size: u32,
    /// Exponent of a power of two.
    shift: Option<u32>,
}

impl BlockSize {
    pub(crate) fn new(size: u32) -> Self {
        Self { size, shift: size.is_power_of_two().then(|| size.trailing_zeros()) }
    }

    /// Blocks that hold so many tokens.
    #[inline]
    pub(crate) fn blocks(self, tokens: u64) -> u64 {
        match self.shift {
            Some(shift) => (tokens + u64::from(self.size) - 1) >> shift,
            None => tokens.div_ceil(u64::from(self.size)),
        }
    }

    /// Whole blocks in so many tokens, and what is left.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the rest is below a u32
    fn split(self, tokens: u64) -> (u64, usize) {
        match self.shift {
            Some(shift) => (tokens >> shift, (tokens & (u64::from(self.size) - 1)) as usize),
            None => (tokens / u64::from(self.size), (tokens % u64::from(self.size)) as usize),
        }
    }

    #[inline]
    fn rest(self, tokens: u64) -> usize {
        self.split(tokens).1
    }
}

/// Sums over the requests that decode in the step being decided.
#[derive(Debug, Clone)]
pub(crate) struct DecodeSet {
    /// How many.
    pub(crate) seqs: u64,
    /// Sum of their contexts, the token being computed included.
    pub(crate) context: u64,
    /// Requests by the step (modulo the block size) in which they take a new block.
    phases: Vec<u32>,
    block_size: BlockSize,
}

impl DecodeSet {
    pub(crate) fn new(block_size: u32) -> Self {
        Self {
            seqs: 0,
            context: 0,
            phases: vec![0; block_size as usize],
            block_size: BlockSize::new(block_size),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.seqs = 0;
        self.context = 0;
        self.phases.fill(0);
    }

    /// Index into `phases` of a request with `to_prefill` tokens whose prefill ended in `first_step`.
    #[inline]
    fn phase(&self, first_step: u64, to_prefill: u32) -> usize {
        let behind = self.block_size.rest(u64::from(to_prefill)) as u64;
        self.block_size.rest(first_step + 1 + u64::from(self.block_size.size) - behind)
    }

    /// Whether that request takes a new block in `step`.
    #[inline]
    pub(crate) fn takes_block(&self, step: u64, first_step: u64, to_prefill: u32) -> bool {
        self.block_size.rest(step - first_step - 1 + u64::from(to_prefill)) == 0
    }

    /// Adds a request that decodes from `step` on.
    #[inline]
    pub(crate) fn join(&mut self, step: u64, first_step: u64, to_prefill: u32) {
        self.seqs += 1;
        self.context += u64::from(to_prefill) + (step - first_step);
        let phase = self.phase(first_step, to_prefill);
        self.phases[phase] += 1;
    }

    /// Takes a request out that decoded until the step before `step`.
    #[inline]
    pub(crate) fn leave(&mut self, step: u64, first_step: u64, to_prefill: u32) {
        self.seqs -= 1;
        self.context -= u64::from(to_prefill) + (step - first_step);
        let phase = self.phase(first_step, to_prefill);
        self.phases[phase] -= 1;
    }

    /// New blocks taken in `step`.
    #[inline]
    pub(crate) fn blocks_in(&self, step: u64) -> u64 {
        u64::from(self.phases[self.block_size.rest(step)])
    }

    /// New blocks taken in the `steps` steps after `step`.
    #[inline]
    pub(crate) fn blocks_after(&self, step: u64, steps: u64) -> u64 {
        let (rounds, rest) = self.block_size.split(steps);
        let mut blocks = rounds * self.seqs;
        if rest > 0 {
            let from = self.block_size.rest(step + 1);
            blocks += u64::from(self.phases_from(from, rest));
        }
        blocks
    }

    /// Sum of `count` phases from `from` on, going round.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // block sizes are at most 65536
    fn phases_from(&self, from: usize, count: usize) -> u32 {
        let size = self.block_size.size as i32;
        let (from, count) = (from as i32, count as i32);
        // Every phase is looked at, without a branch and in signed 32 bits, so that the loop becomes vector code: quicker
        // than summing two short slices.
        let places = self.phases.iter().zip(0_i32..);
        if self.block_size.shift.is_some() {
            places
                .map(|(&seqs, phase)| if (phase.wrapping_sub(from) & (size - 1)) < count { seqs } else { 0 })
                .sum()
        } else {
            places
                .map(
                    |(&seqs, phase)| {
                        if (phase - from + if phase < from { size } else { 0 }) < count { seqs } else { 0 }
                    },
                )
                .sum()
        }
    }

    /// The most steps (at most `limit`) after `step` whose new blocks fit into `free`.
    #[inline]
    pub(crate) fn steps_that_fit(&self, step: u64, free: u32, limit: u64) -> u64 {
        // Cheap and usually enough: no round takes more blocks than there are requests.
        if (self.block_size.split(limit).0 + 1).saturating_mul(self.seqs) <= u64::from(free) {
            return limit;
        }
        self.steps_that_just_fit(step, free, limit)
    }

    #[cold]
    fn steps_that_just_fit(&self, step: u64, free: u32, limit: u64) -> u64 {
        let free = u64::from(free);
        let rounds = free / self.seqs;
        let mut steps = rounds.saturating_mul(u64::from(self.block_size.size));
        let mut left = free - rounds * self.seqs;
        while steps < limit {
            let need = self.blocks_in(step + 1 + steps);
            if need > left {
                break;
            }
            left -= need;
            steps += 1;
        }
        steps.min(limit)
    }

    /// Blocks that hold so many tokens.
    #[inline]
    pub(crate) fn blocks(&self, tokens: u64) -> u64 {
        self.block_size.blocks(tokens)
    }

    /// Blocks that so many tokens fill.
    #[inline]
    pub(crate) fn full_blocks(&self, tokens: u64) -> u64 {
        self.block_size.split(tokens).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_a_walk() {
        let mut set = DecodeSet::new(4);
        let members = [(5_u64, 7_u32), (5, 8), (3, 1), (4, 13)];
        for (first, prompt) in members {
            set.join(6, first, prompt);
        }
        let blocks = |x: u64| {
            members.iter().filter(|&&(f, p)| (u64::from(p) + x - f - 1).is_multiple_of(4)).count() as u64
        };
        for steps in 0..20 {
            let walked: u64 = (7..7 + steps).map(blocks).sum();
            assert_eq!(set.blocks_after(6, steps), walked, "{steps} steps");
        }
        for free in 0..20 {
            let fit = set.steps_that_fit(6, free, 12);
            assert!(set.blocks_after(6, fit) <= u64::from(free));
            assert!(fit == 12 || set.blocks_after(6, fit + 1) > u64::from(free), "free {free}");
        }
    }
}
