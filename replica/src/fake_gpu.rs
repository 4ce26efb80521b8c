//! GPUs that are a folder: which process holds how much memory on which of them.
//!
//! ```text
//! FOLDER/gpus            a line a GPU:     INDEX TOTAL_MIB NAME
//! FOLDER/held/ANYTHING   a line a holding: PID START_TICKS GPU_INDEX MIB LINGER_MS
//! ```
//!
//! A holding counts while its process lives: `/proc/PID/stat` is there, is no zombie's, and its field 22 is `START_TICKS`, so
//! that a number that was given out again is not mistaken. With `LINGER_MS` above 0 it also counts for so long after the
//! file was last written, which a living process does every [`HEARTBEAT`]: memory that outlives its process, however that
//! ended. Nobody need clean up: a holding of the dead is worth nothing, and whoever writes one may remove such files.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::ReplicaError;
use crate::options::GpuClaim;

/// How often a holding that will linger is written anew.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

/// One fake GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeGpu {
    /// Its number.
    pub index: u32,
    /// What it has.
    pub total_mib: u64,
    /// What it is called.
    pub name: String,
    /// Who holds how much of it: process and MiB.
    pub holders: Vec<(u32, u64)>,
}

impl FakeGpu {
    /// What nobody holds.
    #[must_use]
    pub fn free_mib(&self) -> u64 {
        self.total_mib.saturating_sub(self.holders.iter().map(|(_, mib)| mib).sum())
    }
}

/// Writes a folder of `count` GPUs.
///
/// # Errors
/// When it can't be written.
pub fn create(folder: &Path, count: u32, total_mib: u64) -> Result<(), ReplicaError> {
    let mut lines = String::new();
    for index in 0..count {
        // A String can be written to without fail.
        let _ = writeln!(lines, "{index} {total_mib} Fake-GPU");
    }
    let gpus = folder.join("gpus");
    fs::create_dir_all(folder.join("held"))
        .and_then(|()| fs::write(&gpus, lines))
        .map_err(|error| broken(&gpus, format!("can't be written: {error}")))
}

/// What the folder says now.
///
/// # Errors
/// When it has no readable list of GPUs, or a line is not as documented.
pub fn read(folder: &Path) -> Result<Vec<FakeGpu>, ReplicaError> {
    let list = folder.join("gpus");
    let text = fs::read_to_string(&list).map_err(|error| {
        broken(&list, format!("can't be read: {error}; write a line a GPU: INDEX TOTAL_MIB NAME"))
    })?;
    let mut gpus = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(index), Some(total_mib)) = (number(words.next()), number(words.next())) else {
            return Err(broken(&list, format!("`{line}` is not INDEX TOTAL_MIB NAME")));
        };
        gpus.push(FakeGpu {
            index,
            total_mib,
            name: words.collect::<Vec<_>>().join(" "),
            holders: Vec::new(),
        });
    }
    for holding in holdings(&folder.join("held")) {
        if let Some(gpu) = gpus.iter_mut().find(|gpu| gpu.index == holding.gpu) {
            gpu.holders.push((holding.pid, holding.mib));
        }
    }
    gpus.iter_mut().for_each(|gpu| gpu.holders.sort_unstable());
    Ok(gpus)
}

fn number<N: std::str::FromStr>(word: Option<&str>) -> Option<N> {
    word?.parse().ok()
}

fn broken(path: &Path, reason: String) -> ReplicaError {
    ReplicaError::FakeGpu { path: path.to_owned(), reason }
}

struct Holding {
    pid: u32,
    gpu: u32,
    mib: u64,
}

/// All that count. A file that is not as documented, or just went away, holds nothing.
fn holdings(held: &Path) -> Vec<Holding> {
    let mut all = Vec::new();
    for entry in fs::read_dir(held).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let age = entry.metadata().and_then(|about| about.modified()).map_or(Duration::MAX, |written| {
            SystemTime::now().duration_since(written).unwrap_or(Duration::ZERO)
        });
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(pid), Some(start), Some(gpu), Some(mib), Some(linger_ms)) = (
                number(words.next()),
                number(words.next()),
                number(words.next()),
                number(words.next()),
                number(words.next()),
            ) else {
                continue;
            };
            if start_ticks(pid) == Some(start) || age < Duration::from_millis(linger_ms) {
                all.push(Holding { pid, gpu, mib });
            }
        }
    }
    all
}

/// Field 22 of `/proc/PID/stat`; `None` for a process that is not there or a zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces and brackets; it ends with the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Memory held by this process; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    file: PathBuf,
    gpus: Vec<u32>,
    mib: u64,
    linger: Duration,
}

