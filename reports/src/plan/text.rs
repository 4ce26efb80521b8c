//! A plan on a terminal of 80 columns.

use std::fmt::Write as _;

use slackwater_planner::planned::Planned;

use super::brief::{Brief, brief};
use super::{week, words};
use crate::format::count;

const COLUMNS: usize = 80;
/// Columns of a label.
const LABEL: usize = 20;
/// Days of the map.
const DAYS: usize = 14;

/// The first screen as text, with a map of the week. Every line fits into 80 columns.
#[must_use]
pub fn plan_text(planned: &Planned) -> String {
    let Brief { title, fleet, answer, partial, reasons, nearest, facts, red, trust, command } =
        brief(planned);
    let mut out = String::new();
    if let Some(partial) = partial {
        let _ = writeln!(out, "{}\n{}\n", "*".repeat(COLUMNS), textwrap::fill(partial, COLUMNS));
    }
    let _ = writeln!(out, "{}", fill(&format!("{answer}: {}", title.replace('→', "->")), "", ""));
    let _ = writeln!(out, "{}", fill(&fleet, "", ""));
    points(&mut out, &reasons, "-");
    if !nearest.is_empty() {
        out.push_str("\nwhat would work\n");
        points(&mut out, &nearest, "*");
    }
    if !facts.is_empty() {
        out.push('\n');
    }
    for fact in &facts {
        let label = fact.label.replace("TTFT p99, before → during", "TTFT p99").to_lowercase();
        let label = label.replace("ttft", "TTFT");
        said(
            &mut out,
            &label,
            &format!(
                "{}; {}",
                fact.value.replace('→', "->").replace('≤', "at most"),
                fact.note.replace('→', "->")
            ),
        );
    }
    for (place, line) in red.iter().enumerate() {
        said(&mut out, if place == 0 { "what turns it red" } else { "" }, line);
    }
    for (place, line) in trust.iter().enumerate() {
        said(&mut out, if place == 0 { "how far to trust it" } else { "" }, line);
    }
    if let Some(command) = command {
        said(&mut out, "run it", &format!("{command} (--out DIR writes plan.toml)"));
    }
    map(&mut out, planned);
    let hash: String = planned.hash.chars().take(12).collect();
    let _ = writeln!(
        out,
        "{}",
        fill(
            &format!(
                "{}; {} requests simulated in {:.1} s; seed {}, slackwater {}, answer {hash}",
                words::starts_by_verdict(planned),
                count(planned.simulated_requests),
                planned.wall_s,
                planned.seed,
                planned.slackwater
            ),
            "",
            ""
        )
    );
    out.truncate(out.trim_end().len());
    out
}

/// Rows are days, columns are hours, a sign each.
fn map(out: &mut String, planned: &Planned) {
    let days = week::days(planned);
    if days.is_empty() {
        return;
    }
    let room = days.iter().take(DAYS).map(|day| day.label.chars().count()).max().unwrap_or(0).max(4) + 2;
    let hours: String =
        (0..24).map(|hour| if hour % 3 == 0 { format!("{hour:02}") } else { "  ".to_owned() }).collect();
    let _ = writeln!(out, "\n{:<room$}{}", "hour", hours.trim_end());
    for day in days.iter().take(DAYS) {
        let signs: String = week::hours(day).iter().map(|hour| format!("{} ", hour.sign())).collect();
        let _ = writeln!(out, "{}", format!("{:<room$}{signs}", day.label).trim_end());
    }
    if days.len() > DAYS {
        let _ = writeln!(out, "{} more days are in windows.csv", days.len() - DAYS);
    }
    out.push_str(
        "S certified safe   . no future missed   - of some starts none   o some missed\n\
         # unsafe. Only S is a promise: the others were screened in a few futures.\n\n",
    );
}

fn points(out: &mut String, lines: &[String], sign: &str) {
    for line in lines {
        let _ = writeln!(out, "{}", fill(line, &format!("{sign} "), "  "));
    }
}

/// A label, and what is said of it beside.
fn said(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "{}", fill(text, &format!("{label:<LABEL$} "), &" ".repeat(LABEL + 1)));
}

fn fill(text: &str, first: &str, others: &str) -> String {
    // Control characters would leave the line, or worse.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let options = textwrap::Options::new(COLUMNS).initial_indent(first).subsequent_indent(others);
    textwrap::fill(&text, options)
}
