//! The scenario's faults in the simulator's units, and what each asks of the world.
//!
//! Faults with a time are timers; the others are asked about where they would bite (a start, a stop, a reply). All draws
//! are keyed, so a fault shifts no other draw, and a run without faults is bit for bit what it was before there were any.

use slackwater_engine::Ps;
use slackwater_policy::VersionRef;
use slackwater_scenarios::{Fault, FaultKind, FaultVersion, Keyed};

use crate::setup::SetupError;

/// All faults of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) timed: Vec<TimedFault>,
    starts: Vec<(StartFault, Where)>,
    /// How much longer the memory lingers.
    lingers: Vec<(Ps, Where)>,
    lost: Vec<LostReplies>,
}

/// One that comes at a time of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimedFault {
    pub(crate) at: Ps,
    pub(crate) replica: u16,
    pub(crate) what: Timed,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Timed {
    /// The process dies.
    Crash { noticed_after: Ps, back_after: Option<Ps> },
    /// The in-flight gauge of the engine sticks.
    StuckGauge,
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
    replica: Option<u16>,
    from: Ps,
    until: Ps,
    share: f64,
}

impl Faults {
    pub(crate) fn new(faults: &[Fault], names: &[String]) -> Result<Self, SetupError> {
        let mut all = Self::default();
        for fault in faults {
            let replica = match &fault.replica {
                None => None,
                Some(name) => {
                    let unknown = || SetupError::FaultElsewhere(name.clone());
                    let index = names.iter().position(|known| known == name).ok_or_else(unknown)?;
                    Some(u16::try_from(index).map_err(|_| SetupError::TooManyReplicas(names.len()))?)
                }
            };
            all.add(fault, replica);
        }
        Ok(all)
    }

    /// Keys that the kind needs are there: the scenario was checked. Without them a fault does nothing.
    fn add(&mut self, fault: &Fault, replica: Option<u16>) {
        let version = fault.version.map(|version| match version {
            FaultVersion::From => VersionRef::From,
            FaultVersion::To => VersionRef::To,
        });
        let place = Where { replica, nth: fault.nth, version };
        let timed = match fault.kind {
            FaultKind::ReplicaCrash => Some(Timed::Crash {
                noticed_after: fault.noticed_after().as_picos(),
                back_after: fault.back_after.map(|back| back.as_picos()),
            }),
            FaultKind::StuckInFlight => Some(Timed::StuckGauge),
            _ => None,
        };
        if let (Some(what), Some(replica), Some(at)) = (timed, replica, fault.at) {
            self.timed.push(TimedFault { at: at.as_picos(), replica, what });
        }
        match fault.kind {
            FaultKind::ReplicaCrash | FaultKind::StuckInFlight => {}
            FaultKind::StartFailure => self.starts.push((StartFault::Fails, place)),
            FaultKind::NeverHealthy => self.starts.push((StartFault::NeverHealthy, place)),
            FaultKind::SlowStart => {
                self.starts.push((StartFault::Slow(fault.factor.unwrap_or(1.0)), place));
            }
            FaultKind::GpuMemoryLingers => {
                self.lingers.push((fault.lasts.unwrap_or_default().as_picos(), place));
            }
            FaultKind::LostReplies => self.lost.push(LostReplies {
                replica,
                from: fault.at.map_or(0, |at| at.as_picos()),
                until: fault.until.map_or(Ps::MAX, |until| until.as_picos()),
                share: fault.share.unwrap_or(0.0),
            }),
        }
    }

    /// What befalls a start of `version`, `before` starts having come before it. The worst, where there are several.
    pub(crate) fn at_start(&self, replica: u16, before: u64, version: VersionRef) -> Option<StartFault> {
        let here = self.starts.iter().filter(|(_, place)| place.holds(replica, before, version));
        let mut slow = None;
        let mut never = false;
        for (fault, _) in here {
            match fault {
                StartFault::Fails => return Some(StartFault::Fails),
                StartFault::NeverHealthy => never = true,
                StartFault::Slow(factor) => slow = Some(slow.unwrap_or(1.0) * factor),
            }
        }
        if never { Some(StartFault::NeverHealthy) } else { slow.map(StartFault::Slow) }
    }

    /// How much longer the memory is held after a stop of `version`, `before` stops having come before it.
    pub(crate) fn lingering(&self, replica: u16, before: u64, version: VersionRef) -> Ps {
        let here = self.lingers.iter().filter(|(_, place)| place.holds(replica, before, version));
        here.map(|(longer, _)| *longer).fold(0, Ps::saturating_add)
    }

    /// Whether the reply to command `id` about `replica` is lost at `now`.
    pub(crate) fn loses(&self, keyed: Keyed, replica: u16, id: u64, now: Ps) -> bool {
        self.lost.iter().enumerate().any(|(index, lost)| {
            lost.replica.is_none_or(|wanted| wanted == replica)
                && (lost.from..lost.until).contains(&now)
                && keyed.uniform("lost-reply", &[index as u64, id]) < lost.share
        })
    }
}
