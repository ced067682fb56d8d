//! PROTOCOL.md says what this code does, as far as a test can tell: its worked examples are the datagrams of a client and
//! a broker that speak to each other, its texts are those of the errors, its limits are the defaults.
//!
//! An example stands in a code block behind a line `<!-- example: NAME -->`. Its lines begin with bytes in hexadecimal;
//! two spaces separate them from the explanation.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use kcpq_core::Instant;
use kcpq_core::broker::{self, Broker};
use kcpq_core::client::{self, Client, Parts};
use kcpq_core::datagram::{LOCAL_DATAGRAM, PATH_DATAGRAM, SAFE_DATAGRAM};
use kcpq_core::frame::FrameError;
use kcpq_core::frame::properties::{self, PropertiesBuf};
use kcpq_core::frame::{Properties, PropertyError};
use kcpq_core::hello::Reset;
use kcpq_core::kcp;
use kcpq_core::lane::Lane;
use kcpq_core::seal;
use kcpq_core::store::Heap;
use kcpq_core::subject::SubjectError;

/// Random numbers of the session, and what the document has in their place.
const CONV: u32 = 0x4433_2211;
const EPOCH: u64 = 0x0102_0304_0506_0708;
const ID: u64 = 0x1112_1314_1516_1718;
const TOKEN: [u8; 16] = *b"a token of 16 by";

#[test]
fn the_examples_of_the_specification_are_what_is_sent() {
    let mut talk = Talk::new();
    talk.client.connect(talk.now);
    let hello = talk.ask();
    let welcome = talk.answer();
    talk.events();

    talk.at(1_020);
    talk.client.subscribe(talk.now, "greet.*").unwrap();
    let sub = talk.ask();
    let ack = talk.answer();
    talk.events();

    talk.at(1_040);
    talk.client.publish(talk.now, "greet.world", b"hello").unwrap();
    let publish = talk.ask();
    let message = talk.answer();
    assert_eq!(talk.events(), 1, "the message arrives");

    talk.at(1_060);
    talk.client.publish_for(talk.now, "greet.world", b"hello", kcpq_core::Duration::from_millis(250)).unwrap();
    let timed = talk.ask();
    let timed_message = talk.answer();
    assert_eq!(talk.events(), 1, "in time");

    talk.at(1_080);
    let mut properties = PropertiesBuf::new();
    properties.reply("answers.7").unwrap();
    properties.header("Lang", "en").unwrap();
    talk.client.publish_with(talk.now, "greet.world", b"hello", properties.properties(), None).unwrap();
    let extended = talk.ask();
    let extended_message = talk.answer();
    assert_eq!(talk.events(), 1, "with its properties");

    talk.at(1_090);
    talk.client.publish_with(talk.now, "nobody", b"", properties.properties(), None).unwrap();
    talk.ask();
    let status = talk.answer();
    assert_eq!(talk.events(), 0, "the client is not subscribed to its reply subject");

    talk.at(1_095);
    talk.client.subscribe_queue(talk.now, "jobs", "workers").unwrap();
    let member = talk.ask();
    talk.answer();
    assert_eq!(talk.events(), 0, "acknowledged");
    talk.client.publish(talk.now, "jobs", b"hello").unwrap();
    talk.ask();
    let member_message = talk.answer();
    assert_eq!(talk.events(), 1, "for the member");

    talk.at(1_097);
    let mut properties = PropertiesBuf::new();
    properties.retain();
    talk.client.publish_with(talk.now, "lamp", b"on", properties.properties(), None).unwrap();
    let retained = talk.ask();
    talk.answer();
    talk.at(1_099);
    talk.client.subscribe(talk.now, "lamp").unwrap();
    talk.ask();
    let kept = talk.answer();
    assert_eq!(talk.events(), 1, "what was published before");

    talk.at(1_105);
    talk.client.publish_confirmed(talk.now, "greet.world", b"hello", &client::Confirmed::default()).unwrap();
    let confirm = talk.ask();
    let puback = talk.answer();
    assert_eq!(talk.events(), 1, "the message, and what became of it");

    talk.at(1_107);
    let will = client::Will { subject: "gone.7", payload: b"without a word", retain: true };
    talk.client.set_will(talk.now, will).unwrap();
    let will = talk.ask();
    talk.answer();
    assert_eq!((talk.events(), talk.broker.stats().wills), (0, 1), "left");
    talk.at(1_108);
    talk.client.publish_in(talk.now, Lane::URGENT, "greet.world", b"hello", Properties::NONE, None).unwrap();
    let in_lane = talk.ask();
    let message_in_lane = talk.answer();
    assert_eq!(talk.events(), 1, "in its lane");

    talk.restart();
    talk.at(1_110);
    talk.client.publish(talk.now, "greet.world", b"hello").unwrap();
    talk.ask();
    let reset = talk.answer();
    assert!(!talk.client.is_connected(), "the server's own word");

    let examples = [
        ("HELLO", hello),
        ("WELCOME", welcome),
        ("SUB", sub),
        ("ACK", ack),
        ("PUB", publish),
        ("MSG", message),
        ("PUBX with a time", timed),
        ("MSGX with a time", timed_message),
        ("PUBX", extended),
        ("MSGX", extended_message),
        ("STATUS", status),
        ("SUB in a queue group", member),
        ("MSGX for a member", member_message),
        ("PUBX to be kept", retained),
        ("MSGX that was kept", kept),
        ("PUBX that wants to know", confirm),
        ("PUBACK", puback),
        ("WILL", will),
        ("PUB in a lane", in_lane),
        ("MSG in a lane", message_in_lane),
        ("RESET", Reset { conv: CONV }.encode().to_vec()),
        ("NATIVE RESET", reset),
    ];
    let document = document();
    let mut wrong = String::new();
    for (name, bytes) in examples {
        if example(&document, name).as_deref() != Some(&*hex(&bytes)) {
            let _ = writeln!(wrong, "{name} is {}", hex(&bytes));
        }
    }
    assert!(wrong.is_empty(), "PROTOCOL.md shows something else:\n{wrong}");
}

