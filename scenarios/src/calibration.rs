//! What is known of a measured profile: when, how far it reaches, how far off it was on what it was not fitted to.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alternatives::Alternative;

/// The measurement behind a profile, as `slackwater calibrate` writes it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The day, `2026-11-23`.
    pub date: String,
    /// The engine and its version, as the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The GPU, where it could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whether the server was only watched under its own traffic: rougher than a measurement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watched: bool,
    /// Requests it was fitted to.
    pub requests: u32,
    /// The longest prompt measured; 0, here and below, where that is not known.
    pub prompt_tokens_up_to: u32,
    /// The longest prompt and answer together.
    pub context_tokens_up_to: u32,
    /// Most requests in flight at once.
    pub in_flight_up_to: u32,
    /// How far the means were off on a part of the load it was not fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<HoldOut>,
    /// Of each coefficient, the values that the data do not refuse.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Coefficients that the data do not speak of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_identified: Vec<String>,
    /// Whole engines with which the data can live too, at the ends of each coefficient's interval; the futures of a plan or a
    /// check have engines between them and the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// Draws are keyed by this text, so it says nothing of what a calibration does not have: those of calibrations without
/// alternatives are what they were before there were any.
impl fmt::Debug for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Calibration");
        text.field("date", &self.date)
            .field("engine", &self.engine)
            .field("gpu", &self.gpu)
            .field("requests", &self.requests)
            .field("prompt_tokens_up_to", &self.prompt_tokens_up_to)
            .field("context_tokens_up_to", &self.context_tokens_up_to)
            .field("in_flight_up_to", &self.in_flight_up_to)
            .field("hold_out", &self.hold_out)
            .field("intervals", &self.intervals)
            .field("not_identified", &self.not_identified);
        if !self.alternatives.is_empty() {
            text.field("alternatives", &self.alternatives);
        }
        text.finish()
    }
}

/// No engine model is surer of its step times than this, whatever a short hold-out says.
const LEAST_SD: f64 = 0.01;

impl Calibration {
    /// How far all step times together may be off, as the standard deviation of their logarithm: what the held-out means of TPOT
    /// and E2E were off by. `None` where nothing was held out.
    #[must_use]
    pub fn step_time_sd(&self) -> Option<f64> {
        let held_out = self.hold_out?;
        Some(held_out.tpot_mean.abs().max(held_out.e2e_mean.abs()).max(LEAST_SD))
    }

    /// When it was measured, how far off it was and what it leaves open: `measured on 2026-11-23, and off by ...`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let off = self.hold_out.map_or_else(
            || "; nothing was held out of its fit, so how far off it is is not known".to_owned(),
            |held_out| {
                format!(
                    ", and off by {:+.1} % in TTFT, {:+.1} % in TPOT and {:+.1} % in E2E, the means of {} requests that were held \
                     out of its fit",
                    100.0 * held_out.ttft_mean,
                    100.0 * held_out.tpot_mean,
                    100.0 * held_out.e2e_mean,
                    held_out.requests
                )
            },
        );
        format!("measured on {}{off}{}", self.date, self.open_in_words())
    }

    /// The coefficients that are not identified, with their intervals.
    fn open_in_words(&self) -> String {
        let open = |name: &String| match self.intervals.get(name) {
            Some([low, high]) => format!("{name} ({} to {})", two_digits(*low), two_digits(*high)),
            None => name.clone(),
        };
        let open: Vec<String> = self.not_identified.iter().map(open).collect();
        if open.is_empty() { String::new() } else { format!("; its data leave open {}", open.join(", ")) }
    }
}

/// So many digits as an interval's ends are worth.
fn two_digits(value: f64) -> String {
    let decimals = (value > 0.0 && value < 10.0).then(|| 1.0 - value.log10().floor());
    // A coefficient has a dozen decimals at the most.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let decimals = decimals.map_or(0, |decimals| decimals.clamp(0.0, 12.0) as usize);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_data_leave_open_is_said_with_its_interval() {
        let mut calibration = Calibration { date: "2026-01-01".into(), ..Calibration::default() };
        assert!(calibration.in_words().ends_with("is not known"), "{}", calibration.in_words());
        calibration.not_identified = vec!["c_kv_us".into(), "c_seq_us".into(), "front_end_ms".into()];
        calibration.intervals = [("c_kv_us", [0.0, 0.054]), ("c_seq_us", [3.24, 251.0])]
            .map(|(name, ends)| (name.to_owned(), ends))
            .into();
        let words = "; its data leave open c_kv_us (0 to 0.054), c_seq_us (3.2 to 251), front_end_ms";
        assert!(calibration.in_words().ends_with(words), "{}", calibration.in_words());
    }
}

/// Predicted over measured, less one, of means on data that were held out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldOut {
    /// Requests in it.
    pub requests: u32,
    /// Of the time to the first token.
    pub ttft_mean: f64,
    /// Of the time of a token after the first.
    pub tpot_mean: f64,
    /// Of the whole request.
    pub e2e_mean: f64,
}
