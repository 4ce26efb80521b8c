//! The load balancer: which replica an attempt goes to, and what it believes is in flight where.

use slackwater_scenarios::{Router as RouterSpec, RouterPolicy};

mod affinity;

use affinity::Affinity;
pub(crate) use affinity::Caller;

/// Where an attempt was sent, and what the balancer remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) replica: u16,
    /// The worker process that counts it (nginx), and the reload since which that worker runs.
    worker: u16,
    generation: u32,
}

impl Route {
    /// Of an attempt that is not on its way.
    pub(crate) const NOWHERE: Self = Self { replica: u16::MAX, worker: 0, generation: 0 };
}

#[derive(Debug, Clone)]
pub(crate) struct Router {
    policy: RouterPolicy,
    /// Whether each replica is in rotation by order, whatever the health checks say.
    wanted: Vec<bool>,
    /// Whether the balancer's own health check has taken it out.
    failing: Vec<bool>,
    /// Replicas that are sent requests, ascending: wanted and not failing.
    eligible: Vec<u16>,
    /// In flight at each replica, as it really is.
    in_flight: Vec<u32>,
    /// What each worker process counts at each replica, `workers * replicas` long; nginx only.
    counts: Vec<u32>,
    workers: u16,
    /// Last pick of each worker, as a place in `eligible`: ties go round.
    last: Vec<usize>,
    generation: u32,
    affinity: Affinity,
}

impl Router {
    /// `kv_blocks`: how many blocks a replica's cache has.
    pub(crate) fn new(spec: &RouterSpec, replicas: u16, kv_blocks: usize) -> Self {
        // With a shared zone all workers see one set of counts, as if there were one worker.
        let workers = match spec.policy {
            RouterPolicy::NginxLeastConn if !spec.zone => {
                u16::try_from(spec.workers.max(1)).unwrap_or(u16::MAX)
            }
            _ => 1,
        };
        let nginx = spec.policy == RouterPolicy::NginxLeastConn;
        Self {
            policy: spec.policy,
            wanted: vec![true; usize::from(replicas)],
            failing: vec![false; usize::from(replicas)],
            eligible: (0..replicas).collect(),
            in_flight: vec![0; usize::from(replicas)],
            counts: if nginx { vec![0; usize::from(workers) * usize::from(replicas)] } else { Vec::new() },
            workers,
            last: vec![usize::from(replicas).saturating_sub(1); usize::from(workers)],
            generation: 0,
            affinity: Affinity::new(spec.sticky, spec.policy, spec.prefix_aware, replicas, kv_blocks),
        }
    }

    pub(crate) fn serving(&self) -> usize {
        self.eligible.len()
    }

    pub(crate) fn in_rotation(&self, replica: u16) -> bool {
        self.eligible.binary_search(&replica).is_ok()
    }

    pub(crate) fn in_flight(&self, replica: u16) -> u32 {
        self.in_flight[usize::from(replica)]
    }

    pub(crate) fn is_nginx(&self) -> bool {
        self.policy == RouterPolicy::NginxLeastConn
    }

    /// Whether it is in rotation by order, though its health check may have taken it out.
    pub(crate) fn is_wanted(&self, replica: u16) -> bool {
        self.wanted[usize::from(replica)]
    }

    /// Puts a replica into rotation or takes it out. For nginx that is a reload: new workers with fresh counts.
    pub(crate) fn set_rotation(&mut self, replica: u16, wanted: bool) {
        if std::mem::replace(&mut self.wanted[usize::from(replica)], wanted) == wanted {
            return;
        }
        self.settle(replica);
        self.generation += 1;
        self.counts.fill(0);
    }

    /// The balancer's own health check fails, or passes again. No reload.
    pub(crate) fn set_failing(&mut self, replica: u16, failing: bool) {
        self.failing[usize::from(replica)] = failing;
        self.settle(replica);
    }

    fn settle(&mut self, replica: u16) {
        let at = usize::from(replica);
        match (self.eligible.binary_search(&replica), self.wanted[at] && !self.failing[at]) {
            (Ok(place), false) => {
                self.eligible.remove(place);
                self.affinity.forget(replica);
            }
            (Err(place), true) => self.eligible.insert(place, replica),
            _ => {}
        }
    }

