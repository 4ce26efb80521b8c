//! The search: many starts of Nelder and Mead's simplex (`argmin`), the best few refined.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;
use rayon::prelude::*;
use slackwater_scenarios::Keyed;

use crate::coefficients::Vector;
use crate::objective::Objective;

/// A vector and its loss.
#[derive(Debug, Clone)]
pub(crate) struct Minimum {
    pub(crate) vector: Vector,
    pub(crate) loss: f64,
}

impl Minimum {
    pub(crate) fn at<O: Objective>(objective: &O, vector: Vector) -> Self {
        Self { loss: objective.loss(&vector), vector }
    }
}

/// Some coordinates of a vector are searched, the others stay.
struct Free<'a, O> {
    objective: &'a O,
    whole: Vector,
    free: Vec<usize>,
}

impl<O> Free<'_, O> {
    fn fill(&self, part: &[f64]) -> Vector {
        let mut whole = self.whole.clone();
        for (axis, value) in self.free.iter().zip(part) {
            whole[*axis] = *value;
        }
        whole
    }
}

impl<O: Objective> CostFunction for &Free<'_, O> {
    type Param = Vector;
    type Output = f64;

    fn cost(&self, part: &Vector) -> Result<f64, Error> {
        Ok(self.objective.loss(&self.fill(part)))
    }
}

/// One descent from `start` over the coordinates `free`; a simplex of edges `width`.
fn descend<O: Objective>(objective: &O, start: &Minimum, free: &[usize], width: f64, steps: u64) -> Minimum {
    let problem = Free { objective, whole: start.vector.clone(), free: free.to_vec() };
    let origin: Vector = free.iter().map(|axis| start.vector[*axis]).collect();
    let mut simplex = vec![origin.clone()];
    for axis in 0..free.len() {
        let mut corner = origin.clone();
        corner[axis] += width;
        simplex.push(corner);
    }
    let solver = NelderMead::new(simplex).with_sd_tolerance(1e-9);
    let run = solver
        .and_then(|solver| Executor::new(&problem, solver).configure(|state| state.max_iters(steps)).run());
    // The only failures are of the optimiser's own parameters; the start is an answer then.
    let Ok(run) = run else { return start.clone() };
    let found = run
        .state()
        .get_best_param()
        .map(|part| Minimum { vector: problem.fill(part), loss: run.state().get_best_cost() });
    found.filter(|found| found.loss < start.loss).unwrap_or_else(|| start.clone())
}

/// Starts of the search, besides the prior's centre itself.
const STARTS: u64 = 7;
/// How far from the centre they lie, as a logarithm.
const SPREAD: f64 = 1.2;
/// Starts that are refined.
const KEPT: usize = 2;

/// The best vector over the coordinates `free`, others staying at the centre.
pub(crate) fn search<O: Objective>(objective: &O, centre: &[f64], free: &[usize], seed: u64) -> Minimum {
    let keyed = Keyed::new(seed);
    let begin = |start: u64| {
        let mut vector = centre.to_vec();
        if start > 0 {
            for axis in free {
                vector[*axis] += SPREAD * (2.0 * keyed.uniform("fit-start", &[start, *axis as u64]) - 1.0);
            }
        }
        descend(objective, &Minimum::at(objective, vector), free, 0.4, 200)
    };
    let mut found: Vec<Minimum> = (0..=STARTS).into_par_iter().map(begin).collect();
    found.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    found.truncate(KEPT);
    let refined = found.into_par_iter().map(|minimum| refine(objective, minimum, free));
    let best = refined.collect::<Vec<_>>().into_iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    best.unwrap_or_else(|| Minimum::at(objective, centre.to_vec()))
}

/// Simplices of shrinking width, each begun at the best so far: a simplex that collapsed is opened again.
pub(crate) fn refine<O: Objective>(objective: &O, minimum: Minimum, free: &[usize]) -> Minimum {
    [0.3, -0.15, 0.08, -0.04]
        .into_iter()
        .fold(minimum, |best, width| descend(objective, &best, free, width, 200))
}

/// The best vector with one coordinate held at a value: what the others can make good for.
pub(crate) fn held<O: Objective>(
    objective: &O,
    near: &[f64],
    axis: usize,
    value: f64,
    free: &[usize],
) -> Minimum {
    let mut vector = near.to_vec();
    vector[axis] = value;
    let others: Vec<usize> = free.iter().copied().filter(|other| *other != axis).collect();
    let first = descend(objective, &Minimum::at(objective, vector), &others, 0.1, 70);
    descend(objective, &first, &others, -0.05, 40)
}
