//! [`Replica::next_step_end`] names every moment at which tokens come out, and no other.

use proptest::prelude::*;
use slackwater_engine::{
    Coefficients, Ps, Replica, ReplicaConfig, Request, Room, Scheduling, SequenceId, StepTimeForm, Stop,
};

fn replica(scheduling: Scheduling, kv_blocks: u32) -> Replica<StepTimeForm> {
    let config = ReplicaConfig {
        max_num_batched_tokens: 64,
        max_num_seqs: 8,
        block_size: 4,
        kv_blocks,
        scheduling,
        room: Room::Chunk,
        prefix_caching: false,
    };
    let form =
        StepTimeForm::Max(Coefficients { c0_ps: 100, c_tok_ps: 3, c_seq_ps: 2, c_kv_ps: 1, c_attn_ps: 0 });
    Replica::new(config, form).expect("the limits agree")
}

/// Tokens of each request before `at`; `None` once it has ended.
fn emitted(replica: &Replica<StepTimeForm>, ids: &[SequenceId], at: Ps) -> Vec<Option<u32>> {
    ids.iter().map(|id| replica.emitted(*id, at)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokens_come_at_step_ends_only(
        requests in prop::collection::vec((0..3_000_u64, 1..80_u32, 1..40_u32), 1..12),
        is_async in any::<bool>(),
        kv_blocks in 30..120_u32,
    ) {
        let scheduling = if is_async { Scheduling::Async } else { Scheduling::Sync };
        let mut walked = replica(scheduling, kv_blocks);
        let mut ids = Vec::new();
        for (tag, (ready_at, prompt, output)) in requests.into_iter().enumerate() {
            let tag = u32::try_from(tag).unwrap();
            ids.push(walked.submit(ready_at, Request { tag, prompt, output, stop: Stop::Length }).unwrap());
        }
        let mut jumped = walked.clone();
        let mut jumps = Vec::new();
        jumped.advance_before(Ps::MAX, &mut |output| jumps.push(output)).unwrap();
        let (mut steps, mut done_until) = (Vec::new(), 0_u64);
        while let Some(at) = walked.next_step_end(done_until.saturating_sub(1)) {
            prop_assert!(at >= done_until, "{at} was over already, {done_until}");
            // Nothing came since the last one, and nothing has ended unseen.
            prop_assert_eq!(emitted(&walked, &ids, done_until), emitted(&walked, &ids, at));
            walked.advance_before(at + 1, &mut |output| steps.push(output)).unwrap();
            done_until = at + 1;
        }
        prop_assert_eq!(steps, jumps);
        prop_assert_eq!(walked.in_flight(), 0);
    }
}
