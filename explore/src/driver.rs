//! What stands between the policy and the world. The honest one does nothing; the planted bugs of the tests are others.

use slackwater_policy::{Command, Event, Phase, Plan, Reply, Rollout, Time};

use crate::world::World;

/// Passes commands and events on, or not quite. It has no memory of its own: what it does follows from what it is shown, so that the state
/// of policy and world is the whole state.
pub trait Driver {
    /// What the policy is told the plan is.
    fn plan(&self, _plan: &mut Plan) {}

    /// What the policy is told has happened, and when; `None`: nothing.
    fn tells(&self, _world: &World, _rollout: &Rollout, now: Time, event: Event) -> Option<(Time, Event)> {
        Some((now, event))
    }

    /// What is answered without carrying the command out; `None`: it is carried out.
    fn makes_up(&self, _world: &World, _phase: &dyn Fn() -> Phase, _command: &Command) -> Option<Reply> {
        None
    }
}

/// Does its work.
#[derive(Clone, Copy, Debug)]
pub struct Honest;

impl Driver for Honest {}
