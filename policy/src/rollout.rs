//! The rollout's outer shape.

use crate::{Command, Event, EventError, Note, Phase, Plan, Time};

/// A rollout: events in, commands and deadlines out.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    plan: Plan,
}

impl Rollout {
    /// A rollout of this plan; nothing happens before `Event::Start`.
    ///
    /// # Errors
    /// When the plan is refused.
    pub fn new(plan: Plan) -> Result<Rollout, crate::PlanError> {
        Ok(Rollout { plan })
    }
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Takes one fact.
    ///
    /// # Errors
    /// When the event is refused; it has then changed nothing.
    pub fn handle(&mut self, _now: Time, _event: Event) -> Result<(), EventError> {
        Err(EventError::NotStarted)
    }
    /// The next command, until `None`.
    pub fn poll(&mut self) -> Option<Command> {
        None
    }
    /// The next note, until `None`.
    pub fn poll_note(&mut self) -> Option<Note> {
        None
    }
    /// When to tell it `Event::Tick`.
    pub fn deadline(&self) -> Option<Time> {
        None
    }
    /// Where it stands.
    pub fn phase(&self) -> Phase {
        Phase::Waiting
    }
}
