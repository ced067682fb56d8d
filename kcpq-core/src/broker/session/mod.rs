//! One session: its engine, the reader of its frames, and what the broker knows of it.
//!
//! Apart from the broker: what a frame does is decided in `dispatch`, when a session opens and ends in `sessions`.

mod memory;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::backlog::Backlog;
use super::config::Config;
use super::context::Context;
use super::dispatch::spoken;
use super::event::SessionId;
use super::half_open::HalfOpen;
use super::hub::Hub;
use super::keeping::{self, CatchUp};
use super::membership::Membership;
use super::memory::Share;
use super::outlet::Outlet;
use super::pass::Pass;
use super::peer::Peer;
use super::replays::Replays;
use super::stream::Stream;
use super::throttle::Throttle;
use super::turn::Account;
use super::view::ClientKind;
use super::wills::Will;
use crate::access::Credential;
use crate::datagram::{Content, Framing, Link, Protection, SAFE_DATAGRAM};
use crate::frame::{self, command};
use crate::hello::{CloseReason, Hello, MAX_SUCCESSORS, Named, features};
use crate::kcp;
use crate::lane::{Lane, Priority};
use crate::outbox::{HeapOutbox, Outbox, Queues, Waits};
use crate::router::Router;
#[cfg(feature = "sealed")]
use crate::seal::Transport;
use crate::session::{self, Intake, Waiting};
use crate::store::{Gather, Heap, HeapInbox, HeapTx};
use crate::subject::{Pattern, Subject};
use crate::time::{Deadline, Duration, Instant, Why};

/// See above.
pub(super) struct Session {
    transport: session::Session<Heap>,
    member: Member,
}

/// What the broker knows of a session.
pub(super) struct Member {
    /// It said HELLO.
    pub(super) native: bool,
    /// It was opened from the machine that the broker runs on, and has never been elsewhere.
    pub(super) local: bool,
    /// What its client calls itself.
    pub(super) client: Option<Arc<str>>,
    pub(super) opened: Instant,
    /// What the engine had counted when that was last added to the total.
    counted: kcp::Stats,
    /// Who it is, once that is known and of interest.
    pub(super) pass: Option<Box<Pass>>,
    /// As long as nothing shows that it is where it says it is.
    half_open: Option<HalfOpen>,
    /// What it has of the memory for what has come and waits.
    pub(super) share: Share,
    /// The driver has been told that a subject of this session was refused.
    pub(super) refusal_told: bool,
    /// The patterns, and for each whether only the latest messages are wanted.
    pub(super) patterns: HashMap<Box<str>, bool, SeedableRandomState>,
    /// The highest number by which it has subscribed.
    pub(super) asked: u32,
    /// What it is still to be given of the values that were kept when it subscribed.
    pub(super) catch_up: Option<Box<CatchUp>>,
    /// When it was last told that a value is not kept.
    pub(super) told_not_kept: Option<Instant>,
    /// Its beginning has been said, or would have been.
    pub(super) announced: bool,
    /// What it has left with the server.
    pub(super) will: Option<Box<Will>>,
    /// Its frames come and go in a stream of the driver's, and the engine rests.
    pub(super) stream: Option<Box<Stream>>,
    /// In which lanes the messages of its patterns are to come, if it has asked for such.
    pub(super) lanes: Option<Box<Router>>,
    /// The queue groups that it is in, once it has asked for one.
    pub(super) membership: Option<Box<Membership>>,
    /// Its subscriptions to what is stored, once it has asked for one.
    pub(super) replays: Option<Box<Replays>>,
    phase: Phase,
    /// When it was last heard.
    heard: Instant,
    /// Why its bytes are not read at present, if so.
    paused: Option<Pause>,
    /// What has come all the same.
    pub(super) backlog: Backlog,
    /// More may be put there.
    fills_backlog: bool,
    /// Answers to it that wait until other shards know of its patterns.
    pub(super) unanswered: u32,
    /// What was done for it.
    pub(super) account: Account,
    pub(super) outlet: Outlet,
    pub(super) throttle: Throttle,
}

