//! The world: everything of one run, and its loop.

use std::collections::VecDeque;
use std::sync::Arc;

use slackwater_engine::{Counters, Output, PrefixCounters, Ps, Replica, ReplicaError, StepTimeForm};
use slackwater_policy::{Command, Event, EventError, Figure, Operator, Plan};
use slackwater_scenarios::traffic::{Arrival, Traffic};
use slackwater_scenarios::{OrderKind, TraceError};

use crate::books::{Books, RequestRow, TICK_PS, seconds};
use crate::driver::{Driver, RolloutState, Station, index};
use crate::evidence::Evidence;
use crate::faults::{FaultLog, When};
use crate::prefixes::Prefixes;
use crate::reach::Tally;
use crate::requests::{Requests, State};
use crate::result::FaultFigures;
use crate::router::Router;
use crate::sessions::{ALONE, Sessions};
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
pub(crate) enum Timer {
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
    /// The simulated person gives this one of the scenario's orders.
    Order(usize),
    /// This one of the faults at a moment comes to a replica.
    Fault {
        fault: usize,
        replica: u16,
    },
    /// It is over there.
    FaultEnds {
        fault: usize,
        replica: u16,
    },
    /// Health checks of this replica have gone unanswered often enough, if fault `number` still sees to that.
    Deaf {
        replica: u16,
        number: usize,
    },
    /// The weight of a replica in rotation since then grows.
    Ramp {
        replica: u16,
        since: Ps,
    },
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
    pub(crate) upcoming: Option<Arrival>,
    /// Logical requests so far.
    pub(crate) number: u64,
    /// Those of them that the traffic brought; the others are later turns of sessions.
    pub(crate) arrivals: u64,
    pub(crate) sessions: Sessions,
    pub(crate) prefixes: Prefixes,
    /// Looks into the prefix caches of engines that were replaced.
    pub(crate) retired_prefix: PrefixCounters,
    pub(crate) engines: Vec<Replica<StepTimeForm>>,
    /// `next_event` of each engine, `Ps::MAX` when idle.
    pub(crate) next_event: Vec<Ps>,
    /// Counters and KV blocks of engines that were replaced.
    pub(crate) retired: Vec<(Counters, u32)>,
    pub(crate) stations: Vec<Station>,
    pub(crate) router: Router,
    pub(crate) requests: Requests,
    pub(crate) timers: Timers<Timer>,
    /// (deadline, slot, stamp) of attempts, in order of time because the time-outs are constants.
    pub(crate) client_timeouts: VecDeque<(Ps, u32, u32)>,
    pub(crate) read_timeouts: VecDeque<(Ps, u32, u32)>,
    pub(crate) books: Books,
    /// Attempts (completed, failed) at the last ticks, for the error rate.
    pub(crate) error_history: VecDeque<(u64, u64)>,
    pub(crate) driver: Option<Driver>,
    /// When anything last happened to a request or the rollout.
    pub(crate) last_activity: Ps,
    /// Orders of the scenario that are still to come.
    pub(crate) orders_left: usize,
    pub(crate) finished: bool,
    /// Millionths of retries that the clients' budget has left.
    pub(crate) retry_budget: u64,
    /// What came of the faults.
    pub(crate) fault_log: FaultLog,
    /// See [`World::blind_drains`].
    pub(crate) blind_drains: bool,
    /// What engines are given against what they were measured on, where they were.
    pub(crate) reach: Option<Box<Tally>>,
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
        let mut prefixes = Prefixes::default();
        prefixes.expect(traffic.prefix());
        let mut timers = Timers::new();
        timers.set(TICK_PS, Timer::Tick);
        for (fault, moment) in setup.faults.moments.iter().enumerate() {
            if let (When::At(at), Some(replica)) = (moment.when, moment.replica) {
                timers.set(at, Timer::Fault { fault, replica });
            }
        }
        Ok(Self {
            now: 0,
            traffic,
            upcoming,
            number: 0,
            arrivals: 0,
            sessions: Sessions::new(setup.sessions.as_ref()),
            engines: vec![engine; count],
            next_event: vec![Ps::MAX; count],
            retired: Vec::new(),
            stations: setup
                .places
                .iter()
                .map(|place| if place.spare { Station::empty() } else { Station::serving() })
                .collect(),
            prefixes,
            retired_prefix: PrefixCounters::default(),
            router: Router::new(
                &setup.router,
                setup.places.iter().map(|place| !place.spare).collect(),
                setup.from.config.kv_blocks as usize,
            ),
            requests: Requests::default(),
            timers,
            client_timeouts: VecDeque::new(),
            read_timeouts: VecDeque::new(),
            books: Books::new(usize::from(setup.serving), options.series, options.rows),
            error_history: VecDeque::new(),
            driver: None,
            last_activity: 0,
            orders_left: 0,
            finished: false,
            blind_drains: false,
            reach: Tally::of(&setup.scenario),
            retry_budget: 0,
            fault_log: FaultLog::new(&setup.faults),
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

    /// What came of each of the scenario's faults so far, in its order.
    #[must_use]
    pub fn faults(&self) -> &[FaultFigures] {
        self.fault_log.figures()
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
        self.books.watch = !plan.guards.is_empty() || self.books.peaks_wanted;
        self.driver = Some(Driver::new(plan, epoch, self.now)?);
        self.judge_from_now();
        for (number, order) in self.setup.scenario.orders.iter().enumerate() {
            if order.at.as_picos() >= self.now {
                self.timers.set(order.at.as_picos(), Timer::Order(number));
                self.orders_left += 1;
            }
        }
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
        if self.books.lean.is_some() && self.reach.is_some() {
            self.reach = Tally::of(&self.setup.scenario);
        }
        self.sessions.judge_from(self.now);
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
            let reach = self.reach(next.min(limit));
            self.advance(reach)?;
            if reach < next.min(limit) {
                // An answer may have made a session's next turn due.
                self.now = reach;
                continue;
            }
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
        self.books.prefix_until_now(self.total_prefix_counters());
        self.books.end(self.end());
    }

    /// When the run ended, or how far it has come.
    pub(crate) fn end(&self) -> Ps {
        let last = self.last_activity.max(self.books.last_arrival);
        if self.finished { last } else { last.max(self.now) }
    }

    /// Time of the next event outside the engines. Ticks go on until the end, so there always is one.
    #[inline]
    pub(crate) fn next_external(&mut self) -> Ps {
        let arrival = self.upcoming.map_or(Ps::MAX, |arrival| arrival.at_ps);
        let mut next = arrival.min(self.timers.next_at()).min(self.sessions.next_at());
        next = next.min(next_timeout(&mut self.client_timeouts, &self.requests, next));
        next = next.min(next_timeout(&mut self.read_timeouts, &self.requests, next));
        if let Some(driver) = &self.driver {
            next = next.min(driver.deadline());
        }
        next
    }

    /// How far the engines may go before anybody outside them can act on what they did: with sessions, an answer's way
    /// back and one picosecond of thought.
    #[inline]
    fn reach(&self, until: Ps) -> Ps {
        if self.sessions.is_empty() {
            return until;
        }
        let first = self.next_event.iter().copied().min().unwrap_or(Ps::MAX);
        until.min(first.saturating_add(self.setup.outbound_least_ps + 1)).max(self.now)
    }

    /// Lets the engines do everything before `until`.
    #[inline]
    pub(crate) fn advance(&mut self, until: Ps) -> Result<(), SimError> {
        let Self {
            engines,
            next_event,
            requests,
            router,
            books,
            setup,
            stations,
            driver,
            last_activity,
            sessions,
            ..
        } = self;
        for (replica, (engine, next)) in engines.iter_mut().zip(next_event).enumerate() {
            if *next >= until {
                continue;
            }
            let draining = stations[replica].draining;
            let by_new = setup.is_new(stations[replica].version);
            let mut sink = |output| match output {
                Output::FirstToken { at, tag } => requests.get_mut(tag).first_token = at,
                Output::Finished { at, tag } => {
                    let request = requests.get(tag);
                    router.now = at;
                    router.release(request.route);
                    books.completed(request, sessions, at, &setup.slo);
                    if let Some(driver) = driver.as_mut() {
                        if let Some(drain) = draining {
                            let drain = &mut driver.drains[drain];
                            drain.residual.push(at.saturating_sub(drain.from));
                        }
                        if let Some(evidence) = &mut driver.evidence {
                            evidence.completed(stations[replica].version, request, at);
                        }
                    }
                    *last_activity = (*last_activity).max(at);
                    if let (false, Some(plan)) = (request.session == ALONE, &setup.sessions) {
                        sessions.answered(request, plan, at, by_new);
                    }
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
    pub(crate) fn step(&mut self) -> Result<(), SimError> {
        let now = self.now;
        self.router.now = now;
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
        } else if let Some(arrival) = self.upcoming.take_if(|arrival| arrival.at_ps <= now) {
            self.arrive(arrival);
            self.upcoming = self.traffic.next_arrival()?;
            self.prefixes.expect(self.traffic.prefix());
        } else if self.sessions.next_at() <= now
            && let Some(slot) = self.sessions.pop()
        {
            self.turn_due(slot);
        }
        Ok(())
    }

    pub(crate) fn timer(&mut self, timer: Timer) -> Result<(), SimError> {
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
                let (keyed, now) = (self.setup.keyed, self.now);
                if let Some(fault) = self.setup.faults.loses(keyed, replica, command.id.0, now) {
                    let name = self.setup.names.get(usize::from(replica)).map_or("", String::as_str);
                    self.fault_log.befalls(fault, now, name);
                    return Ok(());
                }
                self.tell(Event::Outcome { id: command.id, outcome: reply })
            }
            Timer::Approve => self.tell(Event::Operator(Operator::Approve)),
            Timer::Order(number) => {
                self.orders_left -= 1;
                let order = match self.setup.scenario.orders[number].order {
                    OrderKind::Pause => Operator::Pause,
                    OrderKind::Resume => Operator::Resume,
                    OrderKind::Approve => Operator::Approve,
                    OrderKind::Abort => Operator::Abort,
                    OrderKind::Rollback => Operator::Rollback,
                };
                self.tell(Event::Operator(order))
            }
            Timer::Fault { fault, replica } => {
                self.befall(fault, replica);
                Ok(())
            }
            Timer::FaultEnds { fault, replica } => {
                self.fault_ends(fault, replica);
                Ok(())
            }
            Timer::Deaf { replica, number } => {
                self.deaf(replica, number);
                Ok(())
            }
            Timer::Ramp { replica, since } => {
                self.ramp(replica, since);
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
    pub(crate) fn tick(&mut self) -> Result<(), SimError> {
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
            self.sessions.settle();
        }
        if self.driver.as_ref().is_some_and(|driver| driver.over.is_none()) {
            self.report_figures()?;
            self.report_evidence()?;
        }
        let rollout_over = self.driver.as_ref().is_none_or(|driver| driver.over.is_some());
        let idle = self.upcoming.is_none() && self.requests.is_empty() && self.sessions.is_empty();
        // A rollout that has ended takes no orders any more.
        let awaited = self.orders_left > 0
            && self.driver.as_ref().is_some_and(|driver| driver.state() == RolloutState::Held);
        if idle && rollout_over && !awaited {
            self.finished = true;
        } else {
            self.timers.set(self.now + TICK_PS, Timer::Tick);
        }
        Ok(())
    }

    fn report_evidence(&mut self) -> Result<(), SimError> {
        let evidence = self.driver.as_mut().and_then(|driver| driver.evidence.as_mut());
        match evidence.and_then(Evidence::tick) {
            Some(block) => self.tell(Event::Evidence { block }),
            None => Ok(()),
        }
    }

    /// The load, and what the plan's guards watch.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn report_figures(&mut self) -> Result<(), SimError> {
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
