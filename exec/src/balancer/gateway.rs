//! Slackwater's own gateway, by its admin interface. What it answers is so already: no request routed after the answer goes the old way.

use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Balancer, Member};
use crate::deployment::Place;
use crate::figures::{Live, Quantiles};
use crate::http::{self, Address, Base, short};
use crate::shell::quote;
use crate::trouble::Trouble;

const WITHIN: Duration = Duration::from_secs(5);

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    admin: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    replicas: Vec<Upstream>,
}

#[derive(Debug, Deserialize)]
struct Upstream {
    name: String,
    url: String,
    state: String,
    in_flight: u32,
}

#[derive(Debug, Deserialize)]
struct Answered {
    rate_per_s: f64,
    ttft_s: Option<Figures>,
    tpot_s: Option<Figures>,
    error_rate: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    p50: Option<f64>,
    p99: Option<f64>,
    #[serde(default)]
    count: u64,
}

impl Figures {
    /// Of nobody there are no quantiles.
    fn quantiles(self) -> Option<Quantiles> {
        let Figures { p50, p99, count } = self;
        (count > 0).then_some(Quantiles { p50: p50?, p99: p99? })
    }
}

impl Gateway {
    /// At this admin address, which was checked when the deployment was read.
    pub fn new(admin: &str) -> Gateway {
        Gateway { admin: admin.to_owned() }
    }

    fn base(&self) -> Result<Base, Trouble> {
        Base::parse(&self.admin).map_err(Trouble::lasting)
    }

    fn path(place: &Place) -> String {
        let mut path = "/replicas/".to_owned();
        for byte in place.server().bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        path
    }

    async fn list(&self) -> Result<Vec<Upstream>, Trouble> {
        let answer = http::get(&self.base()?, "/replicas", WITHIN).await?;
        if !answer.is_ok() {
            return Err(self.odd("GET /replicas", &answer));
        }
        let listed: Listed = serde_json::from_value(answer.json()?).map_err(|error| {
            Trouble::lasting(format!("{} gave no list of replicas: {error}", self.name()))
        })?;
        Ok(listed.replicas)
    }

    async fn change(&self, place: &Place, change: serde_json::Value, wanted: &str) -> Result<(), Trouble> {
        let path = Gateway::path(place);
        let answer = http::send_json(&self.base()?, Method::PATCH, &path, &change, WITHIN).await?;
        if !answer.is_ok() {
            return Err(self.odd(&format!("PATCH {path}"), &answer));
        }
        let upstream: Upstream = serde_json::from_value(answer.json()?)
            .map_err(|error| Trouble::passing(format!("{} answered oddly: {error}", self.name())))?;
        if upstream.state == wanted {
            return Ok(());
        }
        Err(Trouble::passing(format!(
            "{} says {} is `{}`, not `{wanted}`",
            self.name(),
            place.name,
            upstream.state
        )))
    }

    fn odd(&self, what: &str, answer: &http::Answer) -> Trouble {
        let reason = format!("{}: {what} gave {}: {}", self.name(), answer.status, short(&answer.body));
        if answer.status == 404 {
            return Trouble::lasting(format!(
                "{reason}; give the replica its name in the gateway (`server`)"
            ));
        }
        Trouble { reason, retryable: answer.status >= 500 }
    }
}

#[async_trait]
impl Balancer for Gateway {
    fn name(&self) -> String {
        format!("the gateway at {}", self.admin)
    }

    async fn member(&self, place: &Place) -> Result<Member, Trouble> {
        let listed = self.list().await?;
        let found = listed.into_iter().find(|upstream| upstream.name == place.server());
        let Some(upstream) = found else {
            return Err(Trouble::lasting(format!("{} has no replica `{}`", self.name(), place.server())));
        };
        Ok(Member { in_rotation: upstream.state == "ready", in_flight: Some(upstream.in_flight) })
    }

    async fn take_out(&self, place: &Place) -> Result<(), Trouble> {
        self.change(place, json!({ "state": "drain" }), "drain").await
    }

