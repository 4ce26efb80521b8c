//! Histories out of Prometheus, as files.

use slackwater_scenarios::traffic::{Chunk, Counts, History, Lengths, Series};
use slackwater_scenarios::{AssumeTokens, Lognormal, ReadOptions};

use crate::support::load;

const MONDAY: i64 = 1_767_571_200;

/// An hour of one replica whose counter goes up by `each` a minute.
fn hour(engine: &str, counter: &str, counts: Counts, each: f64) -> History {
    let points = (0..60_i32).map(|minute| (MONDAY + 60 * i64::from(minute), each * f64::from(minute)));
    let labels = [("model_name".to_owned(), "chat".to_owned())];
    History {
        slackwater_history: 1,
        url: "http://prometheus:9090".into(),
        engine: engine.into(),
        step_s: 60,
        from_s: MONDAY,
        until_s: MONDAY + 3600,
        chunks: vec![Chunk {
            from_s: MONDAY,
            until_s: MONDAY + 3600,
            counter: counter.into(),
            counts,
            series: vec![Series { labels: labels.into(), points: points.collect() }],
            ..Chunk::default()
        }],
        ..History::default()
    }
}

fn total(metric: &str, sum: f64) -> Option<Lengths> {
    Some(Lengths { metric: metric.into(), sum: Some(sum), ..Lengths::default() })
}

fn file(history: &History) -> Vec<u8> {
    serde_json::to_vec(history).unwrap()
}

fn assumed(input: f64) -> ReadOptions {
    let lengths = |median| vec![Lognormal { weight: 1.0, median, sigma: 0.0 }];
    let assume_tokens = AssumeTokens {
        input: lengths(input),
        output: Vec::new(),
        bytes_per_input_token: None,
        bytes_per_output_token: None,
        max_input_tokens: 32_768,
        max_output_tokens: 32_768,
    };
    ReadOptions { assume_tokens: Some(assume_tokens), ..ReadOptions::default() }
}

#[test]
fn tokens_alone_are_requests_once_the_prompts_length_is_stated() {
    let mut history = hour("llamacpp", "llamacpp:prompt_tokens_total", Counts::PromptTokens, 6000.0);
    history.chunks[0].input = total("llamacpp:prompt_tokens_total", 354_000.0);
    history.chunks[0].output = total("llamacpp:tokens_predicted_total", 88_500.0);
    let refused = load(&file(&history), ReadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("no counter of requests") && refused.contains("assume_tokens"), "{refused}");
    // 6,000 tokens a minute in prompts of 200 are 30 requests a minute; a quarter as much comes out.
    let trace = load(&file(&history), assumed(200.0)).unwrap();
    assert_eq!(trace.arrivals.len(), 30 * 59);
    assert!(trace.arrivals.iter().all(|arrival| arrival.input_tokens == 200));
    #[expect(clippy::cast_precision_loss)]
    let output = trace.report.output_tokens as f64 / trace.arrivals.len() as f64;
    assert!((output / 50.0 - 1.0).abs() < 0.1, "{output}");
    let notes = trace.report.warnings().join("\n");
    assert!(
        notes.contains("only the mean was recorded (llamacpp:tokens_predicted_total: 50 tokens)"),
        "{notes}"
    );
}

#[test]
fn a_stated_length_wins_and_a_missing_one_is_asked_for() {
    let mut history = hour("vllm", "vllm:request_success_total", Counts::Finished, 60.0);
    let buckets = vec![(Some(100.0), 0.0), (Some(200.0), 9.0), (None, 9.0)];
    history.chunks[0].input =
        Some(Lengths { metric: "vllm:request_prompt_tokens".into(), buckets, ..Lengths::default() });
    let refused = load(&file(&history), ReadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("how many output tokens") && refused.contains("assume_tokens"), "{refused}");
    history.chunks[0].output = total("vllm:generation_tokens_total", 59.0 * 60.0 * 30.0);
    let trace = load(&file(&history), ReadOptions::default()).unwrap();
    assert!(trace.arrivals.iter().all(|arrival| (101..=200).contains(&arrival.input_tokens)));
    assert!(trace.report.warnings().join("\n").contains("how long they took was not recorded"));
    let stated = load(&file(&history), assumed(7.0)).unwrap();
    assert!(stated.arrivals.iter().all(|arrival| arrival.input_tokens == 7));
    // The same file and seed are the same requests; another seed draws other times within the same minutes.
    assert_eq!(load(&file(&history), ReadOptions::default()).unwrap().arrivals, trace.arrivals);
    let other = load(&file(&history), ReadOptions { seed: 5, ..ReadOptions::default() }).unwrap();
    assert_eq!(other.arrivals.len(), trace.arrivals.len());
    assert_ne!(other.arrivals, trace.arrivals);
}

#[test]
fn several_models_are_named() {
    let mut history = hour("tgi", "tgi_request_count", Counts::Arrived, 60.0);
    let mut second = history.chunks[0].series[0].clone();
    second.labels.insert("model_name".into(), "code".into());
    history.chunks[0].series.push(second);
    history.chunks[0].input = total("i", 59.0 * 120.0 * 90.0);
    history.chunks[0].output = total("o", 59.0 * 120.0 * 9.0);
    let trace = load(&file(&history), ReadOptions::default()).unwrap();
    assert_eq!(trace.arrivals.len(), 120 * 59);
    let notes = trace.report.warnings().join("\n");
    assert!(notes.contains("2 models are added up (chat, code)") && !notes.contains("earlier"), "{notes}");
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let good = || hour("tgi", "tgi_request_count", Counts::Arrived, 60.0);
    type Spoil = fn(&mut History);
    let spoilt: [(Spoil, &str); 9] = [
        (|it| it.slackwater_history = 2, "not 1"),
        (|it| it.step_s = 0, "`step_s` is 0"),
        (|it| it.until_s = i64::MIN, "on the calendar"),
        (|it| it.from_s = i64::MIN, "on the calendar"),
        (|it| it.chunks[0].until_s += 60, "not after the one before it"),
        (|it| it.chunks[0].series[0].points.swap(3, 4), "out of order"),
        (|it| it.chunks[0].series[0].points[5].1 = -1.0, "out of order or range"),
        (
            |it| {
                let again = it.chunks[0].series[0].clone();
                it.chunks[0].series.push(again);
            },
            "two series of `tgi_request_count` with the labels",
        ),
        (|it| it.chunks[0].series[0].points[5].1 = 1e15, "more than a fleet is sent"),
    ];
    for (spoil, expected) in spoilt {
        let mut history = good();
        spoil(&mut history);
        let message = load(&file(&history), assumed(5.0)).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("help: "), "{expected}: {message}");
    }
    let cut = file(&good());
    let message = load(&cut[..cut.len() / 2], assumed(5.0)).unwrap_err().to_string();
    assert!(message.contains("EOF") && message.contains("trace fetch"), "{message}");
    let mut silent = good();
    silent.chunks[0].series[0].points.iter_mut().for_each(|point| point.1 = 7.0);
    let message = load(&file(&silent), assumed(5.0)).unwrap_err().to_string();
    assert!(message.contains("no request was recorded"), "{message}");
}
