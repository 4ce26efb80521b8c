//! Requests around a series of rates: against closed forms. Seeds are fixed; bounds are some four standard errors.

use std::sync::Arc;

use slackwater_scenarios::traffic::statistics::{Collector, TraceFigures};
use slackwater_scenarios::traffic::{
    BurstFigures, Clients, Drift, Flicker, GapShape, Noise, OnOff, SeriesError,
};
use slackwater_scenarios::{
    Arrival, Arrivals, Bursts, HumanDuration, Keyed, LengthClass, LengthSource, Lognormal, SeriesTraffic,
    Traffic,
};

use crate::support::arrival;

fn lengths() -> LengthSource {
    let part = |median, sigma| vec![Lognormal { weight: 1.0, median, sigma }];
    LengthSource::Classes {
        classes: vec![LengthClass { weight: 1.0, input: part(500.0, 0.5), output: part(100.0, 0.5) }],
        class_run: 1.0,
        drift: None,
        max_input_tokens: 32_768,
        max_output_tokens: 32_768,
    }
}

fn series(rates: Vec<f64>, slot_s: f64, bursts: Bursts, seed: u64) -> SeriesTraffic {
    SeriesTraffic::new(rates.into(), slot_s, &bursts, &lengths(), None, Keyed::new(seed)).unwrap()
}

fn all(mut traffic: SeriesTraffic) -> Vec<Arrival> {
    std::iter::from_fn(|| traffic.next_arrival().unwrap()).collect()
}

fn figures(mut traffic: SeriesTraffic) -> TraceFigures {
    let mut collector = Collector::default();
    while let Some(arrival) = traffic.next_arrival().unwrap() {
        collector.observe(&arrival, &[], None);
    }
    collector.finish(traffic.report()).figures
}

fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration::from_secs(seconds)
}

fn near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() < tolerance,
        "{what}: {found} is not within {tolerance} of {expected}"
    );
}

#[test]
fn each_slot_has_its_rate() {
    let arrivals = all(series(vec![20.0, 0.0, 5.0, 100.0], 1_000.0, Bursts::default(), 3));
    let mut counts = [0.0; 4];
    for arrival in &arrivals {
        counts[usize::try_from(arrival.at_ps / 1_000_000_000_000_000).unwrap()] += 1.0;
    }
    near("slot 0", counts[0], 20_000.0, 4.0 / 141.0);
    assert!(counts[1] < 0.5, "nobody comes at a rate of zero");
    near("slot 2", counts[2], 5_000.0, 4.0 / 70.0);
    near("slot 3", counts[3], 100_000.0, 4.0 / 316.0);
    assert!(arrivals.windows(2).all(|pair| pair[0].at_ps <= pair[1].at_ps));
    let inputs = arrivals.iter().map(|arrival| f64::from(arrival.input_tokens)).sum::<f64>();
    // A lognormal's mean.
    near("mean input", inputs / arrivals.len() as f64, 500.0 * 0.125_f64.exp(), 0.01);
}

#[test]
fn a_poisson_process_has_1_everywhere() {
    let found = figures(series(vec![10.0; 20], 1_000.0, Bursts::default(), 1)).arrivals;
    near("cv", found.cv.unwrap(), 1.0, 0.01);
    near("1 s", found.dispersion_1s.unwrap(), 1.0, 0.04);
    near("60 s", found.dispersion_60s.unwrap(), 1.0, 0.3);
}

#[test]
fn gaps_have_their_variation() {
    for (arrivals, cv) in [
        (Arrivals::GammaCv(0.5), 0.5),
        (Arrivals::GammaCv(2.0), 2.0),
        (Arrivals::WeibullCv(0.5), 0.5),
        (Arrivals::WeibullCv(2.0), 2.0),
    ] {
        let bursts = Bursts { arrivals, ..Bursts::default() };
        let found = figures(series(vec![20.0; 100], 100.0, bursts, 5));
        near("rate", found.rate.mean_per_s, 20.0, 0.03);
        near("cv", found.arrivals.cv.unwrap(), cv, 0.03);
        // Over many gaps a renewal process' dispersion is the square.
        near("60 s", found.arrivals.dispersion_60s.unwrap(), cv * cv, 0.45);
    }
}

