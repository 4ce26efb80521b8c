//! Presets beside measured GPUs, for a terminal of 80 columns.

use std::fmt::Write;

use slackwater_calibrate::silicon::{Errors, GroupResult, Set, Silicon};
use slackwater_scenarios::presets::{HeldOut, OffBy};

const COLUMNS: usize = 80;

/// The comparison as text.
#[must_use]
pub fn silicon_text(found: &Silicon) -> String {
    let mut text = format!("{} rows, {} of them said by presets. The others:\n", found.rows, found.said);
    for (reason, rows) in &found.refused {
        let (first, others) = (format!("{rows:>6}  "), " ".repeat(8));
        let options = textwrap::Options::new(COLUMNS).initial_indent(&first).subsequent_indent(&others);
        let _ = writeln!(text, "{}", textwrap::fill(reason, options));
    }
    let _ = writeln!(text, "\nPredicted over measured, percent. {:>24}{:>21}", "TPOT off by", "TTFT off by");
    let head = ["rows", "median", "p90", "bias", "median", "p90", "bias"];
    let [rows, others @ ..] = head;
    let others: String = others.iter().map(|name| format!("{name:>7}")).collect();
    let _ = writeln!(text, "{:<32}{rows:>5}{others}", "");
    for group in &found.groups {
        of_group(&mut text, group);
    }
    if found.groups.iter().any(|group| group.refitted.is_some() || group.sets.iter().any(|set| !set.fitted)) {
        text.push_str("* the efficiencies were not fitted to this pair of GPU and model\n");
    }
    text.push_str("stated: what every answer on such a preset says of its error\n\nOne H100, Qwen3-14B, Poisson arrivals: predicted over measured, percent\n");
    let head = ["mean", "p50", "p90", "p99", "mean", "p90"];
    let head: String = head.iter().map(|name| format!("{name:>7}")).collect();
    let _ = writeln!(text, "{:<24}{:>28}{:>14}\n{:<24}{head}", "", "TTFT off by", "TPOT off by", "");
    for point in &found.public_points {
        let name = format!("{} /s {}", point.rate, point.profile);
        let figures = point.ttft_off.iter().chain(&point.tpot_off).map(|off| format!("{off:>+7.1}"));
        let _ = writeln!(text, "{name:<24}{}", figures.collect::<String>());
    }
    text.push_str("\nAssumed, since the file does not say:\n");
    for assumed in &found.assumed {
        let options = textwrap::Options::new(COLUMNS).initial_indent("- ").subsequent_indent("  ");
        let _ = writeln!(text, "{}", textwrap::fill(assumed, options));
    }
    text.trim_end().to_owned()
}

fn of_group(text: &mut String, group: &GroupResult) {
    let title =
        format!("{}, {} ({})", group.group.generation.name(), group.group.format, group.models.join(", "));
    let _ = writeln!(text, "\n{}", textwrap::fill(title.trim_end_matches(" ()"), COLUMNS));
    line(text, "presets: pairs fitted", group.pairs_fitted);
    line(text, "presets: pairs not fitted", group.pairs_not_fitted);
    for set in &group.sets {
        of_set(text, set);
    }
    line(text, "stated: models held out", group.said.as_ref().map(as_errors));
    line(text, "the one H100 fit", group.one_fit);
    if let Some(refitted) = &group.refitted {
        line(text, "anew: all of them fitted", refitted.fitted);
        line(text, "anew: pairs held out", refitted.pairs_held_out);
        line(text, "anew: models held out", refitted.models_held_out);
        for set in &refitted.sets_held_out {
            of_set(text, &Set { fitted: false, ..set.clone() });
        }
    }
    line(text, "sglang, by presets", group.sglang);
}

fn of_set(text: &mut String, set: &Set) {
    let mark = if set.fitted { "" } else { " *" };
    line(text, &format!("  {} {} {}{mark}", set.gpu, set.model, set.precision), Some(set.errors));
}

fn as_errors(said: &HeldOut) -> Errors {
    Errors { rows: said.rows as usize, ttft: said.ttft, tpot: said.tpot }
}

fn line(text: &mut String, name: &str, errors: Option<Errors>) {
    let Some(Errors { rows, ttft, tpot }) = errors else { return };
    let off = |OffBy { median, p90, bias }: OffBy| format!("{median:>7.1}{p90:>7.1}{bias:>+7.1}");
    let _ = writeln!(text, "{name:<32}{rows:>5}{}{}", off(tpot), off(ttft));
}
