//! Whether the backbone is there, and how far it has come with what it was told.

use super::{Channel, Gateway, Link, Order, interest};
use crate::time::{Deadline, Duration, Instant, Why};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Away,
    /// The backbone is being told the subscriptions.
    Joining,
    Joined,
}

/// How far each connection has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channels {
    main: Progress,
    groups: Progress,
    store: Progress,
}

impl Channels {
    pub(super) fn of(&self, on: Channel) -> &Progress {
        match on {
            Channel::Main => &self.main,
            Channel::Groups => &self.groups,
            Channel::Store => &self.store,
        }
    }

    pub(super) fn of_mut(&mut self, on: Channel) -> &mut Progress {
        match on {
            Channel::Main => &mut self.main,
            Channel::Groups => &mut self.groups,
            Channel::Store => &mut self.store,
        }
    }
}

/// How far one has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Pings sent, and answered.
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// The ping behind all subscriptions that there were when the backbone came.
    pub(super) joins: u64,
    /// Something was told it since.
    pub(super) news: bool,
    /// When the last ping was sent, and since when one is not answered.
    pub(super) last: Option<Instant>,
    pub(super) waits_since: Option<Instant>,
    /// Messages handed to the backbone before one of the pings that are not answered, and which that is.
    pub(super) mark: Mark,
}

/// See [`Progress::mark`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) ping: u64,
    pub(super) messages: u64,
}

impl Progress {
    /// It is there, and knows nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.waits_since, self.last, self.news) = (None, Some(now), true);
        self.joins = self.sent + 1;
    }

    /// It is lost, and nobody waits for answers any more.
    pub(super) fn end(&mut self) {
        self.answered = self.sent;
        (self.news, self.waits_since) = (false, None);
    }
}

/// A backbone that is not heard is asked so often whether it is there.
pub(super) const PING_EVERY: Duration = Duration::from_secs(4);
/// So long after it has come back the first message goes out.
pub(super) const HOLDS_FOR: Duration = Duration::from_secs(1);
/// It is taken to be lost if it has said nothing for so long although it was asked. Who subscribes waits no longer than that.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

impl Gateway {
    /// Both connections are there and have been greeted. `max_payload` is the most bytes of headers and message that the
    /// backbone takes.
    pub fn on_connected(&mut self, now: Instant, max_payload: usize) {
        self.max_payload = max_payload;
        self.state = State::Joining;
        self.stats.connects += 1;
        let waits = !self.outbound.is_empty() || self.stores.size().0 > 0;
        self.holds_until = (self.stats.disconnects > 0 || waits).then(|| now + HOLDS_FOR);
        self.certain = self.gone;
        self.orders.clear();
        for on in self.used().filter(|on| *on != Channel::Store) {
            self.channels.of_mut(on).begin(now);
        }
        for (sid, subject) in [
            (interest::ANSWERS, self.subjects.answers_there().into()),
            (interest::RECEIPTS, self.subjects.receipts_there().into()),
        ] {
            self.orders.push_back(match self.is_leaf() {
                true => Order::Want { subject, group: None, weight: 1 },
                false => Order::Subscribe { on: Channel::Main, sid, subject, group: None },
            });
        }
        let Self { interest, orders, channels, .. } = self;
        interest.subscribe_again(orders, [channels.main.joins, channels.groups.joins]);
        if !self.is_leaf() {
            self.resume_replays(now);
            self.resume_values(now);
        }
    }

    /// One of them is lost, and the other one with it.
    pub fn on_disconnected(&mut self, now: Instant) {
        if self.state == State::Away {
            return self.forget_wants();
        }
        if self.state == State::Joined {
            self.set_abroad(false);
        }
        self.doubts.lose(now, self.is_deaf(now));
        self.state = State::Away;
        self.forget_wants();
        self.stats.disconnects += 1;
        self.stats.in_doubt += self.gone - self.certain;
        self.orders.clear();
        self.asked.clear();
        for on in [Channel::Main, Channel::Groups] {
            self.channels.of_mut(on).end();
        }
        self.settle_all(now);
        self.keep_stores(now);
        if !self.is_leaf() {
            self.suspend_replays(now);
            self.suspend_values();
        }
    }

    /// A connection has done all that it was told before the oldest [`Order::Ping`] that it had not answered.
    pub fn on_pong(&mut self, now: Instant, on: Channel) {
        if !self.has(on) {
            return;
        }
        let channel = self.channels.of_mut(on);
        channel.answered = (channel.answered + 1).min(channel.sent);
        channel.waits_since = (channel.answered < channel.sent).then_some(now);
        let answered = channel.answered;
        if on == Channel::Main {
            if answered >= channel.mark.ping {
                self.certain = self.certain.max(channel.mark.messages);
                self.doubts.confirm(self.certain);
            }
            // It says that nobody is there before it answers what follows.
            while self.asked.front().is_some_and(|(ping, _)| *ping <= answered) {
                self.asked.pop_front();
            }
        }
        let Channels { main, groups, .. } = &self.channels;
        if self.state == State::Joining && [main, groups].iter().all(|channel| channel.answered >= channel.joins) {
            self.state = State::Joined;
            self.set_abroad(true);
            self.set_width();
        }
    }

