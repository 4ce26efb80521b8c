//! How a scenario names its traffic: a file, or what to draw.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archetypes::Archetype;
use super::bursts::{Arrivals, Bursts, Clients, Flicker, Noise, OnOff};
use super::draw::{Drift, LengthClass};
use super::generate::Generator;
use super::import::{FileTraffic, LONGEST_REQUEST, ReadOptions};
use super::sessions::Sessions;
use super::{SharedTrace, Traffic};
use crate::error::TraceError;
use crate::random::Keyed;
use crate::time::{HumanDuration, WallTime};

/// Where requests come from: exactly one of `file`, `prometheus` and `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficSpec {
    /// A trace file, plain, gzip or zstd; relative to the scenario file (in an override: to the working directory).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The file's format.
    #[serde(default)]
    pub format: Format,
    /// The arrival rate is multiplied by this. A file of requests is replayed so much faster; generated traffic and a series of rates keep their duration
    /// and daily profile and has so many times the requests.
    #[serde(default = "one")]
    pub rate_scale: f64,
    /// A file is played so many times, one after the other, a mean gap between.
    #[serde(default = "once")]
    pub repeat: u32,
    /// Sort a file whose rows are not in order of time. It is then held in memory whole.
    #[serde(default)]
    pub sort: bool,
    /// The zone of a file's times that have none: a name ("Europe/Berlin") or an offset ("+02:00"). Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Spread arrivals that share a time because the file's clock is coarse, each at random within the tick.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dequantise: bool,
    /// A log has its rows in order of the requests' ends; they are sorted by start as far back as this. Absent: an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_request: Option<HumanDuration>,
    /// Read only this model of a trace, this series of rates, or paths that begin so of an access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// Token counts for a file that has none: an access log, a series of rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_tokens: Option<AssumeTokens>,
    /// How requests that are drawn from a series of rates lie around them. Absent: a Poisson process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bursts: Option<Bursts>,
    /// What a Prometheus server recorded of the fleet. The command line fetches it; it is then read from its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// Draw the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::float_cmp)] // As serde hands it over; the default is written so.
fn is_one(value: &f64) -> bool {
    *value == 1.0
}
#[expect(clippy::trivially_copy_pass_by_ref)] // As serde hands it over.
const fn is_false(flag: &bool) -> bool {
    !*flag
}
const fn one() -> f64 {
    1.0
}
const fn once() -> u32 {
    1
}

/// An estimate of token counts, input and output each by a distribution or by bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssumeTokens {
    /// Prompt lengths: a mixture of lognormals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<Lognormal>,
    /// Output lengths: a mixture of lognormals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Lognormal>,
    /// One prompt token for so many bytes of the logged request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_input_token: Option<f64>,
    /// One output token for so many bytes of the logged response. A streamed token takes some 200 bytes, not four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_output_token: Option<f64>,
    /// No prompt is longer; a longer one is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_input_tokens: u32,
    /// No output is longer; a longer one is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_output_tokens: u32,
}

/// A Prometheus server, and what to ask it for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSource {
    /// The server: "http://prometheus:9090", a path where it has one. Credentials come from the environment.
    pub url: String,
    /// Which replicas, as PromQL label matchers: `job="vllm"`. Absent: all.
    #[serde(default)]
    pub selector: String,
    /// How far back.
    pub days: f64,
    /// Until when. Absent: the last full hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// Time between points; no shorter than the server's scrape interval. Absent: a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<HumanDuration>,
    /// Whose metrics.
    #[serde(default)]
    pub engine: MetricsOf,
    /// The file that keeps what was fetched, relative to the scenario file. Absent: `prometheus-<hash>.json` beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// The engine whose names metrics have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricsOf {
    /// Whichever is there.
    #[default]
    Auto,
    /// vLLM: `vllm:request_success_total`.
    Vllm,
    /// SGLang: `sglang:num_requests_total`.
    Sglang,
    /// Text Generation Inference: `tgi_request_count`.
    Tgi,
    /// llama.cpp's server: `llamacpp:prompt_tokens_total`; it does not count requests.
    Llamacpp,
}

impl PrometheusSource {
    /// Time between points when nothing else is said.
    pub const STEP: HumanDuration = HumanDuration::from_secs(60);

    /// The file that keeps what was fetched.
    #[must_use]
    pub fn cache_file(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| {
            let step = self.step.unwrap_or(Self::STEP).as_nanos();
            let asked = format!("{}\n{}\n{:?}\n{step}", self.url, self.selector, self.engine);
            let hash: String =
                Sha256::digest(asked).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("prometheus-{hash}.json").into()
        })
    }
}

/// A trace file's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Recognised from the content.
    #[default]
    Auto,
    /// Azure LLM inference traces 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    AzureCsv,
    /// Mooncake: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}` a line.
    MooncakeJsonl,
    /// Bailian (Qwen): Mooncake's keys with `chat_id`, times in seconds, blocks of 16 tokens.
    BailianJsonl,
    /// BurstGPT: `Timestamp,Model,Request tokens,Response tokens,...`, times in seconds.
    BurstgptCsv,
    /// AIPerf: Mooncake's keys with `session_id` and `delay`, times in milliseconds.
    AiperfJsonl,
    /// LiteLLM's spend log as CSV: `startTime,endTime,prompt_tokens,completion_tokens,...`.
    LitellmCsv,
    /// nginx's (and Apache's) `combined` access log, also with `$request_time` behind it.
    NginxCombined,
    /// nginx's access log as JSON lines: `msec`, `request_time`, `status`, `request`, ...
    NginxJson,
    /// HAProxy's `option httplog`.
    HaproxyHttp,
    /// Envoy's default access log.
    EnvoyText,
    /// Envoy's access log as JSON lines, with Istio's names.
    EnvoyJson,
    /// A series of rates, `time,rate`: requests are drawn at them, with lengths from `assume_tokens`.
    RateCsv,
    /// A fleet's history out of Prometheus, as `slackwater trace fetch` writes it.
    PrometheusJson,
    /// OpenTelemetry spans of generative AI in OTLP/JSON.
    OtlpJson,
    /// The detailed result of `vllm bench serve`.
    VllmBenchJson,
    /// TraceLab's rounds of coding agents.
    TracelabJsonl,
}

