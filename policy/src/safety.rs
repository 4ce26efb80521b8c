//! The safety conditions, checked on *issuing* each command.
//!
//! The view they are checked against is a fold over the commands handed out and the events that came in, kept apart from the interpreter of
//! moves: the same mistake would have to be made twice to go unseen. A violation is a bug in this crate, so it is an assertion; a rollout that
//! stops is safer than one that goes on.
//!
//! Rolling's form of the conditions is the list in ARCHITECTURE.md. What other plans change, and nothing else:
//! - **Restart drill** (`target = "same"`). 4: the version is the one both names mean, and toward `To` it must be answered by a process
//!   started after a stop of the old one was confirmed. 5: unchanged, as what must be there to go back is what must be there to go on. 6:
//!   going back, any replica that serves the version is right, restarted or not.
//! - **Canary**. 1, 2: rolling's. 5: and no move toward the new version begins while the
//!   first replica that serves it was admitted less than `canary_soak` ago, nor, where the plan says `compare`, before a comparison has said
//!   pass (one that the policy makes itself: before it has seen as many blocks of evidence as the plan asks) or a person resume.
//! - **Recreate** (`accept_downtime = true`, without which the plan is refused). 1: no command takes a replica out while fewer than
//!   `N - at_once` others serve; with all at once that is none. 2: holds unless `at_once` covers the whole fleet. 5: the window is asked again
//!   when the chunk leaves together.
//! - **Spare places** (`spare`, `beside`). N counts the replicas that are not spare; whoever serves counts as serving. A move that begins
//!   with a start in an empty place begins with the question for memory: 5 asks for the window there, and for no way back, as what comes up
//!   in an empty place is undone by stopping it. 6: a place that is to be empty is right when its process is known to be gone and nothing
//!   is routed to it.
//! - **Surge**. 1: `N - max_unavailable`, which may be N. 5: a spare leaves at any time, window or not.
//! - **Side by side** and **blue-green** onto spares. 1: N. None leaves for the new version before its twin (all that take over) serves it;
//!   5 asks for a way back then, and for no window, as that belonged to the move that brought them. 3, side by side: no start before the
//!   memory for both is there, which is what the probe of a twin's GPU asks. 4, blue-green: the first is admitted when all that take over
//!   are healthy, identified and have answered.
//! - **Halves**. 1: `N - half`, the larger half. The rest is rolling's.
//! - **Swap**. 3: no swap before zero was seen, or the drain's deadline passed and the plan says cut, as with a stop. 4: all of it is
//!   asked again after a swap, and the version must be the one swapped to.
//! - **Evaluation out of rotation**. 4: and the new version's evaluation has passed, on this replica, or on one where the plan asks for the
//!   first only.
//! - **A subset** (`only`). 1 and 2 count the whole fleet. 5: nothing changes a replica the plan leaves alone. 6: those are named too when
//!   they serve something else; the end does not wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::canonical::Form;
use crate::gate::{next_window, window_holds};
use crate::strategy::Layout;
use crate::{
    Action, AtDeadline, Block, Command, CommandId, EvaluateOn, Event, FinalReport, Observed, Operator, Plan,
    ReplicaId, Reply, Span, Then, Time, Verdict, VersionRef,
};

/// What has been seen of every replica, and what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Safety {
    plan: Arc<Plan>,
    replicas: Vec<View>,
    open: BTreeMap<CommandId, (ReplicaId, Action)>,
    window_waived_until: Time,
    canary_passed: bool,
    compared: bool,
    /// Blocks of evidence seen while a canary served.
    blocks_seen: u32,
    /// Where all are admitted together: the first was.
    switched: bool,
    /// An evaluation out of rotation has passed on some replica.
    evaluated: bool,
}

