//! The canonical form of a rollout: what decides all it will do from here on, and nothing else.
//!
//! Left out: texts (they are only told), counters that are only told (ignored replies, clock jumps, the load last seen), the notes, and the
//! names of things: instants are written as distances from now, command ids as ranks among those still of interest. An elapsed time that
//! is only compared with the plan's spans is cut off above the longest of them, so that a rollout at rest has one form and not a new one
//! every second.
//!
//! Every type writes its fields through an exhaustive pattern: a new field does not compile until somebody has decided whether it decides.

use std::hash::{Hash, Hasher};

use crate::{AtDeadline, CommandId, Plan, Span, Time};

/// What determines a rollout's future, as a value: two rollouts of one plan with equal forms answer equal events with equal commands, up
/// to the time at which they stand and the numbers of their commands. It is no description: it can only be compared and hashed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canonical(Vec<u8>);

/// A form being written. It takes what `Hash` implementations feed it as it is, so that equal bytes mean equal values.
pub(crate) struct Form {
    now: Time,
    horizon: Span,
    ids: Vec<CommandId>,
    bytes: Vec<u8>,
}

impl Form {
    /// `ids` are all command ids that will be written, in any order.
    pub(crate) fn new(plan: &Plan, now: Time, mut ids: Vec<CommandId>) -> Form {
        ids.sort_unstable();
        ids.dedup();
        Form { now, horizon: horizon(plan), ids, bytes: Vec::with_capacity(1_024) }
    }

    pub(crate) fn put(&mut self, value: impl Hash) {
        value.hash(self);
    }

    /// An instant whose exact distance matters, because a timer is or will be set by it.
    pub(crate) fn instant(&mut self, at: Time) {
        let never = at == Time::MAX;
        self.put((never, if never { 0 } else { at.0.wrapping_sub(self.now.0) }));
    }

    /// An instant that is only compared with now: all that are past are one.
    pub(crate) fn until(&mut self, at: Time) {
        self.instant(at.max(self.now));
    }

    /// An instant of which only is asked whether one of the plan's spans has passed since.
    pub(crate) fn since(&mut self, since: Option<Time>) {
        let elapsed = since.map(|since| self.now.since(since));
        self.span(elapsed);
    }

    /// A span that is only compared with the plan's.
    pub(crate) fn span(&mut self, span: Option<Span>) {
        self.put(span.map(|span| span.min(self.horizon)));
    }

    pub(crate) fn id(&mut self, id: CommandId) {
        let rank = self.ids.partition_point(|other| *other < id);
        self.put(rank);
    }

    pub(crate) fn finish_form(self) -> Canonical {
        Canonical(self.bytes)
    }
}

impl Hasher for Form {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The longest span of the plan that an elapsed time is compared with.
fn horizon(plan: &Plan) -> Span {
    let drain = &plan.rollout.drain;
    let hard_limit = match drain.at_deadline {
        AtDeadline::Extend { hard_limit, .. } => hard_limit,
        AtDeadline::Cut | AtDeadline::Abort => Span::ZERO,
    };
    let steps = plan.rollout.steps.named();
    let within = steps.iter().filter_map(|(_, limits)| limits.within);
    // One more than `sustained`, as a gap between samples is one that is longer.
    let sustained = plan.guards.iter().map(|guard| guard.sustained + Span::from_nanos(1));
    [drain.timeout, hard_limit, drain.believe_after, plan.strategy.canary_soak().unwrap_or_default()]
        .into_iter()
        .chain(within)
        .chain(sustained)
        .max()
        .unwrap_or_default()
}
