//! How a client is set up.

use crate::datagram::{Framing, USUAL_DATAGRAM};
use crate::rng::{Rng, draw};
use crate::time::Duration;
use crate::{frame, kcp, subject};

/// What to do with a message that is published while disconnected and the send queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Overflow {
    /// Refuse it: `publish` returns an error and the caller decides.
    #[default]
    Refuse,
    /// Drop the new message, and count it.
    DropNewest,
    /// Drop the oldest message in the queue, and count it.
    DropOldest,
}

/// Exponential back-off of reconnecting, with jitter (PROTOCOL.md 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backoff {
    /// Delay after the first failed attempt; doubles with each further one.
    pub base: Duration,
    /// Maximum delay, before jitter.
    pub cap: Duration,
}

impl Backoff {
    /// A steady one: an attempt costs a few datagrams, and whoever waits for a server wants to be back soon.
    pub const DEFAULT: Self = Self { base: Duration::from_secs(4), cap: Duration::from_secs(4) };

    /// The original's: 5 s, at most 30 s.
    pub const KCPQ: Self = Self { base: Duration::from_secs(5), cap: Duration::from_secs(30) };

    /// The delay before the next attempt after `failed` attempts failed in a row: the exponential delay times a random
    /// factor between 0.5 and 1.5, so that a thousand clients do not come back at the same moment. Right after a
    /// connection was lost (`failed` is 0) it is a tenth of the base.
    pub(super) fn wait(&self, failed: u32, rng: &mut Rng) -> Duration {
        let wait = match failed {
            0 => self.base.div(10),
            n => self.base.saturating_mul(1 << (n - 1).min(16)),
        };
        let wait = wait.min(self.cap);
        // Beyond an hour the jitter does not grow: 32 bits are drawn and scaled at less cost.
        let most = wait.as_micros().min(u32::MAX.into());
        wait.div(2) + Duration::from_micros((most * u64::from(draw(rng))) >> 32)
    }
}

/// The parameters of a client.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Parameters of the KCP engine; `mtu` is set by the client, from the limits on datagrams below.
    pub kcp: kcp::Config,
    /// Maximum datagram sent to an original server, in bytes of UDP payload.
    pub max_datagram: u16,
    /// Maximum datagram sent to and received from a native server, in bytes of UDP payload; there has to be memory for
    /// it. Used as far as the server accepts it and path MTU discovery finds that the path carries it.
    pub native_datagram: u16,
    /// The server runs on this machine, so that there is no link to share or to find out about: native servers get no
    /// congestion control, and at once datagrams as long as was agreed.
    pub local: bool,
    /// Framing of the first datagrams. Every kind of server understands [`Framing::Fec`]; with [`Framing::Plain`] only
    /// native ones answer.
    pub framing: Framing,
    /// Limits on frames, sent and received.
    pub frames: frame::Limits,
    /// Limits on subjects and patterns.
    pub subjects: subject::Limits,
    /// Connect timeout: maximum time until the server answers the first frame.
    pub connect_timeout: Duration,
    /// How to reconnect; `None` gives up after the first failure.
    pub reconnect: Option<Backoff>,
    /// Maximum time to wait for the acknowledgement of a subscription.
    pub subscribe_timeout: Duration,
    /// Number of attempts to subscribe.
    pub subscribe_attempts: u8,
    /// Pause between two attempts to subscribe.
    pub subscribe_pause: Duration,
    /// Heartbeat interval: how often PING is sent.
    pub heartbeat: Duration,
    /// How long a server has to answer a PING, while nothing else comes from it and nothing waits to be read. One that
    /// acknowledges it without an answer has lost the session, as an original server does that was started again. The
    /// retransmission timeout three times if that is longer.
    pub pong_timeout: Duration,
    /// Read timeout: the connection is lost when nothing has been received for this long.
    pub read_timeout: Duration,
    /// Stall timeout: the connection is lost when data are in flight, and nothing has been acknowledged or received for
    /// this long; or if what was sent first has not been acknowledged for half as long again, whatever else comes.
    pub stall_timeout: Duration,
    /// Maximum time to wait for an answer after a hint that the server does not know this session (PROTOCOL.md 4.6).
    pub suspect_timeout: Duration,
    /// How long a closing client waits for a connection to deliver its last messages, and then for each further
    /// acknowledgement.
    pub linger: Duration,
    /// Messages go out with the first datagrams of a connection, before the server has answered: they arrive a round trip
    /// earlier, but are in doubt if it does not answer. Otherwise, and after an attempt that failed, they wait for its
    /// answer.
    pub early: bool,
    /// Capacity of the send queue in bytes, besides the message being sent.
    pub queue: usize,
    /// What to do when the send queue is full while disconnected.
    pub overflow: Overflow,
    /// Name of the client, as reported to native servers; at most 255 bytes are sent.
    pub name: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kcp: kcp::Config::GAMES,
            max_datagram: USUAL_DATAGRAM,
            native_datagram: USUAL_DATAGRAM,
            local: false,
            framing: Framing::Fec,
            frames: frame::Limits::KCPQ,
            subjects: subject::Limits::DEFAULT,
            connect_timeout: Duration::from_secs(5),
            reconnect: Some(Backoff::DEFAULT),
            subscribe_timeout: Duration::from_secs(5),
            subscribe_attempts: 3,
            subscribe_pause: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(4),
            read_timeout: Duration::from_secs(90),
            stall_timeout: Duration::from_secs(20),
            suspect_timeout: Duration::from_secs(1),
            linger: Duration::from_secs(1),
            early: true,
            queue: 1 << 20,
            overflow: Overflow::Refuse,
            name: "kcpq",
        }
    }
}
