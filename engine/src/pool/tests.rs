//! What must hold of the pool at any time, and that jumps leave no trace in it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{BlockPool, Hits};
use crate::findable::Key;
use crate::{
    Coefficients, Counters, Output, PrefixCounters, Ps, Replica, ReplicaConfig, Request, Room, Scheduling,
    SequenceId, StepTimeForm, Stop,
};

impl BlockPool {
    /// The free queue from its head, after a check of all that must hold.
    fn checked_queue(&self) -> Vec<u32> {
        let mut queue = Vec::new();
        let mut last = self.ends();
        let mut block = self.links[last as usize].after;
        while block != self.ends() {
            assert_eq!(self.links[block as usize].before, last, "the ring is linked both ways");
            assert_eq!(self.holders[block as usize], 0, "what lies in the queue is held by nobody");
            queue.push(block);
            assert!(queue.len() <= self.holders.len(), "the queue bites its own body");
            last = block;
            block = self.links[block as usize].after;
        }
        assert_eq!(self.links[self.ends() as usize].before, last);

        let mut holders = vec![0; self.holders.len()];
        for &block in &self.unassigned {
            holders[block as usize] += 1;
            assert_eq!(self.findable.key(block), None, "nobody knows yet what is in it");
        }
        for holding in &self.holdings {
            let distinct: BTreeSet<_> = holding.blocks.iter().collect();
            assert_eq!(distinct.len(), holding.blocks.len(), "no request holds a block twice");
            for (place, &block) in (0_u32..).zip(&holding.blocks) {
                holders[block as usize] += 1;
                let id = holding.ids.get(place as usize).filter(|_| place < holding.findable);
                let key = id.map(|&id| Key { id, place });
                assert_eq!(
                    self.findable.key(block),
                    key,
                    "a held block is findable as what its holder filled it with"
                );
            }
        }
        assert_eq!(holders, self.holders, "each holder holds, and nobody else");
        let held = holders.iter().filter(|&&holders| holders > 0).count();
        assert_eq!(queue.len() + held, self.holders.len(), "each block is free or held");
        queue
    }
}

#[test]
fn the_ends_of_a_small_pool_meet() {
    let mut pool = BlockPool::new(1);
    pool.name(0, &[7]);
    pool.take(1, Some(0));
    assert!(pool.checked_queue().is_empty());
    pool.fill(0, 1);
    assert_eq!(pool.give_back(0, 1, 1), 1);
    assert_eq!(pool.checked_queue(), [0]);
    let Hits { blocks, free } = pool.look_up(0, 1);
    assert_eq!((blocks, free), (1, 1));
    pool.hold_found(0);
    assert!(pool.checked_queue().is_empty());
    pool.clear();
    assert_eq!(pool.look_up(0, 1).blocks, 0, "a new process knows nothing");
    assert_eq!(pool.checked_queue(), [0]);
}

/// The prompt is the start of document `document`, or of the whole context of an earlier request, and then its own.
#[derive(Debug, Clone)]
struct Draw {
    gap: u64,
    continues: Option<usize>,
    document: u64,
    shared_blocks: usize,
    prompt: u32,
    output: u32,
    stop: Stop,
    named: usize,
    cancels: Option<usize>,
    kills: bool,
    slows_down: bool,
}

fn draw() -> impl Strategy<Value = Draw> {
    let ids = (proptest::option::of(0_usize..6), 0_u64..3, 0_usize..12, 0_usize..40);
    let request = (1_u32..60, 1_u32..60, any::<bool>());
    let rest = (0_u64..3000, proptest::option::weighted(0.1, 0_usize..6), 0_u32..60, 0_u32..20);
    (ids, request, rest).prop_map(
        |(
            (continues, document, shared_blocks, named),
            (prompt, output, foreseen),
            (gap, cancels, kills, slows_down),
        )| Draw {
            gap,
            continues,
            document,
            shared_blocks,
            prompt,
            output,
            stop: if foreseen { Stop::Length } else { Stop::EndOfText },
            named,
            cancels,
            kills: kills == 0,
            slows_down: slows_down == 0,
        },
    )
}

fn config() -> impl Strategy<Value = ReplicaConfig> {
    (1_u32..6, 0_u32..40, 1_u32..6, 8_u32..60, any::<bool>(), any::<bool>()).prop_map(
        |(max_num_seqs, spare, block_size, kv_blocks, ahead, whole)| ReplicaConfig {
            max_num_batched_tokens: max_num_seqs + spare,
            max_num_seqs,
            block_size,
            kv_blocks,
            scheduling: if ahead { Scheduling::Async } else { Scheduling::Sync },
            room: if whole { Room::WholePrompt } else { Room::Chunk },
            prefix_caching: true,
        },
    )
}

