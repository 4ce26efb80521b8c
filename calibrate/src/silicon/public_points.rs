//! Measured points of one server that a built-in profile was fitted to: a preset's own test, at Poisson arrivals.

use std::path::Path;

use serde::Serialize;
use slackwater_scenarios::presets::{Preset, Setting};
use slackwater_scenarios::{EngineProfile, Keyed};

use crate::experiment::{Description, Experiment, Row};
use crate::figures::{Figures, figures};
use crate::replay::{Drive, replay};

/// As published: mean, median, p90, p99 of the time to the first token; mean and p90 of the time of a later one, seconds.
struct Published {
    rate: f64,
    ttft_s: [f64; 4],
    tpot_s: [f64; 2],
}

/// One H100, Qwen3-14B, vLLM 0.23, 986 tokens in and 128 out.
const PUBLISHED: [Published; 3] = [
    Published { rate: 2.0, ttft_s: [0.0669, 0.0649, 0.0745, 0.1068], tpot_s: [0.01233, 0.01314] },
    Published { rate: 4.0, ttft_s: [0.0735, 0.0674, 0.0992, 0.1425], tpot_s: [0.01358, 0.01490] },
    Published { rate: 6.0, ttft_s: [0.0802, 0.0696, 0.1092, 0.1756], tpot_s: [0.01525, 0.01713] },
];
const INPUT: u32 = 986;
const OUTPUT: u32 = 128;
/// So many that the p99 moves by less than a percent from seed to seed.
const REQUESTS: u32 = 4000;

/// One rate, by one profile: predicted over measured, percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublicPoint {
    /// Requests a second.
    pub rate: f64,
    /// `preset` or the built-in profile's name.
    pub profile: String,
    /// Errors of mean, median, p90 and p99 of the time to the first token, percent.
    pub ttft_off: [f64; 4],
    /// Errors of mean and p90 of the time of a later token, percent.
    pub tpot_off: [f64; 2],
}

/// All rates by the preset and by the profile that was fitted to them.
#[must_use]
pub fn public_points(seed: u64) -> Vec<PublicPoint> {
    let setting = Setting { max_num_seqs: 1024, max_num_batched_tokens: 8192, ..Setting::default() };
    let preset =
        Preset::named("H100", "qwen3-14b", Path::new(""), setting).and_then(|preset| preset.profile());
    let built_in = "h100-qwen3-14b";
    let profiles = [("preset", preset.ok()), (built_in, EngineProfile::built_in(built_in))];
    let mut points = Vec::new();
    for (name, profile) in profiles {
        let Some(profile) = profile else { continue };
        for published in &PUBLISHED {
            if let Some(found) = replayed(published.rate, &profile, seed) {
                points.extend(off(name, published, &found));
            }
        }
    }
    points
}

/// The figures of Poisson arrivals at this rate.
fn replayed(rate: f64, profile: &EngineProfile, seed: u64) -> Option<Figures> {
    let keyed = Keyed::new(seed);
    let mut at = 0.0;
    let rows = (0..REQUESTS)
        .map(|request| {
            at -= (1.0 - keyed.uniform("gap", &[u64::from(request)])).ln() / rate;
            Row {
                arrival_s: at,
                scheduled_s: None,
                input_tokens: INPUT,
                output_tokens: OUTPUT,
                prompt: None,
                answer: None,
            }
        })
        .collect();
    let experiment = Experiment {
        name: format!("{rate} requests a second"),
        about: Description::default(),
        rows,
        assumed: Vec::new(),
        hash: String::new(),
    };
    let replayed = replay(&experiment, profile, Drive::Open, seed).ok()?;
    let told: Vec<_> = replayed.iter().map(|one| (one.sent_s, OUTPUT, one.answer)).collect();
    Some(figures(&told))
}

fn off(name: &str, published: &Published, found: &Figures) -> Option<PublicPoint> {
    let (ttft, tpot) = (found.ttft_s?, found.tpot_s?);
    let percent = |predicted: f64, measured: f64| (predicted / measured - 1.0) * 100.0;
    let [mean, p50, p90, p99] = published.ttft_s;
    Some(PublicPoint {
        rate: published.rate,
        profile: name.to_owned(),
        ttft_off: [
            percent(ttft.mean, mean),
            percent(ttft.p50, p50),
            percent(ttft.p90, p90),
            percent(ttft.p99, p99),
        ],
        tpot_off: [percent(tpot.mean, published.tpot_s[0]), percent(tpot.p90, published.tpot_s[1])],
    })
}
