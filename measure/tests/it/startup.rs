//! Restarts of what is no engine: the stand-in as a process is timed in the command's own tests.

use std::time::Duration;

use slackwater_exec::deployment::EngineKind;
use slackwater_exec::procfs;
use slackwater_measure::{RestartError, Restarts, time_restarts};

fn restarts(folder: &std::path::Path, command: &[&str]) -> Restarts {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Restarts {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        url: format!("http://127.0.0.1:{port}"),
        engine: EngineKind::Vllm,
        times: 3,
        warm_up: 0,
        within: Duration::from_secs(1),
        grace: Duration::from_secs(2),
        folder: folder.to_owned(),
    }
}

fn left_over(mark: &str) -> bool {
    procfs::pids()
        .into_iter()
        .any(|pid| procfs::arguments(pid).iter().any(|argument| argument.contains(mark)))
}

#[tokio::test]
async fn one_that_does_not_come_up_is_an_error_with_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let dies = restarts(folder.path(), &["sh", "-c", "echo {loading}; echo CUDA out of memory >&2; exit 1"]);
    let error = time_restarts(&dies, std::future::pending(), &|_| {}).await.unwrap_err().to_string();
    assert!(
        error.contains("start 1: it ended") && error.contains("{loading}\n  CUDA out of memory"),
        "{error}"
    );

    let hangs = restarts(folder.path(), &["sh", "-c", "echo waiting; sleep 86401"]);
    let error = time_restarts(&hangs, std::future::pending(), &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("not healthy after") && error.contains("waiting"), "{error}");
    assert!(!error.contains("out of memory"), "the end of this start alone: {error}");
    assert!(!left_over("86401"), "nothing stays");
}

#[tokio::test]
async fn an_interruption_leaves_no_process_and_what_runs_already_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut hangs = restarts(folder.path(), &["sh", "-c", "sleep 86402"]);
    hangs.within = Duration::from_secs(60);
    let soon = tokio::time::sleep(Duration::from_millis(300));
    let error = time_restarts(&hangs, soon, &|_| {}).await.unwrap_err();
    assert!(matches!(error, RestartError::Interrupted { number: 1 }), "{error}");
    assert!(!left_over("86402"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Restarts { url: format!("http://{}", listener.local_addr().unwrap()), ..hangs };
    let error = time_restarts(&taken, std::future::pending(), &|_| {}).await.unwrap_err();
    assert!(matches!(error, RestartError::Occupied { pid, .. } if pid == std::process::id()), "{error}");

    let missing = restarts(folder.path(), &["/no/such/engine"]);
    let error = time_restarts(&missing, std::future::pending(), &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/engine"), "{error}");
}
