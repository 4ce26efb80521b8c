//! The load balancer: which replica an attempt goes to, and what it believes is in flight where.
//!
//! What the real ones do, by their sources:
//! - HAProxy `leastconn` (`src/lb_fwlc.c`, 2.2 to 3.1): servers are sorted by `in flight == 0 ? 0 : (in flight + 1) *
//!   4096 / eweight` in whole numbers, equal ones in the order in which they came to that key; a server moves when its key
//!   changes. 3.2 and later pick among equals at random. `slowstart` (`server_recalc_eweight` in `src/server.c`,
//!   `server_warmup` in `src/checks.c`): the weight is scaled by `(16 * elapsed + slowstart) / slowstart` sixteenths, looked
//!   at again after `slowstart / 20`, at least 1 s. The weight is taken to be written as 100, so that percents are whole.
//! - nginx `least_conn` (`ngx_http_upstream_least_conn_module.c`): least `conns / weight`; among equals smooth weighted
//!   round robin, whose state begins afresh with the workers of a reload.

use slackwater_engine::Ps;
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
    /// Percent of the usual weight by replica, at least 1, and whether any is not 100.
    weights: Vec<u32>,
    weighted: bool,
    /// Sixteenths of its weight that a replica has for now (HAProxy's slow start).
    ramp: Vec<u32>,
    /// HAProxy only: each replica's key, when it came to it, and in which order at that time: what is sent or ordered has a
    /// running number, what ends comes after. So it does not matter in which order ends at different replicas are told.
    keys: Vec<(u32, Ps, u64)>,
    queued: u64,
    /// The time of what is told next; set before it is.
    pub(crate) now: Ps,
    /// Smooth weighted round robin's state, as long as `counts` (nginx) or a value a replica (round robin with weights).
    smooth: Vec<i64>,
    affinity: Affinity,
}

/// HAProxy's largest effective weight, by which its keys are scaled (`SRV_EWGHT_MAX`).
const HAPROXY_SCALE: u32 = 4096;

/// Sixteenths of a weight that is not growing (`BE_WEIGHT_SCALE`).
pub(crate) const WHOLE: u32 = 16;

