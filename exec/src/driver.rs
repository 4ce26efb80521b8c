//! The driver: facts to the policy, records to the journal, commands to the world.
//!
//! ```text
//!  replies ─┐
//!  keeper  ─┤            told            stored, synced             begun
//!  orders  ─┼─► event ──────────► Rollout ─────────► records ─► Journal ─► commands ─► World (a task each) ─► replies
//!  signals ─┤
//!  deadline ┘
//! ```
//!
//! It decides nothing. What it does by itself is what keeps the policy's facts true: it holds when the time of day can't be trusted and the
//! plan has windows, when the disk is full, and when it is told to go away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slackwater_policy::{
    Command, CommandId, Entry, Event, FinalReport, HoldReason, Operator, Outcome, Phase, Plan, Record,
    Recorder, ReplayError, ReplicaId, Reply, Rollout, Span,
};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::{Clock, Skew, SteadyTime};
use crate::control::{Asked, Order, Request, Snapshot};
use crate::journal::{Journal, JournalError};
use crate::keeper::{self, Word};
use crate::lock::Lock;
use crate::world::World;

/// The longest the driver sleeps: clocks are compared and the heartbeat is given this often.
const NAP: Duration = Duration::from_secs(1);

/// Where the driver tells what happens.
pub trait View: Send {
    /// A record is on disk; what it asks for has not been begun.
    fn record(&mut self, record: &Record, rollout: &Rollout);
    /// Something for a person to read.
    fn say(&mut self, text: &str);
    /// About once a second, for a view that is redrawn.
    fn tick(&mut self, snapshot: &Snapshot) {
        let _ = snapshot;
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The rollout is over.
    Over(Outcome, Box<FinalReport>),
    /// It holds and waits for a person, and was told not to wait with it.
    Held(String, Box<FinalReport>),
}

/// Why a run could not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DriveError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal can't be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// There is nothing to go on with.
    #[error("rollout {id} is over ({outcome}); there is nothing to resume")]
    Over {
        /// Which.
        id: i64,
        /// How it ended.
        outcome: String,
    },
    /// Signals can't be listened for.
    #[error("signals can't be listened for: {0}")]
    Signals(std::io::Error),
}

/// What a run needs.
pub struct Setup {
    /// The plan.
    pub plan: Plan,
    /// The adapters.
    pub world: Arc<World>,
    /// The journal.
    pub journal: Journal,
    /// The lock on it.
    pub lock: Lock,
    /// Which rollout of the journal it is.
    pub rollout: i64,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Requests from the control socket.
    pub requests: mpsc::Receiver<Asked>,
    /// Whether to come back when the rollout holds and waits for a person.
    pub leave_when_held: bool,
    /// Whether to go on by itself where it holds for whatever reason (`run --resume --go-on`).
    pub go_on: bool,
}

type Answer = (CommandId, Reply);

/// The driver.
pub struct Driver<V> {
    rollout: Rollout,
    recorder: Recorder,
    journal: Journal,
    lock: Lock,
    id: i64,
    world: Arc<World>,
    time: SteadyTime,
    view: V,
    requests: mpsc::Receiver<Asked>,
    replies: mpsc::UnboundedReceiver<Answer>,
    answers_to: mpsc::UnboundedSender<Answer>,
    acts: JoinSet<()>,
    /// The last look at each replica, which a newer command makes pointless.
    looks: BTreeMap<Option<ReplicaId>, AbortHandle>,
    leave_when_held: bool,
    go_on: bool,
    /// The hold that it was in when it was taken up again is over with that.
    resumed: bool,
    /// It was told to go away.
    interrupted: bool,
    /// When the last heartbeat was given.
    beat: Option<tokio::time::Instant>,
    clock_hold: bool,
    clock_said: bool,
    full: bool,
}

