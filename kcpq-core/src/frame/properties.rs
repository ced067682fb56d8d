//! Properties: what a message carries beside subject and payload (PROTOCOL.md 3.7).
//!
//! ```text
//! PUBX, MSGX    subject | message | property ... | len u16      len: of all properties
//! property      tag u8 | len u16 | value
//! ```
//!
//! They stand behind the message, so that whoever has no use for them gets an ordinary frame by writing its head anew. The
//! last ones are for the server alone and go no further.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

use super::{Frame, command};
use crate::replay::Stored;
use crate::subject::SubjectError;
use crate::time::Duration;

/// Tags of properties.
pub mod tag {
    /// Where an answer is to be published: a subject.
    pub const REPLY: u8 = 0x01;
    /// A header: length of the name (u8), name, value.
    pub const HEADER: u8 = 0x02;
    /// What the server has to say in place of an answer (u8): see [`NOBODY`].
    pub const STATUS: u8 = 0x03;
    /// A subscriber's share of [`TTL`]: how much of it was left when the server put the message into the stream, likewise.
    pub const LEFT: u8 = 0x04;
    /// The server's word that the message is for one subscription alone, by its number (u32 big-endian).
    pub const MEMBER: u8 = 0x05;
    /// The server's word that the message is not a new one but the value that it has kept of its subject: for how long,
    /// in milliseconds (u32 big-endian), and the number of the subscription that it is for (u32 big-endian).
    pub const KEPT: u8 = 0x06;
    /// The server's word that the message was stored before ([`replay::Stored`](crate::replay::Stored)), and for which subscription
    /// alone it is.
    pub const STORED: u8 = 0x08;
    /// For how long the message is worth something: milliseconds (u32 big-endian).
    pub const TTL: u8 = SERVER | 0x01;
    /// The server is to keep the message as the last value of its subject: empty.
    pub const RETAIN: u8 = SERVER | 0x02;
    /// The publisher wants to know what becomes of the message, by its number (u32 big-endian): PUBACK says it.
    pub const CONFIRM: u8 = SERVER | 0x03;
    /// The publisher wants the message to be stored, and to know that, by its number (u32 big-endian): PUBACK says it. Behind
    /// that an id, of [`MAX_STORE_ID`](super::MAX_STORE_ID) bytes at most: what has the same one is stored once.
    pub const STORE: u8 = SERVER | 0x04;
    /// Between brokers (shards) of one server: the last value of its subject, or that there is none any more. When it
    /// was published (u64 big-endian), and which of the two (u8).
    pub const STAMP: u8 = SERVER | 0x05;
    /// Between brokers (shards) of one server: under which number it is to be said how many sessions got the message.
    pub const TICKET: u8 = SERVER | 0x06;
    /// Of the messages of its subject that are under way only the latest counts: empty.
    pub const LATEST: u8 = SERVER | 0x07;
    /// To the gateway of a server: members of its queue groups have got the message, empty.
    pub const SERVED: u8 = SERVER | 0x08;
    /// Between brokers (shards) of one server: the message is for a queue group alone. How many brokers were asked for a member
    /// before (u8), and the name of the group.
    pub const GROUP: u8 = SERVER | 0x09;

    /// A status: nobody is subscribed to the subject.
    pub const NOBODY: u8 = 1;

    /// Bit of tags that are for the server alone. They stand behind the others.
    pub const SERVER: u8 = 0x80;
    /// Bit of tags that whoever does not know them must not ignore.
    pub const CRITICAL: u8 = 0x40;
}

/// Bytes before the value of a property.
pub(crate) const HEAD: usize = 3;
/// Bytes of the length behind all properties.
pub(crate) const END: usize = 2;
/// Bytes of a property that is a number.
const NUMBER: usize = HEAD + 4;
/// Bytes of the number of a subscription as a property.
#[cfg(feature = "alloc")]
pub(crate) const MEMBER: usize = NUMBER;
/// Bytes of what is said of a kept value as a property.
#[cfg(feature = "alloc")]
pub(crate) const KEPT: usize = HEAD + 8;
/// Bytes of what is said of a stored message as a property.
#[cfg(feature = "alloc")]
pub(crate) const STORED: usize = HEAD + Stored::LEN;
/// Bytes of a stamp as a property.
#[cfg(feature = "alloc")]
pub(crate) const STAMP: usize = HEAD + 9;
/// Bytes before the name of a queue group as a property.
#[cfg(feature = "alloc")]
pub(crate) const GROUP: usize = HEAD + 1;
/// Bytes of a time to live as a property.
pub(crate) const TTL: usize = NUMBER;
/// Most bytes of the properties of one message, besides those of which there can be one only and that have a few bytes:
/// time to live, retain, latest, confirm, and what the server adds.
pub const MAX_BYTES: usize = 16 * 1024;
/// Most properties of one message, besides the same.
pub const MAX_COUNT: usize = 64;
/// Most bytes of the id of a message that is to be stored.
pub const MAX_STORE_ID: usize = 64;

/// Properties of one message, in the order in which they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Properties<'p> {
    bytes: &'p [u8],
}

/// What a publisher wants to know of a message.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked<'p> {
    /// Its name for the message.
    pub(crate) number: u32,
    /// It is to be stored, under this id, which may be empty.
    pub(crate) store: Option<&'p str>,
}

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Property<'p> {
    /// See [`tag`].
    pub tag: u8,
    /// What it says.
    pub value: &'p [u8],
}

