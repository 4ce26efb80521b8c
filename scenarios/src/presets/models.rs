//! A model's shape, and the parameters that follow from it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PresetError;
use super::names::{find, plain};
use super::precision::Precision;

const LIST: &str = include_str!("../../presets/models.toml");

/// A model's shape, as its config.json gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name here, or the file it was read from.
    pub name: String,
    /// Its name on Hugging Face, where it is one of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugging_face: Option<String>,
    /// Which parameters a layer has besides its matrices.
    pub family: Family,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width of the feed-forward, or of one expert's.
    pub intermediate_size: u32,
    /// Rows of the embedding.
    pub vocabulary: u32,
    /// Whether the output head is the embedding.
    pub tied_embeddings: bool,
    /// In place of one feed-forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// Layers that look back a bounded way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// How the published checkpoint stores its weights.
    pub weights: Precision,
    /// Where the shape is published.
    pub source: String,
}

/// Feed-forwards of which a token goes through some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// In each layer.
    pub count: u32,
    /// Of these, for each token.
    pub active: u32,
}

impl Experts {
    /// The expected number of different experts of a layer that `tokens` tokens go through, were each token's choice
    /// uniform and independent: `E * (1 - (1 - k/E)^n)`. Real routers have favourites, so it is an upper bound.
    #[must_use]
    pub fn touched(self, tokens: u32) -> f64 {
        let missed = 1.0 - f64::from(self.active) / f64::from(self.count);
        f64::from(self.count) * (1.0 - missed.powf(f64::from(tokens)))
    }
}

/// Sliding-window attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How far such a layer looks back.
    pub tokens: u32,
    /// How many of the layers are such; the others see the whole context.
    pub layers: u32,
}

/// Architectures by the `model_type` of their config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 2, 3.
    Llama,
    /// Mistral.
    Mistral,
    /// Mixtral.
    Mixtral,
    /// Qwen 2, 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Qwen 3, mixture of experts.
    Qwen3Moe,
    /// MiniMax M2, M2.5.
    MinimaxM2,
    /// The text part of Gemma 3.
    Gemma3Text,
    /// gpt-oss.
    GptOss,
}

/// Where a model's parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// The input embedding; the output head is in `head`, even where it is the same table.
    pub embedding: u64,
    /// The output head.
    pub head: u64,
    /// Attention matrices of all layers.
    pub attention: u64,
    /// Feed-forward matrices of all layers, all experts of them.
    pub feed_forward: u64,
    /// Norms, biases, routers.
    pub rest: u64,
    /// All, each counted once.
    pub total: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    model: Vec<Model>,
}

impl Model {
    /// All that are known by name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // A test parses the list, so a failure here can't reach a user.
        toml::from_str::<List>(LIST).map_or_else(|_| Vec::new(), |list| list.model)
    }

    /// The one of that name here or on Hugging Face, or of a `config.json` when the name ends in `.json`. `folder` is
    /// where a relative path starts.
    ///
    /// # Errors
    /// When none has the name, or the file can't be read or understood.
    pub fn named(name: &str, folder: &Path) -> Result<Self, PresetError> {
        if name.to_ascii_lowercase().ends_with(".json") {
            return Self::read(&folder.join(name));
        }
        let all = Self::all();
        let names: Vec<&str> = all.iter().map(|model| model.name.as_str()).collect();
        let ids = |model: &Self| model.hugging_face.as_deref().map(plain);
        if let Some(model) = all.iter().find(|model| ids(model) == Some(plain(name))) {
            return Ok(model.clone());
        }
        find(&plain(name.rsplit('/').next().unwrap_or(name)), &names).map(|index| all[index].clone()).map_err(
            |help| PresetError {
                key: "model",
                problem: format!("no model is called `{name}`"),
                help: format!("{help}; for another one, give the path of its Hugging Face config.json"),
            },
        )
    }

    /// The parameters that follow from the shape.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let [layers, hidden, heads, kv_heads, head_dim, inner, vocabulary] = [
            self.layers,
            self.hidden_size,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.intermediate_size,
            self.vocabulary,
        ]
        .map(u64::from);
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let embedding = vocabulary * hidden;
        let attention = layers * (2 * hidden * queries + 2 * hidden * keys);
        let experts = self.experts.map_or(1, |experts| u64::from(experts.count));
        let feed_forward = layers * experts * 3 * hidden * inner;
        let norms = match self.family {
            Family::Gemma3Text => 4 * hidden + 2 * head_dim,
            Family::Qwen3 | Family::Qwen3Moe => 2 * hidden + 2 * head_dim,
            // Over all heads at once, not head by head.
            Family::MinimaxM2 => 2 * hidden + queries + keys,
            _ => 2 * hidden,
        };
        let router = if self.experts.is_some() { hidden * experts } else { 0 };
        let biases = match self.family {
            Family::Qwen2 => queries + 2 * keys,
            Family::MinimaxM2 => experts,
            // Queries, keys, values, output; one sink a head; the router; both layers of every expert.
            Family::GptOss => queries + 2 * keys + hidden + heads + experts * (1 + 2 * inner + hidden),
            _ => 0,
        };
        let rest = layers * (norms + router + biases) + hidden;
        let tied = if self.tied_embeddings { 0 } else { embedding };
        Parameters {
            embedding,
            head: embedding,
            attention,
            feed_forward,
            rest,
            total: embedding + tied + attention + feed_forward + rest,
        }
    }

    /// Layer-contexts that a context of so many tokens takes in memory and is read at, over the context: the layers that
    /// see all of it, and the windows' share.
    #[must_use]
    pub fn layers_in_context(&self, context_tokens: u32) -> f64 {
        let Some(window) = self.window else { return f64::from(self.layers) };
        let seen = f64::from(window.tokens.min(context_tokens)) / f64::from(context_tokens.max(1));
        f64::from(self.layers - window.layers) + f64::from(window.layers) * seen
    }
}
