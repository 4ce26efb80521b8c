//! The renderers on whole results: believable, hurt, degenerate and hostile ones.

mod hostile;
mod made_up;
mod made_up_plan;
mod plans;
mod plots;
mod tables;
mod traces;
mod verdicts;
mod writing;

use std::sync::LazyLock;

use made_up::Wish;
use slackwater_sim::SimulationResult;

/// The four-replica hour, made once.
static FOUR: LazyLock<SimulationResult> = LazyLock::new(|| made_up::result(&Wish::default()));

/// The policy's fold of a journal in which nothing happened.
fn policy_report<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_str(
        r#"{"outcome":null,"started_at":null,"ended_at":null,"last_at":null,"moves":[],"time_below_n":0,
            "serving_min":0,"holds":[],"cut":0,"notes":[]}"#,
    )
    .expect("an empty report")
}

/// A short run, for tests of shape.
fn short() -> SimulationResult {
    made_up::result(&Wish { span_s: 900.0, start_s: Some(200.0), ..Wish::default() })
}

/// A page as XML: all this crate writes is well-formed beyond what HTML asks.
fn parse_page(html: &str) -> roxmltree::Document<'_> {
    let body = html.strip_prefix("<!doctype html>\n").expect("a doctype");
    roxmltree::Document::parse(body).expect("well-formed")
}