/// Why properties are none, or cannot be given to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PropertyError {
    /// They end early, or are not in order.
    Malformed,
    /// One that must not be ignored is not known.
    Unknown {
        /// Its tag.
        tag: u8,
    },
    /// More than [`MAX_COUNT`].
    TooMany,
    /// More bytes than [`MAX_BYTES`], or than there is memory for.
    TooLarge {
        /// The most bytes.
        limit: usize,
    },
    /// The name of a header is empty, longer than 255 bytes, or has something else than visible ASCII without a colon.
    Name,
    /// The value of a header has a control character.
    Value,
    /// The subject for answers is no subject.
    Reply(SubjectError),
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed properties"),
            Self::Unknown { tag } => write!(f, "unknown property {tag}"),
            Self::TooMany => write!(f, "more than {MAX_COUNT} properties"),
            Self::TooLarge { limit } => write!(f, "more than {limit} bytes of properties"),
            Self::Name => f.write_str("the name of a header is 1 to 255 visible ASCII characters without a colon"),
            Self::Value => f.write_str("the value of a header has a control character"),
            Self::Reply(error) => write!(f, "invalid subject for replies: {error}"),
        }
    }
}

impl core::error::Error for PropertyError {}

impl<'p> Properties<'p> {
    /// None.
    pub const NONE: Self = Self { bytes: &[] };
    /// The server is to keep the message as the last value of its subject, and nothing else.
    pub const RETAIN: Self = Self { bytes: &[tag::RETAIN, 0, 0] };
    /// Of the messages of its subject that are under way only the latest counts, and nothing else.
    #[cfg(any(feature = "alloc", feature = "lanes"))]
    pub const LATEST: Self = Self { bytes: &LATEST };

