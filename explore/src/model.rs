//! One state of policy and world together, and everything that may happen in it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slackwater_policy::{
    Action, Approve, Block, Command, CommandId, Event, HoldReason, Note, Operator, Plan, ReplicaId, Reply,
    Rollout, Time, Verdict,
};

use crate::driver::Driver;
use crate::world::{Process, Way, World};

/// The instant at which every exploration begins.
pub const T0: Time = Time::from_secs(1_700_000_000);

/// A kind of fault, chosen where it can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A command takes effect and its reply is lost.
    Lost,
    /// A command does not take effect, and no reply comes.
    Dropped,
    /// A command does not take effect and fails; asking again may help.
    Fails,
    /// A command does not take effect and fails; asking again won't help.
    FailsForGood,
    /// A command takes effect now, and its reply comes at any later time.
    HeldBack,
    /// Time passes over the commands on their way: their effect and reply may come at any later time.
    Late,
    /// A replica dies, and the policy is told at once.
    Dies,
    /// A replica dies, and nobody is told.
    DiesUntold,
    /// A serving replica stops answering its health check, and nobody is told.
    FallsIll,
    /// Health or GPU memory takes longer than one look.
    NotYet,
    /// Both in-flight counts say zero once while a request runs.
    FalseZero,
    /// One in-flight count is stuck or blind.
    Gauge,
    /// What starts is neither version.
    WrongVersion,
    /// The way back is gone when it is looked at.
    NoWayBack,
    /// The new version's evaluation has not passed.
    NotGoodEnough,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Fault; 15] = [
        Fault::Lost,
        Fault::Dropped,
        Fault::Fails,
        Fault::FailsForGood,
        Fault::HeldBack,
        Fault::Late,
        Fault::Dies,
        Fault::DiesUntold,
        Fault::FallsIll,
        Fault::NotYet,
        Fault::FalseZero,
        Fault::Gauge,
        Fault::WrongVersion,
        Fault::NoWayBack,
        Fault::NotGoodEnough,
    ];
}

/// How much may go wrong, or be ordered, anywhere on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Faults.
    pub faults: u8,
    /// Orders of a person, words of a comparison, blocks of evidence.
    pub orders: u8,
    /// Restarts of the executor.
    pub crashes: u8,
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The plan that must be kept to.
    pub plan: Plan,
    /// Which faults may happen.
    pub faults: Vec<Fault>,
    /// Which orders may be given.
    pub orders: Vec<Operator>,
    /// How much of it.
    pub bounds: Bounds,
}

/// One thing that happens. Commands are named by their place among those on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A command takes effect and is answered.
    Done(u8, Way),
    /// The reply that was held back comes.
    Answered(u8),
    /// A command meets a fault (the first five of [`Fault`]).
    Meets(u8, Fault),
    /// The policy's next deadline comes.
    Tick,
    /// A replica meets a fault.
    Hits(u8, Fault),
    /// A replica that died by itself comes back by itself.
    ComesBack(u8),
    /// A person gives an order.
    Orders(Operator),
    /// The comparison of the canary says a word.
    Compared(Verdict),
    /// A block of evidence comes, in which the canary is as the old version or far worse.
    Evidence(bool),
    /// The executor is restarted.
    Crash,
    /// Nothing happens until the first window is over.
    WindowCloses,
}

/// What must not be, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Policy and world together.
#[derive(Clone, Debug)]
pub struct State {
    /// The policy.
    pub rollout: Rollout,
    /// The world.
    pub world: World,
    /// What may still go wrong.
    pub left: Bounds,
    alike: u64,
}

impl State {
    /// The rollout has just been started.
    ///
    /// # Errors
    /// When the plan is refused or the first step breaks a condition.
    pub fn first(
        setup: &Setup,
        driver: &dyn Driver,
        log: &mut dyn FnMut(String),
    ) -> Result<State, Violation> {
        let mut told = setup.plan.clone();
        driver.plan(&mut told);
        let rollout =
            Rollout::new(told).map_err(|error| Violation(format!("the plan is refused: {error}")))?;
        let world = World::new(Arc::new(setup.plan.clone()), T0);
        let mut state = State { rollout, world, left: setup.bounds, alike: 0 };
        state.tell(Some(Event::Start), None, driver, log)?;
        Ok(state)
    }

