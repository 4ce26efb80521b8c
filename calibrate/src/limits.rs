//! The scheduler's limits of a recorded server, as far as its description says them; the rest is assumed, in words.

use serde::Serialize;
use slackwater_scenarios::presets::Gpu;
use slackwater_scenarios::{EngineProfile, FrontEnd, KvReservation, Scheduling, StepForm};

use crate::experiment::Experiment;
use crate::prior::{Prior, gpu_of};

/// What an engine's version decides and a description seldom says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Structure {
    /// When batches are fixed.
    pub scheduling: Scheduling,
    /// Room wanted before an admission.
    pub reserve: KvReservation,
}

impl Structure {
    /// That of a profile.
    #[must_use]
    pub fn of(profile: &EngineProfile) -> Self {
        Self { scheduling: profile.scheduling, reserve: profile.reserve }
    }

    /// Those that this server may have, the likeliest first.
    #[must_use]
    pub fn candidates(experiment: &Experiment) -> Vec<Self> {
        let schedulings = match experiment.about.async_scheduling {
            Some(true) => vec![Scheduling::Async],
            Some(false) => vec![Scheduling::Sync],
            None => vec![Scheduling::Async, Scheduling::Sync],
        };
        // Only where blocks can run out does it matter what room is asked for.
        let reserves = match kv_blocks(experiment) {
            Some(blocks) if blocks < most_blocks(experiment) => {
                vec![KvReservation::WholePrompt, KvReservation::Chunk]
            }
            _ => vec![KvReservation::WholePrompt],
        };
        let pair = |scheduling: Scheduling| reserves.iter().map(move |&reserve| Self { scheduling, reserve });
        schedulings.into_iter().flat_map(pair).collect()
    }
}

const BLOCK_SIZE: u32 = 16;

/// What vLLM takes for its limits where nobody sets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VllmDefaults {
    /// Most sequences in a step.
    pub(crate) max_num_seqs: u32,
    /// Most tokens in a step.
    pub(crate) max_num_batched_tokens: u32,
    /// Of which GPUs, in words.
    pub(crate) of: &'static str,
}

impl VllmDefaults {
    /// GPUs from so much memory on have larger ones.
    const LARGE_MIB: u32 = 70 << 10;
    const SMALL: Self =
        Self { max_num_seqs: 256, max_num_batched_tokens: 2048, of: "of less than 70 GiB, and on an A100" };
    const LARGE: Self = Self { max_num_seqs: 1024, max_num_batched_tokens: 8192, of: "of 70 GiB and more" };

    /// Those of a server on this GPU, as vLLM's `get_batch_defaults` has them (from vllm-project/vllm#12369 on; an A100 is treated
    /// as a small GPU since #17885). They are those of small GPUs where it is not known.
    pub(crate) fn on(gpu: Option<&Gpu>) -> Self {
        match gpu {
            Some(gpu) if gpu.memory_mib >= Self::LARGE_MIB && !gpu.name.to_lowercase().contains("a100") => {
                Self::LARGE
            }
            Some(_) => Self::SMALL,
            None => Self { of: "of less than 70 GiB (this one is not known)", ..Self::SMALL },
        }
    }

    fn of_experiment(experiment: &Experiment) -> Self {
        Self::on(gpu_of(experiment).as_ref())
    }
}

fn block_size(experiment: &Experiment) -> u32 {
    experiment.about.block_size.filter(|size| *size > 0).unwrap_or(BLOCK_SIZE)
}

/// Blocks that requests can have.
fn kv_blocks(experiment: &Experiment) -> Option<u32> {
    let about = &experiment.about;
    let of_tokens =
        |tokens: u64| u32::try_from(tokens / u64::from(block_size(experiment))).unwrap_or(u32::MAX);
    let all = about.num_gpu_blocks.or(about.kv_cache_tokens.map(of_tokens)).filter(|blocks| *blocks > 1)?;
    // vLLM keeps one block for itself, the null block.
    Some(all - 1)
}

