//! The payloads of our own frames: HELLO and WELCOME, ACK, CLOSE (PROTOCOL.md 3.4 to 3.6).
//!
//! HELLO and WELCOME are the same record; each side says what it can do and what it accepts.
//!
//! ```text
//!  0       1         5             7      9         13           15          16          18     26        27
//! +-------+---------+-------------+------+---------+------------+-----------+-----------+------+---------+------+
//! |version|features |max_datagram |window|max_body |max_subject |max_tokens |keep_alive |epoch |name_len | name |
//! | u8    | u32     | u16         | u16  | u32     | u16        | u8        | u16 (s)   | u64  | u8      |      |
//! +-------+---------+-------------+------+---------+------------+-----------+-----------+------+---------+------+
//! ```
//!
//! Behind a server's name stand the session's id, a u64, and its token, 16 bytes, if both know native datagrams.
//!
//! All integers are big-endian, as everywhere in frames. What follows is for later versions and ignored.

use core::fmt;

use crate::lane::{LANES, Lane};
use crate::replay::{MAX_DURABLE, Start};

/// The version of the native protocol that is spoken here.
pub const VERSION: u8 = 1;

/// What one side of a native session says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello<'a> {
    /// The newest version it speaks; both speak the lower of the two.
    pub version: u8,
    /// What it can do; see [`features`].
    pub features: u32,
    /// The longest datagram it takes in, in bytes of UDP payload.
    pub max_datagram: u16,
    /// Its receive window in segments.
    pub window: u16,
    /// The largest `body_len` of a frame it takes in.
    pub max_body: u32,
    /// The longest subject in bytes.
    pub max_subject: u16,
    /// The deepest subject in tokens.
    pub max_tokens: u8,
    /// Seconds. A client's: how often it sends PING. A server's: after how long a silence it ends the session.
    pub keep_alive: u16,
    /// A random number that identifies this run of the server, another one after a restart. 0 from a client.
    pub epoch: u64,
    /// What it calls itself.
    pub name: &'a str,
    /// A server's, to a client that knows native datagrams.
    pub session: Option<Named>,
}

/// By what a session is known in native datagrams (PROTOCOL.md 1.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// A random number: whoever shows it is taken for this session's client.
    pub id: u64,
    /// What nobody but the server can know of this name. With it the server says that the session is no more, even after it
    /// was started again. All zeros if the server has none.
    pub token: [u8; Self::TOKEN],
}

impl Named {
    /// Bytes of a token.
    pub const TOKEN: usize = 16;
    const LEN: usize = 8 + Self::TOKEN;

    fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..].copy_from_slice(&self.token);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        Some(Self { id: u64::from_be_bytes(*id), token: *rest.first_chunk()? })
    }
}

/// The token is a secret of both ends.
impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Named {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Named({=u64:x})", self.id);
    }
}

/// Bits of [`Hello::features`].
pub mod features {
    /// Understands FEC parity.
    pub const FEC: u32 = 1 << 0;
    /// Asks the other side to send FEC parity (10 data, 3 parity).
    pub const WANTS_PARITY: u32 = 1 << 1;

    /// Understands repairs (`kcp::Command::Repair`), and may be sent them whenever it is worth while.
    pub const REPAIR: u32 = 1 << 2;

    /// A server's: takes SUB with options, and knows [`latest`](super::Subscribe::latest) among them.
    pub const LATEST: u32 = 1 << 4;
    /// Answers the questions about the path's MTU (`kcp::Command::MtuProbe`).
    pub const PROBES: u32 = 1 << 5;
    /// Understands segments in pieces (`kcp::Command::Piece`).
    pub const PIECES: u32 = 1 << 7;
    /// Understands messages with properties: a server PUBX, a client MSGX.
    pub const PROPERTIES: u32 = 1 << 8;
    /// A server's: knows queue groups.
    pub const QUEUES: u32 = 1 << 9;
    /// A server's: keeps the last value of subjects, and takes PUBX that want that.
    pub const KEEPS: u32 = 1 << 10;
    /// A server's: says what became of messages, to publishers that want to know.
    pub const CONFIRMS: u32 = 1 << 11;

