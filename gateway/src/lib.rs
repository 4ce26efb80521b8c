//! A streaming reverse proxy for replicas that serve OpenAI's API, made to be drained.
//!
//! ```text
//!  client ─► connection ─► forward ──claim──► fleet (who takes it, exact counts) ◄── admin: drain, weight, cut
//!                 ▲           │   └─session─► sessions (which version)            ◄── health
//!                 │           ▼
//!             relay ◄──── upstream connection ◄──► replica
//!                 └──► record: access log, live figures, metrics
//! ```
//!
//! What it promises:
//! - A request goes to the replica with the fewest in flight for its weight, of the version its session had before, if a
//!   replica of that can take it.
//! - When a change of state has been answered, no request goes to a replica that is not `ready`. `in_flight` is exact.
//! - A request is tried at another replica only if nothing of a response was sent to its client, and its replica failed before
//!   it sent a response's head. So a client never sees two beginnings; a stream that breaks is seen to break.
//! - Bodies are not collected: a client that reads slowly slows its own stream, and a client that goes away ends its
//!   request at the replica. What is kept of a request, to try it again, is bounded.
//!
//! HTTP/1.1 on both sides, no TLS, no upgrades; it is meant for one machine, behind whatever faces the world.

mod admin;
mod body;
pub mod config;
pub mod error;
pub mod fleet;
mod forward;
mod headers;
mod health;
mod live;
mod log;
mod metrics;
mod record;
mod relay;
mod scan;
mod server;
mod sessions;
mod stalled;
mod upstream;

pub use config::{Admin, Config};
pub use error::GatewayError;
pub use fleet::{Fleet, Patch, ReplicaView, State};
pub use live::{LiveView, Quantiles};
pub use server::Gateway;
