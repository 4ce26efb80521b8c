//! Conversations: one user's turns, each with the whole conversation so far in its prompt.
//!
//! ```text
//! Generator ──first turns──► the simulated world ──answered──► think ──► next turn: context + new message
//!                                   ▲ asks, for (session, turn)
//!                                   └──── SessionPlan: how many turns, new tokens, output, think time, system prompt
//! ```
//!
//! Between sessions the loop is open: they begin when the traffic says. Within one it is closed: turn n+1 is sent when the
//! answer to turn n has arrived and the user has thought about it. Every draw is keyed by (session, turn), so two rollouts
//! on the same future meet the same sessions, however late their answers come.

use std::sync::Arc;

use rand::RngExt;
use rand_distr::{Distribution, Exp1, Poisson, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Classes, Mixture};
use super::normal::normal;
use super::{Arrival, Generate};
use crate::random::{Keyed, mix};
use crate::time::HumanDuration;
use crate::version::Delay;

/// No session is longer; a geometric draw is cut to it.
const MOST_TURNS: u32 = 10_000;

/// More sessions than these are not under way when the traffic begins; a scenario that asks for more is refused.
pub const MOST_IN_COURSE: f64 = 1e6;

/// Session numbers from here on are of those that were under way when the traffic began.
pub const IN_COURSE: u64 = 1 << 63;

/// Sessions of several turns in place of single requests. `rate_per_s` stays the rate of requests, all turns counted:
/// sessions begin at `rate_per_s` over the mean number of turns. `input` is then the new message of each turn, to which the
/// conversation so far is added: the system prompt, all earlier messages, and all answers as they were really generated (by
/// a more verbose version they are longer, and so is the context). `max_input_tokens` bounds the whole prompt; a
/// conversation that would be longer loses its oldest messages, not its system prompt. No turn is sent after `duration`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How many turns a session has.
    pub turns: Turns,
    /// From the last token of an answer until the user sends the next message; with `person` until a tool has its result.
    pub think: Delay,
    /// An agent's session: most turns bring a tool's result, some a person's message. Absent: `think` is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// A conversation that would be longer than `max_input_tokens` is summed up to so many tokens, its system prompt
    /// included, to which the new message is added. Absent: it loses its oldest messages and stays full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_to: Option<u32>,
    /// True: at the start of the traffic sessions are under way already, as if they had gone on for ever (answers are then
    /// taken to have come at once), so that the rate of requests is steady from the start. False: nobody is there at the
    /// start, and the rate grows to its value over the length of a session.
    #[serde(default = "yes")]
    pub in_course: bool,
    /// System prompts that sessions share. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompts: Option<SystemPrompts>,
}

/// How many turns a session has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    /// Always so many.
    Fixed(u32),
    /// Geometric with this mean: after each turn the user stays with the same probability.
    Geometric(f64),
    /// Lognormal, rounded, at least 1: many short sessions, a few very long ones.
    Lognormal {
        /// Half of the sessions have fewer turns.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
}

/// The person whom an agent works for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The share of turns after the first that begin with the person's message; 0.06 was measured.
    #[serde(default = "six_percent")]
    pub share: f64,
    /// From the last token of an answer until that message is sent.
    pub think: Delay,
}

const fn six_percent() -> f64 {
    0.06
}

/// Prompts that begin every turn of a session: each session has one of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemPrompts {
    /// Different ones.
    pub count: u32,
    /// Tokens of each.
    pub tokens: u32,
    /// The k-th most popular is chosen with a weight of k to the power of minus this; 0: all alike.
    #[serde(default = "one")]
    pub zipf: f64,
}

const fn yes() -> bool {
    true
}
const fn one() -> f64 {
    1.0
}

