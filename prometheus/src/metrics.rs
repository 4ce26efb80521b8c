//! The engines' names for what is asked: requests, their lengths, the time they took.

use slackwater_scenarios::traffic::Counts;
use slackwater_scenarios::{MetricsOf, WallTime};

use crate::client::Client;
use crate::error::{NoMetrics, PrometheusError};

/// Names that a message shows of what is there.
const SHOWN: usize = 8;

/// What an engine's metrics are called.
pub(crate) struct Metrics {
    pub(crate) engine: MetricsOf,
    pub(crate) name: &'static str,
    pub(crate) counter: &'static str,
    pub(crate) counts: Counts,
    pub(crate) input: Recorded,
    pub(crate) output: Recorded,
    /// A histogram of seconds from arrival to end.
    pub(crate) latency: Option<&'static str>,
}

/// How lengths are recorded: by a histogram, or by a total alone.
pub(crate) struct Recorded {
    pub(crate) histogram: Option<&'static str>,
    pub(crate) total: Option<&'static str>,
}

pub(crate) static ENGINES: [Metrics; 4] = [
    Metrics {
        engine: MetricsOf::Vllm,
        name: "vllm",
        counter: "vllm:request_success_total",
        counts: Counts::Finished,
        input: Recorded {
            histogram: Some("vllm:request_prompt_tokens"),
            total: Some("vllm:prompt_tokens_total"),
        },
        output: Recorded {
            histogram: Some("vllm:request_generation_tokens"),
            total: Some("vllm:generation_tokens_total"),
        },
        latency: Some("vllm:e2e_request_latency_seconds"),
    },
    Metrics {
        engine: MetricsOf::Sglang,
        name: "sglang",
        counter: "sglang:num_requests_total",
        counts: Counts::Finished,
        input: Recorded {
            histogram: Some("sglang:prompt_tokens_histogram"),
            total: Some("sglang:prompt_tokens_total"),
        },
        output: Recorded {
            histogram: Some("sglang:generation_tokens_histogram"),
            total: Some("sglang:generation_tokens_total"),
        },
        latency: Some("sglang:e2e_request_latency_seconds"),
    },
    Metrics {
        engine: MetricsOf::Tgi,
        name: "tgi",
        counter: "tgi_request_count",
        counts: Counts::Arrived,
        input: Recorded { histogram: Some("tgi_request_input_length"), total: None },
        output: Recorded { histogram: Some("tgi_request_generated_tokens"), total: None },
        latency: None,
    },
    Metrics {
        engine: MetricsOf::Llamacpp,
        name: "llamacpp",
        counter: "llamacpp:prompt_tokens_total",
        counts: Counts::PromptTokens,
        input: Recorded { histogram: None, total: Some("llamacpp:prompt_tokens_total") },
        output: Recorded { histogram: None, total: Some("llamacpp:tokens_predicted_total") },
        latency: None,
    },
];

/// Label matchers without their braces; what is wrong when they are no such.
pub(crate) fn matchers(selector: &str) -> Result<String, PrometheusError> {
    let bare = selector.trim();
    let inner = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    let inner = inner.trim().trim_end_matches(',').trim();
    // Braces may stand within a regular expression, in quotes.
    let mut quoted = None;
    let mut escaped = false;
    for character in inner.chars() {
        match (quoted, character) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(quote), _) if quote == character => quoted = None,
            (None, '"' | '\'' | '`') => quoted = Some(character),
            (None, '{' | '}' | '(' | ')' | '[' | ']') => return Err(no_matchers(selector)),
            _ => {}
        }
    }
    if quoted.is_some() || (!inner.is_empty() && !inner.contains('=') && !inner.contains('!')) {
        return Err(no_matchers(selector));
    }
    Ok(inner.to_owned())
}

fn no_matchers(selector: &str) -> PrometheusError {
    PrometheusError::Request {
        problem: format!("the selector `{selector}` is not a list of label matchers"),
        help: "give matchers alone, without a metric's name: job=\"vllm\",model_name=\"chat\"".into(),
    }
}

