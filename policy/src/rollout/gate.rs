//! The gate of a move: a look at the replica, the window and the load before anything is touched.

use super::{Purpose, Rollout};
use crate::gate::{headroom, next_window, window_holds};
use crate::strategy::Layout;
use crate::timers::Timer;
use crate::{Action, HoldReason, Note, ReplicaId, ReplicaState, Step, VersionRef};

impl Rollout {
    pub(super) fn gate_look(&mut self, id: ReplicaId) {
        if !self.in_hand(id).look_again && self.window_shut(id) {
            return self.hold_for_the_window();
        }
        self.issue(id, false, Action::Observe);
    }

    pub(super) fn hold_for_the_window(&mut self) {
        let until = next_window(&self.plan.windows, self.now, self.plan.rollout.move_expected);
        self.hold(HoldReason::Window, until);
    }

    /// Going back is not bound to windows: a fleet on two versions is worse than a late move.
    pub(super) fn window_shut(&mut self, id: ReplicaId) -> bool {
        let mv = self.in_hand(id);
        // One that leaves for others ends the move that brought them.
        let upgrade = mv.target == VersionRef::To && !mv.leaves;
        let plan = &self.plan;
        upgrade
            && self.now >= self.window_waived_until
            && !window_holds(&plan.windows, self.now, plan.rollout.move_expected)
    }

    pub(super) fn gate_seen(&mut self, id: ReplicaId, seen: crate::Observed) {
        let was_empty = self.replica(id).state == ReplicaState::Empty;
        let serves = self.found(id, seen);
        let mv = self.in_hand(id);
        (mv.was_serving, mv.routed) = (serves, seen.in_rotation);
        let came_back = std::mem::take(&mut mv.look_again) && seen.process && seen.healthy;
        let untouched = !mv.stopped && mv.bring_ups <= 1;
        let (target, leaves, goal) = (mv.target, mv.leaves, mv.purpose == Purpose::Goal);
        let nothing_there = !seen.process && !seen.in_rotation;
        if leaves {
            if nothing_there && was_empty {
                return self.done(id);
            }
            if nothing_there {
                // It died by itself: whoever watches over it would bring it back, if it were not told to stop.
                let mv = self.in_hand(id);
                let stop = mv.index_of(Step::Stop).unwrap_or(mv.steps.len());
                if stop == mv.steps.len() {
                    mv.steps.push(Step::Stop);
                }
                return self.enter(id, stop);
            }
            if !serves && self.in_hand(id).index_of(Step::Stop).is_none() {
                // It could not be let back in as it is: nothing to keep.
                self.in_hand(id).steps.push(Step::Stop);
            }
        } else if serves && self.runs(id, target) {
            let mv = self.in_hand(id);
            // It was admitted behind our back, or its canary's soak was broken off: a canary is watched from here on.
            return match mv.index_of(Step::Soak).filter(|_| mv.canary) {
                Some(soak) => self.enter(id, soak),
                None => self.done(id),
            };
        }
        let running = self.replica(id).running;
        if let Some(running) = running.filter(|_| came_back && untouched && goal && !serves && !leaves) {
            // It has left on an order given while it was down; it serves again before it is moved.
            return self.put_back(id, running, "it came back while it was to leave".to_owned());
        }
        // What comes up in an empty place is undone by stopping it.
        if target == VersionRef::To && !seen.undo_ready && !self.plan.is_spare(id) {
            return self.hold(HoldReason::NoWayBack { replica: id }, None);
        }
        if self.in_hand(id).light && !seen.process && !self.window_shut(id) {
            self.by_start(id);
            return self.enter(id, 0);
        }
        if was_empty
            && nothing_there
            && let Some(free) = self.in_hand(id).index_of(Step::GpuFree(target))
        {
            return if self.window_shut(id) { self.gate_look(id) } else { self.enter(id, free) };
        }
        let gated = target == VersionRef::To || self.plan.rollout.rollback_gated;
        // One that leaves for others leaves as many as there were.
        let gated = gated && goal && !leaves && !self.plan.strategy.accepts_downtime();
        if serves && gated && !self.plan.gate.capacity.is_empty() {
            return self.issue(id, false, Action::MeasureLoad);
        }
        self.gate_weighs(id, None);
    }

    /// How many serve without this one and those that will have left with it.
    fn others_at_gate(&self, id: ReplicaId) -> usize {
        let halves = self.plan.strategy.layout() == Layout::Halves;
        let leave_too = self.moves.iter().filter(|(other, mv)| {
            let at_gate = matches!(mv.step(), Step::Gate | Step::AllReady);
            halves && **other != id && at_gate && self.replica(**other).state.serves()
        });
        self.serving_besides(id).saturating_sub(leave_too.count())
    }

    pub(super) fn gate_weighs(&mut self, id: ReplicaId, load: Option<f64>) {
        let was_serving = self.in_hand(id).was_serving;
        let (others, needed) = (self.others_at_gate(id), self.others_needed());
        let gate = &self.plan.gate;
        // A replica that does not serve costs nothing to move.
        let shut = if was_serving && others < needed {
            Some(format!("{others} others serve, {needed} must"))
        } else {
            load.filter(|_| was_serving).and_then(|load| {
                let headroom = headroom(load, &gate.capacity, others)?;
                let wanted = 1.0 + gate.margin;
                (headroom < wanted).then(|| {
                    format!("{others} replicas carry {headroom:.2} times the load of {load:.2}/s, {wanted:.2} times is wanted")
                })
            })
        };
        match shut {
            Some(seen) => self.gate_shut(id, seen),
            None if self.window_shut(id) => self.gate_look(id),
            None => self.advance(id),
        }
    }

    fn gate_shut(&mut self, id: ReplicaId, seen: String) {
        self.in_hand(id).last.clone_from(&seen);
        self.note(Note::GateShut { replica: id, seen });
        let at = self.now + self.plan.gate.recheck;
        self.timers.set(Timer::Retry(id), at);
    }

    pub(super) fn gate_wait_over(&mut self, id: ReplicaId) {
        self.in_hand(id).look_again = false;
        let seen = self.in_hand(id).last.clone();
        let seen = if seen.is_empty() { "no answer".to_owned() } else { seen };
        if self.in_hand(id).purpose != Purpose::Goal {
            return self.park(id, format!("could not be taken out: {seen}"));
        }
        self.hold(HoldReason::Gate { replica: id, seen }, None);
    }
}
