//! Replicas as services of a Docker Compose project, whose files stay the truth.
//!
//! ```text
//!   stop   compose stop -t GRACE SERVICE
//!   start  set the service's variables in .env, or its entry in the override file ─► compose up -d --no-deps SERVICE
//!   look   the engine's socket: the container with the project's and the service's labels
//! ```
//!
//! Whoever runs `docker compose up` later gets what the rollout has made.

use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use slackwater_policy::VersionRef;

use super::definition::{Definitions, Form};
use super::docker::api::Api;
use super::docker::{Container, images, images_are_here, restart_words};
use super::members::Members;
use super::{Recovery, Running, Supervisor};
use crate::deployment::{ComposeSpec, Deployment, Place};
use crate::hook;
use crate::shell::{join, quote};
use crate::trouble::Trouble;

/// The supervisor.
#[derive(Debug)]
pub struct Compose {
    spec: ComposeSpec,
    deployment: Deployment,
    definitions: Definitions,
    members: Members,
}

impl Compose {
    /// As the deployment has it.
    pub fn new(spec: ComposeSpec, deployment: Deployment) -> Compose {
        let form = match (&spec.override_file, &spec.env_file) {
            (Some(file), _) => Form::Services(file.clone()),
            // A path is no template: its braces are its own.
            (None, Some(file)) => {
                Form::Variables(file.to_string_lossy().replace('{', "{{").replace('}', "}}"))
            }
            // Refused when the deployment is read.
            (None, None) => Form::Services(spec.directory.join("compose.override.yaml")),
        };
        let definitions = Definitions::new(deployment.clone(), form);
        Compose { spec, deployment, definitions, members: Members::default() }
    }

    fn api(&self) -> Result<Api, Trouble> {
        Api::new(&self.spec.socket, Duration::from_secs(30)).map_err(Trouble::lasting)
    }

    /// Compose with these arguments for this project.
    fn command(&self, rest: &[&str]) -> Vec<String> {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let spec = &self.spec;
        let mut command = spec.program.clone();
        command.extend(["--project-directory".to_owned(), text(&spec.directory)]);
        command.extend(["-p".to_owned(), spec.project.clone()]);
        let mut files = spec.files.clone();
        if !files.is_empty() {
            // It is not there while no service has an entry in it, as before the first rollout.
            files.retain(|file| Some(file) != spec.override_file.as_ref());
            files.extend(spec.override_file.clone().filter(|file| file.exists()));
        }
        command.extend(files.iter().flat_map(|file| ["-f".to_owned(), text(file)]));
        if let Some(file) = spec.env_file.as_ref().filter(|file| **file != spec.directory.join(".env")) {
            command.extend(["--env-file".to_owned(), text(file)]);
        }
        command.extend(rest.iter().map(|word| (*word).to_owned()));
        command
    }

    fn host(&self) -> String {
        match self.spec.socket.strip_prefix("unix:") {
            Some(path) => format!("unix://{path}"),
            None => self.spec.socket.replacen("http://", "tcp://", 1),
        }
    }

    async fn run(&self, what: &str, rest: &[&str], more: Duration) -> Result<String, Trouble> {
        let command = self.command(rest);
        let environment = [(OsString::from("DOCKER_HOST"), OsString::from(self.host()))];
        let within = hook::duration(self.spec.within) + more;
        // Without files of its own to name it looks for them where it is started.
        hook::run_in(what, &command, within, Some(&self.spec.directory), &environment).await
    }

    async fn container(&self, place: &Place) -> Result<Option<Container>, Trouble> {
        let api = self.api()?;
        let service = place.unit();
        let labels = [
            format!("com.docker.compose.project={}", self.spec.project),
            format!("com.docker.compose.service={service}"),
            "com.docker.compose.oneoff=False".to_owned(),
        ];
        let mut all = Vec::new();
        for id in api.labelled(&labels).await? {
            all.extend(api.container(&id).await?.map(|inspected| Container { inspected }));
        }
        // While Compose makes one anew there may be two, of which one runs.
        let running = all.iter().filter(|it| it.runs()).count();
        if running > 1 {
            return Err(Trouble::lasting(format!(
                "{}: {running} containers of service {service} run; a replica is one: a service each, without `scale`",
                place.name
            )));
        }
        all.sort_by_key(|it| !it.runs());
        Ok(all.into_iter().next())
    }

