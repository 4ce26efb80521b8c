//! Every deadline of a rollout in one table, so that none can be forgotten when a move ends or a command is given up.

use std::collections::BTreeMap;

use crate::canonical::Form;
use crate::{CommandId, ReplicaId, Time};

/// What a deadline is for. Its order breaks ties between deadlines at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// A command's reply is lost.
    Reply(CommandId),
    /// Look at a replica again that could not be observed.
    SurveyAgain(ReplicaId),
    /// Try a move's present step again.
    Retry(ReplicaId),
    /// A move's present step has taken too long.
    StepLimit(ReplicaId),
    /// The drain's time is over.
    Drain(ReplicaId),
    /// The soak is over.
    Soak(ReplicaId),
    /// The gate stayed shut too long.
    GateWait(ReplicaId),
    /// A kept replica's time is over. It belongs to no move.
    Keep(ReplicaId),
    /// A hold ends by itself.
    HoldUntil,
}

impl Timer {
    /// Those that run while the replicas are surveyed; the others stand still until it is known where things are.
    fn runs_in_survey(self) -> bool {
        matches!(self, Timer::Reply(_) | Timer::SurveyAgain(_))
    }
}

/// At most one deadline a [`Timer`]. Small: a few entries a replica, so a scan for the earliest is cheapest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers(BTreeMap<Timer, Time>);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.0.insert(timer, at);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    pub(crate) fn clear_all(&mut self) {
        self.0.clear();
    }

    pub(crate) fn at(&self, timer: Timer) -> Option<Time> {
        self.0.get(&timer).copied()
    }

    /// Forgets what belongs to a replica's move (not its commands' replies: those go with the commands).
    pub(crate) fn clear_move(&mut self, replica: ReplicaId) {
        for timer in [Timer::Retry, Timer::StepLimit, Timer::Drain, Timer::Soak, Timer::GateWait] {
            self.clear(timer(replica));
        }
    }

    pub(crate) fn write(&self, form: &mut Form) {
        form.put(self.0.len());
        for (timer, at) in &self.0 {
            match timer {
                Timer::Reply(id) => {
                    form.put(std::mem::discriminant(timer));
                    form.id(*id);
                }
                other => form.put(other),
            }
            form.instant(*at);
        }
    }

    /// The earliest deadline. Deadlines at the end of time never come.
    pub(crate) fn next(&self, surveying: bool) -> Option<(Time, Timer)> {
        let live =
            self.0.iter().filter(|(timer, at)| **at < Time::MAX && (!surveying || timer.runs_in_survey()));
        live.map(|(timer, at)| (*at, *timer)).min()
    }
}
