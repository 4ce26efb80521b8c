//! Rows made by hand, a fit that must come back, and the shared file.

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
        (refused(|row| row.concurrency = Some(2e8)), "requests in flight"),
        (refused(|row| row.concurrency = Some(f64::NAN)), "no concurrency"),
        (refused(|row| row.osl = Some(1.5)), "no osl"),
        (refused(|row| row.silicon_ttft_ms = Some(0.0)), "no silicon_ttft_ms"),
        (refused(|row| row.precision = Some("int2".into())), "weights in int2"),
    ] {
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
    assert!(
        refused(|row| {
            row.precision = Some("bf16".into());
            row.tp_size = Some(1.0);
        })
        .contains("does not fit")
    );
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

/// Rows that a preset itself "measured" at known efficiencies are said again, and the bandwidth is given back.
#[test]
fn a_fit_finds_what_made_its_rows() {
    let mut made = Efficiency::not_measured().reached;
    (made.bandwidth, made.flop, made.nvlink_all_reduce_us, made.front_end_ms) = (0.6, 0.4, 25.0, 40.0);
    let mut rows = Vec::new();
    for (model, width) in
        [("meta-llama/Llama-3.1-70B", 2.0), ("meta-llama/Llama-3.1-70B", 8.0), ("Qwen/Qwen3-32B", 1.0)]
    {
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
    let found = fit_factors(&loss, 200);
    println!("{found:?}");
    let start = Efficiency::not_measured().reached;
    let errors = |reached| {
        let compared: Vec<Compared> = said.iter().filter_map(|case| case.compare(&reached, 1)).collect();
        Errors::of(&compared).expect("rows")
    };
    let (before, after) = (errors(start), errors(found));
    assert!(before.tpot.median > 20.0 && before.ttft.median > 20.0, "{before:?}");
    assert!(after.tpot.median < 5.0 && after.ttft.median < 8.0, "{after:?}");
    assert!((found.bandwidth / made.bandwidth - 1.0).abs() < 0.06, "{found:?}");
    // What a token and what a request costs can stand in for each other where few rows tell them apart.
    assert!((found.flop / made.flop - 1.0).abs() < 0.25, "{found:?}");
}

#[test]
fn a_broken_file_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("silicon.csv");
    let head =
        "backend,model_path,system,precision,isl,osl,concurrency,tp_size,silicon_ttft_ms,silicon_tpot_ms";
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
        println!("{point:?}");
        let bounds = if point.profile == "preset" { PRESET_POINTS } else { (2.0, 1.5) };
        assert!(ttft < bounds.0 && tpot < bounds.1, "{point:?}");
    }
}

/// How far the preset may be off there, percent, before `docs/presets.md` is wrong: mean and p90 TTFT, mean TPOT.
const PRESET_POINTS: (f64, f64) = (55.0, 7.0);

fn shared() -> Option<PathBuf> {
    let name = "../../shared/data/validation/aiconfigurator_silicon_sample_vllm_sglang_agg.csv";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    path.exists().then_some(path)
}

type Published = (&'static str, &'static str, usize, [f64; 2], [f64; 2]);

/// What `docs/presets.md` says of the shared file, without the fits: group, models, rows, and median errors in percent of
/// the presets and of the one H100 fit (TPOT, TTFT).
const PUBLISHED: [Published; 5] = [
    ("Hopper", "bf16", 197, [6.9, 10.7], [16.6, 57.2]),
    ("Hopper", "fp8", 203, [17.1, 27.1], [32.2, 34.8]),
    ("Blackwell", "bf16", 66, [23.1, 56.7], [23.1, 56.7]),
    ("Blackwell", "fp4", 169, [10.5, 27.4], [31.8, 66.0]),
    ("Blackwell", "fp8", 221, [11.8, 19.8], [24.0, 67.5]),
];

#[test]
fn the_shared_file_gives_the_published_figures() {
    let Some(path) = shared() else {
        println!("aiconfigurator's table is not in ../shared/data/validation: not looked at");
        return;
    };
    let found =
        silicon(&path, SiliconOptions { refit: false, ..SiliconOptions::default() }).expect("readable");
    assert_eq!((found.rows, found.said, found.compared.len()), (2281, 1010, 1010));
    assert_eq!(found.refused.values().sum::<usize>(), 2281 - 1010, "{:?}", found.refused);
    assert_eq!(found.groups.len(), PUBLISHED.len());
    for (group, (generation, format, rows, presets, one_fit)) in found.groups.iter().zip(PUBLISHED) {
        assert_eq!((group.group.generation.name(), group.group.format.as_str()), (generation, format));
        for (errors, published) in [(group.presets, presets), (group.one_fit, one_fit)] {
            let errors = errors.expect("rows");
            println!("{generation} {format}: {errors:?}");
            assert_eq!(errors.rows, rows);
            for (median, published) in
                [(errors.tpot.median, published[0]), (errors.ttft.median, published[1])]
            {
                // Rounding, and what another platform's logarithm moves; not a change of the model.
                assert!((median - published).abs() < 0.6, "{generation} {format}: {median} {published}");
            }
        }
        // What the list says that it was fitted to is what the file has.
        let fitted = group.pairs_fitted.map_or(0, |errors| errors.rows);
        let other = group.pairs_not_fitted.map_or(0, |errors| errors.rows);
        assert_eq!(
            (fitted, other),
            if format == "bf16" && generation == "Blackwell" { (0, rows) } else { (rows, 0) }
        );
        assert_eq!(group.said.as_ref().map(|said| said.rows as usize), Some(rows));
        // The presets' list was written from this file: the same rows and models, and where no fit was better, this error.
        let entry = Efficiency::of(group.group.generation, format);
        let held_out = entry.held_out.expect("measured");
        assert_eq!((held_out.rows as usize, &held_out.models), (rows, &group.models));
        if entry.reached == Efficiency::not_measured().reached {
            assert!((held_out.tpot.median - one_fit[0]).abs() < 0.6, "{held_out:?}");
        } else {
            // A fit is better on what it has seen than on what it has not.
            assert!(presets[0] < held_out.tpot.median && presets[1] < held_out.ttft.median, "{held_out:?}");
        }
    }
}
