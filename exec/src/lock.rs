//! One executor a deployment: a lock with a heartbeat and a fencing token.
//!
//! Two locks stand for one. A file lock tells at once whether the holder lives: the kernel drops it with the process. The journal's token
//! fences: whoever takes the lock raises it, and every append of the former holder fails from then on (`journal.rs`), as no act is done
//! before its intent is written, the former holder does nothing any more. The heartbeat is for a directory that two machines share,
//! where a file lock may mean nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use slackwater_policy::{Span, Time};
use thiserror::Error;

use crate::clock::{Clock, SystemClock};
use crate::journal::{Journal, JournalError, signed, time, unsigned};
use crate::procfs;

/// A holder that has not been heard of for so long is taken for gone, where its process can't be asked about.
const SILENT: Span = Span::from_secs(15);

/// Who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// When that was started, in clock ticks since the boot.
    pub started: u64,
    /// Which boot that was.
    pub boot: String,
    /// On which machine.
    pub host: String,
}

impl Holder {
    fn this() -> Holder {
        let pid = std::process::id();
        Holder {
            pid,
            started: procfs::stat(pid).map_or(0, |stat| stat.started),
            boot: SystemClock.boot(),
            host: procfs::host_name(),
        }
    }

    /// Whether its process is there: `None` where that can't be told from here.
    fn lives(&self) -> Option<bool> {
        (self.boot == SystemClock.boot()).then(|| procfs::alive(self.pid, self.started))
    }
}

/// Why the lock was not to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another executor is at work.
    #[error(
        "another executor is at work here: process {pid} on {host}, last heard of {ago} ago; look with `slackwater status`. If it is \
         stuck for good, `slackwater run --resume --take-over` stops it from doing anything more"
    )]
    Held {
        /// Its process.
        pid: u32,
        /// Its machine.
        host: String,
        /// How long ago it was last heard of.
        ago: Span,
    },
    /// The lock's file can't be used.
    #[error("the lock {path} can't be taken: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The lock, held.
#[derive(Debug)]
pub struct Lock {
    token: u64,
    // Held for as long as this lives; `None` where a stuck holder still has it.
    _file: Option<File>,
}

impl Lock {
    /// Takes it; by force where `take_over`.
    ///
    /// # Errors
    /// When another executor has it.
    pub fn take(journal: &mut Journal, directory: &Path, take_over: bool) -> Result<Lock, LockError> {
        let path = directory.join("lock");
        let failed = |cause: String| LockError::File { path: path.clone(), cause };
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| failed(error.to_string()))?;
        let free = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
        };
        let now = SystemClock.wall();
        let connection = &mut journal.connection;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(JournalError::from)?;
        let before = transaction
            .query_row("SELECT token, holder, beat_at FROM lock", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()
            .map_err(JournalError::from)?;
        let mut token = 1;
        if let Some((last, holder, beat)) = before {
            token = unsigned(last) + 1;
            let beat: Time = time(beat);
            let holder: Option<Holder> = serde_json::from_str(&holder).ok();
            let lives = holder.as_ref().is_some_and(|holder| match holder.lives() {
                // The file lock is the word of the kernel for processes of this machine.
                Some(lives) => lives && !free,
                None => now.since(beat) < SILENT,
            });
            if (lives || !free) && !take_over {
                let (pid, host) = holder.map_or((0, "?".to_owned()), |holder| (holder.pid, holder.host));
                return Err(LockError::Held { pid, host, ago: now.since(beat) });
            }
        } else if !free && !take_over {
            return Err(LockError::Held { pid: 0, host: procfs::host_name(), ago: Span::ZERO });
        }
        let holder = serde_json::to_string(&Holder::this())
            .map_err(|error| JournalError::Sqlite(error.to_string()))?;
        transaction
            .execute(
                "INSERT INTO lock (one, token, holder, beat_at) VALUES (1, ?1, ?2, ?3)
                 ON CONFLICT (one) DO UPDATE SET token = ?1, holder = ?2, beat_at = ?3",
                params![signed(token), holder, signed(now.as_nanos())],
            )
            .map_err(JournalError::from)?;
        transaction.commit().map_err(JournalError::from)?;
        Ok(Lock { token, _file: free.then_some(file) })
    }

    /// Its fencing token.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Says that this executor lives.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when another has taken over.
    pub fn beat(&self, journal: &Journal) -> Result<(), JournalError> {
        let now = signed(SystemClock.wall().as_nanos());
        let ours = signed(self.token);
        let changed = journal
            .connection
            .execute("UPDATE lock SET beat_at = ?1 WHERE token = ?2", params![now, ours])?;
        if changed == 0 { self.check(journal) } else { Ok(()) }
    }

    /// Whether it is still ours.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when another has taken over.
    pub fn check(&self, journal: &Journal) -> Result<(), JournalError> {
        let theirs = journal.connection.query_row("SELECT token FROM lock", [], |row| row.get(0))?;
        match unsigned(theirs) {
            theirs if theirs == self.token => Ok(()),
            theirs => Err(JournalError::Fenced { ours: self.token, theirs }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_whom_to_look_at() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let first = Lock::take(&mut journal, directory.path(), false).unwrap();
        let mut other = Journal::open(directory.path()).unwrap();
        let refused = Lock::take(&mut other, directory.path(), false).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        first.beat(&journal).unwrap();
        drop(first);
        let second = Lock::take(&mut other, directory.path(), false).unwrap();
        assert_eq!(second.token(), 2);
    }

    #[test]
    fn one_that_was_taken_over_learns_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let first = Lock::take(&mut journal, directory.path(), false).unwrap();
        let mut other = Journal::open(directory.path()).unwrap();
        let second = Lock::take(&mut other, directory.path(), true).unwrap();
        assert!(matches!(first.beat(&journal), Err(JournalError::Fenced { ours: 1, theirs: 2 })));
        second.check(&other).unwrap();
    }

    #[test]
    fn a_holder_on_another_machine_is_believed_while_it_is_heard_of() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        drop(Lock::take(&mut journal, directory.path(), false).unwrap());
        let holder = Holder { pid: 1, started: 1, boot: "another".to_owned(), host: "far".to_owned() };
        let holder = serde_json::to_string(&holder).unwrap();
        journal.connection.execute("UPDATE lock SET holder = ?1", [&holder]).unwrap();
        assert!(Lock::take(&mut journal, directory.path(), false).unwrap_err().to_string().contains("far"));
        let long_ago = signed(SystemClock.wall().as_nanos()) - 60_000_000_000;
        journal.connection.execute("UPDATE lock SET beat_at = ?1", [long_ago]).unwrap();
        Lock::take(&mut journal, directory.path(), false).unwrap();
    }
}
