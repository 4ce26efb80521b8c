//! Classes of requests whose input and output belong together, by expectation and maximisation over both.
//!
//! ```text
//! cells of (input, output) ─► one class ─ split the class that gains most ─► two ─ ... ─► until the BIC rises
//! ```
//!
//! A class is a lognormal of inputs times one of outputs. The likelihood is that of whole cells, as in `mixture`; a class'
//! logarithms are looked up by column and row of the table of cells. Starts, splits and rounds are fixed and bounded.

use super::lengths::Joint;
use super::mixture::{Bucket, Part, log_mass, part};
use crate::traffic::{LengthClass, Lognormal};

/// More would be hard to read, and gains little.
const MOST_CLASSES: usize = 10;
/// Rounds to try a split, and to settle with one.
const ROUNDS: (usize, usize) = (12, 150);
/// Nats a request that a round must gain to be worth another.
const LEAST_GAIN: f64 = 1e-6;
/// A class with a smaller share is noise.
const LEAST_SHARE: f64 = 2e-3;

/// Columns and rows of lengths, and the cells that hold something.
struct Table {
    sides: [Vec<Bucket>; 2],
    /// (column, row, requests).
    cells: Vec<(usize, usize, f64)>,
    total: f64,
}

/// A class: both of its parts have its share.
type Class = [Part; 2];

impl Table {
    #[expect(clippy::cast_precision_loss)]
    fn new(joint: &Joint) -> Self {
        let mut sides = [Vec::<(u64, Bucket)>::new(), Vec::new()];
        let mut cells = Vec::new();
        for (ends, count) in joint.cells() {
            let mut places = [0; 2];
            for ((side, (from, until)), place) in sides.iter_mut().zip(ends).zip(&mut places) {
                let bucket = Bucket { middle: f64::midpoint(from, until), width: until - from, count: 0.0 };
                // Positive or not, logarithms of different buckets have different bits.
                *place = side.iter().position(|(bits, _)| *bits == from.to_bits()).unwrap_or_else(|| {
                    side.push((from.to_bits(), bucket));
                    side.len() - 1
                });
            }
            cells.push((places[0], places[1], count as f64));
        }
        let total = cells.iter().map(|cell| cell.2).sum();
        Self { sides: sides.map(|side| side.into_iter().map(|(_, bucket)| bucket).collect()), cells, total }
    }

    /// The logarithm of a part's mass in each column or row.
    fn masses(&self, side: usize, part: &Part) -> Vec<f64> {
        self.sides[side].iter().map(|bucket| log_mass(part, bucket)).collect()
    }

    /// The logarithm of the likelihood, had every request its input and its output of these mixtures apart from each other.
    fn apart(&self, mixtures: [&[Lognormal]; 2]) -> f64 {
        let logs: [Vec<f64>; 2] = [0, 1].map(|side| {
            let parts: Vec<Vec<f64>> = mixtures[side]
                .iter()
                .map(|one| Part { share: one.weight, mean: one.median.ln(), sigma: one.sigma.max(1e-4) })
                .map(|part| self.masses(side, &part).into_iter().map(|log| part.share * log.exp()).collect())
                .collect();
            let of = |place: usize| parts.iter().map(|part| part[place]).sum::<f64>();
            (0..self.sides[side].len()).map(|place| of(place).max(f64::MIN_POSITIVE).ln()).collect()
        });
        self.cells.iter().map(|(column, row, count)| count * (logs[0][*column] + logs[1][*row])).sum()
    }

    /// Climbs for so many rounds; the logarithm of the likelihood, and the classes.
    fn climb(&self, mut classes: Vec<Class>, rounds: usize) -> (f64, Vec<Class>) {
        let mut last = f64::NEG_INFINITY;
        for _ in 0..rounds {
            classes.retain(|class| class[0].share >= LEAST_SHARE);
            let logs: Vec<[Vec<f64>; 2]> =
                classes.iter().map(|class| [0, 1].map(|side| self.masses(side, &class[side]))).collect();
            let shares: Vec<f64> = classes.iter().map(|class| class[0].share.ln()).collect();
            let mut sums = vec![[(0.0, 0.0, 0.0); 2]; classes.len()];
            let mut likelihood = 0.0;
            let mut here = vec![0.0; classes.len()];
            for (column, row, count) in &self.cells {
                for ((here, logs), share) in here.iter_mut().zip(&logs).zip(&shares) {
                    *here = share + logs[0][*column] + logs[1][*row];
                }
                let most = here.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let mut sum = 0.0;
                for log in &mut here {
                    *log = (*log - most).exp();
                    sum += *log;
                }
                likelihood += count * (most + sum.ln());
                for (sums, mass) in sums.iter_mut().zip(&here) {
                    let count = count * mass / sum;
                    for (side, (sums, place)) in sums.iter_mut().zip([*column, *row]).enumerate() {
                        let Bucket { middle, width, .. } = self.sides[side][place];
                        sums.0 += count;
                        sums.1 += count * middle;
                        sums.2 += count * (middle * middle + width * width / 12.0);
                    }
                }
            }
            let settled = likelihood - last < LEAST_GAIN * self.total;
            last = likelihood;
            if settled {
                break;
            }
            classes = sums.into_iter().map(|sides| sides.map(|sums| part(sums, self.total))).collect();
        }
        (last, classes)
    }

