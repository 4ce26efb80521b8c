//! Files of the operator's: written whole or not at all, and what would change in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Writes a file whole or not at all; one that is there keeps its owner and permissions.
///
/// # Errors
/// When that fails; the file is then as it was.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".slackwater-new");
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&beside)?;
        if let Ok(before) = fs::metadata(path) {
            file.set_permissions(before.permissions())?;
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
                chown(&beside, Some(before.uid()), Some(before.gid()))?;
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The lines that differ: those that go with a `-`, those that come with a `+`.
pub(crate) fn difference(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
    let tails = before[head..].iter().rev().zip(after[head..].iter().rev());
    let tail = tails.take_while(|(old, new)| old == new).count();
    let gone = before[head..before.len() - tail].iter().map(|line| format!("-{line}"));
    let come = after[head..after.len() - tail].iter().map(|line| format!("+{line}"));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_keeps_its_permissions_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "A=1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write_whole(&path, "A=2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=2\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("none/x"), "").is_err());
    }

    #[test]
    fn only_what_changes_is_shown() {
        assert_eq!(difference("a\nb\nc\n", "a\nB\nc\n"), ["-b", "+B"]);
        assert_eq!(difference("", "x\n"), ["+x"]);
        assert_eq!(difference("a\na\n", "a\n"), ["-a"]);
        assert!(difference("a\n", "a\n").is_empty());
    }
}
