//! The real traces, where they lie beside the checkout; they are never copied into the project.

use std::path::PathBuf;

use slackwater_scenarios::{Arrival, FileTraffic, ReadOptions, SharedTrace};

fn real(name: &str) -> Option<SharedTrace> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces")).join(name);
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    let source = FileTraffic::open(&path, ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
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
