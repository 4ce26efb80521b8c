//! The routes.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::completion::Answer;
use crate::request::{Body, Kind, Refused};
use crate::server::{Phase, Shared};

/// A prompt of a million tokens as text is 4 MB.
const LARGEST_BODY: usize = 64 << 20;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ping", get(health))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(axum::middleware::from_fn(echo_request_id))
        .with_state(shared)
}

/// The caller's id comes back, so that one can see that it came through.
async fn echo_request_id(request: Request<axum::body::Body>, next: Next) -> Response {
    let id: Option<HeaderValue> = request.headers().get(REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// An error as OpenAI's clients expect it.
pub(crate) fn error(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": status}});
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), axum::Json(body))
        .into_response()
}

/// vLLM stays healthy while it drains.
async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    match shared.phase() {
        Phase::Loading => StatusCode::SERVICE_UNAVAILABLE,
        Phase::Ready | Phase::Draining => StatusCode::OK,
    }
}

async fn version(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(json!({"version": shared.version})).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, OPENMETRICS)], shared.metrics.page()).into_response()
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    if let Some(refusal) = unready(&shared) {
        return refusal;
    }
    axum::Json(json!({
        "object": "list",
        "data": [{
            "id": shared.limits.served_name,
            "object": "model",
            "created": shared.started_unix_s,
            "owned_by": "slackwater",
            "root": shared.model,
            "parent": null,
            "max_model_len": shared.limits.max_model_len,
        }],
    }))
    .into_response()
}

async fn chat(shared: State<Arc<Shared>>, body: Bytes) -> Response {
    complete(shared, Kind::Chat, &body).await
}

async fn text(shared: State<Arc<Shared>>, body: Bytes) -> Response {
    complete(shared, Kind::Text, &body).await
}

/// What stands in the way of an answer now.
fn unready(shared: &Shared) -> Option<Response> {
    match shared.phase() {
        Phase::Loading => Some(error(503, "ServiceUnavailable", "the model is loading")),
        Phase::Ready | Phase::Draining => None,
    }
}

async fn complete(State(shared): State<Arc<Shared>>, kind: Kind, body: &[u8]) -> Response {
    let arrived = Instant::now();
    if let Some(refusal) = unready(&shared) {
        return refusal;
    }
    if shared.phase() == Phase::Draining {
        // Seen with vLLM 0.33 and --shutdown-timeout: not 503, and /health still says 200.
        return error(500, "InternalServerError", "the engine is shutting down");
    }
    let wanted = serde_json::from_slice::<Body>(body)
        .map_err(|error| Refused::bad(format!("the body is no request: {error}")))
        .and_then(|body| shared.limits.check(kind, body));
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(Refused { status, kind, message }) => return error(status, kind, &message),
    };
    match Answer::begin(&shared, &wanted, arrived) {
        Some(answer) if wanted.stream => answer.stream(),
        Some(answer) => answer.whole().await,
        None => error(500, "InternalServerError", "the engine has stopped"),
    }
}
