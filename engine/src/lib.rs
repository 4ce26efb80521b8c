//! One inference replica: continuous batching in exact jumps.
//!
//! ```text
//!   submit / cancel / kill / set_form ──►  Replica  ──► FirstToken, Finished (with their times)
//!                                            │  asks, for a fixed batch
//!                                            ▼
//!                                        StepTime: (first step, slope a step, valid for at most so many steps)
//! ```
//!
//! # What is modelled
//!
//! The scheduler of vLLM V1 (`vllm/v1/core/sched/scheduler.py`, read at commit `00024d314514`, first come first
//! served, chunked prefill on, no speculative decoding), with its asynchronous variant, and its block pool with prefix
//! caching when that is wanted. The words below are the contract; the stepping oracle in the tests is written from them,
//! not from the code.
//!
//! **Time** is integer picoseconds ([`Ps`]) since the start of the run, checked: an overflow is an error.
//!
//! **Inputs before outputs.** Inputs (submit, cancel, kill, a new form of the step time) at time `T` precede everything
//! the replica does by itself at `T`. The driver calls [`Replica::advance_before`]`(T)` and then hands in what happens at
//! `T`. A question about `T` ([`Replica::emitted`]) is asked in the same place, and sees outputs at times before `T` only.
//!
//! **Steps** have indices that grow by one. For each step there is a *decision*, which fixes its batch.
//! With synchronous scheduling the decision for step `s` is taken when step `s` starts, which is when step `s-1` ends.
//! With asynchronous scheduling it is taken when step `s-1` starts, which is when step `s-2` ends. The lag is 0 or 1
//! step. A decision, at time `t`, does in this order:
//!
//! 1. *Outputs* of the step that ended at `t`. Requests that emitted their first token or their last one are reported,
//!    those that decoded in admission order, then those that finished prefill in admission order (the first token of
//!    a request before its end). Ended requests give back their KV blocks and their place among the running.
//! 2. *Cancelled* requests (cancelled at or before `t`) leave, in the order of the cancels. A cancelled request reports nothing at or after the time
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
//! cache including the one being computed: `prompt + emitted before this step`. A step is timed by the form that is in
//! force at the decision that fixed its batch. After [`Replica::set_form`] at `T` that is the new form for decisions at `T`
//! or later, and the old one for those before: the step that runs at `T` keeps its duration, and so does, with
//! asynchronous scheduling, the one already decided to follow it. The form outlives a kill.
//!
//! # The prefix cache
//!
//! With [`ReplicaConfig::prefix_caching`] blocks are reused as vLLM's block pool does it (`vllm/v1/core/block_pool.py`
//! and `kv_cache_manager.py`, version 0.24 and later). Without it all that follows is void, and lists of ids are ignored.
//! With it everything above holds, hit tokens counting as computed: for the blocks a request needs, for its contexts, and
//! for the attention of a chunk, which sees the hits before it.
//!
//! **Ids.** [`Replica::submit_with_blocks`] names the full blocks of the request's whole context, prompt and then
//! generated tokens, from the first on, each `block_size` tokens. Ids are chained: the same id, in whatever list, stands
//! for the same tokens in the block and in everything before it, so it stands at the same place in every list (the same
//! number at another place is taken for another id). Of ids that break this nothing is promised but that they do no harm.
//! The list may end before the context does; the blocks past its end have no id, as all have none after a plain
//! [`Replica::submit`].
//!
//! **The free queue** holds every block that no request holds. At the start, and after a kill, these are all blocks, and
//! none can be found. A block is *findable* under its id from the moment named below until it is taken from the head of
//! the queue for other tokens; being held or free, shared or not, does not matter to that. Several blocks can be findable
//! under one id (computed twice); whoever looks finds the one that became findable first.
//!
//! **Taking.** Whenever a request takes blocks, they come from the head of the free queue. One that was findable is not
//! any more: it is *evicted*. (In which order requests take blocks in one step does not matter; who is served first when
//! there are too few is said above.)
//!
//! **Hits.** At an admission, and after a preemption again, the request has `n` tokens to compute: its prompt and what it
//! emitted. Its hits are the longest run of ids from the start of its list that can all be found, at most
//! `floor((n - 1) / block_size)`, so that the last token is always computed. The request holds the blocks that were found
//! (those in the free queue leave it, from wherever they lay; those that others hold are shared), counts `block_size`
//! tokens for each as computed, and takes a chunk of `min(tokens left, budget left)`, for which it then takes blocks.
//!
//! **Room** for an admission with `h` hits, `u` of which lie in the free queue: for `x` tokens in all it wants
//! `ceil(x / block_size) - h + u` free blocks. That is asked with `x` the hit tokens and the chunk, and, with
//! [`Room::WholePrompt`], with `x = n` as well. When there is no room nothing was taken and nothing moved in the queue.
//! Running requests ask as before: the free queue is their room, findable blocks in it included.
//!
//! **Becoming findable.** There are two moments.
//! - In the decision that schedules a chunk of prefill, right after the request took its blocks for it: every block of
//!   the request that is filled by the tokens computed so far, this chunk included, and has an id (and is not findable
//!   already, as a hit is). A request admitted later in the same decision can hit it, as in vLLM.
//! - When the request gives its blocks back (it ended, was cancelled, or is preempted) in the decision at `t`: every
//!   further block with an id that is filled by tokens computed in steps that have ended at or before `t`. A token wasted
//!   after the last one is not among them, so a request that ends leaves `prompt + output - 1` tokens, and with
//!   asynchronous scheduling the token that a preempted or cancelled request has in flight is not counted. (vLLM makes a
//!   block that decoding filled findable some steps sooner, while its request still runs.)
//!
//! Blocks become findable from the first of the request to the last.
//!
//! **Giving back.** After that, from its last block to its first, the request lets go of each. A block that nobody else
//! holds becomes free: at the tail of the queue when it is filled (in the sense of the second moment, or by its prefill),
//! whether or not it has an id; at the head when it is not. So what lies longest unused is evicted first, and of one
//! request the leaves before the root. Requests that leave in the same decision do so one after the other, in the order
//! said above (ended ones in the order of their reports); one that is preempted at the moment it is preempted.
//!
//! **Counted** ([`Replica::prefix_counters`], apart from [`Counters`]): at each admission the `n` tokens looked up (those of
//! requests without ids too) and the tokens of the hits, readmissions after a preemption included (vLLM's metrics keep
//! those apart); and blocks evicted.
//!
//! # Why it need not be walked
//!
//! Between two changes of the scheduled batch, `B` decoding requests whose context sum grows by `B` a step take
//! `S(m) = m*first + slope*m*(m-1)/2` for `m` steps. The replica jumps to the next decision at which anything can
//! change: a request ends, blocks run out, an input arrives, or the form of the step time stops being valid. Decoding
//! takes blocks from the head of the free queue, and only their number matters: no request is admitted in between, so
//! nobody looks, and a waiting request that has no room does not get it by blocks being taken.

mod batch;
mod config;
mod counters;
mod findable;
mod inputs;
mod pool;
mod replica;
mod schedule;
mod sequence;
mod slots;
pub mod step_time;

pub use config::{ConfigError, ReplicaConfig, Room, Scheduling};
pub use counters::{Counters, PrefixCounters};
pub use inputs::Unfinished;
pub use replica::{Replica, ReplicaError};
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
