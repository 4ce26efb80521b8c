//! The live view of a run: plain lines; on a terminal a table below them.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use slackwater_exec::control::Snapshot;
use slackwater_exec::driver::View;
use slackwater_exec::say::Sayer;
use slackwater_policy::{Record, Rollout, VersionRef};

const REDRAWN_EVERY: Duration = Duration::from_millis(500);

/// Lines to standard output, and a table where that is a terminal.
pub(crate) struct Lines {
    terminal: bool,
    sayer: Sayer,
    drawn: usize,
    last: Option<Instant>,
}

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines { terminal: io::stdout().is_terminal(), sayer: Sayer::default(), drawn: 0, last: None }
    }

    fn line(&mut self, text: &str) {
        let erase = self.erase();
        // A terminal that is gone is no reason to end a rollout.
        let _ = writeln!(io::stdout().lock(), "{erase}{text}");
        let _ = io::stdout().lock().flush();
    }

    /// What takes the table away again.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

impl View for Lines {
    fn record(&mut self, record: &Record, rollout: &Rollout) {
        if let Some(line) = self.sayer.line(record, rollout.plan()) {
            let at = record.at.to_string();
            // The time of day is enough on a screen; the log has the date.
            let at = at.split_once('T').map_or(at.as_str(), |(_, time)| time.get(..8).unwrap_or(time));
            self.line(&format!("{at} {line}"));
        }
    }

    fn say(&mut self, text: &str) {
        self.line(text);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        if !self.terminal || self.last.is_some_and(|last| last.elapsed() < REDRAWN_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let erase = self.erase();
        let table = table(snapshot);
        self.drawn = table.lines().count();
        let _ = write!(io::stdout().lock(), "{erase}{table}");
        let _ = io::stdout().lock().flush();
    }
}

/// How a rollout stands, as text.
pub(crate) fn table(snapshot: &Snapshot) -> String {
    let name = |version: VersionRef| match version {
        VersionRef::From => snapshot.from.as_str(),
        VersionRef::To => snapshot.to.as_str(),
    };
    let rows: Vec<[String; 6]> = snapshot
        .status
        .replicas
        .iter()
        .enumerate()
        .map(|(index, replica)| {
            let in_flight = snapshot.in_flight.get(index).copied().flatten();
            let until = replica.until.map_or(String::new(), |until| until.since(snapshot.now).to_string());
            [
                replica.name.clone(),
                format!("{:?}", replica.state),
                replica.running.map_or("?".to_owned(), |version| name(version).to_owned()),
                in_flight.map_or("–".to_owned(), |count| count.to_string()),
                replica.step.map_or(String::new(), |step| format!("{step:?}")),
                match (&replica.trouble, until.is_empty()) {
                    (Some(trouble), _) => trouble.clone(),
                    (None, false) => format!("at most {until} more"),
                    (None, true) => String::new(),
                },
            ]
        })
        .collect();
    let head = ["replica", "state", "runs", "in-flight", "step", ""].map(str::to_owned);
    let widths: Vec<usize> = (0..6)
        .map(|column| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text =
        format!("rollout {}: {} to {}: {}\n", snapshot.rollout, snapshot.from, snapshot.to, snapshot.says);
    for row in [&head].into_iter().chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(&live(snapshot));
    text
}

fn live(snapshot: &Snapshot) -> String {
    let live = &snapshot.live;
    let mut words = vec![format!("{} of {} serve", snapshot.status.serving, snapshot.status.replicas.len())];
    if let Some(rate) = live.rate.or(snapshot.status.load) {
        words.push(format!("{rate:.1} requests/s"));
    }
    if let Some(ttft) = live.ttft {
        words.push(format!("TTFT p50 {:.2} s, p99 {:.2} s", ttft.p50, ttft.p99));
    }
    if let Some(tpot) = live.tpot {
        words.push(format!("TPOT p50 {:.1} ms, p99 {:.1} ms", tpot.p50 * 1e3, tpot.p99 * 1e3));
    }
    if let Some(errors) = live.error_rate {
        words.push(format!("{:.2} % errors", errors * 100.0));
    }
    for guard in &snapshot.guards {
        words.push(format!("guard: {:?} at most {} for {}", guard.figure, guard.limit, guard.sustained));
    }
    format!("{}\n", words.join("; "))
}
