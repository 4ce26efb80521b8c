//! What engines print of the phases of their start.
//!
//! vLLM (0.6 to 0.33; `default_loader.py`, `gpu_model_runner.py`, `monitor.py`, `core.py`), SGLang (0.4 to 0.5; `model_runner.py`), and
//! Slackwater's stand-in. Phases overlap: vLLM's `engine` contains `compile` and `graphs`, its `model` contains `weights`.

use serde::Serialize;

/// One phase of one start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StartPhase {
    /// What is done: `weights`, `model`, `compile`, `graphs`, `engine`, or the stand-in's own name.
    pub name: String,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// A phase's name, what stands before its time, and what stands between the two.
const WORDS: [(&str, &str, &str); 10] = [
    ("weights", "Loading weights took ", ""),
    ("model", "Model loading took ", " and "),
    ("compile", "torch.compile takes ", ""),
    ("compile", "torch.compile took ", ""),
    ("graphs", "Graph capturing finished in ", ""),
    ("engine", "init engine (profile, create kv cache, warmup model) took ", ""),
    ("engine", "init engine took ", ""),
    ("weights", "Load weight end. elapsed=", ""),
    ("graphs", "Capture cuda graph end. Time elapsed: ", ""),
    ("graphs", "Capture target decode CUDA graph end. elapsed=", ""),
];

/// The phases that a log tells, in the order of their first mention. Ranks of one engine each print theirs: the slowest counts.
#[must_use]
pub fn start_phases(log: &str) -> Vec<StartPhase> {
    let mut phases: Vec<StartPhase> = Vec::new();
    for (name, seconds) in log.lines().filter_map(phase) {
        match phases.iter_mut().find(|phase| phase.name == name) {
            Some(known) => known.seconds = known.seconds.max(seconds),
            None => phases.push(StartPhase { name, seconds }),
        }
    }
    phases
}

fn phase(line: &str) -> Option<(String, f64)> {
    for (name, before, between) in WORDS {
        let Some((_, after)) = line.split_once(before) else { continue };
        let after = if between.is_empty() { after } else { after.split_once(between)?.1 };
        return Some((name.to_owned(), number(after)?));
    }
    // The stand-in says how long a phase will take: `loading: weights, 1.5s`.
    let (name, length) = line.strip_prefix("loading: ")?.rsplit_once(", ")?;
    let (scale, text) = match length.strip_suffix("ms") {
        Some(text) => (1e-3, text),
        None => (1.0, length.strip_suffix('s')?),
    };
    Some((name.to_owned(), scale * text.parse::<f64>().ok()?))
}

/// The number at the beginning.
fn number(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &str) -> Vec<(String, f64)> {
        start_phases(log).into_iter().map(|phase| (phase.name, phase.seconds)).collect()
    }

    #[test]
    fn engines_are_understood_old_and_new() {
        let older = "INFO 06-19 23:05:01 [loader.py:447] Loading weights took 0.69 seconds\n\
                     INFO 06-19 23:05:01 [gpu_model_runner.py:1273] Model loading took 3.4213 GiB and 0.902026 seconds\n\
                     INFO 06-19 23:05:18 [monitor.py:33] torch.compile takes 7.51 s in total\n\
                     INFO 06-19 23:05:35 [gpu_model_runner.py:1608] Graph capturing finished in 17 secs, took 0.48 GiB\n\
                     INFO 06-19 23:05:35 [core.py:162] init engine (profile, create kv cache, warmup model) took 34.11 seconds\n";
        let expected =
            [("weights", 0.69), ("model", 0.902_026), ("compile", 7.51), ("graphs", 17.0), ("engine", 34.11)];
        assert_eq!(told(older), expected.map(|(name, seconds)| (name.to_owned(), seconds)));
        let newer = "(Worker_TP0 pid=1) INFO [gpu_model_runner.py:4879] Model loading took 12.66 GiB memory and 31.657031 seconds\n\
                     (Worker_TP1 pid=2) INFO [gpu_model_runner.py:4879] Model loading took 12.66 GiB memory and 33.5 seconds\n\
                     (EngineCore pid=3) INFO [monitor.py:34] torch.compile took 104.04 s in total\n\
                     (EngineCore pid=3) INFO [core.py:355] init engine (profile, create kv cache, warmup model) took 81.75 s (compilation: 34.75 s)\n";
        let expected = [("model", 33.5), ("compile", 104.04), ("engine", 81.75)];
        assert_eq!(told(newer), expected.map(|(name, seconds)| (name.to_owned(), seconds)));
        let sglang = "[2026-05-15 08:40:00 TP0] Load weight end. elapsed=8.01 s, type=Qwen3MoeForCausalLM, dtype=torch.bfloat16\n\
                      [2026-05-15 08:40:32 TP0] Capture cuda graph end. Time elapsed: 54.61 s. mem usage=1.93 GB. avail mem=8.16 GB.\n";
        assert_eq!(told(sglang), [("weights".to_owned(), 8.01), ("graphs".to_owned(), 54.61)]);
    }

    #[test]
    fn the_stand_in_is_understood_and_the_rest_is_left_alone() {
        assert_eq!(
            told(
                "loading: weights, 1.5s\nloading: graph capture, 250ms\nready\nloading: soon\nModel loading took long\n"
            ),
            [("weights".to_owned(), 1.5), ("graph capture".to_owned(), 0.25)]
        );
        assert!(told("Graph capturing finished in no time\n").is_empty());
    }
}
