//! Increases of counters that begin again, vanish and are not scraped for a while.
//!
//! ```text
//! step            0    1    2    3    4    5    6    7
//! replica a      10   16   22    2    8   14    .    .     falls at 3: began again, 2 requests since
//! replica b       .    .    .    3    9   15    .   27     new at 3: 3 requests since it began
//! lit             *    *    *    *    *    *         *     nobody was scraped at 6: a gap
//! ```
//!
//! Increases are those of each series, added up; never the increase of a sum, which falls when one replica begins again.
//! What a series that goes on without a fall went up by while it was not scraped is known as a total, and is spread evenly.
//! While nobody was scraped and some counters began again, what they had counted is lost: the rate there is drawn from
//! before to after the gap, and the gap says so.

use super::history::RecordedRate;

/// A stretch of time in which nothing was scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Unix seconds.
    pub from_s: i64,
    /// Unix seconds.
    pub until_s: i64,
    /// Whether all counters went on through it, so that the number of requests in it is known.
    pub total_known: bool,
}

/// Steps on each side of a gap whose mean rate it is filled from.
const LOOKED_AT: usize = 10;

/// A step's number and the counter's value at its end.
type Point = (usize, f64);

/// The increase of all series in each step after the first point. `series`: points in order, step 0 ending at `from_s`.
pub(super) fn increases(series: &[Vec<Point>], from_s: i64, step_s: i64) -> Option<RecordedRate> {
    let first = series.iter().filter_map(|points| points.first()).map(|point| point.0).min()?;
    let last = series.iter().filter_map(|points| points.last()).map(|point| point.0).max()?;
    if last == first {
        return None;
    }
    let mut lit = vec![false; last - first + 1];
    for (place, _) in series.iter().flatten() {
        lit[place - first] = true;
    }
    let spacing = usual_spacing(series);
    let fastest = fastest_step(series);
    let mut rate = RecordedRate { step_s, ..RecordedRate::default() };
    // Step i of `counts` ends where `lit[i]` does; nothing is known of step 0, in which the first point lies.
    let mut counts = vec![0.0; lit.len()];
    let dark = dark_runs(&lit, 2 * spacing);
    // Of each dark run: whether some series that was there before it did not go on through it.
    let mut broken = vec![false; dark.len()];
    for points in series {
        let begins = points[0].0 - first;
        if begins > spacing {
            rate.appeared += 1;
            // It began at zero within the step before, or it is older and its past is unknown.
            if points[0].1 <= 2.0 * fastest * spacing as f64 {
                let own = own_rate(points).unwrap_or(fastest);
                spread_back(&mut counts, begins, points[0].1, own, begins - 1);
            } else {
                rate.first_values_left_out += 1;
            }
        }
        for (index, pair) in points.windows(2).enumerate() {
            let [(before, from), (after, to)] =
                [(pair[0].0 - first, pair[0].1), (pair[1].0 - first, pair[1].1)];
            if to >= from {
                let share = (to - from) / (after - before) as f64;
                counts[before + 1..=after].iter_mut().for_each(|count| *count += share);
                continue;
            }
            rate.resets += 1;
            let own = own_rate(&points[index + 1..]).unwrap_or(fastest);
            spread_back(&mut counts, after, to, own, after - before);
            mark(&mut broken, &dark, before, after);
        }
        let ends = points[points.len() - 1].0 - first;
        if ends + 2 * spacing < last - first {
            rate.vanished += 1;
            mark(&mut broken, &dark, ends, ends + 2 * spacing);
        }
    }
    let second = |step: usize| {
        from_s.saturating_add(i64::try_from(first + step).unwrap_or(i64::MAX).saturating_mul(step_s))
    };
    for ((begin, end), broken) in dark.iter().copied().zip(broken) {
        if broken {
            fill(&mut counts, begin, end, spacing);
        }
        rate.gaps.push(Gap { from_s: second(begin - 1), until_s: second(end - 1), total_known: !broken });
    }
    rate.from_s = second(0);
    rate.steps = counts.split_off(1);
    Some(rate)
}

