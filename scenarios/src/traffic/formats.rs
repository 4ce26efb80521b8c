//! The formats that are known, and what each of them has to do.
//!
//! Another format is one file with a [`FormatReader`] and an entry in [`FORMATS`].

use super::Format;
use super::aiperf_jsonl::AiperfJsonl;
use super::assumed::Assumed;
use super::azure_csv::AzureCsv;
use super::bailian_jsonl::BailianJsonl;
use super::burstgpt_csv::BurstGptCsv;
use super::envoy_log::{EnvoyJson, EnvoyText};
use super::haproxy_log::HaproxyHttp;
use super::import::ReadOptions;
use super::input::{Head, Input, excerpt};
use super::litellm_csv::LitellmCsv;
use super::mooncake_jsonl::MooncakeJsonl;
use super::nginx_log::{NginxCombined, NginxJson};
use super::otlp_json::OtlpJson;
use super::prometheus_json::PrometheusJson;
use super::rate_csv::RateCsv;
use super::timestamp::TimestampReader;
use super::tracelab_jsonl::TracelabJsonl;
use super::vllm_bench_json::VllmBenchJson;
use crate::error::TraceError;

/// Why a row of another model, series or path is left out.
pub(super) const NOT_WANTED: &str = "it is not of what traffic.only names";

/// A row as its format reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// When the request was sent: since the Unix epoch when the format has a calendar, else since a zero of the file's own.
    pub(super) time_ns: i64,
    /// When it was answered, by the same clock, where the file says it.
    pub(super) end_ns: i64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Why it is no request to be played.
    pub(super) left_out: Option<&'static str>,
}

impl Row {
    pub(super) const fn new(time_ns: i64, input_tokens: u64, output_tokens: u64) -> Self {
        Self { time_ns, end_ns: time_ns, input_tokens, output_tokens, left_out: None }
    }

    pub(super) const fn left_out(self, reason: &'static str) -> Self {
        Self { left_out: Some(reason), ..self }
    }
}

/// One format's reader.
pub(super) trait FormatReader: Send {
    /// The next row, or the end.
    fn next_row(&mut self) -> Result<Option<Row>, TraceError>;
    /// The line of the row last read, from 1.
    fn line(&self) -> u64;
    /// From now on the names of the prompts' blocks are wanted.
    fn read_prefixes(&mut self) {}
    /// Those of the row last read.
    fn take_prefix(&mut self) -> Vec<u64> {
        Vec::new()
    }
    /// Whether times without a zone were met and taken for UTC.
    fn zone_assumed(&self) -> bool {
        false
    }
    /// Whether times are points on the calendar, where that depends on the file.
    fn calendar(&self) -> Option<bool> {
        None
    }
    /// Rows read, where they are not the requests.
    fn rows(&self) -> Option<u64> {
        None
    }
    /// What a user must know of how the file was read, a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a reader is opened with beside the bytes.
pub(super) struct Context<'a> {
    pub(super) options: &'a ReadOptions,
    /// Which time the file is played, from 0.
    pub(super) pass: u32,
}

impl Context<'_> {
    pub(super) fn timestamps(&self) -> TimestampReader {
        TimestampReader::in_zone(self.options.time_zone.as_deref())
    }

    pub(super) fn assumed(&self) -> Assumed {
        Assumed::new(self.options.assume_tokens.as_ref(), self.options.seed)
    }
}

/// Opens a format's reader on a file's bytes.
type Open = fn(Input, &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError>;

/// In what order a format's rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Of the requests' times.
    Arrival,
    /// Of their ends, nearly: a log.
    Completion,
}

/// What is known about a format.
pub(super) struct FormatEntry {
    pub(super) format: Format,
    pub(super) name: &'static str,
    /// Whether times are points on the calendar.
    pub(super) calendar: bool,
    pub(super) order: Order,
    /// Whether requests are drawn, not read: a rate can then be scaled without touching the calendar.
    pub(super) drawn: bool,
    /// Whether its rows can be chosen by `traffic.only`.
    pub(super) takes_only: bool,
    /// Whether the whole file may be one line.
    pub(super) long_lines: bool,
    /// Whether a file that begins so is of this format.
    recognise: fn(&Head) -> bool,
    pub(super) open: Open,
}

/// An entry of a trace in order of arrival, a request a row; what differs is said beside it.
const TRACE: FormatEntry = FormatEntry {
    format: Format::Auto,
    name: "",
    calendar: false,
    order: Order::Arrival,
    drawn: false,
    takes_only: false,
    long_lines: false,
    recognise: |_| false,
    open: MooncakeJsonl::open,
};

