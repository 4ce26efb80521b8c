//! The result of `vllm bench serve --save-result --save-detailed`: one JSON object with `start_times`, `input_lens`,
//! `output_lens` and `errors`, a value a request.
//!
//! Times are seconds of the client's own clock. The four columns are in memory together; a benchmark has thousands of
//! requests, not millions.

use serde::Deserialize;

use super::formats::{Context, FormatReader, Row};
use super::input::{Head, Input, read_error};
use super::number::Seconds;
use crate::error::TraceError;

pub(super) struct VllmBenchJson {
    /// In order of start.
    rows: std::vec::IntoIter<(Row, u64)>,
    number: u64,
}

#[derive(Deserialize)]
struct Keys {
    start_times: Option<Vec<Seconds>>,
    input_lens: Option<Vec<u64>>,
    output_lens: Option<Vec<u64>>,
    errors: Option<Vec<Option<String>>>,
}

impl VllmBenchJson {
    pub(super) fn recognise(head: &Head) -> bool {
        let has = |key: &str| head.start.windows(key.len()).any(|part| part == key.as_bytes());
        head.start.trim_ascii_start().starts_with(b"{")
            && (has("\"request_throughput\"") || has("\"input_lens\""))
            && (has("\"completed\"") || has("\"backend\""))
    }

    pub(super) fn open(input: Input, _: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let path = input.path;
        let wrong = |row: Option<u64>, problem: String, help: &str| TraceError {
            path: path.clone(),
            row,
            problem,
            help: help.into(),
            source: None,
        };
        let keys: Keys = serde_json::from_reader(input.bytes).map_err(|error| {
            if error.is_io() {
                return read_error(&path, None, error.into());
            }
            let help =
                "a result has `start_times`, `input_lens`, `output_lens`: correct it, or save it again";
            wrong(u64::try_from(error.line()).ok(), error.to_string(), help)
        })?;
        let (Some(starts), Some(inputs), Some(outputs)) =
            (keys.start_times, keys.input_lens, keys.output_lens)
        else {
            return Err(wrong(
                Some(1),
                "it lacks one of `start_times`, `input_lens`, `output_lens`: what each request was".into(),
                "save the result with --save-result --save-detailed, by a vLLM that writes `start_times`",
            ));
        };
        let errors = keys.errors.unwrap_or_default();
        if inputs.len() != starts.len()
            || outputs.len() != starts.len()
            || !(errors.is_empty() || errors.len() == starts.len())
        {
            let problem = format!(
                "{} start_times, {} input_lens, {} output_lens and {} errors are not of the same requests",
                starts.len(),
                inputs.len(),
                outputs.len(),
                errors.len()
            );
            return Err(wrong(Some(1), problem, "save the result again"));
        }
        let mut rows: Vec<(Row, u64)> = (0..starts.len())
            .map(|index| {
                let row = Row::new(starts[index].0, inputs[index], outputs[index]);
                let failed =
                    errors.get(index).is_some_and(|error| error.as_ref().is_some_and(|it| !it.is_empty()));
                (
                    if failed { row.left_out("it has an error: the request failed") } else { row },
                    index as u64 + 1,
                )
            })
            .collect();
        // They stand in the order in which they were made, which need not be that in which they were sent.
        rows.sort_by_key(|(row, _)| row.time_ns);
        Ok(Box::new(Self { rows: rows.into_iter(), number: 0 }))
    }
}

impl FormatReader for VllmBenchJson {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        Ok(self.rows.next().map(|(row, number)| {
            self.number = number;
            row
        }))
    }

    /// The request's number, for an object has no lines.
    fn line(&self) -> u64 {
        self.number
    }
}
