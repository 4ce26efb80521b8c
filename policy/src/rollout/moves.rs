//! The interpreter of step lists: which command a step asks, what its reply means, what comes next.

use super::due::Work;
use super::{Move, Purpose, Rollout};
use crate::drain::{DrainWatch, Verdict};
use crate::strategy::MoveParameters;
use crate::timers::Timer;
use crate::{
    Action, Approve, AtDeadline, EvaluateOn, HoldReason, MoveResult, Note, QualitySpec, ReplicaId,
    ReplicaState, Reply, Step, Then, VersionRef,
};

impl Rollout {
    pub(super) fn begin(&mut self, id: ReplicaId, target: VersionRef, purpose: Purpose, work: Work) {
        let strategy = &self.plan.strategy;
        let goal = purpose == Purpose::Goal;
        let canary = goal && self.canary_next();
        let soak = strategy.canary_soak().filter(|_| canary).unwrap_or(self.plan.rollout.soak);
        if canary {
            self.verdict = None;
        }
        let serves = self.replica(id).state.serves();
        // A mend of one that serves asks first whether the others can spare it.
        let gate = goal || (purpose == Purpose::Restore && serves);
        // One that stands by has left already, and is not kept for longer.
        let standby = self.replica(id).state == ReplicaState::Standby;
        let idle = standby && !self.replica(id).traffic;
        let steps = match (purpose, work) {
            (Purpose::PutBack, _) => strategy.put_back(target),
            (_, Work::Retire) => strategy.retire(gate && !standby, goal && serves && strategy.keeps()),
            (_, Work::Bring | Work::Revive) => {
                let revives = work == Work::Revive;
                let mut parameters = self.parameters(goal, target, canary);
                parameters.gate = gate && !revives;
                parameters.runs_already = revives;
                parameters.waits = goal && (serves || strategy.waits_when_down());
                strategy.bring(target, parameters)
            }
        };
        let mv = Move {
            target,
            purpose,
            canary,
            soak,
            leaves: work == Work::Retire,
            light: purpose != Purpose::PutBack && !steps.contains(&Step::Stop) && work != Work::Retire,
            ramped: 0,
            steps,
            at: 0,
            step_began: self.now,
            tries: 0,
            bring_ups: u32::from(work != Work::Revive),
            was_serving: serves,
            routed: self.replica(id).traffic,
            look_again: false,
            stopped: false,
            drain: DrainWatch::default(),
            last: String::new(),
        };
        self.moves.insert(id, mv);
        self.note(Note::MoveBegan { replica: id, target, leaves: work == Work::Retire });
        let stop = self.in_hand(id).index_of(Step::Stop);
        self.enter(id, stop.filter(|_| idle && work == Work::Retire).unwrap_or(0));
    }

    /// The optional steps of a move toward this version. Those that judge the new one are not made on the way back.
    fn parameters(&self, goal: bool, target: VersionRef, canary: bool) -> MoveParameters {
        let rollout = &self.plan.rollout;
        let forward = goal && target == VersionRef::To;
        let soak = self.plan.strategy.canary_soak().filter(|_| canary).unwrap_or(rollout.soak);
        let others_are_asked = self.moves.values().any(|mv| mv.evaluates());
        let asks = |spec: &&QualitySpec| {
            forward && (spec.replicas == EvaluateOn::Each || !(self.quality_passed || others_are_asked))
        };
        let quality = rollout.quality.as_ref().filter(asks);
        MoveParameters {
            gate: goal,
            waits: goal,
            runs_already: false,
            swap: goal,
            warm_up: rollout.warm_up_requests > 0,
            evaluate_out: quality.is_some_and(|spec| spec.out_of_rotation),
            ramp: forward && rollout.ramp.is_some(),
            soak: forward && !soak.is_zero(),
            evaluate_live: quality.is_some_and(|spec| spec.live),
            compare: canary && self.plan.strategy.compare_within().is_some(),
        }
    }

