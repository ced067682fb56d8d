//! Bad input at a server that has something better to do: a healthy session notices nothing of it, everything is
//! counted, and nothing grows beyond its bound.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kcpq_core::broker;
use kcpq_core::frame::command;
use kcpq_core::kcp::{Command, HEADER, Header, Sn, Ts};
use kcpq_smol::{Client, Subscription};
use kcpq_std_server::{Config, Server, Snapshot};
use support::wait::{LIMIT, soon, until};

const MAX_SESSIONS: usize = 20;

/// Someone with a socket who keeps to no rule.
struct Stranger {
    socket: UdpSocket,
    sent: u64,
}

impl Stranger {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        Self { socket, sent: 0 }
    }

    fn send(&mut self, datagram: &[u8]) {
        // A full buffer, here or there, loses it, as a network would.
        self.sent += u64::from(self.socket.send(datagram).is_ok());
    }
}

/// A server with a client that talks to itself through it.
struct Healthy {
    server: Server,
    client: Client,
    echo: Subscription,
    number: u64,
}

impl Healthy {
    async fn new() -> Self {
        let broker = broker::Config { max_sessions: MAX_SESSIONS, ..broker::Config::default() };
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(Config { listen, broker, ..Config::default() }).unwrap();
        let client = Client::builder().timeout(LIMIT).connect(server.local_addr()).await.unwrap();
        let echo = client.subscribe("echo").await.unwrap();
        Self { server, client, echo, number: 0 }
    }

    fn stranger(&self) -> Stranger {
        Stranger::new(self.server.local_addr())
    }

    fn snapshot(&self) -> Snapshot {
        self.server.snapshot().unwrap()
    }

    fn stats(&self) -> broker::Stats {
        self.snapshot().broker
    }

    /// A message there and back; every datagram that was sent to the server before it has been dealt with then.
    async fn is_well(&mut self) {
        self.number += 1;
        self.client.publish("echo", self.number.to_be_bytes()).await.unwrap();
        let message = soon("the echo", self.echo.next()).await.unwrap();
        assert_eq!(message.payload(), self.number.to_be_bytes());
        assert!(self.stats().sessions as usize <= MAX_SESSIONS);
    }

    /// Nothing has happened to it.
    async fn ends_well(mut self) {
        self.is_well().await;
        let stats = self.client.stats();
        assert!(stats.client.connected);
        assert_eq!(
            (stats.client.connection_errors, stats.client.malformed, self.echo.stats().received),
            (0, 0, self.number)
        );
        self.client.close().await.unwrap();
        smol::unblock(move || self.server.shutdown()).await;
    }
}

fn segment(conv: u32, command: Command, sn: u32, len: u32, data: &[u8]) -> Vec<u8> {
    let header = Header { conv, command, frg: 0, wnd: 128, ts: Ts(0), sn: Sn(sn), una: Sn(0), len };
    [&header.to_bytes()[..], data].concat()
}

fn push(conv: u32, sn: u32, data: &[u8]) -> Vec<u8> {
    segment(conv, Command::Push, sn, data.len() as u32, data)
}

fn fec(seqid: u32, kind: u16, size: u16, rest: &[u8]) -> Vec<u8> {
    [&seqid.to_le_bytes()[..], &kind.to_le_bytes(), &size.to_le_bytes(), rest].concat()
}

fn frame(command: u8, subject: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = (3 + subject.len() + payload.len()) as u32;
    [&body.to_be_bytes()[..], &[command], &(subject.len() as u16).to_be_bytes(), subject, payload].concat()
}

const DATA: u16 = 0x00f1;
const PARITY: u16 = 0x00f2;

