//! From a scenario's text to a checked [`Scenario`].
//!
//! ```text
//! text --parse--> table --overrides--> --[to] inherits--> --presets, engine names--> --deserialise--> --validate--> Scenario
//! ```
//!
//! Every value keeps the place it was written at through all of this, an override's included: each override is a little
//! text of its own, with offsets behind those of the file (see [`Places`]). Whatever is wrong is shown where the user
//! wrote it.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::engine_names;
use crate::error::{Diagnostic, ScenarioError};
use crate::explain;
use crate::places::Places;
use crate::presets::expand as presets;
use crate::scenario::Scenario;
use crate::validate;

pub(crate) type Table<'t> = DeTable<'t>;
pub(crate) type Value<'t> = DeValue<'t>;

/// No key of a scenario has more parts; a longer one in an override is not walked down.
const DEEPEST_KEY: usize = 16;

/// A mistake found at a place in the texts.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) span: Range<usize>,
    pub(crate) key: Option<String>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// A scenario's text from its bytes, or where they stop being text.
pub(crate) fn text(bytes: Vec<u8>, name: &str) -> Result<String, ScenarioError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let mistake = Mistake {
            span: good..good + 1,
            key: None,
            message: "the file is not UTF-8 text from here on".into(),
            help: Some("a scenario is a TOML file: save it as UTF-8".into()),
        };
        ScenarioError::Invalid(Box::new(diagnose(&Places::new(name, &text), mistake)))
    })
}

pub(crate) fn read(text: &str, name: &str, overrides: &[impl AsRef<str>]) -> Result<Scenario, ScenarioError> {
    let mut places = Places::new(name, text);
    let found = assemble(text, overrides, &mut places);
    let mut scenario =
        found.map_err(|mistake| ScenarioError::Invalid(Box::new(diagnose(&places, mistake))))?;
    if scenario.name.is_empty() {
        scenario.name =
            Path::new(name).file_stem().map_or(name.into(), |stem| stem.to_string_lossy().into_owned());
    }
    Ok(scenario)
}

fn assemble<'t>(
    text: &'t str,
    overrides: &'t [impl AsRef<str>],
    places: &mut Places,
) -> Result<Scenario, Mistake> {
    let parsed = DeTable::parse(text).map_err(|error| Mistake {
        span: error.span().unwrap_or(0..0),
        key: None,
        message: explain::syntax(error.message()),
        help: Some("a scenario is a TOML file; see https://toml.io for its syntax".into()),
    })?;
    let whole = parsed.span();
    let mut table = parsed.into_inner();

    for assignment in overrides {
        apply_override(&mut table, assignment.as_ref(), places)?;
    }
    for (_, value) in table.iter_mut() {
        dates_to_text(value);
    }
    inherit(&mut table);
    let presets = presets::take(&mut table, places)?;
    // The presets' texts live shorter than the scenario's; from here on the table may borrow from both.
    let mut filled = table;
    for preset in &presets {
        preset.fill(&mut filled)?;
    }
    engine_names::resolve(&mut filled)?;
    places.index(&filled);

    let scenario = Scenario::deserialize(toml::de::Deserializer::from(Spanned::new(whole, filled))).map_err(
        |error| {
            let span = error.span().unwrap_or(0..0);
            let key = places.key_at(&span);
            let (message, help) = explain::deserialising(error.message(), key.as_deref());
            Mistake { span, key, message, help }
        },
    )?;
    let scenario = from_scenario_folder(scenario, places);
    validate::check(&scenario, places).map_err(|problem| Mistake {
        span: places.span_of(&problem.key),
        key: Some(problem.key),
        message: problem.message,
        help: Some(problem.help),
    })?;
    Ok(scenario)
}

fn diagnose(places: &Places, mistake: Mistake) -> Diagnostic {
    let spot = places.locate(&mistake.span);
    Diagnostic {
        path: spot.label,
        line: spot.line,
        column: spot.column,
        key: mistake.key,
        snippet: spot.snippet,
        width: spot.width,
        message: mistake.message,
        help: mistake.help,
    }
}

