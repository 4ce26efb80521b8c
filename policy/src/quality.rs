//! What a new version goes through around its admission: the user's evaluation, and the slow start.

use serde::{Deserialize, Serialize};

use crate::Span;
use crate::time::human;

/// The user's own check of the new version. Never made on the way back to the old one.
///
/// Not passed, or not to be had, is a failure of the new version, treated by `rollout.on_failure`; one that fails while it serves is never
/// left in rotation, so `park` means `roll_back_replica` then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualitySpec {
    /// Asked when the replica is warm, before it is admitted.
    #[serde(default)]
    pub out_of_rotation: bool,
    /// Asked when it serves and has soaked.
    #[serde(default)]
    pub live: bool,
    /// Of which replicas it is asked.
    #[serde(default)]
    pub replicas: EvaluateOn,
    /// The command that evaluates, as an argument vector; its exit code is the verdict. Which replica it is to ask is told by who runs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// Which replicas are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluateOn {
    /// The first that gets the new version; nobody else is moved until it has passed, or, where all come up together, none is admitted.
    First,
    /// Each that gets it.
    #[default]
    Each,
}

/// Slow start: after an admission with `from` percent of the usual weight the weight is raised in `steps` equal steps to all of it.
///
/// Only toward the new version; the way back is taken at once. A balancer that can't set weights is noted, and the replica gets all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RampSpec {
    /// The first weight, in percent, 1 to 99.
    pub from: u8,
    /// How many steps up, at least 1.
    pub steps: u8,
    /// How long from the admission to the whole weight; the soak counts from there.
    #[serde(with = "human")]
    pub over: Span,
}

impl RampSpec {
    /// The weight after so many steps.
    pub fn weight(&self, step: u8) -> u8 {
        let (step, steps) = (u16::from(step.min(self.steps)), u16::from(self.steps.max(1)));
        let rise = u16::from(100_u8.saturating_sub(self.from)) * step / steps;
        u8::try_from(u16::from(self.from) + rise).unwrap_or(100).min(100)
    }

    /// When, counted from the admission, that step is made.
    pub(crate) fn after(&self, step: u8) -> Span {
        let steps = u64::from(self.steps.max(1));
        // Step by step, so that no product overflows.
        Span::from_nanos(self.over.as_nanos() / steps * u64::from(step.min(self.steps)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_rise_evenly_to_all() {
        let ramp = RampSpec { from: 20, steps: 4, over: Span::from_secs(60) };
        assert_eq!([0, 1, 2, 3, 4, 5].map(|step| ramp.weight(step)), [20, 40, 60, 80, 100, 100]);
        assert_eq!([0, 1, 4].map(|step| ramp.after(step)), [0, 15, 60].map(Span::from_secs));
        let three = RampSpec { from: 1, steps: 3, over: Span::from_secs(1) };
        assert_eq!([0, 1, 2, 3].map(|step| three.weight(step)), [1, 34, 67, 100]);
    }
}
