//! A believable plan without the planner: a week of starts, busy around noon, one window certified.

use slackwater_planner::chance::Risk;
use slackwater_planner::planned::*;

use crate::made_up::{self, Wish};

/// Midnight of Monday, 5 January 2026, in UTC+01:00.
const MONDAY_S: i64 = 1_767_567_600;
const EVERY_S: f64 = 1_800.0;
/// The recommended start: Tuesday, 03:00.
const BEST_S: f64 = 97_200.0;

/// The instant so far into the horizon.
fn at(offset_s: f64) -> String {
    // Whole seconds of a week.
    #[allow(clippy::cast_possible_truncation)]
    let s = MONDAY_S + offset_s as i64 + 3_600;
    let days = (s - MONDAY_S - 3_600) / 86_400;
    let rest = (s - MONDAY_S - 3_600) % 86_400;
    format!("2026-01-{:02}T{:02}:{:02}:{:02}+01:00", 5 + days, rest / 3_600, rest / 60 % 60, rest % 60)
}

fn risk(misses: u64, futures: u64) -> Risk {
    Risk::of(misses, futures, 0.95)
}

/// A window is certified.
pub(crate) fn go() -> Planned {
    let windows: Vec<StartVerdict> = (0..336).map(|number| start(f64::from(number) * EVERY_S)).collect();
    let facts = RiskFacts {
        estimate: 0.0,
        upper: 0.009_974,
        budget: 0.01,
        confidence: 0.95,
        futures: 368,
        misses: 0,
        history_floor: 0.125,
        comparable_days: 7,
    };
    let sample = made_up::result(&Wish { epoch_s: u64::try_from(MONDAY_S).ok(), ..Wish::default() });
    Planned {
        schema: PLANNED_SCHEMA.to_owned(),
        slackwater: "0.1.0".to_owned(),
        scenario: "made-up".to_owned(),
        seed: 11,
        inputs: [("scenario".to_owned(), "5c".repeat(32))].into(),
        partial: false,
        answer: Answer::Go,
        reasons: vec!["0 misses in 368 fresh futures".to_owned()],
        nearest: Vec::new(),
        warnings: vec!["one of <every> kind".to_owned()],
        fleet: FleetPlanned {
            from: "v1".to_owned(),
            to: "v2".to_owned(),
            replicas: (0..4).map(|number| format!("gpu-{number}")).collect(),
            tensor_parallel: 1,
            spares: 0,
            profiles: ("calibrated: a | b".to_owned(), "calibrated: a | b".to_owned()),
            measured: true,
            router: "least connections".to_owned(),
        },
        slo: slackwater_sim::SloFacts { ttft_s: 2.0, tpot_s: 0.1, e2e_s: None, share: 0.99 },
        asked: Asked {
            risk: 0.01,
            cut_risk: 0.05,
            confidence: 0.95,
            every_s: EVERY_S,
            horizon_s: 604_800.0,
            futures: 20,
            growth: 1.0,
            time_zone: "Europe/Berlin".to_owned(),
            strategy: "rolling".to_owned(),
            cost: (1.0, 5.0, 20.0),
        },
        history: HistoryFacts {
            kind: "recorded".to_owned(),
            source: "week.csv".to_owned(),
            days: 7.0,
            requests: 3_161_234,
            ends: Some(at(0.0)),
            holes: vec![(at(3_600.0), at(7_200.0))],
            dropped: vec![("no output tokens".to_owned(), 12)],
            day_sd: 0.12,
            noise_sd: 0.08,
        },
        recommended: Some(Recommended {
            start: at(BEST_S),
            start_s: BEST_S,
            window_s: 1_800.0,
            latest_start: at(BEST_S + 1_800.0),
            until: at(BEST_S + 2_400.0),
            drain_timeout_s: 45.0,
            strategy: "rolling".to_owned(),
            risk: facts,
            any_cut: risk(11, 368),
            expected_cut: 0.042,
            cut_p95: 1.0,
            expected_missed: 0.31,
            requests_during: 3_075.2,
            duration_p50_s: 550.0,
            duration_p95_s: 606.0,
            below_n_s: 312.0,
            latency: LatencyChange {
                ttft_p50_s: (Some(0.097), Some(0.1)),
                ttft_p99_s: (Some(0.49), Some(0.71)),
                tpot_p99_s: (Some(0.017), Some(0.0185)),
                ..LatencyChange::default()
            },
            back_out_p95_s: Some(360.0),
            growth_until_closed: Some(3.2),
            valid_until: at(BEST_S + 2_400.0),
        }),
        certified: vec![CertifiedWindow {
            start: at(BEST_S),
            start_s: BEST_S,
            window_s: 1_800.0,
            verdict: Verdict::Safe,
            risk: facts,
            cost: 1.77,
        }],
        windows,
        load: (0..1_008).map(|number| slot(f64::from(number) * 600.0)).collect(),
        capacity_new: None,
        seeds: Some(SeedSpread {
            resamples: 200,
            same_answer: 1.0,
            same_window: 0.62,
            same_day: 0.9,
            same_verdicts: 0.998,
            certified_again: Some(0.93),
            risk_estimate: Some((0.0, 0.004)),
        }),
        capacity: (1..=4)
            .map(|replicas| CapacityRange {
                replicas,
                rate_per_s: 6.5 * f64::from(replicas),
                low: 6.4 * f64::from(replicas),
                high: 6.7 * f64::from(replicas),
            })
            .collect(),
        drain: [10.0, 45.0, 120.0].map(drain).to_vec(),
        drain_by_hour: (0..24)
            .map(|hour| DrainHour {
                hour,
                drains: 560,
                survival: [1.0, 5.0, 30.0, 120.0].map(|s| (s, (-s / (8.0 + f64::from(hour))).exp())).to_vec(),
            })
            .collect(),
        matching: Some(Matching {
            proxy_read_timeout_s: 60.0,
            worker_shutdown_timeout_s: 75.0,
            engine_shutdown_timeout_s: 45.0,
            grace_period_s: 77.0,
        }),
        strategies: vec![
            StrategyRow {
                strategy: "rolling".to_owned(),
                with: "one at a time".to_owned(),
                possible: true,
                note: String::new(),
                figures: Some(StrategyFigures {
                    risk: risk(0, 60),
                    duration_p50_s: 550.0,
                    duration_p95_s: 606.0,
                    below_n_s: 312.0,
                    extra_gpu_hours: 0.0,
                    cut: 0.04,
                    missed: 0.3,
                    saw_both_share: Some(0.07),
                    back_out_p95_s: Some(360.0),
                    cost: 1.77,
                }),
            },
            StrategyRow {
                strategy: "surge".to_owned(),
                with: "onto a spare GPU first".to_owned(),
                possible: false,
                note: "needs a spare GPU group".to_owned(),
                figures: None,
            },
        ],
        sensitivity: sensitivity(),
        reach: Vec::new(),
        bands: vec![Band {
            figure: slackwater_policy::Figure::TtftP99,
            limit: 1.57,
            usual: 0.91,
            false_pause: 0.048,
        }],
        expected: Some(ExpectedRollout { peaks: ExpectedPeaks::default(), sample: Some(Box::new(sample)) }),
        today: vec![TodayRow {
            way: "03:00 and `sleep 60`".to_owned(),
            start: at(10_800.0),
            risk: risk(7, 100),
            cut: 3.4,
            p_any_cut: 0.9,
            missed: 81.0,
            duration_p50_s: 552.0,
            cost: 99.0,
        }],
        simulated_requests: 116_908_167,
        wall_s: 21.4,
        hash: "ab".repeat(32),
    }
}

