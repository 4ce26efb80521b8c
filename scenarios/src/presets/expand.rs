//! In a scenario: `engine = { gpu = "H100", model = "qwen3-14b" }` becomes a profile, and so does `{ file = "engine.toml" }`.
//!
//! Two passes, because the scenario's table borrows the texts it was read from: the first takes the preset's keys out and
//! computes each profile as a text (of a file: reads it), the second reads these texts into the table. A key of the profile
//! that stands beside these keys is known better, and stays.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::profile_file::{self, FILE};
use super::{KvPrecision, Precision, Preset, PresetError, Setting};
use crate::document::{Mistake, Table, Value, set_place};
use crate::engine_names::take_the_rest;
use crate::places::Places;

/// The keys of a preset, in the order the JSON Schema lists them.
pub(crate) const KEYS: [&str; 8] = [
    "gpu",
    "model",
    "tensor_parallel",
    "dtype",
    "kv_dtype",
    "memory_utilization",
    "context_tokens",
    "experts_batch",
];

/// A profile to be read into the table.
pub(crate) struct Expansion {
    /// `engines`, `from` or `to`.
    section: &'static str,
    /// The key in it.
    name: String,
    place: Range<usize>,
    title: String,
    text: String,
}

/// Takes the preset's keys out of every engine that has them.
pub(crate) fn take(table: &mut Table<'_>, places: &Places) -> Result<Vec<Expansion>, Mistake> {
    let width = fleet_width(table);
    let mut expansions = Vec::new();
    for section in ["engines", "from", "to"] {
        let Some(DeValue::Table(keys)) = table.get_mut(section).map(Spanned::get_mut) else { continue };
        for (name, engine) in keys.iter_mut() {
            if section != "engines" && name.get_ref() != "engine" {
                continue;
            }
            let place = engine.span();
            let DeValue::Table(engine) = engine.get_mut() else { continue };
            let name = name.get_ref().to_string();
            let key = format!("{section}.{name}");
            if let Some(file) = engine.remove(FILE) {
                let (title, text) = profile_file::read(&key, &file, engine, places)?;
                expansions.push(Expansion { section, name, place, title, text });
                continue;
            }
            if !KEYS.iter().any(|key| engine.contains_key(*key)) {
                continue;
            }
            let reader = Reader { key: &key, place: place.clone(), engine, places };
            let preset = reader.preset(width)?;
            let profile = preset.profile().map_err(|error| reader.mistake(error))?;
            let text = toml::to_string(&profile).map_err(|error| Mistake {
                span: place.clone(),
                key: Some(key.clone()),
                message: format!("`{key}`: this preset can't be written down: {error}"),
                help: Some("report this as a bug".into()),
            })?;
            for key in KEYS {
                engine.remove(key);
            }
            expansions.push(Expansion { section, name, place, title: preset.title(), text });
        }
    }
    Ok(expansions)
}

impl Expansion {
    /// Reads the profile into the table, beneath the keys that the user gave.
    pub(crate) fn fill<'t>(&'t self, table: &mut Table<'t>) -> Result<(), Mistake> {
        let key = format!("{}.{}", self.section, self.name);
        let parsed = DeTable::parse(&self.text).map_err(|error| Mistake {
            span: self.place.clone(),
            key: Some(key.clone()),
            message: format!("`{key}`: this profile can't be read: {}", error.message()),
            help: Some("report this as a bug".into()),
        })?;
        let mut profile = Spanned::new(self.place.clone(), DeValue::Table(parsed.into_inner()));
        set_place(&mut profile, &self.place);
        let DeValue::Table(profile) = profile.into_inner() else { return Ok(()) };
        let engine = table
            .get_mut(self.section)
            .and_then(|section| match section.get_mut() {
                DeValue::Table(keys) => keys.get_mut(self.name.as_str()),
                _ => None,
            })
            .map(Spanned::get_mut);
        let Some(DeValue::Table(engine)) = engine else { return Ok(()) };
        keep_the_mark(engine, &profile);
        take_the_rest(engine, profile, &self.title);
        Ok(())
    }
}

/// A source of the user's own speaks for the user's numbers; the others are still the preset's, or the file's.
fn keep_the_mark(engine: &mut Table<'_>, profile: &Table<'_>) {
    let Some(DeValue::String(preset)) = profile.get("source").map(Spanned::get_ref) else { return };
    let Some(DeValue::String(source)) = engine.get_mut("source").map(Spanned::get_mut) else { return };
    *source = Cow::Owned(format!("{source}; what it does not give: {preset}"));
}

/// The GPUs that one replica spans, where the scenario says a number; its checks come later.
fn fleet_width(table: &Table<'_>) -> u32 {
    let Some(DeValue::Table(fleet)) = table.get("fleet").map(Spanned::get_ref) else { return 1 };
    fleet.get("tensor_parallel").and_then(|value| whole(value.get_ref())).unwrap_or(1)
}

