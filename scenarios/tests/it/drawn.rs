//! Drawn traffic with profiles, classes, agents: what the keys say is what is drawn. Seeds are fixed.

use slackwater_scenarios::traffic::statistics::{Collector, TraceFigures};
use slackwater_scenarios::traffic::{AllTurns, TraceWriter};
use slackwater_scenarios::{
    Arrivals, Bursts, FileTraffic, Generator, HumanDuration, Keyed, ReadOptions, Scenario, Traffic,
    TrafficSpec,
};

use crate::support::{SHORT, load, on_disk};

fn scenario(table: &str) -> Scenario {
    let text = SHORT.replace("duration = \"1h\"\nrate_per_s = 5", table);
    Scenario::parse(&text, "x.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn all(mut source: impl Traffic) -> TraceFigures {
    let mut collector = Collector::default();
    while let Some(arrival) = source.next_arrival().unwrap() {
        collector.observe(&arrival, source.prefix(), source.epoch_ns());
    }
    collector.finish(source.report()).figures
}

fn figures(table: &str) -> TraceFigures {
    let spec = scenario(table).traffic.generate.unwrap();
    all(Generator::new(&spec, 1.0, Keyed::new(1)))
}

fn near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() < tolerance,
        "{what}: {found} is not within {tolerance} of {expected}"
    );
}

#[test]
fn archetypes_have_the_shapes_that_were_measured() {
    let hourly = |name: &str| {
        let found = figures(&format!("duration = '7d'\nrate_per_s = 1\nprofile = '{name}'"));
        near(name, found.rate.mean_per_s, 1.0, 0.01);
        let calendar = found.calendar.unwrap();
        (
            calendar.hourly_per_s.into_iter().map(Option::unwrap).collect::<Vec<f64>>(),
            calendar.weekday_per_s.into_iter().map(Option::unwrap).collect::<Vec<f64>>(),
        )
    };
    let ratio = |rates: &[f64]| {
        rates.iter().copied().fold(0.0, f64::max) / rates.iter().copied().fold(f64::MAX, f64::min)
    };
    // Published: weekday peak to trough 8.5 to 11 and 32 % of a weekday's requests at the weekend; 1.6 to 2.2 and 57 %.
    let (hours, days) = hourly("office");
    assert!((5.5..9.0).contains(&ratio(&hours)), "{hours:?}");
    near("office's weekend", days[6] / days[2], 0.32, 0.1);
    let (hours, days) = hourly("global");
    assert!((1.5..2.2).contains(&ratio(&hours)), "{hours:?}");
    near("the world's weekend", days[5] / days[0], 0.57, 0.1);
    let (hours, days) = hourly("campus");
    assert!((8.0..13.0).contains(&ratio(&hours)), "{hours:?}");
    near("all days are alike", days[6] / days[2], 1.0, 0.04);
    let (hours, _) = hourly("aperiodic");
    assert!(ratio(&hours) < 1.06, "{hours:?}");
}

#[test]
fn a_profile_is_by_the_clock_of_its_zone_and_gives_way_to_what_is_written() {
    let busiest = |table: &str| {
        let hours = figures(table).calendar.unwrap().hourly_per_s;
        (0..24).max_by(|one, other| hours[*one].partial_cmp(&hours[*other]).unwrap()).unwrap()
    };
    let day = "duration = '1d'\nrate_per_s = 3\nprofile = 'office'\n";
    // The peak is at 13:00 to 15:00 local time.
    assert!((13..=14).contains(&busiest(day)));
    assert!((8..=9).contains(&busiest(&format!("{day}time_zone = '+05:00'"))));
    let own: Vec<f64> = (0..24).map(|hour| if hour == 4 { 3.0 } else { 1.0 }).collect();
    assert_eq!(busiest(&format!("{day}hourly = {own:?}")), 4);
    // A Saturday; weekdays are as in the profile.
    let saturday = "duration = '1d'\nrate_per_s = 20\nstart = 2026-01-10T00:00:00Z\nprofile = 'office'\n";
    assert_eq!(busiest(&format!("{saturday}weekend_hourly = {own:?}")), 4);
}

