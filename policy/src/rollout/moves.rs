//! The interpreter of step lists: which command a step asks, what its reply means, what comes next.

use super::{Move, Purpose, Rollout};
use crate::drain::{DrainWatch, Verdict};
use crate::gate::{headroom, next_window, window_holds};
use crate::strategy::MoveParameters;
use crate::timers::Timer;
use crate::{
    Action, Approve, AtDeadline, HoldReason, MoveResult, Note, ReplicaId, ReplicaState, Reply, Step, Then,
    VersionRef,
};

impl Rollout {
    pub(super) fn begin(&mut self, id: ReplicaId, target: VersionRef, purpose: Purpose) {
        let strategy = &self.plan.strategy;
        let canary = purpose == Purpose::Goal && self.canary_next();
        let soak = strategy.canary_soak().filter(|_| canary).unwrap_or(self.plan.rollout.soak);
        if canary {
            self.verdict = None;
        }
        let parameters = MoveParameters {
            compare: canary && strategy.compare_within().is_some(),
            gate: purpose == Purpose::Goal,
            warm_up: self.plan.rollout.warm_up_requests > 0,
            soak: purpose == Purpose::Goal && target == VersionRef::To && !soak.is_zero(),
        };
        let steps = match purpose {
            Purpose::PutBack => strategy.put_back(target),
            Purpose::Goal | Purpose::Restore => strategy.full_move(target, parameters),
        };
        let mv = Move {
            target,
            purpose,
            canary,
            soak,
            steps,
            at: 0,
            step_began: self.now,
            tries: 0,
            bring_ups: 1,
            was_serving: self.replica(id).state.serves(),
            stopped: false,
            drain: DrainWatch::default(),
            last: String::new(),
        };
        self.moves.insert(id, mv);
        self.note(Note::MoveBegan { replica: id, target });
        self.enter(id, 0);
    }

    fn in_hand(&mut self, id: ReplicaId) -> &mut Move {
        self.moves.get_mut(&id).expect("the step of a move belongs to a move")
    }

    pub(super) fn enter(&mut self, id: ReplicaId, at: usize) {
        self.drop_commands(id);
        self.timers.clear_move(id);
        let now = self.now;
        let mv = self.in_hand(id);
        (mv.at, mv.tries, mv.step_began) = (at, 0, now);
        let step = mv.step();
        if let Some(within) = self.plan.rollout.steps.of_step(step).and_then(|limits| limits.within) {
            self.timers.set(Timer::StepLimit(id), now + within);
        }
        match step {
            Step::Gate => {
                let wait_max = self.plan.gate.wait_max;
                self.timers.set(Timer::GateWait(id), now + wait_max);
            }
            Step::TakeOut => self.set_state(id, ReplicaState::DrainRequested),
            Step::AwaitZero => {
                let over = self.in_hand(id).drain.over;
                let replica = self.replica(id);
                if replica.dead || !replica.traffic || over {
                    return self.drained(id);
                }
                let spec = self.plan.rollout.drain;
                let drain = &mut self.in_hand(id).drain;
                let confirmed_at = *drain.confirmed_at.get_or_insert(now);
                let limit = match spec.at_deadline {
                    AtDeadline::Extend { hard_limit, .. } if drain.extended => hard_limit,
                    _ => spec.timeout,
                };
                self.timers.set(Timer::Drain(id), confirmed_at + limit);
            }
            Step::Stop => {
                self.in_hand(id).stopped = true;
                self.set_state(id, ReplicaState::Stopping);
            }
            Step::Start(_) => self.set_state(id, ReplicaState::Starting),
            Step::Soak => {
                let soak = self.in_hand(id).soak;
                self.timers.set(Timer::Soak(id), now + soak);
            }
            Step::Compare if self.verdict == Some(crate::Verdict::Pass) => return self.advance(id),
            Step::Compare => {
                let within = self.plan.strategy.compare_within().unwrap_or_default();
                self.timers.set(Timer::StepLimit(id), now + within);
            }
            Step::AllReady
            | Step::AllStopped
            | Step::GpuFree(_)
            | Step::Health
            | Step::Identity(_)
            | Step::Smoke
            | Step::WarmUp
            | Step::Admit => {}
        }
        self.act(id);
    }

