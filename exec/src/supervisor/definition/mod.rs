//! Definitions in files: the supervisor's own file says what a replica is, and stays the truth.
//!
//! Each replica has a *slot* in a file: lines of variables in an environment file, an entry in a Compose override, or a unit's drop-in
//! whole. A start puts the version's slot there, and nothing else changes. What was there before a rollout is kept (of an environment
//! file only our lines: the others may be secrets), so that the way back restores it to the letter.
//!
//! ```text
//!   read ─► is the slot the old, the new or the kept one? is all else as it was? ─► write beside, rename
//!                          │ no: somebody edits it; refuse, say so
//! ```

mod drop_in;
mod services;
mod variables;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use slackwater_policy::VersionRef;

use crate::deployment::{Deployment, Place, fill};
use crate::files::{difference, write_whole};
use crate::shell::quote;
use crate::trouble::Trouble;

pub(crate) use variables::{is_name, line as variable_line};

/// What of a file is a replica's.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Lines of an environment file, whose path has placeholders.
    Variables(String),
    /// An entry of a Compose override file.
    Services(PathBuf),
    /// All of `UNIT.d/50-slackwater.conf` in this folder.
    DropIn(PathBuf),
}

/// The files of a deployment.
#[derive(Debug)]
pub(super) struct Definitions {
    deployment: Deployment,
    form: Form,
    /// One change at a time.
    changing: Mutex<()>,
}

/// What a rollout found before its first change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    file: PathBuf,
    slot: Option<String>,
    /// The SHA-256 of all that is nobody's slot.
    rest: String,
}

impl Definitions {
    pub(super) fn new(deployment: Deployment, form: Form) -> Definitions {
        Definitions { deployment, form, changing: Mutex::default() }
    }

    /// The file in which a replica is defined.
    pub(super) fn path(&self, place: &Place) -> Result<PathBuf, Trouble> {
        let path = match &self.form {
            Form::Variables(template) => PathBuf::from(
                fill(template, place, None, &[])
                    .map_err(|reason| Trouble::lasting(format!("{}: {reason}", place.name)))?,
            ),
            Form::Services(path) => path.clone(),
            Form::DropIn(folder) => folder.join(format!("{}.d", place.unit())).join("50-slackwater.conf"),
        };
        Ok(path)
    }

