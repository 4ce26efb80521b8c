//! Surveys: looking at a replica before believing anything of it, at the start, after a recovery, and when one that was down came up again.

use super::{Purpose, Replica, Rollout, Survey};
use crate::drain::DrainWatch;
use crate::timers::Timer;
use crate::{Action, MoveResult, Note, Observed, ReplicaId, ReplicaState, Reply, Step, Verdict};

impl Rollout {
    /// Looks at every replica. What was outstanding is forgotten: whether it was carried out shows.
    pub(super) fn survey_all(&mut self) {
        self.surveying = true;
        for id in self.ids() {
            self.drop_commands(id);
            self.timers.clear(Timer::Retry(id));
            self.survey(id);
        }
    }

    fn survey(&mut self, id: ReplicaId) {
        self.replica_mut(id).survey = Some(Survey { tries: 0, since: self.now });
        self.timers.clear(Timer::SurveyAgain(id));
        self.survey_look(id);
    }

    pub(super) fn survey_look(&mut self, id: ReplicaId) {
        self.issue(id, true, Action::Observe);
    }

    pub(super) fn survey_reply(&mut self, id: ReplicaId, reply: Reply) {
        let Some(mut survey) = self.replica(id).survey else { return };
        match reply {
            Reply::Observed(seen) => {
                self.replica_mut(id).survey = None;
                self.found(id, seen);
            }
            Reply::Failed { reason, retryable } => {
                let limits = self.plan.rollout.steps.observe;
                survey.tries += 1;
                if retryable && !limits.exhausted(survey.tries, survey.since, self.now) {
                    self.replica_mut(id).survey = Some(survey);
                    self.timers.set(Timer::SurveyAgain(id), self.now + limits.every);
                    return;
                }
                self.not_found(id, reason);
            }
            _ => unreachable!("replies that do not fit are refused"),
        }
        self.survey_over();
    }

    fn not_found(&mut self, id: ReplicaId, reason: String) {
        let replica = self.replica_mut(id);
        replica.survey = None;
        replica.running = None;
        replica.seen_serving = false;
        // It may well serve; nothing is assumed in its favour, and the gate looks again before it is touched.
        replica.trouble = Some(format!("could not be observed: {reason}"));
        if !self.moves.contains_key(&id) && self.replica(id).state != ReplicaState::Parked {
            self.set_state(id, ReplicaState::Down);
        }
    }

    /// Takes what was seen for true. Returns whether the replica serves.
    pub(super) fn found(&mut self, id: ReplicaId, seen: Observed) -> bool {
        let serves = seen.in_rotation && seen.process && seen.healthy;
        let in_move = self.moves.contains_key(&id) && !self.at_gate(id);
        if let Some(mv) = self.moves.get_mut(&id).filter(|_| seen.in_rotation) {
            // New requests reach it: whatever drain there was has to begin again.
            mv.drain = DrainWatch::default();
        }
        let running = self.known(id, seen.version.filter(|_| seen.process));
        let was_running = self.replica(id).running;
        let replica = self.replica_mut(id);
        replica.seen_serving = serves;
        replica.dead = !seen.process;
        replica.running = running;
        // In a move the replica's own story is better known than what one look can tell: traffic is only ever added.
        replica.traffic = seen.process && (seen.in_rotation || replica.traffic || !in_move);
        if !serves && !in_move && replica.trouble.is_none() {
            replica.trouble = Some(trouble_seen(seen).to_owned());
        }
        if serves && !in_move {
            replica.trouble = None;
        }
        // A place that may be empty is, when nothing is there and the balancer knows nothing of it.
        let empty = !seen.process && !seen.in_rotation;
        let unchanged = seen.process && seen.healthy && !seen.in_rotation && running == was_running;
        let state = match self.replica(id).state {
            _ if in_move => return serves,
            ReplicaState::Parked if !serves => ReplicaState::Parked,
            before if serves && before.serves() => before,
            _ if serves => ReplicaState::Serving,
            ReplicaState::Empty if empty => ReplicaState::Empty,
            ReplicaState::Standby if unchanged => ReplicaState::Standby,
            _ => ReplicaState::Down,
        };
        if state == ReplicaState::Empty {
            self.replica_mut(id).trouble = None;
        }
        self.set_state(id, state);
        serves
    }

    fn at_gate(&self, id: ReplicaId) -> bool {
        self.moves.get(&id).is_some_and(|mv| matches!(mv.step(), Step::Gate | Step::AllReady))
    }

    fn survey_over(&mut self) {
        if self.surveying && self.replicas.iter().all(|replica| replica.survey.is_none()) {
            self.surveying = false;
            for id in self.ids() {
                self.reconcile(id);
            }
        }
    }