    /// Picks a replica; `random` are uniform bits of this attempt's own. `None`: no replica is in rotation.
    #[inline]
    pub(crate) fn pick(&mut self, random: u64) -> Option<Route> {
        let count = self.eligible.len();
        if count == 0 {
            return None;
        }
        let mut worker = 0;
        let place = match self.policy {
            RouterPolicy::RoundRobin => (self.last[0] + 1) % count,
            RouterPolicy::LeastConnections | RouterPolicy::PrefixAware => {
                self.least(0, |router, replica| router.in_flight[replica])
            }
            RouterPolicy::NginxLeastConn => {
                // The kernel gives connections to the workers without regard to their load.
                worker = below(random, u64::from(self.workers));
                let row = worker * self.in_flight.len();
                self.least(worker, |router, replica| router.counts[row + replica])
            }
            RouterPolicy::RandomTwoChoices => {
                let first = below(random, count as u64);
                // The second is another one, where there is another.
                let other = below(random.rotate_left(32), count as u64 - 1);
                let second = if count == 1 { first } else { other + usize::from(other >= first) };
                let load = |place: usize| self.in_flight[usize::from(self.eligible[place])];
                if load(second) < load(first) { second } else { first }
            }
        };
        Some(self.take(worker, place))
    }

    /// The attempt goes to the replica at this place in `eligible`.
    #[inline]
    fn take(&mut self, worker: usize, place: usize) -> Route {
        self.last[worker] = place;
        let replica = self.eligible[place];
        self.in_flight[usize::from(replica)] += 1;
        if self.is_nginx() {
            self.counts[worker * self.in_flight.len() + usize::from(replica)] += 1;
        }
        // Below `workers`, a u16.
        #[allow(clippy::cast_possible_truncation)]
        let worker = worker as u16;
        Route { replica, worker, generation: self.generation }
    }

    /// The place in `eligible` with the least load, the first after the last pick among equals.
    #[inline]
    fn least(&self, worker: usize, load: impl Fn(&Self, usize) -> u32) -> usize {
        let count = self.eligible.len();
        let mut place = self.last[worker] + 1;
        if place >= count {
            place = 0;
        }
        let (mut best, mut best_load) = (place, u32::MAX);
        for _ in 0..count {
            let load = load(self, usize::from(self.eligible[place]));
            if load < best_load {
                (best, best_load) = (place, load);
            }
            place += 1;
            if place == count {
                place = 0;
            }
        }
        best
    }

    /// An attempt is no longer in flight.
    #[inline]
    pub(crate) fn release(&mut self, route: Route) {
        let replica = usize::from(route.replica);
        self.in_flight[replica] -= 1;
        // Workers of before a reload count for themselves only.
        if self.is_nginx() && route.generation == self.generation {
            self.counts[usize::from(route.worker) * self.in_flight.len() + replica] -= 1;
        }
    }
}

/// A number below `bound` from uniform bits (multiply and shift; the bias of 2^-32 is far below any effect here).
#[inline]
#[allow(clippy::cast_possible_truncation)] // below `bound`
fn below(random: u64, bound: u64) -> usize {
    (((random & 0xffff_ffff) * bound) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(policy: RouterPolicy, workers: u32) -> Router {
        Router::new(&RouterSpec { policy, workers, ..RouterSpec::default() }, 3, 100)
    }

    #[test]
    fn ties_go_round() {
        let mut router = router(RouterPolicy::LeastConnections, 1);
        let picks: Vec<u16> = (0..4).map(|_| router.pick(0).unwrap().replica).collect();
        assert_eq!(picks, [0, 1, 2, 0]);
    }

    #[test]
    fn the_least_loaded_is_picked_and_the_one_taken_out_never() {
        let mut router = router(RouterPolicy::LeastConnections, 1);
        let first: Vec<Route> = (0..3).map(|_| router.pick(0).unwrap()).collect();
        router.release(first[1]);
        assert_eq!(router.pick(0).unwrap().replica, 1);
        router.set_rotation(1, false);
        for _ in 0..10 {
            assert_ne!(router.pick(0).unwrap().replica, 1);
        }
        router.set_rotation(0, false);
        router.set_rotation(2, false);
        assert_eq!(router.pick(0), None);
    }

    #[test]
    fn nginx_forgets_its_counts_at_a_reload() {
        let mut router = router(RouterPolicy::NginxLeastConn, 1);
        let before: Vec<Route> = (0..30).map(|_| router.pick(7).unwrap()).collect();
        router.set_rotation(2, false);
        // Ends of requests from before the reload do not disturb the new counts.
        for route in before {
            router.release(route);
        }
        assert_eq!(router.counts, [0, 0, 0]);
        assert_eq!(router.in_flight, [0, 0, 0]);
    }

    #[test]
    fn two_choices_are_two() {
        let mut router = router(RouterPolicy::RandomTwoChoices, 1);
        router.in_flight = vec![5, 0, 5];
        for random in 0..64_u64 {
            let bits = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let first = below(bits, 3);
            let route = router.pick(bits).unwrap();
            if first == 1 {
                assert_eq!(route.replica, 1);
            }
            router.release(route);
        }
    }
}
