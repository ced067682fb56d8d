//! Congestion control: what limits the sender besides the windows of both ends.

#[cfg_attr(not(feature = "bbr"), path = "../absent/bbr.rs")]
mod bbr;
#[cfg(feature = "bbr")]
mod bound;
#[cfg(feature = "bbr")]
mod drain;
#[cfg(feature = "bbr")]
mod jitter;
#[cfg_attr(not(feature = "kcp-modes"), path = "../absent/kcp_window.rs")]
mod kcp_window;
#[cfg(feature = "bbr")]
mod losses;
#[cfg(feature = "bbr")]
mod pacer;
#[cfg(feature = "bbr")]
#[cfg_attr(not(feature = "lanes"), path = "../absent/urgent.rs")]
mod urgent;

pub(super) use bbr::Snapshot;

use self::bbr::Bbr;
use self::kcp_window::KcpWindow;
use super::config::CongestionControl;
use crate::time::{Duration, Instant};

/// What an acknowledgement tells about the segment that has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// When that copy of it was sent.
    pub(super) sent_at: Instant,
    /// Its round trip.
    pub(super) rtt: Duration,
    /// The state of the controller when it was sent, if it is known to the microsecond which copy has arrived.
    pub(super) snapshot: Option<Snapshot>,
}

/// What a congestion control is told, and what it decides. One that does not care limits nothing.
pub(super) trait Controller {
    /// The congestion window in segments.
    fn window(&self) -> u32 {
        u32::MAX
    }

    /// True if another segment may be sent while `pipe` bytes are in flight.
    fn admits(&self, _pipe: u32) -> bool {
        true
    }

    /// True if it limits the flight to what the link holds, and not only by what the windows say.
    fn is_rate_based(&self) -> bool {
        false
    }

    /// The pacer: when the next segment may be sent, if not now. One that goes `again` is more urgent.
    fn release_at(&mut self, _now: Instant, _again: bool) -> Option<Instant> {
        None
    }

    /// True if the path has room for more than has to be sent, as far as is known.
    fn is_calm(&self, _now: Instant) -> bool {
        true
    }

    /// True if the rate is bounded because of others.
    fn is_bounded(&self) -> bool {
        false
    }

    /// True if what `waits` to be sent, besides `unsent` bytes that may be sent at any time, does better to go on waiting:
    /// the rate is bounded, and nothing new may go now while `pipe` bytes are in flight.
    fn hold(&mut self, _now: Instant, _waits: bool, _unsent: usize, _pipe: u32) -> bool {
        false
    }

    /// What the last [`hold`](Self::hold) said.
    fn is_holding(&self) -> bool {
        false
    }

    /// A segment holds up to `mss` bytes of data, at least 1: at the beginning, and whenever that changes.
    fn set_mss(&mut self, _mss: u32) {}

    /// The peer delays acknowledgements by up to `delay`.
    fn set_ack_delay(&mut self, _delay: Duration) {}

    /// A segment of `len` bytes is sent; `pipe` bytes were in flight before.
    fn on_sent(&mut self, _now: Instant, _len: u16, _pipe: u32) -> Snapshot {
        Snapshot::default()
    }

    /// Something urgent is sent, which suffers from any queue.
    fn on_urgent(&mut self, _now: Instant) {}

    /// App-limited: all that waited has been sent, and `pipe` bytes are in flight.
    fn on_app_limited(&mut self, _pipe: u32) {}

    /// A segment of `len` bytes was acknowledged for the first time.
    fn on_acked(&mut self, _now: Instant, _len: u16) {}

    /// Segments of `bytes` bytes in all are considered lost, the longest of them of `longest` bytes.
    fn on_lost(&mut self, _bytes: u32, _longest: u16) {}

    /// Of the segments that a datagram acknowledged, `sample` is of the one that was sent last; `pipe` bytes are still in
    /// flight.
    fn on_sample(&mut self, _now: Instant, _sample: &Sample, _pipe: u32) {}

    /// The cumulative acknowledgement moved on; the peer's window is `remote`.
    fn on_progress(&mut self, _remote: u16) {}

