//! The engine against the oracle on random configurations and workloads.
//!
//! A failure is kept in `tests/equality-regressions.txt` and tried first from then on. The shrunk [`Scenario`] it prints
//! holds all there is to reproduce it: nothing else is random.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use slackwater_engine::{
    Batch, Coefficients, Counters, Ps, ReplicaConfig, Request, Room, Scheduling, StepTime, StepTimeForm, Stop,
};

use crate::oracle::Oracle;
use crate::pair::{Pace, Pair};

#[derive(Debug, Clone)]
struct Scenario {
    config: ReplicaConfig,
    form: StepTimeForm,
    pace: Pace,
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

#[derive(Debug, Clone, Copy)]
enum Input {
    Submit {
        ready: When,
        prompt: u32,
        output: u32,
        stop: Stop,
    },
    /// Of one of the requests accepted so far; 0 is the latest.
    Cancel {
        back: usize,
    },
    Kill,
    Nothing,
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
    /// Drives engine and oracle, which compare themselves, and returns what was counted.
    fn run(&self) -> Counters {
        let mut pair = Pair::new(&self.config, self.form);
        let middling = Batch {
            prefill_tokens: u64::from(self.config.max_num_batched_tokens / 4),
            decode_seqs: u64::from(self.config.max_num_seqs / 2 + 1),
            context_tokens: u64::from(self.config.kv_blocks) * u64::from(self.config.block_size) / 2,
            attention_pairs_twice: 0,
        };
        let step = self.form.piece(&middling).expect("in range").first_ps.max(1);
        let mut accepted = 0;
        for (tag, &(when, input)) in (0..).zip(&self.inputs) {
            pair.advance_before(when.resolve(pair.oracle(), pair.now(), step), self.pace);
            match input {
                Input::Submit { ready, prompt, output, stop } => {
                    let ready_at = ready.resolve(pair.oracle(), pair.now(), step);
                    if pair.submit(ready_at, Request { tag, prompt, output, stop }).is_some() {
                        accepted += 1;
                    }
                }
                Input::Cancel { back } => {
                    if accepted > 0 {
                        pair.cancel(accepted - 1 - back % accepted);
                    }
                }
                Input::Kill => {
                    pair.kill();
                }
                Input::Nothing => {}
            }
        }
        pair.finish(self.pace);
        pair.oracle().counters()
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

fn input(capacity: u32) -> impl Strategy<Value = Input> {
    let ready = prop_oneof![2 => Just(When::Now), 1 => when(4)];
    let submit = (ready, length(capacity), length(capacity), stop())
        .prop_map(|(ready, prompt, output, stop)| Input::Submit { ready, prompt, output, stop });
    prop_oneof![
        40 => submit,
        8 => (0_usize..12).prop_map(|back| Input::Cancel { back }),
        1 => Just(Input::Kill),
        4 => Just(Input::Nothing),
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
    (config, form(), pace()).prop_flat_map(|(config, form, pace)| {
        let capacity = config.block_size * config.kv_blocks;
        vec((when(6), input(capacity)), 1..40).prop_map(move |inputs| Scenario {
            config: config.clone(),
            form,
            pace,
            inputs,
        })
    })
}

/// The size of a real replica, loaded from idle to beyond what it can hold.
fn realistic() -> impl Strategy<Value = Scenario> {
    let config = (16_u32..=128, 400_u32..6000, scheduling(), room()).prop_map(
        |(max_num_seqs, kv_blocks, scheduling, room)| ReplicaConfig {
            max_num_batched_tokens: 2048,
            max_num_seqs,
            block_size: 16,
            kv_blocks,
            scheduling,
            room,
            prefix_caching: false,
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
    let submit = (1_u32..4000, 1_u32..600, stop()).prop_map(|(prompt, output, stop)| Input::Submit {
        ready: When::Now,
        prompt,
        output,
        stop,
    });
    let input = prop_oneof![
        400 => submit,
        20 => (0_usize..100).prop_map(|back| Input::Cancel { back }),
        1 => Just(Input::Kill),
    ];
    let inputs = (1_u64..40).prop_flat_map(move |steps| {
        let gap = prop_oneof![
            9 => (0..steps * 1000).prop_map(|permille| When::Later { permille }),
            1 => (0_u32..3, -1_i8..=1).prop_map(|(skipped, offset)| When::AtDecision { skipped, offset }),
        ];
        vec((gap, input.clone()), 100..400)
    });
    (config, form, pace(), inputs).prop_map(|(config, form, pace, inputs)| Scenario {
        config,
        form,
        pace,
        inputs,
    })
}

fn cases(cases: u32) -> Config {
    Config {
        cases,
        // Beside this directory, whatever directory the test's source path is relative to.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/equality-regressions.txt"))),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases(8000))]
    #[test]
    fn a_crowded_replica_is_its_oracle(scenario in crowded()) {
        scenario.run();
    }
}

proptest! {
    #![proptest_config(cases(150))]
    #[test]
    fn a_realistic_replica_is_its_oracle(scenario in realistic()) {
        scenario.run();
    }
}

/// The properties above would hold of workloads in which nothing happens, too.
#[test]
fn the_workloads_meet_what_they_are_meant_to() {
    fn total(scenarios: &BoxedStrategy<Scenario>, cases: u32) -> Counters {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut total = Counters::default();
        for _ in 0..cases {
            let counters = scenarios.new_tree(&mut runner).expect("no filters").current().run();
            total.steps += counters.steps;
            total.wasted_tokens += counters.wasted_tokens;
            total.preemptions += counters.preemptions;
            total.finished += counters.finished;
            total.cancelled += counters.cancelled;
            total.killed += counters.killed;
        }
        total
    }
    for (name, total, cases) in
        [("crowded", total(&crowded().boxed(), 300), 300), ("realistic", total(&realistic().boxed(), 10), 10)]
    {
        let met = [
            total.steps / 30,
            total.wasted_tokens,
            total.preemptions,
            total.finished / 5,
            total.cancelled * 3,
            total.killed * 3,
        ];
        assert!(met.iter().all(|&count| count >= cases), "{name}: {cases} cases met only {total:?}");
    }
}
