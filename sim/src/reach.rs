//! Whether a run leaves what its engines were measured on: longer prompts, longer contexts, more requests at one replica.
//!
//! A profile with a calibration says how far its measurement went. Every attempt that a replica is given is held against that:
//! its prompt, its prompt and answer together, and how many requests its replica has in flight with it. Of profiles without a
//! calibration nothing is counted.

use serde::{Deserialize, Serialize};
use slackwater_policy::VersionRef;
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::Traffic;

use crate::world::World;

/// One of the figures that a measurement reaches to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The most that was measured; 0 where that is not known.
    pub measured: u32,
    /// The most that was met.
    pub met: u32,
    /// Requests that met more than was measured.
    pub beyond: u64,
}

/// What an engine was given, against what its profile was measured on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReach {
    /// The versions that run it; two where one measurement is of both.
    pub versions: Vec<String>,
    /// Attempts it was given.
    pub requests: u64,
    /// Of these, the ones beyond the measurement in any way.
    pub beyond: u64,
    /// Prompt tokens.
    pub prompt_tokens: Reached,
    /// Prompt and answer together.
    pub context_tokens: Reached,
    /// Requests in flight at one replica.
    pub in_flight: Reached,
}

impl Reached {
    fn of(measured: u32) -> Self {
        Self { measured, met: 0, beyond: 0 }
    }

    #[inline]
    fn meet(&mut self, value: u32) -> bool {
        self.met = self.met.max(value);
        let beyond = self.measured > 0 && value > self.measured;
        self.beyond += u64::from(beyond);
        beyond
    }

    fn add(&mut self, other: &Self) {
        self.met = self.met.max(other.met);
        self.beyond += other.beyond;
    }

    fn in_words(&self, what: &str, of: u64) -> Option<String> {
        (self.beyond > 0).then(|| {
            format!(
                "{what} up to {} and meets up to {}, {:.1} times as {} ({} of the requests)",
                self.measured,
                self.met,
                f64::from(self.met) / f64::from(self.measured),
                if what.contains("flight") { "many" } else { "long" },
                percent(self.beyond, of)
            )
        })
    }
}

/// Rounded up to two digits, so that a few are not called none.
#[allow(clippy::cast_precision_loss)] // figures for people
fn percent(part: u64, whole: u64) -> String {
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    if share < 0.01 { "less than 0.01 %".to_owned() } else { format!("{share:.2} %") }
}

impl EngineReach {
    #[inline]
    fn meet(&mut self, prompt: u32, context: u32, in_flight: u32) {
        self.requests += 1;
        let prompt = self.prompt_tokens.meet(prompt);
        let context = self.context_tokens.meet(context);
        let in_flight = self.in_flight.meet(in_flight);
        self.beyond += u64::from(prompt | context | in_flight);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.beyond += other.beyond;
        self.prompt_tokens.add(&other.prompt_tokens);
        self.context_tokens.add(&other.context_tokens);
        self.in_flight.add(&other.in_flight);
    }

    /// Those of several runs of one scenario together.
    #[must_use]
    pub fn together<'a>(runs: impl IntoIterator<Item = &'a [Self]>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for one in runs.into_iter().flatten() {
            match all
                .iter_mut()
                .find(|known| one.versions.iter().any(|version| known.versions.contains(version)))
            {
                Some(known) => {
                    known.add(one);
                    let new = one.versions.iter().filter(|version| !known.versions.contains(version));
                    let new: Vec<String> = new.cloned().collect();
                    known.versions.extend(new);
                }
                None => all.push(one.clone()),
            }
        }
        all
    }

    /// The share of the requests that are beyond the measurement in any way.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // figures for people
    pub fn share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.beyond as f64 / self.requests as f64 }
    }

    /// Whether so many are beyond it that nothing can be promised by this profile: more than a tenth of those that may miss the
    /// service level. Fewer could all miss, and the promise would hardly be another.
    #[must_use]
    pub fn voids_a_promise(&self, slo_share: f64) -> bool {
        self.beyond > 0 && self.share() > (1.0 - slo_share) / 10.0
    }

    /// What is beyond the measurement, by how much, and for what share of the requests; `None` where nothing is.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let parts: Vec<String> = [
            self.prompt_tokens.in_words("for prompts of", self.requests),
            self.context_tokens.in_words("for prompt and answer of", self.requests),
            self.in_flight.in_words("with requests in flight of", self.requests),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| {
            format!(
                "the engine of {} was measured {}: what it does beyond its measurement is extrapolated",
                self.versions.join(" and "),
                parts.join("; ")
            )
        })
    }
}

/// What is counted while a world runs: of each version with a calibration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally([Option<EngineReach>; 2]);

impl Tally {
    /// `None` where no profile says how far it was measured.
    pub(crate) fn of(scenario: &Scenario) -> Option<Box<Self>> {
        let tally = [&scenario.from, &scenario.to].map(|version| {
            let measured = version.engine.calibration.as_ref()?;
            Some(EngineReach {
                versions: vec![version.name.clone()],
                prompt_tokens: Reached::of(measured.prompt_tokens_up_to),
                context_tokens: Reached::of(measured.context_tokens_up_to),
                in_flight: Reached::of(measured.in_flight_up_to),
                ..EngineReach::default()
            })
        });
        tally.iter().any(Option::is_some).then(|| Box::new(Self(tally)))
    }

    #[inline]
    pub(crate) fn meet(&mut self, version: VersionRef, prompt: u32, output: u32, in_flight: u32) {
        let of = match version {
            VersionRef::From => &mut self.0[0],
            VersionRef::To => &mut self.0[1],
        };
        if let Some(of) = of {
            of.meet(prompt, prompt.saturating_add(output), in_flight);
        }
    }
}

impl<T: Traffic> World<T> {
    /// What the engines were given so far, against what their profiles were measured on (of a lean world: since judging began).
    /// Engines without a calibration, or without a request, are not among them; versions with the same one are one.
    #[must_use]
    pub fn engine_reach(&self) -> Vec<EngineReach> {
        let Some(tally) = &self.reach else { return Vec::new() };
        let given: Vec<&EngineReach> = tally.0.iter().flatten().filter(|of| of.requests > 0).collect();
        let scenario = &self.setup.scenario;
        match given[..] {
            [from, to] if scenario.from.engine.calibration == scenario.to.engine.calibration => {
                let mut both = from.clone();
                both.versions.extend_from_slice(&to.versions);
                both.add(to);
                vec![both]
            }
            _ => given.into_iter().cloned().collect(),
        }
    }
}