/// Steps from one point of a series to its next, as a rule: more than one where scrapes are rarer than steps.
fn usual_spacing(series: &[Vec<Point>]) -> usize {
    let mut spacings: Vec<usize> =
        series.iter().flat_map(|points| points.windows(2).map(|pair| pair[1].0 - pair[0].0)).collect();
    let middle = spacings.len() / 2;
    if spacings.is_empty() { 1 } else { (*spacings.select_nth_unstable(middle).1).max(1) }
}

/// The most that one series went up by in a step.
#[expect(clippy::cast_precision_loss)]
fn fastest_step(series: &[Vec<Point>]) -> f64 {
    let pairs = series.iter().flat_map(|points| points.windows(2));
    pairs.map(|pair| (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0) as f64).fold(1.0, f64::max)
}

/// What a series goes up by in a step, just after its first point here.
#[expect(clippy::cast_precision_loss)]
fn own_rate(points: &[Point]) -> Option<f64> {
    let until =
        points.windows(2).position(|pair| pair[1].1 < pair[0].1).map_or(points.len(), |fall| fall + 1);
    let last = points[..until.min(LOOKED_AT + 1)].last()?;
    let rate = (last.1 - points[0].1) / (last.0 - points[0].0).max(1) as f64;
    (rate > 0.0).then_some(rate)
}

/// Lays `amount` over the steps up to and with `end`, `rate` in each, over at most `most` steps (and at least one).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn spread_back(counts: &mut [f64], end: usize, amount: f64, rate: f64, most: usize) {
    let steps = ((amount / rate).ceil() as usize).clamp(1, most.max(1)).min(end + 1);
    let share = amount / steps as f64;
    counts[end + 1 - steps..=end].iter_mut().for_each(|count| *count += share);
}

/// Runs of at least `least` steps without a point: (first, one past the last).
fn dark_runs(lit: &[bool], least: usize) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut begin = 0;
    for (step, lit) in lit.iter().enumerate() {
        if *lit {
            if step - begin >= least {
                runs.push((begin, step));
            }
            begin = step + 1;
        }
    }
    runs
}

/// The dark runs that touch the steps after `before`, up to `after`, are no longer whole.
fn mark(broken: &mut [bool], dark: &[(usize, usize)], before: usize, after: usize) {
    let from = dark.partition_point(|run| run.1 <= before);
    for (run, broken) in dark[from..].iter().zip(&mut broken[from..]) {
        if run.0 > after {
            break;
        }
        *broken = true;
    }
}

