//! Progress on stderr, once work takes more than a second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that stays hidden for a second. On something that is no terminal it stays hidden altogether.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    noun: &'static str,
}

impl Progress {
    /// `length`: simulated seconds to come, when known.
    pub(crate) fn new(what: &str, length_s: Option<f64>) -> Self {
        Self::counting(what, length_s, "requests")
    }

    /// The same, of something else than requests.
    pub(crate) fn counting(what: &str, length_s: Option<f64>, noun: &'static str) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_message(what.to_owned());
        if let Some(length) = length_s {
            bar.set_length(whole(length));
        }
        Self { bar, began: Instant::now(), noun }
    }

    /// `at_s`: simulated seconds behind; `count`: requests so far.
    pub(crate) fn at(&mut self, at_s: f64, count: u64) {
        if self.bar.is_hidden() && self.began.elapsed() > Duration::from_secs(1) {
            let template = match self.bar.length() {
                Some(length) if length > 0 => "{msg} [{wide_bar}] {percent} % {prefix}, {eta} to go",
                _ => "{msg} {spinner} {prefix}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_prefix(format!("{count} {}", self.noun));
        self.bar.set_position(whole(at_s));
    }

    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
fn whole(seconds: f64) -> u64 {
    seconds as u64
}
