//! A container as `docker inspect` shows it, and what of it and of its image matters to a rollout.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slackwater_policy::VersionRef;

use super::api::Api;
use super::likeness::{arguments, words};
use crate::deployment::{Deployment, Place};
use crate::supervisor::Running;
use crate::trouble::Trouble;

/// A container.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct Container {
    pub(in crate::supervisor) inspected: Value,
}

impl Container {
    pub(in crate::supervisor) fn text(&self, path: &str) -> &str {
        self.inspected.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    pub(in crate::supervisor) fn label(&self, name: &str) -> Option<&str> {
        self.inspected.pointer("/Config/Labels")?.get(name)?.as_str()
    }

    /// Whether its process is there. One that its restart policy is about to start again has ended.
    pub(in crate::supervisor) fn runs(&self) -> bool {
        let is = |path: &str| self.inspected.pointer(path) == Some(&json!(true));
        is("/State/Running") && !is("/State/Restarting")
    }

    pub(in crate::supervisor) fn pid(&self) -> Option<u32> {
        let pid = self.inspected.pointer("/State/Pid")?.as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// The version that its image, command and environment are; `None` when neither, or both are alike. `images` are those of both.
    pub(in crate::supervisor) fn version(
        &self,
        deployment: &Deployment,
        place: &Place,
        images: &BTreeMap<String, String>,
    ) -> Option<VersionRef> {
        let own = arguments(&self.inspected);
        let environment = words(self.inspected.pointer("/Config/Env"));
        let is = |version: VersionRef| {
            let image = deployment.image(place, version).ok()?;
            let command = deployment.arguments(place, version).ok()?;
            let variables = deployment.plain_environment(place, version).ok()?;
            let same =
                image.is_none_or(|image| images.get(&image).is_some_and(|id| id == self.text("/Image")));
            let set = |(name, value): &(String, String)| environment.contains(&format!("{name}={value}"));
            Some(same && own.ends_with(&command) && variables.iter().all(set))
        };
        match (is(VersionRef::From)?, is(VersionRef::To)?) {
            (true, false) => Some(VersionRef::From),
            (false, true) => Some(VersionRef::To),
            // In a drill both are one definition.
            (true, true) if deployment.versions.from == deployment.versions.to => Some(VersionRef::From),
            _ => None,
        }
    }

    /// As the supervisor's trait has it.
    pub(in crate::supervisor) fn running(
        &self,
        deployment: &Deployment,
        place: &Place,
        images: &BTreeMap<String, String>,
    ) -> Running {
        let version = self.version(deployment, place, images);
        Running { pid: self.pid(), version, arguments: arguments(&self.inspected) }
    }
}

/// The ids of both versions' images that are here, by their references.
pub(in crate::supervisor) async fn images(
    api: &Api,
    deployment: &Deployment,
    place: &Place,
) -> Result<BTreeMap<String, String>, Trouble> {
    let mut ids = BTreeMap::new();
    for version in [VersionRef::From, VersionRef::To] {
        let Some(reference) = deployment.image(place, version).map_err(Trouble::lasting)? else { continue };
        let id = api.image(&reference).await?;
        let id = id.as_ref().and_then(|image| image.get("Id")).and_then(Value::as_str).map(str::to_owned);
        ids.extend(id.map(|id| (reference, id)));
    }
    Ok(ids)
}

/// Whether both images are here, and what runs is of one of them.
pub(in crate::supervisor) fn images_are_here(
    deployment: &Deployment,
    place: &Place,
    ids: &BTreeMap<String, String>,
) -> Result<(), Trouble> {
    let mut seen = Vec::new();
    for (version, name) in [(VersionRef::From, "from"), (VersionRef::To, "to")] {
        let Some(reference) = deployment.image(place, version).map_err(Trouble::lasting)? else { continue };
        let Some(id) = ids.get(&reference) else {
            return Err(Trouble::lasting(format!(
                "{}: image {reference} (versions.{name}.image) is not on this machine, and would be fetched with the replica down: \
                 docker pull {reference}",
                place.name
            )));
        };
        seen.push(id);
    }
    let alike = seen.len() == 2 && seen[0] == seen[1];
    let told = |version| {
        let of = deployment.versions.of(version);
        (of.identity.clone(), of.command.clone(), of.env.clone())
    };
    if alike
        && told(VersionRef::From) == told(VersionRef::To)
        && deployment.versions.from != deployment.versions.to
    {
        return Err(Trouble::lasting(format!(
            "{}: the images of both versions are one and the same ({}), and so are their commands: the tag was moved, or the new image \
             was not fetched; name images by their digest, and `docker pull` the new one",
            place.name, seen[0]
        )));
    }
    Ok(())
}

/// What a container's restart policy means for a rollout, where a person should know.
pub(in crate::supervisor) fn restart_words(place: &Place, container: &Container) -> Option<String> {
    let unit = place.unit();
    match container.text("/HostConfig/RestartPolicy/Name") {
        "always" => Some(format!(
            "warning: {}: container {unit} has the restart policy `always`: Docker leaves it alone after a stop of ours, but starts it when \
             the daemon is restarted, in the middle of a move too, beside the new one; `docker update --restart unless-stopped {unit}` does \
             not",
            place.name
        )),
        "no" | "" => Some(format!(
            "warning: {}: container {unit} has no restart policy: after a crash or a reboot it stays down; `docker update --restart \
             unless-stopped {unit}` mends that",
            place.name
        )),
        // Both leave a container alone that was asked to stop.
        _ => None,
    }
}
