//! The rollout policy's driver in virtual time: commands become changes of the world, what comes of them becomes replies.
//!
//! It decides nothing. The delays between a command and its reply are the scenario's (stop, GPU release, start-up,
//! warm-up) or those of the observation (see the crate's head); the executor's driver waits for the real ones.

use slackwater_engine::Ps;
use slackwater_policy::{
    Command, Entry, Event, EventError, FinalReport, HoldReason, Note, Outcome, Phase, Plan, Record, Recorder,
    ReplicaId, Rollout, Span, Time, VersionRef,
};

use crate::evidence::Evidence;
use crate::setup::SetupError;

/// One replica's process, as the supervisor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// Gone; its GPU memory is free from `free_at` on.
    Gone { free_at: Ps },
    /// There; answers its health check from `healthy_at` on.
    Up { version: VersionRef, healthy_at: Ps },
}

/// What the world keeps for a replica beside its engine.
#[derive(Debug, Clone)]
pub(crate) struct Station {
    pub(crate) process: Process,
    /// Version of the requests it is sent: that of its last process.
    pub(crate) version: VersionRef,
    /// Index into the drains while it drains.
    pub(crate) draining: Option<usize>,
    /// How often a process was started here, for the draws.
    pub(crate) starts: u64,
    /// How often it was stopped, for the draws.
    pub(crate) stops: u64,
    /// Tells one process here from the next, whoever started it.
    pub(crate) incarnation: u64,
    /// How often its process died by itself, to tell one crash from the next.
    pub(crate) crashes: u64,
    /// It died by itself, and neither the rollout nor its supervisor has touched it since.
    pub(crate) crashed: bool,
    /// The rollout has told it to stop: its supervisor does not bring it back.
    pub(crate) stopping: bool,
    /// The engine's in-flight gauge sticks.
    pub(crate) stuck: bool,
    /// Numbers of the faults that keep its health checks from being answered.
    pub(crate) deaf_by: Vec<usize>,
    /// No process starts here any more.
    pub(crate) gpu_lost: bool,
    /// Another engine works on its GPUs.
    pub(crate) shares: bool,
    /// Numbers of the faults that slow its GPU.
    pub(crate) slowed_by: Vec<usize>,
    /// Since when the balancer sends requests here; kept up only where there is a slow start.
    pub(crate) in_since: Ps,
}

impl Station {
    /// One that has always served the old version.
    pub(crate) fn serving() -> Self {
        Self {
            process: Process::Up { version: VersionRef::From, healthy_at: 0 },
            version: VersionRef::From,
            draining: None,
            starts: 0,
            stops: 0,
            incarnation: 0,
            crashes: 0,
            crashed: false,
            stopping: false,
            stuck: false,
            deaf_by: Vec::new(),
            gpu_lost: false,
            shares: false,
            slowed_by: Vec::new(),
            in_since: 0,
        }
    }

    /// One where nothing runs.
    pub(crate) fn empty() -> Self {
        Self { process: Process::Gone { free_at: 0 }, ..Self::serving() }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.process, Process::Up { .. })
    }

    /// Whether a look at its health finds it well.
    pub(crate) fn healthy(&self, now: Ps) -> bool {
        self.deaf_by.is_empty() && matches!(self.process, Process::Up { healthy_at, .. } if healthy_at <= now)
    }
}

/// One drain under way or over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain {
    pub(crate) replica: u16,
    pub(crate) from: Ps,
    pub(crate) residual: Vec<Ps>,
    pub(crate) cut_after: Vec<Ps>,
}

/// How far a rollout has come, for the run's own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutState {
    /// It will go on by itself.
    UnderWay,
    /// It waits for a person, who is not simulated.
    Held,
    /// It is over.
    Ended,
}

/// What came of telling the policy something.
pub(crate) struct Told {
    pub(crate) commands: Vec<Command>,
    pub(crate) notes: Vec<Note>,
}

/// The policy, its journal, and the way from its clock to the world's.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    rollout: Rollout,
    recorder: Recorder,
    pub(crate) journal: Vec<Record>,
    /// The world's time 0 in the policy's time.
    epoch: Time,
    /// When the policy wants to be told the time, as of the last it was told: asked for at every event of the world.
    deadline: Ps,
    pub(crate) begun: Ps,
    /// When the rollout ended or came to hold for a person.
    pub(crate) over: Option<Ps>,
    /// When after that no request waited in a queue any more.
    pub(crate) settled: Option<Ps>,
    pub(crate) drains: Vec<Drain>,
    /// Time with fewer than all replicas in rotation, and since when that is so.
    pub(crate) below_n: Ps,
    pub(crate) below_since: Option<Ps>,
    /// For the policy's own comparison of the versions, where the plan asks for one.
    pub(crate) evidence: Option<Evidence>,
}

