//! A few starts against many futures, each simulated only around them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{CapacityRow, Operator};
use slackwater_scenarios::Scenario;
use slackwater_sim::SimError;

use crate::future::Futures;
use crate::stretch::{Attempt, SHORT_WARM_UP_PS, TRIAL_MOST_PS, Tried, WARM_UP_PS, run};
use crate::watch::Watch;

/// One entry a future, each with its starts in order; and the number of requests simulated.
pub type Many = (Vec<Vec<Tried>>, u64);

/// Many trials of the same rollout.
#[derive(Clone)]
pub struct Trials<'a> {
    /// The scenario whose rollout it is.
    pub scenario: &'a Scenario,
    /// The gate's table.
    pub gate: &'a [CapacityRow],
    /// The starts, in order.
    pub starts: &'a [Ps],
    /// Which futures.
    pub futures: Range<u64>,
    /// So long after the last start the traffic goes on; a rollout that is not over by then has not ended well.
    pub lasts: Ps,
    /// A person's order, so long after each start.
    pub order: Option<(Ps, Operator)>,
    /// What progress is called.
    pub stage: &'a str,
}

impl Trials<'_> {
    /// Runs them. One entry a future, in the futures' order, each with the starts in theirs; and the number of requests
    /// simulated. `None` when it was stopped.
    ///
    /// # Errors
    /// When the scenario can't be simulated.
    pub fn run(&self, futures: &Futures, watch: &dyn Watch) -> Result<Option<Many>, SimError> {
        let (Some(first), Some(last)) = (self.starts.first(), self.starts.last()) else {
            return Ok(Some((Vec::new(), 0)));
        };
        let warm_up = if self.scenario.remembers() { WARM_UP_PS } else { SHORT_WARM_UP_PS };
        let stretch = (first.saturating_sub(warm_up), last + self.lasts);
        let attempt = Attempt {
            order: self.order,
            peaks: true,
            without: false,
            ..Attempt::new(self.scenario, self.gate, self.starts)
        };
        let done = AtomicU64::new(0);
        let total = self.futures.end - self.futures.start;
        let found: Vec<Option<(Vec<Tried>, u64)>> = self
            .futures
            .clone()
            .into_par_iter()
            .map(|future| {
                if watch.stopped() {
                    return Ok(None);
                }
                let (baseline, tried) = run(futures, future, stretch, &attempt)?;
                watch.progress(self.stage, done.fetch_add(1, Ordering::Relaxed) + 1, total);
                Ok(Some((tried, baseline.simulated)))
            })
            .collect::<Result<_, SimError>>()?;
        let mut simulated = 0;
        let mut all = Vec::with_capacity(found.len());
        for one in found {
            let Some((tried, requests)) = one else { return Ok(None) };
            simulated += requests;
            all.push(tried);
        }
        Ok(Some((all, simulated)))
    }
}

/// For how long traffic is needed after a start whose rollouts usually last so long.
#[must_use]
pub fn enough_for(duration_s: Option<f64>) -> Ps {
    let usual = duration_s.map_or(TRIAL_MOST_PS, crate::stretch::ps);
    (usual * 3 / 2 + 300 * PS_PER_S).min(TRIAL_MOST_PS)
}
