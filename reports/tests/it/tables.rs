//! Numbers shown are the numbers in the data, in eighty columns.

use slackwater_reports::format::{count, duration, figure, percent, seconds_cell};
use slackwater_reports::plots::{Style, replicas};
use slackwater_reports::{ReportContext, csv, html, phase_table};
use slackwater_sim::{
    Befallen, FaultFigures, PrefixCacheResult, PrefixShare, SessionsResult, SimulationResult,
};

use crate::made_up::{self, Wish};
use crate::{FOUR, parse_page, short};

fn widest(text: &str) -> usize {
    text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
}

#[test]
fn the_terminal_table_fits_eighty_columns_whatever_is_in_it() {
    let mut result = short();
    assert!(widest(&phase_table(&result)) <= 80, "{}", phase_table(&result));
    for phase in &mut result.phases {
        phase.name = format!("a-very-long-replica-name-in-rack-17-{}", phase.name);
        phase.until_s = phase.from_s + 1e7;
        phase.serving_min = 12_345;
        phase.rate_per_s = 1_234_567.8;
        phase.in_flight_mean = 987_654.3;
        phase.queue_max = u64::MAX;
        phase.requests.cut = 99_999;
        phase.requests.retried = 9_999_999;
        phase.requests.timed_out = u64::MAX;
        phase.ttft_s.p99 = Some(123_456.0);
        phase.tpot_s.p99 = Some(1_234.0);
        phase.e2e_s.p99 = Some(999_999.0);
    }
    result.rollout.as_mut().expect("a rollout").outcome = "held: ".to_owned() + &"because ".repeat(40);
    let table = phase_table(&result);
    assert!(widest(&table) <= 80, "{table}");
    assert!(!table.contains('\u{1b}'), "readable without colour");
}

#[test]
fn a_hundred_replicas_show_the_worst_and_say_so() {
    let result = made_up::result(&Wish {
        replicas: 30,
        rate_per_s: 38.0,
        span_s: 5_400.0,
        start_s: Some(300.0),
        ..Wish::default()
    });
    let table = phase_table(&result);
    assert!(table.lines().count() < 45 && widest(&table) <= 80, "{table}");
    assert!(table.contains("are left out; all are in phases.csv"));
    assert!(table.contains("before"));
}

#[test]
fn the_terminal_table_holds_the_numbers_of_the_data() {
    let table = phase_table(&FOUR);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    for phase in &FOUR.phases {
        let rows: Vec<_> = lines.iter().filter(|l| l.first() == Some(&phase.name.as_str())).collect();
        assert_eq!(rows.len(), 2, "{}: {table}", phase.name);
        assert_eq!(rows[0][2], phase.serving_min.to_string());
        assert_eq!(rows[0][3], figure(phase.rate_per_s));
        assert_eq!(rows[0][6], percent(phase.attainment));
        assert_eq!(rows[1][1], seconds_cell(phase.ttft_s.p50));
        assert_eq!(rows[1][3], seconds_cell(phase.ttft_s.p99));
        assert_eq!(rows[1][9], seconds_cell(phase.e2e_s.p99));
    }
}

#[test]
fn the_page_holds_the_numbers_of_the_data() {
    let page = html::report(&FOUR, &ReportContext::default());
    let document = parse_page(&page);
    let rows: Vec<Vec<String>> = document
        .descendants()
        .filter(|n| n.has_tag_name("tr"))
        .map(|row| row.children().filter_map(|c| c.text()).map(str::to_owned).collect())
        .collect();
    for phase in &FOUR.phases {
        let row = rows.iter().find(|r| r.first() == Some(&phase.name)).expect("a row");
        assert_eq!(row[2], duration(phase.until_s - phase.from_s));
        assert_eq!(row[7], percent(phase.attainment));
        assert_eq!(row[8], count(phase.missed));
    }
    for m in &FOUR.rollout.as_ref().expect("a rollout").moves {
        let drain = m.drained_s.expect("drained") - m.taken_out_s.expect("out");
        let row = rows.iter().find(|r| r[0] == m.replica && r[1] == m.target).expect("a row");
        assert_eq!(row[3], duration(drain));
    }
}

#[test]
fn the_page_asks_nothing_of_the_network() {
    let page = html::report(&FOUR, &ReportContext { command_line: "slackwater simulate x.toml".into() });
    for word in ["<script", " src=", " href=", "url(", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("slackwater simulate x.toml"));
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("@media print"));
    assert!(page.len() < 600_000, "{} bytes", page.len());
}

