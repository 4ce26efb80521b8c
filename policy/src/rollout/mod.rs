//! The rollout: takes facts in, hands commands out.
//!
//! ```text
//!   handle ─ refuse? ─ clock ─ safety's view ─ absorb the fact ─┐
//!                                                               v
//!              settle: due timers -> steer moves in hand -> begin moves -> rest or end   (until nothing changes)
//!                                                               v
//!   poll   ─ safety check on issuing ─────────────────────── outgoing
//! ```
//!
//! `mod.rs` is the outer shape, `due.rs` says which move a place needs, `moves.rs` interprets a move's steps, `gate.rs` the
//! first of them, `failure.rs` says what becomes of a move that failed, `steer.rs` decides for the rollout as a whole,
//! `evidence.rs` compares the canary, `survey.rs` looks at replicas at the start and after a recovery, `report.rs` tells,
//! `canonical.rs` says when two rollouts are in the same place.

mod canonical;
mod due;
mod evidence;
mod failure;
mod gate;
mod moves;
mod report;
mod steer;
mod survey;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::drain::DrainWatch;
use crate::guard::GuardWatch;
use crate::safety::Safety;
use crate::timers::{Timer, Timers};
use crate::{
    Action, Approve, Command, CommandId, Comparison, Event, EventError, HoldReason, Note, Operator, Outcome,
    Plan, PlanError, ReplicaId, ReplicaState, Reply, Span, Step, Time, Verdict, VersionRef,
};

/// A rollout: events in, commands and deadlines out. Cheap to clone; a clone goes its own way.
///
/// The drain rule: after every [`handle`](Rollout::handle), call [`poll`](Rollout::poll) until `None`, before the next `handle`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    plan: Arc<Plan>,
    now: Time,
    run: Run,
    /// The version every replica is to serve in the end: `To`, or `From` once the rollout goes back.
    goal: VersionRef,
    /// Nobody is moved while it is not known where things are.
    surveying: bool,
    replicas: Vec<Replica>,
    moves: BTreeMap<ReplicaId, Move>,
    timers: Timers,
    outgoing: VecDeque<Command>,
    outstanding: BTreeMap<CommandId, Outstanding>,
    notes: VecDeque<Note>,
    commands_issued: u64,
    /// A person's approval not used yet.
    approved: bool,
    upgrades_done: u32,
    /// A replica has passed the user's evaluation, all that the plan asks of it.
    quality_passed: bool,
    /// An evaluation out of rotation has passed on some replica.
    evaluated: bool,
    /// The plan's canary has served the new version long enough.
    canary_passed: bool,
    /// The last word on the canary in hand.
    verdict: Option<Verdict>,
    /// The policy's own comparison of the canary in hand.
    comparison: Option<Comparison>,
    /// Evidence before then is of cold caches.
    compare_from: Time,
    /// The canary serves the new version, and no comparison said pass in time.
    undecided: bool,
    /// Until then a person has waived the window.
    window_waived_until: Time,
    guards: Vec<GuardWatch>,
    load: Option<f64>,
    stale_replies: u64,
    clock_went_back: u64,
    safety: Safety,
}

#[derive(Clone, Debug, PartialEq)]
enum Run {
    Waiting,
    Go,
    Hold(Hold),
    Abort,
    Ended(Outcome),
}

#[derive(Clone, Debug, PartialEq)]
struct Hold {
    reason: HoldReason,
    since: Time,
    until: Option<Time>,
    settled: bool,
}

