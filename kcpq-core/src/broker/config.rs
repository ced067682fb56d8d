//! The configuration of a broker. Everything that peers can make it keep has a limit here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::datagram::{Framing, LOCAL_DATAGRAM, PATH_DATAGRAM, USUAL_DATAGRAM};
use crate::time::Duration;
use crate::{frame, kcp, subject};

/// What to do with a message for a subscriber whose queue is full (PROTOCOL.md 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// Drop the new message for this subscriber, and count it.
    #[default]
    DropNewest,
    /// Drop the oldest message in the queue, and count it.
    DropOldest,
    /// Close the session; what was in its queue counts as dropped.
    Disconnect,
}

/// The last values of subjects: what is kept, and how much of it (PROTOCOL.md 3.11). Limits are not divided among the
/// brokers of one server: each has all values, and the bytes of one exist once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastValues {
    /// Patterns of subjects whose last value is kept whoever publishes it, besides those whose publishers want that.
    pub subjects: Vec<Box<str>>,
    /// Maximum number of subjects of which a value is kept. With 0 none is.
    pub max_subjects: usize,
    /// Maximum memory for all values together, in bytes: subject, message and properties of each, and what it takes to
    /// find it, some 128 bytes and the subject once more.
    pub max_bytes: usize,
    /// Maximum size of one value, in bytes: subject, message and properties.
    pub max_value: usize,
    /// Original clients get values that were kept as well when they subscribe. Nothing tells them that these are not
    /// new.
    pub original: bool,
}

impl Default for LastValues {
    fn default() -> Self {
        Self { subjects: Vec::new(), max_subjects: 65_536, max_bytes: 64 << 20, max_value: 1 << 20, original: false }
    }
}

/// Who hears of sessions as they come and go, and of what they subscribe to (PROTOCOL.md 3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who may subscribe to it.
    pub audience: Audience,
    /// What is said of a session's beginning and end says its address as well.
    pub addresses: bool,
    /// Maximum number of notices in a second. What is more is counted, and the count is told.
    pub per_second: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { audience: Audience::Nobody, addresses: false, per_second: 1_000 }
    }
}

/// Who may subscribe to what the server says of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// Nobody.
    #[default]
    Nobody,
    /// Who is permitted to by name: an allowed pattern that begins with `$KCPQ`. That everything is allowed is not enough.
    Permitted,
    /// These, and who may subscribe to everything: if there are no rules that is everybody.
    Everybody,
}

/// How many handshakes of sealed sessions a broker has to do with (PROTOCOL.md 10.4, 10.7). Each opened one costs up to
/// four key agreements, so these bound what strangers can make it compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// As soon as so many were opened in a second, clients first have to show that they are where they say they are, by
    /// a cookie. 0: always.
    pub before_retry: u32,
    /// Maximum number that are opened in a second.
    pub per_second: u32,
    /// Maximum number of those that wait for the client's first sealed datagram; the oldest makes room.
    pub unconfirmed: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { before_retry: 256, per_second: 2_048, unconfirmed: 1_024 }
    }
}