    /// Asks the world what the present step needs; also the way a step is tried again.
    pub(super) fn act(&mut self, id: ReplicaId) {
        let mv = self.in_hand(id);
        let (step, target, cutting) = (mv.step(), mv.target, mv.drain.cutting);
        let rollout = &self.plan.rollout;
        let action = match step {
            Step::Gate => return self.gate_look(id),
            Step::TakeOut => Action::TakeOut { toward: target },
            Step::AwaitZero if cutting => Action::CutInFlight,
            Step::AwaitZero => Action::ProbeInFlight,
            Step::Stop => Action::Stop { grace: rollout.stop_grace },
            Step::GpuFree(version) => Action::ProbeGpu { version },
            Step::Start(version) => Action::Start { version },
            Step::Health => Action::ProbeHealth,
            Step::Identity(expect) => Action::ProbeFingerprint { expect },
            Step::Smoke => Action::SmokePrompt,
            Step::WarmUp => Action::WarmUp { requests: rollout.warm_up_requests },
            Step::Admit => Action::Admit { weight: rollout.admit_weight },
            Step::AllReady | Step::AllStopped | Step::Soak | Step::Compare => return,
        };
        if matches!(action, Action::Admit { .. }) {
            // From here on it may have requests, whether a reply comes or not.
            self.replica_mut(id).traffic = true;
            self.in_hand(id).drain = DrainWatch::default();
        }
        self.issue(id, false, action);
    }

    pub(super) fn advance(&mut self, id: ReplicaId) {
        let mv = self.in_hand(id);
        let at = mv.at + 1;
        if at < mv.steps.len() { self.enter(id, at) } else { self.done(id) }
    }

    pub(super) fn move_reply(&mut self, id: ReplicaId, reply: Reply) {
        if !self.moves.contains_key(&id) {
            return;
        }
        match reply {
            Reply::Failed { reason, retryable } => self.try_failed(id, reason, retryable),
            Reply::Observed(seen) => self.gate_seen(id, seen),
            Reply::Load { rate } => {
                self.load = Some(rate);
                self.gate_weighs(id, Some(rate));
            }
            Reply::Out => {
                let now = self.now;
                self.in_hand(id).drain.confirmed_at.get_or_insert(now);
                self.set_state(id, ReplicaState::DrainConfirmed);
                self.advance(id);
            }
            Reply::InFlight { balancer, engine } => self.in_flight(id, balancer, engine),
            Reply::Cut { requests } => {
                self.count_cut(id, requests);
                self.advance(id);
            }
            Reply::Stopped { cut } => {
                self.count_cut(id, cut);
                let replica = self.replica_mut(id);
                (replica.dead, replica.running, replica.traffic) = (true, None, false);
                replica.restarted = true;
                self.set_state(id, ReplicaState::Stopped);
                self.advance(id);
            }
            Reply::GpuFree => self.reached(id, ReplicaState::GpuFree),
            Reply::Started => {
                self.replica_mut(id).dead = false;
                self.advance(id);
            }
            Reply::Healthy => self.reached(id, ReplicaState::Healthy),
            Reply::Fingerprint { seen } => self.fingerprint(id, seen),
            Reply::SmokeAnswered | Reply::WarmedUp => self.warmed(id),
            Reply::Admitted => self.reached(id, ReplicaState::Readmitted),
        }
    }

    pub(super) fn reached(&mut self, id: ReplicaId, state: ReplicaState) {
        self.set_state(id, state);
        self.advance(id);
    }

    /// Warm is reached after the last of smoke prompt and warm-up; a move without a warm-up step is as warm as it gets.
    fn warmed(&mut self, id: ReplicaId) {
        let mv = self.in_hand(id);
        let more = mv.steps.get(mv.at + 1) == Some(&Step::WarmUp);
        if more { self.advance(id) } else { self.reached(id, ReplicaState::WarmedUp) }
    }

