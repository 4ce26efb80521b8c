//! Token counts that a log does not have, by an estimate that its user states.
//!
//! Draws are keyed by the row's line, so the same file has the same requests in every run with the same seed.

use std::sync::atomic::{AtomicBool, Ordering};

use super::AssumeTokens;
use super::draw::Mixture;
use crate::random::Keyed;

/// What to do when no estimate is stated.
pub(super) const HELP: &str = "state an estimate: traffic.assume_tokens = { input = [{ median = 800, sigma = 1.0 }], output = [{ median = 200, \
     sigma = 0.8 }] }, or bytes_per_input_token and bytes_per_output_token in it; or log the counts";

pub(super) struct Assumed {
    keyed: Keyed,
    input: Side,
    output: Side,
}

struct Side {
    /// What is counted, in a message.
    name: &'static str,
    /// The draw's purpose.
    purpose: &'static str,
    estimate: Estimate,
    used: AtomicBool,
}

enum Estimate {
    None,
    Drawn(Mixture),
    Bytes { per_token: f64, most: u32 },
}

impl Assumed {
    pub(super) fn new(spec: Option<&AssumeTokens>, seed: u64) -> Self {
        let side = |name, purpose, parts: fn(&AssumeTokens) -> Estimate| Side {
            name,
            purpose,
            estimate: spec.map_or(Estimate::None, parts),
            used: AtomicBool::new(false),
        };
        Self {
            keyed: Keyed::new(seed),
            input: side("input", "traffic.assumed-input", |spec| {
                Estimate::of(&spec.input, spec.bytes_per_input_token, spec.max_input_tokens)
            }),
            output: side("output", "traffic.assumed-output", |spec| {
                Estimate::of(&spec.output, spec.bytes_per_output_token, spec.max_output_tokens)
            }),
        }
    }

    /// Prompt tokens of the request in this line; a problem to be told when nothing says them.
    pub(super) fn input(&self, line: u64, bytes: Option<u64>) -> Result<u64, String> {
        self.input.tokens(self.keyed, line, bytes)
    }

    /// Output tokens of it.
    pub(super) fn output(&self, line: u64, bytes: Option<u64>) -> Result<u64, String> {
        self.output.tokens(self.keyed, line, bytes)
    }

    /// What was assumed so far.
    pub(super) fn notes(&self) -> Vec<String> {
        [&self.input, &self.output].into_iter().filter_map(Side::note).collect()
    }
}

impl Estimate {
    fn of(parts: &[super::Lognormal], bytes_per_token: Option<f64>, most: u32) -> Self {
        match bytes_per_token {
            Some(per_token) => Self::Bytes { per_token, most },
            None if parts.is_empty() => Self::None,
            None => Self::Drawn(Mixture::new(parts, most)),
        }
    }
}

impl Side {
    fn tokens(&self, keyed: Keyed, line: u64, bytes: Option<u64>) -> Result<u64, String> {
        let tokens = match (&self.estimate, bytes) {
            (Estimate::Drawn(mixture), _) => {
                u64::from(mixture.draw(&mut keyed.stream(self.purpose, &[line])))
            }
            (Estimate::Bytes { per_token, most }, Some(bytes)) => {
                #[expect(clippy::cast_precision_loss)]
                let tokens = (bytes as f64 / per_token).round().clamp(1.0, f64::from(*most));
                // Clamped first, so the cast loses nothing.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let tokens = tokens as u64;
                tokens
            }
            (Estimate::Bytes { .. }, None) => {
                return Err(format!(
                    "it says neither how many {} tokens the request has nor how many bytes, which \
                     traffic.assume_tokens.bytes_per_{}_token needs",
                    self.name, self.name
                ));
            }
            (Estimate::None, _) => {
                return Err(format!("it does not say how many {} tokens the request has", self.name));
            }
        };
        self.used.store(true, Ordering::Relaxed);
        Ok(tokens)
    }

    fn note(&self) -> Option<String> {
        let how = match &self.estimate {
            Estimate::Bytes { per_token, .. } => format!("one for {per_token} bytes"),
            _ => "drawn".to_owned(),
        };
        let note = format!("{} tokens are not in the file: {how}, as traffic.assume_tokens says", self.name);
        self.used.load(Ordering::Relaxed).then_some(note)
    }
}