fn sensitivity() -> Vec<SensitivityRow> {
    let row = |change: &str, kind: &str, factor, misses, colour: &str, red_from| SensitivityRow {
        change: change.to_owned(),
        kind: kind.to_owned(),
        factor,
        risk: risk(misses, 100),
        colour: colour.to_owned(),
        red_from,
    };
    vec![
        row("traffic +10 %", "traffic", 1.1, 0, "green", Some(1.4)),
        row("traffic +50 %", "traffic", 1.5, 40, "red", Some(1.4)),
        row("the new version 10 % slower", "slower", 1.1, 0, "green", Some(2.5)),
        row("its answers 1.2 times as long", "verbose", 1.2, 0, "green", None),
        row("start-up 2 times as long", "startup", 2.0, 0, "green", Some(3.5)),
        row("one more GPU lost while the first replica drains", "gpu_lost", 1.0, 83, "red", None),
    ]
}

fn slot(at_s: f64) -> LoadSlot {
    let mean_per_s = rate(at_s);
    LoadSlot { at_s, mean_per_s, low_per_s: mean_per_s * 0.9, high_per_s: mean_per_s * 1.1 }
}

/// Busy at 15:00.
fn rate(at_s: f64) -> f64 {
    11.0 + 10.0 * ((at_s / 3_600.0 - 9.0) / 24.0 * std::f64::consts::TAU).sin()
}

