//! Clients: they send what the traffic brings, give up, and try again.

use std::sync::Arc;

use rand::Rng;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use slackwater_engine::{Ps, Request as EngineRequest, Stop};
use slackwater_scenarios::RouterPolicy;
use slackwater_scenarios::traffic::{Arrival, Traffic};

use crate::requests::{Failure, Request, State};
use crate::router::{Caller, Route};
use crate::sessions::ALONE;
use crate::world::{Timer, World};

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
    pub(crate) fn attempt_failed(&mut self, slot: u32, failure: Failure) {
        let now = self.now;
        let request = self.requests.get_mut(slot);
        self.books.attempt_failed(request, failure, now);
        self.last_activity = self.last_activity.max(now);
        let begun = request.first_token != Ps::MAX;
        let retries = &self.setup.retries;
        if begun || failure == Failure::TooLong || u32::from(request.retries) >= retries.max {
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
