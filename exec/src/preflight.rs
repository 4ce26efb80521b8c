//! Before anything is touched: does everything answer, do plan and deployment fit what is there, could it be undone?

use std::sync::Arc;

use slackwater_policy::{Plan, StrategySpec, VersionRef};

use crate::clock::{Clock, SystemClock};
use crate::deployment::Without;
use crate::engine::distinguishable;
use crate::hook;
use crate::trouble::Trouble;
use crate::weights;
use crate::world::World;

/// What the preflight found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What will be done, line by line.
    pub will: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why nothing is begun.
    pub refusals: Vec<String>,
}

impl Preflight {
    /// What an adapter has to say.
    fn take(&mut self, prepared: Result<Vec<String>, Trouble>) {
        let lines = match prepared {
            Ok(lines) => lines,
            Err(trouble) => return self.refusals.push(trouble.reason),
        };
        for line in lines {
            match line.strip_prefix("warning: ") {
                Some(warning) => self.warnings.push(warning.to_owned()),
                None => self.will.push(line),
            }
        }
    }
}

/// Room that a rollout's journal and logs can be expected to need.
const ROOM_MIB: u64 = 64;

/// Looks at everything; changes nothing but the executor's own folder.
///
/// `gpus` is why the GPUs can't be asked, where that is so.
pub async fn preflight(
    world: &Arc<World>,
    plan: &Plan,
    gpus: Option<String>,
    now_or_window: AtTime,
) -> Preflight {
    let mut found = Preflight::default();
    if let Err(reason) = world.make_folders() {
        found.refusals.push(reason);
        return found;
    }
    if let StrategySpec::Swap { .. } = plan.strategy {
        found.refusals.push(
            "strategy.kind is `swap`: no engine adapter swaps weights yet; choose another strategy"
                .to_owned(),
        );
    }
    in_its_window(plan, now_or_window, &mut found);
    let places = &world.deployment.replicas;
    for place in places {
        if let Err(reason) = distinguishable(&world.deployment, place)
            .or_else(|reason| if plan.is_drill() { Ok(()) } else { Err(reason) })
        {
            found.refusals.push(reason);
            break;
        }
    }
    for (version, name) in [(VersionRef::From, "old"), (VersionRef::To, "new")] {
        if let Err(reason) = weights::complete(world.deployment.versions.of(version).weights.as_deref()) {
            found.refusals.push(format!("the {name} version's {reason}"));
        }
    }
    disk(world, &mut found);
    memory(world, gpus, &mut found);
    found.take(world.balancer.prepare(places).await);
    found.take(world.supervisor.prepare(places, hook::duration(plan.rollout.stop_grace)).await);
    if found.refusals.is_empty() {
        replicas(world, plan, &mut found).await;
    }
    found
}

/// When the rollout is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTime {
    /// In the plan's window; refused outside.
    Window,
    /// Now, whatever the plan says.
    Now,
}

fn in_its_window(plan: &Plan, at: AtTime, found: &mut Preflight) {
    let now = SystemClock.wall();
    if plan.windows.is_empty() || plan.windows.iter().any(|window| window.may_begin(now)) {
        return;
    }
    let late = plan.windows.iter().find(|window| window.opens <= now && now < window.closes);
    let what = match late.and_then(|window| window.latest_start) {
        Some(latest) => format!("the latest safe start of this window was {latest}, and it is {now}"),
        None => "this is outside the plan's windows".to_owned(),
    };
    let next = plan.windows.iter().find(|window| now < window.opens);
    let when = next.map_or_else(
        || "all of its windows are over: plan again".to_owned(),
        |window| format!("the next opens {}", window.opens),
    );
    match at {
        AtTime::Window => found.refusals.push(format!(
            "{what}; {when}. `--at now` begins anyway, and the moves themselves then need `slackwater resume`"
        )),
        AtTime::Now => found.warnings.push(format!("{what}; {when}")),
    }
}

fn disk(world: &World, found: &mut Preflight) {
    if let Ok(stat) = rustix::fs::statvfs(&world.deployment.directory) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
        if free < ROOM_MIB {
            found.refusals.push(format!(
                "{} has {free} MiB free, the journal and logs want {ROOM_MIB}: make room, or name another `directory`",
                world.deployment.directory.display()
            ));
        }
    }
}

fn memory(world: &World, gpus: Option<String>, found: &mut Preflight) {
    let versions = &world.deployment.versions;
    let asks = versions.from.memory_mib.is_some() || versions.to.memory_mib.is_some();
    match (gpus, asks) {
        (Some(why), true) if world.deployment.gpu.without == Without::Refuse => found.refusals.push(format!(
            "{why}, the versions say how much GPU memory they need, and gpu.without is `refuse`; install the driver, or set gpu.kind = \"none\""
        )),
        (Some(why), true) => {
            found.warnings.push(format!("{why}: GPU memory is not looked at, only that the old processes are gone"));
        }
        _ => {}
    }
    let Some(gpus) = &world.gpus else { return };
    let mut all: Vec<u32> = world.deployment.replicas.iter().flat_map(|place| place.gpus.clone()).collect();
    all.sort_unstable();
    all.dedup();
    for gpu in all {
        match gpus.free_mib(gpu) {
            Ok(_) => found.warnings.extend(gpus.troubles(gpu)),
            Err(reason) => found.refusals.push(format!("{reason}; correct `gpus` of the replicas")),
        }
    }
}

/// Each replica as it is, against what the plan takes for granted.
async fn replicas(world: &Arc<World>, plan: &Plan, found: &mut Preflight) {
    let mut serving = 0;
    for replica in world.ids() {
        let place = world.place(replica);
        let spare = plan.is_spare(replica);
        let seen = match world.observe(replica).await {
            Ok(seen) => seen,
            Err(trouble) => {
                found.refusals.push(format!("{}: {}", place.name, trouble.reason));
                continue;
            }
        };
        let serves = seen.in_rotation && seen.healthy;
        serving += usize::from(serves && !spare);
        match (spare, seen.process, serves, seen.version) {
            (true, true, ..) => found.refusals.push(format!(
                "{} is to be empty at first, but a process runs there; stop it or correct the plan",
                place.name
            )),
            (true, ..) => {}
            (false, true, true, Some(VersionRef::To)) if !plan.is_drill() => {
                found
                    .warnings
                    .push(format!("{} serves the new version already; it is left as it is", place.name));
            }
            (false, true, true, None) => {
                let words = match world.engine.look(place, None).await {
                    Ok(seen) => seen.words(),
                    Err(trouble) => trouble.reason,
                };
                found.refusals.push(format!(
                    "{} serves neither of the two versions ({words}); correct the versions' `identity`, or start what the plan begins with",
                    place.name
                ));
            }
            (false, _, true, _) => {}
            (false, process, false, _) => {
                let what = match (process, seen.healthy, seen.in_rotation) {
                    (false, ..) => "its process is not there",
                    (_, false, _) => "it is not healthy",
                    _ => "it is not in rotation",
                };
                found.warnings.push(format!("{} does not serve now: {what}; it is moved first", place.name));
            }
        }
    }
    let needed = plan.count().saturating_sub(plan.unavailable_max());
    if serving < needed {
        found.refusals.push(format!(
            "{serving} of {} replicas serve, the plan keeps {needed} at least; bring the others up first",
            plan.count()
        ));
    }
}
