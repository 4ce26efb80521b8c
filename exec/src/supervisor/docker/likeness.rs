//! A container's definition in the likeness of another's, with another image, command and environment.
//!
//! ```text
//!   docker inspect OLD ── less what it has from its old image ── plus the version's image, command, env ──► body of a create
//! ```
//!
//! What `inspect` shows of a container holds its image's own variables, entry point and labels too. Passed on with a new image they would
//! hide the new image's, so whatever is as the old image has it is left out and comes from the new one. All else is passed on as it is,
//! known or not: the host's part (GPUs, memory, mounts, restart policy, limits) word for word.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::procfs::host_name;

/// The label of what it was made by: [`crate::deployment::Deployment::definition_hash`].
pub(super) const DEFINITION: &str = "slackwater.definition";
/// The label of whose it is.
pub(super) const REPLICA: &str = "slackwater.replica";

/// What a version changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) image: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// The body of a create, and the networks to connect it to afterwards: engines before 25 take one in a create.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) body: Value,
    pub(super) networks: Vec<Attached>,
}

/// A network, and how a container is attached to it.
type Attached = (String, Value);

/// A container like `old`, whose image is `old_image` (`Null` where it is here no longer: then nothing is known to be from it).
pub(super) fn likeness(old: &Value, old_image: &Value, changes: &Changes) -> Made {
    let mut config = old.get("Config").and_then(Value::as_object).cloned().unwrap_or_default();
    let from_image = old_image.get("Config").cloned().unwrap_or_default();
    leave_out_the_images_own(&mut config, &from_image);
    config.insert("Env".to_owned(), environment(&config, &from_image, changes));
    if let Some(image) = &changes.image {
        config.insert("Image".to_owned(), json!(image));
    }
    if !changes.command.is_empty() {
        config.insert("Cmd".to_owned(), json!(changes.command));
    }
    let labels = config.entry("Labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    for (name, value) in &changes.labels {
        labels[name] = json!(value);
    }
    let mut host = old.get("HostConfig").cloned().unwrap_or_else(|| json!({}));
    keep_unnamed_volumes(old, &mut host);
    let mode = host.get("NetworkMode").and_then(Value::as_str).unwrap_or_default().to_owned();
    forget_given_names(old, &mode, &mut config);
    let (first, networks) = endpoints(old, &mode);
    let mut body = Value::Object(config);
    body["HostConfig"] = host;
    if let Some((name, endpoint)) = first {
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { name: endpoint } });
    }
    Made { body, networks }
}

/// Its arguments as a process has them.
pub(super) fn arguments(container: &Value) -> Vec<String> {
    let path = container.get("Path").and_then(Value::as_str).map(str::to_owned);
    path.into_iter().chain(words(container.get("Args"))).collect()
}

pub(super) fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn leave_out_the_images_own(config: &mut Map<String, Value>, image: &Value) {
    let same = |key: &str, value: &Value| !value.is_null() && image.get(key) == Some(value);
    // A command belongs to its entry point: with one of the container's own both are its own.
    if config.get("Entrypoint").is_none_or(|own| own.is_null() || same("Entrypoint", own)) {
        config.remove("Entrypoint");
        if config.get("Cmd").is_some_and(|own| same("Cmd", own)) {
            config.remove("Cmd");
        }
    }
    for key in
        ["User", "WorkingDir", "Healthcheck", "StopSignal", "Shell", "Volumes", "ExposedPorts", "OnBuild"]
    {
        if config.get(key).is_some_and(|value| same(key, value)) {
            config.remove(key);
        }
    }
    let theirs = image.get("Labels").cloned().unwrap_or_default();
    if let Some(labels) = config.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.retain(|name, value| theirs.get(name) != Some(value));
    }
}

fn environment(config: &Map<String, Value>, image: &Value, changes: &Changes) -> Value {
    let theirs: BTreeSet<String> = words(image.get("Env")).into_iter().collect();
    let own = words(config.get("Env")).into_iter();
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = own
        .filter(|entry| !theirs.contains(entry) && !changes.environment.contains_key(&name(entry)))
        .collect();
    all.extend(changes.environment.iter().map(|(name, value)| format!("{name}={value}")));
    json!(all)
}

