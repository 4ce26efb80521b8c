//! The processes of a replica that somebody else supervises, remembered over its stop.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::record::Known;
use crate::deployment::Place;
use crate::procfs;

/// By replica. Kept in memory only: an executor that is killed over a stop relies on the supervisor's word and the GPU's free memory.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<BTreeMap<String, Vec<Known>>>);

impl Members {
    /// Takes note of a process and its descendants before they are asked to stop.
    pub(super) fn note(&self, place: &Place, main: Option<u32>) {
        let known = main.map(procfs::tree).unwrap_or_default().into_iter().filter_map(Known::of).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.name.clone(), known);
    }

    /// Those that are still there.
    pub(super) fn left(&self, place: &Place) -> Vec<u32> {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = members.get(&place.name).into_iter().flatten();
        known.filter(|known| known.alive()).map(|known| known.pid).collect()
    }
}
