//! Engine names become profiles: built-in ones, the file's own `[engines.NAME]`, and changed copies (`base = "NAME"`).

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document::{Mistake, Table, Value, set_place};
use crate::engine_profile::EngineProfile;
use crate::explain;

/// A profile may be based on one that is based on one ...: so deep and no deeper, or it is a circle.
const DEEPEST: usize = 8;

/// Replaces every engine name under `from`, `to` and `engines`.
pub(crate) fn resolve(table: &mut Table<'_>) -> Result<(), Mistake> {
    let own = match table.get("engines").map(Spanned::get_ref) {
        Some(DeValue::Table(own)) => own.clone(),
        _ => Table::new(),
    };
    if let Some(DeValue::Table(engines)) = table.get_mut("engines").map(Spanned::get_mut) {
        for (name, engine) in engines.iter_mut() {
            resolve_one(engine, &format!("engines.{}", name.get_ref()), &own, DEEPEST)?;
        }
    }
    for version in ["from", "to"] {
        if let Some(DeValue::Table(keys)) = table.get_mut(version).map(Spanned::get_mut)
            && let Some(engine) = keys.get_mut("engine")
        {
            resolve_one(engine, &format!("{version}.engine"), &own, DEEPEST)?;
        }
    }
    Ok(())
}

fn resolve_one<'t>(
    engine: &mut Spanned<Value<'t>>,
    key: &str,
    own: &Table<'t>,
    depth: usize,
) -> Result<(), Mistake> {
    let place = engine.span();
    match engine.get_mut() {
        DeValue::String(name) => {
            let mut profile = named(name, place.clone(), key, own, depth)?;
            set_place(&mut profile, &place);
            *engine = profile;
        }
        DeValue::Table(changes) => {
            let Some(base) = changes.remove("base") else { return Ok(()) };
            let DeValue::String(base_name) = base.get_ref() else {
                return Err(Mistake {
                    span: base.span(),
                    key: Some(format!("{key}.base")),
                    message: format!("`{key}.base`: expected the name of an engine profile"),
                    help: Some(known_names("", own)),
                });
            };
            let mut profile = named(base_name, base.span(), &format!("{key}.base"), own, depth)?;
            set_place(&mut profile, &base.span());
            if let DeValue::Table(profile) = profile.into_inner() {
                take_the_rest(changes, profile, base_name);
            }
        }
        _ => {
            return Err(Mistake {
                span: place,
                key: Some(key.to_owned()),
                message: format!("`{key}`: expected the name of an engine profile in quotes, or a table"),
                help: Some(known_names("", own)),
            });
        }
    }
    Ok(())
}

/// What a measurement speaks of: with any of it changed by hand, the profile is no longer what was measured.
const MEASURED: [&str; 9] = [
    "form",
    "c0_ms",
    "c_tok_us",
    "c_seq_us",
    "c_kv_us",
    "c_attn_us_per_token2",
    "scheduling",
    "reserve",
    "front_end",
];

/// Takes from a profile what the changes to it leave out.
pub(crate) fn take_the_rest<'t>(changes: &mut Table<'t>, profile: Table<'t>, base_name: &str) {
    let still_measured = !MEASURED.iter().any(|key| changes.contains_key(*key));
    note_changes(changes, &profile, base_name);
    for (key, value) in profile {
        let name = key.get_ref().as_ref();
        if !changes.contains_key(name) && (still_measured || name != "calibration") {
            changes.insert(key, value);
        }
    }
}

/// A profile's source must not claim what was changed by hand.
fn note_changes(changes: &mut Table<'_>, profile: &Table<'_>, base_name: &str) {
    if changes.contains_key("source") || changes.is_empty() {
        return;
    }
    let Some(DeValue::String(source)) = profile.get("source").map(Spanned::get_ref) else { return };
    let changed: Vec<&str> = changes.keys().map(|key| key.get_ref().as_ref()).collect();
    let text = format!("{base_name} with {} set in the scenario; {base_name}: {source}", changed.join(", "));
    let place = 0..0;
    changes.insert(
        Spanned::new(place.clone(), Cow::Borrowed("source")),
        Spanned::new(place, DeValue::String(Cow::Owned(text))),
    );
}

fn named<'t>(
    name: &str,
    place: Range<usize>,
    key: &str,
    own: &Table<'t>,
    depth: usize,
) -> Result<Spanned<Value<'t>>, Mistake> {
    let mistake = |message: String, help: String| Mistake {
        span: place.clone(),
        key: Some(key.to_owned()),
        message,
        help: Some(help),
    };
    if depth == 0 {
        return Err(mistake(
            format!("`{key}`: engine `{name}` is based on itself, or on a chain of more than {DEEPEST}"),
            "give one of the chain's profiles its own coefficients in place of `base`".into(),
        ));
    }
    if let Some(found) = own.get(name) {
        let mut engine = found.clone();
        resolve_one(&mut engine, &format!("engines.{name}"), own, depth - 1)?;
        return Ok(engine);
    }
    let Some(text) = EngineProfile::built_in_text(name) else {
        return Err(mistake(
            format!("`{key}`: no engine profile is called `{name}`"),
            known_names(name, own),
        ));
    };
    let parsed = DeTable::parse(text).map_err(|error| {
        mistake(format!("built-in profile `{name}`: {}", error.message()), "report this as a bug".into())
    })?;
    let engine = parsed.into_inner();
    Ok(Spanned::new(0..0, DeValue::Table(engine)))
}

fn known_names(wrong: &str, own: &Table<'_>) -> String {
    let mut known: Vec<&str> = own.keys().map(|key| key.get_ref().as_ref()).collect();
    known.extend(EngineProfile::BUILT_IN.iter().map(|(name, _)| *name));
    let names = explain::did_you_mean(wrong, &known, "known engines");
    format!(
        "{names}; or describe your own in an [engines.NAME] table, let {{ gpu = \"H100\", model = \"llama-3.1-8b\" }} compute \
         one, or take a measured one with {{ file = \"engine.toml\" }}"
    )
}
