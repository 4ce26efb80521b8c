//! Each catalog file's plan is what its claim implies; and what was certified for it is held against futures that nobody used.
//!
//! A few are planned in every run; `SLACKWATER_WHOLE_CATALOG=1` plans them all, and `CERTIFICATE_FUTURES=2000` replays their windows
//! in so many. Horizons, futures and budgets are small here, so that a plan takes seconds; the claims are of hours that are all
//! alike, but for two files, whose hours are looked at.

use std::path::{Path, PathBuf};

use slackwater_planner::calendar::Calendar;
use slackwater_planner::certify::FRESH;
use slackwater_planner::chance::at_most;
use slackwater_planner::future::{Futures, LEAD_PS, Source};
use slackwater_planner::plan::{Answered, Ask, plan};
use slackwater_planner::planned::{Answer, Planned, Verdict};
use slackwater_planner::stretch::{TRIAL_MOST_PS, Tried, ps};
use slackwater_planner::trials::Trials;
use slackwater_planner::watch::Unwatched;
use slackwater_scenarios::Scenario;

/// What makes a plan small.
const SMALL: [&str; 8] = [
    "plan.horizon=1h",
    "plan.every=1h",
    "plan.window=1s",
    "plan.futures=3",
    "plan.risk=0.2",
    "plan.certify_futures=18",
    "plan.certify_windows=1",
    "plan.drain_timeouts=[\"120s\"]",
];

/// A catalog file and what its claim implies.
struct Claim {
    file: &'static str,
    /// Planned in every run, not only when all are.
    always: bool,
    settings: &'static [&'static str],
    implies: fn(&Planned),
}

const CLAIMS: [Claim; 15] = [
    Claim { file: "four-gpu-chat", always: true, settings: &["plan.every=30m"], implies: at_any_hour },
    Claim {
        file: "peak-too-high",
        always: false,
        settings: &["plan.horizon=6h", "plan.every=30m"],
        implies: not_in_the_peak,
    },
    Claim { file: "office-week", always: false, settings: OFFICE_WEEK, implies: sunday_not_tuesday },
    Claim {
        file: "reasoning-drain",
        always: false,
        settings: &["plan.certify_futures=60"],
        implies: a_longer_drain,
    },
    Claim { file: "start-never-healthy", always: true, settings: &[], implies: never_healthy },
    Claim { file: "one-more-gpu-lost", always: false, settings: &[], implies: harmless_but_for_a_lost_gpu },
    Claim { file: "retry-storm", always: false, settings: &[], implies: a_storm },
    Claim { file: "silent-reasoning-read-timeout", always: false, settings: &[], implies: silence },
    Claim { file: "eight-gpus-tp2", always: false, settings: &[], implies: at_any_hour },
    Claim { file: "single-tp8", always: true, settings: &[], implies: nobody_serves_meanwhile },
    Claim {
        file: "slower-and-more-verbose",
        always: false,
        settings: &[],
        implies: the_new_version_is_too_slow,
    },
    Claim { file: "window-closes", always: false, settings: &[], implies: at_any_hour },
    Claim { file: "canary-slower-than-declared", always: true, settings: &[], implies: a_canary_goes_back },
    Claim { file: "sessions-one-version", always: false, settings: &[], implies: sessions },
    Claim { file: "agents-cold-cache", always: false, settings: &["plan.futures=2"], implies: agents },
];

/// All hours of two days, in local time: Sunday and the Tuesday before it.
const OFFICE_WEEK: &[&str] = &["plan.horizon=7d", "plan.every=1h", "plan.time_zone=Europe/Berlin"];

fn at_any_hour(planned: &Planned) {
    assert_eq!(planned.answer, Answer::Go, "{:?}", planned.reasons);
    assert!(
        planned.windows.iter().all(|start| start.verdict != Verdict::Unsafe),
        "no hour is out of the question"
    );
    let best = planned.recommended.as_ref().expect("a window");
    assert_eq!((best.strategy.as_str(), best.expected_cut), ("rolling", 0.0));
}

/// The hour and minute of a start.
fn clock(start: &str) -> &str {
    &start[11..16]
}

fn not_in_the_peak(planned: &Planned) {
    assert_eq!(planned.answer, Answer::Go, "{:?}", planned.reasons);
    let best = planned.recommended.as_ref().expect("a window");
    assert!(clock(&best.start) <= "11:00", "{}", best.start);
    for start in &planned.windows {
        let at = clock(&start.start);
        if ("12:30".."13:45").contains(&at) {
            assert!(start.risk.estimate > 0.9, "in the peak: {start:?}");
        }
        if at < "10:30" {
            assert!(start.risk.misses == 0, "three hours earlier: {start:?}");
        }
    }
}

