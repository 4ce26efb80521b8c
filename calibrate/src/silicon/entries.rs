//! What was found, as the presets keep it (`scenarios/presets/efficiencies.toml`).

use std::collections::BTreeSet;

use slackwater_scenarios::presets::{Efficiencies, Efficiency, HeldOut, OffBy};

use super::errors::Errors;
use super::held_out::{GroupResult, Silicon};

/// An entry of each group: the fit where it beats the general efficiencies on models held out, else these, with the error
/// that the better one had there.
#[must_use]
pub fn entries(found: &Silicon) -> Vec<Efficiency> {
    found.groups.iter().filter_map(|group| entry(group, found)).collect()
}

/// The pairs of GPU and model that a group's fit sees: its own, or those of the generation where it has but one model.
fn pairs(group: &GroupResult, found: &Silicon) -> Vec<String> {
    let alone = group.models.len() < 2;
    let seen = |other: &&GroupResult| {
        other.group == group.group || (alone && other.group.generation == group.group.generation)
    };
    let sets = found.groups.iter().filter(seen).flat_map(|group| &group.sets);
    let pairs: BTreeSet<String> = sets.map(|set| format!("{} {}", set.gpu, set.model)).collect();
    pairs.into_iter().collect()
}

fn entry(group: &GroupResult, found: &Silicon) -> Option<Efficiency> {
    let refitted = group.refitted.as_ref()?;
    let (fitted, general) = (refitted.models_held_out?, group.one_fit?);
    let other = Efficiency::not_measured();
    let (reached, errors, source, fitted_to) = if score(&fitted) < score(&general) {
        let source = format!("fitted to {}", group.fitted_to.join(", "));
        (rounded(refitted.reached), fitted, source, pairs(group, found))
    } else {
        (other.reached, general, format!("{}, which no fit beat here", other.source), Vec::new())
    };
    Some(Efficiency {
        generation: Some(group.group.generation),
        formats: vec![group.group.format.clone()],
        source,
        fitted_to,
        reached,
        held_out: Some(HeldOut {
            rows: u32::try_from(errors.rows).unwrap_or(u32::MAX),
            models: group.models.clone(),
            ttft: tenths(errors.ttft),
            tpot: tenths(errors.tpot),
        }),
    })
}

/// Of two, the lower is better: the medians, and a quarter of what one in ten exceeds; TTFT by half, as in a fit.
fn score(errors: &Errors) -> f64 {
    let of = |off: OffBy| off.median + off.p90 / 4.0;
    of(errors.tpot) + of(errors.ttft) / 2.0
}

fn tenths(off: OffBy) -> OffBy {
    let round = |percent: f64| (percent * 10.0).round() / 10.0;
    OffBy { median: round(off.median), p90: round(off.p90), bias: round(off.bias) }
}

/// Three digits: no fit knows more.
fn rounded(reached: Efficiencies) -> Efficiencies {
    let round = |value: f64| match value {
        0.0 => 0.0,
        _ => {
            let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
            // Through text, so that 0.482 is not 0.48200000000000004.
            format!("{:.6}", (value / unit).round() * unit).parse().unwrap_or(value)
        }
    };
    Efficiencies {
        bandwidth: round(reached.bandwidth),
        flop: round(reached.flop),
        expert_flop: round(reached.expert_flop),
        layer_us: round(reached.layer_us),
        sequence_layer_us: round(reached.sequence_layer_us),
        nvlink_all_reduce_us: round(reached.nvlink_all_reduce_us),
        front_end_ms: round(reached.front_end_ms),
        ..reached
    }
}
