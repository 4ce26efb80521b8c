//! The policy as it is, in every reachable state.

use slackwater_explore::configurations::{bounds, configurations};
use slackwater_explore::driver::Honest;
use slackwater_explore::search::{explore, meeting_paths_agree};

fn explore_all(long: bool) {
    let all = configurations();
    assert!(all.len() >= 25);
    for configuration in all {
        for bounds in if long { configuration.long } else { configuration.usual } {
            let found = explore(&configuration.with(*bounds), &Honest);
            let what = format!("{} of {}, {bounds:?}", configuration.name, configuration.replicas);
            if let Some(counterexample) = found.counterexample {
                panic!("{what}: {}", counterexample.text);
            }
            // A model in which little happens proves little.
            assert!(found.states > 500 && found.resting > 0, "{what}: {found:?}");
            println!("{what}: {} states, {} steps, depth {}", found.states, found.steps, found.depth);
        }
    }
}

#[test]
fn no_reachable_state_breaks_a_condition_or_is_stuck() {
    explore_all(false);
}

#[test]
#[ignore = "minutes and gigabytes; `explore/README.md` has its figures"]
fn no_state_within_the_long_bounds_does() {
    explore_all(true);
}

#[test]
fn every_way_to_end_is_reached() {
    let rolling = &configurations()[0];
    let outcomes = explore(&rolling.with(bounds(0, 1, 0)), &Honest).outcomes;
    let outcomes: Vec<&str> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(
        outcomes,
        ["Some(Aborted)", "Some(Completed)", "Some(RolledBack)"].map(|it| &it[5..it.len() - 1])
    );
}

/// The searches above merge states with equal canonical forms. That is right only if such states go on alike.
#[test]
fn two_paths_that_meet_in_one_canonical_form_go_on_alike() {
    for configuration in configurations() {
        let small = configuration.replicas == 2 && configuration.name != "blue-green";
        let bounds = if small { bounds(1, 0, 0) } else { bounds(0, 1, 0) };
        if configuration.replicas == 4 || configuration.name.contains("two at once") {
            continue;
        }
        let tried = meeting_paths_agree(&configuration.with(bounds), &Honest, 5);
        let name = configuration.name;
        assert!(tried.unwrap_or_else(|error| panic!("{name}: {error}")) > 50, "{name}");
    }
}