impl Turns {
    /// The mean number of turns.
    #[must_use]
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(count) => f64::from(count.max(1)),
            Self::Geometric(mean) => mean.max(1.0),
            Self::Lognormal { median, sigma } => {
                (1..=MOST_TURNS).map(|turns| more(median, sigma, turns)).sum()
            }
        }
    }

    fn draw(self, random: &mut impl rand::Rng) -> u32 {
        match self {
            Self::Fixed(count) => count.max(1),
            // The time until the first failure, by the inverse of its distribution.
            Self::Geometric(mean) if mean > 1.0 => {
                let exponential: f64 = Exp1.sample(random);
                let more = exponential / -(1.0 - 1.0 / mean).ln();
                // Bounded before the cast, which drops the fraction.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let more = more.min(f64::from(MOST_TURNS - 1)) as u32;
                1 + more
            }
            Self::Geometric(_) => 1,
            Self::Lognormal { median, sigma } => {
                let normal: f64 = StandardNormal.sample(random);
                // Bounded before the cast, which drops nothing.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let turns =
                    (median * (sigma * normal).exp()).round().clamp(1.0, f64::from(MOST_TURNS)) as u32;
                turns
            }
        }
    }
}

/// The probability of at least so many turns.
fn more(median: f64, sigma: f64, turns: u32) -> f64 {
    if turns <= 1 {
        return 1.0;
    }
    let log = ((f64::from(turns) - 0.5) / median).ln();
    if sigma > 0.0 { 1.0 - normal(log / sigma) } else { f64::from(u8::from(log < 0.0)) }
}

/// Cumulated weights of numbers of turns, 1 first, among sessions that are met between two of their turns: those of n turns
/// are met in proportion to their n - 1 pauses. Empty where that has a closed form.
fn met_weights(turns: Turns) -> Arc<[f64]> {
    let Turns::Lognormal { median, sigma } = turns else { return Arc::from([]) };
    let mut sum = 0.0;
    let weights = (1..=MOST_TURNS).map(|turns| {
        let next = if turns == MOST_TURNS { 0.0 } else { more(median, sigma, turns + 1) };
        sum += f64::from(turns - 1) * (more(median, sigma, turns) - next).max(0.0);
        sum
    });
    weights.collect()
}

/// One turn as drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Tokens of the new message, at least 1.
    pub new_tokens: u32,
    /// Tokens of the answer, as the old version would generate it, at least 1.
    pub output_tokens: u32,
}

/// A session that is under way when the traffic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InCourse {
    /// When its next turn is sent, picoseconds since the start of the traffic.
    pub at_ps: u64,
    /// Which turn that is, from 1 (turn 0 was before).
    pub turn: u32,
    /// How many it has in all.
    pub turns: u32,
    /// Tokens of the conversation so far, its system prompt included.
    pub context: u64,
}

/// What is drawn for the sessions of one scenario.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    spec: Sessions,
    keyed: Keyed,
    message: Mixture,
    output: Mixture,
    /// In place of the mixtures; empty: these.
    classes: Classes,
    most: u32,
    end_ps: u64,
    /// Cumulated weights of the system prompts.
    prompts: Vec<f64>,
    /// Of [`met_weights`].
    met: Arc<[f64]>,
    start_rate: f64,
}

impl SessionPlan {
    /// The sessions that `generate` describes, the rate multiplied by `rate_scale`; `None` when it describes none.
    #[must_use]
    pub fn new(generate: &Generate, rate_scale: f64, keyed: Keyed) -> Option<Self> {
        let spec = generate.sessions.clone()?;
        let mut sum = 0.0;
        let prompts = spec.system_prompts.map_or(0, |prompts| prompts.count);
        let zipf = spec.system_prompts.map_or(0.0, |prompts| prompts.zipf);
        let weights = (1..=prompts).map(|rank| {
            sum += f64::from(rank).powf(-zipf);
            sum
        });
        let prompts = weights.collect();
        let (weekly, _) = generate.weekly(generate.rate_per_s * rate_scale, true);
        let start_rate = weekly.rate() / spec.turns.mean();
        Some(Self {
            keyed,
            message: Mixture::new(&generate.input, generate.max_input_tokens),
            output: Mixture::new(&generate.output, generate.max_output_tokens),
            classes: Classes::new(&generate.classes, generate.max_input_tokens, generate.max_output_tokens),
            most: generate.max_input_tokens,
            end_ps: generate.duration.as_picos(),
            prompts,
            met: met_weights(spec.turns),
            start_rate,
            spec,
        })
    }

