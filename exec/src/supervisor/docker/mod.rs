//! Replicas as Docker containers: made anew in the likeness of the one that is there.
//!
//! ```text
//!   stop           docker stop NAME (its own signal, the plan's grace)
//!   start the new  create NAME.slackwater-new ─► NAME: no restart policy ─► NAME becomes NAME.slackwater-old ─► …-new becomes NAME ─► start
//!   start the old  remove NAME ─► NAME.slackwater-old becomes NAME ─► its restart policy back ─► start
//!   when over      remove NAME.slackwater-old
//! ```
//!
//! The old container itself is what is kept of the old definition: nothing is exacter, and no secret of its environment is written down.
//! Every start looks at which of the three containers there are and goes on from there, so it may be cut off after any step. Who a container
//! is, is told by a label, which is made with it.

pub(super) mod api;
mod container;
mod likeness;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use slackwater_policy::VersionRef;

use self::api::Api;
pub(super) use self::container::{Container, images, images_are_here, restart_words};
use self::likeness::{Changes, DEFINITION, Made, REPLICA, likeness, words};
use super::members::Members;
use super::secrets::secrets;
use super::{Recovery, Running, Supervisor};
use crate::deployment::{Deployment, DockerSpec, Place};
use crate::files::write_whole;
use crate::hook;
use crate::shell::{join, quote};
use crate::trouble::Trouble;

/// The supervisor.
#[derive(Debug)]
pub struct Docker {
    spec: DockerSpec,
    deployment: Deployment,
    members: Members,
    /// Restart policies as they were found, by replica.
    policies: Mutex<BTreeMap<String, Value>>,
}

impl Docker {
    /// As the deployment has it.
    pub fn new(spec: DockerSpec, deployment: Deployment) -> Docker {
        Docker { spec, deployment, members: Members::default(), policies: Mutex::default() }
    }

    fn api(&self) -> Result<Api, Trouble> {
        Api::new(&self.spec.socket, hook::duration(self.spec.within)).map_err(Trouble::lasting)
    }

    fn old(place: &Place) -> String {
        format!("{}.slackwater-old", place.unit())
    }

    fn new_name(place: &Place) -> String {
        format!("{}.slackwater-new", place.unit())
    }

    async fn container(api: &Api, name: &str) -> Result<Option<Container>, Trouble> {
        Ok(api.container(name).await?.map(|inspected| Container { inspected }))
    }

    /// Whether it was made by this version's definition.
    fn made_by(&self, container: &Container, place: &Place, version: VersionRef) -> bool {
        container.label(DEFINITION) == Some(self.deployment.definition_hash(place, version).as_str())
    }

    fn changes(&self, place: &Place, version: VersionRef) -> Result<Changes, Trouble> {
        let unfilled = |reason: String| Trouble::lasting(format!("{}: {reason}", place.name));
        let plain = self.deployment.plain_environment(place, version).map_err(unfilled)?;
        let mut environment: BTreeMap<String, String> = plain.into_iter().collect();
        environment.extend(secrets(&self.deployment, version)?);
        let whose = format!("{}/{}", self.deployment.directory.display(), place.name);
        Ok(Changes {
            image: self.deployment.image(place, version).map_err(unfilled)?,
            command: self.deployment.arguments(place, version).map_err(unfilled)?,
            environment,
            labels: BTreeMap::from([
                (DEFINITION.to_owned(), self.deployment.definition_hash(place, version)),
                (REPLICA.to_owned(), whose),
            ]),
        })
    }

    async fn likeness(
        &self,
        api: &Api,
        place: &Place,
        version: VersionRef,
        of: &Container,
    ) -> Result<Made, Trouble> {
        let image = api.image(of.text("/Image")).await?.unwrap_or_default();
        let mut made = likeness(&of.inspected, &image, &self.changes(place, version)?);
        // Without an image of its own a version stays with the one that is there, whatever its name leads to by now.
        let named = api.image(made.body["Image"].as_str().unwrap_or_default()).await?;
        let moved = named.is_none_or(|named| named["Id"] != of.inspected["Image"]);
        if moved && self.deployment.versions.of(version).image.is_none() {
            made.body["Image"] = of.inspected["Image"].clone();
        }
        // The one it is like may have lost its policy to us.
        made.body["HostConfig"]["RestartPolicy"] = self.policy(place, of);
        Ok(made)
    }

