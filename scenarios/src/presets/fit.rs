//! Memory: what weights, reserve and KV cache take of each GPU.

use serde::Serialize;

use super::{Precision, Preset, PresetError, Setting};

const MIB: f64 = 1_048_576.0;

/// CUDA's context, the communication buffers and the captured graphs, of each GPU.
const FIXED_RESERVE: f64 = 1024.0 * MIB;

/// What the memory of each GPU of the group is for, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Weights of the whole model.
    pub weights_bytes: f64,
    /// Weights on each GPU.
    pub weights_bytes_per_gpu: f64,
    /// What the engine may take of each GPU.
    pub usable_bytes_per_gpu: f64,
    /// Kept for activations, logits, CUDA context and graphs, of each GPU.
    pub reserve_bytes_per_gpu: f64,
    /// Keys and values of a token, all layers, on the whole group, as long as no window cuts it short.
    pub kv_bytes_per_token: f64,
    /// The same on each GPU, with the windows' share at `context_tokens`.
    pub kv_bytes_per_token_per_gpu: f64,
    /// Whole blocks of KV cache that are left; 0 when it does not fit.
    pub kv_blocks: u32,
    /// Tokens they hold.
    pub kv_tokens: u64,
    /// Whether weights and reserve leave room for one block or more.
    pub fits: bool,
}

/// Bytes of weights on each GPU that a token's product reads, by what decides how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// Read in every step.
    pub(super) always: f64,
    /// Of all experts.
    pub(super) experts: f64,
    /// The input embedding, where it is a table of its own: a row a token, so hardly read.
    pub(super) looked_up: f64,
}

impl Preset {
    /// How much room there is, and what is left for the KV cache.
    #[must_use]
    pub fn fit(&self) -> Fit {
        let Setting { tensor_parallel, max_num_seqs, max_num_batched_tokens, block_size, .. } = self.setting;
        let model = &self.model;
        let split = f64::from(tensor_parallel);
        let weights = self.weights_per_gpu();
        let weights_per_gpu = weights.always + weights.experts + weights.looked_up;
        let usable = f64::from(self.gpu.memory_mib) * MIB * self.setting.memory_utilization;
        // Of the widest layer of a full prefill step: residual, projections and their inputs, all in 16 bits; and logits of
        // all sequences in 32 bits, twice, as the sampler has them.
        let active = model.experts.map_or(1, |experts| experts.active);
        let inner = f64::from(model.intermediate_size) * f64::from(active) / split;
        let activations =
            f64::from(max_num_batched_tokens) * (8.0 * f64::from(model.hidden_size) + 4.0 * inner) * 2.0;
        let logits = f64::from(max_num_seqs) * f64::from(model.vocabulary) * 8.0;
        let reserve = FIXED_RESERVE + activations + logits;
        let per_token = self.kv_bytes_per_token_per_gpu();
        let block = per_token * f64::from(block_size);
        let left = (usable - weights_per_gpu - reserve).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float's cast saturates
        let kv_blocks = (left / block).floor() as u32;
        Fit {
            weights_bytes: self.weights_bytes(),
            weights_bytes_per_gpu: weights_per_gpu,
            usable_bytes_per_gpu: usable,
            reserve_bytes_per_gpu: reserve,
            kv_bytes_per_token: self.kv_bytes_of_a_layer() * f64::from(model.layers),
            kv_bytes_per_token_per_gpu: per_token,
            kv_blocks,
            kv_tokens: u64::from(kv_blocks) * u64::from(block_size),
            fits: kv_blocks > 0,
        }
    }

    /// Bytes of the whole checkpoint.
    #[must_use]
    #[expect(clippy::cast_precision_loss)] // parameters are far below 2^53
    pub fn weights_bytes(&self) -> f64 {
        let parameters = self.model.parameters();
        let quantised = self.quantised_parameters();
        let sixteen = parameters.total - quantised;
        sixteen as f64 * 2.0 + quantised as f64 * self.precision().bits() / 8.0
    }

    fn quantised_parameters(&self) -> u64 {
        let parameters = self.model.parameters();
        match self.precision() {
            Precision::Mxfp4 if self.model.experts.is_some() => parameters.feed_forward,
            _ => parameters.feed_forward + parameters.attention,
        }
    }

