//! The prefix cache, a new form of the step time and the look at progress, worked out on paper from the contract; the
//! comments are the working. A block is named by its id, `-` is one that can't be found; the head of the queue is left.

use slackwater_engine::{Counters, Output, PrefixCounters, Ps, ReplicaConfig, Request, Scheduling};

use crate::pair::{Pace, Pair};
use crate::paper::{A, B, C, D, caching as config, finished, first, plain as from, request};

/// What both put out and counted: looked up, hit, evicted.
fn run(config: &ReplicaConfig, requests: &[(Ps, Request, &[u64])]) -> (Vec<Output>, Counters, [u64; 3]) {
    let mut pair = Pair::new(config, from(100));
    for &(ready_at, request, ids) in requests {
        pair.submit_with_blocks(ready_at, request, ids).expect("accepted");
    }
    let outputs = pair.finish(Pace::Once);
    (outputs, pair.oracle().counters(), prefix(&pair))
}

fn prefix(pair: &Pair) -> [u64; 3] {
    let PrefixCounters { looked_up_tokens, hit_tokens, evicted_blocks } = pair.oracle().prefix_counters();
    [looked_up_tokens, hit_tokens, evicted_blocks]
}

#[test]
fn a_prompt_is_found_but_for_its_last_token() {
    let requests: [(Ps, Request, &[u64]); 3] = [
        (0, request(A, 10, 1), &[11, 12]),
        (1000, request(B, 10, 1), &[11, 12]),
        (2000, request(C, 8, 1), &[11, 12]),
    ];
    let (outputs, counters, prefix) = run(&config(4, 9), &requests);
    // 0:    A 10;                                      110 -> 110. Free: the part block and six unused, 12 11
    // 1000: B hits 11 12 (9 tokens may be hit), 2;     102 -> 1102
    // 2000: C hits 11 (7 tokens may be hit), 4;        104 -> 2104
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Finished { .. })).count(), 3);
    assert_eq!(
        [outputs[1], outputs[3], outputs[5]],
        [finished(A, 110), finished(B, 1102), finished(C, 2104)]
    );
    assert_eq!((counters.prefill_tokens, counters.kv_blocks_peak), (10 + 2 + 4, 3));
    assert_eq!(prefix, [28, 12, 0]);

    // Without the cache all of it is computed.
    let off = ReplicaConfig { prefix_caching: false, ..config(4, 9) };
    let (outputs, counters, prefix) = run(&off, &requests);
    assert_eq!(
        [outputs[1], outputs[3], outputs[5]],
        [finished(A, 110), finished(B, 1110), finished(C, 2108)]
    );
    assert_eq!(counters.prefill_tokens, 28);
    assert_eq!(prefix, [0, 0, 0]);
}

#[test]
fn blocks_are_shared_within_one_decision() {
    let (outputs, counters, prefix) =
        run(&config(4, 3), &[(0, request(A, 8, 1), &[11, 12]), (0, request(B, 12, 1), &[11, 12, 13])]);
    // 0: A 8 (2 blocks, 1 free). B hits both, which A holds, and takes the third: ceil(12 / 4) - 2 + 0 = 1.
    assert_eq!(outputs, [first(A, 112), finished(A, 112), first(B, 112), finished(B, 112)]);
    assert_eq!((counters.prefill_tokens, counters.kv_blocks_peak), (12, 3));
    assert_eq!(prefix, [20, 8, 0]);
}

#[test]
fn what_is_generated_is_found_once_its_request_has_left() {
    let text: &[u64] = &[11, 12, 13];
    let requests = [
        (0, request(A, 6, 5), text),
        // Ready while A decodes with 9 tokens computed: 12 is filled and can't be found.
        (250, request(B, 9, 1), text),
        (1000, request(C, 13, 1), text),
    ];
    let (outputs, counters, prefix) = run(&config(4, 12), &requests);
    // 0:    A 6;                         106 -> 106, token 1
    // 106:  A 7, 207: A 8;               101 -> 207, 308, tokens 2 and 3
    // 308:  A 9, B hits 11, 5;           106 -> 414, A's token 4, B's token 1. B's 12 was findable from 308 on.
    // 414:  A 10;                        101 -> 515, token 5. 10 tokens are left, and 12 a second time.
    // 1000: C hits 11 and a 12, 5;       105 -> 1105
    assert_eq!(
        outputs,
        [first(A, 106), first(B, 414), finished(B, 414), finished(A, 515), first(C, 1105), finished(C, 1105)]
    );
    assert_eq!(counters.prefill_tokens, 6 + 5 + 5);
    assert_eq!(prefix, [28, 12, 0]);

    let (outputs, _, prefix) = run(&config(4, 12), &[requests[0], requests[2]]);
    assert_eq!(outputs[1], finished(A, 510));
    // C hits 11 and the generated 12.
    assert_eq!(outputs[3], finished(C, 1105));
    assert_eq!(prefix, [19, 8, 0]);
}