fn sunday_not_tuesday(planned: &Planned) {
    assert_eq!(planned.answer, Answer::Go, "{:?}", planned.reasons);
    let at = |wanted: &str| {
        let found = planned.windows.iter().find(|start| start.start.starts_with(wanted));
        found.unwrap_or_else(|| panic!("{wanted} is looked at"))
    };
    assert_eq!(at("2026-03-29T05:00").risk.misses, 0, "{:?}", at("2026-03-29T05:00"));
    assert!(at("2026-03-24T14:00").risk.estimate > 0.5, "{:?}", at("2026-03-24T14:00"));
    let best = planned.recommended.as_ref().expect("a window");
    assert!(!("08:00".."18:00").contains(&clock(&best.start)), "{}", best.start);
}

/// Requests are cut at 120 s; a drain as long as clients have patience spares them.
fn a_longer_drain(planned: &Planned) {
    let short = planned.drain.iter().find(|row| row.timeout_s == 120.0).expect("what was asked for");
    assert!(short.p_any_cut > 0.9 && short.cut > 5.0, "{short:?}");
    let long = planned.drain.iter().find(|row| row.timeout_s == 900.0).expect("the clients' patience");
    assert_eq!(long.cut, 0.0);
    assert!(long.recommended, "{:?}", planned.drain);
}

fn no_go<'p>(planned: &'p Planned, why: &str, instead: &str) -> &'p str {
    assert_eq!(planned.answer, Answer::NoGo);
    assert!(planned.recommended.is_none());
    let first = &planned.reasons[0];
    assert!(first.contains(why), "{why:?} is not why: {:?}", planned.reasons);
    assert!(planned.nearest.iter().any(|way| way.contains(instead)), "{instead:?}: {:?}", planned.nearest);
    first
}

fn never_healthy(planned: &Planned) {
    let why = no_go(planned, "does not come to its end", "mend what the fault stands for");
    assert!(why.contains("rolled back") && why.contains("replica 0"), "{why}");
    assert!(planned.reasons[1].contains("never gets healthy"), "{:?}", planned.reasons);
    assert!(
        planned.windows.iter().all(|start| start.expected_cut == 0.0 && start.slo_missed == 0.0),
        "users barely notice"
    );
}

fn harmless_but_for_a_lost_gpu(planned: &Planned) {
    assert_eq!(planned.answer, Answer::Go, "the rollout alone is harmless: {:?}", planned.reasons);
    let lost = planned.sensitivity.iter().find(|row| row.kind == "gpu_lost").expect("a row");
    assert!(lost.risk.misses > 0, "{lost:?}");
    assert!(
        planned.warnings.iter().any(|said| said.contains("2 of the scenario's faults")),
        "{:?}",
        planned.warnings
    );
}

fn a_storm(planned: &Planned) {
    no_go(planned, "no window", "less traffic");
    assert!(
        planned.windows.iter().all(|start| start.verdict == Verdict::Unsafe || start.risk.estimate > 0.5)
    );
}

fn silence(planned: &Planned) {
    no_go(planned, "no window", "");
}

fn nobody_serves_meanwhile(planned: &Planned) {
    let why = no_go(planned, "recreate takes all replicas out at once", "maintenance window");
    assert!(why.contains("nobody serves for "), "{why}");
    let own = planned.strategies.iter().find(|row| row.strategy == "recreate").and_then(|row| row.figures);
    let own = own.expect("it can be done");
    assert!((170.0..330.0).contains(&own.below_n_s), "three to five minutes: {own:?}");
    assert!((450.0..1_100.0).contains(&own.missed), "hundreds of requests: {own:?}");
    assert!(planned.nearest.iter().any(|way| way.contains("fleet.replicas = 2, fleet.tensor_parallel = 4")));
    let rolling = planned.strategies.iter().find(|row| row.strategy == "rolling").expect("a row");
    assert!(!rolling.possible, "{rolling:?}");
}

fn the_new_version_is_too_slow(planned: &Planned) {
    let why = no_go(planned, "it is the new version, not the rollout", "less traffic");
    let (old, new) = (planned.capacity.last().expect("four"), planned.capacity_new.expect("it differs"));
    assert!(new.high < 21.5 && old.low > 21.5, "{why}");
    assert!(new.rate_per_s < 0.8 * old.rate_per_s, "20 % slower and 30 % more verbose: {new:?} {old:?}");
}

fn a_canary_goes_back(planned: &Planned) {
    let why = no_go(planned, "does not come to its end", "rollout.compare");
    assert!(why.contains("comparison of the canary"), "{why}");
    assert!(planned.windows.iter().all(|start| start.expected_cut == 0.0), "no request is cut");
}