    /// Makes the container of a version beside the others, unless it is there.
    async fn make(
        &self,
        api: &Api,
        place: &Place,
        version: VersionRef,
        of: &Container,
    ) -> Result<(), Trouble> {
        let name = Docker::new_name(place);
        // One that was cut off may lack its networks, and costs nothing to make again.
        api.remove(&name).await?;
        let made = self.likeness(api, place, version, of).await?;
        api.create(&name, &made.body).await?;
        for (network, endpoint) in &made.networks {
            api.connect(network, &name, endpoint).await?;
        }
        Ok(())
    }

    fn record(&self, place: &Place) -> PathBuf {
        self.deployment.directory.join("kept").join("docker").join(format!("{}.json", place.name))
    }

    /// The restart policy that a replica's container had when the rollout began.
    fn policy(&self, place: &Place, of: &Container) -> Value {
        let kept = fs::read_to_string(self.record(place)).ok();
        let kept = kept.and_then(|text| serde_json::from_str(&text).ok());
        kept.or_else(|| of.inspected.pointer("/HostConfig/RestartPolicy").cloned()).unwrap_or_default()
    }

    fn note_policy(&self, place: &Place, container: &Container) -> Value {
        let policy = container.inspected.pointer("/HostConfig/RestartPolicy").cloned().unwrap_or_default();
        let mut all = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(place.name.clone(), policy.clone());
        policy
    }

    async fn start_new(&self, api: &Api, place: &Place, present: Option<Container>) -> Result<(), Trouble> {
        let (name, old, new) = (place.unit(), Docker::old(place), Docker::new_name(place));
        let mine = |it: &Container| self.made_by(it, place, VersionRef::To);
        match present {
            Some(present) if mine(&present) => {}
            Some(present) => {
                if Docker::container(api, &old).await?.is_some() {
                    return Err(Trouble::lasting(format!(
                        "{}: container {name} was made by somebody else while {old} is kept; remove or rename {name}",
                        place.name
                    )));
                }
                self.make(api, place, VersionRef::To, &present).await?;
                // A daemon that is restarted must not bring both up.
                api.restart_policy(name, &json!({ "Name": "no" })).await?;
                api.rename(name, &old).await?;
                api.rename(&new, name).await?;
            }
            None => {
                if !Docker::container(api, &new).await?.is_some_and(|it| mine(&it)) {
                    let kept = Docker::container(api, &old).await?.ok_or_else(|| missing(place))?;
                    self.make(api, place, VersionRef::To, &kept).await?;
                }
                api.rename(&new, name).await?;
            }
        }
        api.start(name).await
    }

    async fn start_old(&self, api: &Api, place: &Place, present: Option<Container>) -> Result<(), Trouble> {
        let (name, old, new) = (place.unit(), Docker::old(place), Docker::new_name(place));
        let kept = Docker::container(api, &old).await?;
        let drill = self.deployment.versions.from == self.deployment.versions.to;
        let is_new = |it: &Container| self.made_by(it, place, VersionRef::To) && !drill;
        match (present, kept) {
            (Some(present), Some(kept)) => {
                if !self.made_by(&present, place, VersionRef::To) {
                    return Err(Trouble::lasting(format!(
                        "{}: container {name} was made by somebody else while {old} is kept; remove or rename {name}",
                        place.name
                    )));
                }
                api.remove(name).await?;
                self.bring_back(api, place, &kept).await?;
            }
            (None, Some(kept)) => self.bring_back(api, place, &kept).await?,
            // The old one was thrown away meanwhile: it is made again, in the new one's likeness.
            (Some(present), None) if is_new(&present) => {
                self.make(api, place, VersionRef::From, &present).await?;
                api.remove(name).await?;
                api.rename(&new, name).await?;
            }
            // It never went, though its policy may have.
            (Some(present), None) => {
                let policy = self.policy(place, &present);
                api.restart_policy(name, &policy).await?;
            }
            (None, None) => {
                let made = Docker::container(api, &new).await?;
                match made.filter(|it| self.made_by(it, place, VersionRef::From)) {
                    Some(_) => api.rename(&new, name).await?,
                    None => return Err(missing(place)),
                }
            }
        }
        api.remove(&new).await?;
        api.start(name).await
    }

    async fn bring_back(&self, api: &Api, place: &Place, kept: &Container) -> Result<(), Trouble> {
        let policy = self.policy(place, kept);
        api.rename(&Docker::old(place), place.unit()).await?;
        api.restart_policy(place.unit(), &policy).await
    }

