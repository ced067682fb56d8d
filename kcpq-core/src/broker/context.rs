//! What every part of a broker reads, counts in and tells of.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::comeback::Comeback;
use super::config::Config;
use super::event::Event;
use super::guard::Guard;
use super::memory::Memory;
use super::names::Names;
use super::party::Party;
use super::pass::Pass;
use super::peer::Peer;
use super::presence::Notices;
use super::relief::Relief;
use super::stats::Stats;
use super::turn::Turn;
use super::wills::Wills;
use crate::hash::Secret;
use crate::hello::Named;
use crate::kcp;
use crate::outbox::Waits;
use crate::rng::Rng;
use crate::subject::{Checked, Subject};
use crate::time::Instant;

/// See above.
pub(super) struct Context<P> {
    pub(super) config: Config,
    pub(super) now: Instant,
    /// For the hashing of what peers choose.
    pub(super) seed: u64,
    /// For what nobody should guess: names of sessions, challenges.
    pub(super) names: Names,
    server_secret: [u8; 32],
    /// Which life of the server this is.
    pub(super) epoch: u64,
    /// Which of how many brokers of the server this is.
    pub(super) shard: (u64, u64),
    /// Who may do what; without it everybody may do everything.
    pub(super) guard: Option<Box<Guard>>,
    /// For what peers must not guess.
    secret: Secret,
    /// Last values of subjects are kept.
    pub(super) keeps: bool,
    /// There is a backbone that may store messages.
    pub(super) stores: bool,
    /// There is a gateway, behind which messages may be stored.
    pub(super) replays: bool,
    /// The subject of the last message.
    pub(super) subject: Checked,
    /// How many messages went in [runs](super::run); `None` if none are to, to see that these make no difference.
    #[cfg(test)]
    pub(super) runs: Option<u32>,
    /// The server stops soon: no session is opened.
    pub(super) stops: bool,
    /// It stops: nothing more is read.
    pub(super) draining: bool,
    /// Bytes that the protection adds to each datagram.
    pub(super) headroom: u16,
    pub(super) stats: Stats,
    /// How long messages wait; lent to whose queue is emptied.
    pub(super) waits: Waits,
    /// Who is waited for after a restart.
    pub(super) comeback: Comeback<P>,
    /// What is to be said of sessions.
    pub(super) notices: Notices,
    /// What clients have left.
    pub(super) wills: Wills,
    /// Who may take in more when memory is short.
    pub(super) memory: Memory,
    /// Who gives way when too much waits.
    pub(super) relief: Relief,
    /// How much was done in this turn.
    pub(super) turn: Turn,
    /// The engines' counters of all sessions, as far as they were [counted](super::session::Session::count).
    pub(super) transport: kcp::Stats,
    /// Who was held back and may go on, and sessions that have begun to miss messages: seen to when nobody is worked on.
    pub(super) released: VecDeque<Party>,
    pub(super) slow: VecDeque<u32>,
    /// Somebody has used up what waited for it, or has nothing to speak of left, which other shards want to know: seen to as well.
    pub(super) emptied: bool,
    events: VecDeque<Event<P>>,
}

/// Most events that wait to be fetched.
const MAX_EVENTS: usize = 4096;

impl<P> Context<P> {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let epoch = rng.u64(1..);
        let mut server_secret = [0; 32];
        rng.fill(&mut server_secret);
        Self {
            memory: Memory::new(config.max_received_total, config.frames.max_body),
            comeback: Comeback::new(seed),
            notices: Notices::default(),
            wills: Wills::new(seed),
            config,
            now: Instant::ZERO,
            seed,
            epoch,
            names: Names::new(&server_secret, [epoch, 0]),
            server_secret,
            shard: (0, 1),
            guard: None,
            secret: Secret::new(seed),
            keeps: true,
            stores: false,
            replays: false,
            subject: Checked::default(),
            #[cfg(test)]
            runs: Some(0),
            stops: false,
            draining: false,
            headroom: 0,
            stats: Stats::default(),
            waits: Some(Box::default()),
            relief: Relief::default(),
            turn: Turn::default(),
            transport: kcp::Stats::default(),
            released: VecDeque::new(),
            slow: VecDeque::new(),
            emptied: false,
            events: VecDeque::new(),
        }
    }

    /// This broker is number `own` of the server's `count`.
    pub(super) fn set_shard(&mut self, own: u64, count: u64) {
        self.shard = (own, count.max(1));
        self.names = Names::new(&self.server_secret, [self.epoch, own]);
    }

    /// The server's secret is this one.
    #[cfg(feature = "sealed")]
    pub(super) fn set_secret(&mut self, secret: &[u8; 32]) {
        self.server_secret = *secret;
        self.names = Names::new(secret, [self.epoch, self.shard.0]);
    }

    /// A name for a session: none that anybody can guess, and such that each shard knows its own.
    pub(super) fn name(&mut self) -> Named {
        let (own, count) = self.shard;
        loop {
            let id = u64::from_le_bytes(self.names.draw());
            if id % count == own {
                return self.names.named(id);
            }
        }
    }

    /// What tells one peer from another, for who knows what is secret here.
    #[cfg(feature = "sealed")]
    pub(super) fn fingerprint(&self, peer: &P) -> [u8; 8]
    where
        P: core::hash::Hash,
    {
        self.secret.hash_of(peer).to_le_bytes()
    }

    /// The longest datagram that a native client there may send, and is sent.
    pub(super) fn max_datagram(&self, peer: &P) -> u16
    where
        P: Peer,
    {
        if peer.is_local() { self.config.local_datagram } else { self.config.native_datagram }
    }

    /// Time goes on; it never goes back.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Where the clock of a session begins that is opened now. Nobody can tell it but by receiving what carries it.
    pub(super) fn clock(&mut self, conv: u32) -> u32 {
        let moment = [self.now.as_micros(), self.stats.sessions_opened].map(u64::to_le_bytes);
        self.secret.hash(conv, moment.as_flattened()) as u32
    }

    /// True if a session may get a message of `subject`.
    pub(super) fn may_receive(&mut self, pass: &mut Pass, subject: Subject<'_>) -> bool {
        self.guard.as_mut().is_none_or(|guard| guard.may_receive(pass, subject))
    }

    /// True if it is not to get it, which is counted.
    pub(super) fn withholds(&mut self, pass: &mut Pass, subject: Subject<'_>) -> bool {
        let withholds = !self.may_receive(pass, subject);
        self.stats.messages_withheld += u64::from(withholds);
        withholds
    }

    /// Keeps an event until it is fetched, if there is room.
    pub(super) fn tell(&mut self, event: Event<P>) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.stats.events_lost += 1;
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event<P>> {
        self.events.pop_front()
    }
}
