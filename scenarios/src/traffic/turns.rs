//! Every turn of drawn sessions as an arrival of its own, in order of time, answers taking no time: what a trace of them
//! would hold. A simulation asks for turns as answers come instead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::sessions::{IN_COURSE, SessionPlan};
use super::{Arrival, Generate, Generator, ImportReport, Tally, Traffic};
use crate::error::TraceError;
use crate::random::Keyed;

/// The next turn of a session: (when, session, turn, turns in all, tokens of the conversation so far).
type Due = Reverse<(u64, u64, u32, u32, u64)>;

/// Drawn traffic with all its turns. In memory: a line for each session under way.
#[derive(Debug)]
pub struct AllTurns {
    firsts: Generator,
    plan: Option<SessionPlan>,
    /// The first turn that comes next, and its session.
    first: Option<(u64, Arrival)>,
    next_session: u64,
    due: BinaryHeap<Due>,
    tally: Tally,
    rows: u64,
    begun: bool,
}

impl AllTurns {
    /// What `generate` draws, the rate multiplied by `rate_scale`; without sessions it is the generator's own.
    #[must_use]
    pub fn new(generate: &Generate, rate_scale: f64, keyed: Keyed) -> Self {
        Self {
            firsts: Generator::new(generate, rate_scale, keyed),
            plan: SessionPlan::new(generate, rate_scale, keyed),
            first: None,
            next_session: 0,
            due: BinaryHeap::new(),
            tally: Tally::default(),
            rows: 0,
            begun: false,
        }
    }

    fn advance_first(&mut self) -> Result<(), TraceError> {
        self.first = self.firsts.next_arrival()?.map(|arrival| (self.next_session, arrival));
        self.next_session += 1;
        Ok(())
    }
}

/// Notes the turn after this one, if there is one before the end.
fn go_on(
    due: &mut BinaryHeap<Due>,
    plan: &SessionPlan,
    (at_ps, session, turn, turns, context): (u64, u64, u32, u32, u64),
) {
    let next_ps = at_ps.saturating_add(plan.think(session, turn + 1).as_picos());
    if turn + 1 < turns && next_ps < plan.end_ps() {
        due.push(Reverse((next_ps, session, turn + 1, turns, context)));
    }
}

impl Traffic for AllTurns {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        if !self.begun {
            self.begun = true;
            self.advance_first()?;
            let in_course = self.plan.as_ref().map_or_else(Vec::new, SessionPlan::in_course);
            for (session, met) in (IN_COURSE..).zip(in_course) {
                if self.plan.as_ref().is_some_and(|plan| met.at_ps < plan.end_ps()) {
                    self.due.push(Reverse((met.at_ps, session, met.turn, met.turns, met.context)));
                }
            }
        }
        let due_ps = self.due.peek().map_or(u64::MAX, |Reverse(due)| due.0);
        let arrival = match (&self.plan, self.first) {
            (_, Some((session, first))) if first.at_ps <= due_ps => {
                if let Some(plan) = &self.plan {
                    let context = u64::from(first.input_tokens) + u64::from(first.output_tokens);
                    go_on(&mut self.due, plan, (first.at_ps, session, 0, plan.turns(session), context));
                }
                self.advance_first()?;
                first
            }
            (Some(plan), _) => {
                let Some(Reverse((at_ps, session, turn, turns, context))) = self.due.pop() else {
                    return Ok(None);
                };
                let drawn = plan.turn(session, turn);
                let (input_tokens, _) = plan.prompt(context, drawn.new_tokens);
                let context = u64::from(input_tokens) + u64::from(drawn.output_tokens);
                go_on(&mut self.due, plan, (at_ps, session, turn, turns, context));
                Arrival { at_ps, input_tokens, output_tokens: drawn.output_tokens }
            }
            (None, _) => return Ok(None),
        };
        self.rows += 1;
        self.tally.count(&arrival);
        Ok(Some(arrival))
    }

    fn epoch_ns(&self) -> Option<i64> {
        self.firsts.epoch_ns()
    }

    fn report(&self) -> ImportReport {
        let mut report = ImportReport { rows: self.rows, ..self.firsts.report() };
        self.tally.fill(&mut report);
        report
    }
}
