//! What prompts begin with: ids of their blocks, for the engines' prefix caches and for a balancer that looks.
//!
//! An id is chained: it stands for all tokens up to the end of its block. Two sources know what prompts share.
//! - A session's history only ever grows, so a block of it is named by the session and its place; blocks that lie within
//!   the system prompt are named by that, and shared by all sessions that have it. Two things change what stands at a place,
//!   and get names of their own from there on: an answer that took more than one attempt (an earlier one may have left
//!   another beginning of it in a cache), and old messages left out of a prompt that is full.
//! - A trace names blocks of 512 tokens. An engine's block is named by the one its last token lies in and the place there,
//!   so any block size will do. Blocks that are not full of prompt have no name: what was answered is not known to the
//!   trace.
//!
//! Requests of neither kind share nothing.

use slackwater_scenarios::SessionPlan;
use slackwater_scenarios::traffic::{PREFIX_BLOCK, chained};

use crate::requests::Request;
use crate::sessions::{ALONE, Session, Sessions};

/// Names of the blocks of prompts under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prefixes {
    /// By request slot: what the trace said.
    named: Vec<Vec<u64>>,
    /// Of the arrival that comes next.
    upcoming: Vec<u64>,
    /// Ids of the request being sent.
    ids: Vec<u64>,
}

impl Prefixes {
    /// The next arrival's names.
    pub(crate) fn expect(&mut self, names: &[u64]) {
        self.upcoming.clear();
        self.upcoming.extend_from_slice(names);
    }

    /// The arrival that was next is the request in this slot.
    pub(crate) fn arrived(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.upcoming.is_empty() && self.named.len() <= slot {
            return;
        }
        if self.named.len() <= slot {
            self.named.resize(slot + 1, Vec::new());
        }
        self.named[slot].clear();
        self.named[slot].append(&mut self.upcoming);
    }

    /// Ids of the full blocks among the first `tokens` of the request in this slot, prompt and then answer.
    pub(crate) fn ids(
        &mut self,
        slot: u32,
        request: &Request,
        sessions: &Sessions,
        plan: Option<&SessionPlan>,
        block_size: u32,
        tokens: u32,
    ) -> &[u64] {
        self.ids.clear();
        match plan {
            Some(plan) if request.session != ALONE => {
                let session = sessions.get(request.session);
                let retry = (request.retries > 0).then(|| (request.input, again(session, request.retries)));
                of_session(session, retry, plan, block_size, tokens, &mut self.ids);
            }
            _ => {
                let named = self.named.get(slot as usize).map_or(&[][..], Vec::as_slice);
                of_trace(named, block_size, tokens.min(request.input), &mut self.ids);
            }
        }
        &self.ids
    }
}

/// Names what attempt number `retries` of the session's present turn answers.
pub(crate) fn again(session: &Session, retries: u16) -> u64 {
    chained(u64::from(session.turn) << 1, u64::from(retries))
}

/// Names what a turn keeps of a conversation that is too long.
pub(crate) fn cut(session: &Session) -> u64 {
    chained(u64::from(session.turn) << 1 | 1, 0)
}

fn of_session(
    session: &Session,
    retry: Option<(u32, u64)>,
    plan: &SessionPlan,
    block_size: u32,
    tokens: u32,
    ids: &mut Vec<u64>,
) {
    let shared = plan.system_prompt(session.number).map(|prompt| {
        (u64::from(plan.system_tokens()), plan.identity("prefix.system-prompt", &[u64::from(prompt)]))
    });
    let own = plan.identity("prefix.session", &[session.number]);
    let mut before = 0;
    for block in 1..=u64::from(tokens / block_size) {
        let end = block * u64::from(block_size);
        let content = match (shared, retry) {
            (Some((until, content)), _) if end <= until => content,
            (_, Some((from, name))) if end > u64::from(from) => chained(own, name),
            _ => session.name_before(end).map_or(own, |name| chained(own, name)),
        };
        before = chained(before, content);
        ids.push(before);
    }
}

