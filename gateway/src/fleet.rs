//! The replicas as the gateway sees them: who may be given a request, and who has how many.
//!
//! ```text
//!            claim ──► waiting ──answering()──► answering ──end()──► gone
//!                         └── cut: tried elsewhere    └── cut: the client's connection breaks
//! ```
//!
//! One lock guards all of it, and it is never held over a wait. So a change of a replica's state is in force when the
//! change returns: whoever picked before it is counted in `in_flight`, and nobody picks it after.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::config::{HealthConfig, ReplicaConfig};
use crate::error::{BadReplica, UnknownReplica};
use crate::upstream::Target;

/// What an operator wants of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes requests, while it is healthy.
    #[default]
    Ready,
    /// It takes no new ones; those in flight go on.
    Drain,
    /// As `drain`, and its health is not asked for either.
    Down,
}

/// A replica, as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// What the operator wants.
    pub state: State,
    /// Its share among the others; 0 takes nothing.
    pub weight: u16,
    /// What it serves, as the operator says.
    pub version: Option<String>,
    /// Whether its health checks and its requests say that it works.
    pub healthy: bool,
    /// Requests handed to it whose response has neither ended nor been given up.
    pub in_flight: u64,
    /// Responses that it gave to the end.
    pub served: u64,
    /// Requests that it failed: no connection, no response, or a broken one.
    pub failed: u64,
}

/// A change of a replica; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// What the operator wants of it.
    pub state: Option<State>,
    /// Its weight, from 0 to 256.
    pub weight: Option<u16>,
    /// Where it is.
    pub url: Option<String>,
    /// What it serves; `null` forgets it.
    #[serde(default, deserialize_with = "given")]
    pub version: Option<Option<String>>,
}

/// Tells `null` from absent.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Most a weight can be, as HAProxy has it.
pub(crate) const MOST_WEIGHT: u16 = 256;

/// How a claim on a replica came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The response was handed on to its end.
    Served,
    /// The replica failed.
    Failed,
    /// The client, the operator or the gateway itself gave it up.
    GivenUp,
}

#[derive(Debug)]
struct Flight {
    /// Wakes whoever waits for the response's head.
    attempt: Arc<Notify>,
    /// Breaks the client's connection.
    connection: Arc<Notify>,
    answering: bool,
    cut: bool,
}

#[derive(Debug)]
struct Member {
    name: String,
    target: Arc<Target>,
    state: State,
    weight: u16,
    version: Option<Arc<str>>,
    health: Health,
    flights: BTreeMap<u64, Flight>,
    served: u64,
    failed: u64,
    /// Breaks ties: the one that was picked longest ago.
    picked: u64,
}

/// Whether a replica works, by checks in a row.
#[derive(Debug)]
struct Health {
    healthy: bool,
    good: u32,
    bad: u32,
    /// Failed connections in a row since the last response.
    refused: u32,
    /// Checks of an address that has changed since say nothing.
    generation: u64,
}

impl Health {
    /// Nobody has looked yet: the operator's word is taken until a check or a request says otherwise.
    fn unseen(generation: u64) -> Self {
        Self { healthy: true, good: 0, bad: 0, refused: 0, generation }
    }
}

#[derive(Debug, Default)]
struct Inner {
    members: Vec<Member>,
    flights: u64,
    picks: u64,
    generation: u64,
}

/// The replicas.
#[derive(Debug)]
pub struct Fleet {
    inner: Mutex<Inner>,
    health: HealthConfig,
    /// Rung when a replica should be looked at without delay.
    pub(crate) look: Notify,
}

/// What to ask for health, and how to tell the answer.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) target: Arc<Target>,
    pub(crate) generation: u64,
}

