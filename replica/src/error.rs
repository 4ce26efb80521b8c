//! Why a stand-in can't be started, or ended by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What went wrong with a stand-in.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// No built-in profile and no file.
    #[error(
        "no engine is called `{name}`, and there is no such file; built-in ones: {known}; or give a file with a profile or a \
         scenario (FILE#to takes its [to], FILE#NAME its [engines.NAME])"
    )]
    NoSuchEngine {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file holds no usable engine.
    #[error("engine {file}: {reason}")]
    EngineFile {
        /// The file, or the name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option is out of range.
    #[error("{option}: {reason}")]
    Option {
        /// The option as the command line has it.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The address can't be had.
    #[error("can't listen on {address}: {source}; give another address, or port 0 for any free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The fake GPU's folder is not as it should be.
    #[error("fake GPU {}: {reason}", path.display())]
    FakeGpu {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// As vLLM says it, when another process still holds the memory.
    #[error(
        "free memory on fake GPU {gpu} ({free_mib}/{total_mib} MiB) is less than the {wanted_mib} MiB that this replica \
         takes; held by {holders}"
    )]
    GpuMemory {
        /// The GPU's index.
        gpu: u32,
        /// Free now.
        free_mib: u64,
        /// In all.
        total_mib: u64,
        /// What was asked for.
        wanted_mib: u64,
        /// The processes that hold the rest.
        holders: String,
    },
    /// The engine's clock left its range.
    #[error("the engine stopped: {0}")]
    Engine(#[from] slackwater_engine::ReplicaError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}
