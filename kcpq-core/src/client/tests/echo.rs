//! A client over a bad link to a server that gives everything back: the way of a message there and back in whatever memory
//! there is, a microcontroller's among them.

use alloc::vec::Vec;

use super::*;
use crate::frame::command;
use crate::hello::{Ack, Hello, MAX_WELCOME, VERSION, features};
use crate::session::Native;
use crate::sim::Link as SimLink;

/// Every message that it gets goes back to its sender. A new conversation takes the place of the one before.
struct Echo {
    session: Session<Any>,
    epoch: u64,
    /// Last wills that it was left.
    wills: usize,
}

impl Echo {
    fn new(epoch: u64) -> Self {
        Self { session: server(0), epoch, wills: 0 }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let content = datagram::parse(datagram).unwrap();
        let (Content::Plain(segments) | Content::Fec(segments)) = content else { return };
        let conv = u32::from_le_bytes(*segments.first_chunk().unwrap());
        if conv != self.session.kcp.conv() {
            self.session = server(conv);
        }
        self.session.handle_datagram(now, datagram, content, &mut Leave);
        self.session.after_input(now);
    }

    /// Reads what has come, as far as there is room to give it back.
    fn read(&mut self, now: Instant) {
        while self.session.outbox.len() < 10_000
            && let Some(found) = self.session.poll_frame(now)
        {
            let found = found.unwrap();
            let frame = self.session.frame(found);
            let (command, subject, payload) = (frame.command, frame.subject.to_vec(), frame.payload.to_vec());
            self.session.leave(now, found);
            self.act(command, &subject, &payload);
        }
    }

    fn act(&mut self, command: u8, subject: &[u8], payload: &[u8]) {
        match command {
            command::HELLO => {
                let theirs = Hello::decode(payload).unwrap();
                let ours = Hello {
                    version: VERSION,
                    features: features::SUPPORTED | features::WILLS,
                    max_datagram: 1_400,
                    window: 32,
                    max_body: 90_000,
                    max_subject: 100,
                    max_tokens: 8,
                    keep_alive: 120,
                    epoch: self.epoch,
                    name: "echo",
                    session: None,
                };
                let mut welcome = [0; MAX_WELCOME];
                let len = ours.encode(&mut welcome);
                self.session.control(command::WELCOME, &[], &welcome[..len]).unwrap();
                self.session.set_native(&Native {
                    framing: Framing::Plain,
                    max_datagram: 1_400,
                    accepts: theirs.max_datagram,
                    local: false,
                    features: theirs.features,
                });
            }
            command::SUB => {
                let number = u32::from_be_bytes(*payload.first_chunk().unwrap());
                self.session.control(command::ACK, &[], &Ack { number, refusal: None }.encode()).unwrap();
            }
            command::PUB => self.session.message(command::MSG, subject, payload).unwrap(),
            command::WILL => self.wills += 1,
            command::PING => self.session.control(command::PONG, &[], &[]).unwrap(),
            _ => {}
        }
    }
}

/// A client, its server, and the links between them.
struct Line<S: FrameStore> {
    now: Instant,
    client: Client<S>,
    server: Echo,
    up: SimLink,
    down: SimLink,
    got: Vec<Vec<u8>>,
    /// How often it connected, and lost its connection.
    connected: usize,
    lost: usize,
    /// Why last wills were not taken.
    refused: Vec<Vec<u8>>,
}

impl<S: Make> Line<S> {
    fn new(link: sim::Config, seed: u64) -> Self {
        let now = Instant::from_millis(1);
        let mut client = S::client(Config { queue: 4096, ..Config::default() }, seed);
        client.connect(now);
        let (up, down) = (SimLink::new(link, seed), SimLink::new(link, !seed));
        Self {
            now,
            client,
            server: Echo::new(1),
            up,
            down,
            got: Vec::new(),
            connected: 0,
            lost: 0,
            refused: Vec::new(),
        }
    }

    /// Sends what is due, and goes to the next moment at which something happens.
    fn step(&mut self) {
        let mut buf = [0; 10_000];
        while let Some(transmit) = S::transmit(&mut self.client, self.now, &mut buf) {
            for datagram in buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                self.up.send(self.now, datagram);
            }
        }
        while let Some(len) = self.server.session.poll_transmit(self.now, &mut Protection::default(), &mut buf) {
            self.down.send(self.now, &buf[..len]);
        }
        let next = [
            self.up.next_arrival(),
            self.down.next_arrival(),
            self.client.poll_timeout().map(|deadline| deadline.at),
            self.server.session.poll_timeout().map(|deadline| deadline.at),
        ];
        let next = next.into_iter().flatten().min().expect("something is always due");
        self.now = next.max(self.now + Duration::from_micros(1));
        while let Some(datagram) = self.up.recv(self.now) {
            self.server.handle_datagram(self.now, &datagram);
        }
        self.server.read(self.now);
        while let Some(mut datagram) = self.down.recv(self.now) {
            self.client.handle_datagram(self.now, &mut datagram);
        }
        self.client.handle_timeout(self.now);
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Message { message, .. } => self.got.push(message.payload().to_vec()),
                Event::Connected { .. } => self.connected += 1,
                Event::Disconnected { .. } => self.lost += 1,
                Event::WillRefused(why) => self.refused.push(why.as_bytes().to_vec()),
                _ => {}
            }
        }
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(3_600);
        while !done(self) {
            assert!(self.now < end, "an hour passed without: {what}");
            self.step();
        }
    }
}

