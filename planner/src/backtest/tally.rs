//! The score over all days.

use slackwater_scenarios::Keyed;

use super::day::Day;
use super::{BACKTEST_SCHEMA, Backtest, DayRow, ReliabilityRow, RuleRow};
use crate::chance::{lower, upper};
use crate::screen::quantile;

/// A promise is in one of these classes, by its upper edge.
const CLASSES: [f64; 7] = [0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// A start of a day: promised, and whether it failed.
#[derive(Clone, Copy)]
struct Scored {
    day: usize,
    promised: f64,
    clean: bool,
    failed: bool,
}

/// All days so far.
#[derive(Default)]
pub(super) struct Tally {
    days: Vec<DayRow>,
    scored: Vec<Scored>,
    rules: Vec<RuleRow>,
    simulated: u64,
}

impl Tally {
    pub(super) fn take_in(&mut self, day: Day) {
        let number = self.days.len();
        self.scored.extend(day.scored.into_iter().map(|(promised, clean, failed)| Scored {
            day: number,
            promised,
            clean,
            failed,
        }));
        self.days.push(day.row);
        self.simulated += day.simulated;
        if self.rules.is_empty() {
            self.rules = day.rules;
            return;
        }
        for (mine, theirs) in self.rules.iter_mut().zip(day.rules) {
            mine.violations += theirs.violations;
            mine.slo_missed += theirs.slo_missed;
            mine.not_completed += theirs.not_completed;
            mine.cut += theirs.cut;
            mine.missed += theirs.missed;
            mine.hours_below_n += theirs.hours_below_n;
            mine.cost += theirs.cost;
            mine.regret += theirs.regret;
            mine.regret_on_go_days += theirs.regret_on_go_days;
        }
    }

    pub(super) fn result(self, seed: u64) -> Backtest {
        let days = self.days.len() as u64;
        let failures = self.days.iter().filter(|day| day.failed).count() as u64;
        let starts = self.scored.len().max(1) as f64;
        let failing = self.scored.iter().filter(|one| one.failed).count() as f64 / starts;
        let breaks = self.days.iter().map(|day| day.starts_that_break).sum::<f64>() / days.max(1) as f64;
        let square = |promised: f64, failed: bool| (promised - f64::from(u8::from(failed))).powi(2);
        let brier = self.scored.iter().map(|one| square(one.promised, one.failed)).sum::<f64>() / starts;
        let middle = self.scored.iter().map(|one| one.promised).sum::<f64>() / starts;
        let sharpness = self.scored.iter().map(|one| (one.promised - middle).powi(2)).sum::<f64>() / starts;
        let held = self.scored.iter().filter(|one| !one.failed).count().max(1) as f64;
        let found = self.scored.iter().filter(|one| !one.failed && one.clean).count() as f64;
        let promised = self.days.iter().map(|day| day.promised).sum::<f64>() / days.max(1) as f64;
        let interval = (lower(failures, days, 0.05), upper(failures, days, 0.05));
        let clean = |one: &&Scored| one.clean;
        let (clean_failed, clean_failed_interval) = self.share(clean, seed);
        Backtest {
            schema: BACKTEST_SCHEMA.to_owned(),
            slackwater: String::new(),
            scenario: String::new(),
            seed,
            inputs: std::collections::BTreeMap::new(),
            days,
            scale: 1.0,
            starts_that_break: breaks,
            promised,
            observed: if days == 0 { 0.0 } else { failures as f64 / days as f64 },
            observed_interval: interval,
            within: interval.0 <= promised,
            declined: self.days.iter().filter(|day| !day.go).count() as u64,
            brier,
            brier_of_the_mean: failing * (1.0 - failing),
            sharpness,
            safe_found: found / held,
            clean_failed,
            clean_failed_interval,
            reliability: self.reliability(seed),
            rules: self.rules,
            by_day: self.days,
            notes: Vec::new(),
            simulated_requests: self.simulated,
            wall_s: 0.0,
            partial: false,
        }
    }

    fn reliability(&self, seed: u64) -> Vec<ReliabilityRow> {
        let mut from = 0.0;
        CLASSES
            .iter()
            .map(|up_to| {
                let within = move |one: &&Scored| {
                    one.promised > from && one.promised <= *up_to || (from == 0.0 && one.promised == 0.0)
                };
                let those: Vec<&Scored> = self.scored.iter().filter(|one| within(one)).collect();
                let (observed, interval) = self.share(within, seed);
                let mut days: Vec<usize> = those.iter().map(|one| one.day).collect();
                days.dedup();
                let count = those.len().max(1) as f64;
                from = *up_to;
                ReliabilityRow {
                    up_to: *up_to,
                    starts: those.len() as u64,
                    days: days.len() as u64,
                    promised: those.iter().map(|one| one.promised).sum::<f64>() / count,
                    observed,
                    interval,
                }
            })
            .filter(|row| row.starts > 0)
            .collect()
    }

    /// The share of such starts that failed, and its interval when days are resampled.
    fn share(&self, such: impl Fn(&&Scored) -> bool, seed: u64) -> (f64, (f64, f64)) {
        const RESAMPLES: u64 = 1_000;
        let mut by_day = vec![(0.0_f64, 0.0_f64); self.days.len()];
        for one in self.scored.iter().filter(such) {
            by_day[one.day].0 += f64::from(u8::from(one.failed));
            by_day[one.day].1 += 1.0;
        }
        let ratio = |sum: (f64, f64)| if sum.1 > 0.0 { sum.0 / sum.1 } else { 0.0 };
        let add = |a: (f64, f64), b: &(f64, f64)| (a.0 + b.0, a.1 + b.1);
        let all = ratio(by_day.iter().fold((0.0, 0.0), add));
        if by_day.is_empty() {
            return (0.0, (0.0, 1.0));
        }
        let keyed = Keyed::new(seed);
        let mut shares: Vec<f64> = (0..RESAMPLES)
            .map(|number| {
                let drawn = (0..by_day.len() as u64).map(|place| {
                    let pick = keyed.bits("backtest.days", &[number, place]) % by_day.len() as u64;
                    by_day[usize::try_from(pick).unwrap_or(0)]
                });
                ratio(drawn.fold((0.0, 0.0), |a, b| add(a, &b)))
            })
            .collect();
        shares.sort_by(f64::total_cmp);
        (all, (quantile(&shares, 0.05).unwrap_or(0.0), quantile(&shares, 0.95).unwrap_or(1.0)))
    }
}
