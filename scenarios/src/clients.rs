//! Those who send requests, what spreads them over the replicas, and what they were promised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::HumanDuration;

/// The load balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// How it picks a replica.
    pub policy: RouterPolicy,
    /// Worker processes that each keep their own counts; only for `nginx-least-conn`.
    pub workers: u32,
    /// True when the upstream has a shared `zone`, so that all workers see the same counts; only for
    /// `nginx-least-conn`.
    pub zone: bool,
    /// The longest silence between two reads from a replica before the balancer gives up on the request (nginx:
    /// `proxy_read_timeout`). Absent: it waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<HumanDuration>,
    /// How long the weight of a replica that comes back grows from a sixteenth to all of it (HAProxy: `slowstart`). Only
    /// for `haproxy-leastconn`. Absent: all of it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<HumanDuration>,
    /// What a session is kept at. It concerns sessions (`traffic.generate.sessions`) only; for other requests, and where it
    /// leaves a choice, the policy picks.
    #[serde(skip_serializing_if = "Sticky::is_none")]
    pub sticky: Sticky,
    /// Thresholds of the policy `prefix-aware`.
    #[serde(skip_serializing_if = "PrefixAware::is_default")]
    pub prefix_aware: PrefixAware,
}

/// What a session is kept at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// Nothing: each turn goes where the policy sends it.
    #[default]
    None,
    /// A replica, while that is in rotation: consistent hashing, as nginx's `hash $cookie consistent` does it. When the
    /// replica comes back, so do its sessions.
    Session,
    /// The version that answered it last, while a replica of that version is in rotation: a gateway that knows versions.
    Version,
}

impl Sticky {
    #[expect(clippy::trivially_copy_pass_by_ref)] // serde wants it so
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// When the policy `prefix-aware` follows the prefix. The defaults are those of SGLang's gateway 0.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixAware {
    /// A prompt goes where its beginning went before if that is more than this share of it; else to the replica that was
    /// sent the least.
    pub cache_threshold: f64,
    /// When the most loaded replica has more than so many more in flight than the least loaded, and ...
    pub balance_abs_threshold: u32,
    /// ... more than so many times as many, the least loaded one is picked instead.
    pub balance_rel_threshold: f64,
}

impl Default for PrefixAware {
    fn default() -> Self {
        Self { cache_threshold: 0.3, balance_abs_threshold: 64, balance_rel_threshold: 1.5 }
    }
}

impl PrefixAware {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Router {
    fn default() -> Self {
        Self {
            policy: RouterPolicy::LeastConnections,
            workers: 4,
            zone: false,
            read_timeout: None,
            slow_start: None,
            sticky: Sticky::None,
            prefix_aware: PrefixAware::default(),
        }
    }
}

/// How the balancer picks a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouterPolicy {
    /// Each in turn.
    RoundRobin,
    /// The fewest in flight, known exactly; those with equally many in turn.
    LeastConnections,
    /// HAProxy's `leastconn`: exact counts, an idle server first, then the fewest (in flight + 1) by weight; among equals
    /// the one that has been so the longest.
    HaproxyLeastconn,
    /// nginx's `least_conn`: the fewest in flight by weight, counted per worker process unless `zone` is set, and afresh
    /// after a reload; among equals smooth weighted round robin.
    NginxLeastConn,
    /// The less loaded of two picked at random.
    RandomTwoChoices,
    /// Where the beginning of the prompt went before, unless that is too busy: SGLang's `cache_aware`.
    PrefixAware,
}

/// How the senders of requests behave. Arrivals are open loop: they come when the traffic says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// A client gives up this long after an attempt was sent.
    pub timeout: HumanDuration,
    /// What a client does after a failed attempt.
    pub retries: Retries,
}

impl Default for Clients {
    fn default() -> Self {
        Self { timeout: HumanDuration::from_secs(300), retries: Retries::default() }
    }
}

/// Retries with exponential back-off. The defaults are those of OpenAI's Python client; `backoff = 0` retries at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Attempts after the first one.
    pub max: u32,
    /// Wait before the first retry.
    pub backoff: HumanDuration,
    /// Each further wait is so many times longer.
    pub multiplier: f64,
    /// No wait is longer.
    pub max_backoff: HumanDuration,
    /// Each wait is shortened by up to this share of itself, at random.
    pub jitter: f64,
    /// Send the whole request again also when a stream breaks after its first token, as a gateway or an agent does that
    /// only looks at the outcome.
    pub after_first_token: bool,
    /// A retry budget of all clients together: retries allowed for each request that arrives, as a share (0.2: one retry
    /// for five requests). What is not used is saved up, to [`Retries::SAVED`] retries. Absent: no bound but `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 2,
            backoff: HumanDuration::from_millis(500),
            multiplier: 2.0,
            max_backoff: HumanDuration::from_secs(8),
            jitter: 0.25,
            after_first_token: false,
            budget: None,
        }
    }
}

impl Retries {
    /// Retries that a budget saves up at most.
    pub const SAVED: u32 = 10;

    /// The wait before retry number `retry` (from 0), `uniform` being a draw from [0, 1).
    #[must_use]
    pub fn wait(&self, retry: u32, uniform: f64) -> HumanDuration {
        let longest = self.max_backoff.as_secs_f64();
        let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
        let full = (self.backoff.as_secs_f64() * self.multiplier.powi(exponent)).min(longest);
        HumanDuration::from_secs_f64(full * (1.0 - self.jitter * uniform)).unwrap_or(self.max_backoff)
    }
}

/// The service level: bounds, and the share of logical requests that must meet all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// Time to first token.
    pub ttft: HumanDuration,
    /// Mean time per output token after the first.
    pub tpot: HumanDuration,
    /// Whole request, end to end. Absent: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e: Option<HumanDuration>,
    /// The share of requests that must meet every bound; a failed or cut request meets none.
    pub share: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Self {
            ttft: HumanDuration::from_secs(2),
            tpot: HumanDuration::from_millis(100),
            e2e: None,
            share: 0.99,
        }
    }
}
