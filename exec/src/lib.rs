//! The executor: the rollout policy against real replicas, behind real load balancers.
//!
//! ```text
//!              ┌────────── control socket: status, pause, resume, approve, abort, rollback
//!              v
//!  events ► Driver ─► policy::Rollout ─► commands ─► Journal (intent on disk) ─► World ─► balancer, supervisor, engine, GPU
//!    ▲                                                                            │
//!    └───────────────────────── replies, processes that went, live figures ◄──────┘
//! ```
//!
//! Nothing that the policy decides is decided here: the driver tells it facts, stores what it says, carries each command out once, and
//! reports one reply. It differs from the simulator's only in what a command does and how long that takes.
//!
//! Linux only: processes are read from `/proc`.

pub mod balancer;
mod blocks;
pub mod clock;
pub mod control;
pub mod deployment;
pub mod driver;
pub mod engine;
pub mod figures;
mod files;
pub mod gpu;
mod hook;
pub mod http;
pub mod journal;
mod keeper;
pub mod lock;
pub mod metrics;
pub mod preflight;
pub mod procfs;
pub mod recover;
pub mod say;
pub mod session;
pub mod shell;
pub mod supervisor;
pub mod trouble;
mod weights;
pub mod world;
