//! One format a test: what it reads, what it leaves out, what it refuses.

use slackwater_scenarios::{AssumeTokens, Format, Lognormal, ReadOptions, SharedTrace};

use crate::support::{arrival, load};

const SECOND: u64 = 1_000_000_000_000;
const MILLISECOND: u64 = SECOND / 1000;

fn read(text: &str) -> SharedTrace {
    load(text.as_bytes(), ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn refused(text: &str, options: ReadOptions, words: &[&str]) {
    let message = load(text.as_bytes(), options).expect_err("refused").to_string();
    for word in words.iter().chain(&["trace.in", "help: "]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

pub(crate) fn dropped(trace: &SharedTrace) -> Vec<(&str, u64, u64)> {
    trace.report.dropped.iter().map(|drop| (drop.reason.as_str(), drop.count, drop.first_row)).collect()
}

pub(crate) const BAILIAN: &str = r#"{"chat_id": 158, "parent_chat_id": -1, "timestamp": 60, "input_length": 600, "output_length": 10, "type": "text", "turn": 1, "hash_ids": [1, 2]}
{"chat_id": 159, "parent_chat_id": 55, "timestamp": 61.114, "input_length": 521, "output_length": 132, "type": "text", "turn": 2, "hash_ids": [1089, 1090, 1091]}
"#;

#[test]
fn bailian_counts_seconds() {
    let trace = read(BAILIAN);
    assert_eq!(trace.report.format, "bailian-jsonl");
    assert_eq!(&*trace.arrivals, [arrival(0, 600, 10), arrival(1114 * MILLISECOND, 521, 132)]);
    assert_eq!(trace.epoch_ns, None);
    refused(
        "{\"chat_id\": 1, \"timestamp\": 1, \"input_length\": 5, \"output_length\": 5}\n{\"timestamp\": \"x\"}\n",
        ReadOptions::default(),
        &["row 2", "seconds since the start", "\"chat_id\": 159"],
    );
}

#[test]
fn bailians_small_blocks_become_large_ones() {
    let row = |ids: std::ops::Range<u32>, last: u32| {
        let mut ids: Vec<u32> = ids.collect();
        ids.push(last);
        let length = ids.len() * 16;
        format!(
            "{{\"chat_id\": 1, \"timestamp\": 1, \"input_length\": {length}, \"output_length\": 5, \"hash_ids\": {ids:?}}}\n"
        )
    };
    // 33 blocks of 16: the first 32 are one block of 512, the last is the beginning of a second one.
    let text = [row(0..32, 77), row(0..32, 78), row(1..33, 77)].concat();
    let options = ReadOptions { prefixes: true, ..ReadOptions::default() };
    let prefixes = load(text.as_bytes(), options).unwrap().prefixes;
    assert_eq!((prefixes[0].len(), prefixes[1].len()), (2, 2));
    assert_eq!(prefixes[0][0], prefixes[1][0]);
    assert_ne!(prefixes[0][1], prefixes[1][1]);
    assert_ne!(prefixes[0][0], prefixes[2][0]);
}

pub(crate) const BURST_GPT: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,Conversation log
";

#[test]
fn burstgpt_counts_seconds_and_has_failures() {
    let trace = read(BURST_GPT);
    assert_eq!(trace.report.format, "burstgpt-csv");
    assert_eq!(&*trace.arrivals, [arrival(0, 472, 18), arrival(113 * SECOND, 417, 276)]);
    assert_eq!(dropped(&trace), [("no output tokens: the request failed", 1, 3)]);
    let only = ReadOptions { only: Some("GPT-4".into()), ..ReadOptions::default() };
    let trace = load(BURST_GPT.as_bytes(), only).unwrap();
    assert_eq!(&*trace.arrivals, [arrival(0, 417, 276)]);
    assert_eq!(dropped(&trace), [("it is not of what traffic.only names", 2, 2)]);
    refused(
        &format!("{BURST_GPT}noon,GPT-4,1,2,3,API log\n"),
        ReadOptions::default(),
        &["row 5", "Timestamp is `noon`"],
    );
    let zone = ReadOptions { time_zone: Some("+02:00".into()), ..ReadOptions::default() };
    refused(BURST_GPT, zone, &["a zero of their own", "leave traffic.time_zone out"]);
}

#[test]
fn burstgpts_later_release_has_columns_between() {
    let text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n1,7,2.5,GPT-4,10,20,30,Conversation log\n3,,1.5,GPT-4,11,21,32,API log\n";
    assert_eq!(&*read(text).arrivals, [arrival(0, 10, 20), arrival(2 * SECOND, 11, 21)]);
}

pub(crate) const AIPERF: &str = r#"{"timestamp": 0, "input_length": 512, "output_length": 128, "session_id": "a"}
{"timestamp": 120.5, "input_length": 1024, "output_length": 256, "hash_ids": [1, 2, 3]}
{"delay": 300, "input_length": 700, "output_length": 64, "session_id": "a"}
"#;

#[test]
fn aiperf_counts_milliseconds_and_delays() {
    let trace = read(AIPERF);
    assert_eq!(trace.report.format, "aiperf-jsonl");
    assert_eq!(
        &*trace.arrivals,
        [arrival(0, 512, 128), arrival(120_500_000_000, 1024, 256), arrival(300 * MILLISECOND, 700, 64)]
    );
    assert!(trace.report.warnings()[0].contains("1 turns have a delay"), "{:?}", trace.report.warnings());
}

#[test]
fn aiperf_rows_that_can_not_be_played() {
    for (row, words) in [
        (r#"{"timestamp": 5, "text_input": "hi"}"#, ["`text_input`", "tokenizer"]),
        (
            r#"{"timestamp": 5, "messages": [{"role": "user"}], "output_length": 5}"#,
            ["`messages`", "tokenizer"],
        ),
        (r#"{"timestamp": 5, "payload": {}}"#, ["`payload`", "tokenizer"]),
        (r#"{"timestamp": 5, "input_length": 5}"#, ["how many output tokens", "traffic.assume_tokens"]),
        (
            r#"{"input_length": 5, "output_length": 5}"#,
            ["neither `timestamp` nor `delay`", "traffic.generate"],
        ),
        (
            r#"{"delay": 5, "session_id": "b", "input_length": 5, "output_length": 5}"#,
            ["no turn of its session", "session_id"],
        ),
    ] {
        refused(&format!("{AIPERF}{row}\n"), ReadOptions::default(), &[words[0], words[1], "row 4"]);
        let alone = ReadOptions { format: Format::AiperfJsonl, ..ReadOptions::default() };
        refused(row, alone, &words);
    }
}

/// A stated estimate, with no spread so that it can be counted on.
pub(crate) fn assumed() -> AssumeTokens {
    AssumeTokens {
        input: vec![Lognormal { weight: 1.0, median: 800.0, sigma: 0.0 }],
        output: Vec::new(),
        bytes_per_input_token: None,
        bytes_per_output_token: Some(100.0),
        max_input_tokens: 32_768,
        max_output_tokens: 32_768,
    }
}

#[test]
fn a_missing_output_length_is_drawn_when_that_is_stated() {
    let mut tokens = assumed();
    tokens.bytes_per_output_token = None;
    tokens.output = vec![Lognormal { weight: 1.0, median: 200.0, sigma: 1.0 }];
    let options = |seed| ReadOptions { assume_tokens: Some(tokens.clone()), seed, ..ReadOptions::default() };
    let text: String =
        (0..50).map(|row| format!("{{\"timestamp\": {row}, \"input_length\": 9}}\n")).collect();
    let outputs = |seed| load(text.as_bytes(), options(seed)).unwrap();
    assert_eq!(outputs(1).arrivals, outputs(1).arrivals);
    assert_ne!(outputs(1).arrivals, outputs(2).arrivals);
    assert!(outputs(1).report.warnings()[0].contains("output tokens are not in the file"));
}

#[test]
fn a_grid_is_spread_within_its_ticks() {
    let mut text = String::new();
    for index in 0..1000 {
        // Ten requests in each tick of 3 s, one tick in ten empty.
        let tick = index / 10 + index / 90;
        text += &format!(
            "{{\"timestamp\": {}, \"input_length\": 9, \"output_length\": {}}}\n",
            tick * 3000,
            index + 1
        );
    }
    let raw = load(text.as_bytes(), ReadOptions::default()).unwrap();
    let options = ReadOptions { dequantise: true, seed: 3, ..ReadOptions::default() };
    let spread = load(text.as_bytes(), options.clone()).unwrap();
    assert_eq!(spread.arrivals, load(text.as_bytes(), options.clone()).unwrap().arrivals);
    assert!(!spread.report.is_quantised());
    assert!(spread.report.warnings()[0].contains("a grid of 3.000 s"), "{:?}", spread.report.warnings());
    // The first arrival is the zero, wherever in its tick it was put.
    let shift = spread.arrivals[10..].iter().zip(&raw.arrivals[10..]).map(|(moved, grid)| {
        assert_eq!(moved.output_tokens, grid.output_tokens);
        moved.at_ps as f64 - grid.at_ps as f64
    });
    let mean_s = shift.sum::<f64>() / 990.0 / 1e12;
    let first_s = 3.0 / 11.0;
    assert!((mean_s - (1.5 - first_s)).abs() < 0.5, "{mean_s}");
    assert!(spread.arrivals.windows(2).all(|pair| pair[0].at_ps <= pair[1].at_ps));
    let twice = load(text.as_bytes(), ReadOptions { repeat: 2, ..options }).unwrap();
    assert_eq!((twice.arrivals.len(), &twice.arrivals[..1000]), (2000, &*spread.arrivals));
    let no_grid = ReadOptions { dequantise: true, ..ReadOptions::default() };
    let trace = load(crate::support::MOONCAKE, no_grid).unwrap();
    assert!(trace.report.warnings()[0].contains("changes nothing"));
}

pub(crate) const RATES: &str =
    "time,rate\n2026-01-05 00:00:00,10\n2026-01-05 01:00:00,0\n2026-01-05 02:00:00,40\n";

pub(crate) fn drawn() -> ReadOptions {
    let mut tokens = assumed();
    tokens.bytes_per_output_token = None;
    tokens.output = tokens.input.clone();
    ReadOptions { assume_tokens: Some(tokens), seed: 5, ..ReadOptions::default() }
}

fn counts(trace: &SharedTrace, window_s: u64, windows: usize) -> Vec<usize> {
    let zero = u64::try_from(trace.epoch_ns.unwrap_or(0)).unwrap() % 3_600_000_000_000;
    let mut counts = vec![0; windows];
    for arrival in &*trace.arrivals {
        counts[usize::try_from((arrival.at_ps + zero * 1000) / (window_s * SECOND)).unwrap()] += 1;
    }
    counts
}

/// Within five standard deviations of a Poisson count.
fn is_poisson(count: usize, mean: f64) -> bool {
    (count as f64 - mean).abs() < 5.0 * mean.sqrt() + 1e-9
}

#[test]
fn rates_become_requests() {
    let trace = load(RATES.as_bytes(), drawn()).unwrap();
    assert_eq!((trace.report.format.as_str(), trace.report.rows), ("rate-csv", 3));
    let counts = counts(&trace, 3600, 3);
    assert!(
        is_poisson(counts[0], 36_000.0) && counts[1] == 0 && is_poisson(counts[2], 144_000.0),
        "{counts:?}"
    );
    assert_eq!(trace.epoch_ns.unwrap() / 3_600_000_000_000, 1_767_571_200 / 3600);
    // The same seed gives the same requests; a rate scale leaves the calendar alone.
    assert_eq!(load(RATES.as_bytes(), drawn()).unwrap().arrivals, trace.arrivals);
    let half = load(RATES.as_bytes(), ReadOptions { rate_scale: 0.5, ..drawn() }).unwrap();
    assert!(is_poisson(half.arrivals.len(), 90_000.0), "{}", half.arrivals.len());
    assert!((half.report.span_s - trace.report.span_s).abs() < 10.0);
    let warnings = trace.report.warnings().join("\n");
    assert!(warnings.contains("`rate` (requests a second)"), "{warnings}");
    refused(RATES, ReadOptions::default(), &["how many input tokens", "traffic.assume_tokens"]);
}

#[test]
fn the_unit_of_a_rate_is_in_its_name() {
    for (name, value) in
        [("rps", 10.0), ("requests_per_min", 600.0), ("requests_per_hour", 36_000.0), ("requests", 6000.0)]
    {
        let text = format!("t_s,{name}\n0,{value}\n600,0\n");
        let trace = load(text.as_bytes(), drawn()).unwrap();
        assert!(is_poisson(trace.arrivals.len(), 6000.0), "{name}: {}", trace.arrivals.len());
        assert_eq!(trace.epoch_ns, None);
    }
    refused("time,requests_per_fortnight\n0,1\n600,0\n", drawn(), &["not recognised"]);
}

#[test]
fn one_series_is_chosen() {
    let text = "service,window_start_utc,requests_per_min\ncode,2024-05-10T00:00:00Z,60\ncode,2024-05-10T00:10:00Z,0\nconv,2024-05-10T00:00:00Z,600\nconv,2024-05-10T00:10:00Z,0\n";
    refused(text, drawn(), &["row 4", "`code` and `conv`", "traffic.only = \"code\""]);
    for (name, mean) in [("code", 600.0), ("conv", 6000.0)] {
        let trace = load(text.as_bytes(), ReadOptions { only: Some(name.into()), ..drawn() }).unwrap();
        assert!(is_poisson(trace.arrivals.len(), mean), "{name}: {}", trace.arrivals.len());
    }
    refused(text, ReadOptions { only: Some("chat".into()), ..drawn() }, &["of the series `chat`"]);
    refused(RATES, ReadOptions { only: Some("chat".into()), ..drawn() }, &["no column `series`"]);
    refused(MOONCAKE, ReadOptions { only: Some("chat".into()), ..drawn() }, &["leave traffic.only out"]);
}

const MOONCAKE: &str = "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 5}\n";

#[test]
fn rates_that_are_none() {
    for (row, word) in [
        ("2026-01-05 03:00:00,-1", "a rate, zero or more"),
        ("2026-01-05 03:00:00,NaN", "a rate, zero or more"),
        ("2026-01-05 03:00:00,inf", "a rate, zero or more"),
        ("2026-01-05 02:00:00,1", "not after that of the row before"),
        ("noon,1", "time is `noon`"),
        ("2026-01-05 03:00:00", "1 fields"),
        ("2026-01-05 03:00:00,1e9\n2026-01-05 04:00:00,0", "check the unit"),
    ] {
        refused(&format!("{RATES}{row}\n"), drawn(), &[word]);
    }
    refused("time,rate\n2026-01-05 00:00:00,10\n", drawn(), &["one row only"]);
    refused("time,rate\n0,0\n600,0\n", drawn(), &["none of the"]);
}