#[test]
fn new_keys_that_say_nothing_new_change_no_bit() {
    let table =
        "duration = '2d'\nrate_per_s = 1\nhourly = [1,1,1,1,1,1,1,1,1,1,1,1,3,3,3,3,3,3,3,3,3,3,3,3]\n";
    let draw = |more: &str| scenario(&format!("{table}{more}")).load_traffic().unwrap().arrivals;
    let plain = draw("");
    assert_eq!(plain, draw("weekend_hourly = [1,1,1,1,1,1,1,1,1,1,1,1,3,3,3,3,3,3,3,3,3,3,3,3]\n"));
    assert_eq!(plain, draw("class_run = 1\n"));
    // From a whole half hour on the two ways of cutting the week are one.
    assert_eq!(plain, draw("time_zone = 'UTC'\n"));
    let (still, moved) = (draw("noise = { change = 0 }\n"), draw("noise = { change = 0.2 }\n"));
    for ((plain, still), moved) in plain.iter().zip(still.iter()).zip(moved.iter()) {
        assert!(plain.at_ps.abs_diff(still.at_ps) < 1_000_000, "to the rounding of a cut piece");
        assert_eq!((plain.input_tokens, plain.output_tokens), (moved.input_tokens, moved.output_tokens));
    }
    assert_ne!(still, moved);
}

#[test]
fn rates_of_a_file_are_drawn_from_with_bursts() {
    let mut rates = String::from("time,rate\n");
    (0..=40)
        .for_each(|hour| rates.push_str(&format!("{},{}\n", hour * 3_600, if hour == 40 { 0 } else { 4 })));
    let drawn = |bursts| ReadOptions { bursts, ..crate::import_formats::drawn() };
    let of = |bursts: Option<Bursts>| {
        let file = on_disk(rates.as_bytes());
        all(FileTraffic::open(&file.path, drawn(bursts)).unwrap())
    };
    let plain = of(None);
    near("cv", plain.arrivals.cv.unwrap(), 1.0, 0.01);
    let even = of(Some(Bursts { arrivals: Arrivals::GammaCv(0.5), ..Bursts::default() }));
    near("rate", even.rate.mean_per_s, 4.0, 0.01);
    near("cv", even.arrivals.cv.unwrap(), 0.5, 0.01);
    let flicker = slackwater_scenarios::traffic::Flicker { sd: 0.3, memory: HumanDuration::from_secs(40) };
    let moved = of(Some(Bursts { flicker: Some(flicker), ..Bursts::default() }));
    near("rate", moved.rate.mean_per_s, 4.0, 0.02);
    near("cv", moved.arrivals.cv.unwrap(), (2.0 * (0.09_f64).exp() - 1.0).sqrt(), 0.015);
    let (variance, x) = ((0.09_f64).exp_m1(), 60.0 / 40.0);
    let expected = 1.0 + 4.0 * 60.0 * variance * 2.0 * (x - 1.0 + f64::exp(-x)) / (x * x);
    near("60 s", moved.arrivals.dispersion_60s.unwrap(), expected, 0.12);
    let notes = moved.import.notes.join("\n");
    assert!(notes.contains("as traffic.bursts says"), "{notes}");
    // Requests of a file are as they are.
    let error = load(crate::support::MOONCAKE, drawn(Some(Bursts::default()))).unwrap_err();
    assert!(error.problem.contains("traffic.bursts is for"), "{error:?}");
    // In a scenario.
    let file = on_disk(rates.as_bytes());
    let text = format!(
        "[fleet]\nreplicas = 1\n[from]\nengine = 'h100-qwen3-14b'\n[traffic]\nfile = '{}'\nbursts = {{ arrivals = {{ \
         gamma_cv = 0.5 }} }}\nassume_tokens = {{ input = [{{ median = 9, sigma = 1 }}], output = [{{ median = 9, sigma = 1 \
         }}] }}\n",
        file.path.display()
    );
    let scenario = Scenario::parse(&text, "x.toml").unwrap_or_else(|error| panic!("{error}"));
    let spec: &TrafficSpec = &scenario.traffic;
    near("cv", all(spec.open(1, false).unwrap()).arrivals.cv.unwrap(), 0.5, 0.01);
}