    async fn admit(&self, place: &Place, weight: Option<u8>, version: Option<&str>) -> Result<(), Trouble> {
        let mut change = json!({ "state": "ready" });
        if let Some(percent) = weight {
            change["weight"] = share(place.weight, percent).into();
        }
        if let Some(version) = version {
            // Sessions are kept at their version by it, and live figures told apart.
            change["version"] = version.into();
        }
        self.change(place, change, "ready").await
    }

    async fn cut(&self, place: &Place) -> Result<u32, Trouble> {
        let path = format!("{}/cut", Gateway::path(place));
        let answer = http::send_json(&self.base()?, Method::POST, &path, &json!({}), WITHIN).await?;
        if !answer.is_ok() {
            return Err(self.odd(&format!("POST {path}"), &answer));
        }
        let cut = answer.json()?.get("cut").and_then(serde_json::Value::as_u64);
        cut.and_then(|cut| u32::try_from(cut).ok())
            .ok_or_else(|| Trouble::passing(format!("{} does not say how many it cut", self.name())))
    }

    async fn live(&self) -> Option<Live> {
        let answer = http::get(&self.base().ok()?, "/live", WITHIN).await.ok()?;
        let live: Answered = serde_json::from_str(&answer.body).ok()?;
        Some(Live {
            rate: Some(live.rate_per_s),
            ttft: live.ttft_s.and_then(Figures::quantiles),
            tpot: live.tpot_s.and_then(Figures::quantiles),
            error_rate: live.error_rate,
            ..Live::default()
        })
    }

    async fn prepare(&self, places: &[Place]) -> Result<Vec<String>, Trouble> {
        let listed = self.list().await?;
        for place in places {
            let Some(upstream) = listed.iter().find(|upstream| upstream.name == place.server()) else {
                let known: Vec<&str> = listed.iter().map(|upstream| upstream.name.as_str()).collect();
                return Err(Trouble::lasting(format!(
                    "{} has no replica `{}` (it has {}); start it with that one, or set `server`",
                    self.name(),
                    place.server(),
                    known.join(", ")
                )));
            };
            if Base::parse(&upstream.url).ok() != Base::parse(&place.url).ok() {
                return Err(Trouble::lasting(format!(
                    "{} sends `{}` to {}, the deployment has it at {}: one of them is wrong",
                    self.name(),
                    place.server(),
                    upstream.url,
                    place.url
                )));
            }
        }
        Ok(vec![format!(
            "{}: PATCH /replicas/NAME {{\"state\": \"drain\"}}, later {{\"state\": \"ready\"}}",
            self.name()
        )])
    }

    fn recovery(&self, places: &[Place]) -> Vec<String> {
        let Ok(base) = self.base() else { return Vec::new() };
        let (socket, origin) = match &base.address {
            Address::Unix(path) => {
                (format!("--unix-socket {} ", quote(&path.to_string_lossy())), "http://localhost".to_owned())
            }
            Address::Tcp { .. } => (String::new(), self.admin.clone()),
        };
        let ready = |place: &Place| {
            let url = format!("{origin}{}", Gateway::path(place));
            format!(
                "curl -fsS {socket}-X PATCH -H 'content-type: application/json' -d '{{\"state\": \"ready\", \"weight\": {}}}' {} >/dev/null",
                place.weight,
                quote(&url)
            )
        };
        places.iter().map(ready).collect()
    }
}

/// So many percent of a weight, at least 1: a weight of nothing would be a way out of rotation.
fn share(usual: u16, percent: u8) -> u16 {
    let weight = (u32::from(usual) * u32::from(percent)).div_ceil(100);
    u16::try_from(weight).unwrap_or(usual).clamp(1, 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_of_the_usual_one_and_never_nothing() {
        assert_eq!((share(100, 100), share(100, 25), share(1, 10), share(256, 100)), (100, 25, 1, 256));
    }
}
