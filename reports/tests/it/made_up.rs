//! A believable result without the simulator: a crude fleet (processor sharing, least connections) over an hour, so that renderers can be
//! tested and looked at on data of the right shape. Nothing here is a claim about any engine.

// Counts and times here are made up within bounds that every cast holds.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use slackwater_sim::*;

/// What to make up.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) replicas: usize,
    pub(crate) span_s: f64,
    pub(crate) rate_per_s: f64,
    pub(crate) drain_timeout_s: f64,
    /// `None`: no rollout.
    pub(crate) start_s: Option<f64>,
    pub(crate) epoch_s: Option<u64>,
    /// Mean output tokens.
    pub(crate) output: f64,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            replicas: 4,
            span_s: 3_600.0,
            rate_per_s: 5.4,
            drain_timeout_s: 60.0,
            start_s: Some(1_200.0),
            epoch_s: None,
            output: 220.0,
        }
    }
}

struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[derive(Clone)]
struct Job {
    arrived: f64,
    first: Option<f64>,
    tokens: f64,
    left: f64,
}

struct Done {
    arrived: f64,
    ttft: f64,
    tpot: f64,
    e2e: f64,
    at: f64,
}

const SLOTS: usize = 32;

pub(crate) fn result(wish: &Wish) -> SimulationResult {
    let mut made = one(wish);
    if wish.start_s.is_some() {
        made.baseline = Some(Box::new(one(&Wish { start_s: None, ..wish.clone() })));
    }
    made
}

