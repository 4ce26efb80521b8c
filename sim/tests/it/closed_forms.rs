//! Queueing theory as the oracle: with one kind of step and no other delays, engine and router are textbook queues.
//!
//! A step costs `c0` whatever it holds, a prompt is one token, and a request of `o` tokens takes `o` steps: its service
//! time is `o * c0`. With `max_num_seqs = 1` an engine is a single first-come-first-served server, exactly: it is idle or
//! begins a request the moment the one before ends. With `max_num_seqs = c` it is `c` servers on one queue, but for the
//! step that an arrival waits to see the end of, ten thousand times shorter than a service.
//!
//! A mean is that of independent replications, warm-up left out, with Student's interval of 99.9 %. Seeds are fixed, so
//! a test passes always or never; and each asks for a narrow interval, so that agreeing means something.

use rand::RngExt;
use rand_distr::Exp1;
use slackwater_scenarios::Keyed;

use crate::kit::{Engine, Spec, trace};
use crate::markov::shortest_of_two_queues;

const REPLICATIONS: u64 = 20;
/// Student's 99.9 % point, two-sided, 19 degrees of freedom.
const STUDENT: f64 = 3.883;
const REQUESTS: usize = 20_000;
const WARM_UP: usize = 2_000;

/// How output lengths are drawn.
#[derive(Debug, Clone, Copy)]
enum Lengths {
    Constant(u32),
    /// Exponential, rounded up: geometric.
    Exponential {
        mean: f64,
    },
    /// One of two exponentials: `share` of the requests are `times` as long as the others.
    Hyperexponential {
        mean: f64,
        share: f64,
        times: f64,
    },
}

impl Lengths {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn draw(self, random: &mut impl rand::Rng) -> u32 {
        let exponential = |mean: f64, unit: f64| ((mean * unit).ceil() as u32).max(1);
        match self {
            Self::Constant(tokens) => tokens,
            Self::Exponential { mean } => exponential(mean, random.sample(Exp1)),
            Self::Hyperexponential { mean, share, times } => {
                let short = mean / (1.0 + share * (times - 1.0));
                let long: f64 = random.random();
                exponential(if long < share { short * times } else { short }, random.sample(Exp1))
            }
        }
    }
}

/// Seconds a request waited before its first step, and from arrival to the end, over many replications.
struct Measured {
    wait: Estimate,
    sojourn: Estimate,
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    mean: f64,
    half_width: f64,
}

impl Estimate {
    fn of(means: &[f64]) -> Self {
        assert_eq!(means.len() as u64, REPLICATIONS);
        let count = means.len() as f64;
        let mean = means.iter().sum::<f64>() / count;
        let variance = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, half_width: STUDENT * (variance / count).sqrt() }
    }

    /// The formula's value lies in the interval, which is no wider than `precision` of it to either side.
    #[track_caller]
    fn agrees(self, formula: f64, precision: f64) {
        assert!(
            self.half_width <= precision * formula,
            "too few requests to tell: {self:?}, formula {formula}"
        );
        assert!((self.mean - formula).abs() <= self.half_width, "{self:?}, formula {formula}");
    }
}

/// Poisson arrivals, `rate` a second.
fn measure(spec: &Spec, rate: f64, lengths: Lengths) -> Measured {
    measure_many(spec, rate, lengths, REQUESTS, WARM_UP)
}

fn measure_many(spec: &Spec, rate: f64, lengths: Lengths, requests: usize, warm_up: usize) -> Measured {
    let (mut waits, mut sojourns) = (Vec::new(), Vec::new());
    for replication in 0..REPLICATIONS {
        let keyed = Keyed::new(7);
        let mut gaps = keyed.stream("gaps", &[replication]);
        let mut outputs = keyed.stream("outputs", &[replication]);
        let mut at = 0.0;
        let arrivals = (0..requests).map(|_| {
            let gap: f64 = gaps.sample(Exp1);
            at += gap / rate;
            (at, 1, lengths.draw(&mut outputs))
        });
        let run = Spec { seed: replication + 1, ..spec.clone() }.run(&trace(arrivals));
        assert_eq!(run.result.requests.completed, requests as u64);
        let measured = &run.rows[warm_up..];
        let step = spec.engine.c0_ms / 1e3;
        let count = measured.len() as f64;
        waits.push(measured.iter().map(|row| row.ttft_s.unwrap() - step).sum::<f64>() / count);
        sojourns.push(measured.iter().map(|row| row.e2e_s).sum::<f64>() / count);
    }
    Measured { wait: Estimate::of(&waits), sojourn: Estimate::of(&sojourns) }
}

