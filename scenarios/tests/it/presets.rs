//! Presets against published sizes, hand arithmetic and laws that any roofline obeys.

use std::path::Path;

use slackwater_scenarios::presets::{
    DISK_GB_PER_S, Efficiency, Experts, Generation, Gpu, KvPrecision, Model, Precision, Preset, Setting,
};

pub(crate) fn preset(gpu: &str, model: &str, setting: Setting) -> Preset {
    Preset::named(gpu, model, Path::new(""), setting).unwrap()
}

fn on(tensor_parallel: u32, dtype: Option<Precision>) -> Setting {
    Setting { tensor_parallel, dtype, ..Setting::default() }
}

#[test]
fn every_entry_is_whole() {
    let (gpus, models) = (Gpu::all(), Model::all());
    assert_eq!((gpus.len(), models.len()), (17, 14));
    for gpu in gpus {
        assert!(gpu.source.contains("NVIDIA"), "{gpu:?}");
        // Each narrower format is faster, and a GPU does 50 to 1000 operations for each byte it reads.
        let rates = [Some(gpu.bf16_tflops), gpu.fp8_tflops, gpu.fp4_tflops];
        assert!(rates.iter().flatten().is_sorted(), "{gpu:?}");
        let intensity = gpu.bf16_tflops * 1e3 / gpu.bandwidth_gb_s;
        assert!((50.0..1000.0).contains(&intensity), "{gpu:?}");
        assert!(f64::from(gpu.memory_mib) / 1024.0 > 7.9, "{gpu:?}");
        assert_eq!(Gpu::named(&format!("nvidia-geforce {}", gpu.name.to_lowercase())).unwrap(), gpu);
    }
    for model in models {
        assert!(model.source.contains("config.json"), "{model:?}");
        let id = model.hugging_face.clone().unwrap();
        assert_eq!(Model::named(&id, Path::new("")).unwrap(), model);
    }
}

/// Parameter counts as Hugging Face shows them for the published weights (Gemma: without its vision tower and projector).
#[test]
fn parameters_are_the_published_ones() {
    for (name, total) in [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("mistral-7b", 7_248_023_552),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-14b", 14_768_307_200),
        ("qwen3-32b", 32_762_123_264),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("qwen3-235b-a22b", 235_093_634_560),
        ("minimax-m2.5", 228_689_764_864),
        ("gemma-3-27b", 27_009_346_304),
        ("gpt-oss-20b", 20_914_757_184),
        ("gpt-oss-120b", 116_829_156_672_u64),
    ] {
        assert_eq!(Model::named(name, Path::new("")).unwrap().parameters().total, total, "{name}");
    }
}

#[test]
fn weights_take_the_published_sizes() {
    for (model, dtype, gigabytes) in [
        ("llama-3.1-8b", None, 16.06),
        ("qwen3-14b", None, 29.54),
        ("llama-3.1-70b", None, 141.11),
        // The checkpoints on Hugging Face: 13.8 and 65.2 GB of safetensors; 9.1 GB of Llama-3.1-8B FP8.
        ("gpt-oss-20b", None, 13.76),
        ("gpt-oss-120b", None, 65.25),
        ("llama-3.1-8b", Some(Precision::Fp8), 9.08),
    ] {
        let bytes = preset("B200", model, on(1, dtype)).weights_bytes();
        assert!((bytes / 1e9 - gigabytes).abs() < 0.01, "{model}: {bytes}");
    }
}

#[test]
fn a_token_takes_the_known_bytes() {
    for (model, kv_dtype, bytes) in [
        ("llama-3.1-8b", KvPrecision::Auto, 131_072.0),
        ("llama-3.1-8b", KvPrecision::Fp8, 65_536.0),
        ("llama-2-7b", KvPrecision::Auto, 524_288.0),
        ("qwen3-14b", KvPrecision::Auto, 163_840.0),
        ("qwen3-30b-a3b", KvPrecision::Auto, 98_304.0),
        ("gpt-oss-20b", KvPrecision::Auto, 49_152.0),
    ] {
        let fit = preset("H200", model, Setting { kv_dtype, ..Setting::default() }).fit();
        assert_eq!(fit.kv_bytes_per_token, bytes, "{model}");
    }
}

