//! A plan for people: what an operator forwards, then what stands behind it.
//!
//! ```text
//!          ┌─ brief (the first screen, as data) ─┬─ text (80 columns)
//! Planned ─┼─ tables (heads and rows)           ─┼─ markdown ─┬─ write_plan_report(dir)
//!          ├─ plots ── SVG ── PNG               ─┴─ page ─────┤
//!          └─ csv (a row for each start) ─────────────────────┘
//! ```
//!
//! As everywhere in this crate nothing is computed: every number is in `plan.json`, or is a selection from it (the most telling rows, the
//! hour of the start). Chances and their bounds are rounded up.

mod brief;
mod csv;
mod markdown;
mod page;
mod plots;
mod tables;
mod text;
mod week;
mod when;
mod words;

use std::path::{Path, PathBuf};

use slackwater_planner::planned::Planned;

pub use csv::windows;
pub use markdown::plan_markdown;
pub use page::plan_page;
pub use plots::{PLAN_PLOTS, PlanPlot};
pub use text::plan_text;

use crate::plots::{Style, Theme, png};
use crate::write::{ReportContext, ReportError};

/// Writes `report.html`, `report.md`, `windows.csv`, and each plot as SVG and PNG (light), SVG (dark), into a folder that is made if need
/// be. Files of the same names are replaced. Returns what was written, the page first.
///
/// # Errors
/// Names the path that could not be written, and what to do.
pub fn write_plan_report(
    dir: &Path,
    planned: &Planned,
    context: &ReportContext,
) -> Result<Vec<PathBuf>, ReportError> {
    let folder = dir.join("plots");
    std::fs::create_dir_all(&folder)
        .map_err(|source| ReportError::Folder { path: folder.clone(), source })?;
    let mut written = Vec::new();
    let mut write = |path: PathBuf, bytes: &[u8]| match std::fs::write(&path, bytes) {
        Ok(()) => {
            written.push(path);
            Ok(())
        }
        Err(source) => Err(ReportError::File { path, source }),
    };
    write(dir.join("report.html"), plan_page(planned, context).as_bytes())?;
    write(dir.join("report.md"), plan_markdown(planned, context).as_bytes())?;
    let path = dir.join("windows.csv");
    let rows = windows(planned).map_err(|source| ReportError::Csv { path: path.clone(), source })?;
    write(path, rows.as_bytes())?;
    // Those with nothing to show are written too: a drawing of an earlier plan must not be taken for this one's.
    for plot in PLAN_PLOTS {
        let light = (plot.draw)(planned, Style::default());
        let path = folder.join(format!("{}.png", plot.name));
        let image = png(&light).map_err(|source| ReportError::Png { path: path.clone(), source })?;
        write(path, &image)?;
        write(folder.join(format!("{}.svg", plot.name)), light.as_bytes())?;
        let dark = (plot.draw)(planned, Theme::Dark.into());
        write(folder.join(format!("{}-dark.svg", plot.name)), dark.as_bytes())?;
    }
    Ok(written)
}
