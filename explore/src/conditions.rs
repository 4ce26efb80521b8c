//! Conditions 1 to 6 of `ARCHITECTURE.md`, and "hold means N", said once more over the world as it really is.
//!
//! The policy asserts the same over what it was told. Here the truth is asked, so that a policy that believes what it should not is caught
//! too. What nobody was told is not held against it.

use slackwater_policy::{
    Action, Command, EvaluateOn, FinalReport, Outcome, ReplicaId, StrategySpec, Time, VersionRef, Window,
    next_window, window_holds,
};

use crate::world::{Process, Truth, World};

/// Asserts one condition with its number and words.
macro_rules! must {
    ($good:expr, $($words:tt)+) => {
        if !$good {
            return Err(format!($($words)+));
        }
    };
}

impl World {
    /// Conditions 1 to 5, at the instant a command is handed out.
    ///
    /// # Errors
    /// The condition that is broken, and how.
    pub fn may_be_asked(&mut self, command: &Command) -> Result<(), String> {
        let Some(replica) = command.replica else { return Ok(()) };
        let truth = self.replicas[replica.index()];
        must!(
            self.plan.moves(replica) || !command.action.changes_the_world(),
            "condition 5: `{}` for {replica}, which the plan leaves alone",
            command.action.name()
        );
        match &command.action {
            Action::TakeOut { toward } => {
                self.may_be_taken_out(replica, truth)?;
                if *toward == VersionRef::To && self.to_be_empty(replica, *toward) {
                    self.may_leave(replica, truth)?;
                } else if *toward == VersionRef::To && !truth.moving {
                    self.may_begin(replica, truth)?;
                    self.replicas[replica.index()].moving = true;
                }
            }
            // In an empty place a move begins with the question for memory.
            Action::ProbeGpu { version: VersionRef::To } if !truth.moving => {
                self.may_begin(replica, truth)?;
                self.replicas[replica.index()].moving = true;
            }
            Action::CutInFlight => {
                must!(
                    !truth.in_flight || self.may_cut(truth),
                    "condition 3: requests on {replica} are cut before the drain's time is over, or without the plan's word"
                );
            }
            Action::Stop { .. } => self.may_be_idle(replica, truth, "stopped")?,
            Action::Swap { .. } => self.may_be_idle(replica, truth, "swapped")?,
            Action::Start { .. } => {
                must!(
                    !truth.memory_held || truth.untold || truth.process != Process::Gone,
                    "condition 3: {replica} is started while its GPU's memory is held"
                );
            }
            Action::ProbeFingerprint { expect } => self.replicas[replica.index()].expect = Some(*expect),
            // To raise the weight of one that serves is no admission.
            Action::Admit { .. } if !truth.untold && !truth.serves() => {
                self.may_join(replica, truth)?;
                must!(truth.healthy, "condition 4: {replica} is admitted, and it is not healthy");
                let right = truth.expect.is_some_and(|version| self.runs(replica, version));
                must!(
                    right,
                    "condition 4: {replica} is admitted with {:?}, not {:?}",
                    truth.process,
                    truth.expect
                );
                must!(
                    truth.smoked,
                    "condition 4: {replica} is admitted before it has answered the smoke prompt"
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Condition 3.
    fn may_be_idle(&self, replica: ReplicaId, truth: Truth, what: &str) -> Result<(), String> {
        must!(
            !truth.in_flight || truth.untold || self.may_cut(truth),
            "condition 3: {replica} is {what} with requests in flight"
        );
        let drain = &self.plan.rollout.drain;
        let believed = truth.alone_since.is_some_and(|at| self.now.since(at) >= drain.believe_after);
        let seen = truth.zeroes >= drain.zeroes || believed;
        must!(
            seen || truth.untold || truth.process == Process::Gone || !truth.traffic || self.may_cut(truth),
            "condition 3: {replica} is {what} when zero was seen {} times of {}",
            truth.zeroes,
            drain.zeroes
        );
        Ok(())
    }

    /// Condition 4, where there is more to it than health, identity and the smoke prompt: the first of all that take over together is
    /// admitted when all could be, and what the user's evaluation is for, when that has passed.
    fn may_join(&mut self, replica: ReplicaId, truth: Truth) -> Result<(), String> {
        let new = VersionRef::To;
        if !truth.unproven || !self.runs(replica, new) {
            return Ok(());
        }
        let together = matches!(self.plan.strategy, StrategySpec::BlueGreen { .. });
        if together && !self.switched {
            for other in self.places().filter(|other| !self.to_be_empty(*other, new)) {
                let truth = &self.replicas[other.index()];
                let ready = truth.serves() || (truth.healthy && self.runs(other, new) && truth.smoked);
                must!(
                    ready || truth.untold,
                    "condition 4: {replica} is admitted, and {other} is not ready to be with it"
                );
            }
            self.switched = true;
        }
        must!(!truth.rejected, "condition 4: {replica} is admitted, and its evaluation has not passed");
        if let Some(quality) = self.plan.rollout.quality.as_ref().filter(|spec| spec.out_of_rotation) {
            let first = quality.replicas == EvaluateOn::First && self.evaluated;
            must!(
                truth.evaluated || first,
                "condition 4: {replica} is admitted before its evaluation has passed"
            );
        }
        Ok(())
    }

    /// Conditions 1 and 5 for one that leaves because others take over.
    fn may_leave(&self, replica: ReplicaId, truth: Truth) -> Result<(), String> {
        if self.plan.replicas[replica.index()].is_spare() || !truth.believed_to_serve() {
            return Ok(());
        }
        must!(truth.way_back, "condition 5: {replica} leaves, and that can't be undone");
        let name = &self.plan.replicas[replica.index()].name;
        let pairs = matches!(self.plan.strategy, StrategySpec::SideBySide { .. });
        for other in self.places() {
            let spec = &self.plan.replicas[other.index()];
            let takes_over = spec.is_spare() && (!pairs || spec.beside.as_ref() == Some(name));
            let serves = self.replicas[other.index()].believed_to_serve_version(VersionRef::To);
            must!(
                serves || !takes_over,
                "condition 1: {replica} is taken out before {other} serves the new version in its place"
            );
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..u16::MAX).map(ReplicaId).take(self.replicas.len())
    }

    /// N.
    fn count(&self) -> usize {
        self.plan.replicas.iter().filter(|spec| !spec.is_spare()).count()
    }

    /// How many fewer than N may serve.
    fn fewer(&self) -> usize {
        match &self.plan.strategy {
            // The larger half; the explored plans name none and move all.
            StrategySpec::Halves { .. } => self.count().div_ceil(2),
            strategy => strategy.max_unavailable(),
        }
    }

    /// Whether nothing should run in this place once the fleet serves `version`.
    fn to_be_empty(&self, replica: ReplicaId, version: VersionRef) -> bool {
        let spare = self.plan.replicas[replica.index()].is_spare();
        match self.plan.strategy {
            StrategySpec::BlueGreen { .. } | StrategySpec::SideBySide { .. } => {
                spare == (version == VersionRef::From)
            }
            _ => spare,
        }
    }

    /// Conditions 1 and 2. A replica that was asked to leave counts as gone, whether it has left or not.
    fn may_be_taken_out(&self, replica: ReplicaId, truth: Truth) -> Result<(), String> {
        if !truth.believed_to_serve() {
            return Ok(());
        }
        let leaving = |id: usize| {
            self.pending.iter().any(|pending| {
                pending.replica.is_some_and(|replica| replica.index() == id)
                    && matches!(pending.action, Action::TakeOut { .. } | Action::Stop { .. })
            })
        };
        let others = self.replicas.iter().enumerate();
        let others =
            others.filter(|(id, other)| *id != replica.index() && other.believed_to_serve() && !leaving(*id));
        let others = others.count();
        let needed = self.count().saturating_sub(self.fewer());
        must!(
            others > 0 || self.plan.strategy.accepts_downtime(),
            "condition 2: {replica} is taken out, and it is the last one that serves"
        );
        must!(
            others >= needed,
            "condition 1: {replica} is taken out while {others} others serve, and {needed} must"
        );
        Ok(())
    }

    /// Condition 5, and the canary's.
    fn may_begin(&self, replica: ReplicaId, truth: Truth) -> Result<(), String> {
        let plan = &self.plan;
        let spare = plan.replicas[replica.index()].is_spare();
        must!(truth.way_back || spare, "condition 5: a move of {replica} begins that can't be undone");
        let held = window_holds(&plan.windows, self.now, plan.rollout.move_expected);
        must!(
            held || self.now < self.window_waived_until,
            "condition 5: a move of {replica} begins outside the window"
        );
        let watched = self
            .replicas
            .iter()
            .any(|truth| truth.believed_to_serve() && truth.watched && truth.new_since.is_some());
        must!(
            plan.strategy.canary_soak().is_none() || self.canary_done || !watched,
            "condition 5: a move of {replica} begins before the canary has soaked"
        );
        must!(
            plan.strategy.compare_within().is_none() || self.compared || !watched,
            "condition 5: a move of {replica} begins before the canary is compared"
        );
        Ok(())
    }

    fn may_cut(&self, truth: Truth) -> bool {
        let limit = self.cut_after();
        limit.is_some_and(|limit| truth.out_since.is_some_and(|since| self.now.since(since) >= limit))
    }

    /// Whether a replica really runs this version; in a drill, whether it was restarted where it had to be.
    pub fn runs(&self, replica: ReplicaId, version: VersionRef) -> bool {
        let truth = &self.replicas[replica.index()];
        if self.plan.is_drill() {
            let any = version == VersionRef::From || !self.plan.moves(replica);
            return matches!(truth.process, Process::Runs(_)) && (any || truth.fresh);
        }
        truth.process == Process::Runs(version)
    }

    /// Condition 6 and "hold means N", when a hold has settled or the rollout has ended (`outcome`).
    ///
    /// # Errors
    /// The condition that is broken, and how.
    pub fn may_rest(&self, report: &FinalReport, outcome: Option<Outcome>) -> Result<(), String> {
        let spares = self.count() < self.replicas.len();
        if spares {
            // Who serves does not matter then, but how many.
            let serving = self.replicas.iter().filter(|truth| truth.serves()).count();
            let excused = self.replicas.iter().filter(|truth| truth.hurt && !truth.serves()).count();
            must!(
                serving + excused >= self.count(),
                "hold means N: {serving} serve, {} must, and {excused} of the others were hit by a fault",
                self.count()
            );
        }
        for (index, truth) in (0..).zip(&self.replicas) {
            let replica = ReplicaId(index);
            let named = report.exceptions.iter().any(|one| one.replica == replica && !one.mend.is_empty());
            let to_be_empty = self.to_be_empty(replica, report.version);
            let serves = truth.serves() && self.runs(replica, report.version);
            let empty = truth.process == Process::Gone && !truth.rotation;
            let right = if to_be_empty { empty } else { serves };
            must!(
                right || named || truth.untold,
                "condition 6: {replica} {} {}, and the report does not name it",
                if to_be_empty { "is not empty for" } else { "does not serve" },
                report.version
            );
            let outcome_kept = match outcome {
                Some(Outcome::Completed | Outcome::RolledBack) => right || truth.untold,
                Some(Outcome::Aborted) | None => true,
            };
            must!(
                outcome_kept || !self.plan.moves(replica),
                "condition 6: it ended as {outcome:?}, and {replica} is not as {} wants it",
                report.version
            );
            must!(
                !(truth.rejected && truth.serves() && outcome == Some(Outcome::Completed)),
                "condition 6: it has completed, and the evaluation of {replica} has not passed"
            );
            must!(
                truth.serves() || truth.hurt || spares,
                "hold means N: {replica} is out, and no fault has hit it (process {:?}, in rotation: {})",
                truth.process,
                truth.rotation
            );
        }
        Ok(())
    }

    /// A canary that has served for long enough has done so for good.
    pub fn watch_canary(&mut self) {
        let Some(soak) = self.plan.strategy.canary_soak() else { return };
        let done = |truth: &Truth| truth.new_since.is_some_and(|since| self.now.since(since) >= soak);
        self.canary_done |= self.replicas.iter().any(|truth| truth.believed_to_serve() && done(truth));
    }

    /// A block of evidence was told.
    pub fn watch_evidence(&mut self) {
        let Some(spec) = self.plan.strategy.measured_comparison() else { return };
        let canary = |truth: &Truth| truth.believed_to_serve_version(VersionRef::To);
        self.blocks = (self.blocks + u32::from(self.replicas.iter().any(canary))).min(spec.blocks_min);
        self.compared |= self.blocks >= spec.blocks_min;
    }

    /// A person does not wait for the window.
    pub fn waive_window(&mut self) {
        let windows: &[Window] = &self.plan.windows;
        let next = next_window(windows, self.now, self.plan.rollout.move_expected);
        self.window_waived_until = next.unwrap_or(Time::MAX);
    }
}
