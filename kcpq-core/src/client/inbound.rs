//! What comes from the server: frames are read when the user asks for events, one at a time.

use super::event::{Disconnect, Event, Message};
use super::subscriptions::{News, SubscriptionId};
use super::{Client, Server, State};
use crate::datagram::Framing;
use crate::frame::{Frame, FrameError, Progress, command};
#[cfg(feature = "fec")]
use crate::hello::features;
use crate::hello::{Ack, CloseReason, Hello, VERSION};
use crate::outbox::FrameStore;
use crate::session::Native;
use crate::store::{Inbox, TooLarge};
use crate::subject::{self, Subject};
use crate::time::Duration;

/// The message that is being handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    place: Place,
    subject_len: u16,
    /// The first subscription that has not been looked at.
    next: usize,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At the front of the engine's window, with this length.
    Window(usize),
    /// In the inbox.
    Inbox,
}

/// What to tell after a frame was read, when it lends nothing or the text of the frame.
enum Told {
    Nothing,
    Text,
    Oversize(TooLarge),
}

/// How the original answers a command that it does not know (PROTOCOL.md 3.2, 4.3).
const UNKNOWN_COMMAND: &[u8] = b"handle error: unknown command";
/// The OK texts of the original (PROTOCOL.md 3.2).
const SUBSCRIBED_TO: &[u8] = b"subscribed to ";

