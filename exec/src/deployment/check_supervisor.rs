//! What can be wrong with a supervisor, and with the versions as it is to start them.

use std::collections::BTreeMap;

use slackwater_policy::VersionRef;

use super::check::value;
use super::fill::fill;
use super::{ComposeSpec, Definition, Deployment, DeploymentError, SupervisorSpec, SystemdSpec};
use crate::http::Base;
use crate::supervisor::{is_name, variable_line};

const BOTH: [(VersionRef, &str); 2] = [(VersionRef::From, "from"), (VersionRef::To, "to")];

impl Deployment {
    pub(super) fn check_supervisor(&self) -> Result<(), DeploymentError> {
        for place in &self.replicas {
            let word = |c: char| c.is_ascii_alphanumeric() || "_.-@:\\".contains(c);
            let unit = place.unit();
            if place.unit.is_some() && (unit.is_empty() || unit.starts_with('-') || !unit.chars().all(word)) {
                let key = format!("unit of replica {}", place.name);
                return Err(value(key, format!("`{unit}`"), "the name of a container, service or unit"));
            }
        }
        match &self.supervisor {
            SupervisorSpec::Process => self.refuse("image", |it| it.image.is_some(), "a process has none"),
            SupervisorSpec::Command(_) => Ok(()),
            SupervisorSpec::Docker(docker) => {
                socket(&docker.socket)?;
                self.says_something(|it| it.image.is_some() || !it.command.is_empty() || !it.env.is_empty())?;
                self.no_folder("the container's working folder stays as it is")
            }
            SupervisorSpec::Compose(compose) => self.check_compose(compose),
            SupervisorSpec::Systemd(systemd) => self.check_systemd(systemd),
        }
    }

    fn check_compose(&self, compose: &ComposeSpec) -> Result<(), DeploymentError> {
        socket(&compose.socket)?;
        if compose.program.is_empty() {
            return Err(value(
                "supervisor.program",
                "empty",
                "[\"docker\", \"compose\"] or [\"docker-compose\"]",
            ));
        }
        if compose.project.is_empty() {
            return Err(value(
                "supervisor.project",
                "empty",
                "the project's name, as `docker compose ls` has it",
            ));
        }
        self.no_folder("the service's working folder stays as it is")?;
        self.no_secrets("Compose takes them by `env_file:` or `secrets:` in the project's own files")?;
        match (&compose.env_file, &compose.override_file) {
            (Some(_), None) => {
                self.refuse("command", |it| !it.command.is_empty(), "of a service in supervisor.env_file only variables are set; an override file (supervisor.override_file) can have a command")?;
                let bare = |it: &Definition| it.identity == super::Identity::default();
                self.refuse("identity", bare, "something by which the version is told, as { root = \"/models/chat-v2\" }: of a variable in supervisor.env_file the container does not show which it had")?;
                self.check_variables(|_| Ok("the file".to_owned()))
            }
            (None, Some(_)) => {
                self.says_something(|it| it.image.is_some() || !it.command.is_empty() || !it.env.is_empty())
            }
            (Some(_), Some(_)) | (None, None) => Err(value(
                "supervisor",
                "a project with neither or both of `env_file` and `override_file`",
                "one of them: the file that is edited",
            )),
        }
    }

