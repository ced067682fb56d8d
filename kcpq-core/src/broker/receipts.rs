//! Publishers that wait to hear what became of a message (PROTOCOL.md 3.12), as long as other brokers of the server have not
//! said how many of their sessions got it.

use alloc::collections::VecDeque;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::event::SessionId;
use crate::puback::{PubAck, Rejection};

/// Who has a message, or whose queue at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Sessions of this broker, each once for itself and once for each of its queue groups.
    pub(super) sessions: u32,
    /// Other brokers of the server, likewise.
    pub(super) shards: u32,
    /// Those who are subscribed to it, whether they have it or not.
    pub(super) subscribers: u32,
}

/// See above. There are at most as many as messages on their way to other brokers.
pub(super) struct Receipts {
    /// By ticket.
    waiting: HashMap<u32, Waiting, SeedableRandomState>,
    last: u32,
    due: VecDeque<(SessionId, PubAck)>,
}

struct Waiting {
    publisher: SessionId,
    /// The publisher's name for the message.
    number: u32,
    sessions: u32,
    /// How many brokers have not answered yet.
    shards: u32,
    /// The gateway cannot hand it on.
    too_large: bool,
}

/// The answer of a gateway whose backbone does not take so large a message.
pub(super) const TOO_LARGE: u32 = u32::MAX;

impl Receipts {
    pub(super) fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { waiting: HashMap::with_hasher(state), last: 0, due: VecDeque::new() }
    }

    /// A ticket for the next message.
    pub(super) fn ticket(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.waiting.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// A message with this ticket has come so far. What is to be told its publisher now, if that is known.
    pub(super) fn routed(
        &mut self,
        ticket: Option<u32>,
        publisher: SessionId,
        number: u32,
        reach: Reach,
    ) -> Option<PubAck> {
        let Reach { sessions, shards, .. } = reach;
        match ticket.filter(|_| shards > 0) {
            Some(ticket) => {
                self.waiting.insert(ticket, Waiting { publisher, number, sessions, shards, too_large: false });
                None
            }
            None => Some(PubAck { number, outcome: Ok(sessions) }),
        }
    }

    /// Another broker has said how many of its sessions got a message, or will not say it any more.
    pub(super) fn on_answer(&mut self, ticket: u32, sessions: u32) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        match sessions {
            TOO_LARGE => waiting.too_large = true,
            _ => waiting.sessions += sessions,
        }
        waiting.shards -= 1;
        if waiting.shards == 0
            && let Some(Waiting { publisher, number, sessions, too_large, .. }) = self.waiting.remove(&ticket)
        {
            let outcome = if too_large { Err(Rejection::TooLarge) } else { Ok(sessions) };
            self.due.push_back((publisher, PubAck { number, outcome }));
        }
    }

    /// What is to be told a publisher, if that is still there.
    pub(super) fn poll(&mut self) -> Option<(SessionId, PubAck)> {
        self.due.pop_front()
    }
}
