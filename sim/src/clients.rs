//! Clients: they send what the traffic brings, give up, and try again.

use std::sync::Arc;

use rand::Rng;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use slackwater_engine::{Ps, Request as EngineRequest, Stop};
use slackwater_scenarios::traffic::{Arrival, Traffic};
use slackwater_scenarios::{Retries, RouterPolicy};

use crate::requests::{Failure, Request, State};
use crate::router::{Caller, Route};
use crate::sessions::ALONE;
use crate::world::{Timer, World};

/// One retry of the budget, and the most that is saved up.
const BUDGET_ONE: u64 = 1_000_000;
const BUDGET_MOST: u64 = Retries::SAVED as u64 * BUDGET_ONE;

/// What an arrival adds to the budget.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 100
pub(crate) fn budget_share(retries: &Retries) -> u64 {
    (retries.budget.unwrap_or(0.0) * BUDGET_ONE as f64).round() as u64
}

impl<T: Traffic> World<T> {
    pub(crate) fn arrive(&mut self, arrival: Arrival) {
        let index = self.arrivals;
        self.arrivals += 1;
        let session = match &self.setup.sessions {
            Some(plan) => self.sessions.begin(index, plan),
            None => ALONE,
        };
        self.request(session, index, arrival.input_tokens, arrival.output_tokens);
    }

    /// The next turn of a session is due. That of a broken one is a logical request that nobody sends.
    pub(crate) fn turn_due(&mut self, slot: u32) {
        let setup = Arc::clone(&self.setup);
        let Some(plan) = &setup.sessions else { return };
        let session = self.sessions.get(slot);
        if session.broken {
            self.books.never_sent(self.number, session, self.now);
            self.number += 1;
            self.last_activity = self.last_activity.max(self.now);
            self.sessions.failed(slot, plan, self.now);
            return;
        }
        let ids = [session.number, u64::from(session.turn)];
        let turn = plan.turn(session.number, session.turn);
        let prompt = self.sessions.prompt(slot, plan, turn.new_tokens);
        self.request(slot, plan.identity("session.attempts", &ids), prompt, turn.output_tokens);
    }

    /// A logical request begins; `draws` is its key for all draws made for its attempts.
    fn request(&mut self, session: u32, draws: u64, input: u32, output: u32) {
        let number = self.number;
        self.number += 1;
        self.books.arrival(self.now, input, output);
        self.retry_budget = self.retry_budget.saturating_add(self.setup.budget_share).min(BUDGET_MOST);
        let slot = self.requests.insert(Request {
            number,
            draws,
            session,
            arrived: self.now,
            sent: self.now,
            first_token: Ps::MAX,
            sequence: None,
            input,
            output,
            output_now: output,
            silent: 0,
            outbound: 0,
            route: Route::NOWHERE,
            phase: self.books.phase(),
            retries: 0,
            stamp: 0,
            state: State::BackingOff,
        });
        if session == ALONE {
            self.prefixes.arrived(slot);
        }
        self.send(slot);
    }

    /// Picks a replica for the attempt of the request in this slot, `random` being bits of its own.
    #[inline]
    fn route(&mut self, slot: u32, random: u64) -> Option<Route> {
        if !self.setup.affinity {
            return self.router.pick(random);
        }
        let setup = &*self.setup;
        let request = self.requests.get(slot);
        let session = (request.session != ALONE).then(|| self.sessions.get(request.session));
        let block_size = setup.from.config.block_size;
        let blocks = match setup.router.policy {
            RouterPolicy::PrefixAware => {
                let plan = setup.sessions.as_ref();
                self.prefixes.ids(slot, request, &self.sessions, plan, block_size, request.input)
            }
            _ => &[],
        };
        let caller = Caller {
            random,
            cookie: session
                .zip(setup.sessions.as_ref())
                .map(|(session, plan)| plan.identity("session.cookie", &[session.number])),
            served_by_new: session.and_then(|session| session.served_by_new),
            blocks,
            prompt_blocks: f64::from(request.input) / f64::from(block_size),
        };
        self.router.pick_for(&caller)
    }

