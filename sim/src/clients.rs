//! Clients: they send what the traffic brings, give up, and try again.

use rand::Rng;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use slackwater_engine::{Ps, Request as EngineRequest, Stop};
use slackwater_scenarios::Retries;
use slackwater_scenarios::traffic::{Arrival, Traffic};

use crate::requests::{Failure, Request, State};
use crate::router::Route;
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
        let number = self.number;
        self.number += 1;
        self.books.arrival(self.now, arrival.input_tokens, arrival.output_tokens);
        self.retry_budget = self.retry_budget.saturating_add(self.setup.budget_share).min(BUDGET_MOST);
        let slot = self.requests.insert(Request {
            number,
            arrived: self.now,
            sent: self.now,
            first_token: Ps::MAX,
            sequence: None,
            input: arrival.input_tokens,
            output: arrival.output_tokens,
            output_now: arrival.output_tokens,
            silent: 0,
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
    pub(crate) fn send(&mut self, slot: u32) {
        let now = self.now;
        let setup = &*self.setup;
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
        if let Some(silent) = &version.delays.silent_tokens {
            request.silent =
                silent.draw(request.output_now, &mut setup.keyed.stream("silent", &[request.number]));
        }
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
            self.books.failed(request, failure, now);
            self.requests.remove(slot);
            return;
        }
        let ids = [request.number, u64::from(request.retries)];
        let wait = retries.wait(u32::from(request.retries), self.setup.keyed.uniform("back-off", &ids));
        request.state = State::BackingOff;
        self.timers.set(now.saturating_add(wait.as_picos()), Timer::Retry(slot));
    }
}

/// `value * (1 - jitter + 2 * jitter * u)`, `u` from 32 uniform bits.
#[inline]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn jittered(value: Ps, jitter: f64, bits: u64) -> Ps {
    let uniform = bits as f64 / 4_294_967_296.0;
    // Not negative: the scenario keeps jitter at or below 1.
    (value as f64 * (1.0 - jitter + 2.0 * jitter * uniform)) as Ps
}
