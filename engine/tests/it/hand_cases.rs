//! Cases worked out on paper from the contract; the comments are the working.

use slackwater_engine::{
    Coefficients, Counters, Output, Ps, Rejected, Replica, ReplicaConfig, Request, Room, Scheduling,
    StepTimeForm, Stop,
};

use crate::oracle::Oracle;
use crate::pair::{Pace, Pair};
use crate::paper::{A, B, C, finished, first, plain as timed, replica as config, request};

/// Runs the requests, each ready at its time, and returns what both engine and oracle put out and counted.
fn run(config: &ReplicaConfig, form: StepTimeForm, requests: &[(Ps, Request)]) -> (Vec<Output>, Counters) {
    let mut pair = Pair::new(config, form);
    for &(ready_at, request) in requests {
        pair.submit(ready_at, request).expect("accepted");
    }
    let outputs = pair.finish(Pace::Once);
    (outputs, pair.oracle().counters())
}

/// The counters in the order steps, prefill tokens, decode tokens, wasted tokens, preemptions, busy, peak of blocks.
fn brief(counters: &Counters) -> [u64; 7] {
    [
        counters.steps,
        counters.prefill_tokens,
        counters.decode_tokens,
        counters.wasted_tokens,
        counters.preemptions,
        counters.busy_ps,
        counters.kv_blocks_peak,
    ]
}

#[test]
fn one_request_alone() {
    let form = StepTimeForm::Linear(Coefficients {
        c0_ps: 100,
        c_tok_ps: 10,
        c_seq_ps: 5,
        c_kv_ps: 1,
        c_attn_ps: 2,
    });
    let (outputs, counters) = run(&config(64, 4, 100), form, &[(1000, request(A, 10, 3))]);
    // 1000: prefill of 10, pairs 10 * (0 + 10/2) = 50:  100 + 10*10 + 2*50         = 300 -> 1300, token 1
    // 1300: decode, context 10 + 1:                     100 + 10 + 5 + 11           = 126 -> 1426, token 2
    // 1426: decode, context 10 + 2:                     100 + 10 + 5 + 12           = 127 -> 1553, token 3
    assert_eq!(outputs, [first(A, 1300), finished(A, 1553)]);
    // 12 tokens were cached at most, 3 blocks.
    assert_eq!(brief(&counters), [3, 10, 2, 0, 0, 553, 3]);
}

#[test]
fn two_requests_share_a_budget_in_chunks() {
    let form = StepTimeForm::Linear(Coefficients {
        c0_ps: 100,
        c_tok_ps: 10,
        c_seq_ps: 5,
        c_kv_ps: 1,
        c_attn_ps: 3,
    });
    let requests = [(0, request(A, 9, 2)), (0, request(B, 13, 2))];
    let (outputs, counters) = run(&config(8, 4, 100), form, &requests);
    // 0:   A 8 of 9;                pairs 8*(0+4) = 32;              100 + 80 + 3*32            = 276 -> 276
    // 276: A 1, B 7 of 13;          pairs 1*(8+.5) + 7*(0+3.5) = 33; 100 + 80 + 3*33            = 279 -> 555, A's token 1
    // 555: A decodes (context 10),
    //      B 6;                     pairs 6*(7+3) = 60;              100 + 70 + 5 + 10 + 3*60   = 365 -> 920, A's token 2,
    //                                                                                   then B's token 1: decodes come first
    // 920: B decodes (context 14);                                   100 + 10 + 5 + 14          = 129 -> 1049, B's token 2
    assert_eq!(outputs, [first(A, 555), finished(A, 920), first(B, 920), finished(B, 1049)]);
    // Blocks of 4: A 8 -> 2; A 9, B 7 -> 3 + 2; A 10, B 13 -> 3 + 4; B 14 -> 4.
    assert_eq!(brief(&counters), [4, 22, 2, 0, 0, 1049, 7]);
}

#[test]
fn half_a_pair_rounds_down_once_a_step() {
    let form =
        StepTimeForm::Linear(Coefficients { c0_ps: 100, c_tok_ps: 0, c_seq_ps: 0, c_kv_ps: 0, c_attn_ps: 3 });
    // 5 * 2.5 + 3 * 1.5 = 17 pairs exactly: 3 * 17 = 51. Rounded for each chunk it would be 36 + 12 or 37 + 13.
    let (outputs, _) = run(&config(16, 4, 100), form, &[(0, request(A, 5, 1)), (0, request(B, 3, 1))]);
    assert_eq!(outputs, [first(A, 151), finished(A, 151), first(B, 151), finished(B, 151)]);
    // 12.5 pairs alone: 37.5 rounds down.
    let (outputs, _) = run(&config(16, 4, 100), form, &[(0, request(A, 5, 1))]);
    assert_eq!(outputs, [first(A, 137), finished(A, 137)]);
}

