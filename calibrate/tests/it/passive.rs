//! Fits to what an engine's counters say, where the engine is the model itself and its coefficients are known.

use slackwater_calibrate::{Coefficient, Description, Interval, Known, Watched, fit_watched};
use slackwater_engine::step_time::ps_from_s;
use slackwater_engine::{Output, PS_PER_S, Replica, Request, Stop};
use slackwater_scenarios::{EngineProfile, Keyed};

use crate::made::truth;

/// One request on its way.
struct Live {
    id: slackwater_engine::SequenceId,
    arrived_s: f64,
    prompt: u32,
    output: u32,
    shown: u32,
    last_s: f64,
}

/// An engine under a load whose rate changes, looked at every two seconds for so long.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn watched(truth: &EngineProfile, lasts_s: f64, seed: u64, rate_at: impl Fn(f64) -> f64) -> Watched {
    const EVERY_S: f64 = 2.0;
    let keyed = Keyed::new(seed);
    let mut engine = Replica::new(truth.replica_config().unwrap(), truth.step_time()).unwrap();
    let (inbound_s, outbound_s) = (truth.front_end.inbound_ms / 1e3, truth.front_end.outbound_ms / 1e3);
    let mut live: Vec<Option<Live>> = Vec::new();
    let mut intervals = vec![Interval::default(); (lasts_s / EVERY_S) as usize];
    let (mut prompts, mut outputs) = (Vec::new(), Vec::new());
    let gap = |index: u64, at: f64| -(1.0 - keyed.uniform("gap", &[index])).ln() / rate_at(at);
    let mut next_s = gap(0, 0.0);
    let mut looks: Vec<(f64, f64)> = vec![(0.0, 0.0)];
    let mut done = 0;
    while done < ps_from_s(lasts_s) {
        // To the next step's end, the next arrival or the next look.
        let look_s = looks.len() as f64 * EVERY_S;
        let step = engine.next_step_end(done).unwrap_or(u64::MAX);
        let until = step.min(ps_from_s(next_s)).min(ps_from_s(look_s));
        let mut finished = Vec::new();
        engine
            .advance_before(until + 1, &mut |output| {
                if let Output::Finished { tag, .. } = output {
                    finished.push(tag);
                }
            })
            .unwrap();
        done = until;
        let now_s = until as f64 / PS_PER_S as f64;
        let interval = ((now_s / EVERY_S) as usize).min(intervals.len() - 1);
        let counted = &mut intervals[interval];
        for (tag, slot) in live.iter_mut().enumerate() {
            let Some(of) = slot else { continue };
            let ended = finished.contains(&(tag as u32));
            let emitted =
                if ended { of.output } else { engine.emitted(of.id, until + 1).unwrap_or(of.shown) };
            if emitted > of.shown {
                if of.shown == 0 {
                    counted.first_tokens += 1.0;
                    counted.ttft_s += now_s - of.arrived_s + outbound_s;
                    counted.prompt_tokens += f64::from(of.prompt);
                } else {
                    counted.gaps += f64::from(emitted - of.shown);
                    counted.gaps_s += now_s - of.last_s;
                }
                (of.shown, of.last_s) = (emitted, now_s);
            }
            if ended {
                counted.ended += 1.0;
                counted.e2e_s += now_s - of.arrived_s + outbound_s;
                *slot = None;
            }
        }
        if until == ps_from_s(next_s) {
            let index = live.len() as u64;
            let between = |what: &str, low: f64, high: f64| {
                (low.ln() + (high / low).ln() * keyed.uniform(what, &[index])).exp().round() as u32
            };
            let (prompt, output) = (between("input", 60.0, 3000.0), between("output", 20.0, 400.0));
            prompts.push(f64::from(prompt));
            outputs.push(f64::from(output));
            let request = Request { tag: index as u32, prompt, output, stop: Stop::Length };
            let id = engine.submit(ps_from_s(next_s + inbound_s), request).unwrap();
            live.push(Some(Live { id, arrived_s: next_s, prompt, output, shown: 0, last_s: 0.0 }));
            next_s += gap(index + 1, next_s);
        }
        if until == ps_from_s(look_s) {
            let used = f64::from((truth.kv_blocks - engine.free_blocks()) * truth.block_size);
            looks.push((f64::from(engine.running()), used));
        }
    }
    for (index, interval) in intervals.iter_mut().enumerate() {
        let ((before, used_before), (after, used)) =
            (looks[index], looks.get(index + 1).copied().unwrap_or(looks[index]));
        interval.from_s = index as f64 * EVERY_S;
        interval.seconds = EVERY_S;
        interval.running_change = after - before;
        interval.in_flight = before.max(after);
        interval.kv_tokens = Some(f64::midpoint(used_before, used));
    }
    Watched {
        about: Description {
            model: Some("made".to_owned()),
            max_num_seqs: Some(truth.max_num_seqs),
            max_num_batched_tokens: Some(truth.max_num_batched_tokens),
            num_gpu_blocks: Some(truth.kv_blocks + 1),
            block_size: Some(truth.block_size),
            ..Description::default()
        },
        intervals,
        prompts: coarse(&prompts),
        outputs: coarse(&outputs),
        notes: Vec::new(),
    }
}

