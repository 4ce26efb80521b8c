//! Recorded experiments beside what a profile predicts of them.

use serde::Serialize;
use slackwater_scenarios::EngineProfile;

use crate::calibration::{FitError, Fitted, fit_requests, fit_steps};
use crate::experiment::{Answer, Experiment};
use crate::figures::{Figures, figures, measured};
use crate::limits::{Structure, limits};
use crate::objective::Part;
use crate::prior::Prior;
use crate::replay::{Drive, ReplayError, Replayed, replay};
use crate::steps::Step;

/// What is fitted and how requests are sent.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Experiments to fit one profile to.
    pub fit: Vec<String>,
    /// Fit only to requests that ended before this time, seconds. Without names each experiment is fitted on its own.
    pub fit_until_s: Option<f64>,
    /// Most requests the client has in flight; it sends at `scheduled_s` or as soon as it may.
    pub client_cap: Option<u32>,
    /// Fit to these engine steps instead.
    pub steps: Option<Vec<Step>>,
    /// Take this profile's coefficients instead of a fit.
    pub profile: Option<EngineProfile>,
    /// Of the front end's jitter and the search's starts.
    pub seed: u64,
}

/// One experiment, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Whether the profile was fitted to it, or to its first part.
    pub fitted: bool,
    /// The profile was fitted to its requests that ended before this time, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fitted_until_s: Option<f64>,
    /// How many of its requests the profile was fitted to.
    pub fitted_requests: usize,
    /// As recorded, all requests.
    pub measured: Figures,
    /// As replayed, all requests.
    pub predicted: Figures,
    /// The same for the requests that were not fitted, where some were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// What it was predicted from: an index into the profiles.
    pub profile: usize,
    /// What had to be assumed.
    pub assumed: Vec<String>,
    /// SHA-256 of its files.
    pub hash: String,
}

/// Measured and predicted figures of some of the requests.
#[derive(Debug, Clone, Serialize)]
pub struct Rest {
    /// As recorded.
    pub measured: Figures,
    /// As replayed.
    pub predicted: Figures,
}

/// An experiment the profile does not speak of.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Where the coefficients came from.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Source {
    /// A fit.
    Fitted(Box<Fitted>),
    /// A given profile, or a preset.
    Given {
        /// The profile.
        profile: Box<EngineProfile>,
    },
}

impl Source {
    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &EngineProfile {
        match self {
            Self::Fitted(fitted) => &fitted.profile,
            Self::Given { profile } => profile,
        }
    }
}

/// All experiments, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Validation {
    /// Those compared.
    pub experiments: Vec<Compared>,
    /// Those that were not.
    pub skipped: Vec<Skipped>,
    /// The profile, when there is one; the first one's when each experiment has its own.
    pub profile: Option<Source>,
    /// All profiles, where experiments have their own.
    pub profiles: Vec<Source>,
}