/// Why a session is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It asks faster than it takes the answers.
    Answers,
    /// Somebody it publishes to is behind.
    Throttled,
    /// Those who had sessions before a restart are not all back.
    Comeback,
    /// Enough was done for it: it is the turn of others.
    Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Frames still go out, until the moment; none are read.
    Closing {
        until: Instant,
        reason: CloseReason,
    },
}

/// How the bytes of a session get along.
pub(super) struct Flow {
    pub(super) round_trip: Option<Duration>,
    pub(super) round_trip_variation: Duration,
    pub(super) path_mtu: usize,
    pub(super) queued: usize,
    pub(super) unacked: usize,
}

/// What is to be done about a session whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It may have something to send.
    Transmit,
    /// It was silent for too long.
    Idle,
    /// It is heard, and does not acknowledge.
    Stalled,
    /// It was silent, and nothing ever showed that it was there.
    Forged,
    /// It has had the time for its last frames.
    Over(CloseReason),
}

/// The rest of a session while its bytes are read: what its frames act on.
pub(super) struct Me<'s> {
    pub(super) id: SessionId,
    /// Replies.
    pub(super) control: &'s mut HeapOutbox,
    /// Messages.
    pub(super) queue: &'s mut Queues<Heap>,
    pub(super) member: &'s mut Member,
}

/// A subscriber.
pub(super) struct Receiver<'r> {
    /// What waits for it, and the rules for that.
    pub(super) queue: &'r mut Queues<Heap>,
    pub(super) outlet: &'r mut Outlet,
    /// What it may have.
    pub(super) pass: Option<&'r mut Pass>,
    /// See [`Member::lanes`].
    lanes: Option<&'r mut Router>,
}

impl<'r> Receiver<'r> {
    pub(super) fn new(
        queue: &'r mut Queues<Heap>,
        outlet: &'r mut Outlet,
        pass: &'r mut Option<Box<Pass>>,
        lanes: &'r mut Option<Box<Router>>,
    ) -> Self {
        Self { queue, outlet, pass: pass.as_deref_mut(), lanes: lanes.as_deref_mut() }
    }

    /// Another shard in its place, which gets everything.
    pub(super) fn shard(queue: &'r mut Queues<Heap>, outlet: &'r mut Outlet) -> Self {
        Self { queue, outlet, pass: None, lanes: None }
    }

    /// The same for a while.
    pub(super) fn again(&mut self) -> Receiver<'_> {
        let Self { queue, outlet, pass, lanes } = self;
        Receiver { queue, outlet, pass: pass.as_deref_mut(), lanes: lanes.as_deref_mut() }
    }

    /// The lane in which a message on this subject that was published in `lane` is to come.
    #[inline]
    pub(super) fn lane_of(&mut self, subject: Subject<'_>, lane: Lane) -> Lane {
        self.lanes.as_mut().and_then(|lanes| asked_for(lanes, subject)).unwrap_or(lane)
    }
}

/// What a native client's HELLO says of its datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    /// The version that both speak.
    pub(super) version: u8,
    max_datagram: u16,
    features: u32,
    /// The session's name, if it gets one.
    pub(super) name: Option<Named>,
}

impl Greeting {
    pub(super) fn new(hello: &Hello<'_>, name: Option<Named>) -> Self {
        Self { version: spoken(hello), max_datagram: hello.max_datagram, features: hello.features, name }
    }
}

/// Replies that may wait for one session, in bytes. A session that asks faster than it reads is not read further.
const MAX_REPLIES: usize = 64 * 1024;
/// Answers to SUB and UNSUB that may wait for one session until other shards know of its patterns.
const MAX_UNANSWERED: u32 = 1024;
/// Most datagrams in one batch (the kernel's limit for segmentation offload).
const MAX_BATCH: usize = 64;

