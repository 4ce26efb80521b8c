//! What a scenario means: defaults, inheritance, engine names, overrides, round trip, schema.

use slackwater_scenarios::rollout::AtHardLimit;
use slackwater_scenarios::{
    AtDeadline, Delay, Extend, FaultKind, HumanDuration, Scenario, StartTime, WallTime, scenario_json_schema,
};

use crate::support::SHORT;

fn parse(extra: &str) -> Scenario {
    Scenario::parse(&format!("{SHORT}{extra}"), "dir/short.toml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_short_file_has_defaults_for_the_rest() {
    let scenario = parse("");
    assert_eq!(scenario.name, "short");
    assert_eq!((scenario.from.name.as_str(), scenario.to.name.as_str()), ("old", "new"));
    assert_eq!(scenario.from.engine, scenario.to.engine);
    assert_eq!(scenario.rollout.drain_timeout, HumanDuration::from_secs(120));
    let replicas = scenario.fleet.replica_list();
    assert_eq!(
        (replicas.len(), replicas[3].name.as_str(), replicas[3].gpus.as_slice()),
        (4, "replica-3", &[3][..])
    );
}

#[test]
fn the_new_version_inherits_what_it_does_not_say() {
    let scenario = parse(
        "[to]\nname = 'v2'\noutput_length_factor = 1.3\nengine = { base = 'h100-qwen3-14b', c0_ms = 13.5 }",
    );
    assert!((scenario.to.engine.c0_ms - 13.5).abs() < 1e-12);
    assert!((scenario.to.engine.c_tok_us - scenario.from.engine.c_tok_us).abs() < 1e-12);
    assert!(scenario.to.engine.source.starts_with("h100-qwen3-14b with c0_ms set in the scenario"));
    assert_eq!(scenario.to.startup, scenario.from.startup);
}

#[test]
fn engines_may_be_based_on_each_other_but_not_in_a_circle() {
    let scenario = parse(
        "[to]\nengine = 'slower'\n[engines.slow]\nbase = 'h100-qwen3-14b'\nc0_ms = 20\n[engines.slower]\nbase = 'slow'\nc_tok_us = 99\n",
    );
    assert!(
        (scenario.to.engine.c0_ms - 20.0).abs() < 1e-12 && (scenario.to.engine.c_tok_us - 99.0).abs() < 1e-12
    );

    let circle = format!("{SHORT}[engines.a]\nbase = 'b'\n[engines.b]\nbase = 'a'\n");
    let message = Scenario::parse(&circle, "x.toml").unwrap_err().to_string();
    assert!(message.contains("based on itself"), "{message}");
}

#[test]
fn durations_and_times_are_written_as_people_do() {
    let scenario = parse(
        "[rollout]\nstart = 2026-01-05T03:00:00+01:00\nsoak = '1h30m'\ndrain_timeout = 90\nwindow = '0.5h'\nin_flight_poll = '250ms'\nat_deadline = { extend = { to = '5m', then = 'abort' } }\n[to]\nstartup = { median = '60s', p95 = '90s' }\nstop = 2.5\n",
    );
    assert_eq!(scenario.rollout.start, StartTime::At(WallTime(1_767_578_400_000_000_000)));
    assert_eq!(scenario.rollout.soak, HumanDuration::from_secs(5400));
    assert_eq!(scenario.rollout.drain_timeout, HumanDuration::from_secs(90));
    assert_eq!(scenario.rollout.window, Some(HumanDuration::from_secs(1800)));
    assert_eq!(scenario.rollout.in_flight_poll, HumanDuration::from_millis(250));
    let extend = Extend { to: HumanDuration::from_secs(300), then: AtHardLimit::Abort };
    assert_eq!(scenario.rollout.at_deadline, AtDeadline::Extend(extend));
    assert_eq!(scenario.to.stop, Delay::Constant(HumanDuration::from_millis(2500)));
}

#[test]
fn an_override_sets_any_key() {
    let text = format!("{SHORT}[rollout]\nsoak = '10s'\n");
    let overrides = [
        "fleet.replicas=8",
        "to.engine.c0_ms = 12.5",
        "rollout.soak=2m",
        "rollout.start=30m",
        "slo.e2e=60s",
        "traffic.generate.hourly=[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]",
        "name=with spaces",
    ];
    let scenario =
        Scenario::parse_with(&text, "x.toml", &overrides).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scenario.fleet.replica_count(), 8);
    assert!((scenario.to.engine.c0_ms - 12.5).abs() < 1e-12);
    assert!((scenario.from.engine.c0_ms - 11.1).abs() < 1e-12);
    assert_eq!(scenario.rollout.soak, HumanDuration::from_secs(120));
    assert_eq!(scenario.slo.e2e, Some(HumanDuration::from_secs(60)));
    assert_eq!(scenario.name, "with spaces");
}

