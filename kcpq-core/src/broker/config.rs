//! How a broker is set up. Everything that comes from outside is bounded here.

use alloc::boxed::Box;

use crate::datagram::{Framing, LOCAL_DATAGRAM, PATH_DATAGRAM, USUAL_DATAGRAM};
use crate::time::Duration;
use crate::{frame, kcp, subject};

/// What happens to a message for a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The message is dropped for this subscriber and counted.
    #[default]
    DropNewest,
    /// The oldest that waits is dropped and counted.
    DropOldest,
    /// The session is closed; what waits is counted as dropped.
    Disconnect,
}

/// A broker's parameters.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engines'; `mtu` follows from `max_datagram`.
    pub kcp: kcp::Config,
    /// The longest datagram to send to an original client, in bytes of UDP payload.
    pub max_datagram: u16,
    /// The same towards native clients, as far as the path is found to carry it. They may ask for shorter ones.
    pub native_datagram: u16,
    /// The same towards native clients on this machine, whose datagrams no network drops. Longer ones cost less each.
    pub local_datagram: u16,
    /// How datagrams to original peers are framed, when they frame theirs with FEC as all of them do:
    /// [`Framing::Fec`], or with parity 10/3 for 30 % more bytes.
    pub compat_framing: Framing,
    /// The largest frame to take in.
    pub frames: frame::Limits,
    /// What subjects may be like.
    pub subjects: subject::Limits,
    /// Sessions in all.
    pub max_sessions: usize,
    /// Sessions from one address.
    pub max_sessions_per_host: usize,
    /// Patterns of one session.
    pub max_subscriptions: usize,
    /// Bytes of messages that may wait for one session. One message always may.
    pub max_queued: usize,
    /// Bytes of messages that may wait in all.
    pub max_queued_total: usize,
    /// From so many bytes that wait for one session on, those who publish to it are not read further: a fast publisher is
    /// held back before anything has to be dropped.
    pub stall_at: usize,
    /// For how long at most, until the session has caught up: a slow subscriber harms itself only.
    pub stall_for: Duration,
    /// What happens when a session's queue is full.
    pub slow_consumer: SlowConsumer,
    /// How long a session may be silent (PROTOCOL.md 4.5).
    pub idle_timeout: Duration,
    /// How long a closing session has for its last frames.
    pub linger: Duration,
    /// Answers per second to datagrams that belong to no session.
    pub stateless_replies: u32,
    /// What the server calls itself.
    pub name: Box<str>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kcp: kcp::Config::VIDEO,
            max_datagram: USUAL_DATAGRAM,
            native_datagram: PATH_DATAGRAM,
            local_datagram: LOCAL_DATAGRAM,
            compat_framing: Framing::Fec,
            frames: frame::Limits::KCPQ,
            subjects: subject::Limits::DEFAULT,
            max_sessions: 65_536,
            max_sessions_per_host: 65_536,
            max_subscriptions: 65_536,
            max_queued: 32 << 20,
            max_queued_total: 1 << 30,
            stall_at: 4 << 20,
            stall_for: Duration::from_millis(500),
            slow_consumer: SlowConsumer::DropNewest,
            idle_timeout: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            stateless_replies: 1_000,
            name: "kcpq".into(),
        }
    }
}

impl Config {
    /// The part of the limits that each of `count` brokers of one server keeps to.
    #[must_use]
    pub fn shared_by(mut self, count: usize) -> Self {
        let count = count.max(1);
        self.max_sessions = self.max_sessions.div_ceil(count);
        self.max_sessions_per_host = self.max_sessions_per_host.div_ceil(count);
        self.max_queued_total = self.max_queued_total.div_ceil(count);
        self.stateless_replies = self.stateless_replies.div_ceil(count as u32);
        self
    }
}
