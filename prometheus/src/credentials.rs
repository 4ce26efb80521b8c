//! Who asks: a bearer token, or a name and a password, from the environment or a file that it names.

use std::fmt;

use crate::error::PrometheusError;

const TOKEN: &str = "SLACKWATER_PROMETHEUS_TOKEN";
const USER: &str = "SLACKWATER_PROMETHEUS_USER";
const PASSWORD: &str = "SLACKWATER_PROMETHEUS_PASSWORD";

/// No secret is longer; a file given by mistake is not read to its end.
const LONGEST: u64 = 1 << 16;

/// What a server is told of who asks. `Debug` shows no secret.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer(String),
    /// `Authorization: Basic`.
    Basic {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic { .. } => "Basic(..)",
        })
    }
}

impl Credentials {
    /// From `SLACKWATER_PROMETHEUS_TOKEN`, or `_USER` and `_PASSWORD`; with `_FILE` behind a secret's name, from that file.
    ///
    /// # Errors
    /// When a file that is named can't be read, both kinds are given, or a user has no password.
    pub fn from_environment() -> Result<Self, PrometheusError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// Those of [`from_environment`](Self::from_environment).
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Self, PrometheusError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let wrong = |from: &str, problem: String, help: &str| PrometheusError::Credentials {
            from: from.to_owned(),
            problem,
            help: help.to_owned(),
        };
        let secret = |name: &str| {
            let named = format!("{name}_FILE");
            match (variable(name), variable(&named)) {
                (Some(_), Some(_)) => Err(wrong(name, format!("{named} is set too"), "unset one of them")),
                (value, None) => Ok(value),
                (None, Some(path)) => read(&path)
                    .map(Some)
                    .map_err(|problem| wrong(&named, problem, "name a file that holds the secret alone")),
            }
        };
        match (secret(TOKEN)?, variable(USER), secret(PASSWORD)?) {
            (None, None, None) => Ok(Self::None),
            (Some(token), None, None) => Ok(Self::Bearer(token)),
            (None, Some(user), Some(password)) => Ok(Self::Basic { user, password }),
            (None, Some(_), None) => Err(wrong(USER, format!("{PASSWORD} is not set"), "set both")),
            (None, None, Some(_)) => Err(wrong(PASSWORD, format!("{USER} is not set"), "set both")),
            (Some(_), ..) => Err(wrong(TOKEN, format!("{USER} or {PASSWORD} is set too"), "unset one kind")),
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    use std::io::Read;

    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?;
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| format!("cannot read {path}: {error}"))?;
    let text = text.trim();
    if text.is_empty() { Err(format!("{path} is empty")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Credentials, PrometheusError> {
        Credentials::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn secrets_come_from_variables_or_files_and_are_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let path = file.path().display().to_string();
        let bearer = from(&[("SLACKWATER_PROMETHEUS_TOKEN_FILE", &path)]).unwrap();
        assert!(matches!(&bearer, Credentials::Bearer(token) if token == "s3cret"));
        assert_eq!(format!("{bearer:?}"), "Bearer(..)");
        let basic = from(&[(USER, "ada"), (PASSWORD, "s3cret")]).unwrap();
        assert_eq!(format!("{basic:?}"), "Basic(..)");
        assert!(matches!(from(&[]), Ok(Credentials::None)));
    }

    #[test]
    fn half_or_twice_given_credentials_are_named() {
        for (pairs, expected) in [
            (&[(USER, "ada")][..], "SLACKWATER_PROMETHEUS_PASSWORD is not set"),
            (&[(PASSWORD, "s3cret")], "SLACKWATER_PROMETHEUS_USER is not set"),
            (&[(TOKEN, "s3cret"), (USER, "ada"), (PASSWORD, "x")], "is set too"),
            (&[(TOKEN, "s3cret"), ("SLACKWATER_PROMETHEUS_TOKEN_FILE", "x")], "is set too"),
            (&[("SLACKWATER_PROMETHEUS_TOKEN_FILE", "/no/such")], "/no/such"),
        ] {
            let message = from(pairs).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
        }
    }
}
