//! The prefix cache, a form that changes and a look at progress: cases worked out on paper from the contract. The
//! comments are the working; `[a b c]` is the free queue from its head, a block named after what is in it.

use slackwater_engine::{
    Batch, Coefficients, ConfigError, Counters, Output, Piece, PrefixCounters, Ps, Replica, ReplicaConfig,
    Request, Room, Scheduling, StepTime, StepTimeForm, Stop, TimeOverflow,
};

use crate::paper::{A, B, C, D, caching as config, finished, first, plain, request};

fn replica(config: &ReplicaConfig) -> Replica<StepTimeForm> {
    Replica::new(config.clone(), plain(100)).expect("valid")
}

fn advance(replica: &mut Replica<StepTimeForm>, until: Ps) -> Vec<Output> {
    let mut outputs = Vec::new();
    replica.advance_before(until, &mut |output| outputs.push(output)).expect("in range");
    outputs
}

/// Runs the requests, each ready at its time and with its ids.
fn run(config: &ReplicaConfig, requests: &[(Ps, Request, &[u64])]) -> (Vec<Output>, Counters, [u64; 3]) {
    let mut replica = replica(config);
    for &(ready_at, request, ids) in requests {
        replica.submit_with_blocks(ready_at, request, ids).expect("accepted");
    }
    let outputs = advance(&mut replica, Ps::MAX);
    assert_eq!(replica.free_blocks(), config.kv_blocks);
    (outputs, replica.counters(), prefix(&replica))
}

/// Tokens looked up, tokens hit, blocks evicted.
fn prefix(replica: &Replica<StepTimeForm>) -> [u64; 3] {
    let PrefixCounters { looked_up_tokens, hit_tokens, evicted_blocks } = replica.prefix_counters();
    [looked_up_tokens, hit_tokens, evicted_blocks]
}

#[test]
fn the_next_turn_finds_prompt_and_answer() {
    // 0:    A computes 10 -> 110, token 1; 211; 312, token 3. It leaves 12 tokens, 3 full blocks.
    // 1000: B is A's context and one token more: 12 hit, 1 computed.
    // 2000: C shares the first block only: 4 hit, 6 computed.
    let (outputs, counters, prefix) = run(
        &config(4, 100),
        &[
            (0, request(A, 10, 3), &[1, 2, 3]),
            (1000, request(B, 13, 1), &[1, 2, 3]),
            (2000, request(C, 10, 1), &[1, 12, 13]),
        ],
    );
    let expected = [
        first(A, 110),
        finished(A, 312),
        first(B, 1101),
        finished(B, 1101),
        first(C, 2106),
        finished(C, 2106),
    ];
    assert_eq!(outputs, expected);
    assert_eq!(counters.prefill_tokens, 10 + 1 + 6);
    assert_eq!(prefix, [33, 16, 0]);
}

#[test]
fn attention_sees_the_hits_before_a_chunk() {
    let form = StepTimeForm::Linear(Coefficients {
        c0_ps: 100,
        c_tok_ps: 10,
        c_seq_ps: 5,
        c_kv_ps: 1,
        c_attn_ps: 3,
    });
    let mut replica = Replica::new(config(4, 100), form).expect("valid");
    replica.submit_with_blocks(0, request(A, 9, 1), &[1, 2]).expect("accepted");
    replica.submit_with_blocks(1000, request(B, 10, 2), &[1, 2]).expect("accepted");
    // 0:    A 9, pairs 9*4.5 = 40.5;              100 + 90 + 121 (121.5)  = 311
    // 1000: B 2 of 10 after 8, pairs 2*(8+1) = 18; 100 + 20 + 3*18        = 174 -> 1174
    // 1174: B decodes, context 11;                 100 + 10 + 5 + 11      = 126 -> 1300
    let expected = [first(A, 311), finished(A, 311), first(B, 1174), finished(B, 1300)];
    assert_eq!(advance(&mut replica, Ps::MAX), expected);
}

