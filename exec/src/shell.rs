//! Text for shells: what a person reads and pastes, and `recover.sh`. Slackwater itself runs no shell.

/// One word, quoted where it must be.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An argument vector as a line.
pub fn join(arguments: &[String]) -> String {
    arguments.iter().map(|argument| quote(argument)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let words = ["plain", "", "two words", "it's", "$HOME `x` \\ \"", "--a=b"].map(str::to_owned);
        let line = format!("printf '%s\\n' {}", join(&words));
        let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
        let read: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(read, words);
    }
}