impl Session {
    /// A session that has heard nothing yet.
    pub(super) fn new<P>(cx: &mut Context<P>, conv: u32, framing: Framing) -> Self {
        let mut transport = transport(cx, conv, framing);
        transport.kcp.demand_proof(cx.clock(conv));
        Self {
            transport,
            member: Member {
                native: false,
                local: false,
                client: None,
                opened: cx.now,
                counted: kcp::Stats::default(),
                pass: None,
                half_open: Some(HalfOpen::default()),
                share: Share::default(),
                refusal_told: false,
                patterns: HashMap::with_hasher(SeedableRandomState::with_seed(cx.seed, SharedSeed::global_fixed())),
                asked: 0,
                catch_up: None,
                told_not_kept: None,
                announced: false,
                will: None,
                stream: None,
                lanes: None,
                membership: None,
                replays: None,
                phase: Phase::Open,
                heard: cx.now,
                paused: None,
                backlog: Backlog::default(),
                fills_backlog: false,
                unanswered: 0,
                account: Account::default(),
                outlet: Outlet::of_session(cx),
                throttle: Throttle::default(),
            },
        }
    }

    // --- in ---

    /// Lends out both halves: while the one hands out bytes, the other acts on them.
    pub(super) fn split(&mut self, id: SessionId) -> (Intake<'_, Heap>, Me<'_>) {
        let Self { transport, member } = self;
        let (intake, Waiting { control, outbox }) = transport.split();
        (intake, Me { id, control, queue: outbox, member })
    }

    /// Something has come of its stream.
    pub(super) fn heard_stream(&mut self, now: Instant) {
        self.member.heard = now;
    }

    /// A datagram of this content and `len` bytes has been taken in.
    pub(super) fn heard<P>(&mut self, cx: &Context<P>, content: Content<'_>, len: usize, local: bool) {
        self.member.heard = cx.now;
        if let Some(half_open) = &mut self.member.half_open {
            half_open.on_received(len);
        }
        // An original peer is answered as it last spoke (PROTOCOL.md 4.4).
        let framing = match content {
            Content::Plain(_) | Content::Native(..) => Framing::Plain,
            Content::Fec(_) | Content::Parity => cx.config.compat_framing,
        };
        let max_datagram = cx.config.max_datagram;
        if !self.member.native && !self.transport.link.is(framing, max_datagram) {
            self.transport.set_original(framing, max_datagram, local);
        }
    }

    /// True, once, when it has shown that it is where it says it is.
    pub(super) fn is_proved_now(&mut self) -> bool {
        self.member.half_open.is_some() && self.transport.kcp.is_proved() && self.member.half_open.take().is_some()
    }

    /// True as long as its address may be forged.
    pub(super) fn is_half_open(&self) -> bool {
        self.member.half_open.is_some()
    }

    /// Gives it more of what was kept when it subscribed. True if there is more that it could be given at once.
    pub(super) fn catch_up<P: Peer>(&mut self, cx: &mut Context<P>, hub: &Hub, id: SessionId) -> bool {
        self.member.catch_up.is_some() && self.member.is_open() && hub.catch_up(cx, &mut self.split(id).1)
    }

    /// Gives it more of what is stored, as far as it takes that.
    pub(super) fn feed<P: Peer>(&mut self, cx: &mut Context<P>, hub: &mut Hub, id: SessionId) {
        if self.member.replays.is_some() {
            hub.feed(cx, &mut self.split(id).1);
        }
    }

    /// To be called before bytes are read.
    pub(super) fn before_input(&mut self) {
        let Self { transport, member } = self;
        member.fills_backlog = member.stream.is_none() && !member.share.limited && transport.kcp.read_to().is_some();
    }

    /// To be called after bytes were read.
    pub(super) fn after_input<P>(&mut self, cx: &mut Context<P>) {
        let Self { transport, member } = self;
        transport.after_input(cx.now);
        let elsewhere = transport.kcp.read_to().map_or(0, |read| member.backlog.settle(read));
        transport.kcp.set_elsewhere(cx.now, elsewhere);
        self.count_held(cx);
    }

    /// It is a native one from here on, with datagrams of at most `max_datagram` bytes if it takes such.
    pub(super) fn greet(&mut self, greeting: Greeting, max_datagram: u16, local: bool) {
        let Greeting { max_datagram: accepts, features: theirs, .. } = greeting;
        if self.member.stream.is_some() {
            return self.set_stream_dialect(theirs & features::PROPERTIES != 0);
        }
        let framing = Framing::to_client(theirs);
        self.transport.set_native(&session::Native { framing, max_datagram, accepts, local, features: theirs });
    }

