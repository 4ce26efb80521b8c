//! An experiment's requests through the engine model: what the profile predicts for each.
//!
//! ```text
//! client --inbound--> engine (one of dp) --tokens--> outbound --> client
//!   ^ open: at arrival_s                                             |
//!   | capped: at scheduled_s, or when one of the N in flight ends <--+
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slackwater_engine::step_time::ps_from_s;
use slackwater_engine::{
    ConfigError, Output, PS_PER_S, Ps, Replica, ReplicaError, Request, StepTimeForm, Stop,
};
use slackwater_scenarios::{EngineProfile, Keyed};

use crate::experiment::{Answer, Experiment, Row};

/// Who says when a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// The record: at `arrival_s`, however late the answers are.
    Open,
    /// A client with at most so many requests in flight: at `scheduled_s` (`arrival_s` where there is none), or as soon
    /// as one of them has ended.
    Capped(u32),
}

/// What became of one request in the replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replayed {
    /// When it was sent, seconds.
    pub sent_s: f64,
    /// `None`: the engine can't hold it.
    pub answer: Option<Answer>,
}

/// The profile can't be replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The limits of its engine contradict each other.
    #[error("the engine's limits: {0}")]
    Config(#[from] ConfigError),
    /// The clock left its range.
    #[error(transparent)]
    Engine(#[from] ReplicaError),
}

/// What the profile predicts for each row of the experiment, in their order.
///
/// # Errors
/// When the profile is no engine.
pub fn replay(
    experiment: &Experiment,
    profile: &EngineProfile,
    drive: Drive,
    seed: u64,
) -> Result<Vec<Replayed>, ReplayError> {
    replay_for(experiment, profile, drive, seed, &vec![true; experiment.rows.len()])
}

/// So far the engines go on at once while answers are still waited for.
const LOOK_PS: Ps = PS_PER_S;

/// The same, and no longer than until the `wanted` rows have ended: what comes after can't change them. Others may be left
/// without an answer.
pub(crate) fn replay_for(
    experiment: &Experiment,
    profile: &EngineProfile,
    drive: Drive,
    seed: u64,
    wanted: &[bool],
) -> Result<Vec<Replayed>, ReplayError> {
    let engines = experiment.about.dp.unwrap_or(1).max(1);
    let mut run = Run::new(&experiment.rows, profile, engines, seed, wanted)?;
    let mut order: Vec<usize> = (0..experiment.rows.len()).collect();
    let due = |row: &Row| match drive {
        Drive::Open => row.arrival_s,
        Drive::Capped(_) => row.scheduled_s.unwrap_or(row.arrival_s),
    };
    order.sort_by(|a, b| due(&experiment.rows[*a]).total_cmp(&due(&experiment.rows[*b])));
    let cap = match drive {
        Drive::Open => usize::MAX,
        Drive::Capped(most) => most.max(1) as usize,
    };
    // When those in flight end, as their client sees it.
    let mut in_flight = 0;
    for row in order {
        let mut at = ps_from_s(due(&experiment.rows[row]));
        run.advance(at)?;
        if run.left == 0 {
            return Ok(run.replayed());
        }
        while run.ended_by(at) {
            in_flight -= 1;
        }
        while in_flight >= cap {
            let Some(end) = run.next_end()? else { break };
            in_flight -= 1;
            at = at.max(end);
        }
        let taken = run.send(row, at);
        in_flight += usize::from(taken);
        run.left -= usize::from(!taken && wanted[row]);
    }
    while run.left > 0
        && let Some(next) = run.engines.iter().filter_map(Replica::next_event).min()
    {
        run.advance(next.saturating_add(LOOK_PS))?;
    }
    Ok(run.replayed())
}

/// One replay under way.
struct Run<'a> {
    rows: &'a [Row],
    engines: Vec<Replica<StepTimeForm>>,
    next_engine: usize,
    blocks: Option<u32>,
    inbound_ps: Ps,
    outbound_ps: Ps,
    jitter: f64,
    keyed: Keyed,
    sent: Vec<Ps>,
    first: Vec<Option<Ps>>,
    last: Vec<Option<Ps>>,
    ends: BinaryHeap<Reverse<Ps>>,
    wanted: &'a [bool],
    /// Wanted rows that have not ended.
    left: usize,
}