/// As a histogram with vLLM's bounds tells them (1, 2, 5, 10, 20, ...), stretched to their mean, which counters tell.
#[allow(clippy::cast_precision_loss)]
fn coarse(lengths: &[f64]) -> Vec<(f64, f64)> {
    let bounds: Vec<f64> =
        (0..5).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power))).collect();
    let within = |low: f64, high: f64| lengths.iter().filter(|it| **it > low && **it <= high).count() as f64;
    let all: Vec<(f64, f64)> =
        bounds.windows(2).map(|pair| (f64::midpoint(pair[0], pair[1]), within(pair[0], pair[1]))).collect();
    let stretch = lengths.iter().sum::<f64>() / all.iter().map(|(length, count)| length * count).sum::<f64>();
    all.into_iter().map(|(length, count)| (length * stretch, count)).collect()
}

fn true_value(coefficient: Coefficient, truth: &EngineProfile) -> Option<f64> {
    match coefficient {
        Coefficient::C0Ms => Some(truth.c0_ms),
        Coefficient::CTokUs => Some(truth.c_tok_us),
        Coefficient::CSeqUs => Some(truth.c_seq_us),
        Coefficient::CKvUs => Some(truth.c_kv_us),
        _ => None,
    }
}

#[test]
fn a_load_that_changes_shows_what_steps_are_made_of() {
    let truth = truth();
    let mut identified = 0;
    for seed in 1..=3 {
        // Quiet and busy, up to some three quarters of what it can do.
        let watched = watched(&truth, 900.0, seed, |at| {
            0.4 + 8.0 * (0.5 - 0.5 * (at / 900.0 * 6.0 * std::f64::consts::PI).cos())
        });
        let fit = fit_watched(&watched, 1, &|_| {}).unwrap();
        println!("{:#?} {:?}", fit.fitted.coefficients, fit.held_out);
        assert_eq!(fit.too_even, None);
        for estimate in &fit.fitted.coefficients {
            let Some(value) = true_value(estimate.coefficient, &truth) else {
                assert_eq!(estimate.known, Known::NotIdentified, "{}", estimate.name);
                continue;
            };
            if estimate.known != Known::NotIdentified {
                identified += 1;
                assert!(
                    estimate.low <= value && value <= estimate.high,
                    "seed {seed}, {}: {value} is not within {} to {}",
                    estimate.name,
                    estimate.low,
                    estimate.high
                );
            }
        }
        let means = fit.held_out.unwrap();
        let off = |(measured, predicted): (f64, f64)| (predicted / measured).ln().abs();
        assert!(off(means.tpot_s) < 0.05 && off(means.e2e_s) < 0.1 && off(means.ttft_s) < 0.2, "{means:?}");
    }
    assert!(identified >= 6, "of 12 coefficients {identified} are known at least roughly");
}

#[test]
fn a_load_that_never_changes_tells_nothing_and_says_so() {
    let truth = truth();
    let mut watched = watched(&truth, 300.0, 1, |_| 3.0);
    let like = watched.intervals[watched.intervals.len() / 2];
    let keyed = Keyed::new(5);
    for (index, interval) in (0..).zip(&mut watched.intervals) {
        // The same at all times, but for what clocks are off.
        let off = 1.0 + 0.01 * (2.0 * keyed.uniform("clock", &[index]) - 1.0);
        *interval = Interval { from_s: interval.from_s, gaps_s: like.gaps_s * off, ..like };
    }
    let fit = fit_watched(&watched, 1, &|_| {}).unwrap();
    let why = fit.too_even.expect("nothing was moved");
    assert!(why.contains("too even"), "{why}");
    assert!(fit.fitted.coefficients.iter().all(|of| of.known == Known::NotIdentified && of.why.is_some()));
}

#[test]
fn too_little_is_an_error() {
    let error = fit_watched(&Watched::default(), 1, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("at least 24"), "{error}");
}
