//! The policy's side of the world: what it is told, and how its commands are carried out.

use std::sync::Arc;

use slackwater_engine::{Counters, PrefixCounters, Ps, Replica};
use slackwater_policy::{
    Action, Command, Event, FinalReport, HoldReason, Note, Observed, ReplicaId, Reply, VersionRef,
};
use slackwater_scenarios::HumanDuration;
use slackwater_scenarios::traffic::Traffic;
use slackwater_scenarios::version::Delay;

use crate::PROBE_PS;
use crate::driver::{Drain, Driver, Process, RolloutState, index};
use crate::faults::StartFault;
use crate::requests::Failure;
use crate::world::{SimError, Timer, World};

impl<T: Traffic> World<T> {
    /// Tells the policy a fact and carries out what it asks for.
    pub(crate) fn tell(&mut self, event: Event) -> Result<(), SimError> {
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let told = driver.tell(self.now, event)?;
        let over = driver.over == Some(self.now);
        for note in told.notes {
            self.note(&note);
        }
        if over {
            self.last_activity = self.last_activity.max(self.now);
        }
        for command in told.commands {
            self.execute(command);
        }
        Ok(())
    }

    /// Phases of the timeline follow the policy's notes.
    pub(crate) fn note(&mut self, note: &Note) {
        self.point_of_a_move(note);
        match note {
            Note::MoveBegan { replica, .. } => {
                let name = self.setup.names[replica.index()].clone();
                self.begin_phase(name);
            }
            Note::HoldBegan { reason, .. } => {
                self.begin_phase("hold".to_owned());
                if *reason == HoldReason::Approval {
                    let delay = self.setup.scenario.rollout.approval_delay.as_picos();
                    self.timers.set(self.now.saturating_add(delay), Timer::Approve);
                }
            }
            Note::Ended { .. } => self.begin_phase("after".to_owned()),
            _ => {}
        }
    }

    /// Begins what a command asks for; its effect and reply come by a timer.
    pub(crate) fn execute(&mut self, command: Command) {
        let mut cut = 0;
        let replica = index(command.replica);
        let takes = match &command.action {
            Action::TakeOut { .. } | Action::Admit { .. } => self.setup.rotation_ps,
            Action::Stop { .. } => {
                cut = self.stop(replica);
                // From here on its supervisor leaves it alone.
                let station = &mut self.stations[usize::from(replica)];
                (station.crashed, station.stopping) = (false, true);
                let station = &self.stations[usize::from(replica)];
                match station.process {
                    Process::Gone { .. } => PROBE_PS,
                    Process::Up { version, .. } => {
                        let delay = self.setup.version(version).delays.stop;
                        self.sample(&delay, "stop", &[u64::from(replica), station.stops])
                    }
                }
            }
            Action::Swap { version } => {
                // A sleeping engine keeps no request.
                cut = self.stop(replica);
                let delay = self.setup.version(*version).delays.swap;
                self.sample(&delay, "swap", &[u64::from(replica), self.stations[usize::from(replica)].starts])
            }
            Action::Evaluate { .. } => {
                let quality = self.setup.scenario.rollout.quality.as_ref();
                quality.map_or(PROBE_PS, |quality| quality.takes.as_picos())
            }
            Action::SmokePrompt => self.setup.version(self.stations[usize::from(replica)].version).smoke_ps,
            Action::WarmUp { .. } => {
                let station = &self.stations[usize::from(replica)];
                let delay = self.setup.version(station.version).delays.warm_up;
                self.sample(&delay, "warm-up", &[u64::from(replica), station.starts])
            }
            Action::Observe
            | Action::ProbeInFlight
            | Action::CutInFlight
            | Action::ProbeGpu { .. }
            | Action::Start { .. }
            | Action::ProbeHealth
            | Action::ProbeFingerprint { .. }
            | Action::MeasureLoad => PROBE_PS,
        };
        let incarnation = self.stations.get(usize::from(replica)).map_or(0, |station| station.incarnation);
        self.timers.set(self.now.saturating_add(takes), Timer::Effect { command, cut, incarnation });
    }

