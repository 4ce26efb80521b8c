//! Requests that belong somewhere: sticky sessions, and prompts that go where their beginning went before.
//!
//! - `sticky = "session"` is nginx's `hash $cookie consistent` (`ngx_http_upstream_hash_module.c`): a ring of 160 points a
//!   server (ketama); a session goes to the first point at or after its own whose replica is in rotation. One that leaves
//!   moves its own sessions only, and gets them back when it returns.
//! - `sticky = "version"` is a gateway's: a session that was answered by a version is sent to replicas of that version
//!   while there is one in rotation; among them, and for everybody else, the policy picks.
//! - `prefix-aware` is SGLang's router (`sgl-router/src/policies/cache_aware.rs`, defaults of gateway 0.3.1): when the most
//!   loaded replica has more than `balance_abs_threshold` more in flight than the least loaded, and more than
//!   `balance_rel_threshold` times as many, the least loaded is picked. Otherwise the one that was sent the longest
//!   beginning of this prompt, if that is more than `cache_threshold` of it; else the one that was sent the least. Its tree
//!   of texts is here a set of block ids a replica, no larger than its KV cache, of which the least recently used is
//!   forgotten (see [`Sent`]); a replica that leaves the rotation is forgotten whole.

use std::collections::BTreeMap;

use slackwater_scenarios::{Keyed, PrefixAware, RouterPolicy, Sticky};

use super::{Route, Router};

/// Points of a server on nginx's ring.
const POINTS: u64 = 160;

/// What the balancer can tell of one who sends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller<'c> {
    /// Uniform bits of this attempt's own.
    pub(crate) random: u64,
    /// The session's cookie, hashed.
    pub(crate) cookie: Option<u64>,
    /// Whether its last answer came from the new version.
    pub(crate) served_by_new: Option<bool>,
    /// Chained ids of the prompt's full blocks.
    pub(crate) blocks: &'c [u64],
    /// Tokens of the prompt over tokens of a block.
    pub(crate) prompt_blocks: f64,
}

/// What the balancer keeps for this.
#[derive(Debug, Clone)]
pub(crate) struct Affinity {
    sticky: Sticky,
    /// Points of the ring, ascending, and the replica of each.
    ring: Vec<(u64, u16)>,
    /// Replicas that run the new version.
    new: Vec<bool>,
    thresholds: PrefixAware,
    pub(crate) sent: Vec<Sent>,
}

impl Affinity {
    pub(crate) fn new(
        sticky: Sticky,
        policy: RouterPolicy,
        thresholds: PrefixAware,
        replicas: u16,
        blocks_most: usize,
    ) -> Self {
        // The ring is the servers' alone, whatever the seed.
        let keyed = Keyed::new(0);
        let points = if sticky == Sticky::Session { POINTS } else { 0 };
        let mut ring: Vec<(u64, u16)> = (0..replicas)
            .flat_map(|replica| (0..points).map(move |point| (replica, point)))
            .map(|(replica, point)| (keyed.bits("ring", &[u64::from(replica), point]), replica))
            .collect();
        ring.sort_unstable();
        let sent = if policy == RouterPolicy::PrefixAware { usize::from(replicas) } else { 0 };
        Self {
            sticky,
            ring,
            new: vec![false; usize::from(replicas)],
            thresholds,
            sent: vec![Sent::new(blocks_most); sent],
        }
    }

    /// The replica leaves the rotation.
    pub(crate) fn forget(&mut self, replica: u16) {
        if let Some(sent) = self.sent.get_mut(usize::from(replica)) {
            sent.clear();
        }
    }
}

impl Router {
    /// Which version a replica runs from now on.
    pub(crate) fn set_new(&mut self, replica: u16, new: bool) {
        self.affinity.new[usize::from(replica)] = new;
    }

