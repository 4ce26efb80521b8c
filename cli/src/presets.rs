//! `slackwater presets`: what is known by name, and what a GPU and a model come to.

use std::fmt::Write;
use std::path::Path;

use anyhow::bail;
use serde::Serialize;
use slackwater_scenarios::EngineProfile;
use slackwater_scenarios::presets::{
    Efficiency, Fit, Gpu, KvPrecision, Model, Parameters, Precision, Preset, Roofline, Setting, Speed,
    StartUp,
};

use crate::args::{PresetKind, Presets, ShowPreset};
use crate::output;

/// The text is for any terminal.
const COLUMNS: usize = 80;
/// Batches whose decoding speed is shown.
const BATCHES: [u32; 2] = [1, 64];

pub(crate) fn presets(command: &Presets) -> anyhow::Result<()> {
    match command {
        Presets::List { what, json } => list(*what, *json),
        Presets::Show(arguments) => show(arguments),
    }
}

#[derive(Serialize)]
struct Lists {
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<Vec<Gpu>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<Model>>,
}

fn list(what: Option<PresetKind>, json: bool) -> anyhow::Result<()> {
    let wants = |kind| what.is_none_or(|what| what == kind);
    let lists = Lists {
        gpus: wants(PresetKind::Gpus).then(Gpu::all),
        models: wants(PresetKind::Models).then(Model::all),
    };
    if json {
        return output::json(&lists);
    }
    let mut text = Vec::new();
    text.extend(lists.gpus.map(|gpus| gpu_table(&gpus)));
    text.extend(lists.models.map(|models| model_table(&models)));
    output::line(text.join("\n\n").trim_end())
}

fn gpu_table(gpus: &[Gpu]) -> String {
    let mut text = format!(
        "{:<17} {:>9} {:>7}  {:>6} {:>6} {:>6}  {}\n{:<17} {:>9} {:>7}  {:>20}",
        "GPU", "memory", "GB/s", "bf16", "fp8", "fp4", "link", "", "MiB", "", "dense TFLOP/s"
    );
    let rate = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
    for gpu in gpus {
        let _ = write!(
            text,
            "\n{:<17} {:>9} {:>7}  {:>6} {:>6} {:>6}  {}",
            gpu.name,
            gpu.memory_mib,
            gpu.bandwidth_gb_s,
            rate(Some(gpu.bf16_tflops)),
            rate(gpu.fp8_tflops),
            rate(gpu.fp4_tflops),
            gpu.link
        );
    }
    text
}

fn model_table(models: &[Model]) -> String {
    let mut text = format!(
        "{:<15} {:>7} {:>6} {:>6} {:>8} {:>9}  {:<9} {}",
        "model", "params", "layers", "hidden", "KV heads", "experts", "window", "weights"
    );
    for model in models {
        let experts =
            model.experts.map_or("–".to_owned(), |experts| format!("{}/{}", experts.active, experts.count));
        let window =
            model.window.map_or("–".to_owned(), |window| format!("{} x{}", window.tokens, window.layers));
        let _ = write!(
            text,
            "\n{:<15} {:>7} {:>6} {:>6} {:>8} {:>9}  {:<9} {}",
            model.name,
            billions(model.parameters().total),
            model.layers,
            model.hidden_size,
            model.kv_heads,
            experts,
            window,
            model.weights
        );
    }
    text
}

#[expect(clippy::cast_precision_loss)] // parameters are far below 2^53
fn billions(parameters: u64) -> String {
    format!("{:.1}e9", parameters as f64 / 1e9)
}

/// All that `show` knows.
#[derive(Serialize)]
struct Shown {
    title: String,
    gpu: Gpu,
    model: Model,
    parameters: Parameters,
    tensor_parallel: u32,
    dtype: Precision,
    kv_dtype: KvPrecision,
    memory_utilization: f64,
    context_tokens: u32,
    experts_batch: u32,
    fit: Fit,
    does_not_fit: Option<String>,
    /// None when it does not fit.
    profile: Option<EngineProfile>,
    roofline: Roofline,
    decode: Vec<Speed>,
    prefill: Speed,
    start_up: StartUp,
    disk_gb_per_s: f64,
    assumptions: Vec<String>,
}