#[cfg(feature = "sealed")]
#[test]
fn the_examples_of_sealed_sessions_are_what_is_sent() {
    use kcpq_core::seal::{
        Cipher, Cookies, Credentials, HEADER, Initiator, PrivateKey, ResetTokens, Responder, SharedSecret, TAG, Token,
        Transport, Unconfirmed, header, id_of,
    };

    const HANDSHAKE: u64 = 0x1122_3344_5566_7788;
    const SESSION: u64 = 0x99aa_bbcc_ddee_ff00;
    let now = Instant::from_millis(1_000);
    let (client_key, server_key) = (PrivateKey::from_bytes(&[1; 32]), PrivateKey::from_bytes(&[2; 32]));
    let server = server_key.public();
    let tokens = ResetTokens::of_key(&server_key);
    let responder = Responder::new(Some(server_key.clone()), None);
    let credentials = Credentials::Identity { key: &client_key, server: &server };
    let mut initiator = Initiator::new(HANDSHAKE, credentials, Cipher::ChaChaPoly, &[3; 32], b"HELLO").unwrap();
    let initial = initiator.datagram().to_vec();
    let token = Token::from_bytes(&[6; 32]);
    let credentials = Credentials::Token { token: &token, server: &server };
    let with_token = Initiator::new(HANDSHAKE, credentials, Cipher::ChaChaPoly, &[3; 32], b"HELLO").unwrap();

    let mut datagram = initial.clone();
    let looked = responder.look(&mut datagram).unwrap();
    let retry = Cookies::new(&[5; 32]).retry(now, &looked, &[192, 0, 2, 1, 0x0f, 0xa0]);
    let mut unconfirmed: Unconfirmed = responder.open(looked).unwrap().reply(&[4; 32], b"WELCOME").unwrap();
    let reply = unconfirmed.datagram().to_vec();
    initiator.handle_retry(&retry).unwrap();
    let with_cookie = initiator.datagram().last_chunk::<16>().unwrap().to_vec();

    let (mut client, _): (Transport, _) = initiator.handle_reply(&mut reply.clone()).unwrap();
    let mut sealed = [&header(SESSION, 0, 0)[..], b"items", &[0; TAG]].concat();
    let (head, body) = sealed.split_first_chunk_mut::<HEADER>().unwrap();
    client.seal(now, 0, head, body, 5).unwrap();
    assert_eq!(id_of(head), SESSION);
    let mut arrived = sealed.clone();
    let (head, body) = arrived.split_first_chunk_mut::<HEADER>().unwrap();
    assert_eq!(unconfirmed.confirm(now, head, body).unwrap().1.body, b"items");
    // Two minutes later, under the next key.
    let mut renewed = [&header(SESSION, 0, 0)[..], b"items", &[0; TAG]].concat();
    let (head, body) = renewed.split_first_chunk_mut::<HEADER>().unwrap();
    client.seal(now + kcpq_core::Duration::from_secs(120), 1, head, body, 5).unwrap();

    let examples = [
        ("INITIAL", initial),
        ("INITIAL with a token", with_token.datagram().to_vec()),
        ("RETRY", retry.to_vec()),
        ("COOKIE", with_cookie),
        ("REPLY", reply),
        ("SEALED", sealed),
        ("RENEWED", renewed),
        ("SEALED RESET", tokens.datagram(SESSION).to_vec()),
    ];
    let document = document();
    let mut wrong = String::new();
    for (name, bytes) in examples {
        if example(&document, name).as_deref() != Some(&*hex(&bytes)) {
            let _ = writeln!(wrong, "{name} is {}", hex(&bytes));
        }
    }
    for text in [
        client_key.to_text().to_string(),
        client_key.public().to_string(),
        SharedSecret::from_bytes(&[1; 32]).to_text().to_string(),
        Token::from_bytes(&[1; 32]).to_text().to_string(),
        Token::from_bytes(&[1; 32]).hash().to_string(),
    ] {
        if !document.contains(&text) {
            let _ = writeln!(wrong, "a key is {text}");
        }
    }
    assert!(wrong.is_empty(), "PROTOCOL.md shows something else:\n{wrong}");
}