    /// Changes a move without a stop and a start into one with both.
    pub(super) fn by_start(&mut self, id: ReplicaId) {
        let mv = &self.moves[&id];
        let evaluates = mv.evaluates();
        let mut parameters = self.parameters(mv.purpose == Purpose::Goal, mv.target, mv.canary);
        (parameters.gate, parameters.swap, parameters.waits) =
            (false, false, mv.index_of(Step::AllChecked).is_some());
        if let Some(spec) = self.plan.rollout.quality.as_ref().filter(|_| evaluates) {
            (parameters.evaluate_out, parameters.evaluate_live) = (spec.out_of_rotation, spec.live);
        }
        let steps = self.plan.strategy.bring(mv.target, parameters);
        let mv = self.in_hand(id);
        (mv.steps, mv.at, mv.light) = (steps, 0, false);
    }

    pub(super) fn in_hand(&mut self, id: ReplicaId) -> &mut Move {
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
            Step::Swap(_) if self.replica(id).dead => {
                // Nothing is left to be swapped.
                self.by_start(id);
                return self.enter(id, 0);
            }
            Step::Swap(_) => {
                self.in_hand(id).stopped = true;
                self.set_state(id, ReplicaState::Swapping);
            }
            Step::Start(_) => self.set_state(id, ReplicaState::Starting),
            Step::Ramp => return self.ramp_on(id),
            // One that waits for nobody can't rely on another's evaluation that has not been made.
            Step::Admit if self.nobody_was_evaluated() && self.judged(id) => return self.evaluate_first(id),
            Step::Soak => {
                let soak = self.in_hand(id).soak;
                self.timers.set(Timer::Soak(id), now + soak);
                if self.in_hand(id).canary {
                    self.begin_comparison();
                }
            }
            Step::Compare if self.verdict == Some(crate::Verdict::Pass) => return self.advance(id),
            Step::Compare => {
                let within = self.plan.strategy.compare_within().unwrap_or_default();
                self.timers.set(Timer::StepLimit(id), now + within);
            }
            Step::AllReady
            | Step::AllStopped
            | Step::AllChecked
            | Step::Evaluate { .. }
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
        let (step, target, cutting, ramped) = (mv.step(), mv.target, mv.drain.cutting, mv.ramped);
        let ramps = mv.index_of(Step::Ramp).is_some();
        let rollout = &self.plan.rollout;
        let ramp = rollout.ramp.filter(|_| ramps);
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
            Step::Swap(version) => Action::Swap { version },
            Step::Evaluate { live } => Action::Evaluate { live },
            Step::Admit => Action::Admit { weight: ramp.map(|ramp| ramp.weight(0)).or(rollout.admit_weight) },
            Step::Ramp => Action::Admit { weight: ramp.map(|ramp| ramp.weight(ramped + 1)) },
            Step::AllReady | Step::AllStopped | Step::AllChecked | Step::Soak | Step::Compare => return,
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
            Reply::Swapped => {
                let replica = self.replica_mut(id);
                (replica.running, replica.traffic) = (None, false);
                self.advance(id);
            }
            Reply::Evaluated { passed, said } => self.evaluated(id, passed, said),
            Reply::Admitted if self.in_hand(id).step() == Step::Ramp => {
                let mv = self.in_hand(id);
                mv.ramped = mv.ramped.saturating_add(1);
                self.ramp_on(id);
            }
            Reply::Admitted => self.reached(id, ReplicaState::Readmitted),
        }
    }

    /// Waits for the next step up, or goes on when all of the weight is given.
    fn ramp_on(&mut self, id: ReplicaId) {
        let mv = &self.moves[&id];
        let Some(ramp) = self.plan.rollout.ramp.filter(|ramp| mv.ramped < ramp.steps) else {
            return self.advance(id);
        };
        // From its last step, so that none is made up for in haste after a restart.
        let next = self.now + ramp.after(1);
        self.timers.clear(Timer::StepLimit(id));
        self.in_hand(id).tries = 0;
        self.timers.set(Timer::Retry(id), next);
    }

    /// All of its weight now: there is no time for more, or no way.
    pub(super) fn ramp_at_once(&mut self, id: ReplicaId) {
        let steps = self.plan.rollout.ramp.map_or(1, |ramp| ramp.steps);
        let mv = self.in_hand(id);
        (mv.ramped, mv.tries) = (steps.saturating_sub(1), 0);
        self.timers.clear_move(id);
        self.act(id);
    }

    /// Whether its move is one that the user's evaluation may stop.
    fn judged(&self, id: ReplicaId) -> bool {
        let mv = &self.moves[&id];
        mv.purpose == Purpose::Goal && mv.target == VersionRef::To
    }

    /// This one, ready and waiting for the others, is evaluated for all.
    pub(super) fn evaluate_first(&mut self, id: ReplicaId) {
        let mv = self.in_hand(id);
        let at = mv.at;
        mv.steps.insert(at, Step::Evaluate { live: false });
        self.enter(id, at);
    }

    fn evaluated(&mut self, id: ReplicaId, passed: bool, said: String) {
        let live = self.in_hand(id).step() == Step::Evaluate { live: true };
        self.note(Note::Evaluated { replica: id, live, passed, said: said.clone() });
        self.evaluated |= passed && !live;
        if passed {
            return self.advance(id);
        }
        self.gave_up(id, format!("the evaluation has not passed: {said}"), true);
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

    pub(super) fn done(&mut self, id: ReplicaId) {
        let mv = self.remove_move(id, MoveResult::Done);
        if mv.leaves {
            return self.left(id, &mv);
        }
        self.quality_passed |= mv.evaluates();
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

    /// A place that was to be emptied is, or is out of rotation with nothing in flight and kept.
    fn left(&mut self, id: ReplicaId, mv: &Move) {
        self.replica_mut(id).trouble = None;
        let kept = mv.index_of(Step::Stop).is_none() && !self.replica(id).dead;
        if !kept {
            // One that died on its way out is looked at once more.
            let stopped = mv.stopped || self.replica(id).state == ReplicaState::Empty;
            return self.set_state(id, if stopped { ReplicaState::Empty } else { ReplicaState::Down });
        }
        self.set_state(id, ReplicaState::Standby);
        self.replica_mut(id).traffic = false;
        // Kept for a way back to the old version; from the old version there is none to be kept for.
        if mv.target == VersionRef::To {
            let until = self.now + self.plan.strategy.keep_old();
            self.replica_mut(id).kept_until = Some(until);
            self.timers.set(Timer::Keep(id), until);
        }
    }

    /// Ends a move, whatever it has come to.
    pub(super) fn remove_move(&mut self, id: ReplicaId, result: MoveResult) -> Move {
        self.drop_commands(id);
        self.timers.clear_move(id);
        self.note(Note::MoveEnded { replica: id, result });
        self.moves.remove(&id).expect("a move that ends was in hand")
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
        let first_weight = step == Step::Admit && self.in_hand(id).index_of(Step::Ramp).is_some();
        if !over {
            self.note(Note::Retry { replica: id, step, reason });
            self.timers.set(Timer::Retry(id), now + every);
        } else if step == Step::AwaitZero {
            // The balancer can't cut; the stop that follows does.
            self.advance(id);
        } else if !retryable && (first_weight || (step == Step::Ramp && !self.last_weight(id))) {
            self.note(Note::RampSkipped { replica: id, reason });
            if first_weight {
                let mv = self.in_hand(id);
                mv.steps.retain(|step| *step != Step::Ramp);
                let at = mv.at;
                self.enter(id, at);
            } else {
                self.ramp_at_once(id);
            }
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

    /// Whether all of its weight was asked for.
    pub(super) fn last_weight(&self, id: ReplicaId) -> bool {
        self.plan.rollout.ramp.is_none_or(|ramp| self.moves[&id].ramped + 1 >= ramp.steps)
    }

    pub(super) fn approval_back(&mut self) {
        // A move that never began has not used its approval; one that is for a chunk is used while any of it goes on.
        let used = self.plan.strategy.nobody_first() && !self.moves.is_empty();
        if self.approvals_wanted() == Approve::Each && !used {
            self.approved = true;
        }
    }
}
