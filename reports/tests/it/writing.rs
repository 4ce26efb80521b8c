//! A report as files.

use slackwater_reports::{ReportContext, write_report};
use slackwater_sim::SimulationResult;

use crate::short;

#[test]
fn everything_is_written_and_the_result_reads_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("new/report");
    let result = short();
    let written = write_report(&out, &result, &ReportContext::default()).expect("written");
    assert_eq!(written[0], out.join("report.html"));
    assert_eq!(written.len(), 4 + 5 * 3);
    assert!(written.iter().all(|p| std::fs::metadata(p).is_ok_and(|m| m.len() > 200)));
    let json = std::fs::read(out.join("result.json")).expect("result.json");
    let back: SimulationResult = serde_json::from_slice(&json).expect("the same schema");
    assert_eq!(back.hash, result.hash);
    assert_eq!(back.phases.len(), result.phases.len());
}

#[test]
fn an_error_names_the_path_and_the_remedy() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("taken");
    std::fs::write(&file, "a file, not a folder").expect("written");
    let error =
        write_report(&file, &short(), &ReportContext::default()).expect_err("not a folder").to_string();
    assert!(error.contains("taken") && error.contains("--out"), "{error}");
}
