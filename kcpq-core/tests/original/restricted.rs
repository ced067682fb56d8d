//! Original clients that may not do everything, or are not let in.

use std::net::SocketAddr;

use kcpq_core::access::{Access, Group, Permissions, Rules};
use kcpq_core::broker::{self, Broker, Ended, Event};
use kcpq_core::frame::{Frame, command};
use kcpq_core::hello::CloseReason;
use kcpq_core::time::{Duration, Instant};

use crate::ms;
use crate::peer::Ticking;

const PATIENCE: Duration = Duration::from_secs(60);

/// One client before a broker, without a link between them.
struct Pair {
    now: Instant,
    broker: Broker<SocketAddr>,
    addr: SocketAddr,
    peer: Ticking,
    /// What it was sent.
    got: Vec<(u8, String)>,
    ended: Option<Ended>,
}

impl Pair {
    fn new(access: &Access) -> Self {
        let now = Instant::from_millis(1);
        let mut broker = Broker::new(broker::Config::default(), 1);
        broker.set_access(now, Some(access)).unwrap();
        let addr = SocketAddr::from(([192, 0, 2, 1], 5_000));
        Self { now, broker, addr, peer: Ticking::new(1, ms(10), ms(0), now), got: Vec::new(), ended: None }
    }

    fn write(&mut self, command: u8, subject: &str, payload: &[u8]) {
        self.peer.write(&Frame { command, subject: subject.as_bytes(), payload });
    }

    /// Lets time pass until it has been sent this.
    fn until(&mut self, command: u8, subject: &str) {
        let end = self.now + PATIENCE;
        let mut buf = vec![0; 65_000];
        while !self.got.iter().any(|(kind, text)| *kind == command && text == subject) {
            assert!(self.now < end, "no {command} {subject:?} in {:?}", self.got);
            self.now += ms(1);
            self.broker.handle_timeout(self.now);
            if self.peer.ticks(self.now) {
                while let Some(len) = self.peer.kcp.poll_transmit(self.now, &mut buf) {
                    self.broker.handle_datagram(self.now, self.addr, &mut buf[..len]);
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(self.now, &mut buf) {
                for datagram in buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    self.peer.handle_datagram(self.now, datagram);
                }
            }
            while let Some(event) = self.broker.poll_event() {
                if let Event::Closed { why, .. } = event {
                    self.ended = Some(why);
                }
            }
            let frames = self.peer.frames().into_iter();
            self.got.extend(frames.map(|(kind, subject, _)| (kind, String::from_utf8(subject).unwrap())));
        }
    }
}

fn original(publish: Rules, subscribe: Rules) -> Access {
    let group = Group { permissions: Permissions { publish, subscribe }, ..Group::default() };
    Access { groups: vec![group], original: Some(0), ..Access::default() }
}

#[test]
fn an_original_client_is_kept_to_its_subjects_and_told_so() {
    let mut pair = Pair::new(&original(Rules::of(Some(&["game.>"]), &[]), Rules::of(Some(&["game.>"]), &[])));
    pair.write(command::SUB, ">", b"");
    pair.until(command::ERR, "not permitted to subscribe to >");
    pair.write(command::SUB, "game.>", b"");
    pair.until(command::OK, "subscribed to game.>");
    pair.write(command::PUB, "other", b"x");
    pair.until(command::ERR, "not permitted to publish to other");
    pair.write(command::PUB, "game.a", b"x");
    pair.until(command::MSG, "game.a");
    assert_eq!((pair.broker.stats().messages_denied, pair.broker.stats().messages_out), (1, 1));

    // Other rules, while it is there.
    let only = original(Rules::of(Some(&["game.>"]), &[]), Rules::of(Some(&["game.a"]), &[]));
    pair.broker.set_access(pair.now, Some(&only)).unwrap();
    pair.until(command::ERR, "not permitted to subscribe to game.> any more: the subscription has ended");
    pair.write(command::SUB, "game.a", b"");
    pair.until(command::OK, "subscribed to game.a");
    assert_eq!((pair.broker.stats().subscriptions, pair.ended), (1, None));
}

#[test]
fn an_original_client_that_is_not_let_in_is_told_once_and_then_met_with_silence() {
    let mut access = Access::open();
    access.original = None;
    let mut pair = Pair::new(&access);
    pair.write(command::SUB, "a", b"");
    pair.until(command::ERR, "the server does not let this client in");
    assert_eq!((pair.broker.stats().sessions_denied, pair.broker.stats().subscriptions), (1, 0));
    // Whatever else it says has no effect, and its session is soon gone.
    pair.write(command::PUB, "a", b"x");
    let end = pair.now + Duration::from_secs(5);
    while pair.ended.is_none() && pair.now < end {
        pair.got.clear();
        pair.now += ms(10);
        pair.broker.handle_timeout(pair.now);
        let mut buf = [0; 2_000];
        while let Some(len) = pair.peer.kcp.poll_transmit(pair.now, &mut buf) {
            pair.broker.handle_datagram(pair.now, pair.addr, &mut buf[..len]);
        }
        while let Some(event) = pair.broker.poll_event() {
            if let Event::Closed { why, identity, .. } = event {
                assert_eq!(identity, None);
                pair.ended = Some(why);
            }
        }
    }
    assert_eq!(pair.ended, Some(Ended::ByBroker(CloseReason::Denied)));
    assert_eq!((pair.broker.stats().messages_in, pair.broker.sessions()), (0, 0));
}

#[test]
fn who_began_as_an_original_client_does_not_become_another_later() {
    let mut access = original(Rules::default(), Rules::default());
    access.anonymous = Some(0);
    let mut pair = Pair::new(&access);
    pair.write(command::SUB, "a", b"");
    pair.write(command::HELLO, "", &[1]);
    pair.until(command::OK, "subscribed to a");
    pair.until(command::ERR, "HELLO has to be the first frame");
    assert_eq!((pair.broker.stats().native_sessions, pair.ended), (0, None));
}
