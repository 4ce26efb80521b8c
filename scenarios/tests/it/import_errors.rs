//! Bad traffic files: file, row, reason, remedy; never a panic, never silence.

use slackwater_scenarios::{FileTraffic, Format, ReadOptions, SharedTrace};

use crate::support::{AZURE_2023, MOONCAKE, gzip, load, on_disk};

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
const GOOD: &str = "2024-05-10 00:00:00,5,6\n";

fn message(bytes: &[u8], options: ReadOptions) -> String {
    let error = load(bytes, options).expect_err("the file is bad");
    let message = error.to_string();
    assert!(message.contains("trace.in"), "no file in: {message}");
    assert!(message.contains("help: ") && error.help.len() > 10, "no remedy in: {message}");
    message
}

fn check(bytes: &[u8], row: u64, word: &str) {
    let message = message(bytes, ReadOptions::default());
    assert!(message.contains(&format!(", row {row}: ")), "not row {row}: {message}");
    assert!(message.contains(word), "`{word}` is not in: {message}");
}

#[test]
fn azure_rows() {
    for (row, word) in [
        ("2024-05-10 00:00:01,NaN,6", "`NaN`, not a whole number"),
        ("2024-05-10 00:00:01,-5,6", "`-5`, not a whole number"),
        ("2024-05-10 00:00:01,5,6.5", "`6.5`, not a whole number"),
        ("2024-05-10 00:00:01,5,", "GeneratedTokens is ``"),
        ("2024-05-10 00:00:01,99999999999999999999999999,6", "not a whole number"),
        ("2024-05-10 00:00:01,4294967296,6", "4294967296 tokens in one request"),
        ("2024-05-10 00:00:01,16777217,6", "16777217 tokens"),
        ("2024-05-10 00:00:01,5", "2 fields, but the header names 3"),
        ("2024-05-10 00:00:01,5,6,7", "4 fields, but the header names 3"),
        ("2024-05-10 00:0", "1 fields"),
        ("yesterday,5,6", "TIMESTAMP is `yesterday`"),
        ("2024-05-10 00:00:61,5,6", "not a time"),
        ("1524-05-10 00:00:00,5,6", "not a time"),
        ("2024-05-09 23:59:59,5,6", "1.000000 s before"),
        ("2025-05-10 00:00:00,5,6", "more than 200 days"),
        ("\"2024-05-10 00:00:01,5,6", "TIMESTAMP is"),
    ] {
        check(format!("{HEADER}{GOOD}{row}\n{GOOD}").as_bytes(), 3, word);
    }
    let mut invalid = format!("{HEADER}{GOOD}").into_bytes();
    invalid.extend(b"2024-05-10 00:00:01,\xff\xfe,6\n");
    check(&invalid, 3, "not a whole number");
}

#[test]
fn mooncake_rows() {
    let good = "{\"timestamp\": 5, \"input_length\": 5, \"output_length\": 5}\n";
    for (row, word) in [
        ("{\"timestamp\": NaN, \"input_length\": 5, \"output_length\": 5}", "expected value"),
        ("{\"timestamp\": -6, \"input_length\": 5, \"output_length\": 5}", "not negative"),
        ("{\"timestamp\": 1e300, \"input_length\": 5, \"output_length\": 5}", "milliseconds"),
        ("{\"timestamp\": 18446744073709551615, \"input_length\": 5, \"output_length\": 5}", "milliseconds"),
        ("{\"timestamp\": 17280000006, \"input_length\": 5, \"output_length\": 5}", "more than 200 days"),
        ("{\"timestamp\": \"6\", \"input_length\": 5, \"output_length\": 5}", "invalid type: string"),
        ("{\"timestamp\": 6, \"input_length\": -5, \"output_length\": 5}", "-5"),
        ("{\"timestamp\": 6, \"input_length\": 5.5, \"output_length\": 5}", "5.5"),
        ("{\"timestamp\": 6, \"input_length\": 5, \"output_length\": 99999999999}", "99999999999 tokens"),
        ("{\"timestamp\": 6, \"input_length\": 5}", "missing field `output_length`"),
        ("{\"timestamp\": 6, \"input_length\": 5, \"outp", "the line is cut off"),
        ("[6, 5, 5", "the line is cut off"),
        ("null", "invalid type"),
        ("{\"timestamp\": 4, \"input_length\": 5, \"output_length\": 5}", "0.001000 s before"),
        ("hello", "expected value"),
    ] {
        check(format!("{good}{row}\n{good}").as_bytes(), 2, word);
    }
    let mut invalid = good.as_bytes().to_vec();
    invalid.extend(b"{\"timestamp\": 6, \"inp\xfft_length\": 5, \"output_length\": 5}\n");
    check(&invalid, 2, "column");
}

