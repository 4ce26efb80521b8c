//! From figures to what is said of them.

use slackwater_engine::Ps;
use slackwater_scenarios::{Retries, Scenario, Strategy};

use crate::certify::Certified;
use crate::chance::Risk;
use crate::choose::cost;
use crate::plan::{Search, into_horizon_s};
use crate::planned::{Answer, Planned, SeedSpread, StartVerdict, Verdict};
use crate::promise::promises;
use crate::screen::{Screening, StartFigures};
use crate::variant;

/// Futures in which the service level must be missed without any rollout before that is the headline.
const MISSED_ANYWAY: f64 = 0.5;

/// A length of time for a sentence.
#[must_use]
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 2.0 * 3600.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 2.0 * 86_400.0 {
        format!("{:.1} h", seconds / 3600.0)
    } else {
        format!("{:.1} days", seconds / 86_400.0)
    }
}

/// Whether both engines' profiles were measured on the user's own server.
#[must_use]
pub(crate) fn is_measured(scenario: &Scenario) -> bool {
    [&scenario.from, &scenario.to].iter().all(|version| version.engine.calibration.is_some())
}

/// How long rollouts from this start on usually take, where any was simulated.
pub(crate) fn usual_duration(screening: &Screening, start: Ps) -> Option<f64> {
    let place = screening.starts.partition_point(|known| known.start_ps < start);
    screening.starts.get(place).and_then(|figures| figures.duration_s(0.95))
}

/// Every start, with what fresh futures said where they were asked.
pub(crate) fn windows(
    search: &Search<'_>,
    screening: &Screening,
    certified: &[Certified],
) -> Vec<StartVerdict> {
    let promised = promises(&screening.starts);
    let tried = screening.starts.iter().zip(promised).filter(|(start, _)| start.futures > 0);
    tried.map(|(start, promised)| verdict(search, start, promised, certified)).collect()
}

fn verdict(
    search: &Search<'_>,
    figures: &StartFigures,
    promised: f64,
    certified: &[Certified],
) -> StartVerdict {
    let planning = &search.planning;
    let screened = Risk::of(figures.failed, figures.futures, planning.confidence);
    let simulated = (figures.futures - figures.closed).max(1) as f64;
    let window = certified.iter().find(|window| window.starts.contains(&figures.start_ps));
    let (verdict, by, risk) = match window {
        Some(window) => (window.found.into(), "certified", window.risk),
        None if figures.closed == figures.futures => (Verdict::Unsafe, "load", screened),
        None if screened.lower > planning.risk => (Verdict::Unsafe, "screened", screened),
        None => (Verdict::Undecided, "screened", screened),
    };
    let extra = |q: f64, of: &dyn Fn(&slackwater_sim::LeanLatencies, f64) -> Option<f64>| {
        Some(of(&figures.with, q)? - of(&figures.without, q)?)
    };
    let ttft = |all: &slackwater_sim::LeanLatencies, q: f64| all.ttft.quantile_s(q);
    let tpot = |all: &slackwater_sim::LeanLatencies, q: f64| all.tpot.quantile_s(q);
    StartVerdict {
        start: search.text(figures.start_ps),
        start_s: into_horizon_s(figures.start_ps),
        verdict,
        by: by.to_owned(),
        risk,
        promised: if window.is_some() { risk.estimate } else { promised },
        slo_missed: figures.slo_missed as f64 / simulated,
        missed_without: figures.missed_without as f64 / simulated,
        calm: figures.calm,
        any_cut: figures.any_cut as f64 / simulated,
        expected_cut: figures.cut as f64 / simulated,
        expected_missed: figures.missed as f64 / simulated,
        duration_p50_s: figures.duration_s(0.5),
        duration_p95_s: figures.duration_s(0.95),
        extra_ttft_p95_s: extra(0.95, &ttft),
        extra_ttft_p99_s: extra(0.99, &ttft),
        extra_tpot_p95_s: extra(0.95, &tpot),
        extra_tpot_p99_s: extra(0.99, &tpot),
        peak_rate_per_s: figures.usual_peak(),
        growth_until_closed: search
            .capacity_of_the_rest()
            .filter(|_| figures.highest_peak() > 0.0)
            .map(|capacity| capacity / figures.highest_peak()),
        cost: cost(figures, &planning.cost),
    }
}

