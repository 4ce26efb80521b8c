//! From text to a checked scenario. To be completed: overrides, engine names, positions.

use crate::error::{Diagnostic, ScenarioError};
use crate::scenario::Scenario;

pub(crate) fn read(text: &str, name: &str, _: &[impl AsRef<str>]) -> Result<Scenario, ScenarioError> {
    toml::from_str(text).map_err(|error| {
        ScenarioError::Invalid(Box::new(Diagnostic {
            path: name.into(),
            line: 1,
            column: 1,
            key: None,
            snippet: String::new(),
            width: 1,
            message: error.message().into(),
            help: None,
        }))
    })
}
