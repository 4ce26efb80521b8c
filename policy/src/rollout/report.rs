//! Telling: the status for the live view, and the report that names every replica left on the wrong version.

use super::{Replica, Rollout, Run};
use crate::strategy::Layout;
use crate::timers::Timer;
use crate::{
    Exception, FinalReport, Outcome, Phase, ReplicaId, ReplicaState, ReplicaStatus, Status, Time, VersionRef,
};

impl Rollout {
    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match &self.run {
            Run::Waiting => Phase::Waiting,
            Run::Ended(outcome) => Phase::Ended { outcome: *outcome },
            _ if self.surveying => Phase::Surveying,
            Run::Go => Phase::Moving { to: self.goal },
            Run::Hold(hold) => Phase::Holding {
                reason: hold.reason.clone(),
                since: hold.since,
                until: hold.until,
                settled: hold.settled,
            },
            Run::Abort => Phase::Aborting,
        }
    }

    /// How it has ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.run {
            Run::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether nothing more will happen without the world or a person: ended, or holding with no replica in hand and no end set.
    pub fn rests(&self) -> bool {
        match &self.run {
            Run::Ended(_) => true,
            Run::Hold(hold) => hold.settled && hold.until.is_none() && !self.surveying,
            _ => false,
        }
    }

    /// Where everything stands, for a live view.
    pub fn status(&self) -> Status {
        let replicas = self.ids().map(|id| self.replica_status(id)).collect();
        Status {
            phase: self.phase(),
            goal: self.goal,
            replicas,
            serving: self.serving(),
            load: self.load,
            stale_replies: self.stale_replies,
            clock_went_back: self.clock_went_back,
        }
    }

    fn replica_status(&self, id: ReplicaId) -> ReplicaStatus {
        let mv = self.moves.get(&id);
        let replica = self.replica(id);
        let timers = [Timer::StepLimit, Timer::Drain, Timer::Soak, Timer::GateWait];
        let until: Option<Time> = timers.iter().filter_map(|timer| self.timers.at(timer(id))).min();
        ReplicaStatus {
            name: self.plan.replicas[id.index()].name.clone(),
            state: replica.state,
            desired: mv.map_or(self.goal, |mv| mv.target),
            running: replica.running,
            step: mv.map(super::Move::step),
            until,
            trouble: replica.trouble.clone(),
        }
    }

    /// Safety condition 6: which replicas serve the version they should, and what is wrong with each of the others.
    ///
    /// Measured against the new version while the rollout goes forward and when it has completed, against the old one once it goes back or
    /// was aborted.
    pub fn report(&self) -> FinalReport {
        let version = match self.run {
            Run::Abort | Run::Ended(Outcome::Aborted) => VersionRef::From,
            _ => self.goal,
        };
        let (to_be_empty, to_serve): (Vec<_>, Vec<_>) =
            self.ids().partition(|id| self.plan.ends_empty(*id, version));
        let serves = |id: &ReplicaId| self.replica(*id).state.serves() && self.runs(*id, version);
        let is_empty = |id: &ReplicaId| self.replica(*id).state == ReplicaState::Empty;
        let (serving, mut wrong): (Vec<_>, Vec<_>) = to_serve.into_iter().partition(serves);
        let (empty, not_empty): (Vec<_>, Vec<_>) = to_be_empty.into_iter().partition(is_empty);
        wrong.extend(not_empty);
        wrong.sort_unstable();
        let exceptions = wrong.into_iter().map(|id| self.exception(id, version)).collect();
        FinalReport { phase: self.phase(), version, serving, empty, exceptions }
    }

    fn exception(&self, id: ReplicaId, version: VersionRef) -> Exception {
        let name = self.plan.replicas[id.index()].name.clone();
        let replica = self.replica(id);
        let again = if version == VersionRef::From && !self.plan.is_drill() { "rollback" } else { "run" };
        let again = format!("slackwater {again} PLAN{}", self.only_this(id));
        let mend = match &self.run {
            Run::Ended(_) => again,
            _ if !self.plan.moves(id) => format!("after this rollout: {again}"),
            Run::Hold(_) if replica.state == ReplicaState::Parked => {
                format!("mend {name}, then: slackwater resume (or: slackwater rollback)")
            }
            Run::Hold(_) => "slackwater resume (or: slackwater rollback)".to_owned(),
            _ => "none yet: the rollout is at work on it".to_owned(),
        };
        Exception {
            replica: id,
            state: replica.state,
            running: replica.running,
            reason: self.whats_wrong(id, version),
            name,
            mend,
        }
    }

    /// The flag that has a plan do only this replica again; spares follow those they are for.
    fn only_this(&self, id: ReplicaId) -> String {
        let spec = &self.plan.replicas[id.index()];
        match &spec.beside {
            Some(beside) => format!(" --only {beside}"),
            // All of them switch together.
            None if self.plan.strategy.layout() == Layout::Switch || spec.is_spare() => String::new(),
            None => format!(" --only {}", spec.name),
        }
    }

    fn whats_wrong(&self, id: ReplicaId, version: VersionRef) -> String {
        let replica = self.replica(id);
        let mut wrong = self.whats_wrong_by_state(replica);
        if self.plan.ends_empty(id, version) {
            wrong.push_str(", where nothing should run");
        }
        if self.plan.moves(id) { wrong } else { format!("{wrong} (the plan's `only` leaves it alone)") }
    }

    fn whats_wrong_by_state(&self, replica: &Replica) -> String {
        let version = |running: Option<VersionRef>| match running {
            Some(VersionRef::From) => format!("the old version ({})", self.plan.from.name),
            Some(VersionRef::To) => format!("the new version ({})", self.plan.to.name),
            None => "an unknown version".to_owned(),
        };
        let trouble = replica.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        match replica.state {
            state if state.serves() => format!("serves {}{trouble}", version(replica.running)),
            // A lost reply to the last admission leaves open what the balancer does.
            ReplicaState::Parked if replica.traffic && !replica.dead => {
                format!("parked, perhaps still in rotation, running {}{trouble}", version(replica.running))
            }
            ReplicaState::Parked => format!("parked, out of rotation{trouble}"),
            ReplicaState::Standby => {
                format!("stands by out of rotation, running {}{trouble}", version(replica.running))
            }
            ReplicaState::Empty => format!("does not serve: nothing runs there{trouble}"),
            _ => format!("does not serve{trouble}"),
        }
    }
}
