//! A fleet's history out of Prometheus ([`History`]): its counter gives the rate, its histograms the lengths.
//!
//! ```text
//! requests in each step --so many draws within the step--> arrivals --minus the mean latency, where they are counted at
//! their end--> time;  lengths: traffic.assume_tokens, or the histogram, or a lognormal with the recorded mean
//! ```
//!
//! A step has as many requests as were counted in it (times `rate_scale`); their times within it are drawn. Input and
//! output are drawn apart: histograms don't say which went with which. The file is held in memory.

use super::assumed::{Assumed, HELP};
use super::draw::Mixture;
use super::formats::{Context, FormatReader, Row};
use super::history::{Counts, History, RecordedRate, clock};
use super::history_lengths::Histogram;
use super::input::{Head, Input, read_error};
use super::{AssumeTokens, Lengths, Lognormal, MOST_TOKENS};
use crate::error::TraceError;
use crate::random::Keyed;

/// Gaps that are named one by one.
const NAMED_GAPS: usize = 6;
/// The spread of lengths of which only the mean was recorded: a standard deviation of their logarithm as chat has it.
const SIGMA_OF_A_MEAN: f64 = 1.0;
/// Beyond so many requests in one step nothing is drawn.
const MOST_IN_A_STEP: f64 = 1e8;

pub(super) struct PrometheusJson {
    path: String,
    rate: RecordedRate,
    /// Requests for one of the counter.
    scale: f64,
    /// How much later than the arrival a request is counted.
    lag_ns: i64,
    /// The step whose requests are handed out, from the last to the first.
    ready: Vec<i64>,
    step: usize,
    /// What was counted up to the end of `step`, and requests that stand for it.
    counted: f64,
    handed_out: f64,
    input: Source,
    output: Source,
    assumed: Assumed,
    keyed: Keyed,
    pass: u64,
    index: u64,
    notes: Vec<String>,
}

/// Where lengths come from.
enum Source {
    Assumed,
    Recorded(Histogram),
    Mean(Mixture),
}

