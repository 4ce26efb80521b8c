//! How far an answer can lean on its engines: how well their profiles are known, and whether it stays within what they were
//! measured on. Beyond that nothing is promised.

use schemars::JsonSchema;
use slackwater_scenarios::version::Version;
use slackwater_scenarios::{EngineProfile, Scenario};
use slackwater_sim::{EngineReach, measured_engines};

use crate::stretch::Tried;

/// The fields of [`slackwater_sim::EngineReach`], whose crate knows no schemas.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(crate) struct ReachSchema {
    /// The versions that run it; two where one measurement is of both.
    versions: Vec<String>,
    /// Attempts it was given.
    requests: u64,
    /// Of these, the ones beyond the measurement in any way.
    beyond: u64,
    /// Prompt tokens.
    prompt_tokens: ReachedSchema,
    /// Prompt and answer together.
    context_tokens: ReachedSchema,
    /// Requests in flight at one replica.
    in_flight: ReachedSchema,
}

/// The fields of [`slackwater_sim::Reached`].
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct ReachedSchema {
    /// The most that was measured; 0 where that is not known.
    measured: u32,
    /// The most that was met.
    met: u32,
    /// Requests that met more than was measured.
    beyond: u64,
}

/// How well the engines are known, a sentence each.
pub(crate) fn profile_errors(scenario: &Scenario) -> Vec<String> {
    let measured = measured_engines(scenario, true).into_iter().map(|(names, calibration)| {
        let drawn = calibration.step_time_sd().map_or_else(String::new, |sd| {
            format!(
                "; in each future it is drawn faster or slower, with a standard deviation of {:.1} %",
                100.0 * sd
            )
        });
        let between = match calibration.alternatives.len() {
            0 => String::new(),
            count => format!(
                "; in each future its coefficients lie between the profile's and {count} others with which the measured data can \
                 live too"
            ),
        };
        format!("the engine of {} was {}{drawn}{between}", names.join(" and "), calibration.in_words())
    });
    measured.chain(preset_errors(scenario)).collect()
}

/// How far presets like those used were off, a sentence each; a model that both versions share is said once.
fn preset_errors(scenario: &Scenario) -> Vec<String> {
    let versions: [&Version; 2] = [&scenario.from, &scenario.to];
    let error = |version: &Version| {
        let source = &version.engine.source;
        EngineProfile::source_is_preset(source).then(|| {
            EngineProfile::preset_error(source).map_or_else(
                || "how far presets on its GPU are off was not measured".to_owned(),
                |said| format!("presets like it were {said}"),
            )
        })
    };
    let mut said: Vec<(Vec<&str>, String)> = Vec::new();
    for version in versions {
        let Some(error) = error(version) else { continue };
        match said.iter_mut().find(|(_, known)| *known == error) {
            Some((names, _)) => names.push(&version.name),
            None => said.push((vec![&version.name], error)),
        }
    }
    let sentence = |(names, error): (Vec<&str>, String)| {
        format!(
            "the engine of {} is computed from a data sheet: {error}. The answer takes the preset as exact, so it holds no better \
             than that",
            names.join(" and ")
        )
    };
    said.into_iter().map(sentence).collect()
}

/// What the engines were given in these trials, against what they were measured on.
pub(crate) fn of_trials<'t>(trials: impl Iterator<Item = &'t Tried>) -> Vec<EngineReach> {
    EngineReach::together(trials.map(|tried| &tried.trial.reach[..]))
}

/// What speaks against a promise, a sentence each; and what is worth a warning only.
pub(crate) fn conditions(reach: &[EngineReach], slo_share: f64) -> (Vec<String>, Vec<String>) {
    let (mut conditions, mut warnings) = (Vec::new(), Vec::new());
    for engine in reach {
        let Some(said) = engine.in_words() else { continue };
        if engine.voids_a_promise(slo_share) {
            conditions.push(format!(
                "on condition that the engine profile holds beyond what was measured: {said}; a calibration that reaches so far would \
                 tell (slackwater calibrate --longest, --most-at-once)"
            ));
        } else {
            warnings.push(format!("{said}; these are too few to matter to the promise"));
        }
    }
    (conditions, warnings)
}
