//! HAProxy, by its runtime socket. An answer means that it is so; `scur` is the count of what is in flight.
//!
//! What the socket sets is lost when HAProxy is started anew (unless its own `server-state-file` keeps it), so the executor looks again
//! and again whether what it took out is still out (`keeper.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Balancer, Member};
use crate::deployment::{HaproxyOut, HaproxySpec, Place};
use crate::figures::Live;
use crate::http::short;
use crate::shell::quote;
use crate::trouble::Trouble;

const WITHIN: Duration = Duration::from_secs(5);
/// `show stat` of a thousand servers has some hundred kilobytes.
const ANSWER_MAX: u64 = 8 << 20;

/// HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    spec: HaproxySpec,
}

impl Haproxy {
    /// As the deployment has it.
    pub fn new(spec: HaproxySpec) -> Haproxy {
        Haproxy { spec }
    }

    async fn ask(&self, command: &str) -> Result<String, Trouble> {
        let socket = self.spec.socket.display();
        let exchange = async {
            let mut stream = UnixStream::connect(&self.spec.socket)
                .await
                .map_err(|error| format!("cannot connect to HAProxy's socket {socket}: {error}; is it running, is `stats socket` there?"))?;
            let failed = |error: std::io::Error| format!("HAProxy's socket {socket}: {error}");
            stream.write_all(format!("{command}\n").as_bytes()).await.map_err(failed)?;
            let mut answer = Vec::new();
            (&mut stream).take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(failed)?;
            Ok::<_, String>(String::from_utf8_lossy(&answer).trim().to_owned())
        };
        match tokio::time::timeout(WITHIN, exchange).await {
            Ok(done) => done.map_err(Trouble::passing),
            Err(_) => Err(Trouble::passing(format!(
                "HAProxy's socket {socket}: no answer to `{command}` within 5 s"
            ))),
        }
    }

    /// A command that says nothing when it succeeds.
    async fn set(&self, command: &str) -> Result<(), Trouble> {
        let said = self.ask(command).await?;
        if said.is_empty() {
            return Ok(());
        }
        let remedy = if said.contains("ermission denied") {
            "; the socket must be `level admin` in haproxy.cfg"
        } else if said.contains("No such") {
            "; check balancer.backend and the replica's `server`"
        } else {
            ""
        };
        Err(Trouble::lasting(format!("HAProxy refused `{command}`: {}{remedy}", short(&said))))
    }

    fn server(&self, place: &Place) -> String {
        format!("{}/{}", self.spec.backend, place.server())
    }

    fn out(&self) -> &'static str {
        match self.spec.out {
            HaproxyOut::Maint => "maint",
            HaproxyOut::Drain => "drain",
        }
    }

    /// The backend's servers as `show stat` has them, by name.
    async fn stat(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Trouble> {
        let text = self.ask(&format!("show stat {} 4 -1", self.spec.backend)).await?;
        let all = table(&text);
        if all.is_empty() {
            return Err(Trouble::lasting(format!(
                "HAProxy has no servers in a backend `{}`: {}; check balancer.backend",
                self.spec.backend,
                short(&text)
            )));
        }
        let mine = all.into_iter().filter(|row| row.get("pxname") == Some(&self.spec.backend));
        Ok(mine.filter_map(|row| Some((row.get("svname")?.clone(), row))).collect())
    }

    async fn row(&self, place: &Place) -> Result<BTreeMap<String, String>, Trouble> {
        self.stat().await?.remove(place.server()).ok_or_else(|| {
            Trouble::lasting(format!(
                "HAProxy has no server `{}`; set the replica's `server`",
                self.server(place)
            ))
        })
    }

    /// Reads back: what is reported is what is, not what was asked.
    async fn confirm(&self, place: &Place, wanted: bool) -> Result<(), Trouble> {
        let member = self.member(place).await?;
        if member.in_rotation == wanted {
            return Ok(());
        }
        let not = if wanted { "not " } else { "still " };
        Err(Trouble::passing(format!("HAProxy has {} {not}in rotation", self.server(place))))
    }
}

/// `show stat`: CSV with a header that begins with `# `.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let Some(header) = lines.next().and_then(|line| line.strip_prefix("# ")) else { return Vec::new() };
    let names: Vec<&str> = header.split(',').collect();
    let row = |line: &str| {
        let values = line.split(',').map(str::to_owned);
        names.iter().map(|name| (*name).to_owned()).zip(values).collect()
    };
    lines.map(row).collect()
}

