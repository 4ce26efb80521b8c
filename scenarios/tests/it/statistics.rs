//! What a trace is said to be like, against what it was drawn from, and against files counted by hand.

use slackwater_scenarios::traffic::statistics::{Collected, Collector, FitError};
use slackwater_scenarios::traffic::{AllTurns, ReadOptions, SessionPlan, TraceWriter};
use slackwater_scenarios::{
    Arrivals, FileTraffic, Generate, Generator, HumanDuration, Keyed, Scenario, Traffic,
};

use crate::support::{AZURE_2023, MOONCAKE, SHORT, arrival, on_disk};

fn collected(mut source: impl Traffic) -> Collected {
    let mut collector = Collector::default();
    while let Some(arrival) = source.next_arrival().unwrap() {
        collector.observe(&arrival, source.prefix(), source.epoch_ns());
    }
    collector.finish(source.report())
}

fn read(bytes: &[u8]) -> Collected {
    let options = ReadOptions { prefixes: true, ..ReadOptions::default() };
    collected(FileTraffic::open(&on_disk(bytes).path, options).unwrap())
}

fn generate(hours: u64, rate_per_s: f64, arrivals: Arrivals) -> Generate {
    let mut generate = Scenario::parse(SHORT, "short").unwrap().traffic.generate.unwrap();
    generate.duration = HumanDuration::from_secs(hours * 3600);
    generate.rate_per_s = rate_per_s;
    generate.arrivals = arrivals;
    generate
}

fn drawn(generate: &Generate, seed: u64) -> Collected {
    collected(Generator::new(generate, 1.0, Keyed::new(seed)))
}

#[test]
fn poisson_is_one_at_every_scale() {
    let figures = drawn(&generate(24, 5.0, Arrivals::Poisson), 1).figures;
    let arrivals = &figures.arrivals;
    // 432,000 gaps: the sampling error of the CV is 0.0015; of a dispersion of n bins it is sqrt(2/n).
    assert!((arrivals.cv.unwrap() - 1.0).abs() < 0.008, "{arrivals:?}");
    assert!((arrivals.cv_within_hours.unwrap() - 1.0).abs() < 0.008, "{arrivals:?}");
    for (index, bins) in [
        (arrivals.dispersion_1s, 86_400.0),
        (arrivals.dispersion_10s, 8_640.0),
        (arrivals.dispersion_60s, 1_440.0),
    ] {
        let error = (2.0_f64 / bins).sqrt();
        assert!((index.unwrap() - 1.0).abs() < 4.0 * error, "{index:?} of {bins} bins");
    }
    assert!((figures.rate.mean_per_s - 5.0).abs() < 0.04, "{:?}", figures.rate.mean_per_s);
    assert!(figures.rank_correlation.unwrap().abs() < 0.01, "{:?}", figures.rank_correlation);
    assert!(!figures.quantised && figures.prefixes.is_none());
}

#[test]
fn the_cv_of_gamma_gaps_is_recovered() {
    for cv in [0.3, 2.0, 4.0] {
        let arrivals = drawn(&generate(24, 5.0, Arrivals::GammaCv(cv)), 3).figures.arrivals;
        // The relative error of a CV is about sqrt((kurtosis - 1) / 4n), of gamma gaps sqrt((2 + 6cv^2) / 4n).
        let error = cv * ((2.0 + 6.0 * cv * cv) / (4.0 * 432_000.0)).sqrt();
        assert!((arrivals.cv.unwrap() - cv).abs() < 5.0 * error, "{cv}: {arrivals:?}");
        // A renewal process' dispersion tends to the CV's square, from the side of 1.
        let index = arrivals.dispersion_60s.unwrap();
        assert!((index / (cv * cv) - 1.0).abs() < 0.25, "{cv}: {arrivals:?}");
    }
}