/// gpt-oss-20b: 12 layers see all, 12 see 128 tokens; a layer's token takes 2 * 8 * 64 * 2 = 2,048 bytes.
#[test]
fn windows_stop_growing() {
    let at = |context_tokens| {
        preset("H100", "gpt-oss-20b", Setting { context_tokens, ..Setting::default() })
            .fit()
            .kv_bytes_per_token_per_gpu
    };
    assert_eq!(at(128), 24.0 * 2048.0);
    assert_eq!(at(1024), 12.0 * 2048.0 + 12.0 * 2048.0 / 8.0);
    assert!(at(1 << 20) < 12.1 * 2048.0);
}

/// The recorded RTX 4090 server (vLLM 0.19.0, 0.9 of the memory) had 2,588 blocks for Llama-3.1-8B.
#[test]
fn the_cache_of_a_recorded_server() {
    let fit = preset("RTX 4090", "llama-3.1-8b", Setting::default()).fit();
    let off = f64::from(fit.kv_blocks) / 2588.0 - 1.0;
    assert!(off.abs() < 0.02, "{} blocks", fit.kv_blocks);
}

/// By hand at the general efficiencies: H100, Llama-3.1-8B. Weights without the input embedding 16.0605 - 1.0507 = 15.0098 GB.
#[test]
fn coefficients_by_hand() {
    let general = Efficiency::not_measured().reached;
    let found = preset("H100", "llama-3.1-8b", Setting::default()).roofline_at(&general, 1).coefficients;
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    near(found.c0_ms, 15.0098 / (3350.0 * 0.8) * 1e3 + 0.66);
    // Matrices of the layers: 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) = 6.9793e9.
    near(found.c_tok_us, 2.0 * 6.9793e9 / (989.4e6 * 0.63));
    near(found.c_seq_us, 53.5 + 2.0 * 0.52534e9 / (989.4e6 * 0.63));
    near(found.c_kv_us, 131_072.0 / (3.35e6 * 0.8));
    near(found.c_attn_us_per_token2, 524_288.0 / (989.4e6 * 0.5));
}

/// The general efficiencies are those of this fit, so it must come out again; c_kv does not (`docs/presets.md`).
#[test]
fn the_fit_the_general_ones_come_from() {
    let general = Efficiency::not_measured().reached;
    let found = preset("H100", "qwen3-14b", Setting::default()).roofline_at(&general, 1).coefficients;
    assert!((found.c0_ms / 11.1 - 1.0).abs() < 0.01, "{found:?}");
    assert!((found.c_tok_us / 42.1 - 1.0).abs() < 0.01, "{found:?}");
    assert!((found.c_seq_us / 56.0 - 1.0).abs() < 0.01, "{found:?}");
}