    pub(crate) fn sample(&self, delay: &Delay, purpose: &str, ids: &[u64]) -> Ps {
        let drawn: HumanDuration = delay.sample(&mut self.setup.keyed.stream(purpose, ids));
        drawn.as_picos()
    }

    /// Ends everything in flight at a replica and returns how many requests that were.
    pub(crate) fn stop(&mut self, replica: u16) -> u32 {
        let at = usize::from(replica);
        self.router.now = self.now;
        let unfinished = self.engines[at].kill(self.now);
        self.next_event[at] = Ps::MAX;
        let draining = self.stations[at].draining;
        let mut cut = 0;
        for request in unfinished {
            self.router.release(self.requests.get(request.tag).route);
            if let (Some(drain), Some(driver)) = (draining, &mut self.driver) {
                let drain = &mut driver.drains[drain];
                drain.cut_after.push(self.now.saturating_sub(drain.from));
            }
            self.forget_silence(request.tag, request.tokens);
            self.attempt_failed(request.tag, Failure::Cut);
            cut += 1;
        }
        self.share_gpus(replica);
        cut
    }

    /// The effect of a command, and the reply to it.
    pub(crate) fn effect(&mut self, command: &Command, cut: u32, incarnation: u64) -> Reply {
        let replica = index(command.replica);
        let at = usize::from(replica);
        let not_yet = |reason: &str| Reply::Failed { reason: reason.to_owned(), retryable: true };
        match &command.action {
            Action::MeasureLoad => Reply::Load { rate: self.books.recent_rate(self.now) },
            Action::TakeOut { .. } => {
                if self.router.is_wanted(replica) {
                    self.set_rotation(replica, false);
                    if let Some(driver) = &mut self.driver {
                        self.stations[at].draining = Some(driver.drains.len());
                        driver.drains.push(Drain { replica, from: self.now, ..Drain::default() });
                    }
                }
                Reply::Out
            }
            Action::Admit { weight } => {
                if let Some(percent) = *weight {
                    self.router.set_weight(replica, percent);
                }
                self.stations[at].draining = None;
                if self.stations[at].healthy(self.now) {
                    self.router.set_failing(replica, false);
                }
                self.set_rotation(replica, true);
                Reply::Admitted
            }
            Action::ProbeInFlight => {
                self.share_gpus(replica);
                let station = &self.stations[at];
                let engine = self.engines[at].in_flight();
                if self.blind_drains {
                    return Reply::InFlight { balancer: Some(0), engine: Some(0) };
                }
                Reply::InFlight {
                    balancer: Some(self.router.in_flight(replica)),
                    // A dead engine has no gauge to read.
                    engine: (!station.crashed).then_some(if station.stuck { engine.max(1) } else { engine }),
                }
            }
            Action::CutInFlight if self.router.is_nginx() => Reply::Failed {
                reason: "nginx can't end one server's streams; the stop does".to_owned(),
                retryable: false,
            },
            Action::CutInFlight => Reply::Cut { requests: self.stop(replica) },
            Action::Stop { .. } if self.stations[at].incarnation != incarnation => Reply::Stopped { cut },
            Action::Stop { .. } => {
                let station = &mut self.stations[at];
                station.stuck = false;
                if let Process::Up { version, .. } = station.process {
                    let stops = station.stops;
                    station.stops += 1;
                    station.draining = None;
                    let delay = self.setup.version(version).delays.gpu_release;
                    let released = self.sample(&delay, "gpu-release", &[u64::from(replica), stops]);
                    let (log, name) = (&mut self.fault_log, &self.setup.names[at]);
                    let log = |fault| log.befalls(fault, self.now, name);
                    let lingers = self.setup.faults.lingering(replica, stops, version, log);
                    let released = released.saturating_add(lingers);
                    self.stations[at].process = Process::Gone { free_at: self.now.saturating_add(released) };
                    self.share_gpus(replica);
                }
                Reply::Stopped { cut }
            }
            Action::ProbeGpu { .. } => match self.stations[at].process {
                Process::Gone { free_at } if free_at <= self.now => Reply::GpuFree,
                Process::Gone { .. } => not_yet("the memory of the stopped process is not free yet"),
                Process::Up { .. } => not_yet("a process still holds the memory"),
            },
            Action::Start { version } => {
                self.start(replica, *version);
                Reply::Started
            }
            Action::ProbeHealth => match self.stations[at].process {
                Process::Up { .. } if self.stations[at].healthy(self.now) => Reply::Healthy,
                Process::Up { .. } if !self.stations[at].deaf_by.is_empty() => {
                    not_yet("its health check does not answer")
                }
                Process::Up { .. } => not_yet("not ready yet"),
                Process::Gone { .. } => {
                    Reply::Failed { reason: "the process is gone".to_owned(), retryable: false }
                }
            },
            Action::ProbeFingerprint { .. } => Reply::Fingerprint { seen: self.running_version(at) },
            Action::SmokePrompt | Action::WarmUp { .. } | Action::Evaluate { .. } | Action::Swap { .. }
                if self.running_version(at).is_none() =>
            {
                Reply::Failed { reason: "the process is gone".to_owned(), retryable: false }
            }
            Action::Swap { .. } if self.stations[at].incarnation != incarnation => {
                not_yet("its process was replaced meanwhile")
            }
            Action::Swap { version } => {
                if self.running_version(at) != Some(*version) {
                    self.stations[at].starts += 1;
                    self.renew(replica, *version, self.now);
                }
                Reply::Swapped
            }
            Action::Evaluate { .. } => {
                let version = &self.setup.version(self.stations[at].version).delays;
                let said = if version.passes_evaluation { "passed" } else { "not passed" };
                Reply::Evaluated {
                    passed: version.passes_evaluation,
                    said: format!("{}: {said}", version.name),
                }
            }
            Action::SmokePrompt => Reply::SmokeAnswered,
            Action::WarmUp { .. } => Reply::WarmedUp,
            Action::Observe => Reply::Observed(self.observe(ReplicaId(replica))),
        }
    }