impl Validation {
    /// What the first profile was not fitted to: of the experiments that it predicts, the one that it was furthest off in.
    #[must_use]
    pub fn held_out(&self) -> Option<Rest> {
        let of = |compared: &Compared| {
            let all = || Rest { measured: compared.measured.clone(), predicted: compared.predicted.clone() };
            compared.rest.clone().or_else(|| (!compared.fitted).then(all))
        };
        let off = |rest: &Rest| rest.hold_out().map(|of| of.tpot_mean.abs().max(of.e2e_mean.abs()));
        let rests = self.experiments.iter().filter(|compared| compared.profile == 0).filter_map(of);
        let rests = rests.filter_map(|rest| Some((off(&rest)?, rest)));
        rests.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, rest)| rest)
    }
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum ValidationError {
    /// A name that no experiment has.
    #[error("no experiment is called `{name}`; there are {known}")]
    NoSuch {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Experiments of different servers can't share a profile.
    #[error("`{one}` and `{other}` are of different servers ({difference}): fit one of them at a time")]
    Different {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// In what.
        difference: String,
    },
    /// The data are too few.
    #[error("{name}: {error}")]
    Fit {
        /// The experiment.
        name: String,
        /// Why.
        error: FitError,
    },
    /// The engine can't be replayed.
    #[error("{name}: {error}")]
    Replay {
        /// The experiment.
        name: String,
        /// Why.
        error: ReplayError,
    },
    /// Every experiment had to be left out.
    #[error("nothing to compare: {0}")]
    AllSkipped(String),
}

/// Fits as asked, and compares every experiment that the profile speaks of.
///
/// # Errors
/// When a name is wrong, the data are too few, or the engine can't be replayed.
pub fn validate(
    experiments: &[Experiment],
    options: &Options,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Validation, ValidationError> {
    let mut result =
        Validation { experiments: Vec::new(), skipped: Vec::new(), profile: None, profiles: Vec::new() };
    if let Some(profile) = &options.profile {
        result.profiles.push(Source::Given { profile: Box::new(profile.clone()) });
        for experiment in experiments {
            result.experiments.push(compare(experiment, None, profile, 0, options)?);
        }
    } else if let Some(steps) = &options.steps {
        let fitted = fit_steps(steps.clone(), experiments.first(), options.seed, say);
        let profile = fitted.profile.clone();
        result.profiles.push(Source::Fitted(Box::new(fitted)));
        for experiment in experiments {
            result.experiments.push(compare(experiment, None, &profile, 0, options)?);
        }
    } else if !options.fit.is_empty() {
        fit_named(experiments, options, say, &mut result)?;
    } else {
        for experiment in experiments {
            alone(experiment, options, say, &mut result)?;
        }
    }
    result.profile = result.profiles.first().cloned();
    if result.experiments.is_empty() {
        let reasons: Vec<String> =
            result.skipped.iter().map(|of| format!("{}: {}", of.name, of.reason)).collect();
        return Err(ValidationError::AllSkipped(reasons.join("; ")));
    }
    Ok(result)
}

/// One profile, fitted to those named; the others of the same server are predicted.
fn fit_named(
    experiments: &[Experiment],
    options: &Options,
    say: &(dyn Fn(&str) + Sync),
    result: &mut Validation,
) -> Result<(), ValidationError> {
    let mut parts = Vec::new();
    for name in &options.fit {
        let found = experiments.iter().find(|experiment| experiment.name == *name).ok_or_else(|| {
            let known: Vec<&str> = experiments.iter().map(|experiment| experiment.name.as_str()).collect();
            ValidationError::NoSuch { name: name.clone(), known: known.join(", ") }
        })?;
        parts.push(Part::new(found, options.fit_until_s));
    }
    let first = parts[0].experiment;
    for part in &parts[1..] {
        if let Some(difference) = difference(first, part.experiment) {
            return Err(ValidationError::Different {
                one: first.name.clone(),
                other: part.experiment.name.clone(),
                difference,
            });
        }
    }
    let fitted = fit_requests(&parts, options.seed, say)
        .map_err(|error| ValidationError::Fit { name: options.fit.join(", "), error })?;
    let profile = fitted.profile.clone();
    result.profiles.push(Source::Fitted(Box::new(fitted)));
    for experiment in experiments {
        if let Some(difference) = difference(first, experiment) {
            let reason = format!("another server than `{}`: {difference}", first.name);
            result.skipped.push(Skipped { name: experiment.name.clone(), reason });
            continue;
        }
        let part = parts.iter().find(|part| part.experiment.name == experiment.name);
        result.experiments.push(compare(experiment, part, &profile, 0, options)?);
    }
    Ok(())
}

/// An experiment by itself: fitted to its own first part, or predicted from its preset.
fn alone(
    experiment: &Experiment,
    options: &Options,
    say: &(dyn Fn(&str) + Sync),
    result: &mut Validation,
) -> Result<(), ValidationError> {
    let index = result.profiles.len();
    if options.fit_until_s.is_some() {
        let part = Part::new(experiment, options.fit_until_s);
        let said = |text: &str| say(&format!("{}: {text}", experiment.name));
        let fitted = match fit_requests(std::slice::from_ref(&part), options.seed, &said) {
            Ok(fitted) => fitted,
            // The others can still be compared.
            Err(error) => {
                result.skipped.push(Skipped { name: experiment.name.clone(), reason: error.to_string() });
                return Ok(());
            }
        };
        result.experiments.push(compare(experiment, Some(&part), &fitted.profile, index, options)?);
        result.profiles.push(Source::Fitted(Box::new(fitted)));
        return Ok(());
    }
    let preset = Prior::of(experiment).preset.and_then(|preset| preset.profile().ok());
    let Some(profile) = preset else {
        let reason =
            "no preset knows its GPU and model; give --fit, --fit-until, --steps or --profile".to_owned();
        result.skipped.push(Skipped { name: experiment.name.clone(), reason });
        return Ok(());
    };
    result.experiments.push(compare(experiment, None, &profile, index, options)?);
    result.profiles.push(Source::Given { profile: Box::new(profile) });
    Ok(())
}

/// In what two experiments' servers differ, so that one profile can't be for both.
fn difference(one: &Experiment, other: &Experiment) -> Option<String> {
    let (one, other) = (&one.about, &other.about);
    let differ = |what: &str, one: Option<String>, other: Option<String>| match (one, other) {
        (Some(one), Some(other)) if one != other => Some(format!("{what} `{one}` and `{other}`")),
        _ => None,
    };
    let text = |number: Option<u32>| number.map(|number| number.to_string());
    differ("gpu", one.gpu.clone(), other.gpu.clone())
        .or_else(|| differ("model", one.model.clone(), other.model.clone()))
        .or_else(|| differ("tp", text(one.tp), text(other.tp)))
        .or_else(|| differ("engine", one.engine.clone(), other.engine.clone()))
}

fn compare(
    experiment: &Experiment,
    part: Option<&Part<'_>>,
    from: &EngineProfile,
    index: usize,
    options: &Options,
) -> Result<Compared, ValidationError> {
    let (mut profile, mut assumed) = limits(experiment, Structure::of(from));
    profile.source.clone_from(&from.source);
    profile.form = from.form;
    (profile.c0_ms, profile.c_tok_us, profile.c_seq_us) = (from.c0_ms, from.c_tok_us, from.c_seq_us);
    (profile.c_kv_us, profile.c_attn_us_per_token2) = (from.c_kv_us, from.c_attn_us_per_token2);
    profile.front_end = from.front_end.clone();
    assumed.extend(experiment.assumed.iter().cloned());
    let drive = match options.client_cap.or(experiment.about.client_cap) {
        Some(most) => {
            if experiment.rows.iter().all(|row| row.scheduled_s.is_none()) {
                assumed.push("no scheduled_s: the capped client means to send at arrival_s".to_owned());
            }
            Drive::Capped(most)
        }
        None => Drive::Open,
    };
    let replayed = replay(experiment, &profile, drive, options.seed)
        .map_err(|error| ValidationError::Replay { name: experiment.name.clone(), error })?;
    let unheld = replayed.iter().filter(|replayed| replayed.answer.is_none()).count();
    if unheld > 0 {
        assumed.push(format!(
            "{unheld} requests are longer than the KV cache: the simulated engine refuses them"
        ));
    }
    let rest =
        part.filter(|part| part.count() < experiment.rows.iter().filter(|row| row.answer.is_some()).count());
    let of_rest = |at: usize| part.is_none_or(|part| !part.fitted[at]);
    Ok(Compared {
        name: experiment.name.clone(),
        fitted: part.is_some(),
        fitted_until_s: part.and(options.fit_until_s),
        fitted_requests: part.map_or(0, Part::count),
        measured: measured(&experiment.rows, |_| true),
        predicted: predicted(experiment, &replayed, |_| true),
        rest: rest.map(|_| Rest {
            measured: measured(&experiment.rows, of_rest),
            predicted: predicted(experiment, &replayed, of_rest),
        }),
        profile: index,
        assumed,
        hash: experiment.hash.clone(),
    })
}

/// The requests that were not fitted, as recorded and as the profile predicts them; `None` when all were.
///
/// # Errors
/// When the profile is no engine.
pub fn held_out(part: &Part<'_>, profile: &EngineProfile, seed: u64) -> Result<Option<Rest>, ReplayError> {
    let experiment = part.experiment;
    let rest = |at: usize| !part.fitted[at] && experiment.rows[at].answer.is_some();
    if !(0..experiment.rows.len()).any(rest) {
        return Ok(None);
    }
    let replayed = replay(experiment, profile, Drive::Open, seed)?;
    Ok(Some(Rest {
        measured: measured(&experiment.rows, rest),
        predicted: predicted(experiment, &replayed, rest),
    }))
}

/// The figures as replayed. Latencies are compared for requests that were answered; failures are the simulated engine's own.
fn predicted(experiment: &Experiment, replayed: &[Replayed], compared: impl Fn(usize) -> bool) -> Figures {
    let rows = experiment.rows.iter().zip(replayed).enumerate();
    let of = |(at, (row, replayed)): (usize, (&crate::experiment::Row, &Replayed))| {
        let answered: Option<Answer> = replayed.answer.filter(|_| row.answer.is_some());
        (compared(at) && (answered.is_some() || replayed.answer.is_none() || row.answer.is_some()))
            .then_some((replayed.sent_s, row.output_tokens, answered))
    };
    figures(&rows.filter_map(of).collect::<Vec<_>>())
}