/// The variance of counts over their mean, where the rate is multiplied by a factor of this variance whose correlation falls
/// with `memory`.
fn dispersion(rate: f64, width: f64, variance: f64, memory: f64) -> f64 {
    let x = width / memory;
    1.0 + rate * width * variance * 2.0 * (x - 1.0 + (-x).exp()) / (x * x)
}

#[test]
fn on_and_off_is_an_interrupted_poisson_process() {
    let (on, off) = (9.0, 27.0);
    let bursts = Bursts { on_off: Some(OnOff { on: seconds(9), off: seconds(27) }), ..Bursts::default() };
    let found = figures(series(vec![2.5; 100], 2_000.0, bursts, 2));
    near("rate", found.rate.mean_per_s, 2.5, 0.05);
    // Kuczura: CV^2 = 1 + 2 rate_on w1 / (w1 + w2)^2.
    let (w1, w2) = (1.0 / on, 1.0 / off);
    let squared: f64 = 1.0 + 2.0 * 10.0 * w1 / ((w1 + w2) * (w1 + w2));
    near("cv", found.arrivals.cv.unwrap(), squared.sqrt(), 0.04);
    let expected = |width| dispersion(2.5, width, off / on, 1.0 / (w1 + w2));
    near("1 s", found.arrivals.dispersion_1s.unwrap(), expected(1.0), 0.06);
    near("10 s", found.arrivals.dispersion_10s.unwrap(), expected(10.0), 0.06);
    near("60 s", found.arrivals.dispersion_60s.unwrap(), expected(60.0), 0.08);
}

#[test]
fn a_flicker_disperses_counts_as_its_memory_says() {
    let flicker = Some(Flicker { sd: 0.3, memory: seconds(40) });
    let found = figures(series(vec![5.0; 100], 2_000.0, Bursts { flicker, ..Bursts::default() }, 4));
    near("rate", found.rate.mean_per_s, 5.0, 0.02);
    let variance = (0.3_f64 * 0.3).exp_m1();
    // Of lognormals the correlation is not quite exponential, and here it falls in steps.
    near("10 s", found.arrivals.dispersion_10s.unwrap(), dispersion(5.0, 10.0, variance, 40.0), 0.06);
    near("60 s", found.arrivals.dispersion_60s.unwrap(), dispersion(5.0, 60.0, variance, 40.0), 0.08);
    // Gaps are those of a mixture: CV^2 + 1 = 2 E[1/factor].
    near("cv", found.arrivals.cv.unwrap(), (2.0 * (0.09_f64).exp() - 1.0).sqrt(), 0.01);
}

/// Arrivals in each 10 minutes over the mean.
fn levels(traffic: SeriesTraffic, mean_per_s: f64, slots: usize) -> Vec<f64> {
    let mut counts = vec![0.0; slots];
    for arrival in all(traffic) {
        counts[usize::try_from(arrival.at_ps / 600_000_000_000_000).unwrap()] += 1.0 / (600.0 * mean_per_s);
    }
    counts
}

#[test]
fn noise_changes_as_much_as_it_says_and_goes_back_to_its_mean() {
    let noise = Noise {
        change: 0.06,
        memory: seconds(3 * 3_600),
        jumps_per_week: 0.0,
        jump: 2.0,
        jump_decay: seconds(1_800),
    };
    let slots = 2_000;
    let traffic = series(vec![50.0; slots], 600.0, Bursts { noise: Some(noise), ..Bursts::default() }, 6);
    let levels = levels(traffic, 50.0, slots);
    near("mean", levels.iter().sum::<f64>() / slots as f64, 1.0, 0.06);
    let changes: Vec<f64> = levels.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
    let variance = changes.iter().map(|change| change * change).sum::<f64>() / changes.len() as f64;
    // The counts' own: each has a relative variance of one over 30,000.
    near("change", (variance - 2.0 / 30_000.0).sqrt(), 0.06, 0.06);
    let spread = levels.iter().map(|level| level.ln().powi(2)).sum::<f64>() / slots as f64;
    near("spread", spread.sqrt(), noise.log_sd(), 0.2);
}

