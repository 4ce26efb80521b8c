//! A journal folded into what one wants to know of a rollout. Predicted and actual are two journals through this one function.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Entry, Event, HoldReason, MoveResult, Note, Outcome, Plan, Record, ReplicaId, ReplicaState, Span,
    Time, VersionRef,
};

/// What happened in a rollout, or was predicted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// How it ended; `None` while it holds, is under way, or its journal was cut.
    pub outcome: Option<Outcome>,
    /// When it was started.
    pub started_at: Option<Time>,
    /// When it ended; `None` with `outcome`.
    pub ended_at: Option<Time>,
    /// The time of the last record.
    pub last_at: Option<Time>,
    /// Every move, in the order begun. A replica has several when one was called off, put back or undone.
    pub moves: Vec<MoveReport>,
    /// How long fewer than N served (spares that serve count, N counts none), from the start to the end or the last record.
    pub time_below_n: Span,
    /// The fewest that served at once.
    pub serving_min: usize,
    /// Every hold.
    pub holds: Vec<HoldReport>,
    /// Requests ended by the rollout.
    pub cut: u64,
    /// The remarks that are not told by the other fields.
    pub notes: Vec<TimedNote>,
}

/// A remark and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedNote {
    /// When.
    pub at: Time,
    /// What.
    pub note: Note,
}

/// One hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldReport {
    /// Why.
    pub reason: HoldReason,
    /// Since when.
    pub began_at: Time,
    /// When no replica was in hand any more.
    pub settled_at: Option<Time>,
    /// Until when; `None`: it still holds.
    pub ended_at: Option<Time>,
}

/// One replica's move. The instants are those of its last attempt; `None`: not reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveReport {
    /// Whose.
    pub replica: ReplicaId,
    /// Toward which version.
    pub target: VersionRef,
    /// It leaves for others that serve that version: its place is to be empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// The gate was asked, or a restore begun.
    pub started_at: Time,
    /// The balancer was told to take it out.
    pub taken_out_at: Option<Time>,
    /// The balancer confirmed.
    pub confirmed_out_at: Option<Time>,
    /// Nothing was in flight any more, or what was had been cut as far as the balancer can.
    pub drained_at: Option<Time>,
    /// The drain's time was over with requests in flight.
    pub drain_timed_out: bool,
    /// The process was gone.
    pub stopped_at: Option<Time>,
    /// The GPU memory was free.
    pub gpu_free_at: Option<Time>,
    /// The start or the swap was issued.
    pub start_issued_at: Option<Time>,
    /// It answered its health check.
    pub healthy_at: Option<Time>,
    /// Smoke prompt and warm-up were answered.
    pub warmed_at: Option<Time>,
    /// The balancer confirmed that it is in rotation.
    pub admitted_at: Option<Time>,
    /// The move was over, soak included.
    pub ended_at: Option<Time>,
    /// Requests ended.
    pub cut: u64,
    /// How often it was brought up; 0 when that was not reached.
    pub attempts: u32,
    /// How it ended; `None`: it has not.
    pub result: Option<MoveResult>,
}

impl MoveReport {
    fn new(replica: ReplicaId, target: VersionRef, leaves: bool, started_at: Time) -> MoveReport {
        MoveReport {
            replica,
            target,
            leaves,
            started_at,
            taken_out_at: None,
            confirmed_out_at: None,
            drained_at: None,
            drain_timed_out: false,
            stopped_at: None,
            gpu_free_at: None,
            start_issued_at: None,
            healthy_at: None,
            warmed_at: None,
            admitted_at: None,
            ended_at: None,
            cut: 0,
            attempts: 0,
            result: None,
        }
    }

    /// From out of rotation to nothing in flight.
    pub fn drain(&self) -> Option<Span> {
        Some(self.drained_at?.since(self.confirmed_out_at?))
    }

    /// From the start to healthy.
    pub fn load(&self) -> Option<Span> {
        Some(self.healthy_at?.since(self.start_issued_at?))
    }

    /// How long the replica took no new requests.
    pub fn out(&self) -> Option<Span> {
        Some(self.admitted_at?.since(self.taken_out_at?))
    }
}

/// Folds a journal. Nothing is required of it: one that was cut gives a report that was cut.
pub fn fold(plan: &Plan, records: &[Record]) -> RolloutReport {
    let mut fold = Fold {
        report: RolloutReport {
            outcome: None,
            started_at: None,
            ended_at: None,
            last_at: None,
            moves: Vec::new(),
            time_below_n: Span::ZERO,
            serving_min: plan.count(),
            holds: Vec::new(),
            cut: 0,
            notes: Vec::new(),
        },
        // Before the survey every replica counts as serving: what is not known to be down is not held against the rollout.
        serving: plan.replicas.iter().map(|replica| !replica.is_spare()).collect(),
        count: plan.count(),
        below_since: None,
        now: Time::ZERO,
    };
    for record in records {
        fold.record(record);
    }
    if let Some(since) = fold.below_since.filter(|_| fold.report.ended_at.is_none()) {
        fold.report.time_below_n = fold.report.time_below_n + fold.now.since(since);
    }
    fold.report
}

struct Fold {
    report: RolloutReport,
    serving: Vec<bool>,
    /// N, which counts no spare.
    count: usize,
    below_since: Option<Time>,
    /// As the policy sees it: never back.
    now: Time,
}

