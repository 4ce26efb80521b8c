//! The control socket: one JSON line asks, one answers. Only its owner may connect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slackwater_policy::{Phase, Rollout, Status, Time};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::driver::named;
use crate::figures::Live;
use crate::world::World;

/// The socket's file in the deployment's directory.
pub const FILE: &str = "control.sock";
const WITHIN: Duration = Duration::from_secs(10);
/// A request is one short line.
const REQUEST_MAX: u64 = 4096;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How it stands.
    Status,
    /// An order; the answer is how it stands then.
    Order(Order),
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Hold with all replicas serving.
    Pause,
    /// Go on.
    Resume,
    /// What the plan asks for.
    Approve,
    /// End, with the replica in hand on the old version.
    Abort,
    /// Take all back to the old version.
    Rollback,
}

/// A request and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub request: Request,
    /// Where to.
    pub answer: oneshot::Sender<Snapshot>,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number in the journal.
    pub rollout: i64,
    /// The process that runs it; `None`: nobody does.
    pub pid: Option<u32>,
    /// The old version's name.
    pub from: String,
    /// The new version's name.
    pub to: String,
    /// The policy's time.
    pub now: Time,
    /// What it does or waits for, in words.
    pub says: String,
    /// The policy's status.
    pub status: Status,
    /// What is in flight at each replica, as last counted.
    pub in_flight: Vec<Option<u32>>,
    /// What clients saw lately.
    pub live: Live,
    /// What the plan expects: the bounds of the guards, by figure.
    pub guards: Vec<slackwater_policy::Guard>,
}

impl Snapshot {
    pub(crate) fn of(id: i64, rollout: &Rollout, world: &World, now: Time) -> Snapshot {
        let counts = world.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = world.ids().map(|replica| {
            let (balancer, engine) = counts.get(&replica).copied().unwrap_or_default();
            balancer.or(engine)
        });
        Snapshot {
            pid: Some(std::process::id()),
            in_flight: in_flight.collect(),
            live: world.live.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            now,
            ..Snapshot::of_journal(id, rollout, now)
        }
    }

    /// Of a rollout that nobody runs, as its journal has it.
    pub fn of_journal(id: i64, rollout: &Rollout, now: Time) -> Snapshot {
        let plan = rollout.plan();
        Snapshot {
            rollout: id,
            pid: None,
            from: plan.from.name.clone(),
            to: plan.to.name.clone(),
            now,
            says: says(rollout, now),
            status: rollout.status(),
            in_flight: Vec::new(),
            live: Live::default(),
            guards: plan.guards.clone(),
        }
    }
}

/// What it does or waits for, and until when.
fn says(rollout: &Rollout, now: Time) -> String {
    let plan = rollout.plan();
    match rollout.phase() {
        Phase::Waiting => "not begun".to_owned(),
        Phase::Surveying => "looking at every replica".to_owned(),
        Phase::Moving { to } => format!("moving to {to}"),
        Phase::Aborting => "aborting: the replica in hand is restored".to_owned(),
        Phase::Ended { outcome } => format!("over: {outcome:?}"),
        Phase::Holding { reason, until, settled, .. } => {
            let until = match until {
                Some(until) => {
                    format!(", until {until} (in {})", crate::driver::in_seconds(until.since(now)))
                }
                None if settled => {
                    "; it waits for `slackwater resume`, `approve`, `rollback` or `abort`".to_owned()
                }
                None => String::new(),
            };
            let on_the_way =
                if settled { "" } else { " (the replica in hand is finished or put back first)" };
            format!("holding: {}{on_the_way}{until}", named(&reason, plan))
        }
    }
}

/// What can go wrong when the executor is asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody answers there.
    #[error("no executor is running here (nobody answers at {path})", path = path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is none.
    #[error("the executor at {path} does not answer: {cause}", path = path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The socket can't be made.
    #[error("the control socket {path} can't be made: {cause}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens in a deployment's directory. Whoever holds the deployment's lock may: what is left there is a dead executor's.
///
/// # Errors
/// When the socket can't be made; its path may be too long (about 100 bytes).
pub fn listen(directory: &Path) -> Result<(ControlSocket, mpsc::Receiver<Asked>), ControlError> {
    let path = directory.join(FILE);
    let failed =
        |cause: std::io::Error| ControlError::Listen { path: path.clone(), cause: cause.to_string() };
    let _ = fs::remove_file(&path);
    // Made under another name and shown when only its owner may use it.
    let beside = directory.join("control.new");
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).map_err(failed)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&beside, &path).map_err(failed)?;
    let (to, requests) = mpsc::channel(16);
    let task = tokio::spawn(async move {
        loop {
            // A connection that failed is one that is gone.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let to = to.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(WITHIN, answer(stream, to)).await;
            });
        }
    });
    Ok((ControlSocket { path, task }, requests))
}

async fn answer(stream: UnixStream, to: mpsc::Sender<Asked>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_MAX)).read_line(&mut line).await.ok()?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (sender, receiver) = oneshot::channel();
            to.send(Asked { request, answer: sender }).await.ok()?;
            serde_json::to_string(&receiver.await.ok()?).ok()?
        }
        Err(error) => format!("{{\"error\": {}}}", serde_json::Value::from(error.to_string())),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await.ok()
}

/// Asks the executor that works in this directory.
///
/// # Errors
/// [`ControlError::Nobody`] when there is none.
pub async fn ask(directory: &Path, request: Request) -> Result<Snapshot, ControlError> {
    let path = directory.join(FILE);
    let Ok(mut stream) = UnixStream::connect(&path).await else { return Err(ControlError::Nobody { path }) };
    let exchange = async {
        let request = serde_json::to_string(&request).map_err(|error| error.to_string())?;
        stream.write_all(format!("{request}\n").as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
        serde_json::from_str(&answer).map_err(|error| format!("{error}: {}", answer.trim()))
    };
    let silent = |cause: String| ControlError::Silent { path: path.clone(), cause };
    match tokio::time::timeout(WITHIN, exchange).await {
        Ok(done) => done.map_err(silent),
        Err(_) => Err(silent("nothing within 10 s".to_owned())),
    }
}
