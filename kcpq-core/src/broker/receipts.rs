//! Publishers that wait to hear what became of a message (PROTOCOL.md 3.12): as long as other brokers of the server have not
//! said how many of their sessions got it, and the gateway whether it is stored, if it is to be. And brokers that wait likewise,
//! where a message for a queue group went on to another one because nobody here could have it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::event::SessionId;
use crate::puback::{PubAck, Rejection, Stored};

/// Who has a message, or whose queue at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Sessions of this broker, each once for itself and once for each of its queue groups.
    pub(super) sessions: u32,
    /// Other brokers of the server, likewise.
    pub(super) shards: u32,
    /// Those who are subscribed to it, whether they have it or not.
    pub(super) subscribers: u32,
    /// Whether the gateway has it; `None` if it is not for the gateway.
    pub(super) gateway: Option<bool>,
}

/// Where a message is stored, or why it is not, for people as well.
pub(super) type StoreOutcome = Result<Stored, (Rejection, Box<str>)>;

/// What a publisher is told, if it is still there.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) publisher: SessionId,
    pub(super) ack: PubAck,
    /// For people, empty if all is well.
    pub(super) text: Box<str>,
    /// The session counts the answers that it still gets, but for those that may take long.
    pub(super) is_counted: bool,
}

/// See above. There are at most as many as messages on their way to other brokers, and as the gateway has to be stored.
pub(super) struct Receipts {
    /// By ticket.
    waiting: HashMap<u32, Waiting, SeedableRandomState>,
    last: u32,
    due: VecDeque<Receipt>,
    /// The same for brokers.
    counted: VecDeque<Counted>,
}

/// What a broker is told, once it is known, that was to wait for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) broker: u8,
    pub(super) ticket: u32,
    pub(super) sessions: u32,
}

struct Waiting {
    whom: Whom,
    sessions: u32,
    /// How many brokers have not answered yet.
    shards: u32,
    /// The gateway cannot hand it on.
    too_large: bool,
    store: Store,
}

/// Who waits.
enum Whom {
    Publisher {
        session: SessionId,
        /// Its name for the message.
        number: u32,
    },
    /// Another broker, and its ticket.
    Broker(u8, u32),
}

/// Whether a message is stored.
enum Store {
    /// It is not to be.
    Unasked,
    Awaited,
    Told(StoreOutcome),
}

/// The answer of a gateway whose backbone does not take so large a message.
pub(super) const TOO_LARGE: u32 = u32::MAX;
/// The answer of a broker that has handed a message on, and waits for the next one's itself.
pub(super) const LATER: u32 = u32::MAX - 1;

impl Receipts {
    pub(super) fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { waiting: HashMap::with_hasher(state), last: 0, due: VecDeque::new(), counted: VecDeque::new() }
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

    /// A message with this ticket has come so far, and is to be stored or not. What is to be told its publisher now, if that is
    /// known.
    pub(super) fn routed(
        &mut self,
        ticket: Option<u32>,
        publisher: SessionId,
        number: u32,
        reach: Reach,
        is_to_be_stored: bool,
    ) -> Option<(PubAck, &'static str)> {
        let Reach { sessions, shards, gateway, .. } = reach;
        if is_to_be_stored && gateway != Some(true) {
            let (why, text) = match gateway {
                None => {
                    (Rejection::NoStream, "what is published to this subject is not handed to a backbone that stores")
                }
                Some(_) => (Rejection::NotStored, "too much waits already for the backbone that stores"),
            };
            return Some((PubAck { number, outcome: Err(why), stored: None }, text));
        }
        match ticket.filter(|_| shards > 0) {
            Some(ticket) => {
                let store = if is_to_be_stored { Store::Awaited } else { Store::Unasked };
                let whom = Whom::Publisher { session: publisher, number };
                self.waiting.insert(ticket, Waiting { whom, sessions, shards, too_large: false, store });
                None
            }
            None => Some((PubAck { number, outcome: Ok(sessions), stored: None }, "")),
        }
    }

    /// A message that `broker` wants to know of by `its` ticket has come so far here, with this one. The answer to it now.
    pub(super) fn relayed(&mut self, ticket: u32, broker: u8, its: u32, reach: Reach) -> u32 {
        let Reach { sessions, shards, .. } = reach;
        if shards == 0 {
            return sessions;
        }
        let (whom, store) = (Whom::Broker(broker, its), Store::Unasked);
        self.waiting.insert(ticket, Waiting { whom, sessions, shards, too_large: false, store });
        LATER
    }

    /// Another broker has said how many of its sessions got a message, or will not say it any more.
    pub(super) fn on_answer(&mut self, ticket: u32, sessions: u32) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        match sessions {
            LATER => return,
            TOO_LARGE => waiting.too_large = true,
            _ => waiting.sessions += sessions,
        }
        waiting.shards = waiting.shards.saturating_sub(1);
        self.settle(ticket);
    }

    /// A message was dropped before it was with another broker, or with the gateway.
    pub(super) fn on_dropped(&mut self, ticket: u32, is_gateway: bool) {
        if is_gateway {
            self.on_store(
                ticket,
                Err((Rejection::InDoubt, "dropped on its way to the backbone, its time was over".into())),
            );
        }
        self.on_answer(ticket, 0);
    }

    /// The gateway says whether a message is stored.
    pub(super) fn on_store(&mut self, ticket: u32, outcome: StoreOutcome) {
        if let Some(waiting) = self.waiting.get_mut(&ticket)
            && matches!(waiting.store, Store::Awaited)
        {
            waiting.store = Store::Told(outcome);
            self.settle(ticket);
        }
    }

    /// Tells the publisher, if all is known.
    fn settle(&mut self, ticket: u32) {
        let known =
            |waiting: &Waiting| waiting.shards == 0 && (waiting.too_large || !matches!(waiting.store, Store::Awaited));
        let Some(waiting) = self.waiting.get(&ticket).filter(|waiting| known(waiting)) else { return };
        let is_counted = matches!(waiting.store, Store::Unasked);
        let Some(Waiting { whom, sessions, too_large, store, .. }) = self.waiting.remove(&ticket) else { return };
        let (publisher, number) = match whom {
            Whom::Publisher { session, number } => (session, number),
            Whom::Broker(broker, ticket) => return self.counted.push_back(Counted { broker, ticket, sessions }),
        };
        let (outcome, stored, text) = match store {
            _ if too_large => (Err(Rejection::TooLarge), None, Box::default()),
            Store::Told(Ok(stored)) => (Ok(sessions), Some(stored), Box::default()),
            Store::Told(Err((why, text))) => (Err(why), None, text),
            Store::Unasked | Store::Awaited => (Ok(sessions), None, Box::default()),
        };
        let text = match outcome {
            Err(why) if text.is_empty() => format!("{why}").into(),
            _ => text,
        };
        self.due.push_back(Receipt { publisher, ack: PubAck { number, outcome, stored }, text, is_counted });
    }

    /// What is to be told another broker.
    pub(super) fn poll_counted(&mut self) -> Option<Counted> {
        self.counted.pop_front()
    }

    /// What is to be told a publisher, if that is still there.
    pub(super) fn poll(&mut self) -> Option<Receipt> {
        self.due.pop_front()
    }
}
