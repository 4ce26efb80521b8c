//! The same traffic and the same linear step time through `inference-lab`'s engine and through ours.

use std::sync::Arc;

use inference_lab::config::{
    ClusterSpec, LayerClass, LinearStepCost, MemoryConfig, ModelSpec, ParallelConfig, Precision,
    RouterConfig, SchedulerConfig, StepCostModel, WeightStream,
};
use inference_lab::request::Request;
use inference_lab::router::{Router, WorkerId, WorkerSignal};
use inference_lab::scheduler::SchedulingPolicy;
use inference_lab::simulation::{Engine, Topology};
use slackwater_benches::WordHash;
use slackwater_benches::workload::Source;
use slackwater_benches::worlds::Job;
use slackwater_scenarios::traffic::{Arrival, SharedTrace};
use slackwater_scenarios::{FrontEnd, KvReservation, Scenario, Scheduling, StepForm};
use slackwater_sim::{RunInfo, RunOptions, Setup};

const REPLICAS: u32 = 4;
pub(crate) const TOKENS_IN_A_STEP: u32 = 2048;
pub(crate) const SEQUENCES: u32 = 128;
pub(crate) const BLOCK: u32 = 16;

// `c0 + c_tok * (prefill + decoding) + c_seq * decoding + c_kv * context` here is the peer's
// `t0 + tp * prefill + td * decoding + tk * context` with `td = c_tok + c_seq`; both count the token being computed.
const C0_MS: f64 = 8.0;
const C_TOK_US: f64 = 60.0;
const C_SEQ_US: f64 = 50.0;
const C_KV_US: f64 = 0.05;

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    /// The trace is played so much faster.
    pub(crate) rate_scale: f64,
    pub(crate) kv_blocks: u32,
}

/// Who breaks ties between equally loaded replicas at the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ties {
    /// Its own `LeastLoaded`: fewer queued prompt tokens, then the lower index.
    Its,
    /// As ours: in turn.
    Ours,
}

/// What became of one request, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) ttft: f64,
    /// Of outputs of more than one token.
    pub(crate) tpot: Option<f64>,
    pub(crate) e2e: f64,
}

/// All requests of a run by their number, and how often one was preempted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) latencies: Vec<Latency>,
    pub(crate) preemptions: u64,
}

impl Run {
    /// In whole nanoseconds: the two reckon in different units, and neither is exact below.
    pub(crate) fn hex(&self) -> String {
        let mut hash = WordHash::default();
        for latency in &self.latencies {
            for seconds in [latency.ttft, latency.tpot.unwrap_or_default(), latency.e2e] {
                hash.word((seconds * 1e9).round().to_bits());
            }
        }
        hash.word(self.preemptions);
        hash.hex()
    }

    /// The largest difference of any latency of any request, seconds.
    pub(crate) fn largest_difference(&self, other: &Self) -> f64 {
        let differences = self.latencies.iter().zip(&other.latencies).map(|(one, two)| {
            let tpot = one.tpot.unwrap_or_default() - two.tpot.unwrap_or_default();
            (one.ttft - two.ttft).abs().max(tpot.abs()).max((one.e2e - two.e2e).abs())
        });
        assert_eq!(self.latencies.len(), other.latencies.len());
        differences.fold(0.0, f64::max)
    }

    /// Mean, p50, p90, p99 of one latency, exact.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn figures(&self, of: impl Fn(&Latency) -> Option<f64>) -> [f64; 4] {
        let mut values: Vec<f64> = self.latencies.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let quantile =
            |q: f64| values[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        [mean, quantile(0.5), quantile(0.9), quantile(0.99)]
    }
}

impl Case {
    /// Linear step time, no front end, no client gives up; else as the peer is set.
    pub(crate) fn scenario(&self) -> Scenario {
        let mut scenario = self.source.scenario(Scheduling::Sync);
        scenario.traffic.rate_scale = self.rate_scale;
        scenario.clients.timeout = slackwater_scenarios::HumanDuration::from_secs(1_000_000);
        let engine = &mut scenario.from.engine;
        engine.form = StepForm::Linear;
        (engine.c0_ms, engine.c_tok_us, engine.c_seq_us, engine.c_kv_us) =
            (C0_MS, C_TOK_US, C_SEQ_US, C_KV_US);
        engine.c_attn_us_per_token2 = 0.0;
        engine.kv_blocks = self.kv_blocks;
        engine.block_size = BLOCK;
        engine.max_num_seqs = SEQUENCES;
        engine.max_num_batched_tokens = TOKENS_IN_A_STEP;
        engine.reserve = KvReservation::Chunk;
        engine.front_end = FrontEnd { inbound_ms: 0.0, outbound_ms: 0.0, jitter: 0.0 };
        scenario
    }

    pub(crate) fn load(&self) -> Arc<SharedTrace> {
        Arc::new(self.scenario().load_traffic().unwrap_or_else(|error| panic!("{error:?}")))
    }

    /// Ours. With `rows` every request is written down; without, as it is normally run, histograms and series only.
    pub(crate) fn our_job(&self, trace: &Arc<SharedTrace>, rows: bool) -> Job {
        let setup = Setup::new(&self.scenario()).expect("a scenario that can be simulated");
        Job::of(setup, trace, RunOptions { series: !rows, rows })
    }

