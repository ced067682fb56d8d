//! A progress bar, where somebody looks.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The bar; hidden where standard error is no terminal.
pub(crate) struct Progress(ProgressBar);

/// How often it is drawn.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

impl Progress {
    /// A bar up to `total`, or a counter when that is not known.
    pub(crate) fn new(what: &'static str, total: Option<u64>, wanted: bool) -> Self {
        if !wanted || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{msg} {wide_bar} {human_pos}/{human_len} {per_sec}"),
            None => (ProgressBar::no_length(), "{msg} {human_pos} {per_sec} {elapsed}"),
        };
        // A template that indicatif does not take leaves its own.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    /// Shows how far it is.
    pub(crate) fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