/// What is known of one replica (observed) and where its move has brought it.
#[derive(Clone, Debug, PartialEq)]
struct Replica {
    state: ReplicaState,
    running: Option<VersionRef>,
    /// Its process is known to be gone.
    dead: bool,
    /// Requests may be in flight on it: it was in rotation since its process started.
    traffic: bool,
    /// It took requests when last looked at.
    seen_serving: bool,
    /// A stop of its process was confirmed: what runs now was started since.
    restarted: bool,
    /// It is being looked at.
    survey: Option<Survey>,
    /// Moves it finished toward the present goal. More than the plan's revivals: it keeps going down.
    moves_done: u32,
    /// Standing by after it left: not stopped before this.
    kept_until: Option<Time>,
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Survey {
    tries: u32,
    since: Time,
}

/// One replica's way to a version: a list of steps and how far it is.
#[derive(Clone, Debug, PartialEq)]
struct Move {
    target: VersionRef,
    purpose: Purpose,
    /// It is the plan's canary.
    canary: bool,
    /// How long it is watched after its admission.
    soak: Span,
    /// Its place is to be empty.
    leaves: bool,
    /// It has no stop and no start: the process is swapped, or runs already what is wanted.
    light: bool,
    /// How many steps up from the first weight are made.
    ramped: u8,
    steps: Vec<Step>,
    at: usize,
    step_began: Time,
    /// Failed tries of the present step.
    tries: u32,
    /// How often the replica was brought up in this move.
    bring_ups: u32,
    /// It took requests when the move began.
    was_serving: bool,
    /// Requests may be routed to it as soon as there is anybody to take them.
    routed: bool,
    /// It came back after it was asked to leave while it was down: nothing more is asked of it before it was looked at.
    look_again: bool,
    /// A stop was issued: there is no going back without a start.
    stopped: bool,
    drain: DrainWatch,
    /// What last went wrong or kept the gate shut.
    last: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    /// Toward the goal.
    Goal,
    /// Back into rotation as it is.
    PutBack,
    /// Back to the old version after a failure or an abort.
    Restore,
}

#[derive(Clone, Debug, PartialEq)]
struct Outstanding {
    owner: ReplicaId,
    survey: bool,
    action: Action,
}

impl Move {
    fn step(&self) -> Step {
        self.steps[self.at]
    }

    /// It serves with all its weight; what is left is to see whether that is good.
    fn watched(&self) -> bool {
        matches!(self.step(), Step::Soak | Step::Evaluate { live: true } | Step::Compare)
    }

    fn evaluates(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Evaluate { .. }))
    }

    fn index_of(&self, step: Step) -> Option<usize> {
        self.steps.iter().position(|other| *other == step)
    }
}

