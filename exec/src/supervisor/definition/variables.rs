//! Lines `NAME=value` of a file that is the operator's: Compose's `.env`, a unit's environment file.

/// The name that a line sets; `None` for a comment or anything else.
pub(super) fn name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, _) = line.split_once('=')?;
    let name = name.trim_end();
    is_name(name).then_some(name)
}

/// Whether a variable may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The value that a line sets, without its quotes.
fn value(line: &str) -> &str {
    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(value)
}

/// A line that both Compose and systemd read back as meant: neither puts anything in between single quotes.
pub(crate) fn line(name: &str, value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if value.chars().all(plain) {
        return Ok(format!("{name}={value}"));
    }
    if value.contains(['\'', '\n', '\r', '\\']) {
        return Err(format!(
            "the value of {name} has a quote, a backslash or a line break, which such files read differently"
        ));
    }
    Ok(format!("{name}='{value}'"))
}

/// The lines that set these variables, in the file's order.
pub(super) fn slot(text: &str, names: &[String]) -> Option<String> {
    let ours = |line: &&str| name(line).is_some_and(|name| names.iter().any(|ours| ours == name));
    let lines: Vec<&str> = text.lines().filter(ours).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The file with these lines in place of those that set the same variables; each keeps its place.
pub(super) fn with(text: &str, names: &[String], slot: Option<&str>) -> String {
    let mut wanted: Vec<&str> = slot.into_iter().flat_map(str::lines).collect();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        match name(line).filter(|name| names.iter().any(|ours| ours == name)) {
            Some(is) => {
                if let Some(at) = wanted.iter().position(|line| name(line) == Some(is)) {
                    lines.push(wanted.remove(at));
                }
            }
            None => lines.push(line),
        }
    }
    lines.extend(wanted);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Whether two sets of lines say the same, however they are quoted.
pub(super) fn same(left: Option<&str>, right: Option<&str>) -> bool {
    let read = |text: Option<&str>| {
        let lines = text.into_iter().flat_map(str::lines);
        let mut all: Vec<(String, String)> =
            lines.filter_map(|line| Some((name(line)?.to_owned(), value(line).to_owned()))).collect();
        all.sort();
        all
    };
    read(left) == read(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# tags\nA=1\nexport B = 'two words'\n\nOTHER=x # A=5\n";

    fn names() -> Vec<String> {
        ["A", "B"].map(str::to_owned).to_vec()
    }

    #[test]
    fn only_the_named_lines_change_and_each_stays_where_it_is() {
        let names = names();
        assert_eq!(slot(TEXT, &names).as_deref(), Some("A=1\nexport B = 'two words'"));
        let new = with(TEXT, &names, Some("B=3\nA=2"));
        assert_eq!(new, "# tags\nA=2\nB=3\n\nOTHER=x # A=5\n");
        assert_eq!(with(&new, &names, slot(TEXT, &names).as_deref()), TEXT, "and back, to the letter");
        assert_eq!(with("X=1", &names, Some("A=2")), "X=1\nA=2\n");
        assert_eq!(with(TEXT, &names, None), "# tags\n\nOTHER=x # A=5\n");
    }

    #[test]
    fn values_are_quoted_where_they_must_be_and_compared_without_quotes() {
        assert_eq!(line("A", "vllm:0.12").unwrap(), "A=vllm:0.12");
        assert_eq!(line("A", "$x y").unwrap(), "A='$x y'");
        assert!(line("A", "it's").is_err() && line("A", "a\nb").is_err());
        assert!(same(Some("A='1'\nB=2"), Some("B=\"2\"\nA=1")));
        assert!(!same(Some("A=1"), None) && same(None, None));
        assert!(is_name("_A1") && !is_name("1A") && !is_name("a-b") && !is_name(""));
    }
}