impl<'a> Run<'a> {
    fn new(
        rows: &'a [Row],
        profile: &EngineProfile,
        engines: u32,
        seed: u64,
        wanted: &'a [bool],
    ) -> Result<Self, ReplayError> {
        let config = profile.replica_config()?;
        let engine = Replica::new(config, profile.step_time())?;
        Ok(Self {
            rows,
            engines: vec![engine; engines as usize],
            next_engine: 0,
            blocks: profile.prefix_caching.then_some(profile.block_size),
            inbound_ps: ps_from_s(profile.front_end.inbound_ms / 1e3),
            outbound_ps: ps_from_s(profile.front_end.outbound_ms / 1e3),
            jitter: profile.front_end.jitter,
            keyed: Keyed::new(seed),
            sent: vec![0; rows.len()],
            first: vec![None; rows.len()],
            last: vec![None; rows.len()],
            ends: BinaryHeap::new(),
            wanted,
            left: wanted.iter().filter(|wanted| **wanted).count(),
        })
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn jittered(&self, delay: Ps, way: &str, row: usize) -> Ps {
        if delay == 0 {
            return 0;
        }
        let factor = 1.0 + self.jitter * (2.0 * self.keyed.uniform(way, &[row as u64]) - 1.0);
        (delay as f64 * factor) as Ps
    }

    /// Lets the engines do what they do before `until`.
    fn advance(&mut self, until: Ps) -> Result<(), ReplayError> {
        let mut outputs = Vec::new();
        for engine in &mut self.engines {
            engine.advance_before(until, &mut |output| outputs.push(output))?;
        }
        for output in outputs {
            match output {
                Output::FirstToken { at, tag } => self.first[tag as usize] = Some(at),
                Output::Finished { at, tag } => {
                    self.last[tag as usize] = Some(at);
                    self.left -= usize::from(self.wanted[tag as usize]);
                    let end = at + self.jittered(self.outbound_ps, "outbound", tag as usize);
                    self.ends.push(Reverse(end));
                }
            }
        }
        Ok(())
    }

    /// Takes an answer whose end its client has seen by then; whether there was one.
    fn ended_by(&mut self, at: Ps) -> bool {
        let seen = self.ends.peek().is_some_and(|&Reverse(end)| end <= at);
        if seen {
            self.ends.pop();
        }
        seen
    }

    /// The next answer's end as its client sees it; `None` when nothing is in flight.
    fn next_end(&mut self) -> Result<Option<Ps>, ReplayError> {
        loop {
            let next = self.engines.iter().filter_map(Replica::next_event).min();
            match (self.ends.peek(), next) {
                // One that is computed later can still be seen sooner, but not one computed after this end.
                (Some(&Reverse(end)), next) if next.is_none_or(|next| next >= end) => {
                    self.ends.pop();
                    return Ok(Some(end));
                }
                (_, Some(next)) => self.advance(next + 1)?,
                (_, None) => return Ok(None),
            }
        }
    }

    /// Sends a row at `at`; whether an engine took it.
    fn send(&mut self, row: usize, at: Ps) -> bool {
        let of = &self.rows[row];
        self.sent[row] = at;
        let ready = at + self.jittered(self.inbound_ps, "inbound", row);
        // vLLM's own balancer between data-parallel engines: a waiting request weighs four running ones.
        let load =
            |engine: &Replica<StepTimeForm>| u64::from(engine.in_flight()) + 3 * u64::from(engine.waiting());
        let count = self.engines.len();
        let engine = (0..count)
            .map(|step| (self.next_engine + step) % count)
            .min_by_key(|&index| load(&self.engines[index]));
        let engine = engine.unwrap_or(0);
        self.next_engine = (engine + 1) % count;
        let tag = u32::try_from(row).expect("a file of fewer than 2^32 rows");
        // Benchmarks ask for a length and ignore the end of text.
        let request = Request { tag, prompt: of.input_tokens, output: of.output_tokens, stop: Stop::Length };
        match self.blocks {
            None => self.engines[engine].submit(ready, request).is_ok(),
            Some(size) => {
                let blocks = block_ids(row, of, size);
                self.engines[engine].submit_with_blocks(ready, request, &blocks).is_ok()
            }
        }
    }

    fn replayed(&self) -> Vec<Replayed> {
        let seconds = |from: Ps, to: Ps| (to - from) as f64 / PS_PER_S as f64;
        (0..self.rows.len())
            .map(|row| {
                let sent = self.sent[row];
                let out = self.jittered(self.outbound_ps, "outbound", row);
                let answer = match (self.first[row], self.last[row]) {
                    (Some(first), Some(last)) => {
                        Some(Answer { ttft_s: seconds(sent, first + out), e2e_s: seconds(sent, last + out) })
                    }
                    _ => None,
                };
                Replayed { sent_s: seconds(0, sent), answer }
            })
            .collect()
    }
}

/// Names of the full blocks of a request's context: those within a shared prompt are the prompt's, the others its own.
fn block_ids(index: usize, row: &Row, size: u32) -> Vec<u64> {
    let full = u64::from((row.input_tokens + row.output_tokens) / size);
    let of_prompt = u64::from(row.input_tokens / size);
    let own = (1 << 63) | ((index as u64) << 24);
    (0..full)
        .map(|block| match row.prompt {
            Some(prompt) if block < of_prompt => (u64::from(prompt) << 24) | block,
            _ => own | block,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Description;

    /// Catches: an early end that changes what was asked for, or that saves nothing.
    #[test]
    fn what_comes_after_the_wanted_rows_does_not_change_them() {
        let keyed = Keyed::new(5);
        let row = |number: u32| Row {
            arrival_s: f64::from(number) * 0.1,
            scheduled_s: None,
            input_tokens: 1 + (keyed.bits("input", &[u64::from(number)]) % 2000) as u32,
            output_tokens: 1 + (keyed.bits("output", &[u64::from(number)]) % 300) as u32,
            prompt: None,
            answer: None,
        };
        let mut rows: Vec<Row> = (0..300).map(row).collect();
        // No cache holds this one.
        rows[7].input_tokens = 100_000_000;
        for (dp, drive) in [(1, Drive::Open), (2, Drive::Open), (1, Drive::Capped(16))] {
            let experiment = Experiment {
                name: "made".into(),
                about: Description { dp: Some(dp), ..Description::default() },
                rows: rows.clone(),
                assumed: Vec::new(),
                hash: String::new(),
            };
            let profile = EngineProfile::built_in("h100-qwen3-14b").expect("it is built in");
            let all = replay(&experiment, &profile, drive, 3).expect("an engine");
            let wanted: Vec<bool> = (0..rows.len()).map(|row| row < 100 && row % 3 != 0).collect();
            let some = replay_for(&experiment, &profile, drive, 3, &wanted).expect("an engine");
            for (row, wanted) in wanted.iter().enumerate() {
                assert!(!wanted || all[row] == some[row], "{row}: {:?} {:?}", all[row], some[row]);
            }
            assert!(all[7].answer.is_none());
            assert!(some.iter().filter(|one| one.answer.is_none()).count() > 100, "it went on to the end");
        }
    }
}
