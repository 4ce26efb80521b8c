//! What is asked, what is kept, and what comes out of it, against answers in Prometheus' form.

use std::fmt::Write;
use std::path::Path;

use slackwater_prometheus::{Client, Credentials, Fetched, Patience, Progress, Request, fetch, live_rate};
use slackwater_scenarios::{FileTraffic, MetricsOf, ReadOptions, SharedTrace};

use crate::server::{Answer, Question, Server};

pub(crate) const HURRY: Patience = Patience {
    connect: std::time::Duration::from_millis(500),
    answer: std::time::Duration::from_secs(10),
    attempts: 3,
    pause: std::time::Duration::from_millis(10),
};

const DAY: i64 = 86_400;
/// A midnight.
const MONDAY: i64 = 1_767_571_200;

pub(crate) fn success(data: &str) -> Answer {
    (200, format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

fn vector(rows: &[(&str, f64)]) -> Answer {
    let rows: Vec<String> = rows
        .iter()
        .map(|(labels, value)| format!("{{\"metric\":{{{labels}}},\"value\":[1767571200,\"{value}\"]}}"))
        .collect();
    success(&format!("{{\"resultType\":\"vector\",\"result\":[{}]}}", rows.join(",")))
}

/// Two vLLM replicas that each answer a request in two seconds; replica b was started again at noon, after which its
/// counter began at zero, and nothing was scraped from 18:00 to 18:10.
fn fleet(question: &Question) -> Option<Answer> {
    let number = |name: &str| question.get(name).parse::<i64>().expect("a number");
    let query = question.get("query");
    Some(match question.path.as_str() {
        "/prom/api/v1/label/__name__/values" => success(
            "[\"vllm:request_success_total\",\"vllm:request_prompt_tokens_bucket\",\"vllm:request_prompt_tokens_sum\",\
             \"vllm:generation_tokens_total\",\"vllm:e2e_request_latency_seconds_sum\",\
             \"vllm:e2e_request_latency_seconds_count\"]",
        ),
        "/prom/api/v1/query_range" => {
            assert_eq!(query, "last_over_time(vllm:request_success_total{job=\"vllm\"}[60s])");
            let (start, end, step) = (number("start"), number("end"), number("step"));
            assert!((end - start) / step < 11_000, "Prometheus refuses more");
            let mut series = Vec::new();
            for replica in ["a", "b"] {
                let mut values = String::new();
                for at in (start..=end).step_by(60) {
                    let second = at % DAY;
                    if (64_800..65_400).contains(&second) {
                        continue;
                    }
                    let since = if replica == "b" && second >= DAY / 2 { second - DAY / 2 } else { second };
                    let value = if replica == "b" { since / 2 } else { at / 2 };
                    let _ = write!(values, "{}[{at},\"{value}\"]", if values.is_empty() { "" } else { "," });
                }
                series.push(format!(
                    "{{\"metric\":{{\"__name__\":\"vllm:request_success_total\",\"instance\":\"{replica}\"}},\"values\":[{values}]}}"
                ));
            }
            success(&format!("{{\"resultType\":\"matrix\",\"result\":[{}]}}", series.join(",")))
        }
        "/prom/api/v1/query" if query.contains("request_prompt_tokens_bucket") => vector(&[
            ("\"le\":\"+Inf\"", 1000.0),
            ("\"le\":\"200.0\"", 1000.0),
            ("\"le\":\"100.0\"", 500.0),
            ("\"le\":\"50.0\"", 0.0),
        ]),
        "/prom/api/v1/query" if query.contains("request_prompt_tokens_sum") => vector(&[("", 110_000.0)]),
        "/prom/api/v1/query" if query.contains("generation_tokens_total") => vector(&[("", 50.0 * 86_400.0)]),
        "/prom/api/v1/query" if query.starts_with("sum(increase(vllm:request_success_total") => {
            vector(&[("", 86_400.0)])
        }
        "/prom/api/v1/query" if query.contains("latency_seconds_sum") => vector(&[("", 84_000.0)]),
        "/prom/api/v1/query" if query.contains("latency_seconds_count") => vector(&[("", 42_000.0)]),
        "/prom/api/v1/query" if query.contains("rate(") => vector(&[("", 1.25)]),
        path => panic!("{path} {query} is not asked for"),
    })
}

fn request(from_s: i64, until_s: i64) -> Request {
    Request { selector: "{job=\"vllm\"}".into(), from_s, until_s, step_s: 60, engine: MetricsOf::Auto }
}

pub(crate) fn client(url: &str) -> Client {
    Client::new(url, Credentials::None, HURRY).expect("a good URL")
}

fn fetched(server: &Server, request: &Request, cache: &Path) -> (Fetched, Vec<Progress>) {
    let mut seen = Vec::new();
    let url = format!("{}/prom/", server.url);
    let fetched = fetch(&client(&url), request, cache, &mut |progress| seen.push(progress)).expect("answers");
    (fetched, seen)
}

#[test]
fn a_history_comes_in_chunks_and_is_asked_for_once() {
    let server = Server::start(fleet);
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("history.json");
    let noon = MONDAY + 2 * DAY + DAY / 2;
    let (first, seen) = fetched(&server, &request(MONDAY + 3600, noon), &cache);
    assert_eq!((first.asked, first.kept, seen.len()), (3, 0, 3));
    assert_eq!((seen[2].done, seen[2].of), (3, 3));
    assert!(first.history.rate().expect("it agrees with itself").is_some());
    let questions = server.asked().len();

    // The same again asks nothing at all.
    let (again, _) = fetched(&server, &request(MONDAY + 3600, noon), &cache);
    assert_eq!((again.asked, again.kept), (0, 3));
    assert_eq!(again.history, first.history);
    assert_eq!(server.asked().len(), questions);

    // A day on, only the day that was not whole and the new one are asked for; what is now too old is dropped.
    let (later, _) = fetched(&server, &request(MONDAY + DAY, noon + DAY), &cache);
    assert_eq!((later.asked, later.kept), (2, 1));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&cache).expect("it is there")).expect("JSON");
    assert_eq!(written["from_s"], MONDAY + DAY);
    assert_eq!(written["chunks"].as_array().map(Vec::len), Some(3));
}