/// Layers, experts and groups cost what the efficiencies say, each in its own place.
#[test]
fn each_efficiency_has_its_place() {
    let general = Efficiency::not_measured().reached;
    let at = |model: &str, width, change: &dyn Fn(&mut slackwater_scenarios::presets::Efficiencies)| {
        let mut reached = general;
        change(&mut reached);
        preset("H200", model, on(width, None)).roofline_at(&reached, 32).coefficients
    };
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-9 + 1e-6 * expected, "{found} {expected}");
    };
    for (model, layers, experts) in [("qwen3-14b", 40.0, false), ("qwen3-30b-a3b", 48.0, true)] {
        for width in [1, 2] {
            let base = at(model, width, &|_| {});
            near(at(model, width, &|of| of.layer_us += 10.0).c0_ms - base.c0_ms, layers * 10.0 / 1e3);
            near(at(model, width, &|of| of.step_ms += 1.0).c0_ms - base.c0_ms, 1.0);
            near(at(model, width, &|of| of.sequence_us += 7.0).c_seq_us - base.c_seq_us, 7.0);
            let of_layers = at(model, width, &|of| of.sequence_layer_us += 0.5).c_seq_us - base.c_seq_us;
            near(of_layers, layers * 0.5);
            let reduces = if width > 1 { 2.0 * layers } else { 0.0 };
            near(
                at(model, width, &|of| of.nvlink_all_reduce_us += 5.0).c0_ms - base.c0_ms,
                reduces * 5.0 / 1e3,
            );
            near(
                at(model, width, &|of| of.attention /= 2.0).c_attn_us_per_token2,
                base.c_attn_us_per_token2 * 2.0,
            );
            near(at(model, width, &|of| of.bandwidth /= 2.0).c_kv_us, base.c_kv_us * 2.0);
            let slower = at(model, width, &|of| of.expert_flop /= 2.0).c_tok_us > base.c_tok_us;
            assert_eq!(slower, experts, "{model}");
        }
    }
}

/// Shares are shares, costs are costs, every measured generation finds its own entry, and the others the general one.
#[test]
fn efficiencies_make_sense() {
    let all = Efficiency::all();
    assert!(all.len() > 1);
    assert_eq!(all.iter().filter(|entry| entry.generation.is_none()).count(), 1);
    for entry in &all {
        let of = &entry.reached;
        for share in [of.bandwidth, of.flop, of.expert_flop, of.attention, of.link] {
            assert!(share > 0.0 && share <= 1.0, "{entry:?}");
        }
        for cost in [
            of.step_ms,
            of.layer_us,
            of.sequence_us,
            of.sequence_layer_us,
            of.nvlink_all_reduce_us,
            of.front_end_ms,
        ] {
            assert!((0.0..1000.0).contains(&cost), "{entry:?}");
        }
        // An entry of a generation is there because it was measured, on models it did not see.
        assert_eq!(entry.generation.is_some(), entry.held_out.is_some(), "{entry:?}");
        if let Some(held_out) = &entry.held_out {
            assert!(held_out.rows > 0 && !held_out.models.is_empty());
            for off in [held_out.ttft, held_out.tpot] {
                assert!(off.median <= off.p90 && off.bias.abs() <= off.p90, "{entry:?}");
            }
        }
    }
    for (generation, measured) in [
        (Generation::Hopper, true),
        (Generation::Blackwell, true),
        (Generation::Ampere, false),
        (Generation::Ada, false),
        (Generation::RtxBlackwell, false),
    ] {
        for format in ["bf16", "fp8", "fp4"] {
            let found = Efficiency::of(generation, format);
            assert_eq!(
                found.generation.is_some(),
                measured && !(generation == Generation::Hopper && format == "fp4")
            );
        }
    }
}

/// What a preset's source says of its error, a result can say again.
#[test]
fn a_source_carries_the_measured_error() {
    use slackwater_scenarios::EngineProfile;
    let source = |gpu| preset(gpu, "llama-3.1-8b", Setting::default()).profile().unwrap().source;
    let hopper = source("H200");
    let said = EngineProfile::preset_error(&hopper).unwrap();
    assert!(said.starts_with("off in TPOT by a median of "), "{said}");
    assert!(said.ends_with(" on models it was not fitted to"), "{said}");
    let ampere = source("A100-80");
    assert_eq!(EngineProfile::preset_error(&ampere), None);
    assert!(ampere.contains("how far presets are off on Ampere was not measured"), "{ampere}");
}

#[test]
fn experts_touched() {
    let experts = Experts { count: 128, active: 8 };
    assert!((experts.touched(1) - 8.0).abs() < 1e-9);
    // Two tokens: 8 and of the second's 8 those not in the first's, 8 * 120/128.
    assert!((experts.touched(2) - 15.5).abs() < 1e-9);
    assert!(experts.touched(10_000) <= 128.0 && experts.touched(10_000) > 127.99);
    let reads =
        |tokens| preset("H200", "qwen3-30b-a3b", Setting::default()).roofline(tokens).weights_read_bytes;
    assert!(reads(1) < 0.13 * reads(1000), "{} {}", reads(1), reads(1000));
}

