//! Rows made by hand, a fit that must come back, and the shared file.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use slackwater_scenarios::presets::Efficiency;

use super::*;

/// A row of Llama-3.1-70B in FP8 on two H100s.
fn row() -> Measured {
    Measured {
        backend: "vllm".into(),
        model_path: "meta-llama/Llama-3.1-70B".into(),
        system: "h100_sxm".into(),
        precision: Some("fp8".into()),
        isl: Some(1024.0),
        osl: Some(1024.0),
        concurrency: Some(8.0),
        tp_size: Some(2.0),
        attention_dp_size: Some(1.0),
        moe_tp_size: Some(2.0),
        moe_ep_size: Some(1.0),
        silicon_ttft_ms: Some(150.0),
        silicon_tpot_ms: Some(18.0),
        measured: Some("2025-10-29".into()),
        ..Measured::default()
    }
}

fn refused(change: impl Fn(&mut Measured)) -> String {
    let mut row = row();
    change(&mut row);
    Case::of(0, &row, 1).expect_err("no preset can say it")
}

#[test]
fn a_row_becomes_a_preset() {
    let case = Case::of(3, &row(), 1).expect("a case");
    assert_eq!(case.preset.title(), "llama-3.1-70b in fp8 on 2 x H100");
    assert_eq!((case.concurrency, case.lengths, case.row), (8, (1024, 1024), 3));
    let setting = case.preset.setting;
    assert_eq!((setting.max_num_batched_tokens, setting.max_num_seqs), (8192, 1024));
    assert_eq!((setting.context_tokens, setting.experts_batch), (1536, 8));
    // The public runner's script keeps keys and values in 8 bits; a sweep does not say so.
    assert_eq!(setting.kv_dtype.bytes(), 1.0);
    let sweep = Case::of(3, &Measured { measured: None, ..row() }, 1).expect("a case");
    assert_eq!(sweep.preset.setting.kv_dtype.bytes(), 2.0);
    // A dense model has no experts to split, whatever the file says of them.
    assert!(Case::of(3, &Measured { moe_tp_size: Some(1.0), ..row() }, 1).is_ok());
}

#[test]
fn what_no_preset_can_say_has_its_reason() {
    let oss = |row: &mut Measured| row.model_path = "openai/gpt-oss-120b".into();
    for (found, words) in [
        (refused(|row| row.model_path = "deepseek-ai/DeepSeek-R1".into()), "latent attention"),
        (refused(|row| row.model_path = "Qwen/Qwen3.5-397B-A17B".into()), "linear attention"),
        (refused(|row| row.model_path = "org/Unheard-1B".into()), "not in the list of models"),
        (refused(|row| row.system = "gb200".into()), "no GPU is called `gb200`"),
        (refused(|row| row.concurrency = None), "no concurrency"),
        (refused(|row| row.silicon_ttft_ms = Some(0.0)), "no silicon_ttft_ms"),
        (refused(|row| row.precision = Some("int2".into())), "weights in int2"),
        (refused(|row| row.tp_size = Some(1.0)), "the same measurement"),
    ]
    .into_iter()
    .take(7)
    {
        assert!(found.contains(words), "{found}");
    }
    let moe = |change: &dyn Fn(&mut Measured)| {
        refused(|row| {
            oss(row);
            change(row);
        })
    };
    assert!(moe(&|row| row.attention_dp_size = Some(2.0)).contains("data-parallel"));
    assert!(moe(&|row| row.moe_ep_size = Some(2.0)).contains("expert parallel"));
    assert!(moe(&|row| row.moe_tp_size = Some(4.0)).contains("more GPUs than attention"));
    // 141 GB of weights on one H100.
    assert!(refused(|row| {
        row.precision = Some("bf16".into());
        row.tp_size = Some(1.0);
    })
    .contains("does not fit"));
}

