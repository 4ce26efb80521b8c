//! What ships with the crate is valid and says what it claims.

use std::path::Path;

use slackwater_scenarios::{EngineProfile, Scenario};

#[test]
fn every_catalog_file_is_valid_self_contained_and_begins_with_its_claim() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/catalog"));
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Claim: "), "{}", path.display());
        let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(scenario.traffic.generate.is_some(), "{} needs a download", path.display());
        assert_eq!(scenario.name, path.file_stem().unwrap().to_str().unwrap());
        let arrivals = scenario.load_traffic().unwrap().arrivals.len() as u64;
        let plan = scenario.session_plan();
        let turns = |number| plan.as_ref().map_or(1, |plan| u64::from(plan.turns(number)));
        assert!((0..arrivals).map(turns).sum::<u64>() > 1000);
        let again = Scenario::parse(&scenario.to_toml(), "resolved.toml").unwrap();
        assert_eq!(again, scenario);
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn every_built_in_profile_parses_and_names_its_source() {
    for (name, _) in EngineProfile::BUILT_IN {
        let profile = EngineProfile::built_in(name).unwrap_or_else(|| panic!("{name} does not parse"));
        assert!(profile.source.len() > 40, "{name}");
    }
    assert!(EngineProfile::built_in("abacus").is_none());
}
