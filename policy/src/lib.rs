//! What a rollout does next: a pure state machine.
//!
//! ```text
//!            Event, now                 Command
//!   world ---------------> Rollout ---------------> world
//!                             |
//!                             +--> deadline: tell it Event::Tick then
//! ```
//!
//! [`Rollout::handle`] takes facts, [`Rollout::poll`] hands out commands until it is empty, [`Rollout::deadline`] says when it wants to be
//! told the time. Nothing else crosses. There is no clock, thread, file, network or randomness in this crate, so the simulator and the
//! executor run the same rollout. Units: [`Time`] and [`Span`] in nanoseconds, rates in requests a second, figures in seconds.

mod canonical;
mod command;
mod compare;
mod drain;
mod event;
mod fold;
mod gate;
mod guard;
mod ids;
mod journal;
mod places;
mod plan;
mod plan_check;
mod plan_error;
mod quality;
mod rollout;
mod safety;
mod status;
mod strategy;
mod time;
mod timers;

pub use canonical::Canonical;
pub use command::{Action, Command};
pub use compare::{Block, CompareSpec, Compared, Comparison, Served};
pub use event::{Event, EventError, Figure, Observed, Operator, Reply, Verdict};
pub use fold::{HoldReport, MoveReport, RolloutReport, TimedNote, fold};
pub use gate::{headroom, next_window, window_holds};
pub use ids::{CommandId, ReplicaId, VersionRef};
pub use journal::{Entry, Record, Recorder, ReplayError};
pub use plan::{
    Approve, AtDeadline, CapacityRow, DrainSpec, ExpectedPhases, GateSpec, Guard, GuardAction, Limits,
    OnFailure, Plan, ReplicaSpec, RolloutSpec, SCHEMA, Slo, StepLimits, Target, Then, VersionSpec, Window,
};
pub use plan_error::PlanError;
pub use quality::{EvaluateOn, QualitySpec, RampSpec};
pub use rollout::Rollout;
pub use status::{
    Exception, FinalReport, HoldReason, MoveResult, Note, Outcome, Phase, ReplicaState, ReplicaStatus,
    Source, Status,
};
pub use strategy::{Compare, Step, StrategySpec};
pub use time::{Span, Time, TimeError, human, human_opt, human_time, human_time_opt};
