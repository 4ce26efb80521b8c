//! What a plan costs by its size, and what its search saves beside the plain ways to the same answer.
//!
//! ```text
//! forking:    every start a fork of one run a future and day   |  every trial from the day's beginning: the same trials, bit by bit
//! sparing:    calm and hopeless starts in the first futures     |  every start in every future
//! certifying: screening, then only the best few on fresh ones   |  every start on fresh futures, unscreened
//! ```

use std::collections::BTreeMap;

use slackwater_planner::calendar::Calendar;
use slackwater_planner::capacity::{gate_of, of_the_rest, ranges, sample};
use slackwater_planner::certify::Certify;
use slackwater_planner::future::{Futures, LEAD_PS, Source};
use slackwater_planner::plan::{Ask, plan};
use slackwater_planner::planned::CapacityRange;
use slackwater_planner::screen::{Adapt, Screen, Screening, screen};
use slackwater_planner::stretch::{Attempt, TRIAL_MOST_PS, Tried, WARM_UP_PS, run};
use slackwater_planner::watch::Unwatched;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;

use crate::WordHash;

/// How large a plan is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Hours that are looked at, every five minutes.
    pub hours: u64,
    /// Futures of the screening.
    pub futures: u64,
    /// Replicas.
    pub replicas: u32,
    /// Requests a second and replica.
    pub rate: f64,
}

impl Size {
    /// A chat service at a load that is not calm.
    pub const USUAL: Self = Self { hours: 6, futures: 10, replicas: 4, rate: 2.2 };
    /// For the tests.
    pub const TINY: Self = Self { hours: 1, futures: 8, replicas: 2, rate: 0.3 };

    /// The scenario.
    ///
    /// # Panics
    /// When it is wrong.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let rate = f64::from(self.replicas) * self.rate;
        let text = format!(
            "seed = 1\n[fleet]\nreplicas = {}\n[from]\nengine = \"a100-llama-3.1-8b\"\n[to]\n[traffic.generate]\nduration = \"1h\"\n\
             rate_per_s = {rate}\n[slo]\nttft = \"2s\"\ntpot = \"100ms\"\nshare = 0.99\n[rollout]\ndrain_timeout = \"120s\"\n\
             soak = \"60s\"\n[plan]\nhorizon = \"{}h\"\nfutures = {}\n",
            self.replicas, self.hours, self.futures
        );
        Scenario::parse(&text, "benchmark").expect("a scenario")
    }

    /// What keeps the closer look of a plan small beside its screening.
    pub const CLOSER: [&str; 4] = [
        "plan.certify_futures=20",
        "plan.risk=0.2",
        "plan.certify_windows=1",
        "plan.drain_timeouts=[\"30s\"]",
    ];

    /// The whole plan: requests simulated, and the hash of the answer.
    ///
    /// # Panics
    /// When it can't be computed.
    #[must_use]
    pub fn plan(&self, settings: &[&str]) -> (u64, String) {
        let text = self.scenario().to_toml();
        let scenario = Scenario::parse_with(&text, "benchmark", settings).expect("a scenario");
        let ask = Ask { scenario, slackwater: "benchmark".into(), inputs: BTreeMap::new(), history: None };
        let planned = plan(&ask, &Unwatched).expect("a plan").planned;
        (planned.simulated_requests, planned.hash)
    }
}

/// What the ways to search share.
#[derive(Debug)]
pub struct Search {
    size: Size,
    scenario: Scenario,
    futures: Futures,
    capacity: Vec<CapacityRange>,
    gate: Vec<CapacityRow>,
}

/// What a way came to.
#[derive(Debug, Clone)]
pub struct Found {
    /// Rollouts simulated.
    pub trials: u64,
    /// Requests simulated.
    pub requests: u64,
    /// Of the trials' outcomes.
    pub hash: String,
}

