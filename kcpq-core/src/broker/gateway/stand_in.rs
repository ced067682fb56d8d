//! What stands where a broker would: for who has no server, but is a client of one, and carries what it hears there to a
//! backbone and back.
//!
//! ```text
//!  a server -- its client -- StandIn --- Relay ---> Gateway ---> backbone
//!                                    <-- Relay ---
//! ```
//!
//! A gateway does for it what it does for the brokers of a server: what waits while the backbone is away, times to live,
//! headers, subjects for answers. It knows no queue groups, and the backbone none of its.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::subjects::INBOX;
use super::{Relay, inbound, token};
use crate::broker::outlet::Report;
use crate::broker::shards::Told;
use crate::frame::properties::PropertiesBuf;
use crate::frame::{Frame, LENGTH, Limits, PropertyError};
use crate::lane::Lane;
use crate::time::Instant;

/// A message for the backbone.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'m, H> {
    /// Its subject.
    pub subject: &'m str,
    /// Where answers are to go.
    pub reply: Option<&'m str>,
    /// Names and values.
    pub headers: H,
    /// The message.
    pub payload: &'m [u8],
    /// When it is worth nothing any more.
    pub expires: Option<Instant>,
}

/// Why a message cannot be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsayable {
    /// Its headers, or its subject for answers.
    Properties(PropertyError),
    /// No frame is so long.
    TooLong,
}

/// What the gateway has told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'m> {
    /// A message came from the backbone.
    Message {
        /// Its subject.
        subject: &'m str,
        /// What it carries besides: headers, and where answers are to go.
        frame: Frame<'m>,
        /// In this lane.
        lane: Lane,
        /// When it is worth nothing any more.
        expires: Option<Instant>,
    },
    /// So many bytes more of what was published have found their place, and need not be waited for.
    Placed(usize),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct StandIn(());

impl StandIn {
    /// One whose gateway was made for one broker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets messages to subjects of this pattern come from the backbone, or not any more.
    pub fn want(&self, pattern: &str, wanted: bool) -> Relay {
        Relay(Told::Interest { pattern: pattern.into(), wanted })
    }

    /// A message for the gateway, and how many bytes it is taken for until it is [placed](Notice::Placed).
    ///
    /// # Errors
    /// [`Unsayable`]
    pub fn publish<'m, H>(&self, message: Outgoing<'m, H>) -> Result<(Relay, usize), Unsayable>
    where
        H: IntoIterator<Item = (&'m str, &'m str)>,
    {
        let Outgoing { subject, reply, headers, payload, expires } = message;
        let mut properties = PropertiesBuf::new();
        if let Some(reply) = reply {
            properties.reply(reply).map_err(Unsayable::Properties)?;
        }
        for (name, value) in headers {
            properties.header(name, value).map_err(Unsayable::Properties)?;
        }
        let frame = inbound::frame(subject, payload, properties.properties().as_bytes(), None, false);
        let frame = frame.ok_or(Unsayable::TooLong)?;
        let len = frame.len();
        Ok((Relay(Told::Messages { frames: frame.freeze(), expires, lane: Lane::NORMAL }), len))
    }

    /// Takes in what the gateway has told, and hands it to `tell`. What it is to be told in turn, if anything.
    pub fn handle(&self, relay: Relay, mut tell: impl FnMut(Notice<'_>)) -> Option<Relay> {
        match relay.0 {
            Told::Messages { mut frames, expires, lane } => {
                let bytes = frames.len();
                while let Some(frame) = cut(&mut frames) {
                    if let Ok(frame) = Frame::parse(&frame, &Limits::NONE)
                        && let Ok(subject) = core::str::from_utf8(frame.subject)
                    {
                        tell(Notice::Message { subject, frame, lane, expires });
                    }
                }
                let answers = Default::default();
                return Some(Relay(Told::Placed { bytes, report: Report::default(), answers }));
            }
            Told::Placed { bytes, .. } if bytes > 0 => tell(Notice::Placed(bytes)),
            // Who made the gateway knows what goes out, and queue groups, wills and last values there are none.
            Told::Interest { .. }
            | Told::Known
            | Told::Placed { .. }
            | Told::Value { .. }
            | Told::Members { .. }
            | Told::Counted { .. }
            | Told::Will { .. }
            | Told::Abroad { .. }
            | Told::Stored { .. }
            | Told::Ask { .. }
            | Told::Say { .. }
            | Told::Last => {}
        }
        None
    }
}

/// The first of the frames that follow each other.
fn cut(frames: &mut Bytes) -> Option<Bytes> {
    let len = frames.first_chunk().map(|announced| LENGTH + u32::from_be_bytes(*announced) as usize)?;
    Some(frames.split_to(len.min(frames.len())))
}

/// The pattern of the subjects that a gateway of this [`id`](super::Config::id) gives to those at the backbone who want answers:
/// what is published there goes out, too.
pub fn answers(id: u64) -> String {
    format!("{INBOX}{}.>", token(id))
}

