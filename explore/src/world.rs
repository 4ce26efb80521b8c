//! The world as it really is, as small as it can be: a handful of facts a replica, and the commands on their way.
//!
//! It shares no code with the simulator. What may happen in it is chosen in `model.rs`; what must never happen is in `conditions.rs`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use slackwater_policy::{
    Action, Command, CommandId, Observed, Plan, ReplicaId, Reply, Span, Time, VersionRef,
};

/// What runs on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    /// Nothing.
    Gone,
    /// The old or the new version.
    Runs(VersionRef),
    /// Something that is neither.
    Foreign,
}

/// One replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Truth {
    /// The balancer routes new requests to it.
    pub rotation: bool,
    /// Its process.
    pub process: Process,
    /// It answers its health check.
    pub healthy: bool,
    /// Its GPU's memory is still taken by a process that is gone, or, in a place that is empty at first, nobody has looked yet whether there
    /// is enough beside whatever else runs on that GPU.
    pub memory_held: bool,
    /// Requests are running on it.
    pub in_flight: bool,
    /// It took requests since its process started.
    pub traffic: bool,
    /// The smoke prompt was answered since its process started.
    pub smoked: bool,
    /// Its process was started by the rollout.
    pub fresh: bool,
    /// It was started or swapped by the rollout, and has not been admitted since.
    pub unproven: bool,
    /// The evaluation out of rotation has passed on its process.
    pub evaluated: bool,
    /// An evaluation of its process has not passed, and the policy was told.
    pub rejected: bool,
    /// The old version could be brought back.
    pub way_back: bool,
    /// A fault hit it or a command to it: it may have to be left out, and named.
    pub hurt: bool,
    /// It died or fell ill, and nobody has been told.
    pub untold: bool,
    /// What would come back by itself after it died by itself.
    pub back_as: Option<Process>,
    /// Its one false zero is used up: two in a row nobody could see through.
    pub false_zero: bool,
    /// Looks in a row that were told to find zero, up to what the plan asks for.
    pub zeroes: u32,
    /// Since when looks were told to find zero by the one source that is believed.
    pub alone_since: Option<Time>,
    /// Since when it has been out of rotation by our doing.
    pub out_since: Option<Time>,
    /// The version it was last asked to identify as.
    pub expect: Option<VersionRef>,
    /// A move toward the new version has touched it and is not over.
    pub moving: bool,
    /// It was said to be admitted since it last left: a canary to be watched.
    pub watched: bool,
    /// Since when it has served the new version by our doing.
    pub new_since: Option<Time>,
}

impl Truth {
    /// Whether it takes requests and answers them.
    pub fn serves(&self) -> bool {
        self.rotation && self.process != Process::Gone && self.healthy
    }

    /// Whether it serves this version as far as anybody could know.
    pub fn believed_to_serve_version(&self, version: VersionRef) -> bool {
        let process = if self.untold { self.back_as.unwrap_or(self.process) } else { self.process };
        self.believed_to_serve() && process == Process::Runs(version)
    }

    /// Whether it serves as far as anybody could know.
    pub fn believed_to_serve(&self) -> bool {
        self.serves() || (self.rotation && self.untold)
    }
}

/// A command that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// As the policy numbered it.
    pub id: CommandId,
    /// To whom.
    pub replica: Option<ReplicaId>,
    /// What.
    pub action: Action,
    /// It took effect; this is on its way back.
    pub answer: Option<Reply>,
    /// Time has passed over it.
    pub late: bool,
}

/// How a command's turn may go, apart from the usual way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// As it should.
    Usual,
    /// The requests are still running; the load is too high. No fault.
    StillBusy,
    /// The health check, the memory or the load are not there yet.
    NotYet,
    /// Both counts miss the request that is running.
    FalseZero,
    /// The engine's gauge is stuck above zero.
    StuckGauge,
    /// The balancer can't count.
    Blind,
    /// What starts is neither of the plan's versions.
    WrongVersion,
    /// The old version's weights are gone when it is looked at.
    NoWayBack,
    /// The evaluation has not passed.
    NotGoodEnough,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct World {
    /// The plan that must be kept to.
    pub plan: Arc<Plan>,
    /// The time.
    pub now: Time,
    /// By [`ReplicaId`].
    pub replicas: Vec<Truth>,
    /// In the order of their ids.
    pub pending: Vec<Pending>,
    /// A person said that the window need not be waited for, until then.
    pub window_waived_until: Time,
    /// A canary has served the new version for as long as the plan says.
    pub canary_done: bool,
    /// The hold that is on is for the window.
    pub window_hold: bool,
    /// An evaluation out of rotation has passed somewhere.
    pub evaluated: bool,
    /// The canary was compared with the old version, as often as the plan asks, or a person would not wait for that.
    pub compared: bool,
    /// Blocks of evidence told while a canary served, up to what the plan asks for.
    pub blocks: u32,
    /// Where all take over together: the first has.
    pub switched: bool,
}