    #[expect(clippy::cast_precision_loss)] // parameters are far below 2^53
    pub(super) fn weights_per_gpu(&self) -> Weights {
        let parameters = self.model.parameters();
        let split = f64::from(self.setting.tensor_parallel);
        let quantised = self.precision().bits() / 8.0;
        let attention_bytes = match self.precision() {
            Precision::Mxfp4 if self.model.experts.is_some() => 2.0,
            _ => quantised,
        };
        // Fewer KV heads than GPUs: each keeps a whole one.
        let copies = (split / f64::from(self.model.kv_heads)).max(1.0);
        let keys = f64::from(self.model.kv_heads) * f64::from(self.model.head_dim);
        let repeated =
            (copies - 1.0) * 2.0 * f64::from(self.model.hidden_size) * keys * f64::from(self.model.layers);
        let attention = (parameters.attention as f64 + repeated) * attention_bytes;
        let feed_forward = parameters.feed_forward as f64 * quantised;
        let (dense, experts) =
            if self.model.experts.is_some() { (0.0, feed_forward) } else { (feed_forward, 0.0) };
        let rest = (parameters.head + parameters.rest) as f64 * 2.0;
        let looked_up = if self.model.tied_embeddings { 0.0 } else { parameters.embedding as f64 * 2.0 };
        Weights {
            always: (attention + dense + rest) / split,
            experts: experts / split,
            looked_up: looked_up / split,
        }
    }

    fn kv_bytes_of_a_layer(&self) -> f64 {
        let numbers = 2.0 * f64::from(self.model.kv_heads) * f64::from(self.model.head_dim);
        numbers * self.setting.kv_dtype.bytes()
    }

    /// Bytes of a token's keys and values on each GPU; a window's share at `context_tokens`.
    pub(super) fn kv_bytes_per_token_per_gpu(&self) -> f64 {
        let split = f64::from(self.setting.tensor_parallel.min(self.model.kv_heads));
        self.kv_bytes_of_a_layer() * self.model.layers_in_context(self.setting.context_tokens) / split
    }

    /// Why it does not fit, and what would.
    #[must_use]
    pub fn does_not_fit(&self) -> Option<PresetError> {
        let fit = self.fit();
        if fit.fits {
            return None;
        }
        let gb = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
        // With what is then left for the KV cache: a model that only just fits serves nobody.
        let other = |change: &dyn Fn(&mut Setting)| {
            let mut setting = self.setting;
            change(&mut setting);
            let preset = Self::new(self.gpu.clone(), self.model.clone(), setting).ok()?;
            let fit = preset.fit();
            fit.fits.then(|| format!("(leaves {} KV tokens)", fit.kv_tokens))
        };
        let wider = (self.setting.tensor_parallel + 1..=64).find_map(|width| {
            let left = other(&|setting| setting.tensor_parallel = width)?;
            Some(format!("tensor_parallel = {width} {left}"))
        });
        let smaller = [Precision::Fp8, Precision::Int4]
            .into_iter()
            .filter(|dtype| dtype.bits() < self.precision().bits())
            .find_map(|dtype| {
                let left = other(&|setting| setting.dtype = Some(dtype))?;
                Some(format!("dtype = \"{dtype}\" {left}"))
            });
        let ways: Vec<String> = wider.into_iter().chain(smaller).collect();
        let help = match ways.is_empty() {
            true => "take a larger GPU or a smaller model".to_owned(),
            false => format!("{} would fit; or take a larger GPU or a smaller model", ways.join(" or ")),
        };
        let each = if self.setting.tensor_parallel > 1 { " of each GPU" } else { "" };
        Some(PresetError {
            key: "model",
            problem: format!(
                "{} does not fit: {} of weights and {} for activations and graphs, but {}{each} may be used ({} of {})",
                self.title(),
                gb(fit.weights_bytes_per_gpu),
                gb(fit.reserve_bytes_per_gpu),
                gb(fit.usable_bytes_per_gpu),
                self.setting.memory_utilization,
                gb(f64::from(self.gpu.memory_mib) * MIB),
            ),
            help,
        })
    }
}
