//! The scenario in the simulator's units, computed once and shared by all forks.

use slackwater_engine::step_time::ps_from_s;
use slackwater_engine::{
    ConfigError, Output, PS_PER_S, Ps, Replica, ReplicaConfig, Request, StepTimeForm, Stop,
};
use slackwater_policy::VersionRef;
use slackwater_scenarios::version::Version;
use slackwater_scenarios::{Keyed, Retries, Router, RouterPolicy, Scenario, SessionPlan, Sticky};

use crate::faults::Faults;
use crate::{ROTATION_NGINX_PS, ROTATION_OTHER_PS};

/// The smoke prompt: a short question with a short answer.
const SMOKE_PROMPT_TOKENS: u32 = 32;
const SMOKE_OUTPUT_TOKENS: u32 = 16;

/// A scenario that can't be simulated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// An engine's limits contradict each other.
    #[error("the engine profile of version `{version}`: {source}")]
    Engine {
        /// The version's name.
        version: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// More replicas than the policy can name.
    #[error("{0} replicas are more than the 65535 a rollout can name; simulate a smaller fleet")]
    TooManyReplicas(usize),
    /// Nobody would serve while the only replica is moved.
    #[error("{0}")]
    Alone(String),
    /// The rollout the scenario asks for is refused.
    #[error("the rollout can't be planned: {0}")]
    Plan(String),
    /// A start by the calendar, and traffic without one.
    #[error(
        "the rollout starts at a calendar time, but the traffic has no calendar; give a duration after its start, such as \"15m\""
    )]
    NoCalendar,
    /// The start lies before the traffic.
    #[error(
        "the rollout would start before the traffic does; give a later time, or a duration after its start"
    )]
    StartsTooEarly,
    /// A fault at a replica the fleet does not have.
    #[error("a fault befalls the replica `{0}`, which is not in the fleet")]
    FaultElsewhere(String),
}

/// One version in the simulator's units.
#[derive(Debug, Clone)]
pub(crate) struct VersionSetup {
    pub(crate) config: ReplicaConfig,
    pub(crate) form: StepTimeForm,
    pub(crate) output_factor: f64,
    pub(crate) inbound_ps: Ps,
    pub(crate) outbound_ps: Ps,
    pub(crate) jitter: f64,
    pub(crate) smoke_ps: Ps,
    pub(crate) delays: Version,
}

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceSetup {
    /// Nothing runs there at first.
    pub(crate) spare: bool,
    /// The place whose GPUs it shares.
    pub(crate) beside: Option<u16>,
}

/// Bounds of the service level, picoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SloBounds {
    pub(crate) ttft: Ps,
    pub(crate) tpot: Ps,
    pub(crate) e2e: Ps,
}

/// Everything about a scenario that does not change during a run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(crate) scenario: Scenario,
    /// Places in all, empty ones included.
    pub(crate) replicas: u16,
    /// Places that serve at first: N.
    pub(crate) serving: u16,
    pub(crate) places: Vec<PlaceSetup>,
    pub(crate) names: Vec<String>,
    pub(crate) from: VersionSetup,
    pub(crate) to: VersionSetup,
    pub(crate) router: Router,
    /// Whether the balancer looks at who sends what.
    pub(crate) affinity: bool,
    pub(crate) rotation_ps: Ps,
    pub(crate) timeout_ps: Ps,
    pub(crate) read_timeout_ps: Option<Ps>,
    pub(crate) slow_start_ps: Option<Ps>,
    pub(crate) retries: Retries,
    /// Millionths of a retry that each arrival adds to the clients' budget.
    pub(crate) budget_share: u64,
    pub(crate) slo: SloBounds,
    pub(crate) faults: Faults,
    pub(crate) sessions: Option<SessionPlan>,
    /// The shortest way of a last token to its client.
    pub(crate) outbound_least_ps: Ps,
    pub(crate) keyed: Keyed,
    /// Keys of the draws made for every attempt, mixed once.
    pub(crate) front_end_key: u64,
    pub(crate) route_key: u64,
}