/// `servers` requests at a time; a service lasts a second on average.
fn server(servers: u32) -> Engine {
    Engine { c0_ms: STEP_S * 1e3, max_num_seqs: servers, ..Engine::default() }
}

const STEP_S: f64 = 1e-4;
const TOKENS: f64 = 1.0 / STEP_S;
const EXPONENTIAL: Lengths = Lengths::Exponential { mean: TOKENS };

/// Catches: a request that waits though the server is idle, a step too many or too few for a request, service out of
/// order of arrival (the mean wait would stand, its split by number would not), time lost between two requests.
#[test]
fn one_server_with_exponential_service_is_m_m_1() {
    let load = 0.7;
    let measured = measure(&Spec { engine: server(1), ..Spec::default() }, load, EXPONENTIAL);
    measured.wait.agrees(load / (1.0 - load), 0.1);
    measured.sojourn.agrees(1.0 / (1.0 - load), 0.1);
}

/// Catches: variance where there must be none, such as a step boundary that an arrival waits for at an idle server.
#[test]
fn one_server_with_equal_service_is_m_d_1() {
    let load = 0.8;
    let measured = measure(&Spec { engine: server(1), ..Spec::default() }, load, Lengths::Constant(10_000));
    measured.wait.agrees(load / (2.0 * (1.0 - load)), 0.06);
    measured.sojourn.agrees(1.0 + load / (2.0 * (1.0 - load)), 0.06);
}

/// Pollaczek and Khinchine, with few steps a request: no limit of small steps is taken, the discrete formula is exact.
/// Catches: an error of one step in a service or a wait, which thousands of steps a request would hide.
#[test]
fn a_few_steps_a_request_follow_pollaczek_and_khinchine_to_the_step() {
    let (step, mean) = (0.25, 4.0);
    let success: f64 = 1.0 - f64::exp(-1.0 / mean);
    let (first, second) = (step / success, step * step * (2.0 - success) / (success * success));
    let rate = 0.6 / first;
    let engine = Engine { c0_ms: step * 1e3, ..server(1) };
    let measured = measure(&Spec { engine, ..Spec::default() }, rate, Lengths::Exponential { mean });
    let wait = rate * second / (2.0 * (1.0 - 0.6));
    measured.wait.agrees(wait, 0.06);
    measured.sojourn.agrees(wait + first, 0.04);
}

/// Asynchronous scheduling decides a step ahead: each request holds its slot one step longer (end of text is seen one
/// step late), which is a server whose service is `o + 1` steps, and a first step that begins at once when idle.
/// Catches: the wasted step not charged, or charged twice.
#[test]
fn asynchronous_scheduling_is_a_server_with_one_step_more() {
    let (step, mean) = (0.25, 4.0);
    let success: f64 = 1.0 - f64::exp(-1.0 / mean);
    let (tokens, variance) = (1.0 / success, (1.0 - success) / (success * success));
    let first = step * (tokens + 1.0);
    let second = step * step * (variance + (tokens + 1.0).powi(2));
    let load = 0.6;
    let rate = load / first;
    let engine = Engine { c0_ms: step * 1e3, asynchronous: true, ..server(1) };
    let measured = measure(&Spec { engine, ..Spec::default() }, rate, Lengths::Exponential { mean });
    let wait = rate * second / (2.0 * (1.0 - load));
    measured.wait.agrees(wait, 0.06);
    measured.sojourn.agrees(wait + step * tokens, 0.04);
}

/// Erlang's C. Catches: `max_num_seqs` off by one, a slot freed late, a queue that is not one queue.
#[test]
fn one_engine_of_four_slots_is_m_m_4() {
    let (servers, load) = (4_u32, 0.8);
    let offered = f64::from(servers) * load;
    let mut term = 1.0;
    let mut below = 0.0;
    for busy in 0..servers {
        below += term;
        term *= offered / f64::from(busy + 1);
    }
    let waiting = term / (1.0 - load) / (below + term / (1.0 - load));
    let wait = waiting / (f64::from(servers) - offered);
    let measured = measure(&Spec { engine: server(servers), ..Spec::default() }, offered, EXPONENTIAL);
    measured.wait.agrees(wait, 0.12);
    measured.sojourn.agrees(wait + 1.0, 0.06);
}

