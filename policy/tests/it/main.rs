//! Rollouts in a small world: by script, and at random.

mod chaos;
mod happy;
mod world;
