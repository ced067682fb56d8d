//! Who takes part in the way of a message: as its publisher, as a subscriber, as somebody whom others wait for.

/// A session of this broker; or another shard of the same server, for all sessions that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// The session in this slot of the table.
    Session(u32),
    /// The shard of this number.
    Shard(u8),
}

/// The most shards of one server.
pub const MAX_SHARDS: usize = 64;

/// A party as the router knows it. One that wants every message of some patterns and only the latest of others is two
/// subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) party: Party,
    /// Of the messages of one subject that wait for it only the newest is kept. Never so for a shard.
    pub(super) latest: bool,
}

/// The router's numbers are dense: those of the shards, then two for each slot.
const FIRST_SESSION: u32 = MAX_SHARDS as u32;

impl From<Subscriber> for u32 {
    fn from(Subscriber { party, latest }: Subscriber) -> Self {
        match party {
            Party::Shard(index) => index.into(),
            Party::Session(slot) => FIRST_SESSION + (slot << 1 | Self::from(latest)),
        }
    }
}

impl From<u32> for Subscriber {
    fn from(number: u32) -> Self {
        match number.checked_sub(FIRST_SESSION) {
            None => Self { party: Party::Shard(number as u8), latest: false },
            Some(rest) => Self { party: Party::Session(rest >> 1), latest: rest & 1 != 0 },
        }
    }
}
