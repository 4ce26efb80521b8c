//! Keys about a traffic file.

use super::generated::mixture;
use super::{Check, longer_than_zero, problem, within};
use crate::traffic::{AssumeTokens, Lognormal, MOST_TOKENS, TrafficSpec, ZONE_HELP, known_zone};

pub(super) fn check(spec: &TrafficSpec) -> Check {
    if let Some(zone) = &spec.time_zone {
        known_zone(zone).map_err(|message| problem("traffic.time_zone", message, ZONE_HELP))?;
    }
    if let Some(longest) = spec.longest_request {
        longer_than_zero("traffic.longest_request", longest)?;
    }
    if let Some(bursts) = &spec.bursts {
        super::bursts::check("traffic.bursts", bursts)?;
    }
    spec.assume_tokens.as_ref().map_or(Ok(()), assumed)
}

fn assumed(spec: &AssumeTokens) -> Check {
    side("input", &spec.input, spec.bytes_per_input_token, spec.max_input_tokens)?;
    side("output", &spec.output, spec.bytes_per_output_token, spec.max_output_tokens)
}

fn side(name: &str, parts: &[Lognormal], bytes_per_token: Option<f64>, most: u32) -> Check {
    let (drawn, bytes) =
        (format!("traffic.assume_tokens.{name}"), format!("traffic.assume_tokens.bytes_per_{name}_token"));
    within(
        &format!("traffic.assume_tokens.max_{name}_tokens"),
        f64::from(most),
        1.0,
        f64::from(MOST_TOKENS),
    )?;
    match (parts.is_empty(), bytes_per_token) {
        (false, Some(_)) => {
            let help = format!("keep `{name}` (drawn lengths) or `bytes_per_{name}_token`");
            Err(problem(&bytes, format!("is given beside `{name}`"), help))
        }
        (true, Some(per_token)) => within(&bytes, per_token, 0.1, 1e6),
        (true, None) => Ok(()),
        (false, None) => mixture(&drawn, parts),
    }
}
