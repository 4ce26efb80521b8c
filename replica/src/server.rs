//! The server: its connections, its phases, and how it ends.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;
use crate::engine_thread::Engine;
use crate::error::ReplicaError;
use crate::fault::Fault;
use crate::lifecycle;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::request::Limits;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    Ready,
    Draining,
}

/// What requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: String,
    pub(crate) label: String,
    pub(crate) version: String,
    pub(crate) started_unix_s: u64,
    pub(crate) limits: Limits,
    pub(crate) block_size: u32,
    pub(crate) prefix_caching: bool,
    pub(crate) dies_after: Option<u32>,
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    /// Answers begun and not ended.
    pub(crate) open: watch::Sender<u32>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    tags: AtomicU32,
}

/// What the server is told while it runs.
#[derive(Debug)]
pub(crate) enum Order {
    /// As SIGTERM.
    Terminate,
    /// As SIGKILL.
    Kill,
    /// A fault.
    Crash(String),
    /// Something of its own went wrong.
    Fail(ReplicaError),
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, and so many answers were broken off.
    Terminated {
        /// Answers that were in flight.
        aborted: u32,
    },
    /// A fault ended it; a process ends with code 1.
    Crashed(String),
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn next_tag(&self) -> u32 {
        self.tags.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn crash(&self, reason: String) {
        // A server that has ended already can't crash.
        let _ = self.orders.send(Order::Crash(reason));
    }

    #[expect(clippy::unused_self)]
    pub(crate) fn unix_s(&self) -> u64 {
        unix_s()
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A stand-in that runs. Dropping it does not end it; [`Server::kill`] and [`Server::terminate`] do.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    open: watch::Receiver<u32>,
    doing: watch::Receiver<String>,
    task: JoinHandle<Result<Ended, ReplicaError>>,
}

impl Server {
    /// Listens, and begins to load. Wants a tokio runtime.
    ///
    /// # Errors
    /// When an option is out of range, or the address can't be had.
    pub async fn start(options: Options) -> Result<Self, ReplicaError> {
        options.check()?;
        let failed = |source| ReplicaError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (orders, told) = mpsc::unbounded_channel();
        let shared = Arc::new(shared(&options, &orders)?);
        let open = shared.open.subscribe();
        let (now, doing) = watch::channel(String::new());
        let running = Running { listener, shared, options, told, now };
        Ok(Self { address, orders, open, doing, task: tokio::spawn(running.run()) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers begun and not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        *self.open.borrow()
    }

    /// What SIGTERM does to it.
    pub fn terminate(&self) {
        let _ = self.orders.send(Order::Terminate);
    }

    /// What SIGKILL does to it.
    pub fn kill(&self) {
        let _ = self.orders.send(Order::Kill);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it ended by an error of its own: the fake GPU's memory was not free, or the engine's clock ran out.
    pub async fn ended(self) -> Result<Ended, ReplicaError> {
        match self.task.await {
            Ok(ended) => ended,
            Err(error) => {
                Err(ReplicaError::System { what: "the server", source: std::io::Error::other(error) })
            }
        }
    }

    /// Runs until SIGTERM, SIGINT or a fault ends it. What it is doing is `told`, a line a phase.
    ///
    /// # Errors
    /// Those of [`Server::ended`].
    pub async fn serve(self, told: impl Fn(&str) + Send + 'static) -> Result<Ended, ReplicaError> {
        lifecycle::forward_signals(self.orders.clone())?;
        let mut doing = self.doing.clone();
        tokio::spawn(async move {
            loop {
                let now = doing.borrow_and_update().clone();
                if !now.is_empty() {
                    told(&now);
                }
                if doing.changed().await.is_err() {
                    return;
                }
            }
        });
        self.ended().await
    }
}

fn shared(options: &Options, orders: &mpsc::UnboundedSender<Order>) -> Result<Shared, ReplicaError> {
    let config = &options.profile.config;
    let kv_tokens = u64::from(config.kv_blocks) * u64::from(config.block_size);
    let max_model_len = u32::try_from(kv_tokens).unwrap_or(u32::MAX).min(options.max_model_len);
    let stuck = options.faults.contains(&Fault::StuckGauge);
    let metrics = Arc::new(Metrics::new(&options.served_name, config, max_model_len, stuck));
    let (failed, mut failures) = mpsc::unbounded_channel();
    let engine = Engine::start(
        &options.profile,
        options.slowness(),
        Clock::new(options.speed_up),
        Arc::clone(&metrics),
        failed,
    )?;
    let told = orders.clone();
    tokio::spawn(async move {
        if let Some(error) = failures.recv().await {
            let _ = told.send(Order::Fail(error));
        }
    });
    let model = options.model_served();
    Ok(Shared {
        label: crate::text::label(&model),
        model,
        version: options.version.clone(),
        started_unix_s: unix_s(),
        limits: Limits {
            served_name: options.served_name.clone(),
            natural_length: options.natural_length,
            max_model_len,
        },
        block_size: config.block_size,
        prefix_caching: config.prefix_caching,
        dies_after: options.dies_after(),
        engine,
        metrics,
        open: watch::Sender::new(0),
        phase: watch::Sender::new(Phase::Loading),
        orders: orders.clone(),
        tags: AtomicU32::new(0),
    })
}

struct Running {
    listener: TcpListener,
    shared: Arc<Shared>,
    options: Options,
    told: mpsc::UnboundedReceiver<Order>,
    /// What it is doing, in words.
    now: watch::Sender<String>,
}

/// A client that sends its headers slower than this is no client.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// After a drain: time for last bytes to leave.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// After `accept` failed (out of descriptors): time for others to close some.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

impl Running {
    /// Ends by dropping all connections as they are, unless they were drained before.
    async fn run(mut self) -> Result<Ended, ReplicaError> {
        let mut loading = pin!(lifecycle::load(self.options.clone(), self.now.clone()));
        let mut memory = None;
        let mut open = self.shared.open.subscribe();
        let mut connections = JoinSet::new();
        let (close, closing) = watch::channel(false);
        let router = crate::api::router(Arc::clone(&self.shared));
        let mut deadline = None;
        loop {
            let loads = memory.is_none();
            let drains = deadline.is_some();
            let out_of_time = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // The guard that the wait gives must not be kept over another wait.
            let drained = async { drop(open.wait_for(|open| *open == 0).await) };
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, router.clone(), closing.clone()));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
                },
                Some(_) = connections.join_next() => {}
                loaded = &mut loading, if loads => match loaded? {
                    lifecycle::Loaded::Ready(claimed) => {
                        memory = Some(claimed);
                        self.now.send_replace("ready".to_owned());
                        self.shared.phase.send_if_modified(|phase| {
                            let loading = *phase == Phase::Loading;
                            if loading {
                                *phase = Phase::Ready;
                            }
                            loading
                        });
                    }
                    lifecycle::Loaded::Crashed(reason) => return Ok(Ended::Crashed(reason)),
                },
                order = self.told.recv() => match order {
                    Some(Order::Terminate) if self.options.faults.contains(&Fault::IgnoreSigterm) => {}
                    Some(Order::Terminate) => {
                        let timeout = self.options.shutdown_timeout;
                        if drains || timeout.is_zero() || self.shared.phase() == Phase::Loading {
                            break;
                        }
                        self.shared.phase.send_replace(Phase::Draining);
                        self.now.send_replace(format!("draining for at most {timeout:?}"));
                        deadline = Some(tokio::time::Instant::now() + timeout);
                    }
                    Some(Order::Crash(reason)) => return Ok(Ended::Crashed(reason)),
                    Some(Order::Fail(error)) => return Err(error),
                    Some(Order::Kill) | None => break,
                },
                () = out_of_time => break,
                () = drained, if drains => {
                    // What was answered is still on its way to the clients.
                    close.send_replace(true);
                    let all_closed = async { while connections.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(LAST_BYTES, all_closed).await;
                    break;
                }
            }
        }
        Ok(Ended::Terminated { aborted: *self.shared.open.borrow() })
    }
}

async fn connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<bool>) {
    // Tokens are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    tokio::select! {
        // A connection that breaks is the client's business.
        _ = &mut serving => return,
        _ = closing.wait_for(|close| *close) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}