    /// True if the backbone is there and does not answer any more: it is to be left.
    pub fn is_deaf(&self, now: Instant) -> bool {
        self.used().any(|on| on != Channel::Store && self.is_silent(now, on))
    }

    pub(super) fn is_silent(&self, now: Instant, on: Channel) -> bool {
        self.channels.of(on).waits_since.is_some_and(|since| since + PATIENCE <= now)
    }

    /// The backbone has sent something, whatever it is.
    pub fn on_heard(&mut self, now: Instant, on: Channel) {
        if let Some(since) = &mut self.channels.of_mut(on).waits_since {
            *since = now;
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let placed = self.links.iter().filter_map(Link::next_timeout);
        let stores = self.stores.next_timeout().into_iter().chain(placed).min();
        let stores = stores.map(|at| Deadline { at, why: Why::Request });
        let due = |channel: &Progress| match channel.waits_since {
            Some(since) => since + PATIENCE,
            None => channel.last.map_or(Instant::ZERO, |last| last + PING_EVERY),
        };
        let read =
            self.reaches_store().then(|| Instant::earlier(self.replays.next_timeout(), self.values.next_timeout()));
        let used = self.used().map(|on| self.channels.of(on));
        let holds = self.holds_until.filter(|_| self.state != State::Away);
        let own = used.map(due).chain(holds).chain(read.flatten()).min();
        Deadline::earlier(own.map(|at| Deadline { at, why: Why::Heartbeat }), stores)
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|link| link.on_time(now));
        self.expire_stores(now);
        if self.state != State::Away {
            self.holds_until.take_if(|until| *until <= now);
            self.set_width();
        }
        if self.reaches_store() {
            self.on_store_time(now);
            self.on_values_time(now);
        }
        for on in self.used() {
            let channel = self.channels.of_mut(on);
            if channel.waits_since.is_none() && channel.last.is_none_or(|last| last + PING_EVERY <= now) {
                channel.news = true;
            }
        }
    }

    /// The server stops: nothing waits any longer than it has to, and the backbone is to send nothing more. What it has sent before
    /// it answers the next [`flush`](Self::flush) is handed on.
    pub fn drain(&mut self) {
        self.holds_until = None;
        self.set_width();
        if self.state != State::Away {
            self.interest.take_leave(&mut self.orders);
        }
    }

    /// Lets the backbone be asked once more whether it has all, the last message included.
    pub fn flush(&mut self) {
        self.news(Channel::Main);
    }

    /// True if nothing waits for the backbone, to be stored, or for the bucket of last values, and it has said that it has all.
    pub fn is_flushed(&self) -> bool {
        let main = self.channels.of(Channel::Main);
        let waits = !self.outbound.is_empty() || self.stores.size().0 > 0 || self.values.size().1 > 0;
        !waits && !main.news && main.answered == main.sent
    }

    /// The next thing that the backbone is to do; to be called until `None` before messages are published. `None` as well
    /// while it is not there.
    pub fn poll_order(&mut self, now: Instant) -> Option<Order> {
        if self.state != State::Away
            && let Some(order) = self.orders.pop_front()
        {
            return Some(order);
        }
        let on = self.used().find(|on| self.channels.of(*on).news)?;
        let messages = self.gone;
        let channel = self.channels.of_mut(on);
        channel.news = false;
        channel.sent += 1;
        channel.last = Some(now);
        channel.waits_since.get_or_insert(now);
        if channel.answered >= channel.mark.ping {
            channel.mark = Mark { ping: channel.sent, messages };
        }
        Some(Order::Ping { on })
    }

    /// The connections that are there.
    pub(super) fn used(&self) -> impl Iterator<Item = Channel> + use<> {
        let is_there = Channel::ALL.map(|on| self.has(on).then_some(on));
        is_there.into_iter().flatten()
    }

    pub(super) fn has(&self, on: Channel) -> bool {
        match on {
            Channel::Main => self.state != State::Away,
            Channel::Groups => self.state != State::Away && !self.is_leaf(),
            Channel::Store => self.has_store,
        }
    }

    /// Something was told a connection that it is to confirm.
    pub(super) fn news(&mut self, on: Channel) {
        self.channels.of_mut(on).news = true;
    }

    /// The ping that confirms what a connection is told now.
    pub(super) fn next_ping(&self, on: Channel) -> (Channel, u64) {
        (on, self.channels.of(on).sent + 1)
    }
}
