//! What a replica counts.

/// What a replica did so far. All counts are totals since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Steps with a batch.
    pub steps: u64,
    /// Prompt tokens computed, recomputation included.
    pub prefill_tokens: u64,
    /// Decode tokens computed, wasted ones included.
    pub decode_tokens: u64,
    /// Decode tokens computed for requests that had already emitted their last one.
    pub wasted_tokens: u64,
    /// Requests put back into the queue for want of KV blocks.
    pub preemptions: u64,
    /// Requests accepted.
    pub submitted: u64,
    /// Requests that emitted all their tokens.
    pub finished: u64,
    /// Requests cancelled.
    pub cancelled: u64,
    /// Requests that were alive at a kill.
    pub killed: u64,
    /// Time spent in steps.
    pub busy_ps: u64,
    /// Most KV blocks in use at once.
    pub kv_blocks_peak: u64,
}

/// What the prefix cache of a replica did so far. Apart from [`Counters`], whose recorded hashes stay what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefixCounters {
    /// Tokens that admitted requests had to compute before a look at the cache: prompt, and what was generated before a
    /// preemption.
    pub looked_up_tokens: u64,
    /// How many of these were found, and so not computed.
    pub hit_tokens: u64,
    /// Findable blocks taken for other tokens.
    pub evicted_blocks: u64,
}

impl PrefixCounters {
    /// Adds another replica's totals.
    pub fn add(&mut self, other: &Self) {
        self.looked_up_tokens += other.looked_up_tokens;
        self.hit_tokens += other.hit_tokens;
        self.evicted_blocks += other.evicted_blocks;
    }
}

impl Counters {
    /// Adds another replica's totals; the peak is the larger of the two.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.prefill_tokens += other.prefill_tokens;
        self.decode_tokens += other.decode_tokens;
        self.wasted_tokens += other.wasted_tokens;
        self.preemptions += other.preemptions;
        self.submitted += other.submitted;
        self.finished += other.finished;
        self.cancelled += other.cancelled;
        self.killed += other.killed;
        self.busy_ps += other.busy_ps;
        self.kv_blocks_peak = self.kv_blocks_peak.max(other.kv_blocks_peak);
    }

    /// Every count, in the order of the fields, for hashing.
    #[must_use]
    pub fn values(&self) -> [u64; 11] {
        // Taken apart so that a new field can't be forgotten here.
        let Self {
            steps,
            prefill_tokens,
            decode_tokens,
            wasted_tokens,
            preemptions,
            submitted,
            finished,
            cancelled,
            killed,
            busy_ps,
            kv_blocks_peak,
        } = *self;
        [
            steps,
            prefill_tokens,
            decode_tokens,
            wasted_tokens,
            preemptions,
            submitted,
            finished,
            cancelled,
            killed,
            busy_ps,
            kv_blocks_peak,
        ]
    }
}
