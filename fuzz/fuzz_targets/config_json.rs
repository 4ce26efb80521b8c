//! A model's `config.json` from Hugging Face, and the profile that follows from it on a GPU.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slackwater_scenarios::presets::{Gpu, Model, Preset, Setting};

fuzz_target!(|text: &str| {
    let Ok(model) = Model::from_config_json(text, "config.json") else { return };
    for gpu in Gpu::all() {
        if let Ok(preset) = Preset::new(gpu, model.clone(), Setting::default()) {
            assert!(!preset.title().is_empty());
        }
    }
});
