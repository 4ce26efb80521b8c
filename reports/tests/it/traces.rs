//! A trace's page, plots and text: well-formed and within their bounds, whatever the trace is.

use slackwater_reports::ReportContext;
use slackwater_reports::trace::{Against, comparison_text, trace_page, trace_text, write_trace_report};
use slackwater_scenarios::Arrival;
use slackwater_scenarios::traffic::ImportReport;
use slackwater_scenarios::traffic::statistics::{Collected, Collector};

use crate::parse_page;

const MONDAY_NS: i64 = 1_767_571_200_000_000_000;

/// So many requests, a fixed time apart, with the lengths and blocks that these functions say.
fn trace(count: u64, apart_ps: u64, epoch_ns: Option<i64>, length: fn(u64) -> u32) -> Collected {
    let mut collector = Collector::default();
    for number in 0..count {
        let arrival = Arrival {
            at_ps: number * apart_ps,
            input_tokens: length(number),
            output_tokens: length(number + 7),
        };
        collector.observe(&arrival, &[1, number / 2], epoch_ns);
    }
    let source = format!("/a folder/<b>&\u{1b}[31m{}.csv", "very".repeat(40));
    collector.finish(ImportReport {
        source,
        format: "made-up".into(),
        rows: count,
        epoch_ns,
        ..ImportReport::default()
    })
}

fn all() -> Vec<(&'static str, Collected)> {
    const S: u64 = 1_000_000_000_000;
    vec![
        ("a lone request", trace(1, S, None, |_| 1)),
        ("all at once", trace(500, 0, Some(MONDAY_NS), |_| 5)),
        ("a minute", trace(600, S / 10, None, |number| 1 + u32::try_from(number).unwrap_or(0))),
        (
            "an afternoon",
            trace(9_000, S, Some(MONDAY_NS + 13 * 3_600_000_000_000), |n| {
                1 + u32::try_from(n % 97).unwrap_or(0)
            }),
        ),
        ("ten days", trace(20_000, 43 * S, Some(MONDAY_NS + 59_999_999_999), |n| 1 << (n % 25))),
        ("199 days", trace(50_000, 343 * S, None, |n| 1 + u32::try_from(n % 3).unwrap_or(0))),
    ]
}

#[test]
fn pages_are_well_formed_and_texts_narrow() {
    let traces = all();
    for (name, here) in &traces {
        let text = trace_text(&here.figures);
        for (_, there) in &traces {
            let comparison = here.compare(there);
            let both = format!("{text}\n{}", comparison_text(&comparison));
            for line in both.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
                assert!(
                    !line.contains('\u{1b}') && !line.contains("NaN") && !line.contains("inf "),
                    "{name}: {line}"
                );
            }
            let against = Against { figures: &there.figures, comparison: &comparison };
            let page = trace_page(&here.figures, Some(against), &ReportContext::default());
            let document = parse_page(&page);
            assert!(
                document
                    .descendants()
                    .any(|node| node.has_tag_name("svg") || node.tag_name().name() == "svg")
            );
            assert!(!page.contains("NaN") && !page.contains("<b>"), "{name}");
        }
    }
}

#[test]
fn drawings_are_well_formed_and_only_those_that_apply() {
    for (name, here) in all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let context = ReportContext { command_line: "slackwater trace inspect <x>".to_owned() };
        let written =
            write_trace_report(folder.path(), &here.figures, None, "{}", &context).expect("written");
        let drawings: Vec<_> =
            written.iter().filter(|path| path.extension().is_some_and(|e| e == "svg")).collect();
        assert_eq!(drawings.len(), if name == "ten days" { 6 } else { 4 }, "{name}: {written:?}");
        for path in drawings {
            let svg = std::fs::read_to_string(path).expect("it was written");
            roxmltree::Document::parse(&svg).expect("well-formed");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").expect("a temporary file");
    let figures = trace(3, 1_000_000_000_000, None, |_| 5).figures;
    let error = write_trace_report(&taken, &figures, None, "{}", &ReportContext::default()).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
}