/// The answer, why, and what would work where nothing does.
pub(crate) fn conclude(
    planned: &mut Planned,
    search: &Search<'_>,
    screening: &Screening,
    alone: Option<&str>,
) {
    planned.warnings.extend(planned.seeds.as_ref().map(seed_spread));
    if !planned.fleet.measured {
        planned.warnings.push(
            "the engine profiles were not measured on this server: the risk is that of the profiles; calibrate to know how far \
             they can be trusted"
                .to_owned(),
        );
    }
    if let Some(alone) = alone {
        let mut lines = alone.lines();
        planned
            .reasons
            .push(lines.next().unwrap_or_default().trim_end_matches(" What to do instead:").to_owned());
        planned.nearest.extend(lines.map(|line| line.trim_start_matches("- ").to_owned()));
        return;
    }
    let Some(recommended) = &planned.recommended else {
        no_window(planned, search, screening);
        return;
    };
    let risk = &recommended.risk;
    planned.answer = Answer::Go;
    planned.reasons.push(format!(
        "{} misses in {} fresh futures: the chance that the service level is missed or the rollout does not end well is at most \
         {:.2} % ({:.0} % confidence), within the budget of {:.2} %",
        risk.misses,
        risk.futures,
        risk.upper * 100.0,
        risk.confidence * 100.0,
        risk.budget * 100.0
    ));
    if recommended.any_cut.estimate > search.planning.cut_risk {
        planned.answer = Answer::Conditional;
        planned.reasons.push(format!(
            "requests are cut in {:.1} % of rollouts, more than the {:.1} % asked for: on average {:.2} a rollout; a longer drain \
             timeout would spare them",
            recommended.any_cut.estimate * 100.0,
            search.planning.cut_risk * 100.0,
            recommended.expected_cut
        ));
    }
    let (conditions, warnings) = crate::reach::conditions(&planned.reach, search.scenario.slo.share);
    planned.warnings.extend(warnings);
    if !conditions.is_empty() {
        planned.answer = Answer::Conditional;
        planned.reasons.extend(conditions);
    }
    if risk.comparable_days == 0 && planned.history.kind == "recorded" {
        planned.answer = Answer::Conditional;
        planned.reasons.push(format!(
            "on condition that the day is like the recorded one: {} of history hold no day that is comparable, so nothing is known of \
             how one day differs from the next; a history of 8 days or more would tell (--history FILE)",
            span(planned.history.days * 86_400.0)
        ));
    } else if risk.comparable_days == 0 {
        planned
            .reasons
            .push("no recorded day stands behind it: the risk is that of the traffic as stated".to_owned());
    } else if risk.history_floor > risk.budget {
        planned.reasons.push(format!(
            "{} comparable days can't promise a next day better than about {:.0} %, however many futures are drawn; {} days of \
             history would let the budget of {:.2} % be promised",
            risk.comparable_days,
            risk.history_floor * 100.0,
            ((1.0 / risk.budget).ceil() - 1.0).max(1.0),
            risk.budget * 100.0
        ));
    }
}

/// How much the answer moves with the seed.
fn seed_spread(seeds: &SeedSpread) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let again = seeds.certified_again.map_or_else(String::new, |chance| {
        format!("; fresh futures would certify it again with a chance of {}", percent(chance))
    });
    format!(
        "with another seed (the screening's futures drawn anew from themselves, {} times) the same window comes first in {} of \
         cases, one of the same day in {}, and {:.1} % of the starts keep their verdict{again}",
        seeds.resamples,
        percent(seeds.same_window),
        percent(seeds.same_day),
        seeds.same_verdicts * 100.0
    )
}

