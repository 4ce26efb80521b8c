//! Where the peer differs from us, each difference by itself.

use slackwater_benches::recorded;
use slackwater_benches::workload::Source;
use slackwater_engine::{
    Coefficients, Output, PS_PER_S, Replica, ReplicaConfig, Request, Room, Scheduling, StepTimeForm, Stop,
};
use slackwater_scenarios::traffic::Arrival;

use crate::lab::{self, Case, Ties, play};

const NANOSECOND: f64 = 1e-9;

#[test]
fn with_ties_broken_alike_every_request_is_the_same() {
    for (name, rate_scale) in [("quiet", 1.0), ("busy", 4.0)] {
        let case = Case { name, source: Source::Tiny, rate_scale, kv_blocks: 25_700 };
        let trace = case.load();
        let ours = case.run_ours(&trace);
        let its = play(&mut case.peer(Ties::Ours), &trace.arrivals);
        let apart = ours.largest_difference(&its);
        assert!(apart < NANOSECOND, "{name}: {apart} s apart");
        recorded::check(&format!("peer/{name}/tiny"), &ours.hex());
        assert_ne!(play(&mut case.peer(Ties::Its), &trace.arrivals), its, "{name}: ties matter");
    }
}

/// Two requests, and room for one and a bit: the later one is preempted after 16 tokens, waits for the other to end, and
/// computes 160 + 16 tokens again. That step yields token 17 with us, as in vLLM; the peer computes 175 in it, yields
/// nothing, and takes a decode step for token 17.
#[test]
fn after_a_preemption_the_peer_takes_a_step_more() {
    let [prompt, blocks] = [160, 22];
    let arrival = |at_ps, output_tokens| Arrival { at_ps, input_tokens: prompt, output_tokens };
    let arrivals = [arrival(0, 100), arrival(1, 60)];
    let its = play(&mut lab::engine(blocks, 1, Ties::Ours), &arrivals);
    assert_eq!(its.preemptions, 1);

    let config = ReplicaConfig {
        max_num_batched_tokens: lab::TOKENS_IN_A_STEP,
        max_num_seqs: lab::SEQUENCES,
        block_size: lab::BLOCK,
        kv_blocks: blocks,
        scheduling: Scheduling::Sync,
        room: Room::Chunk,
        prefix_caching: false,
    };
    let form = Coefficients {
        c0_ps: 8_000_000_000,
        c_tok_ps: 60_000_000,
        c_seq_ps: 50_000_000,
        c_kv_ps: 50_000,
        c_attn_ps: 0,
    };
    let mut replica = Replica::new(config, StepTimeForm::Linear(form)).unwrap();
    for (tag, arrival) in (0..).zip(&arrivals) {
        let request = Request { tag, prompt, output: arrival.output_tokens, stop: Stop::EndOfText };
        replica.advance_before(arrival.at_ps, &mut |_| ()).unwrap();
        replica.submit(arrival.at_ps, request).unwrap();
    }
    let mut ends = [0, 0];
    let mut note = |output| {
        if let Output::Finished { at, tag } = output {
            ends[tag as usize] = at - arrivals[tag as usize].at_ps;
        }
    };
    replica.advance_before(u64::MAX, &mut note).unwrap();
    assert_eq!(replica.counters().preemptions, 1);

    let decode_step = form.c0_ps + form.c_tok_ps + form.c_seq_ps + form.c_kv_ps * (160 + 16);
    // The prompt token that it computes less.
    let later = [0, decode_step - form.c_tok_ps];
    for number in [0, 1] {
        #[allow(clippy::cast_precision_loss)]
        let expected = (ends[number] + later[number]) as f64 / PS_PER_S as f64;
        let found = its.latencies[number].e2e;
        assert!((found - expected).abs() < NANOSECOND, "request {number}: {found}, not {expected}");
    }
}
