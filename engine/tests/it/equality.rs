//! The engine against the oracle on random configurations and workloads.
//!
//! A failure is kept in `tests/equality-regressions.txt` and tried first from then on. The shrunk [`Scenario`] it prints
//! holds all there is to reproduce it: nothing else is random.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slackwater_engine::{
    Batch, Coefficients, Counters, Output, PrefixCounters, Ps, Replica, ReplicaConfig, Request, Room,
    Scheduling, StepTime, StepTimeForm, Stop,
};

use crate::oracle::Oracle;
use crate::pair::{Pace, Pair};

#[derive(Debug, Clone)]
struct Scenario {
    config: ReplicaConfig,
    form: StepTimeForm,
    pace: Pace,
    /// Ids of blocks are their numbers times this, which is odd, so that no two get the same.
    id_factor: u64,
    inputs: Vec<(When, Input)>,
}

/// A time from now on.
#[derive(Debug, Clone, Copy)]
enum When {
    Now,
    /// After so many thousandths of a step of middling size.
    Later {
        permille: u64,
    },
    /// At the decision that comes after `skipped` others, or just before or after it.
    AtDecision {
        skipped: u32,
        offset: i8,
    },
}

/// The text of a request, prompt and answer, block by block: which others begin like it, and how far.
///
/// A later request of the same text is the next turn of a conversation when its prompt is longer: it then finds blocks
/// that were generated.
#[derive(Debug, Clone)]
struct Text {
    family: u32,
    /// Where it leaves the main text of its family, and the text that left there, and so on.
    forks: Vec<u32>,
    /// How many blocks have an id at most.
    named: u32,
}

#[derive(Debug, Clone)]
enum Input {
    Submit {
        ready: When,
        prompt: u32,
        output: u32,
        stop: Stop,
        text: Text,
    },
    /// Of one of the requests accepted so far; 0 is the latest.
    Cancel {
        back: usize,
    },
    Kill,
    /// The GPU becomes this many times slower than it was at the start.
    Slow {
        permille: u32,
    },
    /// Another form altogether.
    Form(StepTimeForm),
    /// How far are those submitted lately?
    Look,
}

/// Numbers of blocks, by (number of the block before it, what it adds).
#[derive(Debug, Default)]
struct Names(BTreeMap<(Option<u64>, u32), u64>);

impl Names {
    /// Chained ids of the first `blocks` of a text.
    fn of(&mut self, text: &Text, blocks: u32, factor: u64) -> Vec<u64> {
        let mut before = None;
        (0..blocks.min(text.named))
            .map(|place| {
                let adds = if place == 0 { text.family } else { u32::from(text.forks.contains(&place)) };
                let next = self.0.len() as u64;
                let number = *self.0.entry((before, adds)).or_insert(next);
                before = Some(number);
                number.wrapping_mul(factor)
            })
            .collect()
    }
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    outputs: Vec<Output>,
    counters: Counters,
    prefix: PrefixCounters,
}

impl When {
    fn resolve(self, oracle: &Oracle<StepTimeForm>, now: Ps, step: Ps) -> Ps {
        match self {
            When::Now => now,
            When::Later { permille } => now + step.saturating_mul(permille) / 1000,
            When::AtDecision { skipped, offset } => {
                let mut ahead = oracle.clone();
                for _ in 0..skipped {
                    if let Some(event) = ahead.next_event() {
                        ahead.advance_before(event + 1, &mut |_| ()).expect("in range");
                    }
                }
                let event = ahead.next_event().unwrap_or(now);
                event.saturating_add_signed(offset.into()).max(now)
            }
        }
    }
}