/// One replica as seen. Nothing is assumed in its favour.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    serving: bool,
    /// Since its last start it may have been given requests.
    traffic: bool,
    dead: bool,
    out_at: Option<Time>,
    /// Looks in a row that found zero by both sources, since it is out.
    zeroes: u32,
    /// Since when one source, with nothing better against it, says zero.
    one_zero_since: Option<Time>,
    one_zero_for: Span,
    gpu_free_for: Option<VersionRef>,
    started: Option<VersionRef>,
    expected: Option<VersionRef>,
    version: Option<VersionRef>,
    healthy: bool,
    identified: bool,
    smoke: bool,
    /// The evaluation out of rotation has passed on the process that runs.
    evaluated: bool,
    /// Started or swapped by our order, and not seen to serve since.
    fresh: bool,
    undo_ready: bool,
    /// A stop of its process was confirmed: one that answers now was started since.
    restarted: bool,
    /// When it was admitted with the new version, where that is a canary's.
    canary_since: Option<Time>,
    /// Since when looks, not an admission, have shown it serve the new version: the reply to a canary's admission may be lost.
    seen_since: Option<Time>,
    /// A move toward this version has begun. A look at the replica outside a recovery ends it.
    moving: Option<VersionRef>,
    recovering: bool,
    /// It was looked at in a recovery, and nothing was asked of it since: news of it brings another such look.
    recovered: bool,
}

impl Safety {
    pub(crate) fn new(plan: Arc<Plan>) -> Safety {
        let unseen = View { traffic: true, ..View::default() };
        let replicas = vec![unseen; plan.replicas.len()];
        Safety {
            plan,
            replicas,
            open: BTreeMap::new(),
            window_waived_until: Time::ZERO,
            canary_passed: false,
            compared: false,
            blocks_seen: 0,
            switched: false,
            evaluated: false,
        }
    }

    /// Folds an event in.
    pub(crate) fn saw(&mut self, now: Time, event: &Event) {
        if let Some(soak) = self.plan.strategy.canary_soak() {
            let mut since = self.replicas.iter().filter_map(|view| view.canary_since.or(view.seen_since));
            self.canary_passed |= since.any(|since| now >= since + soak);
        }
        match event {
            Event::Outcome { id, outcome } => {
                if let Some((replica, action)) =
                    self.open.remove(id).filter(|(_, action)| outcome.answers(action))
                {
                    self.saw_reply(now, replica, &action, outcome);
                }
            }
            Event::ReplicaDown { replica, .. } => {
                let view = &mut self.replicas[replica.index()];
                view.forget_checks();
                (view.serving, view.dead, view.evaluated) = (false, true, false);
                view.recovering |= view.recovered;
                (view.canary_since, view.seen_since) = (None, None);
            }
            Event::Recovered => {
                self.open.clear();
                for view in &mut self.replicas {
                    view.forget_checks();
                    view.recovering = true;
                }
            }
            Event::Comparison { verdict } => {
                self.compared |=
                    *verdict == Verdict::Pass && self.plan.strategy.measured_comparison().is_none();
            }
            Event::Evidence { block } => self.saw_evidence(block),
            Event::Operator(Operator::Resume) => {
                self.compared = true;
                let expected = self.plan.rollout.move_expected;
                self.window_waived_until =
                    next_window(&self.plan.windows, now, expected).unwrap_or(Time::MAX);
            }
            Event::ReplicaUp { replica } => {
                let view = &mut self.replicas[replica.index()];
                view.recovering |= view.recovered;
                if view.out_at.is_none() {
                    (view.dead, view.traffic) = (false, true);
                }
            }
            Event::Start | Event::Tick | Event::Load { .. } | Event::Figure { .. } | Event::Operator(_) => {}
        }
    }

    /// A reply that comes too late, or to what was called off, is older than what has been done since.
    pub(crate) fn no_longer_waits(&mut self, id: CommandId) {
        self.open.remove(&id);
    }

    /// Evidence counts while a canary serves. What it says is the policy's to weigh; that there is enough of it is a condition.
    fn saw_evidence(&mut self, block: &Block) {
        let Some(spec) = self.plan.strategy.measured_comparison() else { return };
        if block.errors.is_some()
            && self.replicas.iter().any(|view| view.canary_since.or(view.seen_since).is_some())
        {
            self.blocks_seen = self.blocks_seen.saturating_add(1);
        }
        self.compared |= self.blocks_seen >= spec.blocks_min;
    }