/// A queue of three round-robin replicas sees every third arrival: Erlang gaps, E_3/M/1, whose mean wait follows from
/// the root of a fixed point. Catches: a replica skipped or served twice in a round, a router that looks at load.
#[test]
fn round_robin_over_three_servers_is_three_times_e3_m_1() {
    let (replicas, load) = (3_u32, 0.8);
    let rate = f64::from(replicas) * load;
    let mut root = 0.5;
    for _ in 0..200 {
        root = (rate / (rate + 1.0 - root)).powi(3);
    }
    let spec = Spec {
        engine: server(1),
        replicas,
        router: "policy = \"round-robin\"".to_owned(),
        ..Spec::default()
    };
    let measured = measure(&spec, rate, EXPONENTIAL);
    measured.wait.agrees(root / (1.0 - root), 0.1);
    measured.sojourn.agrees(1.0 / (1.0 - root), 0.1);
}

/// Least connections over two servers is "join the shortest queue", solved as a Markov chain. Catches: counts that lag
/// behind, an end not told to the router, ties that favour one replica (the mean would rise).
#[test]
fn least_connections_over_two_servers_joins_the_shortest_queue() {
    let load = 0.85;
    let spec = Spec { engine: server(1), replicas: 2, ..Spec::default() };
    let measured = measure(&spec, 2.0 * load, EXPONENTIAL);
    measured.sojourn.agrees(shortest_of_two_queues(2.0 * load), 0.1);
}

/// nginx's least_conn with a shared zone is the same. Catches: the shared zone not shared.
#[test]
fn nginx_with_a_shared_zone_joins_the_shortest_queue_too() {
    let load = 0.85;
    let router = "policy = \"nginx-least-conn\"\nzone = true\nworkers = 8".to_owned();
    let spec = Spec { engine: server(1), replicas: 2, router, ..Spec::default() };
    let measured = measure(&spec, 2.0 * load, EXPONENTIAL);
    measured.sojourn.agrees(shortest_of_two_queues(2.0 * load), 0.1);
}

/// The less loaded of two at random: over ever more servers the mean sojourn goes to Mitzenmacher's sum. Catches: a
/// choice of one (it would be 5), of the best of all (about 1), of twice the same. 200 replicas are near the limit; the
/// rest is allowed for.
#[test]
fn random_two_choices_over_many_servers_is_mitzenmachers_sum() {
    let (replicas, load) = (200_u32, 0.8_f64);
    let router = "policy = \"random-two-choices\"".to_owned();
    let spec = Spec { engine: server(1), replicas, router, ..Spec::default() };
    let measured = measure_many(&spec, f64::from(replicas) * load, EXPONENTIAL, 15_000, 5_000).sojourn;
    let limit: f64 = (1..8).map(|depth| load.powi((1 << depth) - 2)).sum();
    assert!(measured.half_width < 0.025 * limit, "{measured:?}");
    assert!(
        (measured.mean - limit).abs() <= measured.half_width + 0.01 * limit,
        "{measured:?}, limit {limit}"
    );
}

/// Steps that cost so much a sequence and nothing else are processor sharing: the mean sojourn depends on the mean
/// service alone, whatever its distribution. Catches: a step priced by the wrong batch, a request that decodes in a step
/// it is not in, a jump past an arrival.
#[test]
fn a_batch_priced_by_the_sequence_is_processor_sharing() {
    let load = 0.7;
    let engine = Engine {
        // The prompt's step takes a nanosecond, every other one 100 us a sequence.
        c0_ms: 1e-6,
        c_seq_us: STEP_S * 1e6,
        max_num_seqs: 1024,
        ..Engine::default()
    };
    let hyperexponential = Lengths::Hyperexponential { mean: TOKENS, share: 0.1, times: 10.0 };
    for lengths in [Lengths::Constant(10_001), hyperexponential] {
        let measured = measure(&Spec { engine: engine.clone(), ..Spec::default() }, load, lengths);
        measured.sojourn.agrees(1.0 / (1.0 - load), 0.12);
    }
}
