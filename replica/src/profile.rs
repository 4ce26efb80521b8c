//! Which engine a stand-in imitates: a built-in profile, or one of a file's.

use std::path::Path;

use slackwater_engine::step_time::ps_from_s;
use slackwater_engine::{Ps, ReplicaConfig, StepTimeForm};
use slackwater_scenarios::{EngineProfile, Scenario};

use crate::error::ReplicaError;

/// An engine: its scheduler's limits, its step time, its front end.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Where the numbers come from.
    pub source: String,
    /// The scheduler's limits.
    pub config: ReplicaConfig,
    /// The step time.
    pub form: StepTimeForm,
    /// From a request's arrival until it can be scheduled, on average.
    pub inbound_ps: Ps,
    /// From a token's computation until it is sent, on average.
    pub outbound_ps: Ps,
    /// Each of the two is drawn from `1 - jitter .. 1 + jitter` times its average.
    pub jitter: f64,
}

impl Profile {
    /// By name, or from a file: `NAME` is a built-in profile; `FILE` holds one profile by itself, or a scenario, whose
    /// `[from]` is taken; `FILE#to` takes its `[to]`, `FILE#NAME` its `[engines.NAME]`.
    ///
    /// # Errors
    /// When there is no such profile or it is no engine.
    pub fn find(name: &str) -> Result<Self, ReplicaError> {
        if let Some(built_in) = EngineProfile::built_in(name) {
            return Self::new(&built_in, name);
        }
        let (path, part) = name.split_once('#').unwrap_or((name, ""));
        if !Path::new(path).is_file() {
            let known: Vec<&str> = EngineProfile::BUILT_IN.iter().map(|(known, _)| *known).collect();
            return Err(ReplicaError::NoSuchEngine { name: name.to_owned(), known: known.join(", ") });
        }
        let unreadable = |reason: String| ReplicaError::EngineFile { file: path.to_owned(), reason };
        if part.is_empty()
            && let Ok(text) = std::fs::read_to_string(path)
            && let Ok(profile) = toml::from_str::<EngineProfile>(&text)
        {
            return Self::new(&profile, name);
        }
        let scenario = Scenario::load(path).map_err(|error| unreadable(error.to_string()))?;
        let (version, form_factor) = match part {
            "" | "from" => (&scenario.from.engine, scenario.from.step_time_factor),
            "to" => (&scenario.to.engine, scenario.to.step_time_factor),
            engine => match scenario.engines.get(engine) {
                Some(profile) => (profile, 1.0),
                None => return Err(unreadable(format!("it has no [engines.{engine}]"))),
            },
        };
        let mut profile = Self::new(version, name)?;
        profile.form = profile.form.scaled(form_factor);
        Ok(profile)
    }

    fn new(profile: &EngineProfile, name: &str) -> Result<Self, ReplicaError> {
        let config = profile
            .replica_config()
            .map_err(|error| ReplicaError::EngineFile { file: name.to_owned(), reason: error.to_string() })?;
        // Two free steps in a row would be a loop without end at one moment.
        if profile.c0_ms <= 0.0 && profile.c_tok_us <= 0.0 {
            return Err(ReplicaError::EngineFile {
                file: name.to_owned(),
                reason: "a step that takes no time is no engine: give c0_ms or c_tok_us".to_owned(),
            });
        }
        Ok(Self {
            source: profile.source.clone(),
            config,
            form: profile.step_time(),
            inbound_ps: ps_from_s(profile.front_end.inbound_ms / 1e3),
            outbound_ps: ps_from_s(profile.front_end.outbound_ms / 1e3),
            jitter: profile.front_end.jitter.clamp(0.0, 1.0),
        })
    }
}
