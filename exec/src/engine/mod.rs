//! Engines: is one ready, which version is it, what is in flight, does it answer. All speak HTTP; they differ in paths and names.

mod identity;
mod prompts;

use std::sync::Arc;
use std::time::Duration;

use slackwater_policy::VersionRef;

pub(crate) use identity::{Seen, distinguishable};

use crate::deployment::{Deployment, EngineKind, Place};
use crate::http::{self, Answer, Base, short};
use crate::metrics::Metrics;
use crate::supervisor::Running;
use crate::trouble::Trouble;

const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// The engines of a deployment.
#[derive(Clone, Debug)]
pub struct Engine {
    deployment: Arc<Deployment>,
}

impl Engine {
    /// As the deployment has them.
    pub fn new(deployment: Arc<Deployment>) -> Engine {
        Engine { deployment }
    }

    fn kind(&self) -> EngineKind {
        self.deployment.engine.kind
    }

    fn base(place: &Place) -> Result<Base, Trouble> {
        Base::parse(&place.url).map_err(Trouble::lasting)
    }

    async fn get(&self, place: &Place, path: &str) -> Result<Answer, Trouble> {
        http::get(&Engine::base(place)?, path, LOOK_WITHIN).await
    }

    /// Whether it takes requests.
    pub async fn healthy(&self, place: &Place) -> Result<(), Trouble> {
        let path = match self.kind() {
            EngineKind::Openai => "/v1/models",
            EngineKind::Vllm | EngineKind::Sglang | EngineKind::LlamaCpp => "/health",
        };
        let answer = self.get(place, path).await?;
        if answer.is_ok() {
            return Ok(());
        }
        Err(Trouble::passing(format!("{path} answers {}: {}", answer.status, short(&answer.body))))
    }

    /// What it says it is.
    pub(crate) async fn look(&self, place: &Place, running: Option<&Running>) -> Result<Seen, Trouble> {
        let models = self.get(place, "/v1/models").await?;
        if !models.is_ok() {
            return Err(Trouble::passing(format!(
                "/v1/models answers {}: {}",
                models.status,
                short(&models.body)
            )));
        }
        let version = match self.kind() {
            EngineKind::Vllm => self.get(place, "/version").await.ok(),
            EngineKind::Sglang => self.get(place, "/get_server_info").await.ok(),
            EngineKind::LlamaCpp => self.get(place, "/props").await.ok(),
            EngineKind::Openai => None,
        };
        Ok(Seen::new(&models.json()?, version.filter(Answer::is_ok), running))
    }

    /// The version that answers; `None` when it is neither or can't be told.
    pub async fn fingerprint(
        &self,
        place: &Place,
        running: Option<&Running>,
    ) -> Result<Option<VersionRef>, Trouble> {
        let seen = self.look(place, running).await?;
        Ok(seen.version(&self.deployment, place))
    }

    /// Its metrics page; `None` where this kind has none.
    pub(crate) async fn metrics(&self, place: &Place) -> Result<Option<Metrics>, Trouble> {
        if !self.deployment.engine_counts() {
            return Ok(None);
        }
        let answer = self.get(place, "/metrics").await?;
        if !answer.is_ok() {
            return Err(Trouble::passing(format!("/metrics answers {}", answer.status)));
        }
        Ok(Some(Metrics::read(self.kind(), &answer.body)))
    }

    /// What it counts as in flight.
    pub async fn in_flight(&self, place: &Place) -> Option<u32> {
        self.metrics(place).await.ok().flatten()?.in_flight()
    }
}
