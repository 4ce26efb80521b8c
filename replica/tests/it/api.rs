//! What is answered, as vLLM's server answers it.

use hyper::Request;
use serde_json::{Value, json};
use slackwater_replica::text;

use crate::support::{get, options, post, ready, send, until};

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_chat_streams_a_chunk_a_token_and_ends_as_it_should() {
    let server = ready(options()).await;
    let body = chat(json!({"max_tokens": 4, "stream": true, "stream_options": {"include_usage": true}}));
    let response = post(server.address(), "/v1/chat/completions", &body).await;
    assert_eq!((response.status, response.whole), (200, true));
    assert_eq!(response.headers["content-type"], "text/event-stream; charset=utf-8");
    let events = response.events();
    assert_eq!(events.len(), 1 + 4 + 1 + 1, "{events:?}");
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..6].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["model"], "chat");
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let label = text::label("/models/v1");
    for (index, chunk) in chunks[1..5].iter().enumerate() {
        let choice = &chunk["choices"][0];
        assert_eq!(choice["delta"]["content"], format!("{label}#{index} "));
        assert_eq!(choice["finish_reason"], if index == 3 { json!("length") } else { Value::Null });
        assert_eq!(chunk["usage"], Value::Null);
    }
    assert_eq!(chunks[5]["choices"], json!([]));
    // 4 for the template and 2 for 5 bytes.
    assert_eq!(chunks[5]["usage"], json!({"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}));
}

#[tokio::test]
async fn without_usage_wanted_there_is_none() {
    let server = ready(options()).await;
    let body = json!({"prompt": "hello", "max_tokens": 2, "stream": true});
    let response = post(server.address(), "/v1/completions", &body).await;
    let label = text::label("/models/v1");
    let events = response.events();
    assert_eq!(events.len(), 3);
    let chunk: Value = serde_json::from_str(events[1]).unwrap();
    assert_eq!(chunk["object"], "text_completion");
    assert_eq!(chunk["choices"][0]["text"], format!("{label}#1 "));
    assert_eq!(chunk["choices"][0]["finish_reason"], "length");
    assert!(chunk.get("usage").is_none());
}

#[tokio::test]
async fn whole_answers_and_natural_ends() {
    let server = ready(slackwater_replica::Options { natural_length: 3, ..options() }).await;
    let response = post(server.address(), "/v1/chat/completions", &chat(json!({}))).await.json();
    let label = text::label("/models/v1");
    assert_eq!(response["object"], "chat.completion");
    assert_eq!(response["choices"][0]["finish_reason"], "stop");
    assert_eq!(response["choices"][0]["message"]["content"], text::answer(&label, 3));
    assert_eq!(response["usage"]["completion_tokens"], 3);

    let body = json!({"prompt": [7, 8, 9, 10], "max_tokens": 5, "ignore_eos": true});
    let response = post(server.address(), "/v1/completions", &body).await.json();
    assert_eq!(response["choices"][0]["text"], text::answer(&label, 5));
    assert_eq!(response["usage"], json!({"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}));
}

#[tokio::test]
async fn mistakes_are_answered_in_the_api_s_form() {
    let server = ready(options()).await;
    let to = server.address();
    for (body, status, said) in [
        (json!({"model": "other", "messages": [{"role": "user", "content": "a"}]}), 404, "`other`"),
        (json!({"messages": 3}), 400, "no request"),
        (chat(json!({"max_tokens": 40_000})), 400, "maximum context length is 32768"),
    ] {
        let response = post(to, "/v1/chat/completions", &body).await;
        assert_eq!(response.status, status);
        let error = &response.json()["error"];
        assert_eq!(error["code"], status);
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    let broken = Request::post("/v1/completions").body("{".to_owned()).unwrap();
    assert_eq!(send(to, broken).await.status, 400);
    assert_eq!(get(to, "/v1/chat/completions").await.status, 405);
    assert_eq!(get(to, "/nowhere").await.status, 404);
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn it_says_who_it_is() {
    let mut options = options();
    options.served_name = "assistant".to_owned();
    options.version = "0.24.0".to_owned();
    let server = ready(options).await;
    let to = server.address();
    let models = get(to, "/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "assistant");
    assert_eq!(models["data"][0]["root"], "/models/v1");
    assert_eq!(models["data"][0]["max_model_len"], 32_768);
    assert_eq!(get(to, "/version").await.json(), json!({"version": "0.24.0"}));
    let request = Request::get("/health").header("x-request-id", "abc").body(String::new()).unwrap();
    assert_eq!(send(to, request).await.headers["x-request-id"], "abc");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let server = ready(options()).await;
    let to = server.address();
    for stream in [true, false] {
        let body = chat(json!({"max_tokens": 10_000, "ignore_eos": true, "stream": stream}));
        let asking = tokio::spawn(async move { post(to, "/v1/chat/completions", &body).await.status });
        until("the request runs", || async {
            crate::support::metric(to, "vllm:num_requests_running").await > 0.5
        })
        .await;
        assert_eq!(server.in_flight(), 1);
        asking.abort();
        until("the engine is free again", || async {
            server.in_flight() == 0 && crate::support::metric(to, "vllm:num_requests_running").await < 0.5
        })
        .await;
    }
    let page = get(to, "/metrics").await.text;
    let aborted = "vllm:request_success_total{model_name=\"chat\",engine=\"0\",finished_reason=\"abort\"}";
    assert!((crate::support::sample(&page, aborted) - 2.0).abs() < 0.5, "{page}");
}