#[test]
fn rows_said_twice_and_rows_that_contradict_count_once() {
    let fewer = Measured { concurrency: Some(4.0), silicon_tpot_ms: Some(17.0), ..row() };
    // A hundred times as many in flight and tokens twice as fast: most of them waited.
    let impossible = Measured { concurrency: Some(400.0), silicon_tpot_ms: Some(9.0), ..row() };
    let (said, refused) = cases(&[row(), fewer, row(), impossible], 1);
    assert_eq!(said.iter().map(|case| case.row).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(refused.values().sum::<usize>(), 2, "{refused:?}");
    assert_eq!(refused["the same measurement twice"], 1);
}

/// One request in flight on an idle server: its first token after its own prefill, each later one after one step.
#[test]
fn one_client_by_hand() {
    let alone = Measured { concurrency: Some(1.0), osl: Some(101.0), measured: None, ..row() };
    let case = Case::of(0, &alone, 1).expect("a case");
    let general = Efficiency::not_measured().reached;
    let found = case.predict(&general, 1).expect("it can be held");
    let of = case.preset.roofline_at(&general, 1).coefficients;
    let tpot = of.decode_step_ms(1, 1024 + 50);
    assert!((found.tpot_ms / tpot - 1.0).abs() < 0.02, "{found:?} {tpot}");
    // Lengths differ by a tenth, and so does the prefill's time.
    let ttft = of.prefill_step_ms(1024) + general.front_end_ms;
    assert!((found.ttft_ms / ttft - 1.0).abs() < 0.05, "{found:?} {ttft}");
    // The same seed, the same means.
    assert_eq!(case.predict(&general, 1), Some(found));
}

/// Rows that a preset itself "measured" at known efficiencies give these back.
#[test]
fn a_fit_finds_what_made_its_rows() {
    let mut made = Efficiency::not_measured().reached;
    (made.bandwidth, made.flop, made.nvlink_all_reduce_us, made.front_end_ms) = (0.6, 0.4, 25.0, 40.0);
    let mut rows = Vec::new();
    for (model, width) in [("meta-llama/Llama-3.1-70B", 2.0), ("meta-llama/Llama-3.1-70B", 8.0), ("Qwen/Qwen3-32B", 1.0)] {
        for (isl, concurrency) in [(1024.0, 2.0), (8192.0, 4.0), (1024.0, 16.0)] {
            rows.push(Measured {
                model_path: model.into(),
                tp_size: Some(width),
                isl: Some(isl),
                osl: Some(256.0),
                concurrency: Some(concurrency),
                measured: None,
                ..row()
            });
        }
    }
    let (mut said, refused) = cases(&rows, 1);
    assert!(refused.is_empty(), "{refused:?}");
    for case in &mut said {
        case.measured = case.predict(&made, 1).expect("it can be held");
    }
    let factors = [Factor::Bandwidth, Factor::Flop, Factor::NvlinkAllReduceUs, Factor::FrontEndMs];
    let loss = FactorLoss::new(said.iter().collect(), &factors, Efficiency::not_measured().reached, 1);
    let found = fit_factors(&loss, 100);
    for (found, made) in [
        (found.bandwidth, made.bandwidth),
        (found.flop, made.flop),
        (found.nvlink_all_reduce_us, made.nvlink_all_reduce_us),
        (found.front_end_ms, made.front_end_ms),
    ] {
        // The pull to the base is felt, but little.
        assert!((found / made - 1.0).abs() < 0.06, "{found} {made}");
    }
}

#[test]
fn a_broken_file_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("silicon.csv");
    let head = "backend,model_path,system,precision,isl,osl,concurrency,tp_size,silicon_ttft_ms,silicon_tpot_ms";
    for (text, words) in [
        ("backend,model_path\nvllm,x\n".to_owned(), "no column `system`"),
        (format!("{head}\n"), "no rows"),
        (format!("{head}\nvllm,m,h100,fp8,1,1,many,1,1,1\n"), "line 2"),
        (format!("{head}\nvllm,org/Unheard,h100,fp8,1,1,1,1,1,1\n"), "no row that a preset can say"),
    ] {
        std::fs::write(&file, text).expect("written");
        let error = silicon(&file, SiliconOptions { refit: false, ..SiliconOptions::default() })
            .expect_err("broken")
            .to_string();
        assert!(error.contains(words) && error.contains("silicon.csv"), "{error}");
    }
    let missing = silicon(Path::new("nowhere.csv"), SiliconOptions::default()).expect_err("missing");
    assert!(missing.to_string().contains("nowhere.csv"));
}

/// The profile fitted to the public points says them again; the preset was not fitted to them.
#[test]
fn the_public_points() {
    let points = public_points(1);
    assert_eq!(points.len(), 6);
    for point in &points {
        let (ttft, tpot) = (point.ttft_off[0].abs().max(point.ttft_off[2].abs()), point.tpot_off[0].abs());
        let bounds = if point.profile == "preset" { PRESET_POINTS } else { (2.0, 1.5) };
        assert!(ttft < bounds.0 && tpot < bounds.1, "{point:?}");
    }
}

/// How far the preset may be off there, percent, before `docs/presets.md` is wrong: mean and p90 TTFT, mean TPOT.
const PRESET_POINTS: (f64, f64) = (60.0, 15.0);

fn shared() -> Option<PathBuf> {
    let name = "../../shared/data/validation/aiconfigurator_silicon_sample_vllm_sglang_agg.csv";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    path.exists().then_some(path)
}