#[async_trait]
impl Balancer for Haproxy {
    fn name(&self) -> String {
        format!("HAProxy's backend {} at {}", self.spec.backend, self.spec.socket.display())
    }

    async fn member(&self, place: &Place) -> Result<Member, Trouble> {
        let row = self.row(place).await?;
        let status = row.get("status").map_or("", String::as_str);
        // `DOWN` is the health check's word, not ours: it would be routed to as soon as it answers.
        let out = status.starts_with("MAINT") || status.starts_with("DRAIN");
        let in_flight = row.get("scur").and_then(|count| count.parse().ok());
        Ok(Member { in_rotation: !out, in_flight })
    }

    async fn take_out(&self, place: &Place) -> Result<(), Trouble> {
        self.set(&format!("set server {} state {}", self.server(place), self.out())).await?;
        self.confirm(place, false).await
    }

    async fn admit(&self, place: &Place, weight: Option<u8>, _version: Option<&str>) -> Result<(), Trouble> {
        if let Some(percent) = weight {
            self.set(&format!("set server {} weight {percent}%", self.server(place))).await?;
        }
        // Its health check may have found it dead while it was out; that is not waited for again, it was checked by us.
        self.set(&format!("set server {} health up", self.server(place))).await.ok();
        self.set(&format!("set server {} state ready", self.server(place))).await?;
        self.confirm(place, true).await
    }

    async fn cut(&self, place: &Place) -> Result<u32, Trouble> {
        let in_flight = self.member(place).await?.in_flight.unwrap_or(0);
        self.set(&format!("shutdown sessions server {}", self.server(place))).await?;
        Ok(in_flight)
    }

    async fn live(&self) -> Option<Live> {
        // `rate` is of new sessions over the last second, so the average of its limits would jump: the counters are differenced by
        // whoever asks (`figures.rs`).
        let servers = self.stat().await.ok()?;
        let sum = |name: &str| {
            let values = servers.values().filter_map(|row| row.get(name)?.parse::<u64>().ok());
            values.sum::<u64>()
        };
        Some(Live { answered: Some(sum("req_tot")), failed: Some(sum("hrsp_5xx")), ..Live::default() })
    }

    async fn prepare(&self, places: &[Place]) -> Result<Vec<String>, Trouble> {
        for place in places {
            self.row(place).await?;
            // A state that there is not: with too few rights it is refused before it is read, and else nothing changes.
            let said = self.ask(&format!("set server {} state ?", self.server(place))).await?;
            if said.contains("ermission denied") {
                return Err(Trouble::lasting(format!(
                    "HAProxy's socket {} may only be read ({}); it must be `level admin` in haproxy.cfg",
                    self.spec.socket.display(),
                    short(&said)
                )));
            }
        }
        let mut lines = vec![format!(
            "{}: set server {}/NAME state {}, later ready",
            self.name(),
            self.spec.backend,
            self.out()
        )];
        let state = self.ask("show servers state").await?;
        if state.is_empty() {
            return Err(Trouble::passing(format!("{} does not tell its servers' state", self.name())));
        }
        lines.push(
            "HAProxy forgets this when it is restarted; the executor sets it again within a second"
                .to_owned(),
        );
        Ok(lines)
    }

    fn recovery(&self, places: &[Place]) -> Vec<String> {
        let socket = quote(&self.spec.socket.to_string_lossy());
        let mut lines = vec![format!(
            "haproxy_say() {{ if command -v socat >/dev/null; then echo \"$1\" | socat stdio UNIX-CONNECT:{socket}; else python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall((sys.argv[2] + chr(10)).encode()); sys.stdout.write(s.makefile().read())' {socket} \"$1\"; fi; }}"
        )];
        for place in places {
            for what in ["weight 100%", "health up", "state ready"] {
                lines.push(format!(
                    "haproxy_say {}",
                    quote(&format!("set server {} {what}", self.server(place)))
                ));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_read_by_their_header() {
        let text = "# pxname,svname,qcur,scur,status,\nllm,a,0,3,UP,\nllm,b,0,0,MAINT,\n\n";
        let rows = table(text);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0]["svname"].as_str(), rows[0]["scur"].as_str()), ("a", "3"));
        assert_eq!(rows[1]["status"], "MAINT");
        assert!(table("Unknown command").is_empty());
    }
}
