//! One answer: from a request that was accepted to its last byte, streamed or whole.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body as HttpBody;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use slackwater_engine::Stop;
use tokio::sync::watch;

use crate::engine_thread::{Ask, Job, Progress};
use crate::request::{Kind, Wanted};
use crate::server::Shared;
use crate::text;

/// Why a response ended before its time: the engine has stopped.
const ENGINE_GONE: &str = "the engine has stopped";

/// A request in the engine. Dropping it before its end cancels it there.
#[derive(Debug)]
struct Flight {
    shared: Arc<Shared>,
    tag: u32,
    ended: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.engine.ask(Ask::Cancel(self.tag));
        }
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Role,
    Tokens,
    Usage,
    Done,
    Over,
}

/// The state of one answer.
#[derive(Debug)]
pub(crate) struct Answer {
    flight: Flight,
    progress: watch::Receiver<Progress>,
    kind: Kind,
    id: String,
    created: u64,
    prompt_tokens: u32,
    finish_reason: &'static str,
    include_usage: bool,
    /// The beginning that all chunks share.
    head: String,
    sent: u32,
    stage: Stage,
}

impl Answer {
    /// Hands the request to the engine.
    pub(crate) fn begin(shared: &Arc<Shared>, wanted: &Wanted, arrived: Instant) -> Option<Self> {
        let tag = shared.next_tag();
        let (sender, progress) = watch::channel(Progress::default());
        let block_size = shared.block_size;
        let job = Job {
            tag,
            arrived,
            prompt: wanted.prompt.tokens,
            output: wanted.output,
            stop: wanted.stop,
            blocks: if shared.prefix_caching { wanted.prompt.blocks(block_size) } else { Vec::new() },
            progress: sender,
        };
        shared.open.send_modify(|open| *open += 1);
        let flight = Flight { shared: Arc::clone(shared), tag, ended: false };
        if !shared.engine.ask(Ask::Submit(job)) {
            return None;
        }
        let (prefix, object) = match wanted.kind {
            Kind::Chat => ("chatcmpl", "chat.completion.chunk"),
            Kind::Text => ("cmpl", "text_completion"),
        };
        let id = format!("{prefix}-{:08x}{tag:08x}", std::process::id());
        let created = shared.unix_s();
        let head = format!(
            "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{created},\"model\":{},\"choices\":[",
            Value::from(shared.limits.served_name.as_str())
        );
        Some(Self {
            flight,
            progress,
            kind: wanted.kind,
            id,
            created,
            prompt_tokens: wanted.prompt.tokens,
            finish_reason: if wanted.stop == Stop::Length { "length" } else { "stop" },
            include_usage: wanted.include_usage,
            head,
            sent: 0,
            stage: if wanted.kind == Kind::Chat { Stage::Role } else { Stage::Tokens },
        })
    }

    /// All of it, a chunk a token, as server-sent events.
    pub(crate) fn stream(self) -> Response {
        let chunks = futures_util::stream::unfold(self, |mut answer| async {
            let chunk = answer.next_chunk().await?;
            Some((chunk, answer))
        });
        let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
        (headers, HttpBody::from_stream(chunks)).into_response()
    }

    /// All of it in one piece.
    pub(crate) async fn whole(mut self) -> Response {
        let ended = self.progress.wait_for(|progress| progress.ended).await.map(|progress| *progress);
        let Ok(progress) = ended else {
            return crate::api::error(500, "InternalServerError", ENGINE_GONE);
        };
        self.flight.ended = true;
        let text = text::answer(&self.flight.shared.label, progress.tokens);
        let choice = match self.kind {
            Kind::Chat => json!({
                "index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null,
                "finish_reason": self.finish_reason,
            }),
            Kind::Text => {
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": self.finish_reason})
            }
        };
        axum::Json(json!({
            "id": self.id,
            "object": if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" },
            "created": self.created,
            "model": self.flight.shared.limits.served_name,
            "choices": [choice],
            "usage": self.usage(progress.tokens),
        }))
        .into_response()
    }

    fn usage(&self, tokens: u32) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": u64::from(self.prompt_tokens) + u64::from(tokens),
        })
    }

    async fn next_chunk(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        let chunk = match self.stage {
            Stage::Role => {
                // As vLLM does it: the role is announced with the first token, not before.
                if let Err(error) = self.wait_past_sent().await {
                    return Some(Err(error));
                }
                self.stage = Stage::Tokens;
                self.choice("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}", None)
            }
            Stage::Tokens => match self.wait_past_sent().await {
                Ok(progress) => self.token_chunk(progress),
                Err(error) => return Some(Err(error)),
            },
            Stage::Usage => {
                self.stage = Stage::Done;
                format!("{}],\"usage\":{}}}\n\n", self.head, self.usage(self.sent))
            }
            Stage::Done => {
                self.stage = Stage::Over;
                "data: [DONE]\n\n".to_owned()
            }
            Stage::Over => return None,
        };
        Some(Ok(Bytes::from(chunk)))
    }

    /// Until there is a token that was not sent.
    async fn wait_past_sent(&mut self) -> Result<Progress, std::io::Error> {
        let sent = self.sent;
        match self.progress.wait_for(|progress| progress.tokens > sent).await {
            Ok(progress) => Ok(*progress),
            Err(_) => Err(std::io::Error::other(ENGINE_GONE)),
        }
    }

    fn token_chunk(&mut self, progress: Progress) -> String {
        let last = progress.ended && self.sent + 1 == progress.tokens;
        let token = text::token(&self.flight.shared.label, self.sent);
        self.sent += 1;
        if self.flight.shared.dies_after.is_some_and(|tokens| self.sent >= tokens) {
            self.flight.shared.crash(format!("dies-mid-stream: a response has come to {} tokens", self.sent));
        }
        if last {
            self.flight.ended = true;
            self.stage = if self.include_usage { Stage::Usage } else { Stage::Done };
        }
        let reason = last.then_some(self.finish_reason);
        match self.kind {
            Kind::Chat => self.choice(&format!("\"delta\":{{\"content\":\"{token}\"}}"), reason),
            Kind::Text => self.choice(&format!("\"text\":\"{token}\""), reason),
        }
    }

    fn choice(&self, what: &str, finish_reason: Option<&str>) -> String {
        let reason = finish_reason.map_or("null".to_owned(), |reason| format!("\"{reason}\""));
        let usage = if self.include_usage { ",\"usage\":null" } else { "" };
        format!(
            "{}{{\"index\":0,{what},\"logprobs\":null,\"finish_reason\":{reason}}}]{usage}}}\n\n",
            self.head
        )
    }
}