fn one(wish: &Wish) -> SimulationResult {
    let mut dice = Dice(7);
    // Long spans are told coarsely: this is for their shape.
    let tick = (wish.span_s / 60_000.0).max(0.1);
    let n = wish.replicas;
    let names: Vec<String> = (0..n).map(|i| format!("gpu-{i}")).collect();
    let interval = (wish.span_s / 360.0).max(1.0);
    let mut series = Series {
        interval_s: interval,
        running: vec![vec![]; n],
        waiting: vec![vec![]; n],
        ..Series::default()
    };
    let mut running: Vec<Vec<Job>> = vec![vec![]; n];
    let mut waiting: Vec<Vec<Job>> = vec![vec![]; n];
    let mut serving = vec![true; n];
    let mut done: Vec<Done> = vec![];
    let mut arrivals: Vec<f64> = vec![];
    let (mut moves, mut drains): (Vec<MoveFigures>, Vec<DrainFigures>) = (vec![], vec![]);
    let mut draining: Option<Vec<f64>> = None;
    let (mut next, mut begin) = (dice.exponential() / wish.rate_per_s, wish.start_s);
    let mut failed: Vec<f64> = vec![];
    let (mut t, mut sampled, mut lower) = (0.0, 0.0, 0.0);
    while t < wish.span_s {
        t += tick;
        let rate = wish.rate_per_s * (1.0 + 0.25 * (t / wish.span_s * 9.0).sin());
        while next < t {
            arrivals.push(next);
            let tokens = (wish.output.ln() - 0.4 + 0.9 * dice.normal()).exp().clamp(2.0, 3_000.0);
            let job = Job { arrived: next, first: None, tokens, left: tokens };
            let best = (0..n).filter(|i| serving[*i]).min_by_key(|i| running[*i].len() + waiting[*i].len());
            match best {
                Some(best) => waiting[best].push(job),
                None => failed.push(next),
            }
            next += dice.exponential() / rate;
        }
        for i in 0..n {
            while running[i].len() < SLOTS && !waiting[i].is_empty() {
                let mut job = waiting[i].remove(0);
                job.first = Some(t + 0.08 + 0.1 * dice.exponential() + 0.004 * running[i].len() as f64);
                running[i].push(job);
            }
            let step = 0.028 + 0.0011 * running[i].len() as f64;
            for job in &mut running[i] {
                job.left -= tick / step;
            }
            let out = draining.is_some() && moves.last().is_some_and(|m| m.replica == names[i]);
            running[i].retain(|job| {
                let first = job.first.unwrap_or(t).min(t);
                if job.left <= 0.0 {
                    if out {
                        let from = moves.last().and_then(|m| m.taken_out_s).unwrap_or(t);
                        draining.get_or_insert_default().push(t - from);
                    }
                    let (ttft, e2e) = (first - job.arrived, t - job.arrived);
                    let tpot = (t - first).max(0.01) / job.tokens.max(2.0);
                    done.push(Done { arrived: job.arrived, ttft, tpot, e2e, at: t });
                }
                job.left > 0.0
            });
        }
        // The rollout: one replica after the other.
        if let Some(at) = begin
            && t >= at
            && moves.len() < n
            && moves.last().is_none_or(|m| m.ended_s.is_some())
        {
            let i = moves.len();
            serving[i] = false;
            draining = Some(vec![]);
            begin = Some(at);
            moves.push(MoveFigures {
                replica: names[i].clone(),
                target: "v2".into(),
                started_s: t,
                taken_out_s: Some(t + 0.1),
                ..MoveFigures::default()
            });
        }
        let i = moves.len().saturating_sub(1);
        if let Some(m) = moves.last_mut().filter(|m| m.ended_s.is_none()) {
            let out = m.taken_out_s.unwrap_or(t);
            let empty = running[i].is_empty() && waiting[i].is_empty();
            if m.drained_s.is_none() && (empty || t - out > wish.drain_timeout_s) {
                let cut = running[i].len() + waiting[i].len();
                failed.extend(running[i].drain(..).chain(waiting[i].drain(..)).map(|j| j.arrived));
                drains.push(DrainFigures {
                    replica: names[i].clone(),
                    from_s: out,
                    residual_s: draining.take().unwrap_or_default(),
                    cut_after_s: vec![t - out; cut],
                });
                m.cut = cut as u64;
                m.drain_timed_out = cut > 0;
                m.drained_s = Some(t);
                m.stopped_s = Some(t + 4.0);
                m.gpu_free_s = Some(t + 6.5);
                m.start_issued_s = Some(t + 7.0);
                let load = 92.0 + 8.0 * dice.normal();
                m.healthy_s = Some(t + 7.0 + load);
                m.warmed_s = Some(t + 7.0 + load + 11.0);
            }
            if m.admitted_s.is_none() && m.warmed_s.is_some_and(|w| t >= w) {
                m.admitted_s = Some(t);
                serving[i] = true;
            }
            if m.admitted_s.is_some_and(|a| t >= a + 30.0) {
                m.ended_s = Some(t);
                m.result = "moved".into();
            }
        }
        let up = serving.iter().filter(|s| **s).count();
        if up < n {
            lower += tick;
        }
        if t - sampled >= interval - 1e-6 {
            let within =
                |list: &[f64]| list.iter().rev().take_while(|a| **a > sampled).count() as f64 / interval;
            let finished: Vec<&Done> = done.iter().rev().take_while(|d| d.at > sampled).collect();
            let pick = |of: fn(&Done) -> f64, q: f64| quantile(finished.iter().map(|d| of(d)).collect(), q);
            series.at_s.push(t);
            series.arrivals_per_s.push(within(&arrivals));
            series.completed_per_s.push(finished.len() as f64 / interval);
            let lost = failed.iter().filter(|a| **a > sampled - 60.0 && **a <= t).count();
            series.failed_per_s.push(if lost > 0 && up < n { lost as f64 / interval / 60.0 } else { 0.0 });
            series.serving.push(up as u32);
            for i in 0..n {
                series.running[i].push(running[i].len() as u32);
                series.waiting[i].push(waiting[i].len() as u32);
            }
            series.ttft_p50_s.push(pick(|d| d.ttft, 0.5));
            series.ttft_p99_s.push(pick(|d| d.ttft, 0.99));
            series.tpot_p50_s.push(pick(|d| d.tpot, 0.5));
            series.tpot_p99_s.push(pick(|d| d.tpot, 0.99));
            sampled = t;
        }
    }
    let open: Vec<f64> = running.iter().chain(&waiting).flatten().map(|j| j.arrived).collect();
    assemble(wish, names, series, &done, &arrivals, &failed, &open, moves, drains, lower)
}

