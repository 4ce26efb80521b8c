//! Whether a stream is what it should be, from its first byte to its last.

use serde::Deserialize;
use slackwater_replica::text;

/// What is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There was no stream: no connection, or an answer that is none.
    Failed(String),
    /// It broke off, or lacks something.
    Truncated(String),
    /// Something came twice, or more than was asked for, or from two versions.
    Duplicated(String),
}

impl Fault {
    /// What happened, in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed(reason) | Self::Truncated(reason) | Self::Duplicated(reason) => reason,
        }
    }
}

/// Follows a stream of server-sent events and holds it against what was asked for.
#[derive(Debug)]
pub struct Check {
    /// The line that has not ended.
    line: Vec<u8>,
    /// Of a stand-in: the next token's index and whose it must be.
    stand_in: bool,
    label: Option<String>,
    tokens: u32,
    most_tokens: u32,
    finish_reason: Option<String>,
    usage: Option<u32>,
    done: bool,
    fault: Option<Fault>,
}

/// No chunk of a token is longer; a stream without line ends must not fill the memory.
const LONGEST_LINE: usize = 1 << 20;

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u32,
}

impl Check {
    /// For a request of at most `most_tokens` tokens. `stand_in`: every token is checked, as a stand-in's can be.
    #[must_use]
    pub fn new(stand_in: bool, most_tokens: u32) -> Self {
        Self {
            line: Vec::new(),
            stand_in,
            label: None,
            tokens: 0,
            most_tokens,
            finish_reason: None,
            usage: None,
            done: false,
            fault: None,
        }
    }

    /// Takes a piece of the stream; how many tokens it brought.
    pub fn take(&mut self, data: &[u8]) -> u32 {
        let before = self.tokens;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.event(line.trim_ascii());
            } else if self.line.len() > LONGEST_LINE {
                self.wrong(Fault::Failed("a line of the stream has no end".to_owned()));
                self.line.clear();
            }
        }
        self.tokens - before
    }

    /// The first fault counts; what follows it may only be its echo.
    fn wrong(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn event(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii_start) else { return };
        if self.done {
            return self.wrong(Fault::Duplicated("something came after [DONE]".to_owned()));
        }
        if data == b"[DONE]" {
            self.done = true;
            return;
        }
        let chunk: Chunk = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(error) => return self.wrong(Fault::Failed(format!("an event is no chunk: {error}"))),
        };
        if let Some(error) = chunk.error {
            return self.wrong(Fault::Truncated(format!("an error within the stream: {error}")));
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(usage.completion_tokens);
        }
        for choice in chunk.choices {
            let text = choice.delta.and_then(|delta| delta.content).or(choice.text).unwrap_or_default();
            if !text.is_empty() {
                self.text(&text);
            }
            if let Some(reason) = choice.finish_reason
                && self.finish_reason.replace(reason).is_some()
            {
                self.wrong(Fault::Duplicated("two finish reasons".to_owned()));
            }
        }
    }

    fn text(&mut self, chunk: &str) {
        if self.finish_reason.is_some() {
            self.wrong(Fault::Duplicated("text came after the finish reason".to_owned()));
        }
        if !self.stand_in {
            // A chunk a token is common, and no more than common.
            self.tokens += 1;
            return;
        }
        for token in chunk.split_inclusive(' ') {
            let Some((label, index)) = text::read(token) else {
                return self.wrong(Fault::Truncated(format!("`{token}` is no token of a stand-in")));
            };
            let known = self.label.get_or_insert_with(|| label.to_owned()).clone();
            if known != label {
                self.wrong(Fault::Duplicated(format!("`{known}` began and `{label}` went on")));
            } else if index < self.tokens {
                self.wrong(Fault::Duplicated(format!(
                    "token {index} came again, {} were there",
                    self.tokens
                )));
            } else if index > self.tokens {
                self.wrong(Fault::Truncated(format!("token {index} came after {} tokens", self.tokens)));
            }
            self.tokens += 1;
        }
    }

    /// Whether `[DONE]` has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// The stand-in's label, once a token of it has come.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The stream has ended, `cleanly` or by a broken connection.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn end(mut self, cleanly: bool) -> Result<Option<String>, Fault> {
        let tokens = self.tokens;
        let lacks = |what: &str| Fault::Truncated(format!("{what}, after {tokens} tokens"));
        if self.stand_in && tokens > self.most_tokens {
            self.wrong(Fault::Duplicated(format!(
                "{tokens} tokens came, {} were asked for",
                self.most_tokens
            )));
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.done {
            return Err(lacks(if cleanly { "it ended without [DONE]" } else { "the connection broke" }));
        }
        if !cleanly {
            return Err(lacks("the connection broke behind [DONE]"));
        }
        match self.finish_reason.as_deref() {
            None => return Err(lacks("it has no finish reason")),
            Some("length") if self.stand_in && tokens < self.most_tokens => {
                return Err(lacks("it says that it has come to its length"));
            }
            Some("abort" | "error") => return Err(lacks("the engine aborted it")),
            Some(_) => {}
        }
        match self.usage {
            Some(usage) if self.stand_in && usage != tokens => {
                Err(lacks(&format!("its usage counts {usage} tokens")))
            }
            _ => Ok(self.label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, reason: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    }

    fn verdict(stream: &str, cleanly: bool) -> Result<Option<String>, Fault> {
        // Whatever the pieces, the verdict is the same.
        let mut verdicts = (1..=stream.len().max(1)).step_by(7).map(|size| {
            let mut check = Check::new(true, 2);
            stream.as_bytes().chunks(size).for_each(|piece| {
                check.take(piece);
            });
            check.end(cleanly)
        });
        let first = verdicts.next().unwrap();
        assert!(verdicts.all(|other| other == first), "{stream}");
        first
    }

    #[test]
    fn a_whole_stream_is_whole() {
        let whole = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n{}{}\
             data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":2}}}}\n\ndata: [DONE]\n\n",
            token("v#0 ", "null"),
            token("v#1 ", "\"length\"")
        );
        assert_eq!(verdict(&whole, true), Ok(Some("v".to_owned())));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let (first, last, done) = (token("v#0 ", "null"), token("v#1 ", "\"length\""), "data: [DONE]\n\n");
        let truncated = |stream: &str, cleanly| matches!(verdict(stream, cleanly), Err(Fault::Truncated(_)));
        let duplicated = |stream: &str| matches!(verdict(stream, true), Err(Fault::Duplicated(_)));
        assert!(truncated("", true));
        assert!(truncated(&first, false));
        assert!(truncated(&format!("{first}{last}"), true));
        assert!(truncated(&format!("{first}{done}"), true));
        assert!(truncated(&format!("{last}{done}"), true), "token 0 is missing");
        assert!(
            truncated(&format!("{}{done}", token("v#0 ", "\"length\"")), true),
            "one is missing at the end"
        );
        assert!(truncated(&format!("{first}data: {{\"error\":{{}}}}\n\n{done}"), true));
        assert!(truncated(
            &format!("{first}{last}data: {{\"usage\":{{\"completion_tokens\":3}}}}\n\n{done}"),
            true
        ));
        assert!(duplicated(&format!("{first}{first}{last}{done}")));
        assert!(duplicated(&format!("{first}{}{done}", token("w#1 ", "\"length\""))));
        assert!(duplicated(&format!("{first}{last}{done}{first}")));
        assert!(duplicated(&format!(
            "{first}{}{}{done}",
            token("v#1 ", "null"),
            token("v#2 ", "\"length\"")
        )));
        assert!(matches!(verdict("data: {\n\n", true), Err(Fault::Failed(_))));
    }
}
