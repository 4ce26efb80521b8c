//! What is measured of live servers: one out of rotation under a planned load, one in production that is only watched, and
//! restarts.
//!
//! ```text
//! Limits + Server (asked) --> load plan (phases, said beforehand) --> requests, each streamed --> Experiment
//!                                                                                                 |
//!                                                     calibrate: fit on all but the phase held out <--+
//! ```
//!
//! Prompts are token ids drawn at random, so that their lengths are exact and no prefix cache finds them.
//!
//! ```text
//! /metrics, every few seconds, or a Prometheus server's samples --> Counters --> calibrate::Watched (intervals)
//! a command --> started, awaited, asked, stopped, N times (exec's supervisor) --> Restart
//! ```

mod ask;
mod counters;
mod plan;
mod record;
mod start_phases;
mod startup;
mod watch;

pub use ask::{AskError, Server};
pub use counters::{Counters, CountersError};
pub use plan::{Budget, Phase, Shape, phases, what_it_does};
pub use record::{MeasureError, Recorded, measure};
pub use start_phases::{StartPhase, start_phases};
pub use startup::{Restart, RestartError, Restarts, time_restarts};
pub use watch::watch;
