//! What the types can't say: ranges, sums, keys that need or exclude each other. Faults have a file of their own.

mod bursts;
mod faults;
mod file;
mod generated;
mod planning;
mod strategy;

use crate::alternatives::{Alternative, MOST};
use crate::clients::{PrefixAware, Router, RouterPolicy};
use crate::engine_profile::EngineProfile;
use crate::fleet::Replicas;
use crate::places::Places;
use crate::rollout::{AtDeadline, Probe, Rollout};
use crate::scenario::Scenario;
use crate::time::HumanDuration;
use crate::traffic::{Format, PrometheusSource, TrafficSpec, chat_input, chat_output};
use crate::version::{SilentTokens, Version};

/// Something wrong with one key.
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) help: String,
}

pub(crate) type Check = Result<(), Problem>;

/// More replicas than one chassis, or one site, has.
const MOST_REPLICAS: usize = 1024;

pub(crate) fn check(scenario: &Scenario, places: &Places) -> Check {
    if i64::try_from(scenario.seed).is_err() {
        return Err(problem("seed", "is too large", "give a whole number up to 9223372036854775807"));
    }
    fleet(scenario)?;
    version("from", &scenario.from)?;
    version("to", &scenario.to)?;
    for (name, profile) in &scenario.engines {
        engine(&format!("engines.{name}"), profile)?;
    }
    clients(scenario, places)?;
    traffic(&scenario.traffic, places)?;
    rollout(&scenario.rollout)?;
    strategy::check(scenario)?;
    scenario.plan.as_ref().map_or(Ok(()), planning::check)?;
    named_replicas(scenario)?;
    faults::check(scenario)
}

