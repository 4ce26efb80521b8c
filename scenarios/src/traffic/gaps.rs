//! Gaps between arrivals in units of the mean gap: one renewal process, or many clients merged.
//!
//! ```text
//! client k: gaps of mean 1/share ─┐
//! client l: gaps of mean 1/share ─┼─► heap by time ─► differences: gaps of mean 1
//! ...                             ┘
//! ```
//!
//! Processes are met in their course, not at a renewal: they began long ago, and what is left over of the gap that covers
//! time 0 is the first one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_distr::{Distribution, Exp1, Gamma};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::bursts::{Arrivals, Bursts, Clients, GapShape};
use super::normal::{inverse_normal, ln_gamma};
use crate::random::Keyed;

/// A distribution of gaps with mean 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    Exponential,
    /// Variance is the scale.
    Gamma(Gamma<f64>),
    Weibull {
        /// One over the shape.
        power: f64,
        scale: f64,
    },
}

impl Law {
    /// A law with this coefficient of variation, which lies in what validation lets through.
    pub(crate) fn new(shape: GapShape, cv: f64) -> Self {
        match shape {
            // Mean 1, variance cv^2. A checked scenario has a cv that Gamma takes; one built by hand may not.
            GapShape::Gamma => Gamma::new(1.0 / (cv * cv), cv * cv).map_or(Self::Exponential, Self::Gamma),
            GapShape::Weibull => {
                let power = weibull_power(cv);
                Self::Weibull { power, scale: (-ln_gamma(1.0 + power)).exp() }
            }
        }
    }

    #[inline]
    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match self {
            Self::Exponential => Exp1.sample(random),
            Self::Gamma(gamma) => gamma.sample(random),
            Self::Weibull { power, scale } => {
                let exponential: f64 = Exp1.sample(random);
                scale * exponential.powf(*power)
            }
        }
    }

    /// What is left of the gap that covers a time chosen without regard to it: a uniform part of one that is met in
    /// proportion to its length.
    fn left_over(&self, cv: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
        let part: f64 = random.random();
        let whole = match self {
            Self::Exponential => return self.draw(random),
            // x times Gamma's density is that of one more in shape; a power of Weibull is exponential, so there too.
            Self::Gamma(_) => {
                let biased = Gamma::new(1.0 / (cv * cv) + 1.0, cv * cv);
                biased.map_or(1.0, |biased| biased.sample(random))
            }
            Self::Weibull { power, scale } => {
                let biased = Gamma::new(1.0 + power, 1.0);
                biased.map_or(1.0, |biased| scale * biased.sample(random).powf(*power))
            }
        };
        part * whole
    }
}

