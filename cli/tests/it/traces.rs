//! `slackwater trace`: what it prints and writes, and what it refuses.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::mistakes::refused;
use crate::{number, slackwater, stderr, stdout};

const TRAFFIC: &str =
    "seed = 4\n[traffic.generate]\nduration = \"2h\"\nrate_per_s = 2\narrivals = { gamma_cv = 1.5 }\n";

/// A folder that goes away with it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn with(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).expect("a temporary file");
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a temporary folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn worked(arguments: &[&str]) -> (String, String) {
    let output = slackwater(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    (stdout(&output), stderr(&output))
}

fn narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

fn real(name: &str) -> Option<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces").join(name);
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    Some(path.display().to_string())
}

#[test]
fn a_generated_trace_is_what_it_was_drawn_as() {
    let folder = Folder::new();
    let toml = folder.with("traffic.toml", TRAFFIC);
    let trace = folder.path("a-rather-long-name-of-a-trace-that-nobody-would-choose.csv.gz");
    let (out, talk) = worked(&["trace", "generate", &toml, "-o", &trace]);
    assert!(out.is_empty() && talk.contains("requests written"), "{out}{talk}");

    let (text, _) = worked(&["trace", "inspect", &trace, "--against", &toml]);
    narrow(&text);
    for wanted in
        ["azure-csv", "busiest 10 min", "their rank correlation", "dispersion 1 s", "Kolmogorov-Smirnov"]
    {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let (json, _) = worked(&["trace", "inspect", &trace, "--against", &toml, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON and nothing else");
    // Times are kept to 100 ns; the stretch before the first request is not.
    assert!(number(&json, "comparison.input_distance").abs() < 1e-12);
    assert!((number(&json, "arrivals.cv") - number(&json, "against.arrivals.cv")).abs() < 1e-3);
    assert!((number(&json, "arrivals.cv") - 1.5).abs() < 0.1);
    assert!((number(&json, "rate.mean_per_s") - 2.0).abs() < 0.1);
    assert_eq!(number(&json, "requests"), number(&json, "import.rows"));
}

#[test]
fn conversion_there_and_back_loses_nothing_but_what_it_says() {
    let folder = Folder::new();
    let rows = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n";
    let azure = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}");
    let from = folder.with("azure.csv", &azure);
    let between = folder.path("mooncake.jsonl");
    let (_, talk) = worked(&["trace", "convert", &from, "--to", "mooncake-jsonl", "-o", &between]);
    assert!(talk.contains("lost: the calendar; time 0 was 2023-11-16T18:15:46.68059Z"), "{talk}");
    let (back, _) =
        worked(&["trace", "convert", &between, "--to", "azure-csv", "--start", "2023-11-16T18:15:46.68059Z"]);
    assert_eq!(back, azure);

    let hashed = "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [4, 9]}\n";
    let hashed = folder.with("hashed.jsonl", hashed);
    let (same, _) = worked(&["trace", "convert", &hashed, "--to", "mooncake-jsonl"]);
    assert_eq!(same, fs::read_to_string(&hashed).expect("it was written"));
    let start = ["--start", "2026-01-05T00:00:00Z"];
    let (_, talk) = worked(&[&["trace", "convert", &hashed, "--to", "azure-csv"][..], &start].concat());
    assert!(talk.contains("lost: the hash_ids of 1 request,"), "{talk}");
}

#[test]
fn a_fit_resembles_its_trace_and_can_be_drawn() {
    let folder = Folder::new();
    let toml = folder.with("traffic.toml", TRAFFIC);
    let (fitted, talk) = worked(&["trace", "fit", &toml]);
    narrow(&talk);
    assert!(talk.contains("shorter than a day") && talk.contains("a sample of the fit"), "{talk}");
    let fitted = folder.with("fitted.toml", &fitted);
    let (json, _) = worked(&["trace", "inspect", &fitted, "--against", &toml, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON and nothing else");
    // Two samples of 14,400: the 99.9 % bound of their distance is 0.023.
    assert!(number(&json, "comparison.input_distance") < 0.023, "{}", json["comparison"]);
    assert!(number(&json, "comparison.output_distance") < 0.023, "{}", json["comparison"]);
    assert!((number(&json, "comparison.cv.here") - number(&json, "comparison.cv.there")).abs() < 0.1);
}

#[test]
fn the_folder_holds_a_page_and_its_plots() {
    let folder = Folder::new();
    let toml = folder.with("traffic.toml", &TRAFFIC.replace("2h", "26h").replace("= 2\n", "= 0.2\n"));
    worked(&["trace", "inspect", &toml, "--out", &folder.path("out")]);
    let file = |name: &str| fs::read_to_string(folder.0.path().join("out").join(name)).expect(name);
    let page = file("trace.html");
    assert!(page.contains("Day and week") && page.ends_with("</html>\n"), "{}", page.len());
    let json: serde_json::Value = serde_json::from_str(&file("trace.json")).expect("JSON");
    assert!(number(&json, "requests") > 10_000.0);
    for plot in ["rate", "rate-dark", "lengths", "week"] {
        let drawing = file(&format!("plots/{plot}.svg"));
        assert!(drawing.starts_with("<svg") && !drawing.contains("NaN"), "{plot}");
    }
}

#[test]
fn wrong_arguments_say_what_would_be_right() {
    let folder = Folder::new();
    let lines = "{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 5}\n";
    let trace = folder.with("trace.jsonl", lines);
    let out = folder.path("out.csv");
    refused(&["trace"], 2);
    refused(&["trace", "inspect"], 2);
    refused(&["trace", "convert", &trace, "--to", "parquet"], 2);
    let message = refused(&["trace", "inspect", &trace, "--format", "csv"], 2);
    assert!(message.contains("azure-csv") && message.contains("mooncake-jsonl"), "{message}");
    let message = refused(&["trace", "inspect", "no-such.csv"], 1);
    assert!(message.contains("no-such.csv"), "{message}");
    let message = refused(&["trace", "convert", &trace, "--to", "azure-csv", "-o", &out], 1);
    assert!(message.contains("--start"), "{message}");
    let start = ["--start", "2026-01-05T00:00:00Z"];
    let message = refused(&[&["trace", "convert", &trace, "--to", "mooncake-jsonl"][..], &start].concat(), 1);
    assert!(message.contains("no calendar"), "{message}");
    let message = refused(&["trace", "convert", &trace, "--to", "mooncake-jsonl", "-o", &trace], 1);
    assert!(message.contains("over itself"), "{message}");
    let message = refused(&["trace", "convert", &trace, "--to", "mooncake-jsonl", "-o", &folder.path("")], 1);
    assert!(message.contains("is a folder"), "{message}");
    let message = refused(&["trace", "fit", &trace], 1);
    assert!(message.contains("too few to fit"), "{message}");
    let toml = folder.with("traffic.toml", TRAFFIC);
    let message = refused(&["trace", "generate", &toml, "-o", &folder.path("trace.txt")], 1);
    assert!(message.contains("--to"), "{message}");
    let replay = folder.with("replay.toml", "[traffic]\nfile = \"trace.jsonl\"\n");
    let message = refused(&["trace", "generate", &replay, "-o", &out], 1);
    assert!(message.contains("replays a file"), "{message}");
    let wrong = folder.with("wrong.toml", "[traffic.generate]\nduration = \"1h\"\nrate_per_sec = 1\n");
    let message = refused(&["trace", "generate", &wrong, "-o", &out], 1);
    assert!(message.contains("wrong.toml:3") && message.contains("rate_per_s"), "{message}");
    assert_eq!(
        folder.names(),
        ["replay.toml", "trace.jsonl", "traffic.toml", "wrong.toml"],
        "nothing was written"
    );
}

#[test]
fn broken_files_are_named_and_leave_nothing_behind() {
    let folder = Folder::new();
    let head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    let cut = folder.with("cut.csv", &format!("{head}2023-11-16 18:15:46,374,44\n2023-11-16 18:15"));
    let out = folder.path("out.jsonl");
    for command in [
        &["inspect", cut.as_str()][..],
        &["convert", &cut, "--to", "mooncake-jsonl", "-o", &out],
        &["fit", &cut],
    ] {
        let message = refused(&[&["trace"][..], command].concat(), 1);
        assert!(message.contains("cut.csv") && message.contains("row 3"), "{message}");
    }
    let message = refused(&["trace", "inspect", &folder.with("empty.csv", "")], 1);
    assert!(message.contains("empty"), "{message}");
    let swapped = format!("{head}2023-11-16 18:15:46,3,4\n2023-11-16 18:15:40,5,6\n");
    let swapped = folder.with("swapped.csv", &swapped);
    refused(&["trace", "inspect", &swapped], 1);
    let (text, _) = worked(&["trace", "inspect", &swapped, "--sort"]);
    assert!(text.contains("1 rows were out of order"), "{text}");
    let failed = format!("{head}2023-11-16 18:15:46,3,4\n2023-11-16 18:15:47,5,0\n");
    let (text, _) = worked(&["trace", "inspect", &folder.with("failed.csv", &failed)]);
    assert!(text.contains("1 request in 0 s, of 2 rows") && text.contains("no output tokens"), "{text}");
    assert!(!folder.names().iter().any(|name| name.starts_with("out")), "{:?}", folder.names());
}

/// Traffic of more requests than a pipe or a second holds.
fn long(folder: &Folder) -> String {
    folder.with("long.toml", &TRAFFIC.replace("2h", "100d").replace("= 2\n", "= 50\n"))
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let toml = folder.with("traffic.toml", &TRAFFIC.replace("= 2\n", "= 10\n"));
    let trace = folder.path("trace.jsonl");
    worked(&["trace", "generate", &toml, "-o", &trace]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args(["trace", "convert", &trace, "--to", "mooncake-jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    reader.read_line(&mut first).expect("a line");
    assert!(first.starts_with("{\"timestamp\": 0,"), "{first}");
    drop(reader);
    let mut talk = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut talk).expect("text");
    assert!(child.wait().expect("it ends").success() && talk.is_empty(), "{talk}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_written_to_and_stays_one() {
    use std::os::unix::fs::FileTypeExt;

    let folder = Folder::new();
    let pipe = folder.path("pipe.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let toml = folder.with("traffic.toml", TRAFFIC);
    let reading = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).expect("text")
    });
    worked(&["trace", "generate", &toml, "-o", &pipe]);
    assert!(reading.join().expect("no panic").starts_with("TIMESTAMP,"));
    assert!(fs::metadata(&pipe).expect("it is there").file_type().is_fifo());
}

#[cfg(unix)]
#[test]
fn interrupted_it_leaves_no_file_that_looks_whole() {
    use std::os::unix::process::ExitStatusExt;

    let folder = Folder::new();
    let (toml, out) = (long(&folder), folder.path("out.csv"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_slackwater"))
        .args(["trace", "generate", &toml, "-o", &out])
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary was built for this test");
    let began = Instant::now();
    while fs::metadata(folder.path("out.csv.part")).map_or(0, |part| part.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never began to write");
        std::thread::sleep(Duration::from_millis(10));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
    assert_eq!(child.wait().expect("it ends").signal(), Some(2));
    assert!(!Path::new(&out).exists());
}

#[test]
fn the_real_traces_are_inspected_and_fitted() {
    for name in ["azure2023_conv.csv.gz", "azure2023_code.csv.gz", "mooncake_conversation_trace.jsonl.gz"] {
        let Some(path) = real(name) else { continue };
        let (text, _) = worked(&["trace", "inspect", &path]);
        narrow(&text);
        let (fitted, talk) = worked(&["trace", "fit", &path]);
        narrow(&talk);
        assert!(fitted.starts_with("[traffic.generate]\n"), "{fitted}");
        if name.starts_with("mooncake") {
            assert!(text.contains("prefixes: 37.3") && text.contains("quantised"), "{text}");
            assert!(talk.contains("generated requests share nothing"), "{talk}");
        }
    }
}
