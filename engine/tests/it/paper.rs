//! What the cases worked out on paper are written with: few names, so that a case reads as its working does.

use slackwater_engine::{
    Coefficients, Output, Ps, ReplicaConfig, Request, Room, Scheduling, StepTimeForm, Stop,
};

pub(crate) const A: u32 = 1;
pub(crate) const B: u32 = 2;
pub(crate) const C: u32 = 3;
pub(crate) const D: u32 = 4;

/// Four at a time, synchronous, room for the whole prompt, no cache.
pub(crate) fn replica(max_num_batched_tokens: u32, block_size: u32, kv_blocks: u32) -> ReplicaConfig {
    ReplicaConfig {
        max_num_batched_tokens,
        max_num_seqs: 4,
        block_size,
        kv_blocks,
        scheduling: Scheduling::Sync,
        room: Room::WholePrompt,
        prefix_caching: false,
    }
}

/// The same with 64 tokens a step and a prefix cache.
pub(crate) fn caching(block_size: u32, kv_blocks: u32) -> ReplicaConfig {
    ReplicaConfig { prefix_caching: true, ..replica(64, block_size, kv_blocks) }
}

/// A step takes `c0_ps` and one picosecond a token.
pub(crate) fn plain(c0_ps: Ps) -> StepTimeForm {
    StepTimeForm::Linear(Coefficients { c0_ps, c_tok_ps: 1, c_seq_ps: 0, c_kv_ps: 0, c_attn_ps: 0 })
}

pub(crate) fn request(tag: u32, prompt: u32, output: u32) -> Request {
    Request { tag, prompt, output, stop: Stop::Length }
}

pub(crate) fn first(tag: u32, at: Ps) -> Output {
    Output::FirstToken { at, tag }
}

pub(crate) fn finished(tag: u32, at: Ps) -> Output {
    Output::Finished { at, tag }
}
