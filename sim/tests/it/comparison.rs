//! The comparison of the canary with the old version, in whole simulated rollouts: how often it is wrong, and how soon right.
//!
//! The unit tests of `policy` hold its mathematics to independent draws. Here the requests share queues and batches, so that a
//! block of time is not independent of the one before, and the replica that was just restarted is the canary.

use std::sync::Arc;

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{Note, Verdict};
use slackwater_scenarios::Scenario;
use slackwater_sim::{RunInfo, RunOptions, Setup, World, plan_for};

/// How many runs of each kind; `SLACKWATER_COMPARISONS=1000` for the published table.
fn runs() -> u64 {
    std::env::var("SLACKWATER_COMPARISONS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

const FALSE_ALARM: f64 = 0.05;

/// What is true of the new version, what is declared of it, and the router that spreads the requests.
#[derive(Debug, Clone, Copy)]
struct Trial {
    slower: f64,
    declared: f64,
    rate_per_s: f64,
    router: &'static str,
}

impl Trial {
    fn scenario(&self, seed: u64) -> Scenario {
        let Self { slower, declared, rate_per_s, router } = self;
        let text = format!(
            r#"
            seed = {seed}
            [fleet]
            replicas = 3
            [from]
            engine = "a100-llama-3.1-8b"
            startup = "60s"
            [to]
            step_time_factor = {slower:?}
            [router]
            policy = "{router}"
            [traffic.generate]
            duration = "20m"
            rate_per_s = {rate_per_s:?}
            [rollout]
            start = "1m"
            strategy = "canary"
            canary_soak = "14m"
            drain_timeout = "60s"
            only = ["replica-0", "replica-1"]
            [rollout.compare]
            ttft_ratio = {declared:?}
            tpot_ratio = {declared:?}
            false_alarm = {FALSE_ALARM:?}
            warm_up = "1m"
            "#
        );
        Scenario::parse(&text, "trial.toml").unwrap_or_else(|error| panic!("{error:?}\n{text}"))
    }

    /// The first word on the canary, and how long after its admission it came, in blocks.
    fn word(&self, seed: u64) -> (Verdict, u32) {
        let scenario = self.scenario(seed);
        let setup = Arc::new(Setup::new(&scenario).unwrap());
        let traffic = scenario.traffic.load(seed, false).unwrap();
        let traffic = slackwater_sim::TraceCursor::new(Arc::new(traffic));
        let options = RunOptions { series: false, rows: false };
        let mut world = World::new(setup, traffic, options).unwrap();
        let start: Ps = 60 * PS_PER_S;
        world.run_until(start).unwrap();
        world.begin_rollout(plan_for(&scenario, None, start, &[]).unwrap()).unwrap();
        world.run_until(18 * 60 * PS_PER_S).unwrap();
        let (result, _) = world.finish(RunInfo::default());
        let notes = result.rollout.unwrap().report.notes;
        let mut last = None;
        for timed in notes {
            if let Note::Compared { verdict, blocks, .. } = timed.note {
                last = Some((verdict, blocks));
            }
        }
        last.unwrap_or((Verdict::Undecided, 0))
    }

    /// The share of runs in which the canary was found worse, and the median of the blocks that took.
    #[allow(clippy::cast_precision_loss, clippy::print_stdout)] // the table is read from there
    fn found_worse(&self) -> (f64, Option<u32>) {
        let words = (1..=runs()).map(|seed| self.word(seed));
        let mut blocks: Vec<u32> = words.filter(|word| word.0 == Verdict::Fail).map(|word| word.1).collect();
        blocks.sort_unstable();
        let found = (blocks.len() as f64 / runs() as f64, blocks.get(blocks.len() / 2).copied());
        println!(
            "{self:?}: {:.1} % of {} runs found worse, median after {:?} blocks",
            found.0 * 100.0,
            runs(),
            found.1
        );
        found
    }
}

/// Above the false alarms asked for by more than chance explains: 4 standard deviations of a binomial.
#[allow(clippy::cast_precision_loss)]
fn alarms_at_most() -> f64 {
    FALSE_ALARM + 4.0 * (FALSE_ALARM * (1.0 - FALSE_ALARM) / runs() as f64).sqrt()
}

const EQUAL: Trial = Trial { slower: 1.0, declared: 1.0, rate_per_s: 6.0, router: "least-connections" };

#[test]
fn equals_raise_no_more_alarms_than_asked_for() {
    for router in ["least-connections", "round-robin", "nginx-least-conn"] {
        let (alarms, _) = Trial { router, ..EQUAL }.found_worse();
        assert!(alarms <= alarms_at_most(), "{alarms}");
    }
}

#[test]
fn a_version_half_as_slow_again_is_found_and_in_minutes() {
    let (found, blocks) = Trial { slower: 1.5, ..EQUAL }.found_worse();
    assert!(found >= 0.99 && blocks <= Some(12), "{found}, {blocks:?}");
}

#[test]
fn what_was_declared_is_no_worse_than_declared() {
    let (alarms, _) = Trial { slower: 1.1, declared: 1.2, ..EQUAL }.found_worse();
    assert!(alarms <= alarms_at_most(), "{alarms}");
}

/// The table in policy/src/compare.rs: `SLACKWATER_COMPARISONS=1000 cargo test -p slackwater-sim --test it -- --ignored
/// --nocapture the_table_of_error_rates`.
#[test]
#[ignore = "a minute or two; prints the published table"]
fn the_table_of_error_rates() {
    for slower in [1.0, 1.05, 1.1, 1.2, 1.3] {
        Trial { slower, ..EQUAL }.found_worse();
    }
    for slower in [1.2, 1.3, 1.5] {
        Trial { slower, declared: 1.2, ..EQUAL }.found_worse();
    }
    for router in ["round-robin", "nginx-least-conn"] {
        Trial { router, ..EQUAL }.found_worse();
    }
    Trial { rate_per_s: 12.0, ..EQUAL }.found_worse();
    Trial { rate_per_s: 2.0, ..EQUAL }.found_worse();
}