#[test]
fn the_newest_gives_way_and_computes_again() {
    let requests = [(0, request(A, 4, 4)), (0, request(B, 3, 3))];
    let (outputs, counters) = run(&config(16, 2, 4), timed(100), &requests);
    // 0:   A 4 (2 blocks), B 3 (2 blocks), none free;                          107 -> 107, both token 1
    // 107: A's 5th token needs a block: B goes, 2 come free, A takes 1;        101 -> 208, A's token 2
    //      nobody is admitted in a step that preempted.
    // 208: A 6 (3 blocks); B wants 3 + 1 tokens, 2 blocks, 1 is free: no;      101 -> 309, A's token 3
    // 309: A 7 (4 blocks);                                                     101 -> 410, A's token 4
    // 410: B 4 again;                                                          104 -> 514, B's token 2, not its first
    // 514: B decodes, 5 tokens;                                                101 -> 615, B's token 3
    assert_eq!(outputs, [first(A, 107), first(B, 107), finished(A, 410), finished(B, 615)]);
    assert_eq!(brief(&counters), [6, 7 + 4, 3 + 1, 0, 1, 615, 4]);
}

#[test]
fn the_newest_gives_way_to_nobody_but_itself() {
    let requests = [(0, request(A, 3, 5)), (0, request(B, 3, 3))];
    let (outputs, counters) = run(&config(16, 2, 5), timed(100), &requests);
    // 0:   A 3 (2 blocks), B 3 (2 blocks), 1 free;                                      106 -> 106, both token 1
    // 106: A 4, B 4: still 2 blocks each;                                               102 -> 208, both token 2
    // 208: A 5 takes the free one; B 5 finds none and is itself the newest: it goes;    101 -> 309, A's token 3
    // 309: A 6 (3 blocks), 2 free; B wants 5 tokens, 3 blocks: no;                      101 -> 410, A's token 4
    // 410: A 7 (4 blocks);                                                              101 -> 511, A's token 5
    // 511: B 5 again;                                                                   105 -> 616, B's token 3
    assert_eq!(outputs, [first(A, 106), first(B, 106), finished(A, 511), finished(B, 616)]);
    assert_eq!(brief(&counters), [6, 6 + 5, 2 + 1 + 1 + 1, 0, 1, 616, 4]);
}

#[test]
fn a_length_is_foreseen_and_an_end_of_text_is_not() {
    let config = ReplicaConfig { scheduling: Scheduling::Async, ..config(16, 4, 10) };
    let b = (150, request(B, 2, 1));

    let (outputs, counters) = run(&config, timed(100), &[(0, request(A, 3, 2)), b]);
    // 0:   decides step 0: A 3. Nothing runs, so at once
    // 0:   step 0 starts, 103 -> 103;   decides 1: A's token 1 is counted as if there: it decodes.
    // 103: A's token 1. Step 1 starts, 101 -> 204;   decides 2: A's length is foreseen: nothing.
    // 204: A's token 2, the end. Step 2 is empty;    decides 3: B, ready at 150.
    // 204: step 3 starts, 102 -> 306;   decides 4: nothing.
    // 306: B's token 1, the end.
    assert_eq!(outputs, [first(A, 103), finished(A, 204), first(B, 306), finished(B, 306)]);
    assert_eq!(brief(&counters), [3, 5, 1, 0, 0, 103 + 101 + 102, 1]);

    let a = Request { stop: Stop::EndOfText, ..request(A, 3, 2) };
    let (outputs, counters) = run(&config, timed(100), &[(0, a), b]);
    // 103: ... decides 2: A once more, in vain.
    // 204: A's token 2, the end. Step 2 starts, 101 -> 305;   decides 3: B.
    // 305: step 3 starts, 102 -> 407;   decides 4: nothing.
    // 407: B's token 1, the end.
    assert_eq!(outputs, [first(A, 103), finished(A, 204), first(B, 407), finished(B, 407)]);
    // The wasted token is A's 5th and takes a second block.
    assert_eq!(brief(&counters), [4, 5, 2, 1, 0, 103 + 101 + 101 + 102, 2]);

    // A scheduler that does not run ahead makes no difference between them, and wastes nothing.
    let sync = ReplicaConfig { scheduling: Scheduling::Sync, ..config };
    let (outputs, counters) = run(&sync, timed(100), &[(0, a), b]);
    assert_eq!(outputs, [first(A, 103), finished(A, 204), first(B, 306), finished(B, 306)]);
    assert_eq!(brief(&counters), [3, 5, 1, 0, 0, 306, 1]);
}

