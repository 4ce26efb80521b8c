//! The gateway's listeners and its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Admin, Config};
use crate::error::GatewayError;
use crate::fleet::Fleet;
use crate::forward::{Client, Proxy, RequestIds};
use crate::health::{self, Told};
use crate::live::Live;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::record::Books;
use crate::sessions::Sessions;
use crate::stalled::Patient;
use crate::upstream::Pool;

/// A gateway that runs. Dropping it does not end it; [`Gateway::stop`] does.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    admin: Option<Admin>,
    metrics: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    fleet: Arc<Fleet>,
    task: JoinHandle<u64>,
}

/// After `accept` failed (out of descriptors): time for others to close some.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Headers of a request: more are answered with 431.
const MOST_HEADERS: usize = 128;

impl Gateway {
    /// Listens, and begins to forward. Wants a tokio runtime. Changes of a replica's health are `told`.
    ///
    /// # Errors
    /// When the configuration is wrong, or an address, the socket or the log can't be had.
    pub async fn start(
        config: Config,
        told: impl Fn(&str, bool) + Send + Sync + 'static,
    ) -> Result<Self, GatewayError> {
        config.check()?;
        let fleet = Arc::new(Fleet::new(&config.replicas, config.health.clone())?);
        let log = config.access_log.as_deref().map(AccessLog::open).transpose()?;
        let (listener, address) = listen(config.listen).await?;
        let timeouts = &config.timeouts;
        let books = Arc::new(Books { live: Live::new(), metrics: Arc::new(Metrics::new()), log });
        let proxy = Arc::new(Proxy {
            fleet: Arc::clone(&fleet),
            pool: Arc::new(Pool::new(
                timeouts.connect,
                timeouts.idle_connection,
                config.limits.idle_connections,
            )),
            sessions: Sessions::new(config.session.clone()),
            books,
            ids: RequestIds::new(),
            config,
        });
        let mut helpers = JoinSet::new();
        let metrics = match proxy.config.metrics {
            Some(wanted) => {
                let (listener, address) = listen(wanted).await?;
                let router = crate::admin::metrics_router(Arc::clone(&proxy));
                helpers.spawn(serve_router(Listening::Tcp(listener), router));
                Some(address)
            }
            None => None,
        };
        let mut socket = None;
        let admin = match &proxy.config.admin {
            Some(Admin::Loopback(wanted)) => {
                let (listener, address) = listen(*wanted).await?;
                helpers
                    .spawn(serve_router(Listening::Tcp(listener), crate::admin::router(Arc::clone(&proxy))));
                Some(Admin::Loopback(address))
            }
            Some(Admin::Socket(path)) => {
                let listener = private_socket(path)?;
                socket = Some(RemovedAtTheEnd(path.clone()));
                helpers
                    .spawn(serve_router(Listening::Unix(listener), crate::admin::router(Arc::clone(&proxy))));
                Some(Admin::Socket(path.clone()))
            }
            None => None,
        };
        let told: Told = Arc::new(told);
        helpers.spawn(health::keep_looking(Arc::clone(&fleet), proxy.config.health.clone(), told));
        let (stop, stopping) = watch::channel(false);
        let running = Running { listener, proxy, stopping, _helpers: helpers, _socket: socket };
        Ok(Self { address, admin, metrics, stop, fleet, task: tokio::spawn(running.run()) })
    }

    /// Where clients come.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators come, with the port that was found.
    #[must_use]
    pub fn admin(&self) -> Option<&Admin> {
        self.admin.as_ref()
    }

    /// Where `/metrics` can be had without more.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The replicas, for whoever runs in the same process.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// No new connections; requests in flight may end within [`crate::config::Timeouts::shutdown`]. The number of
    /// connections that had to be broken is given by [`Gateway::ended`].
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it failed by itself.
    pub async fn ended(self) -> Result<u64, GatewayError> {
        let failed =
            |error| GatewayError::System { what: "the gateway", source: std::io::Error::other(error) };
        self.task.await.map_err(failed)
    }

