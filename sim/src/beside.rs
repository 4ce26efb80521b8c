//! Two engines on the same GPUs.
//!
//! While both have requests, or are in rotation, each waits for the other's kernels: their steps take so many times as long
//! (`rollout.beside_slowdown`). An engine that is up without work costs the other nothing but memory, which the profiles'
//! `kv_blocks` say. A change is seen when the rotation changes, a process begins or ends, or the drain is looked at.

use slackwater_scenarios::traffic::Traffic;

use crate::world::World;

impl<T: Traffic> World<T> {
    /// What this replica does may have changed what the other one on its GPUs is slowed by.
    pub(crate) fn share_gpus(&mut self, replica: u16) {
        let Some(other) = self.setup.places[usize::from(replica)].beside else { return };
        let works = |replica: u16| {
            let up = self.stations[usize::from(replica)].is_up();
            up && (self.router.in_rotation(replica) || self.router.in_flight(replica) > 0)
        };
        let both = works(replica) && works(other);
        for one in [replica, other] {
            if std::mem::replace(&mut self.stations[usize::from(one)].shares, both) != both {
                self.pace(one);
            }
        }
    }
}
