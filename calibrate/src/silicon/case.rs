//! A row as a preset and its clients; or why it can't be one.

use std::collections::BTreeMap;
use std::path::Path;

use slackwater_scenarios::Keyed;
use slackwater_scenarios::presets::{Efficiencies, KvPrecision, Precision, Preset, Setting};

use super::errors::Compared;
use super::rows::Measured;
use crate::experiment::{Answer, Description, Experiment, Row};
use crate::limits::VllmDefaults;
use crate::replay::{Drive, replay};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Means {
    /// Mean time to the first token.
    pub ttft_ms: f64,
    /// Mean over requests of the time of a later token.
    pub tpot_ms: f64,
}

/// A row that a preset can say.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its place in the file, from 0.
    pub row: usize,
    /// The engine.
    pub backend: String,
    /// GPU, model and how the one runs on the other.
    pub preset: Preset,
    /// Prompt tokens and tokens of the answer, as asked for.
    pub lengths: (u32, u32),
    /// Requests in flight.
    pub concurrency: u32,
    /// As recorded.
    pub measured: Means,
    /// What its clients ask for.
    experiment: Experiment,
}

/// The public runner (SemiAnalysisAI/InferenceX) sends ten requests for each in flight.
const REQUESTS_A_CLIENT: u32 = 10;

/// Ten times as many are replayed, and held in memory for it.
const MOST_IN_FLIGHT: u32 = 10_000;

/// What the file does not say.
pub(super) const ASSUMED: [&str; 6] = [
    "servers: vLLM's defaults (8,192 tokens and 1,024 sequences a step on GPUs of 70 GiB and more), no prefix cache, batches fixed one step ahead, 0.9 of the memory",
    "fp4 is mxfp4 for gpt-oss and nvfp4 for others; no precision given: as published",
    "KV cache in 8 bits where the public runner's script says so (Llama-3.1-70B; gpt-oss on B200; MiniMax on H200) and in \
     NVIDIA's own FP8 checkpoints, else in 16",
    "clients of dated rows are the public runner's: ten requests for each in flight, all at once, of 80 to 100 % of the \
     lengths drawn evenly; all of them count, the first burst too",
    "clients of the other rows: the same with 90 to 110 % of the lengths, since exactly equal ones stay in cohorts",
    "experts touched by as many tokens as requests are in flight; sliding windows at the context half way through the answer",
];

/// The rows that presets can say, and how many can't be said, by reason.
#[must_use]
pub fn cases(rows: &[Measured], seed: u64) -> (Vec<Case>, BTreeMap<String, usize>) {
    let mut said = Vec::new();
    let mut refused = BTreeMap::new();
    let mut seen: Vec<&Measured> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let case = Case::of(place, row, seed);
        match case {
            Ok(_) if seen.contains(&row) => {
                *refused.entry("the same measurement twice".to_owned()).or_insert(0) += 1;
            }
            Ok(case) => {
                seen.push(row);
                said.push(case);
            }
            Err(reason) => *refused.entry(reason).or_insert(0) += 1,
        }
    }
    let all = said.len();
    let believed: Vec<bool> = said.iter().map(|case| !contradicted(case, &said)).collect();
    let mut believed = believed.into_iter();
    said.retain(|_| believed.next().unwrap_or(true));
    if said.len() < all {
        let reason = "tokens come much faster than with fewer requests in flight: its server ran fewer than it was given";
        refused.insert(reason.to_owned(), all - said.len());
    }
    (said, refused)
}

/// More in flight can't make tokens much faster: then most waited, by a limit that the row doesn't say.
fn contradicted(case: &Case, all: &[Case]) -> bool {
    const MUCH: f64 = 0.7;
    all.iter().any(|other| {
        other.concurrency < case.concurrency
            && other.backend == case.backend
            && other.lengths == case.lengths
            && (&other.preset.gpu.name, other.model()) == (&case.preset.gpu.name, case.model())
            && other.preset.precision() == case.preset.precision()
            && other.preset.setting.tensor_parallel == case.preset.setting.tensor_parallel
            && case.measured.tpot_ms < MUCH * other.measured.tpot_ms
    })
}

fn whole(value: Option<f64>) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range is checked
    value.filter(|value| value.fract() == 0.0 && (1.0..1e9).contains(value)).map(|value| value as u32)
}

