//! Parameters of the transport, and of coming back.

use std::time::Duration;

use kcpq_core::client;
use kcpq_core::kcp::{self, CongestionControl};

/// Parameters of the transport: one of the presets, or one with changes.
///
/// ```
/// use std::time::Duration;
///
/// use kcpq_smol::{CongestionControl, Preset};
///
/// let preset = Preset::VIDEO.interval(Duration::from_millis(5)).congestion(CongestionControl::Off);
/// assert_ne!(preset, Preset::VIDEO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset(pub(crate) kcp::Config);

impl Preset {
    /// Games, telemetry: lowest latency. The default.
    pub const GAMES: Self = Self(kcp::Config::GAMES);
    /// Video: acknowledgements may wait a little longer.
    pub const VIDEO: Self = Self(kcp::Config::VIDEO);
    /// Bulk and background flows on shared links: long timeouts, congestion control by losses.
    pub const STEADY: Self = Self(kcp::Config::STEADY);

    /// How long acknowledgements may wait at most (KCP's `interval`).
    #[must_use]
    pub const fn interval(mut self, span: Duration) -> Self {
        self.0.interval = micros(span);
        self
    }

    /// The least retransmission timeout (RTO): 1 ms to 60 s.
    #[must_use]
    pub const fn min_rto(mut self, span: Duration) -> Self {
        self.0.min_rto = micros(span);
        self
    }

    /// The send and the receive window in segments, at least 1: how many may be unacknowledged.
    #[must_use]
    pub const fn windows(mut self, send: u16, receive: u16) -> Self {
        self.0.send_window = send;
        self.0.recv_window = receive;
        self
    }

    /// A segment is sent again after so many acknowledgements of later ones (KCP's `resend`); 0: only when its time is over.
    #[must_use]
    pub const fn fast_resend(mut self, acknowledgements: u8) -> Self {
        self.0.fast_resend = acknowledgements;
        self
    }

    /// How much more than its data a thin flow may send at most against losses, in percent; 0 is off.
    #[must_use]
    pub const fn redundancy(mut self, percent: u16) -> Self {
        self.0.redundancy = percent;
        self
    }

    /// Congestion control.
    #[must_use]
    pub const fn congestion(mut self, congestion: CongestionControl) -> Self {
        self.0.congestion = congestion;
        self
    }
}

impl Default for Preset {
    fn default() -> Self {
        Self::GAMES
    }
}

/// All that there is to set.
impl From<kcp::Config> for Preset {
    fn from(config: kcp::Config) -> Self {
        Self(config)
    }
}

/// Spans beyond half a million years are none that a machine waits for.
const fn micros(span: Duration) -> kcpq_core::Duration {
    let micros = span.as_micros();
    kcpq_core::Duration::from_micros(if micros > u64::MAX as u128 { u64::MAX } else { micros as u64 })
}

/// When to try to connect again: exponential back-off with jitter (PROTOCOL.md 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failed attempt; doubles with each further one.
    pub base: Duration,
    /// Maximum delay, before jitter.
    pub cap: Duration,
}

impl Backoff {
    /// A steady one of 4 s: an attempt costs a few datagrams, and whoever waits for a server wants to be back soon.
    pub const DEFAULT: Self = Self { base: Duration::from_secs(4), cap: Duration::from_secs(4) };

    /// The original's: 5 s, at most 30 s.
    pub const KCPQ: Self = Self { base: Duration::from_secs(5), cap: Duration::from_secs(30) };
}

impl From<Backoff> for client::Backoff {
    fn from(backoff: Backoff) -> Self {
        Self { base: backoff.base.into(), cap: backoff.cap.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_those_of_the_core() {
        assert_eq!(client::Backoff::from(Backoff::DEFAULT), client::Backoff::DEFAULT);
        assert_eq!(client::Backoff::from(Backoff::KCPQ), client::Backoff::KCPQ);
        assert_eq!(Preset::default(), kcp::Config::default().into());
    }

    #[test]
    fn what_is_changed_is_what_was_named() {
        let preset = Preset::GAMES
            .interval(Duration::from_millis(1))
            .min_rto(Duration::MAX)
            .windows(2, 3)
            .fast_resend(4)
            .redundancy(5)
            .congestion(CongestionControl::Off);
        let expected = kcp::Config {
            interval: kcpq_core::Duration::from_millis(1),
            min_rto: kcpq_core::Duration::from_micros(u64::MAX),
            send_window: 2,
            recv_window: 3,
            fast_resend: 4,
            redundancy: 5,
            congestion: CongestionControl::Off,
            ..kcp::Config::GAMES
        };
        assert_eq!(preset, Preset(expected));
    }
}
