//! Shares of a thread's time: who asks for much does not keep others waiting, and nobody waits for ever. What is done
//! is counted; there is no time in it.

use super::super::turn::{ENTRY, FRAME, LEAST, QUANTUM, READ, TURN};
use super::*;
use crate::kcp::{Kcp, Origin};

/// A broker, and sessions of which only the engines do something.
struct Desk {
    now: Instant,
    broker: Broker<SocketAddr>,
    engines: Vec<Kcp<Heap>>,
    /// Bytes that came for each.
    got: Vec<usize>,
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1_000 + index as u16))
}

fn frame(command: u8, subject: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 7 + subject.len() + payload.len()];
    Frame { command, subject: subject.as_bytes(), payload }.encode(&mut out);
    out
}

impl Desk {
    /// Sessions that have shown that they are there.
    fn new(config: Config, count: usize) -> Self {
        let now = Instant::from_millis(1);
        let broker = Broker::new(Config { kcp: KCP, ..config }, 1);
        let mut desk = Self { now, broker, engines: Vec::new(), got: vec![0; count] };
        for index in 0..count {
            let mut kcp = Kcp::new(index as u32 + 1, KCP, kcp::Parts::heap(&KCP));
            kcp.set_mtu(1_400);
            desk.engines.push(kcp);
            desk.ask(index, &frame(command::PING, "", &[]), 1);
        }
        desk.settle();
        assert_eq!(desk.broker.stats().sessions, count as u64);
        desk
    }

    /// Has so many of these frames to send.
    fn ask(&mut self, index: usize, frame: &[u8], count: usize) {
        self.engines[index].send(&frame.repeat(count)).unwrap();
    }

    /// What it has to send comes to the broker.
    fn come(&mut self, index: usize) -> bool {
        let (mut buf, mut came) = ([0; 1_500], false);
        while let Some(len) = self.engines[index].poll_transmit(self.now, &mut buf) {
            self.broker.handle_datagram(self.now, addr(index), &mut buf[..len]);
            came = true;
        }
        came
    }

    /// The next datagrams, which arrive. To whom they were.
    fn send(&mut self) -> Option<usize> {
        let mut buf = vec![0; 60_000];
        let transmit = self.broker.poll_transmit(self.now, &mut buf)?;
        let index = usize::from(transmit.to.port()) - 1_000;
        for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
            let count = |bytes: &[u8]| bytes.len();
            let before = self.engines[index].stats().bytes_received;
            self.engines[index].handle_datagram(self.now, datagram, Origin::Wire, count).unwrap();
            self.got[index] += (self.engines[index].stats().bytes_received - before) as usize;
        }
        Some(index)
    }

    /// What is sent until it is time to look at the network: to whom.
    fn turn(&mut self) -> Vec<usize> {
        self.broker.handle_timeout(self.now);
        core::iter::from_fn(|| self.send()).collect()
    }

    /// Lets everything happen; so many turns that takes.
    fn settle(&mut self) -> usize {
        let mut turns = 0;
        loop {
            let came = (0..self.engines.len()).fold(false, |came, index| self.come(index) | came);
            let sent = self.turn();
            turns += 1;
            assert!(turns < 100_000, "it never ends");
            if !came && sent.is_empty() && self.broker.poll_timeout().is_none_or(|due| due.at > self.now) {
                return turns;
            }
        }
    }

    /// Messages that came of each.
    fn messages(&mut self) -> Vec<u64> {
        let page = self.broker.view_sessions(self.now, SessionCursor::default(), 1_000);
        let mut all: Vec<_> = page.items.iter().map(|view| (view.peer, view.messages.messages_in)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, messages)| messages).collect()
    }
}

/// What a refused SUB takes at least.
const REFUSED: u32 = FRAME + 2 * ENTRY;
const ABUSERS: usize = 16;
const SUBSCRIBER: usize = ABUSERS;
const PUBLISHER: usize = ABUSERS + 1;