/// A straight line from the mean before the gap to the mean after it, where that is more than what is known.
#[expect(clippy::cast_precision_loss)]
fn fill(counts: &mut [f64], begin: usize, end: usize, spacing: usize) {
    let mean = |steps: &[f64]| (!steps.is_empty()).then(|| steps.iter().sum::<f64>() / steps.len() as f64);
    let looked_at = LOOKED_AT * spacing;
    let before = mean(&counts[begin.saturating_sub(looked_at).max(1)..begin.max(1)]);
    // What is counted in the first step after the gap reaches back into it.
    let after = mean(&counts[(end + 1).min(counts.len())..(end + 1 + looked_at).min(counts.len())]);
    let (Some(before), Some(after)) = (before.or(after), after.or(before)) else { return };
    let steps = (end - begin + 1) as f64;
    // The step in which the first point after the gap lies is not known either.
    for step in begin..=end.min(counts.len() - 1) {
        let along = ((step - begin) as f64 + 0.5) / steps;
        counts[step] = counts[step].max(before + (after - before) * along);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &str) -> Vec<Point> {
        let parse = |(place, text): (usize, &str)| text.parse().ok().map(|value| (place, value));
        values.split_whitespace().enumerate().filter_map(parse).collect()
    }

    fn rate(series: &[&str]) -> RecordedRate {
        let series: Vec<_> = series.iter().map(|values| points(values)).collect();
        increases(&series, 1000, 10).unwrap()
    }

    #[test]
    fn a_counter_that_falls_began_again() {
        let rate = rate(&["100 106 112 2 8 14", "50 53 56 59 62 65"]);
        assert_eq!(rate.steps, [9.0, 9.0, 5.0, 9.0, 9.0]);
        assert_eq!((rate.resets, rate.from_s, rate.step_s), (1, 1000, 10));
        // The increase of the sum would have been -107 at the fall.
        assert!(rate.gaps.is_empty());
    }

    #[test]
    fn a_new_replica_counts_from_its_beginning_and_an_old_one_from_now_on() {
        let young = rate(&["100 110 120 130 140 150", ". . . 4 12 20"]);
        assert_eq!(young.steps, [10.0, 10.0, 14.0, 18.0, 18.0]);
        assert_eq!((young.appeared, young.first_values_left_out), (1, 0));
        let old = rate(&["100 110 120 130 140 150", ". . . 90000 90008 90016"]);
        assert_eq!(old.steps, [10.0, 10.0, 10.0, 18.0, 18.0]);
        assert_eq!((old.appeared, old.first_values_left_out), (1, 1));
    }

    #[test]
    fn one_that_vanishes_is_no_gap_while_others_are_seen() {
        let rate = rate(&["100 110 120 . . . . .", "0 5 10 15 30 45 60 75"]);
        assert_eq!(rate.steps, [15.0, 15.0, 5.0, 15.0, 15.0, 15.0, 15.0]);
        assert_eq!((rate.vanished, rate.gaps.len()), (1, 0));
    }

    #[test]
    fn in_a_gap_through_which_counters_go_on_the_total_is_known() {
        let rate = rate(&["0 10 20 . . . 100 110", "0 5 10 . . . 50 55"]);
        assert_eq!(rate.steps, [15.0, 15.0, 30.0, 30.0, 30.0, 30.0, 15.0]);
        assert_eq!(rate.gaps, [Gap { from_s: 1020, until_s: 1050, total_known: true }]);
    }

    #[test]
    fn a_gap_in_which_a_counter_began_again_is_filled_and_never_zero() {
        let rate = rate(&["0 10 20 30 . . . 4 24 44 64", "0 10 20 30 . . . 6 26 46 66"]);
        assert_eq!(rate.gaps, [Gap { from_s: 1030, until_s: 1060, total_known: false }]);
        // From 20 a step before to 40 after.
        assert_eq!(rate.steps, [20.0, 20.0, 20.0, 22.5, 27.5, 32.5, 37.5, 40.0, 40.0, 40.0]);
    }

    #[test]
    fn replicas_replaced_in_a_gap_leave_its_total_unknown() {
        let rate = rate(&["0 10 20 30 . . . . . .", ". . . . . . . 5 15 25"]);
        assert_eq!(rate.gaps, [Gap { from_s: 1030, until_s: 1060, total_known: false }]);
        assert!(rate.steps.iter().all(|count| *count >= 5.0), "{:?}", rate.steps);
    }

    #[test]
    fn scrapes_rarer_than_steps_are_no_gaps() {
        let rate = rate(&["0 . . 30 . . 60 . . 90", ". 0 . . 30 . . 60 . ."]);
        assert!(rate.gaps.is_empty(), "{:?}", rate.gaps);
        assert!((rate.steps.iter().sum::<f64>() - 150.0).abs() < 1e-9);
    }

    #[test]
    fn what_comes_back_after_a_long_absence_is_laid_over_the_time_it_needs() {
        // Away from 2 on, back at 9 with 35 since it began: at 10 a step these are the last four steps.
        let rate = rate(&["10 25 40 . . . . . . 35 45 55", "0 1 2 3 4 5 6 7 8 9 10 11"]);
        assert_eq!(rate.steps, [16.0, 16.0, 1.0, 1.0, 1.0, 9.75, 9.75, 9.75, 9.75, 11.0, 11.0]);
    }

    #[test]
    fn one_point_tells_no_rate() {
        assert_eq!(increases(&[points("5")], 0, 1), None);
        assert_eq!(increases(&[], 0, 1), None);
    }
}
