//! The report as one HTML file: no network, no script, light and dark by the reader's setting, for a desk, a phone and paper.
//!
//! ```text
//! summary (what an operator forwards) -> phases -> plots -> moves -> faults -> assumptions and limits -> reproduce
//! ```
//!
//! Each plot is embedded twice, laid out wide and narrow, and shown by the width of the page; its colours are CSS variables, so light and
//! dark share one drawing. All text from the result is escaped.

mod details;
mod faults;
mod summary;
mod tables;

use std::fmt::Write as _;

use slackwater_sim::SimulationResult;

use crate::plots::{Form, PLOTS, Style, Theme, css_variables, themeable};
use crate::write::ReportContext;

/// The page.
#[must_use]
pub fn report(result: &SimulationResult, context: &ReportContext) -> String {
    let title = summary::title(result);
    let mut page = String::with_capacity(512 * 1024);
    head(&mut page, &title);
    summary::write(&mut page, result, &title);
    tables::phases(&mut page, result);
    figures(&mut page, result);
    tables::moves(&mut page, result);
    faults::write(&mut page, result);
    details::assumptions(&mut page, result);
    details::reproduce(&mut page, result, context);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Everything up to the page's content.
pub(crate) fn head(page: &mut String, title: &str) {
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escape(title),
        style()
    );
}

fn style() -> String {
    format!(
        ":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n{}",
        css_variables(Theme::Light),
        css_variables(Theme::Dark),
        include_str!("html/style.css")
    )
}

fn figures(page: &mut String, result: &SimulationResult) {
    page.push_str("<section>\n<h2>Over time</h2>\n");
    for plot in PLOTS {
        let _ = writeln!(page, "<figure id=\"{}\">", plot.name);
        for (class, form) in [("wide", Form::Wide), ("narrow", Form::Narrow)] {
            let svg = themeable(&(plot.draw)(result, Style { theme: Theme::Light, form }));
            let _ = writeln!(page, "<div class=\"{class}\">{svg}</div>");
        }
        let _ = write!(page, "<figcaption>{}</figcaption>\n</figure>\n", escape(plot.caption));
    }
    page.push_str("</section>\n");
}

/// Text as HTML and XML text, also within quotes. Control characters that XML 1.0 forbids become a replacement character.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// A table: heads, then rows; the first cell of a row is its head. `scope` and a scroll box make it usable on a phone.
pub(crate) fn table(
    page: &mut String,
    caption: &str,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let _ = write!(
        page,
        "<p class=\"caption\">{0}</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\">\n<table>\n<thead><tr>",
        escape(caption)
    );
    for cell in head {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(cell));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = if i == 0 {
                write!(page, "<th scope=\"row\">{cell}</th>")
            } else {
                write!(page, "<td>{cell}</td>")
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
}
