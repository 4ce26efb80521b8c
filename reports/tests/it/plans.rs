//! A plan's page, Markdown, text, table and drawings.

use slackwater_planner::planned::{Answer, Planned};
use slackwater_reports::ReportContext;
use slackwater_reports::plan::{PLAN_PLOTS, plan_markdown, plan_page, plan_text, windows, write_plan_report};
use slackwater_reports::plots::{Form, Style, Theme};

use crate::made_up_plan::{empty, go, no_go, uncalendared};
use crate::parse_page;

fn context() -> ReportContext {
    ReportContext { command_line: "slackwater plan a.toml --set \"x=<1>\"".to_owned() }
}

/// What a reader sees of a page, without its drawings.
fn words(page: &str) -> String {
    let document = parse_page(page);
    let body = document.descendants().find(|node| node.has_tag_name("main")).expect("a main part");
    let drawn =
        |node: roxmltree::Node<'_, '_>| node.ancestors().any(|above| above.tag_name().name() == "svg");
    let texts =
        body.descendants().filter(|node| node.is_text() && !drawn(*node)).filter_map(|node| node.text());
    texts
        .collect::<Vec<_>>()
        .join(" ")
        .replace('\u{a0}', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Markdown and text as one line without marks, to look for words.
fn flat(text: &str) -> String {
    let bare: String = text.chars().filter(|c| !matches!(c, '*' | '\\' | '|')).collect();
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Everything that can be made of a plan, checked for form.
fn all(planned: &Planned) -> [String; 3] {
    for plot in PLAN_PLOTS {
        for theme in [Theme::Light, Theme::Dark] {
            for form in [Form::Wide, Form::Narrow] {
                let svg = (plot.draw)(planned, Style { theme, form });
                let document = roxmltree::Document::parse(&svg).expect("well-formed");
                inside(&document, plot.name);
                assert_eq!(svg.contains("no data"), !(plot.applies)(planned), "{}", plot.name);
            }
        }
    }
    let page = plan_page(planned, &context());
    let made = [words(&page), flat(&plan_markdown(planned, &context())), flat(&plan_text(planned))];
    for text in &made {
        for absent in ["NaN", "inf ", "null", "None", "Some(", "-0 %"] {
            assert!(!text.contains(absent), "{absent:?} in {text}");
        }
    }
    for line in plan_text(planned).lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    // Nothing is fetched: the only addresses are the names of XML's own.
    for address in ["src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(address), "{address}");
    }
    let named = page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(page.matches("http").count(), named);
    made
}

fn inside(document: &roxmltree::Document<'_>, name: &str) {
    let view: Vec<f64> = document
        .root_element()
        .attribute("viewBox")
        .expect("a viewBox")
        .split(' ')
        .map(|n| n.parse().expect("a number"))
        .collect();
    for node in document.descendants().filter(|node| node.has_attribute("points")) {
        for pair in node.attribute("points").expect("points").split_whitespace() {
            let (x, y) = pair.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!((0.0..=view[2]).contains(&x) && (0.0..=view[3]).contains(&y), "{name}: {pair}");
        }
    }
}

#[test]
fn the_first_screen_has_what_an_operator_forwards() {
    for text in all(&go()) {
        for fact in [
            "GO",
            "Tue 6 Jan, 03:00",
            "Europe/Berlin",
            "latest safe start 03:30 (30 min later)",
            "03:40",
            "rolling, drain 45 s",
            "0 of 368 fresh futures missed; budget 1 %",
            "12.5 %",
            "7 comparable days",
            "of 3,075 that arrive meanwhile",
            "0.042",
            "95 % of rollouts cut no more than 1",
            "at most 4.9 %",
            "6 min",
            "03:00 and sleep 60: risk 7 %, 3.4 cut, 81 miss",
            "one more GPU lost while the first replica drains: 83 of 100 futures missed",
            "traffic from +40 % on (traffic +50 %: 40 of 100 futures missed)",
            "the new version from 150 % slower on",
            "engine profile measured on this server",
            "traffic learnt from 7 days of week.csv (3,161,234 requests",
            "12 rows left out, 1 hole in the recording",
            "slackwater run plan.toml --deployment FILE",
            "336 starts: 1 safe",
        ] {
            assert!(text.contains(fact), "{fact:?} is missing in:\n{text}");
        }
        let arrows = ["0.49 s → 0.71 s", "0.49 s -> 0.71 s"];
        assert!(arrows.iter().any(|arrow| text.contains(arrow)), "{text}");
        assert!(!text.contains("PARTIAL"), "{text}");
    }
}

#[test]
fn no_go_says_why_and_what_would_work_first_and_partial_says_so() {
    let planned = no_go();
    for text in all(&planned) {
        let place = |of: &str| text.find(of).unwrap_or_else(|| panic!("{of:?} is missing in:\n{text}"));
        let first = [
            place("NO-GO"),
            place("window is within the risk budget of 1.00 %"),
            place("the least bad start is Tue 6 Jan, 03:00: 3 of 20 futures missed"),
        ];
        assert!(first.is_sorted(), "{first:?}");
        place("PARTIAL ANSWER");
        assert!(!text.contains("slackwater run"), "{text}");
        assert!(!text.contains("latest safe start"), "{text}");
    }
}

#[test]
fn a_condition_is_in_the_headline() {
    let mut planned = go();
    planned.answer = Answer::Conditional;
    assert!(all(&planned).iter().all(|text| text.contains("GO, on a condition")));
}

#[test]
fn a_plan_of_nothing_is_survived() {
    for text in all(&empty()) {
        assert!(text.contains("start was tried: the search was stopped before"), "{text}");
        assert!(!text.contains("What turns it red") && !text.contains("what turns it red"), "{text}");
    }
}

#[test]
fn without_a_calendar_times_are_those_of_the_traffic() {
    for text in all(&uncalendared()) {
        assert!(text.contains("97200 s after the start of the traffic"), "{text}");
        assert!(!text.contains("Europe/Berlin, 20"), "{text}");
    }
    let text = plan_text(&uncalendared());
    assert!(text.contains("day 2"), "{text}");
}

#[test]
fn numbers_that_are_none_are_survived() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MAX, f64::MIN_POSITIVE] {
        let mut planned = go();
        planned.asked.every_s = bad;
        planned.asked.risk = bad;
        planned.asked.cut_risk = bad;
        planned.asked.horizon_s = bad;
        for start in planned.windows.iter_mut().step_by(7) {
            start.risk.estimate = bad;
            start.start_s = bad;
        }
        for slot in planned.load.iter_mut().step_by(5) {
            (slot.mean_per_s, slot.low_per_s) = (bad, bad);
        }
        planned.load[3].at_s = bad;
        planned.capacity[3].rate_per_s = bad;
        planned.drain[0].timeout_s = bad;
        planned.drain[1].p_any_cut = bad;
        planned.drain[2].below_n_s = bad;
        planned.drain_by_hour[4].survival[0] = (bad, bad);
        planned.sensitivity[0].red_from = Some(bad);
        if let Some(best) = &mut planned.recommended {
            best.drain_timeout_s = bad;
            best.expected_cut = bad;
            best.risk.upper = bad;
            best.latency.ttft_p99_s.1 = Some(bad);
        }
        for plot in PLAN_PLOTS {
            let svg = (plot.draw)(&planned, Style::default());
            roxmltree::Document::parse(&svg).expect("well-formed");
            assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{}", plot.name);
        }
        let page = plan_page(&planned, &context());
        parse_page(&page);
        assert!(!page.contains("NaN"), "{bad}");
        assert!(!plan_markdown(&planned, &context()).contains("NaN"));
        let text = plan_text(&planned);
        assert!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains("NaN"), "{text}");
        windows(&planned).expect("rows");
    }
}