    /// See [`Broker::on_too_long`](super::Broker::on_too_long).
    pub(super) fn on_too_long(&mut self, now: Instant, len: usize) {
        self.transport.on_too_long(now, len);
    }

    /// Who it is, if that is known and of interest.
    pub(super) fn pass(&self) -> Option<&Pass> {
        self.member.pass.as_deref()
    }

    /// What the broker knows of it.
    pub(super) fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// It is a native one whose client has had an answer: it has no reason to begin.
    pub(super) fn is_beyond_its_beginning(&self) -> bool {
        self.member.native && self.transport.kcp.acked_offset() > 0
    }

    /// True if it may be here, or do what it may, because it is on the machine that the broker runs on.
    pub(super) fn is_let_in_as_local(&self) -> bool {
        self.member.pass.as_ref().is_some_and(|pass| pass.credential() == Credential::Local)
    }

    /// It said HELLO.
    pub(super) fn is_native(&self) -> bool {
        self.member.native
    }

    /// It is known to be where it says it is.
    pub(super) fn begin_proved(&mut self) {
        self.member.half_open = None;
        self.transport.kcp.prove();
    }

    // --- native datagrams ---

    /// Both ends know it by this name from now on.
    pub(super) fn agree(&mut self, name: Named) {
        self.transport.agree(name, false);
    }

    /// A sealed one: its peer is where it says it is.
    #[cfg(feature = "sealed")]
    pub(super) fn begin_sealed(&mut self, named: Named, transport: Transport) {
        self.begin_proved();
        self.transport.begin_sealed(named, transport);
    }

    /// It is known what sealed datagrams are to be like.
    #[cfg(feature = "sealed")]
    pub(super) fn greet_sealed(&mut self, now: Instant) {
        self.transport.greet_sealed(now);
    }

    /// What kind of client it has; `has_key` if there is a key of the original's cipher.
    pub(super) fn kind(&self, has_key: bool) -> ClientKind {
        if self.member.stream.is_some() {
            return ClientKind::WebSocket;
        }
        match (self.is_sealed(), self.is_native(), has_key) {
            (true, ..) => ClientKind::Sealed,
            (false, true, _) => ClientKind::Native,
            (false, false, true) => ClientKind::OriginalWithKey,
            (false, false, false) => ClientKind::Original,
        }
    }

    /// True if its datagrams are sealed.
    pub(super) fn is_sealed(&self) -> bool {
        self.transport.is_sealed()
    }

