//! The journal on disk: SQLite, write-ahead, every commit synced.
//!
//! ```text
//!   Recorder ─records of one event─► append: one transaction { am I still the one? ─ insert } ─ fsync ─► then the acts
//! ```
//!
//! The intent (a command's record) is on disk before the act, the result (its outcome's record) after it. The records are the simulator's
//! own, so replaying them rebuilds the rollout, and `policy::fold` reads both. Every append checks in its own transaction that this
//! executor still holds the lock (`lock.rs`): one that was taken over writes nothing any more, and so does nothing any more.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use slackwater_policy::{Plan, Record, Span, Time};
use thiserror::Error;

use crate::clock::Mark;

/// The journal's file in the deployment's directory.
pub const FILE: &str = "journal.sqlite";
/// Room kept for the day the disk is full: enough for the records of a way back to N.
const BALLAST_BYTES: usize = 4 << 20;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rollouts (
    id INTEGER PRIMARY KEY,
    began_at INTEGER NOT NULL,
    slackwater TEXT NOT NULL,
    plan TEXT NOT NULL,
    deployment TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
    rollout INTEGER NOT NULL REFERENCES rollouts (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    steady INTEGER NOT NULL,
    boot TEXT NOT NULL,
    token INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (rollout, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    token INTEGER NOT NULL,
    holder TEXT NOT NULL,
    beat_at INTEGER NOT NULL
);
";

/// What can go wrong with the journal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It can't be opened.
    #[error("the journal {path} can't be opened: {cause}; check the directory's permissions and space", path = path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// There is none.
    #[error("there is no journal at {path}; nothing was run with this deployment yet", path = path.display())]
    Absent {
        /// Where it would be.
        path: PathBuf,
    },
    /// Another executor has taken over.
    #[error(
        "another executor has taken over this rollout (its token is {theirs}, ours {ours}); this one does nothing more"
    )]
    Fenced {
        /// Our token.
        ours: u64,
        /// The token now.
        theirs: u64,
    },
    /// No room.
    #[error("the disk with the journal is full; make room there, then go on with `slackwater run --resume`")]
    Full,
    /// A record that is none.
    #[error("record {seq} of rollout {rollout} can't be read: {cause}; restore the journal from its backup")]
    Record {
        /// Of which rollout.
        rollout: i64,
        /// Its number.
        seq: i64,
        /// Why.
        cause: String,
    },
    /// Anything else that SQLite says.
    #[error("the journal can't be used: {0}")]
    Sqlite(String),
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> JournalError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => JournalError::Full,
            // A write beyond a quota or a file-size limit is an I/O error to SQLite.
            Some(ErrorCode::SystemIoFailure) if error.to_string().contains("full") => JournalError::Full,
            _ => JournalError::Sqlite(error.to_string()),
        }
    }
}

/// One rollout as the journal lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its number in this journal.
    pub id: i64,
    /// When it began.
    pub began_at: Time,
    /// The version of Slackwater that ran it.
    pub slackwater: String,
    /// Its plan, TOML.
    pub plan: String,
    /// Its deployment, TOML.
    pub deployment: String,
}

impl Listed {
    /// The plan it was run with.
    ///
    /// # Errors
    /// When another version wrote it in a way this one can't read.
    pub fn plan(&self) -> Result<Plan, JournalError> {
        toml::from_str(&self.plan)
            .map_err(|error| JournalError::Sqlite(format!("the plan of rollout {}: {error}", self.id)))
    }
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    pub(crate) connection: Connection,
    ballast: PathBuf,
}

impl Journal {
    /// Opens it for writing; makes it where there is none.
    ///
    /// # Errors
    /// When the directory or the file can't be written.
    pub fn open(directory: &Path) -> Result<Journal, JournalError> {
        let path = directory.join(FILE);
        let failed = |cause: String| JournalError::Open { path: path.clone(), cause };
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        let connection = Connection::open(&path).map_err(|error| failed(error.to_string()))?;
        let journal = Journal { connection, ballast: directory.join("journal.ballast") };
        journal.prepare().map_err(|error| failed(error.to_string()))?;
        Ok(journal)
    }

