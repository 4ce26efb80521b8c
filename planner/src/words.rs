//! From figures to what is said of them.

use slackwater_engine::Ps;
use slackwater_scenarios::Scenario;

use crate::certify::Certified;
use crate::chance::Risk;
use crate::choose::cost;
use crate::plan::{Search, into_horizon_s};
use crate::planned::{Answer, Planned, StartVerdict, Verdict};
use crate::screen::{Screening, StartFigures};

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
    [&scenario.from, &scenario.to].iter().all(|version| version.engine.source.starts_with("calibrated"))
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
    screening
        .starts
        .iter()
        .filter(|start| start.futures > 0)
        .map(|start| verdict(search, start, certified))
        .collect()
}

fn verdict(search: &Search<'_>, figures: &StartFigures, certified: &[Certified]) -> StartVerdict {
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
        slo_missed: figures.slo_missed as f64 / simulated,
        missed_without: figures.missed_without as f64 / simulated,
        any_cut: figures.any_cut as f64 / simulated,
        expected_cut: figures.cut as f64 / simulated,
        expected_missed: figures.missed as f64 / simulated,
        duration_p50_s: figures.duration_s(0.5),
        duration_p95_s: figures.duration_s(0.95),
        extra_ttft_p95_s: extra(0.95, &ttft),
        extra_ttft_p99_s: extra(0.99, &ttft),
        extra_tpot_p95_s: extra(0.95, &tpot),
        extra_tpot_p99_s: extra(0.99, &tpot),
        peak_rate_per_s: figures.peak_rate.0,
        growth_until_closed: search
            .capacity_of_the_rest()
            .filter(|_| figures.peak_rate.1 > 0.0)
            .map(|capacity| capacity / figures.peak_rate.1),
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
    planned.warnings.extend(seed_spread(screening));
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
    if risk.comparable_days == 0 && planned.history.kind == "recorded" {
        planned.reasons.push(format!(
            "{} of history hold no day that is comparable: nothing is known of how one day differs from the next",
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

fn no_window(planned: &mut Planned, search: &Search<'_>, screening: &Screening) {
    let tried: Vec<&StartFigures> = screening.starts.iter().filter(|start| start.futures > 0).collect();
    if tried.is_empty() {
        planned.reasons.push("no start was tried: the search was stopped before".to_owned());
        return;
    }
    let futures: u64 = tried.iter().map(|start| start.futures - start.closed).sum();
    let anyway: u64 = tried.iter().map(|start| start.missed_without).sum();
    let closed: u64 = tried.iter().map(|start| start.closed).sum();
    let all: u64 = tried.iter().map(|start| start.futures).sum();
    if futures > 0 && anyway as f64 / futures as f64 > MISSED_ANYWAY {
        planned.reasons.push(format!(
            "the service level is missed without any rollout already: in {:.0} % of the starts and futures the same period misses \
             it with all replicas serving",
            anyway as f64 / futures as f64 * 100.0
        ));
    }
    let undecided = planned.certified.iter().filter(|window| window.verdict == Verdict::Undecided).count();
    planned.reasons.push(if undecided > 0 {
        format!(
            "no window could be shown to be within the risk budget of {:.2} %: {undecided} of the {} looked at more closely could \
             not be decided",
            search.planning.risk * 100.0,
            planned.certified.len()
        )
    } else {
        format!("no window is within the risk budget of {:.2} %", search.planning.risk * 100.0)
    });
    if closed > 0 {
        planned.reasons.push(format!(
            "in {:.0} % of the starts and futures the load never falls to what the replicas that stay would carry, for as long as the \
             gate waits",
            closed as f64 / all as f64 * 100.0
        ));
    }
    let best =
        tried.iter().min_by(|a, b| a.failed.cmp(&b.failed).then(a.peak_rate.1.total_cmp(&b.peak_rate.1)));
    if let Some(best) = best {
        planned.nearest.push(format!(
            "the least bad start is {}: {} of {} futures missed",
            search.text(best.start_ps),
            best.failed,
            best.futures
        ));
        if let Some(capacity) = search.capacity_of_the_rest().filter(|_| best.peak_rate.1 > 0.0) {
            let share = capacity / (1.0 + search.scenario.rollout.gate.margin) / best.peak_rate.1;
            if share < 1.0 {
                planned.nearest.push(format!(
                    "with {:.0} % less traffic at that time the replicas that stay would carry it; or with one more replica",
                    (1.0 - share) * 100.0
                ));
            }
        }
    }
    for row in &planned.strategies {
        if let Some(figures) = &row.figures
            && figures.risk.misses == 0
        {
            planned.nearest.push(format!(
                "strategy {} ({}) missed in none of {} futures at that start",
                row.strategy, row.with, figures.risk.futures
            ));
        }
    }
}

/// How much screening moves with the futures drawn: both halves of them on the same starts.
fn seed_spread(screening: &Screening) -> Option<String> {
    let starts = screening.starts.iter().filter(|start| start.futures >= 4);
    let (mut count, mut agree) = (0_u64, 0_u64);
    for start in starts {
        let (even, odd) = (start.failed_even, start.failed - start.failed_even);
        count += 1;
        agree += u64::from((even == 0) == (odd == 0));
    }
    (count > 0).then(|| {
        format!(
            "screening with one half of the futures and with the other agrees on {:.1} % of the starts (whether any future missed); \
             another seed moves it about as much",
            agree as f64 / count as f64 * 100.0
        )
    })
}
