//! A record in words, for the run's plain lines and its log. Most records are not worth one.

use std::collections::BTreeMap;

use slackwater_policy::{
    Action, Entry, Event, MoveResult, Note, Plan, Record, ReplicaId, ReplicaState, Reply, Source,
};

use crate::driver::named;

/// Says records one after another; what is tried again with the same result is said once.
#[derive(Debug, Default)]
pub struct Sayer {
    /// The last word on a step that is tried again.
    tried: BTreeMap<ReplicaId, String>,
}

impl Sayer {
    /// The line for a record; `None` for those that only a machine wants.
    pub fn line(&mut self, record: &Record, plan: &Plan) -> Option<String> {
        let line = line(record, plan)?;
        if let Entry::Note(Note::Retry { replica, .. }) = &record.entry {
            let before = self.tried.insert(*replica, line.clone());
            return (before.as_ref() != Some(&line)).then_some(line);
        }
        Some(line)
    }
}

/// The line for a record, by itself.
pub fn line(record: &Record, plan: &Plan) -> Option<String> {
    let name =
        |replica: &ReplicaId| plan.replicas.get(replica.index()).map_or("?", |spec| spec.name.as_str());
    match &record.entry {
        Entry::Event(Event::Start) => Some("rollout begun".to_owned()),
        Entry::Event(Event::Recovered) => {
            Some("resumed: looking at every replica before anything is believed".to_owned())
        }
        Entry::Event(Event::Operator(order)) => Some(format!("order: {order:?}")),
        Entry::Event(Event::Outcome { outcome: Reply::Failed { .. }, .. } | _) => None,
        Entry::Refused { event, error } => Some(format!("refused: {event:?}: {error}")),
        Entry::Command(command) => match &command.action {
            Action::Stop { grace } => {
                Some(format!("{}: stopping (killed after {grace})", name(&command.replica?)))
            }
            Action::CutInFlight => {
                Some(format!("{}: cutting what is still in flight", name(&command.replica?)))
            }
            Action::WarmUp { requests } => {
                Some(format!("{}: warming up with {requests} requests", name(&command.replica?)))
            }
            _ => None,
        },
        Entry::Note(note) => remark(note, plan, &name),
    }
}

fn remark<'a>(note: &'a Note, plan: &Plan, name: &dyn Fn(&'a ReplicaId) -> &'a str) -> Option<String> {
    Some(match note {
        Note::MoveBegan { replica, leaves: true, .. } => format!("{}: is to be emptied", name(replica)),
        Note::MoveBegan { replica, target, .. } => format!("{}: move to {target}", name(replica)),
        Note::MoveEnded { replica, result } => {
            let how = match result {
                MoveResult::Done => "done".to_owned(),
                MoveResult::CalledOff => "called off before anything was touched".to_owned(),
                MoveResult::PutBack { reason } => format!("put back into rotation: {reason}"),
                MoveResult::Undone { reason } => format!("undone: {reason}"),
                MoveResult::Parked { reason } => format!("parked, a person is needed: {reason}"),
            };
            format!("{}: {how}", name(replica))
        }
        Note::State { replica, state, .. } => format!("{}: {}", name(replica), state_words(*state)?),
        Note::Retry { replica, step, reason } => {
            format!("{}: {step:?}: {reason}; trying again", name(replica))
        }
        Note::BringUpAgain { replica, attempt, reason } => {
            format!("{}: brought up afresh, attempt {attempt}: {reason}", name(replica))
        }
        Note::RampSkipped { replica, reason } => {
            format!("{}: gets all of its weight at once: {reason}", name(replica))
        }
        Note::Evaluated { replica, passed, said, .. } => {
            format!("{}: evaluation {}: {said}", name(replica), if *passed { "passed" } else { "not passed" })
        }
        Note::GateShut { replica, seen } => format!("{}: waits at the gate: {seen}", name(replica)),
        Note::Believed { replica, source, other } => {
            let (said, not) = match source {
                Source::Balancer => ("the balancer", "the engine"),
                Source::Engine => ("the engine", "the balancer"),
            };
            let other = other.map_or("says nothing".to_owned(), |other| format!("says {other}"));
            format!("{}: {said} says that nothing is in flight and is believed; {not} {other}", name(replica))
        }
        Note::DrainExtended { replica, until } => {
            format!("{}: the drain's time is over, extended to {until}", name(replica))
        }
        Note::Cut { replica, requests } => format!("{}: {requests} requests were cut", name(replica)),
        Note::WentDown { replica, reason } => format!("{}: went down: {reason}", name(replica)),
        Note::HoldBegan { reason, until } => {
            let until = until.map_or(String::new(), |until| format!(", until {until}"));
            format!("holding: {}{until}", named(reason, plan))
        }
        Note::HoldSettled { serving, of } => format!("holds with {serving} of {of} serving"),
        Note::HoldEnded => "going on".to_owned(),
        Note::GoalChanged { to, reason } => format!("now heading for {to}: {reason}"),
        Note::OrderIgnored { order, reason } => format!("{order:?} does nothing: {reason}"),
        Note::Ended { outcome } => format!("over: {outcome:?}"),
        Note::NoReply { .. } | Note::StaleReply { .. } | Note::ClockWentBack { .. } => return None,
        Note::Compared { verdict, blocks, .. } => {
            format!("canary compared over {blocks} blocks: {verdict:?}")
        }
    })
}

/// A state in words, where it is news to a person.
fn state_words(state: ReplicaState) -> Option<&'static str> {
    Some(match state {
        ReplicaState::DrainConfirmed => "out of rotation, confirmed; draining",
        ReplicaState::Drained => "nothing in flight any more",
        ReplicaState::DrainTimedOut => "the drain's time is over with requests in flight",
        ReplicaState::Stopped => "stopped",
        ReplicaState::Starting => "starting",
        ReplicaState::Swapping => "swapping weights",
        ReplicaState::Healthy => "healthy",
        ReplicaState::IdentityVerified => "the right version answers",
        ReplicaState::Readmitted => "back in rotation, confirmed",
        ReplicaState::RollingBack => "going back to the old version",
        ReplicaState::Standby => "stands by, out of rotation",
        ReplicaState::Empty => "empty",
        ReplicaState::Down => "down",
        ReplicaState::Serving
        | ReplicaState::DrainRequested
        | ReplicaState::Stopping
        | ReplicaState::GpuFree
        | ReplicaState::WarmedUp
        | ReplicaState::Soaked
        | ReplicaState::Parked => return None,
    })
}
