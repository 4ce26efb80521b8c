//! Finding a name as people write it.

/// A name's letters and digits alone, in lower case.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The place in `known` of the name `wanted` (plain already), or what to say instead.
pub(super) fn find(wanted: &str, known: &[&str]) -> Result<usize, String> {
    if let Some(index) = known.iter().position(|name| plain(name) == wanted) {
        return Ok(index);
    }
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, &plain(name)), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1.max(plain(name).len().max(wanted.len()) / 3));
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(match nearest {
        Some((_, name)) => format!("did you mean `{name}`? (known are {list})"),
        None => format!("known are {list}"),
    })
}
