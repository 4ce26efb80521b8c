//! A profile in a file of its own, as `slackwater calibrate` writes it.

use std::io::Read;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::expand::KEYS;
use crate::document::{Mistake, Table, Value};
use crate::engine_profile::EngineProfile;
use crate::explain;
use crate::places::Places;

/// The key that names the file.
pub(crate) const FILE: &str = "file";

/// No profile is larger; a trace given by mistake is not read to its end.
const LARGEST: u64 = 1 << 20;

/// What the file is called, and its text. `beside` is what stands beside the key.
pub(super) fn read(
    engine: &str,
    file: &Spanned<Value<'_>>,
    beside: &Table<'_>,
    places: &Places,
) -> Result<(String, String), Mistake> {
    let key = format!("{engine}.{FILE}");
    let mistake = |span: Range<usize>, problem: String, help: String| Mistake {
        span,
        message: format!("`{key}`: {problem}"),
        key: Some(key.clone()),
        help: Some(help),
    };
    let DeValue::String(given) = file.get_ref() else {
        let help = "give the path of a profile, as in file = \"engine.toml\"".into();
        return Err(mistake(file.span(), "expected a text in quotes".into(), help));
    };
    let other = |(name, _): &(&Spanned<std::borrow::Cow<'_, str>>, _)| {
        name.get_ref() == "base" || KEYS.iter().any(|key| name.get_ref() == *key)
    };
    if let Some((name, value)) = beside.iter().find(other) {
        let problem = format!("an engine has either a `{FILE}` or a `{}`", name.get_ref());
        return Err(mistake(value.span(), problem, "keep one of them".into()));
    }
    let path = places.folder_of(&file.span()).join(given.as_ref());
    let shown = path.display();
    let unreadable = |error: &dyn std::fmt::Display| {
        mistake(
            file.span(),
            format!("{shown}: cannot read the engine profile: {error}"),
            "give the path of a profile as `slackwater calibrate --out FILE` writes it, relative to this file".into(),
        )
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(&format!("it is larger than {LARGEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8 text"))?;
    // The whole of it, so that what is wrong in this file is said of this file.
    let profile: EngineProfile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or_else(String::new, |span| {
            let before = text.get(..span.start).unwrap_or_default();
            format!(", line {}", before.matches('\n').count() + 1)
        });
        let (problem, help) = explain::deserialising(error.message(), None);
        let help = help.unwrap_or_else(|| "`slackwater calibrate --out FILE` writes such files".into());
        mistake(file.span(), format!("{shown}{line}: {problem}"), help)
    })?;
    crate::validate::engine("profile", &profile)
        .map_err(|problem| mistake(file.span(), format!("{shown}: {}", problem.message), problem.help))?;
    Ok((given.to_string(), text))
}