    /// A server's: takes last wills.
    pub const WILLS: u32 = 1 << 12;

    /// Understands lanes ([`Lane`](crate::lane::Lane)); a server's: knows [`lane`](super::Subscribe::lane) of SUB.
    pub const LANES: u32 = 1 << 13;

    /// Understands messages in lanes of which only the latest counts (PROTOCOL.md 2.12).
    pub const SUPERSEDES: u32 = 1 << 14;

    /// A server's: has a backbone that may store messages, and says so of those whose publishers want that.
    pub const STORES: u32 = 1 << 15;
    /// A server's: hands out what is stored, to who subscribes to that (PROTOCOL.md 3.15).
    pub const REPLAYS: u32 = 1 << 16;

    /// Understands native datagrams (PROTOCOL.md 1.5): WELCOME tells the session's name.
    pub const NATIVE: u32 = 1 << 6;

    /// What this build can do, as a client or a server.
    pub const SUPPORTED: u32 = if cfg!(feature = "fec") { FEC } else { 0 }
        | if cfg!(feature = "repair") { REPAIR } else { 0 }
        | if cfg!(feature = "mtud") { PROBES } else { 0 }
        | if cfg!(feature = "pieces") { PIECES } else { 0 }
        | if cfg!(feature = "native") { NATIVE } else { 0 }
        | if cfg!(feature = "properties") { PROPERTIES } else { 0 }
        | if cfg!(feature = "lanes") { LANES | SUPERSEDES } else { 0 };

    /// What is about datagrams: of no use in a session over a WebSocket (PROTOCOL.md 11).
    pub const OF_DATAGRAMS: u32 = FEC | WANTS_PARITY | REPAIR | PROBES | PIECES | NATIVE;

    /// What a server of this build can do, whatever its configuration.
    pub const SERVER: u32 = SUPPORTED | LATEST | PROPERTIES | QUEUES | CONFIRMS | WILLS;
}

const FIXED: usize = 27;
/// The longest that a client says of itself, in bytes.
pub const MAX_HELLO: usize = FIXED + u8::MAX as usize;
/// The longest that a server says.
pub const MAX_WELCOME: usize = MAX_HELLO + Named::LEN;

impl<'a> Hello<'a> {
    /// Writes the record to the front of `out`; returns its length. A name longer than 255 bytes is cut.
    pub fn encode(&self, out: &mut [u8; MAX_WELCOME]) -> usize {
        let name = beginning(self.name, usize::from(u8::MAX)).as_bytes();
        out[0] = self.version;
        out[1..5].copy_from_slice(&self.features.to_be_bytes());
        out[5..7].copy_from_slice(&self.max_datagram.to_be_bytes());
        out[7..9].copy_from_slice(&self.window.to_be_bytes());
        out[9..13].copy_from_slice(&self.max_body.to_be_bytes());
        out[13..15].copy_from_slice(&self.max_subject.to_be_bytes());
        out[15] = self.max_tokens;
        out[16..18].copy_from_slice(&self.keep_alive.to_be_bytes());
        out[18..26].copy_from_slice(&self.epoch.to_be_bytes());
        out[26] = name.len() as u8;
        if let Some(place) = out.get_mut(FIXED..FIXED + name.len()) {
            place.copy_from_slice(name);
        }
        let len = FIXED + name.len();
        match (self.session, out.get_mut(len..len + Named::LEN)) {
            (Some(session), Some(place)) => {
                place.copy_from_slice(&session.encode());
                len + Named::LEN
            }
            _ => len,
        }
    }

