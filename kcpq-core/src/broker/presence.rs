//! Presence: what the server says of its sessions, in messages of its own (PROTOCOL.md 3.13).
//!
//! A notice is written where something happens, if anybody has a pattern for such at all, and published when nobody is worked
//! on. In a second there are only so many; how many were missed is said by the first one of the next.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use super::context::Context;
use super::delivery::Publisher;
use super::event::{Ended, SessionId};
use super::foreign;
use super::groups;
use super::hub::Hub;
use super::message::Message;
use super::party::Party;
use super::peer::Peer;
use super::session::{Member, Session};
use super::sessions::Sessions;
use super::table::Slot;
use super::throttle::Throttle;
use crate::frame::{Frame, command};
use crate::subject::{RESERVED, Subject};
use crate::time::{Duration, Instant};

/// Notices that wait to be published, and how many there may still be.
#[derive(Default)]
pub(super) struct Notices {
    waiting: VecDeque<Notice>,
    /// The second that the budget is for began then, and so much of it is spent.
    since: Instant,
    spent: u32,
    /// For how many there was no budget.
    missed: u64,
}

/// A message of the server's own.
struct Notice {
    subject: String,
    /// A JSON object, as long as it is written without its end.
    payload: String,
}

const SECOND: Duration = Duration::from_secs(1);
pub(super) const SUBSCRIBED: &str = "subscribed";
pub(super) const UNSUBSCRIBED: &str = "unsubscribed";
/// Stands for an identity where there is none.
const NO_IDENTITY: &str = "-";
/// The slot of no session: the server as a publisher.
const SERVER: u32 = u32::MAX;

impl Notices {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When it is to be said how many were missed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (self.missed > 0).then(|| self.since + SECOND)
    }

    /// True if there may be one more now, which is counted, or missed.
    fn admit(&mut self, now: Instant, limit: u32) -> bool {
        self.on_time(now);
        let admits = self.spent < limit;
        self.spent += u32::from(admits);
        self.missed += u64::from(!admits);
        admits
    }

    /// Begins another second, if it has come.
    fn on_time(&mut self, now: Instant) {
        if now.since(self.since) < SECOND {
            return;
        }
        (self.since, self.spent) = (now, 0);
        let missed = core::mem::take(&mut self.missed);
        if missed > 0 {
            self.waiting.push_back(Notice::of_server("missed").number("count", missed));
        }
    }
}

impl Notice {
    fn new(kind: &str, event: &str, whose: Option<&str>) -> Self {
        let mut subject = format!("{RESERVED}.{kind}.{event}");
        if let Some(whose) = whose {
            subject.push('.');
            push_token(&mut subject, whose);
        }
        Self { subject, payload: String::from("{") }.text("event", event)
    }

    fn of_server(event: &str) -> Self {
        Self::new("server", event, None)
    }

    fn of_session(event: &str, id: SessionId, member: &Member) -> Self {
        let identity = member.pass.as_ref().and_then(|pass| pass.name());
        let notice = Self::new("session", event, Some(identity.map_or(NO_IDENTITY, |name| name)));
        let notice = notice.text("cid", &format!("{id}"));
        let notice = match &member.client {
            Some(client) => notice.text("name", client),
            None => notice,
        };
        match identity {
            Some(identity) => notice.text("authorized_user", identity),
            None => notice,
        }
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.payload.push('"');
        for character in value.chars() {
            // RFC 8259, section 7.
            match character {
                '"' | '\\' => self.payload.extend(['\\', character]),
                '\0'..='\x1f' => {
                    let _ = write!(self.payload, "\\u{:04x}", u32::from(character));
                }
                _ => self.payload.push(character),
            }
        }
        self.payload.push('"');
        self
    }

    fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        let _ = write!(self.payload, "{value}");
        self
    }

    fn name(&mut self, name: &str) {
        let comma = if self.payload.len() > 1 { "," } else { "" };
        let _ = write!(self.payload, "{comma}\"{name}\":");
    }
}

/// Appends a text as one token of a subject: what may not stand in one becomes `_`.
fn push_token(subject: &mut String, text: &str) {
    if matches!(text, "" | "*" | ">") {
        return subject.push('_');
    }
    subject.extend(text.chars().map(|c| if c == '.' || c.is_whitespace() || c.is_control() { '_' } else { c }));
}

impl<P: Peer> Context<P> {
    /// True if something is to be said, since somebody wants to hear such and it is not too much.
    fn says(&mut self, hub: &Hub) -> bool {
        if !hub.is_watched() {
            return false;
        }
        let admits = self.notices.admit(self.now, self.config.presence.per_second);
        self.stats.presence_missed += u64::from(!admits);
        admits
    }

    /// A session has a pattern from now on, or none of this name any more; perhaps in a queue group.
    pub(super) fn say_subscription(
        &mut self,
        hub: &Hub,
        event: &str,
        (id, member): (SessionId, &Member),
        pattern: &str,
        group: Option<&str>,
    ) {
        // Before, it may be nobody; what it has then is said when that is known.
        if member.announced && self.says(hub) {
            let notice = Notice::of_session(event, id, member).text("subject", pattern);
            self.notices.waiting.push_back(match group {
                Some(group) => notice.text("queue", group),
                None => notice,
            });
        }
    }
}

