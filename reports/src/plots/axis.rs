//! From values to places: linear and logarithmic axes with round ticks, and a panel that draws both.

use super::sheet::{Anchor, Face, Pen, Sheet, text_width};
use super::theme::Ink;
use crate::clock::Clock;
use crate::format::{figure, latency};

/// A range of values laid along a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    from: f64,
    until: f64,
    start: f64,
    end: f64,
    log: bool,
}

impl Axis {
    /// A linear axis. An empty range is widened, so that a lone value has a place.
    pub(crate) fn linear(from: f64, until: f64, start: f64, end: f64) -> Axis {
        let until = if until - from > 1e-12 { until } else { from + 1.0 };
        Axis { from, until, start, end, log: false }
    }

    /// A logarithmic axis over positive values, at least a factor of 2.5.
    pub(crate) fn log(from: f64, until: f64, start: f64, end: f64) -> Axis {
        let from = if from.is_finite() { from.max(1e-9) } else { 1e-3 };
        let until = if until.is_finite() { until.max(from) } else { from };
        let short = (2.5 * from / until).max(1.0).sqrt();
        Axis { from: (from / short).ln(), until: (until * short).ln(), start, end, log: true }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-12).ln() } else { value };
        let share = ((value - self.from) / (self.until - self.from)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    pub(crate) fn holds(&self, value: f64) -> bool {
        let value = if self.log { value.max(1e-12).ln() } else { value };
        value >= self.from - 1e-9 && value <= self.until + 1e-9
    }

    /// The range in values.
    pub(crate) fn range(&self) -> (f64, f64) {
        if self.log { (self.from.exp(), self.until.exp()) } else { (self.from, self.until) }
    }

    /// Round values on the axis, about `most` at most.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        if self.log { self.log_ticks(most) } else { self.linear_ticks(most) }
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        let step = round_step((self.until - self.from) / most.max(1) as f64);
        let first = (self.from / step - 1e-9).ceil();
        (0..=most).map(|i| (first + i as f64) * step).take_while(|v| *v <= self.until + step * 1e-6).collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let (from, until) = self.range();
        // Exponents of positive doubles are within +-308.
        #[allow(clippy::cast_possible_truncation)]
        let (low, high) = (from.log10().floor() as i32, until.log10().ceil() as i32);
        let within = |steps: &[f64]| -> Vec<f64> {
            (low..=high)
                .flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)))
                .filter(|v| *v >= from * 0.999 && *v <= until * 1.001)
                .collect()
        };
        [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]]
            .into_iter()
            .map(within)
            .find(|ticks| ticks.len() <= most)
            .unwrap_or_else(|| {
                let decades = within(&[1.0]);
                let every = decades.len().div_ceil(most.max(1));
                decades.into_iter().step_by(every.max(1)).collect()
            })
    }
}

/// The next of 1, 2, 5 times a power of ten.
pub(crate) fn round_step(wanted: f64) -> f64 {
    let wanted = if wanted.is_finite() && wanted > 0.0 { wanted } else { 1.0 };
    let power = 10f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= wanted * 0.999).unwrap_or(wanted)
}