#[test]
fn datagrams_that_are_none_are_counted_and_open_nothing() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let mut stranger = healthy.stranger();
        for len in 0..HEADER {
            for byte in [0, 81, 0xf1, 0xff] {
                stranger.send(&vec![byte; len]);
            }
            healthy.is_well().await;
        }
        let short = healthy.stats().malformed_datagrams;
        assert_eq!(short, stranger.sent, "each is shorter than a segment");
        // Lengths that lie, of segments and of FEC shards; data that do not start a session; windows and ACKs of none.
        let whole = push(7, 0, b"x");
        for datagram in [
            segment(7, Command::Push, 0, 1_000, b"short"),
            segment(7, Command::Push, 0, u32::MAX, b"short"),
            push(7, 0, b""),
            push(7, 1, b"from the middle"),
            push(7, u32::MAX, b"from before the beginning"),
            segment(7, Command::Ack, 0, 0, b""),
            segment(7, Command::WindowProbe, 0, 0, b""),
            segment(7, Command::WindowUpdate, 0, 0, b""),
            [&whole[..4], &[80], &whole[5..]].concat(),
            [&whole[..4], &[85], &whole[5..]].concat(),
            fec(0, DATA, 0, &whole),
            fec(0, DATA, 1, &whole),
            fec(0, DATA, u16::MAX, &whole),
            fec(0, DATA, 2, &[]),
            fec(0, PARITY, 0, &whole),
            fec(u32::MAX, PARITY, u16::MAX, &whole),
            fec(10, 0x00f3, 27, &whole),
        ] {
            stranger.send(&datagram);
            healthy.is_well().await;
        }
        let stats = healthy.stats();
        assert_eq!((stats.sessions, stats.sessions_opened), (1, 1));
        assert_eq!(stats.malformed_datagrams + stats.stray_datagrams, stranger.sent);
        assert!(stats.stray_datagrams > 5 && stats.malformed_datagrams > short);
        healthy.ends_well().await;
    });
}

#[test]
fn frames_that_make_no_sense_end_their_own_session_or_are_answered() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let hello_cut_short = frame(command::HELLO, b"", &[1, 0, 0]);
        let no_such_command = frame(0x77, b"", b"");
        // What the original lets pass is taken from who may be its client; but not at any depth.
        let empty_token = frame(command::PUB, b"a..b", b"x");
        let not_utf8 = frame(command::PUB, b"a.\xff", b"x");
        let deep = b".".repeat(300);
        let (deep_subject, deep_pattern) = (frame(command::PUB, &deep, b"x"), frame(command::SUB, &deep, b""));
        let answered = [&hello_cut_short, &no_such_command, &empty_token, &not_utf8, &deep_subject, &deep_pattern];
        for (index, frame) in answered.into_iter().enumerate() {
            healthy.stranger().send(&push(100 + index as u32, 0, frame));
            healthy.is_well().await;
        }
        let stats = healthy.stats();
        assert_eq!((stats.sessions_opened, stats.broken_sessions), (7, 0));
        assert_eq!((stats.unknown_commands, stats.messages_refused, stats.subscriptions_refused), (1, 1, 1));
        let too_large = u32::MAX.to_be_bytes();
        let no_body = [0, 0, 0, 0];
        let subject_overruns = [0, 0, 0, 4, command::PUB, 0xff, 0xff, 0];
        for (index, frame) in [&too_large[..], &no_body, &subject_overruns].into_iter().enumerate() {
            healthy.stranger().send(&push(200 + index as u32, 0, frame));
            healthy.is_well().await;
        }
        assert_eq!(healthy.stats().broken_sessions, 3);
        // Nobody acknowledges the reason that they were told: they are gone after the linger time.
        until("the broken sessions are gone", || healthy.stats().sessions == 7).await;
        healthy.ends_well().await;
    });
}

#[test]
fn conversations_without_end_stay_within_the_limit_of_sessions() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let ping = frame(command::PING, b"", b"");
        let mut one = healthy.stranger();
        for conv in 0..500 {
            one.send(&push(conv, 0, &ping));
            if conv % 10 == 0 {
                healthy.is_well().await;
            }
        }
        // One socket is one original client: each new conversation takes the place of the one before.
        healthy.is_well().await;
        assert_eq!(healthy.stats().sessions, 2);
        let mut many: Vec<Stranger> = (0..3 * MAX_SESSIONS).map(|_| healthy.stranger()).collect();
        for (index, stranger) in many.iter_mut().enumerate() {
            stranger.send(&push(1_000 + index as u32, 0, &ping));
            healthy.is_well().await;
        }
        let stats = healthy.stats();
        assert_eq!(stats.sessions, MAX_SESSIONS as u64);
        // Of those who never show that they are there the oldest make room.
        assert!(stats.half_open_sessions > 0 && stats.sessions_refused == 0);
        healthy.ends_well().await;
    });
}

