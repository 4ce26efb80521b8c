//! The answer of a plan: a page, a text, tables.

mod text;

pub use text::plan_text;