/// A volume that nobody gave a name is not in the host's part, and would be made anew, empty.
fn keep_unnamed_volumes(old: &Value, host: &mut Value) {
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let bound: BTreeSet<String> = words(host.get("Binds"))
        .iter()
        .filter_map(|bind| bind.split(':').nth(1).map(str::to_owned))
        .collect();
    let listed = |key: &str, of: &Value| of.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mounted: BTreeSet<String> =
        listed("Mounts", host).iter().map(|mount| text(mount, "Target")).collect();
    let mut binds = words(host.get("Binds"));
    for mount in listed("Mounts", old) {
        let target = text(&mount, "Destination");
        if text(&mount, "Type") == "volume" && !bound.contains(&target) && !mounted.contains(&target) {
            let mode = if mount.get("RW") == Some(&json!(false)) { ":ro" } else { "" };
            binds.push(format!("{}:{target}{mode}", text(&mount, "Name")));
        }
    }
    if !binds.is_empty() {
        host["Binds"] = json!(binds);
    }
}

/// Names that the engine gave: the new container gets its own.
fn forget_given_names(old: &Value, mode: &str, config: &mut Map<String, Value>) {
    let id = old.get("Id").and_then(Value::as_str).unwrap_or_default();
    let given =
        |name: &str| (!name.is_empty() && id.starts_with(name)) || (mode == "host" && name == host_name());
    let shared = mode.starts_with("container:");
    if config.get("Hostname").and_then(Value::as_str).is_some_and(given) || shared {
        config.remove("Hostname");
    }
    if shared {
        // They are the other container's.
        config.remove("ExposedPorts");
        config.remove("Domainname");
    }
}

