//! Conversations of the original's client and server, recorded from the wire (each file's `note` says how): all layers
//! together, and the broker in the place of the server.
//!
//! The checks that go further than one layer: `fec.rs`, `cipher.rs`, `frames.rs` and `kcp_vectors.rs` test each alone.

#[path = "common/engine.rs"]
mod engine;
#[path = "common/json.rs"]
mod json;

use std::net::SocketAddr;

use kcpq_core::broker::{self, Broker};
use kcpq_core::cipher::Key;
use kcpq_core::datagram::{self, Content, Framing, Protection};
use kcpq_core::fec::header::Shards;
use kcpq_core::fec::{self, Decoder, Encoder};
use kcpq_core::frame::{self, Frame, Limits, Progress, Reader, command};
use kcpq_core::kcp::{Config, Kcp, Origin};
use kcpq_core::store::{Heap, HeapInbox};
use kcpq_core::{Duration, Instant};
use serde_json::Value;

use self::engine::Make;
use self::json::{hex, list, number, text};

const CAPTURES: [(&str, &str); 4] = [
    ("v2.0", include_str!("vectors/capture_v20.json")),
    ("v2.1", include_str!("vectors/capture_v21.json")),
    ("v2.0, kcp-go 5.4.20", include_str!("vectors/capture_v20_kcpgo_5.4.20.json")),
    ("v2.1, kcp-go 5.4.20", include_str!("vectors/capture_v21_kcpgo_5.4.20.json")),
];

const CLIENT: &str = "c2s";
const SERVER: &str = "s2c";

/// One recorded datagram.
struct Recorded {
    at: Instant,
    dir: &'static str,
    /// As it was on the wire.
    wire: Vec<u8>,
    /// Inside the cipher, if there is one.
    body: Vec<u8>,
}

/// One recorded conversation.
struct Capture {
    name: &'static str,
    key: Option<Key>,
    datagrams: Vec<Recorded>,
    frames: Vec<Value>,
}

impl Capture {
    fn all() -> impl Iterator<Item = Self> {
        CAPTURES.into_iter().map(|(name, recording)| Self::read(name, &json::parse(recording)))
    }

    fn read(name: &'static str, recording: &Value) -> Self {
        let key = recording["key"].as_str().map(|digits| Key::from_hex(digits).unwrap());
        let datagrams = list(&recording["events"]).iter().filter(|event| event["hex"].is_string());
        let datagrams = datagrams.map(|event| {
            let wire = hex(&event["hex"]);
            assert_eq!(wire.len() as u64, number(&event["len"]), "{name}");
            let decrypted = &event["decrypted"]["body_hex"];
            Recorded {
                at: instant(&event["t_ms"]),
                dir: if event["dir"] == CLIENT { CLIENT } else { SERVER },
                body: if decrypted.is_string() { hex(decrypted) } else { wire.clone() },
                wire,
            }
        });
        Self { name, key, datagrams: datagrams.collect(), frames: list(&recording["frames"]).to_vec() }
    }

    fn protection(&self) -> Protection {
        self.key.as_ref().map_or(Protection::NONE, |key| Protection::compat_aes256(key, [7; 32]))
    }

    fn of(&self, dir: &str) -> impl Iterator<Item = &Recorded> {
        self.datagrams.iter().filter(move |datagram| datagram.dir == dir)
    }

    fn conv(&self) -> u32 {
        let Ok(Content::Fec(segments)) = datagram::parse(&self.datagrams[0].body) else { panic!("{}", self.name) };
        u32::from_le_bytes(*segments.first_chunk().unwrap())
    }

    /// The frames of a direction, as bytes. The recording leaves out those of the 5000-byte message, which its note
    /// describes.
    fn frames(&self, dir: &str) -> Vec<Vec<u8>> {
        let of_dir = self.frames.iter().filter(|frame| frame["dir"] == dir);
        of_dir
            .map(|frame| frame["frame_hex"].as_str().map_or_else(|| encode(frame), |_| hex(&frame["frame_hex"])))
            .collect()
    }
}

fn instant(t_ms: &Value) -> Instant {
    Instant::from_micros((t_ms.as_f64().expect("a number of milliseconds") * 1000.0) as u64)
}

fn encode(frame: &Value) -> Vec<u8> {
    let command = if frame["command"] == "PUB" { command::PUB } else { command::MSG };
    let payload: Vec<u8> = (0..number(&frame["payload_len"])).map(|index| index as u8).collect();
    let frame = Frame { command, subject: text(&frame["subject"]).as_bytes(), payload: &payload };
    let mut out = vec![0; frame.encoded_len()];
    frame.encode(&mut out).unwrap();
    out
}

/// A peer at the end of recorded datagrams: an engine, and the frames that came out of it.
struct Listener {
    kcp: Kcp<Heap>,
    reader: Reader<Heap>,
    frames: Vec<Vec<u8>>,
}

impl Listener {
    fn new(conv: u32) -> Self {
        let inbox = HeapInbox::new(Limits::KCPQ.max_body as usize + frame::LENGTH, 0);
        Self { kcp: Heap::engine(conv, Config::GAMES), reader: Reader::new(Limits::KCPQ, inbox), frames: Vec::new() }
    }