#[test]
fn names_are_text_and_nothing_else() {
    let mut planned = go();
    planned.fleet.from = "<script>a|b`*".to_owned();
    planned.reasons.push("\u{1b}[2J <img src=x> & more".to_owned());
    let page = plan_page(&planned, &context());
    parse_page(&page);
    assert!(!page.contains("<script") && !page.contains("<img"));
    let markdown = plan_markdown(&planned, &context());
    assert!(!markdown.contains("<script") && !markdown.contains("<img"));
    assert!(!plan_text(&planned).contains('\u{1b}'));
}

#[test]
fn a_table_has_a_row_for_each_start_and_as_many_cells_as_its_head() {
    let planned = go();
    let text = windows(&planned).expect("rows");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head: Vec<String> = reader.headers().expect("a head").iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), planned.windows.len());
    let column = |name: &str| head.iter().position(|of| of == name).expect("a column");
    let safe = rows.iter().position(|row| &row[column("verdict")] == "safe").expect("a safe start");
    assert_eq!(&rows[safe][column("start")], "2026-01-06T03:00:00+01:00");
    assert_eq!(&rows[safe][column("risk_futures")], "368");
    assert_eq!(&rows[safe][column("duration_p95_s")], "");
}

#[test]
fn a_week_of_starts_stays_small() {
    let mut planned = go();
    let week = planned.windows.clone();
    // Every 5 minutes, no two neighbours alike: the worst that a drawing can meet.
    planned.asked.every_s = 300.0;
    planned.windows = week
        .iter()
        .flat_map(|start| {
            (0_u32..6).map(|number| {
                let mut start = start.clone();
                start.start_s += 300.0 * f64::from(number);
                start.start = start.start.replace(":00+01:00", &format!(":{number:02}+01:00"));
                start.start = start.start.replace(":00:0", &format!(":{:02}:0", number * 5));
                start.start = start.start.replace(":30:0", &format!(":{:02}:0", 30 + number * 5));
                start.risk.estimate = f64::from(number % 5) * 0.24;
                start
            })
        })
        .collect();
    assert_eq!(planned.windows.len(), 2_016);
    let page = plan_page(&planned, &context());
    parse_page(&page);
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

#[test]
fn everything_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("new/plan");
    let written = write_plan_report(&out, &go(), &context()).expect("written");
    assert_eq!(written[0], out.join("report.html"));
    assert_eq!(written.len(), 3 + PLAN_PLOTS.len() * 3);
    assert!(written.iter().all(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 1_000)));
    // What Markdown links to is there.
    let markdown = std::fs::read_to_string(out.join("report.md")).expect("report.md");
    let links: Vec<&str> = markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert_eq!(links.len(), PLAN_PLOTS.len() + 1);
    assert!(links.iter().all(|link| out.join(link).exists()), "{links:?}");
}