    /// All but the name.
    pub fn nameless(&self) -> Hello<'static> {
        let Hello { version, features, max_datagram, window, max_body, .. } = *self;
        let Hello { max_subject, max_tokens, keep_alive, epoch, session, .. } = *self;
        Hello {
            version,
            features,
            max_datagram,
            window,
            max_body,
            max_subject,
            max_tokens,
            keep_alive,
            epoch,
            name: "",
            session,
        }
    }

    /// Reads a record; `None` if it is cut short or the name is not UTF-8.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = payload.split_first_chunk::<FIXED>()?;
        let (name, rest) = rest.split_at_checked(usize::from(fixed[26]))?;
        let u16_at = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        Some(Self {
            version: fixed[0],
            features: u32_at(1),
            max_datagram: u16_at(5),
            window: u16_at(7),
            max_body: u32_at(9),
            max_subject: u16_at(13),
            max_tokens: fixed[15],
            keep_alive: u16_at(16),
            epoch: u64::from(u32_at(18)) << 32 | u64::from(u32_at(22)),
            name: core::str::from_utf8(name).ok()?,
            session: Named::decode(rest).filter(|_| u32_at(1) & features::NATIVE != 0),
        })
    }
}

/// As much of a text as `max` bytes hold.
pub(crate) fn beginning(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// The payload of a native SUB or UNSUB: its number, and how a subscription is wanted (PROTOCOL.md 3.8).
///
/// ```text
///  0        4         5           6
/// +--------+---------+-----------+-------+------+--------+----------+---------+     options: 0 without the byte; a group
/// | number | options | group_len | group | lane | stored | name_len | durable |     only if they have bit 1, a lane bit 3,
/// +--------+---------+-----------+-------+------+--------+----------+---------+     a start bit 4, a name bit 5
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subscribe<'a> {
    /// Names the subscription among those of its session.
    pub number: u32,
    /// Of the messages of one subject that wait, only the newest is kept.
    pub latest: bool,
    /// The values that the server has kept of subjects are not wanted, only what is published from now on.
    pub without_kept: bool,
    /// The lane in which the messages are to come, if not in the one in which they were published.
    pub lane: Option<Lane>,
    /// The queue group in which the pattern is had. One that is cut short or not UTF-8 is read as empty, which
    /// [is none](is_group).
    pub group: Option<&'a str>,
    /// What is stored is wanted, from here on. One that is cut short is read as one of a kind that nobody knows.
    pub stored: Option<Start>,
    /// The name under which the store remembers how far it has come. One that is cut short or not UTF-8 is read as empty,
    /// which [is none](crate::replay::is_durable).
    pub durable: Option<&'a str>,
}

impl<'a> Subscribe<'a> {
    const LATEST: u8 = 1 << 0;
    const QUEUE: u8 = 1 << 1;
    const WITHOUT_KEPT: u8 = 1 << 2;
    const LANE: u8 = 1 << 3;
    const STORED: u8 = 1 << 4;
    const DURABLE: u8 = 1 << 5;

    /// Writes the record to the front of `out`; returns its length.
    pub fn encode(&self, out: &mut [u8; MAX_SUBSCRIBE]) -> usize {
        out[..4].copy_from_slice(&self.number.to_be_bytes());
        out[4] = u8::from(self.latest) | if self.without_kept { Self::WITHOUT_KEPT } else { 0 };
        let lane = self.lane.filter(|_| LANES > 1);
        out[4] |= if lane.is_some() { Self::LANE } else { 0 };
        let len = match self.group.map(str::as_bytes).filter(|_| GROUPS) {
            None => 4 + usize::from(out[4] != 0),
            Some(group) => {
                out[4] |= Self::QUEUE;
                let len = u8::try_from(group.len()).unwrap_or(u8::MAX);
                for (place, byte) in out[5..].iter_mut().zip(core::iter::once(&len).chain(group)) {
                    *place = *byte;
                }
                (6 + group.len()).min(6 + MAX_GROUP)
            }
        };
        let len = match lane.zip(out.get_mut(len)) {
            Some((lane, place)) => {
                *place = lane.number();
                len + 1
            }
            None => len,
        };
        self.encode_stored(out, len)
    }

