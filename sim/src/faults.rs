//! The scenario's faults in the simulator's units, and what each asks of the world.
//!
//! Faults at a moment (a time, or a point of a move) are timers; the others are asked about where they would bite (a start,
//! a stop, a reply). All draws are keyed, so a fault shifts no other draw, and a run without faults is bit for bit what it
//! was before there were any. What came of each is kept in the [`FaultLog`].

use slackwater_engine::Ps;
use slackwater_policy::{ReplicaState, VersionRef};
use slackwater_scenarios::{Fault, FaultKind, FaultTime, FaultVersion, Keyed, MovePoint};

use crate::books::seconds;
use crate::result::{Befallen, FaultFigures};
use crate::setup::SetupError;

/// All faults of a run. Numbers of faults are their places in the scenario.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) moments: Vec<Moment>,
    starts: Vec<(usize, StartFault, Where)>,
    /// How much longer the memory lingers.
    lingers: Vec<(usize, Ps, Where)>,
    lost: Vec<LostReplies>,
    all: Vec<Described>,
}

/// One that comes at a moment of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) number: usize,
    pub(crate) when: When,
    /// Absent: the one whose move it is.
    pub(crate) replica: Option<u16>,
    pub(crate) what: Momentary,
    /// How long it lasts, where it does.
    pub(crate) lasts: Option<Ps>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    At(Ps),
    /// The first time that a move (of this replica) gets there.
    During {
        point: ReplicaState,
        of: Option<u16>,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Momentary {
    /// The process dies.
    Crash { noticed_after: Ps, back_after: Option<Ps> },
    /// The process dies, and no other will start there.
    GpuLost { noticed_after: Ps },
    /// The in-flight gauge of the engine sticks.
    StuckGauge,
    /// Steps take so many times as long.
    Slow(f64),
    /// Health checks go unanswered.
    LostHealth { noticed_after: Ps },
}

/// What is wrong with a start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StartFault {
    Fails,
    NeverHealthy,
    Slow(f64),
}

/// Which starts or stops are meant; `None` is any.
#[derive(Debug, Clone, Copy)]
struct Where {
    replica: Option<u16>,
    /// From 1.
    nth: Option<u32>,
    version: Option<VersionRef>,
}

impl Where {
    fn holds(&self, replica: u16, before: u64, version: VersionRef) -> bool {
        self.replica.is_none_or(|wanted| wanted == replica)
            && self.nth.is_none_or(|nth| u64::from(nth) == before + 1)
            && self.version.is_none_or(|wanted| wanted == version)
    }
}

#[derive(Debug, Clone, Copy)]
struct LostReplies {
    number: usize,
    replica: Option<u16>,
    from: Ps,
    until: Ps,
    share: f64,
}

/// A fault in words, for the result.
#[derive(Debug, Clone)]
struct Described {
    kind: FaultKind,
    when: String,
}

impl Faults {
    pub(crate) fn new(faults: &[Fault], names: &[String], keyed: Keyed) -> Result<Self, SetupError> {
        let mut all = Self::default();
        let index = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => {
                let unknown = || SetupError::FaultElsewhere(name.clone());
                let index = names.iter().position(|known| known == name).ok_or_else(unknown)?;
                u16::try_from(index).map(Some).map_err(|_| SetupError::TooManyReplicas(names.len()))
            }
        };
        for (number, fault) in faults.iter().enumerate() {
            let drawn = fault.at.map(|at| at.draw(keyed.bits("fault", &[number as u64])).as_picos());
            all.add(number, fault, drawn, index(&fault.replica)?, index(&fault.of)?);
            all.all.push(Described { kind: fault.kind, when: when(fault) });
        }
        Ok(all)
    }

    /// Keys that the kind needs are there: the scenario was checked. Without them a fault does nothing.
    fn add(&mut self, number: usize, fault: &Fault, at: Option<Ps>, replica: Option<u16>, of: Option<u16>) {
        let version = fault.version.map(|version| match version {
            FaultVersion::From => VersionRef::From,
            FaultVersion::To => VersionRef::To,
        });
        let place = Where { replica, nth: fault.nth, version };
        let noticed_after = fault.noticed_after().as_picos();
        let factor = fault.factor.unwrap_or(1.0);
        let moment = match fault.kind {
            FaultKind::ReplicaCrash => Some(Momentary::Crash {
                noticed_after,
                back_after: fault.back_after.map(|back| back.as_picos()),
            }),
            FaultKind::GpuLost => Some(Momentary::GpuLost { noticed_after }),
            FaultKind::StuckInFlight => Some(Momentary::StuckGauge),
            FaultKind::SlowGpu => Some(Momentary::Slow(factor)),
            FaultKind::LostHealth => Some(Momentary::LostHealth { noticed_after }),
            FaultKind::StartFailure
            | FaultKind::NeverHealthy
            | FaultKind::SlowStart
            | FaultKind::GpuMemoryLingers
            | FaultKind::LostReplies => None,
        };
        let during = fault.during.map(|point| When::During { point: state(point), of });
        if let (Some(what), Some(when)) = (moment, at.map(When::At).or(during)) {
            let until = fault.until.map(|until| until.as_picos().saturating_sub(at.unwrap_or(0)));
            let lasts = fault.lasts.map(|lasts| lasts.as_picos()).or(until);
            self.moments.push(Moment { number, when, replica, what, lasts });
        }
        match fault.kind {
            FaultKind::StartFailure => self.starts.push((number, StartFault::Fails, place)),
            FaultKind::NeverHealthy => self.starts.push((number, StartFault::NeverHealthy, place)),
            FaultKind::SlowStart => self.starts.push((number, StartFault::Slow(factor), place)),
            FaultKind::GpuMemoryLingers => {
                self.lingers.push((number, fault.lasts.unwrap_or_default().as_picos(), place));
            }
            FaultKind::LostReplies => self.lost.push(LostReplies {
                number,
                replica,
                from: at.unwrap_or(0),
                until: fault.until.map_or(Ps::MAX, |until| until.as_picos()),
                share: fault.share.unwrap_or(0.0),
            }),
            _ => {}
        }
    }

    /// What befalls a start of `version`, `before` starts having come before it. The worst, where there are several; all
    /// that hold are logged.
    pub(crate) fn at_start(
        &self,
        replica: u16,
        before: u64,
        version: VersionRef,
        mut log: impl FnMut(usize),
    ) -> Option<StartFault> {
        let (mut fails, mut never, mut slow) = (false, false, None);
        for (number, fault, _) in self.starts.iter().filter(|at| at.2.holds(replica, before, version)) {
            log(*number);
            match fault {
                StartFault::Fails => fails = true,
                StartFault::NeverHealthy => never = true,
                StartFault::Slow(factor) => slow = Some(slow.unwrap_or(1.0) * factor),
            }
        }
        if fails {
            Some(StartFault::Fails)
        } else if never {
            Some(StartFault::NeverHealthy)
        } else {
            slow.map(StartFault::Slow)
        }
    }

    /// How much longer the memory is held after a stop of `version`, `before` stops having come before it.
    pub(crate) fn lingering(
        &self,
        replica: u16,
        before: u64,
        version: VersionRef,
        mut log: impl FnMut(usize),
    ) -> Ps {
        let here = self.lingers.iter().filter(|at| at.2.holds(replica, before, version));
        here.fold(0, |sum: Ps, (number, longer, _)| {
            log(*number);
            sum.saturating_add(*longer)
        })
    }

    /// The fault by which the reply to command `id` about `replica` is lost at `now`, if it is.
    pub(crate) fn loses(&self, keyed: Keyed, replica: u16, id: u64, now: Ps) -> Option<usize> {
        let lost = self.lost.iter().enumerate().find(|(index, lost)| {
            lost.replica.is_none_or(|wanted| wanted == replica)
                && (lost.from..lost.until).contains(&now)
                && keyed.uniform("lost-reply", &[*index as u64, id]) < lost.share
        });
        lost.map(|(_, lost)| lost.number)
    }

    /// The factor of a slow GPU; 1 for the other kinds.
    pub(crate) fn slowness(&self, number: usize) -> f64 {
        let moment = self.moments.iter().find(|moment| moment.number == number);
        match moment.map(|moment| moment.what) {
            Some(Momentary::Slow(factor)) => factor,
            _ => 1.0,
        }
    }
}

