//! What a fit leaves open, carried into what is predicted of other loads.

use rand_distr::{Distribution, StandardNormal};
use slackwater_calibrate::{Drive, Experiment, Fitted, Part, fit_requests, measured, replay};
use slackwater_scenarios::calibration::Calibration;
use slackwater_scenarios::{EngineProfile, Keyed};

use crate::made::{Made, make, truth};

fn profile(experiment: &Experiment) -> (EngineProfile, Fitted) {
    let fitted = fit_requests(&[Part::new(experiment, None)], 1, &|_| {}).unwrap();
    assert!(fitted.alternatives.len() <= 14, "{:#?}", fitted.alternatives);
    let calibration: Calibration = fitted.calibration("2026-01-01".to_owned(), None);
    assert_eq!(calibration.alternatives, fitted.alternatives);
    (EngineProfile { calibration: Some(calibration), ..fitted.profile.clone() }, fitted)
}

/// Means of TPOT and of E2E over draws of the engine, as logarithms over what was measured, sorted.
fn predicted(profile: &EngineProfile, load: &Experiment) -> [Vec<f64>; 2] {
    let figures = measured(&load.rows, |_| true);
    let (tpot_s, e2e_s) = (figures.tpot_s.unwrap().mean, figures.e2e_s.unwrap().mean);
    let mut off = [Vec::new(), Vec::new()];
    for future in 0..60 {
        let draw = |name: &str| StandardNormal.sample(&mut Keyed::new(4).stream(name, &[future]));
        let engine = profile.moved(draw).unwrap();
        let answers = replay(load, &engine, Drive::Open, 5).unwrap();
        let mut rows = load.rows.clone();
        rows.iter_mut().zip(answers).for_each(|(row, replayed)| row.answer = replayed.answer);
        let figures = measured(&rows, |_| true);
        off[0].push((figures.tpot_s.unwrap().mean / tpot_s).ln());
        off[1].push((figures.e2e_s.unwrap().mean / e2e_s).ln());
    }
    off.iter_mut().for_each(|off| off.sort_by(f64::total_cmp));
    off
}

/// From the third lowest to the third highest of sixty: nine in ten.
fn nine_in_ten(sorted: &[f64]) -> (f64, f64) {
    (sorted[2], sorted[57])
}

/// Catches: an interval that is printed and forgotten; coefficients that are drawn without what makes good for them.
#[test]
fn what_was_not_measured_widens_what_is_predicted_and_nothing_else() {
    let truth = truth();
    let short = Made { input: (60.0, 120.0), output: (10.0, 30.0), noise: 0.04, ..Made::default() };
    let long =
        Made { input: (4000.0, 24_000.0), output: (50.0, 200.0), noise: 0.04, rate_per_s: 0.5, ..short };
    let again = |made: Made| make(&Made { seed: 29, requests: 200, ..made }, &truth);
    let (of_short, _) = profile(&make(&short, &truth));
    let (of_long, _) = profile(&make(&Made { seed: 5, ..long }, &truth));
    let (short, long) = (again(short), again(long));
    let width = |(low, high): (f64, f64)| high - low;
    let [tpot, e2e] = predicted(&of_short, &long);
    let [known_tpot, known_e2e] = predicted(&of_long, &long);
    let [own_tpot, own_e2e] = predicted(&of_short, &short);
    for (latency, unknown, known, own) in
        [("TPOT", tpot, known_tpot, own_tpot), ("E2E", e2e, known_e2e, own_e2e)]
    {
        let (unknown, known, own) = (nine_in_ten(&unknown), nine_in_ten(&known), nine_in_ten(&own));
        let said = format!("{latency}: beyond {unknown:?}, measured {known:?}, own load {own:?}");
        println!("{said}");
        // The truth is at 0; a measured load is known as well as its clients' noise and the fit's own seed leave it.
        assert!(unknown.0 < 0.0 && 0.0 < unknown.1, "{said}");
        assert!(width(unknown) > 3.0 * width(known), "{said}");
        assert!(width(known) < 0.1 && known.0.abs().max(known.1.abs()) < 0.08, "{said}");
        assert!(width(own) < 0.1 && own.0.abs().max(own.1.abs()) < 0.08, "{said}");
    }
}
