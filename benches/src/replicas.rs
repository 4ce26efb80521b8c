//! One replica without a world around it: the engine that jumps beside engines that walk every step.
//!
//! Three engines compute the same: the jumping one; the same program made to take one step at a time, by a form of the
//! step time that is never valid for longer; and the oracle of the engine's tests, which sums nothing up and checks
//! itself at every step. Traffic is dealt to the replicas in turn, and each is run by itself.

use slackwater_engine::{
    Batch, Counters, Output, Piece, Ps, Replica, ReplicaConfig, Request, Room, StepTime, StepTimeForm, Stop,
    TimeOverflow,
};
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::traffic::Arrival;

use crate::WordHash;
use crate::oracle::Oracle;

/// How the engine gets from one change of its batch to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gait {
    /// In one jump.
    Jump,
    /// The same engine, a step at a time.
    Walk,
    /// The oracle.
    Oracle,
}

/// What a run computed: equal for all gaits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Totals over all replicas.
    pub counters: Counters,
    /// Over all outputs of all replicas, in order.
    pub hash: WordHash,
    /// First tokens and ends.
    pub outputs: u64,
}

impl Outcome {
    fn take(&mut self, output: Output) {
        let (kind, at, tag) = match output {
            Output::FirstToken { at, tag } => (0, at, tag),
            Output::Finished { at, tag } => (1, at, tag),
        };
        self.outputs += 1;
        self.hash.word(at);
        self.hash.word(u64::from(tag) << 1 | kind);
    }

    /// Of outputs and totals.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut hash = self.hash;
        for word in [self.counters.steps, self.counters.decode_tokens, self.counters.busy_ps, self.outputs] {
            hash.word(word);
        }
        hash.hex()
    }
}

/// A replica to be run, taken from the benchmark's scenario.
#[derive(Debug, Clone)]
pub struct Fleet {
    config: ReplicaConfig,
    form: StepTimeForm,
    replicas: usize,
}

impl Fleet {
    /// So many replicas of a profile.
    #[must_use]
    pub fn new(profile: &EngineProfile, replicas: usize) -> Self {
        use slackwater_engine::step_time::ps_from_s;
        use slackwater_scenarios::Scheduling;
        let form = slackwater_engine::Coefficients {
            c0_ps: ps_from_s(profile.c0_ms / 1e3),
            c_tok_ps: ps_from_s(profile.c_tok_us / 1e6),
            c_seq_ps: ps_from_s(profile.c_seq_us / 1e6),
            c_kv_ps: ps_from_s(profile.c_kv_us / 1e6),
            c_attn_ps: ps_from_s(profile.c_attn_us_per_token2 / 1e6),
        };
        let config = ReplicaConfig {
            max_num_batched_tokens: profile.max_num_batched_tokens,
            max_num_seqs: profile.max_num_seqs,
            block_size: profile.block_size,
            kv_blocks: profile.kv_blocks,
            scheduling: match profile.scheduling {
                Scheduling::Sync => slackwater_engine::Scheduling::Sync,
                Scheduling::Async => slackwater_engine::Scheduling::Async,
            },
            room: Room::WholePrompt,
            prefix_caching: false,
        };
        Self { config, form: StepTimeForm::Max(form), replicas }
    }

    /// Runs the traffic, dealt to the replicas in turn.
    ///
    /// # Panics
    /// When a request fits no replica or the clock leaves its range.
    #[must_use]
    pub fn run(&self, gait: Gait, arrivals: &[Arrival]) -> Outcome {
        let mut outcome = Outcome::default();
        for replica in 0..self.replicas {
            let dealt = arrivals.iter().enumerate().skip(replica).step_by(self.replicas);
            let counters = match gait {
                Gait::Jump => drive(self.jumping(self.form), dealt, &mut outcome),
                Gait::Walk => drive(self.jumping(OneStep(self.form)), dealt, &mut outcome),
                Gait::Oracle => {
                    let oracle = Oracle::new(self.config.clone(), self.form).expect("a valid profile");
                    drive(oracle, dealt, &mut outcome)
                }
            };
            outcome.counters.add(&counters);
        }
        outcome
    }

    fn jumping<S: StepTime>(&self, form: S) -> Replica<S> {
        Replica::new(self.config.clone(), form).expect("a valid profile")
    }
}

/// A form of the step time that holds for one step only.
#[derive(Debug, Clone)]
struct OneStep(StepTimeForm);

impl StepTime for OneStep {
    #[inline]
    fn piece(&self, batch: &Batch) -> Result<Piece, TimeOverflow> {
        Ok(Piece { valid_steps: 1, ..self.0.piece(batch)? })
    }
}

/// What engine and oracle have in common.
trait Engine {
    fn hand_in(&mut self, at: Ps, request: Request);
    fn run_before(&mut self, until: Ps, outcome: &mut Outcome);
    fn totals(&self) -> Counters;
}

impl<S: StepTime> Engine for Replica<S> {
    #[inline]
    fn hand_in(&mut self, at: Ps, request: Request) {
        self.submit(at, request).expect("a request that fits");
    }

    #[inline]
    fn run_before(&mut self, until: Ps, outcome: &mut Outcome) {
        self.advance_before(until, &mut |output| outcome.take(output)).expect("a clock in range");
    }

    fn totals(&self) -> Counters {
        self.counters()
    }
}

impl<S: StepTime> Engine for Oracle<S> {
    fn hand_in(&mut self, at: Ps, request: Request) {
        self.submit(at, request).expect("a request that fits");
    }

    fn run_before(&mut self, until: Ps, outcome: &mut Outcome) {
        self.advance_before(until, &mut |output| outcome.take(output)).expect("a clock in range");
    }

    fn totals(&self) -> Counters {
        self.counters()
    }
}

fn drive<'a>(
    mut engine: impl Engine,
    arrivals: impl Iterator<Item = (usize, &'a Arrival)>,
    outcome: &mut Outcome,
) -> Counters {
    for (number, arrival) in arrivals {
        engine.run_before(arrival.at_ps, outcome);
        let tag = u32::try_from(number).expect("fewer than 2^32 requests");
        let (prompt, output) = (arrival.input_tokens, arrival.output_tokens);
        engine.hand_in(arrival.at_ps, Request { tag, prompt, output, stop: Stop::EndOfText });
    }
    engine.run_before(Ps::MAX, outcome);
    engine.totals()
}
