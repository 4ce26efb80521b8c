//! A small world with virtual time: replicas that do as they are told after a while, and what a test makes go wrong.
//!
//! It is also the shape of a driver: `run` is the loop, everything else is the world.

use std::collections::BTreeMap;

use slackwater_policy::{
    Action, Command, Event, Observed, Plan, Record, Recorder, ReplicaId, Reply, Rollout, Span, Time,
    VersionRef,
};

pub(crate) const T0: Time = Time::from_secs(1_700_000_000);

pub(crate) fn secs(seconds: u64) -> Span {
    Span::from_secs(seconds)
}

pub(crate) fn at(seconds: u64) -> Time {
    T0 + secs(seconds)
}

/// One replica as it really is.
#[derive(Clone, Debug)]
pub(crate) struct Real {
    pub(crate) in_rotation: bool,
    pub(crate) process: Option<VersionRef>,
    /// How often a process was started.
    pub(crate) starts: u32,
    pub(crate) ready_at: Time,
    /// In-flight ends at this instant after it is out of rotation.
    pub(crate) busy_for: Span,
    pub(crate) busy_until: Time,
    pub(crate) never_healthy: Option<VersionRef>,
    pub(crate) stuck_gauge: Option<u32>,
    pub(crate) gpu_lingers: bool,
    pub(crate) wrong_version: bool,
    pub(crate) smoke_fails: Option<VersionRef>,
    pub(crate) undo_ready: bool,
    pub(crate) admit_fails: bool,
    pub(crate) take_out_fails: bool,
    pub(crate) swap_fails: bool,
    /// The user's evaluation finds this version wanting, live or not.
    pub(crate) evaluation_fails: Option<(VersionRef, bool)>,
    pub(crate) weight: u8,
}

