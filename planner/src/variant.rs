//! The scenario otherwise: another strategy, another drain timeout, a slower version, a lost GPU.

use slackwater_scenarios::{
    Delay, Fault, FaultKind, FaultVersion, HumanDuration, MovePoint, Rollout, Scenario, Strategy,
};
use slackwater_sim::can_roll;

/// The scenario as a plan looks at it, and what was left out, a sentence each: the start is what is searched for, and faults and
/// orders at fixed times belong to one rollout, not to all.
#[must_use]
pub fn for_planning(scenario: &Scenario) -> (Scenario, Vec<String>) {
    let mut plain = scenario.clone();
    let mut said = Vec::new();
    let faults = plain.faults.len();
    // What is lost at a fixed time starts nothing afterwards: that belongs to the same event.
    let lost: Vec<Option<String>> = plain
        .faults
        .iter()
        .filter(|fault| {
            fault.at.is_some() && matches!(fault.kind, FaultKind::ReplicaCrash | FaultKind::GpuLost)
        })
        .map(|fault| fault.replica.clone())
        .collect();
    let belongs = |fault: &Fault| {
        matches!(fault.kind, FaultKind::StartFailure | FaultKind::NeverHealthy | FaultKind::SlowStart)
            && fault.replica.is_some()
            && lost.contains(&fault.replica)
    };
    plain.faults.retain(|fault| fault.at.is_none() && !belongs(fault));
    if plain.faults.len() < faults {
        said.push(format!(
            "{} of the scenario's faults come at a fixed time of the traffic, or with what is lost then, and are left out: a plan \
             tries every start",
            faults - plain.faults.len()
        ));
    }
    if !plain.orders.is_empty() {
        said.push("the scenario's orders come at fixed times of the traffic and are left out".to_owned());
        plain.orders.clear();
    }
    plain.rollout.window = None;
    plain.rollout.next_windows.clear();
    if let Some(file) = &plain.traffic.file
        && plain.traffic.repeat > 1
    {
        said.push(format!("{} is learnt from once, not {} times", file.display(), plain.traffic.repeat));
        plain.traffic.repeat = 1;
    }
    (plain, said)
}

/// A fault in words.
#[must_use]
pub fn fault_in_words(fault: &Fault) -> String {
    let kind = match fault.kind {
        FaultKind::ReplicaCrash => "a replica crashes",
        FaultKind::StartFailure => "a start fails",
        FaultKind::NeverHealthy => "a started process never gets healthy",
        FaultKind::SlowStart => "a start takes longer",
        FaultKind::GpuMemoryLingers => "the GPU's memory stays held",
        FaultKind::LostReplies => "replies are lost",
        FaultKind::StuckInFlight => "the in-flight gauge sticks",
        FaultKind::SlowGpu => "a GPU is slow",
        FaultKind::LostHealth => "health checks go unanswered",
        FaultKind::GpuLost => "a GPU is lost",
    };
    let version = match fault.version {
        Some(FaultVersion::To) => " (of the new version)",
        Some(FaultVersion::From) => " (of the old version)",
        None => "",
    };
    let place = fault.replica.as_ref().map_or_else(String::new, |replica| format!(" at {replica}"));
    format!("{kind}{version}{place}")
}

/// With this drain timeout.
#[must_use]
pub fn drained_within(scenario: &Scenario, timeout: HumanDuration) -> Scenario {
    let mut other = scenario.clone();
    other.rollout.drain_timeout = timeout;
    other
}

/// The new version's steps take so many times as long.
#[must_use]
pub fn slower(scenario: &Scenario, factor: f64) -> Scenario {
    let mut other = scenario.clone();
    other.to.step_time_factor *= factor;
    other
}

/// The new version's answers are so many times as long.
#[must_use]
pub fn more_verbose(scenario: &Scenario, factor: f64) -> Scenario {
    let mut other = scenario.clone();
    other.to.output_length_factor *= factor;
    other
}

/// The new version takes so many times as long to start.
#[must_use]
pub fn slower_to_start(scenario: &Scenario, factor: f64) -> Scenario {
    let mut other = scenario.clone();
    let scaled = |duration: HumanDuration| {
        HumanDuration::from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
    };
    let delay = match other.to.startup {
        Delay::Constant(value) => Delay::Constant(scaled(value)),
        Delay::Lognormal { median, p95 } => Delay::Lognormal { median: scaled(median), p95: scaled(p95) },
    };
    other.to.startup = delay;
    other
}