    /// Appends what a subscription to stored messages says besides, to so many bytes.
    fn encode_stored(&self, out: &mut [u8; MAX_SUBSCRIBE], mut len: usize) -> usize {
        let Some(start) = self.stored.filter(|_| REPLAYS) else { return len };
        len = len.max(5);
        if let Some(place) = out.get_mut(len..len + Start::LEN) {
            place.copy_from_slice(&start.encode());
            len += Start::LEN;
        }
        let mut options = Self::STORED;
        if let Some(name) = self.durable.map(str::as_bytes).filter(|name| name.len() <= MAX_DURABLE)
            && let Some((head, place)) = out.get_mut(len..len + 1 + name.len()).and_then(<[u8]>::split_first_mut)
        {
            *head = name.len() as u8;
            place.copy_from_slice(name);
            len += 1 + name.len();
            options |= Self::DURABLE;
        }
        out[4] |= options;
        len
    }

    /// Reads a record; `None` if it has no number.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let (options, rest) = rest.split_first().unwrap_or((&0, &[]));
        let (group, rest) = match rest.split_first().filter(|_| options & Self::QUEUE != 0) {
            Some((len, rest)) => rest.split_at_checked(usize::from(*len)).unwrap_or_default(),
            None => (&[][..], rest),
        };
        let (lane, rest) = match rest.split_first().filter(|_| options & Self::LANE != 0) {
            Some((number, rest)) => (Lane::new(*number), rest),
            None => (None, rest),
        };
        let (stored, rest) = match rest.split_first_chunk().filter(|_| options & Self::STORED != 0) {
            Some((start, rest)) => (Some(Start::decode(start)), rest),
            None if options & Self::STORED != 0 => (Some(Start::Other(u8::MAX)), &[][..]),
            None => (None, rest),
        };
        let name = rest.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len))).unwrap_or_default();
        Some(Self {
            number: u32::from_be_bytes(*number),
            latest: options & Self::LATEST != 0,
            without_kept: options & Self::WITHOUT_KEPT != 0,
            lane,
            group: (options & Self::QUEUE != 0).then(|| core::str::from_utf8(group).unwrap_or_default()),
            stored,
            durable: (options & Self::DURABLE != 0).then(|| core::str::from_utf8(name).unwrap_or_default()),
        })
    }
}

/// The longest payload of a SUB, in bytes; there may be no groups, no lanes, and no subscriptions to what is stored.
pub const MAX_SUBSCRIBE: usize =
    if GROUPS { 7 + MAX_GROUP } else { 5 } + if REPLAYS { Start::LEN + 1 + MAX_DURABLE } else { 0 };
pub(crate) const REPLAYS: bool = cfg!(feature = "replay");
const GROUPS: bool = cfg!(any(feature = "alloc", feature = "queue"));
/// The longest name of a queue group, in bytes.
pub const MAX_GROUP: usize = 64;

/// True if this is a name for a queue group: 1 to [`MAX_GROUP`] bytes, without spaces and control characters.
pub fn is_group(name: &str) -> bool {
    let plain = |character: char| !character.is_whitespace() && !character.is_control();
    (1..=MAX_GROUP).contains(&name.len()) && name.chars().all(plain)
}

/// The payload of ACK: what became of a numbered SUB or UNSUB. The subject holds a text for people, empty on success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ack {
    /// The number that the SUB or UNSUB carried.
    pub number: u32,
    /// Whether it was refused, and why.
    pub refusal: Option<Refusal>,
}