impl Router {
    /// `wanted`: which replicas are in rotation at first; `kv_blocks`: how many blocks a replica's cache has.
    pub(crate) fn new(spec: &RouterSpec, wanted: Vec<bool>, kv_blocks: usize) -> Self {
        let count = wanted.len();
        // With a shared zone all workers see one set of counts, as if there were one worker.
        let workers = match spec.policy {
            RouterPolicy::NginxLeastConn if !spec.zone => {
                u16::try_from(spec.workers.max(1)).unwrap_or(u16::MAX)
            }
            _ => 1,
        };
        let nginx = spec.policy == RouterPolicy::NginxLeastConn;
        Self {
            weights: vec![100; count],
            weighted: false,
            ramp: vec![WHOLE; count],
            keys: (0..count as u64).map(|number| (0, 0, number)).collect(),
            now: 0,
            queued: count as u64,
            smooth: vec![0; usize::from(workers) * count],
            policy: spec.policy,
            failing: vec![false; count],
            eligible: (0..=u16::MAX)
                .zip(&wanted)
                .filter(|(_, wanted)| **wanted)
                .map(|(replica, _)| replica)
                .collect(),
            in_flight: vec![0; count],
            counts: if nginx { vec![0; usize::from(workers) * count] } else { Vec::new() },
            workers,
            last: vec![count.saturating_sub(1); usize::from(workers)],
            wanted,
            generation: 0,
            affinity: Affinity::new(
                spec.sticky,
                spec.policy,
                spec.prefix_aware,
                u16::try_from(count).unwrap_or(u16::MAX),
                kv_blocks,
            ),
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
        self.reload();
    }

    /// nginx takes a change by a reload: new workers with fresh counts.
    fn reload(&mut self) {
        self.generation += 1;
        self.counts.fill(0);
        if self.is_nginx() {
            self.smooth.fill(0);
        }
    }

    /// Gives a replica this many percent of the usual weight.
    pub(crate) fn set_weight(&mut self, replica: u16, percent: u8) {
        // No weight at all would be a drain, which has a command of its own.
        let percent = u32::from(percent).max(1);
        if std::mem::replace(&mut self.weights[usize::from(replica)], percent) == percent {
            return;
        }
        self.weighted = self.weights.iter().any(|weight| *weight != 100);
        self.reload();
        self.requeue(replica);
    }

    /// Slow start: a replica has so many sixteenths of its weight for now.
    pub(crate) fn set_ramp(&mut self, replica: u16, sixteenths: u32) {
        self.ramp[usize::from(replica)] = sixteenths.clamp(1, WHOLE);
        self.requeue(replica);
    }

    /// HAProxy: moves the replica to where its key belongs, behind those that are there.
    #[inline]
    fn requeue(&mut self, replica: u16) {
        self.queued += 1;
        self.move_to_its_key(replica, self.queued);
    }

    #[inline]
    fn move_to_its_key(&mut self, replica: u16, order: u64) {
        let at = usize::from(replica);
        let weight = self.weights[at] * self.ramp[at];
        let key = match self.in_flight[at] {
            0 => 0,
            count => (count + 1).saturating_mul(HAPROXY_SCALE) / weight,
        };
        if self.keys[at].0 != key {
            self.keys[at] = (key, self.now, order);
        }
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
            (Err(place), true) => {
                self.eligible.insert(place, replica);
                // It was in no queue: it goes behind its equals.
                self.queued += 1;
                self.keys[at] = (self.keys[at].0, self.now, self.queued);
            }
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
            RouterPolicy::RoundRobin if self.weighted => self.smoothly(0, 0, |_, _| true),
            RouterPolicy::RoundRobin => (self.last[0] + 1) % count,
            RouterPolicy::LeastConnections | RouterPolicy::PrefixAware if self.weighted => {
                self.least(0, Self::load_by_weight)
            }
            RouterPolicy::LeastConnections | RouterPolicy::PrefixAware => {
                self.least(0, |router, replica| u64::from(router.in_flight[replica]))
            }
            RouterPolicy::HaproxyLeastconn => self.first_in_queue(),
            RouterPolicy::NginxLeastConn => {
                // The kernel gives connections to the workers without regard to their load.
                worker = below(random, u64::from(self.workers));
                self.nginx_least(worker)
            }
            RouterPolicy::RandomTwoChoices => {
                let first = below(random, count as u64);
                // The second is another one, where there is another.
                let other = below(random.rotate_left(32), count as u64 - 1);
                let second = if count == 1 { first } else { other + usize::from(other >= first) };
                let load = |place: usize| self.load_by_weight(usize::from(self.eligible[place]));
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
        match self.policy {
            RouterPolicy::NginxLeastConn => {
                self.counts[worker * self.in_flight.len() + usize::from(replica)] += 1;
            }
            RouterPolicy::HaproxyLeastconn => self.requeue(replica),
            _ => {}
        }
        // Below `workers`, a u16.
        #[allow(clippy::cast_possible_truncation)]
        let worker = worker as u16;
        Route { replica, worker, generation: self.generation }
    }

    /// The place in `eligible` with the least load, the first after the last pick among equals.
    #[inline]
    fn least(&self, worker: usize, load: impl Fn(&Self, usize) -> u64) -> usize {
        let count = self.eligible.len();
        let mut place = self.last[worker] + 1;
        if place >= count {
            place = 0;
        }
        let (mut best, mut best_load) = (place, u64::MAX);
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

    /// In flight over weight; one more than there is, so that an idle replica of small weight is not the least loaded.
    #[inline]
    fn load_by_weight(&self, replica: usize) -> u64 {
        let load = u64::from(self.in_flight[replica]);
        if self.weighted { (load + 1) * (1 << 20) / u64::from(self.weights[replica]) } else { load }
    }

    /// HAProxy: the place of the replica with the smallest key, of those with the same key the one longest there.
    #[inline]
    fn first_in_queue(&self) -> usize {
        let (mut best, mut least) = (0, (u32::MAX, Ps::MAX, u64::MAX));
        for (place, &replica) in self.eligible.iter().enumerate() {
            let key = self.keys[usize::from(replica)];
            if key < least {
                (best, least) = (place, key);
            }
        }
        best
    }

    /// nginx: the place of the replica with the least in flight by weight, as this worker counts.
    fn nginx_least(&mut self, worker: usize) -> usize {
        let row = worker * self.in_flight.len();
        let load = |router: &Self, place: usize| {
            let replica = usize::from(router.eligible[place]);
            (u64::from(router.counts[row + replica]), u64::from(router.weights[replica]))
        };
        let (mut best, mut many) = (0, false);
        for place in 1..self.eligible.len() {
            let ((count, weight), (best_count, best_weight)) = (load(self, place), load(self, best));
            match (count * best_weight).cmp(&(best_count * weight)) {
                std::cmp::Ordering::Less => (best, many) = (place, false),
                std::cmp::Ordering::Equal => many = true,
                std::cmp::Ordering::Greater => {}
            }
        }
        if !many {
            return best;
        }
        let (best_count, best_weight) = load(self, best);
        self.smoothly(row, best, |router, place| {
            let (count, weight) = load(router, place);
            count * best_weight == best_count * weight
        })
    }

    /// Smooth weighted round robin from place `from` on, among those for which `among` holds; its state begins at `row`.
    fn smoothly(&mut self, row: usize, from: usize, among: impl Fn(&Self, usize) -> bool) -> usize {
        let (mut best, mut total) = (from, 0);
        for place in from..self.eligible.len() {
            if !among(self, place) {
                continue;
            }
            let replica = usize::from(self.eligible[place]);
            let weight = i64::from(self.weights[replica]);
            self.smooth[row + replica] += weight;
            total += weight;
            if self.smooth[row + replica] > self.smooth[row + usize::from(self.eligible[best])] {
                best = place;
            }
        }
        self.smooth[row + usize::from(self.eligible[best])] -= total;
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
        if self.policy == RouterPolicy::HaproxyLeastconn {
            self.move_to_its_key(route.replica, u64::MAX);
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
        Router::new(&RouterSpec { policy, workers, ..RouterSpec::default() }, vec![true; 3], 100)
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

    /// By hand from the key: an idle server first; then 2 * 4096 / 1600 = 5 each, in the order in which they came to it.
    #[test]
    fn haproxy_takes_equals_in_the_order_in_which_they_became_so() {
        let mut router = router(RouterPolicy::HaproxyLeastconn, 1);
        let first: Vec<Route> = (0..3).map(|_| router.pick(0).unwrap()).collect();
        assert_eq!(first.iter().map(|route| route.replica).collect::<Vec<_>>(), [0, 1, 2]);
        // 2 is freed before 0: it has been idle for longer.
        router.now = 1;
        router.release(first[2]);
        router.now = 2;
        router.release(first[0]);
        let next: Vec<u16> = (0..3).map(|_| router.pick(0).unwrap().replica).collect();
        assert_eq!(next, [2, 0, 1]);
    }

    /// Half the weight: keys 2 * 4096 / 800 = 10, 15, 20 against 5, 7, 10, 12, 15. An idle one is first whatever its weight.
    #[test]
    fn haproxy_sends_half_as_many_to_half_the_weight() {
        let mut router = router(RouterPolicy::HaproxyLeastconn, 1);
        router.set_weight(0, 50);
        for _ in 0..50 {
            router.pick(0).unwrap();
        }
        assert_eq!(router.in_flight, [10, 20, 20]);
    }

    #[test]
    fn a_growing_weight_takes_a_sixteenth_at_first() {
        let mut router = router(RouterPolicy::HaproxyLeastconn, 1);
        router.set_ramp(0, 1);
        for _ in 0..66 {
            router.pick(0).unwrap();
        }
        assert!((1..=2).contains(&router.in_flight[0]), "{:?}", router.in_flight);
        router.set_ramp(0, WHOLE);
        assert_eq!(router.pick(0).unwrap().replica, 0);
    }

    /// Smooth weighted round robin by hand, weights 2, 1, 1 (of 100): 0, 1, 2, 0 while all are equally loaded by weight.
    #[test]
    fn nginx_ties_go_by_smooth_weighted_round_robin() {
        let mut router = router(RouterPolicy::NginxLeastConn, 1);
        router.set_weight(0, 200);
        let mut picks = Vec::new();
        for _ in 0..8 {
            let route = router.pick(0).unwrap();
            picks.push(route.replica);
            router.release(route);
        }
        assert_eq!(picks, [0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn every_balancer_honours_weights() {
        use RouterPolicy::{LeastConnections, NginxLeastConn, RandomTwoChoices, RoundRobin};
        for policy in [RoundRobin, LeastConnections, NginxLeastConn, RandomTwoChoices] {
            let mut router = router(policy, 1);
            router.set_weight(2, 25);
            for number in 0..900_u64 {
                router.pick(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
            }
            let [first, second, light] = router.in_flight[..] else { panic!("three replicas") };
            assert!((380..=420).contains(&first) && (380..=420).contains(&second), "{policy:?} {router:?}");
            assert!((80..=120).contains(&light), "{policy:?} {light}");
        }
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