#[test]
fn jumps_are_rare_double_the_rate_and_fade() {
    let noise = Noise {
        change: 0.0,
        memory: seconds(3_600),
        jumps_per_week: 5.0,
        jump: 2.0,
        jump_decay: seconds(3_600),
    };
    let slots = 20 * 1_008;
    let traffic = series(vec![5.0; slots], 600.0, Bursts { noise: Some(noise), ..Bursts::default() }, 7);
    let levels = levels(traffic, 5.0, slots);
    near("mean", levels.iter().sum::<f64>() / slots as f64, 1.0, 0.01);
    let up: Vec<usize> = (1..slots).filter(|slot| levels[*slot] > 1.5 * levels[slot - 1]).collect();
    assert!((70..=130).contains(&up.len()), "{} jumps in 20 weeks of 5", up.len());
    let after = |slots_later: usize| {
        let of = |slot: &&usize| **slot + slots_later < slots;
        let count = up.iter().filter(of).count() as f64;
        up.iter().filter(of).map(|slot| levels[slot + slots_later]).sum::<f64>() / count
    };
    let quiet = levels.iter().copied().filter(|level| *level < 1.2).sum::<f64>()
        / levels.iter().filter(|level| **level < 1.2).count() as f64;
    near("at once", after(0) / quiet, 2.0, 0.05);
    near("after an hour", after(6) / quiet, (2.0_f64.ln() * (-1.0_f64).exp()).exp(), 0.07);
}

#[test]
fn noise_is_the_same_at_the_same_time_whatever_is_drawn_around_it() {
    let noise = Noise {
        change: 0.1,
        memory: seconds(7_200),
        jumps_per_week: 20.0,
        jump: 2.0,
        jump_decay: seconds(1_800),
    };
    // Arrivals so even that they show the rate.
    let bursts = Bursts { arrivals: Arrivals::GammaCv(0.05), noise: Some(noise), ..Bursts::default() };
    let start_ns = 1_768_000_000_000_000_000;
    let draw = |slots: usize, start_ns: i64, rate: f64| {
        let rates: Arc<[f64]> = vec![rate; slots].into();
        let traffic =
            SeriesTraffic::new(rates, 600.0, &bursts, &lengths(), Some(start_ns), Keyed::new(8)).unwrap();
        levels(traffic, rate, slots)
    };
    let long = draw(1_000, start_ns, 10.0);
    let late = draw(50, start_ns + 900 * 600_000_000_000, 3.0);
    for (long, late) in long[900..950].iter().zip(&late) {
        near("level", *late, *long, 0.01);
    }
    assert!(late.iter().any(|level| (level - 1.0).abs() > 0.1), "it does move: {late:?}");
}

#[test]
fn clients_share_the_rate_and_bring_their_own_bursts() {
    for (shape, cv) in [(GapShape::Gamma, 3.0), (GapShape::Weibull, 3.0), (GapShape::Gamma, 1.0)] {
        let clients = Clients { count: 40, zipf: 1.0, cv, cv_p95: None, shape };
        let found = figures(series(
            vec![40.0; 400],
            100.0,
            Bursts { clients: Some(clients), ..Bursts::default() },
            9,
        ));
        near("rate", found.rate.mean_per_s, 40.0, 0.03);
        if cv > 1.0 {
            // Merged they are more even than one client in a second, but over a minute, which is many gaps of the busy ones,
            // the dispersion is on its way to the squared CV.
            let of = found.arrivals;
            assert!(of.dispersion_1s.unwrap() < of.dispersion_10s.unwrap(), "{of:?}");
            assert!((4.0..9.5).contains(&of.dispersion_60s.unwrap()), "{of:?}");
        } else {
            near("independent clients are Poisson", found.arrivals.cv.unwrap(), 1.0, 0.01);
            near("60 s", found.arrivals.dispersion_60s.unwrap(), 1.0, 0.25);
        }
    }
    // One client is the process itself.
    let clients = Clients { count: 1, zipf: 1.0, cv: 2.0, cv_p95: None, shape: GapShape::Gamma };
    let found =
        figures(series(vec![20.0; 100], 100.0, Bursts { clients: Some(clients), ..Bursts::default() }, 9));
    near("cv", found.arrivals.cv.unwrap(), 2.0, 0.03);
    // Even clients, alike: their sum over the time of many of their gaps is as even as they are.
    let clients = Clients { count: 5, zipf: 0.0, cv: 0.3, cv_p95: None, shape: GapShape::Weibull };
    let found =
        figures(series(vec![20.0; 100], 200.0, Bursts { clients: Some(clients), ..Bursts::default() }, 10));
    near("60 s", found.arrivals.dispersion_60s.unwrap(), 0.09, 0.3);
}