/// Why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// The pattern is not valid here.
    InvalidPattern,
    /// The session has as many subscriptions as it may.
    TooManySubscriptions,
    /// The client may not subscribe to all of this pattern.
    NotPermitted,
    /// Nothing is stored of this pattern, or in several places.
    NoStream,
    /// The durable subscription of this name is another one.
    DurableInUse,
    /// The store is not there now.
    StoreAway,
    /// The store does not do that.
    StoreRefused,
    /// A reason that this version does not know.
    Other(u8),
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::InvalidPattern => 1,
            Self::TooManySubscriptions => 2,
            Self::NotPermitted => 3,
            Self::NoStream => 4,
            Self::DurableInUse => 5,
            Self::StoreAway => 6,
            Self::StoreRefused => 7,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPattern => f.write_str("the server does not accept this pattern"),
            Self::TooManySubscriptions => f.write_str("the session has too many subscriptions"),
            Self::NotPermitted => f.write_str("the server does not permit this subscription"),
            Self::NoStream if REPLAYS => {
                f.write_str("the server knows no stream, or no single one, that stores this pattern's messages")
            }
            Self::DurableInUse if REPLAYS => {
                f.write_str("the durable subscription of this name is for another pattern, or of another kind")
            }
            Self::StoreAway if REPLAYS => f.write_str("the server's store of messages is not there now"),
            Self::StoreRefused if REPLAYS => f.write_str("the server's store of messages refuses this subscription"),
            // What nobody asks for is not worth its text.
            refusal => write!(f, "refused by the server (code {})", refusal.code()),
        }
    }
}

impl Ack {
    /// The sequence of the first message of a subscription to what is stored, which stands behind the rest: nothing of an
    /// earlier one will come. `None` if it says none, or 0, which is that it is not known.
    pub fn first(payload: &[u8]) -> Option<u64> {
        let (_, rest) = payload.split_first_chunk::<{ Self::LEN }>().filter(|_| REPLAYS)?;
        Some(u64::from_be_bytes(*rest.first_chunk()?)).filter(|first| *first > 0)
    }

    /// Bytes of an ACK's payload: number (u32) and code (u8, 0 is success).
    pub const LEN: usize = 5;

    /// The payload's bytes.
    pub fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.number.to_be_bytes();
        [a, b, c, d, self.refusal.map_or(0, Refusal::code)]
    }

    /// Reads a payload; `None` if it is cut short. What follows is ignored.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let [a, b, c, d, code] = payload.first_chunk()?;
        let refusal = match code {
            0 => None,
            1 => Some(Refusal::InvalidPattern),
            2 => Some(Refusal::TooManySubscriptions),
            3 => Some(Refusal::NotPermitted),
            4 if REPLAYS => Some(Refusal::NoStream),
            5 if REPLAYS => Some(Refusal::DurableInUse),
            6 if REPLAYS => Some(Refusal::StoreAway),
            7 if REPLAYS => Some(Refusal::StoreRefused),
            code => Some(Refusal::Other(*code)),
        };
        Some(Self { number: u32::from_be_bytes([*a, *b, *c, *d]), refusal })
    }
}

/// The payload of CLOSE: one byte, why the session ends. The subject holds a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CloseReason {
    /// It is no longer needed.
    Normal,
    /// The server stops.
    Shutdown,
    /// The other side broke the protocol.
    Protocol,
    /// Nothing was heard for too long.
    Idle,
    /// The subscriber did not keep up.
    SlowConsumer,
    /// A limit of the server.
    Limit,
    /// A newer session from the same place took over.
    Superseded,
    /// It is heard, but what it was sent first is not acknowledged.
    Stalled,
    /// The server does not let this client in.
    Denied,
    /// Whoever runs the server has ended it.
    Kicked,
    /// A reason that this version does not know.
    Other(u8),
}

/// Most bytes of the list of servers in CLOSE (PROTOCOL.md 3.6).
#[cfg(feature = "alloc")]
pub const MAX_SUCCESSORS: usize = 255;

