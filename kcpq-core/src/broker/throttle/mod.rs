//! Whether a publisher is held back, and for how long (PROTOCOL.md 6).
//!
//! It is while somebody it publishes to is behind and catches up, so that nothing has to be dropped. That costs nobody
//! anything as long as the others whom it publishes to have plenty waiting themselves. As soon as one of them has not, it
//! would pay for the one that is behind, and from there on the publisher is held back for a small share of its time only,
//! in short pieces. So whether it is held back is looked at again and again, for as long as there are others.

#[cfg(test)]
mod tests;

use super::config::Config;
use super::party::Party;
use super::supply::PIECE;
use crate::time::{Deadline, Duration, Instant, Why};

/// Of one publisher.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    hold: Option<Hold>,
    /// The two latest that it has published to, those that were behind left out if there were others, and when that was.
    served: [Option<(Party, Instant)>; 2],
    /// Before this it is not held back at the cost of others again.
    not_before: Option<Instant>,
    /// Who lets it go on having caught up, if it has been told to do so.
    listed: Option<Party>,
}

/// A publisher is held back.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// For whom.
    by: Party,
    since: Instant,
    /// When that has to be looked at again.
    until: Instant,
    /// Others pay for it.
    costs: bool,
    /// It misses messages all the same.
    lossy: bool,
}

/// So long a publisher is taken to publish to somebody again.
const MEMORY: Duration = Duration::from_secs(1);

impl Throttle {
    /// True while it is held back.
    pub(super) fn holds(&self) -> bool {
        self.hold.is_some()
    }

    /// True if who holds it back misses messages all the same.
    pub(super) fn is_lossy(&self) -> bool {
        self.hold.is_some_and(|hold| hold.lossy)
    }

    /// For whom it is held back, if that has to be looked at again.
    pub(super) fn due(&self, now: Instant) -> Option<Party> {
        self.hold.filter(|hold| hold.until <= now).map(|hold| hold.by)
    }

    /// When that has to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.hold.map(|hold| Deadline { at: hold.until, why: Why::Throttle })
    }

    /// It has published to somebody.
    pub(super) fn on_served(&mut self, now: Instant, party: Party) {
        let [last, before] = &mut self.served;
        if last.is_some_and(|(known, _)| known != party) {
            *before = *last;
        }
        *last = Some((party, now));
    }

    /// Who may be waiting for what it publishes.
    pub(super) fn served(&self, now: Instant) -> impl Iterator<Item = Party> + use<> {
        let recent = |(_, at): &(Party, Instant)| *at + MEMORY > now;
        self.served.map(|entry| entry.filter(recent)).into_iter().flatten().map(|(party, _)| party)
    }

    /// Holds it back for somebody, or goes on with that; unless others would have to pay for one that misses messages all
    /// the same, or have done so enough. True if it is held back.
    pub(super) fn hold(&mut self, now: Instant, config: &Config, claim: Claim, others: Others) -> bool {
        self.release(now, config);
        let Claim { by, limit, lossy } = claim;
        if lossy && others > Others::Behind {
            return false;
        }
        let (piece, costs) = match others {
            Others::None => (config.throttle_for.div(2), false),
            Others::Behind | Others::Patient => (PIECE, false),
            Others::Waiting => (PIECE, true),
        };
        if costs && (config.throttle_share == 0 || self.not_before.is_some_and(|at| now < at)) {
            return false;
        }
        let until = limit.min(now + piece);
        self.hold = Some(Hold { by, since: now, until, costs, lossy });
        true
    }

    /// It may go on.
    pub(super) fn release(&mut self, now: Instant, config: &Config) {
        let Some(hold) = self.hold.take() else { return };
        if hold.costs {
            let taken = now.min(hold.until).since(hold.since);
            self.not_before = Some(hold.since + taken.saturating_mul(100).div(config.throttle_share.into()));
        }
    }

    /// It has to be told by `by` to go on. True if `by` does not know that.
    pub(super) fn list(&mut self, by: Party) -> bool {
        self.listed.replace(by) != Some(by)
    }

    /// Somebody has told it to go on.
    pub(super) fn unlist(&mut self) {
        self.listed = None;
    }
}

/// Somebody is behind, so that publishers to it are to be held back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Who.
    pub(super) by: Party,
    /// Until when at most, as things stand.
    pub(super) limit: Instant,
    /// Messages are dropped for it all the same.
    pub(super) lossy: bool,
}

/// How those are off to whom a publisher publishes, beside the one that is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Others {
    /// There are none.
    None,
    /// They are behind as well.
    Behind,
    /// They can be kept waiting.
    Patient,
    /// One of them cannot.
    Waiting,
}
