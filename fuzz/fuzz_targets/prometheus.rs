//! The file that a history is kept in. The first byte: the options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slackwater_fuzz::{arrivals, options};
use slackwater_scenarios::Format;

fuzz_target!(|data: &[u8]| {
    let [flags, file @ ..] = data else { return };
    arrivals(file, options(Format::PrometheusJson, *flags));
});
