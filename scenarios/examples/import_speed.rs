//! How fast trace files are read, on one core, beside a plain read of the same bytes.
//!
//! `cargo run --release -p slackwater-scenarios --example import_speed`
//!
//! The files are made here: 4 million Azure rows, 1 million Mooncake rows with 20 block ids each, plain and gzip. Each
//! figure is the best of three runs; files lie in the page cache.
#![allow(clippy::print_stdout)]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use slackwater_scenarios::{FileTraffic, Generator, Keyed, ReadOptions, Scenario, Traffic};

const AZURE_ROWS: u32 = 4_000_000;
const MOONCAKE_ROWS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("slackwater-import-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut csv = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n".to_owned();
    for row in 0..AZURE_ROWS {
        let (second, fraction) = (row / 50, row % 50 * 200_000);
        let (day, hour, minute) = (second / 86_400 + 10, second / 3600 % 24, second / 60 % 60);
        csv += &format!(
            "2024-05-{day:02} {hour:02}:{minute:02}:{:02}.{fraction:07},{},{}\r\n",
            second % 60,
            row * 7 % 4000 + 1,
            row * 13 % 600 + 1
        );
    }
    let mut jsonl = String::new();
    for row in 0..MOONCAKE_ROWS {
        let blocks: Vec<String> = (0..20).map(|block| (row * 20 + block).to_string()).collect();
        jsonl += &format!(
            "{{\"timestamp\": {}, \"input_length\": {}, \"output_length\": {}, \"hash_ids\": [{}]}}\n",
            row * 300,
            row * 7 % 10_000 + 1,
            row * 13 % 600 + 1,
            blocks.join(", ")
        );
    }
    for (name, text, rows) in [("azure.csv", &csv, AZURE_ROWS), ("mooncake.jsonl", &jsonl, MOONCAKE_ROWS)] {
        let plain = folder.join(name);
        std::fs::write(&plain, text)?;
        let zipped = folder.join(format!("{name}.gz"));
        let mut encoder =
            flate2::write::GzEncoder::new(std::fs::File::create(&zipped)?, flate2::Compression::default());
        encoder.write_all(text.as_bytes())?;
        encoder.finish()?;
        for path in [plain, zipped] {
            report(&path, rows)?;
        }
    }
    generator()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn report(path: &Path, rows: u32) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::metadata(path)?.len();
    let read = best(|| Ok(std::fs::read(path)?.len() as u64))?;
    let import = best(|| {
        let mut traffic = FileTraffic::open(path, ReadOptions::default())?;
        let mut checksum = 0_u64;
        while let Some(arrival) = traffic.next_arrival()? {
            checksum = checksum.rotate_left(5) ^ arrival.at_ps ^ u64::from(arrival.output_tokens);
        }
        assert_eq!(traffic.report().rows, u64::from(rows));
        Ok(checksum)
    })?;
    println!(
        "{:<20} {:6.1} MB  {:6.2} million rows/s  import {import:.3} s  plain read {read:.3} s",
        path.file_name().unwrap_or_default().to_string_lossy(),
        bytes as f64 / 1e6,
        f64::from(rows) / import / 1e6,
    );
    Ok(())
}

fn generator() -> Result<(), Box<dyn std::error::Error>> {
    let text = "[fleet]\nreplicas = 1\n[from]\nengine = 'h100-qwen3-14b'\n[traffic.generate]\nduration = '1d'\nrate_per_s = 20\narrivals = { gamma_cv = 2.0 }\n";
    let scenario = Scenario::parse(text, "speed.toml")?;
    let spec = scenario.traffic.generate.ok_or("generated")?;
    let mut count = 0;
    let seconds = best(|| {
        let mut traffic = Generator::new(&spec, 1.0, Keyed::new(1));
        let mut checksum = 0_u64;
        count = 0;
        while let Some(arrival) = traffic.next_arrival()? {
            checksum = checksum.rotate_left(5) ^ arrival.at_ps;
            count += 1;
        }
        Ok(checksum)
    })?;
    println!("generator            {:6.2} million arrivals/s", f64::from(count) / seconds / 1e6);
    Ok(())
}

/// Seconds of the best of three runs, which must agree on their checksum.
fn best(
    mut run: impl FnMut() -> Result<u64, Box<dyn std::error::Error>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let mut best = f64::INFINITY;
    let mut checksum = None;
    for _ in 0..3 {
        let start = Instant::now();
        let found = run()?;
        best = best.min(start.elapsed().as_secs_f64());
        assert_eq!(*checksum.get_or_insert(found), found);
    }
    Ok(best)
}