fn show(arguments: &ShowPreset) -> anyhow::Result<()> {
    let disk = arguments.disk;
    // Written so that NaN fails.
    if !(disk > 0.0 && disk <= 1000.0) {
        bail!("--disk {disk} is out of range\n  help: give GB/s, above 0, up to 1000");
    }
    let setting = Setting {
        tensor_parallel: arguments.tensor_parallel,
        dtype: Precision::or_auto(&arguments.dtype)?,
        kv_dtype: arguments.kv_dtype.parse()?,
        memory_utilization: arguments.memory_utilization,
        context_tokens: arguments.context_tokens,
        experts_batch: arguments.experts_batch,
        ..Setting::default()
    };
    let preset = Preset::named(&arguments.gpu, &arguments.model, Path::new(""), setting)?;
    let roofline = preset.roofline(setting.experts_batch);
    let shown = Shown {
        title: preset.title(),
        gpu: preset.gpu.clone(),
        model: preset.model.clone(),
        parameters: preset.model.parameters(),
        tensor_parallel: setting.tensor_parallel,
        dtype: preset.precision(),
        kv_dtype: setting.kv_dtype,
        memory_utilization: setting.memory_utilization,
        context_tokens: setting.context_tokens,
        experts_batch: setting.experts_batch,
        fit: preset.fit(),
        does_not_fit: preset.does_not_fit().map(|error| error.to_string()),
        profile: preset.profile().ok(),
        assumptions: assumptions(&preset, &roofline),
        roofline,
        decode: BATCHES.into_iter().map(|batch| preset.decode_speed(batch)).collect(),
        prefill: preset.prefill_speed(),
        start_up: preset.start_up(disk),
        disk_gb_per_s: disk,
    };
    if arguments.json { output::json(&shown) } else { output::line(&text(&shown)) }
}

fn assumptions(preset: &Preset, roofline: &Roofline) -> Vec<String> {
    let efficiency = preset.efficiency();
    let reached = &efficiency.reached;
    let of_experts = match preset.model.experts {
        Some(_) => format!(" ({:.0} % in experts)", reached.expert_flop * 100.0),
        None => String::new(),
    };
    let mut said = vec![
        format!(
            "reading gets {:.0} % of the memory bandwidth, large products {:.0} % of the {} rate{of_experts}; a step costs {:.2} ms, \
             each layer of it {:.1} us, each sequence {:.1} us besides; HTTP and tokens {:.0} ms a request: {}",
            reached.bandwidth * 100.0,
            reached.flop * 100.0,
            roofline.format,
            reached.step_ms,
            reached.layer_us,
            reached.sequence_us + f64::from(preset.model.layers) * reached.sequence_layer_us,
            reached.front_end_ms,
            efficiency.source,
        ),
        known_error(preset, &efficiency, roofline.format),
        format!("attention over prompts gets {:.0} % of the bf16 rate: assumed", reached.attention * 100.0),
        "1 GiB for CUDA and graphs, and what a full step's activations and logits take: assumed".to_owned(),
    ];
    if preset.setting.tensor_parallel > 1 {
        let over_pcie = preset.gpu.is_on_pcie();
        said.push(format!(
            "two all-reduces a layer over {} at {:.0} % of {} GB/s (assumed), {:.0} us each at least",
            preset.gpu.link,
            reached.link * 100.0,
            preset.gpu.link_gb_s,
            if over_pcie { reached.pcie_all_reduce_us } else { reached.nvlink_all_reduce_us }
        ));
    }
    if let (Some(experts), Some(touched)) = (preset.model.experts, roofline.experts_touched) {
        said.push(format!(
            "the profile's floor reads {touched:.1} of {} experts a layer, what {} tokens touch by E (1 - (1 - k/E)^n), each token's \
             choice uniform; the speeds above are each at its own batch",
            experts.count, preset.setting.experts_batch
        ));
    }
    if let Some(window) = preset.model.window {
        said.push(format!(
            "{} of {} layers look back {} tokens: counted at contexts of {}",
            window.layers, preset.model.layers, window.tokens, preset.setting.context_tokens
        ));
    }
    said.push(
        "start-up: lines through vLLM 0.10 starts of 0.5 to 14e9 parameters on one GPU; newer versions and groups have \
         taken several times as long"
            .to_owned(),
    );
    said
}

/// How far such presets were off, or that nobody knows.
fn known_error(preset: &Preset, efficiency: &Efficiency, format: &str) -> String {
    let generation = preset.gpu.generation.name();
    match &efficiency.held_out {
        Some(held_out) => format!(
            "how far off: presets on {generation} in {format} were {held_out} ({} measurements of {})",
            held_out.rows,
            held_out.models.join(", ")
        ),
        None => format!("how far presets are off on {generation} in {format} was not measured"),
    }
}

