//! What a rollout costs at a load, learnt from all starts and futures together.
//!
//! A start is simulated in some tens of futures only, and of many starts the one that looks best in its own few is most of all the
//! luckiest. Load is what most of the cost comes from, and the load of a start is known in every future, simulated or not. So
//! the cost is regressed on the load over all that was simulated (isotonic: more load never costs less), and a start is scored by
//! what the curve says of its loads, instead of by its own luck.

/// Rising knots; between two of them the cost is linear.
#[derive(Clone, Debug, Default, PartialEq)]
struct Isotonic {
    /// (requests a second, cost).
    knots: Vec<(f64, f64)>,
}

/// Consecutive points, pooled.
#[derive(Clone, Copy)]
struct Block {
    load: f64,
    cost: f64,
    points: f64,
}

impl Block {
    fn pooled(self, other: Self) -> Self {
        let points = self.points + other.points;
        let mean = |a: f64, b: f64| (a * self.points + b * other.points) / points;
        Self { load: mean(self.load, other.load), cost: mean(self.cost, other.cost), points }
    }
}

impl Isotonic {
    /// The isotonic regression (pool adjacent violators) of points (requests a second, cost).
    fn of(mut points: Vec<(f64, f64)>) -> Self {
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut blocks: Vec<Block> = Vec::new();
        for (load, cost) in points {
            let mut block = Block { load, cost, points: 1.0 };
            while let Some(last) = blocks.pop_if(|last| last.cost >= block.cost) {
                block = last.pooled(block);
            }
            blocks.push(block);
        }
        Self { knots: blocks.into_iter().map(|block| (block.load, block.cost)).collect() }
    }

    /// The cost at a load; beyond the loads that were seen, that of the nearest. 0 where nothing was seen.
    fn at(&self, load: f64) -> f64 {
        let above = self.knots.partition_point(|knot| knot.0 <= load);
        let below = above.checked_sub(1).and_then(|place| self.knots.get(place));
        match (below, self.knots.get(above)) {
            (Some(below), Some(above)) => {
                let share = (load - below.0) / (above.0 - below.0);
                below.1 + share * (above.1 - below.1)
            }
            (Some(nearest), None) | (None, Some(nearest)) => nearest.1,
            (None, None) => 0.0,
        }
    }

    /// The expected cost at a load that may be off by a factor `exp(sd * z)`, z standard normal.
    fn around(&self, load: f64, sd: f64) -> f64 {
        NORMAL.iter().map(|(z, weight)| weight * self.at(load * (sd * z).exp())).sum()
    }
}

/// Nodes and weights of Gauss and Hermite's rule with five points, for a standard normal variable.
const NORMAL: [(f64, f64); 5] = [
    (-2.856_970_013_872_806, 0.011_257_411_327_720_69),
    (-1.355_626_179_974_266, 0.222_075_922_005_612_6),
    (0.0, 0.533_333_333_333_333_3),
    (1.355_626_179_974_266, 0.222_075_922_005_612_6),
    (2.856_970_013_872_806, 0.011_257_411_327_720_69),
];

/// Expected costs at loads that may be off, as a table: it is asked for every start in every future.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoadCurve {
    /// Requests a second from one entry to the next.
    step: f64,
    costs: Vec<f64>,
}

/// Entries of the table.
const ENTRIES: u32 = 512;

impl LoadCurve {
    /// Regresses points (requests a second, cost); loads may be off by a factor of standard deviation `sd` (of the logarithm).
    pub(crate) fn of(points: Vec<(f64, f64)>, sd: f64) -> Self {
        let fitted = Isotonic::of(points);
        // Beyond this even a load that is far off costs no more.
        let most = fitted.knots.last().map_or(0.0, |knot| knot.0) * (-sd * NORMAL[0].0).exp();
        let step = if most > 0.0 { most / f64::from(ENTRIES) } else { 1.0 };
        let costs = (0..=ENTRIES).map(|place| fitted.around(f64::from(place) * step, sd)).collect();
        Self { step, costs }
    }

    /// The expected cost at a load.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
    pub(crate) fn at(&self, load: f64) -> f64 {
        let place = (load / self.step).max(0.0);
        let below = (place as usize).min(self.costs.len() - 1);
        let above = (below + 1).min(self.costs.len() - 1);
        let share = (place - below as f64).min(1.0);
        self.costs[below] + share * (self.costs[above] - self.costs[below])
    }

    /// The mean over several loads; 0 of none.
    pub(crate) fn mean(&self, loads: &[f64]) -> f64 {
        loads.iter().map(|load| self.at(*load)).sum::<f64>() / loads.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same fit by its definition: the highest of the lowest means of stretches around a point.
    fn by_definition(costs: &[f64], place: usize) -> f64 {
        let mean = |from: usize, to: usize| costs[from..=to].iter().sum::<f64>() / (to + 1 - from) as f64;
        (0..=place)
            .map(|from| (place..costs.len()).map(|to| mean(from, to)).fold(f64::INFINITY, f64::min))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn the_pooled_means_are_the_isotonic_regression() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as f64 / f64::from(u32::MAX)
            };
            let costs: Vec<f64> = (0..12).map(|_| (draw() * 8.0).round()).collect();
            let curve = Isotonic::of(costs.iter().enumerate().map(|(at, cost)| (at as f64, *cost)).collect());
            let mut expected: Vec<f64> = (0..12).map(|place| by_definition(&costs, place)).collect();
            expected.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
            let knots: Vec<f64> = curve.knots.iter().map(|knot| knot.1).collect();
            assert_eq!(knots.len(), expected.len(), "{costs:?}: {knots:?} {expected:?}");
            for (knot, expected) in knots.iter().zip(&expected) {
                assert!((knot - expected).abs() < 1e-9, "{costs:?}: {knots:?} {expected:?}");
            }
        }
    }

    #[test]
    fn between_and_beyond_what_was_seen() {
        let curve = Isotonic::of(vec![(1.0, 0.0), (2.0, 10.0), (4.0, 20.0)]);
        for (load, cost) in [(0.5, 0.0), (1.0, 0.0), (1.5, 5.0), (3.0, 15.0), (4.0, 20.0), (9.0, 20.0)] {
            assert!((curve.at(load) - cost).abs() < 1e-12, "{load}");
        }
        assert!(Isotonic::default().at(3.0).abs() < 1e-12);
        // Without doubt about the load the cost is the curve's; with doubt a load below a cliff costs something too.
        assert!((curve.around(1.0, 0.0)).abs() < 1e-12);
        assert!(curve.around(1.0, 0.3) > 0.5);
        let table = LoadCurve::of(vec![(1.0, 0.0), (2.0, 10.0), (4.0, 20.0)], 0.3);
        for load in [0.0, 0.9, 1.0, 1.7, 3.3, 6.0, 50.0] {
            assert!((table.at(load) - curve.around(load, 0.3)).abs() < 0.1, "{load}");
        }
        assert!(LoadCurve::of(Vec::new(), 0.1).at(2.0).abs() < 1e-12);
        assert!((NORMAL.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