#[test]
fn a_file_by_hand() {
    let figures = read(AZURE_2023).figures;
    assert_eq!(figures.requests, 3);
    assert!((figures.span_s - 4.541_877).abs() < 1e-6, "{}", figures.span_s);
    // Gaps 4.314579 and 0.227298: their mean is 2.2709385, their deviation the difference over the root of 2.
    assert!(
        (figures.arrivals.cv.unwrap() - 4.087_281 / 2.0_f64.sqrt() / 2.270_938_5).abs() < 1e-6,
        "{:?}",
        figures.arrivals
    );
    assert_eq!((figures.input.least, figures.input.p50, figures.input.most), (374, 396, 879));
    assert_eq!((figures.output.p50, figures.output.p99), (55, 109));
    assert!((figures.output.mean - 208.0 / 3.0).abs() < 1e-9);
    // Ranks 1 2 3 against 1 3 2.
    assert!((figures.rank_correlation.unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(figures.rate.peak_10min_per_s, None);
    assert_eq!(figures.arrivals.dispersion_1s, None, "five seconds are too few");
    assert!(figures.calendar.is_some());
}

#[test]
fn blocks_by_hand() {
    let figures = read(MOONCAKE).figures;
    assert!(figures.calendar.is_none());
    let prefixes = figures.prefixes.unwrap();
    assert_eq!(prefixes.named_requests, 2);
    assert!((prefixes.seen_share - 512.0 / (6955.0 + 6472.0)).abs() < 1e-12, "{prefixes:?}");
    assert!(prefixes.follow_up_share.abs() < 1e-12);
}

#[test]
fn a_trace_is_no_way_from_itself() {
    let mut spec = generate(30, 1.0, Arrivals::Poisson);
    spec.hourly = (0..24).map(|hour| if hour < 12 { 1.0 } else { 3.0 }).collect();
    let (one, other) = (drawn(&spec, 1), drawn(&spec, 2));
    let same = one.compare(&one);
    assert!(same.input_distance.abs() < 1e-12 && same.output_distance.abs() < 1e-12);
    assert_eq!(same.hourly_distance, Some(0.0));
    assert_eq!(same.cv.here, same.cv.there);
    // Two samples of 100,000: the 99.9 % bound of the distance is 1.95 * sqrt(2/n).
    let alike = one.compare(&other);
    assert!(alike.input_distance > 0.0 && alike.input_distance < 0.009, "{alike:?}");
    let mut flat = spec;
    flat.hourly = Vec::new();
    flat.output[0].median *= 2.0;
    let apart = one.compare(&drawn(&flat, 1));
    // A quarter and three quarters against a half each.
    assert!((apart.hourly_distance.unwrap() - 0.25).abs() < 0.02, "{apart:?}");
    assert!(apart.input_distance < 0.009 && apart.output_distance > 0.2, "{apart:?}");
}

#[test]
fn a_fit_finds_what_was_drawn() {
    let mut spec = generate(24 * 8, 0.5, Arrivals::GammaCv(2.0));
    spec.hourly = (0..24).map(|hour| if (8..20).contains(&hour) { 3.0 } else { 1.0 }).collect();
    spec.weekday = vec![1.0, 1.0, 1.0, 1.0, 1.0, 0.4, 0.4];
    let trace = drawn(&spec, 1);
    let fit = trace.fit().unwrap();
    let found = &fit.generate;
    assert!((found.rate_per_s / 0.5 - 1.0).abs() < 0.03, "{fit:?}");
    let Arrivals::GammaCv(cv) = found.arrivals else { panic!("{fit:?}") };
    assert!((cv - 2.0).abs() < 0.1, "{cv}");
    assert!((found.hourly[12] / found.hourly[3] - 3.0).abs() < 0.15, "{:?}", found.hourly);
    assert!((found.weekday[6] / found.weekday[2] - 0.4).abs() < 0.03, "{:?}", found.weekday);
    assert_eq!(found.input.len(), spec.input.len(), "{:?}", found.input);
    for (found, given) in found.input.iter().zip(&spec.input) {
        assert!((found.median / given.median - 1.0).abs() < 0.05, "{found:?} for {given:?}");
        assert!((found.weight - given.weight).abs() < 0.04, "{found:?} for {given:?}");
    }
    let again = drawn(found, 9).compare(&trace);
    assert!(again.input_distance < 0.012 && again.output_distance < 0.012, "{again:?}");
    assert!(again.hourly_distance.unwrap() < 0.02, "{again:?}");

    let scenario = format!("{}{}", SHORT.split("[traffic.generate]").next().unwrap(), fit.to_toml());
    let scenario = Scenario::parse(&scenario, "fitted").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scenario.traffic.generate.as_ref(), Some(found), "the text says what was fitted");
}

#[test]
fn too_little_is_not_fitted() {
    assert_eq!(read(AZURE_2023).fit().unwrap_err(), FitError::TooFew { requests: 3 });
    let mut burst = Collector::default();
    for tick in 0..300 {
        burst.observe(&arrival(tick * 1_000_000_000, 10, 10), &[], None);
    }
    let burst = burst.finish(slackwater_scenarios::ImportReport::default());
    assert!(matches!(burst.fit().unwrap_err(), FitError::TooShort { .. }));
}

#[test]
fn short_traces_get_no_profile_and_are_told_so() {
    let fit = drawn(&generate(5, 2.0, Arrivals::Poisson), 1).fit().unwrap();
    assert!(fit.generate.hourly.is_empty() && fit.generate.weekday.is_empty());
    assert_eq!(fit.generate.arrivals, Arrivals::Poisson);
    assert!(fit.notes.iter().any(|note| note.contains("shorter than a day")), "{:?}", fit.notes);
    assert_eq!(fit.notes.len(), 1, "{:?}", fit.notes);
    // Three hours at a quiet rate, two at a busy one: no gap distribution tells that.
    let mut moving = generate(5, 2.0, Arrivals::Poisson);
    moving.hourly = (0..24).map(|hour| if hour < 3 { 1.0 } else { 9.0 }).collect();
    let fit = drawn(&moving, 1).fit().unwrap();
    assert!(fit.notes.iter().any(|note| note.contains("moves from minute to minute")), "{:?}", fit.notes);
    assert!(fit.generate.flicker.is_some(), "{fit:?}");
}

#[test]
fn quantised_times_do_not_make_bursts() {
    // Poisson at 5 a second, put onto a grid of 3 s as Mooncake's are.
    let mut source = Generator::new(&generate(10, 5.0, Arrivals::Poisson), 1.0, Keyed::new(1));
    let mut lines = String::new();
    while let Some(arrival) = source.next_arrival().unwrap() {
        let ms = arrival.at_ps / 3_000_000_000_000 * 3_000;
        lines.push_str(&format!("{{\"timestamp\": {ms}, \"input_length\": 9, \"output_length\": 9}}\n"));
    }
    let trace = read(lines.as_bytes());
    assert!(trace.figures.quantised && trace.figures.arrivals.cv.unwrap() > 2.0);
    let fit = trace.fit().unwrap();
    let cv = match fit.generate.arrivals {
        Arrivals::Poisson => 1.0,
        Arrivals::GammaCv(cv) | Arrivals::WeibullCv(cv) => cv,
    };
    assert!((cv - 1.0).abs() < 0.06, "{fit:?}");
}

#[test]
fn written_traces_read_back_the_same() {
    let arrivals =
        [arrival(0, 374, 44), arrival(4_314_489_000_000, 396, 109), arrival(u64::pow(10, 16), 1, 2)];
    let (mut lines, mut table) = (
        TraceWriter::mooncake_jsonl(Vec::new()),
        TraceWriter::azure_csv(Vec::new(), 1_700_158_546_680_590_000).unwrap(),
    );
    for (place, arrival) in arrivals.iter().enumerate() {
        lines.write(arrival, &[7, place as u64]).unwrap();
        table.write(arrival, &[]).unwrap();
    }
    let options = ReadOptions { prefixes: true, ..ReadOptions::default() };
    for (bytes, has_prefixes) in [(lines.finish().unwrap(), true), (table.finish().unwrap(), false)] {
        let file = on_disk(&bytes);
        let mut source = FileTraffic::open(&file.path, options.clone()).unwrap();
        for (place, arrival) in arrivals.iter().enumerate() {
            assert_eq!(source.next_arrival().unwrap().as_ref(), Some(arrival));
            let wanted: &[u64] = if has_prefixes { &[7, place as u64] } else { &[] };
            assert_eq!(source.prefix(), wanted);
        }
        assert_eq!(source.next_arrival().unwrap(), None);
        let epoch = (!has_prefixes).then_some(1_700_158_546_680_590_000);
        assert_eq!(source.epoch_ns(), epoch);
    }
    // What Azure wrote comes back byte for byte, but for its line ends.
    let mut source = FileTraffic::open(&on_disk(AZURE_2023).path, options).unwrap();
    let mut arrivals = Vec::new();
    while let Some(arrival) = source.next_arrival().unwrap() {
        arrivals.push(arrival);
    }
    let mut table = TraceWriter::azure_csv(Vec::new(), source.epoch_ns().unwrap()).unwrap();
    arrivals.iter().for_each(|arrival| table.write(arrival, &[]).unwrap());
    let text = String::from_utf8(table.finish().unwrap()).unwrap();
    assert_eq!(text.trim_end(), String::from_utf8_lossy(AZURE_2023).replace("\r\n", "\n"));
    // A time that the calendar does not reach is an error.
    let mut table = TraceWriter::azure_csv(Vec::new(), i64::MAX).unwrap();
    assert!(table.write(&arrival(u64::MAX, 1, 1), &[]).is_err());
}

#[test]
fn every_turn_of_the_sessions_is_drawn() {
    let mut spec = generate(2, 3.0, Arrivals::Poisson);
    let sessions = "[traffic.generate.sessions]\nturns = { geometric = 4.0 }\nthink = { median = \"40s\", p95 = \"150s\" }\nin_course = false\n";
    let scenario =
        Scenario::parse(&format!("{SHORT}{sessions}"), "sessions").unwrap_or_else(|error| panic!("{error}"));
    spec.sessions = scenario.traffic.generate.unwrap().sessions;
    let keyed = Keyed::new(5);
    let all = |spec: &Generate| {
        let mut source = AllTurns::new(spec, 1.0, keyed);
        let arrivals: Vec<_> = std::iter::from_fn(|| source.next_arrival().unwrap()).collect();
        assert_eq!(source.report().arrivals, arrivals.len() as u64);
        assert!(arrivals.windows(2).all(|pair| pair[0].at_ps <= pair[1].at_ps), "in order of time");
        arrivals
    };
    let found = all(&spec);
    // The same, session by session, in memory.
    let plan = SessionPlan::new(&spec, 1.0, keyed).unwrap();
    let mut firsts = Generator::new(&spec, 1.0, keyed);
    let mut expected = Vec::new();
    let mut session = 0;
    while let Some(first) = firsts.next_arrival().unwrap() {
        expected.extend(plan.nominal(session, first.at_ps));
        session += 1;
    }
    assert!(expected.len() as u64 > 2 * session, "{} turns of {session} sessions", expected.len());
    let key = |arrival: &slackwater_scenarios::Arrival| {
        (arrival.at_ps, arrival.input_tokens, arrival.output_tokens)
    };
    let (mut one, mut other) =
        (found.iter().map(key).collect::<Vec<_>>(), expected.iter().map(key).collect::<Vec<_>>());
    one.sort_unstable();
    other.sort_unstable();
    assert_eq!(one, other);
    // Met in their course, sessions send at the full rate from the start.
    spec.sessions.as_mut().unwrap().in_course = true;
    let early = all(&spec).iter().filter(|arrival| arrival.at_ps < 600 * 1_000_000_000_000).count();
    assert!((early as f64 / 1_800.0 - 1.0).abs() < 0.15, "{early}");
    // Without sessions it is the generator's own.
    spec.sessions = None;
    let mut plain = Generator::new(&spec, 1.0, keyed);
    assert_eq!(all(&spec), std::iter::from_fn(|| plain.next_arrival().unwrap()).collect::<Vec<_>>());
}

#[test]
fn the_real_traces_are_as_published() {
    let real = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces");
        let path = std::path::Path::new(path).join(name);
        if !path.exists() {
            println!("skipped: {} not found", path.display());
            return None;
        }
        let options = ReadOptions { prefixes: true, ..ReadOptions::default() };
        Some(collected(FileTraffic::open(&path, options).unwrap()))
    };
    // CVs as published with the files; dispersion by an independent count of whole bins.
    for (name, cv, dispersion) in [
        ("azure2023_conv.csv.gz", 1.09, [1.385_538, 3.868_047, 16.411_211]),
        ("azure2023_code.csv.gz", 13.15, [13.190_268, 71.850_947, 166.892_629]),
        ("mooncake_conversation_trace.jsonl.gz", 3.03, [7.899_852, 2.104_751, 2.945_760]),
    ] {
        let Some(trace) = real(name) else { continue };
        let arrivals = &trace.figures.arrivals;
        assert!((arrivals.cv.unwrap() / cv - 1.0).abs() < 0.01, "{name}: {arrivals:?}");
        let found = [arrivals.dispersion_1s, arrivals.dispersion_10s, arrivals.dispersion_60s];
        for (found, published) in found.into_iter().zip(dispersion) {
            assert!((found.unwrap() / published - 1.0).abs() < 1e-6, "{name}: {arrivals:?}");
        }
        let fit = trace.fit().unwrap();
        println!("{name}\n{}{:?}", fit.to_toml(), fit.notes);
        for seed in 1..=4 {
            let again = drawn(&fit.generate, seed).compare(&trace);
            println!("{again:?}");
        }
        let again = drawn(&fit.generate, 1).compare(&trace);
        assert!(again.input_distance < 0.13 && again.output_distance < 0.07, "{name}: {again:?}");
    }
    if let Some(trace) = real("mooncake_conversation_trace.jsonl.gz") {
        // Weighted by tokens; by blocks it is 0.366.
        let prefixes = trace.figures.prefixes.unwrap();
        assert!((prefixes.seen_share - 0.37).abs() < 0.01, "{prefixes:?}");
    }
}