fn problem(key: &str, message: impl std::fmt::Display, help: impl Into<String>) -> Problem {
    Problem { key: key.to_owned(), message: format!("`{key}`: {message}"), help: help.into() }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Check {
    // Written so that NaN fails.
    if value >= low && value <= high {
        return Ok(());
    }
    Err(problem(
        key,
        format_args!("{value} is out of range"),
        format!("give a number between {} and {}", plain(low), plain(high)),
    ))
}

fn plain(bound: f64) -> String {
    if bound != 0.0 && (bound.abs() < 1e-3 || bound.abs() >= 1e7) {
        format!("{bound:e}")
    } else {
        bound.to_string()
    }
}

fn at_least_one(key: &str, value: u32) -> Check {
    if value >= 1 { Ok(()) } else { Err(problem(key, "0 makes no sense here", "give a number from 1 up")) }
}

fn longer_than_zero(key: &str, value: HumanDuration) -> Check {
    if value.is_zero() {
        return Err(problem(key, "must be longer than zero", "give a duration such as \"30s\""));
    }
    Ok(())
}

/// A duration between these bounds, in seconds.
fn lasting(key: &str, value: HumanDuration, low_s: f64, high_s: f64) -> Check {
    if (low_s..=high_s).contains(&value.as_secs_f64()) {
        return Ok(());
    }
    let bound =
        |seconds| HumanDuration::from_secs_f64(seconds).map_or(String::new(), |bound| bound.to_string());
    let help = format!("give a duration from {} to {}", bound(low_s), bound(high_s));
    Err(problem(key, format_args!("{value} is out of range"), help))
}

fn fleet(scenario: &Scenario) -> Check {
    let count = scenario.fleet.replica_count();
    if count == 0 || count > MOST_REPLICAS {
        let message = format!("{count} replicas is out of range");
        return Err(problem("fleet.replicas", message, format!("give 1 to {MOST_REPLICAS} replicas")));
    }
    let width = scenario.fleet.tensor_parallel;
    if !(1..=1024).contains(&width) {
        let message = format!("{width} GPUs a replica is out of range");
        return Err(problem(
            "fleet.tensor_parallel",
            message,
            "give the GPUs that one replica spans, 1 to 1024",
        ));
    }
    if let Some(gpus) = scenario.fleet.gpus {
        at_least_one("fleet.gpus", gpus)?;
        let count = count as u64 + u64::from(scenario.fleet.spares);
        let needed = count * u64::from(width);
        if needed > u64::from(gpus) {
            let message = format!("{gpus}, but {count} replicas of {width} GPUs need {needed}");
            let help = match gpus / width {
                0 => format!("lower fleet.tensor_parallel to {gpus} or less, or correct it"),
                fit => format!("{fit} replicas fit; or lower fleet.tensor_parallel, or correct it"),
            };
            return Err(problem("fleet.gpus", message, help));
        }
    }
    let Replicas::Listed(list) = &scenario.fleet.replicas else { return Ok(()) };
    for (index, replica) in list.iter().enumerate() {
        let key = format!("fleet.replicas[{index}]");
        let earlier = &list[..index];
        if replica.name.trim().is_empty() {
            return Err(problem(&format!("{key}.name"), "is empty", "give the replica a name"));
        }
        if earlier.iter().any(|other| other.name == replica.name) {
            let message = format!("two replicas are called `{}`", replica.name);
            return Err(problem(&format!("{key}.name"), message, "give each replica its own name"));
        }
        if !replica.gpus.is_empty() && replica.gpus.len() != width as usize {
            let message = format!("{} GPUs, but tensor_parallel is {width}", replica.gpus.len());
            return Err(problem(
                &format!("{key}.gpus"),
                message,
                format!("list {width} GPUs, or leave the key out"),
            ));
        }
        for (position, gpu) in replica.gpus.iter().enumerate() {
            if let Some(gpus) = scenario.fleet.gpus
                && *gpu >= gpus
            {
                let message = format!("GPU {gpu} is not among the {gpus} of the chassis");
                let help = format!("GPUs are counted from 0: give 0 to {}", gpus - 1);
                return Err(problem(&format!("{key}.gpus"), message, help));
            }
            let taken = replica.gpus[..position].contains(gpu)
                || earlier.iter().any(|other| other.gpus.contains(gpu));
            if taken {
                let message = format!("GPU {gpu} is given twice");
                return Err(problem(&format!("{key}.gpus"), message, "a GPU belongs to one replica"));
            }
        }
    }
    Ok(())
}

fn version(key: &str, version: &Version) -> Check {
    within(&format!("{key}.output_length_factor"), version.output_length_factor, 0.01, 100.0)?;
    within(&format!("{key}.step_time_factor"), version.step_time_factor, 0.01, 100.0)?;
    if let Some(silent) = &version.silent_tokens {
        silent_tokens(&format!("{key}.silent_tokens"), silent)?;
    }
    engine(&format!("{key}.engine"), &version.engine)
}

fn silent_tokens(key: &str, silent: &SilentTokens) -> Check {
    match (silent.share, silent.median) {
        (Some(_), Some(_)) => return Err(problem(key, "has both `share` and `median`", "keep one of them")),
        (None, None) => {
            let help = "give a share of the output, as in { share = 0.7 }, or { median = 800, sigma = 0.8 }";
            return Err(problem(key, "does not say how many", help));
        }
        (Some(share), None) => within(&format!("{key}.share"), share, 0.0, 0.9999)?,
        (None, Some(median)) => {
            within(&format!("{key}.median"), median, 1.0, f64::from(crate::traffic::MOST_TOKENS))?;
        }
    }
    within(&format!("{key}.sigma"), silent.sigma.unwrap_or(0.0), 0.0, 5.0)?;
    within(&format!("{key}.requests"), silent.requests, 0.0, 1.0)
}

pub(crate) fn engine(key: &str, profile: &EngineProfile) -> Check {
    // An hour a step and a second a token are far beyond any machine; larger numbers are a wrong unit.
    within(&format!("{key}.c0_ms"), profile.c0_ms, 0.0, 3.6e6)?;
    within(&format!("{key}.c_tok_us"), profile.c_tok_us, 0.0, 1e6)?;
    within(&format!("{key}.c_seq_us"), profile.c_seq_us, 0.0, 1e6)?;
    within(&format!("{key}.c_kv_us"), profile.c_kv_us, 0.0, 1e6)?;
    within(&format!("{key}.c_attn_us_per_token2"), profile.c_attn_us_per_token2, 0.0, 1e3)?;
    // A step of less than a nanosecond would take no time in the simulation.
    if profile.c0_ms < 1e-6 && profile.c_tok_us < 1e-3 && profile.c_seq_us < 1e-3 {
        let help = "give the shortest step's time in milliseconds, for example c0_ms = 11.1";
        return Err(problem(&format!("{key}.c0_ms"), "a step takes no time with these coefficients", help));
    }
    for (name, value) in [
        ("kv_blocks", profile.kv_blocks),
        ("block_size", profile.block_size),
        ("max_num_seqs", profile.max_num_seqs),
        ("max_num_batched_tokens", profile.max_num_batched_tokens),
    ] {
        at_least_one(&format!("{key}.{name}"), value)?;
    }
    within(&format!("{key}.front_end.inbound_ms"), profile.front_end.inbound_ms, 0.0, 60_000.0)?;
    within(&format!("{key}.front_end.outbound_ms"), profile.front_end.outbound_ms, 0.0, 60_000.0)?;
    within(&format!("{key}.front_end.jitter"), profile.front_end.jitter, 0.0, 1.0)?;
    alternatives(key, profile)
}

fn alternatives(key: &str, profile: &EngineProfile) -> Check {
    let key = format!("{key}.calibration.alternatives");
    let help = "leave it as `slackwater calibrate --out FILE` wrote it, or leave all alternatives out";
    let given = profile.calibration.as_ref().map_or(&[][..], |of| &of.alternatives);
    if given.len() > MOST {
        return Err(problem(&key, format!("{} of them: expected at most {MOST}", given.len()), help));
    }
    match given.iter().find_map(Alternative::mistake) {
        Some(mistake) => Err(problem(&key, mistake, help)),
        None => Ok(()),
    }
}

fn clients(scenario: &Scenario, places: &Places) -> Check {
    let router = &scenario.router;
    at_least_one("router.workers", router.workers)?;
    if router.policy != RouterPolicy::NginxLeastConn {
        let unused = Router::default();
        let odd = [
            ("router.workers", router.workers != unused.workers),
            ("router.zone", router.zone != unused.zone),
        ];
        for (key, changed) in odd {
            if changed && places.is_set(key) {
                let help = "leave it out, or set router.policy = \"nginx-least-conn\"";
                return Err(problem(key, "only nginx-least-conn has it", help));
            }
        }
    }
    if let Some(slow_start) = router.slow_start {
        longer_than_zero("router.slow_start", slow_start)?;
        if router.policy != RouterPolicy::HaproxyLeastconn {
            let help = "leave it out, or set router.policy = \"haproxy-leastconn\" (nginx has it only as nginx Plus)";
            return Err(problem("router.slow_start", "only haproxy-leastconn has it", help));
        }
    }
    if router.policy != RouterPolicy::PrefixAware && router.prefix_aware != PrefixAware::default() {
        let help = "leave it out, or set router.policy = \"prefix-aware\"";
        return Err(problem("router.prefix_aware", "only prefix-aware has it", help));
    }
    within("router.prefix_aware.cache_threshold", router.prefix_aware.cache_threshold, 0.0, 1.0)?;
    within("router.prefix_aware.balance_rel_threshold", router.prefix_aware.balance_rel_threshold, 1.0, 1e6)?;
    if let Some(timeout) = router.read_timeout {
        longer_than_zero("router.read_timeout", timeout)?;
    }
    longer_than_zero("clients.timeout", scenario.clients.timeout)?;
    let retries = &scenario.clients.retries;
    within("clients.retries.max", f64::from(retries.max), 0.0, 100.0)?;
    within("clients.retries.multiplier", retries.multiplier, 1.0, 100.0)?;
    within("clients.retries.jitter", retries.jitter, 0.0, 1.0)?;
    if let Some(budget) = retries.budget {
        within("clients.retries.budget", budget, 0.0, 100.0)?;
    }
    longer_than_zero("slo.ttft", scenario.slo.ttft)?;
    longer_than_zero("slo.tpot", scenario.slo.tpot)?;
    if let Some(e2e) = scenario.slo.e2e {
        longer_than_zero("slo.e2e", e2e)?;
    }
    let share = scenario.slo.share;
    if share > 0.0 && share <= 1.0 {
        return Ok(());
    }
    Err(problem(
        "slo.share",
        format_args!("{share} is not a share"),
        "give a number above 0, up to 1, such as 0.99",
    ))
}

fn traffic(spec: &TrafficSpec, places: &Places) -> Check {
    within("traffic.rate_scale", spec.rate_scale, 1e-4, 1e4)?;
    at_least_one("traffic.repeat", spec.repeat)?;
    if let Some(source) = &spec.prometheus {
        return prometheus(spec, source, places);
    }
    match (&spec.file, &spec.generate) {
        (Some(_), Some(_)) => Err(problem(
            "traffic",
            "has both `file` and `generate`",
            "keep the one that the traffic comes from",
        )),
        (None, None) => {
            let help = "add file = \"trace.csv.gz\", a [traffic.generate] table with duration and rate_per_s, or prometheus \
                        = { url, selector, days }";
            Err(problem("traffic", "has none of `file`, `generate` and `prometheus`", help))
        }
        (Some(file), None) if file.as_os_str().is_empty() => {
            Err(problem("traffic.file", "is empty", "give the path of a trace file"))
        }
        (Some(_), None) => file::check(spec),
        (None, Some(generate)) => {
            no_keys_of_files(spec, places, "the traffic is generated")?;
            if spec.assume_tokens.is_some() {
                let what = "is for a file, but the traffic is generated";
                return Err(problem("traffic.assume_tokens", what, "leave it out"));
            }
            // Written out, a scenario has its defaults too.
            let own =
                [("input", generate.input != chat_input()), ("output", generate.output != chat_output())];
            for (side, changed) in own {
                if changed && !generate.classes.is_empty() {
                    let help =
                        "leave it out, or the [[traffic.generate.classes]], which have lengths of their own";
                    return Err(problem(
                        &format!("traffic.generate.{side}"),
                        "is given beside classes",
                        help,
                    ));
                }
            }
            generated::check(generate, spec.rate_scale)
        }
    }
}

/// Keys that say how a file is to be read mean nothing for other traffic.
fn no_keys_of_files(spec: &TrafficSpec, places: &Places, instead: &str) -> Check {
    let odd = [
        ("traffic.format", spec.format != Format::Auto),
        ("traffic.repeat", spec.repeat != 1),
        ("traffic.sort", spec.sort),
        ("traffic.time_zone", spec.time_zone.is_some()),
        ("traffic.dequantise", spec.dequantise),
        ("traffic.longest_request", spec.longest_request.is_some()),
        ("traffic.only", spec.only.is_some()),
        ("traffic.bursts", spec.bursts.is_some()),
    ];
    for (key, changed) in odd {
        if changed && places.is_set(key) {
            return Err(problem(key, format_args!("is for a file, but {instead}"), "leave it out"));
        }
    }
    Ok(())
}

fn prometheus(spec: &TrafficSpec, source: &PrometheusSource, places: &Places) -> Check {
    for (key, given) in [("file", spec.file.is_some()), ("generate", spec.generate.is_some())] {
        if given {
            let message = format!("has both `prometheus` and `{key}`");
            return Err(problem("traffic", message, "keep the one that the traffic comes from"));
        }
    }
    no_keys_of_files(spec, places, "the traffic is Prometheus' history")?;
    file::check(spec)?;
    if source.url.is_empty() {
        let help = "give the server, such as \"http://prometheus:9090\"";
        return Err(problem("traffic.prometheus.url", "is empty", help));
    }
    within("traffic.prometheus.days", source.days, 1e-4, 190.0)?;
    let step_s = source.step.unwrap_or(PrometheusSource::STEP).as_secs_f64();
    if step_s.fract() != 0.0 {
        let help = "give whole seconds, such as \"60s\"";
        return Err(problem("traffic.prometheus.step", format_args!("is {step_s} s"), help));
    }
    within("traffic.prometheus.step", step_s, 1.0, 3600.0)
}

fn rollout(rollout: &Rollout) -> Check {
    if rollout.zero_sightings < 2 {
        let help = "one look proves nothing: a request may be on its way; give 2 or more";
        return Err(problem("rollout.zero_sightings", "is too few", help));
    }
    longer_than_zero("rollout.drain_timeout", rollout.drain_timeout)?;
    at_least_one("rollout.start_attempts", rollout.start_attempts)?;
    longer_than_zero("rollout.in_flight_poll", rollout.in_flight_poll)?;
    longer_than_zero("rollout.gpu_release_timeout", rollout.gpu_release_timeout)?;
    if let Some(window) = rollout.window {
        longer_than_zero("rollout.window", window)?;
    }
    for (index, next) in rollout.next_windows.iter().enumerate() {
        longer_than_zero(&format!("rollout.next_windows[{index}].lasts"), next.lasts)?;
        if rollout.window.is_none() {
            let help = "set rollout.window, or leave next_windows out: without the first there is no end to go on after";
            return Err(problem("rollout.next_windows", "there is no first window", help));
        }
    }
    if let AtDeadline::Extend(extend) = &rollout.at_deadline
        && extend.to <= rollout.drain_timeout
    {
        let message =
            format!("the hard limit {} is not after drain_timeout {}", extend.to, rollout.drain_timeout);
        let help = "`to` counts from the start of the drain: make it longer than drain_timeout";
        return Err(problem("rollout.at_deadline.extend.to", message, help));
    }
    probe("rollout.health", &rollout.health)?;
    probe("rollout.smoke", &rollout.smoke)?;
    probe("rollout.warm_up", &rollout.warm_up)?;
    within("rollout.gate.margin", rollout.gate.margin, 0.0, 0.99)?;
    longer_than_zero("rollout.gate.poll", rollout.gate.poll)?;
    if let Some(capacity) = rollout.gate.capacity_per_replica {
        within("rollout.gate.capacity_per_replica", capacity, 1e-6, 1e9)?;
    }
    if let Some(share) = rollout.guard.max_error_share {
        within("rollout.guard.max_error_share", share, 0.0, 1.0)?;
    }
    longer_than_zero("rollout.guard.over", rollout.guard.over)
}

fn probe(key: &str, probe: &Probe) -> Check {
    longer_than_zero(&format!("{key}.interval"), probe.interval)?;
    longer_than_zero(&format!("{key}.timeout"), probe.timeout)?;
    at_least_one(&format!("{key}.attempts"), probe.attempts)
}

/// Replicas that the rollout names are there, each named once in its list.
fn named_replicas(scenario: &Scenario) -> Check {
    let rollout = &scenario.rollout;
    let replicas = scenario.fleet.replica_list();
    let names: Vec<&str> = replicas.iter().map(|replica| replica.name.as_str()).collect();
    let known = |key: &str, name: &String| -> Check {
        if names.contains(&name.as_str()) {
            return Ok(());
        }
        let help = crate::explain::did_you_mean(name, &names, "replicas");
        Err(problem(key, format_args!("no replica is called `{name}`"), help))
    };
    for (list, named) in
        [("order", &rollout.order), ("only", &rollout.only), ("first_half", &rollout.first_half)]
    {
        for (index, name) in named.iter().enumerate() {
            let key = format!("rollout.{list}[{index}]");
            known(&key, name)?;
            if named[..index].contains(name) {
                return Err(problem(&key, format_args!("`{name}` is named twice"), "name each replica once"));
            }
        }
    }
    if let Some(canary) = &rollout.canary {
        known("rollout.canary", canary)?;
    }
    Ok(())
}