    fn fingerprint(&mut self, id: ReplicaId, seen: Option<VersionRef>) {
        self.replica_mut(id).running = self.known(id, seen);
        let target = self.in_hand(id).target;
        if self.runs(id, target) {
            return self.reached(id, ReplicaState::IdentityVerified);
        }
        let seen = seen.map_or("neither of the plan's versions".to_owned(), |version| version.to_string());
        self.gave_up(id, format!("{seen} answers where {target} should"), true);
    }

    fn done(&mut self, id: ReplicaId) {
        let mv = self.remove_move(id, MoveResult::Done);
        let state = match mv.target {
            VersionRef::To if mv.purpose == Purpose::Goal => ReplicaState::Soaked,
            _ => ReplicaState::Serving,
        };
        self.replica_mut(id).trouble = None;
        if mv.purpose == Purpose::Goal {
            self.replica_mut(id).moves_done += 1;
            self.upgrades_done += u32::from(mv.target == VersionRef::To);
            self.canary_passed |= mv.canary;
        }
        self.set_state(id, state);
    }

    /// Ends a move, whatever it has come to.
    pub(super) fn remove_move(&mut self, id: ReplicaId, result: MoveResult) -> Move {
        self.drop_commands(id);
        self.timers.clear_move(id);
        self.note(Note::MoveEnded { replica: id, result });
        self.moves.remove(&id).expect("a move that ends was in hand")
    }

    // The gate.

    pub(super) fn gate_look(&mut self, id: ReplicaId) {
        if self.window_shut(id) {
            let expected = self.plan.rollout.move_expected;
            let until = next_window(&self.plan.windows, self.now, expected);
            return self.hold(HoldReason::Window, until);
        }
        self.issue(id, false, Action::Observe);
    }

    /// Going back is not bound to windows: a fleet on two versions is worse than a late move.
    pub(super) fn window_shut(&mut self, id: ReplicaId) -> bool {
        let upgrade = self.in_hand(id).target == VersionRef::To;
        let plan = &self.plan;
        upgrade
            && self.now >= self.window_waived_until
            && !window_holds(&plan.windows, self.now, plan.rollout.move_expected)
    }

    fn gate_seen(&mut self, id: ReplicaId, seen: crate::Observed) {
        let serves = self.found(id, seen);
        let mv = self.in_hand(id);
        mv.was_serving = serves;
        let target = mv.target;
        if serves && self.runs(id, target) {
            let mv = self.in_hand(id);
            // It was admitted behind our back, or its canary's soak was broken off: a canary is watched from here on.
            return match mv.index_of(Step::Soak).filter(|_| mv.canary) {
                Some(soak) => self.enter(id, soak),
                None => self.done(id),
            };
        }
        if target == VersionRef::To && !seen.undo_ready {
            return self.hold(HoldReason::NoWayBack { replica: id }, None);
        }
        let gated = target == VersionRef::To || self.plan.rollout.rollback_gated;
        let gated = gated && !self.plan.strategy.accepts_downtime();
        if serves && gated && !self.plan.gate.capacity.is_empty() {
            return self.issue(id, false, Action::MeasureLoad);
        }
        self.gate_weighs(id, None);
    }

    fn gate_weighs(&mut self, id: ReplicaId, load: Option<f64>) {
        let was_serving = self.in_hand(id).was_serving;
        let (others, needed) = (self.serving_besides(id), self.others_needed());
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
        let seen = self.in_hand(id).last.clone();
        let seen = if seen.is_empty() { "no answer".to_owned() } else { seen };
        self.hold(HoldReason::Gate { replica: id, seen }, None);
    }

    // The drain.

