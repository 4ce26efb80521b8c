//! Where things were written: one line of offsets through the scenario file and the overrides behind it.
//!
//! ```text
//! offset 0 ............ file's end | --set a=1 | --set b=2 | ...
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use crate::document::{Table, Value};

/// The texts, and the place of every key.
pub(crate) struct Places {
    texts: Vec<Text>,
    keys: BTreeMap<String, KeyPlace>,
}

struct Text {
    base: usize,
    label: String,
    text: String,
}

struct KeyPlace {
    key: Range<usize>,
    value: Range<usize>,
}

/// A place as a person counts it.
pub(crate) struct Spot {
    pub(crate) label: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
    pub(crate) snippet: String,
}

impl Places {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let file = Text { base: 0, label: name.to_owned(), text: text.to_owned() };
        Self { texts: vec![file], keys: BTreeMap::new() }
    }

    /// Adds an override's text; its offsets start at what this returns.
    pub(crate) fn add(&mut self, label: String, text: &str) -> usize {
        let base = self.texts.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.texts.push(Text { base, label, text: text.to_owned() });
        base
    }

    pub(crate) fn file_name(&self) -> &str {
        &self.texts[0].label
    }

    pub(crate) fn is_in_file(&self, span: &Range<usize>) -> bool {
        span.start <= self.texts[0].text.len()
    }

    /// Where a path that is written here begins: in the scenario's folder, or for an override in the working directory.
    pub(crate) fn folder_of(&self, span: &Range<usize>) -> PathBuf {
        match Path::new(self.file_name()).parent() {
            Some(folder) if self.is_in_file(span) => folder.to_owned(),
            _ => PathBuf::new(),
        }
    }

    /// Notes the place of every key of the finished table.
    pub(crate) fn index(&mut self, table: &Table<'_>) {
        self.index_table("", table);
    }

    fn index_table(&mut self, prefix: &str, table: &Table<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
            self.keys.insert(path.clone(), KeyPlace { key: key.span(), value: value.span() });
            self.index_value(&path, value);
        }
    }

    fn index_value(&mut self, path: &str, value: &Spanned<Value<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.index_table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.keys.insert(path.clone(), KeyPlace { key: item.span(), value: item.span() });
                    self.index_value(&path, item);
                }
            }
            _ => {}
        }
    }

    /// Whether the user wrote this key.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The place of a key's value; of the nearest table around it when the key is not written.
    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        let mut path = key;
        loop {
            if let Some(place) = self.keys.get(path) {
                // A table's value has no place of its own when its header made it: point at its name.
                return if path == key { place.value.clone() } else { place.key.clone() };
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 0..0,
            }
        }
    }

    /// The key written at this place: exactly there, else the smallest that contains it.
    pub(crate) fn key_at(&self, span: &Range<usize>) -> Option<String> {
        let exact = self.keys.iter().find(|(_, place)| place.key == *span || place.value == *span);
        let around = || {
            self.keys
                .iter()
                .filter(|(_, place)| place.value.start <= span.start && span.end <= place.value.end)
                .min_by_key(|(_, place)| place.value.len())
        };
        exact.or_else(around).map(|(key, _)| key.clone())
    }

    /// Line, column and text of a place.
    pub(crate) fn locate(&self, span: &Range<usize>) -> Spot {
        let index = self.texts.partition_point(|text| text.base <= span.start).saturating_sub(1);
        let Text { base, label, text } = &self.texts[index];
        let mut start = (span.start - base).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count() + 1;
        let rest_of_line = line_text.chars().count().saturating_sub(column - 1);
        let mut end = (span.end.max(span.start) - base).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let width = text[start..end.max(start)].chars().count().min(rest_of_line).max(1);
        Spot {
            label: label.clone(),
            line: before.matches('\n').count() + 1,
            column,
            width,
            // Tabs would shift the marker under the line, and a terminal obeys control characters.
            snippet: shorten(&line_text.replace(char::is_control, " ")),
        }
    }
}

fn shorten(line: &str) -> String {
    const LONGEST: usize = 160;
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    let head: String = line.chars().take(LONGEST).collect();
    format!("{head}...")
}
