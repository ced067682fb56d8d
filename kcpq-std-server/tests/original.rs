//! The server's manner towards clients of the original's kind, to the letter of its answers: a client made of the core's
//! engine and FEC framing alone, which never says HELLO. (Go peers are in `go.rs`; this needs no Go.)

mod support;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kcpq_core::broker;
use kcpq_core::datagram::{self, Content};
use kcpq_core::fec::header::{self, Numbering, Shards};
use kcpq_core::frame::{self, Frame, Limits, Reader, command};
use kcpq_core::kcp::{self, Kcp, Origin};
use kcpq_core::store::{Heap, HeapInbox};
use kcpq_std_server::{Config, Server};
use support::wait::LIMIT;

/// A frame that came: command, subject, payload.
type Came = (u8, String, Vec<u8>);

/// A client of the original's kind, without its timers.
struct Original {
    socket: UdpSocket,
    kcp: Kcp<Heap>,
    numbering: Numbering,
    reader: Reader<Heap>,
    came: VecDeque<Came>,
    epoch: Instant,
}

impl Original {
    fn new(server: SocketAddr, conv: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        Self::on(socket, conv)
    }

    /// On a socket that another client may have had before.
    fn on(socket: UdpSocket, conv: u32) -> Self {
        let config = kcp::Config { mtu: 1_392, ..kcp::Config::GAMES };
        Self {
            socket,
            kcp: Kcp::new(conv, config, kcp::Parts::heap(&config)),
            numbering: Numbering::new(Shards::KCPQ),
            reader: Reader::new(Limits::KCPQ, HeapInbox::new(Limits::KCPQ.max_body as usize + frame::LENGTH, 0)),
            came: VecDeque::new(),
            epoch: Instant::now(),
        }
    }

    fn send(&mut self, command: u8, subject: &str, payload: &[u8]) {
        let frame = Frame { command, subject: subject.as_bytes(), payload };
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut bytes).unwrap();
        self.kcp.send(&bytes).unwrap();
        self.turn();
    }

    /// The next frame that came.
    fn next(&mut self) -> Came {
        let begun = Instant::now();
        loop {
            if let Some(came) = self.came.pop_front() {
                return came;
            }
            assert!(begun.elapsed() < LIMIT, "no frame came");
            self.turn();
        }
    }

    /// The next frame is a text of this kind.
    fn expect(&mut self, command: u8, text: &str) {
        assert_eq!(self.next(), (command, text.into(), Vec::new()));
    }

    /// Sends what is due and takes in what comes.
    fn turn(&mut self) {
        let now = kcpq_core::Instant::from_micros(self.epoch.elapsed().as_micros() as u64);
        let mut out = [0; 1_400];
        while let Some(len) = self.kcp.poll_transmit(now, &mut out[header::LEN..]) {
            let datagram = &mut out[..header::LEN + len];
            header::write_data(self.numbering.data(), datagram).unwrap();
            self.socket.send(datagram).unwrap();
        }
        let mut datagram = [0; 2_048];
        let Ok(len) = self.socket.recv(&mut datagram) else { return };
        let datagram = &datagram[..len];
        // Hints and refusals for an earlier conversation on this socket are not for this one.
        let Ok(Content::Fec(segments)) = datagram::parse(datagram) else {
            assert!(len < kcp::HEADER, "an original client hears nothing without a FEC header");
            return;
        };
        let Self { kcp, reader, came, .. } = self;
        let _ = kcp.handle_datagram(now, segments, Origin::Wire, |bytes| {
            let mut taken = 0;
            while taken < bytes.len() {
                let (count, read) = reader.read(&bytes[taken..]);
                taken += count;
                let Some(whole) = read.unwrap() else { continue };
                let frame = Frame::parse(whole.in_place.unwrap_or_else(|| reader.assembled()), &Limits::KCPQ).unwrap();
                came.push_back((frame.command, String::from_utf8(frame.subject.into()).unwrap(), frame.payload.into()));
            }
            taken
        });
    }
}

fn serve(broker: broker::Config) -> Server {
    Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), broker, ..Config::default() }).unwrap()
}

