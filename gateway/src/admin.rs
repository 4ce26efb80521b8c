//! What operators and the executor ask for: JSON over a unix socket that only this user may open, or over the loopback.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::error::UnknownReplica;
use crate::fleet::Patch;
use crate::forward::Proxy;

/// What `GET /live` looks back over unless told otherwise.
const LIVE_OVER_S: f64 = 60.0;
/// A cut is over within this, or its answer does not wait for it.
const CUT_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn router(proxy: Arc<Proxy>) -> Router {
    Router::new()
        .route("/replicas", get(replicas))
        .route("/replicas/{name}", get(replica).patch(change))
        .route("/replicas/{name}/cut", post(cut))
        .route("/live", get(live))
        .route("/metrics", get(metrics))
        .fallback(nowhere)
        .with_state(proxy)
}

/// The page for those who may look but not act.
pub(crate) fn metrics_router(proxy: Arc<Proxy>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(proxy)
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({"error": message}))).into_response()
}

impl IntoResponse for UnknownReplica {
    fn into_response(self) -> Response {
        error(StatusCode::NOT_FOUND, &self.to_string())
    }
}

async fn nowhere() -> Response {
    let known = "known: GET /replicas, GET and PATCH /replicas/NAME, POST /replicas/NAME/cut, GET /live, GET /metrics";
    error(StatusCode::NOT_FOUND, known)
}

async fn replicas(State(proxy): State<Arc<Proxy>>) -> Response {
    let (generation, replicas) = proxy.fleet.view();
    axum::Json(json!({"generation": generation, "replicas": replicas})).into_response()
}

async fn replica(State(proxy): State<Arc<Proxy>>, Path(name): Path<String>) -> Response {
    match proxy.fleet.view_of(&name) {
        Ok(view) => axum::Json(view).into_response(),
        Err(unknown) => unknown.into_response(),
    }
}

async fn change(State(proxy): State<Arc<Proxy>>, Path(name): Path<String>, body: Bytes) -> Response {
    // Whatever the client calls it: `curl -d` calls JSON a form.
    let patch = match serde_json::from_slice::<Patch>(&body) {
        Ok(patch) => patch,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &format!("the body is no change: {wrong}")),
    };
    match proxy.fleet.patch(&name, patch) {
        Ok(Ok(view)) => axum::Json(view).into_response(),
        Ok(Err(bad)) => error(StatusCode::BAD_REQUEST, &bad.to_string()),
        Err(unknown) => unknown.into_response(),
    }
}

async fn cut(State(proxy): State<Arc<Proxy>>, Path(name): Path<String>) -> Response {
    let (cut, sent_on) = match proxy.fleet.cut(&name) {
        Ok(counts) => counts,
        Err(unknown) => return unknown.into_response(),
    };
    let gone = async {
        while proxy.fleet.being_cut(&name) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // What is not gone by then is still counted as in flight.
    let _ = tokio::time::timeout(CUT_WITHIN, gone).await;
    axum::Json(json!({"cut": cut, "sent_on": sent_on})).into_response()
}

#[derive(Deserialize)]
struct Over {
    over_s: Option<f64>,
}

async fn live(State(proxy): State<Arc<Proxy>>, over: Result<Query<Over>, QueryRejection>) -> Response {
    let over_s = match over {
        Ok(Query(over)) => over.over_s.unwrap_or(LIVE_OVER_S),
        Err(rejection) => return error(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    match Duration::try_from_secs_f64(over_s) {
        Ok(over) if !over.is_zero() => axum::Json(proxy.books.live.view(over)).into_response(),
        _ => error(StatusCode::BAD_REQUEST, "over_s is not a number of seconds above 0"),
    }
}

async fn metrics(State(proxy): State<Arc<Proxy>>) -> Response {
    ([(CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], proxy.books.metrics.page(&proxy.fleet)).into_response()
}
