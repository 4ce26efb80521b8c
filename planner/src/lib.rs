//! Many simulated runs to answers: what N, N-1, ... replicas carry; when to roll, with what drain timeout, how, at what risk.

pub mod actual;
pub mod backtest;
pub mod calendar;
pub mod capacity;
pub mod certify;
pub mod chance;
pub mod check;
pub mod choose;
mod closer;
pub mod future;
pub mod history;
mod load_curve;
pub mod plan;
mod plan_file;
pub mod planned;
pub mod promise;
mod reach;
pub mod screen;
mod spread;
pub mod stretch;
pub mod trials;
pub mod variant;
pub mod watch;
mod words;