#[test]
fn csv_has_a_row_a_phase_and_a_row_a_sample_and_the_same_numbers() {
    let result: &SimulationResult = &FOUR;
    let text = csv::phases(result).expect("phases");
    let mut rows = ::csv::Reader::from_reader(text.as_bytes());
    let head = rows.headers().expect("a head").clone();
    let column = |name: &str| head.iter().position(|h| h == name).expect("a column");
    let rows: Vec<_> = rows.records().map(|r| r.expect("a row")).collect();
    assert_eq!(rows.len(), result.phases.len());
    for (row, phase) in rows.iter().zip(&result.phases) {
        assert_eq!(row[0], phase.name);
        assert_eq!(row[column("arrived")], phase.requests.arrived.to_string());
        assert_eq!(row[column("ttft_p99_s")].parse::<f64>().ok(), phase.ttft_s.p99);
    }
    let text = csv::series(result).expect("series");
    assert_eq!(text.lines().count(), result.series.at_s.len() + 1);
    assert!(text.starts_with("at_s,") && text.lines().next().is_some_and(|h| h.ends_with("waiting gpu-3")));
}

/// What went wrong is told wherever a result is shown; a result in which nothing did has no word of it.
#[test]
fn faults_and_retries_are_told_in_text_and_page() {
    let mut result = short();
    let quiet = (phase_table(&result), html::report(&result, &ReportContext::default()));
    assert!(
        !quiet.0.contains("fault") && !quiet.0.contains("retries:") && !quiet.1.contains("id=\"faults\"")
    );
    let fault = |kind: &str, came_s, befell: Vec<Befallen>| FaultFigures {
        kind: kind.into(),
        when: "during starting of gpu-1".into(),
        came_s,
        times: befell.len() as u64,
        befell,
        ..FaultFigures::default()
    };
    let there = Befallen { at_s: 300.0, replica: "gpu-2".into() };
    result.faults = vec![
        fault("gpu-lost", Some(300.0), vec![there]),
        fault("replica-crash", Some(310.0), vec![]),
        fault("slow-gpu", None, vec![]),
    ];
    result.attempts.sent = result.requests.arrived * 2;
    result.retries.amplification = 2.0;
    result.retries.worst_minute = 7.5;
    result.retries.read_timed_out = 12;
    let text = phase_table(&result);
    assert!(widest(&text) <= 80, "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = html::report(&result, &ReportContext::default());
    parse_page(&page);
    for wanted in ["2 attempts a request", "7.5 in the worst minute", "12 attempts ended by the balancer"] {
        assert!(text.contains(wanted) && page.contains(wanted), "{wanted}: {text}");
    }
    for wanted in [
        "gpu-lost during starting of gpu-1: befell gpu-2",
        "found nothing to befall",
        "slow-gpu during starting of gpu-1: never came",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(page.contains("<th scope=\"row\">gpu-lost</th>") && page.contains("nothing was there to befall"));
    let marked = replicas(&result, Style::default());
    result.faults.clear();
    assert_ne!(marked, replicas(&result, Style::default()), "the plot has a mark");
}

/// Sessions and caches are told of where there are some, and nowhere else.
#[test]
fn sessions_and_caches_are_shown_where_there_are_some() {
    let pages = |result: &SimulationResult| {
        (
            phase_table(result),
            html::report(result, &ReportContext::default()),
            slackwater_reports::verdict_sentence(result),
        )
    };
    let mut result = short();
    let (table, page, sentence) = pages(&result);
    for text in [&table, &page, &sentence] {
        assert!(
            !text.contains("ession") && !text.contains("refix cache") && !text.contains("never sent"),
            "{text}"
        );
    }
    result.sessions = Some(SessionsResult {
        begun: 2_197,
        broken: 12,
        judged: 400,
        saw_both: 29,
        saw_both_share: 29.0 / 400.0,
        flips: 31,
        flips_back: 2,
    });
    result.requests.never_sent = 40;
    let part = |hit_tokens| PrefixShare {
        looked_up_tokens: 1_000,
        hit_tokens,
        hit_share: Some(hit_tokens as f64 / 1_000.0),
    };
    result.prefix_cache = Some(PrefixCacheResult {
        all: part(880),
        before: part(900),
        during: part(800),
        after: PrefixShare::default(),
        evicted_blocks: 5,
    });
    let (table, page, sentence) = pages(&result);
    let flat = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(widest(&table) <= 80, "{table}");
    for wanted in [
        "sessions: 2,197, 12 broke off and left 40 requests unsent; of 400 with two turns or more during the rollout 7.25 % saw \
         both versions (31 changes old to new, 2 back)",
        "prefix cache: 88 % of prompt tokens found; before 90 %, during 80 %, after –",
    ] {
        assert!(flat.contains(wanted), "{wanted}\n{flat}");
    }
    assert!(sentence.contains("40 never sent because their session broke"), "{sentence}");
    assert!(sentence.ends_with("; 7.25 % of sessions saw both versions."), "{sentence}");
    parse_page(&page);
    assert!(page.contains("Sessions that saw both versions") && page.contains("29 of 400"), "the tile");
}