#[cfg(feature = "sealed")]
#[test]
fn the_limits_of_sealed_sessions_are_those_of_the_specification() {
    use kcpq_core::seal::{
        COOKIE_PERIOD, INITIAL_MAX, PAYLOAD_MAX, PREVIOUS_FOR, REKEY_AFTER, REKEY_INTERVAL, REPLY_MAX, Replay,
        SEAL_LIMIT,
    };
    let seconds = |span: kcpq_core::Duration| span.as_millis() / 1_000;
    let limits = broker::HandshakeLimits::default();
    let rows = [
        format!("HELLO, WELCOME | {PAYLOAD_MAX} bytes"),
        format!("INITIAL, REPLY | {INITIAL_MAX} and {REPLY_MAX} bytes"),
        format!("5 s; {} wait for that at most", limits.unconfirmed),
        format!(
            "load (10.4) | {} first messages opened in a second; {} at most",
            limits.before_retry, limits.per_second
        ),
        format!("window against replay | {} numbers", Replay::<64>::BITS),
        format!(
            "a key is replaced after | 2^{} datagrams either way, or {} s",
            REKEY_AFTER.ilog2(),
            seconds(REKEY_INTERVAL)
        ),
        format!("a key seals at most | 2^{} datagrams", SEAL_LIMIT.ilog2()),
        format!("the previous key is kept for | {} s", seconds(PREVIOUS_FOR)),
        format!(
            "a cookie is good for | {} s at least, {} s at most",
            seconds(COOKIE_PERIOD),
            2 * seconds(COOKIE_PERIOD)
        ),
    ];
    let document = document();
    for row in rows {
        assert!(document.contains(&row), "PROTOCOL.md does not have: {row}");
    }
}

#[test]
fn the_texts_of_the_specification_are_those_of_the_errors() {
    // The document writes N for what was there and M for what is allowed.
    let (n, m) = (1_717, 99);
    let subjects = [
        SubjectError::Empty,
        SubjectError::EmptyToken { at: n },
        SubjectError::Illegal { at: n, byte: b' ' },
        SubjectError::Illegal { at: n, byte: 0x1f },
        SubjectError::Wildcard { at: n },
        SubjectError::TailNotLast { at: n },
        SubjectError::TooLong { limit: m, actual: n },
        SubjectError::TooDeep { limit: m as u8 },
        SubjectError::NotUtf8 { at: n },
    ];
    let frames = [
        FrameError::BodyTooShort { actual: n as u32 },
        FrameError::BodyTooLarge { limit: m.into(), actual: n as u32 },
        FrameError::SubjectOverrunsBody { subject: n as u16, body: m.into() },
        FrameError::SubjectTooLong { limit: m, actual: n as u16 },
    ];
    let subjects = subjects.map(|error| error.to_string().replace("invalid subject: ", ""));
    let extended = [
        PropertyError::Malformed,
        PropertyError::Unknown { tag: 99 },
        PropertyError::TooMany,
        PropertyError::TooLarge { limit: properties::MAX_BYTES },
    ];
    let texts = subjects.into_iter().chain(frames.map(|error| error.to_string()));
    let texts = texts.chain(extended.map(|error| error.to_string().replace("99", "1717")));
    let document: String = document().split_whitespace().collect::<Vec<_>>().join(" ");
    for text in texts {
        let text = text.replace("1717", "N").replace("99", "M").replace("0x1f", "0xNN");
        assert!(document.contains(&format!("`{text}`")), "PROTOCOL.md does not have: {text}");
    }
}