#[test]
fn resets_gaps_lengths_and_latency_become_traffic() {
    let server = Server::start(fleet);
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("history.json");
    let (history, _) = fetched(&server, &request(MONDAY, MONDAY + DAY), &cache);
    let rate = history.history.rate().expect("it agrees with itself").expect("points");
    assert_eq!(rate.resets, 1);
    assert_eq!(rate.gaps.len(), 1);
    assert_eq!((rate.gaps[0].from_s, rate.gaps[0].until_s), (MONDAY + 64_740, MONDAY + 65_340));
    assert!(rate.gaps[0].total_known, "both counters went on");
    // One request a second, but for the 30 of replica b's last scrape before it began again.
    let sent: f64 = rate.steps.iter().sum();
    assert!((86_340.0 - 31.0..=86_340.0).contains(&sent), "{sent}");
    assert!(rate.steps.iter().all(|count| (29.0..=61.0).contains(count)), "never a rate of zero");

    let trace = SharedTrace::load_all(FileTraffic::open(&cache, ReadOptions::default()).expect("recognised"))
        .expect("good");
    let report = &trace.report;
    assert_eq!(report.format, "prometheus-json");
    #[expect(clippy::cast_precision_loss)]
    let (arrivals, input, output) =
        (report.arrivals as f64, report.input_tokens as f64, report.output_tokens as f64);
    assert!((arrivals - sent).abs() <= 1.0, "{arrivals} of {sent}: what was counted is what is sent");
    assert!((input / arrivals - 110.0).abs() < 1.0, "the mean of the histogram's sum: {}", input / arrivals);
    assert!((output / arrivals - 50.0).abs() < 1.0, "the mean of the total: {}", output / arrivals);
    assert!(trace.arrivals.iter().all(|arrival| (51..=200).contains(&arrival.input_tokens)));
    let short = trace.arrivals.iter().filter(|arrival| arrival.input_tokens <= 100).count();
    #[expect(clippy::cast_precision_loss)]
    let share = short as f64 / arrivals;
    assert!((share - 0.5).abs() < 0.01, "half of them were up to 100 tokens: {share}");
    // Counted at the end, two seconds after they came.
    let epoch_s = trace.epoch_ns.expect("a calendar") / 1_000_000_000;
    assert!((MONDAY - 3..MONDAY + 3).contains(&epoch_s), "{epoch_s}");
    let notes = report.warnings().join("\n");
    for wanted in [
        "nothing was recorded from 2026-01-05T17:59:00Z to 2026-01-05T18:09:00Z",
        "2.000 s earlier",
        "the histogram vllm:request_prompt_tokens",
        "only the mean was recorded (vllm:generation_tokens_total: 50 tokens)",
        "1 counters began again at zero",
    ] {
        assert!(notes.contains(wanted), "{wanted} in {notes}");
    }

    // Twice the rate is twice the requests, on the same calendar; a repeat does not repeat the draws.
    let twice = ReadOptions { rate_scale: 2.0, ..ReadOptions::default() };
    let double = SharedTrace::load_all(FileTraffic::open(&cache, twice).expect("recognised")).expect("good");
    assert_eq!(double.report.arrivals.abs_diff(2 * report.arrivals), 0);
    assert!((double.report.span_s - report.span_s).abs() < 10.0);
}

#[test]
fn a_fine_step_keeps_below_the_servers_limit_of_points() {
    let server = Server::start(|question| {
        if question.path.ends_with("values") {
            return Some(success("[\"tgi_request_count\"]"));
        }
        if question.path.ends_with("query_range") {
            let number = |name: &str| question.get(name).parse::<i64>().expect("a number");
            assert!((number("end") - number("start")) / number("step") < 11_000);
        }
        Some(success("{\"resultType\":\"matrix\",\"result\":[]}"))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let request = Request { step_s: 1, ..request(MONDAY, MONDAY + DAY) };
    let (fetched, _) = {
        let mut seen = 0;
        let fetched =
            fetch(&client(&server.url), &request, &folder.path().join("h.json"), &mut |_| seen += 1)
                .expect("answers");
        (fetched, seen)
    };
    assert_eq!(fetched.asked, 9, "chunks of 10,000 s, on a grid of their own");
    assert_eq!(fetched.history.engine, "tgi");
    let error =
        FileTraffic::open(folder.path().join("h.json"), ReadOptions::default()).err().expect("no requests");
    assert!(error.to_string().contains("no request was recorded from 2026-01-05"), "{error}");
}

#[test]
fn the_rate_now_is_one_question() {
    let server = Server::start(fleet);
    let url = format!("{}/prom", server.url);
    let rate = live_rate(&client(&url), "job=\"vllm\"", MetricsOf::Auto, MONDAY).expect("a rate");
    assert!((rate.requests_per_s - 1.25).abs() < 1e-12 && rate.counted_at_end);
    let last = server.asked().pop().expect("it was asked");
    assert_eq!(last.get("query"), "sum(rate(vllm:request_success_total{job=\"vllm\"}[300s]))");
}
