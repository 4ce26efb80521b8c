//! Servers that are away, refuse or are none: what is wrong and what to do; secrets stay where they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use slackwater_prometheus::{Client, Credentials, Request, fetch, live_rate};
use slackwater_scenarios::MetricsOf;

use crate::chunks::{HURRY, client, success};
use crate::server::Server;

const REQUEST: Request = Request {
    selector: String::new(),
    from_s: 1_767_571_200,
    until_s: 1_767_574_800,
    step_s: 60,
    engine: MetricsOf::Auto,
};

fn refused(client: &Client, request: &Request) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("history.json");
    let error = fetch(client, request, &cache, &mut |_| {}).expect_err("it must fail");
    assert!(!cache.exists(), "nothing was fetched, nothing is kept");
    error.to_string()
}

#[test]
fn a_host_that_is_away_is_named() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let message = refused(&client(&url), &REQUEST);
    assert!(message.contains(&url) && message.contains("no answer in 3 attempts"), "{message}");
    assert!(message.contains("refused"), "the cause: {message}");
}

#[test]
fn a_server_that_stumbles_is_asked_again() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |question| match count.fetch_add(1, Ordering::Relaxed) {
        0 => None,
        1 => Some((503, String::new())),
        _ if question.path.ends_with("values") => Some(success("[\"tgi_request_count\"]")),
        _ => Some(success("{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"3\"]}]}")),
    });
    let rate =
        live_rate(&client(&server.url), "", MetricsOf::Tgi, 1_767_571_200).expect("at the third attempt");
    assert!((rate.requests_per_s - 3.0).abs() < 1e-12 && !rate.counted_at_end);
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn a_refusal_is_told_in_the_servers_own_words_and_not_repeated() {
    let server = Server::start(|_| {
        Some((400, "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"1:5: parse error: unexpected character\"}".into()))
    });
    let message = refused(&client(&server.url), &REQUEST);
    assert!(
        message.contains("answered 400") && message.contains("parse error: unexpected character"),
        "{message}"
    );
    assert_eq!(server.asked().len(), 1);
    let page = Server::start(|_| Some((200, "<html>not found</html>".into())));
    let message = refused(&client(&page.url), &REQUEST);
    assert!(message.contains("is not Prometheus'"), "{message}");
}

#[test]
fn metrics_that_are_not_there_are_named_beside_those_that_are() {
    let server = Server::start(|question| {
        let all = question.get("match[]").contains("\".+\"");
        Some(success(if all { "[\"up\",\"node_load1\"]" } else { "[]" }))
    });
    let message = refused(&client(&server.url), &REQUEST);
    for wanted in [
        "vllm:request_success_total",
        "sglang:num_requests_total",
        "tgi_request_count",
        "2 others: up, node_load1",
        "from 2026-01-05T00:00:00Z to 2026-01-05T01:00:00Z",
    ] {
        assert!(message.contains(wanted), "{wanted} in {message}");
    }
    let nothing = Server::start(|_| Some(success("[]")));
    let request = Request { selector: "job=\"none\"".into(), engine: MetricsOf::Vllm, ..REQUEST };
    let message = refused(&client(&nothing.url), &request);
    assert!(message.contains("{job=\"none\"}") && message.contains("no series at all"), "{message}");
    assert!(!message.contains("sglang:"), "only what was asked for is looked for: {message}");

    let both = Server::start(|_| Some(success("[\"tgi_request_count\",\"vllm:request_success_total\"]")));
    let message = refused(&client(&both.url), &REQUEST);
    assert!(message.contains("2 engines: vllm, tgi") && message.contains("engine = \"vllm\""), "{message}");
    let tokens = Server::start(|_| Some(success("[\"llamacpp:prompt_tokens_total\"]")));
    let message = live_rate(&client(&tokens.url), "", MetricsOf::Auto, 0).expect_err("no rate").to_string();
    assert!(message.contains("does not count requests"), "{message}");
}

#[test]
fn secrets_go_to_the_server_and_nowhere_else() {
    let server = Server::start(|question| {
        let told =
            question.headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: Bearer s3cret"));
        Some(if told && question.path.ends_with("values") {
            success("[\"tgi_request_count\"]")
        } else if told {
            success("{\"resultType\":\"matrix\",\"result\":[]}")
        } else {
            (401, "Unauthorized".into())
        })
    });
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("history.json");
    let client = Client::new(&server.url, Credentials::Bearer("s3cret".into()), HURRY).expect("a good URL");
    fetch(&client, &REQUEST, &cache, &mut |_| {}).expect("it is let in");
    assert!(!std::fs::read_to_string(&cache).expect("text").contains("s3cret"));
    let message = refused(&crate::chunks::client(&server.url), &REQUEST);
    assert!(message.contains("401") && message.contains("SLACKWATER_PROMETHEUS_TOKEN"), "{message}");
}

#[test]
fn a_cache_of_something_else_is_left_alone() {
    let server = Server::start(|question| {
        Some(success(if question.path.ends_with("values") {
            "[\"tgi_request_count\"]"
        } else {
            "{\"result\":[]}"
        }))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("history.json");
    std::fs::write(&cache, "{\"my\": \"notes\"}").expect("written");
    let error = fetch(&client(&server.url), &REQUEST, &cache, &mut |_| {}).expect_err("not ours").to_string();
    assert!(error.contains("no history that slackwater fetched"), "{error}");
    assert_eq!(std::fs::read_to_string(&cache).expect("text"), "{\"my\": \"notes\"}");
    std::fs::remove_file(&cache).expect("removed");
    fetch(&client(&server.url), &REQUEST, &cache, &mut |_| {}).expect("a new one");
    let other = Request { selector: "job=\"b\"".into(), ..REQUEST };
    let error =
        fetch(&client(&server.url), &other, &cache, &mut |_| {}).expect_err("another question").to_string();
    assert!(error.contains("not what is asked for now"), "{error}");
}

#[test]
fn requests_that_make_no_sense_are_refused_before_anything_is_asked() {
    let server = Server::start(|_| None);
    for (request, expected) in [
        (Request { step_s: 0, ..REQUEST }, "a step of 0 s"),
        (Request { until_s: REQUEST.from_s, ..REQUEST }, "not two steps"),
        (Request { selector: "up{}".into(), ..REQUEST }, "not a list of label matchers"),
    ] {
        let message = refused(&client(&server.url), &request);
        assert!(message.contains(expected), "{message}");
    }
    assert!(server.asked().is_empty());
}