    /// Picks a replica for this caller; `None`: no replica is in rotation.
    pub(crate) fn pick_for(&mut self, caller: &Caller<'_>) -> Option<Route> {
        match (self.affinity.sticky, caller) {
            (Sticky::Session, Caller { cookie: Some(cookie), .. }) => {
                let place = self.on_ring(*cookie)?;
                Some(self.take(0, place))
            }
            (Sticky::Version, Caller { served_by_new: Some(new), .. }) => {
                let same = |replica: &u16| self.affinity.new[usize::from(*replica)] == *new;
                let same: Vec<u16> = self.eligible.iter().copied().filter(same).collect();
                if same.is_empty() {
                    return self.pick_any(caller);
                }
                let all = std::mem::replace(&mut self.eligible, same);
                let route = self.pick_any(caller);
                self.eligible = all;
                route
            }
            _ => self.pick_any(caller),
        }
    }

    fn pick_any(&mut self, caller: &Caller<'_>) -> Option<Route> {
        if self.policy != RouterPolicy::PrefixAware {
            return self.pick(caller.random);
        }
        let place = self.by_prefix(caller)?;
        self.affinity.sent[usize::from(self.eligible[place])].add(caller.blocks);
        Some(self.take(0, place))
    }

    /// The place in `eligible` of the first point of the ring at or after this hash whose replica is in rotation.
    fn on_ring(&self, cookie: u64) -> Option<usize> {
        let ring = &self.affinity.ring;
        let from = ring.partition_point(|point| point.0 < cookie);
        let round = ring[from..].iter().chain(&ring[..from]);
        round.map(|point| self.eligible.binary_search(&point.1)).find_map(Result::ok)
    }

    /// SGLang's rule; the first replica among equals.
    fn by_prefix(&self, caller: &Caller<'_>) -> Option<usize> {
        let load = |place: usize| self.in_flight[usize::from(self.eligible[place])];
        let places = 0..self.eligible.len();
        let (least, most) = (places.clone().map(load).min()?, places.clone().map(load).max()?);
        let PrefixAware { cache_threshold, balance_abs_threshold, balance_rel_threshold } =
            self.affinity.thresholds;
        if most - least > balance_abs_threshold && f64::from(most) > f64::from(least) * balance_rel_threshold
        {
            return places.min_by_key(|place| load(*place));
        }
        let sent = |place: usize| &self.affinity.sent[usize::from(self.eligible[place])];
        let matched = |place: usize| sent(place).matched(caller.blocks);
        let longest = places.clone().map(matched).max()?;
        #[allow(clippy::cast_precision_loss)] // blocks of one prompt
        if longest as f64 > cache_threshold * caller.prompt_blocks {
            return (0..self.eligible.len()).find(|place| matched(*place) == longest);
        }
        places.min_by_key(|place| sent(*place).blocks())
    }
}

/// The blocks a replica was sent, the most recently used ones. Of one prompt the later blocks count as used before the
/// earlier ones, so a block is never forgotten after one that follows it, and how much of a prompt is known is found by
/// halving.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    used: BTreeMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    most: usize,
}

impl Sent {
    fn new(most: usize) -> Self {
        Self { used: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0, most }
    }

    fn clear(&mut self) {
        self.used.clear();
        self.by_use.clear();
    }

    fn blocks(&self) -> usize {
        self.used.len()
    }

    /// How many of these blocks, from the first on, it was sent.
    fn matched(&self, blocks: &[u64]) -> usize {
        blocks.partition_point(|block| self.used.contains_key(block))
    }

    fn add(&mut self, blocks: &[u64]) {
        for &block in blocks.iter().rev() {
            self.uses += 1;
            if let Some(before) = self.used.insert(block, self.uses) {
                self.by_use.remove(&before);
            }
            self.by_use.insert(self.uses, block);
        }
        while self.used.len() > self.most {
            let Some((_, block)) = self.by_use.pop_first() else { break };
            self.used.remove(&block);
        }
    }
}

#[cfg(test)]
mod tests {
    use slackwater_scenarios::Router as RouterSpec;

    use super::*;

    fn router(sticky: Sticky, policy: RouterPolicy) -> Router {
        Router::new(&RouterSpec { sticky, policy, ..RouterSpec::default() }, vec![true; 4], 1000)
    }

