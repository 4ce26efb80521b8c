//! Which version is it? By what it says, and by the process behind it.
//!
//! A served name is often the same for both versions (clients hard-code it) and a root may be a link, so any of several marks may be
//! declared, and all that are declared must fit. Where none is, the argument vector has to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use slackwater_policy::VersionRef;

use crate::deployment::{Definition, Deployment, Identity, Place, SupervisorSpec};
use crate::http::Answer;
use crate::supervisor::Running;

/// What a replica is seen to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) models: Vec<String>,
    root: Option<String>,
    resolved_root: Option<PathBuf>,
    config_sha256: Option<String>,
    engine_version: Option<String>,
    arguments: Option<Vec<String>>,
    /// The version that it was started as, by its supervisor's word.
    supervised: Option<VersionRef>,
}

impl Seen {
    pub(crate) fn new(models: &Value, version: Option<Answer>, running: Option<&Running>) -> Seen {
        let listed = models.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let root = listed.first().and_then(|model| text(model, "root"));
        let resolved_root = root.as_ref().and_then(|root| fs::canonicalize(root).ok());
        let config_sha256 = resolved_root.as_ref().and_then(|root| {
            let folder = if root.is_dir() { root.as_path() } else { root.parent()? };
            let bytes = fs::read(folder.join("config.json")).ok()?;
            Some(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
        });
        let version = version.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
        let engine_version =
            version.and_then(|said| text(&said, "version").or_else(|| text(&said, "build_info")));
        Seen {
            models: listed.iter().filter_map(|model| text(model, "id")).collect(),
            root,
            resolved_root,
            config_sha256,
            engine_version,
            arguments: running.map(|running| running.arguments.clone()).filter(|it| !it.is_empty()),
            supervised: running.and_then(|running| running.version),
        }
    }

    /// The one version that it can be.
    pub(crate) fn version(&self, deployment: &Deployment, place: &Place) -> Option<VersionRef> {
        if by_supervisor(deployment) {
            return self.supervised;
        }
        let is = |version: VersionRef| {
            let definition = deployment.versions.of(version);
            let command = deployment.arguments(place, version).unwrap_or_default();
            self.fits(&definition.identity, &command)
        };
        match (is(VersionRef::From), is(VersionRef::To)) {
            (true, false) => Some(VersionRef::From),
            (false, true) => Some(VersionRef::To),
            // In a drill both are one definition.
            (true, true) if deployment.versions.from == deployment.versions.to => Some(VersionRef::From),
            _ => None,
        }
    }

    fn fits(&self, identity: &Identity, command: &[String]) -> bool {
        if *identity == Identity::default() {
            // The program's own path may be resolved differently; what it was told is what counts.
            let rest = |arguments: &[String]| arguments.get(1..).map(<[String]>::to_vec);
            let ends = |seen: &[String]| command.len() > 1 && seen.ends_with(&command[1..]);
            return self.arguments.as_ref().is_some_and(|seen| rest(seen) == rest(command) || ends(seen));
        }
        let same = |wanted: &Option<String>, seen: &Option<String>| wanted.is_none() || wanted == seen;
        let model = identity.model.as_ref().is_none_or(|model| self.models.contains(model));
        let resolved = identity.resolved_root.as_ref().is_none_or(|wanted| {
            let wanted = fs::canonicalize(wanted).unwrap_or_else(|_| wanted.clone());
            self.resolved_root.as_ref() == Some(&wanted)
        });
        let arguments = identity
            .arguments
            .iter()
            .all(|wanted| self.arguments.as_ref().is_some_and(|seen| seen.contains(wanted)));
        model
            && resolved
            && arguments
            && same(&identity.root, &self.root)
            && same(&identity.config_sha256, &self.config_sha256)
            && same(&identity.engine_version, &self.engine_version)
    }

    /// In words, for messages.
    pub(crate) fn words(&self) -> String {
        let mut words = vec![format!("model {}", self.models.join(", "))];
        let mut add =
            |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name} {value}")));
        add("root", self.root.clone());
        add("which is", self.resolved_root.as_deref().map(Path::display).map(|path| path.to_string()));
        add("engine", self.engine_version.clone());
        words.join(", ")
    }
}

fn bare(definition: &Definition) -> bool {
    definition.identity == Identity::default()
}

/// Whether the supervisor's word is all there is: image and environment of a container, environment of a unit, beside the arguments.
fn by_supervisor(deployment: &Deployment) -> bool {
    let (from, to) = (&deployment.versions.from, &deployment.versions.to);
    let knows = match &deployment.supervisor {
        SupervisorSpec::Docker(_) | SupervisorSpec::Systemd(_) => true,
        SupervisorSpec::Compose(compose) => compose.override_file.is_some(),
        SupervisorSpec::Process | SupervisorSpec::Command(_) => false,
    };
    knows && bare(from) && bare(to)
}

