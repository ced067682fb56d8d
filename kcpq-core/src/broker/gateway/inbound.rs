//! From the backbone to the brokers.

use bytes::{BufMut, BytesMut};

use super::interest::For;
use super::outbound::{LANE, LATEST, TTL};
use super::storing::{AGAIN, Again, ID, REPLY};
use super::subjects::Subjects;
use super::{Channel, Gateway};
use crate::frame::properties::{self, PropertiesBuf};
use crate::frame::{Frame, command};
use crate::hello::MAX_GROUP;
use crate::lane::Lane;
use crate::subject::Subject;
use crate::time::{Duration, Instant};

/// A message from the backbone.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'m> {
    /// The connection that it came by.
    pub on: Channel,
    /// The subscription that it is for.
    pub sid: u64,
    /// Its subject there.
    pub subject: &'m str,
    /// Where answers are to go.
    pub reply: Option<&'m str>,
    /// Names and values.
    pub headers: &'m [(&'m str, &'m str)],
    /// What the backbone itself has to say in place of an answer: [`NOBODY`](Self::NOBODY).
    pub status: Option<u16>,
    /// The message.
    pub payload: &'m [u8],
}

impl<'m> Incoming<'m> {
    /// The status of a request that nobody is there to answer.
    pub const NOBODY: u16 = 503;

    /// A gateway has published it so that it is stored.
    fn is_stored(&self) -> bool {
        self.reply.is_some_and(Subjects::is_receipt)
    }

    /// Where answers to it are to go.
    fn answers(&self) -> Option<&'m str> {
        match self.is_stored() {
            true => self.headers.iter().find_map(|(name, value)| (*name == REPLY).then_some(*value)),
            false => self.reply,
        }
    }
}

/// What headers say, those for servers apart.
#[derive(Default)]
pub(super) struct Said {
    pub(super) properties: PropertiesBuf,
    pub(super) ttl: Option<Duration>,
    lane: Lane,
    is_latest: bool,
    again: Option<Again>,
}

impl Gateway {
    /// Takes in a message from the backbone.
    pub fn handle_message(&mut self, now: Instant, incoming: &Incoming<'_>) {
        self.on_heard(now, incoming.on);
        let Some(purpose) = self.interest.of(incoming.sid) else {
            self.stats.unwanted += 1;
            return;
        };
        let mut local = core::mem::take(&mut self.scratch.subject);
        match purpose {
            For::Answers if self.subjects.write_answer_in(incoming.subject, &mut local) => {
                if incoming.status == Some(Incoming::NOBODY) {
                    self.on_nobody(&local);
                } else {
                    self.hand_on(now, incoming, &local, true, &[]);
                }
            }
            For::Sessions if self.doubts.is_back(now, incoming.subject, incoming.payload) => self.stats.returned += 1,
            For::Sessions if self.subjects.write_in(incoming.subject, &mut local) => {
                self.hand_on(now, incoming, &local, true, &[]);
            }
            For::Share(share) if self.subjects.write_in(incoming.subject, &mut local) => {
                self.hand_on(now, incoming, &local, false, &[share]);
            }
            // A wide pattern brings others as well.
            _ => self.stats.unwanted += 1,
        }
        self.scratch.subject = local;
    }

    /// True if the brokers take more; otherwise nothing more is to be read from the backbone for now.
    pub fn may_read(&self) -> bool {
        self.links.iter().all(|link| link.has_room(self.config.high_water))
    }

    /// Hands a message to all who want it by their patterns, if it is for these, and to one member of each of these shares.
    pub(super) fn hand_on(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        subject: &str,
        is_plain: bool,
        shares: &[u32],
    ) {
        let Ok(subject) = Subject::new(subject, &self.config.subjects) else {
            self.stats.dropped_unmapped += 1;
            return;
        };
        let Said { mut properties, ttl, lane, is_latest, again } = self.read(incoming.headers, incoming.is_stored());
        // They may have had it before.
        let is_plain = is_plain && again != Some(Again::All);
        let shares = if again.is_some() { &[] } else { shares };
        if let Some(reply) = incoming.answers() {
            let is_there = self.subjects.write_reply_in(reply, &mut self.scratch.reply)
                && Subject::new(&self.scratch.reply, &self.config.subjects).is_ok()
                && properties.reply(&self.scratch.reply).is_ok();
            self.stats.stripped += u64::from(!is_there);
        }
        let mut frame = core::mem::take(&mut self.scratch.frame);
        let (payload, more) = (incoming.payload, properties.properties());
        let (expires, mut count, mut is_too_large) = (ttl.map(|ttl| now + ttl), 0, false);
        let max = self.config.frames.max_body as usize;
        let Self { interest, links, .. } = self;
        for share in is_plain.then_some(None).into_iter().chain(shares.iter().map(Some)) {
            let group = share.map(|share| interest.group(*share));
            if !write_frame(&mut frame, &subject, payload, more.as_bytes(), group, is_latest) || frame.len() > max {
                is_too_large = true;
                continue;
            }
            let mut send = |broker: u8| {
                if let Some(link) = links.get_mut(usize::from(broker)) {
                    link.send(&frame, lane, expires);
                    count += 1;
                }
            };
            match share {
                None => interest.brokers(subject, send),
                Some(share) => interest.choose(*share).into_iter().for_each(&mut send),
            }
        }
        self.scratch.frame = frame;
        if count > 0 {
            self.stats.messages_in += 1;
            self.stats.bytes_in += (incoming.subject.len() + incoming.payload.len()) as u64;
        } else if is_too_large {
            self.stats.dropped_too_large += 1;
        } else {
            self.stats.unwanted += 1;
        }
    }

