//! What a stand-in says: token `k` of every answer of a model is `LABEL#k `, so that whoever reads an answer can tell
//! which model gave it, whether a token is missing or came twice, and where it broke off.

use std::fmt::Write;

/// How a model names itself in its answers: the last part of its path, and four hex digits of the whole path, so that
/// `/models/a/chat` and `/models/b/chat` differ.
#[must_use]
pub fn label(model: &str) -> String {
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mut label: String = last
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-._".contains(letter) { letter } else { '_' })
        .collect();
    // A String can be written to without fail.
    let _ = write!(label, "-{:04x}", fold(model));
    label
}

/// FNV-1a in 32 bits, its halves folded together.
fn fold(text: &str) -> u32 {
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16) ^ (hash & 0xffff)
}

/// Token `index` (from 0) of an answer.
#[must_use]
pub fn token(label: &str, index: u32) -> String {
    format!("{label}#{index} ")
}

/// The first `tokens` tokens of an answer.
#[must_use]
pub fn answer(label: &str, tokens: u32) -> String {
    let mut text = String::new();
    for index in 0..tokens {
        let _ = write!(text, "{label}#{index} ");
    }
    text
}

/// Label and index of one token, the space behind it or not; `None` for anything else.
#[must_use]
pub fn read(token: &str) -> Option<(&str, u32)> {
    let (label, index) = token.trim_end_matches(' ').rsplit_once('#')?;
    Some((label, index.parse().ok()?)).filter(|(label, _)| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let label = label("/models/chat v2");
        assert!(label.starts_with("chat_v2-"), "{label}");
        assert_eq!(read(&token(&label, 17)), Some((label.as_str(), 17)));
        assert_eq!(answer(&label, 2), format!("{label}#0 {label}#1 "));
        for wrong in ["", "#3", "word", "a#", "a#-1", "a#b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn models_of_the_same_name_in_different_places_differ() {
        assert_ne!(label("/models/a/chat"), label("/models/b/chat"));
        assert_eq!(label("chat"), label("chat"));
    }
}