/// How it is attached to its networks: what was asked for, not what came of it.
fn endpoints(old: &Value, mode: &str) -> (Option<Attached>, Vec<Attached>) {
    if mode == "host" || mode == "none" || mode.starts_with("container:") {
        return (None, Vec::new());
    }
    let id = old.get("Id").and_then(Value::as_str).unwrap_or_default();
    let networks =
        old.pointer("/NetworkSettings/Networks").and_then(Value::as_object).cloned().unwrap_or_default();
    let asked = |endpoint: &Value| {
        let mut kept = Map::new();
        for key in ["IPAMConfig", "Links", "DriverOpts", "GwPriority"] {
            kept.extend(endpoint.get(key).filter(|it| !it.is_null()).map(|it| (key.to_owned(), it.clone())));
        }
        let aliases: Vec<String> = words(endpoint.get("Aliases"))
            .into_iter()
            .filter(|alias| !id.starts_with(alias.as_str()))
            .collect();
        if !aliases.is_empty() {
            kept.insert("Aliases".to_owned(), json!(aliases));
        }
        Value::Object(kept)
    };
    let is_first = |name: &str| name == mode || (matches!(mode, "default" | "") && name == "bridge");
    let mut all: Vec<(String, Value)> =
        networks.iter().map(|(name, endpoint)| (name.clone(), asked(endpoint))).collect();
    all.sort_by_key(|(name, _)| (!is_first(name), name.clone()));
    if all.is_empty() {
        return (None, Vec::new());
    }
    let first = all.remove(0);
    (Some(first), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Value {
        json!({
            "Id": "0123456789abcdef", "Path": "serve", "Args": ["--port", "1"],
            "Config": {
                "Hostname": "0123456789ab", "User": "app", "WorkingDir": "/srv", "StopSignal": "SIGINT",
                "Env": ["PATH=/old/bin", "CUDA_VERSION=12.1", "HF_HOME=/cache", "MODEL=one"],
                "Cmd": ["--port", "1"], "Entrypoint": ["serve"], "Image": "vllm:1",
                "Labels": { "maintainer": "them", "team": "chat" }, "NewField": { "a": 1 }, "MacAddress": "02:42:ac:11:00:09",
            },
            "HostConfig": {
                "Binds": ["/models:/models:ro"], "NetworkMode": "chat", "ShmSize": 1, "Fresh": [1],
                "DeviceRequests": [{ "Driver": "", "Count": 0, "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]], "Options": {} }],
                "RestartPolicy": { "Name": "unless-stopped", "MaximumRetryCount": 0 },
            },
            "Mounts": [
                { "Type": "bind", "Source": "/models", "Destination": "/models", "RW": false },
                { "Type": "volume", "Name": "f00d", "Destination": "/cache", "RW": true },
            ],
            "NetworkSettings": { "Networks": {
                "metrics": { "Aliases": ["0123456789ab", "chat-0"], "IPAMConfig": null, "IPAddress": "10.1.0.2" },
                "chat": { "Aliases": null, "IPAMConfig": { "IPv4Address": "10.0.0.9" }, "NetworkID": "x" },
            } },
        })
    }

    fn image() -> Value {
        json!({ "Config": {
            "Env": ["PATH=/old/bin", "CUDA_VERSION=12.1"], "Entrypoint": ["serve"], "Cmd": ["--help"], "User": "app",
            "WorkingDir": "/", "StopSignal": "SIGINT", "Labels": { "maintainer": "them" },
        } })
    }

    #[test]
    fn the_old_images_own_is_left_to_the_new_one_and_all_else_is_kept() {
        let changes = Changes {
            image: Some("vllm:2".to_owned()),
            environment: BTreeMap::from([("MODEL".to_owned(), "two".to_owned())]),
            labels: BTreeMap::from([(DEFINITION.to_owned(), "abc".to_owned())]),
            ..Changes::default()
        };
        let Made { body, networks } = likeness(&old(), &image(), &changes);
        assert_eq!(
            body,
            json!({
                "WorkingDir": "/srv", "Env": ["HF_HOME=/cache", "MODEL=two"], "Cmd": ["--port", "1"], "Image": "vllm:2",
                "Labels": { "team": "chat", "slackwater.definition": "abc" }, "NewField": { "a": 1 },
                "MacAddress": "02:42:ac:11:00:09",
                "HostConfig": {
                    "Binds": ["/models:/models:ro", "f00d:/cache"], "NetworkMode": "chat", "ShmSize": 1, "Fresh": [1],
                    "DeviceRequests": old()["HostConfig"]["DeviceRequests"].clone(),
                    "RestartPolicy": { "Name": "unless-stopped", "MaximumRetryCount": 0 },
                },
                "NetworkingConfig": { "EndpointsConfig": { "chat": { "IPAMConfig": { "IPv4Address": "10.0.0.9" } } } },
            })
        );
        assert_eq!(networks, [("metrics".to_owned(), json!({ "Aliases": ["chat-0"] }))]);
    }

    #[test]
    fn another_command_keeps_the_entry_point_to_the_image_or_to_the_user() {
        let changes = Changes { command: vec!["--port".to_owned(), "2".to_owned()], ..Changes::default() };
        let made = likeness(&old(), &image(), &changes);
        assert_eq!((made.body.get("Entrypoint"), &made.body["Cmd"]), (None, &json!(["--port", "2"])));
        let mut own = old();
        own["Config"]["Entrypoint"] = json!(["sh", "-c"]);
        let made = likeness(&own, &image(), &changes);
        assert_eq!(made.body["Entrypoint"], json!(["sh", "-c"]));
        // Without the old image nothing is known to be from it.
        let made = likeness(&old(), &Value::Null, &changes);
        assert_eq!(made.body["Env"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn what_another_container_shares_is_not_asked_for_twice() {
        let mut shared = old();
        shared["HostConfig"]["NetworkMode"] = json!("container:abc");
        let made = likeness(&shared, &image(), &Changes::default());
        assert_eq!((made.body.get("Hostname"), made.body.get("NetworkingConfig")), (None, None));
        let mut host = old();
        host["HostConfig"]["NetworkMode"] = json!("host");
        host["Config"]["Hostname"] = json!(host_name());
        let made = likeness(&host, &image(), &Changes::default());
        assert_eq!((made.body.get("Hostname"), made.body.get("NetworkingConfig")), (None, None));
    }
}
