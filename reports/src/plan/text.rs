//! A plan on a terminal of 80 columns.

use std::fmt::Write;

use slackwater_planner::planned::{Answer, Planned, Verdict};

const COLUMNS: usize = 80;

/// The answer as text.
#[must_use]
pub fn plan_text(planned: &Planned) -> String {
    let mut text = String::new();
    let mut line = |said: String| {
        let _ = writeln!(text, "{}", textwrap::fill(&said, COLUMNS));
    };
    let answer = match planned.answer {
        Answer::Go => "GO",
        Answer::Conditional => "GO, ON A CONDITION",
        Answer::NoGo => "NO GO",
    };
    let partial = if planned.partial { " (partial: the search was interrupted)" } else { "" };
    line(format!("{answer}: {} -> {}{partial}", planned.fleet.from, planned.fleet.to));
    for reason in &planned.reasons {
        line(format!("- {reason}"));
    }
    if let Some(best) = &planned.recommended {
        line(format!(
            "start {} to {}, {} with a drain timeout of {:.0} s; {:.0} to {:.0} min",
            best.start,
            best.latest_start,
            best.strategy,
            best.drain_timeout_s,
            best.duration_p50_s / 60.0,
            best.duration_p95_s / 60.0
        ));
    }
    for way in &planned.nearest {
        line(format!("* {way}"));
    }
    let count = |verdict| planned.windows.iter().filter(|start| start.verdict == verdict).count();
    line(format!(
        "{} starts: {} safe, {} unsafe, {} undecided; {} requests simulated in {:.1} s; seed {}, answer {}",
        planned.windows.len(),
        count(Verdict::Safe),
        count(Verdict::Unsafe),
        count(Verdict::Undecided),
        planned.simulated_requests,
        planned.wall_s,
        planned.seed,
        planned.hash.chars().take(12).collect::<String>()
    ));
    text.truncate(text.trim_end().len());
    text
}
