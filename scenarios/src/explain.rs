//! The deserialiser's words in the user's: what was expected, and the key that was probably meant.

/// At most this many valid keys are listed; longer lists are the JSON Schema's business.
const LISTED: usize = 24;

/// Message and help for an error of the deserialiser at `key`.
pub(crate) fn deserialising(message: &str, key: Option<&str>) -> (String, Option<String>) {
    let table = |key: &str| match key.rfind('.') {
        Some(dot) => format!(" in `{}`", &key[..dot]),
        None => " at the top level".to_owned(),
    };
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = backticked(rest);
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let place = key.map(table).unwrap_or_default();
        return (format!("unknown key `{wrong}`{place}"), Some(did_you_mean(wrong, &known, "keys")));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut names = backticked(rest);
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let place = key.map(|key| format!(" for `{key}`")).unwrap_or_default();
        return (format!("unknown choice `{wrong}`{place}"), Some(did_you_mean(wrong, &known, "choices")));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let name = backticked(rest).next().unwrap_or_default();
        let place = key.map_or(" at the top level".to_owned(), |key| format!(" in `{key}`"));
        let full = key.map_or(name.to_owned(), |key| format!("{key}.{name}"));
        return (format!("missing key `{name}`{place}"), Some(example(&full)));
    }
    let place = key.map(|key| format!("`{key}`: ")).unwrap_or_default();
    (format!("{place}{}", plain_types(message)), Some(help_for(message)))
}

/// The parser's message on one line.
pub(crate) fn syntax(message: &str) -> String {
    message.trim().replace('\n', "; ")
}

/// "did you mean" when one candidate is near, and what there is.
pub(crate) fn did_you_mean(wrong: &str, known: &[&str], what: &str) -> String {
    let folded = wrong.to_lowercase().replace('-', "_");
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.replace('-', "_")), *name))
        .min()
        // A third of the letters may differ: `replcas` is `replicas`, `colour` is nothing here.
        .filter(|(distance, name)| *distance <= 1.max(name.chars().count().max(folded.chars().count()) / 3));
    let mut list: Vec<String> = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    if known.len() > LISTED {
        list.push("...".into());
    }
    match (nearest, list.is_empty()) {
        (Some((_, name)), _) => format!("did you mean `{name}`? (the {what} are {})", list.join(", ")),
        (None, false) => format!("the {what} are {}", list.join(", ")),
        (None, true) => format!("there are no {what} here"),
    }
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Rust's type names say nothing to a user of a configuration file.
fn plain_types(message: &str) -> String {
    let Some((head, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let plain = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, not negative",
        "i64" | "i32" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "string" => "a text in quotes",
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list in [brackets]",
        other if other.starts_with("struct ") => "a table of keys",
        other => other,
    };
    format!("{head}expected {plain}")
}

fn help_for(message: &str) -> String {
    if message.starts_with("invalid type") || message.starts_with("invalid value") {
        "change the value to what is expected".into()
    } else {
        "correct the value; `slackwater schema` lists every key with its meaning".into()
    }
}

fn example(key: &str) -> String {
    if key.ends_with(".source") || key.ends_with(".kv_blocks") {
        return "add it, or change a known profile: base = \"h100-qwen3-14b\" beside the keys that differ"
            .into();
    }
    let line = match key {
        "fleet" => "[fleet]\nreplicas = 4",
        "fleet.replicas" => "replicas = 4",
        "from" => "[from]\nengine = \"h100-qwen3-14b\"",
        "from.engine" | "to.engine" => "engine = \"h100-qwen3-14b\"",
        "traffic" => "[traffic]\nfile = \"trace.csv.gz\"",
        "traffic.generate.duration" => "duration = \"1h\"",
        "traffic.generate.rate_per_s" => "rate_per_s = 5.5",
        _ => return "add it; `slackwater schema` says what it means".into(),
    };
    format!("add it, for example: {}", line.replace('\n', " then "))
}
