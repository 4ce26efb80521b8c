//! Files on disk for the importers.

use std::io::Write;
use std::path::PathBuf;

use slackwater_scenarios::{Arrival, FileTraffic, ReadOptions, SharedTrace, TraceError};
use tempfile::TempDir;

/// The smallest scenario.
pub(crate) const SHORT: &str = r#"
[fleet]
replicas = 4
[from]
engine = "h100-qwen3-14b"
[traffic.generate]
duration = "1h"
rate_per_s = 5
"#;

pub(crate) const AZURE_2023: &[u8] = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n2023-11-16 18:15:51.2224670,879,55";
pub(crate) const AZURE_2024: &[u8] = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00+00:00,2162,5\n2024-05-10 00:00:00.009930+00:00,2399,6\n";
pub(crate) const MOONCAKE: &[u8] = b"{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47]}\n{\"timestamp\": 30535, \"input_length\": 6472, \"output_length\": 26, \"hash_ids\": [46, 2366]}\n";

/// A file that goes away with it.
pub(crate) struct OnDisk {
    _folder: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn on_disk(bytes: &[u8]) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.in");
    std::fs::write(&path, bytes).unwrap();
    OnDisk { _folder: folder, path }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn load(bytes: &[u8], options: ReadOptions) -> Result<SharedTrace, TraceError> {
    let file = on_disk(bytes);
    SharedTrace::load_all(FileTraffic::open(&file.path, options)?)
}

pub(crate) fn arrival(at_ps: u64, input_tokens: u32, output_tokens: u32) -> Arrival {
    Arrival { at_ps, input_tokens, output_tokens }
}