fn whole(value: &Value<'_>) -> Option<u32> {
    match value {
        DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

struct Reader<'a, 't> {
    key: &'a str,
    place: Range<usize>,
    engine: &'a Table<'t>,
    places: &'a Places,
}

impl Reader<'_, '_> {
    fn mistake(&self, error: PresetError) -> Mistake {
        let key = format!("{}.{}", self.key, error.key);
        let span = self.engine.get(error.key).map_or(self.place.clone(), Spanned::span);
        Mistake {
            span,
            message: format!("`{key}`: {}", error.problem),
            key: Some(key),
            help: Some(error.help),
        }
    }

    fn wrong(&self, key: &'static str, expected: &str) -> Mistake {
        self.mistake(PresetError {
            key,
            problem: format!("expected {expected}"),
            help: "change the value to what is expected".into(),
        })
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, Mistake> {
        match self.engine.get(key).map(Spanned::get_ref) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text in quotes")),
        }
    }

    fn needed(&self, key: &'static str, example: &str) -> Result<&str, Mistake> {
        self.text(key)?.ok_or_else(|| {
            let keys: Vec<&str> = self.engine.keys().map(|key| key.get_ref().as_ref()).collect();
            self.mistake(PresetError {
                key,
                problem: format!("a preset needs this key beside `{}`", keys.join("`, `")),
                help: format!("add it, as in {example}; `slackwater presets list` shows what is known"),
            })
        })
    }

    fn whole(&self, key: &'static str, otherwise: u32) -> Result<u32, Mistake> {
        match self.engine.get(key).map(Spanned::get_ref) {
            None => Ok(otherwise),
            Some(value) => whole(value).ok_or_else(|| self.wrong(key, "a whole number from 1 up")),
        }
    }

    fn share(&self, key: &'static str, otherwise: f64) -> Result<f64, Mistake> {
        match self.engine.get(key).map(Spanned::get_ref) {
            None => Ok(otherwise),
            Some(DeValue::Float(number)) => {
                number.as_str().parse().map_err(|_| self.wrong(key, "a number above 0, up to 1"))
            }
            Some(value) => {
                whole(value).map(f64::from).ok_or_else(|| self.wrong(key, "a number above 0, up to 1"))
            }
        }
    }

    fn preset(&self, fleet_width: u32) -> Result<Preset, Mistake> {
        if let Some(base) = self.engine.get("base") {
            return Err(Mistake {
                span: base.span(),
                key: Some(format!("{}.base", self.key)),
                message: format!(
                    "`{}.base`: an engine has either a `base` or a `gpu` and a `model`",
                    self.key
                ),
                help: Some("keep one of them".into()),
            });
        }
        let gpu = self.needed("gpu", "gpu = \"H100\"")?;
        let model = self.needed("model", "model = \"llama-3.1-8b\"")?;
        let tensor_parallel = self.whole("tensor_parallel", fleet_width)?;
        if tensor_parallel != fleet_width {
            return Err(self.mistake(PresetError {
                key: "tensor_parallel",
                problem: format!("{tensor_parallel}, but fleet.tensor_parallel is {fleet_width}"),
                help: format!("set fleet.tensor_parallel = {tensor_parallel}, or leave this key out"),
            }));
        }
        let usual = Setting::default();
        let mistake = |error| self.mistake(error);
        let setting = Setting {
            tensor_parallel,
            dtype: Precision::or_auto(self.text("dtype")?.unwrap_or("auto")).map_err(mistake)?,
            kv_dtype: self.text("kv_dtype")?.unwrap_or("auto").parse::<KvPrecision>().map_err(mistake)?,
            memory_utilization: self.share("memory_utilization", usual.memory_utilization)?,
            context_tokens: self.whole("context_tokens", usual.context_tokens)?,
            experts_batch: self.whole("experts_batch", usual.experts_batch)?,
            max_num_seqs: self.whole("max_num_seqs", usual.max_num_seqs)?,
            max_num_batched_tokens: self.whole("max_num_batched_tokens", usual.max_num_batched_tokens)?,
            block_size: self.whole("block_size", usual.block_size)?,
        };
        let preset = Preset::named(gpu, model, &self.folder(), setting).map_err(mistake)?;
        let idle = [
            ("experts_batch", preset.model.experts.is_none(), "experts"),
            ("context_tokens", preset.model.window.is_none(), "sliding window"),
        ];
        for (key, idle, what) in idle {
            if idle && self.engine.contains_key(key) {
                return Err(self.mistake(PresetError {
                    key,
                    problem: format!("{} has no {what}: the key would do nothing", preset.model.name),
                    help: "leave it out".into(),
                }));
            }
        }
        Ok(preset)
    }

    /// A config.json named in the file lies relative to the file; one named in an override, to the working directory.
    fn folder(&self) -> std::path::PathBuf {
        self.engine
            .get("model")
            .map_or_else(std::path::PathBuf::new, |model| self.places.folder_of(&model.span()))
    }
}
