//! From figures of arrivals to a process that has them.
//!
//! ```text
//! rate, CV of gaps, dispersion of counts ─► gaps alone ─ or with a flicker ─ or on/off with a flicker ─► Bursts
//!                                           the first that meets the figures within their sampling error
//! ```
//!
//! With a factor on the rate of mean 1 and autocovariance C(t), counts in windows of w have the dispersion
//! `J(w) + 2 rate ∫ (1 - t/w) C(t) dt`, J being that of the gaps alone. A lognormal factor's covariance is a sum of
//! exponentials, on and off is one (so is their product), and each one's integral is closed. Figures of a stretch are around
//! the stretch's own mean, which takes away the part that is common to all of it.

use super::bursts::{Arrivals, Bursts, Flicker, OnOff};
use super::normal::gamma_share;
use crate::time::HumanDuration;

/// What is known of arrivals at a steady rate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BurstFigures {
    /// Requests a second.
    pub rate_per_s: f64,
    /// Coefficient of variation of the gaps, where times are fine enough to say it.
    pub cv: Option<f64>,
    /// Index of dispersion of counts: (width of the windows in seconds, variance over mean). A Poisson process has 1.
    pub dispersion: Vec<(f64, f64)>,
    /// The stretch whose mean they are around, in seconds: the whole trace, or an hour where each hour has its own.
    pub window_s: f64,
    /// How long arrivals were looked at in all, in seconds: how much the figures can be trusted.
    pub span_s: f64,
    /// What of the rate's movement is known already and is not to be explained again: a slow lognormal factor by its
    /// (standard deviation of the logarithm, memory in seconds). (0, 1): nothing.
    pub known: (f64, f64),
}

/// A process, and what it was found by.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstFit {
    /// The process.
    pub bursts: Bursts,
    /// Its coefficient of variation of gaps, as computed, not drawn.
    pub cv: f64,
    /// Its dispersion at the widths of the figures.
    pub dispersion: Vec<(f64, f64)>,
    /// The largest factor between a figure and the process', either way; 1 is exact.
    pub worst_factor: f64,
}

/// The bounds of what is looked for.
const CV_RANGE: (f64, f64) = (0.05, 20.0);
/// With a flicker: the dispersion of gaps that are more uneven is not known well enough.
const CV_BESIDE: (f64, f64) = (0.05, 3.0);
const SD_RANGE: (f64, f64) = (0.01, 1.6);
/// A flicker lasts for some gaps at least: the CV's form is that of a rate which hardly moves within one.
const LEAST_GAPS: f64 = 5.0;
/// A figure is never trusted to be better than this share: the model is one, not the truth.
const MODEL_ERROR: f64 = 0.03;
/// Squared errors a figure, in units of what it can be trusted to, that are good enough.
const GOOD_ENOUGH: f64 = 1.5;

/// Figures that are all met within this factor are good enough too, however sure they are.
const CLOSE_ENOUGH: f64 = 1.1;

#[derive(Clone, Copy, Debug)]
struct Model {
    cv: f64,
    sd: f64,
    memory_s: f64,
    on_off: Option<(f64, f64)>,
}

/// The mean of an exponential covariance over pairs of times in a window: its width over its memory.
fn averaged(x: f64) -> f64 {
    if x < 1e-4 { 1.0 - x / 3.0 } else { 2.0 * (x - 1.0 + (-x).exp()) / (x * x) }
}

/// The same for the covariance of a lognormal, `exp(sd² e^{-t/memory}) - 1`, times another exponential one of this
/// variance and memory (of variance 1 and endless memory where there is none).
fn lognormal(sd: f64, memory_s: f64, width_s: f64, other: (f64, f64)) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for power in 1..40 {
        term *= sd * sd / f64::from(power);
        sum += term * averaged(width_s * (f64::from(power) / memory_s + other.1));
        if term < 1e-12 {
            break;
        }
    }
    sum * other.0
}

