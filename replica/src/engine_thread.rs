//! The engine against the wall clock: one thread that submits, waits for the next step's end, and hands tokens out.
//!
//! ```text
//!  asks ──► submit / cancel at the real time ──► Replica ──step ends──► way out (outbound delay) ──► Progress of each
//! ```
//!
//! A thread with its own timed wait wakes up within tens of microseconds, which a timer of the async runtime (1 ms) does
//! not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use slackwater_engine::{Output, Ps, Replica, Request, SequenceId, StepTimeForm, Stop, TimeOverflow};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::error::ReplicaError;
use crate::metrics::Metrics;
use crate::profile::Profile;

/// How far a request has come, as its response may show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Tokens that are out.
    pub(crate) tokens: u32,
    /// Whether that was all.
    pub(crate) ended: bool,
}

/// A request for the engine.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) tag: u32,
    pub(crate) arrived: Instant,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    pub(crate) stop: Stop,
    pub(crate) blocks: Vec<u64>,
    pub(crate) progress: watch::Sender<Progress>,
}

/// What the thread is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    Submit(Job),
    /// The client has gone away.
    Cancel(u32),
}

/// A way to ask, for as long as the thread runs.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    asks: Sender<Ask>,
}

impl Engine {
    /// Starts the thread; it ends when all of its askers have gone. What stops it before that is sent to `failed`.
    pub(crate) fn start(
        profile: &Profile,
        slowness: f64,
        clock: Clock,
        metrics: Arc<Metrics>,
        failed: mpsc::UnboundedSender<ReplicaError>,
    ) -> Result<Self, ReplicaError> {
        let replica =
            Replica::new(profile.config.clone(), profile.form.scaled(slowness)).map_err(|error| {
                ReplicaError::EngineFile { file: "the profile".to_owned(), reason: error.to_string() }
            })?;
        let (asks, asked) = channel();
        let mut thread = EngineThread {
            replica,
            clock,
            metrics,
            front_end: (profile.inbound_ps, profile.outbound_ps, profile.jitter),
            done_until: 0,
            live: BTreeMap::new(),
            way_out: BinaryHeap::new(),
            sequence: 0,
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                if let Err(error) = thread.run(&asked) {
                    // Whoever listens may be gone already; then nobody serves either.
                    let _ = failed.send(error.into());
                }
            })
            .map_err(|source| ReplicaError::System { what: "can't start the engine's thread", source })?;
        Ok(Self { asks })
    }

    /// Asks; `false` when the thread has ended.
    pub(crate) fn ask(&self, ask: Ask) -> bool {
        self.asks.send(ask).is_ok()
    }
}

/// Tokens on their way to a client.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Leaving {
    due: Ps,
    /// Keeps equal times in order.
    sequence: u64,
    tag: u32,
    progress_tokens: u32,
    ended: bool,
}

struct Live {
    id: SequenceId,
    /// Tokens the engine has emitted so far.
    emitted: u32,
    output: u32,
    outbound: Ps,
    arrived: Ps,
    prompt: u32,
    foreseen: bool,
    /// Tokens handed out, and when the last one was.
    shown: u32,
    first_shown: Ps,
    last_shown: Ps,
    progress: watch::Sender<Progress>,
}

struct EngineThread {
    replica: Replica<StepTimeForm>,
    clock: Clock,
    metrics: Arc<Metrics>,
    front_end: (Ps, Ps, f64),
    /// Everything before this time has been done and looked at.
    done_until: Ps,
    live: BTreeMap<u32, Live>,
    way_out: BinaryHeap<Reverse<Leaving>>,
    sequence: u64,
}

/// An idle engine looks up so often, for nothing; it bounds how long a lost wake-up could last.
const IDLE: Duration = Duration::from_secs(1);
/// The engine's clock ends here, 106 days of its own time after the start, with room for any request's last step.
const LATEST: Ps = Ps::MAX / 2;
/// Asks taken in between two looks at the clock, so that a flood of them can't hold tokens back.
const ASKS_AT_ONCE: usize = 256;

impl EngineThread {
    fn run(&mut self, asked: &Receiver<Ask>) -> Result<(), slackwater_engine::ReplicaError> {
        loop {
            let now = self.clock.now();
            if now > LATEST {
                return Err(TimeOverflow.into());
            }
            self.step_until(now)?;
            self.hand_out(now);
            self.metrics.engine_state(&self.replica);
            let wait = match self.next_event() {
                Some(at) => self.clock.until(at).min(IDLE),
                None => IDLE,
            };
            let ask = match asked.recv_timeout(wait) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if let Some(first) = ask {
                // What the engine does before this moment comes before what it is asked at this moment.
                let now = self.clock.now();
                self.step_until(now)?;
                for ask in std::iter::once(first).chain(asked.try_iter().take(ASKS_AT_ONCE)) {
                    match ask {
                        Ask::Submit(job) => self.submit(now, job),
                        Ask::Cancel(tag) => self.cancel(now, tag),
                    }
                }
            }
        }
    }