    /// A replica as it really is now, whatever the rollout thinks of it.
    #[must_use]
    pub fn observe(&self, replica: ReplicaId) -> Observed {
        let at = replica.index();
        Observed {
            in_rotation: self.router.in_rotation(replica.0),
            process: self.running_version(at).is_some(),
            healthy: self.stations[at].healthy(self.now),
            version: self.running_version(at),
            undo_ready: true,
        }
    }

    pub(crate) fn running_version(&self, at: usize) -> Option<VersionRef> {
        match self.stations[at].process {
            Process::Up { version, .. } => Some(version),
            Process::Gone { .. } => None,
        }
    }

    /// Starts a process of this version, unless one of it is there.
    pub(crate) fn start(&mut self, replica: u16, version: VersionRef) {
        let at = usize::from(replica);
        if self.running_version(at) == Some(version) {
            return;
        }
        let starts = self.stations[at].starts;
        let delay = self.setup.version(version).delays.startup;
        let takes = self.sample(&delay, "start-up", &[u64::from(replica), starts]);
        let due = |takes: Ps| self.now.saturating_add(takes);
        let (log, name) = (&mut self.fault_log, &self.setup.names[at]);
        let log = |fault| log.befalls(fault, self.now, name);
        let fault = self.setup.faults.at_start(replica, starts, version, log);
        let fault = if self.stations[at].gpu_lost { Some(StartFault::Fails) } else { fault };
        let healthy_at = match fault {
            None => due(takes),
            Some(StartFault::Slow(factor)) => due(scaled(takes, factor)),
            Some(StartFault::NeverHealthy) => Ps::MAX,
            Some(StartFault::Fails) => {
                let incarnation = self.stations[at].incarnation + 1;
                self.timers.set(due(takes), Timer::StartFails { replica, incarnation });
                Ps::MAX
            }
        };
        self.stations[at].starts += 1;
        self.renew(replica, version, healthy_at);
    }

