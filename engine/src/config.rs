//! What a replica is configured with, checked once.

use serde::{Deserialize, Serialize};

use crate::pool::MOST_BLOCKS;

/// When the batch of a step is fixed; see the crate's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduling {
    /// At the start of the step itself.
    Sync,
    /// One step ahead, while the step before it runs.
    Async,
}

/// How much room in the KV cache a waiting request must find before it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Room {
    /// Free blocks for its whole prompt (newer vLLM's default).
    WholePrompt,
    /// Free blocks for its first chunk only.
    Chunk,
}

/// The scheduler's limits of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaConfig {
    /// Most tokens computed in one step.
    pub max_num_batched_tokens: u32,
    /// Most requests running at a time.
    pub max_num_seqs: u32,
    /// Tokens in one KV block.
    pub block_size: u32,
    /// KV blocks in all.
    pub kv_blocks: u32,
    /// When batches are fixed.
    pub scheduling: Scheduling,
    /// Room wanted before an admission.
    pub room: Room,
    /// Whether blocks computed before are found and reused; see the crate's documentation.
    #[serde(default)]
    pub prefix_caching: bool,
}

/// A configuration that no engine accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit is zero.
    #[error("{0} is 0; it must be at least 1")]
    Zero(&'static str),
    /// vLLM refuses this too: a decoding request could be left without its token.
    #[error(
        "max_num_batched_tokens ({tokens}) is below max_num_seqs ({seqs}); raise the first or lower the second"
    )]
    BudgetBelowSeqs {
        /// `max_num_batched_tokens`.
        tokens: u32,
        /// `max_num_seqs`.
        seqs: u32,
    },
    /// Block sizes above this are not found in practice and would make counters large.
    #[error("block_size is {0}; at most 65536 is supported")]
    BlockSize(u32),
    /// With prefix caching each block is kept one by one.
    #[error("kv_blocks is {0}; with prefix_caching at most {MOST_BLOCKS} are supported")]
    TooManyBlocks(u32),
}

impl ReplicaConfig {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// Names the limit that is off and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (value, name) in [
            (self.max_num_batched_tokens, "max_num_batched_tokens"),
            (self.max_num_seqs, "max_num_seqs"),
            (self.block_size, "block_size"),
            (self.kv_blocks, "kv_blocks"),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        if self.max_num_batched_tokens < self.max_num_seqs {
            return Err(ConfigError::BudgetBelowSeqs {
                tokens: self.max_num_batched_tokens,
                seqs: self.max_num_seqs,
            });
        }
        if self.block_size > 65536 {
            return Err(ConfigError::BlockSize(self.block_size));
        }
        if self.prefix_caching && self.kv_blocks > MOST_BLOCKS {
            return Err(ConfigError::TooManyBlocks(self.kv_blocks));
        }
        Ok(())
    }

    /// Steps by which a decision runs ahead of the step it decides.
    #[inline]
    pub(crate) fn lag(&self) -> u64 {
        match self.scheduling {
            Scheduling::Sync => 0,
            Scheduling::Async => 1,
        }
    }
}
