//! What can be wrong with a deployment, alone and beside a plan.

use std::collections::BTreeSet;

use slackwater_policy::{Plan, VersionRef};
use thiserror::Error;

use super::fill::{fill, fill_all};
use super::{BalancerSpec, Deployment, EngineKind, SCHEMA, SupervisorSpec};
use crate::http::Base;

/// A deployment that can't be used. Each message names the key, what was expected and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// A value that can't be used.
    #[error("{key} is {found}; expected {expected}")]
    Value {
        /// The key, with its path.
        key: String,
        /// What it says.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Plan and deployment name different replicas.
    #[error("{0}")]
    Replicas(String),
}

pub(super) fn value(
    key: impl Into<String>,
    found: impl ToString,
    expected: impl Into<String>,
) -> DeploymentError {
    DeploymentError::Value { key: key.into(), found: found.to_string(), expected: expected.into() }
}

impl Deployment {
    pub(super) fn check(&self) -> Result<(), DeploymentError> {
        if self.schema != SCHEMA {
            return Err(value("schema", format!("`{}`", self.schema), format!("`{SCHEMA}`")));
        }
        if self.replicas.is_empty() {
            return Err(value("replicas", "empty", "one `[[replicas]]` for each of the plan"));
        }
        let mut names = BTreeSet::new();
        let mut servers = BTreeSet::new();
        let mut urls = BTreeSet::new();
        for (index, place) in self.replicas.iter().enumerate() {
            let key = |key: &str| format!("replicas[{index}].{key}");
            if place.name.is_empty() || place.name.contains(['/', '\0', '\n']) {
                let found = format!("`{}`", place.name);
                return Err(value(key("name"), found, "a name without `/`: files are called after it"));
            }
            let base = Base::parse(&place.url)
                .map_err(|reason| value(key("url"), format!("`{}`", place.url), reason))?;
            if base.port().is_none() {
                return Err(value(key("url"), format!("`{}`", place.url), "http://HOST:PORT"));
            }
            for (known, what, found) in [
                (&mut names, "name", place.name.as_str()),
                (&mut servers, "server", place.server()),
                (&mut urls, "url", place.url.as_str()),
            ] {
                if !known.insert(found.to_owned()) {
                    return Err(value(key(what), format!("`{found}`, as another's"), "one of its own"));
                }
            }
            if place.weight == 0 || place.weight > 256 {
                return Err(value(key("weight"), place.weight, "1 to 256"));
            }
            self.check_commands(index)?;
        }
        self.check_balancer()?;
        self.check_supervisor()?;
        self.check_secrets()
    }

    fn check_commands(&self, index: usize) -> Result<(), DeploymentError> {
        let place = &self.replicas[index];
        for (version, name) in [(VersionRef::From, "from"), (VersionRef::To, "to")] {
            let key = |key: &str| format!("versions.{name}.{key}");
            let definition = self.versions.of(version);
            if self.supervisor == SupervisorSpec::Process {
                let arguments = self.arguments(place, version);
                let arguments =
                    arguments.map_err(|reason| value(key("command"), "not to be filled in", reason))?;
                if arguments.first().is_none_or(String::is_empty) {
                    let expected = "the process as an argument vector, as [\"vllm\", \"serve\", …], or another supervisor.kind";
                    return Err(value(key("command"), "empty", expected));
                }
            }
            self.plain_environment(place, version)
                .map_err(|reason| value(key("env"), "not to be filled in", reason))?;
            self.image(place, version)
                .map_err(|reason| value(key("image"), "not to be filled in", reason))?;
            if let Some(directory) = &definition.directory {
                fill(directory, place, Some(version), &[])
                    .map_err(|reason| value(key("directory"), "not to be filled in", reason))?;
            }
        }
        if let SupervisorSpec::Command(hooks) = &self.supervisor {
            let more = [("grace", String::new())];
            for (name, hook) in [("start", &hooks.start), ("stop", &hooks.stop), ("state", &hooks.state)] {
                check_hook(&format!("supervisor.{name}"), hook, true, |hook| {
                    fill_all(hook, place, Some(VersionRef::To), &more)
                })?;
            }
        }
        if let BalancerSpec::Command(hooks) = &self.balancer {
            let more = [("weight", String::new())];
            for (name, hook, needed) in [
                ("take_out", &hooks.take_out, true),
                ("admit", &hooks.admit, true),
                ("state", &hooks.state, true),
                ("in_flight", &hooks.in_flight, false),
                ("cut", &hooks.cut, false),
            ] {
                check_hook(&format!("balancer.{name}"), hook, needed, |hook| {
                    fill_all(hook, place, None, &more)
                })?;
            }
        }
        Ok(())
    }