    fn check_systemd(&self, systemd: &SystemdSpec) -> Result<(), DeploymentError> {
        if systemd.systemctl.is_empty() {
            return Err(value("supervisor.systemctl", "empty", "[\"systemctl\"]"));
        }
        self.refuse("image", |it| it.image.is_some(), "a unit has none")?;
        self.no_folder("a unit's WorkingDirectory stays as it is")?;
        self.no_secrets("a unit takes them by EnvironmentFile= or LoadCredential=")?;
        if let Some(template) = &systemd.environment_file {
            self.refuse("command", |it| !it.command.is_empty(), "of a unit with supervisor.environment_file only variables are set, which its ExecStart uses; without that key a drop-in can have a command")?;
            return self.check_variables(|place| {
                let file = fill(template, place, None, &[]);
                let file = file
                    .map_err(|reason| value("supervisor.environment_file", "not to be filled in", reason))?;
                if file.starts_with('/') {
                    return Ok(file);
                }
                Err(value(
                    "supervisor.environment_file",
                    format!("`{file}`"),
                    "an absolute path, as in the unit",
                ))
            });
        }
        self.says_something(|it| !it.command.is_empty() || !it.env.is_empty())?;
        for (version, name) in BOTH {
            for place in &self.replicas {
                let command = self.arguments(place, version).unwrap_or_default();
                if command.first().is_some_and(|program| !program.starts_with('/')) {
                    let key = format!("versions.{name}.command");
                    return Err(value(
                        key,
                        format!("`{}` …", command[0]),
                        "an absolute path first, as systemd wants it",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Each replica has variables of its own: one that two share would move both at the next `up`, or leave one unlike its file.
    fn check_variables(
        &self,
        file: impl Fn(&super::Place) -> Result<String, DeploymentError>,
    ) -> Result<(), DeploymentError> {
        let mut whose: BTreeMap<(String, String), &str> = BTreeMap::new();
        for place in &self.replicas {
            let file = file(place)?;
            let mut names = Vec::new();
            for (version, of) in BOTH {
                let key = format!("versions.{of}.env");
                let variables = self.plain_environment(place, version).unwrap_or_default();
                if variables.is_empty() {
                    return Err(value(key, "empty", "the variables that make the version"));
                }
                for (name, set) in &variables {
                    if !is_name(name) {
                        return Err(value(&key, format!("`{name}`"), "names of letters, digits and `_`"));
                    }
                    variable_line(name, set).map_err(|reason| value(&key, reason, "a value without them"))?;
                }
                names.extend(variables.into_iter().map(|(name, _)| name));
            }
            names.sort();
            names.dedup();
            for name in names {
                if let Some(other) = whose.insert((file.clone(), name.clone()), &place.name) {
                    let found = format!("`{name}` for both {other} and {}", place.name);
                    let expected = "a variable for each replica, as `{slot}_TAG` with `values = { slot = \"CHAT_0\" }`: replicas are moved one by one";
                    return Err(value("versions.to.env", found, expected));
                }
            }
        }
        Ok(())
    }

    fn refuse(
        &self,
        key: &str,
        is: impl Fn(&Definition) -> bool,
        expected: &str,
    ) -> Result<(), DeploymentError> {
        for (version, name) in BOTH {
            if is(self.versions.of(version)) {
                let found = if key == "identity" { "empty" } else { "given" };
                return Err(value(format!("versions.{name}.{key}"), found, expected));
            }
        }
        Ok(())
    }

    fn says_something(&self, says: impl Fn(&Definition) -> bool) -> Result<(), DeploymentError> {
        for (version, name) in BOTH {
            if !says(self.versions.of(version)) {
                return Err(value(
                    format!("versions.{name}"),
                    "empty",
                    "what makes the version: image, command or env",
                ));
            }
        }
        Ok(())
    }

    fn no_folder(&self, why: &str) -> Result<(), DeploymentError> {
        self.refuse("directory", |it| it.directory.is_some(), &format!("none: {why}"))
    }

    fn no_secrets(&self, how: &str) -> Result<(), DeploymentError> {
        let has = |it: &Definition| !it.env_from.is_empty() || !it.env_files.is_empty();
        self.refuse(
            "env_from or env_files",
            has,
            &format!("none, as they would be written into a file: {how}"),
        )
    }
}

fn socket(socket: &str) -> Result<(), DeploymentError> {
    Base::parse(socket)
        .map(|_| ())
        .map_err(|reason| value("supervisor.socket", format!("`{socket}`"), reason))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A deployment of two replicas with this supervisor and these versions.
    fn read(supervisor: &str, from: &str, to: &str) -> Result<Deployment, String> {
        let text = format!(
            "schema = 'slackwater.deployment/1'\ndirectory = 'state'\nengine = {{ kind = 'vllm' }}\n\
             balancer = {{ kind = 'gateway', admin = 'unix:/g' }}\n[supervisor]\n{supervisor}\n[versions.from]\n{from}\n[versions.to]\n{to}\n\
             [[replicas]]\nname = 'a'\nurl = 'http://127.0.0.1:1'\nvalues = {{ slot = 'A' }}\nunit = 'chat@0.service'\n\
             [[replicas]]\nname = 'b'\nurl = 'http://127.0.0.1:2'\nvalues = {{ slot = 'B' }}\n"
        );
        Deployment::parse(&text, Path::new("/etc/fleet")).map_err(|error| error.to_string())
    }

    const COMPOSE: &str = "kind = 'compose'\ndirectory = 'chat'\nproject = 'chat'";
    const ROOT: &str = "identity = { root = '/m/1' }";

    #[test]
    fn good_ones_are_read_and_written_again() {
        let variables = format!("env = {{ '{{slot}}_TAG' = 'v1' }}\n{ROOT}");
        for (supervisor, version) in [
            ("kind = 'docker'", "image = 'vllm:{version}'"),
            (&*format!("{COMPOSE}\nenv_file = '.env'"), &*variables),
            (&*format!("{COMPOSE}\noverride_file = 'o.yaml'"), "image = 'a'"),
            ("kind = 'systemd'\nuser = true", "command = ['/bin/serve', '{port}']"),
            ("kind = 'systemd'\nenvironment_file = '/etc/{name}.env'", "env = { MODEL = 'x' }"),
        ] {
            let deployment = read(supervisor, version, version).unwrap();
            let written = toml::to_string(&deployment).unwrap();
            assert_eq!(Deployment::parse(&written, Path::new("/")).unwrap(), deployment);
        }
        let compose = read(&format!("{COMPOSE}\nenv_file = '.env'"), &variables, &variables).unwrap();
        let SupervisorSpec::Compose(compose) = compose.supervisor else { panic!("it is of Compose") };
        assert_eq!(compose.env_file.as_deref(), Some(Path::new("/etc/fleet/chat/.env")));
        let docker = read("kind = 'docker'", "image = 'vllm:{version}'", "image = 'vllm:{version}'").unwrap();
        assert_eq!((docker.replicas[0].unit(), docker.replicas[1].unit()), ("chat@0.service", "b"));
        let hash = |version| docker.definition_hash(&docker.replicas[0], version);
        assert_ne!(hash(VersionRef::From), hash(VersionRef::To), "the image counts");
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        let image = "image = 'a'";
        let both = format!("{COMPOSE}\nenv_file = '.env'\noverride_file = 'o.yaml'");
        let variables = format!("{COMPOSE}\nenv_file = '.env'");
        for (supervisor, version, said) in [
            ("kind = 'process'", "command = ['x']\nimage = 'a'", "a process has none"),
            ("kind = 'docker'", "", "versions.from is empty"),
            ("kind = 'docker'\nsocket = '/var/run/docker.sock'", image, "supervisor.socket"),
            ("kind = 'docker'", "image = '{tag}'", "known are name, url"),
            ("kind = 'docker'", "image = 'a'\ndirectory = '/x'", "working folder stays as it is"),
            (COMPOSE, image, "one of them: the file that is edited"),
            (&*both, image, "one of them: the file that is edited"),
            (&*variables, "env = { TAG = 'v1' }\nidentity = { root = '/m' }", "`TAG` for both a and b"),
            (&*variables, "env = { '{slot}_TAG' = 'v1' }", "something by which the version is told"),
            (
                &*variables,
                &*format!("env = {{ '{{slot}}-TAG' = 'v1' }}\n{ROOT}"),
                "names of letters, digits and `_`",
            ),
            (&*variables, &*format!("env = {{ '{{slot}}_TAG' = \"it's\" }}\n{ROOT}"), "a quote"),
            (&*variables, &*format!("command = ['x']\n{ROOT}"), "an override file"),
            ("kind = 'systemd'", "command = ['serve']", "an absolute path first"),
            ("kind = 'systemd'", "command = ['/x']\nenv_from = { A = 'B' }", "LoadCredential="),
            (
                "kind = 'systemd'\nenvironment_file = 'chat.env'",
                "env = { '{slot}' = 'x' }",
                "an absolute path, as in the unit",
            ),
            ("kind = 'systemd'\nenvironment_file = '/e'", "env = { A = 'x' }", "`A` for both a and b"),
        ] {
            let error = read(supervisor, version, version).unwrap_err();
            assert!(error.contains(said), "{supervisor} / {version}: {error}");
        }
    }
}