/// A trace, and a cache, named in the file lies relative to the file; one named in an override, relative to the working directory.
fn from_scenario_folder(mut scenario: Scenario, places: &Places) -> Scenario {
    if let Some(file) = &scenario.traffic.file
        && places.is_in_file(&places.span_of("traffic.file"))
        && let Some(folder) = Path::new(places.file_name()).parent()
    {
        scenario.traffic.file = Some(folder.join(file));
    }
    let named = places.is_set("traffic.prometheus.cache");
    if let Some(source) = &mut scenario.traffic.prometheus
        && (!named || places.is_in_file(&places.span_of("traffic.prometheus.cache")))
        && let Some(folder) = Path::new(places.file_name()).parent()
    {
        source.cache = Some(folder.join(source.cache_file()));
    }
    scenario
}

/// TOML's own dates become text: the scenario's times are texts, and quotes are easily forgotten.
fn dates_to_text(value: &mut Spanned<Value<'_>>) {
    match value.get_mut() {
        DeValue::Datetime(date) => {
            let text = date.to_string();
            *value.get_mut() = DeValue::String(Cow::Owned(text));
        }
        DeValue::Array(items) => items.iter_mut().for_each(dates_to_text),
        DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| dates_to_text(value)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {}
    }
}

/// `[to]` takes what it leaves out from `[from]`, so that a file says only what changes. Names are not inherited.
fn inherit(table: &mut Table<'_>) {
    let inherited: Vec<_> = match table.get("from").map(Spanned::get_ref) {
        Some(DeValue::Table(from)) => from.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        _ => vec![],
    };
    // Without `[from]` the missing key is that, not something in an invented `[to]`.
    let Some(from_span) = table.get("from").map(Spanned::span) else { return };
    let to = table
        .entry(Spanned::new(from_span.clone(), Cow::Borrowed("to")))
        .or_insert_with(|| Spanned::new(from_span, DeValue::Table(Table::new())));
    if let DeValue::Table(to) = to.get_mut() {
        for (key, value) in inherited {
            if key.get_ref() != "name" && !to.contains_key(key.get_ref().as_ref()) {
                to.insert(key, value);
            }
        }
    }
    for (version, name) in [("from", "old"), ("to", "new")] {
        if let Some(DeValue::Table(keys)) = table.get_mut(version).map(Spanned::get_mut)
            && !keys.contains_key("name")
        {
            let place = 0..0;
            keys.insert(
                Spanned::new(place.clone(), Cow::Borrowed("name")),
                Spanned::new(place, DeValue::String(Cow::Borrowed(name))),
            );
        }
    }
}

/// Puts one `key.path=value` into the table. A value that is no TOML is taken as text, so that a shell needs no second
/// layer of quotes.
fn apply_override<'t>(
    table: &mut Table<'t>,
    assignment: &'t str,
    places: &mut Places,
) -> Result<(), Mistake> {
    let base = places.add(format!("--set {assignment}"), assignment);
    let bad = |range: Range<usize>, message: String| Mistake {
        span: base + range.start..base + range.end,
        key: None,
        message,
        help: Some("write an override as key.path=value, for example --set fleet.replicas=8".into()),
    };
    let Some((path, value_text)) = assignment.split_once('=') else {
        return Err(bad(0..assignment.len(), "an override needs a `=`".into()));
    };
    let value_start = base + path.len() + 1;
    let value = match DeValue::parse(value_text.trim()) {
        Ok(parsed) => parsed.into_inner(),
        // What starts like a TOML text, list or table was meant as one; anything else is a bare word.
        Err(error) if value_text.trim_start().starts_with(['"', '\'', '[', '{']) => {
            return Err(bad(path.len() + 1..assignment.len(), explain::syntax(error.message())));
        }
        Err(_) => DeValue::String(Cow::Borrowed(value_text.trim())),
    };
    let mut value = Spanned::new(0..0, value);
    set_place(&mut value, &(value_start..base + assignment.len()));

    let mut segments = Vec::new();
    let mut offset = 0;
    for segment in path.split('.') {
        let name = segment.trim();
        if name.is_empty() {
            return Err(bad(0..path.len(), format!("`{path}` has an empty part between its dots")));
        }
        segments.push((name, base + offset..base + offset + segment.len()));
        offset += segment.len() + 1;
    }

    if segments.len() > DEEPEST_KEY {
        return Err(bad(0..path.len(), format!("a key has at most {DEEPEST_KEY} parts")));
    }

    // A trace in place of a generator, or any other source in place of another, is one override, not two.
    if let Some(DeValue::Table(traffic)) = table.get_mut("traffic").map(Spanned::get_mut) {
        match segments.get(1).map(|(name, _)| *name) {
            Some(name @ ("file" | "generate" | "prometheus")) if segments[0].0 == "traffic" => {
                for other in ["file", "generate", "prometheus"] {
                    if other != name {
                        traffic.remove(other);
                    }
                }
            }
            _ => {}
        }
    }
    if segments[0].0 == "to" && segments.len() > 2 {
        copy_inherited(table, segments[1].0);
    }
    insert(table, &segments, value).map_err(|message| bad(0..path.len(), message))
}