/// The parameters of a broker; [`Default`] has the values of PROTOCOL.md 7.
#[derive(Clone, Debug)]
pub struct Config {
    /// Parameters of the sessions' KCP engines; `mtu` is set by the broker, from the limits on datagrams below.
    pub kcp: kcp::Config,
    /// Maximum datagram sent to original clients, in bytes of UDP payload.
    pub max_datagram: u16,
    /// Maximum datagram sent to native clients, in bytes of UDP payload. Used as far as path MTU discovery finds that
    /// the path carries it; clients may ask for less.
    pub native_datagram: u16,
    /// Maximum datagram sent to native clients on the same machine, in bytes of UDP payload: no network drops it there,
    /// and fewer, longer datagrams cost less.
    pub local_datagram: u16,
    /// Framing of datagrams to original clients that use FEC framing themselves, as all of them do: [`Framing::Fec`],
    /// or parity 10/3 for 30 % more bytes.
    pub compat_framing: Framing,
    /// Limits on received frames.
    pub frames: frame::Limits,
    /// Limits on subjects and patterns.
    pub subjects: subject::Limits,
    /// Maximum number of sessions.
    pub max_sessions: usize,
    /// Maximum number of sessions from one host ([`Peer`](super::Peer) says what that is), of those that have shown that they
    /// are there. Many may stand behind one address (NAT).
    pub max_sessions_per_host: usize,
    /// Maximum number of subscriptions per session.
    pub max_subscriptions: usize,
    /// Maximum size of a session's queue, in bytes. A single message always fits, whatever its size.
    pub max_queued: usize,
    /// Maximum size of the queues of all sessions together, in bytes. Beyond half of it those that take nothing give
    /// way, and each other may have as much as is left of three quarters, and 64 KiB in any case: PROTOCOL.md 6.
    pub max_queued_total: usize,
    /// Maximum memory for what has come from all sessions together and cannot be handed on yet, in bytes: parts of frames,
    /// segments that wait for earlier ones or to be read, and what is kept to rebuild others with. 32 KiB for each session, and
    /// one frame, may come to it. When it becomes short, large frames wait for each other, and whoever keeps others waiting
    /// without getting on is ended: PROTOCOL.md 6.
    pub max_received_total: usize,
    /// High-water mark of a session's queue, in bytes. Back-pressure: from here on, and until a sixteenth of it has left,
    /// sessions that publish to it are throttled (not read), so that a fast publisher is slowed down before anything has
    /// to be dropped. The low-water mark is an eighth of it. PROTOCOL.md 6 has the whole rule.
    pub high_water: usize,
    /// Maximum time that a subscriber may throttle its publishers without that sixteenth leaving, or without acknowledging
    /// anything. A slower one, or one that was never heard, throttles nobody: [`slow_consumer`](Self::slow_consumer)
    /// applies to what exceeds its queue.
    pub throttle_for: Duration,
    /// Maximum share of its time that a publisher is throttled at the cost of others, in percent: while another subscriber
    /// of its messages of the last second waits for more. In pieces of at most 5 ms. With 0 a subscriber that keeps up
    /// never pays for one that does not; with 100 the slowest sets the pace.
    pub throttle_share: u8,
    /// How long messages wait after a restart for those who had sessions before ([`Broker::wait_for`](super::Broker)).
    pub restart_wait: Duration,
    /// What to do when a session's queue is full.
    pub slow_consumer: SlowConsumer,
    /// A session ends when no datagram has been received for this long (PROTOCOL.md 4.5). Clients are told.
    pub idle_timeout: Duration,
    /// A session ends when what it was sent first has not been acknowledged for this long although it is heard (PROTOCOL.md
    /// 4.5).
    pub stall_timeout: Duration,
    /// As [`idle_timeout`](Self::idle_timeout) for a session that has been sent something and has never shown that it
    /// received anything: its address may be forged. Longer than the heartbeats of original clients (15 s), which they are known by at the latest.
    pub half_open_timeout: Duration,
    /// Maximum time for a closing session to deliver its last frames.
    pub linger: Duration,
    /// Maximum number of replies per second to datagrams that belong to no session (RESET and refusals).
    pub stateless_replies: u32,
    /// Limits on handshakes of sealed sessions. Unlike the others they are for each broker of a server: they bound the
    /// time of its thread.
    pub handshakes: HandshakeLimits,
    /// Who hears of sessions as they come and go.
    pub presence: Presence,
    /// Maximum size of a last will, in bytes: subject, message and properties. With 0 there are none.
    pub max_will: usize,
    /// Maximum size of all last wills together, in bytes.
    pub max_wills_total: usize,
    /// Name of the server, as reported to clients.
    pub name: Box<str>,
    /// Servers that clients are told to go to when this one stops, as `host:port`, with commas between, those first that are to
    /// be tried first (PROTOCOL.md 3.6). A list of more than [`MAX_SUCCESSORS`](crate::hello::MAX_SUCCESSORS) bytes is not told.
    pub successors: Box<str>,
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
            max_sessions_per_host: 4_096,
            max_subscriptions: 65_536,
            max_queued: 32 << 20,
            max_queued_total: 1 << 30,
            max_received_total: 512 << 20,
            high_water: 4 << 20,
            throttle_for: Duration::from_millis(250),
            restart_wait: Duration::from_secs(1),
            throttle_share: 5,
            slow_consumer: SlowConsumer::DropNewest,
            idle_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(30),
            half_open_timeout: Duration::from_secs(20),
            linger: Duration::from_secs(2),
            stateless_replies: 1_000,
            handshakes: HandshakeLimits::default(),
            presence: Presence::default(),
            max_will: 16 << 10,
            max_wills_total: 64 << 20,
            name: "kcpq".into(),
            successors: "".into(),
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
        self.max_received_total = self.max_received_total.div_ceil(count);
        self.max_wills_total = self.max_wills_total.div_ceil(count);
        self.presence.per_second = self.presence.per_second.div_ceil(count as u32);
        self.stateless_replies = self.stateless_replies.div_ceil(count as u32);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_brokers_have_together_what_one_may_have() {
        let limits = |config: &Config| {
            [
                config.max_sessions,
                config.max_sessions_per_host,
                config.max_queued_total,
                config.max_received_total,
                config.max_wills_total,
                config.presence.per_second as usize,
                config.stateless_replies as usize,
            ]
        };
        let alone = limits(&Config::default());
        for count in [1, 3, 64] {
            for (alone, each) in alone.into_iter().zip(limits(&Config::default().shared_by(count))) {
                assert!((alone..alone + count).contains(&(each * count)), "{each} of {alone} for each of {count}");
            }
        }
        assert_eq!(limits(&Config::default().shared_by(0)), alone);
    }
}
