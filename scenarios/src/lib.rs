//! What a user writes, and the traffic it stands for.
//!
//! ```text
//! scenario.toml --parse, overrides, validate--> Scenario --+--> fleet, versions, router, clients, SLO, rollout
//!                                                          +--> traffic: trace file --import--> Arrival, Arrival, ...
//!                                                                        generator --draw----> Arrival, Arrival, ...
//! ```
//!
//! Nothing here runs a simulation. Units: durations are [`HumanDuration`] (nanoseconds inside), arrival times are
//! picoseconds since the start of the trace, engine coefficients are milliseconds and microseconds as named.

pub mod alternatives;
pub mod calibration;
pub mod clients;
mod document;
mod engine_names;
pub mod engine_profile;
mod engine_terms;
pub mod error;
mod explain;
pub mod faults;
pub mod fleet;
pub mod orders;
mod places;
pub mod planning;
pub mod presets;
pub mod random;
pub mod rollout;
pub mod scenario;
pub mod time;
pub mod traffic;
mod validate;
pub mod version;

pub use clients::{Clients, PrefixAware, Retries, Router, RouterPolicy, Slo, Sticky};
pub use engine_profile::{EngineProfile, FrontEnd, KvReservation, Scheduling, StepForm};
pub use error::{Diagnostic, ScenarioError, TraceError};
pub use faults::{Fault, FaultKind, FaultTime, FaultVersion, MovePoint};
pub use fleet::{Fleet, Place, Replica};
pub use orders::{Order, OrderKind};
pub use planning::{Cost, Planning};
pub use random::{Keyed, Purpose};
pub use rollout::{
    Approval, AtDeadline, Comparison, Evaluated, Extend, Gate, Guard, NextWindow, OnFailure, Probe, Quality,
    Ramp, Rollout, StartTime, Strategy,
};
pub use scenario::{Scenario, scenario_json_schema};
pub use time::{HumanDuration, WallTime};
pub use traffic::{
    Archetype, Arrival, Arrivals, AssumeTokens, Bursts, FileTraffic, Format, Generate, Generator,
    ImportReport, LengthClass, LengthSource, Lognormal, MetricsOf, PrometheusSource, ReadOptions,
    SeriesTraffic, SessionPlan, Sessions, SharedTrace, SystemPrompts, Traffic, TrafficSpec, Turns,
};
pub use version::{Delay, SilentTokens, Version};
