//! Faults as they befall the world.

use slackwater_policy::{Event, ReplicaId};
use slackwater_scenarios::traffic::Traffic;

use crate::driver::Process;
use crate::faults::{Timed, TimedFault};
use crate::world::{SimError, Timer, World};

impl<T: Traffic> World<T> {
    pub(crate) fn befall(&mut self, fault: TimedFault) {
        let replica = fault.replica;
        let station = &mut self.stations[usize::from(replica)];
        if !station.is_up() {
            // Nothing is there that it could befall.
            return;
        }
        match fault.what {
            Timed::StuckGauge => station.stuck = true,
            Timed::Crash { noticed_after, back_after } => {
                station.crashes += 1;
                station.crashed = true;
                let crash = station.crashes;
                self.die(replica);
                self.timers.set(self.now.saturating_add(noticed_after), Timer::Noticed { replica, crash });
                if let Some(back_after) = back_after {
                    self.timers.set(self.now.saturating_add(back_after), Timer::Back { replica, crash });
                }
            }
        }
    }

    /// A process ends by itself: what it had is cut, and its GPU memory is free a little later.
    pub(crate) fn die(&mut self, replica: u16) {
        let at = usize::from(replica);
        let Process::Up { version, .. } = self.stations[at].process else { return };
        self.stop(replica);
        let station = &self.stations[at];
        let delay = self.setup.version(version).delays.gpu_release;
        let ids = [u64::from(replica), station.crashes, station.starts];
        let released = self.sample(&delay, "gpu-release-after-death", &ids);
        let station = &mut self.stations[at];
        station.stuck = false;
        station.process = Process::Gone { free_at: self.now.saturating_add(released) };
    }

    /// The balancer's health checks have failed often enough; the rollout hears of it too.
    pub(crate) fn noticed(&mut self, replica: u16, crash: u64) -> Result<(), SimError> {
        let station = &self.stations[usize::from(replica)];
        if !station.crashed || station.crashes != crash {
            return Ok(());
        }
        self.set_failing(replica, true);
        let reason = "its process died".to_owned();
        self.tell(Event::ReplicaDown { replica: ReplicaId(replica), reason })
    }

    /// The supervisor has restarted what it had.
    pub(crate) fn back(&mut self, replica: u16, crash: u64) -> Result<(), SimError> {
        let station = &self.stations[usize::from(replica)];
        if !station.crashed || station.crashes != crash {
            return Ok(());
        }
        let version = station.version;
        self.renew(replica, version, self.now);
        self.set_failing(replica, false);
        self.tell(Event::ReplicaUp { replica: ReplicaId(replica) })
    }

    pub(crate) fn set_failing(&mut self, replica: u16, failing: bool) {
        self.router.set_failing(replica, failing);
        self.serving_changed();
    }
}
