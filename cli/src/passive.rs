//! `slackwater calibrate --passive`: a live server is watched, never loaded.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use slackwater_calibrate::{
    Description, Experiment, Fitted, Means, Part, Rest, Watched, fit_requests, fit_watched, held_out,
    read_access_log,
};
use slackwater_measure::{Counters, Server, watch};
use slackwater_prometheus::{Client, Credentials, Patience, buckets, samples};
use slackwater_reports::validation::{fitted_text, rest_text};
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::calibration::HoldOut;

use crate::calibrate::{profile, say_server, tell, tell_limits};
use crate::calibrate_args::Calibrate;
use crate::gpu_identity::{Identified, as_told, identify};
use crate::output;

/// Arguments of `calibrate --passive`.
#[derive(Debug, Args)]
pub(crate) struct Passive {
    /// Only watch a live server under its own traffic: it is sent nothing but requests for /metrics, /version and /v1/models. The
    /// profile is rougher than a measured one, and says so.
    #[arg(long, help_heading = "Watching", conflicts_with_all = crate::calibrate_args::OF_A_LOAD)]
    pub(crate) passive: bool,

    /// How long to watch; with --prometheus, how far to look back.
    #[arg(long = "for", value_name = "SECONDS", requires = "passive", help_heading = "Watching",
          default_value = "600", default_value_if("prometheus", clap::builder::ArgPredicate::IsPresent, "21600"),
          value_parser = clap::value_parser!(u64).range(10..=604_800))]
    pub(crate) lasts_s: u64,

    /// How often to look.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", requires = "passive", help_heading = "Watching",
          value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) every: u64,

    /// Take what this Prometheus server has recorded, instead of looking.
    #[arg(long, value_name = "URL", requires = "passive", conflicts_with_all = ["url", "log"], help_heading = "Watching")]
    pub(crate) prometheus: Option<String>,

    /// With --prometheus: which replicas, as PromQL label matchers; all must be of one kind.
    #[arg(
        long,
        value_name = "MATCHERS",
        default_value = "",
        requires = "prometheus",
        help_heading = "Watching"
    )]
    pub(crate) selector: String,

    /// Take the gateway's access log, which has every request: fitted as a measurement is.
    #[arg(long, value_name = "FILE", requires = "passive", help_heading = "Watching")]
    pub(crate) log: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a EngineProfile,
    fitted: &'a Fitted,
    #[serde(skip_serializing_if = "Option::is_none")]
    means_held_out: Option<Means>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<&'a Rest>,
    assumed: &'a [String],
    seed: u64,
    version: &'static str,
}

pub(crate) fn passive(arguments: &Calibrate) -> anyhow::Result<()> {
    let options = &arguments.passive;
    if let Some(file) = &options.log {
        return from_log(arguments, file);
    }
    let (watched, server, gpu) = match &options.prometheus {
        Some(url) => {
            if arguments.dry_run {
                output::say(&format!(
                    "Asking {url} for the last {} s of the engines' metrics.",
                    options.lasts_s
                ));
                return Ok(());
            }
            let gpu = as_told(arguments).unwrap_or_default();
            let mut about = Description::default();
            tell_limits(&mut about, arguments, &gpu);
            (recorded(url, options)?.watched(about)?, None, gpu)
        }
        None => {
            let Some((counters, server, gpu)) = looked_at(arguments)? else { return Ok(()) };
            let mut about = Description {
                model: Some(server.model.clone()),
                engine_version: server.version.clone(),
                prefix_caching: server.prefix_caching.map(Into::into),
                ..Description::default()
            };
            tell_limits(&mut about, arguments, &gpu);
            (counters.watched(about)?, Some(server), gpu)
        }
    };
    tell_watched(arguments, &watched, server.as_ref(), &gpu)
}

