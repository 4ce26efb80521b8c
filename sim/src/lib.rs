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
//! Those at a moment are timers: at a time (which may be drawn from the seed), or at a point of a move, as the policy's
//! notes tell of it (out of rotation, old process gone, new one started, warm-up begun, back in rotation); then they come
//! at that very time, as the next timer. The others are asked about where they would bite: a start, a stop, a reply. The
//! result lists what came of each, also where it found nothing to befall.
//!
//! A dead process is told apart from a rotation: until the balancer's health check has failed often enough, requests are
//! still sent there and refused at once; no balancer here passes a refused request on to the next replica by itself. A
//! replica that its supervisor brings back serves the moment it is back. A rollout that has ended hears of no further fault.
//! A slow GPU is slow for whatever process runs on it, and a lost one starts none any more. Health checks that go unanswered
//! take a replica out of the balancer's rotation and fail the rollout's own looks, but the rollout is not told that it is
//! down: its process is there.
//!
//! # Retries
//! A client sends the whole request again after an attempt that showed it nothing, or after any that failed where it does
//! not mind half an answer (`after_first_token`), at once or after a back-off, as often as it may and all clients' budget
//! allows. Its times count from the arrival of the logical request to the tokens of the attempt that was answered.
//!
//! # Silence
//! The balancer's read time-out counts from the attempt's sending to its first token that is streamed. At that time the
//! engine is asked how many tokens are out: if no more than the silent ones, the attempt is ended (nginx: 504) and cancelled
//! at its replica, exactly. Later gaps between tokens are not looked at, nor the way of the token back to the balancer.
//! TTFT is to the first token generated, silent or not, as the engines' own metrics have it; a bound on what a person sees
//! of a silent model is one on E2E.
//!
//! # Slow start
//! Where the balancer has one, the weight of a replica that comes (back) into rotation begins at a sixteenth and is looked
//! at again after a twentieth of the time, at least 1 s. A weight that the rollout sets is one of every balancer; nginx
//! takes it by a reload, and forgets its counts.
//!
//! [`engine`]: slackwater_engine

mod alone;
mod befall;
mod beside;
mod bins;
mod books;
mod carry_out;
mod clients;
mod driver;
mod evidence;
mod faults;
mod plan;
mod prefixes;
mod reach;
mod requests;
mod result;
mod router;
mod sessions;
mod setup;
mod summary;
mod timers;
mod trace;
mod trial;
mod world;

pub use alone::can_roll;
pub use bins::LatencyBins;
pub use books::{Outcome, RequestRow};
pub use driver::RolloutState;
pub use plan::{plan_for, start_offset_ps};
pub use reach::{EngineReach, Reached};
pub use result::*;
pub use setup::{Setup, SetupError};
pub use summary::{RunInfo, measured_engines, router_name, slo_facts};
pub use trace::TraceCursor;
pub use trial::{DrainTrial, LeanLatencies, Peaks, SETTLE_PS, Trial, attainment};
pub use world::{RunOptions, SimError, World};

/// How long it takes until a change of the rotation is in effect and confirmed, by balancer. nginx: new requests stop
/// about 0.1 s after the reload, and the generation is polled; HAProxy answers on its socket.
const ROTATION_NGINX_PS: u64 = 200_000_000_000;
const ROTATION_OTHER_PS: u64 = 20_000_000_000;

/// How long one look (health, fingerprint, in-flight, memory) takes to answer.
const PROBE_PS: u64 = 10_000_000_000;