impl World {
    /// Everybody serves the old version at `now`, and nothing runs in spare places.
    pub fn new(plan: Arc<Plan>, now: Time) -> World {
        let serving = Truth {
            rotation: true,
            process: Process::Runs(VersionRef::From),
            healthy: true,
            memory_held: false,
            in_flight: true,
            traffic: true,
            smoked: false,
            fresh: false,
            unproven: false,
            evaluated: false,
            rejected: false,
            way_back: true,
            hurt: false,
            untold: false,
            back_as: None,
            false_zero: false,
            zeroes: 0,
            alone_since: None,
            out_since: None,
            expect: None,
            moving: false,
            watched: false,
            new_since: None,
        };
        let empty = Truth {
            rotation: false,
            process: Process::Gone,
            healthy: false,
            memory_held: true,
            in_flight: false,
            traffic: false,
            ..serving
        };
        let places = plan.replicas.iter().map(|spec| if spec.is_spare() { empty } else { serving });
        let replicas = places.collect();
        let window_waived_until = Time::ZERO;
        World {
            plan,
            now,
            replicas,
            pending: Vec::new(),
            window_waived_until,
            canary_done: false,
            window_hold: false,
            evaluated: false,
            compared: false,
            blocks: 0,
            switched: false,
        }
    }

    /// Feeds everything that matters for the future to `hasher`; instants as times since, up to the longest the plan compares them with.
    pub fn write(&self, hasher: &mut impl Hasher) {
        let drain = &self.plan.rollout.drain;
        let soak = self.plan.strategy.canary_soak().unwrap_or_default();
        let longest = drain.timeout.max(drain.believe_after).max(soak);
        let longest = longest.max(self.cut_after().unwrap_or_default());
        let since = |at: Option<Time>| at.map(|at| Time(self.now.since(at).min(longest).0));
        for truth in &self.replicas {
            let relative = Truth {
                alone_since: since(truth.alone_since),
                out_since: since(truth.out_since),
                new_since: since(truth.new_since).filter(|_| !self.canary_done && !soak.is_zero()),
                ..*truth
            };
            relative.hash(hasher);
        }
        for pending in &self.pending {
            (pending.replica, &pending.action, pending.late).hash(hasher);
            match &pending.answer {
                Some(reply) => format!("{reply:?}").hash(hasher),
                None => false.hash(hasher),
            }
        }
        (self.window_waived_until > self.now, self.canary_done).hash(hasher);
        (self.evaluated, self.compared, self.blocks, self.switched).hash(hasher);
    }

    /// How long after it is out the plan allows a replica's requests to be cut, if it does at all.
    pub fn cut_after(&self) -> Option<Span> {
        use slackwater_policy::{AtDeadline, Then};
        let drain = &self.plan.rollout.drain;
        match drain.at_deadline {
            AtDeadline::Cut => Some(drain.timeout),
            AtDeadline::Extend { hard_limit, then: Then::Cut } => Some(hard_limit),
            AtDeadline::Abort | AtDeadline::Extend { then: Then::Abort, .. } => None,
        }
    }

    /// Takes a command on. A driver that is asked for the next thing keeps at most one older command in hand.
    pub fn accept(&mut self, command: Command) {
        let Command { id, replica, action } = command;
        let same = |other: &&Pending| other.replica == replica;
        let most = if replica.is_some() { 1 } else { self.replicas.len() };
        if self.pending.iter().filter(same).count() > most {
            let oldest = self.pending.iter().position(|other| other.replica == replica);
            oldest.map(|oldest| self.pending.remove(oldest));
        }
        self.pending.push(Pending { id, replica, action, answer: None, late: false });
    }

    /// A command's turn is over; older ones to the same replica are abandoned, as they may not take effect after it.
    pub fn take(&mut self, index: usize) -> Pending {
        let taken = self.pending.remove(index);
        if taken.replica.is_some() {
            self.pending.retain(|other| other.replica != taken.replica || other.id > taken.id);
        }
        taken
    }

