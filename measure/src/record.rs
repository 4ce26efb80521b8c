//! Puts the load on, and writes down when each request was sent and answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use slackwater_calibrate::{Answer, Description, Experiment, Row};
use slackwater_load::{Check, ask};
use slackwater_scenarios::Keyed;

use crate::ask::Server;
use crate::plan::{Phase, Shape};

/// A measurement that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The server does not do what is needed.
    #[error(
        "{url}: {problem}; needed are streamed /v1/completions of prompts that are lists of token ids, with ignore_eos"
    )]
    Refused {
        /// The server.
        url: String,
        /// What it said.
        problem: String,
    },
    /// Most of the requests failed.
    #[error("{failed} of {sent} requests failed, the last with: {last}")]
    Failing {
        /// How many.
        failed: usize,
        /// Of how many.
        sent: usize,
        /// What the last one said.
        last: String,
    },
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// All requests, as an experiment.
    pub experiment: Experiment,
    /// Whether a row takes part in the fit.
    pub fitted: Vec<bool>,
    /// Phases that the time did not suffice for.
    pub left_out: Vec<&'static str>,
}

/// A request takes no longer, or has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the vocabulary; every model has these.
const TOKEN_IDS: (u64, u64) = (1000, 20_000);
/// A share of failures with which a measurement is none.
const MOST_FAILED: f64 = 0.1;

struct Run {
    server: Server,
    began: Instant,
    keyed: Keyed,
    rows: Mutex<Vec<(Row, bool)>>,
    failed: Mutex<Vec<String>>,
}