/// The pattern to be [wanted](StandIn::want) for that answers from the backbone come in.
pub const ANSWERS: &str = "_INBOX.>";

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::{Channel, Config, Gateway, Incoming, Order};
    use super::*;

    /// A gateway with a stand-in alone, and what that was told.
    struct Bench {
        gateway: Gateway,
        stand_in: StandIn,
        heard: Vec<String>,
        placed: usize,
    }

    impl Bench {
        fn new() -> Self {
            let config = Config { id: 7, buffer: 200, ..Config::default() };
            let gateway = Gateway::new(config, 1, 1).unwrap();
            let mut bench = Self { gateway, stand_in: StandIn::new(), heard: Vec::new(), placed: 0 };
            bench.turn();
            bench
        }

        /// What is told a moment later than it happens is told now.
        fn turn(&mut self) {
            self.gateway.handle_timeout(Instant::from_micros(9_010_000));
            while let Some((to, relay)) = self.gateway.poll_relay() {
                assert_eq!(to, 0);
                let Self { stand_in, heard, placed, .. } = self;
                let answer = stand_in.handle(relay, |notice| match notice {
                    Notice::Message { subject, frame, .. } => {
                        let (message, properties) = frame.message().unwrap();
                        let mut text = format!("{subject} {}", String::from_utf8_lossy(message));
                        for (name, value) in properties.headers() {
                            text += &format!(" {name}={value}");
                        }
                        text += properties.reply().map(|reply| format!(" -> {reply}")).as_deref().unwrap_or("");
                        text += if properties.has_nobody() { " nobody" } else { "" };
                        heard.push(text);
                    }
                    Notice::Placed(bytes) => *placed += bytes,
                });
                if let Some(answer) = answer {
                    self.gateway.handle_relay(Instant::ZERO, 0, answer);
                }
            }
        }

        fn publish(&mut self, subject: &str, reply: Option<&str>, headers: &[(&str, &str)]) -> usize {
            let outgoing = Outgoing { subject, reply, headers: headers.iter().copied(), payload: b"hi", expires: None };
            let (relay, len) = self.stand_in.publish(outgoing).unwrap();
            self.gateway.handle_relay(Instant::ZERO, 0, relay);
            self.turn();
            len
        }

        fn connect(&mut self) -> Vec<Order> {
            self.gateway.on_connected(Instant::ZERO, 1_000);
            let orders = core::iter::from_fn(|| self.gateway.poll_order(Instant::ZERO)).collect();
            for on in Channel::ALL {
                self.gateway.on_pong(Instant::ZERO, on);
            }
            self.turn();
            orders
        }

        fn next(&mut self) -> Option<String> {
            let mut said = None;
            self.gateway.poll_publish(Instant::from_micros(9_000_000), |message| {
                let mut text = format!("{} {}", message.subject, message.reply.unwrap_or_default());
                message.headers(|name, value| text += &format!(" {name}={value}"));
                said = Some(text);
            });
            self.turn();
            said
        }
    }

    #[test]
    fn what_it_publishes_crosses_with_headers_and_answers_come_back() {
        let mut bench = Bench::new();
        assert_eq!(answers(7), "_INBOX.kcpq0000000000000007.>");
        for pattern in ["in.>", ANSWERS] {
            let relay = bench.stand_in.want(pattern, true);
            bench.gateway.handle_relay(Instant::ZERO, 0, relay);
        }
        let orders = bench.connect();
        let has = |wanted: &str| {
            orders.iter().any(|order| matches!(order, Order::Subscribe { subject, .. } if **subject == *wanted))
        };
        assert!(has("in.>") && has("_INBOX.kcpq0000000000000007.>"), "{orders:?}");
        let len = bench.publish("ask", Some("_INBOX.me.1"), &[("Unit", "K")]);
        assert_eq!(bench.placed, 0, "the backbone has not taken it");
        assert_eq!(bench.next().unwrap(), "ask _INBOX.kcpq0000000000000007.me.1 Unit=K");
        assert_eq!(bench.placed, len);
        let Some(Order::Subscribe { sid, .. }) = orders
            .iter()
            .find(|order| matches!(order, Order::Subscribe { subject, .. } if subject.starts_with("_INBOX.")))
        else {
            panic!("{orders:?}")
        };
        let answer = Incoming {
            on: Channel::Main,
            sid: *sid,
            subject: "_INBOX.kcpq0000000000000007.me.1",
            reply: None,
            headers: &[("A", "b")],
            status: None,
            payload: b"yes",
        };
        bench.gateway.handle_message(Instant::ZERO, &answer);
        bench
            .gateway
            .handle_message(Instant::ZERO, &Incoming { status: Some(503), headers: &[], payload: b"", ..answer });
        bench.turn();
        assert_eq!(bench.heard, ["_INBOX.me.1 yes A=b", "_INBOX.me.1  nobody"]);
        assert!(bench.gateway.may_read(), "what it was handed it has placed");
    }

    #[test]
    fn without_the_backbone_what_waits_has_its_place_and_the_oldest_makes_room() {
        let mut bench = Bench::new();
        let sent: usize = (0..20).map(|number| bench.publish(&format!("a.{number}"), None, &[])).sum();
        assert_eq!(bench.placed, sent, "nothing is waited for");
        bench.connect();
        let first = bench.next().unwrap();
        let stats = bench.gateway.stats();
        assert!(stats.dropped_away > 0 && first == format!("a.{} ", stats.dropped_away), "{first} {stats:?}");
    }

    #[test]
    fn what_cannot_be_said_is_told() {
        let stand_in = StandIn::new();
        let long = "x".repeat(70_000);
        let outgoing =
            |subject, name| Outgoing { subject, reply: None, headers: [(name, "")], payload: b"", expires: None };
        assert_eq!(stand_in.publish(outgoing(&long, "a")).unwrap_err(), Unsayable::TooLong);
        assert!(matches!(stand_in.publish(outgoing("a", "a:b")).unwrap_err(), Unsayable::Properties(_)));
    }
}
