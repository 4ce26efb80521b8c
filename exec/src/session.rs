//! One run from its files to its end: lock, preflight, `recover.sh`, driver, log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slackwater_policy::{Outcome, Plan, PlanError, Record, Rollout};
use thiserror::Error;

use crate::clock::{Clock, SystemClock};
use crate::control::{self, ControlError, Snapshot};
use crate::deployment::{Deployment, DeploymentError};
use crate::driver::{DriveError, Driver, Ended, Setup, View};
use crate::gpu;
use crate::journal::{Journal, JournalError, Listed};
use crate::lock::{Lock, LockError};
use crate::preflight::{AtTime, Preflight, preflight};
use crate::recover;
use crate::say::Sayer;
use crate::trouble::Trouble;
use crate::world::World;

/// Why a run did not come about, or broke off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The plan can't be carried out.
    #[error("the plan: {0}")]
    Plan(#[from] PlanError),
    /// The deployment does not fit it.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Another executor is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The last rollout is not over.
    #[error(
        "rollout {id} is not over; go on with it: `slackwater run --resume`. To leave it as it is and begin another: `--new`"
    )]
    Unfinished {
        /// Which.
        id: i64,
    },
    /// There is nothing to resume.
    #[error("there is no rollout to resume in {directory}", directory = directory.display())]
    Nothing {
        /// The deployment's folder.
        directory: PathBuf,
    },
    /// A file of ours can't be written.
    #[error("{0}")]
    File(String),
    /// The run broke off.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

impl SessionError {
    /// Whether nothing was begun because something speaks against it, rather than because something failed.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            SessionError::Plan(_)
                | SessionError::Deployment(_)
                | SessionError::Lock(LockError::Held { .. })
                | SessionError::Unfinished { .. }
                | SessionError::Nothing { .. }
                | SessionError::Drive(
                    DriveError::Over { .. } | DriveError::Journal(JournalError::Fenced { .. })
                )
        )
    }
}

/// What a person may ask of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Come back when it holds and waits for a person.
    pub leave_when_held: bool,
    /// On a resume: go on whatever it held for.
    pub go_on: bool,
    /// Take the lock from an executor that is stuck.
    pub take_over: bool,
    /// Begin although the last rollout is not over.
    pub new: bool,
}

/// A run with its lock held.
pub struct Session {
    plan: Plan,
    world: Arc<World>,
    journal: Journal,
    lock: Lock,
    /// The rollout to go on with.
    resumes: Option<Listed>,
    gpus: Option<String>,
    options: RunOptions,
    clock: Arc<dyn Clock>,
}

impl Session {
    /// A new rollout of this plan.
    ///
    /// # Errors
    /// When plan and deployment do not fit, another executor is at work, or the last rollout is not over.
    pub fn new(plan: Plan, deployment: &Deployment, options: RunOptions) -> Result<Session, SessionError> {
        plan.validate()?;
        let deployment = deployment.for_plan(&plan)?;
        let mut journal = Journal::open(&deployment.directory)?;
        let lock = Lock::take(&mut journal, &deployment.directory, options.take_over)?;
        if let Some(last) = journal.rollouts()?.pop().filter(|_| !options.new) {
            let over = Rollout::replay(last.plan()?, &journal.records(last.id)?).map(|rollout| {
                rollout.outcome().is_some() || rollout.phase() == slackwater_policy::Phase::Waiting
            });
            if !over.unwrap_or(false) {
                return Err(SessionError::Unfinished { id: last.id });
            }
        }
        Ok(Session::with(plan, deployment, journal, lock, None, options))
    }

    /// The last rollout, gone on with.
    ///
    /// # Errors
    /// When there is none, or another executor is at work.
    pub fn resume(deployment: &Deployment, options: RunOptions) -> Result<Session, SessionError> {
        let mut journal = Journal::open(&deployment.directory)?;
        let Some(last) = journal.rollouts()?.pop() else {
            return Err(SessionError::Nothing { directory: deployment.directory.clone() });
        };
        let lock = Lock::take(&mut journal, &deployment.directory, options.take_over)?;
        let plan = last.plan()?;
        let deployment = deployment.for_plan(&plan)?;
        Ok(Session::with(plan, deployment, journal, lock, Some(last), options))
    }

    fn with(
        plan: Plan,
        deployment: Deployment,
        journal: Journal,
        lock: Lock,
        resumes: Option<Listed>,
        options: RunOptions,
    ) -> Session {
        let (gpus, why) = match gpu::adapter(&deployment) {
            Ok(gpus) => (gpus, None),
            Err(why) => (None, Some(why)),
        };
        let world = Arc::new(World::new(deployment, plan.clone(), gpus));
        Session { plan, world, journal, lock, resumes, gpus: why, options, clock: Arc::new(SystemClock) }
    }

