//! A result as a folder of files.

use std::path::{Path, PathBuf};

use slackwater_sim::SimulationResult;
use thiserror::Error;

use crate::plots::{PLOTS, PngError, Style, Theme, png};
use crate::{csv, html};

/// What a report says beyond the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportContext {
    /// The command that makes it again, as it can be pasted.
    pub command_line: String,
}

/// A report that could not be written. All are fatal to the report; the result itself is unharmed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder could not be made.
    #[error("cannot make the folder {path}: {source}; name a folder that can be written to with --out")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(
        "cannot write {path}: {source}; check free space and permissions, or name another folder with --out"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The result has no JSON form.
    #[error(
        "cannot write {path}: the result has no JSON form ({source}); please report this with the scenario"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A table has no CSV form.
    #[error("cannot write {path}: {source}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::CsvError,
    },
    /// A plot has no PNG form.
    #[error("cannot write {path}: {source}")]
    Png {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PngError,
    },
}

/// Writes `report.html`, `result.json`, `phases.csv`, `series.csv`, and each plot as SVG and PNG (light), SVG (dark), into a folder that
/// is made if need be. Files of the same names are replaced. Returns what was written, the HTML file first.
///
/// # Errors
/// Names the path that could not be written, and what to do.
pub fn write_report(
    dir: &Path,
    result: &SimulationResult,
    context: &ReportContext,
) -> Result<Vec<PathBuf>, ReportError> {
    let plots = dir.join("plots");
    std::fs::create_dir_all(&plots).map_err(|source| ReportError::Folder { path: plots.clone(), source })?;
    let mut written = Vec::new();
    let mut write = |path: PathBuf, bytes: &[u8]| -> Result<(), ReportError> {
        match std::fs::write(&path, bytes) {
            Ok(()) => written.push(path),
            Err(source) => return Err(ReportError::File { path, source }),
        }
        Ok(())
    };

    write(dir.join("report.html"), html::report(result, context).as_bytes())?;
    let path = dir.join("result.json");
    let mut json = serde_json::to_vec_pretty(result)
        .map_err(|source| ReportError::Json { path: path.clone(), source })?;
    json.push(b'\n');
    write(path, &json)?;
    for (name, text) in [("phases.csv", csv::phases(result)), ("series.csv", csv::series(result))] {
        let path = dir.join(name);
        let text = text.map_err(|source| ReportError::Csv { path: path.clone(), source })?;
        write(path, text.as_bytes())?;
    }
    for plot in PLOTS {
        let light = (plot.draw)(result, Style::default());
        let path = plots.join(format!("{}.png", plot.name));
        let image = png(&light).map_err(|source| ReportError::Png { path: path.clone(), source })?;
        write(path, &image)?;
        write(plots.join(format!("{}.svg", plot.name)), light.as_bytes())?;
        let dark = (plot.draw)(result, Theme::Dark.into());
        write(plots.join(format!("{}-dark.svg", plot.name)), dark.as_bytes())?;
    }
    Ok(written)
}
