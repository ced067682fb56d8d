//! What the user asks for.

#[cfg(feature = "alloc")]
use bytes::Bytes;

use super::event::{Disconnect, PublishError, SubscribeError};
use super::phase::Phase;
#[cfg(any(feature = "alloc", feature = "queue"))]
use super::subscriptions::in_group;
use super::subscriptions::{SubscriptionId, Wants};
use super::{Client, Overflow};
use crate::datagram::SAFE_DATAGRAM;
#[cfg(feature = "properties")]
use crate::frame::Properties;
use crate::frame::properties::Behind;
use crate::frame::{self, PropertyError, command, properties};
use crate::hello::CloseReason;
#[cfg(any(feature = "alloc", feature = "queue"))]
use crate::hello::is_group;
#[cfg(feature = "lanes")]
use crate::lane::Asked;
use crate::lane::Lane;
use crate::outbox::{FrameStore, PushError};
use crate::session::Session;
#[cfg(feature = "alloc")]
use crate::store::Heap;
use crate::store::{Text, TooLarge};
use crate::subject::{Limits, Pattern, Subject};
#[cfg(any(feature = "properties", feature = "ttl"))]
use crate::time::Duration;
use crate::time::Instant;

impl<S: FrameStore> Client<S> {
    /// Begins to connect. Without effect unless the client is idle.
    pub fn connect(&mut self, now: Instant) {
        self.set_now(now);
        if matches!(self.phase, Phase::Idle) {
            self.open();
        }
    }

    /// Says where the server is, with effect from the next conversation on: on this machine or not, and how long datagrams
    /// to it may be ([`Config::local`](super::Config::local), [`Config::native_datagram`](super::Config::native_datagram)).
    pub fn set_path(&mut self, local: bool, native_datagram: u16) {
        self.config.local = local;
        self.config.native_datagram = native_datagram;
    }

    /// Asks for a subscription. [`Event::Subscribed`](super::Event::Subscribed) says when the server has acknowledged it.
    ///
    /// # Errors
    /// [`SubscribeError`]: nothing was asked for.
    pub fn subscribe(&mut self, now: Instant, pattern: &str) -> Result<SubscriptionId, SubscribeError> {
        self.subscribe_to(now, pattern, Wants::default(), None)
    }