impl Fold {
    fn record(&mut self, record: &Record) {
        if matches!(record.entry, Entry::Refused { .. }) {
            return;
        }
        self.now = self.now.max(record.at);
        let now = self.now;
        self.report.last_at = Some(now);
        match &record.entry {
            Entry::Event(Event::Start) => self.report.started_at = Some(now),
            Entry::Event(_) | Entry::Refused { .. } => {}
            Entry::Command(command) => {
                let Some(mv) = command.replica.and_then(|replica| self.open_move(replica)) else { return };
                match command.action {
                    Action::TakeOut { .. } => mv.taken_out_at = mv.taken_out_at.or(Some(now)),
                    Action::Start { .. } | Action::Swap { .. } => {
                        mv.start_issued_at = mv.start_issued_at.or(Some(now));
                    }
                    _ => {}
                }
            }
            Entry::Note(note) => self.note(note),
        }
    }

    /// The move of this replica that has not ended.
    fn open_move(&mut self, replica: ReplicaId) -> Option<&mut MoveReport> {
        self.report.moves.iter_mut().rev().find(|mv| mv.replica == replica && mv.ended_at.is_none())
    }

    fn note(&mut self, note: &Note) {
        let now = self.now;
        match note {
            Note::MoveBegan { replica, target, leaves } => {
                self.report.moves.push(MoveReport::new(*replica, *target, *leaves, now));
            }
            Note::MoveEnded { replica, result } => {
                if let Some(mv) = self.open_move(*replica) {
                    (mv.ended_at, mv.result) = (Some(now), Some(result.clone()));
                }
            }
            Note::State { replica, state, .. } => self.state(*replica, *state),
            Note::Cut { replica, requests } => {
                self.report.cut += u64::from(*requests);
                if let Some(mv) = self.open_move(*replica) {
                    mv.cut += u64::from(*requests);
                }
            }
            Note::HoldBegan { reason, .. } => {
                self.end_hold();
                let hold =
                    HoldReport { reason: reason.clone(), began_at: now, settled_at: None, ended_at: None };
                self.report.holds.push(hold);
            }
            Note::HoldSettled { .. } => {
                if let Some(hold) = self.report.holds.last_mut() {
                    hold.settled_at = Some(now);
                }
            }
            Note::HoldEnded => self.end_hold(),
            Note::Ended { outcome } => {
                (self.report.outcome, self.report.ended_at) = (Some(*outcome), Some(now));
                self.end_hold();
                if let Some(since) = self.below_since.take() {
                    self.report.time_below_n = self.report.time_below_n + now.since(since);
                }
            }
            Note::BringUpAgain { replica, .. } => {
                if let Some(mv) = self.open_move(*replica) {
                    // The instants are the last attempt's; when it left service stays the first's.
                    mv.stopped_at = None;
                    (mv.gpu_free_at, mv.start_issued_at, mv.healthy_at) = (None, None, None);
                    (mv.warmed_at, mv.admitted_at) = (None, None);
                }
                self.report.notes.push(TimedNote { at: now, note: note.clone() });
            }
            Note::Compared { .. }
            | Note::ClockWentBack { .. }
            | Note::StaleReply { .. }
            | Note::NoReply { .. }
            | Note::Retry { .. }
            | Note::GateShut { .. }
            | Note::Believed { .. }
            | Note::DrainExtended { .. }
            | Note::WentDown { .. }
            | Note::RampSkipped { .. }
            | Note::Evaluated { .. }
            | Note::GoalChanged { .. }
            | Note::OrderIgnored { .. } => self.report.notes.push(TimedNote { at: now, note: note.clone() }),
        }
    }

    fn end_hold(&mut self) {
        let now = self.now;
        if let Some(hold) = self.report.holds.last_mut().filter(|hold| hold.ended_at.is_none()) {
            hold.ended_at = Some(now);
        }
    }

    fn state(&mut self, replica: ReplicaId, state: ReplicaState) {
        let now = self.now;
        if let Some(mv) = self.open_move(replica) {
            let reached = match state {
                ReplicaState::DrainConfirmed => &mut mv.confirmed_out_at,
                ReplicaState::Drained => &mut mv.drained_at,
                ReplicaState::Stopped => &mut mv.stopped_at,
                ReplicaState::GpuFree => &mut mv.gpu_free_at,
                ReplicaState::Healthy => &mut mv.healthy_at,
                ReplicaState::WarmedUp => &mut mv.warmed_at,
                ReplicaState::Readmitted => &mut mv.admitted_at,
                ReplicaState::Stopping if mv.drained_at.is_none() => &mut mv.drained_at,
                ReplicaState::DrainTimedOut => {
                    mv.drain_timed_out = true;
                    &mut None
                }
                ReplicaState::Starting | ReplicaState::Swapping => {
                    mv.attempts += 1;
                    &mut None
                }
                _ => &mut None,
            };
            reached.get_or_insert(now);
        }
        if let Some(serving) = self.serving.get_mut(replica.index()) {
            *serving = state.serves();
        }
        let serving = self.serving.iter().filter(|serving| **serving).count();
        self.report.serving_min = self.report.serving_min.min(serving);
        match self.below_since {
            None if serving < self.count => self.below_since = Some(now),
            Some(since) if serving >= self.count => {
                self.report.time_below_n = self.report.time_below_n + now.since(since);
                self.below_since = None;
            }
            _ => {}
        }
    }
}
