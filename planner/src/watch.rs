//! How a long search tells how far it is, and hears that it should stop.

/// Told of progress, from any thread.
pub trait Watch: Sync {
    /// A stage of the search is so far: `done` of `total` pieces of work.
    fn progress(&self, stage: &str, done: u64, total: u64);
    /// Whether to stop: what is known by then is the answer, marked as partial.
    fn stopped(&self) -> bool;
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn stopped(&self) -> bool {
        false
    }
}