    /// Takes what stands behind a message, without the length.
    ///
    /// # Errors
    /// [`PropertyError`]: they are too many or too long, make no sense, or have one that must not be ignored and that is not
    /// known here.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, PropertyError> {
        let (mut all, mut count, mut for_server, mut besides, mut seen) = (Self { bytes }, 0, false, 0, 0);
        let mut asks = false;
        for property in all.by_ref() {
            let tag = property.tag;
            let is_time = tag == tag::TTL || tag == tag::LEFT;
            let is_number = is_time || tag == tag::CONFIRM;
            count += 1;
            // Those for the server stand last, so that it can cut them off.
            if for_server && tag & tag::SERVER == 0 || is_number && property.value.len() != NUMBER - HEAD {
                return Err(PropertyError::Malformed);
            }
            // There is one answer.
            if cfg!(feature = "alloc") && matches!(tag, tag::CONFIRM | tag::STORE) {
                let is_none = tag == tag::STORE && store_of(property.value).is_none();
                if is_none || core::mem::replace(&mut asks, true) {
                    return Err(PropertyError::Malformed);
                }
            }
            let once = once(property);
            if once & !seen != 0 {
                // Whoever sends the message adds it.
                (besides, count, seen) = (besides + HEAD + property.value.len(), count - 1, seen | once);
            }
            if count > MAX_COUNT {
                return Err(PropertyError::TooMany);
            }
            for_server |= tag & tag::SERVER != 0;
            // None of those that are known here is of this kind.
            if tag & tag::CRITICAL != 0 {
                return Err(PropertyError::Unknown { tag });
            }
        }
        if bytes.len() - besides > MAX_BYTES {
            return Err(PropertyError::TooLarge { limit: MAX_BYTES });
        }
        if all.bytes.is_empty() { Ok(Self { bytes }) } else { Err(PropertyError::Malformed) }
    }

    /// Takes what was found to make sense before.
    #[cfg(feature = "alloc")]
    pub(crate) fn trusted(bytes: &'p [u8]) -> Self {
        Self { bytes }
    }

    /// Their bytes.
    pub fn as_bytes(self) -> &'p [u8] {
        self.bytes
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Where an answer is to be published, if one is wanted.
    pub fn reply(mut self) -> Option<&'p str> {
        let value = self.find_map(|property| (property.tag == tag::REPLY).then_some(property.value))?;
        core::str::from_utf8(value).ok()
    }

    /// The headers: name and value.
    pub fn headers(self) -> impl Iterator<Item = (&'p str, &'p str)> {
        self.filter(|property| property.tag == tag::HEADER).filter_map(|property| {
            let (len, rest) = property.value.split_first()?;
            let (name, value) = rest.split_at_checked(usize::from(*len))?;
            Some((core::str::from_utf8(name).ok()?, core::str::from_utf8(value).ok()?))
        })
    }

    /// The values of the headers of this name. Case counts.
    pub fn header(self, name: &str) -> impl Iterator<Item = &'p str> {
        self.headers().filter_map(move |(other, value)| (other == name).then_some(value))
    }

    /// The time to live, as the server is told it.
    pub fn ttl(self) -> Option<Duration> {
        self.time(tag::TTL)
    }

    /// What is left of the time to live, as a subscriber is told it.
    pub fn left(self) -> Option<Duration> {
        self.time(tag::LEFT)
    }

    /// True if the server is to keep the message as the last value of its subject.
    pub fn retains(mut self) -> bool {
        EXTENDED && self.any(|property| property.tag == tag::RETAIN)
    }

    /// True if of the messages of its subject that are under way only the latest counts.
    pub fn supersedes(mut self) -> bool {
        cfg!(any(feature = "alloc", feature = "lanes")) && self.any(|property| property.tag == tag::LATEST)
    }

    /// True if a newer message of its subject may take its place: nobody waits to hear what has become of it.
    pub(crate) fn gives_way(mut self) -> bool {
        self.supersedes() && !self.any(|property| matches!(property.tag, tag::CONFIRM | tag::STORE))
    }

    /// For how long the server has kept the message, if it is not a new one but the last value of its subject.
    pub fn kept(self) -> Option<Duration> {
        self.time(tag::KEPT)
    }

    /// The server's stands behind what a publisher may have written.
    fn time(self, tag: u8) -> Option<Duration> {
        let value = self.filter(|property| property.tag == tag).last()?.value;
        Some(Duration::from_millis(u32::from_be_bytes(*value.first_chunk()?).into()))
    }

    /// What the server says of the message, if it was stored before.
    pub fn stored(mut self) -> Option<Stored> {
        self.find_map(|property| (property.tag == tag::STORED).then(|| Stored::decode(property.value)).flatten())
    }

    /// The number of the only subscription that the message is for: as a member of a queue group, as a kept value, or as one
    /// that was stored.
    pub(crate) fn addressee(mut self) -> Option<u32> {
        let value = self.find_map(|property| match property.tag {
            tag::MEMBER | tag::STORED => Some(property.value),
            tag::KEPT => property.value.get(4..),
            _ => None,
        });
        Some(u32::from_be_bytes(*value?.first_chunk()?))
    }

    /// The number of the member of a queue group that alone the message is for.
    #[cfg(feature = "alloc")]
    pub(crate) fn member(self) -> Option<u32> {
        self.number(tag::MEMBER)
    }

    /// What the publisher wants to know of the message.
    #[cfg(feature = "alloc")]
    pub(crate) fn asked(mut self) -> Option<Asked<'p>> {
        self.find_map(|property| match property.tag {
            tag::CONFIRM => Some(Asked { number: u32::from_be_bytes(*property.value.first_chunk()?), store: None }),
            tag::STORE => {
                let (number, id) = property.value.split_first_chunk()?;
                let id = core::str::from_utf8(id).unwrap_or_default();
                Some(Asked { number: u32::from_be_bytes(*number), store: Some(id) })
            }
            _ => None,
        })
    }

    /// True if queue groups of the server have got the message.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_served(mut self) -> bool {
        self.any(|property| property.tag == tag::SERVED)
    }

    /// Under which number another broker of the server wants to know how many sessions got the message.
    #[cfg(feature = "alloc")]
    pub(crate) fn ticket(self) -> Option<u32> {
        self.number(tag::TICKET)
    }

    /// The value of the first one of this tag, if that is a number.
    #[cfg(feature = "alloc")]
    fn number(mut self, tag: u8) -> Option<u32> {
        let value = self.find_map(|property| (property.tag == tag).then_some(property.value))?;
        Some(u32::from_be_bytes(*value.first_chunk()?))
    }

    /// True if it says what only a server may say of a message to one of its subscribers.
    #[cfg(feature = "alloc")]
    pub(crate) fn claims_to_be_a_servers(mut self) -> bool {
        self.any(|property| matches!(property.tag, tag::MEMBER | tag::KEPT | tag::STORED))
    }

    /// When it was published as the last value of its subject, as another broker of the server says, and whether there
    /// is one from then on.
    #[cfg(feature = "alloc")]
    pub(crate) fn stamp(mut self) -> Option<(u64, bool)> {
        let value = self.find_map(|property| (property.tag == tag::STAMP).then_some(property.value))?;
        let (stamp, kept) = value.split_first_chunk()?;
        Some((u64::from_be_bytes(*stamp), kept == [1]))
    }

    /// The only queue group that the message is for, as another broker of the server says, and how many were asked for a member
    /// before.
    #[cfg(feature = "alloc")]
    pub(crate) fn group(mut self) -> Option<(&'p str, u8)> {
        let value = self.find_map(|property| (property.tag == tag::GROUP).then_some(property.value))?;
        let (asked, name) = value.split_first()?;
        Some((core::str::from_utf8(name).ok()?, *asked))
    }

    /// True if it is the server's word that nobody is subscribed to what was published.
    pub fn has_nobody(mut self) -> bool {
        self.any(|property| property.tag == tag::STATUS && property.value == [tag::NOBODY])
    }

    /// Those that go on to subscribers.
    pub fn for_subscribers(self) -> Self {
        let mut rest = self;
        let mut kept = 0;
        while let Some(property) = rest.next().filter(|property| property.tag & tag::SERVER == 0) {
            kept += HEAD + property.value.len();
        }
        Self { bytes: self.bytes.get(..kept).unwrap_or_default() }
    }
}

impl<'p> Iterator for Properties<'p> {
    type Item = Property<'p>;

    fn next(&mut self) -> Option<Property<'p>> {
        let ([tag, high, low], rest) = self.bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        self.bytes = rest;
        Some(Property { tag: *tag, value })
    }
}

/// Messages have properties at all. Where they have none no code for them is left.
const EXTENDED: bool = cfg!(any(feature = "alloc", feature = "properties"));

impl<'a> Frame<'a> {
    /// The message of a PUB or MSG, or of their extended forms, and its properties, which are not looked at. `None` if they
    /// would begin before the message.
    pub fn message(&self) -> Option<(&'a [u8], Properties<'a>)> {
        match self.command {
            command::PUBX | command::MSGX if EXTENDED => {
                let (rest, len) = self.payload.split_last_chunk::<END>()?;
                let split = rest.len().checked_sub(u16::from_be_bytes(*len).into())?;
                let (message, bytes) = rest.split_at_checked(split)?;
                Some((message, Properties { bytes }))
            }
            _ => Some((self.payload, Properties::NONE)),
        }
    }