impl Setup {
    /// Translates a scenario.
    ///
    /// # Errors
    /// When its numbers can't be simulated.
    pub fn new(scenario: &Scenario) -> Result<Self, SetupError> {
        let all = scenario.places();
        let replicas = u16::try_from(all.len()).map_err(|_| SetupError::TooManyReplicas(all.len()))?;
        let index = |name: &String| (0..replicas).find(|at| all[usize::from(*at)].name == *name);
        // A place lies beside an earlier one and never beside two, so that "the other one" is one.
        let mut places: Vec<PlaceSetup> = all
            .iter()
            .map(|place| PlaceSetup { spare: place.spare, beside: place.beside.as_ref().and_then(index) })
            .collect();
        for twin in 0..replicas {
            if let Some(old) = places[usize::from(twin)].beside {
                places[usize::from(old)].beside = Some(twin);
            }
        }
        let keyed = Keyed::new(scenario.seed);
        let router = scenario.router.clone();
        let slo = &scenario.slo;
        let serving = places.iter().filter(|place| !place.spare).count();
        let names: Vec<String> = all.into_iter().map(|place| place.name).collect();
        let (from, to) = (VersionSetup::new(&scenario.from)?, VersionSetup::new(&scenario.to)?);
        Ok(Self {
            replicas,
            serving: u16::try_from(serving).unwrap_or(replicas),
            places,
            faults: Faults::new(&scenario.faults, &names, keyed)?,
            names,
            sessions: scenario.session_plan(),
            outbound_least_ps: from.outbound_least().min(to.outbound_least()),
            from,
            to,
            rotation_ps: match router.policy {
                RouterPolicy::NginxLeastConn => ROTATION_NGINX_PS,
                _ => ROTATION_OTHER_PS,
            },
            timeout_ps: scenario.clients.timeout.as_picos(),
            read_timeout_ps: router.read_timeout.map(|timeout| timeout.as_picos()),
            slow_start_ps: router.slow_start.map(|whole| whole.as_picos()),
            affinity: router.sticky != Sticky::None || router.policy == RouterPolicy::PrefixAware,
            router,
            budget_share: crate::clients::budget_share(&scenario.clients.retries),
            retries: scenario.clients.retries.clone(),
            slo: SloBounds {
                ttft: slo.ttft.as_picos(),
                tpot: slo.tpot.as_picos(),
                e2e: slo.e2e.map_or(Ps::MAX, |e2e| e2e.as_picos()),
            },
            keyed,
            front_end_key: keyed.bits("front-end", &[]),
            route_key: keyed.bits("route", &[]),
            scenario: scenario.clone(),
        })
    }

    /// The scenario it came from.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    #[inline]
    pub(crate) fn version(&self, version: VersionRef) -> &VersionSetup {
        match version {
            VersionRef::From => &self.from,
            VersionRef::To => &self.to,
        }
    }

    /// Whether any engine keeps what it computed.
    pub(crate) fn caches_prefixes(&self) -> bool {
        self.from.config.prefix_caching || self.to.config.prefix_caching
    }

    /// Whether answers of this version are another version's than those before the rollout; a restart changes nothing.
    pub(crate) fn is_new(&self, version: VersionRef) -> bool {
        version == VersionRef::To && !self.scenario.rollout.restart_only
    }
}

impl VersionSetup {
    fn new(version: &Version) -> Result<Self, SetupError> {
        let profile = &version.engine;
        let failed = |source| SetupError::Engine { version: version.name.clone(), source };
        let config = profile.replica_config().map_err(failed)?;
        let form = profile.step_time().scaled(version.step_time_factor);
        let mut setup = Self {
            form,
            output_factor: version.output_length_factor,
            inbound_ps: ps_from_s(profile.front_end.inbound_ms / 1e3),
            outbound_ps: ps_from_s(profile.front_end.outbound_ms / 1e3),
            jitter: profile.front_end.jitter,
            smoke_ps: 0,
            delays: version.clone(),
            config,
        };
        setup.smoke_ps = setup.inbound_ps + setup.outbound_ps + setup.alone().map_err(failed)?;
        Ok(setup)
    }

    /// The shortest way of a token to its client.
    fn outbound_least(&self) -> Ps {
        crate::clients::jittered(self.outbound_ps, self.jitter, 0)
    }

    /// How long the smoke prompt takes on an idle replica.
    fn alone(&self) -> Result<Ps, ConfigError> {
        let mut replica = Replica::new(self.config.clone(), self.form)?;
        let request = Request {
            tag: 0,
            prompt: SMOKE_PROMPT_TOKENS,
            output: SMOKE_OUTPUT_TOKENS,
            stop: Stop::EndOfText,
        };
        let mut end = 0;
        let mut note = |output| {
            if let Output::Finished { at, .. } = output {
                end = at;
            }
        };
        if replica.submit(0, request).is_err() || replica.advance_before(Ps::MAX, &mut note).is_err() {
            // A cache too small for the smoke prompt, or endless steps: the runs themselves will say so.
            return Ok(PS_PER_S);
        }
        Ok(end)
    }

    /// Its step times on a GPU that takes `factor` times as long, rounded once.
    pub(crate) fn slowed(&self, factor: f64) -> StepTimeForm {
        self.delays.engine.step_time().scaled(self.delays.step_time_factor * factor)
    }

    /// Tokens this version generates where the old one would generate `output`.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating, at least 1
    pub(crate) fn output_tokens(&self, output: u32) -> u32 {
        if self.output_factor == 1.0 {
            return output;
        }
        ((f64::from(output) * self.output_factor).round() as u32).max(1)
    }
}
