//! How fast trace files are read, on one core, beside a plain read of the same bytes.
//!
//! `cargo run --release -p slackwater-scenarios --example import_speed`
//!
//! With `-- read FILE` it reads that file alone and prints the most memory that took.
//!
//! The files are made here: 4 million Azure rows, 1 million Mooncake rows with 20 block ids each, plain, gzip and zstd, and a
//! million rows of each further format. Each figure is the best of three runs, of the process' own time; files lie in the
//! page cache. A plain read unzips, and does nothing with the bytes.
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use slackwater_scenarios::{AssumeTokens, FileTraffic, Generator, Keyed, ReadOptions, Scenario, Traffic};

const AZURE_ROWS: u32 = 4_000_000;
const MOONCAKE_ROWS: u32 = 1_000_000;
const FURTHER_ROWS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, file] = &arguments[..]
        && command == "read"
    {
        let (_, rows) = import(Path::new(file))?;
        println!("{rows} rows, {}", most_memory());
        return Ok(());
    }
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
        let packed = folder.join(format!("{name}.zst"));
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        std::fs::write(&packed, ruzstd::encoding::compress_to_vec(text.as_bytes(), level))?;
        for path in [plain, zipped, packed] {
            report(&path, rows)?;
        }
    }
    // A twentieth of the rows, for the memory: it must not grow with the file.
    let few: String = csv.split_inclusive('\n').take(AZURE_ROWS as usize / 20 + 1).collect();
    let path = folder.join("azure-1-in-20.csv");
    std::fs::write(&path, few)?;
    report(&path, AZURE_ROWS / 20)?;
    for (name, text) in further() {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        report(&path, FURTHER_ROWS)?;
    }
    generator()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The further formats' files: a hundred requests a second, logged up to ten seconds after they began.
fn further() -> Vec<(&'static str, String)> {
    type Write = fn(u32) -> String;
    let clock = |row: u32| format!("{:02}:{:02}:{:02}", row / 360_000, row / 6000 % 60, row / 100 % 60);
    let mut files: Vec<(&str, String)> = Vec::new();
    let formats: [(&str, &str, Write); 4] = [
        ("burstgpt.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n", |row| {
            format!("{}.{:02},GPT-4,{},{},9,API log\n", row / 100, row % 100, row % 4000 + 1, row % 600 + 1)
        }),
        ("bailian.jsonl", "", |row| {
            let (second, part) = (row / 100, row % 100);
            format!(
                "{{\"chat_id\": {row}, \"parent_chat_id\": -1, \"timestamp\": {second}.{part:02}, \"input_length\": {}, \"output_length\": {}, \"type\": \"text\", \"turn\": 1}}\n",
                row % 4000 + 1,
                row % 600 + 1
            )
        }),
        ("aiperf.jsonl", "", |row| {
            format!(
                "{{\"timestamp\": {}, \"input_length\": {}, \"output_length\": {}, \"session_id\": \"s{}\"}}\n",
                row * 10,
                row % 4000 + 1,
                row % 600 + 1,
                row % 1000
            )
        }),
        ("nginx.jsonl", "", |row| {
            format!(
                "{{\"msec\": \"{}.{:02}0\", \"request_time\": \"{}.{:03}\", \"status\": 200, \"request\": \"POST /v1/completions HTTP/1.1\", \"request_length\": {}, \"body_bytes_sent\": {}}}\n",
                1_767_603_600 + row / 100,
                row % 100,
                row % 1000 * 7919 % 10,
                row % 1000 * 7919 % 1000,
                row % 9000 + 1,
                row % 90_000 + 1
            )
        }),
    ];
    for (name, header, write) in formats {
        files.push((name, header.to_owned() + &(0..FURTHER_ROWS).map(write).collect::<String>()));
    }
    let combined = (0..FURTHER_ROWS).map(|row| {
        let clock = clock(row);
        format!("10.0.0.1 - - [05/Jan/2026:{clock} +0000] \"POST /v1/completions HTTP/1.1\" 200 {} \"-\" \"agent\" 1234 {}.250\n", row % 9000, row % 10)
    });
    files.push(("nginx.log", combined.collect()));
    let litellm = (0..FURTHER_ROWS).map(|row| {
        let clock = clock(row);
        format!(
            "{row},acompletion,2026-01-05 {clock}.123,2026-01-05 {clock}.900,{},{},\"m\",success,False\n",
            row % 4000 + 1,
            row % 600 + 1
        )
    });
    let header =
        "request_id,call_type,startTime,endTime,prompt_tokens,completion_tokens,model,status,cache_hit\n";
    files.push(("litellm.csv", header.to_owned() + &litellm.collect::<String>()));
    files
}

fn report(path: &Path, rows: u32) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::metadata(path)?.len();
    let read = best(|| plain_read(path))?;
    let import = best(|| {
        let (checksum, read) = import(path)?;
        assert_eq!(read, u64::from(rows));
        Ok(checksum)
    })?;
    let memory = Command::new(std::env::current_exe()?).arg("read").arg(path).output()?;
    let memory = String::from_utf8_lossy(&memory.stdout);
    println!(
        "{:<20} {:6.1} MB  {:6.2} million rows/s  import {import:.3} s  plain read {read:.3} s  {}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        bytes as f64 / 1e6,
        f64::from(rows) / import / 1e6,
        memory.trim().split(", ").last().unwrap_or_default(),
    );
    Ok(())
}

/// The file's bytes, unzipped, and nothing else done with them.
fn plain_read(path: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let file = std::io::BufReader::with_capacity(1 << 16, std::fs::File::open(path)?);
    let mut bytes: Box<dyn Read> = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(ruzstd::decoding::StreamingDecoder::new(file)?),
        _ => Box::new(file),
    };
    let mut block = vec![0; 1 << 16];
    let mut sum = 0;
    loop {
        match bytes.read(&mut block)? {
            0 => return Ok(sum),
            count => sum += count as u64,
        }
    }
}

/// Seconds this process has worked: of the clock on the wall where the system does not say, so that others' work on the same
/// core does not count.
fn worked_s(began: Instant) -> f64 {
    let scheduled = std::fs::read_to_string("/proc/self/schedstat").ok();
    let ns = scheduled.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    ns.map_or_else(|| began.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// The most memory this process ever had, as Linux says it.
fn most_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map_or_else(|| "memory not known".to_owned(), |kib| format!("at most {:.1} MB of memory", kib / 1e3))
}

/// Reads a file to its end: a checksum of its arrivals, and its rows.
fn import(path: &Path) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let assume_tokens = Some(AssumeTokens {
        input: Vec::new(),
        output: Vec::new(),
        bytes_per_input_token: Some(4.0),
        bytes_per_output_token: Some(200.0),
        max_input_tokens: 32_768,
        max_output_tokens: 32_768,
    });
    let mut traffic = FileTraffic::open(path, ReadOptions { assume_tokens, ..ReadOptions::default() })?;
    let mut checksum = 0_u64;
    while let Some(arrival) = traffic.next_arrival()? {
        checksum = checksum.rotate_left(5) ^ arrival.at_ps ^ u64::from(arrival.output_tokens);
    }
    Ok((checksum, traffic.report().rows))
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

/// Seconds of work of the best of three runs, which must agree on their checksum.
fn best(
    mut run: impl FnMut() -> Result<u64, Box<dyn std::error::Error>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let mut best = f64::INFINITY;
    let mut checksum = None;
    for _ in 0..3 {
        let before = worked_s(began);
        let found = run()?;
        best = best.min(worked_s(began) - before);
        assert_eq!(*checksum.get_or_insert(found), found);
    }
    Ok(best)
}
