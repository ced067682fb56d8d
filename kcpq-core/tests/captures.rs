//! Conversations recorded between the original's client and server: our broker takes the server's part and says the same,
//! byte for byte; our encoder makes the recorded parity.

use std::collections::VecDeque;

use kcpq_core::Instant;
use kcpq_core::broker::{Broker, Config};
use kcpq_core::cipher::Key;
use kcpq_core::datagram::{self, Content, Protection};
use kcpq_core::fec::Encoder;
use kcpq_core::fec::header::{self, Header, Kind, Shards};
use kcpq_core::frame::{Frame, Limits};
use kcpq_core::kcp::{self, Kcp, Origin, Parts};
use kcpq_core::store::Heap;
use serde_json::Value;

/// One recorded conversation.
struct Capture {
    name: &'static str,
    key: Option<Key>,
    frames: Vec<Value>,
    /// Time, whether it went to the server, and the datagram.
    datagrams: Vec<(Instant, bool, Vec<u8>)>,
}

fn captures() -> Vec<Capture> {
    [
        ("v20", include_str!("vectors/capture_v20.json")),
        ("v20, kcp-go 5.4.20", include_str!("vectors/capture_v20_kcpgo_5.4.20.json")),
        ("v21", include_str!("vectors/capture_v21.json")),
        ("v21, kcp-go 5.4.20", include_str!("vectors/capture_v21_kcpgo_5.4.20.json")),
    ]
    .map(|(name, text)| {
        let capture: Value = serde_json::from_str(text).unwrap();
        let datagrams = capture["events"].as_array().unwrap().iter().filter(|event| event["hex"].is_string());
        Capture {
            name,
            key: capture["key"].as_str().map(|digits| Key::from_hex(digits).unwrap()),
            frames: capture["frames"].as_array().unwrap().clone(),
            datagrams: datagrams
                .map(|event| {
                    let at = Instant::from_micros((event["t_ms"].as_f64().unwrap() * 1_000.0) as u64);
                    (at, event["dir"] == "c2s", unhex(event["hex"].as_str().unwrap()))
                })
                .collect(),
        }
    })
    .into()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

impl Capture {
    fn protection(&self) -> Protection {
        self.key.as_ref().map_or(Protection::NONE, |key| Protection::compat_aes256(key, [7; 32]))
    }

    /// What the cipher protects.
    fn opened(&self, datagram: &[u8]) -> Vec<u8> {
        self.protection().open(&mut datagram.to_vec()).expect("sealed with the recorded key").to_vec()
    }

    fn conv(&self) -> u32 {
        let first = self.opened(&self.datagrams[0].2);
        let Ok(Content::Fec(segments)) = datagram::parse(&first) else { panic!("not FEC-framed") };
        kcp::Header::peek(segments).unwrap().0
    }
}

/// One end's engine, and the stream it has read.
struct Listener {
    kcp: Kcp<Heap>,
    stream: Vec<u8>,
}

impl Listener {
    fn new(conv: u32) -> Self {
        let config = kcp::Config { recv_window: 1024, ..kcp::Config::GAMES };
        Self { kcp: Kcp::new(conv, config, Parts::heap(&config)), stream: Vec::new() }
    }

    fn hear(&mut self, now: Instant, opened: &[u8]) {
        match datagram::parse(opened).expect("a datagram of the original's") {
            Content::Fec(segments) => {
                // What kcp-go 5.4.20 hears at all (docs/original.md 2.1).
                assert!(opened.len() >= 32);
                let stream = &mut self.stream;
                let taken = self.kcp.handle_datagram(now, segments, Origin::Wire, |bytes| {
                    stream.extend_from_slice(bytes);
                    bytes.len()
                });
                taken.expect("segments of this conversation");
            }
            Content::Parity => {}
            Content::Plain(_) | Content::Native(..) => panic!("an original peer hears FEC-framed datagrams only"),
        }
    }
}

/// The frames of a stream as the captures name them: command, subject, payload length.
fn frames(mut stream: &[u8]) -> Vec<(u8, String, usize)> {
    let mut found = Vec::new();
    while !stream.is_empty() {
        let frame = Frame::parse(stream, &Limits::KCPQ).expect("whole frames");
        found.push((frame.command, String::from_utf8(frame.subject.into()).unwrap(), frame.payload.len()));
        stream = &stream[frame.encoded_len()..];
    }
    found
}

fn recorded(capture: &Capture, direction: &str) -> Vec<(u8, String, usize)> {
    let code =
        |name: &str| ["", "SUB", "UNSUB", "PUB", "MSG", "PING", "PONG", "OK", "ERR"].iter().position(|n| *n == name);
    let of_direction = capture.frames.iter().filter(|frame| frame["dir"] == direction);
    of_direction
        .map(|frame| {
            let command = code(frame["command"].as_str().unwrap()).unwrap() as u8;
            (command, frame["subject"].as_str().unwrap().into(), frame["payload_len"].as_u64().unwrap() as usize)
        })
        .collect()
}

#[test]
fn the_recorded_frames_are_read() {
    for capture in captures() {
        let (mut server, mut client) = (Listener::new(capture.conv()), Listener::new(capture.conv()));
        for (at, to_server, datagram) in &capture.datagrams {
            let end = if *to_server { &mut server } else { &mut client };
            end.hear(*at, &capture.opened(datagram));
        }
        assert_eq!(frames(&server.stream), recorded(&capture, "c2s"), "{}", capture.name);
        assert_eq!(frames(&client.stream), recorded(&capture, "s2c"), "{}", capture.name);
        assert_eq!(capture.frames.len(), 11);
    }
}

#[test]
fn our_broker_answers_as_the_recorded_server_did() {
    for capture in captures() {
        let mut broker = Broker::new(Config::default(), 1).with_protection(capture.protection());
        let peer = "127.0.0.1:5000".parse::<std::net::SocketAddr>().unwrap();
        let (mut theirs, mut ours) = (Listener::new(capture.conv()), Listener::new(capture.conv()));
        let mut buf = [0; 1400];
        let mut acknowledgements = Vec::new();
        for (at, to_server, datagram) in &capture.datagrams {
            if !to_server {
                theirs.hear(*at, &capture.opened(datagram));
                continue;
            }
            broker.handle_datagram(*at, peer, &mut datagram.clone());
            broker.handle_timeout(*at);
            while let Some(transmit) = broker.poll_transmit(*at, &mut buf) {
                assert_eq!(transmit.to, peer);
                ours.hear(*at, &capture.opened(&buf[..transmit.len]));
                // The recorded client acknowledges what its own server sent. For ours it is done here.
                while let Some(len) = ours.kcp.poll_transmit(*at, &mut buf) {
                    let mut answer = vec![0; header::LEN + len];
                    answer[header::LEN..].copy_from_slice(&buf[..len]);
                    header::write_data(acknowledgements.len() as u32, &mut answer).unwrap();
                    let mut sealed = vec![0; capture.protection().headroom()];
                    sealed.extend(answer);
                    capture.protection().seal(&mut sealed);
                    acknowledgements.push(sealed);
                }
            }
            for mut acknowledgement in acknowledgements.drain(..) {
                broker.handle_datagram(*at, peer, &mut acknowledgement);
            }
        }
        assert!(ours.stream == theirs.stream, "{}: {:?}", capture.name, frames(&ours.stream));
        let stats = broker.stats();
        assert_eq!((stats.malformed_datagrams, stats.unopened_datagrams, stats.native_sessions), (0, 0, 0));
    }
}

#[test]
fn our_encoder_makes_the_recorded_parity() {
    for capture in captures() {
        let mut compared = 0;
        for direction in [true, false] {
            let mut encoder = Encoder::new(Shards::KCPQ, 1394);
            let mut owed = VecDeque::new();
            for (at, to_server, datagram) in &capture.datagrams {
                if *to_server != direction {
                    continue;
                }
                let opened = capture.opened(datagram);
                match Header::parse(&opened).unwrap().0.kind {
                    Kind::Data => {
                        let mut again = opened.clone();
                        again[..header::LEN].fill(0);
                        encoder.data(*at, &mut again).unwrap();
                        assert_eq!(again, opened, "header");
                        let mut out = [0; 1400];
                        while let Some(len) = encoder.poll_parity(&mut out) {
                            owed.push_back(out[..len].to_vec());
                        }
                    }
                    Kind::Parity => {
                        assert_eq!(Some(opened), owed.pop_front(), "{}", capture.name);
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared >= 3, "{} has parity", capture.name);
    }
}
