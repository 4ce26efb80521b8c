//! Users who stay for several turns: where each conversation stands, when its next turn is due, which versions it saw.
//!
//! ```text
//!   first turn (traffic) ─► sent ─► answered ─► thinks ─► due ─► sent ─► ... ─► over
//!                            └─ failed for good: broken ─► thinks ─► due: never sent, a miss ─► ...
//! ```
//!
//! A broken session's later turns come due as if each had been answered at once, so that what its user would have wanted
//! is counted where it would have been wanted: a loop that sends less does not look better.
//!
//! Memory is that of the sessions under way. Turns are due in the order of (time, session number), never in that of being
//! scheduled, so a run in pieces is the run in one go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slackwater_engine::Ps;
use slackwater_scenarios::SessionPlan;
use slackwater_scenarios::traffic::IN_COURSE;

use crate::requests::Request;

/// No session: of a request that stands alone.
pub(crate) const ALONE: u32 = u32::MAX;

/// The answered turns of one session in the judged period.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Start of the judged period these are of.
    since: Ps,
    turns: u32,
    old: bool,
    new: bool,
    flips: u32,
    flips_back: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Its key for all draws.
    pub(crate) number: u64,
    /// The turn under way, or the next one.
    pub(crate) turn: u32,
    turns: u32,
    /// Tokens of the conversation so far, once a turn is answered.
    pub(crate) context: u64,
    /// From which token on the history has another name than the session's own, ascending; see [`crate::prefixes`].
    renamed: Vec<(u64, u64)>,
    /// Whether the last answer came from the new version; `None` before the first.
    pub(crate) served_by_new: Option<bool>,
    /// An earlier turn failed for good.
    pub(crate) broken: bool,
    alive: bool,
    seen: Seen,
}

/// What is known of all sessions so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionTally {
    pub(crate) begun: u64,
    pub(crate) broken: u64,
    pub(crate) mixed: MixedTally,
}

/// What sessions saw of two versions in the judged period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MixedTally {
    /// With at least two turns answered.
    pub(crate) judged: u64,
    /// Of these, those that were answered by both versions.
    pub(crate) saw_both: u64,
    pub(crate) flips: u64,
    pub(crate) flips_back: u64,
}

impl Session {
    /// The name of the tokens before `end`, if it is not the session's own.
    pub(crate) fn name_before(&self, end: u64) -> Option<u64> {
        let renamed = self.renamed.iter().rev().find(|(from, _)| end > *from);
        renamed.map(|(_, name)| *name)
    }
}

impl MixedTally {
    fn add(&mut self, seen: &Seen) {
        self.judged += u64::from(seen.turns >= 2);
        self.saw_both += u64::from(seen.old && seen.new);
        self.flips += u64::from(seen.flips);
        self.flips_back += u64::from(seen.flips_back);
    }
}

/// All sessions under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    slots: Vec<Session>,
    vacant: Vec<u32>,
    due: BinaryHeap<Reverse<(Ps, u64, u32)>>,
    begun: u64,
    broken: u64,
    /// Start of the judged period.
    since: Ps,
    /// Of sessions that are over.
    mixed: MixedTally,
    /// What it had come to when the judged period ended.
    settled: Option<MixedTally>,
}

impl Sessions {
    /// The sessions that are under way at time 0.
    pub(crate) fn new(plan: Option<&SessionPlan>) -> Self {
        let mut all = Self::default();
        for (number, met) in plan.map(SessionPlan::in_course).into_iter().flatten().enumerate() {
            let number = IN_COURSE | number as u64;
            let slot = all.insert(number, met.turn, met.turns, met.context);
            if plan.is_some_and(|plan| met.at_ps < plan.end_ps()) {
                all.due.push(Reverse((met.at_ps, number, slot)));
            } else {
                all.remove(slot);
            }
        }
        all
    }

    /// A session begins.
    pub(crate) fn begin(&mut self, number: u64, plan: &SessionPlan) -> u32 {
        self.insert(number, 0, plan.turns(number), u64::from(plan.system_tokens()))
    }