/// What all starts and futures of the screening together came to.
#[derive(Default)]
struct Overall {
    futures: u64,
    closed: u64,
    simulated: u64,
    missed_without: u64,
    slo_missed: u64,
    not_ended: u64,
}

impl Overall {
    fn of(starts: &[&StartFigures]) -> Self {
        let sum = |value: fn(&StartFigures) -> u64| starts.iter().map(|start| value(start)).sum::<u64>();
        let closed = sum(|start| start.closed);
        Self {
            futures: sum(|start| start.futures),
            closed,
            simulated: sum(|start| start.futures - start.closed),
            missed_without: sum(|start| start.missed_without),
            slo_missed: sum(|start| start.slo_missed),
            not_ended: sum(|start| start.not_completed) - closed,
        }
    }

    fn share(&self, count: u64) -> f64 {
        count as f64 / self.simulated.max(1) as f64
    }
}

/// Why there is no window, the cause first, and what would work.
fn no_window(planned: &mut Planned, search: &Search<'_>, screening: &Screening) {
    let tried: Vec<&StartFigures> = screening.starts.iter().filter(|start| start.futures > 0).collect();
    if tried.is_empty() {
        planned.reasons.push("no start was tried: the search was stopped before".to_owned());
        return;
    }
    let overall = Overall::of(&tried);
    let calmest = tried.iter().map(|start| start.usual_peak()).fold(f64::INFINITY, f64::min);
    without_any_rollout(planned, &overall, calmest);
    no_end(planned, search, screening, &overall);
    new_version(planned, calmest);
    all_at_once(planned, search, &tried, &overall);
    let undecided = planned.certified.iter().filter(|window| window.verdict == Verdict::Undecided).count();
    let budget = search.planning.risk * 100.0;
    planned.reasons.push(if undecided > 0 {
        format!(
            "no window could be shown to be within the risk budget of {budget:.2} %: {undecided} of the {} looked at more closely \
             could not be decided",
            planned.certified.len()
        )
    } else {
        format!("no window is within the risk budget of {budget:.2} %")
    });
    if let Some(best) = planned.certified.iter().min_by(|a, b| a.risk.estimate.total_cmp(&b.risk.estimate)) {
        planned.reasons.push(format!(
            "the best of the {} looked at more closely, from {} on, missed in {} of {} fresh futures",
            planned.certified.len(),
            best.start,
            best.risk.misses,
            best.risk.futures
        ));
    }
    // A hundredth of them explains nothing.
    if overall.closed * 100 >= overall.futures {
        planned.reasons.push(format!(
            "in {:.0} % of the starts and futures the load never falls to what the replicas that stay would carry, for as long as the \
             gate waits",
            overall.closed as f64 / overall.futures as f64 * 100.0
        ));
    }
    nearest(planned, search, &tried);
}

fn without_any_rollout(planned: &mut Planned, overall: &Overall, calmest: f64) {
    let share = overall.share(overall.missed_without);
    let all = planned.capacity.last().copied();
    let too_much = all.filter(|all| calmest.is_finite() && all.high < calmest);
    if share > MISSED_ANYWAY {
        planned.reasons.push(format!(
            "the service level is missed without any rollout already: in {:.0} % of the starts and futures the same period misses it \
             with all replicas serving",
            share * 100.0
        ));
    } else if let Some(all) = too_much {
        planned.reasons.push(format!(
            "the service level is missed without any rollout already: all {} replicas carry {:.1} requests/s within it, and even at \
             the calmest start {calmest:.1} come",
            all.replicas, all.rate_per_s
        ));
    } else {
        return;
    }
    planned.nearest.push(match all.filter(|all| all.rate_per_s > 0.0) {
        None => {
            "a wider service level (slo.ttft, slo.tpot, slo.share): this one is missed by a single request that has all replicas to \
             itself"
                .to_owned()
        }
        Some(all) if all.low > calmest => format!(
            "a steady load of {:.1} requests/s would be carried, and at the calmest start {calmest:.1} come: it is single five minutes \
             that fall below the share of {:.1} % (a wider slo.share, fewer bursts, or shorter answers)",
            all.low,
            planned.slo.share * 100.0
        ),
        Some(all) => format!(
            "all {} replicas carry at most {:.1} requests/s within the service level: less traffic, more replicas, or a wider service \
             level (slo.ttft, slo.tpot, slo.share) comes before any rollout",
            all.replicas, all.rate_per_s
        ),
    });
}