/// Whether nothing can be both versions.
///
/// # Errors
/// Says what is the same, and what would tell them apart.
pub(crate) fn distinguishable(deployment: &Deployment, place: &Place) -> Result<(), String> {
    let (from, to) = (&deployment.versions.from, &deployment.versions.to);
    let remedy = "set versions.from.identity and versions.to.identity to something in which they differ: model, root, resolved_root, \
                  config_sha256, engine_version or arguments";
    if bare(from) != bare(to) {
        return Err(format!("only one of the versions has an identity; {remedy}"));
    }
    if by_supervisor(deployment) {
        let told = |version| {
            let environment = deployment.plain_environment(place, version).unwrap_or_default();
            (deployment.image(place, version), deployment.arguments(place, version), environment)
        };
        if told(VersionRef::From) == told(VersionRef::To) {
            return Err(format!("both versions have the same image, arguments and environment; {remedy}"));
        }
        return Ok(());
    }
    if bare(from) {
        let arguments = |version| deployment.arguments(place, version).unwrap_or_default();
        if arguments(VersionRef::From).get(1..) == arguments(VersionRef::To).get(1..) {
            return Err(format!(
                "both versions are started with the same arguments, so a running one can't be told; {remedy}"
            ));
        }
        return Ok(());
    }
    let differ = |old: &Option<String>, new: &Option<String>| matches!((old, new), (Some(old), Some(new)) if old != new);
    let (old, new) = (&from.identity, &to.identity);
    let roots = match (&old.resolved_root, &new.resolved_root) {
        (Some(old), Some(new)) => {
            let resolved = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            resolved(old) != resolved(new)
        }
        _ => false,
    };
    let arguments = |version| deployment.arguments(place, version).unwrap_or_default();
    // An argument tells only where the other version does not have it too.
    let told = old.arguments.iter().any(|it| !arguments(VersionRef::To).contains(it))
        && new.arguments.iter().any(|it| !arguments(VersionRef::From).contains(it));
    let any = differ(&old.model, &new.model)
        || differ(&old.root, &new.root)
        || differ(&old.config_sha256, &new.config_sha256)
        || differ(&old.engine_version, &new.engine_version)
        || roots
        || told;
    if any { Ok(()) } else { Err(format!("nothing in the versions' identities differs; {remedy}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(identities: &str) -> Deployment {
        let text = format!(
            "schema = 'slackwater.deployment/1'\ndirectory = '/tmp/x'\nengine = {{ kind = 'vllm' }}\n\
             balancer = {{ kind = 'gateway', admin = 'unix:/g' }}\n\
             versions.from.command = ['serve', '--model', 'one']\nversions.to.command = ['serve', '--model', 'two']\n{identities}\n\
             [[replicas]]\nname = 'a'\nurl = 'http://127.0.0.1:1'\n"
        );
        Deployment::parse(&text, Path::new("/")).unwrap()
    }

    fn running(arguments: &[&str]) -> Running {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Running { pid: Some(1), version: None, arguments }
    }

    #[test]
    fn by_its_arguments_where_nothing_else_is_said() {
        let deployment = deployment("");
        let place = &deployment.replicas[0];
        distinguishable(&deployment, place).unwrap();
        let seen = |arguments: &[&str]| {
            Seen::new(&json!({}), None, Some(&running(arguments))).version(&deployment, place)
        };
        assert_eq!(seen(&["/opt/bin/serve", "--model", "two"]), Some(VersionRef::To));
        assert_eq!(seen(&["python3", "/opt/serve", "--model", "one"]), Some(VersionRef::From));
        assert_eq!(seen(&["serve", "--model", "three"]), None);
        assert_eq!(Seen::new(&json!({}), None, None).version(&deployment, place), None);
    }

    #[test]
    fn by_what_is_declared() {
        let deployment =
            deployment("versions.from.identity.root = '/m/1'\nversions.to.identity.root = '/m/2'");
        let place = &deployment.replicas[0];
        distinguishable(&deployment, place).unwrap();
        let models = json!({ "data": [{ "id": "chat", "root": "/m/2" }] });
        assert_eq!(Seen::new(&models, None, None).version(&deployment, place), Some(VersionRef::To));
        let models = json!({ "data": [{ "id": "chat", "root": "/m/3" }] });
        assert_eq!(Seen::new(&models, None, None).version(&deployment, place), None);
    }

    #[test]
    fn versions_that_look_the_same_are_refused() {
        let same = deployment("versions.from.identity.model = 'chat'\nversions.to.identity.model = 'chat'");
        assert!(
            distinguishable(&same, &same.replicas[0])
                .unwrap_err()
                .contains("nothing in the versions' identities")
        );
        let one = deployment("versions.from.identity.model = 'chat'");
        assert!(distinguishable(&one, &one.replicas[0]).unwrap_err().contains("only one"));
    }
}