/// An hour of agents, as they were measured.
const AGENTS: &str = "duration = '6h'\nrate_per_s = 2\nmax_input_tokens = 60000\n\
    input = [{ median = 400, sigma = 1.0 }]\noutput = [{ weight = 63, median = 178, sigma = 0.53 }, { weight = 37, median = 496, sigma = 1.05 }]\n\
    [traffic.generate.sessions]\nturns = { lognormal = { median = 39, sigma = 1.156 } }\n\
    think = { median = '6s', p95 = '40s' }\nperson = { share = 0.06, think = { median = '3m', p95 = '20m' } }\n\
    compact_to = 15000\nsystem_prompts = { count = 3, tokens = 8000 }\n";

#[test]
fn agents_turns_are_as_many_as_they_say() {
    let plan = scenario(AGENTS).session_plan().unwrap();
    let mut turns: Vec<f64> = (0..20_000).map(|session| f64::from(plan.turns(session))).collect();
    turns.sort_unstable_by(f64::total_cmp);
    near("median", turns[10_000], 39.0, 0.04);
    let mean = turns.iter().sum::<f64>() / 20_000.0;
    near("mean", mean, 39.0 * (1.156_f64 * 1.156 / 2.0).exp(), 0.05);
    let spec = scenario(AGENTS).traffic.generate.unwrap().sessions.unwrap();
    near("the mean that the rate is divided by", spec.turns.mean(), mean, 0.05);
    let pauses: Vec<f64> = (0..400)
        .flat_map(|session| (1..50).map(move |turn| (session, turn)))
        .map(|(s, t)| plan.think(s, t).as_secs_f64())
        .collect();
    let expected = 0.94 * spec.think.mean_s() + 0.06 * spec.person.unwrap().think.mean_s();
    near("mean pause", pauses.iter().sum::<f64>() / pauses.len() as f64, expected, 0.1);
}

#[test]
fn agents_come_at_the_rate_from_the_start_and_their_context_is_compacted() {
    let spec = scenario(AGENTS).traffic.generate.unwrap();
    let mut source = AllTurns::new(&spec, 1.0, Keyed::new(4));
    let (mut counts, mut longest, mut shortest) = ([0.0; 6], 0, u32::MAX);
    while let Some(arrival) = source.next_arrival().unwrap() {
        counts[usize::try_from(arrival.at_ps / 3_600_000_000_000_000).unwrap()] += 1.0;
        longest = longest.max(arrival.input_tokens);
        shortest = shortest.min(arrival.input_tokens);
    }
    assert!(longest <= 60_000 && shortest > 8_000, "{shortest} {longest}");
    for count in counts {
        // Some 3,500 turns of each hour are of a few hundred sessions that go on for long.
        near("an hour's turns", count, 7_200.0, 0.25);
    }
    let plan = scenario(AGENTS).session_plan().unwrap();
    assert_eq!(plan.prompt(59_000, 500), (59_500, false));
    assert_eq!(plan.prompt(59_000, 1_500), (16_500, true), "summed up to 15,000, and the message");
    assert_eq!(plan.prompt(59_000, 50_000), (60_000, true));
    // A session's prompts grow, and fall when they are compacted.
    let long = (0..).find(|session| plan.turns(*session) > 300).unwrap();
    let prompts: Vec<u32> = plan.nominal(long, 0).map(|turn| turn.input_tokens).collect();
    let falls = prompts.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(falls >= 1 && falls < prompts.len() / 20, "{falls} of {}", prompts.len());
}

