//! What a plan answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use slackwater_planner::check::{Question, check};
use slackwater_planner::plan::{Answered, Ask, PlanError, plan};
use slackwater_planner::planned::{Answer, Verdict};
use slackwater_planner::watch::{Unwatched, Watch};
use slackwater_scenarios::Scenario;

use crate::resampling::recorded;

/// A fleet that is quick to simulate: few requests, and a rollout of some minutes. By day three requests a second come, more
/// than one replica of the two carries; by night one in five seconds.
pub(crate) const OFFICE: &str = r#"
    seed = 11
    [fleet]
    replicas = 2
    [from]
    name = "old"
    startup = { median = "30s", p95 = "45s" }
    engine = { base = "a100-llama-3.1-8b", max_num_seqs = 4 }
    [to]
    name = "new"
    [traffic.generate]
    duration = "1h"
    rate_per_s = 0.8
    hourly = [1,1,1,1,1,1,15,15,15,15,15,15,15,15,15,15,15,15,1,1,1,1,1,1]
    [slo]
    ttft = "2s"
    tpot = "100ms"
    share = 0.9
    [rollout]
    soak = "30s"
    drain_timeout = "60s"
    [rollout.gate]
    give_up = "5m"
    [plan]
    horizon = "24h"
    every = "1h"
    window = "1h"
    futures = 4
    risk = 0.05
    certify_futures = 30
    certify_windows = 2
    drain_timeouts = ["5s", "30s"]
"#;

pub(crate) fn ask(text: &str, overrides: &[&str]) -> Ask {
    let scenario =
        Scenario::parse_with(text, "test.toml", overrides).unwrap_or_else(|error| panic!("{error}"));
    Ask { scenario, slackwater: "test".to_owned(), inputs: BTreeMap::new(), history: None }
}

pub(crate) fn answer(text: &str, overrides: &[&str]) -> Answered {
    plan(&ask(text, overrides), &Unwatched).unwrap()
}

