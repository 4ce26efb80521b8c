//! The times of CSV and log lines, and the zones that a user names: the first line is the zone, the others are times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slackwater_fuzz::{arrivals, options};
use slackwater_scenarios::{Format, ReadOptions};

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let zone = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut csv = b"TIMESTAMP,ContextTokens,GeneratedTokens\n".to_vec();
    let mut log = Vec::new();
    for time in lines {
        csv.extend_from_slice(&[time, b",5,5\n"].concat());
        log.extend_from_slice(&[b"10.0.0.1 - - [", time, b"] \"POST / HTTP/1.1\" 200 5 \"-\" \"-\"\n"].concat());
    }
    let time_zone = (!zone.is_empty()).then_some(zone);
    for (file, format) in [(csv, Format::AzureCsv), (log, Format::NginxCombined)] {
        arrivals(&file, ReadOptions { time_zone: time_zone.clone(), sort: true, ..options(format, 0) });
    }
});
