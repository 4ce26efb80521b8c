//! What a version's environment has that the deployment file does not.

use std::collections::BTreeMap;
use std::fs;

use slackwater_policy::VersionRef;

use crate::deployment::Deployment;
use crate::trouble::Trouble;

/// Variables that come from the executor's environment or from files. Never to be written down, nor said.
pub(super) fn secrets(
    deployment: &Deployment,
    version: VersionRef,
) -> Result<BTreeMap<String, String>, Trouble> {
    let definition = deployment.versions.of(version);
    let mut secrets = BTreeMap::new();
    for (theirs, ours) in &definition.env_from {
        let value = std::env::var(ours).map_err(|_| {
            Trouble::lasting(format!(
                "{ours} is not in the executor's environment, and {theirs} of {version} comes from it"
            ))
        })?;
        secrets.insert(theirs.clone(), value);
    }
    for (name, path) in &definition.env_files {
        let value = fs::read_to_string(path).map_err(|error| {
            Trouble::lasting(format!("{} can't be read for {name} of {version}: {error}", path.display()))
        })?;
        secrets.insert(name.clone(), value.trim_end_matches('\n').to_owned());
    }
    Ok(secrets)
}
