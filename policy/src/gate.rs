//! Capacity and windows: the questions asked before a replica is taken out. The planner and the simulator ask them with these functions too.

use crate::{CapacityRow, Span, Time, Window};

/// Capacity of `serving` replicas over `load` (requests a second): 1 is just enough, `None` without a table.
///
/// A count the table lacks is answered by the next smaller one, which errs on the safe side; below the smallest row the capacity is 0.
/// No load at all is infinite headroom.
pub fn headroom(load: f64, table: &[CapacityRow], serving: usize) -> Option<f64> {
    if table.is_empty() {
        return None;
    }
    let rows = table.iter().filter(|row| usize::from(row.serving) <= serving);
    let capacity = rows.max_by_key(|row| row.serving).map_or(0.0, |row| row.rate);
    Some(if load > 0.0 { capacity / load } else { f64::INFINITY })
}

/// Whether a move that takes `move_expected` may begin now. Without windows it always may.
pub fn window_holds(windows: &[Window], now: Time, move_expected: Span) -> bool {
    windows.is_empty()
        || windows.iter().any(|window| window.opens <= now && now + move_expected <= window.closes)
}

/// When the next window opens that holds a move; `None` when none is left.
pub fn next_window(windows: &[Window], now: Time, move_expected: Span) -> Option<Time> {
    let usable =
        windows.iter().filter(|window| window.opens > now && window.opens + move_expected <= window.closes);
    usable.map(|window| window.opens).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_is_capacity_over_load() {
        let table = [CapacityRow { serving: 2, rate: 10.0 }, CapacityRow { serving: 4, rate: 22.0 }];
        assert_eq!(headroom(5.0, &[], 4), None);
        assert_eq!(headroom(11.0, &table, 4), Some(2.0));
        assert_eq!(headroom(5.0, &table, 3), Some(2.0), "a missing row is answered by the next smaller one");
        assert_eq!(headroom(5.0, &table, 1), Some(0.0));
        assert_eq!(headroom(0.0, &table, 3), Some(f64::INFINITY));
    }

    #[test]
    fn a_window_must_hold_the_whole_move() {
        let windows = [
            Window::new(Time::from_secs(100), Time::from_secs(200)),
            Window::new(Time::from_secs(300), Time::from_secs(400)),
        ];
        let minute = Span::from_secs(60);
        assert!(window_holds(&[], Time::ZERO, minute));
        assert!(!window_holds(&windows, Time::from_secs(99), minute));
        assert!(window_holds(&windows, Time::from_secs(140), minute));
        assert!(!window_holds(&windows, Time::from_secs(141), minute));
        assert_eq!(next_window(&windows, Time::from_secs(141), minute), Some(Time::from_secs(300)));
        assert_eq!(next_window(&windows, Time::from_secs(300), minute), None);
    }
}
