//! Requests of our own: the smoke prompt, and what warms an engine up.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::Engine;
use crate::deployment::Place;
use crate::http::{self, short};
use crate::trouble::Trouble;

/// The policy bounds each step itself; this only keeps a connection from being waited on for ever.
const PROMPT_WITHIN: Duration = Duration::from_secs(600);
/// Warm-up requests at once: batches of several sizes are compiled for, not only of one.
const AT_ONCE: usize = 4;

impl Engine {
    async fn served_name(&self, place: &Place) -> Result<String, Trouble> {
        let seen = self.look(place, None).await?;
        seen.models.into_iter().next().ok_or_else(|| Trouble::passing("/v1/models lists no model"))
    }

    async fn ask(&self, place: &Place, chat: bool, prompt: &str, tokens: u32) -> Result<String, Trouble> {
        let model = self.served_name(place).await?;
        let (path, body) = if chat {
            let messages = json!([{ "role": "user", "content": prompt }]);
            (
                "/v1/chat/completions",
                json!({ "model": model, "messages": messages, "max_tokens": tokens, "temperature": 0 }),
            )
        } else {
            (
                "/v1/completions",
                json!({ "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0 }),
            )
        };
        let key = match &self.deployment.engine.api_key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Trouble::lasting(format!(
                    "{name}, which engine.api_key_env names, is not in the executor's environment"
                ))
            })?),
            None => None,
        };
        let answer =
            http::send_json_with(&Engine::base(place)?, Method::POST, path, &body, key, PROMPT_WITHIN)
                .await?;
        if !answer.is_ok() {
            // The whole of 5xx may be over soon; what it refuses it will refuse again.
            let reason = format!("{path} answers {}: {}", answer.status, short(&answer.body));
            return Err(Trouble { reason, retryable: answer.status >= 500 || answer.status == 429 });
        }
        let said = answer.json()?;
        let choice = said.pointer("/choices/0").cloned().unwrap_or(Value::Null);
        let text = |pointer: &str| choice.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        // A model that thinks first may have said nothing else within so few tokens.
        let parts = [
            text("/message/content"),
            text("/message/reasoning_content"),
            text("/message/reasoning"),
            text("/text"),
        ];
        Ok(parts.concat())
    }

    /// Sends the smoke prompt and checks the answer.
    pub async fn smoke(&self, place: &Place) -> Result<(), Trouble> {
        let smoke = &self.deployment.engine.smoke;
        let said = self.ask(place, smoke.chat, &smoke.prompt, smoke.max_tokens).await?;
        if said.trim().is_empty() {
            return Err(Trouble::passing("the smoke prompt was answered with nothing"));
        }
        if !said.contains(&smoke.expect) {
            return Err(Trouble::passing(format!(
                "the smoke prompt's answer does not contain `{}`: {}",
                smoke.expect,
                short(&said)
            )));
        }
        Ok(())
    }

    /// Sends so many warm-up requests and waits for them.
    pub async fn warm_up(&self, place: &Place, requests: u32) -> Result<(), Trouble> {
        let spec = &self.deployment.engine;
        let count = usize::try_from(requests).unwrap_or(usize::MAX);
        if spec.warm_up.is_empty() {
            return Ok(());
        }
        let prompts: Vec<&String> = spec.warm_up.iter().cycle().take(count).collect();
        for chunk in prompts.chunks(AT_ONCE) {
            let mut asked = tokio::task::JoinSet::new();
            for prompt in chunk {
                let (engine, place, prompt) = (self.clone(), place.clone(), (*prompt).clone());
                let (chat, tokens) = (spec.smoke.chat, spec.warm_up_tokens);
                asked.spawn(async move { engine.ask(&place, chat, &prompt, tokens).await });
            }
            while let Some(done) = asked.join_next().await {
                done.map_err(|error| Trouble::passing(error.to_string()))?
                    .map_err(|trouble| trouble.while_doing("a warm-up request failed"))?;
            }
        }
        Ok(())
    }
}