    /// True if it is a message for a subscriber.
    pub(crate) fn is_message(command: u8) -> bool {
        command == command::MSG || EXTENDED && command == command::MSGX
    }

    /// The number of the only subscription that it is for, if the server says so.
    pub(crate) fn addressee(&self) -> Option<u32> {
        if !EXTENDED || self.command != command::MSGX {
            return None;
        }
        self.message()?.1.addressee()
    }

    /// What the server says of it, if it was stored before.
    pub(crate) fn stored(&self) -> Option<Stored> {
        if !cfg!(feature = "replay") || self.command != command::MSGX {
            return None;
        }
        self.message()?.1.stored()
    }

    /// True if its properties make sense, as far as they must be known.
    pub(crate) fn is_understood(&self) -> bool {
        let parse = |properties: Properties<'_>| Properties::parse(properties.bytes).is_ok();
        !EXTENDED || self.command != command::MSGX || self.message().is_some_and(|(_, properties)| parse(properties))
    }
}

/// The property, [`tag::TTL`] or [`tag::LEFT`], that says for how long a message is still worth something: whole
/// milliseconds, rounded up.
pub(crate) fn time(tag: u8, left: Duration) -> [u8; TTL] {
    let [a, b, c, d] = u32::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX).to_be_bytes();
    [tag, 0, 4, a, b, c, d]
}

/// The property that says which subscription alone a message is for.
#[cfg(feature = "alloc")]
pub(crate) fn member(number: u32) -> [u8; MEMBER] {
    self::number(tag::MEMBER, number)
}

/// What is written behind a message: its properties, and behind these what its publisher wants to know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind<'p> {
    pub(crate) properties: Properties<'p>,
    #[cfg(feature = "confirm")]
    asks: Option<Asks<'p>>,
}

/// A property by which a publisher asks: up to the id of a message that is to be stored, and that.
#[cfg(feature = "confirm")]
#[derive(Clone, Copy, Debug)]
struct Asks<'p> {
    head: [u8; NUMBER],
    id: &'p str,
}

impl<'p> From<Properties<'p>> for Behind<'p> {
    fn from(properties: Properties<'p>) -> Self {
        Self {
            properties,
            #[cfg(feature = "confirm")]
            asks: None,
        }
    }
}

impl<'p> Behind<'p> {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        properties: Properties::NONE,
        #[cfg(feature = "confirm")]
        asks: None,
    };

    /// The publisher wants to know, under this number, what becomes of the message, or where it is stored under this id.
    #[cfg(feature = "confirm")]
    pub(crate) fn asking(
        properties: Properties<'p>,
        number: u32,
        store: Option<&'p str>,
    ) -> Result<Self, PropertyError> {
        let head = store.map_or_else(|| self::number(tag::CONFIRM, number), |id| self::store(number, id.len()));
        let behind = Self { properties, asks: Some(Asks { head, id: store.unwrap_or_default() }) };
        if properties.count() >= MAX_COUNT {
            return Err(PropertyError::TooMany);
        }
        if behind.len() > MAX_BYTES {
            return Err(PropertyError::TooLarge { limit: MAX_BYTES });
        }
        Ok(behind)
    }

    /// All of it, in parts.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        #[cfg(feature = "confirm")]
        if let Some(asks) = &self.asks {
            return [self.properties.bytes, &asks.head, asks.id.as_bytes()];
        }
        [self.properties.bytes, &[], &[]]
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        let [properties, asks, id] = self.parts();
        properties.len() + asks.len() + id.len()
    }

    /// True if a newer message of its subject may take its place: nobody waits to hear what has become of it.
    pub(crate) fn gives_way(&self) -> bool {
        #[cfg(feature = "confirm")]
        if self.asks.is_some() {
            return false;
        }
        self.properties.gives_way()
    }
}

/// The property by which a publisher wants a message to be stored, up to the id, which has so many bytes.
#[cfg(any(feature = "alloc", feature = "confirm"))]
pub(crate) fn store(number: u32, id: usize) -> [u8; NUMBER] {
    let ([a, b, c, d], [high, low]) = (number.to_be_bytes(), ((4 + id) as u16).to_be_bytes());
    [tag::STORE, high, low, a, b, c, d]
}

/// The number and the id of a message that is to be stored; `None` if it makes no sense.
fn store_of(value: &[u8]) -> Option<(u32, &str)> {
    let (number, id) = value.split_first_chunk()?;
    let id = core::str::from_utf8(id).ok().filter(|id| is_store_id(id))?;
    Some((u32::from_be_bytes(*number), id))
}

/// True if a message that is to be stored may have this id: at most [`MAX_STORE_ID`] bytes, without control characters. An
/// empty one is none.
pub fn is_store_id(id: &str) -> bool {
    id.len() <= MAX_STORE_ID && !id.chars().any(char::is_control)
}

/// The property by which a broker asks another one of the server how many sessions got a message.
#[cfg(feature = "alloc")]
pub(crate) fn ticket(number: u32) -> [u8; NUMBER] {
    self::number(tag::TICKET, number)
}