#[test]
fn every_answer_has_the_text_that_the_original_gives() {
    let server = serve(broker::Config { max_subscriptions: 2, ..broker::Config::default() });
    let mut client = Original::new(server.local_addr(), 1);
    client.send(command::SUB, "foo.*", b"");
    client.expect(command::OK, "subscribed to foo.*");
    // Twice is once, and told all the same.
    client.send(command::SUB, "foo.*", b"");
    client.expect(command::OK, "subscribed to foo.*");
    client.send(command::PUB, "foo.bar", b"hello");
    assert_eq!(client.next(), (command::MSG, "foo.bar".into(), b"hello".to_vec()));
    client.send(command::PING, "", b"");
    client.expect(command::PONG, "");
    client.send(command::UNSUB, "foo.*", b"");
    client.expect(command::OK, "unsubscribed from foo.*");
    client.send(command::UNSUB, "never.subscribed", b"");
    client.expect(command::OK, "unsubscribed from never.subscribed");
    client.send(command::PUB, "foo.bar", b"nobody");
    for unknown in [0, 4, 6, 7, 8, 9, 255] {
        client.send(unknown, "x", b"");
        client.expect(command::ERR, &format!("handle error: unknown command: {unknown}"));
    }
    // As the original, which checks nothing; but not at any depth.
    client.send(command::SUB, "a..b", b"");
    client.expect(command::OK, "subscribed to a..b");
    client.send(command::PUB, "a..b", b"odd");
    assert_eq!(client.next(), (command::MSG, "a..b".into(), b"odd".to_vec()));
    client.send(command::UNSUB, "a..b", b"");
    client.expect(command::OK, "unsubscribed from a..b");
    client.send(command::SUB, &".".repeat(300), b"");
    client.expect(command::ERR, "invalid subject: more than 255 tokens");
    for pattern in ["one", "two"] {
        client.send(command::SUB, pattern, b"");
        client.expect(command::OK, &format!("subscribed to {pattern}"));
    }
    client.send(command::SUB, "three", b"");
    client.expect(command::ERR, "too many subscriptions: the limit is 2 for each session");
    let stats = server.snapshot().unwrap().broker;
    assert_eq!((stats.sessions, stats.native_sessions, stats.unrouted, stats.unknown_commands), (1, 0, 1, 7));
    server.shutdown();
}

#[test]
fn a_new_conversation_from_the_same_address_takes_the_place_of_the_old_one() {
    let server = serve(broker::Config::default());
    let mut old = Original::new(server.local_addr(), 1);
    old.send(command::SUB, "news", b"");
    old.expect(command::OK, "subscribed to news");
    let mut new = Original::on(old.socket.try_clone().unwrap(), 2);
    new.send(command::SUB, "news", b"");
    new.expect(command::OK, "subscribed to news");
    let mut publisher = Original::new(server.local_addr(), 3);
    publisher.send(command::PUB, "news", b"for the new one");
    assert_eq!(new.next(), (command::MSG, "news".into(), b"for the new one".to_vec()));
    let stats = server.snapshot().unwrap().broker;
    assert_eq!((stats.sessions, stats.sessions_opened, stats.subscriptions, stats.messages_out), (2, 3, 1, 1));
    server.shutdown();
}

#[test]
fn a_refused_client_hears_why_in_words_that_it_knows() {
    let server = serve(broker::Config { max_sessions: 1, ..broker::Config::default() });
    let mut first = Original::new(server.local_addr(), 1);
    first.send(command::PING, "", b"");
    first.expect(command::PONG, "");
    // Its acknowledgement shows that it is there; else it would make room.
    first.turn();
    let mut second = Original::new(server.local_addr(), 2);
    second.send(command::PING, "", b"");
    let heard = [second.next(), second.next()].map(|(command, text, _)| (command, text));
    let text = "too many sessions".to_owned();
    // CLOSE stands first, for native clients; original ones pass it over.
    assert_eq!(heard, [(command::CLOSE, text.clone()), (command::ERR, text)]);
    server.shutdown();
}

#[test]
fn what_goes_to_an_original_client_is_as_large_as_it_likes_and_in_order() {
    let server = serve(broker::Config::default());
    let mut client = Original::new(server.local_addr(), 1);
    client.send(command::SUB, "large.>", b"");
    client.expect(command::OK, "subscribed to large.>");
    for (number, size) in [0_usize, 1, 1_360, 1_400, 60_000, 400_000].into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|index| (index * 7 + number) as u8).collect();
        let subject = format!("large.{number}");
        client.send(command::PUB, &subject, &payload);
        let (kind, came_subject, came) = client.next();
        assert_eq!((kind, came_subject), (command::MSG, subject));
        assert!(came == payload, "{size} bytes");
    }
    server.shutdown();
}
