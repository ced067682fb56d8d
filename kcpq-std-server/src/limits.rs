//! The least limits under which clients can connect and be of use.

use std::fmt;
use std::time::Duration;

use kcpq_core::broker::Config;
use kcpq_core::frame;
use kcpq_core::hello::MAX_HELLO;

/// The least limit on messages, which holds for all frames: below it the server would not take every client's HELLO.
pub const MIN_MESSAGE: u32 = (frame::HEAD - frame::LENGTH + MAX_HELLO) as u32;
/// The least limit on silence. Clients are told of it in whole seconds.
pub const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The least limit on datagrams, in bytes of UDP payload: what a client may ask for at least (PROTOCOL.md 7).
pub const MIN_DATAGRAM: u16 = 128;

/// A limit that would keep out all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitTooLow {
    /// The field of the configuration.
    pub what: &'static str,
    /// The least value that works.
    pub least: u64,
    /// The value that was chosen.
    pub actual: u64,
}

impl fmt::Display for LimitTooLow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, least, actual } = self;
        write!(f, "{what} is {actual}, but has to be at least {least}, so that clients can connect")
    }
}

impl std::error::Error for LimitTooLow {}

/// Refuses limits under which no client could connect, subscribe or publish.
pub(crate) fn check(config: &Config) -> Result<(), LimitTooLow> {
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let limits = [
        ("max_sessions", number(config.max_sessions), 1),
        ("handshakes.per_second", config.handshakes.per_second.into(), 1),
        ("handshakes.unconfirmed", number(config.handshakes.unconfirmed), 1),
        ("max_sessions_per_host", number(config.max_sessions_per_host), 1),
        ("max_subscriptions", number(config.max_subscriptions), 1),
        ("subjects.max_tokens", config.subjects.max_tokens.into(), 1),
        ("subjects.max_len", config.subjects.max_len.into(), 1),
        ("frames.max_subject", config.frames.max_subject.into(), 1),
        ("frames.max_body", config.frames.max_body.into(), MIN_MESSAGE.into()),
        ("max_datagram", config.max_datagram.into(), MIN_DATAGRAM.into()),
        ("native_datagram", config.native_datagram.into(), MIN_DATAGRAM.into()),
        ("local_datagram", config.local_datagram.into(), MIN_DATAGRAM.into()),
        ("idle_timeout in ms", config.idle_timeout.as_millis(), millis(MIN_IDLE_TIMEOUT)),
    ];
    match limits.into_iter().find(|(_, actual, least)| actual < least) {
        Some((what, actual, least)) => Err(LimitTooLow { what, least, actual }),
        None => Ok(()),
    }
}
