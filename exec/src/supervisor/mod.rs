//! Supervisors: what starts and stops replicas, one file an adapter.

mod hooks;
mod process;
mod record;

use std::time::Duration;

use async_trait::async_trait;
use slackwater_policy::VersionRef;

pub use hooks::Hooks;
pub use process::Processes;

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

    /// Checks that it can be worked with. Gives lines for the plan's print-out.
    async fn prepare(&self, places: &[Place]) -> Result<Vec<String>, Trouble>;

    /// The last lines that the replica's process wrote, for messages.
    fn last_words(&self, place: &Place) -> Option<String>;

    /// Shell lines that start the old version at a place, without Slackwater.
    fn recovery(&self, place: &Place) -> Vec<String>;
}

/// The adapter a deployment asks for.
pub fn adapter(deployment: &Deployment) -> Box<dyn Supervisor> {
    match &deployment.supervisor {
        SupervisorSpec::Process => Box::new(Processes::new(deployment.clone())),
        SupervisorSpec::Command(hooks) => Box::new(Hooks::new((**hooks).clone())),
    }
}