#[test]
fn the_last_token_is_always_computed() {
    // 8 tokens are 2 full blocks, but only floor(7 / 4) = 1 may be hit: B computes 4.
    let (outputs, _, prefix) =
        run(&config(4, 100), &[(0, request(A, 8, 1), &[1, 2]), (1000, request(B, 8, 1), &[1, 2])]);
    assert_eq!(outputs[2..], [first(B, 1104), finished(B, 1104)]);
    assert_eq!(prefix, [16, 4, 0]);
}

#[test]
fn a_chunk_can_be_hit_in_the_decision_that_schedules_it() {
    // A takes 8, B hits the block that A is about to compute and takes 4: 100 + 12.
    let requests: [(Ps, Request, &[u64]); 2] =
        [(0, request(A, 8, 1), &[1, 2]), (0, request(B, 8, 1), &[1, 2])];
    let (outputs, counters, prefix) = run(&config(4, 100), &requests);
    assert_eq!(outputs, [first(A, 112), finished(A, 112), first(B, 112), finished(B, 112)]);
    assert_eq!(prefix, [16, 4, 0]);
    assert_eq!(counters.kv_blocks_peak, 3, "one of B's two blocks is A's");

    // In chunks of 6, 2 of 8 tokens a step: of A's first chunk one block is full.
    // 0:   A 6 -> 106. 106: A 2, both full now; B hits 1 (it may not hit 2) and takes 4 -> 212.
    let chunks = ReplicaConfig { max_num_batched_tokens: 6, ..config(4, 100) };
    let (outputs, _, prefix) = run(&chunks, &requests);
    assert_eq!(outputs, [first(A, 212), finished(A, 212), first(B, 212), finished(B, 212)]);
    assert_eq!(prefix, [16, 4, 0]);
}

