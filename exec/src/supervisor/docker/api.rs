//! The Docker engine's API, as far as it is needed: JSON over its socket, read and passed on as it is.
//!
//! No typed client: those know the fields of one version of the API and drop the others (`bollard` 0.21 has no `Config.MacAddress` and no
//! `HostConfig.KernelMemory`, which older engines still have), and a container that is made again has to be the same in all of them.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::http::{self, Answer, Base, short};
use crate::trouble::Trouble;

/// A client of one engine.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct Api {
    base: Base,
    socket: String,
    within: Duration,
}

impl Api {
    /// The address was checked when the deployment was read.
    pub(in crate::supervisor) fn new(socket: &str, within: Duration) -> Result<Api, String> {
        Ok(Api { base: Base::parse(socket)?, socket: socket.to_owned(), within })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        more: Duration,
    ) -> Result<Answer, Trouble> {
        let within = self.within + more;
        let asked = match body {
            Some(body) => http::send_json(&self.base, method, path, body, within).await,
            None => http::send(&self.base, method, path, within).await,
        };
        asked.map_err(|trouble| trouble.while_doing(format!("Docker at {}", self.socket)))
    }

    /// An act: a status of 304 means that it is so already.
    async fn act(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        more: Duration,
    ) -> Result<Answer, Trouble> {
        let answer = self.ask(method, path, body, more).await?;
        if answer.is_ok() || answer.status == 304 {
            return Ok(answer);
        }
        Err(refused(what, &answer))
    }

    async fn look(&self, what: &str, path: &str) -> Result<Option<Value>, Trouble> {
        let answer = self.ask(Method::GET, path, None, Duration::ZERO).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_ok() => answer.json().map(Some),
            _ => Err(refused(what, &answer)),
        }
    }

    /// The engine's version, in words.
    pub(in crate::supervisor) async fn version(&self) -> Result<String, Trouble> {
        let version = self.look("its version", "/version").await?.unwrap_or_default();
        let version = version.get("Version").and_then(Value::as_str).unwrap_or("of an unknown version");
        Ok(version.to_owned())
    }

    /// A container as `docker inspect` shows it; `None`: there is none of this name or id.
    pub(in crate::supervisor) async fn container(&self, name: &str) -> Result<Option<Value>, Trouble> {
        self.look(&format!("container {name}"), &format!("/containers/{name}/json")).await
    }

    /// An image that is here.
    pub(in crate::supervisor) async fn image(&self, reference: &str) -> Result<Option<Value>, Trouble> {
        self.look(&format!("image {reference}"), &format!("/images/{reference}/json")).await
    }

    /// The ids of containers with all these labels (`name` or `name=value`), running or not.
    pub(in crate::supervisor) async fn labelled(&self, labels: &[String]) -> Result<Vec<String>, Trouble> {
        let filters = escaped(&json!({ "label": labels }).to_string());
        let path = format!("/containers/json?all=1&filters={filters}");
        let list = self.look("its containers", &path).await?.unwrap_or_default();
        let id = |it: &Value| it.get("Id").and_then(Value::as_str).map(str::to_owned);
        Ok(list.as_array().map(|list| list.iter().filter_map(id).collect()).unwrap_or_default())
    }

    pub(in crate::supervisor) async fn create(&self, name: &str, body: &Value) -> Result<(), Trouble> {
        let path = format!("/containers/create?name={name}");
        let what = format!("container {name} can't be made");
        self.act(&what, Method::POST, &path, Some(body), Duration::ZERO).await.map(|_| ())
    }

    pub(in crate::supervisor) async fn connect(
        &self,
        network: &str,
        name: &str,
        endpoint: &Value,
    ) -> Result<(), Trouble> {
        let body = json!({ "Container": name, "EndpointConfig": endpoint });
        let path = format!("/networks/{network}/connect");
        let what = format!("container {name} can't be connected to network {network}");
        self.act(&what, Method::POST, &path, Some(&body), Duration::ZERO).await.map(|_| ())
    }

    pub(in crate::supervisor) async fn start(&self, name: &str) -> Result<(), Trouble> {
        let path = format!("/containers/{name}/start");
        let what = format!("container {name} can't be started");
        self.act(&what, Method::POST, &path, None, Duration::ZERO).await.map(|_| ())
    }

    /// Asks it to stop by its own signal, kills it after the grace, and returns when it is gone.
    pub(in crate::supervisor) async fn stop(&self, name: &str, grace: Duration) -> Result<(), Trouble> {
        // Whole seconds are all it takes; less than asked for would cut.
        let seconds = grace.as_millis().div_ceil(1_000);
        let path = format!("/containers/{name}/stop?t={seconds}");
        let what = format!("container {name} can't be stopped");
        self.act(&what, Method::POST, &path, None, grace).await.map(|_| ())
    }

    pub(in crate::supervisor) async fn rename(&self, from: &str, to: &str) -> Result<(), Trouble> {
        let path = format!("/containers/{from}/rename?name={to}");
        let what = format!("container {from} can't be renamed to {to}");
        self.act(&what, Method::POST, &path, None, Duration::ZERO).await.map(|_| ())
    }

    /// Removes one that does not run; its volumes stay. One that is gone already is what was wanted.
    pub(in crate::supervisor) async fn remove(&self, name: &str) -> Result<(), Trouble> {
        let path = format!("/containers/{name}");
        let answer = self.ask(Method::DELETE, &path, None, Duration::ZERO).await?;
        if answer.is_ok() || answer.status == 404 {
            return Ok(());
        }
        Err(refused(&format!("container {name} can't be removed"), &answer))
    }

    pub(in crate::supervisor) async fn restart_policy(
        &self,
        name: &str,
        policy: &Value,
    ) -> Result<(), Trouble> {
        let body = json!({ "RestartPolicy": policy });
        let path = format!("/containers/{name}/update");
        let what = format!("the restart policy of container {name} can't be changed");
        self.act(&what, Method::POST, &path, Some(&body), Duration::ZERO).await.map(|_| ())
    }

    /// The last line that a container wrote.
    pub(in crate::supervisor) async fn last_line(&self, name: &str) -> Option<String> {
        let path = format!("/containers/{name}/logs?stdout=1&stderr=1&tail=20");
        let answer = self.ask(Method::GET, &path, None, Duration::ZERO).await.ok()?;
        if !answer.is_ok() {
            return None;
        }
        let text = unframed(&answer.bytes);
        let last = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(short(last))
    }
}