    /// A new process of this version in place of whatever was there.
    pub(crate) fn renew(&mut self, replica: u16, version: VersionRef, healthy_at: Ps) {
        let at = usize::from(replica);
        let station = &mut self.stations[at];
        station.incarnation += 1;
        station.version = version;
        station.process = Process::Up { version, healthy_at };
        (station.crashed, station.stopping, station.stuck) = (false, false, false);
        let setup = Arc::clone(&self.setup);
        let to = setup.version(version);
        let engine = Replica::new(to.config.clone(), to.form).expect("checked when the scenario was set up");
        let before = std::mem::replace(&mut self.engines[at], engine);
        self.retired.push((before.counters(), before.config().kv_blocks));
        self.retired_prefix.add(&before.prefix_counters());
        self.router.set_new(replica, setup.is_new(version));
        self.next_event[at] = Ps::MAX;
        if self.stations[at].shares || !self.stations[at].slowed_by.is_empty() {
            // The GPU is slow, whatever runs on it.
            self.pace(replica);
        }
    }

    /// What all engines of the run found in their prefix caches.
    pub(crate) fn total_prefix_counters(&self) -> PrefixCounters {
        let mut total = self.retired_prefix;
        for engine in &self.engines {
            total.add(&engine.prefix_counters());
        }
        total
    }

    fn begin_phase(&mut self, name: String) {
        self.books.prefix_until_now(self.total_prefix_counters());
        self.books.begin_phase(name, self.now, self.router.serving());
    }

    /// What all engines of the run did.
    pub(crate) fn total_counters(&self) -> Counters {
        let mut total = Counters::default();
        for (counters, _) in self.engine_counters() {
            total.add(&counters);
        }
        total
    }

    /// Most KV blocks in use at one engine, as a share of its blocks.
    #[allow(clippy::cast_precision_loss)] // a share for people
    pub(crate) fn kv_peak_share(&self) -> f64 {
        let shares = self
            .engine_counters()
            .map(|(counters, blocks)| counters.kv_blocks_peak as f64 / f64::from(blocks));
        shares.fold(0.0, f64::max)
    }

    pub(crate) fn engine_counters(&self) -> impl Iterator<Item = (Counters, u32)> + '_ {
        let present = self.engines.iter().map(|engine| (engine.counters(), engine.config().kv_blocks));
        self.retired.iter().copied().chain(present)
    }

    pub(crate) fn set_rotation(&mut self, replica: u16, wanted: bool) {
        let before = self.router.in_rotation(replica);
        self.router.set_rotation(replica, wanted);
        self.rotation_changed(replica, before);
    }

    pub(crate) fn serving_changed(&mut self) {
        let serving = self.router.serving();
        self.books.serving_changed(serving);
        if let Some(driver) = &mut self.driver {
            driver.serving_changed(self.now, serving, usize::from(self.setup.serving));
        }
    }

    /// Which replicas serve the version they should, as the rollout sees it, and what is wrong with the others; `None`
    /// without a rollout.
    #[must_use]
    pub fn final_report(&self) -> Option<FinalReport> {
        self.driver.as_ref().map(Driver::final_report)
    }

    /// How far the rollout has come; `None` without one.
    #[must_use]
    pub fn rollout_state(&self) -> Option<RolloutState> {
        self.driver.as_ref().map(Driver::state)
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
fn scaled(value: Ps, factor: f64) -> Ps {
    (value as f64 * factor).round() as Ps
}
