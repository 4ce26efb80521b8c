//! Which places a plan has, and which of them serve before it and after it. Pure questions about the plan: the rollout and the safety view
//! both ask them.

use crate::strategy::Layout;
use crate::{Plan, ReplicaId, ReplicaSpec, StrategySpec, VersionRef};

impl ReplicaSpec {
    /// Whether nothing runs there at first.
    pub fn is_spare(&self) -> bool {
        self.spare || self.beside.is_some()
    }
}

impl Plan {
    fn ids(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..u16::MAX).map(ReplicaId).take(self.replicas.len())
    }

    /// N: how many serve when no rollout is under way.
    pub fn count(&self) -> usize {
        self.replicas.iter().filter(|replica| !replica.is_spare()).count()
    }

    /// Whether nothing runs in this place at first.
    pub fn is_spare(&self, replica: ReplicaId) -> bool {
        self.replicas.get(replica.index()).is_some_and(ReplicaSpec::is_spare)
    }

    /// The other one of a pair.
    pub fn partner(&self, replica: ReplicaId) -> Option<ReplicaId> {
        let spec = self.replicas.get(replica.index())?;
        let other = |other: &ReplicaSpec| {
            spec.beside.as_ref() == Some(&other.name) || other.beside.as_ref() == Some(&spec.name)
        };
        self.ids().find(|id| other(&self.replicas[id.index()]))
    }

    /// Whether this replica may be touched: a twin goes as the one it is beside, another spare always.
    pub fn moves(&self, replica: ReplicaId) -> bool {
        let Some(spec) = self.replicas.get(replica.index()) else { return false };
        let name = spec.beside.as_ref().unwrap_or(&spec.name);
        self.only.is_empty() || (spec.is_spare() && spec.beside.is_none()) || self.only.contains(name)
    }

    /// How many fewer than N may serve by our doing.
    pub fn unavailable_max(&self) -> usize {
        if self.strategy.layout() != Layout::Halves {
            return self.strategy.max_unavailable();
        }
        let moved = self.ids().filter(|id| self.moves(*id)).count();
        let first = self.ids().filter(|id| self.in_first_half(*id)).count();
        first.max(moved.saturating_sub(first))
    }

    /// Whether this one goes with the first half.
    pub(crate) fn in_first_half(&self, replica: ReplicaId) -> bool {
        let StrategySpec::Halves { first } = &self.strategy else { return false };
        if !self.moves(replica) {
            return false;
        }
        if !first.is_empty() {
            return first.contains(&self.replicas[replica.index()].name);
        }
        let moved = || self.ids().filter(|id| self.moves(*id));
        let half = moved().count().div_ceil(2);
        moved().take(half).any(|id| id == replica)
    }

    /// Whether this place is to be empty when the fleet serves `version`, as far as the plan touches it.
    pub(crate) fn ends_empty(&self, replica: ReplicaId, version: VersionRef) -> bool {
        let spare = self.is_spare(replica);
        match self.strategy.layout() {
            Layout::Switch | Layout::Pairs if self.moves(replica) => spare == (version == VersionRef::From),
            _ => spare,
        }
    }

    /// Those that must serve `version` before this one is emptied for it: its twin, or all that take over.
    pub(crate) fn successors(&self, replica: ReplicaId, version: VersionRef) -> Vec<ReplicaId> {
        match self.strategy.layout() {
            Layout::Pairs => self.partner(replica).into_iter().collect(),
            Layout::Switch => self.ids().filter(|id| !self.ends_empty(*id, version)).collect(),
            Layout::InPlace | Layout::Halves | Layout::Surge => Vec::new(),
        }
    }
}
