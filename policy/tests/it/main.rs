//! Rollouts in a small world: by script, and at random.

mod happy;
mod world;
