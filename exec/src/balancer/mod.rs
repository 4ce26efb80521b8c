//! Load balancers: who routes to whom, one file an adapter.

mod gateway;
mod haproxy;
mod hooks;
mod nginx;
mod nginx_include;

use async_trait::async_trait;

pub use gateway::Gateway;
pub use haproxy::Haproxy;
pub use hooks::Hooks;
pub use nginx::Nginx;

use crate::deployment::{BalancerSpec, Deployment, Place};
use crate::figures::Live;
use crate::trouble::Trouble;

/// One replica as the balancer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// New requests are routed to it.
    pub in_rotation: bool,
    /// Requests in flight at it, where the balancer counts them.
    pub in_flight: Option<u32>,
}

/// A load balancer. Every act ensures something and may be asked twice.
#[async_trait]
pub trait Balancer: Send + Sync {
    /// What it is, in words.
    fn name(&self) -> String;

    /// How this replica stands.
    async fn member(&self, place: &Place) -> Result<Member, Trouble>;

    /// Ensures that no new request is routed to it, and does not return before that is so.
    async fn take_out(&self, place: &Place) -> Result<(), Trouble>;

    /// Ensures that it is in rotation with this many percent of its usual weight; `None` leaves the weight. `version` is the name of what it
    /// was last seen to serve, for balancers that tell versions apart.
    async fn admit(&self, place: &Place, weight: Option<u8>, version: Option<&str>) -> Result<(), Trouble>;

    /// Ends what is in flight at it; how many requests that were.
    async fn cut(&self, place: &Place) -> Result<u32, Trouble>;

    /// What clients of the whole service saw lately, where the balancer knows.
    async fn live(&self) -> Option<Live> {
        None
    }

    /// Checks that it can be worked with, and changes nothing. Gives lines for the plan's print-out: what will be done to it.
    async fn prepare(&self, places: &[Place]) -> Result<Vec<String>, Trouble>;

    /// Keeps what a person needs to restore it, before the first change.
    async fn save(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Shell lines that put every replica back into rotation as it was, without Slackwater.
    fn recovery(&self, places: &[Place]) -> Vec<String>;
}

/// The adapter a deployment asks for.
pub fn adapter(deployment: &Deployment) -> Box<dyn Balancer> {
    match &deployment.balancer {
        BalancerSpec::Gateway { admin } => Box::new(Gateway::new(admin)),
        BalancerSpec::Nginx(spec) => {
            let keep = deployment.directory.join("kept");
            Box::new(Nginx::new(spec.clone(), deployment.replicas.clone(), keep))
        }
        BalancerSpec::Haproxy(spec) => Box::new(Haproxy::new(spec.clone())),
        BalancerSpec::Command(hooks) => Box::new(Hooks::new((**hooks).clone())),
    }
}