/// Chained ids: those of earlier contexts and documents, and fresh ones from `own` on.
fn ids(draw: &Draw, contexts: &[Vec<u64>], own: u64) -> Vec<u64> {
    let earlier =
        draw.continues.and_then(|back| contexts.len().checked_sub(back + 1)).map(|index| &contexts[index]);
    let mut ids = match earlier {
        Some(context) => context[..draw.shared_blocks.min(context.len())].to_vec(),
        None => (0..draw.shared_blocks as u64).map(|place| draw.document * 1000 + place).collect(),
    };
    ids.extend((0..60).map(|place| (own + 1) * 1_000_000 + place));
    ids.truncate(draw.named);
    ids
}

#[derive(Debug, PartialEq)]
struct Seen {
    outputs: Vec<Output>,
    counters: Counters,
    prefix: PrefixCounters,
    /// Answers to cancels, and lists of the killed.
    told: Vec<(u32, u32)>,
}

/// Few ids at all places, under whatever parent.
fn odd_ids(draw: &Draw) -> Vec<u64> {
    (0..draw.named as u64).map(|place| (draw.document + place * draw.shared_blocks as u64) % 5).collect()
}

/// Plays the draws. With `walking` every jump is cut at its next decision, by a form of the step time that is none.
fn play(config: &ReplicaConfig, draws: &[Draw], walking: bool, chained: bool) -> Seen {
    let coefficients = Coefficients { c0_ps: 100, c_tok_ps: 7, c_seq_ps: 3, c_kv_ps: 1, c_attn_ps: 1 };
    let mut form = StepTimeForm::Linear(coefficients);
    let mut replica = Replica::new(config.clone(), form).unwrap();
    let mut seen = Seen {
        outputs: Vec::new(),
        counters: Counters::default(),
        prefix: PrefixCounters::default(),
        told: Vec::new(),
    };
    let mut advance = |replica: &mut Replica<StepTimeForm>, until: Ps, form: StepTimeForm| {
        while walking && let Some(event) = replica.next_event().filter(|&event| event < until) {
            replica.advance_before(event + 1, &mut |output| seen.outputs.push(output)).unwrap();
            replica.set_form(event + 1, form);
            let pool = replica.pool.as_ref().unwrap();
            assert_eq!(pool.checked_queue().len(), replica.free_blocks as usize);
        }
        replica.advance_before(until, &mut |output| seen.outputs.push(output)).unwrap();
        let pool = replica.pool.as_ref().unwrap();
        assert_eq!(pool.checked_queue().len(), replica.free_blocks as usize);
    };
    let (mut now, mut accepted, mut contexts): (Ps, Vec<SequenceId>, _) = (0, Vec::new(), Vec::new());
    for (tag, draw) in (0_u32..).zip(draws) {
        now += draw.gap;
        advance(&mut replica, now, form);
        if draw.kills {
            seen.told.extend(replica.kill(now).iter().map(|unfinished| (unfinished.tag, unfinished.tokens)));
        }
        if draw.slows_down {
            form = form.scaled(1.25);
            replica.set_form(now, form);
        }
        let cancelled = draw.cancels.and_then(|back| accepted.len().checked_sub(back + 1));
        if let Some(index) = cancelled {
            let emitted = replica.emitted(accepted[index], now);
            let tokens = replica.cancel(now, accepted[index]);
            assert_eq!(emitted, tokens, "a cancel tells what a look would have");
            assert_eq!(replica.emitted(accepted[index], now), None);
            seen.told.extend(tokens.map(|tokens| (u32::try_from(index).unwrap(), tokens)));
        }
        let ids = if chained { ids(draw, &contexts, tag.into()) } else { odd_ids(draw) };
        let request = Request { tag, prompt: draw.prompt, output: draw.output, stop: draw.stop };
        accepted.extend(replica.submit_with_blocks(now, request, &ids));
        contexts.push(ids);
    }
    advance(&mut replica, Ps::MAX, form);
    assert_eq!(replica.in_flight(), 0);
    assert_eq!(replica.free_blocks(), config.kv_blocks);
    assert!(replica.pool.as_ref().unwrap().unassigned.is_empty());
    seen.counters = replica.counters();
    seen.prefix = replica.prefix_counters();
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn a_jump_is_the_same_as_its_steps(config in config(), draws in prop::collection::vec(draw(), 1..40)) {
        prop_assert_eq!(play(&config, &draws, false, true), play(&config, &draws, true, true));
    }

    #[test]
    fn ids_that_are_not_chained_do_no_harm(config in config(), draws in prop::collection::vec(draw(), 1..40)) {
        play(&config, &draws, true, false);
    }
}

/// The property above would hold of workloads that never hit or evict, too.
#[test]
fn the_draws_hit_and_evict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut total = PrefixCounters::default();
    let mut preemptions = 0;
    for _ in 0..100 {
        let draws = (config(), prop::collection::vec(draw(), 30..40)).new_tree(&mut runner).unwrap();
        let (config, draws) = draws.current();
        let seen = play(&config, &draws, false, true);
        total.add(&seen.prefix);
        preemptions += seen.counters.preemptions;
    }
    assert!(total.hit_tokens * 10 > total.looked_up_tokens, "{total:?}");
    assert!(total.evicted_blocks > 1000 && preemptions > 300, "{total:?}, {preemptions} preemptions");
}
