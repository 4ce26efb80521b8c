//! The replica that walks every step: slow, and written to be seen right.
//!
//! ```text
//!   inbox ──ready──► waiting ──admitted──► running ──last token──► gone
//!                       ▲                     │
//!                       └──── preempted ──────┘
//! ```
//!
//! It is written from the contract in the crate's documentation alone and shares nothing with the engine but the public
//! types and the duration of one step. Every request carries its own counts; nothing is summed up, foreseen or skipped.

use std::collections::VecDeque;

use slackwater_engine::{
    Batch, ConfigError, Counters, Output, PrefixCounters, Ps, Rejected, ReplicaConfig, Request, Room,
    Scheduling, StepTime, Stop, TimeOverflow,
};

use crate::oracle_blocks::{BlockIndex, Blocks};

/// Index into [`Oracle::sequences`]; never reused.
pub(crate) type Id = usize;

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Submitted; no decision has taken it in yet.
    Inbox,
    Waiting,
    Running,
    /// Cancelled while running: it keeps its place and blocks until the next decision.
    Leaving,
    /// Finished, cancelled or killed.
    Gone,
}

#[derive(Debug, Clone)]
struct Sequence {
    request: Request,
    /// Ids of its blocks from the first on; none past the end of the list.
    ids: Vec<u64>,
    ready_at: Ps,
    place: Place,
    /// Output tokens of steps that have ended.
    emitted: u32,
    /// Output tokens of steps that have ended or are decided: what the scheduler counts as if there.
    promised: u32,
    /// Tokens this admission computes before it decodes: the prompt and what was emitted before the admission.
    to_prefill: u32,
    /// Tokens whose KV is found, computed, or will be computed by the steps decided.
    computed: u32,
    /// How many of these were found or computed by steps that have ended.
    ended: u32,
    /// KV blocks held, in the order of their tokens.
    blocks: Vec<BlockIndex>,
}

/// What a request does in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Decode,
    /// A chunk of the prompt; `last` when it is the one that ends it, and so emits a token.
    Prefill {
        last: bool,
    },
}

/// A step that was decided. The default is the step of no duration that schedules nothing.
#[derive(Debug, Clone, Default)]
struct Step {
    /// Who computes how many tokens, in admission order.
    work: Vec<(Id, Work, u32)>,
    duration: Ps,
}

/// Mirrors [`slackwater_engine::Replica`].
#[derive(Debug, Clone)]
pub(crate) struct Oracle<S> {
    config: ReplicaConfig,
    form: S,
    /// Every request ever accepted.
    sequences: Vec<Sequence>,
    /// In order of submission.
    inbox: Vec<Id>,
    waiting: VecDeque<Id>,
    /// In admission order.
    running: Vec<Id>,
    /// Those running that were cancelled since the last decision, in the order of the cancels.
    leaving: Vec<Id>,
    blocks: Blocks,
    /// The step that runs now.
    current: Step,
    /// With asynchronous scheduling, the step that was decided to follow it; otherwise always empty.
    following: Step,
    /// When `current` ends, which is when the next decision is due; `None` while idle.
    current_ends: Option<Ps>,
    advanced_to: Ps,
    counters: Counters,
    looked_up_tokens: u64,
    hit_tokens: u64,
}

