//! Every reachable state of a rollout in a tiny world, within published bounds.
//!
//! ```text
//!   Setup ─► State (Rollout + World + what may still go wrong) ─ choices ─► State ─ ... each once
//!                  │                                                  │
//!                  └ conditions 1 to 6 on every command, hold means N  └ calm steps alone: does every state come to rest?
//! ```
//!
//! Random worlds (`policy/tests/it/chaos.rs`, the simulator's swarm) draw deep paths; this visits all short ones. Time is the policy's own:
//! it moves from deadline to deadline, and replies come in any order before that. `README.md` has the bounds, the counts and what the model
//! leaves out.

pub mod conditions;
pub mod configurations;
pub mod driver;
pub mod model;
pub mod search;
pub mod world;