    fn read(&self, path: &Path) -> Result<Option<String>, Trouble> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            // An environment file may hold what the service can't do without; it is not made here.
            Err(error) if error.kind() == ErrorKind::NotFound && !matches!(self.form, Form::Variables(_)) => {
                Ok(None)
            }
            Err(error) => Err(Trouble::lasting(format!("{} can't be read: {error}", path.display()))),
        }
    }

    /// The variables that either version sets at a place.
    fn names(&self, place: &Place) -> Vec<String> {
        let both = [VersionRef::From, VersionRef::To].into_iter();
        let set = both.filter_map(|version| self.deployment.plain_environment(place, version).ok()).flatten();
        let mut names: Vec<String> = set.map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What a version's slot is to be.
    fn wanted(&self, place: &Place, version: VersionRef) -> Result<Option<String>, Trouble> {
        let unfilled = |reason: String| Trouble::lasting(format!("{}: {reason}", place.name));
        let slot = match &self.form {
            Form::Variables(_) => {
                let variables = self.deployment.plain_environment(place, version).map_err(unfilled)?;
                let lines: Result<Vec<String>, String> =
                    variables.iter().map(|(name, value)| variables::line(name, value)).collect();
                lines.map_err(unfilled)?.join("\n")
            }
            Form::Services(_) => services::slot(&self.deployment, place, version).map_err(unfilled)?,
            Form::DropIn(_) => drop_in::text(&self.deployment, place, version).map_err(unfilled)?,
        };
        Ok((!matches!(slot.as_str(), "" | "{}")).then_some(slot))
    }

    fn slot(&self, text: Option<&str>, place: &Place) -> Result<Option<String>, String> {
        let Some(text) = text else { return Ok(None) };
        match &self.form {
            Form::Variables(_) => {
                let names = self.names(place);
                let slot = variables::slot(text, &names);
                let lines = slot.iter().flat_map(|slot| slot.lines().filter_map(variables::name));
                let mut set: Vec<&str> = lines.collect();
                set.sort_unstable();
                match set.windows(2).find(|pair| pair[0] == pair[1]) {
                    Some(twice) => Err(format!("{} is set twice; take one of the lines out", twice[0])),
                    None => Ok(slot),
                }
            }
            Form::Services(_) => Ok(services::read(text)?.get(place.unit()).map(Value::to_string)),
            Form::DropIn(_) => Ok(Some(text.to_owned())),
        }
    }

    /// The file with a slot changed; `None`: it is to be gone.
    fn with(&self, text: Option<&str>, place: &Place, slot: Option<&str>) -> Result<Option<String>, String> {
        match &self.form {
            Form::Variables(_) => {
                Ok(Some(variables::with(text.unwrap_or_default(), &self.names(place), slot)))
            }
            Form::Services(_) => {
                let mut all = services::read(text.unwrap_or_default())?;
                match slot {
                    Some(slot) => {
                        let entry = serde_json::from_str(slot).map_err(|error| error.to_string())?;
                        all.insert(place.unit().to_owned(), entry);
                    }
                    None => {
                        all.remove(place.unit());
                    }
                }
                Ok(services::text(&all))
            }
            Form::DropIn(_) => Ok(slot.map(str::to_owned)),
        }
    }

    fn same(&self, left: Option<&str>, right: Option<&str>) -> bool {
        let entry = |slot: Option<&str>| slot.and_then(|slot| serde_json::from_str::<Value>(slot).ok());
        match &self.form {
            Form::Variables(_) => variables::same(left, right),
            Form::Services(_) => entry(left) == entry(right),
            Form::DropIn(_) => left == right,
        }
    }

    /// The hash of all that is nobody's slot.
    fn rest(&self, path: &Path, text: Option<&str>) -> Result<String, String> {
        let mut rest = text.map(str::to_owned);
        for place in &self.deployment.replicas {
            if self.path(place).is_ok_and(|its| its == path) {
                rest = self.with(rest.as_deref(), place, None)?;
            }
        }
        let bytes = Sha256::digest(rest.unwrap_or_default());
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn record(&self, place: &Place) -> PathBuf {
        self.deployment.directory.join("kept").join("definitions").join(format!("{}.json", place.name))
    }

    fn kept(&self, place: &Place, path: &Path) -> Option<Kept> {
        let text = fs::read_to_string(self.record(place)).ok()?;
        serde_json::from_str(&text).ok().filter(|kept: &Kept| kept.file == path)
    }

    /// Which version's definition is in the file, for what runs by it.
    pub(super) fn version(&self, place: &Place) -> Result<Option<VersionRef>, Trouble> {
        let path = self.path(place)?;
        let text = self.read(&path)?;
        let slot = self.slot(text.as_deref(), place).map_err(|what| edited(place, &path, &what))?;
        let is = |version| Ok(self.same(slot.as_deref(), self.wanted(place, version)?.as_deref()));
        Ok(match (is(VersionRef::From)?, is(VersionRef::To)?) {
            (_, true) if self.deployment.versions.from != self.deployment.versions.to => Some(VersionRef::To),
            (true, _) => Some(VersionRef::From),
            _ => None,
        })
    }

    /// What the file is to be for a version, beside what it is. `kept` is what the rollout that is under way found.
    fn change(&self, place: &Place, version: VersionRef, with_kept: bool) -> Result<Change, Trouble> {
        let path = self.path(place)?;
        let before = self.read(&path)?;
        let read = |what: String| edited(place, &path, &what);
        let slot = self.slot(before.as_deref(), place).map_err(read)?;
        let kept = self.kept(place, &path).filter(|_| with_kept);
        let (old, new) = (self.wanted(place, VersionRef::From)?, self.wanted(place, VersionRef::To)?);
        let goal = match (version, &kept) {
            (VersionRef::From, Some(kept)) => kept.slot.clone(),
            (VersionRef::From, None) => old.clone(),
            (VersionRef::To, _) => new.clone(),
        };
        if self.same(slot.as_deref(), goal.as_deref()) {
            return Ok(Change { path, after: before.clone(), before });
        }
        let was = kept.as_ref().map(|kept| kept.slot.clone());
        let known = [Some(old), Some(new), was];
        if !known.iter().flatten().any(|known| self.same(slot.as_deref(), known.as_deref())) && kept.is_some()
        {
            let found = slot.as_deref().unwrap_or("nothing");
            return Err(edited(
                place,
                &path,
                &format!("it has `{}`, which is neither version's", crate::http::short(found)),
            ));
        }
        let rest = self.rest(&path, before.as_deref()).map_err(read)?;
        // The way back is open whatever else was changed.
        if version == VersionRef::To && kept.as_ref().is_some_and(|kept| kept.rest != rest) {
            return Err(edited(
                place,
                &path,
                "what is not Slackwater's in it was changed since the rollout began, and would come into force with the start",
            ));
        }
        let after = self.with(before.as_deref(), place, goal.as_deref()).map_err(read)?;
        Ok(Change { path, before, after })
    }

    /// Ensures that a replica is defined as this version; whether the file had to be changed.
    pub(super) fn put(&self, place: &Place, version: VersionRef) -> Result<bool, Trouble> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let change = self.change(place, version, true)?;
        if change.after == change.before {
            return Ok(false);
        }
        if self.read(&change.path)? != change.before {
            return Err(Trouble::passing(format!(
                "{}: {} was changed by somebody else just now",
                place.name,
                change.path.display()
            )));
        }
        let folder = change.path.parent().unwrap_or(Path::new("/"));
        let written = match &change.after {
            Some(text) => fs::create_dir_all(folder).and_then(|()| write_whole(&change.path, text)),
            None => fs::remove_file(&change.path),
        };
        written.map_err(|error| {
            Trouble::lasting(format!(
                "{}: {} can't be written: {error}; check the folder's permissions and space",
                place.name,
                change.path.display()
            ))
        })?;
        if change.after.is_none() && matches!(self.form, Form::DropIn(_)) {
            // Ours alone, and only where nobody else has put something there.
            let _ = fs::remove_dir(folder);
        }
        Ok(true)
    }

    /// What would change in the file, as lines.
    pub(super) fn shown(&self, place: &Place) -> Result<Vec<String>, Trouble> {
        let change = self.change(place, VersionRef::To, false)?;
        let slot = self.slot_before(place)?;
        let old = self.wanted(place, VersionRef::From)?;
        if slot.is_some() && !self.same(slot.as_deref(), old.as_deref()) {
            return Err(Trouble::lasting(format!(
                "{}: {} has `{}`, which is neither version's; correct versions.from, or the file",
                place.name,
                change.path.display(),
                crate::http::short(slot.as_deref().unwrap_or_default())
            )));
        }
        let folder = change.path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
        if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Trouble::lasting(format!(
                "{}: {} can't be written to; files are put there beside {}: run as its owner",
                place.name,
                folder.display(),
                change.path.display()
            )));
        }
        let mut lines = vec![format!("{}: edit  {}", place.name, change.path.display())];
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let differ = difference(&text(&change.before), &text(&change.after));
        lines.extend(differ.iter().map(|line| format!("  {line}")));
        if differ.is_empty() {
            lines.push("  (it says so already)".to_owned());
        }
        Ok(lines)
    }

    /// A replica's slot before a rollout: what is there. One that is of the new version already has what the old version's would be.
    pub(super) fn slot_before(&self, place: &Place) -> Result<Option<String>, Trouble> {
        let path = self.path(place)?;
        let text = self.read(&path)?;
        let slot = self.slot(text.as_deref(), place).map_err(|what| edited(place, &path, &what))?;
        let is_new = self.same(slot.as_deref(), self.wanted(place, VersionRef::To)?.as_deref());
        if is_new { self.wanted(place, VersionRef::From) } else { Ok(slot) }
    }

    /// Keeps what is there now.
    pub(super) fn save(&self, place: &Place) -> Result<(), Trouble> {
        let (path, slot) = (self.path(place)?, self.slot_before(place)?);
        let rest = self.rest(&path, self.read(&path)?.as_deref());
        let rest = rest.map_err(|what| edited(place, &path, &what))?;
        let record = self.record(place);
        let kept = serde_json::to_string(&Kept { file: path, slot, rest });
        let kept = kept.map_err(|error| Trouble::lasting(error.to_string()))?;
        let made = record.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| write_whole(&record, &kept))
            .map_err(|error| Trouble::lasting(format!("{} can't be written: {error}", record.display())))
    }

    /// Shell lines that put the old slot back, as it is before the first change.
    pub(super) fn recovery(&self, place: &Place) -> Result<Vec<String>, Trouble> {
        let (path, slot) = (self.path(place)?, self.slot_before(place)?);
        let file = quote(&path.to_string_lossy());
        Ok(match &self.form {
            Form::Variables(_) => {
                let lines: Vec<&str> = slot.iter().flat_map(|slot| slot.lines()).collect();
                let of = |name: &String| {
                    let line = lines.iter().find(|line| variables::name(line) == Some(name));
                    format!("set_line {file} {name} {}", quote(line.unwrap_or(&"")))
                };
                self.names(place).iter().map(of).collect()
            }
            Form::Services(_) => {
                // Every replica is brought back, so it is the file as it was before any of them.
                let mut text = self.read(&path)?;
                for other in &self.deployment.replicas {
                    let slot = self.slot_before(other)?;
                    text = self.with(text.as_deref(), other, slot.as_deref()).map_err(Trouble::lasting)?;
                }
                whole(&file, text.as_deref())
            }
            Form::DropIn(_) => whole(&file, slot.as_deref()),
        })
    }

    /// The shell functions for that.
    pub(super) fn recovery_head() -> Vec<String> {
        vec![
            "# set_line FILE NAME LINE: the line that sets a variable; none where it is empty.".to_owned(),
            "set_line() { NAME=$2 LINE=$3 awk '{ line = $0; sub(/^[ \\t]*(export[ \\t]+)?/, \"\", line); at = index(line, \"=\"); name = substr(line, 1, at - 1); \
             sub(/[ \\t]+$/, \"\", name); if (at > 0 && name == ENVIRON[\"NAME\"]) { if (ENVIRON[\"LINE\"] != \"\" && !done) print ENVIRON[\"LINE\"]; done = 1 } else print } \
             END { if (ENVIRON[\"LINE\"] != \"\" && !done) print ENVIRON[\"LINE\"] }' \"$1\" >\"$1.recovered\" && cat \"$1.recovered\" >\"$1\" && rm \"$1.recovered\" || failed=1; }"
                .to_owned(),
            "set_file() { printf '%s' \"$2\" >\"$1\" || failed=1; }".to_owned(),
        ]
    }
}

/// The shell line that makes a file to be this, or not to be.
fn whole(file: &str, text: Option<&str>) -> Vec<String> {
    vec![text.map_or_else(|| format!("rm -f {file}"), |text| format!("set_file {file} {}", quote(text)))]
}

#[derive(Debug)]
struct Change {
    path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

fn edited(place: &Place, path: &Path, what: &str) -> Trouble {
    Trouble::lasting(format!(
        "{}: {} was edited by somebody else: {what}; put it back as it was, or abort the rollout and plan it anew",
        place.name,
        path.display()
    ))
}