#[test]
fn sessions_keep_their_class() {
    let table = "duration = '1h'\nrate_per_s = 5\n[[traffic.generate.classes]]\ninput = [{ median = 10, sigma = 0.1 }]\noutput = \
                 [{ median = 1000, sigma = 0.1 }]\n[[traffic.generate.classes]]\ninput = [{ median = 1000, sigma = 0.1 \
                 }]\noutput = [{ median = 10, sigma = 0.1 }]\n[traffic.generate.sessions]\nturns = { fixed = 4 }\nthink = 5\n";
    let plan = scenario(table).session_plan().unwrap();
    let mut of_first = 0;
    for session in 0..1_000 {
        let kinds: Vec<bool> =
            (0..4).map(|turn| plan.turn(session, turn)).map(|turn| turn.new_tokens < 100).collect();
        assert!(kinds.iter().all(|kind| *kind == kinds[0]));
        assert!((0..4).all(|turn| (plan.turn(session, turn).output_tokens > 100) == kinds[0]));
        of_first += usize::from(kinds[0]);
    }
    assert!((440..=560).contains(&of_first), "{of_first}");
}

#[test]
fn a_week_that_is_drawn_is_fitted_with_its_weekend_and_its_noise() {
    let table = "duration = '14d'\nrate_per_s = 1\nprofile = 'office'\nnoise = { change = 0.07, memory = '3h' }\nflicker = { \
                 sd = 0.3, memory = '40s' }\n";
    let spec = scenario(table).traffic.generate.unwrap();
    let collected = |mut source: Generator| {
        let mut collector = Collector::default();
        while let Some(arrival) = source.next_arrival().unwrap() {
            collector.observe(&arrival, &[], source.epoch_ns());
        }
        collector.finish(source.report())
    };
    let trace = collected(Generator::new(&spec, 1.0, Keyed::new(2)));
    let fit = trace.fit().unwrap();
    println!("{}{:?}", fit.to_toml(), fit.notes);
    let found = &fit.generate;
    assert!(!found.weekend_hourly.is_empty(), "Sundays are shaped otherwise");
    let noise = found.noise.expect("the level wanders");
    near("noise", noise.log_sd(), spec.noise.unwrap().log_sd(), 0.35);
    near("flicker", found.flicker.expect("it flickers").sd, 0.3, 0.25);
    let again = collected(Generator::new(found, 1.0, Keyed::new(3))).compare(&trace);
    assert!(again.hourly_distance.unwrap() < 0.03, "{again:?}");
    let within = |collected: &TraceFigures| collected.arrivals.dispersion_within_hours.unwrap();
    let (here, there) = (collected(Generator::new(found, 1.0, Keyed::new(3))).figures, &trace.figures);
    for (here, there) in within(&here).into_iter().zip(within(there)) {
        near("within hours", here, there, 0.2);
    }
    let fitted = scenario(&fit.to_toml().replace("[traffic.generate]\n", ""));
    assert_eq!(fitted.traffic.generate.as_ref(), Some(found), "the text says what was fitted");
}