/// One over the shape of the Weibull distribution with this coefficient of variation, by bisection: it grows with it.
fn weibull_power(cv: f64) -> f64 {
    let wanted = (cv * cv).ln_1p();
    let (mut low, mut high) = (1e-3, 64.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if ln_gamma(1.0 + 2.0 * middle) - 2.0 * ln_gamma(1.0 + middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Gaps of mean 1, one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Gaps {
    One { law: Law, random: Xoshiro256PlusPlus, first: Option<f64> },
    Many(Merged),
}

impl Gaps {
    pub(crate) fn new(bursts: &Bursts, keyed: Keyed) -> Self {
        if let Some(clients) = &bursts.clients {
            return Self::Many(Merged::new(clients, keyed));
        }
        let mut random = keyed.stream("traffic.gaps", &[]);
        let (law, burn_in) = match bursts.arrivals {
            Arrivals::Poisson => (Law::Exponential, 0.0),
            Arrivals::GammaCv(cv) => (Law::new(GapShape::Gamma, cv), 50.0 * (cv * cv).max(1.0)),
            Arrivals::WeibullCv(cv) => {
                let law = Law::new(GapShape::Weibull, cv);
                let first = law.left_over(cv, &mut random);
                return Self::One { law, random, first: Some(first) };
            }
        };
        // Exponential gaps have no memory and need none of this.
        let mut before = law.draw(&mut random) - burn_in;
        while before < 0.0 {
            before += law.draw(&mut random);
        }
        Self::One { law, random, first: Some(before) }
    }

    #[inline]
    pub(crate) fn draw(&mut self) -> f64 {
        match self {
            Self::One { law, random, first } => match first.take() {
                Some(first) => first,
                None => law.draw(random),
            },
            Self::Many(merged) => merged.next_gap(),
        }
    }
}

#[derive(Clone, Debug)]
struct Client {
    law: Law,
    mean: f64,
    random: Xoshiro256PlusPlus,
}

/// The next request of each client, in a heap.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    clients: Vec<Client>,
    /// The bits of a time that is not negative are in its order.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    now: f64,
}

/// Times are counted anew from here on, so that they keep their digits.
const ANEW: f64 = 1e6;

impl Merged {
    fn new(spec: &Clients, keyed: Keyed) -> Self {
        let mut weights: Vec<(u32, f64)> =
            (0..spec.count).map(|client| (client, f64::from(client + 1).powf(-spec.zipf))).collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        weights.iter_mut().for_each(|(_, weight)| *weight /= total);
        let mut clients = Vec::with_capacity(weights.len());
        let mut due = BinaryHeap::with_capacity(weights.len());
        let cvs = variations(spec, &weights, keyed);
        for ((client, share), cv) in weights.into_iter().zip(cvs) {
            let mut random = keyed.stream("traffic.client", &[u64::from(client)]);
            let law = Law::new(spec.shape, cv);
            let mean = 1.0 / share;
            let first = mean * law.left_over(cv, &mut random);
            due.push(Reverse((first.to_bits(), client)));
            clients.push(Client { law, mean, random });
        }
        Self { clients, due, now: 0.0 }
    }

    fn next_gap(&mut self) -> f64 {
        let Some(mut top) = self.due.peek_mut() else { return f64::INFINITY };
        let Reverse((bits, place)) = *top;
        let at = f64::from_bits(bits);
        // Clients are numbered by their places.
        let client = &mut self.clients[place as usize];
        let next = at + client.mean * client.law.draw(&mut client.random);
        *top = Reverse((next.to_bits(), place));
        drop(top);
        let gap = at - self.now;
        self.now = at;
        if self.now > ANEW {
            self.count_anew();
        }
        gap
    }

    fn count_anew(&mut self) {
        let now = std::mem::take(&mut self.now);
        let due = std::mem::take(&mut self.due);
        let earlier =
            |Reverse((bits, client))| Reverse(((f64::from_bits(bits) - now).max(0.0).to_bits(), client));
        self.due = due.into_iter().map(earlier).collect();
    }
}

/// Each client's coefficient of variation. The quantiles are dealt out over the requests, in an order of the clients that
/// is drawn: whatever the draw, the distribution over requests is close to the one asked for.
fn variations(spec: &Clients, weights: &[(u32, f64)], keyed: Keyed) -> Vec<f64> {
    let Some(p95) = spec.cv_p95 else { return vec![spec.cv; weights.len()] };
    const Z95: f64 = 1.644_853_626_951_472_2;
    let sigma = (p95 / spec.cv).ln() / Z95;
    let mut order: Vec<(u32, f64)> = weights.to_vec();
    order.sort_unstable_by_key(|(client, _)| keyed.bits("traffic.client-cv", &[u64::from(*client)]));
    let mut below = 0.0;
    let mut found = vec![spec.cv; weights.len()];
    for (client, share) in order {
        let quantile = inverse_normal(below + share / 2.0);
        below += share;
        // As bounded as a cv that is given.
        found[client as usize] = (spec.cv * (sigma * quantile).exp()).clamp(MOST_EVEN, MOST_BURSTY);
    }
    found
}

/// Coefficients of variation of a client.
pub(crate) const MOST_EVEN: f64 = 0.05;
/// The largest; clients with 57 were measured.
pub(crate) const MOST_BURSTY: f64 = 100.0;