    /// Sets a move that was interrupted by a restart back to a step from which everything is ensured again.
    fn reconcile(&mut self, id: ReplicaId) {
        let Some(mv) = self.moves.get_mut(&id) else { return };
        mv.drain.interrupted();
        let (step, purpose, target, canary) = (mv.step(), mv.purpose, mv.target, mv.canary);
        let (watched, light, leaves, at) = (mv.watched(), mv.light, mv.leaves, mv.at);
        let take_out = mv.index_of(Step::TakeOut);
        let health = mv.index_of(Step::Health);
        let Replica { dead, seen_serving, .. } = *self.replica(id);
        let runs_target = self.runs(id, target) && !dead && !leaves;
        match step {
            Step::Gate | Step::AllReady => self.enter(id, 0),
            // The word came while it was not known whether the canary serves.
            Step::Compare if runs_target && seen_serving && self.verdict == Some(Verdict::Pass) => {
                self.advance(id);
            }
            Step::Soak | Step::Compare if runs_target && seen_serving => {}
            Step::Evaluate { live: true } | Step::Ramp if runs_target && seen_serving => self.enter(id, at),
            _ if watched && canary && dead => {
                self.bring_up_failed(id, "found down after the restart, while it soaked".to_owned(), true);
            }
            Step::Admit if runs_target && seen_serving => self.reached(id, ReplicaState::Readmitted),
            // It takes requests, or may: before it is touched again the gate is asked again.
            _ if watched || step == Step::Ramp || seen_serving => {
                self.remove_move(id, MoveResult::CalledOff);
                self.replica_mut(id).moves_done += u32::from(watched);
                self.set_state(id, if seen_serving { ReplicaState::Serving } else { ReplicaState::Down });
            }
            _ if purpose == Purpose::PutBack && dead => {
                self.restore(id, "found down after the restart".to_owned());
            }
            Step::Swap(_)
            | Step::Start(_)
            | Step::Health
            | Step::Identity(_)
            | Step::Smoke
            | Step::WarmUp
            | Step::Evaluate { live: false }
            | Step::AllChecked
            | Step::Admit
                if runs_target =>
            {
                self.enter(id, health.unwrap_or(0));
            }
            _ if light && (dead || take_out.is_none()) => {
                self.by_start(id);
                self.enter(id, 0);
            }
            _ => self.enter(id, take_out.unwrap_or(0)),
        }
    }

    pub(super) fn came_up(&mut self, id: ReplicaId) {
        let (state, step) = (self.replica(id).state, self.moves.get(&id).map(super::Move::step));
        let unconfirmed = self.moves.get(&id).is_some_and(|mv| mv.drain.confirmed_at.is_none());
        match step {
            // Nothing says that it is still out of rotation.
            None if state == ReplicaState::Standby => self.replica_mut(id).traffic = true,
            Some(Step::TakeOut) if !self.surveying && self.asked_out_while_down(id) => {
                let replica = self.replica_mut(id);
                (replica.dead, replica.traffic) = (false, true);
                let mv = self.in_hand(id);
                mv.look_again = true;
                if mv.steps[0] != Step::Gate {
                    mv.steps.insert(0, Step::Gate);
                }
                return self.enter(id, 0);
            }
            // Until the balancer confirms that it is out it may be given requests again, and those are drained.
            Some(Step::Gate | Step::AllReady | Step::TakeOut | Step::Admit) => {
                let replica = self.replica_mut(id);
                (replica.dead, replica.traffic) = (false, true);
                if state == ReplicaState::Empty {
                    self.set_state(id, ReplicaState::Down);
                }
            }
            // Nobody took it out: it was empty when its move began.
            Some(_) if unconfirmed => {
                let replica = self.replica_mut(id);
                (replica.dead, replica.traffic) = (false, true);
            }
            _ => {}
        }
        let down = matches!(state, ReplicaState::Down | ReplicaState::Parked | ReplicaState::Empty);
        // In a survey and at the gate, what was seen of it was seen before, so it is looked at again.
        if self.surveying || (step.is_none() && down) {
            self.survey(id);
        } else if matches!(step, Some(Step::Gate | Step::AllReady)) {
            self.enter(id, 0);
        }
    }

    /// Whether it was down when it was first asked to leave, and may serve again now that it is up.
    fn asked_out_while_down(&self, id: ReplicaId) -> bool {
        self.moves.get(&id).is_some_and(|mv| mv.routed && !mv.was_serving && !mv.leaves)
    }

    pub(super) fn went_down(&mut self, id: ReplicaId, reason: String) {
        self.note(Note::WentDown { replica: id, reason: reason.clone() });
        let replica = self.replica_mut(id);
        (replica.dead, replica.seen_serving) = (true, false);
        if replica.state != ReplicaState::Empty {
            replica.trouble = Some(format!("went down: {reason}"));
        }
        if replica.survey.is_some() {
            // What is on its way may have been seen before.
            self.survey(id);
        }
        if self.replica(id).state.serves() || self.replica(id).state == ReplicaState::Standby {
            self.set_state(id, ReplicaState::Down);
        }
        // Moves are set right when the survey is over.
        let Some(mv) = self.moves.get(&id).filter(|_| !self.surveying) else { return };
        match (mv.step(), mv.purpose) {
            (Step::Gate | Step::AllReady, _) => self.enter(id, 0),
            (_, Purpose::PutBack) => self.restore(id, format!("went down: {reason}")),
            (Step::AwaitZero, _) => self.drained(id),
            // Still to be confirmed out, or on its way down by our order.
            (Step::TakeOut | Step::Stop | Step::AllStopped | Step::GpuFree(_), _) => {}
            // A canary that dies while it is watched has told what it was to tell.
            _ => {
                let told = mv.canary && (mv.watched() || mv.step() == Step::Ramp);
                self.bring_up_failed(id, format!("went down: {reason}"), told);
            }
        }
    }
}

fn trouble_seen(seen: Observed) -> &'static str {
    match seen {
        Observed { process: false, .. } => "its process is not there",
        Observed { healthy: false, .. } => "it is not healthy",
        _ => "it is not in rotation",
    }
}
