//! Time for the policy: wall time that can't jump.
//!
//! ```text
//!   wall clock ──at the anchor──►┐
//!                                ├─► SteadyTime::now() = anchor + steady time since ──► policy
//!   steady clock (stands still ──┘
//!   while the machine sleeps)        SteadyTime::skew() = wall - now: has the wall clock been set, or the machine slept?
//! ```
//!
//! The policy's deadlines are absolute. Read off the wall clock alone, a clock that is set forward would end a drain early or skip a soak,
//! and so would a machine that was suspended. So the wall clock is read once, and time goes on by the kernel's monotonic clock, also
//! across a restart of the executor (the journal keeps both, and which boot they belong to). Plans with windows need the real time of day:
//! the driver compares the two and holds when they have come apart (see `driver.rs`).

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use slackwater_policy::{Span, Time};

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn wall(&self) -> Time;
    /// Time since some instant of this boot; never set, stands still while the machine is suspended.
    fn steady(&self) -> Span;
    /// Names the boot that `steady` belongs to.
    fn boot(&self) -> String;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::ZERO + Span::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn steady(&self) -> Span {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Span::from_nanos(seconds.saturating_mul(1_000_000_000) + u64::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn boot(&self) -> String {
        // Without the file (no /proc) every start counts as a new boot: the wall clock is believed then.
        let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map_or_else(|_| format!("unknown-{}", std::process::id()), |id| id.trim().to_owned())
    }
}

/// An instant on both clocks, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the policy was told.
    pub at: Time,
    /// The steady clock then.
    pub steady: Span,
    /// Of this boot.
    pub boot: String,
}

/// The policy's time.
#[derive(Clone)]
pub struct SteadyTime {
    clock: Arc<dyn Clock>,
    at: Time,
    steady: Span,
}

/// How far the wall clock is from the policy's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// Less than is worth a word.
    Together,
    /// The wall clock is ahead: it was set forward, or the machine was suspended.
    WallAhead(Span),
    /// The wall clock was set back.
    WallBehind(Span),
}

/// Clocks are disciplined in small steps all the time; those are no jump.
const TOLERATED: Span = Span::from_secs(2);

impl SteadyTime {
    /// Begins with the time of day.
    pub fn new(clock: Arc<dyn Clock>) -> SteadyTime {
        let (at, steady) = (clock.wall(), clock.steady());
        SteadyTime { clock, at, steady }
    }

    /// Goes on after what the journal knows last: by the steady clock within one boot, else by the time of day, never back.
    pub fn after(clock: Arc<dyn Clock>, last: &Mark) -> SteadyTime {
        let (wall, steady) = (clock.wall(), clock.steady());
        if clock.boot() == last.boot && steady >= last.steady {
            return SteadyTime { clock, at: last.at, steady: last.steady };
        }
        SteadyTime { clock, at: wall.max(last.at), steady }
    }

    /// The policy's time now.
    pub fn now(&self) -> Time {
        let passed = self.clock.steady().as_nanos().saturating_sub(self.steady.as_nanos());
        self.at + Span::from_nanos(passed)
    }

    /// Now, on both clocks.
    pub fn mark(&self, at: Time) -> Mark {
        Mark { at, steady: self.clock.steady(), boot: self.clock.boot() }
    }

    /// Whether the wall clock still agrees.
    pub fn skew(&self) -> Skew {
        let (wall, now) = (self.clock.wall(), self.now());
        if wall.since(now) > TOLERATED {
            Skew::WallAhead(wall.since(now))
        } else if now.since(wall) > TOLERATED {
            Skew::WallBehind(now.since(wall))
        } else {
            Skew::Together
        }
    }

    /// Believes the wall clock from here on, where it is ahead. Only while no deadline runs: they would come early.
    pub fn believe_the_wall(&mut self) {
        let (wall, steady) = (self.clock.wall(), self.clock.steady());
        if wall > self.now() {
            (self.at, self.steady) = (wall, steady);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that tests set.
    #[derive(Debug)]
    pub(crate) struct SetClock(pub(crate) Mutex<(Time, Span, &'static str)>);

    impl SetClock {
        pub(crate) fn new() -> Arc<SetClock> {
            Arc::new(SetClock(Mutex::new((Time::from_secs(1_000), Span::from_secs(50), "first"))))
        }

        pub(crate) fn pass(&self, wall: u64, steady: u64) {
            let mut clock = self.0.lock().unwrap();
            clock.0 = clock.0 + Span::from_secs(wall);
            clock.1 = clock.1 + Span::from_secs(steady);
        }
    }

    impl Clock for SetClock {
        fn wall(&self) -> Time {
            self.0.lock().unwrap().0
        }
        fn steady(&self) -> Span {
            self.0.lock().unwrap().1
        }
        fn boot(&self) -> String {
            self.0.lock().unwrap().2.to_owned()
        }
    }

    #[test]
    fn a_clock_that_jumps_moves_no_deadline() {
        let clock = SetClock::new();
        let time = SteadyTime::new(clock.clone());
        clock.pass(3_600, 5);
        assert_eq!(time.now(), Time::from_secs(1_005));
        assert_eq!(time.skew(), Skew::WallAhead(Span::from_secs(3_595)));
        clock.0.lock().unwrap().0 = Time::from_secs(500);
        assert_eq!(time.now(), Time::from_secs(1_005));
        assert_eq!(time.skew(), Skew::WallBehind(Span::from_secs(505)));
    }

    #[test]
    fn a_restart_of_the_executor_goes_on_by_the_steady_clock_and_one_of_the_machine_by_the_wall() {
        let clock = SetClock::new();
        let last = SteadyTime::new(clock.clone()).mark(Time::from_secs(1_000));
        clock.pass(86_400, 7);
        assert_eq!(SteadyTime::after(clock.clone(), &last).now(), Time::from_secs(1_007));
        *clock.0.lock().unwrap() = (Time::from_secs(2_000), Span::from_secs(3), "second");
        assert_eq!(SteadyTime::after(clock.clone(), &last).now(), Time::from_secs(2_000));
        *clock.0.lock().unwrap() = (Time::from_secs(10), Span::from_secs(3), "third");
        assert_eq!(SteadyTime::after(clock, &last).now(), Time::from_secs(1_000), "never back");
    }

    #[test]
    fn the_wall_is_believed_when_asked_and_only_forward() {
        let clock = SetClock::new();
        let mut time = SteadyTime::new(clock.clone());
        clock.pass(100, 1);
        time.believe_the_wall();
        assert_eq!((time.now(), time.skew()), (Time::from_secs(1_100), Skew::Together));
        clock.0.lock().unwrap().0 = Time::from_secs(1);
        time.believe_the_wall();
        assert_eq!(time.now(), Time::from_secs(1_100));
    }

    #[test]
    fn the_machine_has_clocks() {
        let (before, steady) = (SystemClock.wall(), SystemClock.steady());
        assert!(before > Time::from_secs(1_600_000_000));
        assert!(SystemClock.steady() >= steady);
        assert_eq!(SystemClock.boot(), SystemClock.boot());
    }
}