/// Messages shorter and longer than a segment, as many as the queue takes at a time.
fn all_come_back<S: Make>(seed: u64) {
    let mut line = Line::<S>::new(BAD, seed);
    line.client.subscribe(line.now, "a.*").unwrap();
    let messages: Vec<Vec<u8>> = (0..300usize).map(|n| [n as u8].repeat(1 + n * 89 % 3_000)).collect();
    let mut waiting = messages.iter().peekable();
    line.run_until("all messages", |line| {
        while let Some(message) = waiting.peek() {
            match line.client.publish(line.now, "a.b", message) {
                Ok(()) => _ = waiting.next(),
                Err(PublishError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        line.got.len() >= messages.len()
    });
    assert!(line.got == messages, "{} messages, some of them altered or out of order", line.got.len());
    assert_eq!((line.connected, line.lost), (1, 0));
    assert_eq!(line.client.server_epoch(), Some(1));
    assert!(line.up.stats().lost > 0 && line.down.stats().lost > 0);
}

#[test]
fn messages_come_back_once_in_order_and_intact_over_a_bad_link() {
    for seed in 0..5 {
        all_come_back::<Any>(seed);
        all_come_back::<Lent<'static>>(seed);
    }
}

/// The server is started again: what it says then is nothing that the client asked it.
fn comes_back<S: Make>() {
    let mut line = Line::<S>::new(CLEAN, 3);
    let id = line.client.subscribe(line.now, "a").unwrap();
    line.run_until("the connection", |line| line.client.is_connected());
    line.client.publish(line.now, "a", b"before").unwrap();
    line.run_until("the message", |line| line.got.len() == 1);
    line.server = Echo::new(2);
    line.down.set_down(true);
    line.run_until("the end of the connection", |line| line.lost == 1);
    line.down.set_down(false);
    line.client.publish(line.now, "a", b"after").unwrap();
    line.run_until("the next message", |line| line.got.len() == 2);
    assert_eq!(line.got, [&b"before"[..], b"after"]);
    assert_eq!((line.connected, line.client.server_epoch()), (2, Some(2)));
    assert!(line.client.unsubscribe(line.now, id));
}

#[test]
fn a_client_of_a_restarted_server_comes_back_by_itself() {
    comes_back::<Any>();
    comes_back::<Lent<'static>>();
}

#[test]
fn what_an_original_server_would_say_to_a_hello_makes_none_of_a_native_one() {
    let mut line = Line::<Any>::new(CLEAN, 4);
    line.client.subscribe(line.now, "a").unwrap();
    line.run_until("the connection", |line| line.client.is_connected());
    line.server.session.control(command::ERR, b"handle error: unknown command: 33", &[]).unwrap();
    line.client.publish(line.now, "a", b"after it").unwrap();
    line.run_until("the message", |line| line.got.len() == 1);
    assert!(line.client.server().is_some(), "it is a native one");
    assert_eq!((line.connected, line.lost), (1, 0));
}

/// Where memory is lent a will has to fit into that for frames of the protocol.
#[cfg(feature = "will")]
#[test]
fn a_will_that_has_no_room_is_refused_and_one_that_has_is_not() {
    use crate::client::Will;

    let larger = &[7; 300];
    for (payload, refused) in [(&larger[..100], 0), (&larger[..], 1)] {
        let mut line = Line::<Lent<'static>>::new(CLEAN, 5);
        line.client.subscribe(line.now, "a").unwrap();
        line.client.set_will(line.now, Will { subject: "a.will", payload, retain: false }).unwrap();
        line.run_until("what becomes of it", |line| line.server.wills + line.refused.len() > 0);
        // Anything more would have come by then.
        line.client.publish(line.now, "a", b"behind it").unwrap();
        line.run_until("the message", |line| line.got.len() == 1);
        assert_eq!(line.refused.len(), refused, "{} bytes: {:?}", payload.len(), line.refused);
        assert_eq!(line.server.wills, 1 - refused, "it is left once");
    }
}