#[test]
fn a_trace_lies_beside_its_scenario_and_an_override_where_the_user_stands() {
    let text =
        SHORT.replace("[traffic.generate]\nduration = \"1h\"\nrate_per_s = 5", "[traffic]\nfile = 'a.csv'");
    let scenario = Scenario::parse(&text, "some/dir/x.toml").unwrap();
    assert_eq!(scenario.traffic.file.unwrap().to_str(), Some("some/dir/a.csv"));
    // A file takes the generator's place in one override.
    let scenario = Scenario::parse_with(SHORT, "some/dir/x.toml", &["traffic.file=b.csv"]).unwrap();
    assert_eq!(scenario.traffic.file.unwrap().to_str(), Some("b.csv"));
    assert!(scenario.traffic.generate.is_none());
}

#[test]
fn the_resolved_file_reads_back_as_the_same_scenario() {
    let scenario =
        parse("[router]\npolicy = 'nginx-least-conn'\nworkers = 2\n[rollout]\norder = ['replica-2']\n");
    assert_eq!(Scenario::parse(&scenario.to_toml(), "other.toml").unwrap(), scenario);
}

#[test]
fn faults_come_back_as_they_were_written() {
    let scenario = parse(
        "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-1'\nat = '20m'\nback_after = 90\n\
         [[faults]]\nkind = 'gpu-memory-lingers'\nfor = '1m'\nnth = 2\nversion = 'from'\n",
    );
    let [crash, lingers] = &scenario.faults[..] else { panic!("{:?}", scenario.faults) };
    assert_eq!(crash.kind, FaultKind::ReplicaCrash);
    assert_eq!(crash.at, Some(slackwater_scenarios::FaultTime::At(HumanDuration::from_secs(1200))));
    assert_eq!(crash.noticed_after(), HumanDuration::from_secs(6), "the default");
    assert_eq!((lingers.lasts, lingers.nth), (Some(HumanDuration::from_secs(60)), Some(2)));
    assert_eq!(Scenario::parse(&scenario.to_toml(), "other.toml").unwrap().faults, scenario.faults);
    assert!(!parse("").to_toml().contains("faults"), "a scenario without faults is written as before");
}

#[test]
fn the_schema_describes_every_key() {
    let schema = scenario_json_schema();
    let mut undescribed = Vec::new();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions.iter().chain([(&"Scenario".to_owned(), &schema)]) {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let described = property.get("description").is_some() || property.get("$ref").is_some();
            if !described {
                undescribed.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(undescribed.is_empty(), "{undescribed:?}");
    assert_eq!(schema["additionalProperties"], false);
    // `[to]` may be left out: it is as `[from]`.
    assert_eq!(schema["required"], serde_json::json!(["fleet", "from", "traffic"]));
}

#[test]
fn a_lognormal_delay_has_the_median_and_the_95_percent_point_it_names() {
    let delay = Delay::Lognormal { median: HumanDuration::from_secs(60), p95: HumanDuration::from_secs(90) };
    let keyed = slackwater_scenarios::Keyed::new(7);
    let mut draws: Vec<f64> =
        (0..20_000).map(|index| delay.sample(&mut keyed.stream("startup", &[index])).as_secs_f64()).collect();
    draws.sort_by(f64::total_cmp);
    assert!((draws[10_000] - 60.0).abs() < 0.5, "{}", draws[10_000]);
    assert!((draws[19_000] - 90.0).abs() < 1.0, "{}", draws[19_000]);
}
