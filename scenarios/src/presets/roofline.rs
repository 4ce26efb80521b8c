//! Step time by the roofline: bytes over bandwidth, operations over rate, each at a stated efficiency.
//!
//! ```text
//! c0     = weights read once / (bandwidth * 0.80) + 0.66 ms + two all-reduces a layer, their latency
//! c_tok  = 2 FLOP * weights a token meets / (rate * 0.63) + two all-reduces a layer, their bytes
//! c_seq  = 53.5 us + the output head's 2 FLOP a weight
//! c_kv   = bytes of a token's keys and values / (bandwidth * 0.80)
//! c_attn = 4 FLOP * heads * head size * layers / (bf16 rate * 0.50)
//! ```
//! All are of one GPU of the group. The efficiencies 0.80 and 0.63 and the host's 0.66 ms and 53.5 us come from one fit, to
//! vLLM 0.23 on one H100 with Qwen3-14B (c0 11.1 ms, c_tok 42.1 us, c_seq 56 us); one equation can't tell 0.80 from
//! 0.66 ms, so the efficiency was chosen and the overhead follows. That fit's c_kv (0.032 us) is faster than the memory
//! can be, since its answers were short; the weights' efficiency stands in for it. 0.50 and the links' figures are assumed.
//!
//! A mixture of experts reads the experts that its step's tokens touch, `E * (1 - (1 - k/E)^n)` of each layer; the form
//! has one floor, so `n` is fixed (`experts_batch`).

use serde::Serialize;

use super::{Preset, PresetError, Setting};
use crate::engine_profile::{EngineProfile, FrontEnd, KvReservation, Scheduling, StepForm};

/// Share of the memory bandwidth that reading weights and KV cache gets.
pub const BANDWIDTH_EFFICIENCY: f64 = 0.80;
/// Share of the tensor cores' rate that large matrix products get.
pub const FLOP_EFFICIENCY: f64 = 0.63;
/// Of each step: launches, scheduling that is not hidden.
pub const STEP_OVERHEAD_MS: f64 = 0.66;
/// Of each decoding sequence of a step: sampling and what the host does.
pub const HOST_US_PER_SEQUENCE: f64 = 53.5;
/// Share of the bf16 rate that attention over a long prompt gets.
const ATTENTION_EFFICIENCY: f64 = 0.50;
/// Share of a link's rate that an all-reduce gets.
const LINK_EFFICIENCY: f64 = 0.70;
/// The latency of one all-reduce of few bytes.
const NVLINK_ALL_REDUCE_US: f64 = 10.0;
const PCIE_ALL_REDUCE_US: f64 = 30.0;

/// The step time's coefficients, as in an engine profile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coefficients {
    /// The shortest step.
    pub c0_ms: f64,
    /// Of a token computed.
    pub c_tok_us: f64,
    /// Of a decoding sequence.
    pub c_seq_us: f64,
    /// Of a token of context of a decoding sequence.
    pub c_kv_us: f64,
    /// Of a pair of tokens in prefill attention.
    pub c_attn_us_per_token2: f64,
}

impl Coefficients {
    /// A step of decoding sequences alone, in milliseconds.
    #[must_use]
    pub fn decode_step_ms(&self, sequences: u32, context_tokens: u32) -> f64 {
        let sequences = f64::from(sequences);
        let context = sequences * f64::from(context_tokens);
        self.c0_ms.max(self.c_tok_us * sequences / 1e3)
            + (self.c_seq_us * sequences + self.c_kv_us * context) / 1e3
    }

    /// A step of one prefill chunk alone, the first of its prompt, in milliseconds.
    #[must_use]
    pub fn prefill_step_ms(&self, tokens: u32) -> f64 {
        let tokens = f64::from(tokens);
        self.c0_ms.max(self.c_tok_us * tokens / 1e3) + self.c_attn_us_per_token2 * tokens * tokens / 2.0 / 1e3
    }
}

/// What a roofline says, and what it read and counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// The coefficients.
    pub coefficients: Coefficients,
    /// Bytes of weights a step reads on each GPU.
    pub weights_read_bytes: f64,
    /// Of each layer's experts, those a step touches; `None` without experts.
    pub experts_touched: Option<f64>,
    /// Operations of the matrix products of a token, on each GPU, without the output head.
    pub flop_per_token: f64,
    /// The rate of those products, 10^12 operations a second, and in which format.
    pub tflops: f64,
    /// That format.
    pub format: &'static str,
}

/// Figures one can compare with a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Sequences in the step.
    pub batch: u32,
    /// Their contexts.
    pub context_tokens: u32,
    /// How long the step takes.
    pub step_ms: f64,
    /// Tokens a second of all of them.
    pub tokens_per_s: f64,
    /// Whether the KV cache holds so many contexts at once.
    pub fits: bool,
}