impl CloseReason {
    /// Writes a payload: the reason, and, if the server stops, who takes its place, as far as that fits.
    #[cfg(feature = "alloc")]
    pub(crate) fn encode<'o>(self, successors: &str, out: &'o mut [u8; 1 + MAX_SUCCESSORS]) -> &'o [u8] {
        let list = match self {
            Self::Shutdown if successors.len() <= MAX_SUCCESSORS => successors,
            _ => "",
        };
        out[0] = self.code();
        out[1..=list.len()].copy_from_slice(list.as_bytes());
        &out[..=list.len()]
    }

    /// Reads who takes the place of a server that stops: servers as `host:port`, those first that are to be tried first.
    #[cfg(feature = "alloc")]
    pub(crate) fn successors(payload: &[u8]) -> &str {
        match payload {
            [1, list @ ..] if list.len() <= MAX_SUCCESSORS => core::str::from_utf8(list).unwrap_or_default(),
            _ => "",
        }
    }

    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Shutdown => 1,
            Self::Protocol => 2,
            Self::Idle => 3,
            Self::SlowConsumer => 4,
            Self::Limit => 5,
            Self::Superseded => 6,
            Self::Stalled => 7,
            Self::Denied => 8,
            Self::Kicked => 9,
            Self::Other(code) => code,
        }
    }

    /// A word for it, as programs may tell it apart.
    #[cfg(feature = "alloc")]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "closed",
            Self::Shutdown => "shutdown",
            Self::Protocol => "protocol",
            Self::Idle => "idle",
            Self::SlowConsumer => "slow_consumer",
            Self::Limit => "limit",
            Self::Superseded => "superseded",
            Self::Stalled => "stalled",
            Self::Denied => "denied",
            Self::Kicked => "kicked",
            Self::Other(_) => "other",
        }
    }

    /// Reads a payload; an empty one counts as [`Normal`](Self::Normal).
    pub fn decode(payload: &[u8]) -> Self {
        match payload.first().copied().unwrap_or(0) {
            0 => Self::Normal,
            1 => Self::Shutdown,
            2 => Self::Protocol,
            3 => Self::Idle,
            4 => Self::SlowConsumer,
            5 => Self::Limit,
            6 => Self::Superseded,
            7 => Self::Stalled,
            8 => Self::Denied,
            9 => Self::Kicked,
            code => Self::Other(code),
        }
    }
}

/// What a REPLY holds in place of WELCOME for a client that the server knows and does not let in (PROTOCOL.md 10.3): no
/// version has this number.
#[cfg(feature = "sealed")]
const REFUSAL: u8 = 0;

/// Writes a refusal.
#[cfg(all(feature = "alloc", feature = "sealed"))]
pub(crate) fn refusal(reason: CloseReason) -> [u8; 2] {
    [REFUSAL, reason.code()]
}

