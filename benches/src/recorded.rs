//! Hashes of results on file, in `recorded.txt`: a line each, `name hash`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Set to `1`, it makes [`check`] write what it finds instead of comparing.
pub const RECORD: &str = "SLACKWATER_BENCHES_RECORD";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded.txt")
}

fn read() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, hash)| (name.to_owned(), hash.trim().to_owned())).collect()
}

/// Holds the hash of a result against the one on file.
///
/// # Panics
/// When they differ or none is on file, saying what to do.
pub fn check(name: &str, found: &str) {
    // Tests run side by side, and each may record.
    static FILE: Mutex<()> = Mutex::new(());
    let guard = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hashes = read();
    if hashes.get(name).is_some_and(|hash| hash == found) {
        return;
    }
    if std::env::var(RECORD).is_ok_and(|value| value == "1") {
        hashes.insert(name.to_owned(), found.to_owned());
        let lines: String = hashes.iter().map(|(name, hash)| format!("{name} {hash}\n")).collect();
        std::fs::write(path(), lines).expect("benches/recorded.txt can be written");
        return;
    }
    drop(guard);
    let on_file = hashes.get(name).map_or("nothing", String::as_str);
    panic!(
        "the result of `{name}` is not the one on file: {on_file} in benches/recorded.txt, {found} found.\n\
         If the model was not meant to change, this is a wrong answer: `cargo test -p slackwater-engine` will say more.\n\
         If it was, record the new results and commit them with the change:\n\
         \x20   {RECORD}=1 cargo test -p slackwater-benches && {RECORD}=1 cargo bench -p slackwater-benches"
    );
}