#[cfg(any(feature = "alloc", feature = "confirm"))]
fn number(tag: u8, number: u32) -> [u8; NUMBER] {
    let [a, b, c, d] = number.to_be_bytes();
    [tag, 0, 4, a, b, c, d]
}

/// The property that says that a message was kept for so long, and which subscription alone it is for.
#[cfg(feature = "alloc")]
pub(crate) fn kept(age: Duration, number: u32) -> [u8; KEPT] {
    let millis = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    let ([a, b, c, d], [e, f, g, h]) = (millis.to_be_bytes(), number.to_be_bytes());
    [tag::KEPT, 0, 8, a, b, c, d, e, f, g, h]
}

/// The property that says what is known of a stored message, and which subscription alone it is for.
#[cfg(feature = "alloc")]
pub(crate) fn stored(stored: &Stored) -> [u8; STORED] {
    let mut property = [0; STORED];
    let (head, value) = property.split_at_mut(HEAD);
    head.copy_from_slice(&[tag::STORED, 0, Stored::LEN as u8]);
    value.copy_from_slice(&stored.encode());
    property
}

/// The property by which brokers tell each other of a last value, or that there is none any more.
#[cfg(feature = "alloc")]
pub(crate) fn stamp(stamp: u64, kept: bool) -> [u8; STAMP] {
    let [a, b, c, d, e, f, g, h] = stamp.to_be_bytes();
    [tag::STAMP, 0, 9, a, b, c, d, e, f, g, h, kept.into()]
}

/// A bit for each property that a message has once at most and that has a few bytes; 0 for all others.
fn once(property: Property<'_>) -> u8 {
    match property.tag {
        tag::STORED if property.value.len() == Stored::LEN => 1 << 6,
        _ if property.value.len() > 8 => 0,
        tag::TTL | tag::LEFT => 1 << 0,
        tag::MEMBER => 1 << 1,
        tag::KEPT => 1 << 2,
        tag::RETAIN => 1 << 3,
        tag::CONFIRM => 1 << 4,
        tag::LATEST => 1 << 5,
        _ => 0,
    }
}

/// The property that says which queue group alone a message is for, up to the name, which has so many bytes; so many brokers were
/// `asked` for a member before.
#[cfg(feature = "alloc")]
pub(crate) fn group(asked: u8, len: usize) -> [u8; GROUP] {
    let [high, low] = (len as u16 + 1).to_be_bytes(); // a name has at most 64 bytes
    [tag::GROUP, high, low, asked]
}

/// The property that says that only the latest message of its subject counts.
#[cfg(any(feature = "alloc", feature = "lanes"))]
pub(crate) const LATEST: [u8; HEAD] = [tag::LATEST, 0, 0];

/// The property that says that queue groups of the server have the message.
#[cfg(feature = "alloc")]
pub(crate) const SERVED: [u8; HEAD] = [tag::SERVED, 0, 0];

/// The server's word that nobody is subscribed, as it stands behind a message.
#[cfg(feature = "alloc")]
pub(crate) const NOBODY: [u8; HEAD + 1 + END] = [tag::STATUS, 0, 1, tag::NOBODY, 0, 4];

/// What stands behind properties of so many bytes.
pub(crate) fn end(len: usize) -> [u8; END] {
    // There are at most `MAX_BYTES`, and a time to live.
    (len as u16).to_be_bytes()
}

/// How many bytes the properties have that end with this.
pub(crate) fn len(end: [u8; END]) -> usize {
    u16::from_be_bytes(end).into()
}

/// Writes properties into memory that is lent.
///
/// ```
/// use kcpq_core::frame::properties::Writer;
///
/// let mut memory = [0; 64];
/// let mut writer = Writer::new(&mut memory);
/// writer.reply("answers.7")?;
/// writer.header("Unit", "K")?;
/// let properties = writer.properties();
/// assert_eq!(properties.reply(), Some("answers.7"));
/// assert_eq!(properties.header("Unit").next(), Some("K"));
/// # Ok::<(), kcpq_core::frame::properties::PropertyError>(())
/// ```
#[derive(Debug)]
pub struct Writer<'m> {
    memory: &'m mut [u8],
    len: usize,
    count: usize,
    /// The last one is for the server: nothing but more of these may follow.
    closed: bool,
}

impl<'m> Writer<'m> {
    /// Without properties. What `memory` holds is written over.
    pub fn new(memory: &'m mut [u8]) -> Self {
        Self { memory, len: 0, count: 0, closed: false }
    }

    /// Where an answer is to be published; once.
    ///
    /// # Errors
    /// [`PropertyError`]: nothing was written. Whether it is a subject is found out when the message is published.
    pub fn reply(&mut self, subject: &str) -> Result<(), PropertyError> {
        self.write(tag::REPLY, &[subject.as_bytes()])
    }

