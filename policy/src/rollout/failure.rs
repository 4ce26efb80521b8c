//! What becomes of a move that failed: brought up again, put back, restored, rolled back, or parked. Every path ends.

use super::due::Work;
use super::{Purpose, Rollout, Run};
use crate::strategy::Layout;
use crate::{HoldReason, MoveResult, Note, OnFailure, ReplicaId, ReplicaState, Step, VersionRef};

impl Rollout {
    /// A step was given up. `final_word`: the world says that trying again won't help.
    pub(super) fn gave_up(&mut self, id: ReplicaId, reason: String, final_word: bool) {
        let Some(mv) = self.moves.get(&id) else { return };
        match mv.step() {
            _ if mv.purpose == Purpose::PutBack => self.park(id, reason),
            Step::TakeOut if !mv.stopped => {
                self.hold(HoldReason::MoveFailed { replica: id, reason: reason.clone() }, None);
                self.put_back_or_park(id, reason);
            }
            // Not the version's fault, and starting anything now would make it worse.
            Step::Gate
            | Step::AllReady
            | Step::TakeOut
            | Step::AwaitZero
            | Step::Stop
            | Step::AllStopped
            | Step::GpuFree(_)
            | Step::AllChecked
            | Step::Admit
            | Step::Soak => {
                self.park(id, reason);
            }
            // It serves, and is watched as it is; nobody else is moved before a person has seen it.
            Step::Ramp => {
                let reason = format!("it serves, but not with all of its weight: {reason}");
                self.hold(HoldReason::MoveFailed { replica: id, reason }, None);
                self.advance(id);
            }
            // It serves; whether it should is for a comparison that comes late, or a person.
            Step::Compare => {
                self.undecided = true;
                self.remove_move(id, MoveResult::Done);
                self.set_state(id, ReplicaState::Serving);
            }
            Step::Start(_) | Step::Health | Step::Identity(_) | Step::Smoke | Step::WarmUp => {
                self.bring_up_failed(id, reason, final_word);
            }
            // A swap is not tried twice, and no verdict counts as a bad one.
            Step::Swap(_) | Step::Evaluate { live: false } => self.bring_up_failed(id, reason, true),
            Step::Evaluate { live: true } => self.live_failed(id, reason),
        }
    }

    /// The version did not come up, or went down again before its move was over.
    pub(super) fn bring_up_failed(&mut self, id: ReplicaId, reason: String, final_word: bool) {
        let Some(mv) = self.moves.get(&id) else { return };
        let swaps = mv.steps.iter().any(|step| matches!(step, Step::Swap(_)));
        // What was swapped wrongly, or no longer runs as it was kept, is started. A new version that a swap got wrong is not tried again.
        if mv.light && (!swaps || mv.target == VersionRef::From) {
            self.by_start(id);
            return self.bring_up_again(id, 0, reason);
        }
        let final_word = final_word || swaps;
        let mv = &self.moves[&id];
        let take_out = mv.index_of(Step::TakeOut);
        if let Some(take_out) = take_out.filter(|_| !final_word && mv.bring_ups < self.plan.rollout.bring_ups)
        {
            return self.bring_up_again(id, take_out, reason);
        }
        if mv.target == VersionRef::From || mv.purpose != Purpose::Goal {
            return self.park(id, reason);
        }
        match self.plan.rollout.on_failure {
            OnFailure::Park => self.park(id, reason),
            OnFailure::RollBackReplica => {
                self.hold(HoldReason::MoveFailed { replica: id, reason: reason.clone() }, None);
                self.restore(id, reason);
            }
            // An abort takes only the replica in hand back.
            OnFailure::RollBackAll if self.run == Run::Abort => self.restore(id, reason),
            OnFailure::RollBackAll => {
                self.go_back(format!("the new version failed on {id}: {reason}"));
                self.restore(id, reason);
            }
        }
    }

    fn bring_up_again(&mut self, id: ReplicaId, take_out: usize, reason: String) {
        let routed = self.replica(id).traffic;
        let Some(mv) = self.moves.get_mut(&id) else { return };
        mv.bring_ups += 1;
        mv.routed = routed;
        mv.last.clone_from(&reason);
        // The next drain, should it have taken requests, has its own time; so has the way up to its whole weight.
        mv.drain = crate::drain::DrainWatch::default();
        mv.ramped = 0;
        let attempt = mv.bring_ups;
        self.note(Note::BringUpAgain { replica: id, attempt, reason });
        self.enter(id, take_out);
    }

