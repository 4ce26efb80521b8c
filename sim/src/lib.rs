//! The discrete-event world: traffic, router, replicas, clients, and the rollout policy, in virtual time.
//!
//! ```text
//!  Traffic ─arrivals─► clients ─attempts─► Router ─► Replica (engine) ─outputs─► Books (ledgers, histograms, series)
//!                        ▲  time-outs, retries          ▲
//!                        └──────────────┐               │ take out, stop, start, admit
//!                                    timers ◄──► Driver ┴──► policy::Rollout
//! ```
//!
//! One run is one thread and one [`World`]. Time is integer picoseconds since the start of the traffic ([`engine`]'s
//! unit); what the policy is told is rounded up to nanoseconds, so that it never sees anything before it happened.
//!
//! # Order of events
//! Everything outside the engines happens in the order of (time, kind, number), the kinds at one time being: timers,
//! client time-outs, the balancer's read time-outs, the policy's deadline, arrivals, later turns of sessions. What the
//! engines do by themselves at that time comes after. So the same seed, scenario and build give the same bits, and a fork continues exactly as
//! the original would.
//!
//! # Faults
//! Those with a time are timers; the others are asked about where they would bite: a start, a stop, a reply. A dead process
//! is told apart from a rotation: until the balancer's health check has failed often enough, requests are still sent there
//! and refused at once; no balancer here passes a refused request on to the next replica by itself. A replica that its
//! supervisor brings back serves the moment it is back. A rollout that has ended hears of no further fault.
//!
//! [`engine`]: slackwater_engine

mod befall;
mod books;
mod carry_out;
mod clients;
mod driver;
mod faults;
mod plan;
mod prefixes;
mod requests;
mod result;
mod router;
mod sessions;
mod setup;
mod summary;
mod timers;
mod trace;
mod world;

pub use books::{Outcome, RequestRow};
pub use driver::RolloutState;
pub use plan::{plan_for, start_offset_ps};
pub use result::*;
pub use setup::{Setup, SetupError};
pub use summary::RunInfo;
pub use trace::TraceCursor;
pub use world::{RunOptions, SimError, World};

/// How long it takes until a change of the rotation is in effect and confirmed, by balancer. nginx: new requests stop
/// about 0.1 s after the reload, and the generation is polled; HAProxy answers on its socket.
const ROTATION_NGINX_PS: u64 = 200_000_000_000;
const ROTATION_OTHER_PS: u64 = 20_000_000_000;

/// How long one look (health, fingerprint, in-flight, memory) takes to answer.
const PROBE_PS: u64 = 10_000_000_000;