/// Several servers in one process hold each their own.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Claimed {
    /// Takes the memory, if every GPU has so much of it free.
    pub(crate) fn take(claim: &GpuClaim, linger: Duration) -> Result<Self, ReplicaError> {
        let gpus = read(&claim.folder)?;
        for wanted in &claim.gpus {
            let Some(gpu) = gpus.iter().find(|gpu| gpu.index == *wanted) else {
                return Err(broken(&claim.folder.join("gpus"), format!("it has no GPU {wanted}")));
            };
            if gpu.free_mib() < claim.memory_mib {
                let holders: Vec<String> =
                    gpu.holders.iter().map(|(pid, mib)| format!("process {pid} ({mib} MiB)")).collect();
                return Err(ReplicaError::GpuMemory {
                    gpu: *wanted,
                    free_mib: gpu.free_mib(),
                    total_mib: gpu.total_mib,
                    wanted_mib: claim.memory_mib,
                    holders: if holders.is_empty() { "nobody".to_owned() } else { holders.join(", ") },
                });
            }
        }
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = claim.folder.join("held").join(name);
        let claimed = Self { file, gpus: claim.gpus.clone(), mib: claim.memory_mib, linger };
        claimed.write(start_ticks(std::process::id()).unwrap_or(0)).map_err(|error| {
            broken(&claimed.file, format!("can't be written: {error}; is the folder there and yours?"))
        })?;
        Ok(claimed)
    }

    /// Whether [`Self::beat`] is wanted.
    pub(crate) fn lingers(&self) -> bool {
        !self.linger.is_zero()
    }

    /// Says that the process still lives.
    pub(crate) fn beat(&self) {
        // A folder that has gone away holds nothing.
        let _ = self.write(start_ticks(std::process::id()).unwrap_or(0));
    }

    /// In one piece: a reader must not see half a file.
    fn write(&self, start: u64) -> io::Result<()> {
        let (pid, mib, linger_ms) = (std::process::id(), self.mib, self.linger.as_millis());
        let lines: String =
            self.gpus.iter().map(|gpu| format!("{pid} {start} {gpu} {mib} {linger_ms}\n")).collect();
        fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let draft = self.file.with_file_name(format!(".{name}"));
        fs::write(&draft, lines)?;
        fs::rename(&draft, &self.file)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // Start 0 is no process's: from here on only the file's age counts.
        let _ = if self.lingers() { self.write(0) } else { fs::remove_file(&self.file) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(folder: &Path, memory_mib: u64) -> GpuClaim {
        GpuClaim { folder: folder.to_owned(), gpus: vec![1], memory_mib }
    }

    #[test]
    fn memory_is_held_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), 2, 1000).unwrap();
        let held = Claimed::take(&claim(folder.path(), 700), Duration::ZERO).unwrap();
        let gpus = read(folder.path()).unwrap();
        assert_eq!((gpus[0].free_mib(), gpus[1].free_mib()), (1000, 300));
        assert_eq!(gpus[1].holders, [(std::process::id(), 700)]);

        let error = Claimed::take(&claim(folder.path(), 301), Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("(300/1000 MiB)") && error.contains("700 MiB"), "{error}");
        drop(held);
        assert_eq!(read(folder.path()).unwrap()[1].free_mib(), 1000);
    }

    #[test]
    fn memory_lingers_for_its_time_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), 2, 1000).unwrap();
        drop(Claimed::take(&claim(folder.path(), 700), Duration::from_secs(3600)).unwrap());
        assert_eq!(read(folder.path()).unwrap()[1].free_mib(), 300);
        drop(Claimed::take(&claim(folder.path(), 300), Duration::from_nanos(1_000_000)).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(read(folder.path()).unwrap()[1].holders.len(), 1);
    }

    #[test]
    fn the_dead_and_the_unreadable_hold_nothing() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), 2, 1000).unwrap();
        let own = start_ticks(std::process::id()).unwrap();
        let held = folder.path().join("held");
        fs::write(held.join("other-life"), format!("{} {} 0 500 0\n", std::process::id(), own + 1)).unwrap();
        fs::write(held.join("gone"), "4194305 1 0 500 0\n").unwrap();
        fs::write(held.join("words"), "who knows\n").unwrap();
        assert_eq!(read(folder.path()).unwrap()[0].free_mib(), 1000);
        fs::write(held.join("mine"), format!("{} {own} 0 500 0\n", std::process::id())).unwrap();
        assert_eq!(read(folder.path()).unwrap()[0].free_mib(), 500);

        fs::write(folder.path().join("gpus"), "zero\n").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("INDEX TOTAL_MIB NAME"));
    }
}
