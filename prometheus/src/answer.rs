//! The JSON of Prometheus' HTTP API, as far as it is asked for here.
//!
//! Values are text in it (`"NaN"` and `"+Inf"` are among them); what is no finite number is no point.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An answer around its data.
#[derive(Deserialize)]
pub(crate) struct Envelope<T> {
    pub(crate) status: String,
    #[serde(default = "none")]
    pub(crate) data: Option<T>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

const fn none<T>() -> Option<T> {
    None
}

/// The data of `query` and `query_range`.
#[derive(Deserialize)]
pub(crate) struct Found {
    #[serde(default)]
    pub(crate) result: Vec<FoundSeries>,
}

/// One series of it: `value` of an instant, `values` of a range.
#[derive(Deserialize)]
pub(crate) struct FoundSeries {
    #[serde(default)]
    pub(crate) metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl FoundSeries {
    /// The one value of an instant.
    pub(crate) fn number(&self) -> Option<f64> {
        self.value.as_ref().and_then(|(_, text)| finite(text))
    }

    /// The points of a range at the times at which they were scraped.
    pub(crate) fn samples(&self) -> Vec<(f64, f64)> {
        self.values.iter().filter_map(|(at_s, text)| Some((*at_s, finite(text)?))).collect()
    }

    /// The points of a range: whole Unix seconds and values.
    pub(crate) fn points(&self) -> Vec<(i64, f64)> {
        let point = |(at_s, text): &(f64, String)| {
            // Times of a range are multiples of a whole step.
            #[expect(clippy::cast_possible_truncation)]
            let at_s = at_s.round() as i64;
            finite(text).filter(|value| *value >= 0.0).map(|value| (at_s, value))
        };
        self.values.iter().filter_map(point).collect()
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The data, or what the server has to say instead.
pub(crate) fn data<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Vec<String>), String> {
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    match envelope.data {
        Some(data) if envelope.status == "success" => Ok((data, envelope.warnings)),
        _ => Err(envelope.error.unwrap_or_else(|| format!("its status is `{}`", envelope.status))),
    }
}

/// The server's own words in an answer that is an error; the beginning of the body where it has none.
pub(crate) fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(600)]);
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let short: String = text.chars().take(200).collect();
            if short.is_empty() { "(no message)".to_owned() } else { short }
        }
    }
}