#[test]
fn whole_files() {
    check(b"", 1, "the file is empty");
    check(b"\n\n  \n", 1, "the file is empty");
    check(HEADER.as_bytes(), 1, "the file has no rows");
    check(format!("{HEADER}2024-05-10 00:00:00,5,0\n").as_bytes(), 2, "none of the 1 rows is a request");
    check(b"a,b,c\n1,2,3\n", 1, "not recognised; the first line is `a,b,c`");
    check(b"\x00\xff\xfe\x01binary", 1, "not recognised");
    check(&gzip(b""), 1, "the file is empty");
}

#[test]
fn a_format_asked_for_must_be_that_of_the_file() {
    let azure = ReadOptions { format: Format::AzureCsv, ..ReadOptions::default() };
    let text = message(b"TIMESTAMP,ContextTokens\n1,2\n", azure.clone());
    assert!(text.contains("no column `GeneratedTokens`"), "{text}");
    assert!(message(MOONCAKE, azure).contains("no column `TIMESTAMP`"));
    let mooncake = ReadOptions { format: Format::MooncakeJsonl, ..ReadOptions::default() };
    assert!(message(AZURE_2023, mooncake).contains("expected value"));
}

#[test]
fn a_gzip_file_cut_off_anywhere_is_an_error() {
    for whole in [gzip(AZURE_2023), gzip(MOONCAKE)] {
        for length in 2..whole.len() {
            let message = message(&whole[..length], ReadOptions::default());
            assert!(
                message.contains("ends too early") && message.contains("fetch it again"),
                "{length}: {message}"
            );
        }
    }
}

#[test]
fn damaged_gzip_data_is_an_error() {
    let mut damaged = gzip(AZURE_2023);
    let middle = damaged.len() - 6;
    damaged[middle] ^= 0x55;
    assert!(message(&damaged, ReadOptions::default()).contains("gzip"));
}

#[test]
fn an_endless_line_is_refused_before_it_is_in_memory() {
    let endless = vec![b'7'; 8 << 20];
    let zipped = gzip(&endless);
    for bytes in [&endless, &zipped] {
        check(bytes, 1, "longer than 1048576 bytes");
    }
    for start in [format!("{HEADER}{GOOD}"), String::from_utf8(MOONCAKE.to_vec()).unwrap()] {
        let text = [start.as_bytes(), &endless].concat();
        check(&text, 3, "longer than 1048576 bytes");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let Err(error) = FileTraffic::open("no/such/trace.csv", ReadOptions::default()) else { panic!("opened") };
    let text = error.to_string();
    assert!(
        text.contains("no/such/trace.csv") && text.contains("cannot open") && text.contains("help:"),
        "{text}"
    );
    let folder = on_disk(b"");
    let Err(error) = FileTraffic::open(folder.path.parent().unwrap(), ReadOptions::default()) else {
        panic!("opened")
    };
    assert!(error.to_string().contains("cannot read"), "{error}");
}

#[test]
fn too_many_repeats_are_an_error_not_an_overflow() {
    let file = on_disk(b"{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 5}\n{\"timestamp\": 9000000000, \"input_length\": 5, \"output_length\": 5}\n");
    let options = ReadOptions { repeat: u32::MAX, ..ReadOptions::default() };
    let error = SharedTrace::load_all(FileTraffic::open(&file.path, options).unwrap()).unwrap_err();
    assert!(error.to_string().contains("200 days"), "{error}");
}