    fn check_balancer(&self) -> Result<(), DeploymentError> {
        match &self.balancer {
            BalancerSpec::Gateway { admin } => {
                Base::parse(admin).map_err(|reason| value("balancer.admin", format!("`{admin}`"), reason))?;
            }
            BalancerSpec::Nginx(nginx) => {
                for url in &nginx.confirm {
                    Base::parse(url)
                        .map_err(|reason| value("balancer.confirm", format!("`{url}`"), reason))?;
                }
                if nginx.confirm_listen.parse::<std::net::SocketAddr>().is_err() {
                    let found = format!("`{}`", nginx.confirm_listen);
                    return Err(value(
                        "balancer.confirm_listen",
                        found,
                        "an address and port, as 127.0.0.1:8099",
                    ));
                }
                let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
                if nginx.upstream.is_empty() || !word(&nginx.upstream) {
                    let found = format!("`{}`", nginx.upstream);
                    return Err(value(
                        "balancer.upstream",
                        found,
                        "a name of letters, digits, `_`, `-`, `.`",
                    ));
                }
                for line in &nginx.directives {
                    if !line.trim_end().ends_with(';') {
                        let found = format!("`{line}`");
                        return Err(value("balancer.directives", found, "lines that end with `;`"));
                    }
                }
            }
            BalancerSpec::Haproxy(_) | BalancerSpec::Command(_) => {}
        }
        Ok(())
    }

    /// A secret that is written into the file is one that everybody reads.
    fn check_secrets(&self) -> Result<(), DeploymentError> {
        for (definition, version) in [(&self.versions.from, "from"), (&self.versions.to, "to")] {
            let secret = |name: &str| {
                let name = name.to_ascii_uppercase();
                ["TOKEN", "SECRET", "PASSWORD", "API_KEY"].iter().any(|word| name.ends_with(word))
            };
            if let Some(name) = definition.env.keys().find(|name| secret(name)) {
                let key = format!("versions.{version}.env.{name}");
                let expected =
                    "no secret in this file, which is copied into the journal: use env_from or env_files";
                return Err(value(key, "written out", expected));
            }
        }
        Ok(())
    }

    /// Whether it fits a plan, and in the plan's order.
    ///
    /// # Errors
    /// When it does not have exactly the plan's replicas.
    pub fn for_plan(&self, plan: &Plan) -> Result<Deployment, DeploymentError> {
        let named = |name: &str| self.replicas.iter().find(|place| place.name == name);
        let mut replicas = Vec::new();
        let mut missing = Vec::new();
        for spec in &plan.replicas {
            match named(&spec.name) {
                Some(place) => {
                    let mut place = place.clone();
                    if place.gpus.is_empty() {
                        place.gpus.clone_from(&spec.gpus);
                    }
                    replicas.push(place);
                }
                None => missing.push(spec.name.as_str()),
            }
        }
        let in_plan = |name: &str| plan.replicas.iter().any(|spec| spec.name == name);
        let extra: Vec<&str> =
            self.replicas.iter().map(|place| place.name.as_str()).filter(|name| !in_plan(name)).collect();
        if !missing.is_empty() || !extra.is_empty() {
            let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(DeploymentError::Replicas(format!(
                "plan and deployment name different replicas: only in the plan {}; only in the deployment {}; rename them or write the \
                 plan again for this fleet",
                list(&missing),
                list(&extra)
            )));
        }
        Ok(Deployment { replicas, ..self.clone() })
    }

