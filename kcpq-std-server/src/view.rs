//! A look at a server while it works, from any thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use kcpq_core::broker::gateway;
use kcpq_core::broker::{
    self, KeptCursor, KeptView, Page, PatternCursor, PatternView, SessionCursor, SessionId, SessionView,
};
use kcpq_core::kcp;

use crate::handle::Handle;
use crate::kernel::{self, ReceiveQueues};
use crate::peer::Client;
use crate::server::Snapshot;
use crate::shard::{Command, Shard};

/// A look at a server. A clone looks at the same one; it may live longer than the server, and finds nothing then.
///
/// The threads that serve are asked for one page after the other, between datagrams: a look takes some of their time, and
/// never much at once.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) shards: Arc<[Handle]>,
    pub(crate) local_addrs: Arc<[SocketAddr]>,
    pub(crate) backbone: Option<Handle>,
    pub(crate) values_failures: Option<Arc<AtomicU64>>,
}

/// How it is with a backbone, as [`View::backbone`] shows it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackboneView {
    /// Counters.
    pub stats: gateway::Stats,
    /// The server of it that this one is connected to.
    pub server: Option<String>,
    /// Why it is connected to none, for people.
    pub trouble: Option<String>,
    /// Why a leaf node that is to be connected to JetStream as well is not, for people.
    pub store_trouble: Option<String>,
    /// Why the bucket of last values is not there, or does not take something, for people; `None` if all is well, or there is none.
    pub values_trouble: Option<String>,
    /// How often the backbone has refused something, and gone on.
    pub complaints: u64,
}

/// A stream of the store behind the backbone, as [`View::streams`] shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamView {
    /// Its name.
    pub name: String,
    /// Patterns of the subjects whose messages it stores, as they are at the backbone.
    pub subjects: Vec<String>,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// The sequence of the oldest of these.
    pub first_sequence: u64,
    /// The sequence of the newest.
    pub last_sequence: u64,
    /// When the oldest was stored, as the store says it (RFC 3339); `None` if there is none.
    pub first_time: Option<String>,
    /// When the newest was.
    pub last_time: Option<String>,
    /// How many read from it, of whatever kind.
    pub consumers: u64,
}

/// What one thread of a server has counted.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Sessions and messages.
    pub broker: broker::Stats,
    /// KCP: the sum over all sessions that there have ever been. What an open one has counted since [`View::sessions`] showed
    /// it is not in there yet.
    pub transport: kcp::Stats,
    /// Datagrams that the operating system refused to send.
    pub unsendable: u64,
}

/// A session, as [`View::sessions`] shows it.
pub type Session = SessionView<SocketAddr>;

/// What is known of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pattern {
    /// Sessions that have it.
    pub subscribers: usize,
    /// Messages that it has matched, modulo 2^32. They are forgotten when nobody has it any more: two looks give a rate, one
    /// alone says little.
    pub messages: u32,
}

impl Pattern {
    /// Adds what another thread knows of it.
    fn add(&mut self, other: Self) {
        self.subscribers += other.subscribers;
        self.messages = self.messages.wrapping_add(other.messages);
    }
}

/// A page of sessions that goes from thread to thread.
pub(crate) type SessionPage = Page<SessionView<Client>, SessionCursor>;
pub(crate) type PatternPage = Page<PatternView, PatternCursor>;
pub(crate) type KeptPage = Page<KeptView, KeptCursor>;

/// Places that a thread looks at in one turn. A session costs it less than a microsecond, a datagram several.
pub(crate) const PLACES: usize = 128;
/// How long a thread may take to answer. One that takes longer than this has other troubles.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// And the store, which is asked over the network.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