    fn saw_reply(&mut self, now: Time, replica: ReplicaId, action: &Action, reply: &Reply) {
        let drill = self.plan.is_drill();
        let view = &mut self.replicas[replica.index()];
        match reply {
            Reply::Observed(seen) => {
                view.observed(Observed { version: view.which(drill, seen.version), ..*seen });
                if view.serving && view.version == Some(VersionRef::To) {
                    view.seen_since = view.seen_since.or(Some(now));
                } else {
                    (view.canary_since, view.seen_since) = (None, None);
                }
            }
            Reply::Out => view.out_at = view.out_at.or(Some(now)),
            Reply::InFlight { balancer, engine } => view.in_flight(now, *balancer, *engine),
            Reply::Stopped { .. } => {
                view.forget_checks();
                (view.dead, view.traffic, view.version) = (true, false, None);
                view.restarted = true;
            }
            Reply::GpuFree => {
                if let Action::ProbeGpu { version } = action {
                    view.gpu_free_for = Some(*version);
                }
            }
            Reply::Started => view.dead = false,
            Reply::Healthy => view.healthy = true,
            Reply::Fingerprint { seen } => {
                let seen = view.which(drill, *seen);
                view.version = seen;
                let right = seen == view.expected && view.started.is_none_or(|v| Some(v) == seen);
                let back_up = drill && view.expected == Some(VersionRef::From);
                view.identified = seen.is_some() && (right || back_up);
            }
            Reply::SmokeAnswered => view.smoke = true,
            Reply::Swapped => view.version = None,
            Reply::Evaluated { passed, .. } if *action == (Action::Evaluate { live: false }) => {
                view.evaluated = *passed;
                self.evaluated |= *passed;
            }
            // Its move goes on while it soaks; the look at the next gate ends it.
            Reply::Admitted => {
                (view.serving, view.fresh) = (true, false);
                let upgraded = view.moving == Some(VersionRef::To) && view.version == Some(VersionRef::To);
                view.canary_since = upgraded.then_some(now);
            }
            Reply::Cut { .. }
            | Reply::WarmedUp
            | Reply::Evaluated { .. }
            | Reply::Load { .. }
            | Reply::Failed { .. } => {}
        }
    }

    /// Checks a command that is about to be issued, then folds it in.
    ///
    /// # Panics
    /// When it breaks a condition.
    pub(crate) fn issue(&mut self, now: Time, command: &Command) {
        let Some(replica) = command.replica else { return };
        assert!(
            self.plan.moves(replica) || !command.action.changes_the_world(),
            "safety condition 5: `{}` for {replica}, which the plan leaves alone; seen: {:?}",
            command.action.name(),
            self.replicas[replica.index()]
        );
        match &command.action {
            Action::TakeOut { toward } => self.check_take_out(now, replica, *toward),
            Action::CutInFlight => self.check_cut(now, replica),
            Action::Stop { .. } => self.check_idle(now, replica, "stopped"),
            Action::Swap { .. } => self.check_idle(now, replica, "swapped"),
            Action::ProbeGpu { version: VersionRef::To } => self.check_begin(now, replica),
            Action::Start { version } => self.check_start(replica, *version),
            Action::Admit { .. } => self.check_admit(replica),
            _ => {}
        }
        self.open.retain(|_, (owner, _)| *owner != replica);
        self.open.insert(command.id, (replica, command.action.clone()));
        self.replicas[replica.index()].asked(&command.action);
    }

