//! Benchmarks: the body of each, so that a bench target measures it and a test runs it on a small input.
//!
//! ```text
//!   workload (trace or drawn) ──► worlds    whole simulations: speed, forks, memory
//!                            └──► replicas  the jumping engine beside engines that walk
//!   planning   what a plan costs, and what it would cost without forking, screening, sparing
//!   clock      CPU time of the thread            recorded   hashes of results that must not change
//! ```
//!
//! Every body returns a hash of what it computed, and [`recorded::check`] holds it against the one on file: a change
//! that makes a benchmark faster by computing something else fails.
//!
//! `cargo bench -p slackwater-benches` runs them all; README.md says what they claim and what they showed.

pub mod clock;
pub mod features;
pub mod memory;
#[path = "../../engine/tests/it/oracle.rs"]
#[allow(dead_code, missing_docs)] // shared with the engine's tests, which use all of it
mod oracle;
#[path = "../../engine/tests/it/oracle_blocks.rs"]
#[allow(dead_code, missing_docs)] // as above
mod oracle_blocks;
pub mod planning;
pub mod recorded;
pub mod replicas;
pub mod workload;
pub mod worlds;

/// A hash of words: FNV-1a over their bytes. It guards against mistakes, not against malice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordHash(u64);

impl Default for WordHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl WordHash {
    /// Takes in one word.
    #[inline]
    pub fn word(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash so far, in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}
