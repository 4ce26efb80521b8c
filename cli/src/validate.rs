//! `slackwater validate`: recorded servers beside what is predicted of them.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sha2::{Digest, Sha256};
use slackwater_calibrate::silicon::{Silicon, SiliconOptions, entries, silicon};
use slackwater_calibrate::{Experiment, Options, Rest, Source, Validation, read_steps};
use slackwater_reports::silicon::silicon_text;
use slackwater_reports::validation::validation_text;
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::calibration::Calibration;
use slackwater_scenarios::presets::Efficiency;

use crate::calibrate_args::Validate;
use crate::output;

/// A result names what it came from.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    validation: &'a Validation,
    seed: u64,
    version: &'static str,
}

pub(crate) fn validate(arguments: &Validate) -> anyhow::Result<()> {
    if let Some(file) = &arguments.silicon {
        return against_silicon(file, arguments);
    }
    let folder = arguments.folder.as_deref().context("give a folder of experiments, or --silicon FILE")?;
    let experiments = Experiment::all(folder)?;
    let options = options(arguments)?;
    let say = |text: &str| output::say(text);
    let validation = slackwater_calibrate::validate(&experiments, &options, &say)?;
    if let Some(path) = &arguments.write {
        let source =
            validation.profile.as_ref().context("nothing was fitted, so there is no profile to write")?;
        write_profile(path, &with_calibration(source, &validation, &experiments))?;
    }
    if arguments.json {
        output::json(&Answer {
            validation: &validation,
            seed: arguments.seed,
            version: env!("CARGO_PKG_VERSION"),
        })
    } else {
        output::line(&validation_text(&validation))?;
        output::line(&format!(
            "\nSeed {}; slackwater {}; experiments {}.",
            arguments.seed,
            env!("CARGO_PKG_VERSION"),
            validation.experiments.iter().map(|of| &of.hash[..12]).collect::<Vec<_>>().join(", ")
        ))
    }
}

/// What `--silicon --json` prints.
#[derive(Serialize)]
struct SiliconAnswer<'a> {
    #[serde(flatten)]
    found: &'a Silicon,
    file: &'a Path,
    sha256: &'a str,
    seed: u64,
    version: &'static str,
}

/// What `--toml` prints: the list that presets are read from.
#[derive(Serialize)]
struct Entries {
    efficiency: Vec<Efficiency>,
}

fn against_silicon(file: &Path, arguments: &Validate) -> anyhow::Result<()> {
    let options =
        SiliconOptions { refit: arguments.refit, seed: arguments.seed, ..SiliconOptions::default() };
    if arguments.refit {
        output::say("fitting with each model and each pair left out: this takes minutes");
    }
    let found = silicon(file, options)?;
    if arguments.toml {
        let text = toml::to_string(&Entries { efficiency: entries(&found) });
        return output::line(text.context("the efficiencies can't be written as TOML")?.trim_end());
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let (seed, version) = (arguments.seed, env!("CARGO_PKG_VERSION"));
    if arguments.json {
        return output::json(&SiliconAnswer { found: &found, file, sha256: &sha256, seed, version });
    }
    output::line(&silicon_text(&found))?;
    output::line(&format!(
        "\nSeed {seed}; slackwater {version}; {} sha256 {}.",
        file.display(),
        &sha256[..12]
    ))
}

fn options(arguments: &Validate) -> anyhow::Result<Options> {
    if let Some(until) = arguments.fit_until {
        anyhow::ensure!(until.is_finite() && until > 0.0, "--fit-until {until}: give seconds above 0");
    }
    Ok(Options {
        fit: arguments.fit.clone(),
        fit_until_s: arguments.fit_until,
        client_cap: arguments.client_cap,
        steps: arguments.steps.as_deref().map(read_steps).transpose()?,
        profile: arguments.profile.as_deref().map(read_profile).transpose()?,
        seed: arguments.seed,
    })
}

fn read_profile(path: &Path) -> anyhow::Result<EngineProfile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no engine profile", path.display()))
}

/// A fitted profile with what is known of it; a given one as it is.
fn with_calibration(source: &Source, validation: &Validation, experiments: &[Experiment]) -> EngineProfile {
    let Source::Fitted(fitted) = source else { return source.profile().clone() };
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let known = fitted.calibration(date, validation.held_out().as_ref().and_then(Rest::hold_out));
    // All experiments of one profile are of one server.
    let compared = validation.experiments.iter().find(|compared| compared.profile == 0);
    let of = compared.and_then(|compared| experiments.iter().find(|of| of.name == compared.name));
    let about = of.map(|of| &of.about);
    EngineProfile {
        calibration: Some(Calibration {
            engine: about.and_then(|about| about.engine_version.clone().or_else(|| about.engine.clone())),
            gpu: about.and_then(|about| about.gpu.clone()),
            ..known
        }),
        ..fitted.profile.clone()
    }
}

fn write_profile(path: &Path, profile: &EngineProfile) -> anyhow::Result<()> {
    let text = toml::to_string(profile).context("this profile can't be written as TOML")?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    output::say(&format!("wrote {}", path.display()));
    Ok(())
}