impl Scenario {
    /// Drives engine and oracle, which compare themselves.
    fn run(&self) -> Seen {
        let mut pair = Pair::new(&self.config, self.form);
        let middling = Batch {
            prefill_tokens: u64::from(self.config.max_num_batched_tokens / 4),
            decode_seqs: u64::from(self.config.max_num_seqs / 2 + 1),
            context_tokens: u64::from(self.config.kv_blocks) * u64::from(self.config.block_size) / 2,
            attention_pairs_twice: 0,
        };
        let step = self.form.piece(&middling).expect("in range").first_ps.max(1);
        let mut accepted = 0;
        let mut names = Names::default();
        let mut outputs = Vec::new();
        for (tag, (when, input)) in (0..).zip(&self.inputs) {
            outputs.extend(pair.advance_before(when.resolve(pair.oracle(), pair.now(), step), self.pace));
            match *input {
                Input::Submit { ready, prompt, output, stop, ref text } => {
                    let ready_at = ready.resolve(pair.oracle(), pair.now(), step);
                    // What can't be served has more blocks than there are; and a list may be longer than the context.
                    let blocks = (prompt.saturating_add(output) / self.config.block_size)
                        .min(self.config.kv_blocks)
                        + 2;
                    let ids = names.of(text, blocks, self.id_factor);
                    let request = Request { tag, prompt, output, stop };
                    let id = if ids.is_empty() {
                        pair.submit(ready_at, request)
                    } else {
                        pair.submit_with_blocks(ready_at, request, &ids)
                    };
                    accepted += usize::from(id.is_some());
                }
                Input::Cancel { back } => {
                    if accepted > 0 {
                        pair.cancel(accepted - 1 - back % accepted);
                    }
                }
                Input::Kill => {
                    pair.kill();
                }
                Input::Slow { permille } => pair.set_form(self.form.scaled(f64::from(permille) / 1000.0)),
                Input::Form(form) => {
                    // No decision meets this one, whose every step is too long for the clock.
                    let c0_ps = u64::MAX;
                    pair.set_form(StepTimeForm::Max(Coefficients {
                        c0_ps,
                        c_tok_ps: c0_ps,
                        c_seq_ps: c0_ps,
                        c_kv_ps: c0_ps,
                        c_attn_ps: c0_ps,
                    }));
                    pair.set_form(form);
                }
                Input::Look => {
                    for id in accepted.saturating_sub(60)..accepted {
                        pair.emitted(id);
                    }
                }
            }
        }
        outputs.extend(pair.finish(self.pace));
        Seen { outputs, counters: pair.oracle().counters(), prefix: pair.oracle().prefix_counters() }
    }
}

fn scheduling() -> impl Strategy<Value = Scheduling> {
    prop_oneof![Just(Scheduling::Sync), Just(Scheduling::Async)]
}

fn room() -> impl Strategy<Value = Room> {
    prop_oneof![Just(Room::WholePrompt), Just(Room::Chunk)]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![Just(Stop::Length), Just(Stop::EndOfText)]
}

/// None, small beside the others, of their size, and far above them.
fn coefficient() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 2 => 1_u64..4, 4 => 1_u64..1000, 1 => 1_u64..1_000_000_000]
}

fn form() -> impl Strategy<Value = StepTimeForm> {
    let coefficients = (coefficient(), coefficient(), coefficient(), coefficient(), coefficient());
    (any::<bool>(), coefficients).prop_map(|(max, (c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps))| {
        if max {
            StepTimeForm::Max(Coefficients { c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps })
        } else {
            StepTimeForm::Linear(Coefficients { c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps })
        }
    })
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![Just(Pace::Once), (1_u32..100).prop_map(Pace::Increments), Just(Pace::EventByEvent)]
}

/// Most gaps last less than `steps` steps.
fn when(steps: u64) -> impl Strategy<Value = When> {
    prop_oneof![
        3 => Just(When::Now),
        3 => (0..steps * 1000).prop_map(|permille| When::Later { permille }),
        1 => (0..steps * 50_000).prop_map(|permille| When::Later { permille }),
        3 => (0_u32..12, -1_i8..=1).prop_map(|(skipped, offset)| When::AtDecision { skipped, offset }),
    ]
}

/// Lengths in thousandths of what the KV cache holds, and some that can't be served.
fn length(capacity: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        20 => Just(1_u32),
        60 => 1..=(capacity / 8).max(1),
        60 => 1..=(capacity / 2).max(1),
        10 => 1..=capacity,
        1 => Just(0_u32),
        1 => any::<u32>(),
    ]
}

/// Of a few families, most of them unforked, some with no ids at all or with too few.
fn text(families: u32, blocks: u32) -> impl Strategy<Value = Text> {
    let forks = prop_oneof![4 => Just(Vec::new()), 2 => vec(1..=blocks, 1), 1 => vec(1..=blocks, 2..4)];
    let named = prop_oneof![12 => Just(u32::MAX), 1 => Just(0), 2 => 0..=blocks];
    (0..families, forks, named).prop_map(|(family, forks, named)| Text { family, forks, named })
}

fn slow() -> impl Strategy<Value = Input> {
    prop_oneof![Just(1000), 1000_u32..3000, 0_u32..1000, 1000_u32..100_000]
        .prop_map(|permille| Input::Slow { permille })
}

fn id_factor() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(u64::MAX), any::<u64>().prop_map(|bits| bits | 1)]
}