#[test]
fn blocks_go_in_the_order_of_their_last_use_and_leaves_first() {
    let requests = |others: u32| -> [(Ps, Request, &'static [u64]); 3] {
        [
            (0, request(A, 9, 1), &[1, 2]),
            (1000, request(B, others, 1), &[]),
            (2000, request(C, 9, 1), &[1, 2]),
        ]
    };
    // A takes 1, 2 and a third that it does not fill. It gives back: the third to the head, then the leaf 2, then 1.
    // [third . . . 2 1]; B takes what it needs from the head, C looks for 1 and 2.
    for (others, hits, evicted) in [(16, 8, 0), (17, 4, 1), (24, 0, 2)] {
        let (_, _, prefix) = run(&config(4, 6), &requests(others));
        assert_eq!(prefix, [18 + u64::from(others), hits, evicted], "B has {others} tokens");
    }
}

#[test]
fn what_was_never_filled_goes_first() {
    // A gives back [a3 . . . 2 1]. B takes a3, . and ., and gives back [b3 . 2 1 12 11].
    // D takes b3, ., and 2, and fills them: [1 12 11 d3 d2 d1]. (Were a3 and b3 at the tail, it would take 2 and 1.)
    // C hits 1, and takes 12 and 11.
    let (_, _, prefix) = run(
        &config(4, 6),
        &[
            (0, request(A, 9, 1), &[1, 2]),
            (1000, request(B, 9, 1), &[11, 12]),
            (2000, request(D, 12, 1), &[]),
            (3000, request(C, 9, 1), &[1, 2]),
        ],
    );
    assert_eq!(prefix, [39, 4, 3]);
}

#[test]
fn a_hit_is_a_use() {
    // A leaves [a3 . . . 2 1]. B takes a3, . and ., and leaves [b3 . 2 1 12 11].
    // C hits 1 and 2 and takes b3, and leaves [c3 . 12 11 2 1]. D takes c3, ., 12 and 11: A's blocks outlive B's.
    let (_, _, prefix) = run(
        &config(4, 6),
        &[
            (0, request(A, 9, 1), &[1, 2]),
            (1000, request(B, 9, 1), &[11, 12]),
            (2000, request(C, 9, 1), &[1, 2]),
            (3000, request(D, 16, 1), &[]),
            (4000, request(A, 9, 1), &[1, 2]),
        ],
    );
    assert_eq!(prefix, [52, 16, 2]);
}

#[test]
fn a_shared_block_is_free_when_its_last_holder_has_left() {
    let mut replica = replica(&config(4, 10));
    replica.submit_with_blocks(0, request(A, 9, 3), &[1, 2]).expect("accepted");
    replica.submit_with_blocks(50, request(B, 9, 9), &[1, 2]).expect("accepted");
    // 0: A 9 -> 109. 109: A decodes, B hits 2 blocks and computes 1 -> 211. 211: both -> 313, A's token 3.
    assert_eq!(advance(&mut replica, 313), [first(A, 109), first(B, 211)]);
    assert_eq!(replica.free_blocks(), 10 - 3 - 1, "of 3 + 3 blocks 2 are the same");
    assert_eq!(advance(&mut replica, 314), [finished(A, 313)]);
    assert_eq!(replica.free_blocks(), 10 - 3, "only A's own third block came back");
    // C finds them while B holds them: it takes one block more.
    replica.submit_with_blocks(320, request(C, 9, 9), &[1, 2]).expect("accepted");
    advance(&mut replica, 500);
    assert_eq!(prefix(&replica), [27, 16, 0]);
    assert_eq!(replica.free_blocks(), 10 - 4);
    advance(&mut replica, Ps::MAX);
    assert_eq!(replica.free_blocks(), 10);
}

#[test]
fn a_hit_in_the_free_queue_is_not_room_twice() {
    // A leaves [. . 2 1]. R (D here) holds 1 block until its token 3: free are [. 2 1].
    // B has 13 tokens, 4 blocks; 2 are hits, both in the queue: it wants 4 - 2 + 2 = 4 free blocks, and there are 3.
    let blocked: [(Ps, Request, &[u64]); 3] =
        [(0, request(A, 8, 1), &[1, 2]), (1000, request(D, 2, 3), &[]), (1050, request(B, 13, 1), &[1, 2])];
    for room in [Room::WholePrompt, Room::Chunk] {
        let (outputs, _, prefix) = run(&ReplicaConfig { room, ..config(4, 4) }, &blocked);
        // 1000: D 2 -> 1102; 1203; 1304. Then B computes 5.
        assert_eq!(outputs[2..], [first(D, 1102), finished(D, 1304), first(B, 1409), finished(B, 1409)]);
        assert_eq!(prefix, [23, 8, 0]);
    }
    // When they are held by another it wants 2: of 6 blocks A holds 3, D 1, and B gets in at once.
    let shared: [(Ps, Request, &[u64]); 3] =
        [(0, request(A, 9, 4), &[1, 2]), (0, request(D, 2, 4), &[]), (50, request(B, 13, 1), &[1, 2])];
    let (outputs, ..) = run(&config(4, 6), &shared);
    // 0: 9 + 2 -> 111. 111: 1 + 1 + 5 -> 218.
    assert!(outputs.contains(&finished(B, 218)), "{outputs:?}");
}

#[test]
fn room_for_the_whole_prompt_counts_hits() {
    // Budget 6, 5 blocks of 4. A leaves 1 and 2; D holds 1 block for long: [. . 2 1]. B has 17 tokens, 5 blocks:
    // whole prompt: 5 - 2 + 2 = 5 > 4. Chunk: 8 hit and 6: ceil(14 / 4) - 2 + 2 = 4.
    let requests: [(Ps, Request, &[u64]); 3] =
        [(0, request(A, 9, 1), &[1, 2]), (1000, request(D, 2, 2), &[]), (1050, request(B, 17, 1), &[1, 2])];
    let at = |room| {
        let config = ReplicaConfig { room, max_num_batched_tokens: 6, ..config(4, 5) };
        let (outputs, counters, prefix) = run(&config, &requests);
        assert_eq!(prefix[..2], [28, 8]);
        assert_eq!(counters.preemptions, 0);
        outputs[outputs.len() - 1]
    };
    // 1000: D 2 -> 1102. D decodes -> 1203, and B with it only if the chunk decides: 1 + 5 tokens.
    // Chunk: 1102: 5 of 9 -> 1208; 1208: 4 -> 1312. Whole: 1203: 6 -> 1309; 1309: 3 -> 1412.
    assert_eq!(at(Room::Chunk), finished(B, 1312));
    assert_eq!(at(Room::WholePrompt), finished(B, 1412));
}

#[test]
fn after_a_preemption_it_hits_what_is_left_of_its_own() {
    let config = ReplicaConfig { room: Room::Chunk, ..config(2, 5) };
    let (outputs, counters, prefix) =
        run(&config, &[(0, request(A, 3, 6), &[]), (0, request(B, 4, 4), &[1, 2, 3])]);
    // 0:   A 3 (2 blocks), B 4 (2 blocks) -> 107, token 1 of both. [.]
    // 107: A context 4, B context 5 takes a third -> 209. []
    // 209: A context 5 wants a third: B gives way, with 5 tokens computed: [b3 2 1], A takes b3. -> 310
    // 310: A context 6. B has 4 + 2 to compute; hits 1 and 2, wants 3 - 2 + 2 = 3 blocks of 2. -> 411
    // 411: A context 7 takes 2 (evicted). B hits 1, wants 3 - 1 + 1 = 3 of 1. -> 512
    // 512: A context 8. -> 613, its token 6.
    // 613: B hits 1, computes 4 -> 717, its token 3; 717: context 7 -> 818, its token 4.
    assert_eq!(outputs, [first(A, 107), first(B, 107), finished(A, 613), finished(B, 818)]);
    assert_eq!((counters.preemptions, counters.prefill_tokens), (1, 3 + 4 + 4));
    assert_eq!(prefix, [3 + 4 + 6, 2, 1]);
}

#[test]
fn decoding_fills_blocks_for_others_when_its_request_leaves() {
    // A's context grows from 3 to 12; the first block is full from its first decode on. B looks at 300 or at 2000.
    let hits = |ready_at| {
        run(&config(4, 10), &[(0, request(A, 3, 10), &[1, 2, 3]), (ready_at, request(B, 13, 1), &[1, 2, 3])])
            .2
    };
    assert_eq!(hits(300), [16, 0, 0]);
    assert_eq!(hits(2000), [16, 12, 0]);
}

#[test]
fn only_steps_that_have_ended_fill_blocks() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        let config = ReplicaConfig { scheduling, ..config(4, 10) };
        // Either way A's prefill of 3 runs from 0 to 103 and its first decode, which fills the block, to 204.
        // Cancelled at 50 it leaves at 103 with 3 tokens; cancelled at 150 it leaves at 204 with 4.
        for (cancelled_at, emitted, hits) in [(50, 0, 0), (150, 1, 4)] {
            let mut replica = replica(&config);
            let id = replica.submit_with_blocks(0, request(A, 3, 9), &[1]).expect("accepted");
            advance(&mut replica, cancelled_at);
            assert_eq!(replica.cancel(cancelled_at, id), Some(emitted));
            replica.submit_with_blocks(1000, request(B, 5, 1), &[1]).expect("accepted");
            advance(&mut replica, Ps::MAX);
            assert_eq!(prefix(&replica), [8, hits, 0], "{scheduling:?}, cancelled at {cancelled_at}");
        }
        // A request that ends leaves prompt + output - 1 tokens, also when a token more was computed for nothing.
        for (output, hits) in [(1, 0), (2, 4)] {
            let ends = Request { stop: Stop::EndOfText, ..request(A, 3, output) };
            let (_, counters, prefix) = run(&config, &[(0, ends, &[1]), (1000, request(B, 5, 1), &[1])]);
            assert_eq!(counters.wasted_tokens, u64::from(scheduling == Scheduling::Async));
            assert_eq!(prefix, [8, hits, 0], "{scheduling:?}, {output} tokens");
        }
    }
}

