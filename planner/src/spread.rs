//! How much the answer moves with the seed, without another seed: the futures that were simulated, drawn from themselves.
//!
//! ```text
//! screening's futures ──drawn with replacement, 200 times──► candidates of each draw ──► as often the same as chosen
//! certified misses ──► what the risk may be (Beta, Jeffreys) ──► chance that fresh futures would certify it again
//! ```

use slackwater_scenarios::Keyed;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::certify::{Certified, chance_of_safe};
use crate::chance::{at_most, lower};
use crate::choose::{Candidate, candidates};
use crate::plan::Search;
use crate::planned::SeedSpread;
use crate::screen::{Screening, StartFigures};

/// Times that the futures are drawn from themselves.
const RESAMPLES: u64 = 200;
/// Values of the risk that the chance of another certificate is averaged over.
const RISKS: u32 = 200;

/// `None` where nothing was screened, or in one future only.
pub(crate) fn seeds(
    search: &Search<'_>,
    screening: &Screening,
    certified: Option<&Certified>,
) -> Option<SeedSpread> {
    let futures = screening.starts.iter().flat_map(|start| &start.each).map(|one| one.future).max()? + 1;
    if futures < 2 {
        return None;
    }
    let planning = &search.planning;
    let starts = usize::try_from(planning.window.as_nanos() / planning.every.as_nanos()).unwrap_or(0) + 1;
    let first = |screening: &Screening| -> (Option<Candidate>, bool) {
        let (mut found, clean) = candidates(screening, &search.futures, &planning.cost, (starts, 1));
        (found.pop(), clean)
    };
    let (chosen, clean) = first(screening);
    let chosen = chosen?;
    let is_unsafe =
        |start: &StartFigures| lower(start.failed, start.futures, 1.0 - planning.confidence) > planning.risk;
    // The bound is costly, and there are few different counts.
    let mut known = std::collections::BTreeMap::new();
    let mut verdict = move |start: &StartFigures| {
        *known.entry((start.failed, start.futures)).or_insert_with(|| is_unsafe(start))
    };
    let was: Vec<bool> = screening.starts.iter().map(&mut verdict).collect();
    let keyed = Keyed::new(search.futures.seed()).purpose("plan.seeds");
    let (mut answers, mut windows, mut days, mut same, mut all) = (0, 0, 0, 0_u64, 0_u64);
    for number in 0..RESAMPLES {
        let mut times = vec![0_u32; usize::try_from(futures).unwrap_or(0)];
        for draw in 0..futures {
            times[usize::try_from(keyed.bits(&[number, draw]) % futures).unwrap_or(0)] += 1;
        }
        let drawn = Screening {
            starts: screening.starts.iter().map(|start| resampled(start, &times)).collect(),
            ..Screening::default()
        };
        for (start, was) in drawn.starts.iter().zip(&was).filter(|(start, _)| start.futures > 0) {
            same += u64::from(verdict(start) == *was);
            all += 1;
        }
        let (Some(other), other_clean) = first(&drawn) else { continue };
        answers += u64::from(other_clean == clean);
        let apart = other.places.end() < chosen.places.start() || other.places.start() > chosen.places.end();
        windows += u64::from(!apart);
        days += u64::from(other.day() == chosen.day());
    }
    let share = |count: u64| count as f64 / RESAMPLES as f64;
    let again = certified.and_then(|window| again(window, planning.risk));
    Some(SeedSpread {
        resamples: RESAMPLES,
        same_answer: share(answers),
        same_window: share(windows),
        same_day: share(days),
        same_verdicts: same as f64 / all.max(1) as f64,
        certified_again: again.map(|(chance, _)| chance),
        risk_estimate: again.map(|(_, estimates)| estimates),
    })
}