/// What becomes of a reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Usual,
    Lost,
    /// Neither carried out nor answered.
    Never,
    Late(Span),
    Twice(Span),
    Instead(Reply),
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) real: Vec<Real>,
    pub(crate) load: f64,
    pub(crate) start_takes: Span,
    pub(crate) cut_works: bool,
    pub(crate) weights_work: bool,
    /// Both names mean one version: nothing seen from outside tells a restarted replica from another.
    pub(crate) one_version: bool,
    queue: BTreeMap<(Time, u64), Event>,
    order: u64,
    pub(crate) issued: Vec<(Time, Command)>,
    pub(crate) refused: u64,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> World {
        let real = Real {
            in_rotation: true,
            process: Some(VersionRef::From),
            starts: 0,
            ready_at: T0,
            busy_for: secs(10),
            busy_until: T0,
            never_healthy: None,
            stuck_gauge: None,
            gpu_lingers: false,
            wrong_version: false,
            smoke_fails: None,
            undo_ready: true,
            admit_fails: false,
            take_out_fails: false,
            swap_fails: false,
            evaluation_fails: None,
            weight: 100,
        };
        let nothing = Real { in_rotation: false, process: None, ..real };
        let places = plan.replicas.iter().map(|spec| if spec.is_spare() { &nothing } else { &real });
        World {
            now: T0,
            real: places.cloned().collect(),
            load: 10.0,
            start_takes: secs(60),
            cut_works: true,
            weights_work: true,
            one_version: plan.from.name == plan.to.name,
            queue: BTreeMap::new(),
            order: 0,
            issued: Vec::new(),
            refused: 0,
        }
    }

    pub(crate) fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    pub(crate) fn clear_queue(&mut self) {
        self.queue.retain(|_, event| *event == Event::Start);
    }

    pub(crate) fn serves(&self, id: usize) -> bool {
        let real = &self.real[id];
        real.in_rotation
            && real.process.is_some_and(|version| real.never_healthy != Some(version))
            && self.now >= real.ready_at
    }

    pub(crate) fn crash(&mut self, id: u16) -> Event {
        self.real[usize::from(id)].process = None;
        self.real[usize::from(id)].busy_until = T0;
        Event::ReplicaDown { replica: ReplicaId(id), reason: "crashed".to_owned() }
    }

    /// The next event: from the queue, or a tick when the deadline comes first.
    pub(crate) fn next(&mut self, deadline: Option<Time>) -> Option<Event> {
        let first = self.queue.keys().next().copied();
        match (first, deadline) {
            (Some(key), deadline) if deadline.is_none_or(|deadline| key.0 <= deadline) => {
                self.now = self.now.max(key.0);
                self.queue.remove(&key)
            }
            (_, Some(deadline)) => {
                self.now = self.now.max(deadline);
                Some(Event::Tick)
            }
            _ => None,
        }
    }

    pub(crate) fn carry_out(&mut self, command: Command, fate: Fate) {
        if fate == Fate::Never {
            return self.issued.push((self.now, command));
        }
        let (reply, takes) = self.effect(&command);
        self.issued.push((self.now, command.clone()));
        let outcome = |outcome| Event::Outcome { id: command.id, outcome };
        let usual = self.now + takes;
        match fate {
            Fate::Usual => self.schedule(usual, outcome(reply)),
            Fate::Lost | Fate::Never => {}
            Fate::Late(by) => self.schedule(usual + by, outcome(reply)),
            Fate::Twice(by) => {
                self.schedule(usual, outcome(reply.clone()));
                self.schedule(usual + by, outcome(reply));
            }
            // A reply that fits but is not true would be a lying world; this one only contradicts.
            Fate::Instead(other)
                if other.answers(&command.action) && !matches!(other, Reply::Failed { .. }) =>
            {
                self.schedule(usual, outcome(reply));
            }
            Fate::Instead(other) => {
                self.schedule(usual, outcome(other));
                self.schedule(usual + secs(1), outcome(reply));
            }
        }
    }

    fn effect(&mut self, command: &Command) -> (Reply, Span) {
        let now = self.now;
        let (load, start_takes, cut_works) = (self.load, self.start_takes, self.cut_works);
        let weights_work = self.weights_work;
        let one_version = self.one_version;
        let not_yet = |reason: &str| Reply::Failed { reason: reason.to_owned(), retryable: true };
        let Some(id) = command.replica else { return (Reply::Load { rate: load }, secs(1)) };
        let serves = self.serves(id.index());
        let real = &mut self.real[id.index()];
        let healthy =
            real.process.is_some_and(|version| real.never_healthy != Some(version)) && now >= real.ready_at;
        let shown = real.process.map(|version| if one_version { VersionRef::From } else { version });
        let tenth = Span::from_millis(100);
        match &command.action {
            Action::Observe => {
                let seen = Observed {
                    in_rotation: real.in_rotation,
                    process: real.process.is_some(),
                    healthy,
                    version: shown,
                    undo_ready: real.undo_ready,
                };
                (Reply::Observed(seen), tenth)
            }
            Action::TakeOut { .. } if real.take_out_fails => {
                (not_yet("the generation does not answer"), tenth)
            }
            Action::TakeOut { .. } => {
                if real.in_rotation && serves {
                    real.busy_until = now + real.busy_for;
                }
                real.in_rotation = false;
                (Reply::Out, tenth)
            }
            Action::ProbeInFlight => {
                let busy = u32::from(now < real.busy_until);
                (
                    Reply::InFlight { balancer: Some(busy), engine: Some(real.stuck_gauge.unwrap_or(busy)) },
                    tenth,
                )
            }
            Action::CutInFlight if !cut_works => {
                (Reply::Failed { reason: "this balancer can't cut".to_owned(), retryable: false }, tenth)
            }
            Action::CutInFlight => {
                let requests = u32::from(now < real.busy_until);
                real.busy_until = now;
                (Reply::Cut { requests }, tenth)
            }
            Action::Stop { .. } => {
                let cut = u32::from(now < real.busy_until);
                real.process = None;
                (Reply::Stopped { cut }, secs(2))
            }
            Action::ProbeGpu { .. } if real.gpu_lingers => (not_yet("PID 4711 holds 70 GiB"), tenth),
            Action::ProbeGpu { .. } => (Reply::GpuFree, tenth),
            Action::Start { version } => {
                if real.process.is_none() {
                    real.process = Some(*version);
                    real.starts += 1;
                    real.ready_at = now + start_takes;
                }
                (Reply::Started, tenth)
            }
            Action::ProbeHealth => (if healthy { Reply::Healthy } else { not_yet("still loading") }, tenth),
            Action::ProbeFingerprint { .. } => {
                (Reply::Fingerprint { seen: shown.filter(|_| !real.wrong_version) }, tenth)
            }
            Action::SmokePrompt if real.smoke_fails.is_some() && real.smoke_fails == real.process => {
                (Reply::Failed { reason: "gibberish".to_owned(), retryable: true }, secs(1))
            }
            Action::SmokePrompt => (Reply::SmokeAnswered, secs(1)),
            Action::WarmUp { .. } => (Reply::WarmedUp, secs(4)),
            Action::Admit { .. } if real.admit_fails => (not_yet("the socket is gone"), tenth),
            Action::Admit { weight: Some(_) } if !weights_work => {
                (Reply::Failed { reason: "no weights here".to_owned(), retryable: false }, tenth)
            }
            Action::Admit { weight } => {
                real.in_rotation = true;
                real.weight = weight.unwrap_or(100);
                (Reply::Admitted, tenth)
            }
            Action::Swap { .. } if real.swap_fails || real.process.is_none() => {
                (Reply::Failed { reason: "it does not wake".to_owned(), retryable: false }, secs(1))
            }
            Action::Swap { version } => {
                real.process = Some(*version);
                (Reply::Swapped, secs(5))
            }
            Action::Evaluate { live } => {
                let wanting = real.evaluation_fails;
                let passed =
                    wanting.is_none_or(|(version, when)| real.process != Some(version) || when != *live);
                (Reply::Evaluated { passed, said: "exit code".to_owned() }, secs(3))
            }
            Action::MeasureLoad => (Reply::Load { rate: load }, secs(1)),
        }
    }
}