    pub(crate) fn run_ours(&self, trace: &Arc<SharedTrace>) -> Run {
        let mut world = self.our_job(trace, true).world();
        world.run().expect("a run");
        let mut latencies = vec![Latency::default(); trace.arrivals.len()];
        for row in world.take_rows() {
            let number = usize::try_from(row.number).expect("an index");
            let ttft = row.ttft_s.expect("every request completes");
            latencies[number] = Latency { ttft, tpot: row.tpot_s, e2e: row.e2e_s };
        }
        let (result, _) = world.finish(RunInfo::default());
        assert_eq!(result.requests.completed, result.requests.arrived);
        Run { latencies, preemptions: result.preemptions }
    }

    /// An engine of the peer's with nothing submitted.
    pub(crate) fn peer(&self, ties: Ties) -> Engine {
        engine(self.kv_blocks, REPLICAS, ties)
    }
}

/// So many of the peer's workers.
pub(crate) fn engine(kv_blocks: u32, replicas: u32, ties: Ties) -> Engine {
    let mut cluster: ClusterSpec = toml::from_str("hardware = \"b200\"").expect("in its catalog");
    cluster.parallel = ParallelConfig::default();
    cluster.num_workers = replicas;
    cluster.memory = MemoryConfig::default();
    cluster.step_cost = StepCostModel::Linear(LinearStepCost {
        t0: C0_MS / 1e3,
        tp: C_TOK_US / 1e6,
        td: (C_TOK_US + C_SEQ_US) / 1e6,
        tk: C_KV_US / 1e6,
        t0p: 0.0,
        graph_prefill_max_tokens: 0,
        t0p_graph: 0.0,
    });
    let topology = Topology::aggregated(cluster, model(), scheduler(kv_blocks)).expect("a valid topology");
    let topology = match ties {
        Ties::Its => topology.with_router(&RouterConfig::LeastLoaded {}),
        Ties::Ours => topology.with_pool_router(0, Box::new(InTurn { last: replicas as usize - 1 })),
    };
    Engine::new(topology)
}

/// Plays the arrivals through the peer, handing each in when its time has come.
pub(crate) fn play(engine: &mut Engine, arrivals: &[Arrival]) -> Run {
    let mut run = Run { latencies: vec![Latency::default(); arrivals.len()], preemptions: 0 };
    let mut waiting = arrivals.iter().enumerate().peekable();
    loop {
        // What arrives at a time precedes what the engine does at it.
        let due = engine.next_event_time().unwrap_or(f64::INFINITY);
        while let Some((number, arrival)) = waiting.next_if(|(_, arrival)| seconds(arrival.at_ps) <= due) {
            let at = seconds(arrival.at_ps);
            let request =
                Request::new(number.to_string(), 0, at, arrival.input_tokens, arrival.output_tokens);
            engine.submit(request);
            if due.is_infinite() {
                break;
            }
        }
        if engine.next_event_time().is_none() {
            break;
        }
        for timing in engine.step().expect("a step").completions {
            assert!(!timing.rejected, "every request fits");
            let number: usize = timing.request_id.parse().expect("an index");
            run.latencies[number] = Latency { ttft: timing.ttft(), tpot: timing.tpot(), e2e: timing.e2e() };
        }
    }
    run.preemptions = engine.aggregate_preemptions();
    run
}

#[allow(clippy::cast_precision_loss)] // the peer's clock
fn seconds(ps: u64) -> f64 {
    ps as f64 / 1e12
}

/// Least loaded, the first after the last pick among equals: our router's rule.
struct InTurn {
    last: usize,
}

impl Router for InTurn {
    fn route(&mut self, _request: &Request, workers: &[WorkerSignal], _now_s: f64) -> WorkerId {
        let places = (1..=workers.len()).map(|step| (self.last + step) % workers.len());
        let place = places.min_by_key(|&place| workers[place].in_system()).expect("a worker");
        self.last = place;
        workers[place].worker
    }
}

/// Any model will do: the step time is linear, and of the model only the bytes of a KV block are used.
fn model() -> ModelSpec {
    ModelSpec {
        name: "dense".into(),
        hidden_dim: 4096,
        max_seq_len: 131_072,
        attention_precision: Precision::Bf16,
        activation_bytes: 2,
        weights: vec![WeightStream {
            precision: Precision::Bf16,
            active_params: 8_000_000_000,
            resident_params: 8_000_000_000,
            routing: None,
        }],
        layers: vec![LayerClass::Attention {
            count: 32,
            heads: 32,
            head_dim: 128,
            kv_heads: 8,
            kv_shared: false,
            window: 0,
            kv_precision: Precision::Bf16,
        }],
    }
}

fn scheduler(kv_blocks: u32) -> SchedulerConfig {
    SchedulerConfig {
        max_num_batched_tokens: TOKENS_IN_A_STEP,
        max_num_seqs: SEQUENCES,
        max_waiting: 0,
        policy: SchedulingPolicy::FCFS,
        enable_chunked_prefill: true,
        mix_prefill_with_decode: true,
        overlap_schedule: false,
        prefill_delayer_max_passes: 0,
        idle_pass_s: 0.0,
        long_prefill_decode_interval: 0,
        long_prefill_min_tokens: 262_144,
        long_prefill_token_threshold: 0,
        max_num_partial_prefills: 1,
        block_size: BLOCK,
        gpu_memory_utilization: 0.9,
        kv_cache_capacity: u64::from(kv_blocks) * model().kv_storage_bytes(BLOCK),
        max_model_len: None,
        enable_preemption_free: false,
        enable_cascade_attention: false,
        balance_set: None,
    }
}