fn input(config: &ReplicaConfig) -> impl Strategy<Value = Input> + use<> {
    let capacity = config.block_size * config.kv_blocks;
    let ready = prop_oneof![2 => Just(When::Now), 1 => when(4)];
    let submit = (ready, length(capacity), length(capacity), stop(), text(3, config.kv_blocks))
        .prop_map(|(ready, prompt, output, stop, text)| Input::Submit { ready, prompt, output, stop, text });
    prop_oneof![
        80 => submit,
        16 => (0_usize..12).prop_map(|back| Input::Cancel { back }),
        2 => Just(Input::Kill),
        3 => slow(),
        2 => form().prop_map(Input::Form),
        10 => Just(Input::Look),
    ]
}

/// A few places, a few blocks, a budget of a few tokens: everything is always short.
fn crowded() -> impl Strategy<Value = Scenario> {
    let config = (1_u32..=6, 0_u32..=24, 1_u32..=32, 1_u32..=16, scheduling(), room()).prop_map(
        |(max_num_seqs, spare, block_size, kv_blocks, scheduling, room)| ReplicaConfig {
            max_num_batched_tokens: max_num_seqs + spare,
            max_num_seqs,
            block_size,
            kv_blocks,
            scheduling,
            room,
            prefix_caching: false,
        },
    );
    scenarios(config, 40)
}

/// The same with a prefix cache, in which few blocks stay for long. Blocks are smaller and there are more of them.
fn crowded_cache() -> impl Strategy<Value = Scenario> {
    let config = (1_u32..=6, 0_u32..=24, 1_u32..=8, 1_u32..=40, scheduling(), room()).prop_map(
        |(max_num_seqs, spare, block_size, kv_blocks, scheduling, room)| ReplicaConfig {
            max_num_batched_tokens: max_num_seqs + spare,
            max_num_seqs,
            block_size,
            kv_blocks,
            scheduling,
            room,
            prefix_caching: true,
        },
    );
    scenarios(config, 60)
}

fn scenarios(
    config: impl Strategy<Value = ReplicaConfig>,
    most_inputs: usize,
) -> impl Strategy<Value = Scenario> {
    (config, form(), pace(), id_factor()).prop_flat_map(move |(config, form, pace, id_factor)| {
        vec((when(6), input(&config)), 1..most_inputs).prop_map(move |inputs| Scenario {
            config: config.clone(),
            form,
            pace,
            id_factor,
            inputs,
        })
    })
}

/// The size of a real replica, loaded from idle to beyond what it can hold.
fn realistic(prefix_caching: bool) -> impl Strategy<Value = Scenario> {
    let config = (16_u32..=128, 400_u32..6000, scheduling(), room()).prop_map(
        move |(max_num_seqs, kv_blocks, scheduling, room)| ReplicaConfig {
            max_num_batched_tokens: 2048,
            max_num_seqs,
            block_size: 16,
            kv_blocks,
            scheduling,
            room,
            prefix_caching,
        },
    );
    let form = (any::<bool>(), 1_u64..20_000, 0_u64..80, 0_u64..100, 0_u64..3).prop_map(
        |(max, c0, c_tok, c_seq, c_attn)| {
            let (c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps) =
                (c0 * 1_000_003, c_tok * 1_000_033, c_seq * 999_983, c_seq * 317, c_attn * 101);
            if max {
                StepTimeForm::Max(Coefficients { c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps })
            } else {
                StepTimeForm::Linear(Coefficients { c0_ps, c_tok_ps, c_seq_ps, c_kv_ps, c_attn_ps })
            }
        },
    );
    let submit = (1_u32..4000, 1_u32..600, stop(), text(20, 250)).prop_map(|(prompt, output, stop, text)| {
        Input::Submit { ready: When::Now, prompt, output, stop, text }
    });
    let input = prop_oneof![
        800 => submit,
        40 => (0_usize..100).prop_map(|back| Input::Cancel { back }),
        2 => Just(Input::Kill),
        4 => slow(),
        20 => Just(Input::Look),
    ];
    let inputs = (1_u64..40).prop_flat_map(move |steps| {
        let gap = prop_oneof![
            9 => (0..steps * 1000).prop_map(|permille| When::Later { permille }),
            1 => (0_u32..3, -1_i8..=1).prop_map(|(skipped, offset)| When::AtDecision { skipped, offset }),
        ];
        vec((gap, input.clone()), 100..400)
    });
    (config, form, pace(), id_factor(), inputs).prop_map(|(config, form, pace, id_factor, inputs)| Scenario {
        config,
        form,
        pace,
        id_factor,
        inputs,
    })
}