/// Sixteen ask for thousands of subscriptions that they cannot have.
#[test]
fn who_asks_little_is_served_before_those_who_ask_for_more_than_there_is_time() {
    let mut desk = Desk::new(Config { max_subscriptions: 1, ..Config::default() }, ABUSERS + 2);
    desk.ask(SUBSCRIBER, &frame(command::SUB, "a", &[]), 1);
    for abuser in 0..ABUSERS {
        desk.ask(abuser, &frame(command::SUB, "b", &[]), 1);
    }
    desk.settle();
    for round in 1..=20 {
        for abuser in 0..ABUSERS {
            if desk.engines[abuser].unacked() < 20_000 {
                desk.ask(abuser, &frame(command::SUB, "other", &[]), 5_000);
            }
            desk.come(abuser);
        }
        let before = desk.broker.stats();
        desk.ask(PUBLISHER, &frame(command::PUB, "a", b"now"), 1);
        desk.come(PUBLISHER);
        assert_eq!(desk.broker.stats().messages_in, round, "it is read when it comes");
        // Which leaves them what there is, and the others do not wait for it.
        let sent_to = core::iter::from_fn(|| desk.send()).take_while(|to| *to != SUBSCRIBER).count();
        let meanwhile = u64::from((TURN / 2 + QUANTUM) / REFUSED);
        let refused = desk.broker.stats().subscriptions_refused - before.subscriptions_refused;
        assert!(refused <= meanwhile, "{refused} refused before, sent to {sent_to}");
        desk.turn();
        let refused = desk.broker.stats().subscriptions_refused - before.subscriptions_refused;
        assert!((u64::from(TURN / 4 / REFUSED)..u64::from(2 * TURN / REFUSED)).contains(&refused), "{refused}");
    }
    let stats = desk.broker.stats();
    assert!(stats.turn_waits >= ABUSERS as u64, "{stats:?}");
    // They are answered all the same.
    desk.settle();
    let stats = desk.broker.stats();
    assert_eq!((stats.broken_sessions, stats.sessions), (0, ABUSERS as u64 + 2));
    assert!(desk.engines.iter().all(|engine| engine.unacked() == 0));
}

/// What comes at once is bounded as well, and whoever has had most of it waits longest.
#[test]
fn those_who_are_put_off_go_on_by_turns() {
    let mut desk = Desk::new(Config::default(), ABUSERS);
    let message = frame(command::PUB, "nobody", &[]);
    for abuser in 0..ABUSERS {
        desk.ask(abuser, &message, 20_000);
        desk.come(abuser);
    }
    let most = u64::from(READ + ABUSERS as u32 * (LEAST + FRAME));
    let came = desk.broker.stats().messages_in;
    assert!((u64::from(READ)..=most).contains(&came), "{came}");
    assert_eq!(desk.broker.stats().turn_waits, ABUSERS as u64);
    for turn in 1..=60 {
        desk.turn();
        let messages = desk.messages();
        let came = messages.iter().sum::<u64>();
        assert!(came <= most + turn * u64::from(TURN + QUANTUM), "{came} in turn {turn}");
        // The first was given more than others, and pays for that.
        let spread = messages[1..].iter().max().unwrap() - messages[1..].iter().min().unwrap();
        assert!(spread <= u64::from(QUANTUM + LEAST), "{messages:?} in turn {turn}");
    }
    let messages = desk.messages();
    assert!(messages[0] <= messages[1] + u64::from(TURN / 4), "{messages:?}");
    desk.settle();
    assert_eq!(desk.messages(), [20_000; ABUSERS]);
}

/// One that has much to do is not kept waiting for ever by others that have a little again and again.
#[test]
fn who_is_put_off_has_half_of_the_time() {
    const CROWD: usize = 200;
    let mut desk = Desk::new(Config::default(), CROWD + 2);
    let (busy, publisher) = (CROWD, CROWD + 1);
    for subscriber in 0..CROWD {
        desk.ask(subscriber, &frame(command::SUB, "a", &[]), 1);
    }
    desk.settle();
    desk.ask(busy, &frame(command::PUB, "nobody", &[]), 30_000);
    desk.come(busy);
    let mut before = desk.messages()[busy];
    for turn in 0..8 {
        desk.ask(publisher, &frame(command::PUB, "a", &[7; 100]), 1);
        desk.come(publisher);
        assert!(desk.turn().len() > 20, "to subscribers");
        let now = desk.messages()[busy];
        assert!(now - before >= u64::from(TURN / 4), "{} in turn {turn}", now - before);
        before = now;
    }
    desk.settle();
    assert_eq!((desk.messages()[busy], desk.messages()[publisher]), (30_000, 8));
    let len = frame(command::MSG, "a", &[7; 100]).len();
    assert!(desk.got[..CROWD].iter().all(|got| *got >= 8 * len));
    assert!(desk.broker.stats().turn_waits > 0);
}

