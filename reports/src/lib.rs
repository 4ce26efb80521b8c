//! Answers to things people read: a terminal table, one sentence, plots, CSV, one self-contained HTML file.
//!
//! ```text
//! SimulationResult ──┬─ verdict ── text (80 columns)
//!   (plain data)     ├─ plots ──── SVG ── PNG
//!                    ├─ tables ─── csv
//!                    └─ all of it ─ html ── write_report(dir)
//! Planned, TraceFigures, Validation, Compared: likewise, in `plan`, `trace`, `validation` and `actual`
//! ```
//!
//! Nothing is simulated or decided here: every number shown is in the result, or is a selection from it (the worst move, the share of a
//! sorted list). Times are seconds since the start of the traffic, as in the result; [`clock::Clock`] alone turns them into words.

pub mod actual;
pub mod clock;
pub mod csv;
mod facts;
pub mod format;
pub mod html;
pub mod plan;
pub mod plots;
pub mod silicon;
pub mod text;
pub mod trace;
pub mod validation;
mod verdict;
mod write;

pub use plan::{plan_text, write_plan_report};
pub use text::phase_table;
pub use verdict::{Standing, Verdict, verdict, verdict_sentence};
pub use write::{ReportContext, ReportError, write_report};