#[allow(clippy::too_many_arguments)]
fn assemble(
    wish: &Wish,
    names: Vec<String>,
    series: Series,
    done: &[Done],
    arrivals: &[f64],
    failed: &[f64],
    open: &[f64],
    moves: Vec<MoveFigures>,
    drains: Vec<DrainFigures>,
    below_n_s: f64,
) -> SimulationResult {
    let slo = SloFacts { ttft_s: 1.0, tpot_s: 0.05, e2e_s: Some(60.0), share: 0.99 };
    let ledger = |from: f64, until: f64| {
        let count =
            |list: &mut dyn Iterator<Item = f64>| list.filter(|a| *a >= from && *a < until).count() as u64;
        RequestLedger {
            arrived: count(&mut arrivals.iter().copied()),
            completed: count(&mut done.iter().map(|d| d.arrived)),
            cut: count(&mut failed.iter().copied()),
            unfinished: count(&mut open.iter().copied()),
            ..RequestLedger::default()
        }
    };
    let missed = |from: f64, until: f64| {
        let late = done
            .iter()
            .filter(|d| d.arrived >= from && d.arrived < until)
            .filter(|d| d.ttft > slo.ttft_s || d.tpot > slo.tpot_s || slo.e2e_s.is_some_and(|e| d.e2e > e))
            .count() as u64;
        late + failed.iter().filter(|a| **a >= from && **a < until).count() as u64
    };
    let share = |from: f64, until: f64| {
        let arrived = ledger(from, until).arrived;
        if arrived == 0 { 1.0 } else { 1.0 - missed(from, until) as f64 / arrived as f64 }
    };
    let summary = |of: fn(&Done) -> f64, from: f64, until: f64| {
        let all: Vec<f64> = done.iter().filter(|d| d.arrived >= from && d.arrived < until).map(of).collect();
        LatencySummary {
            count: all.len() as u64,
            mean: (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64),
            p50: quantile(all.clone(), 0.5),
            p90: quantile(all.clone(), 0.9),
            p99: quantile(all.clone(), 0.99),
            max: quantile(all, 1.0),
        }
    };
    let mut spans: Vec<(String, f64, f64)> = vec![];
    let start = wish.start_s.unwrap_or(wish.span_s);
    spans.push(("before".into(), 0.0, start));
    for m in &moves {
        spans.push((m.replica.clone(), m.started_s, m.ended_s.unwrap_or(wish.span_s)));
    }
    let end = moves.last().map(|m| m.ended_s.unwrap_or(wish.span_s));
    if let Some(end) = end.filter(|e| *e < wish.span_s) {
        spans.push(("after".into(), end, wish.span_s));
    }
    let phases: Vec<PhaseResult> = spans
        .iter()
        .map(|(name, from, until)| {
            let requests = ledger(*from, *until);
            let inside: Vec<usize> = (0..series.at_s.len())
                .filter(|i| series.at_s[*i] > *from && series.at_s[*i] <= *until)
                .collect();
            let load = |lists: &[Vec<u32>], at: usize| lists.iter().map(|l| u64::from(l[at])).sum::<u64>();
            PhaseResult {
                name: name.clone(),
                from_s: *from,
                until_s: *until,
                serving_min: inside.iter().map(|i| series.serving[*i]).min().unwrap_or(0),
                rate_per_s: requests.arrived as f64 / (until - from).max(1e-9),
                in_flight_mean: inside
                    .iter()
                    .map(|i| (load(&series.running, *i) + load(&series.waiting, *i)) as f64)
                    .sum::<f64>()
                    / inside.len().max(1) as f64,
                queue_max: inside.iter().map(|i| load(&series.waiting, *i)).max().unwrap_or(0),
                requests,
                missed: missed(*from, *until),
                attainment: share(*from, *until),
                ttft_s: summary(|d| d.ttft, *from, *until),
                tpot_s: summary(|d| d.tpot, *from, *until),
                e2e_s: summary(|d| d.e2e, *from, *until),
                prefix_cache: None,
            }
        })
        .collect();
    let distributions = spans
        .iter()
        .map(|(name, from, until)| {
            let cdf = |of: fn(&Done) -> f64| {
                let mut all: Vec<f64> =
                    done.iter().filter(|d| d.arrived >= *from && d.arrived < *until).map(of).collect();
                all.sort_by(f64::total_cmp);
                let total = all.len() as f64;
                let every = (all.len() / 400).max(1);
                let last = all.len().saturating_sub(1);
                all.into_iter()
                    .enumerate()
                    .filter(|(i, _)| i % every == 0 || *i + 20 > last)
                    .map(|(i, v)| (v, (i + 1) as f64 / total))
                    .collect()
            };
            PhaseDistribution {
                phase: name.clone(),
                ttft: cdf(|d| d.ttft),
                tpot: cdf(|d| d.tpot),
                e2e: cdf(|d| d.e2e),
            }
        })
        .collect();
    let (from, until) = wish.start_s.map_or((1_200.0, 1_900.0), |s| (s, end.unwrap_or(s)));
    let worst = (0..((until - from - 300.0).max(0.0) / 10.0) as usize + 1)
        .map(|i| from + 10.0 * i as f64)
        .map(|at| (share(at, at + 300.0), at))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((1.0, from));
    let requests = ledger(0.0, f64::INFINITY);
    let rollout = wish.start_s.map(|start| RolloutResult {
        outcome: "completed".into(),
        started_s: start,
        ended_s: end.unwrap_or(start),
        moves,
        below_n_s,
        drains,
        canary: None,
        report: super::policy_report(),
    });
    SimulationResult {
        faults: Vec::new(),
        retries: RetryFigures::default(),
        schema: RESULT_SCHEMA.into(),
        slackwater: "0.1.0".into(),
        scenario: "four-gpu-chat".into(),
        seed: 7,
        inputs: [
            (
                "scenario".to_owned(),
                "9f2b6c0a41d7e85f3b1c2d4e5f60718293a4b5c6d7e8f90123456789abcdef01".to_owned(),
            ),
            (
                "traffic".to_owned(),
                "0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb".to_owned(),
            ),
        ]
        .into(),
        traffic: TrafficFacts {
            source: "azure2023_conv.csv.gz".into(),
            format: "azure".into(),
            rate_scale: 1.0,
            span_s: wish.span_s,
            mean_rate_per_s: requests.arrived as f64 / wish.span_s,
            mean_input_tokens: 1_154.6,
            mean_output_tokens: wish.output,
            dropped: vec![("no output tokens".into(), 3, 1_204)],
            epoch: wish.epoch_s.map(time),
        },
        fleet: FleetFacts {
            serving: names.len(),
            replicas: names,
            tensor_parallel: 1,
            from: (
                "chat-2026-10".into(),
                "preset a100-80g-llama-3.1-8b (linear step time, published figures)".into(),
            ),
            to: (
                "chat-2026-11".into(),
                "preset a100-80g-llama-3.1-8b (linear step time, published figures)".into(),
            ),
            router: "least connections".into(),
            known: Vec::new(),
        },
        reach: Vec::new(),
        ttft_s: summary(|d| d.ttft, 0.0, f64::INFINITY),
        tpot_s: summary(|d| d.tpot, 0.0, f64::INFINITY),
        e2e_s: summary(|d| d.e2e, 0.0, f64::INFINITY),
        service: ServiceVerdict {
            from_s: from,
            until_s: until,
            arrived: ledger(from, until).arrived,
            missed: missed(from, until),
            attainment: share(from, until),
            worst_5min_attainment: worst.0,
            worst_5min_at_s: worst.1,
            kept: share(from, until) >= slo.share && worst.0 >= slo.share,
        },
        attempts: AttemptLedger {
            sent: requests.arrived,
            completed: requests.completed,
            cut: requests.cut,
            unfinished: requests.unfinished,
            ..AttemptLedger::default()
        },
        sessions: None,
        prefix_cache: None,
        requests,
        slo,
        phases,
        rollout,
        series,
        distributions,
        steps: 412_345,
        preemptions: 0,
        kv_peak_share: 0.61,
        wall_s: 0.004,
        requests_per_wall_s: 4_800_000.0,
        hash: "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592".into(),
        baseline: None,
        capacity: [4u32, 3, 2]
            .into_iter()
            .filter(|k| *k as usize <= wish.replicas)
            .map(|k| {
                let k = k.max((wish.replicas as u32).saturating_sub(4 - k));
                CapacityPoint {
                    replicas: k,
                    rate_per_s: 2.05 * f64::from(k),
                    low: 2.0 * f64::from(k),
                    high: 2.1 * f64::from(k),
                }
            })
            .collect(),
        warnings: vec!["engine profile is a preset, not measured on this machine".into()],
    }
}

fn time<T: serde::de::DeserializeOwned>(seconds: u64) -> T {
    serde_json::from_str(&(seconds * 1_000_000_000).to_string()).expect("a time is an integer of nanoseconds")
}

fn quantile(mut all: Vec<f64>, q: f64) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let last = all.len().checked_sub(1)?;
    all.get((q * last as f64).round() as usize).copied()
}