    /// The canonical form, as a number: states that differ only in what can't matter have the same.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.alike, self.left).hash(&mut hasher);
        hasher.finish()
    }

    /// All but the bounds left.
    fn likeness(&self) -> u64 {
        let ids: Vec<CommandId> = self.world.pending.iter().map(|pending| pending.id).collect();
        let mut hasher = DefaultHasher::new();
        self.rollout.canonical(&ids).hash(&mut hasher);
        self.world.write(&mut hasher);
        hasher.finish()
    }

    /// Whether nothing more need happen: it has ended, or holds for a person with nothing in hand.
    pub fn rests(&self) -> bool {
        self.rollout.rests()
    }

    /// Everything that may happen here. Empty once the rollout has ended.
    pub fn choices(&self, setup: &Setup) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.rollout.outcome().is_some() {
            return choices;
        }
        let faults: &[Fault] = if self.left.faults > 0 { &setup.faults } else { &[] };
        let may = |fault: Fault| faults.contains(&fault);
        for (index, pending) in (0_u8..).zip(&self.world.pending) {
            if pending.answer.is_some() {
                choices.push(Choice::Answered(index));
                continue;
            }
            let ways = self.ways(pending.replica, &pending.action);
            let possible = ways.iter().filter(|way| way.fault().is_none_or(may));
            choices.extend(possible.map(|way| Choice::Done(index, *way)));
            let meets = [Fault::Lost, Fault::Dropped, Fault::Fails, Fault::FailsForGood, Fault::HeldBack];
            choices.extend(meets.into_iter().filter(|it| may(*it)).map(|it| Choice::Meets(index, it)));
        }
        let on_time = self.world.pending.iter().any(|pending| !pending.late);
        if self.rollout.deadline().is_some() && (!on_time || may(Fault::Late)) {
            choices.push(Choice::Tick);
        }
        for (index, truth) in (0_u8..).zip(&self.world.replicas) {
            let there = truth.process != Process::Gone;
            for fault in [Fault::Dies, Fault::DiesUntold] {
                if there && may(fault) {
                    choices.push(Choice::Hits(index, fault));
                }
            }
            if truth.serves() && may(Fault::FallsIll) {
                choices.push(Choice::Hits(index, Fault::FallsIll));
            }
            if truth.back_as.is_some() && !there {
                choices.push(Choice::ComesBack(index));
            }
        }
        if self.left.orders > 0 {
            choices.extend(setup.orders.iter().map(|order| Choice::Orders(*order)));
            if setup.plan.strategy.measured_comparison().is_some() {
                choices.extend([Choice::Evidence(true), Choice::Evidence(false)]);
            } else if setup.plan.strategy.compare_within().is_some() {
                let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Undecided];
                choices.extend(verdicts.map(Choice::Compared));
            }
        }
        if self.left.crashes > 0 {
            choices.push(Choice::Crash);
        }
        let window = self.world.plan.windows.first();
        if window.is_some_and(|window| self.world.now < window.closes) && !on_time {
            choices.push(Choice::WindowCloses);
        }
        choices
    }

    /// How a command's turn may truthfully go.
    fn ways(&self, replica: Option<ReplicaId>, action: &Action) -> &'static [Way] {
        let truth = replica.map(|replica| &self.world.replicas[replica.index()]);
        let truth = truth.copied();
        let there = truth.is_some_and(|truth| truth.process != Process::Gone);
        let runs = truth.is_some_and(|truth| truth.process != Process::Gone && truth.healthy);
        let busy = truth.is_some_and(|truth| truth.in_flight);
        let false_zero = truth.is_some_and(|truth| truth.false_zero);
        match action {
            Action::ProbeInFlight if busy && false_zero => {
                &[Way::Usual, Way::StillBusy, Way::StuckGauge, Way::Blind]
            }
            Action::ProbeInFlight if busy => {
                &[Way::Usual, Way::StillBusy, Way::FalseZero, Way::StuckGauge, Way::Blind]
            }
            Action::ProbeInFlight => &[Way::Usual, Way::StuckGauge, Way::Blind],
            Action::ProbeHealth if there => &[Way::Usual, Way::NotYet],
            Action::ProbeGpu { .. } if !there => &[Way::Usual, Way::NotYet],
            Action::Start { .. } if !there => &[Way::Usual, Way::WrongVersion],
            Action::Observe => &[Way::Usual, Way::NoWayBack],
            Action::MeasureLoad => &[Way::Usual, Way::StillBusy],
            Action::Evaluate { .. } if runs => &[Way::Usual, Way::NotGoodEnough],
            Action::Swap { .. } if runs => &[Way::Usual, Way::WrongVersion],
            _ => &[Way::Usual],
        }
    }

    /// Whether a choice is none but the world doing what it is asked to, and time going by while nothing is on its way.
    pub fn is_calm(&self, choice: Choice) -> bool {
        match choice {
            Choice::Done(_, way) => way.fault().is_none(),
            Choice::Answered(_) => true,
            Choice::Tick => self.world.pending.is_empty(),
            _ => false,
        }
    }

    /// What comes of a choice; `None` when it changes nothing worth a state of its own.
    ///
    /// # Errors
    /// When a condition is broken, by the policy's own words or by the world's.
    pub fn after(
        &self,
        choice: Choice,
        driver: &dyn Driver,
        log: &mut dyn FnMut(String),
    ) -> Result<Option<State>, Violation> {
        let mut next = self.clone();
        let about = next.about(choice);
        let event = next.apply(choice);
        next.tell(event, about, driver, log)?;
        let order = matches!(choice, Choice::Orders(_) | Choice::Compared(_) | Choice::Evidence(_));
        // An order that is ignored leaves a state that can do less than the one it was given in.
        Ok(if order && next.alike == self.alike { None } else { Some(next) })
    }

    /// The replica a reply is about.
    fn about(&self, choice: Choice) -> Option<ReplicaId> {
        match choice {
            Choice::Done(index, _) | Choice::Answered(index) => {
                self.world.pending[usize::from(index)].replica
            }
            _ => None,
        }
    }

    fn apply(&mut self, choice: Choice) -> Option<Event> {
        let outcome = |id: CommandId, outcome: Reply| Some(Event::Outcome { id, outcome });
        let failed = |retryable| Reply::Failed { reason: "a fault".to_owned(), retryable };
        match choice {
            Choice::Done(index, way) => {
                let taken = self.world.take(usize::from(index));
                if way.fault().is_some() {
                    self.fault(taken.replica);
                }
                let reply = self.world.effect(taken.replica, &taken.action, way);
                outcome(taken.id, reply)
            }
            Choice::Answered(index) => {
                let taken = self.world.take(usize::from(index));
                outcome(taken.id, taken.answer?)
            }
            Choice::Meets(index, fault) => {
                let mut taken = self.world.take(usize::from(index));
                self.fault(taken.replica);
                match fault {
                    Fault::Lost => {
                        self.world.effect(taken.replica, &taken.action, Way::Usual);
                        None
                    }
                    Fault::HeldBack => {
                        let reply = self.world.effect(taken.replica, &taken.action, Way::Usual);
                        (taken.answer, taken.late) = (Some(reply), true);
                        let place = self.world.pending.partition_point(|other| other.id < taken.id);
                        self.world.pending.insert(place, taken);
                        None
                    }
                    Fault::Fails | Fault::FailsForGood => outcome(taken.id, failed(fault == Fault::Fails)),
                    _ => None,
                }
            }
            Choice::Tick => {
                let late: Vec<Option<ReplicaId>> =
                    self.world.pending.iter().filter(|pending| !pending.late).map(|it| it.replica).collect();
                if !late.is_empty() {
                    self.left.faults = self.left.faults.saturating_sub(1);
                }
                late.into_iter().for_each(|replica| self.hurt(replica));
                self.world.pending.iter_mut().for_each(|pending| pending.late = true);
                self.world.now = self.world.now.max(self.rollout.deadline()?);
                Some(Event::Tick)
            }
            Choice::Hits(index, fault) => {
                let replica = ReplicaId(u16::from(index));
                self.fault(Some(replica));
                let truth = &mut self.world.replicas[usize::from(index)];
                if fault == Fault::FallsIll {
                    (truth.healthy, truth.untold) = (false, true);
                    return None;
                }
                truth.back_as = Some(truth.process);
                let new_since = truth.new_since;
                truth.gone();
                (truth.memory_held, truth.untold) = (true, fault == Fault::DiesUntold);
                // Whoever is not told goes on counting.
                truth.new_since = new_since.filter(|_| truth.untold);
                let told = Event::ReplicaDown { replica, reason: "it died".to_owned() };
                (!truth.untold).then_some(told)
            }
            Choice::ComesBack(index) => {
                let replica = ReplicaId(u16::from(index));
                let truth = &mut self.world.replicas[usize::from(index)];
                truth.process = truth.back_as.take()?;
                (truth.healthy, truth.memory_held) = (true, false);
                truth.serve_requests();
                // A canary that is found serving is watched from there on.
                let new = truth.serves() && truth.process == Process::Runs(slackwater_policy::VersionRef::To);
                truth.new_since = truth.new_since.or(new.then_some(self.world.now));
                // Who missed its death misses its return.
                (!truth.untold).then_some(Event::ReplicaUp { replica })
            }
            Choice::Orders(order) => {
                self.left.orders -= 1;
                if order == Operator::Resume && self.world.window_hold {
                    self.world.waive_window();
                }
                self.world.compared |= order == Operator::Resume;
                Some(Event::Operator(order))
            }
            Choice::Compared(verdict) => {
                self.left.orders -= 1;
                self.world.compared |= verdict == Verdict::Pass;
                Some(Event::Comparison { verdict })
            }
            Choice::Evidence(good) => {
                self.left.orders -= 1;
                self.world.watch_evidence();
                let (share, errors) = if good { (0.5, 0.0) } else { (1.0, 1.0) };
                let block = Block { ttft: Some(share), tpot: Some(share), errors: Some(errors) };
                Some(Event::Evidence { block })
            }
            Choice::Crash => {
                self.left.crashes -= 1;
                // Who waited for these replies is no more. What had not taken effect may yet do so.
                self.world.pending.retain(|pending| pending.answer.is_none());
                Some(Event::Recovered)
            }
            Choice::WindowCloses => {
                let closes = self.world.plan.windows.first()?.closes;
                self.world.now = self.world.now.max(closes);
                Some(Event::Tick)
            }
        }
    }

    fn fault(&mut self, replica: Option<ReplicaId>) {
        self.left.faults = self.left.faults.saturating_sub(1);
        self.hurt(replica);
    }

    fn hurt(&mut self, replica: Option<ReplicaId>) {
        if let Some(replica) = replica {
            self.world.replicas[replica.index()].hurt = true;
        }
    }

    /// Hands an event to the policy, and its commands to the world.
    fn tell(
        &mut self,
        event: Option<Event>,
        about: Option<ReplicaId>,
        driver: &dyn Driver,
        log: &mut dyn FnMut(String),
    ) -> Result<(), Violation> {
        self.world.watch_canary();
        let mut events: Vec<(Event, Option<ReplicaId>)> =
            event.map(|event| (event, about)).into_iter().collect();
        while !events.is_empty() {
            let (event, about) = events.remove(0);
            let Some((now, event)) = driver.tells(&self.world, &self.rollout, self.world.now, event) else {
                continue;
            };
            for command in self.handle(now, event, about, log)? {
                log(format!("the policy asks: {}", shown(&command)));
                self.world.may_be_asked(&command).map_err(Violation)?;
                let made_up = driver.makes_up(&self.world, &|| self.rollout.phase(), &command);
                if let Some(outcome) = made_up {
                    log(format!("    and is answered without it being done: {outcome:?}"));
                    events.push((Event::Outcome { id: command.id, outcome }, command.replica));
                } else {
                    self.world.accept(command);
                }
            }
        }
        self.alike = self.likeness();
        Ok(())
    }

    fn handle(
        &mut self,
        now: Time,
        event: Event,
        about: Option<ReplicaId>,
        log: &mut dyn FnMut(String),
    ) -> Result<Vec<Command>, Violation> {
        let reply = match &event {
            Event::Outcome { outcome, .. } => Some(outcome.clone()),
            _ => None,
        };
        let rollout = &mut self.rollout;
        // A rollout that has panicked is never looked at again.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let refused = rollout.handle(now, event).err();
            let notes: Vec<Note> = std::iter::from_fn(|| rollout.poll_note()).collect();
            let commands: Vec<Command> = std::iter::from_fn(|| rollout.poll()).collect();
            (refused, notes, commands)
        }));
        let (refused, notes, commands) = handled.map_err(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("(no words)");
            Violation(format!("the policy's own assertion: {words}"))
        })?;
        if let Some(error) = refused {
            return Err(Violation(format!("the policy refuses what has happened: {error}")));
        }
        // A reply that came too late has told nobody anything.
        let stale = notes.iter().any(|note| matches!(note, Note::StaleReply { .. }));
        if let Some(reply) = reply.filter(|_| !stale) {
            self.world.told(about, &reply);
        }
        let mut rested = None;
        for note in notes {
            match &note {
                Note::MoveEnded { replica, .. } => self.world.replicas[replica.index()].moving = false,
                Note::HoldBegan { reason, .. } => self.world.window_hold = *reason == HoldReason::Window,
                Note::HoldEnded => self.world.window_hold = false,
                Note::HoldSettled { .. } => rested = Some(None),
                Note::Ended { outcome } => rested = Some(Some(*outcome)),
                _ => {}
            }
            log(format!("the policy notes: {note:?}"));
        }
        if let Some(outcome) = rested {
            self.world.may_rest(&self.rollout.report(), outcome).map_err(Violation)?;
        }
        Ok(commands)
    }

    /// A choice in words.
    pub fn words(&self, choice: Choice) -> String {
        let command = |index: u8| {
            let pending = &self.world.pending[usize::from(index)];
            let command =
                Command { id: pending.id, replica: pending.replica, action: pending.action.clone() };
            shown(&command)
        };
        match choice {
            Choice::Done(index, Way::Usual) => format!("{}: done and answered", command(index)),
            Choice::Done(index, way) => format!("{}: done and answered, {way}", command(index)),
            Choice::Answered(index) => format!("{}: the reply that was held back comes", command(index)),
            Choice::Meets(index, Fault::Lost) => format!("{}: done, the reply is lost", command(index)),
            Choice::Meets(index, Fault::Dropped) => format!("{}: never done, no reply", command(index)),
            Choice::Meets(index, Fault::Fails) => format!("{}: fails, may be retried", command(index)),
            Choice::Meets(index, Fault::HeldBack) => {
                format!("{}: done, the reply is held back", command(index))
            }
            Choice::Meets(index, _) => format!("{}: fails for good", command(index)),
            Choice::Tick => match self.rollout.deadline() {
                Some(at) => {
                    format!("time passes to the policy's deadline, {} from now", at.since(self.world.now))
                }
                None => "time passes".to_owned(),
            },
            Choice::Hits(index, Fault::Dies) => format!("replica {index} dies"),
            Choice::Hits(index, Fault::DiesUntold) => format!("replica {index} dies, and nobody is told"),
            Choice::Hits(index, _) => format!("replica {index} stops answering its health check"),
            Choice::ComesBack(index) => format!("replica {index} comes back by itself"),
            Choice::Orders(order) => format!("a person says {order:?}"),
            Choice::Compared(verdict) => format!("the comparison of the canary says {verdict:?}"),
            Choice::Evidence(true) => "a block of evidence: the canary is as the old version".to_owned(),
            Choice::Evidence(false) => "a block of evidence: the canary is far worse".to_owned(),
            Choice::Crash => "the executor is restarted".to_owned(),
            Choice::WindowCloses => "time passes until the window is over".to_owned(),
        }
    }
}