    /// Whether the engine has gauges of what is in flight.
    pub fn engine_counts(&self) -> bool {
        self.engine.kind != EngineKind::Openai
    }
}

fn check_hook(
    key: &str,
    hook: &[String],
    needed: bool,
    fill: impl Fn(&[String]) -> Result<Vec<String>, String>,
) -> Result<(), DeploymentError> {
    if needed && hook.is_empty() {
        return Err(value(key, "empty", "a command as an argument vector"));
    }
    fill(hook).map(|_| ()).map_err(|reason| value(key, "not to be filled in", reason))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GOOD: &str = r#"
schema = "slackwater.deployment/1"
directory = "state"
balancer = { kind = "gateway", admin = "unix:/run/g.sock" }
engine = { kind = "vllm" }

[versions.from]
command = ["serve", "--port", "{port}"]

[versions.to]
command = ["serve", "--port", "{port}", "--new"]

[[replicas]]
name = "a"
url = "http://127.0.0.1:1"

[[replicas]]
name = "b"
url = "http://127.0.0.1:2"
"#;

    fn error(text: &str) -> String {
        Deployment::parse(text, Path::new("/etc/fleet")).unwrap_err().to_string()
    }

    #[test]
    fn a_good_one_is_read() {
        let deployment = Deployment::parse(GOOD, Path::new("/etc/fleet")).unwrap();
        assert_eq!(deployment.directory, Path::new("/etc/fleet/state"));
        let plan = Plan::rolling("v1", "v2", ["b", "a"]);
        let fitted = deployment.for_plan(&plan).unwrap();
        assert_eq!(fitted.replicas[0].name, "b", "in the plan's order");
        assert_eq!(fitted.replicas[0].gpus, [0], "the plan's GPUs");
        let written = toml::to_string(&deployment).unwrap();
        assert_eq!(Deployment::parse(&written, Path::new("/")).unwrap(), deployment);
    }

    #[test]
    fn mistakes_are_named() {
        for (change, to, said) in [
            ("deployment/1", "deployment/9", "schema is `slackwater.deployment/9`"),
            ("name = \"b\"", "name = \"a\"", "replicas[1].name is `a`, as another's"),
            ("http://127.0.0.1:2", "https://127.0.0.1:2", "plain address"),
            ("{port}\", \"--new", "{prot}\", \"--new", "known are name, url"),
            ("engine = { kind", "engine = { knd", "unknown field"),
            ("[versions.to]", "[versions.to]\nenv = { HF_TOKEN = \"x\" }", "use env_from"),
            ("unix:/run/g.sock", "run/g.sock", "balancer.admin"),
        ] {
            let text = GOOD.replacen(change, to, 1);
            assert_ne!(text, GOOD, "{change}");
            let error = error(&text);
            assert!(error.contains(said), "{change}: {error}");
        }
    }

    #[test]
    fn replicas_that_do_not_match_are_named() {
        let deployment = Deployment::parse(GOOD, Path::new("/")).unwrap();
        let error = deployment.for_plan(&Plan::rolling("v1", "v2", ["a", "c"])).unwrap_err().to_string();
        assert!(
            error.contains("only in the plan c") && error.contains("only in the deployment b"),
            "{error}"
        );
    }

    #[test]
    fn the_schema_names_every_table() {
        let schema = serde_json::to_string(&Deployment::json_schema()).unwrap();
        for word in [
            "confirm_listen",
            "haproxy",
            "env_from",
            "resolved_root",
            "memory_mib",
            "env_file",
            "environment_file",
        ] {
            assert!(schema.contains(word), "{word}");
        }
    }
}
