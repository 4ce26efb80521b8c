//! Puts a replica's values into a command.

use super::{Deployment, Place};
use sha2::{Digest, Sha256};
use slackwater_policy::VersionRef;

use crate::http::Base;

/// `template` with its placeholders replaced. `more` are values that only this command has.
///
/// # Errors
/// When a placeholder is not known; the message lists those that are.
pub(crate) fn fill(
    template: &str,
    place: &Place,
    version: Option<VersionRef>,
    more: &[(&str, String)],
) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        let end = after.find('}').filter(|_| brace == "{");
        let Some(end) = end else {
            return Err(format!("`{template}` has a lone `{brace}`; a literal brace is written twice"));
        };
        let name = &after[..end];
        let Some(value) = value(name, place, version, more) else {
            let own: Vec<&str> =
                place.values.keys().map(String::as_str).chain(more.iter().map(|(name, _)| *name)).collect();
            return Err(format!(
                "`{template}` names `{{{name}}}`, which {} does not have; known are name, url, host, port, gpus, server, version{}{}",
                place.name,
                if own.is_empty() { "" } else { ", " },
                own.join(", ")
            ));
        };
        filled.push_str(&value);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(name: &str, place: &Place, version: Option<VersionRef>, more: &[(&str, String)]) -> Option<String> {
    let base = || Base::parse(&place.url).ok();
    match name {
        "name" => Some(place.name.clone()),
        "url" => Some(place.url.clone()),
        "host" => Some(base()?.host().to_owned()),
        "port" => Some(base()?.port()?.to_string()),
        "gpus" => Some(place.gpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        "server" => Some(place.server().to_owned()),
        "version" => version.map(|version| {
            let name = match version {
                VersionRef::From => "from",
                VersionRef::To => "to",
            };
            name.to_owned()
        }),
        other => place
            .values
            .get(other)
            .cloned()
            .or_else(|| more.iter().find(|(name, _)| *name == other).map(|(_, value)| value.clone())),
    }
}

impl Deployment {
    /// The argument vector of a version at a place.
    ///
    /// # Errors
    /// When a placeholder is not known.
    pub fn arguments(&self, place: &Place, version: VersionRef) -> Result<Vec<String>, String> {
        fill_all(&self.versions.of(version).command, place, Some(version), &[])
    }

    /// Names what is started at a place for a version, whatever the version is called: a rollout's new one is the next one's old.
    pub fn definition_hash(&self, place: &Place, version: VersionRef) -> String {
        let definition = self.versions.of(version);
        let started = (
            self.arguments(place, version).unwrap_or_default(),
            self.plain_environment(place, version).unwrap_or_default(),
            (&definition.env_from, &definition.env_files, &definition.directory),
        );
        let mut text = serde_json::to_string(&started).unwrap_or_default();
        text.extend(self.image(place, version).ok().flatten());
        Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The variables of a version at a place that the file itself holds, without those of secrets.
    ///
    /// # Errors
    /// When a placeholder is not known.
    pub fn plain_environment(
        &self,
        place: &Place,
        version: VersionRef,
    ) -> Result<Vec<(String, String)>, String> {
        let env = self.versions.of(version).env.iter();
        let filled = |text: &String| fill(text, place, Some(version), &[]);
        env.map(|(name, value)| Ok((filled(name)?, filled(value)?))).collect()
    }

    /// The image of a version at a place.
    ///
    /// # Errors
    /// When a placeholder is not known.
    pub fn image(&self, place: &Place, version: VersionRef) -> Result<Option<String>, String> {
        let image = self.versions.of(version).image.as_ref();
        image.map(|image| fill(image, place, Some(version), &[])).transpose()
    }
}

pub(crate) fn fill_all(
    templates: &[String],
    place: &Place,
    version: Option<VersionRef>,
    more: &[(&str, String)],
) -> Result<Vec<String>, String> {
    templates.iter().map(|template| fill(template, place, version, more)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_are_put_in_and_unknown_ones_named() {
        let place = Place {
            name: "replica-1".to_owned(),
            url: "http://127.0.0.1:8002".to_owned(),
            gpus: vec![2, 3],
            server: None,
            unit: None,
            weight: 100,
            log: None,
            values: BTreeMap::from([("numa".to_owned(), "1".to_owned())]),
        };
        let filled =
            fill("{name} {host}:{port} {gpus} {version} {numa} {{x}}", &place, Some(VersionRef::To), &[]);
        assert_eq!(filled.unwrap(), "replica-1 127.0.0.1:8002 2,3 to 1 {x}");
        assert_eq!(fill("{grace}", &place, None, &[("grace", "30".to_owned())]).unwrap(), "30");
        assert!(fill("{prot}", &place, None, &[]).unwrap_err().contains("known are name, url"));
        assert!(fill("a } b", &place, None, &[]).unwrap_err().contains("written twice"));
        assert!(fill("{port", &place, None, &[]).unwrap_err().contains("written twice"));
    }
}
