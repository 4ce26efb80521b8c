//! A model's shape from its Hugging Face `config.json`.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::PresetError;
use super::models::{Experts, Family, Model, Window};
use super::precision::Precision;

/// No config.json is larger; a checkpoint given by mistake is not read to its end.
const LARGEST_FILE: u64 = 1 << 20;

/// `model_type`, and what stands for it.
const FAMILIES: &[(&str, Family)] = &[
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("mixtral", Family::Mixtral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("qwen3_moe", Family::Qwen3Moe),
    ("minimax_m2", Family::MinimaxM2),
    ("gemma3_text", Family::Gemma3Text),
    ("gpt_oss", Family::GptOss),
];

impl Model {
    /// Reads a config.json.
    ///
    /// # Errors
    /// When the file can't be read, its architecture is not known, or a key is missing or makes no sense.
    pub fn read(path: &Path) -> Result<Self, PresetError> {
        let name = path.display().to_string();
        let unreadable = |error: &dyn std::fmt::Display| PresetError {
            key: "model",
            problem: format!("{name}: cannot read the model's config.json: {error}"),
            help: "give the path of the config.json beside the model's weights".into(),
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(unreadable(&format!("it is larger than {LARGEST_FILE} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8 text"))?;
        Self::from_config_json(&text, &name)
    }

    /// Reads the text of a config.json; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn from_config_json(text: &str, name: &str) -> Result<Self, PresetError> {
        let value: Value = serde_json::from_str(text).map_err(|error| PresetError {
            key: "model",
            problem: format!("{name}: this is no JSON: {error}"),
            help: "give a Hugging Face config.json".into(),
        })?;
        let Value::Object(outer) = value else {
            return Err(PresetError {
                key: "model",
                problem: format!("{name}: expected a table of keys, as a config.json is"),
                help: "give a Hugging Face config.json".into(),
            });
        };
        // A model that also sees pictures keeps its text part in a table of its own.
        let nested = match (outer.get("model_type").and_then(Value::as_str), outer.get("text_config")) {
            (Some("gemma3"), Some(Value::Object(text))) => Some(text),
            _ => None,
        };
        Config { keys: nested.unwrap_or(&outer), outer: &outer, name, nested: nested.is_some() }.model()
    }
}

struct Config<'t> {
    keys: &'t Map<String, Value>,
    outer: &'t Map<String, Value>,
    name: &'t str,
    nested: bool,
}

impl Config<'_> {
    fn error(&self, key: &str, problem: &str, help: impl Into<String>) -> PresetError {
        let table = if self.nested { "text_config." } else { "" };
        PresetError {
            key: "model",
            problem: format!("{}: `{table}{key}` {problem}", self.name),
            help: help.into(),
        }
    }

    /// The key's value; `null` is as good as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn number_or_none(&self, key: &str, most: u32) -> Result<Option<u32>, PresetError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(
                key,
                &format!("is {value}"),
                format!("a whole number from 1 to {most} is expected: correct the file"),
            )),
        }
    }

    fn number(&self, key: &str, most: u32) -> Result<u32, PresetError> {
        self.number_or_none(key, most)?.ok_or_else(|| {
            self.error(
                key,
                "is missing",
                "add it: the model's other files, or the class in `transformers`, say its value",
            )
        })
    }

    fn flag(&self, key: &str, otherwise: bool) -> Result<bool, PresetError> {
        match self.value(key) {
            None => Ok(otherwise),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.error(key, &format!("is {other}"), "true or false is expected: correct the file"))
            }
        }
    }

    fn family(&self) -> Result<Family, PresetError> {
        let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        let help = format!(
            "known are {}; for another architecture, give the engine's own numbers in an [engines.NAME] table",
            known.join(", ")
        );
        let kind = match self.keys.get("model_type") {
            Some(Value::String(kind)) => kind.as_str(),
            _ if self.nested => "gemma3_text",
            _ => return Err(self.error("model_type", "is missing", help)),
        };
        FAMILIES
            .iter()
            .find(|(name, _)| *name == kind)
            .map(|(_, family)| *family)
            .ok_or_else(|| self.error("model_type", &format!("is \"{kind}\", which is not known"), help))
    }

    fn model(&self) -> Result<Model, PresetError> {
        const WIDEST: u32 = 1 << 20;
        let family = self.family()?;
        let gemma = family == Family::Gemma3Text;
        let layers = self.number("num_hidden_layers", 1000)?;
        let hidden_size = self.number("hidden_size", WIDEST)?;
        let heads = self.number("num_attention_heads", 4096)?;
        let kv_heads = match self.number_or_none("num_key_value_heads", 4096)? {
            Some(kv_heads) => kv_heads,
            // Written before grouped queries: every head has its own.
            None if family == Family::Llama => heads,
            None => self.number("num_key_value_heads", 4096)?,
        };
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, which does not divide num_attention_heads, {heads}");
            return Err(self.error("num_key_value_heads", &problem, "correct the file"));
        }
        let head_dim = match self.number_or_none("head_dim", 4096)? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => self.number("head_dim", 4096)?,
        };
        let experts = self.experts(family)?;
        let inner = if family == Family::Qwen3Moe { "moe_intermediate_size" } else { "intermediate_size" };
        // Gemma 3 is published without these two; they are the defaults of its class in `transformers`.
        let vocabulary = match self.number_or_none("vocab_size", 1 << 24)? {
            None if gemma => 262_208,
            None => self.number("vocab_size", 1 << 24)?,
            Some(vocabulary) => vocabulary,
        };
        Ok(Model {
            name: self.name.to_owned(),
            hugging_face: None,
            family,
            layers,
            hidden_size,
            heads,
            kv_heads,
            head_dim,
            intermediate_size: self.number(inner, WIDEST)?,
            vocabulary,
            tied_embeddings: self.flag("tie_word_embeddings", gemma)?,
            experts,
            window: self.window(family, layers)?,
            weights: self.weights()?,
            source: self.name.to_owned(),
        })
    }

    fn experts(&self, family: Family) -> Result<Option<Experts>, PresetError> {
        let (count_key, active_key) = match family {
            Family::Qwen3Moe => ("num_experts", "num_experts_per_tok"),
            Family::Mixtral | Family::MinimaxM2 => ("num_local_experts", "num_experts_per_tok"),
            Family::GptOss if self.value("num_experts_per_tok").is_some() => {
                ("num_local_experts", "num_experts_per_tok")
            }
            Family::GptOss => ("num_local_experts", "experts_per_token"),
            _ => return Ok(None),
        };
        if family == Family::Qwen3Moe {
            let plain = |key, fits: &dyn Fn(&Value) -> bool| {
                self.value(key).filter(|value| !fits(value)).map(|value| {
                    let help = "layers without experts among those with them are not known here: give the \
                                engine's own numbers in an [engines.NAME] table";
                    self.error(key, &format!("is {value}"), help)
                })
            };
            let step = plain("decoder_sparse_step", &|value| value.as_u64() == Some(1));
            let only = plain("mlp_only_layers", &|value| value.as_array().is_some_and(Vec::is_empty));
            if let Some(error) = step.or(only) {
                return Err(error);
            }
        }
        let count = self.number(count_key, 65_536)?;
        let active = self.number(active_key, 65_536)?;
        if active > count {
            let problem = format!("is {active}, more than {count_key}, {count}");
            return Err(self.error(active_key, &problem, "correct the file"));
        }
        Ok(Some(Experts { count, active }))
    }

    fn window(&self, family: Family, layers: u32) -> Result<Option<Window>, PresetError> {
        // Qwen writes a window down that it does not use.
        let qwen = matches!(family, Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe);
        if qwen && !self.flag("use_sliding_window", false)? {
            return Ok(None);
        }
        let often = matches!(family, Family::Gemma3Text | Family::GptOss);
        let tokens = match self.number_or_none("sliding_window", u32::MAX)? {
            Some(tokens) => tokens,
            None if often => self.number("sliding_window", u32::MAX)?,
            None => return Ok(None),
        };
        let windowed = match (self.value("layer_types"), family) {
            (Some(types), _) => self.windowed_layers(types, layers)?,
            (None, Family::Gemma3Text) => {
                let pattern = self.number_or_none("sliding_window_pattern", 1000)?.unwrap_or(6);
                layers - layers / pattern
            }
            (None, Family::GptOss) => layers.div_ceil(2),
            (None, _) if qwen => {
                layers.saturating_sub(self.number_or_none("max_window_layers", 1000)?.unwrap_or(layers))
            }
            (None, Family::Llama | Family::MinimaxM2) => 0,
            (None, _) => layers,
        };
        Ok((windowed > 0).then_some(Window { tokens, layers: windowed }))
    }

    fn windowed_layers(&self, types: &Value, layers: u32) -> Result<u32, PresetError> {
        let help = "each layer is expected to be \"full_attention\" or \"sliding_attention\"; for others, give the \
                    engine's own numbers in an [engines.NAME] table";
        let list = types.as_array().filter(|list| list.len() == layers as usize);
        let Some(list) = list else {
            return Err(self.error("layer_types", &format!("is not a list of {layers}"), help));
        };
        let mut windowed = 0;
        for kind in list {
            match kind.as_str() {
                Some("sliding_attention") => windowed += 1,
                Some("full_attention") => {}
                _ => return Err(self.error("layer_types", &format!("has {kind}"), help)),
            }
        }
        Ok(windowed)
    }

    fn weights(&self) -> Result<Precision, PresetError> {
        let Some(quantised) = self.outer.get("quantization_config").filter(|value| !value.is_null()) else {
            let stored = ["torch_dtype", "dtype"].iter().find_map(|key| {
                let stored = self.keys.get(*key).or_else(|| self.outer.get(*key));
                stored.and_then(Value::as_str)
            });
            return Ok(if stored == Some("float16") { Precision::Fp16 } else { Precision::Bf16 });
        };
        let text = |key: &str| quantised.get(key).and_then(Value::as_str);
        match (text("quant_method"), quantised.get("bits").and_then(Value::as_u64)) {
            (Some("fp8"), _) => Ok(Precision::Fp8),
            (Some("mxfp4"), _) => Ok(Precision::Mxfp4),
            (Some("awq" | "gptq"), Some(4)) => Ok(Precision::Int4),
            (method, _) => Err(PresetError {
                key: "model",
                problem: format!(
                    "{}: `quantization_config` is of a kind that is not known (quant_method \"{}\")",
                    self.name,
                    method.unwrap_or("none")
                ),
                help: "known are fp8, mxfp4, and 4-bit awq and gptq; else take the unquantised model's config.json, and say \
                       dtype = \"fp8\", \"nvfp4\" or \"int4\" beside it"
                    .into(),
            }),
        }
    }
}