/// Kept at their version, hardly any session sees both; and what it would be otherwise is in the table.
fn sessions(planned: &Planned) {
    at_any_hour(planned);
    let own = planned.strategies.iter().find(|row| row.strategy == "rolling").expect("a row");
    let both = own.figures.and_then(|figures| figures.saw_both_share).expect("there are sessions");
    assert!(both < 0.1, "{both}");
}

/// Caches are cold, the service level holds: it asks for 2 s.
fn agents(planned: &Planned) {
    assert_eq!(planned.answer, Answer::Go, "{:?}", planned.reasons);
    let (before, during) = planned.recommended.as_ref().expect("a window").latency.ttft_p99_s;
    let (before, during) = (before.expect("measured"), during.expect("measured"));
    assert!(during > 1.5 * before, "{during} s with cold caches, {before} s without a rollout");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/catalog")
}

fn planned(claim: &Claim) -> Answered {
    let path = folder().join(format!("{}.toml", claim.file));
    let further: Vec<String> = std::env::var("CATALOG_SETTINGS")
        .map(|text| text.split(' ').map(str::to_owned).collect())
        .unwrap_or_default();
    let settings: Vec<&str> =
        SMALL.iter().chain(claim.settings).copied().chain(further.iter().map(String::as_str)).collect();
    let scenario = Scenario::load_with(&path, &settings).unwrap_or_else(|error| panic!("{error}"));
    let ask = Ask { scenario, slackwater: "test".to_owned(), inputs: Default::default(), history: None };
    plan(&ask, &Unwatched).unwrap_or_else(|error| panic!("{}: {error}", claim.file))
}

/// Misses of the recommended window in futures that neither screening nor certification met.
fn replayed(answered: &Answered, futures: u64) -> u64 {
    let best = answered.planned.recommended.as_ref().expect("a window");
    let scenario = Scenario::parse(&answered.kit.scenario, "kit").unwrap_or_else(|error| panic!("{error}"));
    let generate = scenario.traffic.generate.clone().expect("drawn traffic");
    let start = generate.start.0;
    let source = Source::Profile(Box::new(generate));
    let zone = scenario.plan.as_ref().and_then(|plan| plan.time_zone.clone());
    let all = Futures::new(source, Calendar::new(zone.as_deref()), scenario.seed, start, true, 1.0);
    let plan = answered.plan.as_ref().expect("a plan file");
    // The very starts that were certified: from the first to the last, as far apart as the plan looked.
    let first = LEAD_PS + ps(best.start_s);
    let every = ps(answered.planned.asked.every_s);
    let starts: Vec<u64> =
        (0..).map(|n| first + n * every).take_while(|at| *at <= first + ps(best.window_s)).collect();
    let trials = Trials {
        scenario: &scenario,
        gate: &plan.gate.capacity,
        starts: &starts,
        futures: 99 * FRESH..99 * FRESH + futures,
        lasts: ps(best.duration_p95_s * 2.0 + 600.0).min(TRIAL_MOST_PS),
        order: None,
        stage: "",
    };
    let (found, _) = trials.run(&all, &Unwatched).expect("a run").expect("not stopped");
    found.iter().filter(|future| future.iter().any(Tried::failed)).count() as u64
}

/// Catches: a plan that says something else than the scenario's claim, a first sentence that does not say why, and a certificate
/// that fresh futures refute: by a binomial test at 1 %, divided by the number of certificates.
#[test]
fn each_plan_is_what_its_claim_implies_and_no_certificate_is_refuted() {
    let whole = std::env::var("SLACKWATER_WHOLE_CATALOG").is_ok();
    let only = std::env::var("CATALOG_ONLY").ok();
    let fresh = std::env::var("CERTIFICATE_FUTURES").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    for claim in &CLAIMS {
        let asked = only
            .as_ref()
            .map_or(whole || claim.always, |only| only.split(',').any(|file| file == claim.file));
        if !asked {
            continue;
        }
        println!("planning {}", claim.file);
        let answered = planned(claim);
        (claim.implies)(&answered.planned);
        if let Some(best) = &answered.planned.recommended {
            let misses = replayed(&answered, fresh);
            // So many misses or more, were the risk what was promised.
            let chance = if misses == 0 { 1.0 } else { 1.0 - at_most(misses - 1, fresh, best.risk.upper) };
            println!(
                "| {} | {} / {} | {:.4} | {misses} / {fresh} | {chance:.3} |",
                claim.file, best.risk.misses, best.risk.futures, best.risk.upper
            );
            assert!(
                chance >= 0.01 / CLAIMS.len() as f64,
                "{}: {misses} of {fresh} futures missed; promised at most {}",
                claim.file,
                best.risk.upper
            );
        }
    }
    let files = std::fs::read_dir(folder()).expect("the catalog").count();
    assert_eq!(files, CLAIMS.len(), "every file of the catalog has its claim here");
}