#[test]
fn a_flood_of_parity_is_counted_and_costs_only_its_sender() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let mut stranger = healthy.stranger();
        let ping = push(9, 0, &frame(command::PING, b"", b""));
        stranger.send(&fec(0, DATA, 2 + ping.len() as u16, &ping));
        healthy.is_well().await;
        assert_eq!(healthy.stats().sessions, 2);
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..4_000_u32 {
            // Sequence numbers of the group that begins, of the wrap, and from anywhere. With the conversation where
            // real parity has it, so that the session's decoder gets to see it.
            let seqid = match round % 4 {
                0 => 10 + round % 3,
                1 => u32::MAX - random.u32(..20),
                2 => random.u32(..),
                _ => 13 * random.u32(..1_000) + 10 + random.u32(..3),
            };
            let mut shard = vec![0; random.usize(24..1_380)];
            random.fill(&mut shard);
            shard[..4].copy_from_slice(&9_u32.to_le_bytes());
            stranger.send(&fec(seqid, PARITY, random.u16(..), &shard));
            if round % 50 == 0 {
                healthy.is_well().await;
            }
        }
        healthy.is_well().await;
        let Snapshot { broker, fec, .. } = healthy.snapshot();
        assert_eq!(broker.sessions, 2);
        assert!(fec.implausible > 1_000 && fec.recovered == 0, "{fec:?}");
        healthy.ends_well().await;
    });
}

#[test]
fn who_asks_without_end_and_reads_nothing_is_not_read_further() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let mut stranger = healthy.stranger();
        // A PING is answered with as many bytes: this would be megabytes of PONG.
        let pings = frame(command::PING, b"", b"").repeat(190);
        for sn in 0..4_000 {
            stranger.send(&push(9, sn, &pings));
            if sn % 50 == 0 {
                healthy.is_well().await;
            }
        }
        healthy.is_well().await;
        assert_eq!(healthy.stats().sessions, 2);
        let (received, answered) = (stranger.sent * pings.len() as u64, healthy.snapshot().transport);
        assert!(answered.bytes_sent < received, "{answered:?}");
        healthy.ends_well().await;
    });
}

#[test]
fn random_bytes_of_all_lengths_change_nothing() {
    smol::block_on(async {
        let mut healthy = Healthy::new().await;
        let mut strangers = [healthy.stranger(), healthy.stranger(), healthy.stranger()];
        let mut random = fastrand::Rng::with_seed(4);
        for round in 0..9_000 {
            let mut datagram = vec![0; random.usize(..1_500)];
            random.fill(&mut datagram);
            // Most random bytes are thrown out at the first look; some are made to look better.
            if let Some(place) = datagram.get_mut(4) {
                *place = [*place, 81, 82, 83, 84, 0xf1, 0xf2][round % 7];
            }
            if round % 2 == 0
                && let Some(place) = datagram.get_mut(5..8)
            {
                place.fill(0);
            }
            strangers[round % 3].send(&datagram);
            if round % 100 == 0 {
                healthy.is_well().await;
            }
        }
        healthy.is_well().await;
        let stats = healthy.stats();
        assert!(stats.malformed_datagrams + stats.stray_datagrams > 1_000, "{stats:?}");
        assert!(stats.sessions <= 4 && stats.messages_refused == 0, "{stats:?}");
        healthy.ends_well().await;
    });
}

/// With a key, whoever has none is not even a stranger.
#[test]
fn without_the_key_nothing_is_answered_and_no_state_is_made() {
    let key = kcpq_smol::Key::from_bytes(&[9; 32]);
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Config { listen, compat_key: Some(key.clone()), ..Config::default() }).unwrap();
    let mut stranger = Stranger::new(server.local_addr());
    stranger.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ping = push(9, 0, &frame(command::PING, b"", b""));
    for datagram in [ping.clone(), fec(0, DATA, 2 + ping.len() as u16, &ping), vec![0; 19], vec![7; 1_400]] {
        stranger.send(&datagram);
    }
    smol::block_on(async {
        let client = Client::builder().timeout(LIMIT).compat_aes256(key).connect(server.local_addr()).await.unwrap();
        until("all were looked at", || server.snapshot().unwrap().broker.unopened_datagrams == 4).await;
        client.close().await.unwrap();
    });
    assert_eq!(server.snapshot().unwrap().broker.sessions_opened, 1);
    assert!(stranger.socket.recv(&mut [0; 64]).is_err(), "silence");
    server.shutdown();
}