    /// Lines for one replica's print-out.
    async fn shown(
        &self,
        api: &Api,
        place: &Place,
        container: &Container,
        grace: Duration,
    ) -> Result<Vec<String>, Trouble> {
        let (name, old) = (place.unit(), Docker::old(place));
        let signal = match container.text("/Config/StopSignal") {
            "" => "SIGTERM",
            own => own,
        };
        let made = self.likeness(api, place, VersionRef::To, container).await?;
        let mut lines = vec![
            format!(
                "{}: stop  container {name} ({signal}, then SIGKILL after {} s)",
                place.name,
                grace.as_secs()
            ),
            format!("{}: keep  it as {old} until the rollout is over", place.name),
            format!("{}: start container {name}, made like it but for", place.name),
        ];
        let (was, is) = (&container.inspected["Config"], &made.body);
        lines.push(format!("  -image {} ({})", container.text("/Config/Image"), container.text("/Image")));
        let image = is.get("Image").and_then(Value::as_str).unwrap_or_default();
        let id = api.image(image).await?;
        let id = id.as_ref().and_then(|image| image.get("Id")).and_then(Value::as_str).unwrap_or("not here");
        lines.push(format!("  +image {image} ({id})"));
        let (cmd_was, cmd_is) = (words(was.get("Cmd")), words(is.get("Cmd")));
        if cmd_was != cmd_is {
            let own = |words: Vec<String>| {
                if words.is_empty() { "the image's own".to_owned() } else { join(&words) }
            };
            lines.extend([format!("  -command {}", own(cmd_was)), format!("  +command {}", own(cmd_is))]);
        }
        // Names alone of what is secret, as of what goes: a container's environment often has keys in it.
        let definition = self.deployment.versions.of(VersionRef::To);
        let plain = self.deployment.plain_environment(place, VersionRef::To).map_err(Trouble::lasting)?;
        lines.extend(plain.iter().map(|(name, value)| format!("  +env {name}={value}")));
        lines.extend(
            definition.env_from.iter().map(|(theirs, ours)| format!("  +env {theirs} (from {ours})")),
        );
        let files = definition.env_files.iter();
        lines.extend(files.map(|(name, path)| format!("  +env {name} (from {})", path.display())));
        let count =
            |path: &str| container.inspected.pointer(path).and_then(Value::as_array).map_or(0, Vec::len);
        lines.push(format!(
            "  as it is: network {}, {} mounts, {} device requests, restart policy {}",
            container.text("/HostConfig/NetworkMode"),
            count("/Mounts"),
            count("/HostConfig/DeviceRequests"),
            container.text("/HostConfig/RestartPolicy/Name")
        ));
        Ok(lines)
    }
}

fn missing(place: &Place) -> Trouble {
    let name = place.unit();
    Trouble::lasting(format!(
        "{}: there is no container {name} (replicas' `unit`) in whose likeness one could be made; make it with `docker create --name {name} …`, \
         with its GPUs, mounts and network",
        place.name
    ))
}

#[async_trait]
impl Supervisor for Docker {
    async fn find(&self, place: &Place) -> Result<Option<Running>, Trouble> {
        let api = self.api()?;
        let Some(container) = Docker::container(&api, place.unit()).await?.filter(Container::runs) else {
            return Ok(None);
        };
        let ids = images(&api, &self.deployment, place).await?;
        Ok(Some(container.running(&self.deployment, place, &ids)))
    }

    async fn start(&self, place: &Place, version: VersionRef) -> Result<(), Trouble> {
        let api = self.api()?;
        let present = Docker::container(&api, place.unit()).await?;
        if let Some(present) = present.as_ref().filter(|it| it.runs()) {
            let kept = Docker::container(&api, &Docker::old(place)).await?.is_some();
            let other = if version == VersionRef::To { VersionRef::From } else { VersionRef::To };
            let is_it = self.made_by(present, place, version)
                || (version == VersionRef::From && !kept && !self.made_by(present, place, other));
            if is_it {
                return Ok(());
            }
            return Err(Trouble::passing(format!(
                "{}: container {} still runs ({}); {version} is not started in its place: stop it",
                place.name,
                place.unit(),
                present.text("/Config/Image")
            )));
        }
        match version {
            VersionRef::To => self.start_new(&api, place, present).await,
            VersionRef::From => self.start_old(&api, place, present).await,
        }
    }

