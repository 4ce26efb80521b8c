//! An engine profile in the terms of the engine model: whole picoseconds, checked limits.

use slackwater_engine::step_time::ps_from_s;
use slackwater_engine::{Coefficients, ConfigError, ReplicaConfig, Room, StepTimeForm};

use crate::engine_profile::{EngineProfile, KvReservation, Scheduling, StepForm};

impl EngineProfile {
    /// The scheduler's limits.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn replica_config(&self) -> Result<ReplicaConfig, ConfigError> {
        let config = ReplicaConfig {
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_num_seqs: self.max_num_seqs,
            block_size: self.block_size,
            kv_blocks: self.kv_blocks,
            scheduling: match self.scheduling {
                Scheduling::Sync => slackwater_engine::Scheduling::Sync,
                Scheduling::Async => slackwater_engine::Scheduling::Async,
            },
            room: match self.reserve {
                KvReservation::WholePrompt => Room::WholePrompt,
                KvReservation::Chunk => Room::Chunk,
            },
            prefix_caching: self.prefix_caching,
        };
        config.validate()?;
        Ok(config)
    }

    /// The step time, each coefficient rounded once to a picosecond.
    #[must_use]
    pub fn step_time(&self) -> StepTimeForm {
        let c0_ps = ps_from_s(self.c0_ms / 1e3);
        let [c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps] =
            [self.c_tok_us, self.c_seq_us, self.c_kv_us, self.c_attn_us_per_token2]
                .map(|microseconds| ps_from_s(microseconds / 1e6));
        let coefficients = Coefficients { c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps };
        match self.form {
            StepForm::Max => StepTimeForm::Max(coefficients),
            StepForm::Linear => StepTimeForm::Linear(coefficients),
        }
    }
}
