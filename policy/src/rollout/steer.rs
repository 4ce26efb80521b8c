//! Decisions for the rollout as a whole: what to do with the moves in hand, which move is next, when to hold, when it is over.

use super::due::Work;
use super::{Hold, Move, Purpose, Rollout, Run};
use crate::gate::{next_window, window_holds};
use crate::strategy::Layout;
use crate::timers::Timer;
use crate::{
    Approve, EvaluateOn, Figure, GuardAction, HoldReason, MoveResult, Note, Outcome, ReplicaId, ReplicaState,
    Span, Step, Time, Verdict, VersionRef,
};

impl HoldReason {
    /// After a hard one the replica in hand is put back where that is possible; a soft one only keeps the next move from beginning.
    pub(super) fn is_hard(&self) -> bool {
        match self {
            HoldReason::Approval
            | HoldReason::Window
            | HoldReason::Gate { .. }
            | HoldReason::NoWayBack { .. } => false,
            HoldReason::Operator
            | HoldReason::Comparison
            | HoldReason::Guard { .. }
            | HoldReason::DrainTimedOut { .. }
            | HoldReason::MoveFailed { .. } => true,
        }
    }
}

/// What is to be done with a move in hand.
enum Steer {
    GoOn,
    /// Nothing was touched yet.
    CallOff,
    /// Back into rotation as it is.
    PutBack(VersionRef, &'static str),
    /// To the old version.
    Restore(&'static str),
    /// It serves; what is left of its soak is not waited for.
    LeaveServing,
    /// The rest of its weight is not waited for.
    WholeWeight,
    /// It is ready to be admitted and must not be now.
    StandBy,
}

impl Rollout {
    /// Redirects the first move in hand that should not go on as it is. Whether there was one.
    pub(super) fn steer_moves(&mut self) -> bool {
        let in_hand: Vec<ReplicaId> = self.moves.keys().copied().collect();
        in_hand.into_iter().any(|id| match self.steer(id, &self.moves[&id]) {
            Steer::GoOn => false,
            Steer::CallOff => {
                let leaves = self.remove_move(id, MoveResult::CalledOff).leaves;
                if !leaves {
                    self.approval_back();
                }
                true
            }
            Steer::WholeWeight => {
                self.ramp_at_once(id);
                true
            }
            Steer::StandBy => {
                self.remove_move(id, MoveResult::CalledOff);
                self.set_state(id, ReplicaState::Standby);
                true
            }
            Steer::PutBack(running, reason) => {
                self.put_back(id, running, reason.to_owned());
                true
            }
            Steer::Restore(reason) => {
                self.restore(id, reason.to_owned());
                true
            }
            Steer::LeaveServing => {
                self.remove_move(id, MoveResult::Done);
                self.set_state(id, ReplicaState::Serving);
                true
            }
        })
    }

    fn steer(&self, id: ReplicaId, mv: &Move) -> Steer {
        // Moves that mend are never redirected; one the world is in the middle of waits for that to be over.
        if mv.purpose != Purpose::Goal || self.changing(id) {
            return Steer::GoOn;
        }
        // Waiting for the approval of one move is no reason to call off another that is approved already.
        let holds = matches!(&self.run, Run::Hold(hold) if hold.reason != HoldReason::Approval);
        let holds_hard = matches!(&self.run, Run::Hold(hold) if hold.reason.is_hard());
        let aborts = self.run == Run::Abort;
        let turned = mv.target != self.goal;
        match mv.step() {
            Step::Gate if mv.look_again => Steer::GoOn,
            Step::Gate if mv.leaves && !self.taken_over(id) => Steer::CallOff,
            Step::Gate | Step::AllReady if holds || aborts || turned => Steer::CallOff,
            Step::Gate | Step::AllReady if !mv.leaves && self.a_down_one_waits(id) => Steer::CallOff,
            Step::Gate | Step::AllReady => Steer::GoOn,
            // It stays as it is after an abort; going back it gets no more of the load.
            Step::Ramp if turned => Steer::LeaveServing,
            Step::Ramp if aborts && mv.tries == 0 => Steer::WholeWeight,
            Step::Ramp => Steer::GoOn,
            _ if mv.watched() && (aborts || turned) => Steer::LeaveServing,
            _ if mv.watched() => Steer::GoOn,
            Step::AllChecked if holds && !aborts && !turned && self.waits_outside() => Steer::StandBy,
            // A process that goes for others goes; those that mend come after it.
            _ if mv.leaves && (mv.stopped || !mv.was_serving) => Steer::GoOn,
            _ if mv.stopped || !mv.was_serving => {
                // Toward the old version it mends by itself; a hold lets it finish, for all to serve.
                if mv.target == VersionRef::To && (aborts || turned) {
                    Steer::Restore(if aborts { "aborted" } else { "rolled back" })
                } else {
                    Steer::GoOn
                }
            }
            _ => {
                // A spare on its way out is best seen off.
                let reason = if aborts && !(mv.leaves && self.plan.is_spare(id)) {
                    "aborted"
                } else if turned {
                    "rolled back"
                } else if holds_hard {
                    "held"
                } else if self.serving_besides(id) < self.others_needed() {
                    "another replica went down"
                } else {
                    return Steer::GoOn;
                };
                match self.replica(id).running.filter(|_| self.can_put_back(id)) {
                    Some(running) => Steer::PutBack(running, reason),
                    None if mv.leaves && self.plan.is_spare(id) => Steer::GoOn,
                    None if mv.target == VersionRef::To && (aborts || turned) => Steer::Restore(reason),
                    None => Steer::GoOn,
                }
            }
        }
    }

    /// Whether one that is ready stays out of rotation when the rollout holds: those it is to replace serve.
    fn waits_outside(&self) -> bool {
        self.plan.strategy.layout() == Layout::Switch
    }

    /// A serving replica does not wait at the gate for one that is down and could be moved first.
    fn a_down_one_waits(&self, at_gate: ReplicaId) -> bool {
        let down = |id: ReplicaId| !self.replica(id).state.serves() && self.due(id) == Some(Work::Bring);
        self.replica(at_gate).state.serves() && self.ids().any(down)
    }

    /// What needs no asking first, then those that are down, then a canary that is due, then the plan's order, then as listed.
    fn next_due(&self) -> Option<(ReplicaId, Work)> {
        let order = self.plan.strategy.order();
        let rank = |id: ReplicaId| {
            let name = &self.plan.replicas[id.index()].name;
            let canary = self.canary_next() && self.plan.strategy.canary() == Some(name);
            (!canary, order.iter().position(|other| other == name).unwrap_or(order.len()))
        };
        let due = self.ids().filter_map(|id| self.due(id).map(|work| (id, work)));
        let may = due.filter(|(id, work)| self.may_begin(*id, *work));
        may.min_by_key(|(id, work)| (*work == Work::Bring, self.replica(*id).state.serves(), rank(*id), *id))
    }

    /// Whether the strategy lets this move begin beside those in hand.
    fn may_begin(&self, id: ReplicaId, work: Work) -> bool {
        if work != Work::Bring {
            // One that can't be spared yet does not stand at its gate while another is down and could come first.
            let spared = self.serving() > self.others_needed();
            return work == Work::Revive || spared || !self.a_down_one_waits(id);
        }
        let quality = self.plan.rollout.quality.as_ref();
        let evaluated_first = quality.is_some_and(|spec| spec.replicas == EvaluateOn::First);
        let asks_first = (self.approvals_wanted() == Approve::First && self.upgrades_done == 0)
            || (self.goal == VersionRef::To && evaluated_first && !self.quality_passed);
        if (asks_first && !self.plan.strategy.nobody_first()) || self.canary_next() {
            return self.moves.is_empty();
        }
        let serves = self.replica(id).state.serves();
        match self.plan.strategy.layout() {
            Layout::InPlace => {
                let left = self.moves.values().any(|mv| !matches!(mv.step(), Step::Gate | Step::AllReady));
                // Nobody joins those that have left together.
                self.moves.len() < self.plan.strategy.max_unavailable()
                    && !(self.plan.strategy.together() && left)
            }
            Layout::Halves => {
                let on_the_way =
                    |mv: &Move| !mv.watched() && !matches!(mv.step(), Step::Gate | Step::AllReady);
                !serves || !self.moves.values().any(on_the_way)
            }
            // With nothing in hand the gate says what is missing.
            Layout::Surge => !serves || self.moves.is_empty() || self.room(),
            Layout::Switch | Layout::Pairs => true,
        }
    }

    /// Begins the next move, if one may begin. Whether it did or decided anything else.
    pub(super) fn begin_moves(&mut self) -> bool {
        if self.run != Run::Go {
            return false;
        }
        if self.undecided && self.canary_next() && self.moves.is_empty() {
            self.hold(HoldReason::Comparison, None);
            return true;
        }
        let Some((id, work)) = self.next_due() else { return false };
        if work != Work::Bring {
            self.begin(id, self.goal, Purpose::Goal, work);
            return true;
        }
        if self.replica(id).moves_done > self.plan.rollout.revivals {
            self.park_idle(id, "went down again after it was moved and brought up again".to_owned());
            return true;
        }
        let ask = match self.approvals_wanted() {
            Approve::Each => !self.joins(),
            Approve::First => self.upgrades_done > 0,
            Approve::None => false,
        };
        if ask && !self.approved {
            self.hold(HoldReason::Approval, None);
            return true;
        }
        if self.approvals_wanted() == Approve::Each {
            self.approved = false;
        }
        self.begin(id, self.goal, Purpose::Goal, work);
        true
    }

    /// Whether what was approved for those in hand was for the next one too.
    pub(super) fn joins(&self) -> bool {
        let together = self.plan.strategy.nobody_first();
        together && self.moves.values().any(|mv| mv.purpose == Purpose::Goal && !mv.leaves && !mv.watched())
    }

    /// Lets one go on that waited for others which are now where it is. Whether there was one.
    pub(super) fn go_together(&mut self) -> bool {
        let any = |steps: &[Step]| {
            let mut goals = self.moves.values().filter(|mv| mv.purpose == Purpose::Goal);
            goals.any(|mv| steps.contains(&mv.step()))
        };
        let ready = !any(&[Step::Gate]);
        let stopped = !any(&[Step::TakeOut, Step::AwaitZero, Step::Stop]);
        let checked = any(&[Step::AllChecked]) && self.all_checked();
        let free = self.moves.iter().find(|(_, mv)| match mv.step() {
            Step::AllReady => ready,
            Step::AllStopped => stopped,
            Step::AllChecked => checked,
            _ => false,
        });
        let Some((id, step)) = free.map(|(id, mv)| (*id, mv.step())) else { return false };
        let now = self.now;
        if step == Step::AllStopped {
            self.advance(id);
        } else if step == Step::AllChecked {
            // The gate has asked for time enough; here it may only not be over.
            let over = self.plan.strategy.layout() == Layout::Switch
                && now >= self.window_waived_until
                && !window_holds(&self.plan.windows, now, Span::ZERO);
            if over {
                self.hold_for_the_window();
            } else if self.nobody_was_evaluated() {
                self.evaluate_first(id);
            } else {
                self.advance(id);
            }
        } else if self.window_shut(id) {
            self.hold_for_the_window();
        } else if self.replica(id).state.serves() && self.serving_besides(id) < self.others_needed() {
            // Somebody went down since its gate: it waits there.
            self.enter(id, 0);
        } else {
            self.advance(id);
        }
        true
    }

    /// Whether the one that was to be evaluated for all has not passed: it failed, or went down before.
    pub(super) fn nobody_was_evaluated(&self) -> bool {
        let first = |spec: &crate::QualitySpec| spec.out_of_rotation && spec.replicas == EvaluateOn::First;
        !self.evaluated
            && self.goal == VersionRef::To
            && self.plan.rollout.quality.as_ref().is_some_and(first)
    }

    /// With nothing in hand: over, or holding at what serves. Whether that is news.
    pub(super) fn rest(&mut self) -> bool {
        if !self.moves.is_empty() || self.replicas.iter().any(|replica| replica.survey.is_some()) {
            return false;
        }
        // Hold means N, and so does the end: what stands by is let back in where it is missed.
        let resting = self.run == Run::Abort || matches!(&self.run, Run::Hold(hold) if !hold.settled);
        let missed = resting && self.serving() < self.plan.count();
        if let Some(id) = self.ids().find(|id| missed && self.stands_by(*id)) {
            self.begin(id, VersionRef::From, Purpose::PutBack, Work::Revive);
            return true;
        }
        let mut moved = self.ids().filter(|id| self.plan.moves(*id));
        let all_there = moved.all(|id| self.there(id) && self.due(id).is_none());
        match &mut self.run {
            Run::Go if all_there => {
                self.end(if self.goal == VersionRef::To { Outcome::Completed } else { Outcome::RolledBack });
            }
            Run::Abort => self.end(Outcome::Aborted),
            Run::Hold(hold) if !hold.settled => {
                hold.settled = true;
                let (serving, of) = (self.serving(), self.plan.count());
                self.note(Note::HoldSettled { serving, of });
                self.safety.check_report(&self.report());
            }
            _ => return false,
        }
        true
    }

    fn end(&mut self, outcome: Outcome) {
        self.run = Run::Ended(outcome);
        self.timers.clear_all();
        self.note(Note::Ended { outcome });
        self.safety.check_report(&self.report());
    }

    /// Holds, unless it holds for a harder reason or is on its way to its end.
    pub(super) fn hold(&mut self, reason: HoldReason, until: Option<Time>) {
        match &self.run {
            Run::Go => {}
            Run::Hold(hold) if reason.is_hard() && !hold.reason.is_hard() => {}
            // A move that is approved and still at its gate may find a better reason to hold.
            Run::Hold(hold) if hold.reason == HoldReason::Approval && reason != HoldReason::Approval => {}
            _ => return,
        }
        self.timers.clear(Timer::HoldUntil);
        if let Some(until) = until {
            self.timers.set(Timer::HoldUntil, until);
        }
        self.note(Note::HoldBegan { reason: reason.clone(), until });
        self.run = Run::Hold(Hold { reason, since: self.now, until, settled: false });
    }

    pub(super) fn resume(&mut self) {
        if matches!(self.run, Run::Hold(_)) {
            self.timers.clear(Timer::HoldUntil);
            self.note(Note::HoldEnded);
            self.run = Run::Go;
            self.guards.fill_with(Default::default);
        }
    }

    pub(super) fn resume_by_person(&mut self, reason: &HoldReason) {
        match reason {
            HoldReason::Approval => self.approved = true,
            HoldReason::Comparison => self.canary_accepted(),
            HoldReason::Window => {
                let expected = self.plan.rollout.move_expected;
                let next = next_window(&self.plan.windows, self.now, expected);
                self.window_waived_until = next.unwrap_or(Time::MAX);
            }
            _ => {}
        }
        self.retry_parked();
        self.resume();
    }

    pub(super) fn abort(&mut self) {
        self.resume();
        self.run = Run::Abort;
    }

    fn canary_accepted(&mut self) {
        (self.undecided, self.canary_passed) = (false, true);
        self.upgrades_done += 1;
    }

    /// The word of somebody outside, where the plan leaves it to him.
    pub(super) fn told(&mut self, verdict: Verdict) {
        if self.plan.strategy.measured_comparison().is_none() {
            self.compared(verdict);
        }
    }

    pub(super) fn compared(&mut self, verdict: Verdict) {
        let asked = self.plan.strategy.compare_within().is_some() && self.canary_next();
        if !asked || self.run == Run::Abort || !(self.undecided || self.canary_soaks()) {
            return;
        }
        let holds = matches!(&self.run, Run::Hold(hold) if hold.reason == HoldReason::Comparison);
        match verdict {
            Verdict::Fail => {
                self.go_back("the comparison of the canary with the old version failed".to_owned());
            }
            Verdict::Pass if self.undecided => self.canary_accepted(),
            Verdict::Pass | Verdict::Undecided => {
                self.verdict = Some(verdict);
                let waits = self.moves.iter().find(|(_, mv)| mv.step() == Step::Compare).map(|(id, _)| *id);
                if let Some(id) = waits.filter(|_| verdict == Verdict::Pass && !self.surveying) {
                    self.advance(id);
                }
                return;
            }
        }
        if holds {
            self.resume();
        }
    }

    pub(super) fn guard_sample(&mut self, figure: Figure, value: f64) {
        if self.plan.strategy.accepts_downtime() && !self.replicas.iter().any(|it| it.state.serves()) {
            return self.guards.fill_with(Default::default);
        }
        let plan = std::sync::Arc::clone(&self.plan);
        let mut breached = None;
        for (guard, watch) in plan.guards.iter().zip(&mut self.guards) {
            if guard.figure == figure && watch.sample(guard, self.now, value) {
                breached = breached.or(Some(guard));
            }
        }
        // Going back is the mending of a breach; it is not stopped by one.
        let Some(guard) = breached.filter(|_| self.goal == VersionRef::To) else { return };
        // A canary is there to be rolled back; it is one replica.
        let canary = self.canary_soaks();
        match guard.action {
            GuardAction::Hold if !canary => {
                self.hold(HoldReason::Guard { figure, value, limit: guard.limit }, None);
            }
            GuardAction::Hold | GuardAction::RollBack if self.run != Run::Abort => {
                let when = if canary { " while the canary soaked" } else { "" };
                self.go_back(format!("{figure:?} stayed above {} (last {value}){when}", guard.limit));
            }
            GuardAction::Hold | GuardAction::RollBack => {}
        }
    }
}