/// Before an override changes a key inside a table that `[to]` inherits: a copy of that table, to be changed alone.
fn copy_inherited(table: &mut Table<'_>, key: &str) {
    let Some((from_key, from)) = table.get_key_value("from") else { return };
    let place = from_key.span();
    let inherited = match from.get_ref() {
        DeValue::Table(from) => from.get_key_value(key).map(|(key, value)| (key.clone(), value.clone())),
        _ => None,
    };
    let Some((key, value)) = inherited else { return };
    let to = table
        .entry(Spanned::new(place.clone(), Cow::Borrowed("to")))
        .or_insert_with(|| Spanned::new(place, DeValue::Table(Table::new())));
    if let DeValue::Table(to) = to.get_mut()
        && !to.contains_key(key.get_ref().as_ref())
    {
        to.insert(key, value);
    }
}

fn insert<'t>(
    table: &mut Table<'t>,
    segments: &[(&'t str, Range<usize>)],
    value: Spanned<Value<'t>>,
) -> Result<(), String> {
    let [(name, span), rest @ ..] = segments else { return Ok(()) };
    let key = Spanned::new(span.clone(), Cow::Borrowed(*name));
    if rest.is_empty() {
        // Removed first: inserting alone would keep the old key's place.
        table.remove(*name);
        table.insert(key, value);
        return Ok(());
    }
    let inner = table.entry(key).or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(Table::new())));
    descend(inner, name, rest, value)
}

fn descend<'t>(
    inner: &mut Spanned<Value<'t>>,
    name: &str,
    rest: &[(&'t str, Range<usize>)],
    value: Spanned<Value<'t>>,
) -> Result<(), String> {
    let span = inner.span();
    // `from.engine.c0_ms=12` on a named engine: the name becomes the base of a changed profile.
    if name == "engine"
        && let DeValue::String(base) = inner.get_ref()
    {
        let base = Spanned::new(span.clone(), DeValue::String(base.clone()));
        let mut changed = Table::new();
        changed.insert(Spanned::new(span, Cow::Borrowed("base")), base);
        *inner.get_mut() = DeValue::Table(changed);
    }
    match inner.get_mut() {
        DeValue::Table(table) => insert(table, rest, value),
        DeValue::Array(items) => {
            let count = items.len();
            let (index_text, _) = &rest[0];
            let item = index_text.parse().ok().and_then(|index: usize| items.get_mut(index));
            let Some(item) = item else {
                return Err(format!("`{name}` is a list of {count}; `{index_text}` is not an index into it"));
            };
            if rest.len() == 1 {
                *item = value;
                return Ok(());
            }
            descend(item, index_text, &rest[1..], value)
        }
        other => Err(format!(
            "`{name}` holds no keys (it is of type {}), so there is no `{}` in it",
            other.type_str(),
            rest[0].0
        )),
    }
}

/// Gives a value and all inside it one place.
pub(crate) fn set_place(value: &mut Spanned<Value<'_>>, place: &Range<usize>) {
    let mut inner = std::mem::replace(value.get_mut(), DeValue::Boolean(false));
    match &mut inner {
        DeValue::Array(items) => items.iter_mut().for_each(|item| set_place(item, place)),
        DeValue::Table(table) => {
            let entries: Vec<_> = std::mem::take(table).into_iter().collect();
            for (key, mut entry) in entries {
                set_place(&mut entry, place);
                table.insert(Spanned::new(place.clone(), key.into_inner()), entry);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
    *value = Spanned::new(place.clone(), inner);
}
