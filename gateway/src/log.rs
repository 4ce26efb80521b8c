//! The access log: lines go to a thread of their own, so that a slow disk slows nobody.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::error::GatewayError;

/// Lines that may wait for the disk; more are lost, and counted. At 300 bytes each this is 20 MB.
const WAITING: usize = 65_536;

#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<String>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Appends to `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, GatewayError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| GatewayError::Unreadable { path: path.to_owned(), source })?;
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write_all(&waiting, file))
            .map_err(|source| GatewayError::System { what: "can't start the access log's thread", source })?;
        Ok(Self { lines: Some(lines), writer: Mutex::new(Some(writer)) })
    }

    /// `false` when the line is lost.
    pub(crate) fn write(&self, line: String) -> bool {
        self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok())
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // Closes the channel, so that the thread writes what is left and ends.
        self.lines = None;
        if let Ok(mut writer) = self.writer.lock()
            && let Some(writer) = writer.take()
        {
            let _ = writer.join();
        }
    }
}

/// Lines are written in one go with those that came meanwhile, and are on their way to the disk when nothing more waits.
fn write_all(lines: &Receiver<String>, file: File) {
    let mut file = BufWriter::with_capacity(64 << 10, file);
    while let Ok(line) = lines.recv() {
        // A full disk loses lines of a log, not requests.
        let _ = writeln!(file, "{line}");
        while let Ok(line) = lines.try_recv() {
            let _ = writeln!(file, "{line}");
        }
        let _ = file.flush();
    }
}