/// What the engine said against it. A conflict (409) may be over the next time, as may its own failures.
fn refused(what: &str, answer: &Answer) -> Trouble {
    let said = answer.json().ok();
    let message = said.as_ref().and_then(|said| said.get("message")).and_then(Value::as_str);
    let reason =
        format!("{what}: Docker answers {}: {}", answer.status, short(message.unwrap_or(&answer.body)));
    Trouble { reason, retryable: answer.status == 409 || answer.status >= 500 }
}

/// Output of a container without a terminal comes in frames with a head of eight bytes: stream, three zeros, length.
fn unframed(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_at_checked(8) {
        let framed = head[0] <= 2 && head[1..4] == [0, 0, 0];
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let Ok(length) = usize::try_from(length) else { break };
        if !framed {
            // With a terminal it comes as it is.
            break;
        }
        let (frame, next) = after.split_at(length.min(after.len()));
        text.extend_from_slice(frame);
        rest = next;
    }
    text.extend_from_slice(rest);
    String::from_utf8_lossy(&text).into_owned()
}

/// A value for a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_off_and_a_terminal_has_none() {
        let framed = b"\x01\0\0\0\0\0\0\x06hello\n\x02\0\0\0\0\0\0\x04oh!\n";
        assert_eq!(unframed(framed), "hello\noh!\n");
        assert_eq!(unframed(b"plain text\n"), "plain text\n");
        assert_eq!(unframed(b"\x01\0\0\0\0\0\0\xffcut"), "cut");
        assert_eq!(unframed(b""), "");
    }

    #[test]
    fn a_filter_is_escaped() {
        assert_eq!(escaped(r#"{"a":"b c"}"#), "%7B%22a%22%3A%22b%20c%22%7D");
    }
}