    async fn stop(&self, place: &Place, grace: Duration) -> Result<(), Trouble> {
        let api = self.api()?;
        let Some(container) = Docker::container(&api, place.unit()).await? else { return Ok(()) };
        self.members.note(place, container.pid());
        // Also one that waits to be started again: it must not be.
        api.stop(place.unit(), grace).await?;
        match Docker::container(&api, place.unit()).await? {
            Some(still) if still.runs() => Err(Trouble::passing(format!(
                "{}: container {} was stopped and runs again: somebody else starts it (a watchdog, Compose, `docker start`); end that",
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
        let mut lines = vec![format!("Docker {} at {}", api.version().await?, self.spec.socket)];
        for version in [VersionRef::From, VersionRef::To] {
            secrets(&self.deployment, version)?;
        }
        for place in places {
            let container = Docker::container(&api, place.unit()).await?.ok_or_else(|| missing(place))?;
            let refuse =
                |what: &str| Trouble::lasting(format!("{}: container {} {what}", place.name, place.unit()));
            if container.inspected.pointer("/HostConfig/AutoRemove") == Some(&json!(true)) {
                return Err(refuse(
                    "was started with `--rm`: Docker throws it away when it stops, and there is no way back; make it again without",
                ));
            }
            if let Some(project) = container.label("com.docker.compose.project") {
                return Err(refuse(&format!(
                    "belongs to the Compose project {project}, whose files would bring the old version back: set supervisor.kind = \"compose\""
                )));
            }
            let ids = images(&api, &self.deployment, place).await?;
            images_are_here(&self.deployment, place, &ids)?;
            self.note_policy(place, &container);
            lines.extend(self.shown(&api, place, &container, grace).await?);
            lines.extend(restart_words(place, &container));
            if Docker::container(&api, &Docker::old(place)).await?.is_some() {
                lines.push(format!(
                    "{}: remove {}, left of an earlier rollout",
                    place.name,
                    Docker::old(place)
                ));
            }
        }
        Ok(lines)
    }

    async fn save(&self, places: &[Place]) -> Result<(), Trouble> {
        let api = self.api()?;
        for place in places {
            let Some(container) = Docker::container(&api, place.unit()).await? else { continue };
            // What an earlier rollout kept would be taken for this one's, unless it is all there is.
            if container.runs() {
                api.remove(&Docker::old(place)).await?;
                api.remove(&Docker::new_name(place)).await?;
            }
            let policy = self.note_policy(place, &container);
            let path = self.record(place);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| write_whole(&path, &policy.to_string()))
                .map_err(|error| Trouble::lasting(format!("{} can't be written: {error}", path.display())))?;
        }
        Ok(())
    }

    async fn release(&self, places: &[Place]) -> Result<Vec<String>, Trouble> {
        let api = self.api()?;
        let mut lines = Vec::new();
        for place in places {
            let old = Docker::old(place);
            if Docker::container(&api, &old).await?.is_some() {
                api.remove(&old).await?;
                lines.push(format!("{}: container {old} was removed, its volumes were not", place.name));
            }
        }
        Ok(lines)
    }

    async fn last_words(&self, place: &Place) -> Option<String> {
        self.api().ok()?.last_line(place.unit()).await
    }

    fn recovery(&self, place: &Place) -> Recovery {
        let (name, old, new) = (place.unit(), Docker::old(place), Docker::new_name(place));
        let hash = self.deployment.definition_hash(place, VersionRef::To);
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = policies.get(&place.name).cloned().unwrap_or_default();
        let restart =
            match (policy["Name"].as_str().unwrap_or_default(), policy["MaximumRetryCount"].as_u64()) {
                ("", _) => "no".to_owned(),
                ("on-failure", Some(most @ 1..)) => format!("on-failure:{most}"),
                (name, _) => name.to_owned(),
            };
        let (name, old, new) = (quote(name), quote(&old), quote(&new));
        Recovery {
            is_new: format!("container_is {old} || made_by {name} {hash}"),
            lines: vec![
                format!("if container_is {old}; then"),
                format!("    container_is {name} && docker_ stop -t 30 {name} && docker_ rm {name}"),
                format!("    docker_ rename {old} {name}"),
                format!("elif made_by {name} {hash}; then"),
                format!("    say {old} is gone: make {name} again by hand with the old image; failed=1"),
                "fi".to_owned(),
                format!("container_is {new} && docker_ rm {new}"),
                format!("docker_ update --restart {restart} {name} && docker_ start {name} || failed=1"),
            ],
        }
    }

    fn recovery_head(&self) -> Vec<String> {
        let host = match self.spec.socket.strip_prefix("unix:") {
            Some(path) => format!("unix://{path}"),
            None => self.spec.socket.replacen("http://", "tcp://", 1),
        };
        vec![
            format!("docker_() {{ docker -H {} \"$@\" >/dev/null; }}", quote(&host)),
            "container_is() { docker_ container inspect \"$1\" 2>/dev/null; }".to_owned(),
            format!(
                "made_by() {{ [ \"$(docker -H {} container inspect -f '{{{{index .Config.Labels \"{DEFINITION}\"}}}}' \"$1\" 2>/dev/null)\" = \"$2\" ]; }}",
                quote(&host)
            ),
        ]
    }
}