/// An entry of a log.
const LOG: FormatEntry = FormatEntry { calendar: true, takes_only: true, order: Order::Completion, ..TRACE };

static FORMATS: [FormatEntry; 16] = [
    FormatEntry {
        format: Format::AzureCsv,
        name: "azure-csv",
        calendar: true,
        recognise: AzureCsv::recognise,
        open: AzureCsv::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::MooncakeJsonl,
        name: "mooncake-jsonl",
        recognise: MooncakeJsonl::recognise,
        open: MooncakeJsonl::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::BailianJsonl,
        name: "bailian-jsonl",
        recognise: BailianJsonl::recognise,
        open: BailianJsonl::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::BurstgptCsv,
        name: "burstgpt-csv",
        takes_only: true,
        recognise: BurstGptCsv::recognise,
        open: BurstGptCsv::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::AiperfJsonl,
        name: "aiperf-jsonl",
        recognise: AiperfJsonl::recognise,
        open: AiperfJsonl::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::LitellmCsv,
        name: "litellm-csv",
        recognise: LitellmCsv::recognise,
        open: LitellmCsv::open,
        ..LOG
    },
    FormatEntry {
        format: Format::NginxCombined,
        name: "nginx-combined",
        recognise: NginxCombined::recognise,
        open: NginxCombined::open,
        ..LOG
    },
    FormatEntry {
        format: Format::NginxJson,
        name: "nginx-json",
        recognise: NginxJson::recognise,
        open: NginxJson::open,
        ..LOG
    },
    FormatEntry {
        format: Format::HaproxyHttp,
        name: "haproxy-http",
        recognise: HaproxyHttp::recognise,
        open: HaproxyHttp::open,
        ..LOG
    },
    FormatEntry {
        format: Format::EnvoyText,
        name: "envoy-text",
        recognise: EnvoyText::recognise,
        open: EnvoyText::open,
        ..LOG
    },
    FormatEntry {
        format: Format::EnvoyJson,
        name: "envoy-json",
        recognise: EnvoyJson::recognise,
        open: EnvoyJson::open,
        ..LOG
    },
    FormatEntry {
        format: Format::RateCsv,
        name: "rate-csv",
        calendar: true,
        drawn: true,
        takes_only: true,
        recognise: RateCsv::recognise,
        open: RateCsv::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::PrometheusJson,
        name: "prometheus-json",
        calendar: true,
        drawn: true,
        long_lines: true,
        recognise: PrometheusJson::recognise,
        open: PrometheusJson::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::OtlpJson,
        name: "otlp-json",
        long_lines: true,
        recognise: OtlpJson::recognise,
        open: OtlpJson::open,
        ..LOG
    },
    FormatEntry {
        format: Format::VllmBenchJson,
        name: "vllm-bench-json",
        long_lines: true,
        recognise: VllmBenchJson::recognise,
        open: VllmBenchJson::open,
        ..TRACE
    },
    FormatEntry {
        format: Format::TracelabJsonl,
        name: "tracelab-jsonl",
        calendar: true,
        takes_only: true,
        recognise: TracelabJsonl::recognise,
        open: TracelabJsonl::open,
        ..TRACE
    },
];

/// The format that is asked for, or the one that the file shows; an error when it shows none, or more than one.
pub(super) fn recognise(input: &Input, asked: Format) -> Result<&'static FormatEntry, TraceError> {
    let head = &input.head;
    let error = |problem: String, help: String| {
        Err(TraceError { path: input.path.clone(), row: Some(1), problem, help, source: None })
    };
    if head.first_line.is_empty() {
        return error("the file is empty".into(), "check the path, or fetch the file again".into());
    }
    if let Some(entry) = FORMATS.iter().find(|entry| entry.format == asked) {
        return Ok(entry);
    }
    let found: Vec<&FormatEntry> = FORMATS.iter().filter(|entry| (entry.recognise)(head)).collect();
    let first = excerpt(&head.first_line);
    match found[..] {
        [entry] => Ok(entry),
        [] if input.begins_with_long_line() => Err(input.long_line()),
        [] => {
            let known: Vec<&str> = FORMATS.iter().map(|entry| entry.name).collect();
            error(
                format!("the format is not recognised; the first line is `{first}`"),
                format!("set traffic.format if you know it; known formats: {}", known.join(", ")),
            )
        }
        _ => {
            let names: Vec<String> =
                found.iter().map(|entry| format!("traffic.format = \"{}\"", entry.name)).collect();
            error(
                format!("the file may be of {} formats; the first line is `{first}`", found.len()),
                format!("say which it is: {}", names.join(" or ")),
            )
        }
    }
}