/// What would be known of a start, had each future come so many times.
fn resampled(start: &StartFigures, times: &[u32]) -> StartFigures {
    let mut other = StartFigures { start_ps: start.start_ps, ..StartFigures::default() };
    for (peak, times) in start.peaks.iter().zip(times) {
        other.peaks.extend((0..*times).map(|_| *peak));
    }
    let mut take_in = |one: &crate::screen::Outcome, times: u64| {
        other.futures += times;
        other.failed += times * u64::from(one.failed);
        other.closed += times * u64::from(one.closed);
        other.extra_missed += i64::try_from(times).unwrap_or(i64::MAX) * one.extra_missed;
        other.cut += times * one.cut;
        other.below_n_s += times as f64 * one.below_n_s;
        other.each.extend((0..times).map(|_| *one));
    };
    let times_of = |one: &crate::screen::Outcome| {
        usize::try_from(one.future)
            .ok()
            .and_then(|place| times.get(place))
            .map_or(0, |times| u64::from(*times))
    };
    let drawn: u64 = start.each.iter().map(times_of).sum();
    for one in &start.each {
        // None of its futures may have been drawn, where it was spared in the others.
        take_in(one, if drawn == 0 { 1 } else { times_of(one) });
    }
    other
}

/// The chance that another seed would certify the window, and between what its estimate would lie.
fn again(window: &Certified, budget: f64) -> Option<(f64, (f64, f64))> {
    let (misses, futures) = (window.risk.misses as f64, window.risk.futures as f64);
    let belief = Beta::new(misses + 0.5, futures - misses + 0.5).ok()?;
    let risks: Vec<f64> =
        (0..RISKS).map(|number| belief.inverse_cdf((f64::from(number) + 0.5) / f64::from(RISKS))).collect();
    let mean =
        |value: &dyn Fn(f64) -> f64| risks.iter().map(|risk| value(*risk)).sum::<f64>() / f64::from(RISKS);
    let chance = mean(&|risk| chance_of_safe(risk, window.first, window.alpha, budget));
    let quantile = |q: f64| {
        let count = (0..=window.risk.futures)
            .find(|count| mean(&|risk| at_most(*count, window.risk.futures, risk)) >= q);
        count.unwrap_or(window.risk.futures) as f64 / futures
    };
    Some((chance, (quantile(0.05), quantile(0.95))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::Found;
    use crate::chance::Risk;

    fn window(misses: u64, futures: u64) -> Certified {
        Certified {
            starts: vec![0],
            found: Found::Safe,
            risk: Risk::of(misses, futures, 0.95),
            first_future: 0,
            lasts: 0,
            alpha: 0.025,
            first: 368,
            trials: Vec::new(),
        }
    }

    #[test]
    fn a_cleaner_window_is_certified_again_more_often() {
        let (clean, _) = again(&window(0, 368), 0.01).unwrap();
        let (scarred, (low, high)) = again(&window(4, 1_104), 0.01).unwrap();
        assert!((0.5..1.0).contains(&scarred) && scarred < clean && clean < 1.0, "{scarred} {clean}");
        assert!(low < 4.0 / 1_104.0 && 4.0 / 1_104.0 < high, "{low} {high}");
        // A window that never misses is always certified; one far above the budget never.
        assert!(chance_of_safe(0.0, 368, 0.025, 0.01) > 0.999_999);
        assert!(chance_of_safe(0.05, 368, 0.025, 0.01) < 1e-6);
        // On the budget it is certified no more often than the error allows, by both looks together.
        assert!(chance_of_safe(0.01, 368, 0.025, 0.01) <= 0.05);
    }

    #[test]
    fn a_start_is_resampled_by_its_futures() {
        let one = |future, failed| crate::screen::Outcome {
            future,
            failed,
            extra_missed: 10,
            ..Default::default()
        };
        let start = StartFigures { each: vec![one(0, true), one(1, false)], ..StartFigures::default() };
        let drawn = resampled(&start, &[2, 0, 1]);
        assert_eq!((drawn.futures, drawn.failed, drawn.extra_missed), (2, 2, 20));
        let spared = resampled(&start, &[0, 0, 3]);
        assert_eq!((spared.futures, spared.failed), (2, 1));
    }
}
