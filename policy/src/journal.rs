//! The journal: one record for every event, command and note, written identically by both worlds.
//!
//! ```text
//!   world --event--> Recorder --event--> Rollout --command, notes--> Recorder --records--> disk, then --command--> world
//! ```
//!
//! A record is on disk before the command it holds is carried out. Replaying the event records rebuilds the rollout exactly; commands and
//! notes follow from them and are kept for reading, folding and for checking that the replay is the same rollout.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Command, Event, EventError, Note, Plan, PlanError, Rollout, Time};

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

/// Writes the journal of a rollout while it is driven. Holds the records that are not on disk yet; the driver stores them.
///
/// A whole driver:
///
/// ```text
/// loop {
///     let (now, event) = world.next(rollout.deadline()); // Event::Tick when the deadline comes first
///     let told = recorder.tell(&mut rollout, now, event);
///     store(recorder.take()); // before any command is carried out
///     for command in told.unwrap_or_default() {
///         world.carry_out(command); // its reply comes back as Event::Outcome
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorder {
    next_seq: u64,
    records: Vec<Record>,
}

impl Recorder {
    /// A recorder at the beginning of a journal.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// A recorder that goes on after these records.
    pub fn after(records: &[Record]) -> Recorder {
        Recorder { next_seq: records.last().map_or(0, |record| record.seq + 1), records: Vec::new() }
    }

    /// Tells the rollout one event and records it with everything that follows. Keeps the drain rule by itself.
    ///
    /// The commands are to be carried out after the records are stored.
    ///
    /// # Errors
    /// When the rollout refuses the event; that is recorded too.
    pub fn tell(
        &mut self,
        rollout: &mut Rollout,
        now: Time,
        event: Event,
    ) -> Result<Vec<Command>, EventError> {
        if let Err(error) = rollout.handle(now, event.clone()) {
            self.record(now, Entry::Refused { event, error: error.to_string() });
            return Err(error);
        }
        self.record(now, Entry::Event(event));
        while let Some(note) = rollout.poll_note() {
            self.record(now, Entry::Note(note));
        }
        let mut commands = Vec::new();
        while let Some(command) = rollout.poll() {
            self.record(now, Entry::Command(command.clone()));
            commands.push(command);
        }
        Ok(commands)
    }

    /// The records not taken yet.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    fn record(&mut self, at: Time, entry: Entry) {
        self.records.push(Record { seq: self.next_seq, at, entry });
        self.next_seq += 1;
    }
}

/// A journal that can't be replayed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The plan is refused.
    #[error("the journal's plan is refused: {0}")]
    Plan(#[from] PlanError),
    /// A record is missing or out of place.
    #[error("record {expected} is missing: found {found} in its place; restore the journal from its backup")]
    Gap {
        /// The number that was to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An event that was accepted then is refused now.
    #[error(
        "record {seq}: an event that was accepted is refused ({error}); is this the plan the journal was written for?"
    )]
    Event {
        /// The record.
        seq: u64,
        /// Why.
        error: EventError,
    },
    /// The rollout does something else than the journal says.
    #[error(
        "record {seq}: the journal holds {found:?}, this version does {expected:?}; replay it with the plan and the version that wrote it"
    )]
    Diverged {
        /// The record.
        seq: u64,
        /// What follows now.
        expected: Option<Box<Entry>>,
        /// What the record holds.
        found: Box<Entry>,
    },
}

impl Rollout {
    /// Rebuilds a rollout from its journal. The journal may end anywhere, also between an event and what followed from it.
    ///
    /// A driver then tells the rollout [`Event::Recovered`], as it can't know which of the last commands were carried out. (A journal without
    /// any event gives a rollout that waits for `Event::Start`.)
    ///
    /// # Errors
    /// When the journal has a gap or was not written by this plan and version.
    pub fn replay(plan: Plan, records: &[Record]) -> Result<Rollout, ReplayError> {
        let mut rollout = Rollout::new(plan)?;
        let mut again = Recorder::new();
        // What the last event led to, still to be matched by the records that follow.
        let mut due = Vec::new().into_iter();
        for (expected, record) in (0..).zip(records) {
            if record.seq != expected {
                return Err(ReplayError::Gap { expected, found: record.seq });
            }
            let diverged = |now: Option<Entry>| ReplayError::Diverged {
                seq: record.seq,
                expected: now.map(Box::new),
                found: Box::new(record.entry.clone()),
            };
            match &record.entry {
                Entry::Event(event) => {
                    // A crash may have cut off what followed from an event; its recovery comes next then.
                    if let Some(Record { entry, .. }) = due.next().filter(|_| *event != Event::Recovered) {
                        return Err(diverged(Some(entry)));
                    }
                    let told = again.tell(&mut rollout, record.at, event.clone());
                    told.map_err(|error| ReplayError::Event { seq: record.seq, error })?;
                    due = again.take().into_iter();
                    due.next();
                }
                Entry::Refused { .. } => {}
                entry @ (Entry::Command(_) | Entry::Note(_)) => match due.next() {
                    Some(now) if now.entry == *entry => {}
                    now => return Err(diverged(now.map(|record| record.entry))),
                },
            }
        }
        Ok(rollout)
    }
}