/// The dispersion of counts of a renewal process with Gamma gaps of this squared CV, met in its course, in windows of so
/// many mean gaps: `x V = x + 2 ∫ m - x²`, m being the expected renewals after one, a sum of Gamma distribution functions
/// whose integrals are closed (Cox 1962).
fn renewal(squared_cv: f64, gaps: f64) -> f64 {
    if (squared_cv - 1.0).abs() < 1e-9 {
        return 1.0;
    }
    let shape = 1.0 / squared_cv;
    if gaps > 5.0 * (1.0 + squared_cv) {
        return squared_cv + (1.0 - squared_cv * squared_cv) / (6.0 * gaps);
    }
    if squared_cv > 40.0 {
        // So uneven that the sum would be long: an exponential covariance with the same end.
        let x = 6.0 * gaps / (1.0 + squared_cv);
        return 1.0 + (squared_cv - 1.0) * (1.0 + (-x).exp_m1() / x.max(1e-12));
    }
    let (end, mut at, mut sum) = (shape * gaps, 0.0, 0.0);
    loop {
        at += shape;
        let term = end * gamma_share(at, end) - at * gamma_share(at + 1.0, end);
        sum += term;
        if at > end && term < 1e-9 * sum.max(1e-9) {
            return (1.0 + 2.0 * sum / shape / gaps - gaps).max(1e-6);
        }
    }
}

impl Model {
    /// The dispersion of counts in windows of this width, around the true mean.
    fn dispersion(&self, figures: &BurstFigures, width_s: f64) -> f64 {
        let rate = figures.rate_per_s;
        let squared = self.cv * self.cv;
        let own = renewal(squared, rate * width_s);
        let mut moved = lognormal(self.sd, self.memory_s, width_s, (1.0, 0.0));
        if let Some((on, off)) = self.on_off {
            let (variance, rate) = (off / on, 1.0 / on + 1.0 / off);
            moved += variance * averaged(width_s * rate);
            moved += lognormal(self.sd, self.memory_s, width_s, (variance, rate));
        }
        let (sd, memory_s) = figures.known;
        moved += lognormal(sd, memory_s, width_s, (1.0, 0.0));
        own + rate * width_s * moved
    }

    /// As it is seen around the mean of a stretch: what varies from stretch to stretch is not seen.
    fn seen(&self, figures: &BurstFigures, width_s: f64) -> f64 {
        let all = self.dispersion(figures, figures.window_s) * width_s / figures.window_s;
        (self.dispersion(figures, width_s) - all).max(1e-3)
    }

    fn gaps_cv(&self, figures: &BurstFigures) -> f64 {
        let rate = figures.rate_per_s;
        // Gaps at a rate that hardly moves within one: E[gap²] is that of the gaps times E[1/factor].
        // What moves all of a stretch alike is in its mean.
        let within = |sd: f64, memory_s: f64| {
            let still = averaged(1.0 / (rate * memory_s)) - averaged(figures.window_s / memory_s);
            sd * sd * still.max(0.0)
        };
        let moves = within(self.sd, self.memory_s) + within(figures.known.0, figures.known.1);
        let squared = (self.cv * self.cv + 1.0) * moves.exp() - 1.0;
        let idle = self.on_off.map_or(0.0, |(on, off)| {
            // The interrupted Poisson process (Kuczura 1973).
            let (to_off, to_on) = (1.0 / on, 1.0 / off);
            2.0 * rate * (on + off) / on * to_off / ((to_off + to_on) * (to_off + to_on))
        });
        (squared + idle).max(1e-6).sqrt()
    }

    /// Squared errors of the logarithms, in units of what each figure can be trusted to; and the number of figures.
    fn misfit(&self, figures: &BurstFigures) -> f64 {
        let mut sum = 0.0;
        for (width_s, index) in &figures.dispersion {
            let trusted = MODEL_ERROR * MODEL_ERROR + 2.0 * width_s / figures.span_s.max(*width_s);
            sum += (self.seen(figures, *width_s) / index.max(1e-3)).ln().powi(2) / trusted;
        }
        if let Some(cv) = figures.cv {
            let trusted = MODEL_ERROR * MODEL_ERROR + 1.0 / (figures.rate_per_s * figures.span_s).max(1.0);
            sum += (self.gaps_cv(figures) / cv.max(1e-3)).ln().powi(2) / trusted;
        }
        sum
    }

    /// The largest factor between a figure and the model's, either way.
    fn worst_factor(&self, figures: &BurstFigures) -> f64 {
        let counts = figures
            .dispersion
            .iter()
            .map(|(width_s, wanted)| self.seen(figures, *width_s) / wanted.max(1e-3));
        let gaps = figures.cv.map(|wanted| self.gaps_cv(figures) / wanted.max(1e-3));
        counts.chain(gaps).map(|ratio| ratio.max(1.0 / ratio)).fold(1.0, f64::max)
    }