    /// After this no turn is sent, picoseconds since the start of the traffic.
    #[must_use]
    pub fn end_ps(&self) -> u64 {
        self.end_ps
    }

    /// How many turns session `session` has, at least 1.
    #[must_use]
    pub fn turns(&self, session: u64) -> u32 {
        self.spec.turns.draw(&mut self.keyed.stream("session.turns", &[session]))
    }

    /// The new message and the answer of a turn.
    #[must_use]
    pub fn turn(&self, session: u64, turn: u32) -> Turn {
        let ids = [session, u64::from(turn)];
        let (message, output) = if self.classes.is_empty() {
            (&self.message, &self.output)
        } else {
            self.classes.of(self.classes.pick(self.keyed.uniform("session.class", &[session])))
        };
        Turn {
            new_tokens: message.draw(&mut self.keyed.stream("session.message", &ids)),
            output_tokens: output.draw(&mut self.keyed.stream("session.output", &ids)),
        }
    }

    /// How long the user thinks before sending turn `turn`.
    #[must_use]
    pub fn think(&self, session: u64, turn: u32) -> HumanDuration {
        let ids = [session, u64::from(turn)];
        let think = match &self.spec.person {
            Some(person) if self.keyed.uniform("session.person", &ids) < person.share => &person.think,
            _ => &self.spec.think,
        };
        think.sample(&mut self.keyed.stream("session.think", &ids))
    }

    /// Which system prompt the session has, by popularity from 0; `None` when there are none.
    #[must_use]
    pub fn system_prompt(&self, session: u64) -> Option<u32> {
        let total = self.prompts.last()?;
        let pick = self.keyed.uniform("session.system-prompt", &[session]) * total;
        u32::try_from(self.prompts.partition_point(|sum| *sum <= pick).min(self.prompts.len() - 1)).ok()
    }

    /// Tokens of the system prompt; 0 when there is none.
    #[must_use]
    pub fn system_tokens(&self) -> u32 {
        self.spec.system_prompts.map_or(0, |prompts| prompts.tokens)
    }

    /// The prompt of a turn whose conversation so far has `context` tokens: its length, and whether the oldest messages
    /// had to be left out of it.
    #[must_use]
    pub fn prompt(&self, context: u64, new_tokens: u32) -> (u32, bool) {
        let whole = context.saturating_add(u64::from(new_tokens));
        match u32::try_from(whole) {
            Ok(whole) if whole <= self.most => (whole, false),
            _ => (
                self.spec.compact_to.map_or(self.most, |to| to.saturating_add(new_tokens).min(self.most)),
                true,
            ),
        }
    }

    /// The first turn of session `session`, which begins at `at_ps`.
    #[must_use]
    pub fn first(&self, session: u64, at_ps: u64) -> Arrival {
        let turn = self.turn(session, 0);
        let (input_tokens, _) = self.prompt(u64::from(self.system_tokens()), turn.new_tokens);
        Arrival { at_ps, input_tokens, output_tokens: turn.output_tokens }
    }