    fn check_take_out(&self, now: Time, replica: ReplicaId, toward: VersionRef) {
        let view = &self.replicas[replica.index()];
        if view.serving {
            let others = self.others(replica);
            let last_may = self.plan.strategy.accepts_downtime();
            assert!(
                others > 0 || last_may,
                "safety condition 2: {replica} is the last one that serves; seen: {view:?}"
            );
            let needed = self.plan.count().saturating_sub(self.plan.unavailable_max());
            assert!(
                others >= needed,
                "safety condition 1: {replica} would be taken out while {others} others serve, {needed} must; seen: {view:?}"
            );
        }
        if toward == VersionRef::To && self.plan.ends_empty(replica, toward) {
            self.check_leaves(replica);
        } else if toward == VersionRef::To && view.moving.is_none() {
            assert!(
                view.undo_ready || self.plan.is_spare(replica),
                "safety condition 5: a move of {replica} begins that could not be undone; seen: {view:?}"
            );
            let plan = &self.plan;
            let soak = plan.strategy.canary_soak().filter(|_| !self.canary_passed).unwrap_or(Span::ZERO);
            let soaks =
                |view: &View| view.serving && view.canary_since.is_some_and(|since| now < since + soak);
            assert!(
                !self.replicas.iter().any(soaks),
                "safety condition 5: a move of {replica} begins while the canary soaks; seen: {view:?}"
            );
            let waits = plan.strategy.compare_within().is_some() && !self.compared;
            assert!(
                !(waits && self.replicas.iter().any(|view| view.serving && view.canary_since.is_some())),
                "safety condition 5: a move of {replica} begins before the canary is compared; seen: {view:?}"
            );
            self.check_begin(now, replica);
        }
    }

    /// A move toward the new version that has not begun yet begins in a window.
    fn check_begin(&self, now: Time, replica: ReplicaId) {
        let (view, plan) = (&self.replicas[replica.index()], &self.plan);
        assert!(
            view.moving.is_some()
                || now < self.window_waived_until
                || window_holds(&plan.windows, now, plan.rollout.move_expected),
            "safety condition 5: a move of {replica} begins at {now}, in no window that holds it; seen: {view:?}"
        );
    }

    /// One that leaves for others that are to serve the new version.
    fn check_leaves(&self, replica: ReplicaId) {
        let view = &self.replicas[replica.index()];
        if !view.serving || self.plan.is_spare(replica) {
            return;
        }
        assert!(
            view.undo_ready,
            "safety condition 5: a move of {replica} begins that could not be undone; seen: {view:?}"
        );
        let serves = |view: &View| view.serving && view.version == Some(VersionRef::To);
        let missing = self
            .plan
            .successors(replica, VersionRef::To)
            .into_iter()
            .find(|id| !serves(&self.replicas[id.index()]));
        assert!(
            missing.is_none(),
            "safety condition 1: {replica} would be taken out before {missing:?} serves in its place; seen: {view:?}"
        );
    }

    fn check_cut(&self, now: Time, replica: ReplicaId) {
        let view = &self.replicas[replica.index()];
        assert!(
            self.may_cut(now, view),
            "safety condition 3: requests on {replica} would be cut before the drain's time is over or without the plan's word; seen: {view:?}"
        );
    }

    fn check_idle(&self, now: Time, replica: ReplicaId, what: &str) {
        let view = &self.replicas[replica.index()];
        let drain = &self.plan.rollout.drain;
        let believed = view.one_zero_since.is_some() && view.one_zero_for >= drain.believe_after;
        let idle = view.dead
            || !view.traffic
            || (view.out_at.is_some() && (view.zeroes >= drain.zeroes || believed));
        assert!(
            idle || self.may_cut(now, view),
            "safety condition 3: {replica} would be {what} with requests in flight before the drain's time is over; seen: {view:?}"
        );
    }

    fn may_cut(&self, now: Time, view: &View) -> bool {
        let drain = &self.plan.rollout.drain;
        let limit = match drain.at_deadline {
            AtDeadline::Cut => drain.timeout,
            AtDeadline::Extend { hard_limit, then: Then::Cut } => hard_limit,
            AtDeadline::Abort | AtDeadline::Extend { then: Then::Abort, .. } => return false,
        };
        view.out_at.is_some_and(|out_at| now >= out_at + limit)
    }

