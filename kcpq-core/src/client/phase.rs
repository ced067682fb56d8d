//! Where a client stands, and what it knows as long as it stands there.

#[cfg(not(feature = "replay"))]
use core::num::NonZeroU8;
#[cfg(feature = "replay")]
use core::num::NonZeroU16;

use crate::hello::features;
use crate::time::{Duration, Instant};

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Not yet asked to connect.
    Idle,
    /// Waiting for a server's first answer.
    Connecting {
        /// When this attempt is given up.
        until: Instant,
    },
    /// A server answers.
    Up {
        /// It speaks the native protocol.
        native: bool,
    },
    /// Waiting for the next attempt.
    Waiting {
        /// When it begins.
        until: Instant,
    },
    /// The last frames are on their way.
    Closing {
        /// When that is given up.
        until: Instant,
    },
    /// Nothing will happen any more.
    Closed,
}

/// The same, with what ends with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Idle,
    /// `failed` attempts in a row came to nothing. The server may know another conversation of this number: `hinted`.
    Connecting {
        until: Instant,
        failed: u32,
        hinted: bool,
    },
    Up(Up),
    Waiting {
        until: Instant,
        failed: u32,
    },
    /// With `said` CLOSE has been queued. So far had the server acknowledged, in bytes of the stream, when the time began
    /// that ends at `until`.
    Closing {
        until: Instant,
        acked: u32,
        said: bool,
    },
    Closed,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    pub(super) native: bool,
    /// When the next PING is due.
    pub(super) heartbeat_at: Instant,
    /// When a session that the server may have forgotten is given up, unless something is heard.
    pub(super) suspect: Option<Instant>,
    /// When the server was heard last, or the clock went on again.
    pub(super) silent_since: Instant,
    /// The clock went on again, and the server has not been heard since.
    pub(super) woken: bool,
}

impl Phase {
    /// What the user is told of it.
    pub(super) fn state(&self) -> State {
        match *self {
            Self::Idle => State::Idle,
            Self::Connecting { until, .. } => State::Connecting { until },
            Self::Up(Up { native, .. }) => State::Up { native },
            Self::Waiting { until, .. } => State::Waiting { until },
            Self::Closing { until, .. } => State::Closing { until },
            Self::Closed => State::Closed,
        }
    }

    /// True if there is a conversation.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Connecting { .. } | Self::Up(_) | Self::Closing { .. })
    }
}

/// What a native server said of itself (PROTOCOL.md 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Server {
    /// The largest frame body that both take, in bytes.
    pub max_body: u32,
    /// The longest subject that it takes, in bytes.
    pub max_subject: u16,
    /// The deepest subject that it takes, in tokens.
    pub max_tokens: u8,
    /// After how long a silence it forgets a session; zero: it does not say.
    pub keep_alive: Duration,
    /// Another one after each restart.
    pub epoch: u64,
    /// See [`Abilities`].
    pub(super) abilities: Abilities,
}

/// Bits of a server's features from bit 8 on, which is always set: so they take a byte or two, and `None` of the whole no other.
#[cfg(not(feature = "replay"))]
type Bits = NonZeroU8;
#[cfg(not(feature = "replay"))]
type Raw = u8;
#[cfg(feature = "replay")]
type Bits = NonZeroU16;
#[cfg(feature = "replay")]
type Raw = u16;

/// See above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Abilities(Bits);

impl Abilities {
    pub(super) fn new(features: u32) -> Self {
        Self(Bits::MIN | (features >> 8) as Raw)
    }
}

impl Server {
    /// It knows queue groups.
    pub fn groups(&self) -> bool {
        self.can(features::QUEUES)
    }

    /// It keeps the last value of a subject if a publisher wants that.
    pub fn keeps(&self) -> bool {
        self.can(features::KEEPS)
    }

    /// It says what becomes of messages.
    pub fn confirms(&self) -> bool {
        self.can(features::CONFIRMS)
    }

    /// It has a backbone that may store messages, and says so.
    pub fn stores(&self) -> bool {
        self.can(features::STORES)
    }

    /// It takes last wills.
    pub fn wills(&self) -> bool {
        self.can(features::WILLS)
    }

    /// It hands out what is stored.
    pub fn replays(&self) -> bool {
        self.can(features::REPLAYS)
    }

    fn can(&self, feature: u32) -> bool {
        u32::from(self.abilities.0.get()) << 8 & feature != 0
    }
}
