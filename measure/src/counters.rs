//! What is read of an engine's counters, from its own page or out of a Prometheus server, and made into intervals.
//!
//! ```text
//! page or series ── samples by name ──► looks, an engine at a time ── differences ──► calibrate::Watched
//! ```
//!
//! Only what stands still between two looks of one engine is compared: a counter that went back belongs to a process that was
//! started again, and that interval is left out.

use std::collections::{BTreeMap, BTreeSet};

use slackwater_calibrate::{Description, Interval, Watched};
use slackwater_exec::metrics::{Histogram, bound, label, sample};

/// What is read. Sums and counts are of histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Running,
    Waiting,
    /// A share of all.
    KvUsage,
    KvTokens,
    KvCapacity,
    PromptTokens,
    CachedTokens,
    GapSum,
    GapCount,
    TtftSum,
    TtftCount,
    E2eSum,
    E2eCount,
}

/// The names of one engine. Of several names for one thing the first that is there counts: newer versions come first.
struct Names {
    engine: &'static str,
    fields: &'static [(Field, &'static str)],
    prompts: &'static str,
    outputs: &'static str,
}

/// vLLM 0.6 to 0.33 (`vllm/v1/metrics/loggers.py`), SGLang 0.4 to 0.5 (`sglang/srt/metrics/collector.py`). llama.cpp's server
/// counts tokens when their answer ends, so that what an interval counted was not done in it: it has no place here.
static ENGINES: [Names; 2] = [
    Names {
        engine: "vLLM",
        fields: &[
            (Field::Running, "vllm:num_requests_running"),
            (Field::Waiting, "vllm:num_requests_waiting"),
            (Field::KvUsage, "vllm:kv_cache_usage_perc"),
            (Field::KvUsage, "vllm:gpu_cache_usage_perc"),
            (Field::PromptTokens, "vllm:prompt_tokens_total"),
            (Field::CachedTokens, "vllm:prefix_cache_hits_total"),
            (Field::CachedTokens, "vllm:gpu_prefix_cache_hits_total"),
            (Field::GapSum, "vllm:inter_token_latency_seconds_sum"),
            (Field::GapSum, "vllm:time_per_output_token_seconds_sum"),
            (Field::GapCount, "vllm:inter_token_latency_seconds_count"),
            (Field::GapCount, "vllm:time_per_output_token_seconds_count"),
            (Field::TtftSum, "vllm:time_to_first_token_seconds_sum"),
            (Field::TtftCount, "vllm:time_to_first_token_seconds_count"),
            (Field::E2eSum, "vllm:e2e_request_latency_seconds_sum"),
            (Field::E2eCount, "vllm:e2e_request_latency_seconds_count"),
        ],
        prompts: "vllm:request_prompt_tokens",
        outputs: "vllm:request_generation_tokens",
    },
    Names {
        engine: "SGLang",
        fields: &[
            (Field::Running, "sglang:num_running_reqs"),
            (Field::Waiting, "sglang:num_queue_reqs"),
            (Field::KvUsage, "sglang:token_usage"),
            (Field::KvTokens, "sglang:num_used_tokens"),
            (Field::KvCapacity, "sglang:max_total_num_tokens"),
            (Field::PromptTokens, "sglang:prompt_tokens_total"),
            (Field::CachedTokens, "sglang:cached_tokens_total"),
            (Field::GapSum, "sglang:inter_token_latency_seconds_sum"),
            (Field::GapCount, "sglang:inter_token_latency_seconds_count"),
            (Field::TtftSum, "sglang:time_to_first_token_seconds_sum"),
            (Field::TtftCount, "sglang:time_to_first_token_seconds_count"),
            (Field::E2eSum, "sglang:e2e_request_latency_seconds_sum"),
            (Field::E2eCount, "sglang:e2e_request_latency_seconds_count"),
        ],
        prompts: "sglang:prompt_tokens_histogram",
        outputs: "sglang:generation_tokens_histogram",
    },
];

