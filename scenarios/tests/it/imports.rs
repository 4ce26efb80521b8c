//! What the importers read.

use slackwater_scenarios::{FileTraffic, Format, ReadOptions, SharedTrace, Traffic};

use crate::support::{AZURE_2023, AZURE_2024, MOONCAKE, arrival, gzip, load, on_disk, zstd};

#[test]
fn azure_2023_has_no_zone_and_seven_digits() {
    let trace = load(AZURE_2023, ReadOptions::default()).unwrap();
    assert_eq!(
        &*trace.arrivals,
        [arrival(0, 374, 44), arrival(4_314_579_000_000, 396, 109), arrival(4_541_877_000_000, 879, 55)]
    );
    assert_eq!(trace.epoch_ns, Some(1_700_158_546_680_590_000));
    assert_eq!((trace.report.rows, trace.report.arrivals, trace.report.format.as_str()), (3, 3, "azure-csv"));
    assert!((trace.report.span_s - 4.541_877).abs() < 1e-9);
}

#[test]
fn azure_2024_has_a_zone_and_whole_seconds() {
    let trace = load(AZURE_2024, ReadOptions::default()).unwrap();
    assert_eq!(&*trace.arrivals, [arrival(0, 2162, 5), arrival(9_930_000_000, 2399, 6)]);
}

#[test]
fn azure_columns_are_found_by_name() {
    let text = b"NumImages,GeneratedTokens,TIMESTAMP,ContextTokens\n1,5,2024-10-15T00:00:00.123Z,\"70\"\n";
    let trace = load(text, ReadOptions::default()).unwrap();
    assert_eq!(&*trace.arrivals, [arrival(0, 70, 5)]);
}

#[test]
fn mooncake_counts_milliseconds_from_its_own_zero() {
    let trace = load(MOONCAKE, ReadOptions::default()).unwrap();
    assert_eq!(&*trace.arrivals, [arrival(0, 6955, 52), arrival(3_053_000_000_000, 6472, 26)]);
    assert_eq!((trace.epoch_ns, trace.report.format.as_str()), (None, "mooncake-jsonl"));
}

#[test]
fn fractions_of_a_millisecond_must_be_asked_for() {
    let text = b"{\"timestamp\": 1.5, \"input_length\": 1, \"output_length\": 2}\n{\"timestamp\": 2.25, \"input_length\": 1, \"output_length\": 2}";
    let refused = load(text, ReadOptions::default()).unwrap_err().to_string();
    for word in
        ["may be of 2 formats", "traffic.format = \"aiperf-jsonl\"", "traffic.format = \"bailian-jsonl\""]
    {
        assert!(refused.contains(word), "{refused}");
    }
    let asked = ReadOptions { format: Format::MooncakeJsonl, ..ReadOptions::default() };
    assert_eq!(load(text, asked).unwrap().arrivals[1], arrival(750_000_000, 1, 2));
}

#[test]
fn gzip_is_known_by_its_magic_bytes_and_may_have_members() {
    let plain = load(AZURE_2023, ReadOptions::default()).unwrap();
    let (first, second) = AZURE_2023.split_at(60);
    let members = [gzip(first), gzip(second)].concat();
    for bytes in [gzip(AZURE_2023), members] {
        let trace = load(&bytes, ReadOptions::default()).unwrap();
        assert_eq!(trace.arrivals, plain.arrivals);
        assert_ne!(trace.report.sha256, plain.report.sha256);
    }
}

#[test]
fn the_hash_is_that_of_the_bytes_on_disk() {
    use sha2::{Digest, Sha256};
    for bytes in [AZURE_2023.to_vec(), gzip(AZURE_2023), MOONCAKE.to_vec()] {
        let expected: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(load(&bytes, ReadOptions::default()).unwrap().report.sha256, expected);
    }
}

#[test]
fn a_byte_order_mark_and_blank_lines_are_no_rows() {
    let azure = [b"\xef\xbb\xbf", AZURE_2024, b"\n\n"].concat();
    assert_eq!(load(&azure, ReadOptions::default()).unwrap().arrivals.len(), 2);
    let mooncake = [b"\xef\xbb\xbf\n", MOONCAKE, b"\n \n"].concat();
    assert_eq!(load(&mooncake, ReadOptions::default()).unwrap().arrivals.len(), 2);
}

#[test]
fn failed_requests_are_left_out_and_counted() {
    let text = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,5,0\n2024-05-10 00:00:01,0,7\n2024-05-10 00:00:02,3,4\n2024-05-10 00:00:03,3,0\n";
    let trace = load(text, ReadOptions::default()).unwrap();
    assert_eq!(&*trace.arrivals, [arrival(0, 3, 4)]);
    let dropped: Vec<_> =
        trace.report.dropped.iter().map(|dropped| (dropped.count, dropped.first_row)).collect();
    assert_eq!(dropped, [(1, 3), (2, 2)]);
    // And one of times without a zone.
    assert_eq!(trace.report.warnings().len(), 3);
}