#[test]
fn what_was_computed_twice_is_found_until_both_are_evicted() {
    // A leaves [. . . . 2 1]. B hits 1 and computes 2 again in the first free block: [. . . 2 2' 1].
    let twice = |others: u32| -> [(Ps, Request, &'static [u64]); 4] {
        [
            (0, request(A, 8, 1), &[1, 2]),
            (1000, request(B, 8, 1), &[1, 2]),
            (2000, request(D, others, 1), &[]),
            (3000, request(C, 9, 1), &[1, 2]),
        ]
    };
    // After D with 3 blocks C finds 2, the older, and takes 2' for its last token: that is evicted. After 4 blocks 2 is
    // gone and C finds 2'; after 5 both are gone.
    for (others, hits, evicted) in [(12, 8, 1), (16, 8, 1), (20, 4, 2)] {
        let (_, _, prefix) = run(&config(4, 6), &twice(others));
        assert_eq!(prefix, [25 + u64::from(others), 4 + hits, evicted], "D has {others} tokens");
    }
}

#[test]
fn a_kill_leaves_a_cold_cache() {
    let mut replica = replica(&config(4, 10));
    replica.submit_with_blocks(0, request(A, 9, 1), &[1, 2]).expect("accepted");
    replica.submit_with_blocks(1000, request(B, 9, 9), &[1, 2]).expect("accepted");
    advance(&mut replica, 1250);
    assert_eq!(replica.kill(1250).len(), 1);
    assert_eq!(replica.free_blocks(), 10);
    replica.submit_with_blocks(2000, request(C, 9, 1), &[1, 2]).expect("accepted");
    assert_eq!(advance(&mut replica, Ps::MAX), [first(C, 2109), finished(C, 2109)]);
    assert_eq!(prefix(&replica), [27, 8, 0]);
}

#[test]
fn lists_may_be_short_long_odd_or_ignored() {
    let ids = |ids: &'static [u64]| ids;
    // The second request hits what the first one named: nothing past a short list, nothing at another place.
    for (named, asked, hits) in [
        (ids(&[1]), ids(&[1, 2]), 4),
        (ids(&[1, 2]), ids(&[1]), 4),
        (ids(&[1, 2, 3, 4, 5, 6, 7]), ids(&[1, 2, 3, 4, 5, 6, 7]), 8),
        (ids(&[1, 1]), ids(&[1, 1]), 8),
        (ids(&[1, 2]), ids(&[2, 1]), 0),
        (ids(&[]), ids(&[1, 2]), 0),
        (ids(&[1, 2]), ids(&[]), 0),
    ] {
        let (_, _, prefix) =
            run(&config(4, 10), &[(0, request(A, 9, 1), named), (1000, request(B, 9, 1), asked)]);
        assert_eq!(prefix, [18, hits, 0], "{named:?} then {asked:?}");
    }
    let off = ReplicaConfig { prefix_caching: false, ..config(4, 10) };
    let (outputs, _, prefix) =
        run(&off, &[(0, request(A, 9, 1), &[1, 2]), (1000, request(B, 9, 1), &[1, 2])]);
    assert_eq!(outputs[2..], [first(B, 1109), finished(B, 1109)]);
    assert_eq!(prefix, [0, 0, 0]);
}

#[test]
fn more_blocks_than_can_be_kept_one_by_one_are_refused() {
    let many = config(16, u32::MAX);
    assert_eq!(many.validate(), Err(ConfigError::TooManyBlocks(u32::MAX)));
    assert_eq!(ReplicaConfig { prefix_caching: false, ..many }.validate(), Ok(()));
}

#[test]
fn a_new_form_times_what_is_decided_from_then_on() {
    // Decode steps take 101 before and 201 after. Synchronously tokens come at 104, 205, 306, 407, ...
    // At 250 the step to 306 runs on; the decision at 306 is the first of the new form. So it is when told at 306.
    // Asynchronously the step from 306 was decided at 205, and the one from 407 is decided at 306.
    let last = |scheduling, at| {
        let config = ReplicaConfig { scheduling, prefix_caching: false, ..config(4, 10) };
        let mut replica = replica(&config);
        replica.submit(0, request(A, 4, 10)).expect("accepted");
        let mut outputs = advance(&mut replica, at);
        replica.set_form(at, plain(150));
        replica.set_form(at, plain(200));
        outputs.extend(advance(&mut replica, Ps::MAX));
        assert_eq!(outputs[0], first(A, 104));
        assert_eq!(replica.counters().busy_ps, replica_end(&outputs));
        outputs[1]
    };
    assert_eq!(last(Scheduling::Sync, 250), finished(A, 306 + 7 * 201));
    assert_eq!(last(Scheduling::Sync, 306), finished(A, 306 + 7 * 201));
    assert_eq!(last(Scheduling::Sync, 205), finished(A, 205 + 8 * 201));
    assert_eq!(last(Scheduling::Async, 250), finished(A, 407 + 6 * 201));
    assert_eq!(last(Scheduling::Async, 306), finished(A, 407 + 6 * 201));
    assert_eq!(last(Scheduling::Async, 307), finished(A, 508 + 5 * 201));
}

/// A step takes `c0 + 1` in decode, and 50 more from a context of 8 on.
#[derive(Debug, Clone, Copy)]
struct Knotted {
    c0: Ps,
}

impl StepTime for Knotted {
    fn piece(&self, batch: &Batch) -> Result<Piece, TimeOverflow> {
        let before_knot = 8_u64.saturating_sub(batch.context_tokens);
        let (extra, valid_steps) = if before_knot > 0 { (0, before_knot) } else { (50, u64::MAX) };
        let first_ps = self.c0 + batch.prefill_tokens + batch.decode_seqs + extra;
        Ok(Piece { first_ps, slope_ps: 0, valid_steps })
    }
}

#[test]
fn a_step_decided_at_the_end_of_validity_keeps_the_form_it_was_decided_by() {
    // Asynchronously: the prefill runs to 104; contexts 5, 6, 7 to 205, 306, 407. The step of context 8 is decided at
    // 306, by the old form: to 407 + 151 = 558. The next is decided at 407, by the new one: 251 each, 5 of them.
    let config = ReplicaConfig { scheduling: Scheduling::Async, ..config(4, 10) };
    let mut replica = Replica::new(config, Knotted { c0: 100 }).expect("valid");
    replica.submit(0, request(A, 4, 10)).expect("accepted");
    let mut outputs = Vec::new();
    replica.advance_before(350, &mut |output| outputs.push(output)).expect("in range");
    replica.set_form(350, Knotted { c0: 200 });
    replica.advance_before(Ps::MAX, &mut |output| outputs.push(output)).expect("in range");
    assert_eq!(outputs, [first(A, 104), finished(A, 558 + 5 * 251)]);
}

fn replica_end(outputs: &[Output]) -> Ps {
    match outputs.last() {
        Some(Output::FirstToken { at, .. } | Output::Finished { at, .. }) => *at,
        None => 0,
    }
}

#[test]
fn a_form_given_while_idle_or_before_a_kill_holds_after_it() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        let mut replica = replica(&ReplicaConfig { scheduling, ..config(4, 10) });
        replica.set_form(0, plain(300));
        replica.submit(10, request(A, 4, 2)).expect("accepted");
        assert_eq!(advance(&mut replica, 700), [first(A, 314), finished(A, 615)]);
        replica.submit(700, request(B, 4, 2)).expect("accepted");
        advance(&mut replica, 800);
        replica.set_form(800, plain(200));
        replica.kill(800);
        replica.submit(1000, request(C, 4, 2)).expect("accepted");
        assert_eq!(advance(&mut replica, Ps::MAX), [first(C, 1204), finished(C, 1405)]);
    }
}

#[test]
fn a_look_sees_what_came_before_it() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        // Tokens at 104, 205, 306, ...; all but the first in one jump.
        let mut replica = replica(&ReplicaConfig { scheduling, ..config(4, 10) });
        let id = replica.submit(0, request(A, 4, 10)).expect("accepted");
        let later = replica.submit(5000, request(B, 4, 10)).expect("accepted");
        for (at, tokens) in [(0, 0), (104, 0), (105, 1), (205, 1), (206, 2), (306, 2), (307, 3), (900, 8)] {
            advance(&mut replica, at);
            assert_eq!(replica.emitted(id, at), Some(tokens), "{scheduling:?} at {at}");
            assert_eq!(replica.emitted(later, at), Some(0));
        }
        // Token 10 comes at 104 + 9 * 101 = 1013.
        advance(&mut replica, 1013);
        assert_eq!(replica.emitted(id, 1013), Some(9));
        advance(&mut replica, 1014);
        assert_eq!(replica.emitted(id, 1014), None, "it has ended");
        assert_eq!(replica.cancel(1014, later), Some(0));
        assert_eq!(replica.emitted(later, 1014), None, "it was cancelled");
    }
}
