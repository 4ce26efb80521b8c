//! Where the search begins, and a pull so weak that it decides only what the data leave open.

use std::path::Path;

use slackwater_scenarios::presets::{Gpu, Model, Preset, Setting};

use crate::coefficients::{Coefficient, Vector};
use crate::experiment::Experiment;
use crate::limits::VllmDefaults;
use crate::steps::Step;

/// A guess at every coefficient.
#[derive(Debug, Clone)]
pub(crate) struct Prior {
    /// Logarithms.
    pub(crate) centre: Vector,
    /// The preset it is from; `None`: from the data, roughly.
    pub(crate) preset: Option<Box<Preset>>,
    /// Data, in whose mean loss the pull counts as one of them.
    data: usize,
}

/// A guess may be off by this factor, as a standard deviation.
const OFF_BY: f64 = 3.0;
/// Neighbouring requests share their fate: so many count as one.
const ALIKE: f64 = 4.0;
/// Of the front end, both ways.
const FRONT_END_MS: f64 = 4.0;

impl Prior {
    /// From the data sheet of the experiment's GPU and model where both are known, else from its latencies.
    pub(crate) fn of(experiment: &Experiment) -> Self {
        let preset = preset(experiment);
        let centre = match preset.as_deref().and_then(|preset| preset.profile().ok()) {
            Some(profile) => [
                profile.c0_ms,
                profile.c_tok_us,
                profile.c_seq_us,
                profile.c_kv_us,
                profile.c_attn_us_per_token2,
            ]
            .to_vec(),
            None => from_latencies(experiment).to_vec(),
        };
        Self { centre: logs(&centre), preset, data: 1 }
    }

    /// From a table of steps: the quickest tell the floor, those with most tokens what a token costs.
    pub(crate) fn of_steps(steps: &[Step]) -> Self {
        let c0_ms = steps.iter().map(|step| step.step_time_s * 1e3).fold(f64::MAX, f64::min);
        let tokens = |step: &Step| step.prefill_tokens + step.decode_seqs;
        let fullest = steps.iter().max_by(|a, b| tokens(a).total_cmp(&tokens(b)));
        let c_tok_us = fullest.map_or(50.0, |step| step.step_time_s * 1e6 / tokens(step));
        Self { centre: logs(&typical(c0_ms, c_tok_us)), preset: None, data: 1 }
    }

    /// Where the search begins, in words.
    pub(crate) fn began_at(&self) -> String {
        match &self.preset {
            Some(preset) => format!("the preset {}", preset.title()),
            None => "the data (no preset of this GPU and model)".to_owned(),
        }
    }

    /// The same, beside so many data.
    pub(crate) fn weighed(mut self, data: usize) -> Self {
        self.data = data.max(1);
        self
    }

    /// The pull towards the centre, and a wall at the ends of the ranges: the squares of these.
    pub(crate) fn residuals(&self, vector: &[f64]) -> Vec<f64> {
        let mut residuals = Vec::new();
        #[expect(clippy::cast_precision_loss)]
        let pull = (ALIKE / self.data as f64).sqrt() / OFF_BY.ln();
        for ((coefficient, log), centre) in Coefficient::ALL.into_iter().zip(vector).zip(&self.centre) {
            let (low, high) = coefficient.range();
            residuals.push(10.0 * (low.ln() - log).max(log - high.ln()).max(0.0));
            residuals.push(pull * (log - centre));
        }
        residuals
    }
}

/// Rough guesses: the fastest answers tell the floor of a step, the quickest first tokens what a token costs.
fn from_latencies(experiment: &Experiment) -> [f64; 5] {
    let low = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 20).copied()
    };
    let answered = || experiment.rows.iter().filter_map(|row| Some((row, row.answer?)));
    let tpot_s = low(answered().filter_map(|(row, answer)| answer.tpot_s(row.output_tokens)).collect());
    let per_token_s =
        low(answered().map(|(row, answer)| answer.ttft_s / f64::from(row.input_tokens)).collect());
    typical(tpot_s.unwrap_or(0.015) * 1e3 * 0.9, per_token_s.unwrap_or(50e-6) * 1e6 * 0.7)
}