impl Fleet {
    /// Of these replicas, in this order.
    ///
    /// # Errors
    /// When one has no usable address, or two have one name.
    pub fn new(replicas: &[ReplicaConfig], health: HealthConfig) -> Result<Self, BadReplica> {
        let mut inner = Inner::default();
        for replica in replicas {
            if inner.members.iter().any(|member| member.name == replica.name) {
                return Err(BadReplica {
                    name: replica.name.clone(),
                    reason: "there are two of that name; each needs its own".to_owned(),
                });
            }
            inner.members.push(Member {
                name: replica.name.clone(),
                target: Arc::new(target(&replica.name, &replica.url)?),
                state: replica.state,
                weight: weight(&replica.name, replica.weight)?,
                version: replica.version.as_deref().map(Arc::from),
                health: Health::unseen(0),
                flights: BTreeMap::new(),
                served: 0,
                failed: 0,
                picked: 0,
            });
        }
        Ok(Self { inner: Mutex::new(inner), health, look: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that is done under the lock leaves it half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All replicas, and a number that grows with every change by an operator.
    #[must_use]
    pub fn view(&self) -> (u64, Vec<ReplicaView>) {
        let inner = self.lock();
        (inner.generation, inner.members.iter().map(Member::view).collect())
    }

    /// One replica.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn view_of(&self, name: &str) -> Result<ReplicaView, UnknownReplica> {
        self.lock().member(name).map(|member| member.view())
    }

    /// Changes a replica. When this returns, nobody is given to it who should not be.
    ///
    /// # Errors
    /// When there is none of that name (`Ok(Err(_))` when the change itself is wrong; nothing is changed then).
    pub fn patch(&self, name: &str, patch: Patch) -> Result<Result<ReplicaView, BadReplica>, UnknownReplica> {
        let mut inner = self.lock();
        let generation = inner.generation + 1;
        let member = inner.member(name)?;
        let target = match patch.url.as_deref().map(|url| target(name, url)).transpose() {
            Ok(target) => target,
            Err(error) => return Ok(Err(error)),
        };
        let weight = match patch.weight.map(|wanted| weight(name, wanted)).transpose() {
            Ok(weight) => weight,
            Err(error) => return Ok(Err(error)),
        };
        let readied = patch.state == Some(State::Ready) && member.state != State::Ready;
        if target.is_some() || readied {
            // What was known about it was another process.
            member.health = Health::unseen(generation);
            self.look.notify_one();
        }
        member.target = target.map_or_else(|| Arc::clone(&member.target), Arc::new);
        member.state = patch.state.unwrap_or(member.state);
        member.weight = weight.unwrap_or(member.weight);
        if let Some(version) = patch.version {
            member.version = version.as_deref().map(Arc::from);
        }
        let view = member.view();
        inner.generation = generation;
        Ok(Ok(view))
    }

    /// Breaks what is open at a replica: answers that have begun break at their clients (the first number), requests that
    /// still wait for one are tried elsewhere (the second).
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn cut(&self, name: &str) -> Result<(u64, u64), UnknownReplica> {
        let mut inner = self.lock();
        let (mut broken, mut sent_on) = (0, 0);
        for flight in inner.member(name)?.flights.values_mut().filter(|flight| !flight.cut) {
            flight.cut = true;
            if flight.answering {
                broken += 1;
                flight.connection.notify_one();
            } else {
                sent_on += 1;
                flight.attempt.notify_one();
            }
        }
        Ok((broken, sent_on))
    }

    /// Whether something that was cut is not gone yet.
    pub(crate) fn being_cut(&self, name: &str) -> bool {
        let mut inner = self.lock();
        inner.member(name).is_ok_and(|member| member.flights.values().any(|flight| flight.cut))
    }

    /// Gives a request to the replica with the fewest in flight for its weight, of `version` if one of it can take it,
    /// and none of `tried`.
    pub(crate) fn claim(
        self: &Arc<Self>,
        version: Option<&str>,
        tried: &[String],
        connection: &Arc<Notify>,
    ) -> Option<Claim> {
        let mut inner = self.lock();
        let usable = |member: &Member| member.takes_requests() && !tried.contains(&member.name);
        let of_version = |member: &Member| usable(member) && member.version.as_deref() == version;
        let kept = version.is_some() && inner.members.iter().any(of_version);
        let index = (0..inner.members.len())
            .filter(|index| {
                let member = &inner.members[*index];
                if kept { of_version(member) } else { usable(member) }
            })
            .min_by(|one, other| inner.members[*one].load_order(&inner.members[*other]))?;
        inner.flights += 1;
        inner.picks += 1;
        let (id, picks) = (inner.flights, inner.picks);
        let member = &mut inner.members[index];
        member.picked = picks;
        let attempt = Arc::new(Notify::new());
        let flight = Flight {
            attempt: Arc::clone(&attempt),
            connection: Arc::clone(connection),
            answering: false,
            cut: false,
        };
        member.flights.insert(id, flight);
        Some(Claim {
            fleet: Arc::clone(self),
            index,
            id,
            ended: false,
            attempt,
            name: member.name.clone(),
            version: member.version.clone(),
            target: Arc::clone(&member.target),
            generation: member.health.generation,
        })
    }

    /// Whom to look at.
    pub(crate) fn to_check(&self) -> Vec<Checked> {
        let inner = self.lock();
        let looked_at = inner.members.iter().filter(|member| member.state != State::Down);
        looked_at
            .map(|member| Checked {
                name: member.name.clone(),
                target: Arc::clone(&member.target),
                generation: member.health.generation,
            })
            .collect()
    }

    /// What a check found. Returns the change of health, if it changed.
    pub(crate) fn checked(&self, checked: &Checked, good: bool) -> Option<bool> {
        let mut inner = self.lock();
        let member = inner.member(&checked.name).ok()?;
        if member.health.generation != checked.generation {
            return None;
        }
        let health = &mut member.health;
        let before = health.healthy;
        if good {
            health.good = health.good.saturating_add(1);
            health.bad = 0;
            health.healthy |= health.good >= self.health.rise;
            if health.healthy {
                health.refused = 0;
            }
        } else {
            health.bad = health.bad.saturating_add(1);
            health.good = 0;
            health.healthy &= health.bad < self.health.fall;
        }
        (health.healthy != before).then_some(health.healthy)
    }
}

impl Inner {
    fn member(&mut self, name: &str) -> Result<&mut Member, UnknownReplica> {
        let known: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
        self.members
            .iter_mut()
            .find(|member| member.name == name)
            .ok_or_else(|| UnknownReplica { name: name.to_owned(), known })
    }
}

impl Member {
    fn takes_requests(&self) -> bool {
        self.state == State::Ready && self.health.healthy && self.weight > 0
    }

    /// Who comes first: fewer in flight for its weight, counting the request at hand; then whoever was picked longest ago.
    fn load_order(&self, other: &Self) -> std::cmp::Ordering {
        let load = |member: &Self, by: &Self| (member.flights.len() as u64 + 1) * u64::from(by.weight);
        // a/wa < b/wb as a*wb < b*wa, in integers.
        load(self, other).cmp(&load(other, self)).then(self.picked.cmp(&other.picked))
    }

    fn view(&self) -> ReplicaView {
        ReplicaView {
            name: self.name.clone(),
            url: self.target.url().to_owned(),
            state: self.state,
            weight: self.weight,
            version: self.version.as_deref().map(str::to_owned),
            healthy: self.health.healthy,
            in_flight: self.flights.len() as u64,
            served: self.served,
            failed: self.failed,
        }
    }
}

fn target(name: &str, url: &str) -> Result<Target, BadReplica> {
    Target::parse(url).map_err(|reason| BadReplica { name: name.to_owned(), reason })
}

fn weight(name: &str, weight: u16) -> Result<u16, BadReplica> {
    if weight <= MOST_WEIGHT {
        return Ok(weight);
    }
    let reason = format!("its weight is {weight}; give one from 0 to {MOST_WEIGHT}");
    Err(BadReplica { name: name.to_owned(), reason })
}

/// A request's place at a replica. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Claim {
    fleet: Arc<Fleet>,
    index: usize,
    id: u64,
    ended: bool,
    attempt: Arc<Notify>,
    generation: u64,
    pub(crate) name: String,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) target: Arc<Target>,
}