/// As many as `PROPTEST_CASES` says, or so many.
fn cases(usual: u32) -> Config {
    Config {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual),
        // Beside this directory, whatever directory the test's source path is relative to.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/equality-regressions.txt"))),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases(4000))]
    #[test]
    fn a_crowded_replica_is_its_oracle(scenario in crowded()) {
        scenario.run();
    }

    #[test]
    fn a_crowded_replica_with_a_cache_is_its_oracle(scenario in crowded_cache()) {
        scenario.run();
    }
}

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn a_realistic_replica_is_its_oracle(scenario in realistic(false)) {
        scenario.run();
    }

    #[test]
    fn a_realistic_replica_with_a_cache_is_its_oracle(scenario in realistic(true)) {
        scenario.run();
    }
}

proptest! {
    #![proptest_config(cases(500))]
    #[test]
    fn a_cache_in_which_nothing_is_named_changes_nothing(mut scenario in crowded_cache()) {
        for (_, input) in &mut scenario.inputs {
            if let Input::Submit { text, .. } = input {
                text.named = 0;
            }
        }
        let with = scenario.run();
        scenario.config.prefix_caching = false;
        let without = scenario.run();
        prop_assert_eq!((&with.outputs, with.counters), (&without.outputs, without.counters));
        prop_assert_eq!(with.prefix.hit_tokens + with.prefix.evicted_blocks, 0);
        prop_assert_eq!(without.prefix, PrefixCounters::default());
    }
}

proptest! {
    #![proptest_config(cases(500))]
    #[test]
    fn ids_that_are_not_chained_do_no_harm(scenario in crowded_cache(), bits in 61_u32..=64) {
        let config = &scenario.config;
        let mut replica = Replica::new(config.clone(), scenario.form).expect("valid");
        let mut names = Names::default();
        let mut finished = 0;
        let mut sink = |output| finished += u64::from(matches!(output, Output::Finished { .. }));
        let mut at = 0;
        for (tag, (_, input)) in (0..).zip(&scenario.inputs) {
            // Within what a few steps take, whatever they cost.
            at = replica.next_event().map_or(at, |event| event.max(at));
            replica.advance_before(at, &mut sink).expect("in range");
            if let Input::Submit { prompt, output, stop, ref text, .. } = *input {
                // Few ids for many blocks: they come back after others than before.
                let factor = 1_u64.checked_shl(bits).unwrap_or(0);
                let ids = names.of(text, config.kv_blocks, factor);
                // What can't be served changes nothing.
                let _ = replica.submit_with_blocks(at, Request { tag, prompt, output, stop }, &ids);
            }
        }
        replica.advance_before(Ps::MAX, &mut sink).expect("in range");
        prop_assert_eq!(replica.in_flight(), 0);
        prop_assert_eq!(replica.free_blocks(), config.kv_blocks);
        prop_assert_eq!([finished; 2], [replica.counters().submitted, replica.counters().finished]);
    }
}

/// The properties above would hold of workloads in which nothing happens, too.
#[test]
fn the_workloads_meet_what_they_are_meant_to() {
    let workloads: [(&str, BoxedStrategy<Scenario>, u32); 4] = [
        ("crowded", crowded().boxed(), 300),
        ("crowded, with a cache", crowded_cache().boxed(), 300),
        ("realistic", realistic(false).boxed(), 10),
        ("realistic, with a cache", realistic(true).boxed(), 10),
    ];
    for (name, scenarios, cases) in workloads {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut counters = Counters::default();
        let mut prefix = PrefixCounters::default();
        let mut caching = false;
        for _ in 0..cases {
            let scenario = scenarios.new_tree(&mut runner).expect("no filters").current();
            let seen = scenario.run();
            counters.add(&seen.counters);
            prefix.add(&seen.prefix);
            caching = scenario.config.prefix_caching;
        }
        let met = [
            counters.steps / 30,
            counters.wasted_tokens,
            counters.preemptions,
            counters.finished / 5,
            counters.cancelled * 3,
            counters.killed * 3,
        ];
        let cases = u64::from(cases);
        assert!(met.iter().all(|&count| count >= cases), "{name}: {cases} cases met only {counters:?}");
        if caching {
            let shares =
                [prefix.hit_tokens * 5 >= prefix.looked_up_tokens, prefix.evicted_blocks >= cases * 5];
            assert_eq!(shares, [true; 2], "{name}: {cases} cases met only {prefix:?}");
        } else {
            assert_eq!(prefix, PrefixCounters::default(), "{name}");
        }
    }
}
