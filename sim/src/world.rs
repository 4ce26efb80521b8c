//! The world: everything of one run, and its loop.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use slackwater_engine::{
    Counters, Output, Ps, Replica, ReplicaError, Request as EngineRequest, StepTimeForm, Stop,
};
use slackwater_policy::{
    Action, Command, Event, EventError, Figure, FinalReport, HoldReason, Note, Observed, Operator, Plan,
    ReplicaId, Reply, VersionRef,
};
use slackwater_scenarios::traffic::{Arrival, Traffic};
use slackwater_scenarios::version::Delay;
use slackwater_scenarios::{HumanDuration, TraceError};

use crate::PROBE_PS;
use crate::books::{Books, RequestRow, TICK_PS, seconds};
use crate::driver::{Drain, Driver, Process, RolloutState, Station, index};
use crate::faults::{StartFault, Timed, TimedFault};
use crate::requests::{Failure, Request, Requests, State};
use crate::router::{Route, Router};
use crate::setup::{Setup, SetupError};
use crate::timers::Timers;

/// What a run writes down beside the ledgers and histograms, which it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    /// Samples over time, for plots.
    pub series: bool,
    /// A row for each logical request, to be taken with [`World::take_rows`]; grows with the traffic.
    pub rows: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { series: true, rows: false }
    }
}

/// Why a run can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The scenario can't be simulated.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The traffic turned out to be wrong.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A replica's clock left its range.
    #[error("replica {replica}: {source}")]
    Replica {
        /// Its name.
        replica: String,
        /// Why.
        source: ReplicaError,
    },
    /// The traffic comes after the end of the clock.
    #[error("the traffic reaches beyond the 213 days a simulation can last; replay a shorter stretch of it")]
    TooLong,
    /// The policy refused what the world told it: a bug of ours.
    #[error(
        "the rollout policy refused an event, which is a bug; please report it with the scenario and seed: {0}"
    )]
    Policy(#[from] EventError),
}

/// What a timer does.
#[derive(Debug, Clone)]
enum Timer {
    Tick,
    /// A client sends its next attempt.
    Retry(u32),
    /// A command of the policy has come to its effect; `cut` requests were ended by it. A stop ends the process it was
    /// sent to, not one started since.
    Effect {
        command: Command,
        cut: u32,
        incarnation: u64,
    },
    /// The simulated person says yes.
    Approve,
    /// This one of the timed faults comes.
    Fault(usize),
    /// Crash number `crash` of this replica is noticed, unless it was mended before.
    Noticed {
        replica: u16,
        crash: u64,
    },
    /// The supervisor has the replica serving again after crash number `crash`, unless the rollout took it in hand.
    Back {
        replica: u16,
        crash: u64,
    },
    /// The start of this process fails.
    StartFails {
        replica: u16,
        incarnation: u64,
    },
}

/// One run under way. `Clone` forks it: the copy goes on exactly as the original would.
#[derive(Debug, Clone)]
pub struct World<T> {
    pub(crate) setup: Arc<Setup>,
    pub(crate) now: Ps,
    pub(crate) traffic: T,
    upcoming: Option<Arrival>,
    /// Logical requests so far.
    number: u64,
    pub(crate) engines: Vec<Replica<StepTimeForm>>,
    /// `next_event` of each engine, `Ps::MAX` when idle.
    next_event: Vec<Ps>,
    /// Counters and KV blocks of engines that were replaced.
    retired: Vec<(Counters, u32)>,
    pub(crate) stations: Vec<Station>,
    router: Router,
    requests: Requests,
    timers: Timers<Timer>,
    /// (deadline, slot, stamp) of attempts, in order of time because the time-outs are constants.
    client_timeouts: VecDeque<(Ps, u32, u32)>,
    read_timeouts: VecDeque<(Ps, u32, u32)>,
    pub(crate) books: Books,
    /// Attempts (completed, failed) at the last ticks, for the error rate.
    error_history: VecDeque<(u64, u64)>,
    pub(crate) driver: Option<Driver>,
    /// When anything last happened to a request or the rollout.
    pub(crate) last_activity: Ps,
    finished: bool,
    /// See [`World::blind_drains`].
    blind_drains: bool,
}