impl<S: FrameStore> Client<S> {
    /// The next event; `None` when there is none. It lends what it holds until the next call.
    pub fn poll_event(&mut self) -> Option<Event<'_, S>> {
        if let Some(event) = self.poll_notice() {
            // Rebuilt so that the borrow ends here.
            return Some(event);
        }
        loop {
            if let Some((place, id, subject_len, last)) = self.next_recipient() {
                return Some(self.hand_out(place, id, subject_len, last));
            }
            match self.read_frame() {
                None => return self.poll_notice(),
                Some((_, Told::Nothing)) => {
                    if self.has_notice() {
                        return self.poll_notice();
                    }
                }
                Some((_, Told::Oversize(size))) => return Some(Event::Oversize(size)),
                Some((place, Told::Text)) => {
                    self.current = Some(Current { place, subject_len: 0, next: usize::MAX });
                    let frame = Frame::parse(self.bytes_at(place), &self.config.frames);
                    let text = frame.map_or(&[][..], |frame| frame.subject);
                    return Some(Event::Refused(core::str::from_utf8(text).unwrap_or("(text is not UTF-8)")));
                }
            }
        }
    }

    /// The same for events that lend nothing: a message that was handed out last stays where it is
    /// (see `held_message`).
    pub fn poll_notice_event(&mut self) -> Option<Event<'static, S>> {
        self.poll_notice()
    }

    fn has_notice(&self) -> bool {
        let notices = &self.notices;
        notices.disconnected.is_some()
            || notices.connected.is_some()
            || notices.flushed.is_some()
            || notices.writable
            || notices.closed
            || self.subscriptions.has_news()
    }

    /// An event that lends nothing.
    fn poll_notice<'e>(&mut self) -> Option<Event<'e, S>> {
        if let Some((why, retry_at)) = self.notices.disconnected.take() {
            return Some(Event::Disconnected { why, retry_at });
        }
        if let Some((native, again)) = self.notices.connected.take() {
            return Some(Event::Connected { native, again });
        }
        if let Some((id, news)) = self.subscriptions.poll_news() {
            return Some(match news {
                News::Active => Event::Subscribed(id),
                News::Failed(why) => {
                    self.stats.subscription_errors += 1;
                    Event::SubscribeFailed { id, why }
                }
            });
        }
        if let Some(published) = self.notices.flushed.take() {
            return Some(Event::Flushed { published });
        }
        if core::mem::take(&mut self.notices.writable) {
            return Some(Event::Writable);
        }
        core::mem::take(&mut self.notices.closed).then_some(Event::Closed)
    }

    /// The next subscription that the current message is for, and whether it is the last one. Ends the message when
    /// there is none.
    fn next_recipient(&mut self) -> Option<(Place, SubscriptionId, u16, bool)> {
        let current = self.current?;
        let bytes = self.bytes_at(current.place);
        let matches = Frame::parse(bytes, &self.config.frames)
            .ok()
            .and_then(|frame| core::str::from_utf8(frame.subject).ok())
            .filter(|_| current.next != usize::MAX)
            .and_then(|subject| {
                let yes = |pattern: &str| subject::matches(pattern, subject);
                let (index, id) = self.subscriptions.matching(current.next, yes)?;
                Some((index, id, self.subscriptions.matching(index + 1, yes).is_none()))
            });
        let Some((index, id, last)) = matches else {
            if current.next == 0 {
                self.stats.unmatched += 1;
            }
            self.current = None;
            self.leave(current.place);
            return None;
        };
        self.current = Some(Current { next: if last { usize::MAX } else { index + 1 }, ..current });
        Some((current.place, id, current.subject_len, last))
    }

    /// The event of a message for one subscription.
    fn hand_out(&mut self, place: Place, subscription: SubscriptionId, subject_len: u16, last: bool) -> Event<'_, S> {
        let body = match place {
            Place::Window(len) => {
                let front = self.session.kcp.front().and_then(|front| front.get(..len)).unwrap_or_default();
                self.reader.inbox().adopt(front)
            }
            Place::Inbox if last => self.reader.inbox().take(),
            Place::Inbox => self.reader.inbox().duplicate(),
        };
        Event::Message { subscription, message: Message::new(body, subject_len) }
    }

    fn bytes_at(&self, place: Place) -> &[u8] {
        match place {
            Place::Window(len) => self.session.kcp.front().and_then(|front| front.get(..len)).unwrap_or_default(),
            Place::Inbox => self.reader.assembled(),
        }
    }

    /// A frame is dealt with.
    fn leave(&mut self, place: Place) {
        if let Place::Window(len) = place {
            self.session.kcp.consume(self.now, len);
        }
    }

    /// Reads up to the end of one frame and acts on it. `None` when no whole frame is there.
    fn read_frame(&mut self) -> Option<(Place, Told)> {
        loop {
            if !self.is_open() {
                return None;
            }
            let front = self.session.kcp.front()?;
            let (count, progress) = self.reader.read(front);
            match progress {
                Progress::More => self.session.kcp.consume(self.now, count),
                Progress::InPlace(_) => return Some(self.act(Place::Window(count))),
                Progress::Assembled => {
                    self.session.kcp.consume(self.now, count);
                    return Some(self.act(Place::Inbox));
                }
                Progress::Oversize { limit, actual } => {
                    self.session.kcp.consume(self.now, count);
                    self.stats.oversize += 1;
                    return Some((Place::Inbox, Told::Oversize(TooLarge { limit, actual })));
                }
                Progress::Broken(error) => {
                    self.stats.malformed += 1;
                    self.lose(Disconnect::BrokenStream(error));
                    return None;
                }
            }
        }
    }

    /// Acts on the frame in `place`. A message stays there until it was handed out.
    fn act(&mut self, place: Place) -> (Place, Told) {
        // Fields are taken apart, so that the frame can be looked at while the rest changes.
        let bytes = match place {
            Place::Window(len) => self.session.kcp.front().and_then(|front| front.get(..len)).unwrap_or_default(),
            Place::Inbox => self.reader.assembled(),
        };
        let frame = match Frame::parse(bytes, &self.config.frames) {
            Ok(frame) => frame,
            Err(FrameError::SubjectTooLong { .. }) => {
                // The frame's borders are known all the same.
                self.stats.malformed += 1;
                self.leave(place);
                return (place, Told::Nothing);
            }
            Err(error) => {
                self.stats.malformed += 1;
                self.lose(Disconnect::BrokenStream(error));
                return (place, Told::Nothing);
            }
        };
        match frame.command {
            command::MSG => {
                // An original server forwards any subject; only what is text can be matched.
                if Subject::from_bytes(frame.subject, &self.config.subjects).is_err() {
                    self.stats.malformed += 1;
                    self.leave(place);
                    return (place, Told::Nothing);
                }
                let (subject_len, size) = (frame.subject.len(), frame.subject.len() + frame.payload.len());
                self.stats.messages_received += 1;
                self.stats.bytes_received += size as u64;
                self.current = Some(Current { place, subject_len: subject_len as u16, next: 0 });
                return (place, Told::Nothing);
            }
            command::PONG => self.on_pong(),
            command::OK => {
                // The original's client takes the bare pattern as well (docs/original.md 5.3).
                let text = frame.subject;
                let pattern = text.strip_prefix(SUBSCRIBED_TO).unwrap_or(text);
                if let Ok(pattern) = core::str::from_utf8(pattern) {
                    self.subscriptions.confirm(pattern, false);
                }
                self.up(false);
            }
            command::ERR => {
                let connecting = self.server.is_none() && matches!(self.state, State::Connecting { .. });
                if !(connecting && frame.subject.starts_with(UNKNOWN_COMMAND)) {
                    return (place, Told::Text);
                }
                // The answer of an original server to HELLO: it is there, and speaks the original protocol.
                self.up(false);
            }
            command::WELCOME => {
                if let Some(hello) = Hello::decode(frame.payload).filter(|hello| hello.version >= VERSION) {
                    self.server = Some(Server {
                        max_body: hello.max_body.min(self.config.frames.max_body),
                        max_subject: hello.max_subject,
                        max_tokens: hello.max_tokens,
                        keep_alive: Duration::from_secs(hello.keep_alive.into()),
                        epoch: hello.epoch,
                    });
                    let max_datagram = self.config.native_datagram.min(hello.max_datagram.max(MIN_DATAGRAM));
                    // FEC is over, unless it was chosen and both understand it.
                    #[cfg(feature = "fec")]
                    let keeps =
                        matches!(self.config.framing, Framing::Parity(_)) && hello.features & features::FEC != 0;
                    #[cfg(not(feature = "fec"))]
                    let keeps = false;
                    let framing = if keeps { self.config.framing } else { Framing::Plain };
                    let native = Native {
                        max_datagram: self.inner(max_datagram),
                        overhead: self.protection.headroom() as u16,
                        local: self.config.local,
                        features: hello.features,
                    };
                    self.session.set_native(framing, &native);
                    self.up(true);
                } else {
                    self.stats.malformed += 1;
                }
            }
            command::ACK => {
                if let Some(ack) = Ack::decode(frame.payload) {
                    self.subscriptions.on_ack(ack.number, ack.refusal);
                } else {
                    self.stats.malformed += 1;
                }
            }
            command::CLOSE => {
                let reason = CloseReason::decode(frame.payload);
                self.lose(Disconnect::ByServer(reason));
                return (place, Told::Nothing);
            }
            // Nothing else is for a client; the original ignores it as well.
            _ => {}
        }
        self.leave(place);
        self.advance();
        (place, Told::Nothing)
    }

    fn on_pong(&mut self) {
        self.pongs = self.pongs.wrapping_add(1);
        if let Some(ping) = self.heartbeat.filter(|ping| ping.number == self.pongs) {
            let sample = self.now.since(ping.at);
            self.heartbeat = None;
            self.round_trip = Some(sample);
            self.stats.latency.add(sample);
        }
        if let Some((_, published)) = self.flush.filter(|(number, _)| *number == self.pongs) {
            self.flush = None;
            self.flushed = published;
            self.notices.flushed = Some(published);
        }
        self.up(false);
    }
}

impl<S> Client<S>
where
    S: for<'b> FrameStore<Body<'b> = &'b [u8]>,
{
    /// The message that [`poll_event`](Client::poll_event) handed out last, once more, so that a driver can lend it to a
    /// reader who comes later. `None` after the next event was polled, and when its connection is gone.
    pub fn held_message(&mut self) -> Option<Message<&[u8]>> {
        let current = self.current.filter(|current| self.is_open() && current.next != 0)?;
        let frame = match current.place {
            Place::Window(len) => self.session.kcp.front()?.get(..len)?,
            Place::Inbox => self.reader.inbox().duplicate(),
        };
        Some(Message::new(frame, current.subject_len))
    }
}

/// What a server may ask for at least; less makes no sense and would leave no room for data.
const MIN_DATAGRAM: u16 = 128;
