//! Reads an engine's Prometheus page: its gauges and counters under the names of its kind.

use crate::deployment::EngineKind;

/// The names under which an engine tells.
struct Names {
    running: &'static str,
    waiting: &'static str,
    finished: &'static str,
    ttft: &'static str,
    tpot: &'static str,
}

/// vLLM 0.33 (older ones call the third histogram differently), SGLang 0.5, llama.cpp's server with `--metrics`.
fn names(kind: EngineKind) -> Option<Names> {
    match kind {
        EngineKind::Vllm => Some(Names {
            running: "vllm:num_requests_running",
            waiting: "vllm:num_requests_waiting",
            finished: "vllm:request_success_total",
            ttft: "vllm:time_to_first_token_seconds",
            tpot: "vllm:request_time_per_output_token_seconds",
        }),
        EngineKind::Sglang => Some(Names {
            running: "sglang:num_running_reqs",
            waiting: "sglang:num_queue_reqs",
            finished: "sglang:num_requests_total",
            ttft: "sglang:time_to_first_token_seconds",
            tpot: "sglang:inter_token_latency_seconds",
        }),
        EngineKind::LlamaCpp => Some(Names {
            running: "llamacpp:requests_processing",
            waiting: "llamacpp:requests_deferred",
            // It counts tokens, not requests.
            finished: "",
            ttft: "",
            tpot: "",
        }),
        EngineKind::Openai => None,
    }
}

/// One look at an engine's page.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    running: Option<f64>,
    waiting: Option<f64>,
    finished: Option<f64>,
    ttft: Histogram,
    tpot: Histogram,
}

/// Cumulative counts by upper bound, in the page's unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(Vec<(f64, f64)>);

impl Metrics {
    /// Reads a page; what is not there stays unknown.
    pub(crate) fn read(kind: EngineKind, page: &str) -> Metrics {
        let mut metrics = Metrics::default();
        let Some(names) = names(kind) else { return metrics };
        let add = |to: &mut Option<f64>, value: f64| *to = Some(to.unwrap_or(0.0) + value);
        for (name, labels, value) in page.lines().filter_map(sample) {
            // Several engine cores or models of one process tell apart by labels; together they are the replica.
            if name == names.running {
                add(&mut metrics.running, value);
            } else if name == names.waiting {
                add(&mut metrics.waiting, value);
            } else if name == names.finished {
                add(&mut metrics.finished, value);
            } else if let Some(of) = name.strip_suffix("_bucket").filter(|of| !of.is_empty()) {
                let Some(bound) = bound(labels) else { continue };
                if of == names.ttft {
                    metrics.ttft.count(bound, value);
                } else if of == names.tpot {
                    metrics.tpot.count(bound, value);
                }
            }
        }
        metrics
    }

    /// Running and waiting requests.
    pub(crate) fn in_flight(&self) -> Option<u32> {
        let sum = self.running? + self.waiting?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small count, checked
        (sum.is_finite() && (0.0..1e9).contains(&sum)).then(|| sum.ceil() as u32)
    }

    pub(crate) fn waiting(&self) -> Option<f64> {
        self.waiting
    }

    /// Requests finished since the process began, where it counts them.
    pub(crate) fn finished(&self) -> Option<f64> {
        self.finished
    }

    pub(crate) fn ttft(&self) -> Histogram {
        self.ttft.clone()
    }

    pub(crate) fn tpot(&self) -> Histogram {
        self.tpot.clone()
    }
}

/// One line of a page, `name{labels} value [time]`: its name, its labels without the braces, its value.
pub fn sample(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_at(rest.rfind('}')?),
        None => ("", rest),
    };
    let value = rest.trim_start_matches('}').split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// The value of a label, as it is written (with its escapes).
pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = labels;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        if key.trim_start_matches([',', ' ']) == name {
            return Some(&after[..end]);
        }
        rest = &after[end + 1..];
    }
}

/// The upper bound of a histogram's bucket.
pub fn bound(labels: &str) -> Option<f64> {
    let bound = label(labels, "le")?;
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}

impl Histogram {
    /// Adds so many to the bucket up to a bound.
    pub fn count(&mut self, bound: f64, value: f64) {
        match self.0.binary_search_by(|(other, _)| other.total_cmp(&bound)) {
            Ok(at) => self.0[at].1 += value,
            Err(at) => self.0.insert(at, (bound, value)),
        }
    }

    /// Adds another one, bucket by bucket.
    pub fn add(&mut self, other: &Histogram) {
        for (bound, value) in &other.0 {
            self.count(*bound, *value);
        }
    }

    /// What came on top of an earlier look.
    pub fn less(&self, earlier: &Histogram) -> Histogram {
        let before =
            |bound: f64| earlier.0.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
        Histogram(self.0.iter().map(|(bound, count)| (*bound, (count - before(*bound)).max(0.0))).collect())
    }

    /// How many came in each bucket, by the middle of it; beyond the last bound, by that.
    pub fn middles(&self) -> Vec<(f64, f64)> {
        let (mut low, mut below) = (0.0, 0.0);
        let middle = |(bound, count): &(f64, f64)| {
            let at = if bound.is_finite() { f64::midpoint(low, *bound) } else { low };
            let here = (at, (count - below).max(0.0));
            (low, below) = (if bound.is_finite() { *bound } else { low }, *count);
            here
        };
        self.0.iter().map(middle).collect()
    }

    /// The bound of the bucket that holds this share, interpolated as Prometheus does; `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.0.last()?.1;
        if all <= 0.0 {
            return None;
        }
        let wanted = share * all;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted {
                // Beyond the last bound nothing is known but that.
                let width = if bound.is_finite() { bound - low } else { 0.0 };
                let part = if *count > below { (wanted - below) / (count - below) } else { 1.0 };
                return Some(low + width * part);
            }
            (low, below) = (*bound, *count);
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_by_the_names_of_its_engine() {
        let page = "# HELP x\nvllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\"} 1\nvllm:num_requests_waiting 2\nodd line\n";
        assert_eq!(Metrics::read(EngineKind::Vllm, page).in_flight(), Some(6));
        assert_eq!(Metrics::read(EngineKind::Sglang, page).in_flight(), None);
        assert_eq!(Metrics::read(EngineKind::Openai, page).in_flight(), None);
        let page = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n";
        assert_eq!(Metrics::read(EngineKind::LlamaCpp, page).in_flight(), Some(1));
    }

    #[test]
    fn labels_are_found_by_their_whole_name() {
        let (_, labels, value) =
            sample("a{title=\"x, le=\\\"1\\\"\",le=\"0.5\",b=\"}\"} 2 1700000000").unwrap();
        assert_eq!((label(labels, "le"), label(labels, "b"), value), (Some("0.5"), Some("}"), 2.0));
        assert_eq!((label(labels, "e"), label(labels, "itle")), (None, None));
        assert_eq!(label("", "le"), None);
    }

    #[test]
    fn quantiles_are_interpolated_in_their_bucket() {
        let mut histogram = Histogram::default();
        for (bound, count) in [(0.1, 50.0), (0.2, 100.0), (f64::INFINITY, 100.0)] {
            histogram.count(bound, count);
        }
        assert!((histogram.quantile(0.75).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!(histogram.less(&histogram).quantile(0.5), None);
        let mut beyond = Histogram::default();
        beyond.count(0.1, 0.0);
        beyond.count(f64::INFINITY, 4.0);
        assert_eq!(beyond.quantile(0.5), Some(0.1), "no more is known");
    }
}
