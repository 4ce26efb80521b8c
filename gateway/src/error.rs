//! What can be wrong with what the gateway is told.

use std::net::SocketAddr;
use std::path::PathBuf;

/// There is no such replica.
#[derive(Debug, thiserror::Error)]
#[error("there is no replica `{name}`; known: {}", known.join(", "))]
pub struct UnknownReplica {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

/// A replica that can't be so.
#[derive(Debug, thiserror::Error)]
#[error("replica `{name}`: {reason}")]
pub struct BadReplica {
    /// Its name.
    pub name: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Why a gateway can't be started.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The configuration file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is wrong.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A key is out of range.
    #[error("{key}: {reason}")]
    Key {
        /// The key as the file has it.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A replica is wrong.
    #[error(transparent)]
    Replica(#[from] BadReplica),
    /// The address can't be had.
    #[error("can't listen on {address}: {source}; give another address, or port 0 for any free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The admin socket can't be had.
    #[error("can't make the admin socket {}: {reason}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}
