//! Futures out of a recorded history.

use std::sync::Arc;

use slackwater_planner::calendar::Calendar;
use slackwater_planner::future::{Futures, LEAD_PS, Source};
use slackwater_planner::history::History;
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::{Arrival, ImportReport, SharedTrace};

const S: u64 = 1_000_000_000_000;
const DAY: u64 = 86_400 * S;
/// Monday 2026-01-05T00:00:00Z.
const MONDAY_NS: i64 = 1_767_571_200_000_000_000;

/// `days` days with one request every `gap_s(day, second)` seconds; a request's prompt is as long as the hour it came in, plus 100
/// times its day.
pub(crate) fn recorded(days: u64, gap_s: impl Fn(u64, u64) -> f64) -> Arc<SharedTrace> {
    let mut arrivals = Vec::new();
    let mut at = 0.0_f64;
    while at < (days * 86_400) as f64 {
        let second = at as u64;
        let (day, into) = (second / 86_400, second % 86_400);
        let gap = gap_s(day, into);
        if gap.is_finite() {
            arrivals.push(Arrival {
                at_ps: (at * 1e12) as u64,
                input_tokens: u32::try_from(1 + into / 3600 + 100 * day).unwrap(),
                output_tokens: 20,
            });
            at += gap;
        } else {
            at += 60.0;
        }
    }
    Arc::new(SharedTrace {
        arrivals: arrivals.into(),
        prefixes: Arc::default(),
        epoch_ns: Some(MONDAY_NS),
        report: ImportReport::default(),
    })
}

fn futures(trace: &Arc<SharedTrace>, start_ns: i64, growth: f64) -> Futures {
    let calendar = Calendar::new(None);
    let history = History::new(Arc::clone(trace), &calendar);
    Futures::new(Source::Recorded(Box::new(history)), calendar, 7, start_ns, true, growth)
}

fn scenario() -> Scenario {
    let text =
        "[fleet]\nreplicas = 2\n[from]\nengine = \"a100-llama-3.1-8b\"\n[to]\n[traffic]\nfile = \"x.csv\"\n";
    Scenario::parse(text, "test.toml").unwrap()
}

fn draw(futures: &Futures, future: u64, from: u64, until: u64) -> SharedTrace {
    futures.draw(&scenario(), future, from, until).unwrap()
}

const AFTER_A_WEEK_NS: i64 = MONDAY_NS + 7 * 86_400_000_000_000;

/// A weekend is drawn from weekends, a working day from working days; and the hour stays the hour, but for the shift of a quarter.
#[test]
fn days_are_drawn_from_their_class_and_hours_stay() {
    let trace = recorded(7, |_, _| 5.0);
    let futures = futures(&trace, AFTER_A_WEEK_NS, 1.0);
    let mut seen = std::collections::BTreeSet::new();
    for future in 0..30 {
        for day in 0..7_u64 {
            let noon = LEAD_PS + day * DAY + 12 * 3600 * S;
            let drawn = draw(&futures, future, noon, noon + 1800 * S);
            for arrival in drawn.arrivals.iter() {
                let (source_day, hour) = ((arrival.input_tokens - 1) / 100, (arrival.input_tokens - 1) % 100);
                assert_eq!(source_day >= 5, day >= 5, "day {day} out of day {source_day}");
                assert!((11..=12).contains(&hour), "half past noon out of hour {hour}");
                seen.insert((day, source_day));
            }
        }
    }
    // Every day of its class is a possible source.
    assert!(
        (0..5).all(|source| seen.contains(&(0, source))) && seen.contains(&(5, 6)) && seen.contains(&(6, 5))
    );
}

/// Of a history of constant rate the futures have that rate on average, times the growth, and differ by the noise.
#[test]
fn the_mean_rate_is_the_historys_times_the_growth() {
    let trace = recorded(7, |_, _| 2.0);
    for growth in [0.5, 1.0, 1.7] {
        let futures = futures(&trace, AFTER_A_WEEK_NS, growth);
        let rates: Vec<f64> = (0..300)
            .map(|future| {
                let drawn = draw(&futures, future, LEAD_PS + DAY, LEAD_PS + DAY + 3600 * S);
                drawn.arrivals.len() as f64 / 3600.0
            })
            .collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let sd = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64).sqrt();
        // Noise of 4 % (its floor: the days are all alike) over 300 futures: a standard error of 0.25 %.
        assert!((mean / (0.5 * growth) - 1.0).abs() < 0.01, "growth {growth}: {mean}");
        assert!(sd / mean > 0.02 && sd / mean < 0.06, "growth {growth}: {}", sd / mean);
    }
}

