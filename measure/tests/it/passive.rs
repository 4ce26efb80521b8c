//! A live server is watched: what is told of it, and that nothing else was sent to it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slackwater_calibrate::{Description, Known, fit_watched};
use slackwater_load::{Load, Options as LoadOptions, Pace, Prompt};
use slackwater_measure::{Server, watch};
use slackwater_replica::{Options, Profile, Server as StandIn};

use crate::PROFILE;

/// A stand-in's page, changed by how often it was asked for.
fn page(look: u32) -> String {
    let mut page = String::from(
        "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1001\"} 1.0\nvllm:num_requests_running 3\n",
    );
    for name in [
        "inter_token_latency_seconds_sum",
        "inter_token_latency_seconds_count",
        "time_to_first_token_seconds_sum",
        "time_to_first_token_seconds_count",
        "e2e_request_latency_seconds_sum",
        "e2e_request_latency_seconds_count",
        "prompt_tokens_total",
    ] {
        page.push_str(&format!("vllm:{name} {look}\n"));
    }
    page
}

/// The proof that a live server is left alone: a server that writes down every request it is sent.
#[test]
fn nothing_is_sent_but_gets_of_three_pages() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (look, stream) in (1..).zip(listener.incoming().flatten()) {
            let mut lines = BufReader::new(&stream).lines();
            let first = lines.next().unwrap().unwrap();
            // To the end of its headers; there must be no body, so none is read.
            let headers: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            assert!(headers.iter().all(
                |header| !header.to_lowercase().starts_with("content-length: ") || header.ends_with(" 0")
            ));
            let body = match first.split(' ').nth(1).unwrap() {
                "/v1/models" => "{\"data\":[{\"id\":\"chat\"}]}".to_owned(),
                "/version" => "{\"version\":\"1\"}".to_owned(),
                _ => page(look),
            };
            seen.lock().unwrap().push(first);
            let mut stream = &stream;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let counters = runtime.block_on(async {
        let server = Server::ask(&url).await.unwrap();
        watch(
            &server,
            Duration::from_millis(600),
            Duration::from_millis(100),
            std::future::pending(),
            &|_| {},
        )
        .await
        .unwrap()
    });
    let watched = counters.watched(Description::default()).unwrap();
    assert!(watched.intervals.len() >= 3, "{watched:?}");
    assert!(watched.intervals.iter().all(|interval| interval.gaps >= 1.0 && interval.seconds > 0.0));
    let asked = asked.lock().unwrap();
    let allowed = ["GET /metrics HTTP/1.1", "GET /version HTTP/1.1", "GET /v1/models HTTP/1.1"];
    assert!(asked.iter().all(|line| allowed.contains(&line.as_str())), "{asked:?}");
}

/// Loads that vary, by the project's own generator, on a stand-in whose coefficients are known: each that is called known is within
/// its interval, and the stand-in has answered the generator's requests and no other.
#[test]
fn a_stand_in_under_a_load_that_changes_is_known_by_its_metrics() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("engine.toml");
    std::fs::write(&file, PROFILE).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (watched, sent, answered) = runtime.block_on(async {
        let profile = Profile::find(file.to_str().unwrap()).unwrap();
        let stand_in = StandIn::start(Options::new("chat", profile)).await.unwrap();
        let server = Server::ask(&format!("http://{}", stand_in.address())).await.unwrap();
        let loads = async {
            let mut sent = 0;
            for (round, rate) in [1.0, 8.0, 3.0, 16.0, 2.0, 12.0, 5.0, 20.0].into_iter().enumerate() {
                let mut options = LoadOptions::new(server.address, Pace::Rate(rate));
                options.prompt = Prompt { prompt_tokens: (20, 600), output_tokens: (40, 160) };
                options.seed = round as u64;
                let load = Load::start(options);
                tokio::time::sleep(Duration::from_secs(5)).await;
                let report = load.stop().await;
                assert!(report.is_clean(), "{report:?}");
                sent += report.sent;
            }
            sent
        };
        let watching =
            watch(&server, Duration::from_secs(50), Duration::from_secs(1), std::future::pending(), &|_| {});
        let (counters, sent) = tokio::join!(watching, loads);
        let base = slackwater_exec::http::Base::parse(&server.url).unwrap();
        let page = slackwater_exec::http::get(&base, "/metrics", Duration::from_secs(5)).await.unwrap().body;
        let answered: f64 = page
            .lines()
            .filter_map(slackwater_exec::metrics::sample)
            .filter(|(name, ..)| *name == "vllm:request_success_total")
            .map(|(.., value)| value)
            .sum();
        let about = Description {
            max_num_seqs: Some(128),
            max_num_batched_tokens: Some(2048),
            ..Description::default()
        };
        (counters.unwrap().watched(about).unwrap(), sent, answered)
    });
    assert_eq!(answered, sent as f64, "the stand-in was sent nothing but the load");
    assert_eq!(watched.about.num_gpu_blocks, Some(20_001));
    let fit = fit_watched(&watched, 1, &|_| {}).unwrap();
    println!("{:#?} {:?} {:?}", fit.fitted.coefficients, fit.held_out, fit.too_even);
    assert_eq!(fit.too_even, None);
    let mut known = 0;
    for estimate in &fit.fitted.coefficients {
        let truth = match estimate.name {
            "c0_ms" => 9.0,
            "c_tok_us" => 60.0,
            "c_seq_us" => 90.0,
            "c_kv_us" => 0.06,
            _ => {
                assert_eq!(estimate.known, Known::NotIdentified, "{}", estimate.name);
                continue;
            }
        };
        if estimate.known != Known::NotIdentified {
            known += 1;
            // A machine that is busy with something else shows the stand-in's tokens late, not more seldom.
            assert!(
                estimate.low * 0.95 <= truth && truth <= estimate.high * 1.05,
                "{}: {truth} is not within {} to {}",
                estimate.name,
                estimate.low,
                estimate.high
            );
        }
    }
    assert!(known >= 1);
    let means = fit.held_out.unwrap();
    assert!((means.tpot_s.1 / means.tpot_s.0).ln().abs() < 0.15, "{means:?}");
}