impl<V: View> Driver<V> {
    /// A driver of a new rollout, or of one whose journal has records already.
    ///
    /// # Errors
    /// When the journal can't be read or replayed, or the rollout is over.
    pub fn new(setup: Setup, view: V) -> Result<Driver<V>, DriveError> {
        let Setup { plan, world, mut journal, lock, rollout: id, clock, requests, leave_when_held, go_on } =
            setup;
        let records = journal.records(id)?;
        let rollout = Rollout::replay(plan.clone(), &records)?;
        if let Some(outcome) = rollout.outcome() {
            // A journal that lost what followed from its last event would never say that it is over.
            let lost = cut_off(plan, &records)?;
            if let Some(mark) = journal.last_mark(id)?.filter(|_| !lost.is_empty()) {
                journal.append(id, lock.token(), &mark, &lost)?;
            }
            return Err(DriveError::Over { id, outcome: format!("{outcome:?}") });
        }
        let time = match journal.last_mark(id)? {
            Some(last) => SteadyTime::after(clock, &last),
            None => SteadyTime::new(clock),
        };
        // One that a person paused, or interrupted, is gone on with by resuming it.
        let resumed = matches!(rollout.phase(), Phase::Holding { reason: HoldReason::Operator, .. });
        // A command has one answer, so this holds at most as many as were asked for.
        let (answers_to, replies) = mpsc::unbounded_channel();
        Ok(Driver {
            rollout,
            recorder: Recorder::after(&records),
            journal,
            lock,
            id,
            world,
            time,
            view,
            requests,
            replies,
            answers_to,
            acts: JoinSet::new(),
            looks: BTreeMap::new(),
            leave_when_held,
            go_on,
            resumed,
            interrupted: false,
            beat: None,
            clock_hold: false,
            clock_said: false,
            full: false,
        })
    }