impl Driver {
    pub(crate) fn new(plan: Plan, epoch: Time, begun: Ps) -> Result<Self, SetupError> {
        let evidence = plan.strategy.measured_comparison().map(Evidence::new);
        Ok(Self {
            rollout: Rollout::new(plan).map_err(|error| SetupError::Plan(error.to_string()))?,
            recorder: Recorder::new(),
            journal: Vec::new(),
            epoch,
            deadline: Ps::MAX,
            begun,
            over: None,
            settled: None,
            drains: Vec::new(),
            below_n: 0,
            below_since: None,
            evidence,
        })
    }

    pub(crate) fn plan(&self) -> &Plan {
        self.rollout.plan()
    }

    /// The policy's time for a time of the world, rounded up.
    pub(crate) fn time(&self, at: Ps) -> Time {
        self.epoch + Span::from_nanos(at.div_ceil(1000))
    }

    /// Seconds since the start of the traffic.
    pub(crate) fn world_s(&self, time: Time) -> f64 {
        time.since(self.epoch).as_secs_f64()
    }

    /// When the policy wants to be told the time; `Ps::MAX` when it does not.
    #[inline]
    pub(crate) fn deadline(&self) -> Ps {
        self.deadline
    }

    fn next_deadline(&self) -> Ps {
        match (self.over, self.rollout.deadline()) {
            (None, Some(time)) => time.since(self.epoch).as_nanos().saturating_mul(1000),
            _ => Ps::MAX,
        }
    }

    pub(crate) fn state(&self) -> RolloutState {
        match self.rollout.phase() {
            Phase::Ended { .. } => RolloutState::Ended,
            // The person who approves is simulated; others are not.
            Phase::Holding { until: None, settled: true, reason, .. } if reason != HoldReason::Approval => {
                RolloutState::Held
            }
            _ => RolloutState::UnderWay,
        }
    }

    pub(crate) fn final_report(&self) -> FinalReport {
        self.rollout.report()
    }

    /// How it stands, in words for the result.
    pub(crate) fn outcome(&self) -> String {
        match self.rollout.phase() {
            Phase::Ended { outcome: Outcome::Completed } => "completed".to_owned(),
            Phase::Ended { outcome: Outcome::RolledBack } => "rolled_back".to_owned(),
            Phase::Ended { outcome: Outcome::Aborted } => "aborted".to_owned(),
            Phase::Holding { reason, .. } => format!("held: {}", self.named(&reason)),
            other => format!("under way: {other:?}"),
        }
    }

    /// Why it last turned round, where it did.
    pub(crate) fn why_back(&self) -> Option<String> {
        self.journal.iter().rev().find_map(|record| match &record.entry {
            Entry::Note(Note::GoalChanged { reason, .. }) => Some(reason.clone()),
            _ => None,
        })
    }

    /// A reason with the replica's name in place of its number.
    fn named(&self, reason: &HoldReason) -> String {
        let said = reason.to_string();
        match reason.replica() {
            Some(replica) => {
                said.replacen(&replica.to_string(), &self.plan().replicas[replica.index()].name, 1)
            }
            None => said,
        }
    }

    /// Tells the policy one fact.
    pub(crate) fn tell(&mut self, at: Ps, event: Event) -> Result<Told, EventError> {
        let now = self.time(at);
        let told = self.recorder.tell(&mut self.rollout, now, event);
        let records = self.recorder.take();
        let notes = records.iter().filter_map(|record| match &record.entry {
            Entry::Note(note) => Some(note.clone()),
            Entry::Event(_) | Entry::Command(_) | Entry::Refused { .. } => None,
        });
        let told = Told { notes: notes.collect(), commands: told? };
        self.journal.extend(records);
        match (self.over, self.state() == RolloutState::UnderWay) {
            (None, false) => self.over = Some(at),
            // A person's order set it going again.
            (Some(_), true) => (self.over, self.settled) = (None, None),
            _ => {}
        }
        self.deadline = self.next_deadline();
        Ok(told)
    }

    /// The rotation changed: `serving` of `of` replicas are in it from `at` on.
    pub(crate) fn serving_changed(&mut self, at: Ps, serving: usize, of: usize) {
        match (self.below_since, serving < of) {
            (None, true) => self.below_since = Some(at),
            (Some(since), false) => {
                self.below_n += at - since;
                self.below_since = None;
            }
            _ => {}
        }
    }
}

/// The replica's index, where the command names one.
pub(crate) fn index(replica: Option<ReplicaId>) -> u16 {
    replica.map_or(u16::MAX, |replica| replica.0)
}