    fn bursts(&self) -> Bursts {
        let duration =
            |seconds| HumanDuration::from_secs_f64(seconds).unwrap_or(HumanDuration::from_secs(60));
        Bursts {
            // Within 3 % of it, a sample can't be told from Poisson by a user.
            arrivals: if (self.cv - 1.0).abs() <= 0.03 {
                Arrivals::Poisson
            } else {
                Arrivals::GammaCv(self.cv)
            },
            on_off: self.on_off.map(|(on, off)| OnOff { on: duration(on), off: duration(off) }),
            flicker: (self.sd > SD_RANGE.0).then(|| Flicker { sd: self.sd, memory: duration(self.memory_s) }),
            ..Bursts::default()
        }
    }
}

impl Bursts {
    /// The simplest process that has these figures, or comes nearest to them: one distribution of gaps; that with a flicker
    /// of the rate; bursts with nothing between, with a flicker. Figures that are no numbers are left out.
    #[must_use]
    pub fn fit(figures: &BurstFigures) -> BurstFit {
        let mut figures = figures.clone();
        figures.rate_per_s = figures.rate_per_s.clamp(1e-9, 1e9);
        figures.window_s = figures.window_s.clamp(1e-3, 1e9);
        figures
            .dispersion
            .retain(|(width_s, index)| index.is_finite() && (1e-3..figures.window_s).contains(width_s));
        figures.cv = figures.cv.filter(|cv| cv.is_finite());
        if !(figures.known.0 >= 0.0 && figures.known.1 > 0.0) {
            figures.known = (0.0, 1.0);
        }
        #[expect(clippy::cast_precision_loss)]
        let enough = GOOD_ENOUGH * (figures.dispersion.len() + usize::from(figures.cv.is_some())) as f64;
        let mut best = Model { cv: 1.0, sd: 0.0, memory_s: 1.0, on_off: None };
        for rung in [gaps_alone, with_flicker, on_and_off] {
            if best.misfit(&figures) <= enough || best.worst_factor(&figures) < CLOSE_ENOUGH {
                break;
            }
            let found = rung(&figures);
            // More to set is worth it only where it brings the figures clearly nearer.
            if found.misfit(&figures) < 0.8 * best.misfit(&figures) {
                best = found;
            }
        }
        let dispersion: Vec<(f64, f64)> =
            figures.dispersion.iter().map(|(width_s, _)| (*width_s, best.seen(&figures, *width_s))).collect();
        let cv = best.gaps_cv(&figures);
        let worst_factor = best.worst_factor(&figures);
        BurstFit { bursts: best.bursts(), cv, dispersion, worst_factor }
    }
}

fn gaps_alone(figures: &BurstFigures) -> Model {
    let model = |at: &[f64]| Model { cv: within(at[0], CV_RANGE), sd: 0.0, memory_s: 1.0, on_off: None };
    let dispersed = figures.dispersion.last().map_or(1.0, |(_, index)| index.max(1e-3).sqrt());
    let start = figures.cv.unwrap_or(dispersed);
    model(&lowest(|at| model(at).misfit(figures), &[start.ln()]))
}

fn with_flicker(figures: &BurstFigures) -> Model {
    let memory = memories(figures);
    // Where nothing is said of gaps, the flicker has to do.
    let model = |at: &[f64]| Model {
        cv: if figures.cv.is_some() { within(at[2], CV_BESIDE) } else { 1.0 },
        sd: within(at[0], SD_RANGE),
        memory_s: within(at[1], memory),
        on_off: None,
    };
    from_many(figures, &model, |memory_s| vec![0.25_f64.ln(), f64::ln(memory_s), 0.0])
}

fn on_and_off(figures: &BurstFigures) -> Model {
    let (shortest, longest) = memories(figures);
    let model = |at: &[f64]| Model {
        cv: 1.0,
        sd: within(at[0], SD_RANGE),
        memory_s: within(at[1], (shortest, longest)),
        on_off: Some((within(at[2], (0.1, longest)), within(at[3], (0.1, longest)))),
    };
    from_many(figures, &model, |memory_s| vec![0.3_f64.ln(), f64::ln(memory_s), 5.0_f64.ln(), 15.0_f64.ln()])
}

/// The shortest and the longest memory of a flicker.
fn memories(figures: &BurstFigures) -> (f64, f64) {
    let shortest = (LEAST_GAPS / figures.rate_per_s).clamp(0.1, 3_600.0);
    (shortest, (figures.window_s / 3.0).clamp(shortest, 86_400.0))
}

/// The best of climbs from several memories.
fn from_many(
    figures: &BurstFigures,
    model: &dyn Fn(&[f64]) -> Model,
    start: impl Fn(f64) -> Vec<f64>,
) -> Model {
    let climb = |memory_s: f64| model(&lowest(|at| model(at).misfit(figures), &start(memory_s)));
    let found = [2.0, 20.0, 200.0].map(climb);
    let [mut best, ..] = found;
    for model in found {
        if model.misfit(figures) < best.misfit(figures) {
            best = model;
        }
    }
    best
}