/// The metrics that are there between two times, and the names of all of the engines'.
pub(crate) fn find(
    client: &Client,
    matchers: &str,
    asked: MetricsOf,
    (from_s, until_s): (i64, i64),
) -> Result<(&'static Metrics, Vec<String>), PrometheusError> {
    let names = names(client, "(vllm:|sglang:|tgi_|llamacpp:).+", matchers, (from_s, until_s))?;
    let wanted = |metrics: &&Metrics| asked == MetricsOf::Auto || metrics.engine == asked;
    let there = |metrics: &&Metrics| names.iter().any(|name| name == metrics.counter);
    let found: Vec<&'static Metrics> = ENGINES.iter().filter(wanted).filter(there).collect();
    match found[..] {
        [metrics] => Ok((metrics, names)),
        [] => {
            let looked_for: Vec<&str> =
                ENGINES.iter().filter(wanted).map(|metrics| metrics.counter).collect();
            let others = self::names(client, ".+", matchers, (from_s, until_s))?;
            let there = match others.len() {
                0 => "no series at all matches".to_owned(),
                count => format!(
                    "what matches are {count} others: {}{}",
                    others[..count.min(SHOWN)].join(", "),
                    if count > SHOWN { ", ..." } else { "" }
                ),
            };
            let help = if others.is_empty() {
                "check the selector's labels and the time; an engine needs its metrics switched on (SGLang: --enable-metrics, \
                 llama.cpp: --metrics) and scraped"
            } else {
                "select the engine's own targets, or say whose metrics they are with `engine`"
            };
            Err(Box::new(NoMetrics {
                url: client.url().to_owned(),
                selector: matchers.to_owned(),
                when: format!("from {} to {}", clock(from_s), clock(until_s)),
                looked_for: looked_for.join(", "),
                there,
                help: help.to_owned(),
            })
            .into())
        }
        _ => {
            let engines: Vec<&str> = found.iter().map(|metrics| metrics.name).collect();
            Err(PrometheusError::Request {
                problem: format!(
                    "{{{matchers}}} has metrics of {} engines: {}",
                    engines.len(),
                    engines.join(", ")
                ),
                help: format!("choose one: engine = \"{}\"", engines[0]),
            })
        }
    }
}

/// Unix seconds as a person reads them.
fn clock(at_s: i64) -> WallTime {
    WallTime(at_s.saturating_mul(1_000_000_000))
}

/// Names of metrics that match.
fn names(
    client: &Client,
    pattern: &str,
    matchers: &str,
    (from_s, until_s): (i64, i64),
) -> Result<Vec<String>, PrometheusError> {
    let matching = if matchers.is_empty() {
        format!("{{__name__=~\"{pattern}\"}}")
    } else {
        format!("{{__name__=~\"{pattern}\",{matchers}}}")
    };
    let (start, end) = (from_s.to_string(), until_s.to_string());
    let parameters = [("match[]", matching.as_str()), ("start", &start), ("end", &end)];
    Ok(client.ask("/api/v1/label/__name__/values", &parameters, &matching)?.0)
}

#[cfg(test)]
mod tests {
    use super::matchers;

    #[test]
    fn selectors_are_matchers_with_or_without_braces() {
        for (selector, expected) in [
            ("", ""),
            ("{}", ""),
            (" job=\"vllm\" ", "job=\"vllm\""),
            ("{job=\"vllm\", pod=~\"chat-(a|b){1,2}\",}", "job=\"vllm\", pod=~\"chat-(a|b){1,2}\""),
            ("job!='x\\'}'", "job!='x\\'}'"),
        ] {
            assert_eq!(matchers(selector).unwrap(), expected);
        }
        for selector in ["up{job=\"vllm\"}", "vllm", "job=\"vllm", "a=\"b\"}) or up({", "a=\"b\"[5m]"] {
            assert!(matchers(selector).is_err(), "{selector}");
        }
    }
}