    async fn running(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        let Some(container) = self.container(place).await?.filter(Container::runs) else { return Ok(None) };
        let version = match self.spec.override_file {
            Some(_) => {
                let ids = images(&self.api()?, &self.deployment, place).await?;
                container.version(&self.deployment, place, &ids)
            }
            // Of a variable of `.env` the container shows only what came of it.
            None => None,
        };
        let running = container.running(&self.deployment, place, &Default::default());
        Ok(Some(Running { version, ..running }))
    }
}

#[async_trait]
impl Supervisor for Compose {
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        self.running(place).await
    }

    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble> {
        let runs = self.container(place).await?.filter(Container::runs);
        if let Some(container) = runs {
            if self.definitions.version(place)? == Some(version) {
                return Ok(());
            }
            return Err(Trouble::passing(format!(
                "{}: service {} still runs ({}); {version} is not started in its place: stop it",
                place.name,
                place.unit(),
                container.text("/Config/Image")
            )));
        }
        self.definitions.put(place, version)?;
        let words = ["up", "-d", "--no-deps", place.unit()];
        let up = self.run("supervisor.program up", &words, Duration::ZERO).await;
        up.map(|_| ()).map_err(|trouble| trouble.while_doing(&place.name))
    }

    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble> {
        let Some(container) = self.container(place).await? else { return Ok(()) };
        self.members.note(place, container.pid());
        let seconds = grace.as_millis().div_ceil(1_000).to_string();
        let words = ["stop", "-t", &seconds, place.unit()];
        let stop = self.run("supervisor.program stop", &words, grace).await;
        stop.map_err(|trouble| trouble.while_doing(&place.name))?;
        match self.container(place).await? {
            Some(still) if still.runs() => Err(Trouble::passing(format!(
                "{}: service {} was stopped and runs again: somebody else starts it; end that",
                place.name,
                place.unit()
            ))),
            _ => Ok(()),
        }
    }

    async fn leftovers(&self, place: &Place) -> Vec<u32> {
        self.members.left(place)
    }

    async fn prepare(&self, places: &[Place], grace: Duration) -> Result<Vec<String>, Trouble> {
        let api = self.api()?;
        let asked = self.run("supervisor.program config", &["config", "--services"], Duration::ZERO).await?;
        let services: Vec<&str> = asked.lines().map(str::trim).collect();
        let mut lines = vec![format!("Docker {} at {}", api.version().await?, self.spec.socket)];
        for place in places {
            let service = place.unit();
            if !services.contains(&service) {
                return Err(Trouble::lasting(format!(
                    "{}: the project {} has no service {service}, but {}; correct the replica's `unit`",
                    place.name,
                    self.spec.project,
                    services.join(", ")
                )));
            }
            let Some(container) = self.container(place).await? else {
                return Err(Trouble::lasting(format!(
                    "{}: service {service} has no container in project {} (a project is called after its folder, unless said otherwise); \
                     bring it up by `{}`, or correct supervisor.project",
                    place.name,
                    self.spec.project,
                    join(&self.command(&["up", "-d", "--no-deps", service]))
                )));
            };
            let ids = images(&api, &self.deployment, place).await?;
            images_are_here(&self.deployment, place, &ids)?;
            let seconds = grace.as_millis().div_ceil(1_000).to_string();
            lines.push(format!(
                "{}: stop  {}",
                place.name,
                join(&self.command(&["stop", "-t", &seconds, service]))
            ));
            lines.extend(self.definitions.shown(place)?);
            lines.push(format!(
                "{}: start {}",
                place.name,
                join(&self.command(&["up", "-d", "--no-deps", service]))
            ));
            lines.extend(restart_words(place, &container));
        }
        Ok(lines)
    }

    async fn save(&self, places: &[Place]) -> Result<(), Trouble> {
        places.iter().try_for_each(|place| self.definitions.save(place))
    }

    async fn last_words(&self, place: &Place) -> Option<String> {
        let container = self.container(place).await.ok()??;
        self.api().ok()?.last_line(container.text("/Id")).await
    }

    fn recovery(&self, place: &Place) -> Recovery {
        let mut lines = self.definitions.recovery(place).unwrap_or_default();
        let up = self.command(&["up", "-d", "--no-deps", place.unit()]);
        let directory = quote(&self.spec.directory.to_string_lossy());
        lines.push(format!(
            "(cd {directory} && DOCKER_HOST={} {}) || failed=1",
            quote(&self.host()),
            join(&up)
        ));
        // Compose leaves one alone that is as the files say, so it is asked about all of them.
        Recovery { is_new: "true".to_owned(), lines }
    }

    fn recovery_head(&self) -> Vec<String> {
        Definitions::recovery_head()
    }
}