    fn hear(&mut self, at: Instant, segments: &[u8]) {
        let Self { kcp, reader, frames } = self;
        let read = kcp.handle_datagram(at, segments, Origin::Wire, |bytes| {
            let mut taken = 0;
            while taken < bytes.len() {
                let (count, progress) = reader.read(&bytes[taken..]);
                taken += count;
                match progress {
                    Progress::More => {}
                    Progress::InPlace(frame) => frames.push(frame.to_vec()),
                    Progress::Assembled => frames.push(reader.assembled().to_vec()),
                    other => panic!("{other:?}"),
                }
            }
            taken
        });
        read.unwrap();
    }
}

#[test]
fn every_recorded_datagram_opens_to_the_recorded_bytes_and_frames() {
    for capture in Capture::all() {
        let protection = capture.protection();
        for dir in [CLIENT, SERVER] {
            let mut listener = Listener::new(capture.conv());
            for recorded in capture.of(dir) {
                let mut wire = recorded.wire.clone();
                let body = protection.open(&mut wire).unwrap();
                assert_eq!(*body, recorded.body, "{}", capture.name);
                match datagram::parse(body).unwrap() {
                    Content::Fec(segments) => listener.hear(recorded.at, segments),
                    Content::Parity => assert_eq!(datagram::conversation_of_parity(body), Some(capture.conv())),
                    Content::Plain(_) => panic!("{}: without a FEC header", capture.name),
                }
            }
            assert_eq!(listener.frames, capture.frames(dir), "{} {dir}", capture.name);
        }
        assert_eq!(capture.frames(CLIENT).len() + capture.frames(SERVER).len(), 11);
    }
}

#[test]
fn our_encoder_makes_the_recorded_headers_and_parity() {
    for capture in Capture::all() {
        for dir in [CLIENT, SERVER] {
            let mut encoder = Encoder::new(Shards::KCPQ, 1500);
            let mut parities = 0;
            for recorded in capture.of(dir) {
                let mut ours = recorded.body.clone();
                if datagram::parse(&ours) == Ok(Content::Parity) {
                    ours.fill(0);
                    assert_eq!(encoder.poll_parity(&mut ours), Some(recorded.body.len()), "{} {dir}", capture.name);
                    parities += 1;
                } else {
                    ours[..fec::header::LEN].fill(0);
                    encoder.data(recorded.at, &mut ours).unwrap();
                }
                assert_eq!(ours, recorded.body, "{} {dir}", capture.name);
            }
            assert!(parities > 0, "{} {dir}: no parity was recorded", capture.name);
        }
    }
}

#[test]
fn recorded_parity_brings_back_any_recorded_datagram_of_its_group() {
    for capture in Capture::all() {
        for dir in [CLIENT, SERVER] {
            for lost in 0..10 {
                let mut decoder = Decoder::new(fec::Config::default());
                let mut rebuilt = Vec::new();
                let mut missing = Vec::new();
                for (index, recorded) in capture.of(dir).take(13).enumerate() {
                    if index == lost {
                        missing = recorded.body[fec::header::LEN..].to_vec();
                        continue;
                    }
                    // All at one moment: the recorded parity comes 15 s late (WIRE.md 1.4), when ours gives up waiting.
                    decoder.open(Instant::ZERO, &recorded.body).unwrap();
                    while let Some(datagram) = decoder.poll_recovered() {
                        rebuilt.push(datagram.to_vec());
                    }
                }
                assert_eq!(rebuilt, [missing], "{} {dir}: datagram {lost}", capture.name);
            }
        }
    }
}

/// Our broker in the place of the recorded server: it hears what the client said, when the client said it.
#[test]
fn our_broker_answers_the_recorded_client_as_the_recorded_server_did() {
    let client: SocketAddr = "192.0.2.1:4711".parse().unwrap();
    for capture in Capture::all() {
        for framing in [Framing::Fec, Framing::Parity(Shards::KCPQ)] {
            let config = broker::Config { compat_framing: framing, ..broker::Config::default() };
            let mut broker = Broker::new(config, 1).with_protection(capture.protection());
            let protection = capture.protection();
            let mut listener = Listener::new(capture.conv());
            let mut parities = 0;
            let mut listen = |broker: &mut Broker<SocketAddr>, at: Instant| {
                let mut out = [0; 1400];
                while let Some(transmit) = broker.poll_transmit(at, &mut out) {
                    assert_eq!(transmit.to, client);
                    let body = protection.open(&mut out[..transmit.len]).unwrap();
                    match datagram::parse(body).unwrap() {
                        Content::Fec(segments) => listener.hear(at, segments),
                        Content::Parity => parities += 1,
                        Content::Plain(_) => panic!("kcp-go 5.4.20 hears nothing without a FEC header"),
                    }
                }
            };
            for recorded in capture.of(CLIENT) {
                broker.handle_datagram(recorded.at, client, &mut recorded.wire.clone());
                listen(&mut broker, recorded.at);
            }
            // What was held back to share a datagram. The recorded client's acknowledgements are of the recorded
            // server's segments, so anything sent again is of no interest.
            listen(&mut broker, capture.datagrams[capture.datagrams.len() - 1].at + Duration::from_millis(100));
            assert_eq!(listener.frames, capture.frames(SERVER), "{} {framing:?}", capture.name);
            assert_eq!(parities > 0, framing != Framing::Fec, "{}", capture.name);
            let stats = broker.stats();
            assert_eq!((stats.sessions, stats.native_sessions, stats.subscriptions), (1, 0, 0), "{}", capture.name);
            assert_eq!((stats.messages_in, stats.messages_out, stats.unrouted), (3, 2, 1), "{}", capture.name);
            assert_eq!((stats.malformed_datagrams, stats.stray_datagrams), (0, 0), "{}", capture.name);
        }
    }
}
