//! What each place needs now. The one file that knows how the strategies differ in which place serves what, and in which order they get there.
//!
//! A place is *there* when it serves the goal's version, or is empty where it should be. One that is not there is *due* for a move when those
//! it waits for are where they must be: the other half, the spares that help, the twin that takes over. When nothing is in hand and all are
//! there, the rollout is over.

use super::{Purpose, Rollout};
use crate::strategy::Layout;
use crate::{ReplicaId, ReplicaState, Step, VersionRef};

/// The move a place needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// To serve the goal's version, from wherever it is.
    Bring,
    /// To serve the goal's version, which it runs already, checked once.
    Revive,
    /// To be empty.
    Retire,
}

impl Rollout {
    /// Whether nothing is left to be done for this place.
    pub(super) fn there(&self, id: ReplicaId) -> bool {
        let state = self.replica(id).state;
        if self.plan.ends_empty(id, self.goal) {
            return state == ReplicaState::Empty;
        }
        state.serves() && self.runs(id, self.goal)
    }

    /// Whether it serves the goal's version with all its weight; others may rely on it.
    pub(super) fn settled_in(&self, id: ReplicaId) -> bool {
        let whole = self.moves.get(&id).is_none_or(|mv| mv.purpose == Purpose::Goal && mv.watched());
        self.replica(id).state.serves() && self.runs(id, self.goal) && whole
    }

    fn may_be_moved(&self, id: ReplicaId) -> bool {
        let replica = self.replica(id);
        self.plan.moves(id)
            && replica.state != ReplicaState::Parked
            && replica.survey.is_none()
            && !self.moves.contains_key(&id)
    }

    /// The move this place needs now; `None` where it needs none or must wait for others.
    pub(super) fn due(&self, id: ReplicaId) -> Option<Work> {
        if !self.may_be_moved(id) {
            return None;
        }
        match self.plan.strategy.layout() {
            Layout::InPlace => (!self.there(id)).then_some(Work::Bring),
            Layout::Halves => self.due_of_halves(id),
            Layout::Surge if self.plan.is_spare(id) => self.due_of_spare(id),
            Layout::Surge => self.due_with_spares(id),
            Layout::Switch | Layout::Pairs => self.due_of_switch(id),
        }
    }

    fn due_of_halves(&self, id: ReplicaId) -> Option<Work> {
        let first = |other: ReplicaId| self.plan.in_first_half(other);
        let serves = self.replica(id).state.serves();
        let turn = !serves || first(id) || self.ids().filter(|id| first(*id)).all(|id| self.settled_in(id));
        (!self.there(id) && turn).then_some(Work::Bring)
    }

    /// A spare helps while one that serves has to be moved; while it serves already, until all are moved.
    fn due_of_spare(&self, id: ReplicaId) -> Option<Work> {
        let state = self.replica(id).state;
        let moved = || self.ids().filter(|id| !self.plan.is_spare(*id) && self.plan.moves(*id));
        let all_there = moved().all(|id| self.there(id) && !self.moves.contains_key(&id));
        // Going back any version helps, and a plan that lets one be missing needs no help.
        let forward = self.goal == VersionRef::To;
        if state.serves() && (!forward || self.runs(id, self.goal)) {
            return all_there.then_some(Work::Retire);
        }
        let wanted = forward || self.plan.unavailable_max() == 0;
        let to_move = |id: &ReplicaId| self.replica(*id).state.serves() && !self.runs(*id, self.goal);
        if wanted && moved().any(|id| to_move(&id)) {
            return Some(Work::Bring);
        }
        (all_there && state != ReplicaState::Empty).then_some(Work::Retire)
    }

    fn due_with_spares(&self, id: ReplicaId) -> Option<Work> {
        let mut spares = self.ids().filter(|id| self.plan.is_spare(*id));
        let waits = spares.any(|spare| {
            let coming = self.moves.get(&spare).is_some_and(|mv| mv.purpose == Purpose::Goal && !mv.leaves);
            coming || self.due(spare) == Some(Work::Bring)
        });
        let turn = !self.replica(id).state.serves() || !waits;
        (!self.there(id) && turn).then_some(Work::Bring)
    }

    fn due_of_switch(&self, id: ReplicaId) -> Option<Work> {
        let state = self.replica(id).state;
        if self.there(id) {
            return None;
        }
        if self.plan.ends_empty(id, self.goal) {
            // Standing by it waits until those that took over have proved themselves, and its time is over.
            let waits = state == ReplicaState::Standby
                && (self.replica(id).kept_until.is_some_and(|until| self.now < until)
                    || self.plan.successors(id, self.goal).iter().any(|id| self.moves.contains_key(id)));
            return (self.taken_over(id) && !waits).then_some(Work::Retire);
        }
        if state == ReplicaState::Standby && self.runs(id, self.goal) {
            return Some(Work::Revive);
        }
        let turn = self.plan.strategy.layout() == Layout::Switch || self.pair_may_begin(id);
        turn.then_some(Work::Bring)
    }

    /// Whether all that take over from this one do.
    pub(super) fn taken_over(&self, id: ReplicaId) -> bool {
        self.plan.successors(id, self.goal).into_iter().all(|id| self.settled_in(id))
    }

    /// One whose other does not serve costs nothing to bring up; else so many pairs at a time.
    fn pair_may_begin(&self, id: ReplicaId) -> bool {
        let other_serves = self.plan.partner(id).is_some_and(|other| self.replica(other).state.serves());
        let in_hand = |id: ReplicaId| {
            let pair = [Some(id), self.plan.partner(id)];
            let moving = pair.iter().flatten().any(|id| self.moves.contains_key(id));
            let leaves_next = self.plan.partner(id).is_some_and(|other| self.replica(other).state.serves());
            moving || (self.settled_in(id) && leaves_next)
        };
        let coming = self.ids().filter(|id| self.plan.moves(*id) && !self.plan.ends_empty(*id, self.goal));
        !other_serves || coming.filter(|id| in_hand(*id)).count() < self.plan.strategy.pairs_at_once()
    }

    /// Whether there is room for one more that serves to leave: those at their gates are as good as gone.
    pub(super) fn room(&self) -> bool {
        let leaving = self.moves.iter().filter(|(id, mv)| {
            matches!(mv.step(), Step::Gate | Step::AllReady) && self.replica(**id).state.serves()
        });
        self.serving() > self.others_needed() + leaving.count()
    }

    /// Whether all that are to be admitted with those at [`Step::AllChecked`] are ready for it.
    pub(super) fn all_checked(&self) -> bool {
        let behind = self.moves.values().any(|mv| {
            mv.purpose == Purpose::Goal
                && mv.index_of(Step::AllChecked).is_some_and(|checked| mv.at < checked)
        });
        let past = |mv: &super::Move| mv.index_of(Step::AllChecked).is_some_and(|checked| mv.at >= checked);
        let ready = |id: ReplicaId| self.settled_in(id) || self.moves.get(&id).is_some_and(past);
        let switch = self.plan.strategy.layout() == Layout::Switch;
        let mut coming = self.ids().filter(|id| switch && !self.plan.ends_empty(*id, self.goal));
        !behind && coming.all(ready)
    }
}