/// The other coefficients as the presets of common models have them beside these two.
fn typical(c0_ms: f64, c_tok_us: f64) -> [f64; 5] {
    [c0_ms, c_tok_us, c0_ms * 4.0, c0_ms * 6e-3, c_tok_us * 3e-5]
}

/// The whole vector, from the coefficients of the step time.
fn logs(step_time: &[f64]) -> Vector {
    let values = step_time.iter().copied().chain([FRONT_END_MS, 1.0]);
    let log = |(coefficient, value): (Coefficient, f64)| {
        let (low, high) = coefficient.range();
        value.clamp(low, high).ln()
    };
    Coefficient::ALL.into_iter().zip(values).map(log).collect()
}

/// A name without what people write differently.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The experiment's GPU, where its name tells surely which one it is.
pub(crate) fn gpu_of(experiment: &Experiment) -> Option<Gpu> {
    gpu_named(experiment.about.gpu.as_deref()?)
}

fn gpu_named(name: &str) -> Option<Gpu> {
    let spelt = || Gpu::all().into_iter().find(|gpu| plain(&gpu.name) == plain(name));
    Gpu::named(name).ok().or_else(spelt).or_else(|| match memory_said_mib(name) {
        Some(memory_mib) => Gpu::of_device(name, memory_mib),
        // Without its memory a name may fit two sizes; then it is neither.
        None => {
            let fits = |gpu: &Gpu| {
                Gpu::of_device(name, u64::from(gpu.memory_mib)).is_some_and(|of| of.name == gpu.name)
            };
            let mut all = Gpu::all().into_iter().filter(fits);
            all.next().filter(|_| all.next().is_none())
        }
    })
}

/// The 80 of "NVIDIA A100-SXM4-80GB".
fn memory_said_mib(name: &str) -> Option<u64> {
    let lower = name.to_ascii_lowercase();
    let before = lower[..lower.find("gb")?].trim_end();
    let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before[digits..].parse::<u64>().ok().map(|gib| gib * 1024)
}

/// The preset of the experiment's GPU and model, where names can be told.
fn preset(experiment: &Experiment) -> Option<Box<Preset>> {
    let about = &experiment.about;
    let (gpu, model_name) = (gpu_of(experiment)?, about.model.as_deref()?);
    let model = Model::named(model_name, Path::new("")).ok().or_else(|| {
        Model::all()
            .into_iter()
            .filter(|model| plain(model_name).contains(&plain(&model.name)))
            .max_by_key(|model| model.name.len())
    })?;
    let default = Setting::default();
    let limits = VllmDefaults::on(Some(&gpu));
    let setting = Setting {
        tensor_parallel: about.tp.unwrap_or(1),
        max_num_seqs: about.max_num_seqs.unwrap_or(limits.max_num_seqs),
        max_num_batched_tokens: about.max_num_batched_tokens.unwrap_or(limits.max_num_batched_tokens),
        block_size: about.block_size.unwrap_or(default.block_size),
        ..default
    };
    Some(Box::new(Preset::new(gpu, model, setting).ok()?))
}

impl Prior {
    /// KV blocks that the preset has room for.
    pub(crate) fn kv_blocks(&self) -> Option<u32> {
        Some(self.preset.as_ref()?.profile().ok()?.kv_blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_its_name_and_not_taken_for_its_namesake() {
        for (name, expected) in [
            ("H100", Some("H100")),
            ("NVIDIA H100 80GB HBM3", Some("H100")),
            ("RTXPRO6000", Some("RTX PRO 6000")),
            ("NVIDIA GeForce RTX 4090", Some("RTX 4090")),
            ("NVIDIA A100-SXM4-80GB", Some("A100-80")),
            ("NVIDIA A100-SXM4-40GB", Some("A100-40")),
            ("A100", None),
            ("L40", None),
            ("NVIDIA GH200 480GB", None),
            ("RTX 3060 Ti", None),
            ("a potato", None),
        ] {
            assert_eq!(gpu_named(name).map(|gpu| gpu.name).as_deref(), expected, "{name}");
        }
    }
}