    /// The same by another clock.
    #[must_use]
    pub fn by(self, clock: Arc<dyn Clock>) -> Session {
        Session { clock, ..self }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Looks at everything before anything is touched.
    pub async fn preflight(&self, at: AtTime) -> Preflight {
        preflight(&self.world, &self.plan, self.gpus.clone(), at).await
    }

    /// What `recover.sh` would hold.
    pub fn recovery(&self) -> String {
        recover::script(&self.world, &self.plan)
    }

    /// Runs it. What is to be done was shown and agreed to.
    ///
    /// # Errors
    /// When it can't be begun, or breaks off; the journal is then as far as it came, to be resumed.
    pub async fn run<V: View>(mut self, view: V) -> Result<Ended, SessionError> {
        let directory = self.world.deployment.directory.clone();
        self.world.make_folders().map_err(SessionError::File)?;
        self.journal.set_room_aside()?;
        let id = match &self.resumes {
            Some(listed) => listed.id,
            None => {
                let failed = |trouble: Trouble| SessionError::File(trouble.reason);
                self.world.balancer.save().await.map_err(failed)?;
                self.world.supervisor.save(&self.world.deployment.replicas).await.map_err(failed)?;
                recover::write(&self.world, &self.plan).map_err(SessionError::File)?;
                let deployment = toml::to_string(&*self.world.deployment).map_err(|error| {
                    SessionError::File(format!("the deployment can't be written: {error}"))
                })?;
                self.journal.begin(self.clock.wall(), &self.plan, &deployment)?
            }
        };
        let (_socket, requests) = control::listen(&directory)?;
        let log = open_log(&directory, id)?;
        let world = Arc::clone(&self.world);
        let setup = Setup {
            plan: self.plan,
            world: self.world,
            journal: self.journal,
            lock: self.lock,
            rollout: id,
            clock: self.clock,
            requests,
            leave_when_held: self.options.leave_when_held,
            go_on: self.options.go_on,
        };
        let ended = Driver::new(setup, Logged { view, log, sayer: Sayer::default() })?.run().await?;
        if let Ended::Over(Outcome::Completed, _) = &ended {
            release(&world, open_log(&directory, id)?).await;
        }
        Ok(ended)
    }
}

/// What was kept of the old version is needed no longer. A failure is no reason to say that the rollout failed: the next one clears up.
async fn release(world: &World, mut log: File) {
    let done = world.supervisor.release(&world.deployment.replicas).await;
    let lines = done.unwrap_or_else(|trouble| vec![format!("warning: {trouble}")]);
    for line in lines {
        let _ = writeln!(log, "{} {line}", SystemClock.wall());
    }
}

/// How the last rollout of a folder stands by its journal.
///
/// # Errors
/// When there is no journal, no rollout in it, or it can't be replayed.
pub fn last(directory: &Path) -> Result<Snapshot, SessionError> {
    let journal = Journal::read(directory)?;
    let Some(listed) = journal.rollouts()?.pop() else {
        return Err(SessionError::Nothing { directory: directory.to_owned() });
    };
    let records = journal.records(listed.id)?;
    let rollout = Rollout::replay(listed.plan()?, &records).map_err(DriveError::from)?;
    let now = records.last().map_or_else(|| SystemClock.wall(), |record| record.at);
    Ok(Snapshot::of_journal(listed.id, &rollout, now))
}

/// The log that a rollout's lines go to, whoever watches.
pub fn log_path(directory: &Path, rollout: i64) -> PathBuf {
    directory.join(format!("rollout-{rollout}.log"))
}

fn open_log(directory: &Path, rollout: i64) -> Result<File, SessionError> {
    let path = log_path(directory, rollout);
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    opened.map_err(|error| SessionError::File(format!("{} can't be written: {error}", path.display())))
}

/// A view whose lines go to the log too.
struct Logged<V> {
    view: V,
    log: File,
    sayer: Sayer,
}

impl<V: View> View for Logged<V> {
    fn record(&mut self, record: &Record, rollout: &Rollout) {
        if let Some(line) = self.sayer.line(record, rollout.plan()) {
            // The journal is what counts; a log that can't be written is no reason to stop.
            let _ = writeln!(self.log, "{} {line}", record.at);
        }
        self.view.record(record, rollout);
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.log, "{} {text}", SystemClock.wall());
        self.view.say(text);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.view.tick(snapshot);
    }
}
