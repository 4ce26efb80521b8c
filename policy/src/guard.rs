//! Guards: is a live figure above its band for too long?

use crate::canonical::Form;
use crate::{Guard, Span, Time};

/// Drivers bring figures every ten seconds, a live one a little later each time; two may fail to come. What is further apart says nothing
/// about the time between, unless the guard itself looks back longer.
const GAP: Span = Span::from_secs(30);

/// What one guard has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GuardWatch {
    above_since: Option<Time>,
    last_sample: Option<Time>,
}

impl GuardWatch {
    pub(crate) fn write(&self, form: &mut Form) {
        let GuardWatch { above_since, last_sample } = self;
        form.since(*above_since);
        form.since(*last_sample);
    }

    /// Takes a sample; whether the guard is breached.
    ///
    /// Samples further apart than [`GAP`] and the guard's `sustained` say nothing about the time between: the count begins again.
    pub(crate) fn sample(&mut self, guard: &Guard, now: Time, value: f64) -> bool {
        let gap = self.last_sample.is_some_and(|last| now.since(last) > guard.sustained.max(GAP));
        self.last_sample = Some(now);
        if value <= guard.limit {
            self.above_since = None;
            return false;
        }
        let since = self.above_since.filter(|_| !gap).unwrap_or(now);
        self.above_since = Some(since);
        now.since(since) >= guard.sustained
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figure, GuardAction, Span};

    #[test]
    fn only_a_sustained_excess_is_a_breach() {
        let guard = Guard {
            figure: Figure::TtftP99,
            limit: 2.0,
            sustained: Span::from_secs(30),
            action: GuardAction::Hold,
        };
        let mut watch = GuardWatch::default();
        let mut at = |second, value| watch.sample(&guard, Time::from_secs(second), value);
        assert!(!at(0, 3.0));
        assert!(!at(20, 3.0));
        assert!(!at(29, 1.0), "one good sample ends it");
        assert!(!at(40, 3.0));
        assert!(!at(100, 3.0), "a gap in the samples proves nothing");
        assert!(!at(115, 3.0));
        assert!(at(130, 3.0));
    }

    #[test]
    fn a_bound_shorter_than_the_time_between_samples_is_still_one() {
        let guard = |sustained| Guard {
            figure: Figure::ErrorRate,
            limit: 0.01,
            sustained,
            action: GuardAction::Hold,
        };
        // A live driver's ten seconds are ten and a little.
        let at = |number: u64| Time::from_secs(100) + Span::from_millis(10_030).times(number);
        for sustained in [Span::from_millis(1), Span::from_secs(10)] {
            let mut watch = GuardWatch::default();
            assert!(!watch.sample(&guard(sustained), at(0), 0.5), "one sample sustains nothing");
            assert!(watch.sample(&guard(sustained), at(1), 0.5), "{sustained}");
        }
        let mut watch = GuardWatch::default();
        assert!(!watch.sample(&guard(Span::from_millis(1)), at(0), 0.5));
        assert!(!watch.sample(&guard(Span::from_millis(1)), at(4), 0.5), "nobody looked for 40 s");
    }
}
