//! The journal: one record for every event, command and note, written identically by both worlds.
//!
//! ```text
//!   world --event--> Recorder --event--> Rollout --command, notes--> Recorder --records--> disk, then --command--> world
//! ```
//!
//! A record is on disk before the command it holds is carried out. Replaying the event records rebuilds the rollout exactly; commands and
//! notes follow from them and are kept for reading, folding and for checking that the replay is the same rollout.

use serde::{Deserialize, Serialize};

use crate::{Command, Event, Note, Time};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// 0, 1, 2 … without a gap.
    pub seq: u64,
    /// The world's clock as it was handed to the policy, nanoseconds since the Unix epoch.
    pub at: Time,
    /// What happened.
    pub entry: Entry,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Told to the policy and accepted.
    Event(Event),
    /// Told to the policy and refused: it changed nothing.
    Refused {
        /// What was told.
        event: Event,
        /// Why it was refused.
        error: String,
    },
    /// Asked by the policy.
    Command(Command),
    /// Remarked by the policy.
    Note(Note),
}