    /// Opens it for reading, beside an executor that may be writing.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn read(directory: &Path) -> Result<Journal, JournalError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Err(JournalError::Absent { path });
        }
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| JournalError::Open { path, cause: error.to_string() })?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Journal { connection, ballast: directory.join("journal.ballast") })
    }

    fn prepare(&self) -> Result<(), JournalError> {
        self.connection.busy_timeout(Duration::from_secs(5))?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.execute_batch(SCHEMA)?;
        Ok(())
    }

    /// Sets room aside that [`Journal::make_room`] gives back when the disk is full.
    ///
    /// # Errors
    /// When there is no such room now: no rollout should begin then.
    pub fn set_room_aside(&self) -> Result<(), JournalError> {
        let kept = fs::metadata(&self.ballast).is_ok_and(|kept| kept.len() >= BALLAST_BYTES as u64);
        if kept {
            return Ok(());
        }
        let written = File::create(&self.ballast).and_then(|mut file| {
            // Zeroes in a sparse file would keep nothing.
            let chunk: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
            for _ in 0..BALLAST_BYTES / chunk.len() {
                file.write_all(&chunk)?;
            }
            file.sync_all()
        });
        written.map_err(|_| {
            let _ = fs::remove_file(&self.ballast);
            JournalError::Full
        })
    }

    /// Gives back what was set aside. Whether there was anything.
    pub fn make_room(&self) -> bool {
        fs::remove_file(&self.ballast).is_ok()
    }

    /// A new rollout of this plan.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn begin(&mut self, now: Time, plan: &Plan, deployment: &str) -> Result<i64, JournalError> {
        let plan = toml::to_string(plan)
            .map_err(|error| JournalError::Sqlite(format!("the plan can't be written: {error}")))?;
        self.connection.execute(
            "INSERT INTO rollouts (began_at, slackwater, plan, deployment) VALUES (?1, ?2, ?3, ?4)",
            params![signed(now.as_nanos()), env!("CARGO_PKG_VERSION"), plan, deployment],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Every rollout, the oldest first.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn rollouts(&self) -> Result<Vec<Listed>, JournalError> {
        let mut query = self
            .connection
            .prepare("SELECT id, began_at, slackwater, plan, deployment FROM rollouts ORDER BY id")?;
        let rows = query.query_map([], |row| {
            Ok(Listed {
                id: row.get(0)?,
                began_at: time(row.get(1)?),
                slackwater: row.get(2)?,
                plan: row.get(3)?,
                deployment: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The records of a rollout.
    ///
    /// # Errors
    /// When one of them can't be read.
    pub fn records(&self, rollout: i64) -> Result<Vec<Record>, JournalError> {
        let mut query =
            self.connection.prepare("SELECT seq, at, entry FROM records WHERE rollout = ?1 ORDER BY seq")?;
        let rows = query.query_map([rollout], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut records = Vec::new();
        for row in rows {
            let (seq, at, entry) = row?;
            let entry = serde_json::from_str(&entry).map_err(|error| JournalError::Record {
                rollout,
                seq,
                cause: error.to_string(),
            })?;
            records.push(Record { seq: u64::try_from(seq).unwrap_or(0), at: time(at), entry });
        }
        Ok(records)
    }

    /// The instant of the last record, on both clocks.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn last_mark(&self, rollout: i64) -> Result<Option<Mark>, JournalError> {
        let row = self.connection.query_row(
            "SELECT at, steady, boot FROM records WHERE rollout = ?1 ORDER BY seq DESC LIMIT 1",
            [rollout],
            |row| Ok(Mark { at: time(row.get(0)?), steady: span(row.get(1)?), boot: row.get(2)? }),
        );
        Ok(row.optional()?)
    }

    /// Stores records, all or none, if `token` is still the lock's.
    ///
    /// # Errors
    /// When another executor has taken over, or there is no room.
    pub fn append(
        &mut self,
        rollout: i64,
        token: u64,
        mark: &Mark,
        records: &[Record],
    ) -> Result<(), JournalError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let theirs = unsigned(transaction.query_row("SELECT token FROM lock", [], |row| row.get(0))?);
        if theirs != token {
            return Err(JournalError::Fenced { ours: token, theirs });
        }
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO records (rollout, seq, at, steady, boot, token, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for record in records {
                let entry = serde_json::to_string(&record.entry)
                    .map_err(|error| JournalError::Sqlite(error.to_string()))?;
                insert.execute(params![
                    rollout,
                    signed(record.seq),
                    signed(record.at.as_nanos()),
                    signed(mark.steady.as_nanos()),
                    mark.boot,
                    signed(token),
                    entry,
                ])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// SQLite's integers are signed; ours stay below the sign for three centuries.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn time(nanos: i64) -> Time {
    Time::ZERO + span(nanos)
}

fn span(nanos: i64) -> Span {
    Span::from_nanos(unsigned(nanos))
}

#[cfg(test)]
mod tests {
    use slackwater_policy::{Event, Recorder, Rollout};

    use super::*;
    use crate::lock::Lock;

    fn mark(at: Time) -> Mark {
        Mark { at, steady: Span::from_secs(3), boot: "boot".to_owned() }
    }

    #[test]
    fn what_is_stored_is_what_is_read_and_replays() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let lock = Lock::take(&mut journal, directory.path(), false).unwrap();
        let plan = Plan::rolling("v1", "v2", ["a", "b"]);
        let id = journal.begin(Time::from_secs(9), &plan, "deployment").unwrap();
        let (mut rollout, mut recorder) = (Rollout::new(plan.clone()).unwrap(), Recorder::new());
        recorder.tell(&mut rollout, Time::from_secs(10), Event::Start).unwrap();
        let records = recorder.take();
        journal.append(id, lock.token(), &mark(Time::from_secs(10)), &records).unwrap();

        let again = Journal::read(directory.path()).unwrap();
        assert_eq!(again.records(id).unwrap(), records);
        assert_eq!(again.last_mark(id).unwrap(), Some(mark(Time::from_secs(10))));
        let listed = again.rollouts().unwrap();
        assert_eq!((listed.len(), listed[0].plan().unwrap(), listed[0].id), (1, plan.clone(), id));
        assert_eq!(Rollout::replay(plan, &records).unwrap(), rollout);
    }

    #[test]
    fn an_executor_that_was_taken_over_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let lock = Lock::take(&mut journal, directory.path(), false).unwrap();
        let id = journal.begin(Time::ZERO, &Plan::rolling("v1", "v2", ["a", "b"]), "").unwrap();
        let mut other = Journal::open(directory.path()).unwrap();
        let taken = Lock::take(&mut other, directory.path(), true).unwrap();
        let refused = journal.append(id, lock.token(), &mark(Time::ZERO), &[]).unwrap_err();
        assert!(matches!(refused, JournalError::Fenced { .. }), "{refused}");
        other.append(id, taken.token(), &mark(Time::ZERO), &[]).unwrap();
    }

    #[test]
    fn room_is_set_aside_once_and_given_back_once() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.set_room_aside().unwrap();
        journal.set_room_aside().unwrap();
        assert!(journal.make_room());
        assert!(!journal.make_room());
    }
}
