//! A Compose override file that is ours: one entry a service. It is written as JSON, which every reader of YAML reads.

use serde_json::{Map, Value, json};

use crate::deployment::{Deployment, Place};
use slackwater_policy::VersionRef;

const HEAD: &str = "# Written by Slackwater, which asks that nobody else does.\n";

/// The file's services.
///
/// # Errors
/// When it is not of our making.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, String> {
    let body: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    if body.trim().is_empty() {
        return Ok(Map::new());
    }
    let read: Result<Value, _> = serde_json::from_str(&body);
    let services = read.ok().filter(|read| read.as_object().is_some_and(|it| it.len() == 1));
    let services = services.and_then(|read| read.get("services")?.as_object().cloned());
    services.ok_or_else(|| {
        "it is not as Slackwater writes it: name a file of its own in supervisor.override_file".to_owned()
    })
}

/// The file with these services; there is none without any: Compose 1 takes an empty one for a file of its first version.
pub(super) fn text(services: &Map<String, Value>) -> Option<String> {
    if services.is_empty() {
        return None;
    }
    let body = serde_json::to_string_pretty(&json!({ "services": services })).unwrap_or_default();
    Some(format!("{HEAD}{body}\n"))
}

/// What a version says of its service, as text.
pub(super) fn slot(deployment: &Deployment, place: &Place, version: VersionRef) -> Result<String, String> {
    let mut service = Map::new();
    let image = deployment.image(place, version)?;
    service.extend(image.map(|image| ("image".to_owned(), json!(escaped(&image)))));
    let command = deployment.arguments(place, version)?;
    if !command.is_empty() {
        let command: Vec<String> = command.iter().map(|word| escaped(word)).collect();
        service.insert("command".to_owned(), json!(command));
    }
    let environment = deployment.plain_environment(place, version)?;
    if !environment.is_empty() {
        let variables = environment.into_iter().map(|(name, value)| (name, json!(escaped(&value))));
        service.insert("environment".to_owned(), Value::Object(variables.collect()));
    }
    serde_json::to_string(&Value::Object(service)).map_err(|error| error.to_string())
}

/// Compose puts variables into every value; a `$` that is meant is written twice.
fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_anything_else_is_refused() {
        let services = Map::from_iter([("chat".to_owned(), json!({ "image": "a" }))]);
        assert_eq!(read(&text(&services).unwrap()).unwrap(), services);
        assert!(read("").unwrap().is_empty() && read("# nothing\n").unwrap().is_empty());
        for other in
            ["services:\n  chat:\n    image: a\n", "{}", "{\"services\": {}, \"volumes\": {}}", "[1]"]
        {
            assert!(read(other).is_err(), "{other}");
        }
        assert_eq!(escaped("$HOME"), "$$HOME");
    }
}
