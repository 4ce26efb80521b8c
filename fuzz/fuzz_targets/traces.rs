//! Every importer: the first byte asks for a format (or none), the second for the options, the rest is the file.
//!
//! No input may panic or hang. What is read is in order of time, and the report counts it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slackwater_fuzz::{FORMATS, arrivals, options};

fuzz_target!(|data: &[u8]| {
    let [format, flags, file @ ..] = data else { return };
    let format = FORMATS[usize::from(*format) % FORMATS.len()];
    arrivals(file, options(format, *flags));
});
