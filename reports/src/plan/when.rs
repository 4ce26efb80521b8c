//! Instants of a plan: RFC 3339 texts with the offset of the plan's zone, or words where the traffic has no calendar.

use jiff::Timestamp;
use jiff::civil::DateTime;
use slackwater_planner::planned::Planned;

use crate::clock::Clock;

/// The wall clock's date and time, where the text is an instant.
pub(super) fn local(text: &str) -> Option<DateTime> {
    text.trim_end_matches('Z').parse().ok()
}

/// `Mon 5 Jan 2026, 03:00`; a text that is no instant as it is.
pub(super) fn moment(text: &str) -> String {
    local(text).map_or_else(|| text.to_owned(), |at| at.strftime("%a %-d %b %Y, %H:%M").to_string())
}

/// The same within a table: `Mon 5 Jan, 03:00`.
pub(super) fn short(text: &str) -> String {
    local(text).map_or_else(|| text.to_owned(), |at| at.strftime("%a %-d %b, %H:%M").to_string())
}

/// The time alone where it is the day of `other`, else with its day.
pub(super) fn beside(text: &str, other: &str) -> String {
    match (local(text), local(other)) {
        (Some(at), Some(other)) if at.date() == other.date() => at.strftime("%H:%M").to_string(),
        _ => short(text),
    }
}

/// Whether the plan's times are on a calendar.
pub(super) fn has_calendar(planned: &Planned) -> bool {
    any_start(planned).is_some_and(|(start, _)| local(start).is_some())
}

/// Some instant as text and in seconds since the horizon's start.
fn any_start(planned: &Planned) -> Option<(&str, f64)> {
    let first = planned.windows.first().map(|start| (start.start.as_str(), start.start_s));
    first.or_else(|| planned.recommended.as_ref().map(|best| (best.start.as_str(), best.start_s)))
}

/// A sentence whose instants are told as [`short`] tells them.
pub(super) fn in_sentence(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([':', ',', ';', '.']);
        if bare.len() >= 19 && local(bare).is_some() {
            format!("{}{}", short(bare), &word[bare.len()..])
        } else {
            word.to_owned()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The zone that [`Clock::in_zone`] is to tell: the plan's, or the offset of its first start where the zone's rules are not known here.
pub(super) fn zone(planned: &Planned) -> String {
    let name = &planned.asked.time_zone;
    if slackwater_scenarios::time::zone(name).is_ok() {
        return name.clone();
    }
    let offset = any_start(planned).and_then(|(text, _)| text.get(text.len().checked_sub(6)?..));
    offset.filter(|offset| offset.starts_with(['+', '-'])).unwrap_or("UTC").to_owned()
}

/// Tells the seconds since the horizon's start.
pub(super) fn clock(planned: &Planned) -> Clock {
    let epoch = any_start(planned).and_then(|(text, at_s)| {
        let instant: Timestamp = text.parse().ok()?;
        #[allow(clippy::cast_possible_truncation)] // a horizon is of days; saturating is right beyond
        Some(instant.as_second().saturating_sub(at_s.round() as i64).saturating_mul(1_000_000_000))
    });
    Clock::starting(epoch, planned.asked.horizon_s).in_zone(&zone(planned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_by_the_wall_clock_of_their_own_offset() {
        let text = "2026-03-29T03:30:00+02:00";
        assert_eq!(moment(text), "Sun 29 Mar 2026, 03:30");
        assert_eq!(beside("2026-03-29T04:00:00+02:00", text), "04:00");
        assert_eq!(beside("2026-03-30T04:00:00+02:00", text), "Mon 30 Mar, 04:00");
        assert_eq!(moment("2026-01-05T03:00:00Z"), "Mon 5 Jan 2026, 03:00");
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(moment("300 s after the start of the traffic"), "300 s after the start of the traffic");
        assert_eq!(beside("600 s in", "300 s in"), "600 s in");
        assert_eq!(
            in_sentence("best: 2026-01-05T03:00:00+01:00: 3 of 20 missed."),
            "best: Mon 5 Jan, 03:00: 3 of 20 missed."
        );
    }
}
