//! How a client is set up.

use crate::datagram::{Framing, USUAL_DATAGRAM};
use crate::rng::{Rng, draw};
use crate::time::Duration;
use crate::{frame, kcp, subject};

/// What happens to a message that is published while there is no connection and the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// `publish` says that the queue is full; the caller decides.
    #[default]
    Refuse,
    /// The new message is dropped and counted.
    DropNewest,
    /// The oldest that waits is dropped and counted.
    DropOldest,
}

/// How a client waits before it tries to connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backoff {
    /// The wait after the first failed attempt; twice as long after each further one.
    pub base: Duration,
    /// The longest wait, before jitter.
    pub cap: Duration,
}

impl Backoff {
    /// The original's: 5 s, at most 30 s.
    pub const KCPQ: Self = Self { base: Duration::from_secs(5), cap: Duration::from_secs(30) };

    /// The wait before the next attempt after `failed` attempts failed in a row: the exponential wait times a random
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

/// A client's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The engine's; `mtu` follows from `max_datagram`.
    pub kcp: kcp::Config,
    /// The longest datagram to send to an original server, in bytes of UDP payload.
    pub max_datagram: u16,
    /// The longest to send to a native server, and to take from it, for which there has to be memory: as far as the server
    /// takes it and, up to 9000, the path is found to carry it. More is for servers on this machine; it is not asked for
    /// then.
    pub native_datagram: u16,
    /// How the first datagrams are framed. Every kind of server understands [`Framing::Fec`]; with
    /// [`Framing::Plain`] only native ones answer.
    pub framing: Framing,
    /// The largest frame to send or to take in.
    pub frames: frame::Limits,
    /// What subjects may be like.
    pub subjects: subject::Limits,
    /// How long a server has to answer the first frame.
    pub connect_timeout: Duration,
    /// How to go on when there is no connection; `None` gives up.
    pub reconnect: Option<Backoff>,
    /// How long a subscription waits for its acknowledgement.
    pub subscribe_timeout: Duration,
    /// How often it is asked for.
    pub subscribe_attempts: u8,
    /// The pause between two attempts.
    pub subscribe_pause: Duration,
    /// How often PING is sent.
    pub heartbeat: Duration,
    /// How long a server has to answer a PING, while nothing else comes from it and nothing waits to be read. One that
    /// acknowledges it without an answer has lost the session, as an original server does that was started again. The
    /// retransmission timeout three times if that is longer.
    pub pong_timeout: Duration,
    /// How long the server may be silent.
    pub read_timeout: Duration,
    /// How long data may be under way without any acknowledgement.
    pub stall_timeout: Duration,
    /// How long the server has to answer after a hint that it does not know this session.
    pub suspect_timeout: Duration,
    /// How long a closing client waits for its last frames to be acknowledged.
    pub linger: Duration,
    /// Bytes of messages that may wait, besides the one being sent.
    pub queue: usize,
    /// What happens when they are more while there is no connection.
    pub overflow: Overflow,
    /// What the client calls itself towards a native server.
    pub name: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kcp: kcp::Config::GAMES,
            max_datagram: USUAL_DATAGRAM,
            native_datagram: USUAL_DATAGRAM,
            framing: Framing::Fec,
            frames: frame::Limits::KCPQ,
            subjects: subject::Limits::DEFAULT,
            connect_timeout: Duration::from_secs(5),
            reconnect: Some(Backoff::KCPQ),
            subscribe_timeout: Duration::from_secs(5),
            subscribe_attempts: 3,
            subscribe_pause: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(4),
            read_timeout: Duration::from_secs(90),
            stall_timeout: Duration::from_secs(20),
            suspect_timeout: Duration::from_secs(1),
            linger: Duration::from_secs(1),
            queue: 1 << 20,
            overflow: Overflow::Refuse,
            name: "kcpq",
        }
    }
}