/// A world, a rollout in it, and its journal.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) rollout: Rollout,
    pub(crate) recorder: Recorder,
    pub(crate) records: Vec<Record>,
}

impl Run {
    pub(crate) fn new(plan: Plan) -> Run {
        let mut world = World::new(&plan);
        world.schedule(T0, Event::Start);
        Run { world, rollout: Rollout::new(plan).unwrap(), recorder: Recorder::new(), records: Vec::new() }
    }

    pub(crate) fn tell(&mut self, event: Event, fate: &mut dyn FnMut(&Command) -> Fate) {
        let told = self.recorder.tell(&mut self.rollout, self.world.now, event);
        self.records.extend(self.recorder.take());
        self.world.refused += u64::from(told.is_err());
        for command in told.unwrap_or_default() {
            let fate = fate(&command);
            self.world.carry_out(command, fate);
        }
    }

    /// One event. `false` when nothing will happen any more.
    pub(crate) fn step(&mut self) -> bool {
        self.step_with(&mut |_| Fate::Usual)
    }

    pub(crate) fn step_with(&mut self, fate: &mut dyn FnMut(&Command) -> Fate) -> bool {
        let event = self.world.next(self.rollout.deadline());
        event.map(|event| self.tell(event, fate)).is_some()
    }

    /// Until it ends or holds with nothing in hand; panics when it does neither.
    pub(crate) fn run(&mut self) -> &mut Run {
        self.run_with(&mut |_| Fate::Usual)
    }

    pub(crate) fn run_with(&mut self, fate: &mut dyn FnMut(&Command) -> Fate) -> &mut Run {
        for _ in 0..100_000 {
            if self.rollout.rests() {
                return self;
            }
            assert!(self.step_with(fate), "stuck: {:#?}", self.rollout.status());
        }
        panic!("neither ends nor holds: {:#?}", self.rollout.status());
    }

    /// Until `done` says so.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Run) -> bool) -> &mut Run {
        for _ in 0..100_000 {
            if done(self) {
                return self;
            }
            assert!(self.step(), "stuck: {:#?}", self.rollout.status());
        }
        panic!("never came to be: {:#?}", self.rollout.status());
    }

    pub(crate) fn order(&mut self, order: slackwater_policy::Operator) -> &mut Run {
        self.tell(Event::Operator(order), &mut |_| Fate::Usual);
        self
    }

    pub(crate) fn restart(&mut self) -> &mut Run {
        self.tell(Event::Recovered, &mut |_| Fate::Usual);
        self
    }

    /// Whether all that are to serve this version do, and the places that are to be empty are.
    pub(crate) fn all_serve(&self, version: VersionRef) -> bool {
        let empty = self.rollout.report().empty;
        (0..self.world.real.len()).zip(0..).all(|(id, index)| {
            let real = &self.world.real[id];
            match empty.contains(&ReplicaId(index)) {
                true => !real.in_rotation && real.process.is_none(),
                false => self.world.serves(id) && real.process == Some(version),
            }
        })
    }

    pub(crate) fn serving(&self) -> usize {
        (0..self.world.real.len()).filter(|id| self.world.serves(*id)).count()
    }
}