impl Rollout {
    /// A rollout of this plan; nothing happens before `Event::Start`.
    ///
    /// # Errors
    /// When the plan can't be carried out (see [`Plan::validate`]).
    pub fn new(plan: Plan) -> Result<Rollout, PlanError> {
        plan.validate()?;
        let plan = Arc::new(plan);
        let replica = Replica {
            state: ReplicaState::Serving,
            running: None,
            dead: false,
            traffic: true,
            seen_serving: false,
            restarted: false,
            survey: None,
            moves_done: 0,
            kept_until: None,
            trouble: None,
        };
        // Spares are taken for empty until they are looked at.
        let places = plan.replicas.iter().map(|spec| match spec.is_spare() {
            true => Replica { state: ReplicaState::Empty, dead: true, traffic: false, ..replica.clone() },
            false => replica.clone(),
        });
        let replicas = places.collect();
        Ok(Rollout {
            now: Time::ZERO,
            run: Run::Waiting,
            goal: VersionRef::To,
            surveying: false,
            replicas,
            moves: BTreeMap::new(),
            timers: Timers::default(),
            outgoing: VecDeque::new(),
            outstanding: BTreeMap::new(),
            notes: VecDeque::new(),
            commands_issued: 0,
            approved: false,
            upgrades_done: 0,
            quality_passed: false,
            evaluated: false,
            canary_passed: false,
            verdict: None,
            comparison: None,
            compare_from: Time::ZERO,
            undecided: false,
            window_waived_until: Time::ZERO,
            guards: vec![GuardWatch::default(); plan.guards.len()],
            load: None,
            stale_replies: 0,
            clock_went_back: 0,
            safety: Safety::new(Arc::clone(&plan)),
            plan,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes one fact at the time `now`. A `now` earlier than the last one (clocks are set back) is taken for the last one and noted.
    ///
    /// Notes not polled by the next call are dropped. The event is weighed before timers that are due at the same instant: a reply that is
    /// just in time counts.
    ///
    /// # Errors
    /// When the event is refused: it has then changed nothing.
    ///
    /// # Panics
    /// In debug builds when the drain rule is broken; always when the policy itself has broken a safety condition.
    pub fn handle(&mut self, now: Time, event: Event) -> Result<(), EventError> {
        debug_assert!(self.outgoing.is_empty(), "drain rule: poll until None after every handle");
        self.refuse(&event)?;
        self.notes.clear();
        if now < self.now {
            self.clock_went_back += 1;
            self.note(Note::ClockWentBack { said: now, taken: self.now });
        }
        self.now = self.now.max(now);
        self.safety.saw(self.now, &event);
        self.absorb(event);
        self.settle();
        Ok(())
    }

    /// The next command, until `None`. A command is on its way once it has been handed out here.
    ///
    /// # Panics
    /// When the command would break a safety condition: that is a bug in this crate, and doing nothing is the safe way to fail.
    pub fn poll(&mut self) -> Option<Command> {
        let command = self.outgoing.pop_front()?;
        self.safety.issue(self.now, &command);
        Some(command)
    }

    /// The next note of the last `handle`, until `None`.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// When it wants [`Event::Tick`]; `None` when it only waits for the world or a person.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.next(self.surveying).map(|(at, _)| at)
    }

    fn refuse(&self, event: &Event) -> Result<(), EventError> {
        match (event, &self.run) {
            (Event::Start, Run::Waiting) => {}
            (Event::Start, _) => return Err(EventError::AlreadyStarted),
            (_, Run::Waiting) => return Err(EventError::NotStarted),
            _ => {}
        }
        match event {
            Event::Outcome { id, outcome } => {
                if id.0 == 0 || id.0 > self.commands_issued {
                    return Err(EventError::NeverIssued { id: *id });
                }
                if let Reply::Load { rate } = outcome {
                    number("the measured load", *rate)?;
                }
                // A stale reply is ignored whatever it says, so only what is waited for can be contradicted.
                match self.outstanding.get(id) {
                    Some(open) if !outcome.answers(&open.action) => Err(EventError::Contradictory {
                        id: *id,
                        action: open.action.name(),
                        reply: Box::new(outcome.clone()),
                    }),
                    _ => Ok(()),
                }
            }
            Event::ReplicaDown { replica, .. } | Event::ReplicaUp { replica }
                if replica.index() >= self.replicas.len() =>
            {
                Err(EventError::UnknownReplica { replica: *replica, count: self.replicas.len() })
            }
            Event::Load { rate } => number("the load", *rate),
            Event::Figure { value, .. } => number("a guard's figure", *value),
            Event::Evidence { block } if !block.is_sound() => Err(EventError::BadBlock { block: *block }),
            _ => Ok(()),
        }
    }

    fn absorb(&mut self, event: Event) {
        if let Run::Ended(outcome) = &self.run {
            if let Event::Operator(order) = event {
                let reason = format!("the rollout has ended ({outcome:?})");
                self.note(Note::OrderIgnored { order, reason });
            }
            return;
        }
        match event {
            Event::Start => {
                self.run = Run::Go;
                self.survey_all();
            }
            Event::Recovered => self.survey_all(),
            Event::Tick => {}
            Event::Outcome { id, outcome } => self.absorb_reply(id, outcome),
            Event::ReplicaDown { replica, reason } => self.went_down(replica, reason),
            Event::ReplicaUp { replica } => self.came_up(replica),
            Event::Load { rate } => self.load = Some(rate),
            Event::Figure { figure, value } => self.guard_sample(figure, value),
            Event::Comparison { verdict } => self.told(verdict),
            Event::Evidence { block } => self.evidence(&block),
            Event::Operator(order) => self.obey(order),
        }
    }

    fn absorb_reply(&mut self, id: CommandId, reply: Reply) {
        let Some(open) = self.outstanding.remove(&id) else {
            self.stale_replies += 1;
            self.note(Note::StaleReply { id });
            return;
        };
        self.timers.clear(Timer::Reply(id));
        self.deliver(&open, reply);
    }

    fn deliver(&mut self, open: &Outstanding, reply: Reply) {
        if open.survey { self.survey_reply(open.owner, reply) } else { self.move_reply(open.owner, reply) }
    }

    /// Fires due timers, then decides, until nothing changes any more.
    fn settle(&mut self) {
        // Each round fires a timer, redirects, begins or ends something. Spans are positive, so a timer set here is not due here;
        // the bound only turns an endless loop, which would be a bug, into a message.
        for _ in 0..1_000 * (self.replicas.len() + 10) {
            if matches!(self.run, Run::Waiting | Run::Ended(_)) {
                return;
            }
            if let Some((_, timer)) = self.timers.next(self.surveying).filter(|(at, _)| *at <= self.now) {
                self.timers.clear(timer);
                self.fire(timer);
                continue;
            }
            let quiet = |rollout: &mut Rollout| {
                !(rollout.steer_moves() || rollout.go_together() || rollout.begin_moves() || rollout.rest())
            };
            if self.surveying || quiet(self) {
                return;
            }
        }
        panic!("the rollout does not settle: {:?}", self.status());
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Reply(id) => {
                if let Some(open) = self.outstanding.remove(&id) {
                    self.note(Note::NoReply { id });
                    self.safety.no_longer_waits(id);
                    let reason = format!("no reply to `{}` in time", open.action.name());
                    self.deliver(&open, Reply::Failed { reason, retryable: true });
                }
            }
            Timer::SurveyAgain(replica) => self.survey_look(replica),
            Timer::Retry(replica) => self.act(replica),
            Timer::StepLimit(replica) => self.step_limit(replica),
            Timer::Drain(replica) => self.drain_deadline(replica),
            Timer::Soak(replica) => self.advance(replica),
            Timer::GateWait(replica) => self.gate_wait_over(replica),
            // What is due is looked for after every timer.
            Timer::Keep(_) => {}
            Timer::HoldUntil => self.resume(),
        }
    }

    fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    fn issue(&mut self, owner: ReplicaId, survey: bool, action: Action) {
        // One at a time: a newer command to a replica supersedes an older one.
        self.drop_commands(owner);
        self.commands_issued += 1;
        let id = CommandId(self.commands_issued);
        let limits = self.plan.rollout.steps.of(&action);
        self.timers.set(Timer::Reply(id), self.now + limits.reply_within);
        let replica = (action != Action::MeasureLoad).then_some(owner);
        self.outgoing.push_back(Command { id, replica, action: action.clone() });
        self.outstanding.insert(id, Outstanding { owner, survey, action });
    }

    /// Forgets what is outstanding for a replica; replies to it will be stale.
    fn drop_commands(&mut self, owner: ReplicaId) {
        let gone: Vec<CommandId> =
            self.outstanding.iter().filter(|(_, open)| open.owner == owner).map(|(id, _)| *id).collect();
        for id in gone {
            self.outstanding.remove(&id);
            self.safety.no_longer_waits(id);
            self.timers.clear(Timer::Reply(id));
            self.outgoing.retain(|command| command.id != id);
        }
    }

    /// Whether the world may be in the middle of changing this replica by our order.
    fn changing(&self, owner: ReplicaId) -> bool {
        self.outstanding.values().any(|open| open.owner == owner && open.action.changes_the_world())
    }

    fn replica(&self, id: ReplicaId) -> &Replica {
        &self.replicas[id.index()]
    }

    fn replica_mut(&mut self, id: ReplicaId) -> &mut Replica {
        &mut self.replicas[id.index()]
    }

    fn ids(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        // Plan::validate bounds the count, so that every index is an id.
        (0..u16::MAX).map(ReplicaId).take(self.replicas.len())
    }

    /// What a replica runs, of what was seen. In a drill `To` is the one version in a process started by this rollout.
    fn known(&self, id: ReplicaId, seen: Option<VersionRef>) -> Option<VersionRef> {
        if !self.plan.is_drill() {
            return seen;
        }
        seen.map(|_| if self.replica(id).restarted { VersionRef::To } else { VersionRef::From })
    }

    /// Whether what it runs is what is wanted. In a drill only a restart can be missing, and only where one is to be made.
    fn runs(&self, id: ReplicaId, wanted: VersionRef) -> bool {
        let running = self.replica(id).running;
        if self.plan.is_drill() && (wanted == VersionRef::From || !self.plan.moves(id)) {
            return running.is_some();
        }
        running == Some(wanted)
    }

    fn set_state(&mut self, replica: ReplicaId, state: ReplicaState) {
        self.replica_mut(replica).state = state;
        if state != ReplicaState::Standby {
            self.replica_mut(replica).kept_until = None;
            self.timers.clear(Timer::Keep(replica));
        }
        let running = self.replica(replica).running;
        self.note(Note::State { replica, state, running });
    }

    fn serving_besides(&self, besides: ReplicaId) -> usize {
        self.ids().filter(|id| *id != besides && self.replica(*id).state.serves()).count()
    }

    fn serving(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.state.serves()).count()
    }