/// Fit, draw eight times, compare: medians, because an hour that moves is never as another one.
#[test]
fn real_hours_are_resembled_by_what_is_fitted_to_them() {
    // (trace, bound of both length distances, bound of the factor of CV and dispersion).
    for (name, lengths, factor) in [
        ("azure2023_conv.csv.gz", 0.06, 1.35),
        ("azure2023_code.csv.gz", 0.06, 1.35),
        ("mooncake_conversation_trace.jsonl.gz", 0.06, 1.35),
    ] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces");
        let path = std::path::Path::new(path).join(name);
        if !path.exists() {
            println!("skipped: {} not found", path.display());
            continue;
        }
        let collected = |mut source: Box<dyn Traffic>| {
            let mut collector = Collector::default();
            while let Some(arrival) = source.next_arrival().unwrap() {
                collector.observe(&arrival, &[], source.epoch_ns());
            }
            collector.finish(source.report())
        };
        // Mooncake's grid of 3 s is taken away first: what it does to gaps is not the traffic's.
        let options = ReadOptions { dequantise: name.starts_with("moon"), ..ReadOptions::default() };
        let trace = collected(Box::new(FileTraffic::open(&path, options).unwrap()));
        let fit = trace.fit().unwrap();
        println!("{name}\n{}{:?}", fit.to_toml(), fit.notes);
        let mut found: [Vec<f64>; 7] = Default::default();
        for seed in 1..=8 {
            let again =
                collected(Box::new(Generator::new(&fit.generate, 1.0, Keyed::new(seed)))).compare(&trace);
            let pairs =
                [again.cv, again.dispersion_1s, again.dispersion_10s, again.dispersion_60s, again.rate_per_s];
            let values = pairs.map(|pair| pair.here.unwrap() / pair.there.unwrap());
            for (found, value) in
                found.iter_mut().zip(values.into_iter().chain([again.input_distance, again.output_distance]))
            {
                found.push(value);
            }
        }
        // One renewal process with the trace's CV, for comparison: it can't have the counts of a rate that moves.
        let mut alone = fit.generate.clone();
        (alone.on_off, alone.flicker) = (None, None);
        alone.arrivals = Arrivals::GammaCv(trace.figures.arrivals.cv_within_hours.unwrap().min(20.0));
        let alone = collected(Box::new(Generator::new(&alone, 1.0, Keyed::new(1)))).figures.arrivals;
        let source = &trace.figures.arrivals;
        println!(
            "source {:?} {:?} {:?} {:?}",
            source.cv, source.dispersion_1s, source.dispersion_10s, source.dispersion_60s
        );
        println!(
            "one process {:?} {:?} {:?} {:?}",
            alone.cv, alone.dispersion_1s, alone.dispersion_10s, alone.dispersion_60s
        );
        let [cv, one, ten, minute, rate, input, output] = found.map(|mut values| {
            values.sort_unstable_by(f64::total_cmp);
            f64::midpoint(values[3], values[4])
        });
        println!(
            "{name}: cv {cv:.3} 1s {one:.3} 10s {ten:.3} 60s {minute:.3} rate {rate:.3} in {input:.3} out {output:.3}"
        );
        assert!(input < lengths && output < lengths, "{name}: {input} {output}");
        for ratio in [cv, one, ten, minute, rate] {
            assert!(ratio < factor && ratio > 1.0 / factor, "{name}: {ratio}");
        }
    }
}

#[test]
fn what_is_written_is_read_back_as_it_was_drawn() {
    // Classes, bursts and all go through the writer and the importer without a change.
    let table = "duration = '1h'\nrate_per_s = 5\non_off = { on = '5s', off = '5s' }\n";
    let arrivals = scenario(table).load_traffic().unwrap().arrivals;
    let mut lines = TraceWriter::mooncake_jsonl(Vec::new());
    arrivals.iter().for_each(|arrival| lines.write(arrival, &[]).unwrap());
    let back = load(&lines.finish().unwrap(), ReadOptions::default()).unwrap();
    assert_eq!(back.arrivals.len(), arrivals.len());
}

