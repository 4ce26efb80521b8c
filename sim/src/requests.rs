//! Logical requests under way: one slot each, from arrival to the end of the last attempt.

use slackwater_engine::{Ps, SequenceId};

use crate::router::Route;

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The replica was stopped under it, or died.
    Cut,
    /// The client or the balancer gave up.
    TimedOut,
    /// No replica was in rotation.
    NoReplica,
    /// The balancer still sends to a replica whose process is gone.
    Refused,
    /// It fits no replica.
    TooLong,
}

/// Where a logical request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Vacant,
    /// An attempt is at a replica.
    Sent,
    /// Waiting before the next attempt.
    BackingOff,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Its number among all logical requests, from 0, in the order of arrival.
    pub(crate) number: u64,
    /// Its key for draws, the same whatever came before it: its place in the traffic, or its session and turn.
    pub(crate) draws: u64,
    /// Its session's slot, or that it stands alone.
    pub(crate) session: u32,
    pub(crate) arrived: Ps,
    pub(crate) sent: Ps,
    /// When the present attempt's first token was computed; `Ps::MAX` before.
    pub(crate) first_token: Ps,
    pub(crate) sequence: Option<SequenceId>,
    pub(crate) input: u32,
    /// As the old version would generate.
    pub(crate) output: u32,
    /// As the version at hand generates.
    pub(crate) output_now: u32,
    /// Of these, the ones generated before anything is streamed.
    pub(crate) silent: u32,
    /// From a token computed to the client having it.
    pub(crate) outbound: Ps,
    pub(crate) route: Route,
    /// Phase in which it arrived.
    pub(crate) phase: u16,
    /// Attempts before the present one.
    pub(crate) retries: u16,
    /// Tells one attempt in this slot from the next.
    pub(crate) stamp: u32,
    pub(crate) state: State,
}

#[cfg(test)]
impl Request {
    /// One that was never sent anywhere, for tests of what is told from its lengths.
    pub(crate) fn unsent() -> Self {
        Self {
            number: 0,
            draws: 0,
            session: u32::MAX,
            arrived: 0,
            sent: 0,
            first_token: Ps::MAX,
            sequence: None,
            input: 1,
            output: 1,
            output_now: 1,
            silent: 0,
            outbound: 0,
            route: Route::NOWHERE,
            phase: 0,
            retries: 0,
            stamp: 0,
            state: State::BackingOff,
        }
    }
}

/// A slab of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    slots: Vec<Request>,
    vacant: Vec<u32>,
}

impl Requests {
    #[inline]
    pub(crate) fn insert(&mut self, mut request: Request) -> u32 {
        if let Some(slot) = self.vacant.pop() {
            let place = &mut self.slots[slot as usize];
            request.stamp = place.stamp.wrapping_add(1);
            *place = request;
            slot
        } else {
            self.slots.push(request);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 requests at once")
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Request {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Request {
        &mut self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let request = &mut self.slots[slot as usize];
        request.state = State::Vacant;
        request.stamp = request.stamp.wrapping_add(1);
        self.vacant.push(slot);
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Whether none is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests under way.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter(|request| request.state != State::Vacant)
    }
}
