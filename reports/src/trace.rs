//! What a trace is like: for a terminal, as plots, as one page.
//!
//! ```text
//! TraceFigures, Comparison ──┬─ text (80 columns)
//!                            ├─ plots ─ SVG
//!                            └─ page ── write_trace_report(dir)
//! ```

mod page;
mod plots;
mod text;

use std::path::{Path, PathBuf};

use slackwater_scenarios::traffic::statistics::{Comparison, Pair, TraceFigures};

pub use page::trace_page;
pub use text::{comparison_text, trace_text};

use crate::format::{NONE, figure};
use crate::plots::{Style, Theme};
use crate::write::{ReportContext, ReportError};

/// What a trace is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// Its own figures.
    pub figures: &'a TraceFigures,
    /// How far the trace is from it.
    pub comparison: &'a Comparison,
}

/// Writes `trace.html` and each plot as SVG, light and dark, into a folder that is made if need be. `json` is written as
/// `trace.json`. Files of the same names are replaced. Returns what was written, the page first.
///
/// # Errors
/// Names the path that could not be written, and what to do.
pub fn write_trace_report(
    dir: &Path,
    figures: &TraceFigures,
    against: Option<Against<'_>>,
    json: &str,
    context: &ReportContext,
) -> Result<Vec<PathBuf>, ReportError> {
    let folder = dir.join("plots");
    std::fs::create_dir_all(&folder)
        .map_err(|source| ReportError::Folder { path: folder.clone(), source })?;
    let mut written = Vec::new();
    let mut write = |path: PathBuf, text: &str| match std::fs::write(&path, text) {
        Ok(()) => {
            written.push(path);
            Ok(())
        }
        Err(source) => Err(ReportError::File { path, source }),
    };
    write(dir.join("trace.html"), &trace_page(figures, against, context))?;
    write(dir.join("trace.json"), json)?;
    for plot in plots::applicable(figures) {
        for (theme, ending) in [(Theme::Light, ""), (Theme::Dark, "-dark")] {
            let drawing = (plot.draw)(figures, against, Style::from(theme));
            write(folder.join(format!("{}{ending}.svg", plot.name)), &drawing)?;
        }
    }
    Ok(written)
}

/// The last part of a path, cut to a length.
fn file_name(source: &str, most: usize) -> String {
    let name = Path::new(source).file_name().map_or(source.into(), |name| name.to_string_lossy());
    let name: String = name.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    if name.chars().count() <= most {
        return name;
    }
    let kept: String = name.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A figure, two decimals where there are any: a column of them is compared by eye.
fn ratio(value: Option<f64>) -> String {
    value.map_or_else(
        || NONE.to_owned(),
        |value| match value {
            // A correlation of almost nothing has no sign.
            v if v.abs() < 0.005 => "0.00".to_owned(),
            v if v < 9.995 => format!("{v:.2}"),
            v => figure(v),
        },
    )
}

/// The rows of a comparison in which both have a figure of their own.
fn pairs(comparison: &Comparison) -> [(&'static str, Pair); 6] {
    [
        ("requests a second", comparison.rate_per_s),
        ("CV of gaps", comparison.cv),
        ("dispersion in 1 s", comparison.dispersion_1s),
        ("dispersion in 10 s", comparison.dispersion_10s),
        ("dispersion in 60 s", comparison.dispersion_60s),
        ("rank correlation of lengths", comparison.rank_correlation),
    ]
}

/// The distances of a comparison, and what each is of.
fn distances(comparison: &Comparison) -> [(&'static str, Option<f64>); 3] {
    [
        ("prompt lengths, Kolmogorov-Smirnov", Some(comparison.input_distance)),
        ("output lengths, Kolmogorov-Smirnov", Some(comparison.output_distance)),
        ("shape of the day, total variation", comparison.hourly_distance),
    ]
}