    /// Runs until SIGTERM or SIGINT; a second one ends it at once.
    ///
    /// # Errors
    /// When signals can't be had, or those of [`Gateway::ended`].
    pub async fn serve(self) -> Result<u64, GatewayError> {
        let failed = |source| GatewayError::System { what: "can't listen for signals", source };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let abort = self.task.abort_handle();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.send_replace(true) {
                    abort.abort();
                }
            }
        });
        self.ended().await
    }
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { address: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// A socket that only this user may open; one that a dead gateway left behind is replaced.
fn private_socket(path: &Path) -> Result<UnixListener, GatewayError> {
    let failed = |reason: String| GatewayError::Socket { path: path.to_owned(), reason };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed("a gateway answers there; stop it, or give another path".to_owned()));
    }
    if let Ok(about) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if !about.file_type().is_socket() {
            return Err(failed("there is something else of that name; move it away".to_owned()));
        }
        std::fs::remove_file(path).map_err(|error| failed(error.to_string()))?;
    }
    // The mask is the whole process's, so it is narrowed for a moment only: a file made by another thread meanwhile is less
    // open than it would have been, not more.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound.map_err(|error| failed(error.to_string()))
}

struct RemovedAtTheEnd(PathBuf);

impl Drop for RemovedAtTheEnd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves a router, for as long as the task lives; its connections end with it.
async fn serve_router(listening: Listening, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let spawned = match &listening {
            Listening::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => Some(connections.spawn(serve_one(stream, router.clone()))),
                Err(_) => None,
            },
            Listening::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => Some(connections.spawn(serve_one(stream, router.clone()))),
                Err(_) => None,
            },
        };
        if spawned.is_none() {
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
    }
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    // A connection that breaks is the client's business.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

struct Running {
    listener: TcpListener,
    proxy: Arc<Proxy>,
    stopping: watch::Receiver<bool>,
    /// End with the gateway.
    _helpers: JoinSet<()>,
    _socket: Option<RemovedAtTheEnd>,
}

impl Running {
    /// Returns how many connections had to be broken at the end.
    async fn run(mut self) -> u64 {
        let most = self.proxy.config.limits.connections;
        let free = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                // Not accepted before there is room: the system keeps the others waiting.
                let room = Arc::clone(&free).acquire_owned().await;
                (self.listener.accept().await, room)
            };
            tokio::select! {
                (accepted, room) = accepted => match accepted {
                    Ok((stream, from)) => {
                        let served = connection(stream, from, Arc::clone(&self.proxy), self.stopping.clone());
                        connections.spawn(async move {
                            served.await;
                            drop(room);
                        });
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
                },
                Some(_) = connections.join_next() => {}
                _ = stopped(&mut self.stopping) => break,
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.proxy.config.timeouts.shutdown, all).await;
        connections.len() as u64
    }
}

/// Returns when it is told to stop; a teller that is gone tells nothing.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    proxy: Arc<Proxy>,
    mut stopping: watch::Receiver<bool>,
) {
    let _counted = Counted::new(&proxy);
    // Tokens are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let cut = Arc::new(Notify::new());
    let client = Client { address: from.ip(), cut: Arc::clone(&cut) };
    let (limits, timeouts) = (&proxy.config.limits, &proxy.config.timeouts);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.client_headers)
        .max_buf_size(limits.header_bytes)
        .max_headers(MOST_HEADERS);
    let stream = TokioIo::new(Patient::new(stream, timeouts.client_stalled));
    let serving_proxy = Arc::clone(&proxy);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = Arc::clone(&serving_proxy).answer(client.clone(), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut serving = pin!(builder.serve_connection(stream, service));
    tokio::select! {
        // Before the connection gets to go on: what is cut must not end well.
        biased;
        // Dropping the connection closes it in the middle of its response.
        () = cut.notified() => return,
        // A connection that breaks is the client's business.
        _ = &mut serving => return,
        () = stopped(&mut stopping) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        () = cut.notified() => {}
        _ = &mut serving => {}
    }
}

/// A connection in the gauge.
struct Counted(Arc<Proxy>);

impl Counted {
    fn new(proxy: &Arc<Proxy>) -> Self {
        proxy.books.metrics.connections.inc();
        Self(Arc::clone(proxy))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.books.metrics.connections.dec();
    }
}