    fn check_start(&self, replica: ReplicaId, version: VersionRef) {
        let view = &self.replicas[replica.index()];
        assert!(
            view.gpu_free_for == Some(version),
            "safety condition 3: {version} would be started on {replica} before its GPU memory is free; seen: {view:?}"
        );
    }

    fn check_admit(&mut self, replica: ReplicaId) {
        let view = &self.replicas[replica.index()];
        // To raise the weight of one that serves what it should is no admission.
        if view.serving && view.version.is_some() && view.version == view.moving {
            return;
        }
        // Neither is to let one back in that served already.
        let forward =
            view.fresh && view.moving == Some(VersionRef::To) && view.version == Some(VersionRef::To);
        if forward && !self.switched && self.plan.strategy.layout() == Layout::Switch {
            let ready = |view: &View| view.serving || (view.healthy && view.identified && view.smoke);
            let mut coming = self.plan.successors(replica, VersionRef::To).into_iter();
            let missing = coming.find(|id| !ready(&self.replicas[id.index()]));
            assert!(
                missing.is_none(),
                "safety condition 4: {replica} would be admitted before {missing:?} is ready to be with it; seen: {view:?}"
            );
        }
        if let Some(quality) =
            self.plan.rollout.quality.as_ref().filter(|spec| spec.out_of_rotation && forward)
        {
            let first = quality.replicas == EvaluateOn::First && self.evaluated;
            assert!(
                view.evaluated || first,
                "safety condition 4: {replica} would be admitted before its evaluation has passed; seen: {view:?}"
            );
        }
        assert!(
            view.healthy && view.identified && view.smoke,
            "safety condition 4: {replica} would be admitted before it is healthy, identified and has answered the smoke prompt; seen: {view:?}"
        );
        self.switched |= forward;
    }

    /// Condition 6: every replica serves the report's version, or is named with what mends it.
    ///
    /// # Panics
    /// When a replica is neither.
    pub(crate) fn check_report(&self, report: &FinalReport) {
        for (index, view) in (0..u16::MAX).zip(&self.replicas) {
            let replica = ReplicaId(index);
            let named = report
                .exceptions
                .iter()
                .any(|exception| exception.replica == replica && !exception.mend.is_empty());
            let any_process =
                self.plan.is_drill() && (report.version == VersionRef::From || !self.plan.moves(replica));
            let right =
                if any_process { view.version.is_some() } else { view.version == Some(report.version) };
            let serves = view.serving && right && report.serving.contains(&replica);
            let empty = self.plan.ends_empty(replica, report.version)
                && !view.serving
                && view.dead
                && report.empty.contains(&replica);
            assert!(
                named || serves || empty,
                "safety condition 6: {replica} neither serves {} nor is named in the report; seen: {view:?}",
                report.version
            );
        }
    }

    pub(crate) fn open_ids(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.open.keys().copied()
    }

    pub(crate) fn write(&self, form: &mut Form) {
        let Safety {
            plan,
            replicas,
            open,
            window_waived_until,
            canary_passed,
            compared,
            blocks_seen,
            switched,
            evaluated,
        } = self;
        for view in replicas {
            view.write(plan, form);
        }
        form.put(open.len());
        for (id, (replica, action)) in open {
            form.id(*id);
            form.put((replica, action));
        }
        form.until(*window_waived_until);
        // More blocks than the plan asks for are as good as those.
        let blocks_min = plan.strategy.measured_comparison().map_or(0, |spec| spec.blocks_min);
        form.put((canary_passed, compared, blocks_seen.min(&blocks_min), switched, evaluated));
    }

    fn others(&self, besides: ReplicaId) -> usize {
        self.replicas
            .iter()
            .enumerate()
            .filter(|(index, view)| *index != besides.index() && view.serving)
            .count()
    }
}