    /// What a datagram holds for it.
    #[cfg(feature = "sealed")]
    pub(super) fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        self.transport.open(now, datagram)
    }

    /// A native datagram has come.
    pub(super) fn begin_native(&mut self, now: Instant) {
        self.transport.begin_native(now);
    }

    /// True if no later datagram has come than the last one.
    pub(super) fn is_newest(&self) -> bool {
        self.transport.link.is_newest()
    }

    /// The answer to a challenge that came with the last datagram.
    pub(super) fn proof(&self) -> Option<[u8; 8]> {
        self.transport.link.answer()
    }

    /// Writes a datagram that asks an address for an answer with `token`.
    pub(super) fn write_challenge(&mut self, now: Instant, token: [u8; 8], out: &mut [u8]) -> Option<usize> {
        self.transport.write_challenge(now, token, out)
    }

    /// Its peer is at another address.
    pub(super) fn on_new_path(&mut self, now: Instant) {
        self.transport.on_new_path(now);
    }

    // --- out ---

    /// What waits for it: messages, and the rules for them.
    pub(super) fn outlet(&mut self) -> (&mut Queues<Heap>, &mut Outlet) {
        (&mut self.transport.outbox, &mut self.member.outlet)
    }

    /// The session as a subscriber.
    pub(super) fn receiver(&mut self) -> Receiver<'_> {
        let Member { outlet, pass, lanes, .. } = &mut self.member;
        Receiver::new(&mut self.transport.outbox, outlet, pass, lanes)
    }

    /// The session as a publisher.
    pub(super) fn throttle(&mut self) -> &mut Throttle {
        &mut self.member.throttle
    }

    /// The patterns that it has had, and for each whether only the latest messages were wanted.
    pub(super) fn take_patterns(&mut self) -> impl Iterator<Item = (Box<str>, bool)> {
        self.member.patterns.drain()
    }

    /// Takes out of what waits for it that which is for it as a member of queue groups.
    pub(super) fn take_returns(&mut self) -> Vec<(Box<str>, Bytes, Option<Instant>)> {
        let Self { transport, member } = self;
        member.membership.take().map_or_else(Vec::new, |membership| membership.take_from(&mut transport.outbox, None))
    }

    /// Sends an answer that had to wait, and was counted as one that does or not.
    pub(super) fn answer(&mut self, mut answer: HeapOutbox, is_counted: bool) {
        self.answer_with(is_counted, |control| answer.append_to(control));
    }

    /// The same with an answer that is written when it is known.
    pub(super) fn answer_with(&mut self, is_counted: bool, write: impl FnOnce(&mut HeapOutbox)) {
        write(&mut self.transport.control);
        self.member.unanswered = self.member.unanswered.saturating_sub(is_counted.into());
    }

    /// It is not read because it is the turn of others.
    pub(super) fn is_put_off(&self) -> bool {
        self.member.paused == Some(Pause::Turn)
    }

    /// True, once, if what kept it from being read is over: there may be bytes that wait. `turn`: it is its turn, if it
    /// was put off.
    pub(super) fn goes_on<P>(&mut self, cx: &mut Context<P>, turn: bool) -> bool {
        let goes_on = match self.member.paused {
            None => false,
            Some(Pause::Answers) => {
                self.transport.control.is_empty() && self.member.unanswered == 0 && !self.member.is_catching_up()
            }
            Some(Pause::Throttled) => !self.member.throttle.holds(),
            Some(Pause::Comeback) => !cx.comeback.is_awaited(),
            Some(Pause::Turn) => turn && cx.turn.lend_again(&mut self.member.account),
        };
        if goes_on {
            self.member.paused = None;
        }
        goes_on
    }

    /// Fills `out` with datagrams, and counts in `waits` how long the messages in them have waited.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        protection: &mut Protection,
        waits: &mut Waits,
        out: &mut [u8],
        gather: Option<&mut Gather>,
    ) -> Option<session::Transmit> {
        if self.member.stream.is_some() {
            return None;
        }
        self.transport.outbox.main().swap_waits(waits);
        let transmit = self.poll_batch(now, protection, out, gather);
        self.transport.outbox.main().swap_waits(waits);
        transmit
    }

    /// The same for its stream, up to some `enough` bytes. Returns how many messages are among them.
    pub(super) fn move_out(&mut self, now: Instant, waits: &mut Waits, out: &mut HeapTx, enough: usize) -> u64 {
        self.transport.outbox.main().swap_waits(waits);
        let messages = self.transport.move_out(now, out, enough);
        self.transport.outbox.main().swap_waits(waits);
        messages
    }

    /// The client at the other end of its stream knows properties, or not.
    pub(super) fn set_stream_dialect(&mut self, extended: bool) {
        self.transport.set_stream(extended);
    }

    fn poll_batch(
        &mut self,
        now: Instant,
        protection: &mut Protection,
        out: &mut [u8],
        gather: Option<&mut Gather>,
    ) -> Option<session::Transmit> {
        // What little may go to an address that is not proved is for the answers, and for sending these again.
        self.transport.hold = self.member.is_open() && self.member.half_open.is_some();
        let Some(half_open) = &mut self.member.half_open else {
            return match gather {
                Some(gather) => self.transport.poll_gathered(now, protection, out, MAX_BATCH, gather),
                None => self.transport.poll_batch(now, protection, out, MAX_BATCH),
            };
        };
        let room = half_open.room()?.min(out.len());
        let transmit = self.transport.poll_batch(now, protection, out.get_mut(..room)?, 1)?;
        half_open.on_sent(transmit.len);
        Some(transmit)
    }

    /// Brings the totals up to date after session `id` was worked on.
    pub(super) fn settle<P>(&mut self, cx: &mut Context<P>, id: SessionId) {
        if let Some(expired) = self.transport.take_expired() {
            let expired = expired.into_iter().map(u64::from).sum::<u64>();
            cx.stats.expired += expired;
            self.member.outlet.counts.expired += expired;
        }
        let session::Session { kcp, outbox, .. } = &self.transport;
        let (acked, unacked) = match &self.member.stream {
            None => (kcp.acked_offset(), kcp.unacked()),
            Some(stream) => (stream.sent(), stream.under_way()),
        };
        self.member.outlet.settle(cx, outbox, acked, unacked);
        if self.member.share.limited || cx.memory.is_short(cx.stats.received) {
            self.settle_share(cx, id);
        }
    }

    /// When the session wants to be looked at again, and why, if it has nothing to send now.
    pub(super) fn poll_timeout(&self, config: &Config) -> Deadline {
        let mut next = match self.member.phase {
            Phase::Open => Deadline { at: self.member.heard + self.patience(config), why: Why::Idle },
            Phase::Closing { until, .. } => Deadline { at: until, why: Why::Linger },
        };
        if self.member.half_open.is_some_and(|half_open| half_open.room().is_none()) {
            return next; // whatever is due has to wait until it is heard again
        }
        let stall = self.stalls_at(config).map(|at| Deadline { at, why: Why::Idle });
        for deadline in
            [self.member.throttle.poll_timeout(), self.transport.poll_timeout(), stall].into_iter().flatten()
        {
            if deadline.at < next.at {
                next = deadline;
            }
        }
        next
    }

    /// What has become due by `now`.
    pub(super) fn due<P>(&self, cx: &Context<P>) -> Due {
        match self.member.phase {
            Phase::Open if self.member.heard + self.patience(&cx.config) <= cx.now => match self.member.half_open {
                Some(_) => Due::Forged,
                None => Due::Idle,
            },
            Phase::Open if self.stalls_at(&cx.config).is_some_and(|at| at <= cx.now) => Due::Stalled,
            Phase::Closing { until, reason } if until <= cx.now => Due::Over(reason),
            _ => Due::Transmit,
        }
    }

    /// When it ends because the oldest segment under way is not acknowledged, although it is heard. One that is silent has
    /// longer.
    fn stalls_at(&self, config: &Config) -> Option<Instant> {
        if let Some(stream) = &self.member.stream {
            // What is sent is known of it, whether it is heard or not.
            return stream.stalls_at(config.stall_timeout).filter(|_| self.member.phase == Phase::Open);
        }
        let since = self.transport.kcp.stalled_since().filter(|_| self.member.phase == Phase::Open)?;
        (self.member.heard >= since + config.stall_timeout.div(2)).then(|| since + config.stall_timeout)
    }

    /// How long it may be silent.
    fn patience(&self, config: &Config) -> Duration {
        // Who was sent nothing but acknowledgements could not show anything.
        let asked = self.is_half_open() && self.transport.kcp.stats().segments_sent > 0;
        if asked { config.half_open_timeout.min(config.idle_timeout) } else { config.idle_timeout }
    }

    // --- the end ---

    /// No more messages for it, which is open; what waits goes out, then CLOSE if it understands that.
    pub(super) fn begin_closing<P>(&mut self, cx: &mut Context<P>, reason: CloseReason) {
        self.member.phase = Phase::Closing { until: cx.now + cx.config.linger, reason };
        if reason == CloseReason::SlowConsumer {
            // It would not get through what waits; that is why it is closed.
            let dropped = self.transport.outbox.frames() as u64;
            cx.stats.dropped_slow += dropped;
            self.member.outlet.counts.dropped_slow += dropped;
            self.transport.outbox.clear();
        }
        if self.understands_close() {
            // Behind the messages, which it is to get before.
            let mut payload = [0; 1 + MAX_SUCCESSORS];
            self.transport.finish_with(command::CLOSE, reason.encode(&cx.config.successors, &mut payload));
        } else if let Some(text) = match reason {
            CloseReason::SlowConsumer => Some("slow consumer: the session is closed"),
            CloseReason::Kicked => Some("the session is closed by whoever runs the server"),
            CloseReason::Limit => Some("a limit of the server: the session is closed"),
            _ => None,
        } {
            let _ = self.transport.message(command::ERR, text.as_bytes(), &[]);
        }
    }

    /// True if its client can be told that the session ends, and why.
    pub(super) fn understands_close(&self) -> bool {
        self.member.native || self.member.stream.is_some()
    }

    /// Why it ends, once all that it was still to get has been acknowledged.
    pub(super) fn has_ended(&self) -> Option<CloseReason> {
        match self.member.phase {
            Phase::Closing { reason, .. } if self.is_drained() => Some(reason),
            _ => None,
        }
    }

    fn is_drained(&self) -> bool {
        self.transport.is_drained() && self.member.stream.as_ref().is_none_or(|stream| stream.under_way() == 0)
    }

    /// Writes what is owed to a peer that has closed the session: a datagram of acknowledgements, not protected yet.
    pub(super) fn last_words(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.member.stream.is_some() {
            return None;
        }
        self.transport.poll_transmit(now, &mut Protection::default(), out)
    }

    /// Messages that it did not get, or not certainly.
    pub(super) fn undelivered(&self) -> u64 {
        let under_way =
            self.member.stream.as_ref().map_or_else(|| self.transport.in_doubt(), |stream| stream.in_doubt());
        self.transport.outbox.frames() as u64 + under_way
    }

    // --- getters ---

    /// The engine's counters.
    pub(super) fn stats(&self) -> &kcp::Stats {
        self.transport.kcp.stats()
    }

    /// Adds what the engine has counted since the last time.
    pub(super) fn count(&mut self, total: &mut kcp::Stats) {
        let stats = *self.stats();
        total.add(&stats.since(&self.member.counted));
        self.member.counted = stats;
    }

    /// What the broker knows of it.
    pub(super) fn as_member(&self) -> &Member {
        &self.member
    }

    /// Why it is about to end, if it is.
    pub(super) fn closes_because(&self) -> Option<CloseReason> {
        match self.member.phase {
            Phase::Open => None,
            Phase::Closing { reason, .. } => Some(reason),
        }
    }

    /// When it was last heard.
    pub(super) fn last_heard(&self) -> Instant {
        self.member.heard
    }

    /// How its bytes get along.
    pub(super) fn flow(&self) -> Flow {
        let session::Session { kcp, control, outbox, .. } = &self.transport;
        Flow {
            round_trip: kcp.rtt().smoothed(),
            round_trip_variation: kcp.rtt().rttvar(),
            path_mtu: self.transport.max_datagram(),
            queued: control.len() + outbox.len(),
            unacked: self.member.stream.as_ref().map_or_else(|| kcp.unacked(), |stream| stream.under_way()),
        }
    }

    /// The FEC decoder's counters.
    #[cfg(feature = "fec")]
    pub(super) fn fec_stats(&self) -> crate::fec::Stats {
        self.transport.link.fec_stats()
    }
}