#[test]
fn the_limits_of_the_specification_are_the_defaults() {
    let (client, broker) = (client::Config::default(), broker::Config::default());
    let values = broker::LastValues::default();
    let seconds = |span: kcpq_core::Duration| span.as_millis() as f64 / 1_000.0;
    let backoff = client.reconnect.unwrap();
    let rows = [
        format!(
            "datagram sent, all included | {SAFE_DATAGRAM} bytes at first; {} to original peers; {PATH_DATAGRAM} to native ones if \
             the path carries it; {LOCAL_DATAGRAM} within a machine",
            client.max_datagram
        ),
        format!("segments outstanding before the peer is heard | {}", kcp::Config::UNHEARD_WINDOW),
        format!("windows | {} segments each way", broker.kcp.recv_window),
        format!("body of a frame | {} MiB ({})", broker.frames.max_body >> 20, broker.frames.max_body),
        format!("properties of one message | {}, {} bytes", properties::MAX_COUNT, properties::MAX_BYTES),
        format!("subject | {} bytes, {} tokens", broker.subjects.max_len, broker.subjects.max_tokens),
        format!("subscriptions of one session | {}", broker.max_subscriptions),
        format!("sessions, in all and from one address | {}, {}", broker.max_sessions, broker.max_sessions_per_host),
        format!("silence until a session whose address is not proved ends | {} s", seconds(broker.half_open_timeout)),
        format!("oldest segment not acknowledged, although something is heard | {} s", seconds(broker.stall_timeout)),
        format!(
            "messages waiting for one session before its publishers are throttled | {} MiB",
            broker.high_water >> 20
        ),
        format!(
            "time without another sixteenth of that leaving until they are not any more | {} ms",
            broker.throttle_for.as_millis()
        ),
        format!(
            "time that a publisher is throttled at the cost of others | {} %, 5 ms at a time",
            broker.throttle_share
        ),
        format!("messages waiting for one session | {} MiB", broker.max_queued >> 20),
        format!("messages waiting in all | {} GiB", broker.max_queued_total >> 30),
        format!(
            "memory for what has come and cannot be handed on yet (6), in all | {} MiB",
            broker.max_received_total >> 20
        ),
        format!(
            "last wills (3.14): frame of one, all together | {} KiB, {} MiB |",
            broker.max_will >> 10,
            broker.max_wills_total >> 20
        ),
        format!("messages about sessions (3.13) in a second | {} |", broker.presence.per_second),
        format!("last values (3.11): subjects | {} |", values.max_subjects),
        format!(
            "last values: bytes in all, for each its subject twice and 128 bytes more; one of them | {} MiB, {} MiB |",
            values.max_bytes >> 20,
            values.max_value >> 20
        ),
        format!("stateless answers (RESET, refusals) | {} per second", broker.stateless_replies),
        format!("silence until a session ends | {} s", seconds(broker.idle_timeout)),
        format!(
            "time for the last frames of a closing session | {} s / {} s",
            seconds(broker.linger),
            seconds(client.linger)
        ),
        format!("heartbeat | {} s", seconds(client.heartbeat)),
        format!("silence until the connection is given up | {} s", seconds(client.read_timeout)),
        format!("data under way and silence until it is given up | {} s", seconds(client.stall_timeout)),
        format!("answer to a PING | {} s", seconds(client.pong_timeout)),
        format!("answer after a hint | {} s", seconds(client.suspect_timeout)),
        format!("answer to the first frame | {} s", seconds(client.connect_timeout)),
        format!(
            "SUB: wait, attempts, pause | {} s, {}, {} s",
            seconds(client.subscribe_timeout),
            client.subscribe_attempts,
            seconds(client.subscribe_pause)
        ),
        format!("reconnect | {} s; then {} s;", backoff.base.as_millis() as f64 / 10_000.0, seconds(backoff.cap)),
        format!("messages waiting to be sent | {} MiB", client.queue >> 20),
    ];
    let document = document();
    for row in rows {
        assert!(document.contains(&row), "PROTOCOL.md does not have: {row}");
    }
}

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap()
}

/// A client and a broker without a network between them.
struct Talk {
    client: Client<Heap>,
    broker: Broker<SocketAddr>,
    now: Instant,
    conv: u32,
    epoch: u64,
    /// The session's id and token, once WELCOME has told them.
    named: Option<(u64, [u8; 16])>,
}