impl<P: Peer> Sessions<P> {
    /// The client of a session that is taken out is where it says it is, and has shown of what kind it is.
    pub(super) fn say_opened(&mut self, slot: &mut Slot<P, Session>) {
        slot.session.member().announced = true;
        if self.cx.says(&self.hub) {
            let kind = slot.session.kind(self.cx.headroom > 0).as_str();
            let notice = Notice::of_session("opened", slot.id, slot.session.as_member()).text("kind", kind);
            self.push(notice, slot.peer);
        }
        let Self { cx, hub, .. } = self;
        if hub.is_watched() {
            let (id, member) = (slot.id, slot.session.as_member());
            for pattern in member.patterns.keys() {
                cx.say_subscription(hub, SUBSCRIBED, (id, member), pattern, None);
            }
            for (_, text) in member.membership.iter().flat_map(|membership| membership.iter()) {
                let (pattern, group) = groups::parts(text);
                cx.say_subscription(hub, SUBSCRIBED, (id, member), pattern, Some(group));
            }
            for (_, pattern) in member.replays.iter().flat_map(|replays| replays.iter()) {
                cx.say_subscription(hub, SUBSCRIBED, (id, member), pattern, None);
            }
        }
    }

    /// A session that was taken out is no more.
    pub(super) fn say_closed(&mut self, slot: &Slot<P, Session>, why: Ended) {
        if slot.session.as_member().announced && self.cx.says(&self.hub) {
            let notice = Notice::of_session("closed", slot.id, slot.session.as_member()).text("reason", why.as_str());
            self.push(notice, slot.peer);
        }
    }

    /// A session does not keep up with what it has subscribed to.
    pub(super) fn say_slow(&mut self, index: u32) {
        if self.cx.says(&self.hub)
            && let Some(slot) = self.table.get(index)
        {
            let (notice, peer) = (Notice::of_session("slow", slot.id, slot.session.as_member()), slot.peer);
            self.push(notice, peer);
        }
    }

    /// Something happens to the server. Of several brokers the first says so.
    pub(super) fn say_of_server(&mut self, event: &str) {
        if self.cx.shard.0 == 0 && self.cx.says(&self.hub) {
            let notice = Notice::of_server(event).text("server_name", &self.cx.config.name);
            self.cx.notices.waiting.push_back(notice);
        }
    }

    fn push(&mut self, mut notice: Notice, peer: P) {
        if self.cx.config.presence.addresses
            && let Some(address) = peer.address()
        {
            notice = notice.text("ip", &format!("{}", address.ip())).number("port", address.port().into());
        }
        self.cx.notices.waiting.push_back(notice);
    }

    /// If it is time, says how many notices were missed.
    pub(super) fn on_presence_timeout(&mut self) {
        if self.cx.notices.poll_timeout().is_some_and(|at| at <= self.cx.now) {
            self.cx.notices.on_time(self.cx.now);
        }
    }

    /// Publishes what there is to say, while nobody is worked on. False if there was nothing.
    pub(super) fn publish_notices(&mut self) -> bool {
        let any = !self.cx.notices.is_empty();
        while let Some(Notice { subject, mut payload }) = self.cx.notices.waiting.pop_front() {
            payload.push('}');
            let Self { cx, hub, table, .. } = self;
            let frame = Frame { command: command::PUB, subject: subject.as_bytes(), payload: payload.as_bytes() };
            let mut bytes = alloc::vec![0; frame.encoded_len()];
            let limits = foreign::limits(cx.config.subjects);
            let (Some(_), Ok(subject)) = (frame.encode(&mut bytes), Subject::new(&subject, &limits)) else {
                cx.stats.presence_missed += 1; // nobody can have a subject of such a length
                continue;
            };
            let mut throttle = Throttle::default();
            let mut publisher = Publisher::absent(Party::Session(SERVER), &mut throttle, None);
            let share_from = hub.share_from();
            hub.publish(cx, table, &mut publisher, subject, &mut Message::published(&bytes, share_from));
            cx.stats.presence += 1;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_a_json_object_whatever_is_in_it() {
        let notice = Notice::new("session", "opened", Some("control room.\u{7}>"))
            .text("name", "\"a\\\n\u{e9}\"")
            .number("port", 7);
        assert_eq!(notice.subject, "$KCPQ.session.opened.control_room__>");
        assert_eq!(notice.payload, r#"{"event":"opened","name":"\"a\\\u000aé\"","port":7"#);
        let whole: serde_json::Value = serde_json::from_str(&(notice.payload + "}")).unwrap();
        assert_eq!(whole["name"], "\"a\\\n\u{e9}\"");
        for name in ["", "*", ">"] {
            assert_eq!(Notice::new("session", "slow", Some(name)).subject, "$KCPQ.session.slow._");
        }
    }

    #[test]
    fn in_a_second_there_are_so_many_and_the_others_are_counted_and_told() {
        let mut notices = Notices::default();
        let at = |millis: u64| Instant::from_millis(5_000 + millis);
        let admitted = (0..10).filter(|_| notices.admit(at(0), 3)).count();
        assert_eq!((admitted, notices.missed, notices.poll_timeout()), (3, 7, Some(at(1_000))));
        assert!(!notices.admit(at(999), 3) && notices.is_empty());
        assert!(notices.admit(at(1_000), 3));
        let told = notices.waiting.pop_front().unwrap();
        assert_eq!((&*told.subject, &*told.payload), ("$KCPQ.server.missed", r#"{"event":"missed","count":8"#));
        assert_eq!((notices.missed, notices.poll_timeout()), (0, None));
    }
}