/// Another GPU is lost for good while the first replica drains; `None` where there is no other.
#[must_use]
pub fn gpu_lost(scenario: &Scenario) -> Option<Scenario> {
    let places = scenario.places();
    let replicas: Vec<&str> =
        places.iter().filter(|place| !place.spare).map(|place| place.name.as_str()).collect();
    let first = scenario.rollout.order.first().map_or(*replicas.first()?, String::as_str);
    let victim = replicas.iter().rev().find(|name| **name != first)?;
    let mut fault = Fault::new(FaultKind::GpuLost);
    fault.replica = Some((*victim).to_owned());
    fault.during = Some(MovePoint::Drain);
    let mut other = scenario.clone();
    other.faults.push(fault);
    Some(other)
}

/// A strategy as it would be tried here.
#[derive(Clone, Debug)]
pub struct StrategyVariant {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in words.
    pub with: String,
    /// The scenario with it, or why there is none.
    pub scenario: Result<Box<Scenario>, String>,
}

/// All strategies that the policy knows.
#[must_use]
pub fn strategies(scenario: &Scenario) -> Vec<StrategyVariant> {
    let replicas = scenario.fleet.replica_count();
    let spares = scenario.fleet.spares as usize;
    let mut all = vec![
        (Strategy::Rolling, 1, "one at a time"),
        (Strategy::Canary, 1, "one first, then one at a time"),
        (Strategy::Swap, 1, "weights swapped in place, one at a time"),
        (Strategy::Surge, 0, "onto a spare GPU first"),
        (Strategy::BlueGreen, 0, "a second fleet on spare GPUs"),
        (Strategy::Halves, 0, "half of the GPUs, then the other half"),
        (Strategy::SideBySide, 0, "each new engine beside the old one"),
        (Strategy::Recreate, 0, "all at once, downtime accepted"),
    ];
    if replicas >= 4 {
        all.insert(1, (Strategy::Rolling, 2, "two at a time"));
    }
    all.into_iter()
        .map(|(strategy, unavailable, with)| StrategyVariant {
            name: name(strategy),
            with: with.to_owned(),
            scenario: with_strategy(scenario, strategy, unavailable, spares),
        })
        .collect()
}

/// As a scenario writes it.
#[must_use]
pub fn name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Rolling => "rolling",
        Strategy::Canary => "canary",
        Strategy::Recreate => "recreate",
        Strategy::Surge => "surge",
        Strategy::BlueGreen => "blue-green",
        Strategy::Halves => "halves",
        Strategy::SideBySide => "side-by-side",
        Strategy::Swap => "swap",
    }
}

fn with_strategy(
    scenario: &Scenario,
    strategy: Strategy,
    unavailable: u32,
    spares: usize,
) -> Result<Box<Scenario>, String> {
    let replicas = scenario.fleet.replica_count();
    match strategy {
        Strategy::Surge if spares == 0 => return Err("needs a spare GPU group: fleet.spares = 1".to_owned()),
        Strategy::BlueGreen if spares < replicas => {
            return Err(format!("needs as many spare GPU groups as replicas: fleet.spares = {replicas}"));
        }
        _ => {}
    }
    let mut other = scenario.clone();
    let asked = scenario.rollout.strategy == strategy;
    let was = &scenario.rollout;
    other.rollout = Rollout {
        strategy,
        // What belongs to another strategy is not carried over; what is said about this one is.
        canary: was.canary.clone().filter(|_| asked),
        compare: was.compare.clone().filter(|_| asked),
        accept_downtime: strategy == Strategy::Recreate,
        max_unavailable: (unavailable > 0).then_some(unavailable),
        first_half: if asked { was.first_half.clone() } else { Vec::new() },
        order: if matches!(strategy, Strategy::Halves | Strategy::BlueGreen) {
            Vec::new()
        } else {
            was.order.clone()
        },
        ..was.clone()
    };
    // Spare places belong to the strategies that use them.
    if !matches!(strategy, Strategy::Surge | Strategy::BlueGreen) {
        other.fleet.spares = 0;
    }
    can_roll(&other).map_err(|error| first_line(&error.to_string()))?;
    Ok(Box::new(other))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or(text).trim_end_matches(" What to do instead:").to_owned()
}
