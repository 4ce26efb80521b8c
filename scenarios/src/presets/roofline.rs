//! Step time by the roofline: bytes over bandwidth, operations over rate, each at a stated efficiency.
//!
//! ```text
//! c0     = weights read once / (bandwidth * share) + layers * launches + step + two all-reduces a layer, their latency
//! c_tok  = 2 FLOP * weights a token meets / (rate * share) + two all-reduces a layer, their bytes
//! c_seq  = host + the output head's 2 FLOP a weight
//! c_kv   = bytes of a token's keys and values / (bandwidth * share)
//! c_attn = 4 FLOP * heads * head size * layers / (bf16 rate * share)
//! ```
//! All are of one GPU of the group. The shares and costs are data: `presets/efficiencies.toml`, by GPU generation and format
//! of the products.
//!
//! A mixture of experts reads the experts that its step's tokens touch, `E * (1 - (1 - k/E)^n)` of each layer; the form
//! has one floor, so `n` is fixed (`experts_batch`).

use serde::Serialize;

use super::efficiency::{Efficiencies, Efficiency};
use super::{Preset, PresetError, Setting};
use crate::engine_profile::{EngineProfile, FrontEnd, KvReservation, Scheduling, StepForm};

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
    /// What this GPU and this format reach, as far as it was measured.
    #[must_use]
    pub fn efficiency(&self) -> Efficiency {
        Efficiency::of(self.gpu.generation, self.precision().rate(&self.gpu).1)
    }

    /// The roofline of a step of so many tokens (that counts only with experts).
    #[must_use]
    pub fn roofline(&self, tokens: u32) -> Roofline {
        self.roofline_at(&self.efficiency().reached, tokens)
    }

    /// The roofline at other efficiencies than the preset's own: for whoever fits them.
    #[must_use]
    #[expect(clippy::cast_precision_loss)] // parameters are far below 2^53
    pub fn roofline_at(&self, reached: &Efficiencies, tokens: u32) -> Roofline {
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
        let bytes_per_us = gpu.bandwidth_gb_s * 1e3 * reached.bandwidth;

        let (tflops, format) = self.precision().rate(gpu);
        let attention_flop = 2.0 * parameters.attention as f64 / split;
        let feed_forward_flop = 2.0 * parameters.feed_forward as f64 * active_share / split;
        let of_feed_forward = if model.experts.is_some() { reached.expert_flop } else { reached.flop };
        let head_flop = 2.0 * parameters.head as f64 / split;
        let flop_per_us = |tflops: f64, efficiency: f64| tflops * 1e6 * efficiency;

        // Two all-reduces a layer; a ring moves 2 (p - 1) / p of the bytes over each link.
        let reduces = if tensor_parallel > 1 { 2.0 * f64::from(model.layers) } else { 0.0 };
        let latency =
            if gpu.is_on_pcie() { reached.pcie_all_reduce_us } else { reached.nvlink_all_reduce_us };
        let ring_bytes = 2.0 * (split - 1.0) / split * f64::from(model.hidden_size) * 2.0;
        let link_bytes_per_us = gpu.link_gb_s * 1e3 * reached.link;

        let launches = f64::from(model.layers) * reached.layer_us;
        let of_sequence = reached.sequence_us + f64::from(model.layers) * reached.sequence_layer_us;
        let pairs = 4.0 * f64::from(model.heads) * f64::from(model.head_dim) / split
            * model.layers_in_context(context_tokens);
        Roofline {
            coefficients: Coefficients {
                c0_ms: (weights_read / bytes_per_us + reduces * latency + launches) / 1e3 + reached.step_ms,
                c_tok_us: attention_flop / flop_per_us(tflops, reached.flop)
                    + feed_forward_flop / flop_per_us(tflops, of_feed_forward)
                    + reduces * ring_bytes / link_bytes_per_us,
                c_seq_us: of_sequence + head_flop / flop_per_us(gpu.bf16_tflops, reached.flop),
                c_kv_us: self.kv_bytes_per_token_per_gpu() / bytes_per_us,
                c_attn_us_per_token2: pairs / flop_per_us(gpu.bf16_tflops, reached.attention),
            },
            weights_read_bytes: weights_read,
            experts_touched,
            flop_per_token: attention_flop + feed_forward_flop,
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
        self.profile_at(&self.efficiency().reached)
    }

    /// The engine profile at other efficiencies than the preset's own: for whoever fits them.
    ///
    /// # Errors
    /// When the model does not fit.
    pub fn profile_at(&self, reached: &Efficiencies) -> Result<EngineProfile, PresetError> {
        if let Some(error) = self.does_not_fit() {
            return Err(error);
        }
        let Coefficients { c0_ms, c_tok_us, c_seq_us, c_kv_us, c_attn_us_per_token2 } =
            self.roofline_at(reached, self.setting.experts_batch).coefficients;
        Ok(EngineProfile {
            source: self.source(reached),
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
            front_end: FrontEnd {
                inbound_ms: reached.front_end_ms / 2.0,
                outbound_ms: reached.front_end_ms / 2.0,
                ..FrontEnd::default()
            },
            calibration: None,
        })
    }

    /// What the numbers rest on, and how far such presets were off.
    fn source(&self, reached: &Efficiencies) -> String {
        let gpu = &self.gpu;
        let experts = match self.model.experts {
            Some(_) => format!("; experts touched by {} tokens", self.setting.experts_batch),
            None => String::new(),
        };
        let efficiency = self.efficiency();
        let known = match &efficiency.held_out {
            Some(held_out) => format!(
                "{}{held_out} ({}, {})",
                crate::engine_profile::PRESET_ERROR_MARKS.0,
                gpu.generation.name(),
                self.precision().rate(gpu).1
            ),
            None => format!(
                "how far presets are off on {} was not measured: see docs/presets.md",
                gpu.generation.name()
            ),
        };
        format!(
            "{} of {}: data sheet ({} GB/s, {} TFLOP/s {}) and model shape, with {:.0} % of the bandwidth and {:.0} % of the rate \
             ({}){experts}; not measured; {known}",
            crate::engine_profile::PRESET_MARK,
            self.title(),
            gpu.bandwidth_gb_s,
            self.precision().rate(gpu).0,
            self.precision().rate(gpu).1,
            reached.bandwidth * 100.0,
            reached.flop * 100.0,
            efficiency.source,
        )
    }
}
