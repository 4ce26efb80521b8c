//! One inference replica: continuous batching in exact jumps.
//!
//! ```text
//!   submit / cancel / kill ──►  Replica  ──► FirstToken, Finished (with their times)
//!                                 │  asks, for a fixed batch
//!                                 ▼
//!                             StepTime: (first step, slope a step, valid for at most so many steps)
//! ```
//!
//! # What is modelled
//!
//! The scheduler of vLLM V1 (`vllm/v1/core/sched/scheduler.py`, read at commit `00024d314514`, first come first
//! served, chunked prefill on, no speculative decoding, no prefix cache), with its asynchronous variant. The words
//! below are the contract; the stepping oracle in the tests is written from them, not from the code.
//!
//! **Time** is integer picoseconds ([`Ps`]) since the start of the run, checked: an overflow is an error.
//!
//! **Inputs before outputs.** Inputs (submit, cancel, kill) at time `T` precede everything the replica does by itself
//! at `T`. The driver calls [`Replica::advance_before`]`(T)` and then hands in what happens at `T`.
//!
//! **Steps** have indices that grow by one. For each step there is a *decision*, which fixes its batch.
//! With synchronous scheduling the decision for step `s` is taken when step `s` starts, which is when step `s-1` ends.
//! With asynchronous scheduling it is taken when step `s-1` starts, which is when step `s-2` ends. The lag is 0 or 1
//! step. A decision, at time `t`, does in this order:
//!
//! 1. *Outputs* of the step that ended at `t`. Requests that emitted their first token or their last one are reported,
//!    those that decoded in admission order, then those that finished prefill in admission order (the first token of
//!    a request before its end). Ended requests give back their KV blocks and their place among the running.
//! 2. *Cancelled* requests (cancelled at or before `t`) leave. A cancelled request reports nothing at or after the time
//!    of the cancel; while it runs its place and blocks stay taken until the next decision. A waiting one leaves at once.
//! 3. *Intake*: submitted requests whose ready time is at or before `t` join the end of the waiting queue, in order of
//!    (ready time, order of submission).
//! 4. *Scheduling*, as below. If nothing is scheduled and nothing is in flight, the replica is idle until the next
//!    ready time.
//!
//! **Scheduling** of step `s`. The token budget is `max_num_batched_tokens`.
//! - *Running* requests in admission order. One whose prompt is computed takes 1 token (it decodes); one still in
//!   prefill takes `min(tokens left, budget left)`. Each needs `ceil((computed + taken) / block_size)` blocks in all.
//!   While there are too few free blocks for it, the most recently admitted running request is preempted: its blocks
//!   are freed, it goes to the head of the waiting queue, and it will compute again prompt plus generated tokens.
//!   If that is the request itself, scheduling of running requests ends there.
//! - *Waiting* requests, first come first served, unless a request was preempted in this same decision: while budget
//!   is left, fewer than `max_num_seqs` are running, and there is room. It takes `min(tokens to compute, budget left)`.
//!   Room means free blocks for what it takes, and, with [`Room::WholePrompt`] (vLLM's `scheduler_reserve_full_isl`,
//!   its default), at least as many free blocks as its whole prompt (plus generated tokens, after a preemption) needs,
//!   though only those for the chunk are taken. Otherwise admission ends there.
//!
//! **Emission.** The step that computes the last prompt token emits output token 1 at its end; every decode step emits
//! one more. A request preempted after `g` tokens computes `prompt + g` again, and the step that ends that emits token
//! `g + 1`. A request is finished at the end of the step that emits its last token.
//!
//! **Asynchronous scheduling.** When step `s` is decided, step `s-1` is only starting: the tokens it will emit are
//! counted as if there (a request that will have finished its prompt in `s-1` decodes in `s`). A request whose last
//! token comes in `s-1` and stops by *length* ([`Stop::Length`], foreseen) is not scheduled in `s`, but keeps its place
//! and blocks until the decision at the end of `s-1`. One that stops by end of text ([`Stop::EndOfText`]) is scheduled
//! once more in `s`: that slot and token (and block, if it needs one) are wasted. A request preempted in the decision
//! for `s` still emits the token it was computing in `s-1`, and finishes if that was its last. A request cancelled
//! while in flight has its blocks freed at the next decision, though the step in flight still carries its token.
//! A decision that schedules nothing makes a step of no duration that is not counted; so when work arrives at an idle
//! replica two decisions follow each other at the same time.
//!
//! **Step duration**: see [`step_time`]. The context of a decoding request in a step is the number of tokens in its KV
//! cache including the one being computed: `prompt + emitted before this step`.
//!
//! # Why it need not be walked
//!
//! Between two changes of the scheduled batch, `B` decoding requests whose context sum grows by `B` a step take
//! `S(m) = m*first + slope*m*(m-1)/2` for `m` steps. The replica jumps to the next decision at which anything can
//! change: a request ends, blocks run out, an input arrives, or the form of the step time stops being valid.

mod batch;
mod config;
mod counters;
mod replica;
mod schedule;
mod sequence;
mod slots;
pub mod step_time;

pub use config::{ConfigError, ReplicaConfig, Room, Scheduling};
pub use counters::Counters;
pub use replica::{Replica, ReplicaError, Unfinished};
pub use sequence::{Rejected, Request, SequenceId, Stop};
pub use step_time::{Batch, Coefficients, Piece, StepTime, StepTimeForm, TimeOverflow};

/// Picoseconds since the start of the run. A `u64` holds 213 days.
pub type Ps = u64;

/// Picoseconds in one second.
pub const PS_PER_S: u64 = 1_000_000_000_000;

/// What a replica reports, in the order in which it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The first output token of the request with this tag was computed at `at`.
    FirstToken {
        /// End of the step that computed it.
        at: Ps,
        /// The tag given at submission.
        tag: u32,
    },
    /// The last output token of the request with this tag was computed at `at`.
    Finished {
        /// End of the step that computed it.
        at: Ps,
        /// The tag given at submission.
        tag: u32,
    },
}