impl Case {
    /// Reads a row; else a reason in words that fit many rows.
    ///
    /// # Errors
    /// When no preset can say it.
    pub fn of(place: usize, row: &Measured, seed: u64) -> Result<Self, String> {
        let need = |value: Option<u32>, name: &str| value.ok_or_else(|| format!("no {name}"));
        let gpu = row.system.split('_').next().unwrap_or_default();
        let model = model_name(&row.model_path)?;
        let preset = Preset::named(gpu, model, Path::new(""), Setting::default());
        let preset = preset.map_err(|error| error.problem)?;
        let experts = preset.model.experts.is_some();
        // sglang's chunk is as large.
        let limits = VllmDefaults::on(Some(&preset.gpu));
        let concurrency = need(whole(row.concurrency), "concurrency")?;
        if concurrency > MOST_IN_FLIGHT {
            return Err(format!("more than {MOST_IN_FLIGHT} requests in flight"));
        }
        let lengths = (need(whole(row.isl), "isl")?, need(whole(row.osl), "osl")?);
        let tensor_parallel = need(whole(row.tp_size), "tp_size")?;
        if experts {
            split(row, tensor_parallel)?;
        }
        let positive = |value: Option<f64>, name: &str| {
            value.filter(|value| *value > 0.0).ok_or_else(|| format!("no {name}"))
        };
        let measured = Means {
            ttft_ms: positive(row.silicon_ttft_ms, "silicon_ttft_ms")?,
            tpot_ms: positive(row.silicon_tpot_ms, "silicon_tpot_ms")?,
        };
        let setting = Setting {
            tensor_parallel,
            dtype: precision(row, model)?,
            kv_dtype: kv_dtype(gpu, model, row),
            // The preset's own keys for what runs: contexts half way through the answer, experts of the whole batch.
            context_tokens: lengths.0 + lengths.1 / 2,
            experts_batch: concurrency,
            max_num_seqs: limits.max_num_seqs,
            max_num_batched_tokens: limits.max_num_batched_tokens,
            ..Setting::default()
        };
        let preset = Preset::named(gpu, model, Path::new(""), setting).map_err(|error| error.problem)?;
        if preset.does_not_fit().is_some() {
            return Err(format!("{} does not fit by the preset", preset.title()));
        }
        let clients = if row.measured.is_some() { Clients::PublicRunner } else { Clients::Sweep };
        let experiment = clients.experiment(place, lengths, concurrency, seed);
        let backend = row.backend.clone();
        Ok(Self { row: place, backend, preset, lengths, concurrency, measured, experiment })
    }

    /// The model's name here.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.preset.model.name
    }

    /// Whether its engine schedules as the engine model does.
    #[must_use]
    pub fn is_vllm(&self) -> bool {
        self.backend == "vllm"
    }

    /// The efficiencies of its preset.
    pub(super) fn shipped(&self) -> Efficiencies {
        self.preset.efficiency().reached
    }

    /// Both sides of the row; `None` when its engine can't hold the requests.
    #[must_use]
    pub fn compare(&self, reached: &Efficiencies, seed: u64) -> Option<Compared> {
        Some(Compared {
            row: self.row,
            gpu: self.preset.gpu.name.clone(),
            model: self.model().to_owned(),
            precision: self.preset.precision().to_string(),
            backend: self.backend.clone(),
            tensor_parallel: self.preset.setting.tensor_parallel,
            lengths: self.lengths,
            concurrency: self.concurrency,
            measured: self.measured,
            predicted: self.predict(reached, seed)?,
        })
    }

    /// What the preset predicts at these efficiencies; `None` when its engine can't hold the requests.
    #[must_use]
    pub fn predict(&self, reached: &Efficiencies, seed: u64) -> Option<Means> {
        let profile = self.preset.profile_at(reached).ok()?;
        let replayed = replay(&self.experiment, &profile, Drive::Capped(self.concurrency), seed).ok()?;
        let answered: Vec<(Answer, u32)> = replayed
            .iter()
            .zip(&self.experiment.rows)
            .filter_map(|(replayed, row)| Some((replayed.answer?, row.output_tokens)))
            .collect();
        if answered.len() < replayed.len() {
            return None;
        }
        #[expect(clippy::cast_precision_loss)]
        let count = answered.len() as f64;
        let ttft: f64 = answered.iter().map(|(answer, _)| answer.ttft_s).sum();
        let tpot: f64 = answered.iter().filter_map(|(answer, output)| answer.tpot_s(*output)).sum();
        Some(Means { ttft_ms: ttft / count * 1e3, tpot_ms: tpot / count * 1e3 })
    }
}