/// Watches the server itself; `None` where that was only to be said.
fn looked_at(arguments: &Calibrate) -> anyhow::Result<Option<(Counters, Server, Identified)>> {
    let options = &arguments.passive;
    let url = arguments.url.as_deref().context("--passive needs --url, --prometheus or --log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let server = runtime.block_on(Server::ask(url))?;
    say_server(&server);
    let gpu = identify(arguments, &server);
    output::say(&format!(
        "Looking at its metrics every {} s for {} s; nothing else is sent to it.",
        options.every, options.lasts_s
    ));
    if arguments.dry_run {
        return Ok(None);
    }
    let say = |text: &str| output::say(text);
    let counters = runtime.block_on(async {
        let enough = async {
            // Without a way to hear of it, Ctrl-C ends the program as ever.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            output::say("interrupted: what was seen so far is fitted");
        };
        let (lasts, every) = (Duration::from_secs(options.lasts_s), Duration::from_secs(options.every));
        watch(&server, lasts, every, enough, &say).await
    })?;
    Ok(Some((counters, server, gpu)))
}

/// What a Prometheus server has of the last time.
fn recorded(url: &str, options: &Passive) -> anyhow::Result<Counters> {
    let client = Client::new(url, Credentials::from_environment()?, Patience::default())?;
    let now_s =
        SystemTime::now().duration_since(UNIX_EPOCH).context("this host's clock stands before 1970")?;
    let now_s = i64::try_from(now_s.as_secs()).context("this host's clock is beyond its range")?;
    let between = (now_s - i64::try_from(options.lasts_s).unwrap_or(i64::MAX), now_s);
    let (names, lengths) = Counters::names();
    let mut counters = Counters::default();
    for series in samples(&client, &options.selector, &names, between)? {
        for (at_s, value) in &series.points {
            counters.add(*at_s, &series.name, |label| series.labels.get(label).map(String::as_str), *value);
        }
    }
    for histogram in lengths {
        counters.lengths(histogram, &buckets(&client, &options.selector, histogram, between)?);
    }
    Ok(counters)
}

fn tell_watched(
    arguments: &Calibrate,
    watched: &Watched,
    server: Option<&Server>,
    gpu: &Identified,
) -> anyhow::Result<()> {
    let say = |text: &str| output::say(text);
    let fit = fit_watched(watched, arguments.seed, &say)?;
    if let Some(why) = &fit.too_even {
        anyhow::bail!("{why}. No profile was written");
    }
    let model = watched.about.model.as_deref().unwrap_or("a fleet");
    let what = format!("watched only, so rougher than measured: {model}");
    let off = |(measured, predicted): (f64, f64)| predicted / measured - 1.0;
    let hold_out = fit.held_out.map(|means| HoldOut {
        requests: whole(means.requests),
        ttft_mean: off(means.ttft_s),
        tpot_mean: off(means.tpot_s),
        e2e_mean: off(means.e2e_s),
    });
    let mut profile =
        profile(&what, &fit.fitted, hold_out, server.and_then(|server| server.version.clone()), gpu);
    profile.prefix_caching = server.and_then(|server| server.prefix_caching).unwrap_or(false);
    if let Some(calibration) = &mut profile.calibration {
        calibration.watched = true;
    }
    let (_, mut assumed) = match watched.drawn(0, arguments.seed) {
        Some(drawn) => slackwater_calibrate::limits(&drawn, slackwater_calibrate::Structure::of(&profile)),
        None => (EngineProfile::clone(&profile), Vec::new()),
    };
    assumed.extend(watched.notes.iter().cloned());
    assumed.push(
        "how batches are scheduled does not show in means: asynchronous scheduling is assumed".to_owned(),
    );
    if arguments.json {
        return output::json(&Answer {
            profile: &profile,
            fitted: &fit.fitted,
            means_held_out: fit.held_out,
            held_out: None,
            assumed: &assumed,
            seed: arguments.seed,
            version: env!("CARGO_PKG_VERSION"),
        });
    }
    let mut text = fitted_text(&fit.fitted, model);
    let _ = writeln!(text, "Fitted to the means of {} intervals: rougher than a measurement.", fit.intervals);
    if let Some(means) = fit.held_out {
        let _ = writeln!(
            text,
            "Held out, {:.0} answers of every fourth stretch (means, seconds):",
            means.requests
        );
        for (name, pair) in [("TTFT", means.ttft_s), ("TPOT", means.tpot_s), ("E2E", means.e2e_s)] {
            let _ = writeln!(
                text,
                "  {name:<5} {:>9.5} measured {:>9.5} predicted, {:+.1} %",
                pair.0,
                pair.1,
                100.0 * off(pair)
            );
        }
    }
    for assumed in &assumed {
        let _ = writeln!(text, "{assumed}.");
    }
    tell(&profile, text, arguments)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // casts saturate
fn whole(value: f64) -> u32 {
    value.round() as u32
}

/// The share of a log's time that is fitted; what ended later shows the error.
const FITTED_SHARE: f64 = 0.75;

/// Every live request, replayed.
fn from_log(arguments: &Calibrate, file: &std::path::Path) -> anyhow::Result<()> {
    let gpu = as_told(arguments).unwrap_or_default();
    let mut about = Description::default();
    tell_limits(&mut about, arguments, &gpu);
    let experiments = read_access_log(file, &about)?;
    let end_s = experiments.iter().map(Experiment::end_s).fold(0.0, f64::max);
    let until_s = FITTED_SHARE * end_s;
    let parts: Vec<Part<'_>> = experiments.iter().map(|of| Part::new(of, Some(until_s))).collect();
    let say = |text: &str| output::say(text);
    let fitted = fit_requests(&parts, arguments.seed, &say)?;
    // The replica with most requests held out shows the error; the others are like it.
    let fullest = parts.iter().max_by_key(|part| part.fitted.iter().filter(|fitted| !**fitted).count());
    let rest = match fullest {
        Some(part) => held_out(part, &fitted.profile, arguments.seed)?,
        None => None,
    };
    let what = format!("fitted to live requests in the log of {} replicas", experiments.len());
    let mut profile = profile(&what, &fitted, rest.as_ref().and_then(Rest::hold_out), None, &gpu);
    if let Some(calibration) = &mut profile.calibration {
        calibration.watched = true;
    }
    let structure = slackwater_calibrate::Structure::of(&profile);
    let first = experiments.first().context("a log has requests")?;
    let (_, mut assumed) = slackwater_calibrate::limits(first, structure);
    assumed.extend(first.assumed.iter().cloned());
    assumed.push("prompts are taken to share nothing: of a server with a prefix cache the log shows less work than its token counts".to_owned());
    if arguments.json {
        return output::json(&Answer {
            profile: &profile,
            fitted: &fitted,
            means_held_out: None,
            held_out: rest.as_ref(),
            assumed: &assumed,
            seed: arguments.seed,
            version: env!("CARGO_PKG_VERSION"),
        });
    }
    let mut text = fitted_text(&fitted, &first.name);
    if let Some(rest) = &rest {
        text.push_str(&rest_text(rest));
    }
    for assumed in &assumed {
        let _ = writeln!(text, "{assumed}.");
    }
    tell(&profile, text, arguments)
}