/// Rollouts that do not end well though the service level may be kept: it is not the hour that matters.
fn no_end(planned: &mut Planned, search: &Search<'_>, screening: &Screening, overall: &Overall) {
    let share = overall.share(overall.not_ended);
    let most = screening.ends.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
    let Some((end, _)) = most.filter(|_| share > MISSED_ANYWAY) else { return };
    planned.reasons.push(format!(
        "the rollout does not come to its end, whenever it begins: in {:.0} % of the starts and futures; most often it {end}",
        share * 100.0
    ));
    let faults: Vec<String> = search.scenario.faults.iter().map(variant::fault_in_words).collect();
    if !faults.is_empty() {
        planned.reasons.push(format!("the scenario has it so: {}", faults.join("; ")));
        planned.nearest.push(
            "mend what the fault stands for, or take it out of the scenario (faults = []) to see what the hours alone allow".to_owned(),
        );
    }
    if search.scenario.rollout.compare.is_some() && end.contains("comparison") {
        planned.nearest.push(
            "the new version is worse than rollout.compare declares it to be: mend it, or declare what is expected of it \
             (ttft_ratio, tpot_ratio)"
                .to_owned(),
        );
    }
}

/// A new version that does not carry the load misses the service level after the rollout, however it is rolled out.
fn new_version(planned: &mut Planned, calmest: f64) {
    let (Some(new), Some(old)) = (planned.capacity_new, planned.capacity.last().copied()) else { return };
    if !calmest.is_finite() || new.high >= calmest || old.low < calmest {
        return;
    }
    planned.reasons.push(format!(
        "it is the new version, not the rollout: all {} replicas of it carry {:.1} requests/s within the service level, those of the \
         old one {:.1}, and even at the calmest start {calmest:.1} come",
        new.replicas, new.rate_per_s, old.rate_per_s
    ));
    let more = (calmest / new.rate_per_s.max(1e-9) * f64::from(new.replicas)).ceil();
    planned.nearest.push(format!(
        "with {:.0} % less traffic, or {more:.0} replicas, the new version would carry it",
        ((1.0 - new.rate_per_s / calmest) * 100.0).ceil()
    ));
}

/// All at once: nobody serves meanwhile.
fn all_at_once(planned: &mut Planned, search: &Search<'_>, tried: &[&StartFigures], overall: &Overall) {
    if search.scenario.rollout.strategy != Strategy::Recreate || overall.slo_missed == 0 {
        return;
    }
    let least = tried
        .iter()
        .filter(|start| start.futures > start.closed)
        .min_by(|a, b| cost(a, &search.planning.cost).total_cmp(&cost(b, &search.planning.cost)));
    let Some(least) = least else { return };
    let simulated = (least.futures - least.closed) as f64;
    let missed = least.missed as f64 / simulated;
    // Of all starts: that of the best one would be the luckiest.
    let down = tried.iter().map(|start| start.below_n_s).sum::<f64>() / overall.simulated.max(1) as f64;
    planned.reasons.push(format!(
        "recreate takes all replicas out at once: nobody serves for {}, which no service level forgives",
        span(down)
    ));
    planned.nearest.push(format!(
        "recreate in a maintenance window of {} that is announced: at its best, {}, some {missed:.0} requests miss the service \
         level (`slackwater simulate --start` shows one in full)",
        span(tried.iter().filter_map(|start| start.duration_s(0.95)).fold(down, f64::max)),
        search.text(least.start_ps)
    ));
    let replicas = search.scenario.fleet.replica_count();
    let group = search.scenario.fleet.tensor_parallel;
    if replicas == 1 && group > 1 {
        planned.nearest.push(format!(
            "two replicas of {} GPUs each (fleet.replicas = 2, fleet.tensor_parallel = {}), if the model fits: they can be rolled \
             one at a time",
            group / 2,
            group / 2
        ));
    }
}

