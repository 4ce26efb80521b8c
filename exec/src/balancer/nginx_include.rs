//! The include file that nginx reads: written whole, with a generation and a hash of itself.
//!
//! ```text
//! # Managed by Slackwater; edits are refused. sha256 <of the lines below>
//! # generation 12
//! upstream llm { least_conn; server 127.0.0.1:8001; server 127.0.0.1:8002 down; }
//! server { listen 127.0.0.1:8099; … return 200 "llm 12\n"; }
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::deployment::{NginxSpec, Place};
use crate::http::Base;

const HEAD: &str = "# Managed by Slackwater; edits are refused. sha256 ";
const GENERATION: &str = "# generation ";

/// Where each replica stands in one generation, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Include {
    pub(super) generation: u64,
    pub(super) servers: BTreeMap<String, Server>,
}

/// One replica's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) down: bool,
    pub(super) weight: u16,
}

impl Include {
    /// All in rotation.
    pub(super) fn first(places: &[Place]) -> Include {
        let server = |place: &Place| (place.name.clone(), Server { down: false, weight: place.weight });
        Include { generation: 1, servers: places.iter().map(server).collect() }
    }

    /// The file.
    pub(super) fn text(&self, spec: &NginxSpec, places: &[Place]) -> String {
        let mut body = format!("{GENERATION}{}\nupstream {} {{\n", self.generation, spec.upstream);
        let mut line = |text: &str| {
            body.push_str(text);
            body.push('\n');
        };
        for directive in &spec.directives {
            line(&format!("    {directive}"));
        }
        for place in places {
            let Some(server) = self.servers.get(&place.name) else { continue };
            let address = Base::parse(&place.url).map_or_else(
                |_| place.url.clone(),
                |base| {
                    let host = base.host();
                    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                    format!("{host}:{}", base.port().unwrap_or(80))
                },
            );
            let weight = if spec.weights { format!(" weight={}", server.weight) } else { String::new() };
            let space = if spec.server_parameters.is_empty() { "" } else { " " };
            let down = if server.down { " down" } else { "" };
            line(&format!(
                "    server {address}{weight}{space}{}{down}; # {}",
                spec.server_parameters, place.name
            ));
        }
        line("}");
        line("server {");
        line(&format!("    listen {};", spec.confirm_listen));
        line("    access_log off;");
        line("    default_type text/plain;");
        line(&format!("    location / {{ return 200 \"{}\\n\"; }}", self.word(spec)));
        line("}");
        format!("{HEAD}{}\n{body}", hash(&body))
    }

    /// What nginx answers when it runs this generation.
    pub(super) fn word(&self, spec: &NginxSpec) -> String {
        word(spec, self.generation)
    }

    /// Reads a file of ours.
    ///
    /// # Errors
    /// Says what is wrong with one that is not as it was written.
    pub(super) fn read(text: &str, places: &[Place]) -> Result<Include, String> {
        let (head, body) = text.split_once('\n').unwrap_or((text, ""));
        let Some(said) = head.strip_prefix(HEAD) else {
            return Err("it was not written by Slackwater".to_owned());
        };
        if hash(body) != said.trim() {
            return Err("it was edited by somebody else".to_owned());
        }
        let generation = body.lines().next().and_then(|line| line.strip_prefix(GENERATION)?.parse().ok());
        let generation = generation.ok_or_else(|| "it has no generation".to_owned())?;
        let mut servers = BTreeMap::new();
        for place in places {
            let end = format!("; # {}", place.name);
            let line =
                body.lines().find(|line| line.ends_with(&end) && line.trim_start().starts_with("server "));
            let Some(line) = line else { return Err(format!("it has no server for {}", place.name)) };
            let words = line.trim_end_matches(&end).split_ascii_whitespace();
            let weight = words.clone().find_map(|word| word.strip_prefix("weight=")?.parse().ok());
            let down = words.last() == Some("down");
            servers.insert(place.name.clone(), Server { down, weight: weight.unwrap_or(place.weight) });
        }
        Ok(Include { generation, servers })
    }
}

/// What nginx answers when it runs this generation.
pub(super) fn word(spec: &NginxSpec, generation: u64) -> String {
    format!("{} {generation}", spec.upstream)
}

pub(super) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NginxSpec {
        toml::from_str(
            "include = '/x'\nupstream = 'llm'\nconfirm_listen = '127.0.0.1:8099'\ndirectives = ['least_conn;']\nweights = true",
        )
        .unwrap()
    }

    fn places() -> Vec<Place> {
        let place = |name: &str, port: u16| {
            toml::from_str(&format!("name = '{name}'\nurl = 'http://127.0.0.1:{port}'")).unwrap()
        };
        vec![place("a", 1), place("b", 2)]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut include = Include::first(&places());
        include.generation = 7;
        include.servers.insert("b".to_owned(), Server { down: true, weight: 25 });
        let text = include.text(&spec(), &places());
        assert!(text.contains("    server 127.0.0.1:2 weight=25 max_fails=0 down; # b\n"), "{text}");
        assert!(text.contains("return 200 \"llm 7\\n\""), "{text}");
        assert_eq!(Include::read(&text, &places()).unwrap(), include);
    }

    #[test]
    fn an_edit_is_seen() {
        let text = Include::first(&places()).text(&spec(), &places());
        let edited = text.replace("max_fails=0", "max_fails=3");
        assert!(Include::read(&edited, &places()).unwrap_err().contains("edited"));
        assert!(Include::read("upstream llm {}", &places()).unwrap_err().contains("not written"));
        let mut more = places();
        more.push(toml::from_str("name = 'c'\nurl = 'http://127.0.0.1:3'").unwrap());
        assert!(Include::read(&text, &more).unwrap_err().contains("no server for c"));
    }
}