    /// Adds a header: a name of 1 to 255 visible ASCII characters without a colon, and text without control characters.
    /// A name may come several times.
    ///
    /// # Errors
    /// [`PropertyError`]: nothing was written.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        let len = check_header(name, value)?;
        self.write(tag::HEADER, &[&[len], name.as_bytes(), value.as_bytes()])
    }

    /// The server is to keep the message as the last value of its subject: it comes last, and once.
    ///
    /// # Errors
    /// [`PropertyError::TooLarge`]: there is no memory for it.
    pub fn retain(&mut self) -> Result<(), PropertyError> {
        if !self.closed {
            let limit = self.memory.len();
            let room = self.memory.get_mut(self.len..).and_then(|room| room.first_chunk_mut::<HEAD>());
            *room.ok_or(PropertyError::TooLarge { limit })? = [tag::RETAIN, 0, 0];
            (self.len, self.closed) = (self.len + HEAD, true);
        }
        Ok(())
    }

    /// What was written.
    pub fn properties(&self) -> Properties<'_> {
        Properties { bytes: self.memory.get(..self.len).unwrap_or_default() }
    }

    fn write(&mut self, tag: u8, parts: &[&[u8]]) -> Result<(), PropertyError> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let limit = self.memory.len().min(MAX_BYTES);
        let room = self.memory.get_mut(self.len..limit).and_then(|room| room.get_mut(..HEAD + len));
        let Some((head, mut value)) = room.and_then(|room| room.split_first_chunk_mut::<HEAD>()) else {
            return Err(PropertyError::TooLarge { limit });
        };
        if self.count == MAX_COUNT {
            return Err(PropertyError::TooMany);
        }
        if self.closed {
            return Err(PropertyError::Malformed);
        }
        let [high, low] = (len as u16).to_be_bytes();
        *head = [tag, high, low];
        for part in parts {
            let Some((place, rest)) = value.split_at_mut_checked(part.len()) else { break };
            place.copy_from_slice(part);
            value = rest;
        }
        self.len += HEAD + len;
        self.count += 1;
        Ok(())
    }
}

/// The length of its name, if it is a header.
fn check_header(name: &str, value: &str) -> Result<u8, PropertyError> {
    let visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
    let len = u8::try_from(name.len()).ok().filter(|len| *len > 0 && name.as_bytes().iter().all(visible));
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(PropertyError::Value);
    }
    len.ok_or(PropertyError::Name)
}

/// Properties with memory of their own, to be given to a message.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
    count: usize,
    closed: bool,
}