    /// What the headers say, of a message that is stored or not; those that cannot be said here are left out.
    pub(super) fn read(&mut self, headers: &[(&str, &str)], is_stored: bool) -> Said {
        let mut said = Said::default();
        for (name, value) in headers {
            match *name {
                TTL => said.ttl = value.parse().ok().map(|ms: u32| Duration::from_millis(ms.into())).or(said.ttl),
                LANE => said.lane = value.parse().ok().and_then(Lane::new).unwrap_or(said.lane),
                LATEST => said.is_latest = *value == "1",
                AGAIN => said.again = Again::of(value),
                // Where the answers to it are to go, and under which id it is stored, is between a gateway and the store.
                REPLY => {}
                ID if is_stored => {}
                _ => self.stats.stripped += u64::from(said.properties.header(name, value).is_err()),
            }
        }
        said
    }

    // --- requests that nobody answers ---

    /// The backbone has nobody who would answer a request from here.
    fn on_nobody(&mut self, reply: &str) {
        // The backbone says it in the order of the requests. What it has not said of earlier ones it will not say any more.
        let Some(place) = self.asked.iter().position(|(_, asked)| **asked == *reply) else { return };
        self.asked.drain(..=place);
        self.say_nobody(reply);
    }

    /// Tells whoever waits for answers there that nobody is there to answer.
    pub(super) fn say_nobody(&mut self, reply: &str) {
        let Ok(subject) = Subject::new(reply, &self.config.subjects) else { return };
        let Some(head) = Frame::head(command::MSGX, reply.len(), properties::NOBODY.len()) else { return };
        let frame = [&head[..], reply.as_bytes(), &properties::NOBODY].concat();
        self.stats.nobody += 1;
        let Self { interest, links, .. } = self;
        interest.brokers(subject, |broker| {
            if let Some(link) = links.get_mut(usize::from(broker)) {
                link.send(&frame, Lane::NORMAL, None);
            }
        });
    }
}

/// The MSG or MSGX of a message, for one queue group alone if so. `None` if none is so long.
pub(super) fn frame(
    subject: &str,
    payload: &[u8],
    properties: &[u8],
    group: Option<&str>,
    is_latest: bool,
) -> Option<BytesMut> {
    let mut frame = BytesMut::new();
    write_frame(&mut frame, subject, payload, properties, group, is_latest).then_some(frame)
}

/// Writes it in the place of what is there. False if no frame is so long.
fn write_frame(
    frame: &mut BytesMut,
    subject: &str,
    payload: &[u8],
    properties: &[u8],
    group: Option<&str>,
    is_latest: bool,
) -> bool {
    let mut own = [0; properties::GROUP + MAX_GROUP];
    let mut rest = &mut own[..];
    let room = rest.len();
    if let Some(group) = group.filter(|group| group.len() <= MAX_GROUP) {
        rest.put_slice(&properties::group(0, group.len()));
        rest.put_slice(group.as_bytes());
    } else if is_latest {
        rest.put_slice(&properties::LATEST); // a member of a group gets each of them
    }
    let len = room - rest.len();
    let own = own.get(..len).unwrap_or_default();
    let all = properties.len() + own.len();
    let (kind, behind) = if all > 0 { (command::MSGX, all + properties::END) } else { (command::MSG, 0) };
    let Some(head) = Frame::head(kind, subject.len(), payload.len() + behind) else { return false };
    frame.clear();
    frame.reserve(head.len() + subject.len() + payload.len() + behind);
    for part in [&head[..], subject.as_bytes(), payload, properties, own] {
        frame.extend_from_slice(part);
    }
    if all > 0 {
        frame.extend_from_slice(&properties::end(all));
    }
    true
}