impl Member {
    /// It says HELLO. True if it does so for the first time.
    pub(super) fn greet(&mut self, hello: &Hello<'_>) -> bool {
        self.outlet.set_native(hello.max_body, hello.features & features::PROPERTIES != 0);
        self.client = Some(hello.name).filter(|name| !name.is_empty()).map(Arc::from);
        !core::mem::replace(&mut self.native, true)
    }

    /// Its frames are still read.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Nothing shows yet that it is where it says it is.
    pub(super) fn is_half_open(&self) -> bool {
        self.half_open.is_some()
    }

    /// Its client is there, and goes on.
    pub(super) fn is_present(&self) -> bool {
        !self.is_half_open() && self.is_open()
    }

    /// It has asked for more of what was kept than it has been given yet, by far.
    fn is_catching_up(&self) -> bool {
        self.catch_up.as_ref().is_some_and(|catch_up| catch_up.len() > keeping::MAX_WANTED)
    }

    /// The messages of this pattern are to come in this lane, or in whichever they are published.
    pub(super) fn set_lane(&mut self, seed: u64, pattern: Pattern<'_>, lane: Option<Lane>) {
        if let Some(lanes) = &mut self.lanes {
            Lane::all().for_each(|lane| _ = lanes.unsubscribe(pattern, lane.number().into()));
        }
        if let Some(lane) = lane {
            let lanes = self.lanes.get_or_insert_with(|| Box::new(Router::new(seed)));
            lanes.subscribe(pattern, lane.number().into());
        }
    }