/// What lies neither in the hour nor in the rollout: other settings of clients and balancer with which the replicas that stay
/// would carry the calmest start's load.
fn elsewhere(search: &Search<'_>, calmest: f64) -> Vec<String> {
    let mut ways = Vec::new();
    let scenario = &search.scenario;
    if let Some(read_timeout) = scenario.router.read_timeout {
        let mut patient = scenario.clone();
        patient.router.read_timeout = None;
        ways.push((
            patient,
            format!(
                "a balancer that waits longer for the first byte (router.read_timeout is {read_timeout})"
            ),
        ));
    }
    if scenario.clients.retries != Retries::default() {
        let mut usual = scenario.clone();
        usual.clients.retries = Retries::default();
        ways.push((
            usual,
            "the usual client's retries: few, and backed off (clients.retries = {})".to_owned(),
        ));
    }
    ways.into_iter()
        .filter_map(|(other, words)| {
            let rest = crate::plan::rest_of(&other, &search.futures)?;
            (rest / (1.0 + scenario.rollout.gate.margin) > calmest).then(|| {
                format!("with {words} the replicas that stay carry {rest:.1} requests/s, and {calmest:.1} come at the calmest start")
            })
        })
        .collect()
}

fn nearest(planned: &mut Planned, search: &Search<'_>, tried: &[&StartFigures]) {
    let best = tried
        .iter()
        .min_by(|a, b| a.failed.cmp(&b.failed).then(a.highest_peak().total_cmp(&b.highest_peak())));
    let everywhere = tried.iter().all(|start| start.failed == start.futures);
    if let Some(best) = best {
        // Where all fail alike, no start is better than another.
        if !everywhere {
            planned.nearest.push(format!(
                "the least bad start is {}: {} of {} futures missed",
                search.text(best.start_ps),
                best.failed,
                best.futures
            ));
        }
        if let Some(capacity) =
            search.capacity_of_the_rest().filter(|rest| *rest > 0.0 && best.highest_peak() > 0.0)
        {
            let share = capacity / (1.0 + search.scenario.rollout.gate.margin) / best.highest_peak();
            if share < 1.0 {
                planned.nearest.push(format!(
                    "with {:.0} % less traffic at {} the replicas that stay would carry it; or with one more replica",
                    ((1.0 - share) * 100.0).ceil(),
                    search.text(best.start_ps)
                ));
            }
        }
    }
    if tried.iter().any(|start| start.closed > 0) {
        planned.nearest.extend(elsewhere(
            search,
            tried.iter().map(|start| start.usual_peak()).fold(f64::INFINITY, f64::min),
        ));
    }
    let clean: Vec<String> = planned
        .strategies
        .iter()
        .filter(|row| row.figures.is_some_and(|figures| figures.risk.misses == 0))
        .map(|row| format!("{} ({})", row.strategy, row.with))
        .collect();
    // Where a fault is in every trial, a strategy that happens not to meet it is no advice.
    let clean = if search.scenario.faults.is_empty() { clean } else { Vec::new() };
    let futures =
        planned.strategies.iter().filter_map(|row| row.figures).map(|figures| figures.risk.futures).max();
    if let (false, Some(futures)) = (clean.is_empty(), futures) {
        planned.nearest.push(format!(
            "another strategy at that start: none of {futures} futures missed with {}; the table of strategies says what each needs",
            clean.join(", ")
        ));
    }
    if planned.nearest.is_empty()
        && let Some(best) = best
    {
        planned.nearest.push(format!(
            "the least bad start is {}: {} of {} futures missed",
            search.text(best.start_ps),
            best.failed,
            best.futures
        ));
    }
}
