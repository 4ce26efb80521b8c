//! Data that is empty, broken or meant to break: no panic, and what is missing is said.

use slackwater_reports::plots::{Form, PLOTS, Style, Theme};
use slackwater_reports::{ReportContext, csv, html, phase_table, verdict_sentence};
use slackwater_sim::*;

use crate::made_up::{self, Wish};
use crate::{parse_page, short};

/// Everything this crate can make of a result, checked for form.
fn render_all(result: &SimulationResult) -> (Vec<String>, String) {
    let mut drawings = Vec::new();
    for plot in PLOTS {
        for form in [Form::Wide, Form::Narrow] {
            let svg = (plot.draw)(result, Style { theme: Theme::Dark, form });
            roxmltree::Document::parse(&svg).expect("well-formed");
            assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{}", plot.name);
            drawings.push(svg);
        }
    }
    let page = html::report(result, &ReportContext::default());
    parse_page(&page);
    let table = phase_table(result);
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let _ = verdict_sentence(result);
    csv::phases(result).expect("phases");
    csv::series(result).expect("series");
    (drawings, page)
}

fn empty() -> SimulationResult {
    let mut result = short();
    result.baseline = None;
    result.rollout = None;
    result.phases.clear();
    result.series = Series::default();
    result.distributions.clear();
    result.capacity.clear();
    result.warnings.clear();
    result.fleet = FleetFacts::default();
    result.traffic = TrafficFacts::default();
    result.slo = SloFacts::default();
    result.service = ServiceVerdict::default();
    result.requests = RequestLedger::default();
    result.ttft_s = LatencySummary::default();
    result
}

#[test]
fn an_empty_result_says_no_data_in_every_plot() {
    let (drawings, page) = render_all(&empty());
    assert!(drawings.iter().all(|svg| svg.contains(">\nno data\n</text>")));
    assert!(page.contains("No data: the result has no phases."));
}

#[test]
fn numbers_that_are_none_and_lists_of_unequal_length_are_survived() {
    let mut result = short();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MAX, f64::MIN_POSITIVE] {
        let s = &mut result.series;
        s.arrivals_per_s[3] = bad;
        s.at_s[5] = bad;
        s.ttft_p99_s[4] = Some(bad);
        s.tpot_p50_s.truncate(7);
        s.serving.truncate(20);
        s.waiting.truncate(1);
        s.running[0].truncate(2);
        result.slo = SloFacts { ttft_s: bad, tpot_s: bad, e2e_s: Some(bad), share: bad };
        result.service.attainment = bad;
        result.traffic.span_s = bad;
        result.phases[0].rate_per_s = bad;
        result.phases[1].ttft_s.p99 = Some(bad);
        result.phases[1].until_s = bad;
        result.distributions[0].ttft[0] = (bad, bad);
        result.distributions[1].e2e.clear();
        result.capacity[0].rate_per_s = bad;
        let rollout = result.rollout.as_mut().expect("a rollout");
        rollout.drains[0].residual_s.push(bad);
        rollout.drains[0].cut_after_s.push(bad);
        rollout.moves[0].stopped_s = Some(bad);
        render_all(&result);
        let rollout = result.rollout.as_mut().expect("a rollout");
        (rollout.started_s, rollout.ended_s) = (bad, bad);
        render_all(&result);
        (result.rollout.as_mut().expect("a rollout")).started_s = 200.0;
    }
}

#[test]
fn moves_that_reached_nothing_are_drawn_and_listed() {
    let mut result = short();
    let rollout = result.rollout.as_mut().expect("a rollout");
    rollout.moves = vec![MoveFigures { replica: "gpu-9".into(), started_s: 210.0, ..MoveFigures::default() }];
    rollout.drains.clear();
    rollout.outcome = "held: gpu-9 did not become healthy".into();
    let (drawings, page) = render_all(&result);
    assert!(drawings.iter().any(|svg| svg.contains("not admitted")));
    assert!(page.contains("nothing was in flight at any drain"));
}

#[test]
fn one_replica_a_hundred_and_three_hundred_are_drawn() {
    for replicas in [1, 9, 100, 300] {
        let mut result = made_up::result(&Wish {
            replicas,
            span_s: 400.0,
            rate_per_s: 1.2 * replicas as f64,
            start_s: Some(50.0),
            ..Wish::default()
        });
        result.baseline = None;
        let (drawings, _) = render_all(&result);
        assert!(drawings.iter().all(|svg| svg.len() < 800_000), "{replicas}");
    }
}

#[test]
fn seconds_and_a_week_are_drawn() {
    for (span_s, start_s, rate_per_s) in [(5.0, 1.0, 2.0), (604_800.0, 200_000.0, 0.1)] {
        for epoch_s in [None, Some(1_700_158_546)] {
            let wish = Wish { span_s, start_s: Some(start_s), rate_per_s, epoch_s, ..Wish::default() };
            render_all(&made_up::result(&wish));
        }
    }
}

#[test]
fn text_from_the_data_stays_text() {
    let evil = "</style><script>alert('x')</script>&\"<!--\u{1}]]>";
    let mut result = short();
    result.scenario = evil.into();
    result.slackwater = evil.into();
    result.hash = evil.into();
    result.inputs.insert(evil.into(), evil.into());
    result.warnings.push(evil.into());
    result.traffic.source = evil.into();
    result.traffic.format = evil.into();
    result.traffic.dropped.push((evil.into(), 1, 1));
    result.fleet.router = evil.into();
    result.fleet.from = (evil.into(), evil.into());
    result.fleet.to = (evil.into(), evil.into());
    for name in &mut result.fleet.replicas {
        *name = evil.into();
    }
    for phase in &mut result.phases {
        phase.name = evil.into();
    }
    let rollout = result.rollout.as_mut().expect("a rollout");
    rollout.outcome = evil.into();
    for m in &mut rollout.moves {
        (m.replica, m.target, m.result) = (evil.into(), evil.into(), evil.into());
    }
    let (drawings, page) = render_all(&result);
    assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
    assert!(drawings.iter().all(|svg| !svg.contains("<script")));
    assert!(!phase_table(&result).contains('\u{1}'));
    let context = ReportContext { command_line: evil.into() };
    assert!(!html::report(&result, &context).contains("<script"));
}