    /// How many subscriptions it has: patterns, memberships of queue groups, and those to what is stored.
    pub(super) fn subscriptions(&self) -> usize {
        let in_groups = self.membership.as_ref().map_or(0, |membership| membership.len());
        self.patterns.len() + in_groups + self.replays.as_ref().map_or(0, |replays| replays.len())
    }
}

/// Of the lanes that were asked for the messages of patterns that match, the one that goes first.
#[cold]
pub(super) fn asked_for(lanes: &mut Router, subject: Subject<'_>) -> Option<Lane> {
    let mut asked: Option<Lane> = None;
    lanes.route(subject, |number| {
        let lane = Lane::new(number as u8);
        asked = asked.into_iter().chain(lane).min_by_key(|lane| lane.priority());
    });
    asked
}

impl Me<'_> {
    /// True if the next frame has to wait; from then on until [`Session::goes_on`].
    ///
    /// What is urgent is not held back: it would wait for what is not.
    pub(super) fn pauses(&mut self, lane: Lane) -> bool {
        let Self { control, member, .. } = self;
        let held_back = lane.priority() != Priority::Urgent;
        if member.throttle.holds() && held_back {
            member.paused = Some(Pause::Throttled);
        } else if control.len() > MAX_REPLIES || member.unanswered > MAX_UNANSWERED || member.is_catching_up() {
            member.paused.get_or_insert(Pause::Answers);
            return true;
        }
        member.paused.is_some_and(|why| held_back || why != Pause::Throttled)
    }

    /// True if a long message that comes while it is held back is to be put together all the same.
    pub(super) fn fills_backlog(&self, lane: Lane) -> bool {
        let Member { paused, fills_backlog, .. } = &self.member;
        *fills_backlog && *paused == Some(Pause::Throttled) && lane.is_main()
    }

    /// Its next message waits for those who had sessions before a restart.
    #[cold]
    pub(super) fn waits(&mut self) {
        self.member.paused = Some(Pause::Comeback);
    }

    /// Enough was done for it: its next frame waits for the turn of others.
    #[cold]
    pub(super) fn put_off(&mut self) {
        self.member.paused = Some(Pause::Turn);
    }

    /// True if it is not read because it asks faster than it takes the answers.
    #[cfg(test)]
    pub(super) fn is_asking_too_fast(&self) -> bool {
        self.member.paused == Some(Pause::Answers)
    }

    /// True if a handshake has shown who it is.
    pub(super) fn is_known_by_handshake(&self) -> bool {
        let by_handshake = |pass: &Pass| {
            use Credential::{Key, Sealed, Shared, Token};
            matches!(pass.credential(), Key(_) | Token(_) | Sealed | Shared)
        };
        self.member.pass.as_deref().is_some_and(by_handshake)
    }

    /// True if its frames are still read.
    pub(super) fn is_open(&self) -> bool {
        self.member.is_open()
    }
}

/// The engine and the queues of a session, or of what answers in the place of one.
pub(super) fn transport<P>(cx: &Context<P>, conv: u32, framing: Framing) -> session::Session<Heap> {
    let config = &cx.config;
    let parts = session::Parts {
        kcp: kcp::Parts::heap(&config.kcp),
        control: HeapOutbox::default(),
        outbox: HeapOutbox::default(),
        inbox: HeapInbox::new((config.frames.max_body as usize).saturating_add(frame::LENGTH), 0),
        marks: VecDeque::new(),
    };
    let link = Link::new(framing, config.max_datagram.min(SAFE_DATAGRAM), cx.headroom);
    session::Session::new(conv, config.kcp, config.frames, link, parts)
}