/// Reads one; `None` if it is something else.
#[cfg(feature = "sealed")]
pub(crate) fn read_refusal(payload: &[u8]) -> Option<CloseReason> {
    payload.strip_prefix(&[REFUSAL]).map(CloseReason::decode)
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("closed"),
            Self::Shutdown => f.write_str("the server stops"),
            Self::Protocol => f.write_str("broken frame"),
            Self::Idle => f.write_str("nothing was heard for too long"),
            Self::SlowConsumer => f.write_str("the subscriber did not keep up"),
            Self::Limit => f.write_str("a limit was reached"),
            Self::Superseded => f.write_str("a newer session took over"),
            Self::Stalled => f.write_str("what was sent is not acknowledged, although something is heard"),
            Self::Denied => f.write_str("the server does not let this client in"),
            Self::Kicked => f.write_str("whoever runs the server has ended it"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// The payload of ERR to a native client, where that says what was refused: a byte for the kind, and the subject or
/// pattern. The subject of the frame holds a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The client may not publish to this subject: a message was dropped.
    PublishDenied(&'a str),
    /// A subscription to this pattern, which was acknowledged, has ended: the client may not have it any more.
    SubscriptionEnded(&'a str),
    /// The last will, a message for this subject, was not taken: there is none now.
    WillRefused(&'a str),
}

impl<'a> Notice<'a> {
    /// The byte, and what follows it.
    pub fn parts(self) -> (u8, &'a str) {
        match self {
            Self::PublishDenied(subject) => (1, subject),
            Self::SubscriptionEnded(pattern) => (2, pattern),
            Self::WillRefused(subject) => (3, subject),
        }
    }

    /// Reads a payload; `None` if it is empty, of a kind that this version does not know, or not UTF-8.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (kind, text) = payload.split_first()?;
        let text = core::str::from_utf8(text).ok()?;
        match kind {
            1 => Some(Self::PublishDenied(text)),
            2 => Some(Self::SubscriptionEnded(text)),
            3 => Some(Self::WillRefused(text)),
            _ => None,
        }
    }
}

/// The hint that a server sends for a session that it does not know: 12 bytes, which is shorter than any segment, so the
/// original ignores it.
///
/// ```text
///  0       4                12
/// +-------+----------------+
/// | conv  | "KCPQRST1"     |    conv little-endian, as in the segment that it answers
/// +-------+----------------+
/// ```
///
/// Whoever knows the conversation's number can send one, so it is a reason to ask the server at once and never a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The conversation that is not known.
    pub conv: u32,
}

impl Reset {
    /// Bytes of the hint.
    pub const LEN: usize = 12;
    const MAGIC: [u8; 8] = *b"KCPQRST1";

    /// The hint's bytes.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.conv.to_le_bytes());
        out[4..].copy_from_slice(&Self::MAGIC);
        out
    }

    /// Reads a hint; `None` if the datagram is something else.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (conv, magic) = datagram.split_first_chunk::<4>()?;
        (magic == Self::MAGIC).then(|| Self { conv: u32::from_le_bytes(*conv) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_comes_back_as_it_went() {
        let hello = Hello {
            version: 1,
            features: features::FEC,
            max_datagram: 1400,
            window: 1024,
            max_body: 8 << 20,
            max_subject: 4096,
            max_tokens: 32,
            keep_alive: 15,
            epoch: 0x0123_4567_89ab_cdef,
            name: "küche",
            session: None,
        };
        let mut out = [0xee; MAX_WELCOME];
        let len = hello.encode(&mut out);
        assert_eq!(Hello::decode(&out[..len]), Some(hello));
        assert_eq!(Hello::decode(&out), Some(hello), "what follows is ignored");
        for short in 0..len {
            assert_eq!(Hello::decode(&out[..short]), None);
        }
    }

    #[test]
    fn every_code_comes_back() {
        for code in 0..=255 {
            assert_eq!(CloseReason::decode(&[code]).code(), code);
            let ack = Ack::decode(&[0, 0, 1, 2, code]).unwrap();
            assert_eq!((ack.number, ack.encode()[4]), (258, code));
        }
        assert_eq!(Ack::decode(&[0; 4]), None);
    }

    #[test]
    fn a_notice_comes_back_as_it_went() {
        for notice in [Notice::PublishDenied("a.b"), Notice::SubscriptionEnded("a.>"), Notice::WillRefused("a.b")] {
            let (kind, text) = notice.parts();
            assert_eq!(Notice::decode(&[&[kind], text.as_bytes()].concat()), Some(notice));
        }
        assert_eq!((Notice::decode(b""), Notice::decode(b"\xffa"), Notice::decode(b"\x01\xff")), (None, None, None));
    }

    #[test]
    fn a_reset_is_shorter_than_a_segment() {
        let bytes = Reset { conv: 7 }.encode();
        assert!(bytes.len() < crate::kcp::HEADER);
        assert_eq!(Reset::decode(&bytes), Some(Reset { conv: 7 }));
        assert_eq!(Reset::decode(&bytes[..11]), None);
        assert_eq!(Reset::decode(&[0; 12]), None);
    }
}
