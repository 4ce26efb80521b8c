//! Supervisors: what starts and stops replicas, one file an adapter.

mod compose;
mod definition;
mod docker;
mod hooks;
mod members;
mod process;
mod record;
mod secrets;
mod systemd;

use std::time::Duration;

use async_trait::async_trait;
use slackwater_policy::VersionRef;

pub use compose::Compose;
pub(crate) use definition::{is_name, variable_line};
pub use docker::Docker;
pub use hooks::Hooks;
pub use process::Processes;
pub use systemd::Systemd;

use crate::deployment::{Deployment, Place, SupervisorSpec};
use crate::trouble::Trouble;

/// A replica's process as its supervisor finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process, where the supervisor knows.
    pub pid: Option<u32>,
    /// The version it was started as, where the supervisor started it.
    pub version: Option<VersionRef>,
    /// Its arguments, where they can be read.
    pub arguments: Vec<String>,
}

/// A supervisor. Every act ensures something and may be asked twice.
#[async_trait]
pub trait Supervisor: Send + Sync {
    /// The replica's process; `None`: there is none.
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble>;

    /// Ensures that a process of this version runs; does not wait for it to be ready.
    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble>;

    /// Ensures that it is gone, with all its children: asks, and kills after `grace`.
    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble>;

    /// Processes of this replica that are still there after its stop.
    async fn leftovers(&self, place: &Place) -> Vec<u32>;

    /// Checks that it can be worked with, and changes nothing. Gives lines for the plan's print-out; those that begin with `warning: ` are
    /// for a person to think about. `grace` is the plan's.
    async fn prepare(&self, places: &[Place], grace: Duration) -> Result<Vec<String>, Trouble>;

    /// Keeps the old definitions, before the first change of a rollout.
    async fn save(&self, places: &[Place]) -> Result<(), Trouble> {
        let _ = places;
        Ok(())
    }

    /// The rollout has completed: the old definitions are needed no longer. What it did, in words.
    async fn release(&self, places: &[Place]) -> Result<Vec<String>, Trouble> {
        let _ = places;
        Ok(Vec::new())
    }

    /// The last line that the replica's process wrote, for messages.
    async fn last_words(&self, place: &Place) -> Option<String>;

    /// How the old version is brought back at a place without Slackwater.
    fn recovery(&self, place: &Place) -> Recovery;

    /// Shell functions that the lines of [`recovery`](Supervisor::recovery) call.
    fn recovery_head(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Shell for `recover.sh`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// A command that succeeds where what runs, or would be started next, is not the old version.
    pub is_new: String,
    /// Lines that end what runs and start the old version.
    pub lines: Vec<String>,
}

/// The adapter a deployment asks for.
pub fn adapter(deployment: &Deployment) -> Box<dyn Supervisor> {
    match &deployment.supervisor {
        SupervisorSpec::Process => Box::new(Processes::new(deployment.clone())),
        SupervisorSpec::Docker(spec) => Box::new(Docker::new((**spec).clone(), deployment.clone())),
        SupervisorSpec::Compose(spec) => Box::new(Compose::new((**spec).clone(), deployment.clone())),
        SupervisorSpec::Systemd(spec) => Box::new(Systemd::new((**spec).clone(), deployment.clone())),
        SupervisorSpec::Command(hooks) => Box::new(Hooks::new((**hooks).clone())),
    }
}
