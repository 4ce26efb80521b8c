//! A stand-in for an inference replica: OpenAI's API with the engine model's timing, on a machine without a GPU.
//!
//! ```text
//!  HTTP ─► api ─► completion ──submit, cancel──► engine thread: slackwater_engine::Replica against the wall clock
//!            ▲                ◄──tokens so far──        │
//!         metrics ◄───────────────gauges, latencies─────┘
//! ```
//!
//! What it serves is meant to look like vLLM's server from outside: `/v1/chat/completions`, `/v1/completions`,
//! `/v1/models`, `/health`, `/version`, `/metrics` and what SIGTERM does. What it answers is text that a client can check
//! ([`text`]): token `k` of any answer follows from the model and `k`.
//!
//! **Time.** The engine's picoseconds are real ones since the start of the server, times [`Options::speed_up`]. Each token
//! is handed to its response when the model says it is out, plus the profile's outbound delay; a late wake-up of the
//! machine shifts a token's way out, never the model's own time.
//!
//! **What is not modelled**: one choice (`n = 1`), no tools, no log probabilities; sampling parameters are accepted and
//! ignored. The generated part of a conversation is not found by the prefix cache, only prompts are.

mod api;
mod clock;
mod completion;
mod engine_thread;
mod error;
pub mod fake_gpu;
mod fault;
mod lifecycle;
mod metrics;
mod options;
mod profile;
mod prompt;
mod request;
mod server;
mod start_up;
pub mod text;

pub use error::ReplicaError;
pub use fault::Fault;
pub use options::{GpuClaim, Options};
pub use profile::Profile;
pub use server::{Ended, Server};
pub use start_up::StartUp;