    /// Sends an attempt of the request in this slot.
    #[inline]
    pub(crate) fn send(&mut self, slot: u32) {
        let now = self.now;
        let request = self.requests.get_mut(slot);
        request.sent = now;
        request.first_token = Ps::MAX;
        request.state = State::Sent;
        request.route = Route::NOWHERE;
        request.sequence = None;
        self.books.attempts.sent += 1;
        if request.retries > 0 {
            self.books.retried(now);
        }
        let id = request.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(request.retries) << 48);
        let random = SplitMix64::seed_from_u64(self.setup.route_key ^ id).next_u64();
        let Some(route) = self.route(slot, random) else {
            self.attempt_failed(slot, Failure::NoReplica);
            return;
        };
        let replica = usize::from(route.replica);
        if !self.stations[replica].is_up() {
            self.router.release(route);
            self.attempt_failed(slot, Failure::Refused);
            return;
        }
        let setup = &*self.setup;
        let request = self.requests.get_mut(slot);
        request.route = route;
        let version = setup.version(self.stations[replica].version);
        request.output_now = version.output_tokens(request.output);
        request.silent = match &version.delays.silent_tokens {
            Some(silent) => {
                silent.draw(request.output_now, &mut setup.keyed.stream("silent", &[request.draws]))
            }
            None => 0,
        };
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
        let ready_at = now.saturating_add(inbound);
        let accepted = if version.config.prefix_caching {
            let (plan, block_size) = (setup.sessions.as_ref(), version.config.block_size);
            let tokens = request.input.saturating_add(request.output_now);
            let blocks = self.prefixes.ids(slot, request, &self.sessions, plan, block_size, tokens);
            engine.submit_with_blocks(ready_at, submitted, blocks)
        } else {
            engine.submit(ready_at, submitted)
        };
        match accepted {
            Ok(sequence) => {
                request.sequence = Some(sequence);
                self.client_timeouts.push_back((now.saturating_add(setup.timeout_ps), slot, request.stamp));
                if let Some(read_timeout) = setup.read_timeout_ps {
                    self.read_timeouts.push_back((now.saturating_add(read_timeout), slot, request.stamp));
                }
                self.next_event[replica] = engine.next_event().unwrap_or(Ps::MAX);
                if let Some(reach) = &mut self.reach {
                    let in_flight = self.router.in_flight(route.replica);
                    reach.meet(self.stations[replica].version, request.input, request.output_now, in_flight);
                }
            }
            Err(_) => {
                self.router.release(route);
                request.route = Route::NOWHERE;
                self.attempt_failed(slot, Failure::TooLong);
            }
        }
    }

    /// The client's time-out, or the balancer's wait for the first byte, is over for the attempt `stamp` in this slot.
    pub(crate) fn give_up(&mut self, slot: u32, stamp: u32, first_byte: bool) {
        let request = self.requests.get(slot);
        if request.stamp != stamp || request.state != State::Sent {
            return;
        }
        let (route, sequence, silent) = (request.route, request.sequence, request.silent);
        let replica = usize::from(route.replica);
        if first_byte {
            let engine = &self.engines[replica];
            let seen = if silent == 0 {
                request.first_token != Ps::MAX
            } else {
                let emitted = sequence.and_then(|sequence| engine.emitted(sequence, self.now));
                emitted.is_none_or(|tokens| tokens > silent)
            };
            if seen {
                return;
            }
            self.books.read_timed_out += 1;
        }
        if let Some(sequence) = sequence {
            let tokens = self.engines[replica].cancel(self.now, sequence);
            self.next_event[replica] = self.engines[replica].next_event().unwrap_or(Ps::MAX);
            self.forget_silence(slot, tokens.unwrap_or(u32::MAX));
        }
        self.router.release(route);
        self.attempt_failed(slot, Failure::TimedOut);
    }

    /// An attempt ends after so many tokens: if all were silent, its client has seen nothing of an answer.
    pub(crate) fn forget_silence(&mut self, slot: u32, tokens: u32) {
        let request = self.requests.get_mut(slot);
        if request.silent > 0 && tokens <= request.silent {
            request.first_token = Ps::MAX;
        }
    }

    /// An attempt failed now. The client tries again unless the answer had begun (and it minds), the request is hopeless,
    /// it has tried often enough, or all clients' budget is spent.
    pub(crate) fn attempt_failed(&mut self, slot: u32, failure: Failure) {
        let now = self.now;
        let request = self.requests.get_mut(slot);
        self.books.attempt_failed(request, failure, now);
        if request.route != Route::NOWHERE
            && let Some(evidence) = self.driver.as_mut().and_then(|driver| driver.evidence.as_mut())
        {
            evidence.failed(self.stations[usize::from(request.route.replica)].version);
        }
        self.last_activity = self.last_activity.max(now);
        let begun = request.first_token != Ps::MAX;
        let retries = &self.setup.retries;
        let hopeless = failure == Failure::TooLong || (begun && !retries.after_first_token);
        let mut again = !hopeless && u32::from(request.retries) < retries.max;
        if again && retries.budget.is_some() {
            again = self.retry_budget >= BUDGET_ONE;
            if again {
                self.retry_budget -= BUDGET_ONE;
            } else {
                self.books.out_of_budget += 1;
            }
        }
        if !again {
            self.books.failed(request, &self.sessions, failure, now);
            if let (false, Some(plan)) = (request.session == ALONE, &self.setup.sessions) {
                self.sessions.failed(request.session, plan, now);
            }
            self.requests.remove(slot);
            return;
        }
        let ids = [request.draws, u64::from(request.retries)];
        let wait = retries.wait(u32::from(request.retries), self.setup.keyed.uniform("back-off", &ids));
        request.state = State::BackingOff;
        self.timers.set(now.saturating_add(wait.as_picos()), Timer::Retry(slot));
    }
}

/// `value * (1 - jitter + 2 * jitter * u)`, `u` from 32 uniform bits.
#[inline]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn jittered(value: Ps, jitter: f64, bits: u64) -> Ps {
    let uniform = bits as f64 / 4_294_967_296.0;
    // Not negative: the scenario keeps jitter at or below 1.
    (value as f64 * (1.0 - jitter + 2.0 * jitter * uniform)) as Ps
}