/// vLLM's description of its cache: everything in its labels.
const CACHE_CONFIG: &str = "vllm:cache_config_info";
/// Labels that tell one engine from another: its host, its pod, and which of several behind one page.
const WHICH: [&str; 3] = ["instance", "pod", "engine"];

/// Nothing to fit to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountersError {
    /// Metrics of no engine that is known.
    #[error(
        "no metrics of {} that tell token by token; looked for {missing}. Watching needs vLLM or SGLang with its metrics switched on \
         (SGLang: --enable-metrics); of another engine take the gateway's log (--log), or measure it out of rotation (--url alone)",
        ENGINES.iter().map(|names| names.engine).collect::<Vec<_>>().join(" or ")
    )]
    NoEngine {
        /// What would have told.
        missing: String,
    },
    /// Fewer than two looks at any engine.
    #[error("{looks} looks at the server's counters; two are needed to tell what came in between")]
    TooFew {
        /// How many.
        looks: usize,
    },
}

/// Every sample of interest: an engine, a time (microseconds), and there each field by the place of its name.
type Looks = BTreeMap<String, BTreeMap<i64, BTreeMap<(Field, usize), f64>>>;

/// Lengths of prompts or answers: what histograms went up by.
#[derive(Debug, Default)]
struct Lengths {
    before: BTreeMap<String, Histogram>,
    came: Histogram,
}

impl Lengths {
    fn look(&mut self, now: BTreeMap<String, Histogram>) {
        for (engine, histogram) in now {
            if let Some(before) = self.before.insert(engine.clone(), histogram) {
                self.came.add(&self.before[&engine].less(&before));
            }
        }
    }

    /// Lengths with their counts, stretched to the mean that the totals say.
    fn values(&self, mean: Option<f64>) -> Vec<(f64, f64)> {
        let middles = self.came.middles();
        let count: f64 = middles.iter().map(|(_, count)| count).sum();
        if count <= 0.0 {
            // All alike is all that is known.
            return mean.map(|mean| vec![(mean, 1.0)]).unwrap_or_default();
        }
        let coarse = middles.iter().map(|(length, count)| length * count).sum::<f64>() / count;
        let stretch = mean.filter(|_| coarse > 0.0).map_or(1.0, |mean| mean / coarse);
        middles
            .into_iter()
            .filter(|(_, count)| *count > 0.0)
            .map(|(length, count)| ((length * stretch).max(1.0), count))
            .collect()
    }

    fn are_known(&self) -> bool {
        self.came.middles().iter().any(|(_, count)| *count > 0.0)
    }
}

/// Counters as they are collected.
#[derive(Debug, Default)]
pub struct Counters {
    looks: Looks,
    /// Tokens that an engine's cache holds, and of a block.
    cache: BTreeMap<String, (f64, u32)>,
    prompts: Lengths,
    outputs: Lengths,
    engine: Option<usize>,
}

impl Counters {
    /// Every metric that is of use, by name; histograms of lengths without their endings.
    #[must_use]
    pub fn names() -> (Vec<&'static str>, Vec<&'static str>) {
        let fields = ENGINES.iter().flat_map(|names| names.fields.iter().map(|(_, name)| *name));
        let lengths = ENGINES.iter().flat_map(|names| [names.prompts, names.outputs]);
        (fields.chain([CACHE_CONFIG]).collect(), lengths.collect())
    }