/// Drawn in one stretch or in two, a future is the same, but for what doubling moved across the cut.
#[test]
fn a_stretch_is_the_same_whatever_else_is_asked_for() {
    let trace = recorded(7, |day, second| 1.0 + (day + second / 3600) as f64 % 5.0);
    let futures = futures(&trace, AFTER_A_WEEK_NS, 0.8);
    let (from, cut, until) = (LEAD_PS + 5 * 3600 * S, LEAD_PS + 9 * 3600 * S, LEAD_PS + 30 * 3600 * S);
    let whole = draw(&futures, 3, from, until);
    let early = draw(&futures, 3, from, cut);
    let same = early.arrivals.iter().zip(whole.arrivals.iter()).filter(|(a, b)| a == b).count();
    assert!(same * 100 >= early.arrivals.len() * 95, "{same} of {}", early.arrivals.len());
    assert_eq!(draw(&futures, 3, from, until).arrivals, whole.arrivals);
    assert_ne!(draw(&futures, 4, from, until).arrivals, whole.arrivals);
    assert!(whole.arrivals.is_sorted_by_key(|arrival| arrival.at_ps));
    assert!(whole.arrivals.iter().all(|arrival| arrival.at_ps < until - from));
}

/// A recording that pauses for hours in the middle of a day has a hole there; the futures have none.
#[test]
fn a_hole_is_found_and_filled_from_other_days() {
    let hole = |day: u64, second: u64| day == 2 && (6 * 3600..9 * 3600).contains(&second);
    let trace = recorded(7, |day, second| if hole(day, second) { f64::INFINITY } else { 2.0 });
    let calendar = Calendar::new(None);
    let history = History::new(Arc::clone(&trace), &calendar);
    assert_eq!(history.holes.len(), 1, "{:?}", history.holes);
    let found = history.holes[0];
    assert_eq!((found.from_ps / DAY, found.from_ps % DAY / (3600 * S)), (2, 6));
    assert_eq!((found.until_ps - found.from_ps) / (3600 * S), 3);
    let futures = futures(&trace, AFTER_A_WEEK_NS, 1.0);
    for future in 0..40 {
        let from = LEAD_PS + 6 * 3600 * S + 1800 * S;
        let drawn = draw(&futures, future, from, from + 7200 * S);
        // The quarter's shift may reach past the hole's edge, no more.
        assert!(drawn.arrivals.len() > 2_500, "future {future}: {}", drawn.arrivals.len());
    }
    // Nights without a request are no holes where nights have none.
    let quiet = recorded(7, |_, second| if second < 6 * 3600 { f64::INFINITY } else { 2.0 });
    assert_eq!(History::new(quiet, &calendar).holes, []);
}

/// How days differ is measured, without what counting alone makes.
#[test]
fn the_spread_of_days_is_found() {
    let calendar = Calendar::new(None);
    let alike = History::new(recorded(7, |_, _| 3.0), &calendar);
    assert!(alike.day_sd < 0.02, "{}", alike.day_sd);
    // Every other day has e^0.4 times the traffic: standard deviation 0.2 about the mean of logarithms, 0.22 with n - 1.
    let unlike = History::new(
        recorded(14, |day, _| if day % 2 == 0 { 3.0 } else { 3.0 * (-0.4_f64).exp() }),
        &calendar,
    );
    assert!((0.15..0.3).contains(&unlike.day_sd), "{}", unlike.day_sd);
    assert_eq!(
        unlike.comparable(0, 12 * 3600 * S),
        10,
        "Mondays are too few; ten working days are comparable"
    );
    assert_eq!(unlike.comparable(6, 12 * 3600 * S), 4);
}

/// An hour is a day of its own that comes again.
#[test]
fn a_short_history_repeats() {
    let trace = recorded(1, |_, second| if second < 3600 { 2.0 } else { 1e9 });
    let calendar = Calendar::new(None);
    let history = History::new(Arc::clone(&trace), &calendar);
    assert!(!history.has_days());
    assert_eq!(history.comparable(0, 0), 0);
    let futures = futures(&trace, MONDAY_NS, 1.0);
    let drawn = draw(&futures, 0, LEAD_PS, LEAD_PS + 4 * 3600 * S);
    let rate = drawn.arrivals.len() as f64 / (4.0 * 3600.0);
    assert!((0.3..0.8).contains(&rate), "{rate}");
}

