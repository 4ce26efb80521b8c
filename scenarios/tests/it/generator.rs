//! Drawn traffic is what its table says. The seed is fixed and printed in every failure.

use slackwater_scenarios::{Arrival, Keyed, Scenario, SharedTrace};

use crate::support::SHORT;

const SEED: u64 = 20_260_105;

fn draw(table: &str, overrides: &[&str]) -> SharedTrace {
    let text = SHORT.replace("duration = \"1h\"\nrate_per_s = 5", table);
    let mut all = vec![format!("seed={SEED}")];
    all.extend(overrides.iter().map(|&text| text.to_owned()));
    Scenario::parse_with(&text, "x.toml", &all)
        .unwrap_or_else(|error| panic!("{error}"))
        .load_traffic()
        .unwrap()
}

fn gaps(arrivals: &[Arrival]) -> Vec<f64> {
    arrivals.windows(2).map(|pair| (pair[1].at_ps - pair[0].at_ps) as f64 / 1e12).collect()
}

fn mean_and_cv(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt() / mean)
}

fn near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() < tolerance,
        "{what}: {found} is not within {tolerance} of {expected} (seed {SEED})"
    );
}

#[test]
fn poisson_arrivals_have_the_rate_and_cv_1() {
    let trace = draw("duration = '10h'\nrate_per_s = 5", &[]);
    near("count", trace.arrivals.len() as f64, 180_000.0, 0.01);
    let (mean, cv) = mean_and_cv(&gaps(&trace.arrivals));
    near("gap", mean, 0.2, 0.01);
    near("cv", cv, 1.0, 0.02);
}

#[test]
fn gamma_arrivals_have_the_rate_and_their_cv() {
    for cv in [0.3, 2.0, 4.0] {
        let trace =
            draw(&format!("duration = '20h'\nrate_per_s = 5\narrivals = {{ gamma_cv = {cv:?} }}"), &[]);
        let (mean, found) = mean_and_cv(&gaps(&trace.arrivals));
        near("gap", mean, 0.2, 0.04);
        near("cv", found, cv, 0.04);
    }
}

#[test]
fn the_rate_follows_hours_and_weekdays() {
    let table = "duration = '7d'\nrate_per_s = 4\nhourly = [1,1,1,1,1,1,1,1,1,1,1,1,3,3,3,3,3,3,3,3,3,3,3,3]\nweekday = [1,1,1,1,1,0.5,0]";
    let trace = draw(table, &[]);
    near("week", trace.arrivals.len() as f64, 4.0 * 7.0 * 86_400.0, 0.01);
    let hour = |day: usize, hour: usize| {
        let start = (day * 24 + hour) as u64 * 3600;
        let inside =
            |arrival: &&Arrival| (start..start + 3600).contains(&(arrival.at_ps / 1_000_000_000_000));
        trace.arrivals.iter().filter(inside).count() as f64
    };
    // The mean over the week of hourly 1 or 3 and weekdays 5.5 of 7 is 2 * 5.5 / 7.
    let unit = 4.0 * 3600.0 / (2.0 * 5.5 / 7.0);
    near("Monday, 6:00", hour(0, 6), unit, 0.03);
    near("Monday, 18:00", hour(0, 18), 3.0 * unit, 0.02);
    near("Monday, 12:00, on its way up", hour(0, 12), 2.75 * unit, 0.02);
    near("Saturday, 18:00", hour(5, 18), 1.5 * unit, 0.03);
    assert!(hour(6, 12) < 0.5, "Sunday is empty (seed {SEED})");
}

#[test]
fn a_start_in_the_middle_of_the_week_is_there_in_the_profile() {
    // 2026-01-10 is a Saturday.
    let trace =
        draw("duration = '1d'\nrate_per_s = 1\nstart = 2026-01-10T12:10:00Z\nweekday = [1,1,1,1,1,1,0]", &[]);
    let last_s = trace.arrivals.last().unwrap().at_ps as f64 / 1e12;
    near("last arrival before Sunday", last_s, 11.0 * 3600.0 + 3000.0, 0.001);
    assert_eq!(trace.epoch_ns, Some(1_768_047_000_000_000_000));
}