fn text(shown: &Shown) -> String {
    let mut text = textwrap::fill(&format!("{}: a roofline preset, not measured", shown.title), COLUMNS);
    text.push_str("\n\n");
    memory(&mut text, shown);
    text.push('\n');
    speed(&mut text, shown);
    text.push('\n');
    starting(&mut text, &shown.start_up);
    text.push_str("\nRests on\n");
    let sources = [format!("GPU: {}", shown.gpu.source), format!("model: {}", shown.model.source)];
    for line in sources.iter().chain(&shown.assumptions) {
        text.push_str(&wrapped(line));
    }
    text.trim_end().to_owned()
}

fn wrapped(line: &str) -> String {
    let options = textwrap::Options::new(COLUMNS).initial_indent("- ").subsequent_indent("  ");
    format!("{}\n", textwrap::fill(line, options))
}

fn memory(text: &mut String, shown: &Shown) {
    let fit = &shown.fit;
    let gb = |bytes: f64| format!("{:.2} GB", bytes / 1e9);
    let each = if shown.tensor_parallel > 1 { ", each GPU" } else { "" };
    let _ = writeln!(text, "Memory{each}");
    let mut row = |name: &str, value: String, note: String| {
        let _ = writeln!(text, "{}", format!("  {name:<24} {value:>12}  {note}").trim_end());
    };
    row(
        "may be used",
        gb(fit.usable_bytes_per_gpu),
        format!("{} of {} MiB", shown.memory_utilization, shown.gpu.memory_mib),
    );
    let whole = if shown.tensor_parallel > 1 {
        format!(", {:.0} GB in all", fit.weights_bytes / 1e9)
    } else {
        String::new()
    };
    row(
        "weights",
        gb(fit.weights_bytes_per_gpu),
        format!("{} parameters, {}{whole}", billions(shown.parameters.total), shown.dtype),
    );
    row("activations and graphs", gb(fit.reserve_bytes_per_gpu), String::new());
    row(
        "KV cache, a token",
        format!("{:.0} B", fit.kv_bytes_per_token_per_gpu),
        format!("{:.0} B in all layers and GPUs", fit.kv_bytes_per_token),
    );
    match &shown.does_not_fit {
        None => {
            row("KV cache left", fit.kv_tokens.to_string(), format!("tokens: {} blocks", fit.kv_blocks));
        }
        Some(problem) => {
            let flat = problem.replace("\n  help: ", "; ");
            let _ = writeln!(text, "{}", textwrap::fill(&flat, COLUMNS));
        }
    }
}

fn speed(text: &mut String, shown: &Shown) {
    let c = &shown.roofline.coefficients;
    let _ = writeln!(text, "Speed");
    for (name, value, unit) in [
        ("c0_ms", c.c0_ms, "the shortest step"),
        ("c_tok_us", c.c_tok_us, "a token computed"),
        ("c_seq_us", c.c_seq_us, "a decoding sequence"),
        ("c_kv_us", c.c_kv_us, "a token of context"),
        ("c_attn_us_per_token2", c.c_attn_us_per_token2, "a pair in prefill"),
    ] {
        let _ = writeln!(text, "  {name:<24} {:>12}  {unit}", significant(value));
    }
    for speed in &shown.decode {
        let room = if speed.fits { "" } else { "; KV too small" };
        let _ = writeln!(
            text,
            "  {:<24} {:>12}  tokens/s, {} ms a step{room}",
            format!("decode, batch {}", speed.batch),
            format!("{:.0}", speed.tokens_per_s),
            significant(speed.step_ms)
        );
    }
    let _ = writeln!(
        text,
        "  {:<24} {:>12}  tokens/s, {:.1} ms for {}",
        "prefill",
        format!("{:.0}", shown.prefill.tokens_per_s),
        shown.prefill.step_ms,
        shown.prefill.context_tokens
    );
    let _ = writeln!(text, "  (decode at contexts of {})", shown.context_tokens);
}

/// Four digits that count.
fn significant(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a handful
    let places = (3.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.places$}")
}

fn starting(text: &mut String, start: &StartUp) {
    let _ = writeln!(text, "{:<18} {:>7} {:>8}", "Start-up", "warm", "cold");
    for phase in &start.phases {
        let _ = writeln!(
            text,
            "  {:<16} {:>5.1} s {:>6.1} s  {}",
            phase.name, phase.warm_s, phase.cold_s, phase.reckoned
        );
    }
    let _ = writeln!(text, "  {:<16} {:>5.1} s {:>6.1} s", "in all", start.warm_s, start.cold_s);
    let _ = writeln!(
        text,
        "  (warm: weights in the page cache, compiled code on disk; cold: neither)\n  startup = {{ median = \"{:.0}s\", p95 = \
         \"{:.0}s\" }} would be the warm and the cold one",
        start.warm_s, start.cold_s
    );
}