    fn next_event(&self) -> Option<Ps> {
        let step = self.replica.next_step_end(self.done_until.saturating_sub(1));
        let out = self.way_out.peek().map(|Reverse(leaving)| leaving.due);
        match (step, out) {
            (Some(step), Some(out)) => Some(step.min(out)),
            (step, out) => step.or(out),
        }
    }

    /// Lives through every step that has ended by `now`, one after the other, and notes its tokens with their times.
    fn step_until(&mut self, now: Ps) -> Result<(), slackwater_engine::ReplicaError> {
        while let Some(at) = self.replica.next_step_end(self.done_until.saturating_sub(1))
            && at <= now
        {
            let mut finished = Vec::new();
            self.replica.advance_before(at + 1, &mut |output| {
                if let Output::Finished { tag, .. } = output {
                    finished.push(tag);
                }
            })?;
            self.done_until = at + 1;
            for (tag, live) in &mut self.live {
                let (emitted, ended) = match self.replica.emitted(live.id, at + 1) {
                    Some(emitted) => (emitted, false),
                    None if finished.contains(tag) => (live.output, true),
                    None => continue,
                };
                if emitted > live.emitted || ended {
                    live.emitted = emitted;
                    self.sequence += 1;
                    self.way_out.push(Reverse(Leaving {
                        due: at.saturating_add(live.outbound),
                        sequence: self.sequence,
                        tag: *tag,
                        progress_tokens: emitted,
                        ended,
                    }));
                }
            }
        }
        Ok(())
    }

    /// Shows the responses what has come all the way out.
    fn hand_out(&mut self, now: Ps) {
        while let Some(Reverse(next)) = self.way_out.peek()
            && next.due <= now
        {
            let Some(Reverse(leaving)) = self.way_out.pop() else { break };
            let Some(live) = self.live.get_mut(&leaving.tag) else { continue };
            live.show(&leaving, &self.metrics, self.clock);
            let progress = Progress { tokens: leaving.progress_tokens, ended: leaving.ended };
            // A response that has gone away asks for its cancel by itself.
            let _ = live.progress.send(progress);
            if leaving.ended {
                self.live.remove(&leaving.tag);
                self.metrics.left();
            }
        }
    }

    fn submit(&mut self, now: Ps, job: Job) {
        let (inbound, outbound, jitter) = self.front_end;
        let arrived = self.clock.at(job.arrived);
        let ready_at =
            arrived.saturating_add(jittered(inbound, jitter, job.tag, 0)).max(self.done_until).max(now);
        let request = Request { tag: job.tag, prompt: job.prompt, output: job.output, stop: job.stop };
        // Whether it fits was asked before it came here; if it does not, its response ends without a token.
        let Ok(id) = self.replica.submit_with_blocks(ready_at, request, &job.blocks) else { return };
        self.metrics.arrived(job.prompt);
        self.live.insert(
            job.tag,
            Live {
                id,
                emitted: 0,
                output: job.output,
                outbound: jittered(outbound, jitter, job.tag, 1),
                arrived,
                prompt: job.prompt,
                foreseen: job.stop == Stop::Length,
                shown: 0,
                first_shown: 0,
                last_shown: 0,
                progress: job.progress,
            },
        );
    }

    fn cancel(&mut self, now: Ps, tag: u32) {
        let Some(live) = self.live.remove(&tag) else { return };
        // `None` when its last tokens were only on their way out.
        let _ = self.replica.cancel(now.max(self.done_until), live.id);
        self.metrics.aborted();
        self.metrics.left();
    }
}

impl Live {
    fn show(&mut self, leaving: &Leaving, metrics: &Metrics, clock: Clock) {
        if leaving.progress_tokens > self.shown {
            if self.shown == 0 {
                self.first_shown = leaving.due;
                metrics.first_token(clock.seconds(leaving.due.saturating_sub(self.arrived)));
            } else {
                metrics.token_gap(clock.seconds(leaving.due - self.last_shown));
            }
            metrics.generated(leaving.progress_tokens - self.shown);
            self.shown = leaving.progress_tokens;
            self.last_shown = leaving.due;
        }
        if leaving.ended {
            metrics.finished(
                self.foreseen,
                self.prompt,
                self.shown,
                clock.seconds(leaving.due.saturating_sub(self.arrived)),
                clock.seconds(leaving.due.saturating_sub(self.first_shown)),
            );
        }
    }
}

/// The delay times something from `1 - jitter` to `1 + jitter`, the same for the same request.
fn jittered(delay: Ps, jitter: f64, tag: u32, which: u32) -> Ps {
    // The finaliser of SplitMix64 spreads neighbouring tags.
    let mut bits = (u64::from(tag) << 1 | u64::from(which)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let unit = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let delayed = (delay as f64 * (1.0 + jitter * (2.0 * unit - 1.0))).round() as u64;
    delayed
}