    /// Fast retransmit: segments were found lost by later acknowledgements while `in_flight` segments were outstanding;
    /// `resend` is [`Config::fast_resend`](super::Config::fast_resend).
    fn on_fast_loss(&mut self, _in_flight: u32, _resend: u8) {}

    /// A segment's RTO has expired.
    fn on_timeout(&mut self) {}

    /// A segment that was considered lost had arrived: the reaction is undone.
    fn on_spurious(&mut self) {}
}

/// No congestion control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Off;

impl Controller for Off {}

/// The chosen [`CongestionControl`].
#[allow(clippy::large_enum_variant, reason = "an engine has one, and there may be no allocator to put it elsewhere")]
#[derive(Clone, Copy, Debug)]
pub(super) enum Congestion {
    Off(Off),
    Kcp(KcpWindow),
    Bbr(Bbr),
}

impl Congestion {
    pub(super) fn new(kind: CongestionControl, mss: u32) -> Self {
        let window = KcpWindow::chosen(kind, mss).map(Self::Kcp);
        window.or_else(|| Bbr::chosen(kind, mss).map(Self::Bbr)).unwrap_or(Self::Off(Off))
    }
}

/// Asks or tells the one that was chosen.
macro_rules! chosen {
    ($congestion:ident, $controller:ident => $call:expr) => {
        match $congestion {
            Congestion::Off($controller) => $call,
            Congestion::Kcp($controller) => $call,
            Congestion::Bbr($controller) => $call,
        }
    };
}

impl Controller for Congestion {
    fn window(&self) -> u32 {
        chosen!(self, controller => controller.window())
    }

    fn admits(&self, pipe: u32) -> bool {
        chosen!(self, controller => controller.admits(pipe))
    }

    fn is_rate_based(&self) -> bool {
        chosen!(self, controller => controller.is_rate_based())
    }

    fn release_at(&mut self, now: Instant, again: bool) -> Option<Instant> {
        chosen!(self, controller => controller.release_at(now, again))
    }

    fn is_calm(&self, now: Instant) -> bool {
        chosen!(self, controller => controller.is_calm(now))
    }

    fn is_bounded(&self) -> bool {
        chosen!(self, controller => controller.is_bounded())
    }

    fn hold(&mut self, now: Instant, waits: bool, unsent: usize, pipe: u32) -> bool {
        chosen!(self, controller => controller.hold(now, waits, unsent, pipe))
    }

    fn is_holding(&self) -> bool {
        chosen!(self, controller => controller.is_holding())
    }

    fn set_mss(&mut self, mss: u32) {
        chosen!(self, controller => controller.set_mss(mss));
    }

    fn set_ack_delay(&mut self, delay: Duration) {
        chosen!(self, controller => controller.set_ack_delay(delay));
    }

    fn on_sent(&mut self, now: Instant, len: u16, pipe: u32) -> Snapshot {
        chosen!(self, controller => controller.on_sent(now, len, pipe))
    }

    fn on_urgent(&mut self, now: Instant) {
        chosen!(self, controller => controller.on_urgent(now));
    }

    fn on_app_limited(&mut self, pipe: u32) {
        chosen!(self, controller => controller.on_app_limited(pipe));
    }

    fn on_acked(&mut self, now: Instant, len: u16) {
        chosen!(self, controller => controller.on_acked(now, len));
    }

    fn on_lost(&mut self, bytes: u32, longest: u16) {
        chosen!(self, controller => controller.on_lost(bytes, longest));
    }

    fn on_sample(&mut self, now: Instant, sample: &Sample, pipe: u32) {
        chosen!(self, controller => controller.on_sample(now, sample, pipe));
    }

    fn on_progress(&mut self, remote: u16) {
        chosen!(self, controller => controller.on_progress(remote));
    }

    fn on_fast_loss(&mut self, in_flight: u32, resend: u8) {
        chosen!(self, controller => controller.on_fast_loss(in_flight, resend));
    }

    fn on_timeout(&mut self) {
        chosen!(self, controller => controller.on_timeout());
    }

    fn on_spurious(&mut self) {
        chosen!(self, controller => controller.on_spurious());
    }
}