impl View {
    /// Where the server listens: all of its addresses, in the order of its configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Number of the server's threads.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The counters of all threads; `None` if one has ended, or does not answer for 10 s.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let mut sum = Snapshot::default();
        for shard in &*self.shards {
            sum.add(&ask(shard, PATIENCE, Command::Snapshot)?);
        }
        Some(sum)
    }

    /// The counters of each thread that never go back, without a look at each session as [`snapshot`](Self::snapshot) takes
    /// it; `None` if one has ended, or does not answer for 10 s.
    pub fn counters(&self) -> Option<Vec<Counters>> {
        self.shards.iter().map(|shard| ask(shard, PATIENCE, Command::Counters)).collect()
    }

    /// How it is with the backbone; `None` if there is none, or if its thread has ended, or does not answer for 10 s.
    pub fn backbone(&self) -> Option<BackboneView> {
        ask(self.backbone.as_ref()?, PATIENCE, Command::Backbone)
    }

    /// The streams of the store behind the backbone, in no particular order, or for people why they are not known; `None` if there
    /// is no backbone, or if its store does not answer for 5 s.
    pub fn streams(&self) -> Option<Result<Vec<StreamView>, String>> {
        ask(self.backbone.as_ref()?, STORE_PATIENCE, Command::Streams)
    }

    /// What the operating system says of the server's sockets; `None` where it does not.
    pub fn receive_queues(&self) -> Option<ReceiveQueues> {
        kernel::receive_queues(&self.local_addrs)
    }

    /// All sessions, one page after the other, in no particular order. One that comes or goes meanwhile may be among them or
    /// not. It ends early if a thread has ended, or does not answer for 10 s.
    pub fn sessions(&self) -> impl Iterator<Item = Session> + use<> {
        let from = (0..self.shards.len()).map(|shard| (shard, SessionCursor::default()));
        let ask = |shard: &Handle, from| ask(shard, PATIENCE, |reply| Command::Sessions(from, reply));
        let pages = Pages { shards: Arc::clone(&self.shards), rest: from.collect(), ask };
        pages.flatten().map(|session| session.map_peer(|client: Client| client.path.remote))
    }

    /// All patterns that sessions have, in no particular order; `None` if a thread has ended, or does not answer for 10 s.
    pub fn patterns(&self) -> Option<HashMap<Box<str>, Pattern>> {
        let mut sum: HashMap<Box<str>, Pattern> = HashMap::new();
        for shard in &*self.shards {
            // One may be shown twice while others come and go: the last time counts.
            let (mut own, mut next) = (HashMap::new(), Some(PatternCursor::default()));
            while let Some(from) = next {
                let page = ask(shard, PATIENCE, |reply| Command::Patterns(from, reply))?;
                let known = page.items.into_iter().map(|PatternView { pattern, subscribers, messages, .. }| {
                    (pattern, Pattern { subscribers, messages })
                });
                own.extend(known);
                next = page.next;
            }
            if sum.is_empty() {
                sum = own;
            } else {
                own.into_iter().for_each(|(pattern, own)| sum.entry(pattern).or_default().add(own));
            }
        }
        sum.retain(|_, pattern| pattern.subscribers > 0);
        Some(sum)
    }

    /// The last values of all subjects that are kept, in the order of these; `None` if a thread has ended, or does not
    /// answer for 10 s.
    pub fn kept(&self) -> Option<Vec<KeptView>> {
        // All threads have the same.
        kept(self.shards.first()?)
    }

    /// How often the file of last values could not be written. Each time it is tried again; 0 if there is none.
    pub fn kept_write_failures(&self) -> u64 {
        self.values_failures.as_ref().map_or(0, |failures| failures.load(Ordering::Relaxed))
    }

    /// Ends a session: what waits for it still goes out within the linger time, its client is told (CLOSE 9, PROTOCOL.md
    /// 3.6), and may come back. False if there is no such session any more.
    pub fn kick(&self, id: SessionId) -> bool {
        let shard = self.shards.get(id.shard());
        shard.and_then(|shard| ask(shard, PATIENCE, |reply| Command::Kick(id, reply))).unwrap_or(false)
    }

    /// True if all threads answer within `limit` each.
    pub fn answers(&self, limit: Duration) -> bool {
        self.shards.iter().chain(&self.backbone).all(|shard| ask(shard, limit, Command::Ping).is_some())
    }
}

/// All last values that a thread has, one page after the other.
pub(crate) fn kept(shard: &Handle) -> Option<Vec<KeptView>> {
    let (mut all, mut next) = (Vec::new(), Some(KeptCursor::default()));
    while let Some(from) = next {
        let page = ask(shard, PATIENCE, |reply| Command::Kept(from, reply))?;
        all.extend(page.items);
        next = page.next;
    }
    Some(all)
}

/// What a thread says to a question.
pub(crate) fn ask<T>(shard: &Handle, limit: Duration, question: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
    let (reply, answer) = mpsc::channel();
    if !shard.send(question(reply)) {
        return None;
    }
    answer.recv_timeout(limit).ok()
}

/// The pages of all threads: each is asked for when the one before is used up.
struct Pages<A, C> {
    shards: Arc<[Handle]>,
    /// Where to go on, of those that are still to be asked.
    rest: Vec<(usize, C)>,
    ask: A,
}

impl<T, C: Copy, A: Fn(&Handle, C) -> Option<Page<T, C>>> Iterator for Pages<A, C> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        let (index, from) = self.rest.pop()?;
        let Some(page) = self.shards.get(index).and_then(|shard| (self.ask)(shard, from)) else {
            self.rest.clear();
            return None;
        };
        self.rest.extend(page.next.map(|next| (index, next)));
        Some(page.items)
    }
}

impl Shard {
    /// A page of sessions.
    pub(crate) fn sessions(&mut self, from: SessionCursor) -> SessionPage {
        let now = self.now();
        self.broker.view_sessions(now, from, PLACES)
    }

    /// What never goes back.
    pub(crate) fn counters(&self) -> Counters {
        let (broker, transport) = (self.broker.stats(), self.broker.transport_total());
        Counters { broker, transport, unsendable: self.unsendable }
    }

    /// A page of last values.
    pub(crate) fn kept(&self, from: &KeptCursor) -> KeptPage {
        self.broker.view_kept(from, PLACES)
    }

    /// A page of patterns.
    pub(crate) fn patterns(&self, from: PatternCursor) -> PatternPage {
        self.broker.view_patterns(from, PLACES)
    }
}
