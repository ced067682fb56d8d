//! Whether a party has enough to do to be kept waiting itself, while somebody else catches up.

use crate::time::{Duration, Instant};

/// What is known of one party.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply {
    stage: Stage,
    /// Since when it is idle; or has been busy, without a break.
    since: Instant,
    /// How long it was busy the last time.
    lasted: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It had less than the low-water mark waiting since it was busy.
    Idle,
    /// It had more, and something still waits.
    Fed,
    /// Nothing waits any more, but what was sent of it is not acknowledged up to this offset of the stream.
    Tail { end: u32 },
}

/// Until when a party can be kept waiting, if at all. Less patience is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Patience(Option<Instant>);

/// The longest piece of time for which a publisher is held back without a look at those who wait for it meanwhile.
pub(super) const PIECE: Duration = Duration::from_millis(5);
/// One who was given more than it could take can be asked to wait so many times as long as it was busy with that: it still
/// gets a quarter of what it could take;
const BEARS: u32 = 3;
/// but never longer than this.
const BEARS_FOR: Duration = Duration::from_millis(100);
/// Who has enough is taken to have that for so long; before, it is told anew when that is used up.
const FED_FOR: Duration = Duration::from_millis(100);
/// For so long it is known that a party cannot keep up with its publishers.
const MEMORY: Duration = Duration::from_secs(1);

impl Supply {
    pub(super) fn new(now: Instant) -> Self {
        Self { stage: Stage::Idle, since: now, lasted: Duration::ZERO }
    }

    /// As much as the low-water mark waits, or more.
    pub(super) fn feed(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            if now.since(self.since) > MEMORY {
                self.lasted = Duration::ZERO;
            }
            self.since = now;
        }
        self.stage = Stage::Fed;
    }

    /// So much still waits, what was sent is acknowledged up to offset `acked` of the stream, and `unacked` bytes behind
    /// that were sent. True if a stage is over.
    pub(super) fn drain(&mut self, now: Instant, waiting: usize, acked: u32, unacked: usize) -> bool {
        match self.stage {
            Stage::Fed if waiting == 0 => {
                self.stage = Stage::Tail { end: acked.wrapping_add(unacked as u32) };
                self.drain(now, waiting, acked, unacked);
                true
            }
            Stage::Tail { end } if acked.wrapping_sub(end) as i32 >= 0 => {
                (self.stage, self.lasted, self.since) = (Stage::Idle, now.since(self.since), now);
                true
            }
            _ => false,
        }
    }

    /// How long it can be kept waiting from now on.
    pub(super) fn patience(&self, now: Instant) -> Patience {
        let bears = |lasted: Duration| lasted.saturating_mul(BEARS).min(BEARS_FOR);
        let lasts = now.since(self.since);
        Patience(match self.stage {
            Stage::Idle => Some(self.since + bears(self.lasted)),
            // A burst that is gone in no time is no supply, unless there have been larger ones.
            _ if lasts.max(self.lasted) < PIECE => None,
            Stage::Fed => Some(now + FED_FOR + bears(lasts)),
            Stage::Tail { .. } => Some(now + bears(lasts)),
        })
    }
}

impl Patience {
    /// That of one who has enough.
    pub(super) fn of_fed(now: Instant) -> Self {
        Self(Some(now + FED_FOR))
    }

    /// One who can be kept waiting however long.
    pub(super) const ENDLESS: Self = Self(Some(Instant::MAX));

    /// True if it can be kept waiting.
    pub(super) fn lasts(self, now: Instant) -> bool {
        self.0.is_some_and(|until| until > now)
    }
}
