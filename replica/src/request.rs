//! What clients ask for, checked.

use serde::Deserialize;
use slackwater_engine::Stop;

use crate::prompt::{Counted, Message, Prompt};

/// Which of the two APIs a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Text,
}

/// The keys that mean something here; all others are accepted and ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    messages: Option<Vec<Message>>,
    #[serde(default)]
    prompt: Option<Prompt>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    ignore_eos: bool,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// A request as the engine needs it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) prompt: Counted,
    pub(crate) output: u32,
    pub(crate) stop: Stop,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// An answer that is no completion: status and what is wrong.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { status: 400, kind: "BadRequestError", message: message.into() }
    }
}

/// What a server holds requests against.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) served_name: String,
    pub(crate) natural_length: u32,
    /// Most tokens of prompt and answer: the option, or what the whole KV cache holds.
    pub(crate) max_model_len: u32,
}

/// vLLM's default for `/v1/completions`.
const COMPLETION_MAX_TOKENS: u32 = 16;

impl Limits {
    pub(crate) fn check(&self, kind: Kind, body: Body) -> Result<Wanted, Refused> {
        if let Some(model) = &body.model
            && !model.is_empty()
            && *model != self.served_name
        {
            let message = format!("The model `{model}` does not exist.");
            return Err(Refused { status: 404, kind: "NotFoundError", message });
        }
        if body.n.is_some_and(|n| n != 1) {
            return Err(Refused::bad("`n`: this stand-in answers with 1 choice only"));
        }
        let prompt = match (kind, body.messages, body.prompt) {
            (Kind::Chat, Some(messages), _) if !messages.is_empty() => Counted::of_messages(&messages),
            (Kind::Chat, ..) => {
                return Err(Refused::bad("`messages`: a list of at least 1 message is wanted"));
            }
            (Kind::Text, _, Some(prompt)) => Counted::of_prompt(prompt).map_err(Refused::bad)?,
            (Kind::Text, _, None) => return Err(Refused::bad("`prompt` is missing")),
        };
        let room = self.max_model_len.saturating_sub(prompt.tokens);
        let most = body.max_completion_tokens.or(body.max_tokens);
        if most == Some(0) {
            return Err(Refused::bad("`max_tokens` must be at least 1, got 0."));
        }
        let most = match (most, kind) {
            (Some(most), _) => most,
            (None, Kind::Chat) => room,
            (None, Kind::Text) => COMPLETION_MAX_TOKENS.min(room),
        };
        let length = u64::from(prompt.tokens) + u64::from(most);
        if most == 0 || most > room {
            return Err(Refused::bad(format!(
                "This model's maximum context length is {} tokens. However, you requested {length} tokens ({} in the \
                 prompt, {most} in the completion).",
                self.max_model_len, prompt.tokens,
            )));
        }
        let (output, stop) = if body.ignore_eos || most <= self.natural_length {
            (most, Stop::Length)
        } else {
            (self.natural_length, Stop::EndOfText)
        };
        Ok(Wanted {
            kind,
            prompt,
            output,
            stop,
            stream: body.stream.unwrap_or(false),
            include_usage: body.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, json: &str) -> Result<Wanted, Refused> {
        let limits = Limits { served_name: "chat".into(), natural_length: 128, max_model_len: 1000 };
        limits.check(kind, serde_json::from_str(json).unwrap())
    }

    #[test]
    fn lengths_come_from_limits_and_the_natural_end() {
        let ids: String = format!("{:?}", vec![1; 100]);
        for (asked, output, stop) in [
            ("\"max_tokens\": 5", 5, Stop::Length),
            ("\"max_tokens\": 500", 128, Stop::EndOfText),
            ("\"max_tokens\": 500, \"ignore_eos\": true", 500, Stop::Length),
            ("\"max_completion_tokens\": 7, \"max_tokens\": 500", 7, Stop::Length),
            ("\"n\": 1", 16, Stop::Length),
        ] {
            let wanted = check(Kind::Text, &format!("{{\"prompt\": {ids}, {asked}}}")).unwrap();
            assert_eq!((wanted.output, wanted.stop, wanted.prompt.tokens), (output, stop, 100), "{asked}");
        }
        let chat = r#"{"model": "chat", "messages": [{"role": "user", "content": "hi"}]}"#;
        assert_eq!(check(Kind::Chat, &chat.replace("hi", &"x".repeat(600))).unwrap().output, 128);
    }

    #[test]
    fn what_can_not_be_served_is_refused() {
        for (kind, json, status) in [
            (Kind::Text, r#"{"prompt": "a", "model": "other"}"#, 404),
            (Kind::Text, r#"{"prompt": "a", "n": 2}"#, 400),
            (Kind::Text, r#"{"prompt": "a", "max_tokens": 0}"#, 400),
            (Kind::Text, r#"{"prompt": "a", "max_tokens": 1000}"#, 400),
            (Kind::Text, r#"{"messages": []}"#, 400),
            (Kind::Chat, r#"{"messages": []}"#, 400),
            (Kind::Chat, r#"{"prompt": "a"}"#, 400),
        ] {
            assert_eq!(check(kind, json).unwrap_err().status, status, "{json}");
        }
    }
}
