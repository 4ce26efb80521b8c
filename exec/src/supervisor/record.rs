//! What is written down of a replica's process, so that the next executor knows it too.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::procfs;
use crate::trouble::Trouble;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) pid: u32,
    /// In clock ticks since the boot.
    pub(super) started: u64,
}

impl Known {
    pub(super) fn of(pid: u32) -> Option<Known> {
        Some(Known { pid, started: procfs::stat(pid).filter(|stat| !stat.zombie)?.started })
    }

    pub(super) fn alive(self) -> bool {
        procfs::alive(self.pid, self.started)
    }
}

/// What is known of a replica's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessRecord {
    /// The process that is asked to stop.
    pub(super) main: Known,
    /// The boot all these belong to.
    pub(super) boot: String,
    /// The definition it was started by (`Deployment::definition_hash`); `None` where it was found running.
    pub(super) definition: Option<String>,
    /// It leads a process group of its own, which is signalled as a whole.
    pub(super) leads: bool,
    /// All that belonged to it when it was asked to stop.
    #[serde(default)]
    pub(super) members: Vec<Known>,
}

impl ProcessRecord {
    pub(super) fn of(main: Known, definition: Option<String>) -> ProcessRecord {
        let leads = procfs::stat(main.pid).is_some_and(|stat| stat.group == main.pid);
        ProcessRecord { main, boot: SystemClock.boot(), definition, leads, members: Vec::new() }
    }

    /// The record of a place; `None` where there is none, or it is of another boot.
    pub(super) fn read(path: &Path) -> Option<ProcessRecord> {
        let record: ProcessRecord = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        (record.boot == SystemClock.boot()).then_some(record)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Trouble> {
        let failed = |error: std::io::Error| {
            Trouble::passing(format!(
                "the record of a process can't be written to {}: {error}",
                path.display()
            ))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = serde_json::to_string(self).map_err(|error| Trouble::lasting(error.to_string()))?;
        let beside: PathBuf = path.with_extension("new");
        let mut file = fs::File::create(&beside).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }
}