/// The state in which a move has got to this point.
fn state(point: MovePoint) -> ReplicaState {
    match point {
        MovePoint::Drain => ReplicaState::DrainConfirmed,
        MovePoint::Stopped => ReplicaState::Stopped,
        MovePoint::Starting => ReplicaState::Starting,
        MovePoint::WarmUp => ReplicaState::IdentityVerified,
        MovePoint::Soak => ReplicaState::Readmitted,
    }
}

/// When it was to come, in words.
fn when(fault: &Fault) -> String {
    match (fault.at, fault.during) {
        (Some(FaultTime::At(at)), _) => format!("at {at}"),
        (Some(FaultTime::Between(from, to)), _) => format!("between {from} and {to}"),
        (None, Some(point)) => {
            let of = fault.of.as_ref().map_or_else(String::new, |of| format!(" of {of}"));
            format!("during {}{of}", point.name())
        }
        (None, None) => match (fault.kind, fault.nth) {
            (FaultKind::LostReplies, _) => "all the time".to_owned(),
            (FaultKind::GpuMemoryLingers, Some(nth)) => format!("at stop {nth}"),
            (FaultKind::GpuMemoryLingers, None) => "at each stop".to_owned(),
            (_, Some(nth)) => format!("at start {nth}"),
            (_, None) => "at each start".to_owned(),
        },
    }
}

/// What came of each fault so far.
#[derive(Debug, Clone)]
pub(crate) struct FaultLog {
    entries: Vec<FaultFigures>,
}

impl FaultLog {
    /// Befallen replicas that are told one by one; further ones are only counted (lost replies are many).
    const TOLD: usize = 64;

    pub(crate) fn new(faults: &Faults) -> Self {
        let entries = faults.all.iter().map(|fault| FaultFigures {
            kind: fault.kind.name().to_owned(),
            when: fault.when.clone(),
            ..FaultFigures::default()
        });
        Self { entries: entries.collect() }
    }

    /// Whether it has come yet.
    pub(crate) fn has_come(&self, number: usize) -> bool {
        self.entries[number].came_s.is_some()
    }

    /// It comes now, whether or not there is something to befall.
    pub(crate) fn comes(&mut self, number: usize, at: Ps) {
        self.entries[number].came_s.get_or_insert(seconds(at));
    }

    /// It befalls this replica.
    pub(crate) fn befalls(&mut self, number: usize, at: Ps, replica: &str) {
        self.comes(number, at);
        let entry = &mut self.entries[number];
        entry.times += 1;
        if entry.befell.len() < Self::TOLD {
            entry.befell.push(Befallen { at_s: seconds(at), replica: replica.to_owned() });
        }
    }

    pub(crate) fn ends(&mut self, number: usize, at: Ps) {
        self.entries[number].until_s = Some(seconds(at));
    }

    pub(crate) fn figures(&self) -> &[FaultFigures] {
        &self.entries
    }
}