/// Catches: a window in the day, nights that are not found, figures that contradict each other.
#[test]
fn nights_are_safe_and_days_are_not() {
    let Answered { planned, plan, .. } = answer(OFFICE, &[]);
    assert_eq!(planned.answer, Answer::Go, "{:?}", planned.reasons);
    let best = planned.recommended.as_ref().unwrap();
    let hour = |start_s: f64| (start_s / 3600.0) as u32;
    let by_day = |start_s: f64| (7..=16).contains(&hour(start_s));
    assert!(!by_day(best.start_s) && !by_day(best.start_s + best.window_s), "{best:?}");
    assert!(best.risk.upper <= best.risk.budget && best.risk.upper > 0.0);
    assert!(best.duration_p50_s <= best.duration_p95_s && best.below_n_s > 0.0);
    let growth = best.growth_until_closed.expect("there is load, and capacity");
    assert!(growth > 1.0, "a safe window is open: {growth}");
    assert!(best.risk.history_floor == 1.0, "no recorded day stands behind a profile");
    assert_eq!(planned.windows.len(), 24);
    for start in &planned.windows {
        match start.verdict {
            Verdict::Safe => assert_eq!(start.by, "certified"),
            Verdict::Unsafe => {
                assert!(by_day(start.start_s) || [6, 17].contains(&hour(start.start_s)), "{start:?}");
            }
            Verdict::Undecided => {}
        }
        if by_day(start.start_s) {
            assert_ne!(start.verdict, Verdict::Safe);
            assert!(start.risk.estimate > 0.5, "{start:?}");
        }
    }
    // Capacity grows with replicas and stands within its range.
    assert_eq!(planned.capacity.len(), 2);
    assert!(planned.capacity[0].rate_per_s < planned.capacity[1].rate_per_s);
    assert!(planned.capacity.iter().all(|row| row.low <= row.rate_per_s && row.rate_per_s <= row.high));
    // A longer drain timeout never cuts more in the same futures.
    assert!(planned.drain.windows(2).all(|pair| pair[0].cut >= pair[1].cut), "{:?}", planned.drain);
    assert_eq!(planned.drain.iter().filter(|row| row.recommended).count(), 1);
    // Strategies: all that the policy knows; what is impossible says why.
    for name in ["rolling", "canary", "surge", "blue-green", "halves", "side-by-side", "recreate", "swap"] {
        let row = planned.strategies.iter().find(|row| row.strategy == name).unwrap();
        assert_eq!(row.possible, row.figures.is_some());
        assert!(row.possible || !row.note.is_empty(), "{row:?}");
    }
    let kinds: Vec<&str> = planned.sensitivity.iter().map(|row| row.kind.as_str()).collect();
    for kind in ["traffic", "slower", "verbose", "startup", "gpu_lost", "rollback"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    // The file that is run.
    let plan = plan.unwrap();
    plan.validate().unwrap();
    assert_eq!(plan.rollout.drain.timeout.as_secs_f64(), best.drain_timeout_s);
    assert_eq!(plan.gate.capacity.len(), 2);
    assert!(!plan.windows.is_empty());
    // The rollout may be begun at any of the certified starts, and at none after them.
    for window in &plan.windows {
        let latest = window.latest_start.expect("a latest start");
        assert!(window.may_begin(window.opens) && window.may_begin(latest) && latest < window.closes);
        assert!(!window.may_begin(latest + slackwater_policy::Span::from_secs(1)));
    }
    let again: slackwater_policy::Plan =
        serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(again, plan);
}

/// How much the answer moves with the seed is a number, and says what it should of a week whose nights are alike.
#[test]
fn the_seed_moves_the_answer_so_much() {
    let planned = answer(OFFICE, &[]).planned;
    let seeds = planned.seeds.expect("there are futures to draw from");
    assert_eq!(seeds.resamples, 200);
    assert!(seeds.same_verdicts > 0.9 && seeds.same_answer == 1.0, "{seeds:?}");
    let again = seeds.certified_again.expect("a window");
    assert!((0.5..1.0).contains(&again), "{seeds:?}");
    let (low, high) = seeds.risk_estimate.expect("a window");
    let best = planned.recommended.unwrap();
    assert!(low <= best.risk.estimate && best.risk.estimate <= high && high < best.risk.upper, "{seeds:?}");
    assert!(planned.warnings.iter().any(|said| said.contains("another seed")), "{:?}", planned.warnings);
}

/// Catches: an answer that depends on who came first.
#[test]
fn the_answer_does_not_move_with_the_threads() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| answer(OFFICE, &["plan.horizon=8h"]).planned)
    };
    let (one, three) = (with(1), with(3));
    assert_eq!(one.hash, three.hash);
    assert_eq!(one.windows, three.windows);
    assert_eq!(one.recommended, three.recommended);
    let other = answer(OFFICE, &["plan.horizon=8h", "seed=12"]).planned;
    assert_ne!(one.hash, other.hash);
}

