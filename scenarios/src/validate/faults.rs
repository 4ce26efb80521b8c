//! Each fault has the keys of its kind, and values that make sense together.

use super::{Check, at_least_one, problem, within};
use crate::faults::{Fault, FaultKind, FaultTime};
use crate::scenario::Scenario;

pub(super) fn check(scenario: &Scenario) -> Check {
    let places = scenario.places();
    let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
    for (index, one) in scenario.faults.iter().enumerate() {
        let place = format!("faults[{index}]");
        keys(&place, one)?;
        for (key, named) in [("replica", &one.replica), ("of", &one.of)] {
            if let Some(name) = named
                && !names.contains(&name.as_str())
            {
                let help = crate::explain::did_you_mean(name, &names, "replicas");
                let message = format!("no replica is called `{name}`");
                return Err(problem(&format!("{place}.{key}"), message, help));
            }
        }
        values(&place, one)?;
    }
    Ok(())
}

/// Each kind has its keys.
fn keys(place: &str, fault: &Fault) -> Check {
    let (needed, allowed) = fault.kind.keys();
    let kind = fault.kind.name();
    let has: Vec<String> = needed.iter().chain(allowed).map(|key| format!("`{key}`")).collect();
    let needs = |key: &str, example: &str| {
        let help = format!("add it, for example: {example}");
        Err(problem(&format!("{place}.{key}"), format_args!("a {kind} needs this key"), help))
    };
    for (key, given) in fault.given() {
        if given && !needed.contains(&key) && !allowed.contains(&key) {
            let help = format!("leave it out; beside `kind` a {kind} has {}", has.join(", "));
            return Err(problem(&format!("{place}.{key}"), format_args!("a {kind} has no such key"), help));
        }
        if !given && needed.contains(&key) {
            let example = match key {
                "factor" => "factor = 3",
                "share" => "share = 0.1",
                _ => "for = \"2m\"",
            };
            return needs(key, example);
        }
    }
    if fault.kind.has_a_moment() {
        match (fault.at, fault.during) {
            (None, None) => {
                return needs("at", "at = \"20m\", or during = \"starting\" for a point of a move");
            }
            (Some(_), Some(_)) => {
                let help = "keep `at` for a time, or `during` for a point of a move";
                return Err(problem(&format!("{place}.during"), "comes beside `at`", help));
            }
            (Some(_), None) if fault.replica.is_none() => {
                return needs("replica", "replica = \"replica-0\"");
            }
            (Some(_), None) if fault.of.is_some() => {
                let help = "leave it out, or give `during` in place of `at`";
                return Err(problem(&format!("{place}.of"), "is for `during`", help));
            }
            _ => {}
        }
    }
    Ok(())
}

fn values(place: &str, fault: &Fault) -> Check {
    let key = |name: &str| format!("{place}.{name}");
    if let Some(nth) = fault.nth {
        at_least_one(&key("nth"), nth)?;
    }
    if let Some(factor) = fault.factor {
        within(&key("factor"), factor, 0.01, 1000.0)?;
    }
    if let Some(share) = fault.share {
        within(&key("share"), share, 0.0, 1.0)?;
    }
    if let (Some(at), Some(until)) = (fault.at, fault.until)
        && until <= at.bounds().1
    {
        let message = format!("{until} is not after `at`, {}", at.bounds().1);
        return Err(problem(&key("until"), message, "both count from the start of the traffic"));
    }
    if fault.kind.has_a_moment() && fault.until.is_some() {
        if !matches!(fault.at, Some(FaultTime::At(_))) {
            let help = "say how long it lasts: for = \"5m\"";
            return Err(problem(&key("until"), "a fault without a time of its own can't end at one", help));
        }
        if fault.lasts.is_some() {
            return Err(problem(&key("for"), "comes beside `until`", "keep one of them"));
        }
    }
    if fault.kind == FaultKind::ReplicaCrash
        && let Some(back) = fault.back_after
        && back <= fault.noticed_after()
    {
        let message = format!("{back} is not longer than `noticed_after`, {}", fault.noticed_after());
        let help = "a crash that nobody notices before it is mended is not simulated; shorten noticed_after";
        return Err(problem(&key("back_after"), message, help));
    }
    Ok(())
}
