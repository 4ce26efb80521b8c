//! A server whose coefficients are known: the engine model itself, with noise on what its clients measured.

use slackwater_calibrate::{Answer, Description, Drive, Experiment, Row, replay};
use slackwater_scenarios::{EngineProfile, Keyed};

/// How an experiment is made.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) rate_per_s: f64,
    pub(crate) requests: u64,
    /// Shortest and longest prompt and answer.
    pub(crate) input: (f64, f64),
    pub(crate) output: (f64, f64),
    /// Each measured latency is off by up to this share.
    pub(crate) noise: f64,
    pub(crate) cap: Option<u32>,
    pub(crate) prompts: Option<u64>,
    pub(crate) seed: u64,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            name: "made",
            rate_per_s: 4.0,
            requests: 300,
            input: (100.0, 3000.0),
            output: (30.0, 300.0),
            noise: 0.0,
            cap: None,
            prompts: None,
            seed: 11,
        }
    }
}

/// A profile near the one fitted to vLLM 0.23 on an H100 with Qwen3-14B.
pub(crate) fn truth() -> EngineProfile {
    let mut truth = EngineProfile::built_in("h100-qwen3-14b").unwrap();
    truth.c_attn_us_per_token2 = 0.002;
    truth.front_end.inbound_ms = 3.0;
    truth.front_end.outbound_ms = 3.0;
    truth
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn make(made: &Made, truth: &EngineProfile) -> Experiment {
    let keyed = Keyed::new(made.seed);
    let between = |(low, high): (f64, f64), what: &str, ids: &[u64]| {
        // Log-uniform: many short, a few long, as traffic is.
        (low.ln() + (high / low).ln() * keyed.uniform(what, ids)).exp().round() as u32
    };
    let mut at = 0.0;
    let rows = (0..made.requests).map(|index| {
        at -= (1.0 - keyed.uniform("gap", &[index])).ln() / made.rate_per_s;
        let prompt = made.prompts.map(|count| (keyed.bits("prompt", &[index]) % count) as u32);
        Row {
            arrival_s: at,
            scheduled_s: Some(at),
            input_tokens: between(made.input, "input", &[prompt.map_or(index + 1_000_000, u64::from)]),
            output_tokens: between(made.output, "output", &[index]),
            prompt,
            answer: None,
        }
    });
    let mut experiment = Experiment {
        name: made.name.to_owned(),
        about: Description {
            engine: Some("vllm".to_owned()),
            max_num_seqs: Some(truth.max_num_seqs),
            max_num_batched_tokens: Some(truth.max_num_batched_tokens),
            block_size: Some(truth.block_size),
            num_gpu_blocks: Some(truth.kv_blocks + 1),
            prefix_caching: Some(made.prompts.is_some().into()),
            ..Description::default()
        },
        rows: rows.collect(),
        assumed: Vec::new(),
        hash: String::new(),
    };
    let mut truth = truth.clone();
    truth.prefix_caching = made.prompts.is_some();
    let drive = made.cap.map_or(Drive::Open, Drive::Capped);
    let answers = replay(&experiment, &truth, drive, 77).unwrap();
    for (index, (row, replayed)) in experiment.rows.iter_mut().zip(answers).enumerate() {
        let noisy = |value: f64, what: &str| {
            value * (1.0 + made.noise * (2.0 * keyed.uniform(what, &[index as u64]) - 1.0))
        };
        row.arrival_s = replayed.sent_s;
        row.answer = replayed.answer.map(|answer| {
            let ttft_s = noisy(answer.ttft_s, "ttft");
            Answer { ttft_s, e2e_s: ttft_s + noisy(answer.e2e_s - answer.ttft_s, "rest") }
        });
    }
    experiment
}
