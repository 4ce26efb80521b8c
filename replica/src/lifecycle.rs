//! Loading, and signals.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::error::ReplicaError;
use crate::fake_gpu::{Claimed, HEARTBEAT};
use crate::fault::Fault;
use crate::options::Options;
use crate::server::Order;

/// How loading went.
pub(crate) enum Loaded {
    /// It serves from now on, and holds this memory.
    Ready(Option<Held>),
    /// A fault ended it.
    Crashed(String),
}

/// Memory that says by itself that its process lives, where it must; given back when dropped.
pub(crate) struct Held {
    task: Option<tokio::task::JoinHandle<()>>,
    _claimed: std::sync::Arc<Claimed>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Held {
    fn new(claimed: Claimed) -> Self {
        let claimed = std::sync::Arc::new(claimed);
        let task = claimed.lingers().then(|| {
            // A weak one: the task must not be what keeps the memory.
            let beating = std::sync::Arc::downgrade(&claimed);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(HEARTBEAT).await;
                    match beating.upgrade() {
                        Some(claimed) => claimed.beat(),
                        None => return,
                    }
                }
            })
        });
        Self { task, _claimed: claimed }
    }
}

/// Takes the memory, and goes through the phases of the start. Memory is held from the beginning, as it must be there in
/// the end.
pub(crate) async fn load(options: Options, now: watch::Sender<String>) -> Result<Loaded, ReplicaError> {
    let held = match &options.gpu {
        Some(claim) => {
            let linger = Duration::from_nanos(options.lingers().as_nanos());
            Some(Held::new(Claimed::take(claim, linger)?))
        }
        None => None,
    };
    let crash_after = options.start_up.total() / 2;
    let crashes = options.faults.contains(&Fault::CrashWhileLoading);
    if crashes {
        tokio::time::sleep(crash_after).await;
        return Ok(Loaded::Crashed("crash-while-loading: half-way through its start".to_owned()));
    }
    for (name, length) in &options.start_up.phases {
        now.send_replace(format!("loading: {name}, {length:?}"));
        tokio::time::sleep(*length).await;
    }
    if options.faults.contains(&Fault::NeverHealthy) {
        std::future::pending::<()>().await;
    }
    Ok(Loaded::Ready(held))
}

/// SIGTERM and SIGINT become orders; a second one ends the process at once.
pub(crate) fn forward_signals(orders: mpsc::UnboundedSender<Order>) -> Result<(), ReplicaError> {
    let failed = |source| ReplicaError::System { what: "can't listen for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            let order = tokio::select! {
                _ = terminate.recv() => Order::Terminate,
                // A person at a terminal is obeyed whatever the faults.
                _ = interrupt.recv() => Order::Kill,
            };
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    Ok(())
}