/// A search that is stopped says what it knows, and that it is not all.
#[test]
fn a_stopped_search_is_partial() {
    struct Impatient(AtomicU64);
    impl Watch for Impatient {
        fn progress(&self, _: &str, _: u64, _: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn stopped(&self) -> bool {
            self.0.load(Ordering::Relaxed) > 3
        }
    }
    let answered = plan(&ask(OFFICE, &[]), &Impatient(AtomicU64::new(0))).unwrap();
    assert!(answered.planned.partial);
    assert_eq!(answered.planned.recommended, None);
    assert!(answered.plan.is_none());
}

/// Requests that nothing can fulfil get a plain answer with what would work.
#[test]
fn impossible_requests_are_answered() {
    // No hour has room: the load is always more than one replica carries.
    let hopeless =
        answer(OFFICE, &["traffic.generate.rate_per_s=3", "traffic.generate.hourly=[]", "plan.horizon=4h"])
            .planned;
    assert_eq!(hopeless.answer, Answer::NoGo);
    assert!(hopeless.recommended.is_none() && !hopeless.nearest.is_empty(), "{:?}", hopeless.reasons);
    // The service level is missed without any rollout.
    let missed = answer(OFFICE, &["slo.ttft=\"1ms\"", "plan.horizon=4h"]).planned;
    assert_eq!(missed.answer, Answer::NoGo);
    assert!(missed.reasons[0].contains("without any rollout"), "{:?}", missed.reasons);
    // A single replica can't roll, and what works is said.
    let alone =
        answer(OFFICE, &["fleet.replicas=1", "traffic.generate.rate_per_s=0.1", "plan.horizon=4h"]).planned;
    assert_eq!(alone.answer, Answer::NoGo);
    assert!(alone.reasons[0].contains("single replica"), "{:?}", alone.reasons);
    assert!(alone.nearest.iter().any(|way| way.contains("recreate")), "{:?}", alone.nearest);
    let recreate = alone.strategies.iter().find(|row| row.strategy == "recreate").unwrap();
    assert!(recreate.possible && recreate.figures.is_some());
    // Nothing to learn from.
    let file = OFFICE.replace(
        "[traffic.generate]\n    duration = \"1h\"\n    rate_per_s = 0.8",
        "[traffic]\n    file = \"x.csv\"",
    );
    let file: String = file.lines().filter(|line| !line.contains("hourly")).collect::<Vec<_>>().join("\n");
    let nothing = plan(&ask(&file, &[]), &Unwatched);
    assert!(matches!(nothing, Err(PlanError::NoHistory(_))), "{nothing:?}");
    let mut empty = ask(&file, &[]);
    empty.history = Some(recorded(0, |_, _| 1.0));
    assert!(matches!(plan(&empty, &Unwatched), Err(PlanError::NoHistory(_))));
    // One day is one day.
    let mut day = ask(&file, &["plan.horizon=2h", "plan.certify_windows=1"]);
    day.history = Some(recorded(1, |_, _| 5.0));
    let day = plan(&day, &Unwatched).unwrap().planned;
    assert!(
        day.warnings.iter().any(|warning| warning.contains("less than a day and a half")),
        "{:?}",
        day.warnings
    );
    assert_eq!(day.answer, Answer::Conditional, "{:?}", day.reasons);
    assert!(day.reasons.iter().any(|why| why.contains("like the recorded one")), "{:?}", day.reasons);
    let best = day.recommended.expect("one request in five seconds is no load");
    assert_eq!(best.risk.comparable_days, 0);
}

/// With n comparable days the floor is 1/(n+1), and the report says what more would buy.
#[test]
fn the_floor_is_that_of_the_history() {
    let file = OFFICE.replace(
        "[traffic.generate]\n    duration = \"1h\"\n    rate_per_s = 0.8",
        "[traffic]\n    file = \"x.csv\"",
    );
    let file: String = file.lines().filter(|line| !line.contains("hourly")).collect::<Vec<_>>().join("\n");
    let mut ask = ask(&file, &["plan.horizon=2h", "plan.certify_windows=1"]);
    ask.history = Some(recorded(7, |_, _| 5.0));
    let planned = plan(&ask, &Unwatched).unwrap().planned;
    let best = planned.recommended.as_ref().unwrap();
    assert!(best.start.starts_with("2026-01-12T"), "the day after the history: {}", best.start);
    assert_eq!(best.risk.comparable_days, 5);
    assert!((best.risk.history_floor - 1.0 / 6.0).abs() < 1e-12);
    assert!(
        planned.reasons.iter().any(|reason| reason.contains("5 comparable days")),
        "{:?}",
        planned.reasons
    );
}

/// A plan looked at again: inside the window, outside of it, under too much load, and in the middle.
#[test]
fn a_plan_is_checked_again() {
    let Answered { planned, kit, .. } = answer(OFFICE, &[]);
    let best = planned.recommended.as_ref().unwrap();
    let at = |second: f64| kit.start_ns + (second * 1e9) as i64;
    let ask = |question: Question| check(&planned, &kit, &question).unwrap();
    let inside = ask(Question { now_ns: at(best.start_s), ..Question::default() });
    assert!(inside.safe, "{:?}", inside.reasons);
    let noon = ask(Question { now_ns: at(12.0 * 3600.0), ..Question::default() });
    assert!(!noon.safe && noon.options[0].risk.estimate > 0.5, "{noon:?}");
    let busy = ask(Question { now_ns: at(best.start_s), live_rate: Some(3.0), ..Question::default() });
    assert!(!busy.safe, "{:?}", busy.reasons);
    let next_year = ask(Question { now_ns: at(400.0 * 86_400.0), ..Question::default() });
    assert!(!next_year.safe && next_year.reasons[0].contains("new plan"));
    let names = |checked: &slackwater_planner::check::Checked| {
        let mut names: Vec<String> = checked.options.iter().map(|row| row.choice.clone()).collect();
        names.sort();
        names
    };
    let done = vec!["replica-0".to_owned()];
    let middle = ask(Question { now_ns: at(best.start_s), done: done.clone(), ..Question::default() });
    assert_eq!(names(&middle), ["continue", "go_back", "hold"]);
    assert!(middle.safe, "{:?}", middle.reasons);
    let late = ask(Question { now_ns: at(12.0 * 3600.0), done, ..Question::default() });
    assert!(!late.safe);
    assert_eq!(late.options[0].choice, "hold", "{:?}", late.options);
    let unknown = Question { now_ns: at(0.0), done: vec!["nobody".to_owned()], ..Question::default() };
    assert!(check(&planned, &kit, &unknown).is_err());
    let mut other = kit.clone();
    other.hash = "0".to_owned();
    assert!(check(&planned, &other, &Question::default()).is_err());
}

/// A start that is spared further futures was calm or hopeless, what was simulated is what a screening without sparing finds, and
/// no start is found to be better or worse by it.
#[test]
fn only_calm_and_hopeless_starts_are_spared() {
    use slackwater_planner::screen::{Adapt, FIRST, Outcome, Screen, screen};
    let scenario = Scenario::parse_with(OFFICE, "test.toml", &["traffic.generate.rate_per_s=1.6"]).unwrap();
    let futures = crate::certificates::futures_of(&scenario);
    let screened = |adapt| {
        let what = Screen {
            scenario: &scenario,
            gate: &[],
            closed_above: None,
            horizon_ps: 12 * 3_600 * 1_000_000_000_000,
            every_ps: 3_600 * 1_000_000_000_000,
            futures: 10,
            adapt,
        };
        screen(&futures, &what, &Unwatched).unwrap()
    };
    let (spared, all) = (screened(Some(Adapt { rest_per_s: Some(1.0) })), screened(None));
    assert!(spared.simulated < all.simulated, "{} {}", spared.simulated, all.simulated);
    let (mut calm, mut hopeless) = (0, 0);
    for (some, every) in spared.starts.iter().zip(&all.starts) {
        assert_eq!(every.futures, 10);
        // How long its load is looked at goes by its usual duration, which depends on the futures.
        let plain = |one: &Outcome| Outcome { peak_per_s: 0.0, ..*one };
        let known: Vec<Outcome> = every.each.iter().map(plain).collect();
        assert!(some.each.iter().all(|one| known.contains(&plain(one))), "{:?}\n{:?}", some.each, every.each);
        assert!(some.futures >= FIRST);
        // The load is known in every future, simulated or not.
        assert_eq!(some.highest_peak() > 1.0, every.highest_peak() > 1.0);
        if some.futures == FIRST && some.failed == FIRST {
            hopeless += 1;
            assert!(every.failed > 8, "{every:?}");
        } else if some.calm > 0 {
            calm += 1;
            assert_eq!((some.failed, some.futures + some.calm), (0, 10));
            assert_eq!(every.failed, 0);
        } else {
            assert_eq!(some.futures, 10);
        }
    }
    assert!(calm >= 3 && hopeless >= 1, "{calm} calm, {hopeless} hopeless");
}

/// A service level that a single request misses is missed without any rollout, also where the gate lets none begin; and a day's
/// history is a condition.
#[test]
fn what_no_simulation_is_needed_for_is_said_too() {
    let scenario = [
        "slo.ttft=\"1ms\"",
        "plan.horizon=2h",
        "traffic.generate.rate_per_s=8",
        "traffic.generate.hourly=[]",
    ];
    let missed = answer(OFFICE, &scenario).planned;
    assert!(missed.reasons[0].contains("without any rollout"), "{:?}", missed.reasons);
    assert!(missed.nearest[0].contains("wider service level"), "{:?}", missed.nearest);
    assert!(missed.nearest.iter().all(|way| !way.contains("100 %")), "{:?}", missed.nearest);
}

/// A profile measured on so long a prompt, and off by so much on what was held out.
fn calibrated(prompt_tokens: u32, in_flight: u32, off: f64) -> String {
    format!(
        "from.engine.calibration={{ date = \"2026-11-23\", requests = 300, prompt_tokens_up_to = {prompt_tokens}, \
         context_tokens_up_to = 1000000, in_flight_up_to = {in_flight}, hold_out = {{ requests = 40, ttft_mean = 0.0, tpot_mean = \
         {off:?}, e2e_mean = 0.0 }} }}"
    )
}

/// Catches: a GO that rests on prompts, or on loads, that nobody measured; a condition where all was measured; in the plan and
/// in a later look at it.
#[test]
fn beyond_the_measured_reach_nothing_is_promised() {
    let ask = |calibration: &str| {
        let Answered { planned, kit, .. } = answer(OFFICE, &[calibration]);
        let start = planned.recommended.as_ref().unwrap().start_s;
        let now_ns = kit.start_ns + (start * 1e9) as i64;
        let checked = check(&planned, &kit, &Question { now_ns, ..Question::default() }).unwrap();
        (planned, checked)
    };
    let (within, checked) = ask(&calibrated(1_000_000, 1000, 0.01));
    assert_eq!((within.answer, within.reach.len()), (Answer::Go, 1), "{:?}", within.reasons);
    assert_eq!(within.reach[0].beyond, 0);
    assert!(within.fleet.measured && checked.safe && checked.conditions.is_empty(), "{checked:?}");
    let says = |lines: &[String], words: &str| lines.iter().any(|line| line.contains(words));
    assert!(says(&within.warnings, "was measured on 2026-11-23, and off by +0.0 % in TTFT, +1.0 % in TPOT"));
    assert!(says(&checked.warnings, "was measured on 2026-11-23"));

    for (calibration, words) in [
        (calibrated(100, 1000, 0.01), "for prompts of up to 100"),
        (calibrated(1_000_000, 1, 0.01), "in flight of up to 1 "),
    ] {
        let (beyond, checked) = ask(&calibration);
        assert_eq!(beyond.answer, Answer::Conditional, "{:?}", beyond.reasons);
        assert!(says(&beyond.reasons, words), "{:?}", beyond.reasons);
        assert!(beyond.recommended.is_some(), "the window is still there to be seen");
        assert!(checked.safe && says(&checked.conditions, words), "{checked:?}");
    }
    let (plain, checked) = {
        let Answered { planned, kit, .. } = answer(OFFICE, &[]);
        let now_ns = kit.start_ns;
        let checked = check(&planned, &kit, &Question { now_ns, ..Question::default() }).unwrap();
        (planned, checked)
    };
    assert!(plain.reach.is_empty() && checked.conditions.is_empty() && checked.warnings.is_empty());
}

/// Catches: a capacity table, or a check, that takes a measured profile as exact.
#[test]
fn what_a_profile_is_off_by_is_in_the_capacity_and_the_check() {
    let exact = answer(OFFICE, &[]);
    let off = answer(OFFICE, &[&calibrated(1_000_000, 1000, 0.2)]);
    let one = |answered: &Answered| answered.planned.capacity[0];
    let (exact, off_by) = (one(&exact), one(&off));
    // A fifth either way, times 1.645: a factor of 1.39 (TTFT and TPOT bounds are far, so the rate goes with the speed).
    assert!(off_by.low < 0.85 * exact.low && off_by.high > 1.15 * exact.high, "{off_by:?} {exact:?}");
    assert!((off_by.rate_per_s / exact.rate_per_s - 1.0).abs() < 0.15, "{off_by:?} {exact:?}");

    let scenario = Scenario::parse_with(OFFICE, "test.toml", &[calibrated(1_000_000, 1000, 0.2)]).unwrap();
    let sample = slackwater_planner::capacity::sample(&scenario).unwrap();
    let plain = Scenario::parse(OFFICE, "test.toml").unwrap();
    let table =
        |scenario: &Scenario| slackwater_planner::capacity::capacity(scenario, &sample, 1..=1).unwrap()[0];
    let (wide, narrow) = (table(&scenario), table(&plain));
    assert_eq!(wide.rate_per_s, narrow.rate_per_s);
    assert!(wide.low < 0.85 * narrow.low && wide.high > 1.15 * narrow.high, "{wide:?} {narrow:?}");

    // The kit holds the measurement, so the trials of a check are of engines as far off as those of the plan.
    let now_ns = off.kit.start_ns + 3600 * 1_000_000_000 * 3;
    let ask = |kit| check(&off.planned, kit, &Question { now_ns, ..Question::default() }).unwrap();
    let mut known = off.kit.clone();
    let at = known.scenario.find("tpot_mean = 0.2").expect("the calibration is in the kit");
    known.scenario.replace_range(at..at + 15, "tpot_mean = 0.0");
    let (off, known) = (ask(&off.kit), ask(&known));
    assert!(
        off.options[0].duration_p95_s != known.options[0].duration_p95_s
            || off.options[0].missed != known.options[0].missed
    );
}
