//! Certifying windows on fresh futures, by exact bounds.
//!
//! A window has missed in a future when a rollout begun at any of its starts has. The chance of being wrong about any window
//! is at most `1 - confidence` over all: it is divided by the windows, and again by the stages, each of which looks at all
//! futures so far:
//!
//! ```text
//! stage 1: n futures --upper bound <= budget?--> safe     --lower bound > budget?--> unsafe     --else--> stage 2: 3n
//! ```
//! The futures were never used for choosing the window, so the bound is not biased by the choice.

use slackwater_engine::Ps;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_sim::SimError;

use crate::chance::{Risk, at_most, clean_futures_needed, lower, upper};
use crate::future::Futures;
use crate::stretch::Tried;
use crate::trials::Trials;
use crate::watch::Watch;

/// Futures from this number on are fresh: no screening reaches them.
pub const FRESH: u64 = 1 << 32;
/// Looks at the data.
const STAGES: u32 = 2;
/// From one stage to the next.
const GROWS: u64 = 3;

/// What a window was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its risk is within the budget, with the confidence asked for.
    Safe,
    /// Its risk is above the budget, with that confidence.
    Unsafe,
    /// Neither could be shown.
    Undecided,
}

/// A window and what fresh futures said of it.
#[derive(Clone, Debug)]
pub struct Certified {
    /// Its starts, in order.
    pub starts: Vec<Ps>,
    /// The verdict.
    pub found: Found,
    /// The chance that a rollout begun at any of its starts misses; the bounds hold for all windows and looks together.
    pub risk: Risk,
    /// The first of its futures, and for how long after the last start its traffic went on.
    pub first_future: u64,
    /// See `first_future`.
    pub lasts: Ps,
    /// The error that each bound of it may be wrong with.
    pub alpha: f64,
    /// Futures of the first look.
    pub first: u64,
    /// Every trial: a future, a start.
    pub trials: Vec<Vec<Tried>>,
}

/// How many futures the first stage takes.
#[must_use]
pub fn first_stage(asked: u64, budget: f64, confidence: f64, windows: usize) -> u64 {
    asked.max(clean_futures_needed(budget, share_of_error(confidence, windows)))
}

/// By a lower and an upper bound of the risk.
fn judged(low: f64, high: f64, budget: f64) -> Found {
    if high <= budget {
        Found::Safe
    } else if low > budget {
        Found::Unsafe
    } else {
        Found::Undecided
    }
}

/// The chance that a window of this risk is certified, when the first look takes `first` futures and each bound may be wrong
/// with `alpha`.
#[must_use]
pub fn chance_of_safe(risk: f64, first: u64, alpha: f64, budget: f64) -> f64 {
    let all = first * GROWS;
    let verdict =
        |misses, futures| judged(lower(misses, futures, alpha), upper(misses, futures, alpha), budget);
    // The most misses that both looks may see.
    let most = (0..all).take_while(|misses| verdict(*misses, all) == Found::Safe).last();
    let (mut chance, mut misses) = (0.0, 0);
    loop {
        let now =
            at_most(misses, first, risk) - if misses == 0 { 0.0 } else { at_most(misses - 1, first, risk) };
        match (verdict(misses, first), most) {
            (Found::Safe, _) => chance += now,
            (Found::Undecided, Some(most)) if misses <= most => {
                chance += now * at_most(most - misses, all - first, risk);
            }
            _ => return chance,
        }
        misses += 1;
    }
}

fn share_of_error(confidence: f64, windows: usize) -> f64 {
    (1.0 - confidence) / (windows.max(1) as f64 * f64::from(STAGES))
}

/// What is certified.
pub struct Certify<'a> {
    /// The scenario, with the drain timeout to be certified.
    pub scenario: &'a Scenario,
    /// The gate's table.
    pub gate: &'a [CapacityRow],
    /// The risk budget.
    pub budget: f64,
    /// Over all windows.
    pub confidence: f64,
    /// Futures of the first stage.
    pub futures: u64,
    /// How many windows share the error.
    pub windows: usize,
}

impl Certify<'_> {
    /// Certifies one window: number `number` of them, with the starts given, each rollout followed for `lasts`. `None` when it
    /// was stopped. The second value is the number of requests simulated.
    ///
    /// # Errors
    /// When the scenario can't be simulated.
    pub fn window(
        &self,
        futures: &Futures,
        (number, starts, lasts): (usize, &[Ps], Ps),
        watch: &dyn Watch,
    ) -> Result<Option<(Certified, u64)>, SimError> {
        let alpha = share_of_error(self.confidence, self.windows);
        let begin = FRESH + ((number as u64) << 24);
        let (mut trials, mut simulated) = (Vec::new(), 0);
        let mut until = first_stage(self.futures, self.budget, self.confidence, self.windows);
        let stage = format!("certifying window {} of {}", number + 1, self.windows);
        for look in 1..=STAGES {
            let so_far = trials.len() as u64;
            let more = Trials {
                scenario: self.scenario,
                gate: self.gate,
                starts,
                futures: begin + so_far..begin + until,
                lasts,
                order: None,
                stage: &stage,
            };
            let Some((found, requests)) = more.run(futures, watch)? else { return Ok(None) };
            trials.extend(found);
            simulated += requests;
            let misses = trials.iter().filter(|future| future.iter().any(Tried::failed)).count() as u64;
            let all = trials.len() as u64;
            let (low, high) = (lower(misses, all, alpha), upper(misses, all, alpha));
            let found = judged(low, high, self.budget);
            if found == Found::Undecided && look < STAGES {
                until *= GROWS;
                continue;
            }
            let risk = Risk {
                estimate: misses as f64 / all as f64,
                lower: low,
                upper: high,
                confidence: self.confidence,
                misses,
                futures: all,
            };
            return Ok(Some((
                Certified {
                    starts: starts.to_vec(),
                    found,
                    risk,
                    first_future: begin,
                    lasts,
                    alpha,
                    first: first_stage(self.futures, self.budget, self.confidence, self.windows),
                    trials,
                },
                simulated,
            )));
        }
        Ok(None)
    }
}