impl PrometheusJson {
    pub(super) fn recognise(head: &Head) -> bool {
        let key = b"\"slackwater_history\"";
        head.start.trim_ascii_start().starts_with(b"{")
            && head.start.windows(key.len()).any(|part| part == key)
    }

    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let path = input.path;
        let told = |row, problem: String, help: String| TraceError {
            path: path.clone(),
            row,
            problem,
            help,
            source: None,
        };
        let history: History = serde_json::from_reader(input.bytes).map_err(|error| {
            if error.is_io() {
                return read_error(&path, None, error.into());
            }
            let row = u64::try_from(error.line()).ok();
            told(row, error.to_string(), "fetch it again with `slackwater trace fetch`".into())
        })?;
        let rate = history.rate().map_err(|(problem, help)| told(None, problem, help))?;
        let Some(rate) = rate.filter(|rate| rate.steps.iter().any(|count| *count > 0.0)) else {
            let problem = format!(
                "no request was recorded from {} to {} for the selector `{}`",
                clock(history.from_s),
                clock(history.until_s),
                history.selector
            );
            let help = "ask for more days, or another selector: those series were not scraped, or nobody asked anything";
            return Err(told(None, problem, help.into()));
        };
        let spec = context.options.assume_tokens.as_ref();
        let counted: f64 = rate.steps.iter().sum();
        let mut notes = notes(&history, &rate);
        let per_request = match history.counts() {
            Counts::PromptTokens => Some(mean_prompt(spec).ok_or_else(|| {
                let problem = format!(
                    "{} counts prompt tokens, and {} has no counter of requests: how many requests those tokens were is not \
                     recorded",
                    history.chunks.first().map_or("the counter", |chunk| chunk.counter.as_str()),
                    history.engine
                );
                told(None, problem, HELP.into())
            })?),
            Counts::Finished | Counts::Arrived => None,
        };
        let requests = counted / per_request.unwrap_or(1.0);
        let lengths = |pick: fn(&super::Chunk) -> Option<&Lengths>| history.chunks.iter().filter_map(pick);
        let pass = u64::from(context.pass);
        let reader = Self {
            scale: context.options.rate_scale / per_request.unwrap_or(1.0),
            lag_ns: lag_ns(&history, &mut notes),
            ready: Vec::new(),
            step: 0,
            counted: 0.0,
            handed_out: 0.0,
            input: source(
                spec.is_some_and(|spec| !spec.input.is_empty()),
                lengths(|chunk| chunk.input.as_ref()),
                ("input", requests),
                &mut notes,
            ),
            output: source(
                spec.is_some_and(|spec| !spec.output.is_empty()),
                lengths(|chunk| chunk.output.as_ref()),
                ("output", requests),
                &mut notes,
            ),
            assumed: context.assumed(),
            keyed: Keyed::new(context.options.seed),
            pass,
            index: pass << 40,
            notes,
            rate,
            path,
        };
        Ok(Box::new(reader))
    }

    fn error(&self, problem: String, help: &str) -> TraceError {
        TraceError { path: self.path.clone(), row: None, problem, help: help.into(), source: None }
    }

    /// Draws the times of the next step that has requests; false at the end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn draw_step(&mut self) -> Result<bool, TraceError> {
        while let Some(count) = self.rate.steps.get(self.step) {
            self.counted += count * self.scale;
            // Fractions (a total spread over a gap) are carried on, so that none is lost.
            let whole = (self.counted + 1e-6).floor() - self.handed_out;
            if whole > MOST_IN_A_STEP {
                return Err(self.error(
                    format!("{whole} requests in one step of {} s are too many", self.rate.step_s),
                    "lower traffic.rate_scale, or fetch with a narrower selector",
                ));
            }
            let step = self.step;
            self.step += 1;
            if whole < 1.0 {
                continue;
            }
            self.handed_out += whole;
            // Steps and times were bounded when the file was checked.
            let begin_s = self.rate.from_s + step as i64 * self.rate.step_s;
            let width_ns = self.rate.step_s * 1_000_000_000;
            let begin_ns = begin_s * 1_000_000_000 - self.lag_ns;
            let mut draws = self.keyed.stream("traffic.history-times", &[self.pass, step as u64]);
            let uniform = |draws: &mut _| rand::RngExt::random::<f64>(draws);
            self.ready = (0..whole as u64)
                .map(|_| begin_ns + ((uniform(&mut draws) * width_ns as f64) as i64).min(width_ns - 1))
                .collect();
            self.ready.sort_unstable_by(|one, other| other.cmp(one));
            return Ok(true);
        }
        Ok(false)
    }

    fn length(&self, source: &Source, purpose: &'static str) -> Option<u64> {
        match source {
            Source::Assumed => None,
            Source::Recorded(histogram) => Some(histogram.at(self.keyed.uniform(purpose, &[self.index]))),
            Source::Mean(mixture) => {
                Some(u64::from(mixture.draw(&mut self.keyed.stream(purpose, &[self.index]))))
            }
        }
    }
}

/// The mean prompt that the user states; its cut at `max_input_tokens` is not taken into account.
fn mean_prompt(spec: Option<&AssumeTokens>) -> Option<f64> {
    let parts = &spec?.input;
    let weights: f64 = parts.iter().map(|part| part.weight).sum();
    let sum: f64 =
        parts.iter().map(|part| part.weight * part.median * (part.sigma * part.sigma / 2.0).exp()).sum();
    (weights > 0.0).then(|| sum / weights).filter(|mean| *mean >= 1.0 && mean.is_finite())
}

/// By how much requests are counted later than they came.
fn lag_ns(history: &History, notes: &mut Vec<String>) -> i64 {
    let counter = history.chunks.first().map_or("", |chunk| chunk.counter.as_str());
    match (history.counts(), history.mean_latency_s()) {
        (Counts::Finished, Some(mean_s)) => {
            notes.push(format!(
                "{counter} counts requests when they end: arrivals are taken to be {mean_s:.3} s earlier, the mean time to \
                 the end; what came in as a burst looks smoother, by as much as those times differ"
            ));
            // Less than ten hours.
            #[expect(clippy::cast_possible_truncation)]
            let lag_ns = (mean_s * 1e9) as i64;
            lag_ns
        }
        (Counts::Finished, None) => {
            notes.push(format!(
                "{counter} counts requests when they end, and how long they took was not recorded: arrivals are too late by \
                 all of their time"
            ));
            0
        }
        (Counts::Arrived | Counts::PromptTokens, _) => 0,
    }
}