impl<T: Traffic> World<T> {
    /// A world at time 0, all replicas serving the old version, nothing in flight.
    ///
    /// # Errors
    /// When the scenario or the first row of the traffic is wrong.
    pub fn new(setup: Arc<Setup>, mut traffic: T, options: RunOptions) -> Result<Self, SimError> {
        let upcoming = traffic.next_arrival()?;
        let engine = Replica::new(setup.from.config.clone(), setup.from.form)
            .map_err(|source| SetupError::Engine { version: setup.from.delays.name.clone(), source })?;
        let count = usize::from(setup.replicas);
        let mut timers = Timers::new();
        timers.set(TICK_PS, Timer::Tick);
        for (fault, timed) in setup.faults.timed.iter().enumerate() {
            timers.set(timed.at, Timer::Fault(fault));
        }
        Ok(Self {
            now: 0,
            traffic,
            upcoming,
            number: 0,
            engines: vec![engine; count],
            next_event: vec![Ps::MAX; count],
            retired: Vec::new(),
            stations: vec![Station::serving(); count],
            router: Router::new(&setup.router, setup.replicas),
            requests: Requests::default(),
            timers,
            client_timeouts: VecDeque::new(),
            read_timeouts: VecDeque::new(),
            books: Books::new(count, options.series, options.rows),
            error_history: VecDeque::new(),
            driver: None,
            last_activity: 0,
            finished: false,
            blind_drains: false,
            setup,
        })
    }

    /// The present time: everything before it has happened.
    #[must_use]
    pub fn now(&self) -> Ps {
        self.now
    }

    /// The traffic being replayed.
    pub fn traffic(&self) -> &T {
        &self.traffic
    }