#[test]
fn a_measured_profile_is_off_in_each_future_by_what_it_was_off() {
    use slackwater_scenarios::calibration::{Calibration, HoldOut};
    let trace = recorded(2, |_, _| 600.0);
    let futures = futures(&trace, AFTER_A_WEEK_NS, 1.0);
    let mut base = scenario();
    let same = futures.scenario(&base, 3, 0, DAY);
    assert!(
        (same.from.step_time_factor - 1.0).abs() < 1e-12,
        "a profile nobody measured has no error to draw"
    );
    let calibration = Calibration {
        date: "2026-01-01".to_owned(),
        engine: None,
        gpu: None,
        watched: false,
        requests: 300,
        prompt_tokens_up_to: 4000,
        context_tokens_up_to: 5000,
        in_flight_up_to: 100,
        hold_out: Some(HoldOut { requests: 40, ttft_mean: 0.5, tpot_mean: -0.08, e2e_mean: 0.05 }),
        intervals: std::collections::BTreeMap::new(),
        not_identified: Vec::new(),
        alternatives: Vec::new(),
    };
    // What draws are keyed by: it must not change, or every plan with a measured profile does.
    assert_eq!(
        format!("{calibration:?}"),
        "Calibration { date: \"2026-01-01\", engine: None, gpu: None, requests: 300, prompt_tokens_up_to: 4000, \
         context_tokens_up_to: 5000, in_flight_up_to: 100, hold_out: Some(HoldOut { requests: 40, ttft_mean: 0.5, tpot_mean: \
         -0.08, e2e_mean: 0.05 }), intervals: {}, not_identified: [] }"
    );
    base.from.engine.calibration = Some(calibration);
    base.to.engine = base.from.engine.clone();
    base.to.step_time_factor = 2.0;
    let logs: Vec<f64> = (0..400)
        .map(|future| {
            let drawn = futures.scenario(&base, future, 0, DAY);
            let (old, new) = (drawn.from.step_time_factor, drawn.to.step_time_factor);
            assert!((new / old - 2.0).abs() < 1e-9, "the same profile, the same error: {old} {new}");
            old.ln()
        })
        .collect();
    let mean = logs.iter().sum::<f64>() / 400.0;
    let sd = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 399.0).sqrt();
    // 400 draws: the deviation is known within 3.5 %, the mean within 0.4 %; three times that.
    assert!((sd / 0.08 - 1.0).abs() < 0.12 && mean.abs() < 0.013, "{mean} {sd}");
    let again = futures.scenario(&base, 5, DAY, 2 * DAY);
    assert!((again.from.step_time_factor.ln() - logs[5]).abs() < 1e-12, "one future, one engine");
    base.to.engine.source = "the same with another limit".to_owned();
    let drawn = futures.scenario(&base, 5, 0, DAY);
    assert!((drawn.to.step_time_factor / drawn.from.step_time_factor - 2.0).abs() < 1e-9, "one measurement");
    base.to.engine.calibration.as_mut().unwrap().date = "2026-01-02".to_owned();
    let drawn = futures.scenario(&base, 5, 0, DAY);
    assert!((drawn.to.step_time_factor / drawn.from.step_time_factor - 2.0).abs() > 1e-6);
}

#[test]
fn what_a_measurement_leaves_open_is_drawn_in_each_future() {
    use slackwater_scenarios::alternatives::Alternative;
    use slackwater_scenarios::calibration::Calibration;
    let trace = recorded(2, |_, _| 600.0);
    let futures = futures(&trace, AFTER_A_WEEK_NS, 1.0);
    let mut base = scenario();
    let engine = base.from.engine.clone();
    let kv = |by: f64, c0_ms: f64| Alternative {
        c0_ms,
        c_kv_us: engine.c_kv_us * by,
        ..Alternative::of("c_kv_us", &engine)
    };
    let alternatives = vec![kv(0.1, engine.c0_ms * 1.02), kv(10.0, engine.c0_ms * 0.9)];
    let calibration = Calibration { date: "2026-01-01".to_owned(), alternatives, ..Calibration::default() };
    base.from.engine.calibration = Some(calibration);
    base.to.engine = base.from.engine.clone();
    base.to.engine.max_num_seqs = 7;
    base.to.engine.source = "the same with another limit".to_owned();
    let drawn: Vec<f64> = (0..400)
        .map(|future| {
            let drawn = futures.scenario(&base, future, 0, DAY);
            let (old, new) = (&drawn.from.engine, &drawn.to.engine);
            assert_eq!((old.c_kv_us, old.c0_ms), (new.c_kv_us, new.c0_ms), "one measurement, one draw");
            assert_eq!((new.max_num_seqs, old.max_num_seqs), (7, engine.max_num_seqs));
            // What the cache takes more, the floor takes less.
            assert_eq!(old.c_kv_us > engine.c_kv_us, old.c0_ms < engine.c0_ms);
            (old.c_kv_us / engine.c_kv_us).log10()
        })
        .collect();
    // Normal, nineteen in twenty between the alternatives: 400 draws know the share of 0.5 within 0.05, twice its deviation.
    let share = |of: &dyn Fn(f64) -> bool| drawn.iter().filter(|log| of(**log)).count() as f64 / 400.0;
    assert!((share(&|log| log > 0.0) - 0.5).abs() < 0.075, "{drawn:?}");
    assert!((share(&|log| log.abs() < 0.674 / 1.96) - 0.5).abs() < 0.075, "{drawn:?}");
    assert!(drawn.iter().all(|log| log.abs() < 1.0 + 1e-9) && share(&|log| log.abs() > 0.9) > 0.01);
    // Whatever stretch of the future is asked for, and by whom.
    let again = futures.scenario(&base, 5, DAY, 2 * DAY);
    assert_eq!((again.from.engine.c_kv_us / engine.c_kv_us).log10(), drawn[5]);
    base.to.engine.calibration.as_mut().unwrap().date = "2026-01-02".to_owned();
    let other = futures.scenario(&base, 5, 0, DAY);
    assert!((other.to.engine.c_kv_us - other.from.engine.c_kv_us).abs() > 1e-9, "two measurements");
}