/// The exponential, held within bounds.
fn within(log: f64, (low, high): (f64, f64)) -> f64 {
    log.exp().clamp(low, high)
}

/// The place of the least value near a start, by downhill simplex (Nelder and Mead 1965) with a bounded number of steps.
fn lowest(value: impl Fn(&[f64]) -> f64, start: &[f64]) -> Vec<f64> {
    let mut corners: Vec<(f64, Vec<f64>)> = Vec::new();
    for place in 0..=start.len() {
        let mut corner = start.to_vec();
        if let Some(axis) = corner.get_mut(place) {
            *axis += 0.7;
        }
        corners.push((value(&corner), corner));
    }
    for _ in 0..600 {
        corners.sort_by(|one, other| one.0.total_cmp(&other.0));
        let Some((worst, rest)) = corners.split_last() else { break };
        let (Some(best), Some(second)) = (rest.first(), rest.last()) else { break };
        if worst.0 - best.0 < 1e-9 {
            break;
        }
        #[expect(clippy::cast_precision_loss)]
        let count = rest.len() as f64;
        let middle: Vec<f64> = (0..start.len())
            .map(|axis| rest.iter().map(|corner| corner.1[axis]).sum::<f64>() / count)
            .collect();
        let towards = |far: f64| {
            let place: Vec<f64> =
                middle.iter().zip(&worst.1).map(|(mid, bad)| mid + far * (mid - bad)).collect();
            (value(&place), place)
        };
        let reflected = towards(1.0);
        let next = if reflected.0 < best.0 {
            let further = towards(2.0);
            if further.0 < reflected.0 { further } else { reflected }
        } else if reflected.0 < second.0 {
            reflected
        } else {
            towards(if reflected.0 < worst.0 { 0.5 } else { -0.5 })
        };
        if next.0 < worst.0 {
            if let Some(last) = corners.last_mut() {
                *last = next;
            }
        } else {
            let best = best.1.clone();
            for (found, corner) in corners.iter_mut().skip(1) {
                for (axis, best) in corner.iter_mut().zip(&best) {
                    *axis = f64::midpoint(*axis, *best);
                }
                *found = value(corner);
            }
        }
    }
    corners.sort_by(|one, other| one.0.total_cmp(&other.0));
    corners.into_iter().next().map_or_else(|| start.to_vec(), |(_, best)| best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_place_of_a_valley() {
        let valley = |at: &[f64]| (at[0] - 1.0).powi(2) + 10.0 * (at[1] - at[0] * at[0]).powi(2);
        let found = lowest(valley, &[-1.0, 2.0]);
        assert!((found[0] - 1.0).abs() < 1e-3 && (found[1] - 1.0).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn renewal_processes_by_known_cases() {
        // Erlang of two stages: every second point of a Poisson process with twice the rate.
        // V x = x/2 + 1/8 - e^{-4x}/8.
        for x in [0.1, 0.7, 2.0, 6.0, 20.0] {
            let known = (x / 2.0 + (1.0 - f64::exp(-4.0 * x)) / 8.0) / x;
            assert!((renewal(0.5, x) - known).abs() < 1e-6, "{x}: {} {known}", renewal(0.5, x));
        }
        // The two forms meet.
        for squared in [0.2, 4.0, 9.0] {
            let meet = 5.0 * (1.0 + squared);
            let (before, after) = (renewal(squared, meet - 1e-9), renewal(squared, meet + 1e-9));
            assert!((before / after - 1.0).abs() < 0.01, "{squared}: {before} {after}");
        }
    }

    #[test]
    fn closed_forms_by_adding_up() {
        // The mean of a lognormal's covariance over pairs of times, by brute force.
        let (sd, memory, width) = (0.8_f64, 7.0, 30.0);
        let steps = 2_000_i32;
        let mut sum = 0.0;
        for step in 0..steps {
            let t = (f64::from(step) + 0.5) / f64::from(steps) * width;
            let covariance = (sd * sd * (-t / memory).exp()).exp_m1() * (-t / 11.0).exp() * 3.0;
            sum += 2.0 * (1.0 - t / width) * covariance / f64::from(steps);
        }
        let closed = lognormal(sd, memory, width, (3.0, 1.0 / 11.0));
        assert!((closed / sum - 1.0).abs() < 1e-4, "{closed} {sum}");
    }
}
