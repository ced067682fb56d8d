//! Zero-window probes (WASK): asking about a closed window (PROTOCOL.md 2.7).

use super::config::Config;
use crate::time::{Duration, Instant};

/// The persist timer, which sends zero-window probes with back-off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe(Option<(Duration, Instant)>);

impl Probe {
    /// True if a zero-window probe is due now. `waiting`: data wait for a zero window to open.
    pub(super) fn ask(&mut self, now: Instant, waiting: bool, config: &Config) -> bool {
        if !waiting {
            self.0 = None;
            return false;
        }
        let Some((wait, at)) = self.0 else {
            self.0 = Some((config.probe_initial, now + config.probe_initial));
            return false;
        };
        if now < at {
            return false;
        }
        let wait = (wait + wait.div(2)).min(config.probe_limit);
        self.0 = Some((wait, now + wait));
        true
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.map(|(_, at)| at)
    }
}
