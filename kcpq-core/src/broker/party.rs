//! Who takes part in the way of a message: as its publisher, as a subscriber, as somebody whom others wait for.

/// A session of this broker; or another shard of the same server, for all sessions that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// The session in this slot of the table.
    Session(u32),
    /// The shard of this number; behind the last of them the gateway to a backbone.
    Shard(u8),
}

/// The most shards of one server.
pub const MAX_SHARDS: usize = 64;

/// Who has a pattern, as the router knows it. A session that wants every message of some patterns and only the latest of
/// others is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subscriber {
    /// It wants every message.
    Every(Party),
    /// The session in this slot wants of the messages of one subject that wait for it only the newest.
    Latest(u32),
    /// One member of this share of a queue group gets each message.
    Share(u32),
    /// The backbone chooses who of each queue group gets a message, of the members at all its servers.
    Abroad,
}

impl Subscriber {
    /// A session that wants every message, or only the latest.
    pub(super) fn session(slot: u32, latest: bool) -> Self {
        if latest { Self::Latest(slot) } else { Self::Every(Party::Session(slot)) }
    }
}

/// The router's numbers are dense: those of the shards and the gateway, then four for each slot, of which one is a share's.
const ABROAD: u32 = MAX_SHARDS as u32 + 1;
const FIRST_SESSION: u32 = ABROAD + 1;
const LATEST: u32 = 1;
const SHARE: u32 = 2;
const KIND_BITS: u32 = 2;

impl From<Subscriber> for u32 {
    fn from(subscriber: Subscriber) -> Self {
        match subscriber {
            Subscriber::Every(Party::Shard(index)) => index.into(),
            Subscriber::Every(Party::Session(slot)) => FIRST_SESSION + (slot << KIND_BITS),
            Subscriber::Latest(slot) => FIRST_SESSION + (slot << KIND_BITS | LATEST),
            Subscriber::Share(share) => FIRST_SESSION + (share << KIND_BITS | SHARE),
            Subscriber::Abroad => ABROAD,
        }
    }
}

impl From<Party> for u32 {
    fn from(party: Party) -> Self {
        Subscriber::Every(party).into()
    }
}

/// Whose number it is, as somebody who gets messages by itself.
impl From<u32> for Party {
    fn from(number: u32) -> Self {
        match number.checked_sub(FIRST_SESSION) {
            None => Self::Shard(number as u8),
            Some(rest) => Self::Session(rest >> KIND_BITS),
        }
    }
}

impl From<u32> for Subscriber {
    fn from(number: u32) -> Self {
        let Some(rest) = number.checked_sub(FIRST_SESSION) else {
            return if number == ABROAD { Self::Abroad } else { Self::Every(Party::Shard(number as u8)) };
        };
        let index = rest >> KIND_BITS;
        match rest & ((1 << KIND_BITS) - 1) {
            LATEST => Self::Latest(index),
            SHARE => Self::Share(index),
            _ => Self::Every(Party::Session(index)),
        }
    }
}

#[cfg(test)]
#[test]
fn numbers_tell_who_it_is() {
    for party in [Party::Shard(0), Party::Shard(63), Party::Session(0), Party::Session(7), Party::Session(1 << 28)] {
        let number = u32::from(party);
        assert_eq!(Party::from(number), party);
        assert_eq!(Subscriber::from(number), Subscriber::Every(party));
    }
    for other in [Subscriber::Latest(5), Subscriber::Share(5)] {
        assert_eq!(Subscriber::from(u32::from(other)), other);
    }
}