impl Search {
    /// Its capacity is found beforehand.
    ///
    /// # Panics
    /// When the scenario can't be simulated.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let scenario = size.scenario();
        let generate = scenario.traffic.generate.clone().expect("drawn traffic");
        let start = generate.start.0;
        let source = Source::Profile(Box::new(generate));
        let futures = Futures::new(source, Calendar::new(None), scenario.seed, start, true, 1.0);
        let sample = sample(&scenario).expect("a sample");
        let capacity = ranges(&scenario, &sample, 1..=size.replicas).expect("a capacity");
        Self { size, scenario, futures, gate: gate_of(&capacity), capacity }
    }

    fn horizon_ps(&self) -> u64 {
        self.size.hours * 3_600_000_000_000_000
    }

    fn starts(&self) -> Vec<u64> {
        let every = 300_000_000_000_000;
        (0..).map(|n| LEAD_PS + n * every).take_while(|at| *at < LEAD_PS + self.horizon_ps()).collect()
    }

    /// Every start screened, forked from one run a future.
    ///
    /// # Panics
    /// When a simulation fails.
    #[must_use]
    pub fn screened(&self, sparing: bool) -> (Screening, Found) {
        let rest_per_s = of_the_rest(&self.scenario, &self.capacity);
        let what = Screen {
            scenario: &self.scenario,
            gate: &self.gate,
            closed_above: None,
            horizon_ps: self.horizon_ps(),
            every_ps: 300_000_000_000_000,
            futures: self.size.futures,
            adapt: sparing.then_some(Adapt { rest_per_s }),
        };
        let screening = screen(&self.futures, &what, &Unwatched).expect("a screening");
        let (mut hash, mut trials) = (Outcomes::default(), 0);
        for start in &screening.starts {
            trials += start.futures;
            for one in &start.each {
                hash.add(start.start_ps, one.future, one.failed, one.below_n_s);
            }
        }
        let found = Found { trials, requests: screening.simulated, hash: hash.hex() };
        (screening, found)
    }

    /// The same trials as the screening without sparing, each simulated from the day's beginning.
    ///
    /// # Panics
    /// When a simulation fails.
    #[must_use]
    pub fn restarted(&self) -> Found {
        let (mut hash, mut trials, mut requests) = (Outcomes::default(), 0, 0);
        for start in self.starts() {
            for future in 0..self.size.futures {
                let one = [start];
                let attempt = Attempt { without: false, ..Attempt::new(&self.scenario, &self.gate, &one) };
                let stretch = (LEAD_PS - WARM_UP_PS, LEAD_PS + self.horizon_ps() + TRIAL_MOST_PS);
                let (baseline, tried) = run(&self.futures, future, stretch, &attempt).expect("a trial");
                requests += baseline.simulated;
                for one in &tried {
                    trials += 1;
                    hash.add(start, future, one.failed(), one.trial.below_n_s);
                }
            }
        }
        Found { trials, requests, hash: hash.hex() }
    }

    /// Fresh futures for these starts, as many as a budget of a hundredth needs.
    ///
    /// # Panics
    /// When a simulation fails.
    #[must_use]
    pub fn certified(&self, starts: &[u64], windows: usize) -> Found {
        let certify = Certify {
            scenario: &self.scenario,
            gate: &self.gate,
            budget: 0.01,
            confidence: 0.95,
            futures: 300,
            windows,
        };
        let (mut hash, mut trials, mut requests) = (Outcomes::default(), 0, 0);
        for (number, start) in starts.iter().enumerate() {
            let lasts = 3_600_000_000_000_000;
            let found = certify.window(&self.futures, (number, &[*start], lasts), &Unwatched);
            let (window, simulated) = found.expect("a certificate").expect("nobody stops it");
            requests += simulated;
            for (future, tried) in (0..).zip(&window.trials) {
                trials += tried.len() as u64;
                hash.add(
                    *start,
                    future,
                    tried.iter().any(Tried::failed),
                    tried.iter().map(|one| one.trial.below_n_s).sum(),
                );
            }
        }
        Found { trials, requests, hash: hash.hex() }
    }

    /// Every start.
    #[must_use]
    pub fn all_starts(&self) -> Vec<u64> {
        self.starts()
    }
}

/// Outcomes, in no order.
#[derive(Default)]
struct Outcomes(Vec<String>);

impl Outcomes {
    /// The time below N has picoseconds in it: two rollouts in which anything went otherwise differ in it.
    fn add(&mut self, start: u64, future: u64, failed: bool, below_n_s: f64) {
        self.0.push(format!("{start} {future} {failed} {below_n_s}"));
    }

    fn hex(mut self) -> String {
        self.0.sort_unstable();
        let mut hash = WordHash::default();
        self.0.iter().flat_map(|line| line.bytes()).for_each(|byte| hash.word(u64::from(byte)));
        hash.hex()
    }
}
