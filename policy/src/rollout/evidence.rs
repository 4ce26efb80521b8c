//! The comparison that the policy makes itself while its canary serves.

use super::Rollout;
use crate::{Block, Comparison, Note, ReplicaId, Verdict, VersionRef};

impl Rollout {
    /// The canary begins to soak: what was seen of another one is of no use.
    pub(super) fn begin_comparison(&mut self) {
        if let Some(spec) = self.plan.strategy.measured_comparison() {
            self.comparison = Some(Comparison::new(spec));
            self.compare_from = self.now + spec.warm_up;
        }
    }

    pub(super) fn evidence(&mut self, block: &Block) {
        let serves = |id: ReplicaId| self.replica(id).state.serves() && self.runs(id, VersionRef::To);
        let counts = self.now >= self.compare_from
            && (self.undecided || self.canary_soaks())
            && self.ids().any(serves);
        let Some(comparison) = self.comparison.as_mut().filter(|_| counts) else { return };
        comparison.see(block);
        let seen = *comparison;
        let verdict = match seen.worse() {
            Some(_) => Verdict::Fail,
            None if seen.enough() => Verdict::Pass,
            None => return,
        };
        if verdict == Verdict::Fail || self.verdict != Some(verdict) {
            self.note(Note::Compared {
                verdict,
                worse: seen.worse(),
                blocks: seen.blocks(),
                evidence: seen.evidence(),
            });
        }
        self.compared(verdict);
    }
}
