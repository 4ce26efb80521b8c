//! The rollout's stages as bars, one row a replica that moved.

use slackwater_sim::{FleetFacts, MoveFigures, RolloutResult};

use super::axis::Panel;
use super::sheet::{Anchor, Face, Sheet, Swatch, text_width};
use super::theme::Ink;
use crate::format::duration;

/// Stages in order: name, ink, strength.
const STAGES: [(&str, Ink, f64); 6] = [
    ("drain", Ink::Orange, 1.0),
    ("stop", Ink::Red, 1.0),
    ("GPU free", Ink::Purple, 1.0),
    ("start and load", Ink::Blue, 1.0),
    ("warm-up", Ink::Sky, 1.0),
    ("soak", Ink::Green, 0.55),
];

/// What the colours mean.
pub(crate) fn legend() -> Vec<(Swatch, &'static str)> {
    STAGES.into_iter().map(|(name, ink, alpha)| (Swatch::Block(ink, alpha), name)).collect()
}

/// Rows needed: replicas that moved, in the fleet's order, then any the fleet does not name.
pub(crate) fn rows<'a>(rollout: &'a RolloutResult, fleet: &'a FleetFacts) -> Vec<&'a str> {
    let moved = |name: &str| rollout.moves.iter().any(|m| m.replica == name);
    let mut rows: Vec<&str> = fleet.replicas.iter().map(String::as_str).filter(|n| moved(n)).collect();
    for m in &rollout.moves {
        if !rows.contains(&m.replica.as_str()) {
            rows.push(&m.replica);
        }
    }
    rows
}

/// The height of a row for so many.
pub(crate) fn row_height(rows: usize) -> f64 {
    (320.0 / rows.max(1) as f64).clamp(3.0, 20.0)
}

/// Draws the rows; the panel's x axis is time.
pub(crate) fn draw(sheet: &mut Sheet, panel: &Panel, rollout: &RolloutResult, rows: &[&str]) {
    let height = row_height(rows.len());
    // Names that would overlap are left out, evenly.
    let every = (13.0 / height).ceil().max(1.0);
    for (i, name) in rows.iter().enumerate() {
        let y = panel.top + i as f64 * height;
        let middle = y + height / 2.0;
        if (i as f64) % every < 0.5 {
            let shown = fit(name, panel.left - 8.0);
            sheet.text((panel.left - 6.0, middle + 4.0), &shown, Face::Small, Ink::Muted, Anchor::End);
        }
        let moves: Vec<_> = rollout.moves.iter().filter(|m| m.replica == *name).collect();
        for (index, m) in moves.iter().enumerate() {
            // What is written beside a bar keeps clear of the bars around it.
            let before = index.checked_sub(1).and_then(|before| moves[before].ended_s);
            let left = before.map_or(panel.left, |ended| panel.x.at(ended));
            let right = moves.get(index + 1).map_or(panel.right, |next| panel.x.at(next.started_s));
            bar(sheet, panel, m, rollout.ended_s, (y + height * 0.15, height * 0.7), (left, right));
        }
    }
}

fn bar(
    sheet: &mut Sheet,
    panel: &Panel,
    m: &MoveFigures,
    ended_s: f64,
    (y, height): (f64, f64),
    (left, right): (f64, f64),
) {
    let until = m.ended_s.unwrap_or(ended_s);
    for (index, from, to) in stages(m, until) {
        let (_, ink, alpha) = STAGES[index];
        let (x0, x1) = (panel.x.at(from), panel.x.at(to));
        // A stage that took time is seen, however short.
        sheet.rect(x0, y, (x1 - x0).max(0.8), height, ink, alpha);
    }
    if height < 8.0 {
        return;
    }
    let unfinished = m.admitted_s.is_none() && !m.leaves;
    let took = duration((until - m.started_s).max(0.0));
    let text = if unfinished { format!("{took}, not admitted") } else { took };
    let wide = text_width(&text, Face::Small);
    let (start, end) = (panel.x.at(m.started_s), panel.x.at(until));
    let baseline = y + height / 2.0 + 4.0;
    if end + wide + 6.0 <= right {
        sheet.text((end + 5.0, baseline), &text, Face::Small, Ink::Text, Anchor::Start);
    } else if start - wide - 6.0 >= left {
        sheet.text((start - 5.0, baseline), &text, Face::Small, Ink::Text, Anchor::End);
    }
}

/// The stages a move went through: index in [`STAGES`], from, to. A stage begun but not ended lasts until the move's end.
fn stages(m: &MoveFigures, until: f64) -> Vec<(usize, f64, f64)> {
    let starts = [
        m.taken_out_s,
        m.drained_s,
        m.stopped_s,
        m.start_issued_s.or(m.gpu_free_s),
        m.healthy_s,
        m.admitted_s,
    ];
    let mut spans = Vec::new();
    for (i, start) in starts.into_iter().enumerate() {
        let Some(from) = start.filter(|s| s.is_finite()) else { continue };
        let next = starts[i + 1..].iter().flatten().copied().find(|s| s.is_finite());
        let to = next.unwrap_or(until);
        if to > from {
            spans.push((i, from, to));
        }
    }
    spans
}

/// A name cut to the room there is.
pub(crate) fn fit(name: &str, room: f64) -> String {
    if text_width(name, Face::Small) <= room {
        return name.to_owned();
    }
    // The end of a replica's name is what tells it from the others.
    let mut tail: Vec<char> = name.chars().collect();
    while tail.len() > 1 {
        tail.remove(0);
        let short: String = std::iter::once('…').chain(tail.iter().copied()).collect();
        if text_width(&short, Face::Small) <= room {
            return short;
        }
    }
    tail.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_lasts_until_the_next_that_was_reached() {
        let m = MoveFigures {
            started_s: 0.0,
            taken_out_s: Some(1.0),
            drained_s: Some(10.0),
            stopped_s: Some(12.0),
            gpu_free_s: Some(14.0),
            start_issued_s: Some(15.0),
            ..MoveFigures::default()
        };
        assert_eq!(stages(&m, 40.0), [(0, 1.0, 10.0), (1, 10.0, 12.0), (2, 12.0, 15.0), (3, 15.0, 40.0)]);
        assert_eq!(stages(&MoveFigures::default(), 5.0), []);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert!(fit("inference-chassis-eleven-gpu-3", 60.0).ends_with("gpu-3"));
        assert_eq!(fit("gpu-3", 60.0), "gpu-3");
    }
}