/// Drawn traffic. The defaults for lengths are those of chat (Azure's 2023 conversation trace).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// How long.
    pub duration: HumanDuration,
    /// Mean requests a second over a whole week of the profile; with `sessions`, all their turns counted.
    pub rate_per_s: f64,
    /// The calendar time of the start.
    #[serde(default = "default_start")]
    pub start: WallTime,
    /// A measured shape of day and week by its name; `hourly` and `weekend_hourly` each replace its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Archetype>,
    /// The zone whose clock hours and weekdays are by: a name ("Europe/Berlin") or an offset ("+02:00"). Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How irregular arrivals are around the rate.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Many clients, each with gaps of its own, in place of `arrivals`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
    /// Requests come in bursts with nothing between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_off: Option<OnOff>,
    /// The rate flickers around its level, for seconds or minutes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flicker: Option<Flicker>,
    /// The level wanders, for hours at a time, and jumps now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// Relative rate in each of 24 hours, 0:00 first; linear between the hours' middles. Only ratios count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hourly: Vec<f64>,
    /// The same of Saturdays and Sundays, on the scale of `hourly`. Absent: as the other days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekend_hourly: Vec<f64>,
    /// Relative rate of each of 7 days, Monday first. Only ratios count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekday: Vec<f64>,
    /// Prompt lengths: a mixture of lognormals. With `sessions` these are the new message of each turn.
    #[serde(default = "chat_input")]
    pub input: Vec<Lognormal>,
    /// Output lengths: a mixture of lognormals.
    #[serde(default = "chat_output")]
    pub output: Vec<Lognormal>,
    /// Kinds of requests, each with its own lengths, in place of `input` and `output`; with `sessions` each session is of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<LengthClass>,
    /// A class stays for so many requests on average; 1: each request is of any.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub class_run: f64,
    /// Mean lengths that change over the hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// No prompt is longer; a longer draw is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_input_tokens: u32,
    /// No output is longer; a longer draw is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_output_tokens: u32,
    /// Users who stay for several turns. Absent: each request stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
}

/// One part of a mixture of lognormals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Its share, relative to the other parts.
    #[serde(default = "one")]
    pub weight: f64,
    /// Median in tokens.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

const fn default_start() -> WallTime {
    // Monday 2026-01-05T00:00:00Z.
    WallTime(1_767_571_200_000_000_000)
}
const fn default_max_tokens() -> u32 {
    32_768
}
pub(crate) fn chat_input() -> Vec<Lognormal> {
    lognormals(&[(0.49, 379.0, 0.88), (0.37, 1097.0, 0.12), (0.14, 3346.0, 0.32)])
}
pub(crate) fn chat_output() -> Vec<Lognormal> {
    lognormals(&[(0.70, 99.0, 0.68), (0.30, 412.0, 0.09)])
}
fn lognormals(rows: &[(f64, f64, f64)]) -> Vec<Lognormal> {
    rows.iter().map(|&(weight, median, sigma)| Lognormal { weight, median, sigma }).collect()
}

impl TrafficSpec {
    /// Opens the source. `seed` is the scenario's; only what is drawn uses it. `prefixes`: whether the names of the
    /// prompts' blocks are wanted, where a file has them.
    ///
    /// # Errors
    /// When the file can't be opened or its format is not recognised.
    pub fn open(&self, seed: u64, prefixes: bool) -> Result<Box<dyn Traffic + Send>, TraceError> {
        let fetched = self.prometheus.as_ref().map(PrometheusSource::cache_file);
        match (self.file.as_ref().or(fetched.as_ref()), &self.generate) {
            (Some(file), _) => {
                if fetched.is_some() && !file.exists() {
                    return Err(TraceError {
                        path: file.display().to_string(),
                        row: None,
                        problem: "what traffic.prometheus asks for is not fetched yet".into(),
                        help: "`slackwater simulate` fetches it, and `slackwater trace fetch` by itself"
                            .into(),
                        source: None,
                    });
                }
                let options = ReadOptions {
                    format: if fetched.is_some() { Format::PrometheusJson } else { self.format },
                    rate_scale: self.rate_scale,
                    repeat: self.repeat,
                    sort: self.sort,
                    prefixes,
                    time_zone: self.time_zone.clone(),
                    dequantise: self.dequantise,
                    longest_request: self.longest_request.unwrap_or(LONGEST_REQUEST),
                    only: self.only.clone(),
                    assume_tokens: self.assume_tokens.clone(),
                    bursts: self.bursts,
                    seed,
                };
                Ok(Box::new(FileTraffic::open(file, options)?))
            }
            (None, Some(generate)) => {
                Ok(Box::new(Generator::new(generate, self.rate_scale, Keyed::new(seed))))
            }
            // A checked scenario has one of them; one built by hand may not.
            (None, None) => Err(TraceError {
                path: "traffic".into(),
                row: None,
                problem: "no file, no Prometheus server and no generator is given".into(),
                help: "set traffic.file, traffic.prometheus or traffic.generate".into(),
                source: None,
            }),
        }
    }

    /// Reads or draws all of it into memory.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and of reading.
    pub fn load(&self, seed: u64, prefixes: bool) -> Result<SharedTrace, TraceError> {
        SharedTrace::load_all(self.open(seed, prefixes)?)
    }
}