    /// How many others must serve while one replica is out by our doing.
    fn others_needed(&self) -> usize {
        self.plan.count().saturating_sub(self.plan.unavailable_max())
    }

    fn obey(&mut self, order: Operator) {
        let holding = match &self.run {
            Run::Hold(hold) => Some(hold.reason.clone()),
            _ => None,
        };
        let ignored = match (order, holding) {
            (Operator::Pause, None) if self.run == Run::Abort => "it is being aborted already",
            (Operator::Pause, Some(reason)) if reason.is_hard() => "it holds already",
            (Operator::Pause, _) => return self.hold(HoldReason::Operator, None),
            (Operator::Resume, Some(reason)) => return self.resume_by_person(&reason),
            (Operator::Resume, None) => "it does not hold",
            (Operator::Approve, Some(reason @ HoldReason::Approval)) => {
                return self.resume_by_person(&reason);
            }
            (Operator::Approve, _) => "no approval is waited for",
            (Operator::Abort, None) if self.run == Run::Abort => "it is being aborted already",
            (Operator::Abort, _) => return self.abort(),
            (Operator::Rollback, None) if self.run == Run::Go && self.goal == VersionRef::From => {
                "it is rolling back already"
            }
            (Operator::Rollback, _) => {
                self.go_back("a person said rollback".to_owned());
                self.resume();
                self.run = Run::Go;
                return;
            }
        };
        self.note(Note::OrderIgnored { order, reason: ignored.to_owned() });
    }

    /// Whether the next move is the canary's, which nobody's may accompany.
    fn canary_next(&self) -> bool {
        self.goal == VersionRef::To && !self.canary_passed && self.plan.strategy.canary_soak().is_some()
    }

    fn canary_soaks(&self) -> bool {
        self.moves.values().any(|mv| mv.canary && (mv.watched() || mv.step() == Step::Ramp))
    }

    fn approvals_wanted(&self) -> Approve {
        // Going back is never kept waiting.
        if self.goal == VersionRef::To { self.plan.rollout.approve } else { Approve::None }
    }
}

fn number(what: &'static str, value: f64) -> Result<(), EventError> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(EventError::BadNumber { what, value }) }
}