    /// Drives the rollout to its end, or to a hold that is not waited for.
    ///
    /// # Errors
    /// When the journal can't be written, or another executor has taken over: nothing more is done then.
    pub async fn run(mut self) -> Result<Ended, DriveError> {
        let mut signals = Signals::new().map_err(DriveError::Signals)?;
        let (words_to, mut words) = mpsc::channel(64);
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&self.world), words_to));
        let ended = self.drive(&mut signals, &mut words).await;
        keeper.abort();
        // What was begun and not answered is abandoned; a resume observes what came of it.
        self.acts.shutdown().await;
        ended
    }

    async fn drive(
        &mut self,
        signals: &mut Signals,
        words: &mut mpsc::Receiver<Word>,
    ) -> Result<Ended, DriveError> {
        let begun = matches!(self.rollout.phase(), Phase::Waiting);
        self.tell(if begun { Event::Start } else { Event::Recovered })?;
        loop {
            if let Some(outcome) = self.rollout.outcome() {
                return Ok(Ended::Over(outcome, Box::new(self.rollout.report())));
            }
            if self.rollout.rests() && !self.go_on_after_resume()? && self.leave_when_held {
                return Ok(Ended::Held(self.held_because(), Box::new(self.rollout.report())));
            }
            let due = self.rollout.deadline().map(|at| at.since(self.time.now()));
            let nap = due.map_or(NAP, |due| Duration::from_nanos(due.as_nanos()).min(NAP));
            tokio::select! {
                biased;
                signal = signals.next() => self.signalled(signal)?,
                Some((id, outcome)) = self.replies.recv() => self.tell(Event::Outcome { id, outcome })?,
                Some(asked) = self.requests.recv() => self.asked(asked)?,
                Some(word) = words.recv() => match word {
                    Word::Fact(event) => self.tell(event)?,
                    Word::Said(text) => self.view.say(&text),
                },
                () = tokio::time::sleep(nap) => {}
            }
            if self.rollout.deadline().is_some_and(|at| at <= self.time.now()) {
                self.tell(Event::Tick)?;
            }
            while self.acts.try_join_next().is_some() {}
            self.heartbeat()?;
            self.compare_clocks()?;
            self.make_room_if_full()?;
            let snapshot = self.snapshot();
            self.view.tick(&snapshot);
        }
    }

    /// Says that this executor lives, and learns whether it may go on.
    fn heartbeat(&mut self) -> Result<(), JournalError> {
        if self.beat.is_some_and(|beat| beat.elapsed() < NAP) {
            return Ok(());
        }
        self.beat = Some(tokio::time::Instant::now());
        match self.lock.beat(&self.journal) {
            // One that found no room is no reason to stop, but to come to a hold.
            Err(JournalError::Full) => self.full = true,
            beaten => beaten?,
        }
        Ok(())
    }

    /// Tells the policy a fact, stores what came of it, and begins what it asks for.
    fn tell(&mut self, event: Event) -> Result<(), DriveError> {
        let now = self.time.now();
        let told = self.recorder.tell(&mut self.rollout, now, event);
        let records = self.recorder.take();
        let mark = self.time.mark(now);
        let mut stored = self.journal.append(self.id, self.lock.token(), &mark, &records);
        if matches!(stored, Err(JournalError::Full)) && self.journal.make_room() {
            self.full = true;
            stored = self.journal.append(self.id, self.lock.token(), &mark, &records);
        }
        stored?;
        for record in &records {
            self.view.record(record, &self.rollout);
            if let Entry::Refused { error, .. } = &record.entry {
                self.view.say(&format!("a fact was refused: {error}"));
            }
        }
        // A refused fact has changed nothing and asks for nothing.
        for command in told.unwrap_or_default() {
            self.begin(command);
        }
        Ok(())
    }

    fn begin(&mut self, command: Command) {
        if let Some(look) = self.looks.remove(&command.replica) {
            look.abort();
        }
        let world = Arc::clone(&self.world);
        let replies = self.answers_to.clone();
        let lane = world.lane(command.replica.unwrap_or(ReplicaId(u16::MAX)));
        let (replica, changes) = (command.replica, command.action.changes_the_world());
        let act = self.acts.spawn(async move {
            // In the order asked: the lane is fair, and an act that was superseded comes to its end first.
            let _lane = lane.lock_owned().await;
            let reply = world.carry_out(&command).await;
            // Nobody listens any more when the driver has ended.
            let _ = replies.send((command.id, reply));
        });
        if !changes {
            self.looks.insert(replica, act);
        }
    }

    /// After a resume that was asked for, a hold that a person made is over; others only where that was said.
    fn go_on_after_resume(&mut self) -> Result<bool, DriveError> {
        let paused = matches!(self.rollout.phase(), Phase::Holding { reason: HoldReason::Operator, .. });
        let goes = (self.resumed && paused) || self.go_on;
        (self.resumed, self.go_on) = (false, false);
        if goes {
            self.view.say("going on after the hold");
            self.tell(Event::Operator(Operator::Resume))?;
        }
        Ok(goes)
    }

    fn held_because(&self) -> String {
        match self.rollout.phase() {
            Phase::Holding { reason, .. } => named(&reason, self.rollout.plan()),
            other => format!("{other:?}"),
        }
    }

    fn signalled(&mut self, signal: Signalled) -> Result<(), DriveError> {
        match signal {
            Signalled::HungUp => {
                self.view.say("the terminal is gone; the rollout goes on (look with `slackwater status`)");
            }
            Signalled::AskedToEnd if self.interrupted => {
                self.view.say("already on the way to a hold with all replicas serving; the replica in hand is not left out");
            }
            Signalled::AskedToEnd => {
                (self.interrupted, self.leave_when_held) = (true, true);
                if !self.rollout.rests() {
                    self.view.say(
                        "interrupted: the replica in hand is finished or put back, then this ends with all of them serving; go on later \
                         with `slackwater run --resume`",
                    );
                    self.tell(Event::Operator(Operator::Pause))?;
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, asked: Asked) -> Result<(), DriveError> {
        if let Request::Order(order) = asked.request {
            self.resumed = false;
            let order = match order {
                Order::Pause => Operator::Pause,
                Order::Resume => Operator::Resume,
                Order::Approve => Operator::Approve,
                Order::Abort => Operator::Abort,
                Order::Rollback => Operator::Rollback,
            };
            self.view.say(&format!("order from the control socket: {order:?}"));
            self.tell(Event::Operator(order))?;
        }
        // Whoever asked may have gone.
        let _ = asked.answer.send(self.snapshot());
        Ok(())
    }

    /// Windows are times of day. When the wall clock and the steady one have come apart, the next move must not be made in the belief that
    /// it is in one.
    fn compare_clocks(&mut self) -> Result<(), DriveError> {
        let windows = !self.rollout.plan().windows.is_empty();
        let (ahead, by) = match self.time.skew() {
            Skew::Together => return Ok(()),
            Skew::WallAhead(by) => (true, by),
            Skew::WallBehind(by) => (false, by),
        };
        let what = if ahead { "jumped ahead, or the machine slept" } else { "was set back" };
        if !windows {
            if !self.clock_said {
                self.view
                    .say(&format!("the clock {what} ({by}); drains and soaks go on by the steady clock"));
            }
            self.clock_said = true;
            return Ok(());
        }
        if !self.clock_said {
            let then = if ahead {
                "the replica in hand is finished or put back, then the windows are looked at again"
            } else {
                "holding: check the clock, then `slackwater resume`"
            };
            self.view.say(&format!("the clock {what} ({by}) and the plan has windows; {then}"));
            self.clock_said = true;
            self.clock_hold = ahead && !matches!(self.rollout.phase(), Phase::Holding { .. });
            self.tell(Event::Operator(Operator::Pause))?;
        }
        if ahead && self.rollout.rests() {
            self.time.believe_the_wall();
            self.clock_said = false;
            self.tell(Event::Tick)?;
            if std::mem::take(&mut self.clock_hold) {
                self.tell(Event::Operator(Operator::Resume))?;
            }
        }
        Ok(())
    }

    fn make_room_if_full(&mut self) -> Result<(), DriveError> {
        if std::mem::take(&mut self.full) {
            self.view.say(
                "the disk with the journal is full; with the room set aside the replica in hand is finished or put back, then this ends. \
                 Make room, then `slackwater run --resume`",
            );
            self.leave_when_held = true;
            self.tell(Event::Operator(Operator::Pause))?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.id, &self.rollout, &self.world, self.time.now())
    }
}

/// What followed from the last event of a journal and is not in it.
fn cut_off(plan: Plan, records: &[Record]) -> Result<Vec<Record>, ReplayError> {
    let last = records.iter().rposition(|record| matches!(record.entry, Entry::Event(_)));
    let Some((place, Record { at, entry: Entry::Event(event), .. })) =
        last.map(|place| (place, &records[place]))
    else {
        return Ok(Vec::new());
    };
    let mut rollout = Rollout::replay(plan, &records[..place])?;
    let mut recorder = Recorder::after(&records[..place]);
    recorder
        .tell(&mut rollout, *at, event.clone())
        .map_err(|error| ReplayError::Event { seq: records[place].seq, error })?;
    let known = records.len() - place;
    Ok(recorder.take().into_iter().skip(known).collect())
}

/// A reason to hold with the replica's name in place of its number.
pub fn named(reason: &HoldReason, plan: &Plan) -> String {
    let said = reason.to_string();
    match reason.replica() {
        Some(replica) => said.replacen(&replica.to_string(), &plan.replicas[replica.index()].name, 1),
        None => said,
    }
}

enum Signalled {
    AskedToEnd,
    HungUp,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signalled {
        tokio::select! {
            _ = self.interrupt.recv() => Signalled::AskedToEnd,
            _ = self.terminate.recv() => Signalled::AskedToEnd,
            _ = self.hang_up.recv() => Signalled::HungUp,
        }
    }
}

/// How long until an instant, for people: nothing below a second.
pub fn in_seconds(span: Span) -> String {
    let seconds = span.as_nanos() / 1_000_000_000;
    Span::from_secs(seconds).to_string()
}
