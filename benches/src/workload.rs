//! What the benchmarks simulate: four A100-class replicas, and Azure's 2023 conversation trace or drawn traffic.

use std::path::PathBuf;
use std::sync::{Arc, Once};

use slackwater_scenarios::traffic::SharedTrace;
use slackwater_scenarios::{Scenario, Scheduling};

/// The fleet of `scenarios/catalog/four-gpu-chat.toml`, spelt out so that the catalog may change freely. The drawn
/// traffic is that file's too.
const SCENARIO: &str = r#"
name = "benchmark"
seed = 1

[fleet]
replicas = 4

[from]
name = "v1"
engine = "a100-llama-3.1-8b"

[to]
name = "v2"

[traffic.generate]
duration = "1h"
rate_per_s = 5.5
"#;

/// Which traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The hour of the trace (19,366 requests), so many times over. Without the file: drawn traffic of that length.
    Trace {
        /// How many times.
        repeat: u32,
    },
    /// Five drawn minutes, for the tests.
    Tiny,
}

impl Source {
    /// Its name in the file of recorded hashes.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Source::Trace { repeat } if trace_file().is_some() => format!("azure2023-conv-x{repeat}"),
            Source::Trace { repeat } => format!("drawn-{repeat}h"),
            Source::Tiny => "tiny".to_owned(),
        }
    }

    /// Four replicas that meet this traffic.
    ///
    /// # Panics
    /// When the scenario below is wrong.
    #[must_use]
    pub fn scenario(self, scheduling: Scheduling) -> Scenario {
        self.scenario_with(scheduling, false, &[])
    }

    /// The same with overrides (`key.path=value`); `drawn` leaves the trace alone.
    ///
    /// # Panics
    /// When the scenario below or an override is wrong.
    #[must_use]
    pub fn scenario_with(self, scheduling: Scheduling, drawn: bool, overrides: &[&str]) -> Scenario {
        let parsed = Scenario::parse_with(SCENARIO, "the benchmark's scenario", overrides);
        let mut scenario = parsed.unwrap_or_else(|error| panic!("{error}"));
        scenario.from.engine.scheduling = scheduling;
        scenario.to.engine.scheduling = scheduling;
        let traffic = &mut scenario.traffic;
        let minutes = match self {
            Source::Trace { repeat } => match trace_file() {
                Some(file) if !drawn => {
                    traffic.file = Some(file);
                    traffic.generate = None;
                    traffic.repeat = repeat;
                    return scenario;
                }
                _ => u64::from(repeat) * 60,
            },
            Source::Tiny => 5,
        };
        if let Some(generate) = &mut traffic.generate {
            generate.duration = slackwater_scenarios::HumanDuration::from_secs(minutes * 60);
        }
        scenario
    }

    /// The traffic in memory.
    ///
    /// # Panics
    /// When the trace can't be read.
    #[must_use]
    pub fn load(self) -> Arc<SharedTrace> {
        let trace = self.scenario(Scheduling::Sync).load_traffic();
        Arc::new(trace.unwrap_or_else(|error| panic!("{error:?}")))
    }
}

/// Where the trace lies, if it does: `SLACKWATER_TRACE`, or `../shared/data/traces` beside the repository.
#[must_use]
pub fn trace_file() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces/azure2023_conv.csv.gz");
    let path = std::env::var_os("SLACKWATER_TRACE").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    path.exists().then_some(path)
}

/// Says once, on standard error, when the benchmarks do without the trace.
#[allow(clippy::print_stderr)]
pub fn announce() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        eprintln!("{}", crate::clock::machine());
        if trace_file().is_none() {
            eprintln!(
                "The trace azure2023_conv.csv.gz is not there (SLACKWATER_TRACE, or ../shared/data/traces/): using drawn \
                 traffic of the same rate and lengths instead. Figures are then not those of README.md."
            );
        }
    });
}