#[test]
fn sorting_must_be_asked_for_and_is_counted() {
    let text = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:05,1,1\n2024-05-10 00:00:03,2,2\n2024-05-10 00:00:05,3,3\n";
    let sorted = load(text, ReadOptions { sort: true, ..ReadOptions::default() }).unwrap();
    let second = 1_000_000_000_000;
    assert_eq!(&*sorted.arrivals, [arrival(0, 2, 2), arrival(2 * second, 1, 1), arrival(2 * second, 3, 3)]);
    assert_eq!(sorted.report.reordered, 1);
    assert!(load(text, ReadOptions::default()).unwrap_err().to_string().contains("traffic.sort = true"));
}

#[test]
fn a_rate_scale_speeds_time_up() {
    let trace = load(AZURE_2023, ReadOptions { rate_scale: 2.0, ..ReadOptions::default() }).unwrap();
    assert_eq!(trace.arrivals[1], arrival(2_157_289_500_000, 396, 109));
}

#[test]
fn repeats_follow_each_other_a_mean_gap_apart() {
    let trace = load(MOONCAKE, ReadOptions { repeat: 3, ..ReadOptions::default() }).unwrap();
    let times: Vec<u64> = trace.arrivals.iter().map(|arrival| arrival.at_ps / 1_000_000_000).collect();
    assert_eq!(times, [0, 3053, 6106, 9159, 12_212, 15_265]);
}

#[test]
fn quantised_arrivals_are_said() {
    let mut text = String::new();
    for index in 0..100 {
        text +=
            &format!("{{\"timestamp\": {}, \"input_length\": 9, \"output_length\": 9}}\n", index / 10 * 3000);
    }
    let report = load(text.as_bytes(), ReadOptions::default()).unwrap().report;
    assert!(report.is_quantised());
    assert!(report.warnings()[0].contains("ticks are 3.000 s apart"), "{:?}", report.warnings());
}

#[test]
fn streaming_and_loading_give_the_same() {
    let file = on_disk(AZURE_2023);
    let mut stream = FileTraffic::open(&file.path, ReadOptions::default()).unwrap();
    let mut streamed = Vec::new();
    while let Some(arrival) = stream.next_arrival().unwrap() {
        streamed.push(arrival);
    }
    assert_eq!(stream.next_arrival().unwrap(), None);
    let loaded =
        SharedTrace::load_all(FileTraffic::open(&file.path, ReadOptions::default()).unwrap()).unwrap();
    assert_eq!(*loaded.arrivals, *streamed);
    assert_eq!(loaded.report, stream.report());
}

/// What the prompts begin with comes beside the arrivals, in the order of the arrivals, when it is asked for.
#[test]
fn a_trace_names_what_its_prompts_begin_with() {
    let text = b"{\"timestamp\": 20, \"input_length\": 700, \"output_length\": 5, \"hash_ids\": [1, 2]}\n{\"timestamp\": 10, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [1, 3]}\n{\"timestamp\": 30, \"input_length\": 9, \"output_length\": 5}\n";
    let asked = ReadOptions { sort: true, prefixes: true, ..ReadOptions::default() };
    let named =
        |options| load(text, options).unwrap().prefixes.iter().map(|ids| ids.to_vec()).collect::<Vec<_>>();
    assert_eq!(named(asked.clone()), [vec![1, 3], vec![1, 2], vec![]]);
    assert!(named(ReadOptions { prefixes: false, ..asked.clone() }).is_empty(), "not asked for");
    // Played again, other people ask other things, but share them as before.
    let again = named(ReadOptions { repeat: 2, ..asked.clone() });
    assert_eq!(again[..3], named(asked.clone()));
    assert_eq!(again[3][0], again[4][0]);
    assert!(!again[3].contains(&1) && again[3][1] != again[4][1]);
    let bad = b"{\"timestamp\": 20, \"input_length\": 700, \"output_length\": 5, \"hash_ids\": [1, -2]}\n";
    let message = load(bad, asked).unwrap_err().to_string();
    assert!(message.contains("-2"), "{message}");
}

#[test]
fn zstd_is_known_by_its_magic_bytes_and_may_have_frames() {
    let plain = load(AZURE_2023, ReadOptions::default()).unwrap();
    let (first, second) = AZURE_2023.split_at(60);
    // A frame that holds no data, as parallel encoders write them.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0], &b"abc"[..]].concat();
    for bytes in [zstd(AZURE_2023), [zstd(first), skipped.clone(), zstd(second), skipped].concat()] {
        assert_eq!(load(&bytes, ReadOptions::default()).unwrap().arrivals, plain.arrivals);
    }
    let whole = zstd(AZURE_2023);
    for end in 4..whole.len() {
        let message = load(&whole[..end], ReadOptions::default()).unwrap_err().to_string();
        assert!(message.contains("zstd -t"), "{end}: {message}");
    }
    let mut damaged = whole;
    *damaged.last_mut().unwrap() ^= 0x55;
    assert!(load(&damaged, ReadOptions::default()).unwrap_err().to_string().contains("checksum"));
}