fn of_trace(named: &[u64], block_size: u32, tokens: u32, ids: &mut Vec<u64>) {
    let mut before = 0;
    for block in 1..=u64::from(tokens / block_size) {
        let last = block * u64::from(block_size) - 1;
        let (index, place) = (last / u64::from(PREFIX_BLOCK), last % u64::from(PREFIX_BLOCK));
        let Some(name) = usize::try_from(index).ok().and_then(|index| named.get(index)) else { return };
        before = chained(before, chained(*name, place));
        ids.push(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_ids(named: &[u64], block_size: u32, tokens: u32) -> Vec<u64> {
        let mut ids = Vec::new();
        of_trace(named, block_size, tokens, &mut ids);
        ids
    }

    /// Two prompts that share their first block of 512, in engine blocks of any size.
    #[test]
    fn a_traces_blocks_are_cut_to_the_engines() {
        for (block_size, shared) in [(16, 32), (512, 1), (100, 5), (1024, 0)] {
            let (one, other) = (trace_ids(&[7, 8], block_size, 1000), trace_ids(&[7, 9], block_size, 900));
            assert_eq!((one.len(), other.len()), (1000 / block_size as usize, 900 / block_size as usize));
            let same = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
            assert_eq!(same, shared, "{block_size}");
        }
        // A last block that is not full is shared as far as it fills the engine's blocks.
        assert_eq!(trace_ids(&[7, 8], 16, 600), trace_ids(&[7, 8], 16, 607));
        // The same name elsewhere is another beginning; and a list that ends too early names no more.
        assert_ne!(trace_ids(&[8], 16, 16), trace_ids(&[7, 8], 16, 528)[32..]);
        assert_eq!(trace_ids(&[7], 16, 5000).len(), 32);
    }

    const SCENARIO: &str = "[fleet]\nreplicas = 1\n[from]\nengine = 'h100-qwen3-14b'\n[traffic.generate]\nduration = \
                            '1h'\nrate_per_s = 1\nmax_input_tokens = 400\n[traffic.generate.sessions]\nturns = { fixed = 9 }\nthink = \
                            1\nin_course = false\nsystem_prompts = { count = 1, tokens = 40 }";

    /// A prompt of 100 tokens, an answer of 60, in blocks of 16 of which two lie in the system prompt.
    #[test]
    fn what_another_attempt_answered_has_another_name() {
        let scenario = slackwater_scenarios::Scenario::parse(SCENARIO, "test").unwrap();
        let plan = scenario.session_plan().unwrap();
        let mut sessions = Sessions::new(Some(&plan));
        let (slot, other) = (sessions.begin(0, &plan), sessions.begin(1, &plan));
        let request = Request { input: 100, output_now: 60, session: slot, ..Request::unsent() };
        let mut prefixes = Prefixes::default();
        let mut ids = |sessions: &Sessions, request: &Request, tokens| {
            prefixes.ids(0, request, sessions, Some(&plan), 16, tokens).to_vec()
        };
        let same = |one: &[u64], other: &[u64]| {
            one.iter().zip(other).take_while(|(one, other)| one == other).count()
        };
        let first = ids(&sessions, &request, 160);
        let retry = ids(&sessions, &Request { retries: 1, ..request }, 160);
        assert_eq!((first.len(), retry.len(), same(&first, &retry)), (10, 10, 6));
        assert_eq!(same(&first, &ids(&sessions, &Request { session: other, ..request }, 160)), 2);
        // The retry was answered: the next turn finds that answer, not the one that broke off.
        sessions.answered(&Request { retries: 1, ..request }, &plan, 0, false);
        let next = ids(&sessions, &request, 240);
        assert_eq!((same(&retry, &next), same(&first, &next)), (10, 6));
        // A full context keeps its system prompt only.
        assert_eq!(sessions.prompt(slot, &plan, 300), 400);
        assert_eq!(same(&next, &ids(&sessions, &request, 400)), 2);
    }
}
