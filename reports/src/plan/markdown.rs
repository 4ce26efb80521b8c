//! A plan as GitHub-flavoured Markdown; the plots are files beside it.

use std::fmt::Write as _;

use slackwater_planner::planned::Planned;

use super::brief::{Brief, brief};
use super::page::{assumed, provenance, settings};
use super::tables::{self, Table};
use super::{PLAN_PLOTS, words};
use crate::write::ReportContext;

/// The same story as the page.
#[must_use]
pub fn plan_markdown(planned: &Planned, context: &ReportContext) -> String {
    let Brief { title, fleet, answer, partial, reasons, nearest, facts, red, trust, command } =
        brief(planned);
    let mut out = String::new();
    let _ = writeln!(out, "# {answer}: {}\n\n{}\n", plain(&title), plain(&fleet));
    if let Some(partial) = partial {
        let _ = writeln!(out, "> **{}**\n", plain(partial));
    }
    points(&mut out, "", &reasons);
    points(&mut out, "**What would work**", &nearest);
    if !facts.is_empty() {
        out.push_str("| | | |\n|---|---|---|\n");
        for fact in &facts {
            let _ =
                writeln!(out, "| {} | **{}** | {} |", cell(fact.label), cell(&fact.value), cell(&fact.note));
        }
        out.push('\n');
    }
    points(&mut out, "**What turns it red**", &red);
    points(&mut out, "**How far to trust it**", &trust);
    if let Some(command) = command {
        let _ = writeln!(out, "To run it:\n\n```sh\n{command}\n```\n");
    }
    section(&mut out, "When", |out| {
        plot(out, planned, "starts");
        if !planned.windows.is_empty() {
            let _ = writeln!(
                out,
                "{}. All of them are in [windows.csv](windows.csv).\n",
                words::starts_by_verdict(planned)
            );
        }
        plot(out, planned, "load");
        put(out, tables::certified(planned));
        put(out, tables::capacity(planned));
    });
    section(&mut out, "Drain timeout", |out| {
        plot(out, planned, "drain-timeouts");
        put(out, tables::drain(planned));
        plot(out, planned, "drain-by-hour");
        if let Some(matching) = &planned.matching {
            let _ = writeln!(
                out,
                "No other time-out may cut a drain short. Each of these at least:\n\n```\n{}\n```\n",
                settings(matching)
            );
        }
    });
    section(&mut out, "How", |out| {
        put(out, tables::strategies(planned));
        plot(out, planned, "rollout");
    });
    section(&mut out, "Against today's way", |out| put(out, tables::today(planned)));
    section(&mut out, "What turns it red", |out| put(out, tables::sensitivity(planned)));
    section(&mut out, "What to watch meanwhile", |out| put(out, tables::bands(planned)));
    section(&mut out, "Assumptions, data, limits", |out| {
        points(out, "", &planned.warnings);
        for (name, value) in assumed(planned) {
            let _ = writeln!(out, "- **{name}**: {}", plain(&value));
        }
        out.push('\n');
    });
    section(&mut out, "See it again", |out| {
        if !context.command_line.is_empty() {
            let fenced = context.command_line.replace("```", "");
            let _ = writeln!(out, "```sh\n{fenced}\n```\n");
        }
        for (name, value) in provenance(planned) {
            let _ = writeln!(out, "- {}: {}", plain(&name), plain(&value));
        }
    });
    out
}

/// A section, left out when it would be empty.
fn section(out: &mut String, title: &str, fill: impl FnOnce(&mut String)) {
    let mut content = String::new();
    fill(&mut content);
    if !content.is_empty() {
        let _ = writeln!(out, "## {title}\n\n{}", content.trim_end());
        out.push('\n');
    }
}

fn points(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    if !title.is_empty() {
        let _ = writeln!(out, "{title}\n");
    }
    for line in lines {
        let _ = writeln!(out, "- {}", plain(line));
    }
    out.push('\n');
}

fn plot(out: &mut String, planned: &Planned, name: &str) {
    if let Some(plot) = PLAN_PLOTS.iter().find(|plot| plot.name == name && (plot.applies)(planned)) {
        let _ = writeln!(out, "![{}](plots/{name}.png)\n", plain(plot.caption));
    }
}

fn put(out: &mut String, table: Option<Table>) {
    let Some(Table { caption, head, rows, notes }) = table else { return };
    let _ = writeln!(out, "{}\n", plain(&caption));
    let line =
        |cells: &mut dyn Iterator<Item = String>| format!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "{}", line(&mut head.iter().map(|head| cell(head))));
    let _ = writeln!(
        out,
        "{}",
        line(&mut head.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "--:" }.to_owned()))
    );
    for row in &rows {
        let _ = writeln!(out, "{}", line(&mut row.iter().map(|text| cell(text))));
    }
    out.push('\n');
    points(out, "", &notes);
}

/// Text that stays text: no markup of its own, no new lines.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '\\' | '*' | '_' | '[' | ']' | '`' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The same within a table.
fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}
