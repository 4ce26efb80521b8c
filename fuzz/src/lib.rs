//! What the targets share.

use std::io::Write;

use slackwater_scenarios::{AssumeTokens, FileTraffic, Format, Lognormal, ReadOptions, Traffic};

/// All formats; `Auto` recognises one.
pub const FORMATS: [Format; 17] = [
    Format::Auto,
    Format::AzureCsv,
    Format::MooncakeJsonl,
    Format::BailianJsonl,
    Format::BurstgptCsv,
    Format::AiperfJsonl,
    Format::LitellmCsv,
    Format::NginxCombined,
    Format::NginxJson,
    Format::HaproxyHttp,
    Format::EnvoyText,
    Format::EnvoyJson,
    Format::RateCsv,
    Format::PrometheusJson,
    Format::OtlpJson,
    Format::VllmBenchJson,
    Format::TracelabJsonl,
];

/// A few requests of a drawn source are as good as millions of them, and sooner read.
const MOST: usize = 2_000;

/// Options by the bits of a byte.
#[must_use]
pub fn options(format: Format, flags: u8) -> ReadOptions {
    let bit = |place: u8| flags & (1 << place) != 0;
    // Rates have no bytes to estimate from.
    let drawn = if bit(5) { vec![Lognormal { weight: 1.0, median: 200.0, sigma: 1.0 }] } else { Vec::new() };
    ReadOptions {
        format,
        sort: bit(0),
        prefixes: bit(1),
        dequantise: bit(2),
        repeat: if bit(3) { 2 } else { 1 },
        rate_scale: if bit(4) { 0.01 } else { 1.0 },
        time_zone: bit(5).then(|| "Europe/Berlin".to_owned()),
        only: bit(6).then(|| "GPT-4".to_owned()),
        assume_tokens: (!bit(7)).then(|| AssumeTokens {
            input: drawn.clone(),
            output: drawn.clone(),
            bytes_per_input_token: drawn.is_empty().then_some(4.0),
            bytes_per_output_token: drawn.is_empty().then_some(200.0),
            max_input_tokens: 32_768,
            max_output_tokens: 32_768,
        }),
        ..ReadOptions::default()
    }
}

/// Reads a file to its end, or to its error, and checks what every import must keep.
///
/// # Panics
/// When it does not.
pub fn arrivals(bytes: &[u8], options: ReadOptions) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it can be written");
    let mut traffic = match FileTraffic::open(file.path(), options) {
        Ok(traffic) => traffic,
        Err(error) => {
            assert!(!error.problem.is_empty() && !error.help.is_empty());
            return;
        }
    };
    let (mut last_ps, mut count) = (0, 0_u64);
    for _ in 0..MOST {
        match traffic.next_arrival() {
            Ok(Some(arrival)) => {
                assert!(arrival.at_ps >= last_ps, "time goes back");
                assert!(arrival.input_tokens > 0 && arrival.output_tokens > 0);
                last_ps = arrival.at_ps;
                count += 1;
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.problem.is_empty() && !error.help.is_empty());
                break;
            }
        }
    }
    let report = traffic.report();
    assert_eq!(report.arrivals, count);
    assert!(report.span_s.is_finite());
    let _ = report.warnings();
}