    /// The new version was found wanting while it serves. It is taken out as every other: when the others can spare it.
    fn live_failed(&mut self, id: ReplicaId, reason: String) {
        let layout = self.plan.strategy.layout();
        let all = self.plan.rollout.on_failure == OnFailure::RollBackAll || layout == Layout::Switch;
        if all && self.run != Run::Abort {
            self.remove_move(id, MoveResult::Undone { reason: reason.clone() });
            self.set_state(id, ReplicaState::Serving);
            return self.go_back(format!("the new version failed on {id}: {reason}"));
        }
        self.hold(HoldReason::MoveFailed { replica: id, reason: reason.clone() }, None);
        // The one it took over from comes back first, if it still runs.
        let other = self.plan.partner(id).filter(|_| layout == Layout::Pairs);
        if let Some(other) = other.filter(|other| self.stands_by(*other)) {
            self.begin(other, VersionRef::From, Purpose::PutBack, Work::Revive);
        }
        self.restore(id, reason);
    }

    /// Whether it could be let back in as it is, with the old version.
    pub(super) fn stands_by(&self, id: ReplicaId) -> bool {
        let replica = self.replica(id);
        let idle = replica.state == ReplicaState::Standby && !replica.dead && !self.moves.contains_key(&id);
        idle && self.runs(id, VersionRef::From) && !self.plan.is_spare(id)
    }

    /// A drain that is called off: the replica, still running, goes back into rotation.
    pub(super) fn put_back_or_park(&mut self, id: ReplicaId, reason: String) {
        match self.replica(id).running.filter(|_| self.can_put_back(id)) {
            Some(running) => self.put_back(id, running, reason),
            None => self.park(id, reason),
        }
    }

    /// Whether it still runs what it served when its move began.
    pub(super) fn can_put_back(&self, id: ReplicaId) -> bool {
        let replica = self.replica(id);
        let untouched = self.moves.get(&id).is_some_and(|mv| mv.was_serving && !mv.stopped);
        untouched && !replica.dead && replica.running.is_some()
    }

    pub(super) fn put_back(&mut self, id: ReplicaId, running: VersionRef, reason: String) {
        self.remove_move(id, MoveResult::PutBack { reason });
        self.begin(id, running, Purpose::PutBack, Work::Revive);
    }

    pub(super) fn restore(&mut self, id: ReplicaId, reason: String) {
        let stopped = self.remove_move(id, MoveResult::Undone { reason: reason.clone() }).stopped;
        self.replica_mut(id).trouble = Some(reason);
        if !self.replica(id).state.serves() {
            self.set_state(id, ReplicaState::RollingBack);
        }
        let work = if self.plan.is_spare(id) { Work::Retire } else { Work::Bring };
        self.begin(id, VersionRef::From, Purpose::Restore, work);
        if let Some(mv) = self.moves.get_mut(&id) {
            mv.stopped |= stopped;
        }
    }

    pub(super) fn park(&mut self, id: ReplicaId, reason: String) {
        self.remove_move(id, MoveResult::Parked { reason: reason.clone() });
        self.park_idle(id, reason);
    }

    /// Parks a replica that is not in a move.
    pub(super) fn park_idle(&mut self, id: ReplicaId, reason: String) {
        self.replica_mut(id).trouble = Some(reason.clone());
        self.set_state(id, ReplicaState::Parked);
        self.hold(HoldReason::MoveFailed { replica: id, reason }, None);
    }

    /// From now on every replica is to serve the old version.
    pub(super) fn go_back(&mut self, reason: String) {
        if self.goal == VersionRef::To {
            self.goal = VersionRef::From;
            self.note(Note::GoalChanged { to: VersionRef::From, reason });
        }
        self.retry_parked();
    }

    /// Parked replicas and those that keep going down get another chance: somebody, or a new goal, asks for it.
    pub(super) fn retry_parked(&mut self) {
        for id in self.ids() {
            self.replica_mut(id).moves_done = 0;
            if self.replica(id).state == ReplicaState::Parked {
                self.set_state(id, ReplicaState::Down);
            }
        }
    }
}
