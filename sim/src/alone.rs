//! A fleet of one replica: what can be done where nobody is left to serve.

use std::fmt::Write;

use slackwater_scenarios::{HumanDuration, Scenario, Strategy};

use crate::setup::SetupError;

/// Whether the fleet can be moved in the way the scenario asks for, as far as its size goes: a single replica (a tensor
/// parallel group is one) can't, unless downtime is accepted or the new one can come up beside it.
///
/// # Errors
/// [`SetupError::Alone`], which says what to do instead.
pub fn can_roll(scenario: &Scenario) -> Result<(), SetupError> {
    let strategy = match scenario.rollout.strategy {
        // Nobody need serve meanwhile, or another one does.
        Strategy::Recreate | Strategy::Surge | Strategy::BlueGreen | Strategy::SideBySide => return Ok(()),
        Strategy::Rolling => "rolling",
        Strategy::Canary => "canary",
        Strategy::Halves => "halves",
        Strategy::Swap => "swap",
    };
    if scenario.fleet.replica_count() > 1 {
        return Ok(());
    }
    let width = scenario.fleet.tensor_parallel;
    let name = &scenario.from.name;
    let mut text = match width {
        1 => format!("`{name}` runs as a single replica"),
        _ => format!("`{name}` runs as a single replica on {width} GPUs (fleet.tensor_parallel = {width})"),
    };
    let _ = write!(
        text,
        ": while it is moved nobody serves, so strategy \"{strategy}\" is refused. What to do instead:\n\
         - accept downtime: rollout.strategy = \"recreate\" and rollout.accept_downtime = true; about {}, and before that a \
         drain of up to {} in which nothing new is served\n",
        away(scenario),
        scenario.rollout.drain_timeout
    );
    text.push_str("- put a second box behind the balancer: fleet.replicas = 2\n");
    if width > 1 {
        let half = width.div_ceil(2);
        let _ = writeln!(
            text,
            "- a smaller group, if the model fits: fleet.tensor_parallel = {half} and fleet.replicas = {}, with the engine \
             profile of such a group",
            width / half
        );
    }
    text.push_str(
        "- run old and new side by side on the same GPUs, if their memory holds both: rollout.strategy = \"side-by-side\"\n\
         - borrow as many GPUs again for a while: fleet.spares = 1 and rollout.strategy = \"surge\"",
    );
    Err(SetupError::Alone(text))
}

/// How long the replica is away without its drain, by the medians.
fn away(scenario: &Scenario) -> HumanDuration {
    let (from, to) = (&scenario.from, &scenario.to);
    let parts = [from.stop, from.gpu_release, to.startup, to.warm_up];
    let seconds: f64 = parts.iter().map(|part| part.median().as_secs_f64()).sum();
    HumanDuration::from_secs_f64(seconds.round()).unwrap_or_default()
}