#[test]
fn a_request_preempted_with_its_last_token_in_flight_still_ends() {
    let config = ReplicaConfig { scheduling: Scheduling::Async, ..config(16, 2, 4) };
    let requests = [(0, request(A, 4, 4)), (0, request(B, 3, 1))];
    let (outputs, counters) = run(&config, timed(100), &requests);
    // 0:   decides step 0: A 4 (2 blocks), B 3 (2 blocks).
    // 0:   step 0 starts, 107 -> 107;   decides 1: A's 5th token needs a block. The newest is B, which would not be
    //      scheduled any more but keeps its place: it is preempted.
    // 107: both token 1; B ends from among the waiting. Step 1: A, 101 -> 208.
    // 208: A's token 2; step 2 -> 309, token 3; step 3 -> 410, token 4.
    assert_eq!(outputs, [first(A, 107), first(B, 107), finished(B, 107), finished(A, 410)]);
    assert_eq!(brief(&counters), [4, 7, 3, 0, 1, 410, 4]);
}

#[test]
fn room_for_the_whole_prompt_spares_preemptions() {
    let requests = [(0, request(A, 8, 5)), (0, request(B, 16, 1))];

    let (outputs, counters) = run(&config(8, 4, 6), timed(100), &requests);
    // 0:   A 8 (2 blocks), the budget is spent;                                 108 -> 108, A's token 1
    // 108: A 9 (3 blocks), 3 free; B's 16 tokens want 4: no.                    101 -> 209, 310, 411, 512: A's tokens 2..5
    // 512: B 8;                                                                 108 -> 620
    // 620: B 8;                                                                 108 -> 728, B's token 1
    assert_eq!(outputs, [first(A, 108), finished(A, 512), first(B, 728), finished(B, 728)]);
    assert_eq!(brief(&counters), [7, 24, 4, 0, 0, 728, 4]);

    let chunk = ReplicaConfig { room: Room::Chunk, ..config(8, 4, 6) };
    let (outputs, counters) = run(&chunk, timed(100), &requests);
    // 108: A 9 (3 blocks), 3 free; B's chunk of 7 takes 2;                      108 -> 216, A's token 2
    // 216: A 10; B's next 7 make 14 tokens, 4 blocks, 1 is free: B goes;        101 -> 317, A's token 3
    // 317: A 11; B's chunk of 7 again;                                          108 -> 425, A's token 4
    // 425: A 12; B goes again;                                                  101 -> 526, A's token 5
    // 526: B 8;                                                                 108 -> 634
    // 634: B 8;                                                                 108 -> 742, B's token 1
    assert_eq!(outputs, [first(A, 108), finished(A, 526), first(B, 742), finished(B, 742)]);
    assert_eq!(brief(&counters), [7, 8 + 7 + 7 + 16, 4, 0, 2, 742, 5]);
}

#[test]
fn a_cancel_at_the_end_of_a_step_comes_before_its_output() {
    for (at, tokens) in [(203, 1), (204, 1), (205, 2)] {
        let mut pair = Pair::new(&config(16, 4, 10), timed(100));
        let a = pair.submit(0, request(A, 3, 9)).expect("accepted");
        // Tokens at 103, 204, 305 and so on.
        assert_eq!(pair.advance_before(at, Pace::Once), [first(A, 103)]);
        assert_eq!(pair.cancel(a), Some(tokens), "at {at}");
        assert_eq!(pair.cancel(a), None, "it is gone");
        // It keeps its place while the step runs; B starts when that ends.
        let b = pair.submit(at, request(B, 3, 1)).expect("accepted");
        let end = if at <= 204 { 204 } else { 305 } + 103;
        assert_eq!(pair.finish(Pace::Once), [first(B, end), finished(B, end)]);
        assert_eq!(pair.cancel(b), None, "it has ended");
    }
}