/// More of anything is never slower, for all models and many settings.
#[test]
fn more_is_never_slower() {
    type Better = fn(&mut Gpu);
    let betters: [Better; 3] =
        [|gpu| gpu.bandwidth_gb_s *= 1.5, |gpu| gpu.bf16_tflops *= 1.5, |gpu| gpu.link_gb_s *= 1.5];
    for gpu in Gpu::all() {
        for model in Model::all() {
            for tensor_parallel in [1, 2, 4] {
                let setting = on(tensor_parallel, None);
                let before = Preset::new(gpu.clone(), model.clone(), setting).unwrap();
                for better in betters {
                    let mut gpu = gpu.clone();
                    better(&mut gpu);
                    let after = Preset::new(gpu, model.clone(), setting).unwrap();
                    for batch in [1, 8, 64, 512] {
                        let (slow, fast) = (before.decode_speed(batch), after.decode_speed(batch));
                        assert!(fast.step_ms <= slow.step_ms, "{} {batch}", before.title());
                    }
                    assert!(after.prefill_speed().step_ms <= before.prefill_speed().step_ms);
                    assert_eq!(after.fit(), before.fit());
                }
                let mut larger = gpu.clone();
                larger.memory_mib += 1024;
                let larger = Preset::new(larger, model.clone(), setting).unwrap();
                assert!(larger.fit().kv_blocks >= before.fit().kv_blocks);
            }
        }
    }
}

#[test]
fn a_group_splits_weights_and_heads() {
    let fits = |width| preset("H100", "llama-3.1-70b", on(width, None)).fit();
    let (four, eight) = (fits(4), fits(8));
    assert_eq!(four.weights_bytes, eight.weights_bytes);
    assert_eq!(four.weights_bytes_per_gpu, 2.0 * eight.weights_bytes_per_gpu);
    assert_eq!(four.kv_bytes_per_token_per_gpu, 2.0 * eight.kv_bytes_per_token_per_gpu);
    // Beyond the 8 KV heads each GPU keeps a whole one.
    let sixteen = fits(16);
    assert_eq!(sixteen.kv_bytes_per_token_per_gpu, eight.kv_bytes_per_token_per_gpu);
    assert!(sixteen.weights_bytes_per_gpu > eight.weights_bytes_per_gpu / 2.0);
    // The group pays for talking: less than twice as fast, and over PCIe less still.
    let step = |gpu, width| preset(gpu, "qwen3-32b", on(width, None)).decode_speed(1).step_ms;
    for gpu in ["H100", "RTX PRO 6000"] {
        assert!(step(gpu, 2) < step(gpu, 1) && step(gpu, 2) > step(gpu, 1) / 2.0, "{gpu}");
    }
}

#[test]
fn what_does_not_fit_says_what_would() {
    let error = preset("H100", "llama-3.1-70b", on(1, None)).profile().unwrap_err();
    assert_eq!(error.key, "model");
    assert!(
        error.problem.contains("llama-3.1-70b in bf16 on H100 does not fit: 141.1 GB of weights"),
        "{error}"
    );
    assert!(error.problem.contains("77.0 GB may be used (0.9 of 85.5 GB)"), "{error}");
    // It says how tight that would be.
    let words = ["tensor_parallel = 2 (leaves ", "dtype = \"fp8\" (leaves ", "KV tokens) would fit"];
    assert!(words.iter().all(|words| error.help.contains(words)), "{error}");
    for (width, dtype) in [(2, None), (1, Some(Precision::Fp8))] {
        let fitting = preset("H100", "llama-3.1-70b", on(width, dtype));
        assert!(
            fitting.profile().is_ok() && error.help.contains(&fitting.fit().kv_tokens.to_string()),
            "{error}"
        );
    }
    let error = preset("RTX 3050", "gpt-oss-120b", on(1, None)).profile().unwrap_err();
    assert!(error.help.contains("tensor_parallel = "), "{error}");
}

