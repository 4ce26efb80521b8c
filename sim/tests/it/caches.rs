//! What prompts share, counted by hand: engines that keep what they computed.

use std::sync::Arc;

use slackwater_scenarios::SharedTrace;
use slackwater_sim::PrefixShare;

use crate::kit::{Engine, Run, Spec, near, ps, trace};

fn engine() -> Engine {
    Engine { block_size: 16, prefix_caching: true, ..Engine::default() }
}

fn sessions(turns: u32, more: &str) -> String {
    format!(
        "input = [{{ median = 7, sigma = 0 }}]\noutput = [{{ median = 50, sigma = 0 \
         }}]\n[traffic.generate.sessions]\nturns = {{ fixed = {turns} }}\nthink = 2\nin_course = false\n{more}"
    )
}

fn found(run: &Run) -> (u64, u64) {
    let PrefixShare { looked_up_tokens, hit_tokens, hit_share } = run.result.prefix_cache.unwrap().all;
    near(hit_share.unwrap(), hit_tokens as f64 / looked_up_tokens as f64);
    (looked_up_tokens, hit_tokens)
}

/// One session on one replica: turn n finds the full blocks of the whole turn before, but for the token that was the last
/// to come and was never computed on. Catches: answers that are not part of the history, an id that is not where it was.
#[test]
fn a_turn_finds_the_turn_before() {
    for turns in [1, 2, 5, 20] {
        let spec = Spec { engine: engine(), generate: sessions(turns, ""), ..Spec::default() };
        let run = spec.run(&trace([(1.0, 5, 100)]));
        let (mut looked, mut hits, mut before) = (0, 0, 0_u32);
        for row in &run.rows {
            looked += u64::from(row.input_tokens);
            hits += u64::from(before.saturating_sub(1) / 16 * 16);
            before = row.input_tokens + row.output_tokens;
        }
        assert_eq!(found(&run), (looked, hits), "{turns} turns");
        if turns == 5 {
            // By hand: prompts of 5, 112, 169, 226, 283; 104, 161, 218, 275 tokens computed before.
            assert_eq!((looked, hits), (795, 96 + 160 + 208 + 272));
        }
    }
}

/// Catches: sessions that share what is their own, or don't share the system prompt.
#[test]
fn sessions_share_their_system_prompt_and_no_more() {
    let spec = |count: u32| Spec {
        engine: engine(),
        generate: sessions(1, &format!("system_prompts = {{ count = {count}, tokens = 100, zipf = 0 }}")),
        ..Spec::default()
    };
    // Six blocks of 16 lie within 100 tokens, the seventh does not.
    let requests = trace((0..10_u32).map(|number| (f64::from(number) * 5.0, 140, 10)));
    assert_eq!(found(&spec(1).run(&requests)), (1400, 9 * 96));
    // Of many different ones, each first use finds nothing.
    let (_, hits) = found(&spec(1000).run(&requests));
    assert!(hits <= 2 * 96, "{hits}");
}

/// A session that moves to another replica finds nothing there. Catches: a cache that is shared, or outlives its process.
#[test]
fn a_restarted_replica_is_cold() {
    let spec = Spec { replicas: 2, engine: engine(), generate: sessions(150, ""), ..Spec::default() };
    let requests = trace((0..20_u32).map(|number| (f64::from(number) * 0.1, 50, 100)));
    let sticky = Spec { router: "sticky = \"session\"".to_owned(), ..spec };
    let calm = sticky.run(&requests);
    let rolled = sticky.roll(&requests, ps(40.0));
    let share = |run: &Run| run.result.prefix_cache.unwrap().all.hit_share.unwrap();
    assert!(share(&calm) > 0.95, "{}", share(&calm));
    // The same is said; but each session moved away and back, and what it had said by then was computed afresh each time:
    // by 40 s at least ten turns of 57 tokens.
    let ((looked, hits), (looked_rolling, hits_rolling)) = (found(&calm), found(&rolled));
    assert_eq!(looked, looked_rolling);
    assert!(hits - hits_rolling > 20 * 2 * 570, "{hits} {hits_rolling}");
    let parts = rolled.result.prefix_cache.unwrap();
    let missed = |part: PrefixShare| 1.0 - part.hit_share.unwrap();
    assert!(missed(parts.during) > 2.0 * missed(parts.after), "{parts:?}");
    let sum = |count: fn(&PrefixShare) -> u64| {
        let phases =
            rolled.result.phases.iter().map(|phase| count(&phase.prefix_cache.unwrap())).sum::<u64>();
        assert_eq!(phases, count(&parts.before) + count(&parts.during) + count(&parts.after));
        phases
    };
    assert_eq!((sum(|part| part.looked_up_tokens), sum(|part| part.hit_tokens)), found(&rolled));
}

/// Mooncake's names: blocks of 512 tokens. Catches: a last block that is not full taken for a whole one.
#[test]
fn a_trace_says_what_is_shared() {
    let arrivals = trace([(1.0, 1000, 10), (2.0, 900, 10), (3.0, 1000, 10), (4.0, 100, 10)]);
    let names: Vec<Box<[u64]>> = vec![[7, 8].into(), [7, 9].into(), [7, 8].into(), [].into()];
    let requests = Arc::new(SharedTrace { prefixes: names.into(), ..SharedTrace::clone(&arrivals) });
    let spec = Spec { engine: engine(), ..Spec::default() };
    // 512 of the second; 62 blocks of 16 of the third; nothing is known of the fourth.
    assert_eq!(found(&spec.run(&requests)), (3000, 512 + 992));
    assert_eq!(found(&spec.run(&arrivals)), (3000, 0));
}

/// Two prompts that took turns on two replicas each have one, once the balancer looks; and what it sends together is found.
#[test]
fn a_balancer_that_looks_finds_more() {
    let share = |policy: &str| {
        let generate = sessions(30, "system_prompts = { count = 4, tokens = 2000, zipf = 0 }");
        let router = format!("policy = \"{policy}\"");
        let spec = Spec { replicas: 4, engine: engine(), generate, router, ..Spec::default() };
        let requests = trace((0..40_u32).map(|number| (f64::from(number) * 0.7, 2050, 100)));
        spec.run(&requests).result.prefix_cache.unwrap().all.hit_share.unwrap()
    };
    let (blind, seeing) = (share("round-robin"), share("prefix-aware"));
    assert!(seeing > 0.95 && blind < seeing - 0.02, "{blind} against {seeing}");
}

/// Off is off: nothing is looked up, nothing is said, and what shares its beginning is as slow as what does not.
#[test]
fn without_a_cache_nothing_changes() {
    let off = Engine { prefix_caching: false, c_tok_us: 100.0, ..engine() };
    let spec = Spec { engine: off, generate: sessions(5, ""), ..Spec::default() };
    let run = spec.run(&trace([(1.0, 5, 100)]));
    assert!(run.result.prefix_cache.is_none() && run.result.phases[0].prefix_cache.is_none());
    let on = Spec { engine: Engine { prefix_caching: true, ..spec.engine.clone() }, ..spec };
    let faster = on.run(&trace([(1.0, 5, 100)]));
    // The last prompt is 283 tokens, of which 272 were there: 27.2 ms less.
    let ttft = |run: &Run| run.rows[4].ttft_s.unwrap();
    near(ttft(&run) - ttft(&faster), 0.0272);
}
