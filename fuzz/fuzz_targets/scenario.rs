//! The scenario file and overrides: lines that begin with `--set ` are overrides, the others the file. What is accepted is
//! written out in full and must be accepted again, as the same scenario.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slackwater_scenarios::Scenario;

fuzz_target!(|text: &str| {
    let (mut file, mut overrides) = (String::new(), Vec::new());
    for line in text.lines() {
        match line.strip_prefix("--set ") {
            Some(assignment) => overrides.push(assignment),
            None => {
                file.push_str(line);
                file.push('\n');
            }
        }
    }
    match Scenario::parse_with(&file, "fuzz.toml", &overrides) {
        Ok(scenario) => {
            let resolved = scenario.to_toml();
            let again = Scenario::parse(&resolved, "fuzz.toml");
            let again = again.unwrap_or_else(|error| panic!("{error}\nis not accepted again:\n{resolved}"));
            assert_eq!(again.to_toml(), resolved);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