#[cfg(feature = "alloc")]
impl PropertiesBuf {
    /// Without properties, and without memory for some.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0, closed: false }
    }

    /// As [`Writer::reply`].
    ///
    /// # Errors
    /// As there.
    pub fn reply(&mut self, subject: &str) -> Result<(), PropertyError> {
        self.with(subject.len(), |writer| writer.reply(subject))
    }

    /// As [`Writer::header`].
    ///
    /// # Errors
    /// As there.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        self.with(1 + name.len() + value.len(), |writer| writer.header(name, value))
    }

    /// As [`Writer::retain`].
    pub fn retain(&mut self) {
        if !self.properties().retains() {
            self.bytes.extend_from_slice(&[tag::RETAIN, 0, 0]);
            self.closed = true;
        }
    }

    /// Of the messages of its subject that are under way only the latest counts. Nothing may follow but for the server.
    pub fn latest(&mut self) {
        if !self.properties().supersedes() {
            self.bytes.extend_from_slice(&LATEST);
            self.closed = true;
        }
    }

    /// Adds all of others.
    ///
    /// # Errors
    /// [`PropertyError`]: nothing was written.
    pub fn append(&mut self, others: Properties<'_>) -> Result<(), PropertyError> {
        let count = self.count + others.count();
        if count > MAX_COUNT {
            return Err(PropertyError::TooMany);
        }
        if self.closed {
            return Err(PropertyError::Malformed);
        }
        if self.bytes.len() + others.bytes.len() > MAX_BYTES {
            return Err(PropertyError::TooLarge { limit: MAX_BYTES });
        }
        self.bytes.extend_from_slice(others.bytes);
        self.count = count;
        Ok(())
    }

    /// What was written.
    pub fn properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }

    /// Lets one be written whose value has `len` bytes.
    fn with(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), PropertyError>,
    ) -> Result<(), PropertyError> {
        let before = self.bytes.len();
        self.bytes.resize((before + HEAD + len).min(MAX_BYTES), 0);
        let mut writer = Writer { memory: &mut self.bytes, len: before, count: self.count, closed: self.closed };
        let written = write(&mut writer);
        let Writer { len, count, .. } = writer;
        self.bytes.truncate(len);
        self.count = count;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut memory = [0xee; 200];
        let mut writer = Writer::new(&mut memory);
        writer.reply("_INBOX.x.1").unwrap();
        for (name, value) in [("Trace-Id", "7"), ("note", ""), ("Trace-Id", "grün")] {
            writer.header(name, value).unwrap();
        }
        let parsed = Properties::parse(writer.properties().as_bytes()).unwrap();
        assert_eq!(parsed.reply(), Some("_INBOX.x.1"));
        assert!(parsed.headers().eq([("Trace-Id", "7"), ("note", ""), ("Trace-Id", "grün")]));
        assert!(parsed.header("Trace-Id").eq(["7", "grün"]) && parsed.header("trace-id").next().is_none());
        assert_eq!((parsed.count(), parsed.ttl(), parsed.for_subscribers()), (4, None, parsed));
    }

    #[test]
    fn headers_are_lines_of_text() {
        let mut memory = [0; 600];
        let mut writer = Writer::new(&mut memory);
        for name in ["", "a b", "a:b", "ä", "a\n", &"n".repeat(256)] {
            assert_eq!(writer.header(name, "v"), Err(PropertyError::Name), "{name:?}");
        }
        for value in ["a\nb", "\r", "\u{7f}", "\0"] {
            assert_eq!(writer.header("n", value), Err(PropertyError::Value), "{value:?}");
        }
        assert!(writer.properties().is_empty());
        writer.header(&"n".repeat(255), "two words, 温度").unwrap();
        assert_eq!(writer.properties().headers().count(), 1);
    }

    #[test]
    fn there_are_so_many_and_so_long_ones_and_no_more() {
        let mut memory = [0; 20];
        let mut writer = Writer::new(&mut memory);
        writer.header("a", "12345").unwrap();
        let before = writer.properties().as_bytes().to_vec();
        assert_eq!(writer.header("b", "123456"), Err(PropertyError::TooLarge { limit: 20 }));
        assert_eq!(writer.properties().as_bytes(), before);
        writer.header("b", "12345").unwrap();

        let mut memory = [0; 2_000];
        let mut writer = Writer::new(&mut memory);
        (0..MAX_COUNT).for_each(|_| writer.header("a", "b").unwrap());
        assert_eq!(writer.header("a", "b"), Err(PropertyError::TooMany));
        // Its time is told besides.
        for tag in [tag::TTL, tag::LEFT] {
            let timed = [writer.properties().as_bytes(), &time(tag, Duration::from_millis(7))].concat();
            assert!(Properties::parse(&timed).is_ok());
            let twice = [&*timed, &time(tag, Duration::ZERO)].concat();
            assert_eq!(Properties::parse(&twice), Err(PropertyError::TooMany));
        }
        let more = [writer.properties().as_bytes(), &[0x20, 0, 0]].concat();
        assert!(Properties::parse(&more[..more.len() - 3]).is_ok());
        assert_eq!(Properties::parse(&more), Err(PropertyError::TooMany));
        let long = [&[0x20, 0x40, 0][..], &[0; 0x4000]].concat();
        assert_eq!(Properties::parse(&long), Err(PropertyError::TooLarge { limit: MAX_BYTES }));
        let timed = [&long[..3 + 0x4000 - 3], &time(tag::TTL, Duration::ZERO)].concat();
        let timed = [&[0x20, 0x3f, 0xfd][..], &timed[3..]].concat();
        assert!(timed.len() > MAX_BYTES && Properties::parse(&timed).is_ok());
    }

    #[test]
    fn a_subscriber_is_told_what_is_left_and_the_servers_word_counts() {
        let left = |millis| time(tag::LEFT, Duration::from_millis(millis));
        assert_eq!(Properties::NONE.left(), None);
        let both = [left(9_000), left(5)].concat();
        let properties = Properties::parse(&both).unwrap();
        assert_eq!((properties.left(), properties.ttl()), (Some(Duration::from_millis(5)), None));
        assert_eq!(properties.for_subscribers(), properties);
    }

    #[test]
    fn the_wish_to_be_kept_comes_last_and_is_not_counted() {
        let mut memory = [0; 2_000];
        let mut writer = Writer::new(&mut memory);
        (0..MAX_COUNT).for_each(|_| writer.header("a", "b").unwrap());
        writer.retain().unwrap();
        writer.retain().unwrap();
        assert_eq!(writer.header("a", "b"), Err(PropertyError::TooMany));
        let timed = [writer.properties().as_bytes(), &time(tag::TTL, Duration::ZERO)].concat();
        let parsed = Properties::parse(&timed).unwrap();
        assert_eq!(parsed.retains(), EXTENDED);
        assert_eq!((parsed.for_subscribers().count(), parsed.count()), (MAX_COUNT, MAX_COUNT + 2));
        let twice = [&*timed, &[tag::RETAIN, 0, 0]].concat();
        assert_eq!(Properties::parse(&twice), Err(PropertyError::TooMany));
        let mut memory = [0; 10];
        let mut writer = Writer::new(&mut memory);
        writer.header("a", "b").unwrap();
        writer.retain().unwrap();
        assert_eq!(writer.header("a", "b"), Err(PropertyError::TooLarge { limit: 10 }));
        let mut memory = [0; 5];
        let mut writer = Writer::new(&mut memory);
        writer.retain().unwrap();
        assert_eq!(writer.reply(""), Err(PropertyError::TooLarge { limit: 5 }));
        assert_eq!(Writer::new(&mut [0; 2]).retain(), Err(PropertyError::TooLarge { limit: 2 }));
    }

    /// What the server adds for one subscriber has room beside what a publisher may give.
    #[cfg(feature = "alloc")]
    #[test]
    fn a_server_says_whom_a_message_is_for_and_that_it_was_kept() {
        let mut full = PropertiesBuf::new();
        (0..MAX_COUNT).for_each(|_| full.header("a", "b").unwrap());
        let full = full.properties().as_bytes().to_vec();
        let (kept, left) = (kept(Duration::from_secs(2), 7), time(tag::LEFT, Duration::from_millis(5)));
        let parsed = [&full[..], &kept, &left].concat();
        let parsed = Properties::parse(&parsed).unwrap();
        assert_eq!((parsed.kept(), parsed.addressee()), (Some(Duration::from_secs(2)), Some(7)));
        assert!(parsed.claims_to_be_a_servers() && parsed.member().is_none());
        let member = [&full[..], &member(9), &left].concat();
        let member = Properties::parse(&member).unwrap();
        assert_eq!((member.kept(), member.addressee(), member.member()), (None, Some(9), Some(9)));
        let (stamped, never) = (stamp(3, true), stamp(u64::MAX, false));
        let read = |bytes| Properties::parse(bytes).unwrap().stamp();
        assert_eq!((read(&stamped), read(&never), read(&[])), (Some((3, true)), Some((u64::MAX, false)), None));
        let said = Stored { number: 7, sequence: 1 << 40, stored_at: 12, deliveries: 2 };
        let past = [&full[..], &stored(&said), &left].concat();
        let past = Properties::parse(&past).unwrap();
        assert_eq!((past.stored(), past.addressee(), past.kept()), (Some(said), Some(7), None));
        assert!(past.claims_to_be_a_servers() && past.member().is_none());
        // Cut short it says what it can.
        let short = Properties::trusted(&[tag::KEPT, 0, 4, 0, 0, 0, 1]);
        assert_eq!((short.kept(), short.addressee()), (Some(Duration::from_millis(1)), None));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn memory_of_their_own_grows_with_them() {
        let mut properties = PropertiesBuf::new();
        properties.reply("a.b").unwrap();
        assert_eq!(properties.header("x", "\n"), Err(PropertyError::Value));
        properties.header("x", "y").unwrap();
        assert_eq!(properties.header("x", &"z".repeat(MAX_BYTES)), Err(PropertyError::TooLarge { limit: MAX_BYTES }));
        assert_eq!(properties.properties().reply(), Some("a.b"));
        assert!(properties.properties().headers().eq([("x", "y")]));
        assert_eq!(properties.bytes.len(), 3 + 3 + 3 + 3);
        properties.retain();
        properties.retain();
        assert_eq!(properties.bytes.len(), 3 + 3 + 3 + 3 + 3);
        assert_eq!(properties.header("x", "y"), Err(PropertyError::Malformed));
        assert_eq!(properties.append(Properties::NONE), Err(PropertyError::Malformed));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_message_is_to_be_stored_or_confirmed_and_says_so_once() {
        let of = |id: &str| [&store(7, id.len()), id.as_bytes()].concat();
        let longest = "ä".repeat(MAX_STORE_ID / 2);
        for id in ["", "order 7", &longest] {
            let bytes = of(id);
            let asked = Properties::parse(&bytes).unwrap().asked();
            assert_eq!(asked, Some(Asked { number: 7, store: Some(id) }));
            assert!(Properties::parse(&bytes).unwrap().for_subscribers().is_empty());
        }
        let confirm = number(tag::CONFIRM, 9);
        assert_eq!(Properties::parse(&confirm).unwrap().asked(), Some(Asked { number: 9, store: None }));
        for bytes in [
            of(&"x".repeat(MAX_STORE_ID + 1)),
            of("a\u{85}"),
            of("a\n"),
            [tag::STORE, 0, 3, 0, 0, 0].to_vec(),
            [tag::STORE, 0, 5, 0, 0, 0, 0, 0xff].to_vec(),
            [of("a"), of("a")].concat(),
            [of("a"), confirm.to_vec()].concat(),
            [confirm.to_vec(), of("")].concat(),
        ] {
            assert_eq!(Properties::parse(&bytes), Err(PropertyError::Malformed), "{bytes:?}");
        }
        let latest = [&LATEST[..], &of("a")].concat();
        assert!(!Properties::parse(&latest).unwrap().gives_way());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_not_known_is_passed_over() {
        let ttl = time(tag::TTL, Duration::from_micros(250_001));
        assert_eq!(Properties::parse(&ttl).unwrap().ttl(), Some(Duration::from_millis(251)));
        let unknown = [&[0x20, 0, 1, 9][..], &[tag::REPLY, 0, 1, b'a'], &ttl, &[0x8f, 0, 0]].concat();
        let parsed = Properties::parse(&unknown).unwrap();
        assert_eq!((parsed.reply(), parsed.for_subscribers().as_bytes()), (Some("a"), &unknown[..8]));
        for (bytes, error) in [
            (&[1][..], PropertyError::Malformed),
            (&[1, 0, 1], PropertyError::Malformed),
            (&[1, 0, 0, 1], PropertyError::Malformed),
            (&[tag::TTL, 0, 3, 1, 2, 3], PropertyError::Malformed),
            (&[tag::LEFT, 0, 5, 1, 2, 3, 4, 5], PropertyError::Malformed),
            (&[0x8f, 0, 0, 0x20, 0, 0], PropertyError::Malformed),
            (&[0x41, 0, 0], PropertyError::Unknown { tag: 0x41 }),
            (&[0xc1, 0, 0], PropertyError::Unknown { tag: 0xc1 }),
        ] {
            assert_eq!(Properties::parse(bytes), Err(error), "{bytes:?}");
        }
        // A header that is none is not shown.
        let odd = [tag::HEADER, 0, 2, 9, b'a', tag::HEADER, 0, 0, tag::HEADER, 0, 2, 1, 0xff];
        assert_eq!(Properties::parse(&odd).unwrap().headers().count(), 0);
    }

    #[cfg(any(feature = "alloc", feature = "properties"))]
    #[test]
    fn a_message_ends_where_its_properties_begin() {
        let of = |command, payload| Frame { command, subject: b"a", payload }.message();
        assert_eq!(of(command::MSG, &[1, 0, 0]), Some((&[1, 0, 0][..], Properties::NONE)));
        assert_eq!(of(command::MSGX, &[1, 0, 0]), Some((&[1][..], Properties::NONE)));
        let (message, properties) = of(command::PUBX, &[1, 2, 0x20, 0, 0, 0, 3]).unwrap();
        assert_eq!((message, properties.as_bytes()), (&[1, 2][..], &[0x20, 0, 0][..]));
        assert_eq!((of(command::PUBX, &[0, 1]), of(command::MSGX, &[0])), (None, None));
    }
}