#[test]
fn the_oldest_leaves_go_first() {
    let requests: [(Ps, Request, &[u64]); 3] = [
        (0, request(A, 6, 1), &[11, 12, 13]),
        (200, request(B, 4, 1), &[21, 22]),
        (400, request(C, 7, 1), &[11, 12, 13]),
    ];
    let (outputs, _, prefix) = run(&config(2, 4), &requests);
    // 0:   A 6;                                                 106 -> 106. Free: - 13 12 11
    // 200: B 4 takes - and 13;                                  104 -> 304. Free: 12 11 22 21
    // 400: C hits 11 12, wants 4 - 2 + 2, takes 22 and 21, 3;   103 -> 503
    assert_eq!([outputs[1], outputs[3], outputs[5]], [finished(A, 106), finished(B, 304), finished(C, 503)]);
    assert_eq!(prefix, [17, 4, 3]);
}

#[test]
fn a_part_block_is_taken_before_what_can_be_found() {
    let requests: [(Ps, Request, &[u64]); 3] = [
        (0, request(A, 8, 1), &[11, 12, 13, 14]),
        (200, request(B, 1, 1), &[]),
        (400, request(C, 2, 1), &[]),
    ];
    let (_, _, prefix) = run(&config(2, 4), &requests);
    // 106: Free: 14 13 12 11. 200: B takes 14 for a part of it and gives it back to the head, where C takes it.
    assert_eq!(prefix, [11, 0, 1]);
}

#[test]
fn blocks_without_an_id_grow_old_like_others() {
    let requests: [(Ps, Request, &[u64]); 4] = [
        (0, request(A, 2, 1), &[11]),
        (200, request(B, 4, 1), &[]),
        (400, request(C, 2, 1), &[]),
        (600, request(D, 3, 1), &[11]),
    ];
    let (_, _, prefix) = run(&config(2, 3), &requests);
    // 0:   A takes a -.     Free: - - 11
    // 200: B takes both -.  Free: 11 - -, since what B leaves is filled and goes to the tail.
    // 400: C takes 11.
    assert_eq!(prefix, [11, 0, 1]);
}

#[test]
fn whoever_is_preempted_finds_what_is_left_of_its_own() {
    let requests: [(Ps, Request, &[u64]); 2] = [(0, request(A, 3, 5), &[]), (0, request(B, 3, 3), &[21, 22])];
    let (outputs, counters, prefix) = run(&config(2, 5), &requests);
    // 0:   A 3 (2 blocks), B 3 (2 blocks), 1 free;                              106 -> 106, both token 1
    // 106: A 4, B 4;                                                            102 -> 208, both token 2
    // 208: A 5 takes the free one; B 5 finds none and goes. Free: 22 21;        101 -> 309, A's token 3
    // 309: A 6; B hits 21 22 and wants 3 - 2 + 2 of 2;                          101 -> 410, A's token 4
    // 410: A 7 takes 22;                                                        101 -> 511, A's token 5. Free: - 21 - - -
    // 511: B hits 21, 3;                                                        103 -> 614, B's token 3
    assert_eq!(outputs, [first(A, 106), first(B, 106), finished(A, 511), finished(B, 614)]);
    assert_eq!((counters.prefill_tokens, counters.decode_tokens, counters.preemptions), (9, 5, 1));
    assert_eq!(prefix, [3 + 3 + 5, 2, 1]);

    let ahead = ReplicaConfig { scheduling: Scheduling::Async, ..config(2, 5) };
    let (outputs, counters, prefix) = run(&ahead, &requests);
    // 106: step 1 starts; decides 2: A 5 takes the free one, B goes. Its 4th token is in flight, so 22 is not filled.
    //      Free: - 21
    // 208: both token 2. B hits 21 and wants 3 - 1 + 1 of 2.
    // 309: A 7 takes the -. 410: A's last token is in flight; B wants 3 of 1.
    // 511: A's token 5. B hits 21, 3, in a step that starts at once.
    assert_eq!(outputs, [first(A, 106), first(B, 106), finished(A, 511), finished(B, 614)]);
    assert_eq!((counters.prefill_tokens, counters.decode_tokens, counters.preemptions), (9, 5, 1));
    assert_eq!(prefix, [3 + 3 + 5, 2, 0]);
}