    /// Takes one sample of a metric at a time in seconds.
    pub fn add<'a>(&mut self, at_s: f64, name: &str, labels: impl Fn(&str) -> Option<&'a str>, value: f64) {
        let which: Vec<&str> = WHICH.iter().filter_map(|name| labels(name)).collect();
        let which = which.join(" ");
        if name == CACHE_CONFIG {
            let number = |name: &str| labels(name)?.parse::<u32>().ok().filter(|number| *number > 0);
            if let (Some(blocks), Some(size)) = (number("num_gpu_blocks"), number("block_size")) {
                self.cache.insert(which, (f64::from(blocks) * f64::from(size), size));
            }
            return;
        }
        let found = ENGINES.iter().enumerate().find_map(|(engine, names)| {
            let place = names.fields.iter().position(|(_, of)| *of == name)?;
            Some((engine, names.fields[place].0, place))
        });
        let Some((engine, field, place)) = found.filter(|_| value.is_finite()) else { return };
        self.engine.get_or_insert(engine);
        #[expect(clippy::cast_possible_truncation)] // a cast saturates
        let at_us = (at_s * 1e6).round() as i64;
        let look = self.looks.entry(which).or_default().entry(at_us).or_default();
        // Models and ranks of one engine are told apart by other labels; together they are the engine.
        *look.entry((field, place)).or_insert(0.0) += value;
    }

    /// Takes a page at a time in seconds.
    pub fn page(&mut self, at_s: f64, page: &str) {
        let mut lengths: [BTreeMap<String, Histogram>; 2] = Default::default();
        for (name, labels, value) in page.lines().filter_map(sample) {
            if let Some(of) = name.strip_suffix("_bucket") {
                let which = ENGINES.iter().find_map(|names| {
                    [names.prompts, names.outputs].into_iter().position(|lengths| lengths == of)
                });
                if let (Some(which), Some(bound)) = (which, bound(labels)) {
                    let engine = label(labels, "engine").unwrap_or_default().to_owned();
                    lengths[which].entry(engine).or_default().count(bound, value);
                }
                continue;
            }
            self.add(at_s, name, |wanted| label(labels, wanted), value);
        }
        let [prompts, outputs] = lengths;
        self.prompts.look(prompts);
        self.outputs.look(outputs);
    }

    /// Takes what a histogram of lengths went up by over all the time: upper bounds and cumulative counts.
    pub fn lengths(&mut self, name: &str, buckets: &[(f64, f64)]) {
        for names in &ENGINES {
            let lengths = match name {
                name if name == names.prompts => &mut self.prompts,
                name if name == names.outputs => &mut self.outputs,
                _ => continue,
            };
            for (bound, count) in buckets {
                lengths.came.count(*bound, *count);
            }
        }
    }

    /// The looks as intervals. `about` is completed with the size of the KV cache where that is told.
    ///
    /// # Errors
    /// When no engine is known by these names, or there were not two looks.
    pub fn watched(mut self, mut about: Description) -> Result<Watched, CountersError> {
        let gap = |names: &Names| {
            names.fields.iter().find(|(field, _)| *field == Field::GapCount).map(|(_, name)| *name)
        };
        let has_gaps = self
            .looks
            .values()
            .flat_map(BTreeMap::values)
            .any(|look| look.keys().any(|(field, _)| *field == Field::GapCount));
        let Some(engine) = self.engine.filter(|_| has_gaps) else {
            let missing: Vec<&str> = ENGINES.iter().filter_map(gap).collect();
            return Err(CountersError::NoEngine { missing: missing.join(", ") });
        };
        let most = self.looks.values().map(BTreeMap::len).max().unwrap_or(0);
        if most < 2 {
            return Err(CountersError::TooFew { looks: most });
        }
        let began = self.looks.values().filter_map(|looks| looks.keys().next()).min().copied().unwrap_or(0);
        let said = self.looks.values().flat_map(BTreeMap::values).flatten();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast saturates
        let capacity = said
            .filter(|((field, _), _)| *field == Field::KvCapacity)
            .map(|(_, tokens)| *tokens as u64)
            .next_back();
        let mut watched = Watched::default();
        let (mut restarts, mut engines) = (0_usize, 0_usize);
        for (which, looks) in std::mem::take(&mut self.looks) {
            let capacity = self.cache.get(&which).map(|(tokens, _)| *tokens);
            let looks: Vec<_> = looks.iter().collect();
            let before = watched.intervals.len();
            for pair in looks.windows(2) {
                let ((from, first), (until, last)) = (pair[0], pair[1]);
                let between = Between { first, last, capacity };
                #[expect(clippy::cast_precision_loss)] // microseconds of a watch
                let at_s = |at_us: i64| (at_us - began) as f64 / 1e6;
                match between.interval(engines, at_s(*from), at_s(*until) - at_s(*from)) {
                    Some(interval) => watched.intervals.push(interval),
                    None => restarts += 1,
                }
            }
            engines += usize::from(watched.intervals.len() > before);
        }
        if let Some((tokens, block_size)) = self.cache.values().next() {
            about.block_size = Some(*block_size);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // casts saturate
            let blocks = (tokens / f64::from(*block_size)) as u32;
            about.num_gpu_blocks = about.num_gpu_blocks.or(Some(blocks));
        }
        about.kv_cache_tokens = about.kv_cache_tokens.or(capacity);
        let sizes: BTreeSet<u64> = self.cache.values().map(|(tokens, _)| tokens.to_bits()).collect();
        if sizes.len() > 1 {
            watched.notes.push("the engines' KV caches differ in size: the first one's is taken".to_owned());
        }
        if engines > 1 {
            watched.notes.push(format!("{engines} engines were watched and taken to be alike"));
        }
        if restarts > 0 {
            watched.notes.push(format!(
                "{restarts} intervals are left out: counters went back or were not there, as when a process is started again"
            ));
        }
        about.engine = about.engine.or(Some(ENGINES[engine].engine.to_owned()));
        let sum = |of: fn(&Interval) -> f64| watched.intervals.iter().map(of).sum::<f64>();
        let (began, gaps) = (sum(|it| it.first_tokens), sum(|it| it.gaps));
        let prompts = sum(|it| it.prompt_tokens);
        let mean = |of: f64| (began > 0.0 && of > 0.0).then(|| of / began);
        for (lengths, what) in [(&self.prompts, "prompts"), (&self.outputs, "answers")] {
            if !lengths.are_known() {
                watched
                    .notes
                    .push(format!("no histogram of the lengths of {what}: they are taken to be all alike"));
            }
        }
        watched.prompts = self.prompts.values(mean(prompts));
        watched.outputs = self.outputs.values(mean(gaps + began));
        watched.about = about;
        Ok(watched)
    }
}