    fn in_flight(&mut self, id: ReplicaId, balancer: Option<u32>, engine: Option<u32>) {
        let (now, spec) = (self.now, self.plan.rollout.drain);
        match self.in_hand(id).drain.sample(&spec, now, balancer, engine) {
            Verdict::Wait => self.timers.set(Timer::Retry(id), now + spec.probe_every),
            Verdict::Zero => self.drained(id),
            Verdict::Believed(source, other) => {
                self.note(Note::Believed { replica: id, source, other });
                self.drained(id);
            }
        }
    }

    pub(super) fn drained(&mut self, id: ReplicaId) {
        self.set_state(id, ReplicaState::Drained);
        self.advance(id);
    }

    pub(super) fn drain_deadline(&mut self, id: ReplicaId) {
        let spec = self.plan.rollout.drain;
        let drain = &mut self.in_hand(id).drain;
        let cut = match spec.at_deadline {
            AtDeadline::Extend { hard_limit, .. } if !drain.extended => {
                drain.extended = true;
                let until = drain.confirmed_at.unwrap_or_default() + hard_limit;
                self.timers.set(Timer::Drain(id), until);
                return self.note(Note::DrainExtended { replica: id, until });
            }
            AtDeadline::Cut | AtDeadline::Extend { then: Then::Cut, .. } => true,
            AtDeadline::Abort | AtDeadline::Extend { then: Then::Abort, .. } => false,
        };
        self.set_state(id, ReplicaState::DrainTimedOut);
        if cut {
            let mv = self.in_hand(id);
            mv.drain.cutting = true;
            mv.tries = 0;
            self.timers.clear(Timer::Retry(id));
            self.act(id);
        } else {
            let reason = "requests were still in flight when the drain's time was over".to_owned();
            self.hold(HoldReason::DrainTimedOut { replica: id }, None);
            self.put_back_or_park(id, reason);
        }
    }

    fn count_cut(&mut self, id: ReplicaId, requests: u32) {
        if requests > 0 {
            self.note(Note::Cut { replica: id, requests });
        }
    }

    // Trying again.

    fn try_failed(&mut self, id: ReplicaId, reason: String, retryable: bool) {
        let now = self.now;
        let drain_probe = self.plan.rollout.steps.in_flight;
        let recheck = self.plan.gate.recheck;
        let mv = self.in_hand(id);
        mv.tries = mv.tries.saturating_add(1);
        mv.last.clone_from(&reason);
        let (step, tries, began, cutting) = (mv.step(), mv.tries, mv.step_began, mv.drain.cutting);
        let (every, over) = match step {
            // The gate's and the drain's own times bound these.
            Step::Gate => (recheck, false),
            Step::AwaitZero if !cutting => {
                mv.drain.interrupted();
                (drain_probe.every, false)
            }
            Step::AwaitZero => {
                let limits = self.plan.rollout.steps.cut;
                // `began` is the drain's beginning; only the attempts count here.
                (limits.every, !retryable || limits.attempts.is_some_and(|attempts| tries >= attempts))
            }
            _ => match self.plan.rollout.steps.of_step(step) {
                Some(limits) => (limits.every, !retryable || limits.exhausted(tries, began, now)),
                None => unreachable!("nothing is asked while it soaks or waits for others"),
            },
        };
        if !over {
            self.note(Note::Retry { replica: id, step, reason });
            self.timers.set(Timer::Retry(id), now + every);
        } else if step == Step::AwaitZero {
            // The balancer can't cut; the stop that follows does.
            self.advance(id);
        } else {
            self.gave_up(id, reason, !retryable);
        }
    }

    pub(super) fn step_limit(&mut self, id: ReplicaId) {
        let mv = self.in_hand(id);
        let last = if mv.last.is_empty() { "no answer" } else { &mv.last };
        let reason = format!("not done in time: {last}");
        self.drop_commands(id);
        self.gave_up(id, reason, false);
    }

    pub(super) fn approval_back(&mut self) {
        // A move that never began has not used its approval; one that is for a chunk is used while any of it goes on.
        let used = self.plan.strategy.together() && !self.moves.is_empty();
        if self.approvals_wanted() == Approve::Each && !used {
            self.approved = true;
        }
    }
}
