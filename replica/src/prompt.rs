//! How many tokens a prompt has, and which blocks of it can be found again.
//!
//! A stand-in has no tokenizer. The rule: an array of token ids counts exactly; text counts a token for each 4 bytes begun,
//! and a chat message 4 more for what a template puts around it.

use serde::Deserialize;

/// What stands under `prompt`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
    Texts(Vec<String>),
    ManyIds(Vec<Vec<u32>>),
}

/// One of `messages`; its content may come in parts.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    #[serde(default)]
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    #[serde(default)]
    pub(crate) text: String,
}

const BYTES_A_TOKEN: usize = 4;
const TOKENS_A_MESSAGE: usize = 4;

/// A prompt reduced to what decides its cost: bytes that stand for its tokens, `width` of them each.
#[derive(Debug)]
pub(crate) struct Counted {
    bytes: Vec<u8>,
    /// At least 1.
    pub(crate) tokens: u32,
}

impl Counted {
    fn new(bytes: Vec<u8>, tokens: usize) -> Self {
        Self { bytes, tokens: u32::try_from(tokens).unwrap_or(u32::MAX).max(1) }
    }

    pub(crate) fn of_prompt(prompt: Prompt) -> Result<Self, String> {
        let one = |count: usize| match count {
            1 => Ok(()),
            _ => Err(format!("`prompt` holds {count} prompts; this stand-in answers one a request")),
        };
        match prompt {
            Prompt::Text(text) => Ok(Self::of_text(text)),
            Prompt::Ids(ids) => Ok(Self::of_ids(&ids)),
            Prompt::Texts(mut texts) => {
                one(texts.len())?;
                Ok(Self::of_text(texts.remove(0)))
            }
            Prompt::ManyIds(many) => {
                one(many.len())?;
                Ok(Self::of_ids(&many[0]))
            }
        }
    }

    fn of_text(text: String) -> Self {
        let tokens = text.len().div_ceil(BYTES_A_TOKEN);
        Self::new(text.into_bytes(), tokens)
    }

    fn of_ids(ids: &[u32]) -> Self {
        // As many bytes a token as text has, so that blocks are cut alike.
        Self::new(ids.iter().flat_map(|id| id.to_le_bytes()).collect(), ids.len())
    }

    pub(crate) fn of_messages(messages: &[Message]) -> Self {
        let mut bytes = Vec::new();
        let mut tokens = 0;
        for message in messages {
            let begun = bytes.len();
            bytes.extend_from_slice(message.role.as_bytes());
            // The role is part of the template's tokens.
            bytes.resize(begun + TOKENS_A_MESSAGE * BYTES_A_TOKEN, 0);
            let begun = bytes.len();
            match &message.content {
                Some(Content::Text(text)) => bytes.extend_from_slice(text.as_bytes()),
                Some(Content::Parts(parts)) => {
                    parts.iter().for_each(|part| bytes.extend_from_slice(part.text.as_bytes()));
                }
                None => {}
            }
            let content = (bytes.len() - begun).div_ceil(BYTES_A_TOKEN);
            bytes.resize(begun + content * BYTES_A_TOKEN, 0);
            tokens += TOKENS_A_MESSAGE + content;
        }
        Self::new(bytes, tokens)
    }

    /// Chained ids of the prompt's full blocks, for the engine's prefix cache.
    pub(crate) fn blocks(&self, block_size: u32) -> Vec<u64> {
        let mut chain = 0xcbf2_9ce4_8422_2325_u64;
        self.bytes
            .chunks_exact(block_size as usize * BYTES_A_TOKEN)
            .map(|block| {
                for byte in block {
                    chain = (chain ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
                chain
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(json: &str) -> Result<Counted, String> {
        Counted::of_prompt(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn ids_count_exactly_and_text_by_four_bytes() {
        assert_eq!(prompt("[5, 6, 7]").unwrap().tokens, 3);
        assert_eq!(prompt("[[5, 6, 7]]").unwrap().tokens, 3);
        assert_eq!(prompt("\"12345\"").unwrap().tokens, 2);
        assert_eq!(prompt("[\"1234\"]").unwrap().tokens, 1);
        assert_eq!(prompt("\"\"").unwrap().tokens, 1);
        assert!(prompt("[\"a\", \"b\"]").is_err());
    }

    #[test]
    fn messages_count_their_template() {
        let messages: Vec<Message> = serde_json::from_str(
            r#"[{"role": "system", "content": "12345678"}, {"role": "user", "content": [{"type": "text", "text": "123"}]},
                {"role": "assistant", "content": null}]"#,
        )
        .unwrap();
        assert_eq!(Counted::of_messages(&messages).tokens, (4 + 2) + (4 + 1) + 4);
    }

    #[test]
    fn blocks_are_alike_as_far_as_prompts_are() {
        let ids = |tail: u32| {
            let ids: Vec<u32> = (0..40).chain([tail; 10]).collect();
            Counted::of_ids(&ids).blocks(16)
        };
        let (one, other) = (ids(1), ids(2));
        assert_eq!(one.len(), 3);
        assert_eq!(one[..2], other[..2]);
        assert_ne!(one[2], other[2]);
    }
}
