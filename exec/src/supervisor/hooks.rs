//! Any supervisor that commands can speak to.

use std::time::Duration;

use async_trait::async_trait;
use slackwater_policy::VersionRef;

use super::{Recovery, Running, Supervisor};
use crate::deployment::{Place, SupervisorHooks};
use crate::hook::{self, Hook};
use crate::shell::join;
use crate::trouble::Trouble;

/// The hooks.
#[derive(Debug)]
pub struct Hooks {
    spec: SupervisorHooks,
}

impl Hooks {
    /// As the deployment has them.
    pub fn new(spec: SupervisorHooks) -> Hooks {
        Hooks { spec }
    }
}

#[async_trait]
impl Supervisor for Hooks {
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        let within = hook::duration(self.spec.within);
        let state = Hook { what: "supervisor.state", command: &self.spec.state, within };
        match state.run(Some(place), None, &[("grace", String::new())]).await?.as_str() {
            "running" => Ok(Some(Running { pid: None, version: None, arguments: Vec::new() })),
            "gone" => Ok(None),
            other => {
                let reason = format!("supervisor.state printed `{other}`; expected `running` or `gone`");
                Err(Trouble::lasting(reason))
            }
        }
    }

    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble> {
        let within = hook::duration(self.spec.within);
        let start = Hook { what: "supervisor.start", command: &self.spec.start, within };
        start.run(Some(place), Some(version), &[("grace", String::new())]).await.map(|_| ())
    }

    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble> {
        let within = hook::duration(self.spec.within) + grace;
        let stop = Hook { what: "supervisor.stop", command: &self.spec.stop, within };
        let seconds = [("grace", grace.as_secs().to_string())];
        stop.run(Some(place), None, &seconds).await?;
        match self.find(place).await? {
            None => Ok(()),
            Some(_) => Err(Trouble::passing(format!("{} still runs after supervisor.stop", place.name))),
        }
    }

    async fn leftovers(&self, _place: &Place) -> Vec<u32> {
        Vec::new()
    }

    async fn prepare(&self, places: &[Place], grace: Duration) -> Result<Vec<String>, Trouble> {
        let mut lines = Vec::new();
        for place in places {
            self.find(place).await?;
            let more = [("grace", grace.as_secs().to_string())];
            let stop = hook::filled("supervisor.stop", &self.spec.stop, Some(place), None, &more)?;
            let start =
                hook::filled("supervisor.start", &self.spec.start, Some(place), Some(VersionRef::To), &more)?;
            lines.extend([
                format!("{}: stop  {}", place.name, join(&stop)),
                format!("{}: start {}", place.name, join(&start)),
            ]);
        }
        Ok(lines)
    }

    async fn last_words(&self, _place: &Place) -> Option<String> {
        None
    }

    fn recovery(&self, place: &Place) -> Recovery {
        let more = [("grace", "30".to_owned())];
        let stop = hook::filled("supervisor.stop", &self.spec.stop, Some(place), None, &more);
        let start =
            hook::filled("supervisor.start", &self.spec.start, Some(place), Some(VersionRef::From), &more);
        let commands = [stop, start].into_iter().filter_map(Result::ok);
        Recovery {
            // A command does not tell which version runs: all of them are started anew.
            is_new: "true".to_owned(),
            lines: commands.map(|command| format!("{} || failed=1", join(&command))).collect(),
        }
    }
}
