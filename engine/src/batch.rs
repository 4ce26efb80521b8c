//! The decoding requests as one set of sums, so that a jump over many steps needs no walk over the requests.
//!
//! A request that finished its prefill of `P` tokens in step `f` has, in step `x`, a context of `P + x - f` tokens, and
//! takes a new KV block in step `x` exactly when `P + x - f - 1` is a multiple of the block size. So it is enough to
//! count the requests by the residue of `f + 1 - P`: nothing in the table changes while they decode.

/// Sums over the requests that decode in the step being decided.
#[derive(Debug, Clone)]
pub(crate) struct DecodeSet {
    /// How many.
    pub(crate) seqs: u64,
    /// Sum of their contexts, the token being computed included.
    pub(crate) context: u64,
    /// Requests by the step (modulo the block size) in which they take a new block.
    phases: Vec<u32>,
}

impl DecodeSet {
    pub(crate) fn new(block_size: u32) -> Self {
        Self { seqs: 0, context: 0, phases: vec![0; block_size as usize] }
    }

    pub(crate) fn clear(&mut self) {
        self.seqs = 0;
        self.context = 0;
        self.phases.fill(0);
    }

    #[inline]
    fn block_size(&self) -> u64 {
        self.phases.len() as u64
    }

    /// Index into `phases` of a request with `to_prefill` tokens whose prefill ended in `first_step`.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // a residue of a u32 block size
    fn phase(&self, first_step: u64, to_prefill: u32) -> usize {
        let size = self.block_size();
        let behind = u64::from(to_prefill) % size;
        ((first_step + 1 + size - behind) % size) as usize
    }

    /// Whether that request takes a new block in `step`.
    #[inline]
    pub(crate) fn takes_block(&self, step: u64, first_step: u64, to_prefill: u32) -> bool {
        (step - first_step - 1 + u64::from(to_prefill)).is_multiple_of(self.block_size())
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
    #[allow(clippy::cast_possible_truncation)] // a residue of a u32 block size
    pub(crate) fn blocks_in(&self, step: u64) -> u64 {
        u64::from(self.phases[(step % self.block_size()) as usize])
    }

    /// New blocks taken in the `steps` steps after `step`.
    #[allow(clippy::cast_possible_truncation)] // residues of a u32 block size
    pub(crate) fn blocks_after(&self, step: u64, steps: u64) -> u64 {
        if steps == 0 || self.seqs == 0 {
            return 0;
        }
        let size = self.block_size();
        let rounds = steps / size;
        let rest = (steps % size) as usize;
        let from = ((step + 1) % size) as usize;
        let head = &self.phases[from..self.phases.len().min(from + rest)];
        let wrapped = (from + rest).saturating_sub(self.phases.len());
        let partial: u64 = head.iter().chain(&self.phases[..wrapped]).map(|&count| u64::from(count)).sum();
        rounds * self.seqs + partial
    }

    /// The most steps (at most `limit`) after `step` whose new blocks fit into `free`.
    pub(crate) fn steps_that_fit(&self, step: u64, free: u32, limit: u64) -> u64 {
        let free = u64::from(free);
        let size = self.block_size();
        // Cheap and usually enough: no step takes more blocks than there are requests in a round.
        if (limit / size + 1).saturating_mul(self.seqs) <= free {
            return limit;
        }
        if self.seqs == 0 {
            return limit;
        }
        let rounds = free / self.seqs;
        let mut steps = rounds.saturating_mul(size);
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
