//! The load that is put on a server: phases that each show another coefficient.

use std::time::Duration;

/// What a phase asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// One request after the other: these prompt and answer lengths, each so many times.
    Alone {
        /// Prompt and answer tokens.
        lengths: Vec<(u32, u32)>,
        /// How often each.
        times: u32,
    },
    /// So many requests at once.
    Together {
        /// How many.
        requests: u32,
        /// Prompt tokens, from and to.
        prompt: (u32, u32),
        /// Answer tokens, from and to.
        output: (u32, u32),
    },
    /// Requests at random at a rate, as traffic comes.
    Rate {
        /// Requests a second.
        per_s: f64,
        /// For how long.
        lasts: Duration,
        /// Prompt tokens, from and to.
        prompt: (u32, u32),
        /// Answer tokens, from and to.
        output: (u32, u32),
    },
}

/// A part of the load.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// What it is for.
    pub name: &'static str,
    /// What is asked.
    pub shape: Shape,
    /// Nothing is fitted to it: what is predicted of it shows the error.
    pub held_out: bool,
}

/// How much load may be put on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// How long it may last altogether.
    pub lasts: Duration,
    /// Most requests a second.
    pub max_rate: Option<f64>,
    /// Most requests at once.
    pub most_at_once: u32,
    /// The longest context that is tried.
    pub longest: u32,
}

const MIXED_PROMPT: (u32, u32) = (64, 2000);
const MIXED_OUTPUT: (u32, u32) = (32, 192);
const RATE_SHARE: f64 = 0.14;

/// The phases within a budget. Rates follow from `alone_s`, what one mixed request takes by itself.
#[must_use]
pub fn phases(budget: &Budget, alone_s: f64) -> Vec<Phase> {
    let most = budget.longest.max(64);
    let lengths = |all: &[(u32, u32)]| -> Vec<(u32, u32)> {
        all.iter().copied().filter(|(prompt, output)| prompt + output <= most).collect()
    };
    let within = |(low, high): (u32, u32), room: u32| (low.min(room), high.min(room));
    let (prompt, output) = (within(MIXED_PROMPT, most * 3 / 4), within(MIXED_OUTPUT, most / 4));
    let long = (most * 3 / 4).min(6000);
    let lasts = budget.lasts.mul_f64(RATE_SHARE);
    // Batches of 4, 8 and 16 at a time, if a batch took no longer than one alone.
    let rate = |at_once: f64| Shape::Rate {
        per_s: budget.max_rate.map_or(f64::MAX, |most| most).min(at_once / alone_s),
        lasts,
        prompt,
        output,
    };
    let phase = |name, shape| Phase { name, shape, held_out: false };
    let at_once = |requests: u32| requests.min(budget.most_at_once);
    let mut phases = vec![
        phase(
            "prompts alone",
            Shape::Alone {
                lengths: lengths(&[
                    (16, 2),
                    (128, 2),
                    (256, 2),
                    (512, 2),
                    (1024, 2),
                    (2000, 2),
                    (4000, 2),
                    (8000, 2),
                ]),
                times: 3,
            },
        ),
        phase(
            "answers alone",
            Shape::Alone { lengths: lengths(&[(16, 128), (2000, 64), (8000, 64)]), times: 1 },
        ),
        phase(
            "small batch",
            Shape::Together { requests: at_once(8), prompt: (16, 16), output: within((96, 96), most / 4) },
        ),
        phase(
            "batch",
            Shape::Together { requests: at_once(32), prompt: (16, 16), output: within((96, 96), most / 4) },
        ),
        phase(
            "large batch",
            Shape::Together { requests: at_once(96), prompt: (16, 16), output: within((96, 96), most / 4) },
        ),
        phase(
            "long contexts",
            Shape::Together {
                requests: at_once(24),
                prompt: (long, long),
                output: within((96, 96), most / 4),
            },
        ),
        phase("traffic, light", rate(3.0)),
        Phase { name: "traffic, held out", shape: rate(8.0), held_out: true },
        phase("traffic, heavy", rate(14.0)),
        phase("saturation", Shape::Together { requests: at_once(192), prompt, output }),
    ];
    if budget.most_at_once < 2 {
        phases.retain(|phase| !matches!(phase.shape, Shape::Together { .. }));
    }
    phases
}

/// The load in words, before it is put on.
#[must_use]
pub fn what_it_does(phases: &[Phase], budget: &Budget) -> String {
    let most = phases.iter().map(|phase| match phase.shape {
        Shape::Together { requests, .. } => requests,
        Shape::Alone { .. } | Shape::Rate { .. } => 1,
    });
    let fastest = phases.iter().map(|phase| match phase.shape {
        Shape::Rate { per_s, .. } => per_s,
        Shape::Alone { .. } | Shape::Together { .. } => 0.0,
    });
    format!(
        "{} phases, up to {} requests at once, up to {:.1} requests a second, prompts and answers of up to {} tokens together, at \
         most {} s. The server must be out of rotation: it will be saturated.",
        phases.len(),
        most.max().unwrap_or(0),
        fastest.fold(0.0, f64::max),
        budget.longest,
        budget.lasts.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_the_load() {
        let budget =
            Budget { lasts: Duration::from_secs(60), max_rate: Some(2.0), most_at_once: 10, longest: 1000 };
        let all = phases(&budget, 0.01);
        assert!(all.iter().any(|phase| phase.held_out));
        for phase in &all {
            match &phase.shape {
                Shape::Alone { lengths, .. } => {
                    assert!(!lengths.is_empty(), "{phase:?}");
                    assert!(lengths.iter().all(|(prompt, output)| prompt + output <= 1000), "{phase:?}");
                }
                Shape::Together { requests, prompt, output } => {
                    assert!(*requests <= 10 && prompt.1 + output.1 <= 1000, "{phase:?}");
                }
                Shape::Rate { per_s, prompt, output, .. } => {
                    assert!(*per_s <= 2.0 && prompt.1 + output.1 <= 1000, "{phase:?}");
                }
            }
        }
        assert!(what_it_does(&all, &budget).contains("up to 10 requests at once"));
    }
}