impl Preset {
    /// The roofline of a step of so many tokens (that counts only with experts).
    #[must_use]
    #[expect(clippy::cast_precision_loss)] // parameters are far below 2^53
    pub fn roofline(&self, tokens: u32) -> Roofline {
        let Setting { tensor_parallel, context_tokens, .. } = self.setting;
        let (gpu, model) = (&self.gpu, &self.model);
        let split = f64::from(tensor_parallel);
        let parameters = model.parameters();
        let weights = self.weights_per_gpu();

        let experts_touched = model.experts.map(|experts| experts.touched(tokens));
        let (touched_share, active_share) = model.experts.map_or((0.0, 1.0), |experts| {
            let count = f64::from(experts.count);
            (experts.touched(tokens) / count, f64::from(experts.active) / count)
        });
        let weights_read = weights.always + weights.experts * touched_share;
        let bytes_per_us = gpu.bandwidth_gb_s * 1e3 * BANDWIDTH_EFFICIENCY;

        let (tflops, format) = self.precision().rate(gpu);
        let met = parameters.attention as f64 + parameters.feed_forward as f64 * active_share;
        let flop_per_token = 2.0 * met / split;
        let head_flop = 2.0 * parameters.head as f64 / split;
        let flop_per_us = |tflops: f64, efficiency: f64| tflops * 1e6 * efficiency;

        // Two all-reduces a layer; a ring moves 2 (p - 1) / p of the bytes over each link.
        let reduces = if tensor_parallel > 1 { 2.0 * f64::from(model.layers) } else { 0.0 };
        let latency = if gpu.is_on_pcie() { PCIE_ALL_REDUCE_US } else { NVLINK_ALL_REDUCE_US };
        let ring_bytes = 2.0 * (split - 1.0) / split * f64::from(model.hidden_size) * 2.0;
        let link_bytes_per_us = gpu.link_gb_s * 1e3 * LINK_EFFICIENCY;

        let pairs = 4.0 * f64::from(model.heads) * f64::from(model.head_dim) / split
            * model.layers_in_context(context_tokens);
        Roofline {
            coefficients: Coefficients {
                c0_ms: (weights_read / bytes_per_us + reduces * latency) / 1e3 + STEP_OVERHEAD_MS,
                c_tok_us: flop_per_token / flop_per_us(tflops, FLOP_EFFICIENCY)
                    + reduces * ring_bytes / link_bytes_per_us,
                c_seq_us: HOST_US_PER_SEQUENCE + head_flop / flop_per_us(gpu.bf16_tflops, FLOP_EFFICIENCY),
                c_kv_us: self.kv_bytes_per_token_per_gpu() / bytes_per_us,
                c_attn_us_per_token2: pairs / flop_per_us(gpu.bf16_tflops, ATTENTION_EFFICIENCY),
            },
            weights_read_bytes: weights_read,
            experts_touched,
            flop_per_token,
            tflops,
            format,
        }
    }

    /// How fast so many sequences decode; with experts, at the floor of just that batch.
    #[must_use]
    pub fn decode_speed(&self, batch: u32) -> Speed {
        let context_tokens = self.setting.context_tokens;
        let step_ms = self.roofline(batch).coefficients.decode_step_ms(batch, context_tokens);
        Speed {
            batch,
            context_tokens,
            step_ms,
            tokens_per_s: f64::from(batch) / step_ms * 1e3,
            fits: u64::from(batch) * u64::from(context_tokens) <= self.fit().kv_tokens,
        }
    }

    /// How fast prompts are computed, a full step at a time.
    #[must_use]
    pub fn prefill_speed(&self) -> Speed {
        let tokens = self.setting.max_num_batched_tokens;
        let step_ms = self.roofline(tokens).coefficients.prefill_step_ms(tokens);
        Speed {
            batch: 1,
            context_tokens: tokens,
            step_ms,
            tokens_per_s: f64::from(tokens) / step_ms * 1e3,
            fits: u64::from(tokens) <= self.fit().kv_tokens,
        }
    }

    /// The engine profile.
    ///
    /// # Errors
    /// When the model does not fit.
    pub fn profile(&self) -> Result<EngineProfile, PresetError> {
        if let Some(error) = self.does_not_fit() {
            return Err(error);
        }
        let Coefficients { c0_ms, c_tok_us, c_seq_us, c_kv_us, c_attn_us_per_token2 } =
            self.roofline(self.setting.experts_batch).coefficients;
        Ok(EngineProfile {
            source: self.source(),
            form: StepForm::Max,
            c0_ms,
            c_tok_us,
            c_seq_us,
            c_kv_us,
            c_attn_us_per_token2,
            kv_blocks: self.fit().kv_blocks,
            block_size: self.setting.block_size,
            max_num_seqs: self.setting.max_num_seqs,
            max_num_batched_tokens: self.setting.max_num_batched_tokens,
            scheduling: Scheduling::default(),
            reserve: KvReservation::default(),
            prefix_caching: false,
            front_end: FrontEnd::default(),
            calibration: None,
        })
    }

    fn source(&self) -> String {
        let gpu = &self.gpu;
        let experts = match self.model.experts {
            Some(_) => format!("; experts touched by {} tokens", self.setting.experts_batch),
            None => String::new(),
        };
        format!(
            "{} of {}: data sheet ({} GB/s, {} TFLOP/s {}) and model shape, with the efficiencies ({:.0} %, {:.0} %) of a fit on \
             H100{experts}; not measured",
            crate::engine_profile::PRESET_MARK,
            self.title(),
            gpu.bandwidth_gb_s,
            self.precision().rate(gpu).0,
            self.precision().rate(gpu).1,
            BANDWIDTH_EFFICIENCY * 100.0,
            FLOP_EFFICIENCY * 100.0,
        )
    }
}
