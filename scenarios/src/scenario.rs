//! The scenario: everything one simulated rollout depends on.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::clients::{Clients, Router, RouterPolicy, Slo};
use crate::engine_profile::EngineProfile;
use crate::error::{ScenarioError, TraceError};
use crate::faults::Fault;
use crate::fleet::{Fleet, Place};
use crate::orders::Order;
use crate::planning::Planning;
use crate::random::Keyed;
use crate::rollout::{Rollout, Strategy};
use crate::traffic::{SessionPlan, SharedTrace, Traffic, TrafficSpec};
use crate::version::Version;

/// One scenario file: a fleet, two versions, traffic, and how the rollout is to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How reports call it. Default: the file's name.
    #[serde(default)]
    pub name: String,
    /// All randomness comes from it.
    #[serde(default = "one")]
    pub seed: u64,
    /// The replicas.
    pub fleet: Fleet,
    /// What they serve before the rollout.
    pub from: Version,
    /// What they serve after it. Keys left out are those of `from`.
    pub to: Version,
    /// The load balancer.
    #[serde(default)]
    pub router: Router,
    /// The senders of requests.
    #[serde(default)]
    pub clients: Clients,
    /// The requests.
    pub traffic: TrafficSpec,
    /// What was promised.
    #[serde(default)]
    pub slo: Slo,
    /// The rolling upgrade.
    #[serde(default)]
    pub rollout: Rollout,
    /// What `plan` looks for. Absent: its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Planning>,
    /// What goes wrong in the simulated world, one `[[faults]]` table each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What a person tells the rollout, one `[[orders]]` table each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Engine profiles of this file, by name; each may have a `base`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "engines_schema")]
    pub engines: BTreeMap<String, EngineProfile>,
}

/// No person writes a longer scenario; a device or a trace given by mistake is not read to its end.
const LARGEST_FILE: u64 = 1 << 20;

fn engines_schema(generator: &mut SchemaGenerator) -> Schema {
    let engine = crate::version::engine_schema(generator);
    json_schema!({
        "description": "Engine profiles of this file, by name; each may have a `base`.",
        "type": "object",
        "additionalProperties": engine
    })
}

const fn one() -> u64 {
    1
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// When it can't be read or is wrong; the error names line, column and remedy.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        Self::load_with(path, &[] as &[&str])
    }

    /// Reads a scenario file, applies overrides (`key.path=value`) and checks the result.
    ///
    /// # Errors
    /// When it can't be read, or it or an override is wrong.
    pub fn load_with(path: impl AsRef<Path>, overrides: &[impl AsRef<str>]) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let unreadable = |source| ScenarioError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST_FILE {
            let what = format!(
                "it is larger than {LARGEST_FILE} bytes; is it a trace? That goes under traffic.file"
            );
            return Err(unreadable(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what)));
        }
        let name = path.display().to_string();
        Self::parse_with(&crate::document::text(bytes, &name)?, &name, overrides)
    }

    /// Checks a scenario given as text; `name` stands for the file in messages.
    ///
    /// # Errors
    /// When the text is wrong.
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        Self::parse_with(text, name, &[] as &[&str])
    }

    /// Checks a scenario given as text, with overrides (`key.path=value`).
    ///
    /// # Errors
    /// When the text or an override is wrong.
    pub fn parse_with(text: &str, name: &str, overrides: &[impl AsRef<str>]) -> Result<Self, ScenarioError> {
        crate::document::read(text, name, overrides)
    }

    /// Every place that the rollout knows: the replicas, spare ones, and twins where the strategy has them.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.fleet.places(self.rollout.strategy == Strategy::SideBySide)
    }

    /// Whether it matters what prompts begin with: an engine caches, or the balancer looks.
    #[must_use]
    pub fn wants_prefixes(&self) -> bool {
        self.from.engine.prefix_caching
            || self.to.engine.prefix_caching
            || self.router.policy == RouterPolicy::PrefixAware
    }

    /// Whether what came before matters to a request: it is of a session, or a cache may hold the beginning of its prompt.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.session_plan().is_some() || self.wants_prefixes()
    }

    /// Opens the traffic as a stream.
    ///
    /// # Errors
    /// When its file can't be opened or its format is not recognised.
    pub fn open_traffic(&self) -> Result<Box<dyn Traffic + Send>, TraceError> {
        self.traffic.open(self.seed, self.wants_prefixes())
    }

    /// The later turns of the traffic's sessions; `None` when its requests stand alone.
    #[must_use]
    pub fn session_plan(&self) -> Option<SessionPlan> {
        let generate = self.traffic.generate.as_ref()?;
        SessionPlan::new(generate, self.traffic.rate_scale, Keyed::new(self.seed))
    }

    /// Reads or draws the whole traffic into memory; of sessions the first turns.
    ///
    /// # Errors
    /// Those of [`open_traffic`](Self::open_traffic), and of reading.
    pub fn load_traffic(&self) -> Result<SharedTrace, TraceError> {
        self.traffic.load(self.seed, self.wants_prefixes())
    }

    /// The resolved scenario: every default spelt out, engine profiles in place of their names.
    ///
    /// # Panics
    /// When the scenario was built by hand with a seed above `i64::MAX`, which no scenario file holds.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a checked scenario is a valid TOML document")
    }
}

/// The JSON Schema of the scenario file, descriptions included.
#[must_use]
pub fn scenario_json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Scenario).to_value();
    // What a file may leave out because `[to]` takes it from `[from]`; the types don't know.
    for (place, inherited) in [("/required", "to"), ("/$defs/Version/required", "engine")] {
        if let Some(required) = schema.pointer_mut(place).and_then(serde_json::Value::as_array_mut) {
            required.retain(|key| key != inherited);
        }
    }
    schema
}