    /// As [`subscribe`](Self::subscribe), for state that supersedes itself: of the messages of one subject that wait for
    /// this client at the server, only the newest is kept, in the place of the older one. A message that another
    /// subscription of this client matches too, one that wants every message, is not superseded; and a server that
    /// does not know the option, such as an original one, delivers every message.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_latest(&mut self, now: Instant, pattern: &str) -> Result<SubscriptionId, SubscribeError> {
        self.subscribe_to(now, pattern, Wants { latest: true, ..Wants::default() }, None)
    }

    /// As [`subscribe`](Self::subscribe), or as [`subscribe_latest`](Self::subscribe_latest) if only the `latest`
    /// messages are wanted, but without the values that the server has kept: only what is published from now on. A
    /// subscription that is restored after a loss of the connection does not get them either.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    #[cfg(feature = "properties")]
    pub fn subscribe_without_kept(
        &mut self,
        now: Instant,
        pattern: &str,
        latest: bool,
    ) -> Result<SubscriptionId, SubscribeError> {
        self.subscribe_to(now, pattern, Wants { latest, without_kept: true, ..Wants::default() }, None)
    }

    /// As [`subscribe`](Self::subscribe), as a member of a queue group: each message goes to one of all the members of this
    /// name, of all clients, whose patterns it matches. Other subscriptions of this client are given what they match all the
    /// same. A server that does not know queue groups, such as an original one, fails it
    /// ([`SubscribeFailure::Unsupported`](super::SubscribeFailure::Unsupported)).
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`SubscribeError::Group`].
    #[cfg(any(feature = "alloc", feature = "queue"))]
    pub fn subscribe_queue(
        &mut self,
        now: Instant,
        pattern: &str,
        group: &str,
    ) -> Result<SubscriptionId, SubscribeError> {
        self.subscribe_to(now, pattern, Wants::default(), Some(group))
    }

    /// As the others, with all that can be wanted of a subscription.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`SubscribeError::Group`].
    #[cfg(feature = "lanes")]
    pub fn subscribe_as(
        &mut self,
        now: Instant,
        pattern: &str,
        wanted: &Subscribing<'_>,
    ) -> Result<SubscriptionId, SubscribeError> {
        let Subscribing { latest, without_kept, lane, .. } = *wanted;
        let lane = lane.map(Asked::of).unwrap_or_default();
        #[cfg(any(feature = "alloc", feature = "queue"))]
        let group = wanted.group;
        #[cfg(not(any(feature = "alloc", feature = "queue")))]
        let group = None;
        self.subscribe_to(now, pattern, Wants { latest, without_kept, lane, ..Wants::default() }, group)
    }

    pub(super) fn subscribe_to(
        &mut self,
        now: Instant,
        pattern: &str,
        wants: Wants,
        group: Option<&str>,
    ) -> Result<SubscriptionId, SubscribeError> {
        self.set_now(now);
        let added = self.try_subscribe(pattern, wants, group);
        self.stats.subscription_errors += u64::from(added.is_err());
        self.advance();
        added
    }

    fn try_subscribe(
        &mut self,
        pattern: &str,
        wants: Wants,
        group: Option<&str>,
    ) -> Result<SubscriptionId, SubscribeError> {
        if self.is_ending() {
            return Err(SubscribeError::Closed);
        }
        Pattern::new(pattern, &self.subject_limits()).map_err(SubscribeError::Pattern)?;
        if !self.subscriptions.has_room() {
            return Err(SubscribeError::TooMany);
        }
        let text = subscription_text(pattern, group)?;
        #[cfg(feature = "lanes")]
        let wants = self.in_lane(wants)?;
        let id = self.subscriptions.add(text, wants).ok_or(SubscribeError::TooMany)?;
        self.stats.total_subscriptions += 1;
        Ok(id)
    }

    /// What is wanted, with the lane that there is memory for. Where it is lent messages come in no lane that was not asked for.
    #[cfg(feature = "lanes")]
    fn in_lane(&mut self, wants: Wants) -> Result<Wants, SubscribeError> {
        if S::GROWS || !self.session.knows_lanes() {
            return Ok(wants);
        }
        let lane = wants.lane.get().unwrap_or_default();
        if !self.session.claim(lane) {
            return Err(SubscribeError::Lane);
        }
        Ok(Wants { lane: Asked::of(lane), ..wants })
    }

    /// Ends a subscription: no message for it comes after this call. False if there is none of that name.
    pub fn unsubscribe(&mut self, now: Instant, id: SubscriptionId) -> bool {
        self.set_now(now);
        let removed = self.subscriptions.remove(id);
        self.advance();
        removed
    }

    /// True as long as a subscription that was ended waits for its UNSUB to be queued; a PING that is asked for later stands
    /// behind it.
    pub fn is_leaving(&self, id: SubscriptionId) -> bool {
        self.subscriptions.is_leaving(id)
    }

    /// Takes a message for sending. Without a connection it waits in the queue.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was queued.
    pub fn publish(&mut self, now: Instant, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.publish_until(now, Lane::NORMAL, subject, payload, Behind::NONE, None)
    }

    /// As [`publish`](Self::publish), for a message that is worth nothing after `ttl`: one that still waits then is
    /// dropped and counted ([`Stats::expired`](super::Stats::expired)), here and, between native peers, again in the
    /// server's queue for each subscriber. An original server gets an ordinary message. The time on the way to the server
    /// does not count. What has begun to be sent is sent whole, however long that takes.
    ///
    /// # Errors
    /// As [`publish`](Self::publish). That a message was dropped later is no error; it is only counted.
    #[cfg(feature = "ttl")]
    pub fn publish_for(
        &mut self,
        now: Instant,
        subject: &str,
        payload: &[u8],
        ttl: Duration,
    ) -> Result<(), PublishError> {
        self.publish_until(now, Lane::NORMAL, subject, payload, Behind::NONE, Some(self.now.max(now) + ttl))
    }

    /// As [`publish`](Self::publish), with properties: headers, and where answers are to go. With a `ttl` as
    /// `publish_for`. Servers and subscribers that do not know properties, such as original ones, get the message without;
    /// as long as no server has answered a message with properties waits, and those published after it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`PublishError::Properties`] if the subject for answers is none;
    /// [`PublishError::Unsupported`] if the message is to be [kept](Properties::retains) and the server is known to
    /// keep none. One that is published while no server is known is delivered as any other message if it turns out to
    /// keep none.
    #[cfg(feature = "properties")]
    pub fn publish_with(
        &mut self,
        now: Instant,
        subject: &str,
        payload: &[u8],
        properties: Properties<'_>,
        ttl: Option<Duration>,
    ) -> Result<(), PublishError> {
        let now = self.now.max(now);
        self.publish_until(now, Lane::NORMAL, subject, payload, properties.into(), ttl.map(|ttl| now + ttl))
    }

    /// As [`publish_with`](Self::publish_with), in a lane: the message waits for none of another lane, neither here nor in the
    /// network nor at the server, which gives it to its subscribers in the same lane unless they have asked for another one.
    /// With [`Properties::LATEST`] or such among them only the latest of its subject counts: what waits gives way to it
    /// ([`Stats::superseded`](super::Stats::superseded)), and in another lane than 0 what got lost is not sent again.
    /// Messages stay in their order in each lane, and between lanes in none, not even behind a [`subscribe`](Self::subscribe)
    /// before. To a server that knows no lanes all go in one stream, and before one has answered only those of lane 0 go.
    ///
    /// # Errors
    /// As [`publish_with`](Self::publish_with). A lane may use an eighth of the queue although others fill it; where memory is lent
    /// each has a queue of its own, and [`PublishError::Lane`] says that there is none for another lane.
    #[cfg(all(feature = "lanes", feature = "properties"))]
    pub fn publish_in(
        &mut self,
        now: Instant,
        lane: Lane,
        subject: &str,
        payload: &[u8],
        properties: Properties<'_>,
        ttl: Option<Duration>,
    ) -> Result<(), PublishError> {
        let now = self.now.max(now);
        self.publish_until(now, lane, subject, payload, properties.into(), ttl.map(|ttl| now + ttl))
    }

    pub(super) fn publish_until(
        &mut self,
        now: Instant,
        lane: Lane,
        subject: &str,
        payload: &[u8],
        behind: Behind<'_>,
        expires: Option<Instant>,
    ) -> Result<(), PublishError> {
        self.set_now(now);
        let push = |session: &mut Session<S>| session.publish(lane, subject.as_bytes(), payload, behind, expires);
        let taken = self.try_publish(lane, subject, payload, behind, expires, push);
        self.count_published(taken)
    }

    fn count_published(&mut self, taken: Result<(), PublishError>) -> Result<(), PublishError> {
        match taken {
            Ok(()) => {}
            Err(PublishError::Full) => self.pending.no_room(),
            Err(_) => self.stats.publish_errors += 1,
        }
        taken
    }

    /// Publishes what `push` puts into the queue, with this payload.
    fn try_publish(
        &mut self,
        lane: Lane,
        subject: &str,
        payload: &[u8],
        behind: Behind<'_>,
        expires: Option<Instant>,
        mut push: impl FnMut(&mut Session<S>) -> Result<(), PushError>,
    ) -> Result<(), PublishError> {
        if self.is_ending() {
            return Err(PublishError::Closed);
        }
        let (limits, properties) = (self.subject_limits(), behind.properties);
        Subject::new(subject, &limits).map_err(PublishError::Subject)?;
        if properties.retains() && self.is_connected() && !self.server.is_some_and(|server| server.keeps()) {
            return Err(PublishError::Unsupported);
        }
        if let Some(reply) = properties.reply() {
            Subject::new(reply, &limits).map_err(|error| PublishError::Properties(PropertyError::Reply(error)))?;
        }
        #[cfg(feature = "lanes")]
        if !self.session.claim(lane) {
            return Err(PublishError::Lane);
        }
        let limit = self.largest_message();
        let ttl = if expires.is_some() { properties::TTL } else { 0 };
        let extras = behind.len() + ttl;
        let extras = if extras > 0 { extras + properties::END } else { 0 };
        let frame = frame::HEAD + subject.len() + payload.len() + extras;
        if frame - frame::LENGTH > limit {
            return Err(PublishError::TooLarge(TooLarge { limit, actual: frame - frame::LENGTH }));
        }
        #[cfg(feature = "lanes")]
        if behind.gives_way()
            && self.session.supersede(lane, subject.as_bytes(), payload, properties, expires, self.config.queue)
        {
            // It stands in the queue for both.
            self.stats.superseded += 1;
            self.count_sent(subject, payload);
            return Ok(());
        }
        let offline = !self.is_connected();
        loop {
            let fits = self.fits(lane, frame);
            let pushed = if !fits { Err(PushError::Full) } else { push(&mut self.session) };
            match pushed {
                Ok(()) => break,
                Err(PushError::TooLarge(error)) => return Err(PublishError::TooLarge(error)),
                Err(PushError::Full) if self.session.expire(self.now) => self.count_expired(),
                Err(PushError::Full) if offline && self.config.overflow == Overflow::DropNewest => {
                    self.outgoing.on_published(lane);
                    self.outgoing.on_dropped(lane, 1);
                    self.stats.dropped_overflow += 1;
                    return Ok(());
                }
                Err(PushError::Full)
                    if offline
                        && self.config.overflow == Overflow::DropOldest
                        && let Some(lane) = self.session.outbox.drop_oldest(lane) =>
                {
                    self.outgoing.on_dropped(lane, 1);
                    self.stats.dropped_overflow += 1;
                    self.confirms.on_dropped(lane, self.outgoing.gone(lane, self.session.moved_of(lane)));
                }
                Err(PushError::Full) => return Err(PublishError::Full),
            }
        }
        self.outgoing.on_published(lane);
        if frame > usize::from(SAFE_DATAGRAM) {
            // The server may not take it, and says so when it answers.
            self.long_waits = true;
            self.session.hold |= matches!(self.phase, Phase::Connecting { .. });
        }
        self.count_sent(subject, payload);
        Ok(())
    }

    fn count_sent(&mut self, subject: &str, payload: &[u8]) {
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += (subject.len() + payload.len()) as u64;
    }

    /// True if there is room for a frame of so many bytes in a lane. One that fills the queue leaves others an eighth of it each;
    /// where memory is lent each has its own.
    fn fits(&self, lane: Lane, frame: usize) -> bool {
        let (outbox, queue) = (&self.session.outbox, self.config.queue);
        if !S::GROWS {
            return outbox.len_of(lane) == 0 || outbox.len_of(lane) + frame <= queue;
        }
        outbox.is_empty()
            || outbox.len() + frame <= queue
            || !lane.is_main() && outbox.len_of(lane) + frame <= queue / 8
    }

    /// What subjects may be like here and at the server.
    pub(super) fn subject_limits(&self) -> Limits {
        let own = self.config.subjects;
        let Some(server) = self.server else { return own };
        Limits { max_len: own.max_len.min(server.max_subject), max_tokens: own.max_tokens.min(server.max_tokens) }
    }

    /// Asks to be told when the server has handled everything published so far: [`Event::Flushed`](super::Event::Flushed) with
    /// at least the returned number. A client that has closed tells nothing more.
    pub fn flush(&mut self, now: Instant) -> u64 {
        self.set_now(now);
        let wanted = self.outgoing.want_flush();
        if wanted <= self.outgoing.flushed() && !matches!(self.phase, Phase::Closed) {
            self.pending.flushed();
        }
        self.advance();
        wanted
    }

    /// Asks the server for an answer now, as a heartbeat does: [`round_trip`](Self::round_trip) says then how long that took, and
    /// until then [`heartbeat_outstanding`](Self::heartbeat_outstanding) since when it is awaited. One that is under way
    /// already does as well. Without effect unless the client is connected.
    pub fn ask(&mut self, now: Instant) {
        self.set_now(now);
        if self.is_connected() && self.pings.heartbeat().is_none() {
            self.beat();
        }
    }

    /// Ends the session: what is queued still goes out, then CLOSE, as long as something is acknowledged within
    /// [`Config::linger`](super::Config::linger). Without a connection that is the time for one to be made, if messages
    /// wait for it. What is given up is counted ([`Stats::lost_on_close`](super::Stats::lost_on_close)).
    pub fn close(&mut self, now: Instant) {
        self.set_now(now);
        self.suspended = false;
        if self.is_ending() {
            return;
        }
        let until = self.now + self.config.linger;
        match self.phase {
            Phase::Up(_) => {
                self.linger(until);
                self.advance();
            }
            _ if self.session.outbox.is_empty() && self.session.in_doubt() == 0 => self.finish(),
            _ => {
                self.close_by = Some(until);
                if matches!(self.phase, Phase::Waiting { .. }) {
                    self.open();
                }
            }
        }
    }

    /// True if nothing more is taken from the user.
    pub(super) fn is_ending(&self) -> bool {
        self.close_by.is_some() || matches!(self.phase, Phase::Closing { .. } | Phase::Closed)
    }

    /// Something hints that the server does not know this session, or is not there at all (for instance, an ICMP
    /// message): it is asked at once, and given up unless it answers within [`Config::suspect_timeout`](super::Config::suspect_timeout).
    pub fn suspect(&mut self, now: Instant) {
        self.set_now(now);
        match &mut self.phase {
            Phase::Up(up) if up.suspect.is_none() => {
                let patience = self.config.suspect_timeout.max(self.session.kcp.rtt().rto().saturating_mul(3));
                up.suspect = Some(self.now + patience);
                self.ping();
            }
            Phase::Closing { .. } => self.finish(),
            _ => {}
        }
    }

    /// Gives up the present connection, if there is one, and makes another, at once and even if the configuration says not to
    /// reconnect: for who knows that the network, or the best server, is another one now. A native server is told. What is
    /// under way is in doubt, as after any loss; subscriptions are asked for again.
    pub fn reconnect(&mut self, now: Instant) {
        self.set_now(now);
        if self.suspended || self.is_ending() {
            return;
        }
        match &mut self.phase {
            Phase::Up(_) | Phase::Connecting { .. } => {
                let told = self.server.is_some()
                    && self.session.control(command::CLOSE, &[], &[CloseReason::Normal.code()]).is_ok();
                self.session.part(self.now, told);
                self.lose(Disconnect::Requested);
            }
            Phase::Waiting { until, failed } => (*until, *failed) = (self.now, 0),
            Phase::Idle | Phase::Closing { .. } | Phase::Closed => {}
        }
    }

    /// Waits no longer for the next attempt to connect, since it goes to another server. Without effect unless the client waits.
    pub fn hurry(&mut self, now: Instant) {
        self.set_now(now);
        if let Phase::Waiting { until, .. } = &mut self.phase {
            *until = self.now;
        }
    }

    /// The server says that it does not know this session, or anybody does in its name.
    pub(super) fn on_hint(&mut self) {
        match &mut self.phase {
            // What comes first may just have been overtaken. If not, another conversation is better than to wait.
            Phase::Connecting { until, hinted, .. } => {
                *until = (*until).min(self.now + self.config.suspect_timeout);
                *hinted = true;
            }
            _ => self.suspect(self.now),
        }
    }

    /// Stops the clock: until [`resume`](Self::resume) nothing is sent, no timer runs, and the session is thought alive.
    /// For devices that sleep. What is under way stays so; `flush` before, to sleep with nothing in doubt.
    pub fn suspend(&mut self, now: Instant) {
        self.set_now(now);
        self.suspended = !matches!(self.phase, Phase::Closed);
    }

    /// Goes on after [`suspend`](Self::suspend). A session that the server can still have is kept: what is published goes
    /// out at once, beside a PING that finds out. One that the server must have forgotten (its WELCOME said after how long
    /// a silence, less an eighth) is begun anew at once: HELLO, SUBs and what is published share the first datagrams.
    pub fn resume(&mut self, now: Instant) {
        self.set_now(now);
        if !core::mem::take(&mut self.suspended) {
            return;
        }
        match &mut self.phase {
            Phase::Up(up) => {
                let told = self.server.map(|server| server.keep_alive).filter(|span| !span.is_zero());
                let kept = told.unwrap_or(self.config.read_timeout);
                let silence = self.now.since(self.session.kcp.last_heard().unwrap_or(self.now));
                up.woken = true;
                if silence > kept - kept.div(8) {
                    self.lose(Disconnect::Silent);
                    self.handle_timeout(self.now);
                } else {
                    up.silent_since = self.now;
                    up.heartbeat_at = self.now + self.config.heartbeat;
                    up.suspect = None;
                    self.pings.forget_heartbeat();
                    self.suspect(self.now);
                }
            }
            Phase::Waiting { .. } | Phase::Connecting { .. } => {
                // Attempts that failed before say nothing of what follows.
                self.phase = Phase::Idle;
                self.open();
            }
            Phase::Idle | Phase::Closing { .. } | Phase::Closed => {}
        }
        self.advance();
    }
}