    /// All turns of session `session`, which begins at `at_ps`, as if each answer came at once and from the old version.
    pub fn nominal(&self, session: u64, at_ps: u64) -> impl Iterator<Item = Arrival> + '_ {
        let mut next = Some((at_ps, u64::from(self.system_tokens())));
        (0..self.turns(session)).map_while(move |turn| {
            let (at_ps, context) = next.take()?;
            let Turn { new_tokens, output_tokens } = self.turn(session, turn);
            let (input_tokens, _) = self.prompt(context, new_tokens);
            let due = at_ps.saturating_add(self.think(session, turn + 1).as_picos());
            next = Some((due, u64::from(input_tokens) + u64::from(output_tokens)));
            (at_ps < self.end_ps).then_some(Arrival { at_ps, input_tokens, output_tokens })
        })
    }

    /// A random identity of the system prompt or conversation a prompt's tokens come from, for block `index` of it.
    #[must_use]
    pub const fn identity(&self, purpose: &str, ids: &[u64]) -> u64 {
        self.keyed.bits(purpose, ids)
    }

    /// The sessions under way when the traffic begins; their numbers count from [`IN_COURSE`] on in this order.
    ///
    /// Sessions that began long ago at a constant rate, answers taking no time: how many think at time 0 is Poisson; each
    /// is before turn k with a probability proportional to that of a session having more than k turns; the pause it is in
    /// is longer than others (it is met in proportion to its length), and what is left of it is uniform.
    #[must_use]
    pub fn in_course(&self) -> Vec<InCourse> {
        let mean = self.expected_in_course();
        let Ok(count) = Poisson::new(mean) else { return Vec::new() };
        if !self.spec.in_course || mean > MOST_IN_COURSE {
            return Vec::new();
        }
        let drawn: f64 = count.sample(&mut self.keyed.stream("session.in-course", &[]));
        // Far below 2^53, since the mean is.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = drawn as u64;
        (0..count).map(|number| self.met_in_course(IN_COURSE | number)).collect()
    }

    /// How many sessions are under way when the traffic begins, on average.
    #[must_use]
    pub fn expected_in_course(&self) -> f64 {
        let [tool, person] = self.pauses();
        self.start_rate * (self.spec.turns.mean() - 1.0) * (tool + person)
    }

    /// Mean seconds of a pause that are due to pauses before a tool's result, and before a person's message.
    fn pauses(&self) -> [f64; 2] {
        let (share, person) =
            self.spec.person.map_or((0.0, 0.0), |person| (person.share, person.think.mean_s()));
        [(1.0 - share) * self.spec.think.mean_s(), share * person]
    }

    fn met_in_course(&self, session: u64) -> InCourse {
        let mut random = self.keyed.stream("session.met", &[session]);
        let (turn, turns) = match self.spec.turns {
            Turns::Fixed(count) => (random.random_range(1..count.max(2)), count),
            // It forgets: turns before now and turns from now on are drawn alike.
            Turns::Geometric(_) => {
                let before = self.spec.turns.draw(&mut random);
                (before, before.saturating_add(self.spec.turns.draw(&mut random)))
            }
            Turns::Lognormal { .. } => {
                let pick = random.random::<f64>() * self.met.last().copied().unwrap_or(0.0);
                let turns = self.met.partition_point(|sum| *sum <= pick) + 1;
                let turns = u32::try_from(turns).map_or(MOST_TURNS, |turns| turns.clamp(2, MOST_TURNS));
                (random.random_range(1..turns), turns)
            }
        };
        let normal: f64 = StandardNormal.sample(&mut random);
        let think = match &self.spec.person {
            Some(person) => {
                let [tool, persons] = self.pauses();
                let of_person = random.random::<f64>() * (tool + persons) < persons;
                if of_person { &person.think } else { &self.spec.think }
            }
            None => &self.spec.think,
        };
        let left = think.length_biased_s(normal) * random.random::<f64>();
        let mut context = u64::from(self.system_tokens());
        for earlier in 0..turn {
            let Turn { new_tokens, output_tokens } = self.turn(session, earlier);
            context = u64::from(self.prompt(context, new_tokens).0) + u64::from(output_tokens);
        }
        let at_ps = HumanDuration::from_secs_f64(left).map_or(u64::MAX, |left| left.as_picos());
        InCourse { at_ps, turn, turns, context }
    }
}

/// The identity of block `index` of a prompt, chained to that of the block before it.
#[must_use]
pub const fn chained(before: u64, content: u64) -> u64 {
    mix(before.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(content))
}