    fn sends(router: &mut Router, cookie: u64) -> u16 {
        let route = router.pick_for(&Caller { cookie: Some(cookie), ..Caller::default() }).unwrap();
        router.release(route);
        route.replica
    }

    #[test]
    fn a_replica_that_leaves_moves_its_own_sessions_only_and_gets_them_back() {
        let mut router = router(Sticky::Session, RouterPolicy::LeastConnections);
        let keyed = Keyed::new(7);
        let cookies: Vec<u64> = (0..4000).map(|session| keyed.bits("cookie", &[session])).collect();
        let before: Vec<u16> = cookies.iter().map(|cookie| sends(&mut router, *cookie)).collect();
        for replica in 0..4 {
            let share = before.iter().filter(|home| **home == replica).count();
            assert!((800..1200).contains(&share), "replica {replica} has {share} of 4000");
        }
        router.set_rotation(2, false);
        let mut moved = [0; 4];
        for (cookie, home) in cookies.iter().zip(&before) {
            let now = sends(&mut router, *cookie);
            assert!(now == *home || *home == 2);
            moved[usize::from(now)] += usize::from(*home == 2);
        }
        assert!(moved[2] == 0 && [0, 1, 3].iter().all(|other| moved[*other] > 100), "{moved:?}");
        router.set_rotation(2, true);
        let after: Vec<u16> = cookies.iter().map(|cookie| sends(&mut router, *cookie)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn a_version_is_kept_while_it_is_there() {
        let mut router = router(Sticky::Version, RouterPolicy::LeastConnections);
        router.set_new(1, true);
        let pick = |router: &mut Router, new: Option<bool>| {
            let route = router.pick_for(&Caller { served_by_new: new, ..Caller::default() }).unwrap();
            router.release(route);
            route.replica
        };
        for _ in 0..8 {
            assert_eq!(pick(&mut router, Some(true)), 1);
            assert_ne!(pick(&mut router, Some(false)), 1);
        }
        router.set_rotation(1, false);
        assert_ne!(pick(&mut router, Some(true)), 1);
        assert_eq!(router.serving(), 3);
    }

    /// By the rule, step by step; a prompt of ten blocks. Catches: a threshold the wrong way round.
    #[test]
    fn prefixes_go_where_they_went_unless_that_is_too_busy() {
        let mut router = router(Sticky::None, RouterPolicy::PrefixAware);
        let prompt = |first: u64, shared: u64| {
            (0..10)
                .map(|block| if block < shared { block } else { 1000 * first + block })
                .collect::<Vec<u64>>()
        };
        let mut pick = |blocks: &[u64]| {
            router.pick_for(&Caller { blocks, prompt_blocks: 10.0, ..Caller::default() }).unwrap().replica
        };
        // Nothing is known: those that were sent the least, the first of them.
        assert_eq!(
            [pick(&prompt(1, 0)), pick(&prompt(2, 0)), pick(&prompt(3, 10)), pick(&prompt(4, 0))],
            [0, 1, 2, 3]
        );
        // Four of ten shared is more than 0.3, three is not.
        assert_eq!(pick(&prompt(5, 4)), 2);
        assert_eq!(pick(&prompt(6, 3)), 0);
        // 64 more than the least is not yet too many, 65 is.
        for _ in 0..63 {
            assert_eq!(pick(&prompt(7, 10)), 2);
        }
        assert_eq!(pick(&prompt(7, 10)), 2);
        assert_eq!(pick(&prompt(7, 10)), 1);
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten_from_its_end() {
        let mut sent = Sent::new(4);
        sent.add(&[1, 2, 3]);
        sent.add(&[9]);
        sent.add(&[1, 8]);
        assert_eq!(sent.matched(&[1, 2, 3]), 2);
        sent.add(&[7]);
        assert_eq!((sent.matched(&[1, 2, 3]), sent.matched(&[1, 8]), sent.blocks()), (1, 2, 4));
        assert_eq!((sent.used.len(), sent.by_use.len()), (4, 4));
    }
}