/// Two looks at one engine.
struct Between<'a> {
    first: &'a BTreeMap<(Field, usize), f64>,
    last: &'a BTreeMap<(Field, usize), f64>,
    capacity: Option<f64>,
}

impl Between<'_> {
    /// By the first name that both looks have.
    fn both(&self, field: Field) -> Option<(f64, f64)> {
        let mut named = self.first.iter().filter(|((of, _), _)| *of == field);
        named.find_map(|(key, first)| Some((*first, *self.last.get(key)?)))
    }

    /// What a counter went up by; `None` where it went back or is not there.
    fn up(&self, field: Field) -> Option<f64> {
        self.both(field).map(|(first, last)| last - first).filter(|up| *up >= 0.0)
    }

    fn interval(&self, engine: usize, from_s: f64, seconds: f64) -> Option<Interval> {
        let cached = self.up(Field::CachedTokens).unwrap_or(0.0);
        let gauge = |field: Field| self.both(field);
        let (running_before, running) = gauge(Field::Running).unwrap_or((0.0, 0.0));
        let (waiting_before, waiting) = gauge(Field::Waiting).unwrap_or((0.0, 0.0));
        let mean = |(first, last): (f64, f64)| f64::midpoint(first, last);
        let capacity = self
            .capacity
            .or_else(|| self.last.iter().find(|((of, _), _)| *of == Field::KvCapacity).map(|(_, it)| *it));
        let kv_tokens =
            gauge(Field::KvTokens).map(mean).or_else(|| Some(gauge(Field::KvUsage).map(mean)? * capacity?));
        Some(Interval {
            engine,
            from_s,
            seconds,
            gaps: self.up(Field::GapCount)?,
            gaps_s: self.up(Field::GapSum)?,
            first_tokens: self.up(Field::TtftCount)?,
            ttft_s: self.up(Field::TtftSum)?,
            ended: self.up(Field::E2eCount)?,
            e2e_s: self.up(Field::E2eSum)?,
            prompt_tokens: (self.up(Field::PromptTokens)? - cached).max(0.0),
            cached_tokens: cached,
            running_change: running - running_before,
            in_flight: (running + waiting).max(running_before + waiting_before),
            kv_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(scale: f64, older: bool) -> String {
        let gap = if older { "time_per_output_token" } else { "inter_token_latency" };
        let usage = if older { "gpu_cache_usage_perc" } else { "kv_cache_usage_perc" };
        let mut page = format!(
            "vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"1001\",engine=\"0\"}} 1.0\n\
             vllm:{usage}{{engine=\"0\"}} 0.25\n"
        );
        for (name, value) in [
            (format!("{gap}_seconds_sum"), 12.0),
            (format!("{gap}_seconds_count"), 1000.0),
            ("time_to_first_token_seconds_sum".to_owned(), 2.0),
            ("time_to_first_token_seconds_count".to_owned(), 10.0),
            ("e2e_request_latency_seconds_sum".to_owned(), 30.0),
            ("e2e_request_latency_seconds_count".to_owned(), 9.0),
            ("prompt_tokens_total".to_owned(), 5000.0),
            ("prefix_cache_hits_total".to_owned(), 1000.0),
            ("request_prompt_tokens_bucket{le=\"200\"}".to_owned(), 5.0),
            ("request_prompt_tokens_bucket{le=\"+Inf\"}".to_owned(), 9.0),
        ] {
            let value = value * scale;
            page.push_str(&match name.split_once('{') {
                None => format!("vllm:{name}{{engine=\"0\"}} {value}\n"),
                Some((name, labels)) => format!("vllm:{name}{{engine=\"0\",{labels} {value}\n"),
            });
        }
        page
    }

    #[test]
    fn pages_become_intervals_under_old_names_and_new() {
        for older in [false, true] {
            let mut counters = Counters::default();
            for (at_s, scale) in [(100.0, 1.0), (102.0, 2.0), (104.0, 1.0), (106.0, 2.0)] {
                counters.page(at_s, &page(scale, older));
            }
            let watched = counters.watched(Description::default()).unwrap();
            assert_eq!(watched.intervals.len(), 2, "counters went back between the second and the third");
            let interval = watched.intervals[0];
            assert_eq!((interval.from_s, interval.seconds), (0.0, 2.0));
            assert_eq!((interval.gaps, interval.gaps_s, interval.first_tokens), (1000.0, 12.0, 10.0));
            assert_eq!((interval.prompt_tokens, interval.cached_tokens), (4000.0, 1000.0));
            assert_eq!(interval.kv_tokens, Some(4004.0), "a quarter of 1001 blocks of 16");
            assert_eq!((watched.about.num_gpu_blocks, watched.about.block_size), (Some(1001), Some(16)));
            // The middle of the first bucket is 100, all beyond is 200; stretched to 400 on average.
            let mean = watched.prompts.iter().map(|(length, count)| length * count).sum::<f64>()
                / watched.prompts.iter().map(|(_, count)| count).sum::<f64>();
            assert!((mean - 400.0).abs() < 1e-9, "{:?}", watched.prompts);
            assert_eq!(watched.outputs, [(101.0, 1.0)]);
            assert!(watched.notes.iter().any(|note| note.contains("started again")), "{:?}", watched.notes);
        }
    }

    #[test]
    fn engines_behind_one_page_are_told_apart_and_others_are_not_known() {
        let mut counters = Counters::default();
        for (at_s, scale) in [(0.0, 1.0), (2.0, 2.0)] {
            let one = page(scale, false);
            counters.page(at_s, &format!("{one}{}", one.replace("engine=\"0\"", "engine=\"1\"")));
        }
        let watched = counters.watched(Description::default()).unwrap();
        assert_eq!(watched.engines(), 2);
        let mut other = Counters::default();
        other.page(0.0, "llamacpp:tokens_predicted_total 5\n");
        let error = other.watched(Description::default()).unwrap_err().to_string();
        assert!(error.contains("vLLM or SGLang") && error.contains("--log"), "{error}");
        let mut once = Counters::default();
        once.page(0.0, &page(1.0, false));
        assert_eq!(once.watched(Description::default()).unwrap_err(), CountersError::TooFew { looks: 1 });
    }
}
