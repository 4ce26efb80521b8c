//! Faults as they befall the world.

use slackwater_engine::Ps;
use slackwater_policy::{Event, Note, ReplicaId};
use slackwater_scenarios::traffic::Traffic;

use crate::driver::Process;
use crate::faults::{Moment, Momentary, When};
use crate::world::{SimError, Timer, World};

impl<T: Traffic> World<T> {
    /// Faults that wait for the point of a move that this note tells of come at once: they are the next timers.
    pub(crate) fn point_of_a_move(&mut self, note: &Note) {
        let Note::State { replica: moving, state, .. } = note else { return };
        for (fault, moment) in self.setup.faults.moments.iter().enumerate() {
            let When::During { point, of } = moment.when else { continue };
            let here = point == *state && of.is_none_or(|of| of == moving.0);
            if here && !self.fault_log.has_come(moment.number) {
                self.fault_log.comes(moment.number, self.now);
                let replica = moment.replica.unwrap_or(moving.0);
                self.timers.set(self.now, Timer::Fault { fault, replica });
            }
        }
    }

    pub(crate) fn befall(&mut self, fault: usize, replica: u16) {
        let Moment { number, what, lasts, .. } = self.setup.faults.moments[fault];
        self.fault_log.comes(number, self.now);
        let station = &mut self.stations[usize::from(replica)];
        match what {
            // Nothing is there that it could befall.
            Momentary::Crash { .. } | Momentary::StuckGauge if !station.is_up() => return,
            Momentary::StuckGauge => station.stuck = true,
            Momentary::Crash { noticed_after, back_after } => {
                self.crash(replica, noticed_after, back_after);
            }
            Momentary::GpuLost { noticed_after } => {
                station.gpu_lost = true;
                if station.is_up() {
                    self.crash(replica, noticed_after, None);
                }
            }
            Momentary::Slow(_) => {
                station.slowed_by.push(number);
                self.pace(replica);
            }
            Momentary::LostHealth { noticed_after } => {
                station.deaf_by.push(number);
                self.timers.set(self.now.saturating_add(noticed_after), Timer::Deaf { replica, number });
            }
        }
        let name = &self.setup.names[usize::from(replica)];
        self.fault_log.befalls(number, self.now, name);
        if let Some(lasts) = lasts {
            self.timers.set(self.now.saturating_add(lasts), Timer::FaultEnds { fault, replica });
        }
    }

    /// One that lasts for a time is over.
    pub(crate) fn fault_ends(&mut self, fault: usize, replica: u16) {
        let Moment { number, what, .. } = self.setup.faults.moments[fault];
        self.fault_log.ends(number, self.now);
        let station = &mut self.stations[usize::from(replica)];
        match what {
            Momentary::Slow(_) => {
                station.slowed_by.retain(|slowing| *slowing != number);
                self.pace(replica);
            }
            Momentary::LostHealth { .. } => {
                station.deaf_by.retain(|cause| *cause != number);
                if station.healthy(self.now) {
                    self.set_failing(replica, false);
                }
            }
            Momentary::Crash { .. } | Momentary::GpuLost { .. } | Momentary::StuckGauge => {}
        }
    }

    /// The balancer has seen enough unanswered checks, if this fault still sees to that.
    pub(crate) fn deaf(&mut self, replica: u16, number: usize) {
        if self.stations[usize::from(replica)].deaf_by.contains(&number) {
            self.set_failing(replica, true);
        }
    }

    /// The step times of a replica's engine, by its version and whatever slows its GPU.
    pub(crate) fn pace(&mut self, replica: u16) {
        let station = &self.stations[usize::from(replica)];
        let shared = if station.shares { self.setup.scenario.rollout.beside_slowdown } else { 1.0 };
        let slow: f64 = station.slowed_by.iter().map(|number| self.setup.faults.slowness(*number)).product();
        let factor = shared * slow;
        let form = self.setup.version(station.version).slowed(factor);
        let engine = &mut self.engines[usize::from(replica)];
        engine.set_form(self.now, form);
        self.next_event[usize::from(replica)] = engine.next_event().unwrap_or(Ps::MAX);
    }

    fn crash(&mut self, replica: u16, noticed_after: Ps, back_after: Option<Ps>) {
        let station = &mut self.stations[usize::from(replica)];
        station.crashes += 1;
        if station.stopping {
            // It only ends sooner than it would have.
            return self.die(replica);
        }
        station.crashed = true;
        let crash = station.crashes;
        self.die(replica);
        self.timers.set(self.now.saturating_add(noticed_after), Timer::Noticed { replica, crash });
        if let Some(back_after) = back_after {
            self.timers.set(self.now.saturating_add(back_after), Timer::Back { replica, crash });
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
        self.share_gpus(replica);
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
        if !station.crashed || station.crashes != crash || station.gpu_lost {
            return Ok(());
        }
        let version = station.version;
        self.renew(replica, version, self.now);
        if self.stations[usize::from(replica)].healthy(self.now) {
            self.set_failing(replica, false);
        }
        self.tell(Event::ReplicaUp { replica: ReplicaId(replica) })
    }

    pub(crate) fn set_failing(&mut self, replica: u16, failing: bool) {
        let before = self.router.in_rotation(replica);
        self.router.set_failing(replica, failing);
        self.rotation_changed(replica, before);
    }

    /// Whatever follows from a replica being in rotation or not, which it was `before`.
    pub(crate) fn rotation_changed(&mut self, replica: u16, before: bool) {
        if !before && self.router.in_rotation(replica) && self.setup.slow_start_ps.is_some() {
            self.stations[usize::from(replica)].in_since = self.now;
            self.ramp(replica, self.now);
        }
        self.share_gpus(replica);
        self.serving_changed();
    }

    /// Slow start: the weight of a replica that is in rotation since `since` grows by a step.
    pub(crate) fn ramp(&mut self, replica: u16, since: Ps) {
        let Some(whole) = self.setup.slow_start_ps else { return };
        if self.stations[usize::from(replica)].in_since != since || !self.router.in_rotation(replica) {
            return;
        }
        let elapsed = self.now - since;
        if elapsed >= whole {
            self.router.set_ramp(replica, crate::router::WHOLE);
            return;
        }
        let sixteenths =
            (u128::from(crate::router::WHOLE) * u128::from(elapsed) + u128::from(whole)) / u128::from(whole);
        self.router.set_ramp(replica, u32::try_from(sixteenths).unwrap_or(crate::router::WHOLE));
        let step = (whole / 20).max(slackwater_engine::PS_PER_S).min(whole);
        self.timers.set(self.now.saturating_add(step), Timer::Ramp { replica, since });
    }
}
