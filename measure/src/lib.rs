//! From a server out of rotation to a recorded experiment.
//!
//! ```text
//! Limits + Server (asked) --> load plan (phases, said beforehand) --> requests, each streamed --> Experiment
//!                                                                                                 |
//!                                                     calibrate: fit on all but the phase held out <--+
//! ```
//!
//! Prompts are token ids drawn at random, so that their lengths are exact and no prefix cache finds them.

mod ask;
mod plan;
mod record;

pub use ask::{AskError, Server};
pub use plan::{Budget, Phase, Shape, phases, what_it_does};
pub use record::{MeasureError, Recorded, measure};
