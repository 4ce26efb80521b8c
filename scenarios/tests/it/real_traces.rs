//! The real traces, where they lie beside the checkout; they are never copied into the project.

use std::path::PathBuf;

use slackwater_scenarios::{Arrival, FileTraffic, ReadOptions, SharedTrace};

fn real(name: &str) -> Option<SharedTrace> {
    real_with(name, ReadOptions::default())
}

fn real_with(name: &str, options: ReadOptions) -> Option<SharedTrace> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces")).join(name);
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    let source = FileTraffic::open(&path, options).unwrap_or_else(|error| panic!("{error}"));
    Some(SharedTrace::load_all(source).unwrap_or_else(|error| panic!("{error}")))
}

fn median(trace: &SharedTrace, pick: fn(&Arrival) -> u32) -> u32 {
    let mut lengths: Vec<u32> = trace.arrivals.iter().map(pick).collect();
    lengths.sort_unstable();
    lengths[lengths.len() / 2]
}

#[test]
fn azure_2023_conversation() {
    let Some(trace) = real("azure2023_conv.csv.gz") else { return };
    assert_eq!(trace.arrivals.len(), 19_366);
    assert!((trace.report.span_s - 3502.0).abs() < 1.0, "{}", trace.report.span_s);
    assert_eq!(median(&trace, |arrival| arrival.input_tokens), 1020);
    assert_eq!(median(&trace, |arrival| arrival.output_tokens), 129);
    let warnings = trace.report.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("UTC is assumed"), "{warnings:?}");
}

#[test]
fn azure_2023_code() {
    let Some(trace) = real("azure2023_code.csv.gz") else { return };
    assert_eq!(trace.arrivals.len(), 8_819);
    assert!((trace.report.span_s - 3436.0).abs() < 1.0, "{}", trace.report.span_s);
    assert_eq!(median(&trace, |arrival| arrival.output_tokens), 13);
}

#[test]
fn mooncake_conversation_is_quantised() {
    let Some(trace) = real("mooncake_conversation_trace.jsonl.gz") else { return };
    assert_eq!(trace.arrivals.len(), 12_031);
    assert!(trace.report.is_quantised());
    assert!((trace.report.mean_step_s - 3.0).abs() < 0.01, "{}", trace.report.mean_step_s);
    assert_eq!(median(&trace, |arrival| arrival.input_tokens), 6909);
    assert_eq!(median(&trace, |arrival| arrival.output_tokens), 350);
}

#[test]
fn mooncake_spread_is_no_longer_quantised() {
    let options = ReadOptions { dequantise: true, ..ReadOptions::default() };
    let Some(trace) = real_with("mooncake_conversation_trace.jsonl.gz", options) else { return };
    assert_eq!(trace.arrivals.len(), 12_031);
    assert!(!trace.report.is_quantised());
    // Independent arrivals have gaps whose deviation is their mean; as they lie in the file it is three times that.
    let gaps: Vec<f64> =
        trace.arrivals.windows(2).map(|pair| (pair[1].at_ps - pair[0].at_ps) as f64 / 1e12).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((0.9..1.2).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
}

#[test]
fn rates_of_a_week() {
    let only = |name: &str| ReadOptions { only: Some(name.into()), ..crate::import_formats::drawn() };
    let options = ReadOptions { rate_scale: 0.01, ..only("conv") };
    let Some(trace) = real_with("azure2024_week_rate_10min_digitised.csv.gz", options) else { return };
    // 45.1 a second for seven days, a hundredth of them.
    let expected = 0.451 * 7.0 * 86_400.0;
    assert!((trace.arrivals.len() as f64 / expected - 1.0).abs() < 0.02, "{}", trace.arrivals.len());
    assert!(trace.epoch_ns.is_some_and(|ns| (ns - 1_715_472_000_000_000_000).abs() < 60_000_000_000));
    let options = ReadOptions { rate_scale: 0.001, ..only("m-mid") };
    let Some(trace) = real_with("servegen_total_rate_10min.csv.gz", options) else { return };
    let expected = 1.79 * 14.0 * 86_400.0;
    assert!((trace.arrivals.len() as f64 / expected - 1.0).abs() < 0.02, "{}", trace.arrivals.len());
}

#[test]
fn tracelabs_rounds() {
    let options = ReadOptions { sort: true, ..ReadOptions::default() };
    let Some(trace) = real_with("tracelab_example_rounds.jsonl.gz", options) else { return };
    assert_eq!(trace.report.format, "tracelab-jsonl");
    assert_eq!(trace.report.rows, 19);
    assert!(trace.arrivals.iter().any(|arrival| arrival.input_tokens == 32_272));
}