#[test]
fn whoever_waits_behind_a_cancelled_request_is_next() {
    let mut pair = Pair::new(&config(16, 2, 4), timed(100));
    let requests = [request(A, 2, 5), request(B, 8, 1), request(C, 2, 1)];
    let [_, b, _] = requests.map(|request| pair.submit(0, request).expect("accepted"));
    // 0:   A 2 (1 block), 3 free; B wants 4, and C waits behind it;     102 -> 102, A's token 1
    // 102: A alone;                                                     101 -> 203, 304
    assert_eq!(pair.advance_before(250, Pace::Once), [first(A, 102)]);
    assert_eq!(pair.cancel(b), Some(0));
    // 304: A 5 (3 blocks), C 2 (1 block);                               103 -> 407, A's token 4, C's token 1
    // 407: A 6;                                                         101 -> 508, A's token 5
    assert_eq!(pair.finish(Pace::Once), [first(C, 407), finished(C, 407), finished(A, 508)]);
}

#[test]
fn before_the_first_decision_there_is_nothing_to_undo() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        let mut pair = Pair::new(&ReplicaConfig { scheduling, ..config(16, 4, 10) }, timed(100));
        assert_eq!(pair.kill(), []);
        let a = pair.submit(5, request(A, 3, 2)).expect("accepted");
        assert_eq!(pair.cancel(a), Some(0));
        pair.submit(5, request(B, 3, 2)).expect("accepted");
        assert_eq!(pair.kill(), [(B, 0)]);
        pair.submit(5, request(C, 3, 2)).expect("accepted");
        assert_eq!(pair.finish(Pace::Once), [first(C, 108), finished(C, 209)]);
    }
}

#[test]
fn a_kill_lists_the_running_the_waiting_and_those_to_come() {
    let mut pair = Pair::new(&ReplicaConfig { max_num_seqs: 2, ..config(16, 4, 10) }, timed(100));
    for (ready_at, tag) in [(300, 7), (0, 1), (0, 2), (0, 3), (260, 6), (50, 4), (250, 5)] {
        pair.submit(ready_at, request(tag, 1, 9)).expect("accepted");
    }
    // 0: 1 and 2 run, their tokens come at 102, 204, 306; 3 waits, and so does 4 from 102 on. The rest was not yet ready
    // at 204.
    pair.advance_before(305, Pace::Once);
    assert_eq!(pair.kill(), [(1, 2), (2, 2), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]);
    assert_eq!(pair.finish(Pace::Once), []);
}

#[test]
fn what_can_never_fit_is_rejected() {
    let config = config(16, 4, 2);
    let submit = |prompt, output| {
        let engine =
            Replica::new(config.clone(), timed(100)).expect("valid").submit(0, request(A, prompt, output));
        let oracle =
            Oracle::new(config.clone(), timed(100)).expect("valid").submit(0, request(A, prompt, output));
        assert_eq!(engine.err(), oracle.err());
        oracle.err()
    };
    // The last token is emitted and never cached: 5 + 4 - 1 tokens fill the two blocks.
    assert_eq!(submit(5, 4), None);
    assert_eq!(submit(5, 5), Some(Rejected::TooLong { needed: 3, available: 2 }));
    // 2 * (2^32 - 1) - 1 tokens.
    assert_eq!(submit(u32::MAX, u32::MAX), Some(Rejected::TooLong { needed: 1 << 31, available: 2 }));
    assert_eq!(submit(0, u32::MAX), Some(Rejected::Empty));
    assert_eq!(submit(1, 0), Some(Rejected::Empty));
}

#[test]
fn a_clock_past_its_range_is_an_error() {
    // The first step ends at 2^63, the second would end at 2^64.
    let form = StepTimeForm::Linear(Coefficients {
        c0_ps: 1 << 63,
        c_tok_ps: 0,
        c_seq_ps: 0,
        c_kv_ps: 0,
        c_attn_ps: 0,
    });
    let mut engine = Replica::new(config(16, 4, 2), form).expect("valid");
    let mut oracle = Oracle::new(config(16, 4, 2), form).expect("valid");
    engine.submit(0, request(A, 1, 3)).expect("accepted");
    oracle.submit(0, request(A, 1, 3)).expect("accepted");
    assert!(engine.advance_before(Ps::MAX, &mut |_| ()).is_err());
    assert!(oracle.advance_before(Ps::MAX, &mut |_| ()).is_err());
}