#[test]
fn cancelled_requests_leave_in_the_order_of_the_cancels() {
    let mut pair = Pair::new(&config(2, 4), from(100));
    let a = pair.submit_with_blocks(0, request(A, 4, 5), &[11, 12]).expect("accepted");
    let b = pair.submit_with_blocks(0, request(B, 4, 5), &[21, 22]).expect("accepted");
    pair.advance_before(50, Pace::Once);
    pair.cancel(b);
    pair.cancel(a);
    pair.submit(60, request(C, 4, 1)).expect("accepted");
    pair.submit_with_blocks(300, request(D, 5, 1), &[11, 12]).expect("accepted");
    // 108: Free: 22 21 12 11. C takes 22 and 21;      104 -> 212. Free: 12 11 - -
    // 300: D hits 11 12, 1;                           101 -> 401
    assert_eq!(pair.finish(Pace::Once), [first(C, 212), finished(C, 212), first(D, 401), finished(D, 401)]);
    assert_eq!(prefix(&pair), [17, 4, 2]);
}

#[test]
fn a_kill_forgets_the_blocks_and_keeps_the_form() {
    let mut pair = Pair::new(&config(2, 4), from(100));
    pair.submit_with_blocks(0, request(A, 5, 1), &[11, 12]).expect("accepted");
    pair.advance_before(300, Pace::Once);
    pair.set_form(from(200));
    pair.kill();
    pair.submit_with_blocks(300, request(B, 5, 1), &[11, 12]).expect("accepted");
    pair.submit_with_blocks(700, request(C, 5, 1), &[11, 12]).expect("accepted");
    // 300: B 5, 205 -> 505. 700: C hits 11 12, 1, 201 -> 901.
    assert_eq!(pair.finish(Pace::Once), [first(B, 505), finished(B, 505), first(C, 901), finished(C, 901)]);
    assert_eq!(prefix(&pair), [15, 4, 0]);
}

#[test]
fn a_new_form_times_what_is_decided_from_then_on() {
    let end = |scheduling, at| {
        let mut pair = Pair::new(&ReplicaConfig { scheduling, ..config(4, 10) }, from(100));
        pair.submit(0, request(A, 3, 4)).expect("accepted");
        pair.advance_before(at, Pace::Once);
        pair.set_form(from(200));
        pair.finish(Pace::Once)
    };
    // Steps start at 0, 103, 204 and 305; the last would end at 406.
    assert_eq!(end(Scheduling::Sync, 103), [first(A, 103), finished(A, 706)]);
    assert_eq!(end(Scheduling::Sync, 104), [finished(A, 606)]);
    assert_eq!(end(Scheduling::Sync, 204), [finished(A, 606)]);
    assert_eq!(end(Scheduling::Sync, 205), [finished(A, 506)]);
    assert_eq!(end(Scheduling::Sync, 306), [finished(A, 406)]);
    // The step that starts at 204 was decided at 103.
    assert_eq!(end(Scheduling::Async, 103), [first(A, 103), finished(A, 606)]);
    assert_eq!(end(Scheduling::Async, 104), [finished(A, 506)]);
    assert_eq!(end(Scheduling::Async, 204), [finished(A, 506)]);
    assert_eq!(end(Scheduling::Async, 205), [finished(A, 406)]);
}

#[test]
fn a_form_that_met_no_decision_leaves_no_trace() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        let mut pair = Pair::new(&ReplicaConfig { scheduling, ..config(4, 10) }, from(100));
        pair.submit(0, request(A, 3, 4)).expect("accepted");
        // The second step lasts from 103 to 204, the third to 305. No clock could time a step of the form between.
        pair.advance_before(104, Pace::Once);
        pair.set_form(from(u64::MAX));
        pair.advance_before(204, Pace::EventByEvent);
        pair.set_form(from(100));
        assert_eq!(pair.finish(Pace::Once), [finished(A, 406)]);
        // While idle there are no decisions.
        pair.set_form(from(u64::MAX));
        pair.advance_before(1000, Pace::Once);
        pair.set_form(from(200));
        pair.submit(1000, request(B, 3, 1)).expect("accepted");
        assert_eq!(pair.finish(Pace::Once), [first(B, 1203), finished(B, 1203)]);
    }
}

#[test]
fn progress_is_what_was_emitted_before() {
    for scheduling in [Scheduling::Sync, Scheduling::Async] {
        let mut pair = Pair::new(&ReplicaConfig { scheduling, ..config(4, 10) }, from(100));
        let a = pair.submit(5, request(A, 3, 4)).expect("accepted");
        let mut seen = |at| {
            pair.advance_before(at, Pace::Once);
            pair.emitted(a)
        };
        // Tokens come at 108, 209, 310 and 411.
        assert_eq!([4, 5, 6, 108, 109, 209].map(&mut seen), [0, 0, 0, 0, 1, 1].map(Some));
        assert_eq!([210, 310, 311, 411, 412].map(&mut seen), [Some(2), Some(2), Some(3), Some(3), None]);

        let b = pair.submit(412, request(B, 3, 4)).expect("accepted");
        pair.advance_before(600, Pace::Once);
        assert_eq!(pair.emitted(b), Some(1));
        assert_eq!(pair.cancel(b), Some(1));
        assert_eq!(pair.emitted(b), None);
    }
}