/// The model's name here; architectures that presets don't know are told by their names.
fn model_name(path: &str) -> Result<&'static str, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    for (begin, known) in [
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("Llama-3.1-70B", "llama-3.1-70b"),
        ("Qwen3-32B", "qwen3-32b"),
        ("Qwen3-235B-A22B", "qwen3-235b-a22b"),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("MiniMax-M2.5", "minimax-m2.5"),
    ] {
        if name.starts_with(begin) {
            return Ok(known);
        }
    }
    Err(match name {
        _ if name.starts_with("DeepSeek") || name.starts_with("Kimi") => {
            format!("{name}: latent attention, which presets can't express")
        }
        _ if name.starts_with("GLM-5") => {
            format!("{name}: sparse latent attention, which presets can't express")
        }
        _ if name.starts_with("Qwen3.5") => format!("{name}: linear attention, which presets can't express"),
        _ => format!("{name}: not in the list of models"),
    })
}

/// A preset splits attention and experts over the same GPUs, and nothing else.
fn split(row: &Measured, tensor_parallel: u32) -> Result<(), String> {
    if row.attention_dp_size.is_some_and(|engines| engines > 1.0) {
        return Err("attention in data-parallel engines that share experts".to_owned());
    }
    if row.moe_ep_size.is_some_and(|dealt| dealt > 1.0) {
        return Err("experts dealt to GPUs (expert parallel)".to_owned());
    }
    match row.moe_tp_size.filter(|split| *split > 0.0) {
        Some(split) if split != f64::from(tensor_parallel) => {
            Err("experts split over more GPUs than attention".to_owned())
        }
        _ => Ok(()),
    }
}

fn precision(row: &Measured, model: &str) -> Result<Option<Precision>, String> {
    match row.precision.as_deref() {
        None => Ok(None),
        Some("bf16") => Ok(Some(Precision::Bf16)),
        Some("fp8") => Ok(Some(Precision::Fp8)),
        Some("fp4") if model.starts_with("gpt-oss") => Ok(Some(Precision::Mxfp4)),
        Some("fp4") => Ok(Some(Precision::Nvfp4)),
        Some("int4") => Ok(Some(Precision::Int4)),
        Some(other) => Err(format!("weights in {other}")),
    }
}

/// As the public runner's scripts start these servers, and as NVIDIA's own checkpoints say; the others keep 16 bits.
fn kv_dtype(gpu: &str, model: &str, row: &Measured) -> KvPrecision {
    let eight = match model {
        _ if row.model_path.starts_with("nvidia/") => true,
        _ if row.measured.is_none() => false,
        "llama-3.1-70b" => true,
        "gpt-oss-120b" => gpu.starts_with('b'),
        "minimax-m2.5" => gpu == "h200",
        _ => false,
    };
    if eight { KvPrecision::Fp8 } else { KvPrecision::Auto }
}

/// Who sends the requests.
#[derive(Clone, Copy)]
enum Clients {
    /// The public runner: all at once, ten for each in flight, of 80 to 100 % of the lengths, and all of them counted.
    PublicRunner,
    /// Sweeps at exact lengths. Here 90 to 110 % of them: exactly equal ones would keep requests in cohorts that end and
    /// begin together for ever, which servers break up by what is not modelled.
    Sweep,
}

impl Clients {
    fn experiment(
        self,
        place: usize,
        (input, output): (u32, u32),
        concurrency: u32,
        seed: u64,
    ) -> Experiment {
        let keyed = Keyed::new(seed);
        let (least, most) = match self {
            Self::PublicRunner => (0.8, 1.0),
            Self::Sweep => (0.9, 1.1),
        };
        let drawn = |asked: u32, what: &str, request: u32| {
            let share = least + (most - least) * keyed.uniform(what, &[place as u64, u64::from(request)]);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // about what was asked
            let tokens = (f64::from(asked) * share).round() as u32;
            tokens.max(1)
        };
        let rows = (0..concurrency * REQUESTS_A_CLIENT)
            .map(|request| Row {
                arrival_s: 0.0,
                scheduled_s: None,
                input_tokens: drawn(input, "input", request),
                output_tokens: drawn(output, "output", request),
                prompt: None,
                answer: None,
            })
            .collect();
        Experiment {
            name: format!("row {place}"),
            about: Description::default(),
            rows,
            assumed: Vec::new(),
            hash: String::new(),
        }
    }
}