impl Talk {
    fn new() -> Self {
        let config = client::Config::default();
        let broker = Broker::new(broker::Config::default(), 2).with_secret(&[9; 32]);
        Self {
            client: Client::new(config, 1, Parts::heap(&config)),
            epoch: broker.epoch(),
            broker,
            now: Instant::from_millis(1_000),
            conv: 0,
            named: None,
        }
    }

    fn at(&mut self, millis: u64) {
        self.now = Instant::from_millis(millis);
    }

    /// The server is started again.
    fn restart(&mut self) {
        self.broker = Broker::new(broker::Config::default(), 3).with_secret(&[9; 32]);
    }

    /// The client's one datagram, as the document has it. There is no room for questions about the path.
    fn ask(&mut self) -> Vec<u8> {
        let mut out = [0; SAFE_DATAGRAM as usize];
        let len = self.client.poll_transmit(self.now, &mut out).unwrap();
        let more = self.client.poll_transmit(self.now, &mut [0; SAFE_DATAGRAM as usize]);
        assert_eq!(more, None, "one datagram each way");
        self.conv = self.client.conversation();
        let shown = self.shown(&out[..len]);
        self.broker.handle_datagram(self.now, FROM, &mut out[..len]);
        shown
    }

    /// The broker's one datagram, as the document has it.
    fn answer(&mut self) -> Vec<u8> {
        let mut out = [0; SAFE_DATAGRAM as usize];
        let len = self.broker.poll_transmit(self.now, &mut out).unwrap().len;
        let more = self.broker.poll_transmit(self.now, &mut [0; SAFE_DATAGRAM as usize]);
        assert_eq!(more, None, "one datagram each way");
        let mut shown = out[..len].to_vec();
        if self.named.is_none() {
            // WELCOME ends in the session's name.
            let (id, token) = shown.last_chunk::<24>().unwrap().split_first_chunk().unwrap();
            self.named = Some((u64::from_be_bytes(*id), token.try_into().unwrap()));
            // The clock of KCP begins anywhere. The PUSH stands behind the acknowledgement.
            let clock: [u8; 4] = out[24 + 8..24 + 12].try_into().unwrap();
            shown = replaced(&shown, &clock, &self.now.as_wire_millis().to_le_bytes());
        }
        self.client.handle_datagram(self.now, &mut out[..len]);
        self.shown(&shown)
    }

    /// How many messages there are among the client's events.
    fn events(&mut self) -> usize {
        let mut messages = 0;
        while let Some(event) = self.client.poll_event() {
            messages += usize::from(matches!(event, client::Event::Message { .. }));
        }
        // The acknowledgement of what came, and the first native datagrams; the examples leave them out.
        let mut out = [0; SAFE_DATAGRAM as usize];
        let mut left_out = 0;
        loop {
            if let Some(len) = self.client.poll_transmit(self.now, &mut out) {
                self.broker.handle_datagram(self.now, FROM, &mut out[..len]);
            } else if let Some(transmit) = self.broker.poll_transmit(self.now, &mut out) {
                self.client.handle_datagram(self.now, &mut out[..transmit.len]);
            } else {
                break;
            }
            left_out += 1;
            assert!(left_out < 4, "acknowledgements are not acknowledged");
        }
        messages
    }

    /// With the document's numbers in place of the random ones.
    fn shown(&self, datagram: &[u8]) -> Vec<u8> {
        let shown = replaced(datagram, &self.conv.to_le_bytes(), &CONV.to_le_bytes());
        let mut shown = replaced(&shown, &self.epoch.to_be_bytes(), &EPOCH.to_be_bytes());
        let Some((id, token)) = self.named else { return shown };
        if let Some(header) = shown.first_chunk_mut().filter(|header| seal::id_of(header) == id) {
            *header = seal::header(ID, seal::kind_of(header), seal::low_number_of(header).into());
        }
        let shown = replaced(&shown, &id.to_be_bytes(), &ID.to_be_bytes());
        replaced(&shown, &token, &TOKEN)
    }
}

/// Where the client is.
const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);

/// `bytes` with `new` wherever `old` was; both are of the same length.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(old.len() - 1) {
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
    bytes
}

/// The bytes of an example in the document, as [`hex`] writes them.
fn example(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<!-- example: {name} -->\n```text\n"))?;
    let (block, _) = rest.split_once("```")?;
    let bytes = block.lines().map(|line| line.split("  ").next().unwrap_or_default());
    Some(bytes.flat_map(str::split_whitespace).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
