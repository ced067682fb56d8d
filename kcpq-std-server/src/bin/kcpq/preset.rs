//! The transport's presets, by the names that the original gives them.

use clap::ValueEnum;
use kcpq_core::kcp;

/// One of the presets of [`kcp::Config`] (PROTOCOL.md 2.6), as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// Games, telemetry: the lowest latency
    Games,
    /// Video: acknowledgements may wait a little longer
    Video,
    /// Bulk and background flows on shared links: long timeouts, congestion control by losses
    Steady,
}

impl Preset {
    /// Its parameters.
    pub(super) fn config(self) -> kcp::Config {
        match self {
            Self::Games => kcp::Config::GAMES,
            Self::Video => kcp::Config::VIDEO,
            Self::Steady => kcp::Config::STEADY,
        }
    }
}