    /// The command takes effect. What a driver would answer.
    pub fn effect(&mut self, replica: Option<ReplicaId>, action: &Action, way: Way) -> Reply {
        let not_yet = |reason: &str| Reply::Failed { reason: reason.to_owned(), retryable: true };
        let drill = self.plan.is_drill();
        let now = self.now;
        let Some(replica) = replica else {
            return Reply::Load { rate: if way == Way::StillBusy { 1e6 } else { 1.0 } };
        };
        let truth = &mut self.replicas[replica.index()];
        let shown = match truth.process {
            Process::Runs(_) if drill => Some(VersionRef::From),
            Process::Runs(version) => Some(version),
            Process::Gone | Process::Foreign => None,
        };
        let there = truth.process != Process::Gone;
        match action {
            Action::Observe => {
                truth.way_back &= way != Way::NoWayBack;
                Reply::Observed(Observed {
                    in_rotation: truth.rotation,
                    process: there,
                    healthy: there && truth.healthy,
                    version: shown,
                    undo_ready: truth.way_back,
                })
            }
            Action::TakeOut { .. } => {
                truth.rotation = false;
                (truth.watched, truth.new_since) = (false, None);
                truth.out_since = truth.out_since.or(Some(now));
                Reply::Out
            }
            Action::ProbeInFlight => {
                truth.in_flight &= matches!(way, Way::StillBusy | Way::FalseZero);
                truth.false_zero |= way == Way::FalseZero;
                let balancer = (way != Way::Blind).then_some(u32::from(way == Way::StillBusy));
                let engine = Some(u32::from(matches!(way, Way::StillBusy | Way::StuckGauge)));
                Reply::InFlight { balancer, engine }
            }
            Action::CutInFlight => {
                let requests = u32::from(truth.in_flight);
                truth.in_flight = false;
                Reply::Cut { requests }
            }
            Action::Stop { .. } => {
                let cut = u32::from(truth.in_flight);
                truth.memory_held |= there;
                truth.gone();
                (truth.untold, truth.back_as) = (false, None);
                Reply::Stopped { cut }
            }
            Action::ProbeGpu { .. } if there || way == Way::NotYet => not_yet("memory is held"),
            Action::ProbeGpu { .. } => {
                truth.memory_held = false;
                Reply::GpuFree
            }
            Action::Start { version } => {
                if !there {
                    truth.process =
                        if way == Way::WrongVersion { Process::Foreign } else { Process::Runs(*version) };
                    (truth.fresh, truth.untold, truth.back_as) = (true, false, None);
                    truth.unproven = true;
                    truth.memory_held = false;
                }
                Reply::Started
            }
            Action::Swap { version } if there && truth.process == Process::Runs(*version) => Reply::Swapped,
            Action::Swap { version } if there && truth.healthy => {
                truth.process =
                    if way == Way::WrongVersion { Process::Foreign } else { Process::Runs(*version) };
                truth.new_process();
                // It sleeps and wakes.
                (truth.healthy, truth.in_flight, truth.fresh, truth.unproven) = (false, false, true, true);
                Reply::Swapped
            }
            Action::ProbeHealth if !there => {
                Reply::Failed { reason: "its process is gone".to_owned(), retryable: false }
            }
            Action::ProbeHealth if way == Way::NotYet => not_yet("still loading"),
            Action::ProbeHealth => {
                truth.healthy = true;
                Reply::Healthy
            }
            // The balancer routes to whatever is written down.
            Action::Admit { .. } => {
                truth.rotation = true;
                // It joins when it is back, as far as anybody could know.
                truth.unproven &= !truth.believed_to_serve();
                truth.serve_requests();
                (truth.zeroes, truth.alone_since, truth.out_since) = (0, None, None);
                // Whoever has not been told that it died goes on counting.
                let new = Process::Runs(VersionRef::To);
                let is_new = truth.process == new || (truth.untold && truth.back_as == Some(new));
                truth.new_since = is_new.then_some(now);
                Reply::Admitted
            }
            Action::Swap { .. } => not_yet("no answer"),
            _ if !there || !truth.healthy => not_yet("no answer"),
            Action::ProbeFingerprint { .. } => Reply::Fingerprint { seen: shown },
            Action::SmokePrompt => {
                truth.smoked = true;
                Reply::SmokeAnswered
            }
            Action::WarmUp { .. } => Reply::WarmedUp,
            Action::Evaluate { live } => {
                let passed = way != Way::NotGoodEnough;
                truth.evaluated |= passed && !live;
                self.evaluated |= passed && !live;
                Reply::Evaluated { passed, said: String::new() }
            }
            Action::MeasureLoad => Reply::Load { rate: 1.0 },
        }
    }

    /// What a reply that is handed to the policy tells anybody who listens.
    pub fn told(&mut self, replica: Option<ReplicaId>, reply: &Reply) {
        let asked_for = self.plan.rollout.drain.zeroes;
        let now = self.now;
        let Some(truth) = replica.map(|replica| &mut self.replicas[replica.index()]) else { return };
        match reply {
            // An old look may not show what is so now.
            Reply::Observed(seen) => {
                let there = truth.process != Process::Gone;
                truth.untold &= (seen.process, seen.healthy) != (there, truth.healthy);
            }
            Reply::Admitted => truth.watched = true,
            Reply::Evaluated { passed, .. } => truth.rejected |= !passed,
            Reply::InFlight { balancer, engine } => {
                let both = (*balancer, *engine) == (Some(0), Some(0));
                truth.zeroes = if both { (truth.zeroes + 1).min(asked_for) } else { 0 };
                let one = *balancer == Some(0) || (balancer.is_none() && *engine == Some(0));
                truth.alone_since = one.then(|| truth.alone_since.unwrap_or(now));
            }
            _ => {}
        }
    }
}

impl Truth {
    /// Its process is no more.
    pub fn gone(&mut self) {
        (self.process, self.healthy, self.in_flight) = (Process::Gone, false, false);
        self.new_since = None;
        self.new_process();
    }

    /// What was known of the process, or of the weights it had, is known no longer.
    fn new_process(&mut self) {
        (self.traffic, self.smoked, self.zeroes, self.alone_since) = (false, false, 0, None);
        (self.evaluated, self.rejected) = (false, false);
    }

    /// Requests reach it, where there is anybody to take them.
    pub fn serve_requests(&mut self) {
        let takes = self.serves();
        (self.in_flight, self.traffic) = (takes, self.traffic || takes);
    }
}
