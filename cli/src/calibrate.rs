//! `slackwater calibrate`: a server out of rotation, measured.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use slackwater_calibrate::{Description, Experiment, Fitted, Part, Rest, fit_requests, held_out};
use slackwater_measure::{Budget, Recorded, Server, measure, phases, what_it_does};
use slackwater_reports::validation::{fitted_text, rest_text};
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::calibration::{Calibration, HoldOut};

use crate::calibrate_args::Calibrate;
use crate::gpu_identity::{Identified, identify};
use crate::output;

/// A result names what it came from.
#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a EngineProfile,
    fitted: &'a Fitted,
    held_out: &'a Option<Rest>,
    assumed: &'a [String],
    seed: u64,
    version: &'static str,
}

pub(crate) fn calibrate(arguments: &Calibrate) -> anyhow::Result<()> {
    if arguments.startup.is_asked() {
        return crate::startup::startup(arguments);
    }
    if arguments.passive.passive {
        return crate::passive::passive(arguments);
    }
    if let Some(rate) = arguments.max_rate {
        anyhow::ensure!(rate.is_finite() && rate > 0.0, "--max-rate {rate}: give requests a second above 0");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let url = arguments.url.as_deref().context("calibrate needs --url http://HOST:PORT")?;
    let server = runtime.block_on(Server::ask(url))?;
    say_server(&server);
    let gpu = identify(arguments, &server);
    let budget = Budget {
        lasts: Duration::from_secs(arguments.budget_s),
        max_rate: arguments.max_rate,
        most_at_once: arguments.most_at_once,
        longest: arguments.longest.min(server.max_model_len.unwrap_or(u32::MAX)),
    };
    // Rates depend on how fast the server is; half a second a request is an ordinary one.
    output::say(&what_it_does(&phases(&budget, 0.5), &budget));
    if arguments.dry_run {
        return Ok(());
    }
    anyhow::ensure!(
        server.busy_with.unwrap_or(0.0) < 1.0,
        "{} has {} requests running: take it out of rotation first",
        server.url,
        server.busy_with.unwrap_or(0.0)
    );
    let say = |text: &str| output::say(text);
    let mut recorded = runtime.block_on(async {
        let measuring =
            measure(&server, budget.lasts, arguments.seed, |alone_s| phases(&budget, alone_s), &say);
        tokio::select! {
            done = measuring => done.map_err(anyhow::Error::from),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; nothing was written")),
        }
    })?;
    tell_limits(&mut recorded.experiment.about, arguments, &gpu);
    if let Some(folder) = &arguments.record {
        write_record(folder, &recorded.experiment)?;
    }
    let part = Part { experiment: &recorded.experiment, fitted: recorded.fitted.clone() };
    let fitted = fit_requests(std::slice::from_ref(&part), arguments.seed, &say)?;
    let rest = held_out(&part, &fitted.profile, arguments.seed)?;
    let what = format!("measured on {}", server.model);
    let hold_out = rest.as_ref().and_then(Rest::hold_out);
    let profile = profile(&what, &fitted, hold_out, server.version.clone(), &gpu);
    // The load itself shares no prompts; what the server does with traffic that does is its own setting.
    let profile = EngineProfile { prefix_caching: server.prefix_caching.unwrap_or(false), ..profile };
    let assumed = assumed(&recorded, &fitted);
    if arguments.json {
        return output::json(&Answer {
            profile: &profile,
            fitted: &fitted,
            held_out: &rest,
            assumed: &assumed,
            seed: arguments.seed,
            version: env!("CARGO_PKG_VERSION"),
        });
    }
    let mut text = fitted_text(&fitted, &server.model);
    if let Some(rest) = &rest {
        text.push_str(&rest_text(rest));
    }
    for assumed in &assumed {
        let _ = writeln!(text, "{assumed}.");
    }
    tell(&profile, text, arguments)
}

/// Writes the profile, and says what is to be said of it.
pub(crate) fn tell(profile: &EngineProfile, mut text: String, arguments: &Calibrate) -> anyhow::Result<()> {
    let toml = toml::to_string(profile).context("this profile can't be written as TOML")?;
    match &arguments.out {
        Some(path) => {
            std::fs::write(path, toml).with_context(|| format!("cannot write {}", path.display()))?;
            let _ = write!(
                text,
                "Wrote {0}. A scenario takes it by this line below [from] (and [to], where that has an engine of its own):\n\
                 engine = {{ file = {1} }}\nThe path is relative to the scenario's folder.",
                path.display(),
                toml::Value::from(path.to_string_lossy().into_owned())
            );
            output::line(&text)
        }
        None => {
            output::say(text.trim_end());
            output::line(toml.trim_end())
        }
    }
}

pub(crate) fn say_server(server: &Server) {
    let kv = server.kv.map_or("KV cache unknown".to_owned(), |(blocks, size)| {
        format!("{blocks} KV blocks of {size} tokens")
    });
    output::say(&format!(
        "{} serves {} (version {}, contexts up to {} tokens, {kv}).",
        server.url,
        server.model,
        server.version.as_deref().unwrap_or("unknown"),
        server.max_model_len.map_or("unknown".to_owned(), |most| most.to_string())
    ));
}

/// What no server tells of itself.
pub(crate) fn tell_limits(about: &mut Description, arguments: &Calibrate, gpu: &Identified) {
    about.gpu.clone_from(&gpu.preset);
    about.max_num_seqs = arguments.max_num_seqs;
    about.max_num_batched_tokens = arguments.max_num_batched_tokens;
    if about.num_gpu_blocks.is_none() {
        about.kv_cache_tokens = arguments.kv_cache_tokens;
    }
    if gpu.count > 1 {
        about.tp = Some(gpu.count);
    }
}

fn assumed(recorded: &Recorded, fitted: &Fitted) -> Vec<String> {
    let structure = slackwater_calibrate::Structure::of(&fitted.profile);
    let (_, mut assumed) = slackwater_calibrate::limits(&recorded.experiment, structure);
    assumed.extend(recorded.experiment.assumed.iter().cloned());
    if !recorded.left_out.is_empty() {
        assumed.push(format!("the time did not suffice for: {}", recorded.left_out.join(", ")));
    }
    assumed
}

/// The profile as it is written: `what` it is from, and with what is known of it.
pub(crate) fn profile(
    what: &str,
    fitted: &Fitted,
    hold_out: Option<HoldOut>,
    engine: Option<String>,
    gpu: &Identified,
) -> EngineProfile {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    EngineProfile {
        source: format!("{what} on {date}: {} requests", fitted.fitted_to),
        calibration: Some(Calibration {
            engine,
            gpu: gpu.words.clone(),
            ..fitted.calibration(date, hold_out)
        }),
        ..fitted.profile.clone()
    }
}

/// An experiment as `validate` reads it.
fn write_record(folder: &Path, experiment: &Experiment) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let description = serde_json::to_string_pretty(&experiment.about).context("no description")?;
    let path = folder.join("experiment.json");
    std::fs::write(&path, description).with_context(|| format!("cannot write {}", path.display()))?;
    let mut text = String::from("arrival_s,input_tokens,output_tokens,ttft_s,e2e_s,tpot_s\n");
    for row in &experiment.rows {
        let _ = write!(text, "{:.6},{},{}", row.arrival_s, row.input_tokens, row.output_tokens);
        let _ = match row.answer {
            None => writeln!(text, ",,,"),
            Some(answer) => {
                let tpot =
                    answer.tpot_s(row.output_tokens).map(|tpot| format!("{tpot:.7}")).unwrap_or_default();
                writeln!(text, ",{:.6},{:.6},{tpot}", answer.ttft_s, answer.e2e_s)
            }
        };
    }
    let path = folder.join("requests.csv");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    output::say(&format!("wrote what was measured to {}", folder.display()));
    Ok(())
}