    /// One class more: of all classes, cut in two along their inputs or along their outputs, the split that gains most.
    fn split(&self, classes: &[Class]) -> (f64, Vec<Class>) {
        let mut best = (f64::NEG_INFINITY, Vec::new());
        for place in 0..classes.len() {
            for side in 0..2 {
                let mut tried = classes.to_vec();
                let mut other = tried[place];
                for part in tried[place].iter_mut().chain(&mut other) {
                    part.share /= 2.0;
                }
                let sigma = tried[place][side].sigma;
                tried[place][side].mean -= sigma;
                other[side].mean += sigma;
                for part in [&mut tried[place][side], &mut other[side]] {
                    part.sigma = 0.6 * sigma;
                }
                tried.push(other);
                let found = self.climb(tried, ROUNDS.0);
                if found.0 > best.0 {
                    best = found;
                }
            }
        }
        let (_, classes) = best;
        self.climb(classes, ROUNDS.1)
    }
}

/// Two classes or more, the most frequent first, weights adding up to 1; or none, when input and output drawn apart from
/// these mixtures are as good a description.
pub(super) fn classes(joint: &Joint, input: &[Lognormal], output: &[Lognormal]) -> Vec<LengthClass> {
    let table = Table::new(joint);
    #[expect(clippy::cast_precision_loss)] // A handful.
    let bic = |parameters: usize, likelihood: f64| parameters as f64 * table.total.ln() - 2.0 * likelihood;
    let apart = bic(3 * (input.len() + output.len()) - 2, table.apart([input, output]));
    let one = |side: usize| {
        let mut sums = (0.0, 0.0, 0.0);
        for (column, row, count) in &table.cells {
            let Bucket { middle, .. } = table.sides[side][[*column, *row][side]];
            sums = (sums.0 + count, sums.1 + count * middle, sums.2 + count * middle * middle);
        }
        part(sums, table.total)
    };
    let mut best = table.climb(vec![[one(0), one(1)]], 1);
    let mut least = bic(4, best.0);
    while best.1.len() < MOST_CLASSES {
        let found = table.split(&best.1);
        let next = bic(5 * found.1.len() - 1, found.0);
        if found.1.len() <= best.1.len() || next >= least {
            break;
        }
        (best, least) = (found, next);
    }
    if best.1.len() < 2 || least >= apart {
        return Vec::new();
    }
    let mut classes = best.1;
    classes.sort_by(|one, other| other[0].share.total_cmp(&one[0].share));
    let total: f64 = classes.iter().map(|class| class[0].share).sum();
    let side =
        |part: &Part| vec![Lognormal { weight: 1.0, median: part.mean.exp().max(1.0), sigma: part.sigma }];
    let class = |class: &Class| LengthClass {
        weight: class[0].share / total,
        input: side(&class[0]),
        output: side(&class[1]),
    };
    classes.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Keyed;
    use crate::traffic::draw::{Classes, Mixture};
    use crate::traffic::statistics::lengths::Lengths;
    use crate::traffic::statistics::mixture::mixture;

    fn parts(rows: &[(f64, f64)]) -> Vec<Lognormal> {
        rows.iter().map(|&(median, sigma)| Lognormal { weight: 1.0, median, sigma }).collect()
    }

    fn found(given: &[LengthClass], count: u64) -> Vec<LengthClass> {
        let (keyed, all) = (Keyed::new(3), Classes::new(given, 1 << 24, 1 << 24));
        let (mut joint, mut inputs, mut outputs) = (Joint::default(), Lengths::default(), Lengths::default());
        for id in 0..count {
            let (input, output): (&Mixture, &Mixture) = all.of(all.pick(keyed.uniform("class", &[id])));
            let mut random = keyed.stream("lengths", &[id]);
            let (input, output) = (input.draw(&mut random), output.draw(&mut random));
            joint.count(input, output);
            inputs.count(input);
            outputs.count(output);
        }
        classes(&joint, &mixture(&inputs), &mixture(&outputs))
    }

    #[test]
    fn drawn_classes_are_recovered() {
        let class =
            |weight, input, output| LengthClass { weight, input: parts(&[input]), output: parts(&[output]) };
        let given = [
            class(0.5, (300.0, 0.8), (100.0, 0.6)),
            class(0.3, (1_100.0, 0.15), (400.0, 0.1)),
            class(0.2, (3_400.0, 0.3), (60.0, 0.9)),
        ];
        let found = found(&given, 30_000);
        assert_eq!(found.len(), 3, "{found:?}");
        for (found, given) in found.iter().zip(&given) {
            assert!((found.weight - given.weight).abs() < 0.02, "{found:?}");
            for (found, given) in [(&found.input[0], &given.input[0]), (&found.output[0], &given.output[0])] {
                assert!((found.median / given.median - 1.0).abs() < 0.05, "{found:?} {given:?}");
                assert!((found.sigma - given.sigma).abs() < 0.05, "{found:?} {given:?}");
            }
        }
    }

    #[test]
    fn lengths_that_are_drawn_apart_make_no_classes() {
        let given = [LengthClass {
            weight: 1.0,
            input: parts(&[(300.0, 0.8), (3_000.0, 0.2)]),
            output: parts(&[(50.0, 0.3), (700.0, 0.4)]),
        }];
        assert!(found(&given, 20_000).is_empty());
    }
}