    fn insert(&mut self, number: u64, turn: u32, turns: u32, context: u64) -> u32 {
        self.begun += 1;
        let session = Session {
            number,
            turn,
            turns,
            context,
            renamed: Vec::new(),
            served_by_new: None,
            broken: false,
            alive: true,
            seen: Seen::default(),
        };
        if let Some(slot) = self.vacant.pop() {
            self.slots[slot as usize] = session;
            slot
        } else {
            self.slots.push(session);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions at once")
        }
    }

    fn remove(&mut self, slot: u32) {
        let session = &mut self.slots[slot as usize];
        session.alive = false;
        let seen = session.seen;
        if seen.since == self.since {
            self.mixed.add(&seen);
        }
        self.vacant.push(slot);
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Session {
        &self.slots[slot as usize]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == self.vacant.len()
    }

    /// When the next turn is due; `Ps::MAX` when none is.
    #[inline]
    pub(crate) fn next_at(&self) -> Ps {
        self.due.peek().map_or(Ps::MAX, |due| due.0.0)
    }

    /// The session whose turn is due.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.due.pop().map(|due| due.0.2)
    }

    /// The prompt of the turn now sent.
    pub(crate) fn prompt(&mut self, slot: u32, plan: &SessionPlan, new_tokens: u32) -> u32 {
        let session = &mut self.slots[slot as usize];
        let (prompt, cut) = plan.prompt(session.context, new_tokens);
        if cut {
            let name = crate::prefixes::cut(session);
            session.renamed = vec![(u64::from(plan.system_tokens()), name)];
        }
        prompt
    }

    /// The user of this request's session has the whole answer. The next turn comes due, or the session is over.
    #[inline]
    pub(crate) fn answered(&mut self, request: &Request, plan: &SessionPlan, at: Ps, by_new: bool) {
        let since = self.since;
        let slot = request.session;
        let session = &mut self.slots[slot as usize];
        session.context = u64::from(request.input) + u64::from(request.output_now);
        if request.retries > 0 {
            let name = crate::prefixes::again(session, request.retries);
            session.renamed.push((u64::from(request.input), name));
        }
        if session.seen.since != since || session.seen.turns == 0 {
            session.seen = Seen { since, ..Seen::default() };
        } else {
            match (session.served_by_new, by_new) {
                (Some(false), true) => session.seen.flips += 1,
                (Some(true), false) => session.seen.flips_back += 1,
                _ => {}
            }
        }
        session.seen.turns += 1;
        session.seen.old |= !by_new;
        session.seen.new |= by_new;
        session.served_by_new = Some(by_new);
        self.next_turn(slot, plan, at + request.outbound);
    }

    /// The turn under way failed for good at `at`, or could not be sent.
    pub(crate) fn failed(&mut self, slot: u32, plan: &SessionPlan, at: Ps) {
        let session = &mut self.slots[slot as usize];
        if !session.broken && session.turn + 1 < session.turns {
            self.broken += 1;
        }
        session.broken = true;
        self.next_turn(slot, plan, at);
    }

    fn next_turn(&mut self, slot: u32, plan: &SessionPlan, at: Ps) {
        let session = &mut self.slots[slot as usize];
        session.turn += 1;
        if session.turn >= session.turns {
            self.remove(slot);
            return;
        }
        // Nobody answers within a picosecond, and nothing may come due in the past.
        let think = plan.think(session.number, session.turn).as_picos().max(1);
        let due = at.saturating_add(think);
        if due >= plan.end_ps() {
            self.remove(slot);
            return;
        }
        let number = session.number;
        self.due.push(Reverse((due, number, slot)));
    }

    /// The judged period begins at `at`.
    pub(crate) fn judge_from(&mut self, at: Ps) {
        self.since = at;
        self.mixed = MixedTally::default();
        self.settled = None;
    }

    /// The judged period ends now, unless it goes on after all.
    pub(crate) fn settle(&mut self) {
        self.settled = Some(self.mixed_now());
    }

    fn mixed_now(&self) -> MixedTally {
        let mut mixed = self.mixed;
        for session in &self.slots {
            if session.alive && session.seen.since == self.since {
                mixed.add(&session.seen);
            }
        }
        mixed
    }

    /// What it came to; `settled`: the judged period has ended before now.
    pub(crate) fn tally(&self, settled: bool) -> SessionTally {
        let mixed = self.settled.filter(|_| settled).unwrap_or_else(|| self.mixed_now());
        SessionTally { begun: self.begun, broken: self.broken, mixed }
    }
}