#[test]
fn lengths_have_their_medians_and_limits() {
    let table = "duration = '10h'\nrate_per_s = 5\ninput = [{ median = 1000, sigma = 1.5 }]\noutput = [{ weight = 3, median = 100, sigma = 0.1 }, { weight = 1, median = 5000, sigma = 0.1 }]\nmax_input_tokens = 8000";
    let trace = draw(table, &[]);
    let mut input: Vec<u32> = trace.arrivals.iter().map(|arrival| arrival.input_tokens).collect();
    input.sort_unstable();
    near("median", f64::from(input[input.len() / 2]), 1000.0, 0.03);
    assert_eq!(input.last(), Some(&8000));
    assert!(input[0] >= 1);
    let long = trace.arrivals.iter().filter(|arrival| arrival.output_tokens > 1000).count();
    near("share of the long part", long as f64 / trace.arrivals.len() as f64, 0.25, 0.02);
}

#[test]
fn the_default_lengths_are_those_of_chat() {
    let trace = draw("duration = '10h'\nrate_per_s = 5", &[]);
    for (name, expected, pick) in [
        ("input", 1020.0, (|arrival: &Arrival| arrival.input_tokens) as fn(&Arrival) -> u32),
        ("output", 129.0, |arrival| arrival.output_tokens),
    ] {
        let mut lengths: Vec<u32> = trace.arrivals.iter().map(pick).collect();
        lengths.sort_unstable();
        // The mixture is a fit, up to 0.11 off in the distribution function, so its medians are near the trace's only.
        near(name, f64::from(lengths[lengths.len() / 2]), expected, 0.15);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_gives_others() {
    let table = "duration = '1h'\nrate_per_s = 5\narrivals = { gamma_cv = 2.0 }";
    let one = draw(table, &[]);
    assert_eq!(one.arrivals, draw(table, &[]).arrivals);
    assert_ne!(one.arrivals, draw(table, &["seed=2"]).arrivals);
}

#[test]
fn one_purposes_draws_do_not_shift_anothers() {
    let table = "duration = '1h'\nrate_per_s = 5";
    let base = draw(table, &[]);
    let longer = draw(table, &["traffic.generate.output=[{ median = 4000, sigma = 1.0 }]"]);
    let faster = draw(table, &["traffic.rate_scale=2"]);
    assert_eq!(base.arrivals.len(), longer.arrivals.len());
    for (before, after) in base.arrivals.iter().zip(longer.arrivals.iter()) {
        assert_eq!((before.at_ps, before.input_tokens), (after.at_ps, after.input_tokens), "seed {SEED}");
    }
    for (before, after) in base.arrivals.iter().zip(faster.arrivals.iter()) {
        assert_eq!((before.input_tokens, before.output_tokens), (after.input_tokens, after.output_tokens));
        // The same gaps at twice the rate: half the time, to the rounding.
        assert!(before.at_ps.abs_diff(after.at_ps * 2) <= 100_000_000, "seed {SEED}");
    }
}

#[test]
fn keyed_draws_depend_on_purpose_and_ids_alone() {
    let keyed = Keyed::new(1);
    // Pinned: these bits are what makes old results repeatable.
    assert_eq!(keyed.bits("startup", &[3, 1]), 0x5cfa_32a7_33fd_e588);
    let mut all: Vec<u64> =
        vec![keyed.bits("startup", &[]), keyed.bits("stop", &[]), Keyed::new(2).bits("startup", &[])];
    for replica in 0..100 {
        for attempt in 0..100 {
            all.push(keyed.bits("startup", &[replica, attempt]));
        }
        all.push(keyed.bits("startup", &[replica]));
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    let mean = (0..100_000).map(|id| keyed.uniform("test", &[id])).sum::<f64>() / 100_000.0;
    assert!((mean - 0.5).abs() < 0.005, "{mean}");
}

/// Ten requests a second in sessions of `turns`, an hour.
fn sessions(turns: &str, extra: &str) -> slackwater_scenarios::Scenario {
    let text = format!(
        "[fleet]\nreplicas = 1\n[from]\nengine = 'h100-qwen3-14b'\n[traffic.generate]\nduration = '1h'\nrate_per_s = 10\n\
         input = [{{ median = 50, sigma = 0.5 }}]\n[traffic.generate.sessions]\nturns = {turns}\nthink = {{ median = '30s', \
         p95 = '90s' }}\n{extra}"
    );
    slackwater_scenarios::Scenario::parse(&text, "x.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The first turns are as many fewer as a session has turns; all turns together are the rate asked for.
#[test]
fn sessions_begin_at_the_rate_of_requests_over_their_turns() {
    for (turns, mean, variation) in [("{ fixed = 5 }", 5.0, 5.0), ("{ geometric = 4 }", 4.0, 7.0)] {
        let scenario = sessions(turns, "");
        let plan = scenario.session_plan().unwrap();
        let begun = scenario.load_traffic().unwrap().arrivals;
        let expected = 36_000.0 / mean;
        assert!((begun.len() as f64 - expected).abs() < 4.0 * f64::sqrt(expected), "{}", begun.len());
        let turns: u64 = (0..begun.len() as u64).map(|session| u64::from(plan.turns(session))).sum();
        let deviation = f64::sqrt(36_000.0 * variation);
        assert!((turns as f64 - 36_000.0).abs() < 4.0 * deviation, "{turns}");
    }
}

/// Renewal theory met by counting: sessions that began in the hours before time 0, walked through one by one, against
/// those drawn in their course. Catches: a pause met without regard to its length, a turn too early or too late.
#[test]
fn sessions_in_their_course_are_those_that_began_before() {
    for (turns, mean) in [("{ fixed = 5 }", 5.0), ("{ geometric = 4 }", 4.0)] {
        let scenario = sessions(turns, "");
        let plan = scenario.session_plan().unwrap();
        let hours = 4.0;
        let begun: f64 = 36_000.0 * hours / mean;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a whole number
        let count_begun = begun as u64;
        let (mut under_way, mut turn_sum, mut left_sum) = (0.0, 0.0, 0.0);
        for session in 0..count_begun {
            let mut at = -3600.0 * hours * (session as f64 + 0.5) / begun;
            for turn in 1..plan.turns(session) {
                at += plan.think(session, turn).as_secs_f64();
                if at >= 0.0 {
                    under_way += 1.0;
                    turn_sum += f64::from(turn);
                    left_sum += at;
                    break;
                }
            }
        }
        let drawn = plan.in_course();
        let count = drawn.len() as f64;
        let by = |value: fn(&slackwater_scenarios::traffic::InCourse) -> f64| {
            drawn.iter().map(value).sum::<f64>() / count
        };
        assert!((count / under_way - 1.0).abs() < 0.15, "{turns}: {count} against {under_way}");
        assert!((by(|met| f64::from(met.turn)) / (turn_sum / under_way) - 1.0).abs() < 0.1, "{turns}: turns");
        assert!(
            (by(|met| met.at_ps as f64 / 1e12) / (left_sum / under_way) - 1.0).abs() < 0.15,
            "{turns}: what is left"
        );
    }
    assert!(sessions("{ fixed = 5 }", "in_course = false").session_plan().unwrap().in_course().is_empty());
}

/// The k-th prompt is chosen with a weight of 1/k.
#[test]
fn system_prompts_are_as_popular_as_zipf_says() {
    let scenario = sessions("{ fixed = 1 }", "system_prompts = { count = 4, tokens = 1000, zipf = 1 }");
    let plan = scenario.session_plan().unwrap();
    let mut chosen = [0.0; 4];
    for session in 0..50_000 {
        chosen[plan.system_prompt(session).unwrap() as usize] += 1.0 / 50_000.0;
    }
    let whole = 1.0 + 1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0;
    for (rank, share) in chosen.iter().enumerate() {
        let wanted = 1.0 / (rank as f64 + 1.0) / whole;
        assert!((share - wanted).abs() < 0.01, "{chosen:?}");
    }
    assert!(scenario.load_traffic().unwrap().arrivals.iter().all(|arrival| arrival.input_tokens > 1000));
}
