//! Beside the driver: does what was made so stay so? Is each process that should be there still there?
//!
//! A balancer that is restarted forgets what it was told, and would send requests to a replica that is being stopped. So what a carried
//! out command has ensured is ensured again when it no longer holds. A process that is gone without our doing is a fact for the policy.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use slackwater_policy::{Event, ReplicaId};
use tokio::sync::mpsc::Sender;

use crate::blocks::Blocks;
use crate::world::World;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);
/// Every so many looks where each starts programs of the operator's.
const COMMANDS_EVERY: u32 = 10;
/// How often live figures are brought to the policy; the simulator's driver does so as often.
const FIGURES_EVERY: u32 = 20;
/// A block of evidence: [`slackwater_policy::Block::SPAN`].
const EVIDENCE_EVERY: u32 = 60;

/// Something the keeper saw.
#[derive(Debug)]
pub(crate) enum Word {
    /// For the policy.
    Fact(Event),
    /// For a person.
    Said(String),
}

/// Looks until nobody listens any more.
pub(crate) async fn keep(world: Arc<World>, to: Sender<Word>) {
    let mut down = BTreeSet::new();
    let mut odd = BTreeSet::new();
    let mut blocks = Blocks::default();
    let looks_every = if world.speaks_by_commands() { COMMANDS_EVERY } else { 1 };
    let mut round = 0_u32;
    loop {
        tokio::time::sleep(EVERY).await;
        let looked_at = if round.is_multiple_of(looks_every) { world.ids().collect() } else { Vec::new() };
        for replica in looked_at {
            for word in look(&world, replica, &mut down, &mut odd).await {
                if to.send(word).await.is_err() {
                    return;
                }
            }
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(EVIDENCE_EVERY)
            && let Some(block) = world.look_at_both(&mut blocks).await
            && to.send(Word::Fact(Event::Evidence { block })).await.is_err()
        {
            return;
        }
        if round.is_multiple_of(FIGURES_EVERY) {
            for event in world.look_at_figures().await.events() {
                if to.send(Word::Fact(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn look(
    world: &World,
    replica: ReplicaId,
    down: &mut BTreeSet<ReplicaId>,
    odd: &mut BTreeSet<ReplicaId>,
) -> Vec<Word> {
    // What is being changed is not looked at: half-way it is neither so nor so.
    let Ok(_lane) = world.lane(replica).try_lock_owned() else { return Vec::new() };
    let place = world.place(replica);
    let made = world.made(replica);
    let mut words = Vec::new();
    if let Ok(found) = world.supervisor.find(place).await {
        if made.process && found.is_none() {
            world.forget_process(replica);
            down.insert(replica);
            let last = world.supervisor.last_words(place).await;
            let reason = last.map_or("its process ended".to_owned(), |last| {
                format!("its process ended; it last wrote: {last}")
            });
            words.push(Word::Fact(Event::ReplicaDown { replica, reason }));
        } else if made.process {
            down.remove(&replica);
        } else if found.is_some() && down.remove(&replica) {
            words.push(Word::Fact(Event::ReplicaUp { replica }));
        }
    }
    let Ok(member) = world.balancer.member(place).await else { return words };
    world.in_flight.lock().unwrap_or_else(PoisonError::into_inner).entry(replica).or_default().0 =
        member.in_flight;
    match made.in_rotation {
        Some(false) if member.in_rotation => {
            let said = match world.balancer.take_out(place).await {
                Ok(()) => {
                    format!("{}: the balancer had it back in rotation, it was taken out again", place.name)
                }
                Err(trouble) => format!(
                    "{}: the balancer has it back in rotation and does not take it out: {trouble}",
                    place.name
                ),
            };
            words.push(Word::Said(said));
        }
        // Somebody may have a reason; it is said once, and not fought over.
        Some(true) if !member.in_rotation && odd.insert(replica) => {
            words.push(Word::Said(format!(
                "warning: {} was taken out of rotation by somebody else; pause the rollout or put it back",
                place.name
            )));
        }
        Some(true) if member.in_rotation => {
            odd.remove(&replica);
        }
        _ => {}
    }
    words
}