impl Way {
    fn fault(&self) -> Option<Fault> {
        match self {
            Way::Usual | Way::StillBusy => None,
            Way::NotYet => Some(Fault::NotYet),
            Way::FalseZero => Some(Fault::FalseZero),
            Way::StuckGauge | Way::Blind => Some(Fault::Gauge),
            Way::WrongVersion => Some(Fault::WrongVersion),
            Way::NoWayBack => Some(Fault::NoWayBack),
            Way::NotGoodEnough => Some(Fault::NotGoodEnough),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Usual => "as it should",
            Way::StillBusy => "busy",
            Way::NotYet => "not there yet",
            Way::FalseZero => "a running request not counted",
            Way::StuckGauge => "the engine's gauge stuck",
            Way::Blind => "the balancer blind",
            Way::WrongVersion => "neither version has started",
            Way::NoWayBack => "the way back gone",
            Way::NotGoodEnough => "not passed",
        })
    }
}

/// The orders that can mean anything under a plan.
pub fn orders(plan: &Plan) -> Vec<Operator> {
    let approve = (plan.rollout.approve != Approve::None).then_some(Operator::Approve);
    [Operator::Pause, Operator::Resume, Operator::Abort, Operator::Rollback]
        .into_iter()
        .chain(approve)
        .collect()
}

fn shown(command: &Command) -> String {
    let action = match &command.action {
        Action::TakeOut { toward: version } | Action::Start { version } => {
            format!("{} ({version})", command.action.name())
        }
        action => action.name().to_owned(),
    };
    match command.replica {
        Some(replica) => format!("{action} {replica} (#{})", command.id.0),
        None => format!("{action} (#{})", command.id.0),
    }
}
