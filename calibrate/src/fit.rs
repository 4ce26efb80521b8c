//! The search: several starts, each by Nelder and Mead's simplex (`argmin`) and then by least squares (Levenberg and
//! Marquardt); the best few polished.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;
use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn};
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

/// A descent by least squares: a few dozen replays where the simplex takes hundreds, as long as the loss is smooth at the
/// scale of [`STEP`]. Where replays are rough (requests that are preempted or not), the simplex polishes afterwards.
fn slide<O: Objective>(objective: &O, start: &Minimum, free: &[usize], patience: usize) -> Minimum {
    let problem = Slope {
        objective,
        free: free.to_vec(),
        at: start.vector.clone(),
        residuals: objective.residuals(&start.vector),
    };
    let (problem, _) =
        LevenbergMarquardt::new().with_patience(patience).with_ftol(1e-7).with_xtol(1e-6).minimize(problem);
    let found = Minimum::at(objective, problem.at);
    if found.loss < start.loss { found } else { start.clone() }
}

/// The least-squares problem over the coordinates `free`.
struct Slope<'a, O> {
    objective: &'a O,
    free: Vec<usize>,
    at: Vector,
    residuals: Vec<f64>,
}

/// By how much coordinates are moved to see the slope, as a logarithm.
const STEP: f64 = 0.01;

impl<O: Objective> LeastSquaresProblem<f64, Dyn, Dyn> for Slope<'_, O> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, part: &DVector<f64>) {
        for (axis, value) in self.free.iter().zip(part.iter()) {
            self.at[*axis] = *value;
        }
        self.residuals = self.objective.residuals(&self.at);
    }

    fn params(&self) -> DVector<f64> {
        DVector::from_iterator(self.free.len(), self.free.iter().map(|axis| self.at[*axis]))
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        Some(DVector::from_column_slice(&self.residuals))
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        let moved = |axis: usize, by: f64| {
            let mut vector = self.at.clone();
            vector[axis] += by;
            self.objective.residuals(&vector)
        };
        let mut jacobian = DMatrix::zeros(self.residuals.len(), self.free.len());
        for (column, axis) in self.free.iter().enumerate() {
            let (up, down) = (moved(*axis, STEP), moved(*axis, -STEP));
            for (row, (up, down)) in up.iter().zip(&down).enumerate() {
                jacobian[(row, column)] = (up - down) / (2.0 * STEP);
            }
        }
        Some(jacobian)
    }
}

/// Starts of the search, besides the prior's centre itself.
const STARTS: u64 = 5;
/// How far from the centre they lie, as a logarithm.
const SPREAD: f64 = 1.2;
/// Starts that are polished.
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
        // Far from the truth queues grow or vanish and slopes say little: the simplex goes first.
        let near = descend(objective, &Minimum::at(objective, vector), free, 0.4, 100);
        slide(objective, &near, free, 8)
    };
    let mut found: Vec<Minimum> = (0..=STARTS).into_par_iter().map(begin).collect();
    found.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    found.truncate(KEPT);
    let refined = found.into_par_iter().map(|minimum| refine(objective, minimum, free));
    let best = refined.collect::<Vec<_>>().into_iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    best.unwrap_or_else(|| Minimum::at(objective, centre.to_vec()))
}

/// Polishes: the simplex crosses what is rough, least squares go down what is smooth.
pub(crate) fn refine<O: Objective>(objective: &O, minimum: Minimum, free: &[usize]) -> Minimum {
    [0.2, -0.05].into_iter().fold(minimum, |best, width| {
        let best = descend(objective, &best, free, width, 120);
        slide(objective, &best, free, 8)
    })
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
    let first = slide(objective, &Minimum::at(objective, vector), &others, 5);
    descend(objective, &first, &others, 0.05, 40)
}