/// Blocks that would be enough for all requests at once.
fn most_blocks(experiment: &Experiment) -> u32 {
    let size = u64::from(block_size(experiment));
    let blocks = |input: u32, output: u32| (u64::from(input) + u64::from(output)).div_ceil(size);
    let mut each: Vec<u64> =
        experiment.rows.iter().map(|row| blocks(row.input_tokens, row.output_tokens)).collect();
    each.sort_unstable_by(|a, b| b.cmp(a));
    let defaults = VllmDefaults::of_experiment(experiment);
    let at_once = experiment.about.max_num_seqs.unwrap_or(defaults.max_num_seqs) as usize + 1;
    u32::try_from(each.iter().take(at_once).sum::<u64>()).unwrap_or(u32::MAX)
}

/// A profile with the server's limits and no coefficients yet, and what was assumed.
#[must_use]
pub fn limits(experiment: &Experiment, structure: Structure) -> (EngineProfile, Vec<String>) {
    let about = &experiment.about;
    let mut assumed = Vec::new();
    let defaults = VllmDefaults::of_experiment(experiment);
    let mut or = |value: Option<u32>, name: &str, otherwise: u32, of: &str| {
        value.filter(|value| *value > 0).unwrap_or_else(|| {
            assumed.push(format!("{name} is not given: taken for {otherwise}, vLLM's default{of}"));
            otherwise
        })
    };
    let of = format!(" on a GPU {}", defaults.of);
    let max_num_seqs = or(about.max_num_seqs, "max_num_seqs", defaults.max_num_seqs, &of);
    let tokens = defaults.max_num_batched_tokens;
    let max_num_batched_tokens =
        or(about.max_num_batched_tokens, "max_num_batched_tokens", tokens, &of).max(max_num_seqs);
    let block_size = or(about.block_size, "block_size", BLOCK_SIZE, "");
    let most = most_blocks(experiment);
    let shared = experiment.rows.iter().any(|row| row.prompt.is_some());
    let (kv_blocks, bound) = match kv_blocks(experiment) {
        Some(blocks) => (blocks, blocks < most),
        None => match Prior::of(experiment).kv_blocks() {
            Some(blocks) => {
                let tokens = u64::from(blocks) * u64::from(block_size);
                assumed.push(format!("the KV cache's size is not given: the preset's {tokens} tokens"));
                (blocks, blocks < most)
            }
            None => {
                assumed.push("the KV cache's size is not given: taken for large enough".to_owned());
                // Cached blocks of ended requests want room too.
                (if shared { most.saturating_mul(4) } else { most }, false)
            }
        },
    };
    // Where prompts share nothing and nothing is preempted, the cache changes nothing.
    let prefix_caching = experiment.caches_prefixes() && (shared || bound);
    let profile = EngineProfile {
        source: format!("fitted to {}", experiment.name),
        kv_blocks,
        block_size,
        max_num_seqs,
        max_num_batched_tokens,
        scheduling: structure.scheduling,
        reserve: structure.reserve,
        prefix_caching,
        ..plain()
    };
    (profile, assumed)
}

/// vLLM's limits, and coefficients still to be put in.
pub(crate) fn plain() -> EngineProfile {
    EngineProfile {
        source: String::new(),
        form: StepForm::Max,
        c0_ms: 1.0,
        c_tok_us: 1.0,
        c_seq_us: 0.0,
        c_kv_us: 0.0,
        c_attn_us_per_token2: 0.0,
        kv_blocks: 1 << 16,
        block_size: BLOCK_SIZE,
        max_num_seqs: VllmDefaults::SMALL.max_num_seqs,
        max_num_batched_tokens: VllmDefaults::SMALL.max_num_batched_tokens,
        scheduling: Scheduling::default(),
        reserve: KvReservation::default(),
        prefix_caching: false,
        front_end: FrontEnd { inbound_ms: 0.0, outbound_ms: 0.0, jitter: JITTER },
        calibration: None,
    }
}

/// Front-end delays vary; equal ones would keep requests in cohorts.
const JITTER: f64 = 0.2;