#[test]
fn bursty_clients_in_the_tail_are_there() {
    let of = |cv_p95| {
        let clients = Clients { count: 200, zipf: 1.05, cv: 1.2, cv_p95, shape: GapShape::Gamma };
        let bursts = Bursts { clients: Some(clients), ..Bursts::default() };
        figures(series(vec![20.0; 100], 400.0, bursts, 11))
    };
    let (alike, spread) = (of(None), of(Some(10.0)));
    near("rate", spread.rate.mean_per_s, 20.0, 0.08);
    assert!(spread.arrivals.dispersion_60s.unwrap() > 1.5 * alike.arrivals.dispersion_60s.unwrap());
}

#[test]
fn blocks_of_a_sample_keep_its_order() {
    let pairs: Arc<[Arrival]> = (0..1_000).map(|index| arrival(0, index + 1, 2 * index + 1)).collect();
    let source = LengthSource::Sample { pairs, block: 50 };
    let draw = || {
        let rates: Arc<[f64]> = vec![100.0; 10].into();
        all(SeriesTraffic::new(rates, 100.0, &Bursts::default(), &source, None, Keyed::new(1)).unwrap())
    };
    let found = draw();
    assert_eq!(found, draw());
    for (index, pair) in found.windows(2).enumerate() {
        assert_eq!(pair[0].output_tokens, 2 * pair[0].input_tokens - 1);
        if !(index + 1).is_multiple_of(50) {
            assert_eq!(pair[1].input_tokens, pair[0].input_tokens % 1_000 + 1, "request {index}");
        }
    }
    // Of 1,000 places 2,000 draws meet all but 1 in e^2: 865.
    let starts: std::collections::BTreeSet<u32> =
        found.iter().step_by(50).map(|first| first.input_tokens).collect();
    assert!((840..890).contains(&starts.len()), "{} different starts of {}", starts.len(), found.len() / 50);
}

#[test]
fn classes_go_together_stay_and_drift() {
    let part = |median| vec![Lognormal { weight: 1.0, median, sigma: 0.1 }];
    let class = |weight, input, output| LengthClass { weight, input: part(input), output: part(output) };
    let source = |class_run, drift| LengthSource::Classes {
        classes: vec![class(3.0, 100.0, 2_000.0), class(1.0, 4_000.0, 10.0)],
        class_run,
        drift,
        max_input_tokens: 100_000,
        max_output_tokens: 100_000,
    };
    let draw = |source: &LengthSource| {
        let rates: Arc<[f64]> = vec![10.0; 200].into();
        all(SeriesTraffic::new(rates, 600.0, &Bursts::default(), source, Some(0), Keyed::new(12)).unwrap())
    };
    for run in [1.0, 20.0] {
        let found = draw(&source(run, None));
        let is_long = |arrival: &Arrival| arrival.input_tokens > 1_000;
        assert!(
            found.iter().all(|arrival| is_long(arrival) == (arrival.output_tokens < 100)),
            "both of one class"
        );
        let long = found.iter().filter(|arrival| is_long(arrival)).count() as f64 / found.len() as f64;
        near("share", long, 0.25, 0.05);
        let changes = found.windows(2).filter(|pair| is_long(&pair[0]) != is_long(&pair[1])).count() as f64;
        // A new draw each 1/run, which is of the other class with probability 2 * 0.25 * 0.75.
        near("changes", changes / found.len() as f64, 0.375 / run, 0.05);
    }
    let drift = Some(Drift { input: 0.4, output: 0.0, every: seconds(600) });
    let found = draw(&source(1.0, drift));
    let mut means = vec![(0.0, 0.0); 200];
    for arrival in found.iter().filter(|arrival| arrival.output_tokens > 100) {
        let slot = &mut means[usize::try_from(arrival.at_ps / 600_000_000_000_000).unwrap()];
        *slot = (slot.0 + 1.0, slot.1 + f64::from(arrival.input_tokens));
    }
    let means: Vec<f64> = means.iter().map(|(count, sum)| sum / count).collect();
    let mean = means.iter().sum::<f64>() / 200.0;
    let variance = means.iter().map(|slot| (slot - mean).powi(2)).sum::<f64>() / 199.0;
    near("mean input", mean, 100.0 * 0.005_f64.exp(), 0.12);
    near("drift", variance.sqrt() / mean, 0.4, 0.25);
}