#[test]
fn refusals() {
    let refused = |gpu: &str, model: &str, setting| {
        let error = Preset::named(gpu, model, Path::new(""), setting).unwrap_err();
        (error.key, error.to_string())
    };
    let usual = Setting::default();
    for (gpu, model, setting, key, words) in [
        ("H10O", "qwen3-14b", usual, "gpu", "did you mean `H100`?"),
        ("RTX 4900", "qwen3-14b", usual, "gpu", "did you mean `RTX 4090`?"),
        ("TPU v5e", "qwen3-14b", usual, "gpu", "known are `RTX 3050`"),
        ("", "qwen3-14b", usual, "gpu", "known are"),
        ("H100", "qwen3-14", usual, "model", "did you mean `qwen3-14b`?"),
        ("H100", "nowhere/config.json", usual, "model", "cannot read the model's config.json"),
        ("H100", "llama-3.1-8b", on(0, None), "tensor_parallel", "from 1 to 64"),
        ("H100", "llama-3.1-8b", on(3, None), "tensor_parallel", "give 1, 2, 4, 8, 16, 32"),
        (
            "H100",
            "llama-3.1-8b",
            Setting { memory_utilization: f64::NAN, ..usual },
            "memory_utilization",
            "above 0, up to 1",
        ),
        ("H100", "llama-3.1-8b", Setting { context_tokens: 0, ..usual }, "context_tokens", "from 1"),
    ] {
        let (found, text) = refused(gpu, model, setting);
        assert_eq!(found, key, "{text}");
        assert!(text.contains(words), "{text}");
    }
    assert!("fp6".parse::<Precision>().unwrap_err().to_string().contains("known are `bf16`"));
    assert!("int3".parse::<KvPrecision>().unwrap_err().to_string().contains("`fp8`"));
}

/// A format that the GPU's tensor cores lack saves memory, not operations.
#[test]
fn formats_that_the_gpu_lacks() {
    let token =
        |gpu, dtype| preset(gpu, "llama-3.1-8b", on(1, Some(dtype))).roofline(1).coefficients.c_tok_us;
    assert_eq!(token("A100-80", Precision::Fp8), token("A100-80", Precision::Bf16));
    assert!(token("H100", Precision::Fp8) < 0.51 * token("H100", Precision::Bf16));
    assert_eq!(token("H100", Precision::Nvfp4), token("H100", Precision::Bf16));
    // A quarter by the sheet; kernels were measured to reach half as much of it.
    assert!(token("B200", Precision::Nvfp4) < 0.55 * token("B200", Precision::Bf16));
}

/// The starts that the phases were laid through: totals within 6 %.
#[test]
fn recorded_starts() {
    // 32 layers and 13.48 GB: Llama-2-7B, 24.5 s warm (L40S); 48.0 s from disk, compiled code cached (H100 NVL).
    let start = preset("L40S", "llama-2-7b", Setting::default()).start_up(DISK_GB_PER_S);
    assert!((start.warm_s / 24.5 - 1.0).abs() < 0.06, "{start:?}");
    let [weights, compile] = ["weights", "compile"]
        .map(|name| start.phases.iter().find(|phase| phase.name == name).unwrap().clone());
    let from_disk = start.warm_s - weights.warm_s + weights.cold_s;
    assert!((from_disk / 48.0 - 1.0).abs() < 0.06, "{start:?}");
    // Qwen1.5-7B of as many layers compiled in 17.7 s.
    assert!((compile.cold_s / 17.73 - 1.0).abs() < 0.06, "{start:?}");
    assert!(start.cold_s > start.warm_s);
    let slower_disk = preset("L40S", "llama-2-7b", Setting::default()).start_up(0.1);
    assert!(slower_disk.cold_s > start.cold_s && slower_disk.warm_s == start.warm_s);
}