impl View {
    fn write(&self, plan: &Plan, form: &mut Form) {
        let View {
            serving,
            traffic,
            dead,
            out_at,
            zeroes,
            one_zero_since,
            one_zero_for,
            gpu_free_for,
            started,
            expected,
            version,
            healthy,
            identified,
            smoke,
            evaluated,
            fresh,
            undo_ready,
            restarted,
            canary_since,
            seen_since,
            moving,
            recovering,
            recovered,
        } = self;
        // More zeroes than the plan asks for are as good as those.
        form.put(zeroes.min(&plan.rollout.drain.zeroes));
        form.put((serving, traffic, dead, gpu_free_for, started, expected, version));
        form.put((healthy, identified, smoke, evaluated, fresh, undo_ready, restarted, moving));
        form.put((recovering, recovered));
        form.span(Some(*one_zero_for));
        for since in [out_at, one_zero_since, canary_since, seen_since] {
            form.since(*since);
        }
    }

    /// In a drill the versions seen are one; what counts is whether its process is a new one.
    fn which(&self, drill: bool, seen: Option<VersionRef>) -> Option<VersionRef> {
        let process = if self.restarted { VersionRef::To } else { VersionRef::From };
        if drill { seen.map(|_| process) } else { seen }
    }

    fn forget_checks(&mut self) {
        (self.healthy, self.identified, self.smoke) = (false, false, false);
    }

    fn observed(&mut self, seen: Observed) {
        self.serving = seen.in_rotation && seen.process && seen.healthy;
        self.dead = !seen.process;
        self.fresh &= !self.serving;
        self.traffic = seen.process && (seen.in_rotation || self.traffic);
        self.version = seen.version.filter(|_| seen.process);
        self.undo_ready = seen.undo_ready;
        if seen.in_rotation {
            (self.out_at, self.zeroes, self.one_zero_since) = (None, 0, None);
        }
        self.started = None;
        if !self.recovering {
            self.moving = None;
        }
        self.recovered |= self.recovering;
        self.recovering = false;
    }

    fn in_flight(&mut self, now: Time, balancer: Option<u32>, engine: Option<u32>) {
        self.zeroes =
            if (balancer, engine) == (Some(0), Some(0)) { self.zeroes.saturating_add(1) } else { 0 };
        let one_zero = balancer == Some(0) || (balancer.is_none() && engine == Some(0));
        self.one_zero_since = one_zero.then(|| self.one_zero_since.unwrap_or(now));
        self.one_zero_for = self.one_zero_since.map_or(Span::ZERO, |since| now.since(since));
    }

    fn asked(&mut self, action: &Action) {
        self.recovered &= *action == Action::Observe;
        match action {
            Action::TakeOut { toward } => {
                (self.serving, self.moving) = (false, Some(*toward));
                (self.canary_since, self.seen_since) = (None, None);
            }
            Action::Stop { .. } => {
                self.forget_checks();
                (self.serving, self.gpu_free_for, self.started) = (false, None, None);
            }
            Action::Swap { version } => {
                self.forget_checks();
                (self.serving, self.evaluated, self.fresh) = (false, false, true);
                (self.started, self.traffic) = (Some(*version), false);
                (self.zeroes, self.one_zero_since) = (0, None);
            }
            Action::ProbeGpu { version } => self.moving = self.moving.or(Some(*version)),
            Action::Start { version } => {
                self.forget_checks();
                (self.evaluated, self.fresh) = (false, true);
                (self.started, self.traffic) = (Some(*version), false);
                (self.zeroes, self.one_zero_since) = (0, None);
            }
            Action::ProbeFingerprint { expect } => self.expected = Some(*expect),
            Action::Admit { .. } => {
                self.traffic = true;
                (self.out_at, self.zeroes, self.one_zero_since) = (None, 0, None);
            }
            Action::Observe
            | Action::ProbeInFlight
            | Action::CutInFlight
            | Action::ProbeHealth
            | Action::SmokePrompt
            | Action::WarmUp { .. }
            | Action::Evaluate { .. }
            | Action::MeasureLoad => {}
        }
    }
}

#[cfg(test)]
#[path = "safety_tests.rs"]
mod tests;