#[test]
fn what_is_no_series_is_refused() {
    let of = |rates: Vec<f64>, slot_s, source: &LengthSource| {
        SeriesTraffic::new(rates.into(), slot_s, &Bursts::default(), source, None, Keyed::new(1)).err()
    };
    assert_eq!(of(vec![1.0, -1.0], 1.0, &lengths()), Some(SeriesError::Rate { index: 1, rate: -1.0 }));
    assert!(matches!(of(vec![f64::NAN], 1.0, &lengths()), Some(SeriesError::Rate { index: 0, .. })));
    assert_eq!(of(vec![1.0], 0.0, &lengths()), Some(SeriesError::Slot { slot_s: 0.0 }));
    assert!(matches!(of(vec![1.0], f64::NAN, &lengths()), Some(SeriesError::Slot { .. })));
    assert!(matches!(
        of(vec![1.0; 1_000], 86_400.0, &lengths()),
        Some(SeriesError::TooLong { slots: 1_000, .. })
    ));
    let empty = LengthSource::Sample { pairs: Arc::from([]), block: 5 };
    assert_eq!(of(vec![1.0], 1.0, &empty), Some(SeriesError::NoLengths));
    assert_eq!(of(Vec::new(), 1.0, &lengths()), None, "no slots are no requests");
    assert!(all(series(Vec::new(), 1.0, Bursts::default(), 1)).is_empty());
}

/// What a process looks like over three days, and the process fitted to that looks the same.
#[test]
fn a_fit_of_figures_has_the_figures() {
    let flicker = |sd, memory| Some(Flicker { sd, memory: seconds(memory) });
    let on_off = Some(OnOff { on: seconds(8), off: seconds(30) });
    let plain = Bursts::default();
    for (what, bursts) in [
        ("gamma", Bursts { arrivals: Arrivals::GammaCv(2.5), ..plain }),
        ("even", Bursts { arrivals: Arrivals::GammaCv(0.6), ..plain }),
        ("flicker", Bursts { flicker: flicker(0.25, 90), ..plain }),
        (
            "gamma and flicker",
            Bursts { arrivals: Arrivals::GammaCv(1.4), flicker: flicker(0.3, 30), ..plain },
        ),
        ("on and off", Bursts { on_off, ..plain }),
        ("on, off and flicker", Bursts { on_off, flicker: flicker(0.4, 120), ..plain }),
    ] {
        let given = figures(series(vec![5.0; 26], 10_000.0, bursts, 21));
        let of = |found: &TraceFigures| {
            let arrivals = &found.arrivals;
            [arrivals.cv, arrivals.dispersion_1s, arrivals.dispersion_10s, arrivals.dispersion_60s]
                .map(Option::unwrap)
        };
        let [cv, one, ten, minute] = of(&given);
        let fit = Bursts::fit(&BurstFigures {
            rate_per_s: given.rate.mean_per_s,
            cv: Some(cv),
            dispersion: vec![(1.0, one), (10.0, ten), (60.0, minute)],
            window_s: given.span_s,
            span_s: given.span_s,
            known: (0.0, 1.0),
        });
        let again = of(&figures(series(vec![5.0; 26], 10_000.0, fit.bursts, 22)));
        println!(
            "{what}: {:?}\n  given {:?}\n  again {again:?} worst {}",
            fit.bursts,
            of(&given),
            fit.worst_factor
        );
        for (given, again) in of(&given).into_iter().zip(again) {
            near(what, again, given, 0.12);
        }
    }
    let fit = |cv, dispersion: Vec<(f64, f64)>| {
        let figures = BurstFigures {
            rate_per_s: 5.0,
            cv,
            dispersion,
            window_s: 3_600.0,
            span_s: 3_600.0,
            known: (0.0, 1.0),
        };
        Bursts::fit(&figures).bursts
    };
    assert_eq!(fit(Some(1.01), vec![(1.0, 1.02), (10.0, 0.98), (60.0, 1.1)]), Bursts::default());
    assert_eq!(fit(None, Vec::new()), Bursts::default());
    assert_eq!(
        fit(Some(f64::NAN), vec![(60.0, f64::NAN)]),
        Bursts::default(),
        "what is no number says nothing"
    );
}