/// What is wanted of a subscription.
#[cfg(feature = "lanes")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscribing<'s> {
    /// Of the messages of one subject that wait only the newest; see [`Client::subscribe_latest`].
    pub latest: bool,
    /// None of the values that the server has kept, only what is published from now on.
    pub without_kept: bool,
    /// The messages are to come in this lane, in whichever they were published. Of several subscriptions of a client to one
    /// pattern the one counts that the server was asked for last, and of several patterns that match the lane that goes
    /// first. Each member of a queue group has its own. Without effect where the server knows no lanes.
    pub lane: Option<Lane>,
    /// As a member of this queue group; see [`Client::subscribe_queue`].
    #[cfg(any(feature = "alloc", feature = "queue"))]
    pub group: Option<&'s str>,
    /// The lifetime of what is only there with groups.
    #[cfg(not(any(feature = "alloc", feature = "queue")))]
    pub _group: core::marker::PhantomData<&'s str>,
}

/// What is kept of a subscription's pattern and group.
#[cfg(any(feature = "alloc", feature = "queue"))]
fn subscription_text<T: Text>(pattern: &str, group: Option<&str>) -> Result<T, SubscribeError> {
    let text = match group {
        Some(group) if !is_group(group) => return Err(SubscribeError::Group),
        Some(group) => in_group(pattern, group),
        None => T::new(pattern),
    };
    text.map_err(SubscribeError::TooLong)
}

/// There are no groups.
#[cfg(not(any(feature = "alloc", feature = "queue")))]
fn subscription_text<T: Text>(pattern: &str, _: Option<&str>) -> Result<T, SubscribeError> {
    T::new(pattern).map_err(SubscribeError::TooLong)
}

#[cfg(feature = "alloc")]
impl Client<Heap> {
    /// As [`publish`](Self::publish) in a [lane](Lane), for a payload that need not be copied: it is kept by reference until the
    /// server has it, if it has 4 KiB at least. With [`poll_transmit_gather`](Self::poll_transmit_gather) it goes to the system
    /// from where it lies.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_bytes(
        &mut self,
        now: Instant,
        lane: Lane,
        subject: &str,
        payload: &Bytes,
    ) -> Result<(), PublishError> {
        self.set_now(now);
        let push = |session: &mut Session<Heap>| session.publish_bytes(lane, subject.as_bytes(), payload);
        let taken = self.try_publish(lane, subject, payload, Behind::NONE, None, push);
        self.count_published(taken)
    }
}
