//! Arbitrary and mutated files never panic, and valid ones read back as they were written.

use proptest::prelude::*;
use slackwater_scenarios::{Arrival, FileTraffic, Format, ReadOptions, Scenario, Traffic};

use crate::import_formats::{AIPERF, BAILIAN, BURST_GPT, RATES, assumed};
use crate::import_logs::{COMBINED, ENVOY, ENVOY_JSON, HAPROXY, LITELLM, NGINX_JSON};
use crate::import_spans::{OTLP, TRACELAB, VLLM};
use crate::support::{AZURE_2023, AZURE_2024, MOONCAKE, SHORT, gzip, load, on_disk, zstd};

const CATALOG: [&str; 3] = [
    include_str!("../../catalog/four-gpu-chat.toml"),
    include_str!("../../catalog/peak-too-high.toml"),
    include_str!("../../catalog/reasoning-drain.toml"),
];

/// Bytes of a valid file with some places overwritten, cut or doubled.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0_u8..4, any::<u8>());
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut bytes = valid.clone();
        for (place, kind, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => drop(bytes.remove(place)),
                _ => bytes.truncate(place),
            }
        }
        bytes
    })
}

const FORMATS: [(Format, &str); 13] = [
    (Format::BailianJsonl, BAILIAN),
    (Format::BurstgptCsv, BURST_GPT),
    (Format::AiperfJsonl, AIPERF),
    (Format::LitellmCsv, LITELLM),
    (Format::NginxCombined, COMBINED),
    (Format::NginxJson, NGINX_JSON),
    (Format::HaproxyHttp, HAPROXY),
    (Format::EnvoyText, ENVOY),
    (Format::EnvoyJson, ENVOY_JSON),
    (Format::RateCsv, RATES),
    (Format::OtlpJson, OTLP),
    (Format::VllmBenchJson, VLLM),
    (Format::TracelabJsonl, TRACELAB),
];

/// Whatever the bytes: arrivals in order, or an error that names the file and a remedy.
fn read_somehow(bytes: &[u8]) {
    for format in [Format::Auto, Format::AzureCsv, Format::MooncakeJsonl] {
        read_as(bytes, format);
    }
}

fn read_as(bytes: &[u8], format: Format) {
    let file = on_disk(bytes);
    let mut tokens = assumed();
    tokens.bytes_per_output_token = None;
    tokens.output = tokens.input.clone();
    // A mutated rate may be a million a second for days: what is read is bounded.
    const MOST: usize = 2000;
    for (sort, dequantise) in [(false, false), (true, false), (false, true)] {
        if sort && format == Format::RateCsv {
            continue;
        }
        let assume_tokens = Some(tokens.clone());
        let options =
            ReadOptions { format, sort, dequantise, assume_tokens, prefixes: true, ..ReadOptions::default() };
        let read = FileTraffic::open(&file.path, options).and_then(|mut traffic| {
            let mut last_ps = 0;
            for _ in 0..MOST {
                let Some(arrival) = traffic.next_arrival()? else { break };
                assert!(arrival.at_ps >= last_ps && arrival.input_tokens > 0 && arrival.output_tokens > 0);
                last_ps = arrival.at_ps;
            }
            let _ = traffic.report().warnings();
            Ok(())
        });
        if let Err(error) = read {
            assert!(error.to_string().contains("trace.in") && !error.help.is_empty());
        }
    }
}

fn parse_somehow(text: &str) {
    match Scenario::parse(text, "some.toml") {
        Ok(scenario) => assert_eq!(Scenario::parse(&scenario.to_toml(), "some.toml").unwrap(), scenario),
        Err(error) => assert!(error.to_string().contains("some.toml:") && error.to_string().contains("help")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_somehow(&bytes);
        parse_somehow(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_azure_is_no_panic(bytes in mutated(AZURE_2023.to_vec()), more in mutated(AZURE_2024.to_vec())) {
        read_somehow(&bytes);
        read_somehow(&more);
    }

    #[test]
    fn mutated_mooncake_is_no_panic(bytes in mutated(MOONCAKE.to_vec())) {
        read_somehow(&bytes);
    }

    #[test]
    fn every_format_takes_any_bytes(
        (format, bytes) in prop::sample::select(FORMATS.to_vec())
            .prop_flat_map(|(format, text)| (Just(format), mutated(text.as_bytes().to_vec()))),
        other in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        read_as(&bytes, Format::Auto);
        read_as(&bytes, format);
        read_as(&other, format);
    }

    #[test]
    fn mutated_zstd_is_no_panic(bytes in mutated(zstd(AZURE_2023))) {
        read_somehow(&bytes);
    }

    #[test]
    fn mutated_gzip_is_no_panic(bytes in mutated(gzip(AZURE_2023))) {
        read_somehow(&bytes);
    }

    #[test]
    fn mutated_scenarios_are_no_panic(
        bytes in prop::sample::select(CATALOG.to_vec()).prop_flat_map(|text| mutated(text.as_bytes().to_vec()))
    ) {
        parse_somehow(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_scenarios_keys_hold_any_value(
        key in prop::sample::select(vec![
            "fleet.replicas", "fleet", "from.engine", "to.engine.c0_ms", "to.startup", "rollout.at_deadline",
            "rollout.start", "traffic.generate.input", "traffic.generate.input.0.sigma", "traffic.generate.hourly",
            "traffic.generate.rate_per_s", "traffic", "to", "engines.x", "slo.share", "seed", "rollout.order.0",
        ]),
        value in "[-+0-9a-z.\"'{}\\[\\]=, ]{0,20}",
    ) {
        let assignment = format!("{key}={value}");
        match Scenario::parse_with(SHORT, "some.toml", &[&assignment]) {
            Ok(scenario) => prop_assert_eq!(Scenario::parse(&scenario.to_toml(), "some.toml").unwrap(), scenario),
            Err(error) => prop_assert!(error.to_string().contains("help"), "{}", error),
        }
    }

    #[test]
    fn arbitrary_overrides_are_no_panic(assignment in "\\PC{0,40}") {
        let _ = Scenario::parse_with(SHORT, "some.toml", &[&assignment]);
    }

    #[test]
    fn valid_rows_read_back(rows in prop::collection::vec((0_u64..10_000_000, 1_u32..=1 << 24, 1_u32..=1 << 24), 1..50)) {
        let mut time_ms = 0;
        let (mut csv, mut jsonl) = ("TIMESTAMP,ContextTokens,GeneratedTokens\r\n".to_owned(), String::new());
        let mut expected = Vec::new();
        for (index, (gap_ms, input_tokens, output_tokens)) in rows.into_iter().enumerate() {
            time_ms += if index == 0 { 0 } else { gap_ms };
            let stamp = jiff::Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(time_ms).unwrap()).unwrap();
            csv += &format!("{},{input_tokens},{output_tokens}\r\n", stamp.strftime("%Y-%m-%d %H:%M:%S.%7f"));
            jsonl += &format!(
                "{{\"timestamp\": {time_ms}, \"input_length\": {input_tokens}, \"output_length\": {output_tokens}, \"hash_ids\": [1, 2]}}\n"
            );
            expected.push(Arrival { at_ps: time_ms * 1_000_000_000, input_tokens, output_tokens });
        }
        for text in [csv, jsonl] {
            let plain = load(text.as_bytes(), ReadOptions::default()).unwrap();
            prop_assert_eq!(&*plain.arrivals, &expected[..]);
            prop_assert_eq!(&*load(&gzip(text.as_bytes()), ReadOptions::default()).unwrap().arrivals, &expected[..]);
        }
    }
}