#[test]
fn what_cannot_be_drawn_is_refused_with_its_key_and_a_remedy() {
    let sessions = "[traffic.generate.sessions]\nthink = 3\nturns = ";
    let part = "[{ median = 1, sigma = 1 }]";
    for (keys, wanted) in [
        ("profile = 'nights'".to_owned(), ["unknown choice", "office"]),
        ("time_zone = 'Atlantis'".into(), ["`traffic.generate.time_zone`", "Europe/Berlin"]),
        ("weekend_hourly = [1]".into(), ["`traffic.generate.weekend_hourly`", "give 24"]),
        (
            "arrivals = { weibull_cv = 30 }".into(),
            ["`traffic.generate.arrivals.weibull_cv`", "between 0.05 and 20"],
        ),
        ("clients = { count = 0 }".into(), ["`traffic.generate.clients.count`", "between 1 and 100000"]),
        (
            "clients = { count = 5, cv = 3, cv_p95 = 2 }".into(),
            ["`traffic.generate.clients.cv_p95`", "between 3 and 100"],
        ),
        (
            "arrivals = { gamma_cv = 2 }\nclients = { count = 5 }".into(),
            ["`traffic.generate.clients`", "beside `arrivals`"],
        ),
        ("on_off = { on = '9s', off = '0s' }".into(), ["`traffic.generate.on_off.off`", "100ms to 720h"]),
        ("flicker = { sd = 3, memory = '1m' }".into(), ["`traffic.generate.flicker.sd`", "between 0 and 2"]),
        (
            "noise = { change = 0.9, memory = '20d' }".into(),
            ["`traffic.generate.noise.change`", "lower `change` or `memory`"],
        ),
        ("noise = { jump = 0.5 }".into(), ["`traffic.generate.noise.jump`", "between 1 and 10"]),
        ("noise = { jumps = 5 }".into(), ["unknown key", "jumps_per_week"]),
        ("drift = { every = '100ms' }".into(), ["`traffic.generate.drift.every`", "give a duration from 1s"]),
        ("class_run = 5".into(), ["`traffic.generate.class_run`", "at least two"]),
        (
            format!("classes = [{{ input = [], output = {part} }}]"),
            ["`traffic.generate.classes[0].input`", "has no part"],
        ),
        (
            format!("input = {part}\nclasses = [{{ input = {part}, output = {part} }}]"),
            ["`traffic.generate.input`", "beside classes"],
        ),
        (
            format!("{sessions}{{ lognormal = {{ median = 0.5, sigma = 1 }} }}"),
            ["`traffic.generate.sessions.turns.lognormal.median`", "between 1"],
        ),
        (
            format!("{sessions}{{ fixed = 3 }}\ncompact_to = 40000"),
            ["`traffic.generate.sessions.compact_to`", "fewer than 32768"],
        ),
        (
            format!("{sessions}{{ fixed = 3 }}\nperson = {{ share = 2, think = 3 }}"),
            ["`traffic.generate.sessions.person.share`", "between 0 and 1"],
        ),
        (
            format!("drift = {{ input = 0.3 }}\n{sessions}{{ fixed = 3 }}"),
            ["`traffic.generate.drift`", "does not go together"],
        ),
        ("[traffic.bursts]\narrivals = 'poisson'".into(), ["`traffic.bursts`", "is for a file"]),
    ] {
        let error = Scenario::parse(&format!("{SHORT}{keys}\n"), "x.toml").expect_err(&keys).to_string();
        assert!(wanted.iter().all(|word| error.contains(word)), "{keys}: {error}");
    }
}

#[test]
fn the_documented_profiles_are_valid_and_draw() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/traces.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for block in blocks.filter(|block| block.contains("[traffic.generate]")) {
        let head = SHORT.split("[traffic.generate]").next().unwrap();
        let scenario = Scenario::parse(&format!("{head}{block}"), "docs")
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
        let mut spec = scenario.traffic.generate.clone().unwrap();
        // A while of them is enough.
        spec.duration = HumanDuration::from_secs(20_000);
        assert!(all(AllTurns::new(&spec, 1.0, Keyed::new(1))).requests > 100, "{block}");
        assert_eq!(Scenario::parse(&scenario.to_toml(), "resolved").unwrap(), scenario);
        seen += 1;
    }
    assert_eq!(seen, 6);
}