/// Carries the phases out one after the other, until the time is over. `say` is told what is being done.
///
/// # Errors
/// When the server refuses what is needed, or most requests fail.
pub async fn measure(
    server: &Server,
    lasts: Duration,
    seed: u64,
    phases: impl FnOnce(f64) -> Vec<Phase>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Recorded, MeasureError> {
    let run = Arc::new(Run {
        server: server.clone(),
        began: Instant::now(),
        keyed: Keyed::new(seed),
        rows: Mutex::new(Vec::new()),
        failed: Mutex::new(Vec::new()),
    });
    // Kernels are compiled and caches filled by the first requests; a mixed one shows how fast the server is.
    let mut alone_s = f64::MAX;
    for number in 0..3 {
        let answer = run.request(run.body(u64::MAX - number, 512, 64), 64).await;
        let answer = answer.map_err(|problem| MeasureError::Refused { url: server.url.clone(), problem })?;
        alone_s = alone_s.min(answer.e2e_s);
    }
    let mut left_out = Vec::new();
    let mut number = 0;
    for phase in phases(alone_s) {
        if run.began.elapsed() > lasts {
            left_out.push(phase.name);
            continue;
        }
        say(&format!("{:.0} s: {}", run.began.elapsed().as_secs_f64(), phase.name));
        run.phase(&phase, &mut number, lasts).await;
    }
    let take = |mutex: &Mutex<Vec<(Row, bool)>>| {
        std::mem::take(&mut *mutex.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let mut rows = take(&run.rows);
    let failed = std::mem::take(&mut *run.failed.lock().unwrap_or_else(PoisonError::into_inner));
    #[expect(clippy::cast_precision_loss)]
    let too_many = failed.len() as f64 > MOST_FAILED * rows.len() as f64;
    if too_many {
        let last = failed.last().cloned().unwrap_or_default();
        return Err(MeasureError::Failing { failed: failed.len(), sent: rows.len(), last });
    }
    rows.sort_by(|a, b| a.0.arrival_s.total_cmp(&b.0.arrival_s));
    let fitted = rows.iter().map(|(row, fitted)| *fitted && row.answer.is_some()).collect();
    let mut assumed = Vec::new();
    if !failed.is_empty() {
        assumed.push(format!("{} of {} requests failed: they are not fitted", failed.len(), rows.len()));
    }
    Ok(Recorded {
        experiment: Experiment {
            name: server.model.clone(),
            about: about(server),
            rows: rows.into_iter().map(|(row, _)| row).collect(),
            assumed,
            hash: String::new(),
        },
        fitted,
        left_out,
    })
}

/// The server as a recorded experiment describes it.
fn about(server: &Server) -> Description {
    Description {
        model: Some(server.model.clone()),
        engine_version: server.version.clone(),
        num_gpu_blocks: server.kv.map(|(blocks, _)| blocks),
        block_size: server.kv.map(|(_, size)| size),
        // Prompts are drawn anew each time; only what is preempted finds its own blocks again.
        prefix_caching: server.prefix_caching.map(Into::into),
        ..Description::default()
    }
}

impl Run {
    async fn phase(self: &Arc<Self>, phase: &Phase, number: &mut u64, lasts: Duration) {
        match &phase.shape {
            Shape::Alone { lengths, times } => {
                for _ in 0..*times {
                    for (prompt, output) in lengths {
                        if self.began.elapsed() > lasts {
                            return;
                        }
                        *number += 1;
                        self.recorded(*number, *prompt, *output, !phase.held_out).await;
                    }
                }
            }
            Shape::Together { requests, prompt, output } => {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..*requests {
                    *number += 1;
                    self.spawn(&mut all, *number, *prompt, *output, !phase.held_out);
                }
                all.join_all().await;
            }
            Shape::Rate { per_s, lasts: phase_lasts, prompt, output } => {
                let mut all = tokio::task::JoinSet::new();
                let end = (self.began.elapsed() + *phase_lasts).min(lasts);
                let mut due = self.began.elapsed();
                loop {
                    let gap = -(1.0 - self.keyed.uniform("gap", &[*number])).ln() / per_s;
                    due += Duration::from_secs_f64(gap);
                    if due > end {
                        break;
                    }
                    tokio::time::sleep_until((self.began + due).into()).await;
                    *number += 1;
                    self.spawn(&mut all, *number, *prompt, *output, !phase.held_out);
                }
                all.join_all().await;
            }
        }
    }

    fn spawn(
        self: &Arc<Self>,
        all: &mut tokio::task::JoinSet<()>,
        number: u64,
        prompt: (u32, u32),
        output: (u32, u32),
        fitted: bool,
    ) {
        let run = Arc::clone(self);
        let prompt = run.length("prompt", number, prompt);
        let output = run.length("output", number, output);
        all.spawn(async move { run.recorded(number, prompt, output, fitted).await });
    }

    /// Log-uniform between the two: many short, a few long, as traffic is.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between two u32
    fn length(&self, what: &str, number: u64, (low, high): (u32, u32)) -> u32 {
        let (from, to) = (f64::from(low.max(1)), f64::from(high.max(1)));
        (from * (to / from).powf(self.keyed.uniform(what, &[number]))).round() as u32
    }

    async fn recorded(&self, number: u64, prompt: u32, output: u32, fitted: bool) {
        let body = self.body(number, prompt, output);
        let arrival_s = self.began.elapsed().as_secs_f64();
        let answer = self.request(body, output).await;
        if let Err(problem) = &answer {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(problem.clone());
        }
        let row = Row {
            arrival_s,
            scheduled_s: None,
            input_tokens: prompt,
            output_tokens: output,
            prompt: None,
            answer: answer.ok(),
        };
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push((row, fitted));
    }

    fn body(&self, number: u64, prompt: u32, output: u32) -> String {
        let (low, high) = TOKEN_IDS;
        let ids: Vec<u64> = (0..u64::from(prompt))
            .map(|at| low + self.keyed.bits("token", &[number, at]) % (high - low))
            .collect();
        let body = json!({
            "model": self.server.model,
            "prompt": ids,
            "max_tokens": output,
            "min_tokens": output,
            "ignore_eos": true,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        body.to_string()
    }

    async fn request(&self, body: String, output: u32) -> Result<Answer, String> {
        let check = Check::new(false, output);
        let answer = ask(self.server.address, "/v1/completions", &[], body, check, None, PATIENCE).await;
        answer.verdict.map_err(|fault| fault.reason().to_owned())?;
        let ttft = answer.ttft.ok_or("no token came")?;
        let e2e = ttft + answer.gaps.iter().sum::<Duration>();
        Ok(Answer { ttft_s: ttft.as_secs_f64(), e2e_s: e2e.as_secs_f64() })
    }
}