    /// Logical requests that have arrived.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.number
    }

    /// The rows of requests that ended since the last call (see [`RunOptions::rows`]).
    pub fn take_rows(&mut self) -> Vec<RequestRow> {
        self.books.rows.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Begins a rollout now.
    ///
    /// # Errors
    /// When the plan is refused.
    pub fn begin_rollout(&mut self, plan: Plan) -> Result<(), SimError> {
        let epoch = crate::plan::epoch(self.traffic.epoch_ns());
        self.books.watch = !plan.guards.is_empty();
        self.driver = Some(Driver::new(plan, epoch, self.now)?);
        self.judge_from_now();
        if std::mem::take(&mut self.finished) {
            // The traffic is over, but the world goes on.
            self.timers.set(self.now + TICK_PS, Timer::Tick);
        }
        self.tell(Event::Start)
    }

    /// A person's order to the rollout. One that sets a held rollout going again makes the run go on.
    ///
    /// # Errors
    /// When the policy refuses it.
    pub fn order(&mut self, order: Operator) -> Result<(), SimError> {
        if self.driver.is_some() && std::mem::take(&mut self.finished) {
            self.timers.set(self.now + TICK_PS, Timer::Tick);
        }
        self.tell(Event::Operator(order))
    }

    /// From now on every look says that nothing is in flight: a wrong world, which the tests' net has to catch.
    #[doc(hidden)]
    pub fn blind_drains(&mut self) {
        self.blind_drains = true;
    }

    /// Judges the service level from now on, requests under way included, as the start of a rollout does: for the same
    /// period without one. Without this the whole run is judged.
    pub fn judge_from_now(&mut self) {
        let open = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        self.books.judge_from(self.now, open);
    }

    /// Runs until `limit` (exclusive) or to the end, whichever comes first; `true` at the end: the traffic is over,
    /// every request has ended, and the rollout, if there is one, is over or holds.
    ///
    /// # Errors
    /// When the traffic is wrong or the clock leaves its range.
    pub fn run_until(&mut self, limit: Ps) -> Result<bool, SimError> {
        loop {
            if self.finished || limit <= self.now {
                return Ok(self.finished);
            }
            let next = self.next_external();
            self.advance(next.min(limit))?;
            if next >= limit {
                self.now = limit;
                return Ok(false);
            }
            self.now = next;
            self.step()?;
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// As [`World::run_until`].
    pub fn run(&mut self) -> Result<(), SimError> {
        if self.run_until(Ps::MAX)? { Ok(()) } else { Err(SimError::TooLong) }
    }

    /// Ends the books where the run stands: requests under way are unfinished.
    pub(crate) fn close(&mut self) {
        for request in self.requests.open() {
            self.books.unfinished(request, request.state == State::Sent, self.now);
        }
        self.books.end(self.end());
    }

    /// When the run ended, or how far it has come.
    pub(crate) fn end(&self) -> Ps {
        let last = self.last_activity.max(self.books.last_arrival);
        if self.finished { last } else { last.max(self.now) }
    }

    /// Time of the next event outside the engines. Ticks go on until the end, so there always is one.
    #[inline]
    fn next_external(&mut self) -> Ps {
        let arrival = self.upcoming.map_or(Ps::MAX, |arrival| arrival.at_ps);
        let mut next = arrival.min(self.timers.next_at());
        next = next.min(next_timeout(&mut self.client_timeouts, &self.requests, next));
        next = next.min(next_timeout(&mut self.read_timeouts, &self.requests, next));
        if let Some(driver) = &self.driver {
            next = next.min(driver.deadline());
        }
        next
    }

    /// Lets the engines do everything before `until`.
    #[inline]
    fn advance(&mut self, until: Ps) -> Result<(), SimError> {
        let Self {
            engines, next_event, requests, router, books, setup, stations, driver, last_activity, ..
        } = self;
        for (replica, (engine, next)) in engines.iter_mut().zip(next_event).enumerate() {
            if *next >= until {
                continue;
            }
            let draining = stations[replica].draining;
            let mut sink = |output| match output {
                Output::FirstToken { at, tag } => requests.get_mut(tag).first_token = at,
                Output::Finished { at, tag } => {
                    let request = requests.get(tag);
                    router.release(request.route);
                    books.completed(request, at, &setup.slo);
                    if let (Some(drain), Some(driver)) = (draining, driver.as_mut()) {
                        let drain = &mut driver.drains[drain];
                        drain.residual.push(at.saturating_sub(drain.from));
                    }
                    *last_activity = (*last_activity).max(at);
                    requests.remove(tag);
                }
            };
            engine
                .advance_before(until, &mut sink)
                .map_err(|source| SimError::Replica { replica: setup.names[replica].clone(), source })?;
            *next = engine.next_event().unwrap_or(Ps::MAX);
        }
        Ok(())
    }

    /// Does the first thing that is due at the present time; see the crate's head for the order.
    fn step(&mut self) -> Result<(), SimError> {
        let now = self.now;
        if self.timers.next_at() == now {
            if let Some(timer) = self.timers.pop() {
                self.timer(timer)?;
            }
        } else if let Some((_, slot, stamp)) = self.client_timeouts.pop_front_if(|entry| entry.0 == now) {
            self.give_up(slot, stamp, false);
        } else if let Some((_, slot, stamp)) = self.read_timeouts.pop_front_if(|entry| entry.0 == now) {
            self.give_up(slot, stamp, true);
        } else if self.driver.as_ref().is_some_and(|driver| driver.deadline() <= now) {
            self.tell(Event::Tick)?;
        } else if let Some(arrival) = self.upcoming.take() {
            self.arrive(arrival);
            self.upcoming = self.traffic.next_arrival()?;
        }
        Ok(())
    }

    fn timer(&mut self, timer: Timer) -> Result<(), SimError> {
        match timer {
            Timer::Tick => self.tick(),
            Timer::Retry(slot) => {
                let request = self.requests.get_mut(slot);
                request.retries += 1;
                request.stamp = request.stamp.wrapping_add(1);
                self.send(slot);
                Ok(())
            }
            Timer::Effect { command, cut, incarnation } => {
                let reply = self.effect(&command, cut, incarnation);
                let replica = index(command.replica);
                if self.setup.faults.loses(self.setup.keyed, replica, command.id.0, self.now) {
                    return Ok(());
                }
                self.tell(Event::Outcome { id: command.id, outcome: reply })
            }
            Timer::Approve => self.tell(Event::Operator(Operator::Approve)),
            Timer::Fault(fault) => {
                self.befall(self.setup.faults.timed[fault]);
                Ok(())
            }
            Timer::Noticed { replica, crash } => self.noticed(replica, crash),
            Timer::Back { replica, crash } => self.back(replica, crash),
            Timer::StartFails { replica, incarnation } => {
                let station = &self.stations[usize::from(replica)];
                if station.is_up() && station.incarnation == incarnation {
                    self.die(replica);
                }
                Ok(())
            }
        }
    }

    /// Samples the gauges, tells the policy load and figures, and sees whether the run is over.
    fn tick(&mut self) -> Result<(), SimError> {
        let serving = self.router.serving();
        let gauges = self.engines.iter().map(|engine| (engine.running(), engine.waiting()));
        let waiting: u64 = gauges.clone().map(|(_, waiting)| u64::from(waiting)).sum();
        self.books.tick(self.now, serving, gauges);
        if let Some(driver) = &mut self.driver
            && driver.over.is_some()
            && driver.settled.is_none()
            && waiting == 0
        {
            driver.settled = Some(self.now);
        }
        if self.driver.as_ref().is_some_and(|driver| driver.over.is_none()) {
            self.report_figures()?;
        }
        let rollout_over = self.driver.as_ref().is_none_or(|driver| driver.over.is_some());
        let idle = self.upcoming.is_none() && self.requests.is_empty();
        if idle && rollout_over {
            self.finished = true;
        } else {
            self.timers.set(self.now + TICK_PS, Timer::Tick);
        }
        Ok(())
    }

    /// The load, and what the plan's guards watch.
    #[allow(clippy::cast_precision_loss)]
    fn report_figures(&mut self) -> Result<(), SimError> {
        let rate = self.books.recent_rate(self.now);
        self.tell(Event::Load { rate })?;
        let attempts = self.books.attempts;
        let failed = attempts.cut + attempts.timed_out + attempts.rejected;
        self.error_history.push_back((attempts.completed, failed));
        let ticks = self.setup.scenario.rollout.guard.over.as_picos().div_ceil(TICK_PS).max(1);
        while self.error_history.len() as u64 > ticks + 1 {
            self.error_history.pop_front();
        }
        let (completed, failed) = match (self.error_history.front(), self.error_history.back()) {
            (Some(first), Some(last)) => (last.0 - first.0, last.1 - first.1),
            _ => (0, 0),
        };
        let [ttft_p50, ttft_p99, tpot_p50, tpot_p99] = self.books.last_percentiles();
        let Some(driver) = &self.driver else { return Ok(()) };
        let watched: Vec<Figure> = driver.plan().guards.iter().map(|guard| guard.figure).collect();
        for figure in watched {
            let value = match figure {
                Figure::ErrorRate => {
                    (completed + failed > 0).then(|| failed as f64 / (completed + failed) as f64)
                }
                Figure::TtftP50 => ttft_p50.map(seconds),
                Figure::TtftP99 => ttft_p99.map(seconds),
                Figure::TpotP50 => tpot_p50.map(seconds),
                Figure::TpotP99 => tpot_p99.map(seconds),
                Figure::QueueDepth => {
                    Some(self.engines.iter().map(|engine| f64::from(engine.waiting())).sum())
                }
                // No end-to-end percentile is sampled; a plan of ours never guards it.
                Figure::E2eP99 => None,
            };
            if let Some(value) = value {
                self.tell(Event::Figure { figure, value })?;
            }
        }
        Ok(())
    }

    // ---- faults ----

    fn befall(&mut self, fault: TimedFault) {
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
    fn die(&mut self, replica: u16) {
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
    fn noticed(&mut self, replica: u16, crash: u64) -> Result<(), SimError> {
        let station = &self.stations[usize::from(replica)];
        if !station.crashed || station.crashes != crash {
            return Ok(());
        }
        self.set_failing(replica, true);
        let reason = "its process died".to_owned();
        self.tell(Event::ReplicaDown { replica: ReplicaId(replica), reason })
    }

    /// The supervisor has restarted what it had.
    fn back(&mut self, replica: u16, crash: u64) -> Result<(), SimError> {
        let station = &self.stations[usize::from(replica)];
        if !station.crashed || station.crashes != crash {
            return Ok(());
        }
        let version = station.version;
        self.renew(replica, version, self.now);
        self.set_failing(replica, false);
        self.tell(Event::ReplicaUp { replica: ReplicaId(replica) })
    }

    fn set_failing(&mut self, replica: u16, failing: bool) {
        self.router.set_failing(replica, failing);
        self.serving_changed();
    }

    // ---- clients ----

    fn arrive(&mut self, arrival: Arrival) {
        let number = self.number;
        self.number += 1;
        self.books.arrival(self.now, arrival.input_tokens, arrival.output_tokens);
        let slot = self.requests.insert(Request {
            number,
            arrived: self.now,
            sent: self.now,
            first_token: Ps::MAX,
            sequence: None,
            input: arrival.input_tokens,
            output: arrival.output_tokens,
            output_now: arrival.output_tokens,
            outbound: 0,
            route: Route::NOWHERE,
            phase: self.books.phase(),
            retries: 0,
            stamp: 0,
            state: State::BackingOff,
        });
        self.send(slot);
    }

    /// Sends an attempt of the request in this slot.
    #[inline]
    fn send(&mut self, slot: u32) {
        let now = self.now;
        let setup = &*self.setup;
        let request = self.requests.get_mut(slot);
        request.sent = now;
        request.first_token = Ps::MAX;
        request.state = State::Sent;
        request.route = Route::NOWHERE;
        request.sequence = None;
        self.books.attempts.sent += 1;
        let id = request.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(request.retries) << 48);
        let random = SplitMix64::seed_from_u64(setup.route_key ^ id).next_u64();
        let Some(route) = self.router.pick(random) else {
            self.attempt_failed(slot, Failure::NoReplica);
            return;
        };
        let replica = usize::from(route.replica);
        if !self.stations[replica].is_up() {
            self.router.release(route);
            self.attempt_failed(slot, Failure::Refused);
            return;
        }
        request.route = route;
        let version = setup.version(self.stations[replica].version);
        request.output_now = version.output_tokens(request.output);
        let (inbound, outbound) = if version.jitter > 0.0 {
            let bits = SplitMix64::seed_from_u64(setup.front_end_key ^ id).next_u64();
            // Two independent halves of the same bits.
            (
                jittered(version.inbound_ps, version.jitter, bits >> 32),
                jittered(version.outbound_ps, version.jitter, bits & 0xffff_ffff),
            )
        } else {
            (version.inbound_ps, version.outbound_ps)
        };
        request.outbound = outbound;
        let engine = &mut self.engines[replica];
        let submitted = EngineRequest {
            tag: slot,
            prompt: request.input,
            output: request.output_now,
            stop: Stop::EndOfText,
        };
        match engine.submit(now.saturating_add(inbound), submitted) {
            Ok(sequence) => {
                request.sequence = Some(sequence);
                self.client_timeouts.push_back((now.saturating_add(setup.timeout_ps), slot, request.stamp));
                if let Some(read_timeout) = setup.read_timeout_ps {
                    self.read_timeouts.push_back((now.saturating_add(read_timeout), slot, request.stamp));
                }
                self.next_event[replica] = engine.next_event().unwrap_or(Ps::MAX);
            }
            Err(_) => {
                self.router.release(route);
                request.route = Route::NOWHERE;
                self.attempt_failed(slot, Failure::TooLong);
            }
        }
    }

    /// The client's time-out, or the balancer's wait for the first byte, is over for the attempt `stamp` in this slot.
    fn give_up(&mut self, slot: u32, stamp: u32, first_byte: bool) {
        let request = self.requests.get(slot);
        if request.stamp != stamp || request.state != State::Sent {
            return;
        }
        if first_byte && request.first_token != Ps::MAX {
            return;
        }
        let (route, sequence) = (request.route, request.sequence);
        let replica = usize::from(route.replica);
        if let Some(sequence) = sequence {
            self.engines[replica].cancel(self.now, sequence);
            self.next_event[replica] = self.engines[replica].next_event().unwrap_or(Ps::MAX);
        }
        self.router.release(route);
        self.attempt_failed(slot, Failure::TimedOut);
    }

    /// An attempt failed now. The client tries again unless the answer had begun, the request is hopeless, or it has
    /// tried often enough.
    fn attempt_failed(&mut self, slot: u32, failure: Failure) {
        let now = self.now;
        let request = self.requests.get_mut(slot);
        self.books.attempt_failed(request, failure, now);
        self.last_activity = self.last_activity.max(now);
        let begun = request.first_token != Ps::MAX;
        let retries = &self.setup.retries;
        if begun || failure == Failure::TooLong || u32::from(request.retries) >= retries.max {
            self.books.failed(request, failure, now);
            self.requests.remove(slot);
            return;
        }
        let ids = [request.number, u64::from(request.retries)];
        let wait = retries.wait(u32::from(request.retries), self.setup.keyed.uniform("back-off", &ids));
        request.state = State::BackingOff;
        self.timers.set(now.saturating_add(wait.as_picos()), Timer::Retry(slot));
    }

    // ---- the policy ----

    /// Tells the policy a fact and carries out what it asks for.
    fn tell(&mut self, event: Event) -> Result<(), SimError> {
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
    fn note(&mut self, note: &Note) {
        let serving = self.router.serving();
        match note {
            Note::MoveBegan { replica, .. } => {
                let name = self.setup.names[replica.index()].clone();
                self.books.begin_phase(name, self.now, serving);
            }
            Note::HoldBegan { reason, .. } => {
                self.books.begin_phase("hold".to_owned(), self.now, serving);
                if *reason == HoldReason::Approval {
                    let delay = self.setup.scenario.rollout.approval_delay.as_picos();
                    self.timers.set(self.now.saturating_add(delay), Timer::Approve);
                }
            }
            Note::Ended { .. } => self.books.begin_phase("after".to_owned(), self.now, serving),
            _ => {}
        }
    }

    /// Begins what a command asks for; its effect and reply come by a timer.
    fn execute(&mut self, command: Command) {
        let mut cut = 0;
        let replica = index(command.replica);
        let takes = match &command.action {
            Action::TakeOut { .. } | Action::Admit { .. } => self.setup.rotation_ps,
            Action::Stop { .. } => {
                cut = self.stop(replica);
                // From here on its supervisor leaves it alone.
                self.stations[usize::from(replica)].crashed = false;
                let station = &self.stations[usize::from(replica)];
                match station.process {
                    Process::Gone { .. } => PROBE_PS,
                    Process::Up { version, .. } => {
                        let delay = self.setup.version(version).delays.stop;
                        self.sample(&delay, "stop", &[u64::from(replica), station.stops])
                    }
                }
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

    fn sample(&self, delay: &Delay, purpose: &str, ids: &[u64]) -> Ps {
        let drawn: HumanDuration = delay.sample(&mut self.setup.keyed.stream(purpose, ids));
        drawn.as_picos()
    }

    /// Ends everything in flight at a replica and returns how many requests that were.
    fn stop(&mut self, replica: u16) -> u32 {
        let at = usize::from(replica);
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
            self.attempt_failed(request.tag, Failure::Cut);
            cut += 1;
        }
        cut
    }

    /// The effect of a command, and the reply to it.
    fn effect(&mut self, command: &Command, cut: u32, incarnation: u64) -> Reply {
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
            Action::Admit { .. } => {
                self.stations[at].draining = None;
                if self.stations[at].healthy(self.now) {
                    self.router.set_failing(replica, false);
                }
                self.set_rotation(replica, true);
                Reply::Admitted
            }
            Action::ProbeInFlight => {
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
                    let released =
                        released.saturating_add(self.setup.faults.lingering(replica, stops, version));
                    self.stations[at].process = Process::Gone { free_at: self.now.saturating_add(released) };
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
                Process::Up { healthy_at, .. } if healthy_at <= self.now => Reply::Healthy,
                Process::Up { .. } => not_yet("not ready yet"),
                Process::Gone { .. } => {
                    Reply::Failed { reason: "the process is gone".to_owned(), retryable: false }
                }
            },
            Action::ProbeFingerprint { .. } => Reply::Fingerprint { seen: self.running_version(at) },
            Action::SmokePrompt | Action::WarmUp { .. } if self.running_version(at).is_none() => {
                Reply::Failed { reason: "the process is gone".to_owned(), retryable: false }
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

    fn running_version(&self, at: usize) -> Option<VersionRef> {
        match self.stations[at].process {
            Process::Up { version, .. } => Some(version),
            Process::Gone { .. } => None,
        }
    }

    /// Starts a process of this version, unless one of it is there.
    fn start(&mut self, replica: u16, version: VersionRef) {
        let at = usize::from(replica);
        if self.running_version(at) == Some(version) {
            return;
        }
        let starts = self.stations[at].starts;
        let delay = self.setup.version(version).delays.startup;
        let takes = self.sample(&delay, "start-up", &[u64::from(replica), starts]);
        let due = |takes: Ps| self.now.saturating_add(takes);
        let healthy_at = match self.setup.faults.at_start(replica, starts, version) {
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
    fn renew(&mut self, replica: u16, version: VersionRef, healthy_at: Ps) {
        let at = usize::from(replica);
        let station = &mut self.stations[at];
        station.incarnation += 1;
        station.version = version;
        station.process = Process::Up { version, healthy_at };
        (station.crashed, station.stuck) = (false, false);
        let setup = Arc::clone(&self.setup);
        let to = setup.version(version);
        let engine = Replica::new(to.config.clone(), to.form).expect("checked when the scenario was set up");
        let before = std::mem::replace(&mut self.engines[at], engine);
        self.retired.push((before.counters(), before.config().kv_blocks));
        self.next_event[at] = Ps::MAX;
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

    fn engine_counters(&self) -> impl Iterator<Item = (Counters, u32)> + '_ {
        let present = self.engines.iter().map(|engine| (engine.counters(), engine.config().kv_blocks));
        self.retired.iter().copied().chain(present)
    }

    fn set_rotation(&mut self, replica: u16, wanted: bool) {
        self.router.set_rotation(replica, wanted);
        self.serving_changed();
    }

    fn serving_changed(&mut self) {
        let serving = self.router.serving();
        self.books.serving_changed(serving);
        if let Some(driver) = &mut self.driver {
            driver.serving_changed(self.now, serving, usize::from(self.setup.replicas));
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

/// The first time-out that still counts, if it comes before `bound`. Those of attempts that ended are dropped.
#[inline]
fn next_timeout(timeouts: &mut VecDeque<(Ps, u32, u32)>, requests: &Requests, bound: Ps) -> Ps {
    while let Some(&(at, slot, stamp)) = timeouts.front() {
        if at > bound {
            return Ps::MAX;
        }
        let request = requests.get(slot);
        if request.stamp == stamp && request.state == State::Sent {
            return at;
        }
        timeouts.pop_front();
    }
    Ps::MAX
}

/// `value * (1 - jitter + 2 * jitter * u)`, `u` from 32 uniform bits.
#[inline]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn jittered(value: Ps, jitter: f64, bits: u64) -> Ps {
    let uniform = bits as f64 / 4_294_967_296.0;
    // Not negative: the scenario keeps jitter at or below 1.
    (value as f64 * (1.0 - jitter + 2.0 * jitter * uniform)) as Ps
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
fn scaled(value: Ps, factor: f64) -> Ps {
    (value as f64 * factor).round() as Ps
}