fn source<'a>(
    assumed: bool,
    chunks: impl Iterator<Item = &'a Lengths> + Clone,
    (name, requests): (&str, f64),
    notes: &mut Vec<String>,
) -> Source {
    if assumed {
        return Source::Assumed;
    }
    let Some(first) = chunks.clone().next() else { return Source::Assumed };
    let metric = &first.metric;
    if let Some(histogram) = Histogram::new(chunks.clone()) {
        notes.push(format!(
            "{name} lengths are drawn from the histogram {metric}: any length within a bucket, those of one request \
             independent of each other"
        ));
        return Source::Recorded(histogram);
    }
    let counts: Option<f64> = chunks.clone().map(|lengths| lengths.count).sum();
    let sum: f64 = chunks.filter_map(|lengths| lengths.sum).sum();
    let mean = sum / counts.filter(|count| *count > 0.0).unwrap_or(requests);
    if !(mean >= 0.5 && mean <= f64::from(MOST_TOKENS)) {
        return Source::Assumed;
    }
    notes.push(format!(
        "of {name} lengths only the mean was recorded ({metric}: {mean:.0} tokens): a lognormal with sigma \
         {SIGMA_OF_A_MEAN} is assumed; traffic.assume_tokens.{name} says another"
    ));
    let median = mean / (SIGMA_OF_A_MEAN * SIGMA_OF_A_MEAN / 2.0).exp();
    let part = Lognormal { weight: 1.0, median, sigma: SIGMA_OF_A_MEAN };
    Source::Mean(Mixture::new(&[part], MOST_TOKENS))
}

/// What a user must know of the recording.
fn notes(history: &History, rate: &RecordedRate) -> Vec<String> {
    let mut notes = vec![format!(
        "the file has counters, no requests: each step of {} s has as many arrivals as were counted in it, at times that are \
         drawn",
        rate.step_s
    )];
    let models = history.label_values("model_name");
    if models.len() > 1 {
        notes.push(format!(
            "requests of {} models are added up ({}): the selector chooses one (model_name=\"{}\")",
            models.len(),
            models.join(", "),
            models[0]
        ));
    }
    let steps = i64::try_from(rate.steps.len()).unwrap_or(i64::MAX);
    let recorded = (rate.from_s, rate.from_s.saturating_add(steps.saturating_mul(rate.step_s)));
    // A day's begin and end need not be scraped to the second.
    let slack_s = 10 * rate.step_s;
    if recorded.0 > history.from_s + slack_s || recorded.1 < history.until_s - slack_s {
        notes.push(format!(
            "asked for {} to {}, recorded is {} to {}",
            clock(history.from_s),
            clock(history.until_s),
            clock(recorded.0),
            clock(recorded.1)
        ));
    }
    for gap in rate.gaps.iter().take(NAMED_GAPS) {
        let what = if gap.total_known {
            "the counters went on, so their increase is spread evenly over it"
        } else {
            "counters began again meanwhile, so the rate is drawn in a straight line from before to after it"
        };
        notes.push(format!(
            "nothing was recorded from {} to {}: {what}",
            clock(gap.from_s),
            clock(gap.until_s)
        ));
    }
    if rate.gaps.len() > NAMED_GAPS {
        let seconds: i64 = rate.gaps.iter().map(|gap| gap.until_s - gap.from_s).sum();
        notes.push(format!("in all nothing was recorded {} times, {seconds} s together", rate.gaps.len()));
    }
    if rate.resets > 0 {
        notes.push(format!(
            "{} counters began again at zero (a replica was started again): what each had counted since its last scrape is \
             lost",
            rate.resets
        ));
    }
    if rate.first_values_left_out > 0 {
        notes.push(format!(
            "{} series were met with more requests than fit into the time since they appeared: those are not counted",
            rate.first_values_left_out
        ));
    }
    notes
}

impl FormatReader for PrometheusJson {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if self.ready.is_empty() && !self.draw_step()? {
            return Ok(None);
        }
        let Some(time_ns) = self.ready.pop() else { return Ok(None) };
        let assumed = |tokens: Result<u64, String>| tokens.map_err(|problem| self.error(problem, HELP));
        let input_tokens = match self.length(&self.input, "traffic.history-input") {
            Some(tokens) => tokens,
            None => assumed(self.assumed.input(self.index, None))?,
        };
        let output_tokens = match self.length(&self.output, "traffic.history-output") {
            Some(tokens) => tokens,
            None => assumed(self.assumed.output(self.index, None))?,
        };
        self.index += 1;
        Ok(Some(Row::new(time_ns, input_tokens, output_tokens)))
    }

    /// The step, for an object has no lines.
    fn line(&self) -> u64 {
        self.step as u64
    }

    fn rows(&self) -> Option<u64> {
        Some(self.step as u64)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(self.assumed.notes()).collect()
    }
}
