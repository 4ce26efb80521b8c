//! Requests at a pace, until told to stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::check::Check;
use crate::client::{Kept, ask};
use crate::report::{Report, Timed};

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At random, so many a second on average, whatever the answers do.
    Rate(f64),
    /// So many at a time: the next one when one has ended.
    Concurrency(usize),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// About so many tokens of prompt, from .. to.
    pub prompt_tokens: (u32, u32),
    /// Exactly so many tokens of answer, from .. to.
    pub output_tokens: (u32, u32),
}

/// How the load is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where requests go.
    pub to: SocketAddr,
    /// The model's name.
    pub model: String,
    /// When they are sent.
    pub pace: Pace,
    /// What they ask.
    pub prompt: Prompt,
    /// How many sessions the requests belong to, each named in `x-session-id`; 0: none.
    pub sessions: u64,
    /// Whether connections are used again, as most clients do.
    pub keep_alive: bool,
    /// Whether answers are a stand-in's, whose every token can be checked.
    pub stand_in: bool,
    /// A request that takes longer has failed.
    pub within: Duration,
    /// Most requests open at a time; at a rate, what would be more is sent late.
    pub most_open: usize,
    /// Whether the report keeps every request with its time: 48 bytes each.
    pub timeline: bool,
    /// All lengths and times follow from it.
    pub seed: u64,
}

impl Options {
    /// Short chats at a pace.
    #[must_use]
    pub fn new(to: SocketAddr, pace: Pace) -> Self {
        Self {
            to,
            model: "chat".to_owned(),
            pace,
            prompt: Prompt { prompt_tokens: (20, 200), output_tokens: (10, 60) },
            sessions: 0,
            keep_alive: true,
            stand_in: true,
            within: Duration::from_secs(120),
            most_open: 4096,
            timeline: false,
            seed: 1,
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    report: Arc<Mutex<Report>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Sender {
    options: Options,
    report: Arc<Mutex<Report>>,
    kept: Mutex<Vec<Kept>>,
}

impl Load {
    /// Begins to send. Wants a tokio runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let report = Arc::new(Mutex::new(Report::default()));
        let sender = Arc::new(Sender { options, report: Arc::clone(&report), kept: Mutex::default() });
        let (stop, stopping) = watch::channel(false);
        Self { stop, report, task: tokio::spawn(run(sender, stopping)) }
    }

    /// As it stands: requests that are still open are not in it.
    #[must_use]
    pub fn so_far(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends no more, and waits for what is open.
    pub async fn stop(self) -> Report {
        self.stop.send_replace(true);
        // A panic in there has been printed; what was counted until then is still true.
        let _ = self.task.await;
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn run(sender: Arc<Sender>, mut stopping: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    let mut gaps = SplitMix64::seed_from_u64(sender.options.seed);
    let mut next = Instant::now();
    let most = match sender.options.pace {
        Pace::Rate(_) => sender.options.most_open,
        Pace::Concurrency(most) => most,
    };
    for number in 0_u64.. {
        let wait = async {
            if let Pace::Rate(per_s) = sender.options.pace {
                // A gap of a Poisson process; the logarithm's argument is above 0.
                let gap = -(1.0 - gaps.random::<f64>()).ln() / per_s.max(1e-6);
                next += Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 4);
                tokio::time::sleep_until(next).await;
            }
            while open.len() >= most.max(1) {
                open.join_next().await;
            }
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            () = wait => {}
        }
        while open.try_join_next().is_some() {}
        open.spawn(Arc::clone(&sender).send(number));
    }
    while open.join_next().await.is_some() {}
}

impl Sender {
    async fn send(self: Arc<Self>, number: u64) {
        let options = &self.options;
        let mut draws = SplitMix64::seed_from_u64(options.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut between = |(from, to): (u32, u32)| draws.random_range(from..=to.max(from));
        let prompt = between(options.prompt.prompt_tokens) as usize;
        let output = between(options.prompt.output_tokens).max(1);
        // A stand-in counts a token for each 4 bytes.
        let content = format!("{number:08} {}", "tide".repeat(prompt.saturating_sub(3)));
        let body = json!({
            "model": options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": output,
            "ignore_eos": true,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let session = (options.sessions > 0).then(|| format!("session-{}", number % options.sessions));
        let headers: Vec<(&str, &str)> =
            session.iter().map(|session| ("x-session-id", session.as_str())).collect();
        let sent_at = SystemTime::now();
        let mut kept = Vec::new();
        if options.keep_alive {
            kept.extend(self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop());
        }
        let answer = ask(
            options.to,
            "/v1/chat/completions",
            &headers,
            body.to_string(),
            Check::new(options.stand_in, output),
            options.keep_alive.then_some(&mut kept),
            options.within,
        )
        .await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).append(&mut kept);
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.add(&answer);
        if options.timeline {
            report.timeline.extend(Timed::of(sent_at, &answer));
        }
    }
}