fn drain(timeout_s: f64) -> DrainRow {
    let p_any_cut = (-timeout_s / 18.0).exp();
    DrainRow {
        timeout_s,
        cut: 3.0 * p_any_cut,
        p_any_cut,
        p_any_cut_upper: (p_any_cut + 0.03).min(1.0),
        duration_p50_s: 545.0,
        duration_p95_s: 600.0,
        below_n_s: 305.0 + timeout_s,
        missed: 0.1,
        risk: risk(0, 200),
        cost: 1.8,
        recommended: (timeout_s - 45.0).abs() < 0.5,
    }
}

fn start(start_s: f64) -> StartVerdict {
    let busy = rate(start_s);
    let (verdict, by, risk) = if (start_s - BEST_S).abs() < EVERY_S {
        (Verdict::Safe, "certified", risk(0, 368))
    } else if busy > 19.5 {
        (Verdict::Unsafe, "load", risk(20, 20))
    } else if busy > 17.0 {
        (Verdict::Undecided, "screened", risk(3, 20))
    } else {
        (Verdict::Undecided, "screened", risk(0, 20))
    };
    StartVerdict {
        start: at(start_s),
        start_s,
        verdict,
        by: by.to_owned(),
        risk,
        promised: risk.estimate,
        slo_missed: risk.estimate,
        missed_without: 0.0,
        any_cut: 0.05,
        expected_cut: 0.1,
        expected_missed: 0.2,
        duration_p50_s: Some(550.0),
        duration_p95_s: None,
        extra_ttft_p95_s: Some(0.01),
        extra_ttft_p99_s: Some(0.02),
        extra_tpot_p95_s: Some(0.001),
        extra_tpot_p99_s: Some(0.002),
        calm: 0,
        peak_rate_per_s: busy,
        growth_until_closed: Some(19.5 / busy),
        cost: 1.9,
    }
}

/// No window is safe, and the search was stopped.
pub(crate) fn no_go() -> Planned {
    let mut planned = go();
    planned.answer = Answer::NoGo;
    planned.partial = true;
    planned.reasons = vec!["no window is within the risk budget of 1.00 %".to_owned()];
    planned.nearest =
        vec!["the least bad start is 2026-01-06T03:00:00+01:00: 3 of 20 futures missed".to_owned()];
    planned.recommended = None;
    planned.certified.clear();
    planned.matching = None;
    planned.bands.clear();
    planned.expected = None;
    for start in &mut planned.windows {
        if start.verdict == Verdict::Safe {
            start.verdict = Verdict::Undecided;
        }
    }
    planned
}

/// Nothing was found at all.
pub(crate) fn empty() -> Planned {
    let mut planned = no_go();
    planned.reasons = vec!["no start was tried: the search was stopped before".to_owned()];
    planned.nearest.clear();
    planned.warnings.clear();
    planned.windows.clear();
    planned.load.clear();
    planned.capacity.clear();
    planned.drain.clear();
    planned.drain_by_hour.clear();
    planned.strategies.clear();
    planned.sensitivity.clear();
    planned.today.clear();
    planned.inputs.clear();
    planned.fleet = FleetPlanned::default();
    planned.asked = Asked::default();
    planned.history = HistoryFacts::default();
    planned
}

/// The same window of traffic that has no calendar.
pub(crate) fn uncalendared() -> Planned {
    let mut planned = go();
    let words = |at_s: f64| format!("{at_s:.0} s after the start of the traffic");
    for start in &mut planned.windows {
        start.start = words(start.start_s);
    }
    for window in &mut planned.certified {
        window.start = words(window.start_s);
    }
    if let Some(best) = &mut planned.recommended {
        best.start = words(best.start_s);
        best.latest_start = words(best.start_s + best.window_s);
        best.until = words(best.start_s + 2_400.0);
        best.valid_until.clone_from(&best.until);
    }
    planned.today.clear();
    planned
}
