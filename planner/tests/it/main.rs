//! The planner through its public face.

mod answers;
mod certificates;
mod resampling;