impl<S: StepTime> Oracle<S> {
    pub(crate) fn new(config: ReplicaConfig, form: S) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            blocks: Blocks::new(config.kv_blocks),
            config,
            form,
            sequences: Vec::new(),
            inbox: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            leaving: Vec::new(),
            current: Step::default(),
            following: Step::default(),
            current_ends: None,
            advanced_to: 0,
            counters: Counters::default(),
            looked_up_tokens: 0,
            hit_tokens: 0,
        })
    }

    pub(crate) fn submit(&mut self, ready_at: Ps, request: Request) -> Result<Id, Rejected> {
        self.submit_with_blocks(ready_at, request, &[])
    }

    pub(crate) fn submit_with_blocks(
        &mut self,
        ready_at: Ps,
        request: Request,
        ids: &[u64],
    ) -> Result<Id, Rejected> {
        assert!(ready_at >= self.advanced_to, "inputs never lie in the past");
        if request.prompt == 0 || request.output == 0 {
            return Err(Rejected::Empty);
        }
        // The last token emitted is never computed on, so it needs no room.
        let longest = u64::from(request.prompt) + u64::from(request.output) - 1;
        let needed = longest.div_ceil(u64::from(self.config.block_size));
        if needed > u64::from(self.config.kv_blocks) {
            return Err(Rejected::TooLong { needed, available: self.config.kv_blocks });
        }
        let id = self.sequences.len();
        self.sequences.push(Sequence {
            request,
            ids: if self.config.prefix_caching { ids.to_vec() } else { Vec::new() },
            ready_at,
            place: Place::Inbox,
            emitted: 0,
            promised: 0,
            to_prefill: 0,
            computed: 0,
            ended: 0,
            blocks: Vec::new(),
        });
        self.inbox.push(id);
        self.counters.submitted += 1;
        Ok(id)
    }

    pub(crate) fn cancel(&mut self, at: Ps, id: Id) -> Option<u32> {
        self.assert_caught_up(at);
        match self.sequences[id].place {
            Place::Gone | Place::Leaving => return None,
            Place::Running => {
                self.sequences[id].place = Place::Leaving;
                self.leaving.push(id);
            }
            Place::Waiting => {
                self.waiting.retain(|&other| other != id);
                self.sequences[id].place = Place::Gone;
            }
            Place::Inbox => {
                self.inbox.retain(|&other| other != id);
                self.sequences[id].place = Place::Gone;
            }
        }
        self.counters.cancelled += 1;
        Some(self.sequences[id].emitted)
    }

    /// Tag and emitted tokens of everything alive.
    pub(crate) fn kill(&mut self, at: Ps) -> Vec<(u32, u32)> {
        self.assert_caught_up(at);
        self.sort_inbox();
        let mut unfinished = Vec::new();
        for id in self.running.drain(..).chain(self.waiting.drain(..)).chain(self.inbox.drain(..)) {
            let sequence = &mut self.sequences[id];
            if sequence.place != Place::Leaving {
                unfinished.push((sequence.request.tag, sequence.emitted));
                self.counters.killed += 1;
            }
            sequence.place = Place::Gone;
            sequence.blocks.clear();
        }
        self.leaving.clear();
        self.blocks.forget_all();
        self.current = Step::default();
        self.following = Step::default();
        self.current_ends = None;
        self.assert_invariants();
        unfinished
    }

    /// The decisions from `at` on go by this form.
    pub(crate) fn set_form(&mut self, at: Ps, form: S) {
        self.assert_caught_up(at);
        self.form = form;
    }

    /// Output tokens of what is alive and not cancelled.
    pub(crate) fn emitted(&self, id: Id, at: Ps) -> Option<u32> {
        self.assert_caught_up(at);
        let sequence = &self.sequences[id];
        match sequence.place {
            Place::Leaving | Place::Gone => None,
            Place::Inbox | Place::Waiting | Place::Running => Some(sequence.emitted),
        }
    }

    /// Takes every decision due before `until`.
    pub(crate) fn advance_before(
        &mut self,
        until: Ps,
        sink: &mut impl FnMut(Output),
    ) -> Result<(), TimeOverflow> {
        assert!(until >= self.advanced_to, "time never goes back");
        while let Some(at) = self.next_event()
            && at < until
        {
            self.decide(at, sink)?;
        }
        self.advanced_to = until;
        Ok(())
    }

    /// Time of the next decision: one a step, and the next ready time while idle.
    pub(crate) fn next_event(&self) -> Option<Ps> {
        self.current_ends.or_else(|| self.inbox.iter().map(|&id| self.sequences[id].ready_at).min())
    }

    /// Requests that hold a place, those about to leave included.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests alive and not cancelled.
    pub(crate) fn in_flight(&self) -> usize {
        self.sequences
            .iter()
            .filter(|sequence| !matches!(sequence.place, Place::Leaving | Place::Gone))
            .count()
    }

    pub(crate) fn free_blocks(&self) -> u32 {
        self.blocks.free()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn prefix_counters(&self) -> PrefixCounters {
        PrefixCounters {
            looked_up_tokens: self.looked_up_tokens,
            hit_tokens: self.hit_tokens,
            evicted_blocks: self.blocks.evicted(),
        }
    }

    /// No step runs and none is decided.
    pub(crate) fn is_idle(&self) -> bool {
        self.current_ends.is_none()
    }

    /// The decision due at `at`, in the order of the contract.
    fn decide(&mut self, at: Ps, sink: &mut impl FnMut(Output)) -> Result<(), TimeOverflow> {
        let ended = std::mem::take(&mut self.current);
        self.emit(at, &ended, sink);
        self.let_cancelled_leave();
        self.take_in(at);
        let decided = self.schedule()?;
        self.current = match self.config.scheduling {
            Scheduling::Sync => decided,
            Scheduling::Async => std::mem::replace(&mut self.following, decided),
        };
        let idle = self.current.work.is_empty() && self.following.work.is_empty();
        self.current_ends =
            if idle { None } else { Some(at.checked_add(self.current.duration).ok_or(TimeOverflow)?) };
        self.assert_invariants();
        Ok(())
    }

    /// Outputs of the step that ended: those that decoded first, then those that finished prefill.
    fn emit(&mut self, at: Ps, ended: &Step, sink: &mut impl FnMut(Output)) {
        for &(id, _, tokens) in &ended.work {
            // Whoever was preempted meanwhile has given back the blocks of these tokens; whoever is gone, too.
            if matches!(self.sequences[id].place, Place::Running | Place::Leaving) {
                self.sequences[id].ended += tokens;
            }
        }
        for work in [Work::Decode, Work::Prefill { last: true }] {
            for &(id, ..) in ended.work.iter().filter(|(_, done, _)| *done == work) {
                let sequence = &mut self.sequences[id];
                // Cancelled, or a token beyond the end of the text.
                if matches!(sequence.place, Place::Leaving | Place::Gone) {
                    continue;
                }
                sequence.emitted += 1;
                let tag = sequence.request.tag;
                if sequence.emitted == 1 {
                    sink(Output::FirstToken { at, tag });
                }
                if sequence.emitted == sequence.request.output {
                    sink(Output::Finished { at, tag });
                    self.counters.finished += 1;
                    self.remove(id);
                }
            }
        }
    }

    fn let_cancelled_leave(&mut self) {
        for id in std::mem::take(&mut self.leaving) {
            self.remove(id);
        }
    }

    /// Takes a request out of the replica. One that finishes may have been preempted while its last token was in
    /// flight, and so be found among the waiting.
    fn remove(&mut self, id: Id) {
        self.running.retain(|&other| other != id);
        self.waiting.retain(|&other| other != id);
        self.sequences[id].place = Place::Gone;
        self.give_back(id);
    }

    /// What steps have filled becomes findable, from the first block on; then the blocks go, from the last.
    fn give_back(&mut self, id: Id) {
        let sequence = &mut self.sequences[id];
        // A chunk of prefill fills its blocks when it is scheduled; a decode when its step has ended.
        let filled = sequence.ended.max(sequence.computed.min(sequence.to_prefill)) / self.config.block_size;
        sequence.computed = 0;
        sequence.ended = 0;
        let blocks = std::mem::take(&mut sequence.blocks);
        self.make_findable(id, &blocks[..filled as usize]);
        for (index, &block) in blocks.iter().enumerate().rev() {
            self.blocks.let_go(block, index < filled as usize);
        }
    }

    /// The first blocks of a request, which are filled, become findable as far as they have ids and are not yet.
    fn make_findable(&mut self, id: Id, filled: &[BlockIndex]) {
        for (place, (&block, &number)) in filled.iter().zip(&self.sequences[id].ids).enumerate() {
            if !self.blocks.is_findable(block) {
                self.blocks.make_findable(block, (place, number));
            }
        }
    }

    fn take_in(&mut self, at: Ps) {
        self.sort_inbox();
        while let Some(&id) = self.inbox.first()
            && self.sequences[id].ready_at <= at
        {
            self.inbox.remove(0);
            self.sequences[id].place = Place::Waiting;
            self.waiting.push_back(id);
        }
    }

    /// By ready time, then by submission.
    fn sort_inbox(&mut self) {
        self.inbox.sort_by_key(|&id| (self.sequences[id].ready_at, id));
    }

    /// Fixes the batch of one step.
    fn schedule(&mut self) -> Result<Step, TimeOverflow> {
        let mut batch = Batch::default();
        let mut step = Step::default();
        let mut budget = self.config.max_num_batched_tokens;

        let preempted = self.schedule_running(&mut budget, &mut batch, &mut step);
        if !preempted {
            self.admit_waiting(&mut budget, &mut batch, &mut step);
        }

        let tokens = batch.prefill_tokens + batch.decode_seqs;
        assert_eq!(tokens + u64::from(budget), u64::from(self.config.max_num_batched_tokens));
        let in_use = u64::from(self.config.kv_blocks - self.blocks.free());
        self.counters.kv_blocks_peak = self.counters.kv_blocks_peak.max(in_use);
        if !batch.is_empty() {
            step.duration = self.form.piece(&batch)?.first_ps;
            self.counters.steps += 1;
            self.counters.prefill_tokens += batch.prefill_tokens;
            self.counters.decode_tokens += batch.decode_seqs;
            self.counters.busy_ps = self.counters.busy_ps.checked_add(step.duration).ok_or(TimeOverflow)?;
        }
        Ok(step)
    }

    /// Whether a request was preempted.
    fn schedule_running(&mut self, budget: &mut u32, batch: &mut Batch, step: &mut Step) -> bool {
        let mut preempted = false;
        let mut index = 0;
        // Preemption shortens the list from its end.
        while index < self.running.len() {
            let id = self.running[index];
            index += 1;
            let sequence = &self.sequences[id];
            let decodes = sequence.computed >= sequence.to_prefill;
            // Only with asynchronous scheduling can the last token be in flight.
            let last_in_flight = sequence.promised == sequence.request.output;
            if last_in_flight && sequence.request.stop == Stop::Length {
                continue;
            }
            let taken = if decodes { 1 } else { (sequence.to_prefill - sequence.computed).min(*budget) };
            assert!(
                taken > 0 && taken <= *budget,
                "the budget is at least one token for each running request"
            );
            let missing = self.blocks_for(sequence.computed + taken) as usize - sequence.blocks.len();
            while (self.blocks.free() as usize) < missing && self.running.contains(&id) {
                self.preempt_newest();
                preempted = true;
            }
            if !self.running.contains(&id) {
                break;
            }
            if last_in_flight {
                self.counters.wasted_tokens += 1;
            }
            self.compute(id, taken, budget, batch, step);
        }
        preempted
    }

    fn preempt_newest(&mut self) {
        let newest = self.running.pop().expect("whoever lacks blocks is itself running");
        let sequence = &mut self.sequences[newest];
        assert_eq!(sequence.place, Place::Running, "the cancelled have left before");
        sequence.place = Place::Waiting;
        self.give_back(newest);
        self.waiting.push_front(newest);
        self.counters.preemptions += 1;
    }

    fn admit_waiting(&mut self, budget: &mut u32, batch: &mut Batch, step: &mut Step) {
        while let Some(&id) = self.waiting.front()
            && *budget > 0
            && self.running.len() < self.config.max_num_seqs as usize
        {
            let sequence = &self.sequences[id];
            assert_eq!(
                sequence.emitted, sequence.promised,
                "nothing of a waiting request is in flight by now"
            );
            let to_prefill = sequence.request.prompt + sequence.emitted;
            let hits = self.look_up(id, to_prefill);
            let found = u32::try_from(hits.len()).expect("no more than blocks") * self.config.block_size;
            let taken = (to_prefill - found).min(*budget);
            let longest = match self.config.room {
                Room::WholePrompt => to_prefill,
                Room::Chunk => found + taken,
            };
            // Hits that others hold cost nothing; those that are free are not free any more.
            let held = hits.iter().filter(|&&block| !self.blocks.is_free(block)).count();
            if (self.blocks.free() as usize) < self.blocks_for(longest) as usize - held {
                break;
            }
            if self.config.prefix_caching {
                self.looked_up_tokens += u64::from(to_prefill);
                self.hit_tokens += u64::from(found);
            }
            for &block in &hits {
                self.blocks.hold(block);
            }
            self.waiting.pop_front();
            self.running.push(id);
            let sequence = &mut self.sequences[id];
            sequence.place = Place::Running;
            sequence.to_prefill = to_prefill;
            sequence.computed = found;
            sequence.ended = found;
            sequence.blocks = hits;
            self.compute(id, taken, budget, batch, step);
        }
    }

    /// The longest run of its first blocks that can all be found, short of the last of `tokens`.
    fn look_up(&self, id: Id, tokens: u32) -> Vec<BlockIndex> {
        let most = (tokens - 1) / self.config.block_size;
        self.sequences[id]
            .ids
            .iter()
            .enumerate()
            .take(most as usize)
            .map_while(|(place, &number)| self.blocks.find((place, number)))
            .collect()
    }

    /// Puts `taken` tokens of a running request into the step, with the blocks they need.
    fn compute(&mut self, id: Id, taken: u32, budget: &mut u32, batch: &mut Batch, step: &mut Step) {
        let wanted = self.blocks_for(self.sequences[id].computed + taken) as usize;
        let sequence = &mut self.sequences[id];
        while sequence.blocks.len() < wanted {
            sequence.blocks.push(self.blocks.take());
        }
        *budget -= taken;

        let before = sequence.computed;
        sequence.computed += taken;
        let work = if before >= sequence.to_prefill {
            let context = sequence.request.prompt + sequence.promised;
            assert_eq!(
                context, sequence.computed,
                "the context of a decode includes the token being computed"
            );
            batch.decode_seqs += 1;
            batch.context_tokens += u64::from(context);
            Work::Decode
        } else {
            batch.prefill_tokens += u64::from(taken);
            batch.attention_pairs_twice += u64::from(taken) * (2 * u64::from(before) + u64::from(taken));
            Work::Prefill { last: sequence.computed == sequence.to_prefill }
        };
        // A wasted token is no output.
        if work != (Work::Prefill { last: false }) && sequence.promised < sequence.request.output {
            sequence.promised += 1;
        }
        step.work.push((id, work, taken));
        if let Work::Prefill { .. } = work {
            let filled = self.sequences[id].computed / self.config.block_size;
            let blocks = self.sequences[id].blocks.clone();
            self.make_findable(id, &blocks[..filled as usize]);
        }
    }

    fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.config.block_size)
    }

    /// An input at `at` comes after every decision before it.
    fn assert_caught_up(&self, at: Ps) {
        assert!(at >= self.advanced_to, "inputs never lie in the past");
        assert!(self.next_event().is_none_or(|event| event >= at), "advance before handing in");
    }

    fn assert_invariants(&self) {
        // To count the holders of thousands of blocks after each step would take most of the time.
        if self.config.kv_blocks <= 256 || self.is_idle() {
            let held = self.running.iter().flat_map(|&id| self.sequences[id].blocks.iter().copied());
            self.blocks.assert_invariants(held);
        }
        assert!(self.running.len() <= self.config.max_num_seqs as usize);
        for &id in &self.running {
            let sequence = &self.sequences[id];
            assert!(matches!(sequence.place, Place::Running | Place::Leaving));
            assert_eq!(sequence.blocks.len(), self.blocks_for(sequence.computed) as usize);
            assert!(sequence.ended <= sequence.computed);
            assert!(sequence.emitted < sequence.request.output, "whoever has ended has left");
        }
        assert!(self.waiting.iter().all(|&id| self.sequences[id].place == Place::Waiting));
        assert!(self.inbox.iter().all(|&id| self.sequences[id].place == Place::Inbox));
        if self.is_idle() {
            assert!(
                self.running.is_empty() && self.waiting.is_empty(),
                "an idle replica has left nobody behind"
            );
            assert_eq!(self.blocks.free(), self.config.kv_blocks);
        }
    }
}