/// A rectangle with two axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Panel {
    pub(crate) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// Horizontal rules with their values at the left.
    pub(crate) fn rules(&self, sheet: &mut Sheet, most: usize, label: impl Fn(f64) -> String) {
        for value in self.y.ticks(most) {
            let y = self.y.at(value);
            sheet.line(vec![(self.left, y), (self.right, y)], Pen::new(Ink::Grid, 1.0));
            sheet.text((self.left - 6.0, y + 4.0), &label(value), Face::Small, Ink::Muted, Anchor::End);
        }
    }

    /// The line at the bottom.
    pub(crate) fn floor(&self, sheet: &mut Sheet) {
        sheet.line(vec![(self.left, self.bottom), (self.right, self.bottom)], Pen::new(Ink::Axis, 1.0));
    }

    /// Time along the bottom, with its title when asked for.
    pub(crate) fn time_axis(&self, sheet: &mut Sheet, clock: &Clock, titled: bool) {
        self.floor(sheet);
        let (from, until) = self.x.range();
        let room = self.right - self.left;
        // As many ticks as their labels leave room for.
        let mut most = if sheet.narrow() { 6 } else { 10 };
        let mut ticks = clock.ticks(from, until, most);
        while most > 2 {
            let widest = ticks.marks.iter().map(|(_, l)| text_width(l, Face::Small)).fold(0.0, f64::max);
            if (widest + 14.0) * ticks.marks.len() as f64 <= room + widest {
                break;
            }
            most -= 1;
            ticks = clock.ticks(from, until, most);
        }
        for (at, label) in &ticks.marks {
            self.x_tick(sheet, self.x.at(*at), label);
        }
        if titled {
            self.x_title(sheet, &ticks.title);
        }
    }

    /// Values along the bottom.
    pub(crate) fn value_axis(&self, sheet: &mut Sheet, title: &str, label: impl Fn(f64) -> String) {
        self.floor(sheet);
        for value in self.x.ticks(if sheet.narrow() || self.right - self.left < 400.0 { 6 } else { 10 }) {
            self.x_tick(sheet, self.x.at(value), &label(value));
        }
        self.x_title(sheet, title);
    }

    fn x_tick(&self, sheet: &mut Sheet, x: f64, label: &str) {
        sheet.line(vec![(x, self.bottom), (x, self.bottom + 4.0)], Pen::new(Ink::Axis, 1.0));
        // A label at the very edge is pulled in, not cut off.
        let half = text_width(label, Face::Small) / 2.0;
        let x = x.min(sheet.width() - half - 1.0);
        sheet.text((x, self.bottom + 16.0), label, Face::Small, Ink::Muted, Anchor::Middle);
    }

    fn x_title(&self, sheet: &mut Sheet, title: &str) {
        let middle = f64::midpoint(self.left, self.right);
        sheet.text((middle, self.bottom + 32.0), title, Face::Small, Ink::Muted, Anchor::Middle);
    }

    /// A heading over the panel's left edge: what the y axis is, and its unit.
    pub(crate) fn heading(&self, sheet: &mut Sheet, text: &str) {
        sheet.text((self.left, self.top - 7.0), text, Face::Small, Ink::Text, Anchor::Start);
    }

    /// A period as a band; drawn before the rules, which would be hidden.
    pub(crate) fn band(&self, sheet: &mut Sheet, from: f64, until: f64) {
        let Some((x, wide)) = self.span(from, until) else { return };
        // A sliver of the usual pale shade would not be seen.
        let (ink, alpha) = if wide < 6.0 { (Ink::Orange, 0.5) } else { (Ink::Shade, 1.0) };
        sheet.rect(x, self.top, wide, self.bottom - self.top, ink, alpha);
    }

    /// A band's name, drawn after the rules, which would cross it out.
    pub(crate) fn band_name(&self, sheet: &mut Sheet, from: f64, until: f64, name: &str) {
        let Some((x, wide)) = self.span(from, until) else { return };
        let text = text_width(name, Face::Small);
        let (start, ink) = if text + 10.0 <= wide {
            (x + 5.0, Ink::Shade)
        } else if x + wide + text + 6.0 < self.right {
            (x + wide + 4.0, Ink::Paper)
        } else {
            (x - text - 4.0, Ink::Paper)
        };
        sheet.rect(start - 1.0, self.top + 3.0, text + 2.0, 13.0, ink, 1.0);
        sheet.text((start, self.top + 13.0), name, Face::Small, Ink::Muted, Anchor::Start);
    }

    /// Where a period begins and how wide it is: never thinner than can be seen, so that minutes within a week still show.
    fn span(&self, from: f64, until: f64) -> Option<(f64, f64)> {
        let (low, high) = self.x.range();
        if !(from.is_finite() && until.is_finite()) || until < low || from > high {
            return None;
        }
        let x = self.x.at(from);
        Some((x, (self.x.at(until) - x).max(1.5)))
    }
}

/// An axis label for a rate or a count.
pub(crate) fn plain(value: f64) -> String {
    figure(value)
}

/// An axis label for a latency: `50 ms`, `2 s`, `5 min`.
pub(crate) fn time(value: f64) -> String {
    latency(value)
}

/// A value that lies over all of these by a little, at least `least`.
pub(crate) fn ceiling(values: impl Iterator<Item = f64>, least: f64) -> f64 {
    values.filter(|v| v.is_finite()).fold(least, f64::max)
}

/// When, and what was measured then, if anything was.
pub(crate) type Sample = (f64, Option<f64>);

/// Samples in the order of time.
pub(crate) type Samples = Vec<Sample>;

/// What stands for a bucket of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The largest: latencies and queues, whose peaks are the point.
    Peak,
    /// The mean: rates, whose sum is.
    Mean,
}

/// Samples thinned to what the width can show, gaps kept.
pub(crate) fn thin(points: Samples, most: usize, keep: Keep) -> Samples {
    let bucket = points.len().div_ceil(most.max(1)).max(1);
    if bucket == 1 {
        return points;
    }
    points
        .chunks(bucket)
        .map(|chunk| {
            let values = || chunk.iter().filter_map(|(_, v)| *v).filter(|v| v.is_finite());
            let value = match keep {
                Keep::Peak => values().reduce(f64::max),
                Keep::Mean => {
                    (values().next().is_some()).then(|| values().sum::<f64>() / values().count() as f64)
                }
            };
            (chunk[chunk.len() - 1].0, value)
        })
        .collect()
}

/// The runs between gaps.
pub(crate) fn runs(points: &[Sample]) -> Vec<Vec<(f64, f64)>> {
    points
        .split(|(at, v)| !at.is_finite() || v.is_none_or(|v| !v.is_finite()))
        .filter(|run| !run.is_empty())
        .map(|run| run.iter().filter_map(|(at, v)| v.map(|v| (*at, v))).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Axis::linear(0.0, 10.0, 0.0, 1.0).ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::log(0.1, 10.0, 0.0, 1.0).ticks(8).len(), 7);
        for (from, until) in [(0.0, 0.0), (1e-9, 1e9), (5.0, 5.0), (0.0, f64::NAN)] {
            assert!(Axis::linear(from, until, 0.0, 1.0).ticks(6).len() <= 7);
            assert!(Axis::log(from, until, 0.0, 1.0).ticks(6).len() <= 7);
        }
    }

    #[test]
    fn thinning_keeps_peaks_and_gaps() {
        let points: Vec<_> =
            (0..1_000).map(|i| (f64::from(i), (i >= 500).then_some(f64::from(i % 250)))).collect();
        let thinned = thin(points, 100, Keep::Peak);
        assert_eq!(thinned.len(), 100);
        assert_eq!(runs(&thinned).len(), 1);
        assert!(thinned.iter().any(|(_, v)| *v == Some(249.0)));
    }
}