impl Claim {
    /// Returns when the claim is cut before its response began.
    pub(crate) async fn cut_while_waiting(&self) {
        self.attempt.notified().await;
    }

    /// The response has begun: from now on a cut breaks the client's connection. `false` when it was cut before.
    pub(crate) fn answering(&self) -> bool {
        let mut inner = self.fleet.lock();
        let member = &mut inner.members[self.index];
        member.health.refused = 0;
        match member.flights.get_mut(&self.id) {
            Some(flight) => {
                flight.answering = true;
                !flight.cut
            }
            None => false,
        }
    }

    /// Ends it. `false` when it was cut before: then its client must not see a clean end.
    pub(crate) fn end(mut self, outcome: Outcome) -> bool {
        self.leave(outcome)
    }

    /// No connection: the replica is given no more until a check finds it well, once this has happened often enough in a row.
    /// Returns whether it was taken out by this.
    pub(crate) fn refused(mut self) -> bool {
        self.leave(Outcome::Failed);
        let mut inner = self.fleet.lock();
        let most = self.fleet.health.passive_fall;
        let health = &mut inner.members[self.index].health;
        if health.generation != self.generation || most == 0 {
            return false;
        }
        health.refused += 1;
        let out = health.healthy && health.refused >= most;
        if out {
            health.healthy = false;
            health.good = 0;
            self.fleet.look.notify_one();
        }
        out
    }

    fn leave(&mut self, outcome: Outcome) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return true;
        }
        let mut inner = self.fleet.lock();
        let member = &mut inner.members[self.index];
        let cut = member.flights.remove(&self.id).is_some_and(|flight| flight.cut);
        match outcome {
            Outcome::Served if !cut => member.served += 1,
            Outcome::Failed if !cut => member.failed += 1,
            _ => {}
        }
        !cut
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.leave(Outcome::GivenUp);
    }
}
