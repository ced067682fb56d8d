//! After a restart: messages wait for those who had sessions in the server's last life and are on their way back, for a
//! moment. Publishers that are back first would publish to nobody (PROTOCOL.md 6).

use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashSet;

use super::peer::Peer;
use crate::time::{Duration, Instant};

/// Once all are back, this long for what they subscribe to.
const SUBSCRIBES: Duration = Duration::from_millis(100);

/// See above.
pub(super) struct Comeback<P> {
    /// Until when messages wait, at most.
    until: Option<Instant>,
    absent: HashSet<P, SeedableRandomState>,
    /// Where sessions are whose messages wait.
    held: Vec<u32>,
}

impl<P> Comeback<P> {
    pub(super) fn new(seed: u64) -> Self {
        let absent = HashSet::with_hasher(SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()));
        Self { until: None, absent, held: Vec::new() }
    }

    /// These are to come back, for whom messages wait until then.
    pub(super) fn begin(&mut self, until: Instant, peers: impl IntoIterator<Item = P>)
    where
        P: Peer,
    {
        self.absent.extend(peers);
        self.until = Some(until).filter(|_| !self.absent.is_empty());
    }

    /// True as long as messages wait.
    pub(super) fn is_awaited(&self) -> bool {
        self.until.is_some()
    }

    /// Messages of the session at this place wait.
    pub(super) fn hold(&mut self, slot: u32) {
        self.held.push(slot);
    }

    /// Somebody has a session.
    pub(super) fn on_session(&mut self, now: Instant, peer: P)
    where
        P: Peer,
    {
        if let Some(until) = &mut self.until
            && self.absent.remove(&peer)
            && self.absent.is_empty()
        {
            *until = (*until).min(now + SUBSCRIBES);
        }
    }

    /// The places of sessions whose messages wait no more.
    pub(super) fn end(&mut self, now: Instant) -> Vec<u32> {
        if self.until.take_if(|until| *until <= now).is_none() {
            return Vec::new();
        }
        self.absent = HashSet::with_hasher(self.absent.hasher().clone());
        core::mem::take(&mut self.held)
    }

    /// When to call [`end`](Self::end).
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}