/// A message for many takes more than a share; it goes to all of them, and its publisher pays with patience.
#[test]
fn a_message_that_takes_more_than_a_turn_comes_to_all() {
    const CROWD: usize = 300;
    let mut desk = Desk::new(Config::default(), CROWD + 1);
    for subscriber in 0..CROWD {
        desk.ask(subscriber, &frame(command::SUB, "a", &[]), 1);
    }
    desk.settle();
    desk.ask(CROWD, &frame(command::PUB, "a", &[]), 20);
    desk.come(CROWD);
    let came = desk.broker.stats().messages_in;
    assert!((13..=15).contains(&came), "{came} of 301 each, as far as a turn lasts");
    assert!(desk.settle() >= 4, "they were sent in several turns");
    let stats = desk.broker.stats();
    assert_eq!((stats.messages_in, stats.messages_out), (20, 20 * CROWD as u64));
}

/// A handshake takes longer than anything else: there is one in a turn, and nobody has to ask again.
#[cfg(feature = "sealed")]
#[test]
fn handshakes_are_opened_one_in_a_turn() {
    use crate::seal::{Cipher, Credentials, Initiator, PrivateKey};

    const COUNT: u16 = 40;
    let key = PrivateKey::from_bytes(&[3; 32]);
    let public = key.public();
    let keys = Keys { key: Some(key), secret: None };
    let mut broker = Broker::new(Config::default(), 1).with_keys(keys, &[4; 32]);
    let (now, hello) = (Instant::from_millis(1), forged::hello_of(features::SUPPORTED));
    let credentials = Credentials::Anonymous { server: &public };
    let peer = |number: u16| SocketAddr::from(([192, 0, 2, 7], 1_000 + number));
    for number in 0..COUNT {
        let entropy = [number as u8; 32];
        let initiator = Initiator::new(number.into(), credentials, Cipher::ChaChaPoly, &entropy, &hello[7..]).unwrap();
        broker.handle_datagram(now, peer(number), &mut initiator.datagram().to_vec());
    }
    let mut buf = vec![0; 60_000];
    for number in 0..COUNT {
        let mut sent = Vec::new();
        while let Some(transmit) = broker.poll_transmit(now, &mut buf) {
            sent.push(transmit.to);
        }
        assert_eq!(sent, [peer(number)]);
        let goes_on = broker.poll_timeout().is_some_and(|due| due.at <= now);
        assert_eq!(goes_on, number + 1 < COUNT);
    }
    assert_eq!((broker.stats().handshakes_dropped, broker.stats().strangers), (0, 0));
}

/// What comes of strangers, and of who is here.
#[test]
fn newcomers_wait_while_there_are_many_and_who_is_here_does_not() {
    const COUNT: u32 = 1_000;
    let mut desk = Desk::new(Config::default(), 2);
    desk.ask(0, &frame(command::SUB, "a", &[]), 1);
    desk.settle();
    let before = desk.broker.stats();
    // Each goes on before anything can have come back to it.
    for number in 0..COUNT {
        let stranger = SocketAddr::from(([198, 51, 100, 7], 2_000 + number as u16));
        for sn in 0..2 {
            let mut datagram = forged::push(number + 1, sn, 0, &frame(command::PUB, "b", &[]));
            desk.broker.handle_datagram(desk.now, stranger, &mut datagram);
        }
    }
    desk.ask(1, &frame(command::PUB, "a", b"now"), 1);
    desk.come(1);
    let (mut turns, mut told_in, mut buf) = (0, Vec::new(), vec![0; 60_000]);
    while turns == 0 || desk.broker.poll_timeout().is_some_and(|due| due.at <= desk.now) {
        turns += 1;
        desk.broker.handle_timeout(desk.now);
        while let Some(transmit) = desk.broker.poll_transmit(desk.now, &mut buf) {
            told_in.extend(Some(turns).filter(|_| transmit.to == addr(0)));
        }
        let opened = desk.broker.stats().sessions_opened - before.sessions_opened;
        assert!(opened <= 64 * turns, "{opened} in {turns} turns");
    }
    assert_eq!(told_in, [1], "the message leaves in the first turn");
    // In their order: the second datagram of each found its session.
    let stats = desk.broker.stats();
    assert_eq!(stats.sessions_opened - before.sessions_opened, u64::from(COUNT));
    assert_eq!(stats.messages_in - before.messages_in, u64::from(2 * COUNT) + 1);
    assert_eq!((stats.stray_datagrams, stats.stateless_replies, stats.dropped_newcomers), (0, 0, 0));
}
