//! A client that hears arbitrary datagrams, some of them made to be understood: frames of any kind in the segments of its
//! present conversation, plain and behind FEC headers, acknowledgements, parity, reset hints and noise; between them
//! whatever its user may call, and time.
//!
//! Over both memories, and over the allocator's by both ways in. Whatever comes: no panic, nothing that is always due, ends of
//! events and of transmission, everything it holds within its limits.

use kcpq_core::client::{
    Client, Config, ConfirmError, ConfirmMemory, Confirmed, Event, Memory, Message, Parts, PublishError,
    SubscriptionId, Will,
};
use kcpq_core::fec::header;
use kcpq_core::frame::{self, command};
use kcpq_core::header as native;
use kcpq_core::hello::{self, Hello, Named, Reset};
use kcpq_core::kcp::{self, Command, Header, Sn, Ts};
use kcpq_core::outbox::FrameStore;
use kcpq_core::subject;
use kcpq_core::{Duration, Instant};

use crate::Seed;

const QUEUE: usize = 500;
const INBOX: usize = 300;
const SUBSCRIPTIONS: usize = 3;
const WINDOW: u16 = 8;
const DATAGRAM: u16 = 224;
const PATTERNS: [&str; 6] = ["a.b", "a.*", ">", "a..b", "b.>", "a pattern that is longer than the memory for one"];

/// The session in native datagrams.
const NAMED: Named = Named { id: 7, token: [9; Named::TOKEN] };

/// What an operation's first byte, modulo 13, asks for.
mod op {
    /// A datagram of the bytes.
    pub(super) const DATAGRAM: u8 = 0;
    /// The next segment of the server's stream, with the bytes in it.
    pub(super) const SEGMENT: u8 = 1;
    /// The same behind a FEC header.
    pub(super) const FEC_SEGMENT: u8 = 2;
    /// Parity, or what claims to be.
    pub(super) const PARITY: u8 = 3;
    /// An acknowledgement of the segment that the first byte names and of all before the one that the second does.
    pub(super) const ACK: u8 = 4;
    /// A hint that the server does not know the conversation.
    pub(super) const RESET: u8 = 5;
    /// As many tenths of a second pass as there are bytes.
    pub(super) const WAIT: u8 = 6;
    /// Time passes up to the next deadline.
    pub(super) const DEADLINE: u8 = 7;
    /// Publishes the bytes behind the first, which picks a subject and a time to live.
    pub(super) const PUBLISH: u8 = 8;
    /// Subscribes to the pattern that the first byte picks, or unsubscribes.
    pub(super) const SUBSCRIBE: u8 = 9;
    /// What else a user may call: the first byte says what.
    pub(super) const CALL: u8 = 10;
    /// The user looks for events, if it does not always; and holds or lets go the message that came last.
    pub(super) const EVENTS: u8 = 11;
    /// The server's next native datagram, with the bytes for items.
    pub(super) const ITEMS: u8 = 12;
    /// So many there are.
    pub(super) const COUNT: u8 = 13;
}

/// See the module. The first byte says whether the user looks for events at once.
pub fn run(data: &[u8]) {
    let Some((&choice, operations)) = data.split_first() else { return };
    let engine = kcp::Config { send_window: WINDOW, recv_window: WINDOW, ..kcp::Config::GAMES };
    let config = Config {
        kcp: engine,
        max_datagram: DATAGRAM,
        native_datagram: DATAGRAM,
        queue: QUEUE,
        frames: frame::Limits { max_body: 2_000, max_subject: 40 },
        ..Config::default()
    };
    let seed = u64::from(choice) + 1;
    let prompt = choice & 1 != 0;

    let mut memory = Memory::<200, { WINDOW as usize }, QUEUE, INBOX, SUBSCRIPTIONS, 16>::new();
    let mut confirms = ConfirmMemory::<3>::new();
    let mut client = Client::new(config, seed, memory.lend());
    client.lend_confirms(&mut confirms).expect("it has none");
    let mut lent = Driver::new(client, prompt);
    let receive = |client: &mut Client<_>, now, datagram: &mut [u8]| client.handle_datagram(now, datagram);
    lent.drive(operations, receive, |client, hold| {
        if hold {
            client.hold_message();
        } else {
            client.release_message();
        }
        if let Some(message) = client.held_message() {
            check(&message, 2_000);
        }
    });

    let client = || Client::new(config, seed, Parts::heap(&config));
    Driver::new(client(), prompt).drive(operations, Client::handle_datagram, |_, _| {});
    let pushed = |client: &mut Client<_>, now, datagram: &mut [u8]| {
        client.handle_datagram_with(now, datagram, |_, arrived| {
            for bytes in arrived.frames() {
                let frame = frame::Frame::parse(bytes, &frame::Limits::NONE).expect("whole and checked");
                assert_eq!((frame.command, frame.encoded_len()), (command::MSG, bytes.len()));
            }
            assert_eq!(arrived.frames().map(<[u8]>::len).sum::<usize>(), arrived.bytes().len());
        });
    };
    Driver::new(client(), prompt).drive(operations, pushed, |_, _| {});
}

/// A message keeps to the limits of who takes it.
fn check<B: AsRef<[u8]>>(message: &Message<B>, limit: usize) {
    assert!(message.subject().len() + message.payload().len() <= limit);
    assert!(subject::Subject::new(message.subject(), &subject::Limits::DEFAULT).is_ok(), "{:?}", message.subject());
}

/// A client, and what its input is made of.
struct Driver<S: FrameStore> {
    client: Client<S>,
    /// The user looks for events after each operation, as it should.
    prompt: bool,
    now: Instant,
    /// The conversation for which the next segment has number `next`.
    conv: u32,
    next: u32,
    seqid: u32,
    /// Of the last native datagram.
    number: u64,
    ids: Vec<SubscriptionId>,
    closed: bool,
    out: Vec<u8>,
}

impl<S: FrameStore> Driver<S> {
    fn new(mut client: Client<S>, prompt: bool) -> Self {
        let now = Instant::from_millis(1);
        client.connect(now);
        let conv = client.conversation();
        let out = vec![0; 2_000];
        Self { client, prompt, now, conv, next: 0, seqid: 0, number: 0, ids: Vec::new(), closed: false, out }
    }

    fn drive(
        &mut self,
        operations: &[u8],
        mut receive: impl FnMut(&mut Client<S>, Instant, &mut [u8]),
        mut hold: impl FnMut(&mut Client<S>, bool),
    ) {
        let mut rest = operations;
        while let [kind, len, tail @ ..] = rest {
            let (bytes, tail) = tail.split_at((*len as usize).min(tail.len()));
            rest = tail;
            let first = bytes.first().copied().unwrap_or(0);
            match kind % op::COUNT {
                op::PUBLISH => self.publish(first, bytes.get(1..).unwrap_or_default()),
                op::SUBSCRIBE => self.subscribe(first),
                op::CALL => self.call(first),
                op::WAIT => self.now += Duration::from_millis(100 * bytes.len() as u64),
                op::DEADLINE => {
                    let deadline = self.client.poll_timeout().map_or(self.now, |deadline| deadline.at);
                    self.now = self.now.max(deadline);
                }
                op::EVENTS => {
                    self.read_events();
                    hold(&mut self.client, first & 1 != 0);
                }
                kind => {
                    let mut datagram = self.datagram(kind, bytes);
                    receive(&mut self.client, self.now, &mut datagram);
                }
            }
            self.settle();
            self.check();
        }
    }

    /// What a driver does after each input, as long as something is due: that has to end.
    fn settle(&mut self) {
        for count in 0.. {
            assert!(count < 10, "always due: {:?}", self.client.poll_timeout());
            self.client.handle_timeout(self.now);
            if self.prompt {
                self.read_events();
            }
            self.transmit();
            if !self.prompt || self.client.poll_timeout().is_none_or(|deadline| deadline.at > self.now) {
                return;
            }
        }
    }

    /// A datagram of the server, or of anybody.
    fn datagram(&mut self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let conv = self.client.conversation();
        if self.conv != conv {
            (self.conv, self.next) = (conv, 0);
        }
        let head = Header {
            conv,
            command: Command::Push,
            frg: 0,
            wnd: 64,
            ts: Ts(0),
            sn: Sn(self.next),
            una: Sn(0),
            len: bytes.len() as u32,
        };
        match kind {
            op::SEGMENT => {
                self.next += 1;
                [&head.to_bytes(), bytes].concat()
            }
            op::FEC_SEGMENT => {
                self.next += 1;
                let mut datagram = [&[0; header::LEN][..], &head.to_bytes(), bytes].concat();
                header::write_data(self.seqid, &mut datagram).expect("room for a header");
                self.seqid = self.seqid.wrapping_add(1);
                datagram
            }
            op::PARITY => {
                let header = header::Header { seqid: self.seqid, kind: header::Kind::Parity };
                self.seqid = self.seqid.wrapping_add(1);
                [&header.to_bytes(), bytes].concat()
            }
            op::ACK => {
                let number = |at: usize| Sn(bytes.get(at).copied().unwrap_or(0).into());
                Header { command: Command::Ack, sn: number(0), una: number(1), len: 0, ..head }.to_bytes().to_vec()
            }
            op::RESET => Reset { conv }.encode().to_vec(),
            op::ITEMS => {
                self.number += 1;
                [&native::header(NAMED.id, native::kind::DATA, self.number), bytes].concat()
            }
            _ => bytes.to_vec(),
        }
    }

    fn publish(&mut self, choice: u8, payload: &[u8]) {
        let subject = ["a.b", "b.c", "a b", ""][usize::from(choice % 4)];
        let taken = match choice / 4 {
            0 => self.client.publish(self.now, subject, payload),
            seconds @ 48.. => {
                let mut confirmed = Confirmed::default();
                confirmed.within = Duration::from_secs(u64::from(seconds - 48));
                match self.client.publish_confirmed(self.now, subject, payload, &confirmed) {
                    Err(ConfirmError::Refused(error)) => Err(error),
                    _ => return,
                }
            }
            tenths => {
                let ttl = Duration::from_millis(100 * u64::from(tenths));
                self.client.publish_for(self.now, subject, payload, ttl)
            }
        };
        assert!(!self.closed || taken == Err(PublishError::Closed));
    }

    fn subscribe(&mut self, choice: u8) {
        let pattern = PATTERNS[usize::from(choice) % PATTERNS.len()];
        let added = match choice / 64 {
            0 => self.client.subscribe(self.now, pattern),
            1 => self.client.subscribe_latest(self.now, pattern),
            2 => self.client.subscribe_queue(self.now, pattern, "g"),
            _ => {
                if let Some(id) = self.ids.pop() {
                    self.client.unsubscribe(self.now, id);
                }
                return;
            }
        };
        self.ids.extend(added);
    }

    fn call(&mut self, choice: u8) {
        match choice % 8 {
            0 => self.client.suspend(self.now),
            1 => self.client.resume(self.now),
            2 => self.client.suspect(self.now),
            3 => {
                self.client.flush(self.now);
            }
            4 => self.client.connect(self.now),
            6 => {
                let will = Will { subject: "a.b", payload: &[7; 255][..choice.into()], retain: choice & 8 != 0 };
                let _ = self.client.set_will(self.now, will);
            }
            7 => self.client.clear_will(self.now),
            _ => self.client.close(self.now),
        }
    }

    fn read_events(&mut self) {
        for count in 0.. {
            assert!(count < 10_000, "it would tell for ever");
            match self.client.poll_event() {
                Some(Event::Message { message, .. }) => check(&message, 2_000),
                Some(Event::Closed) => self.closed = true,
                Some(event) => assert!(!self.closed, "{event:?} comes behind the last event"),
                None => return,
            }
        }
    }

    fn transmit(&mut self) {
        for count in 0.. {
            assert!(count < 1_000, "it would send for ever");
            let Some(len) = self.client.poll_transmit(self.now, &mut self.out) else { return };
            assert!(len > 0 && len <= usize::from(DATAGRAM).max(self.client.max_datagram()), "{len} bytes");
        }
    }

    fn check(&self) {
        let stats = self.client.stats();
        // One message always may wait.
        assert!(self.client.queued() <= QUEUE + 400, "{} bytes wait", self.client.queued());
        assert!(stats.messages_acknowledged + stats.dropped_in_doubt <= stats.messages_sent, "{stats:?}");
    }
}

/// A frame of the protocol.
fn frame(command: u8, subject: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 7 + subject.len() + payload.len()];
    frame::Frame { command, subject: subject.as_bytes(), payload }.encode(&mut bytes);
    bytes
}

/// An operation as [`run`] reads it.
fn op(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, bytes.len() as u8], bytes].concat()
}

/// Conversations with both kinds of server, and their ends.
pub fn seeds() -> Vec<Seed> {
    let user = [
        op(op::SUBSCRIBE, &[1]),
        op(op::SUBSCRIBE, &[64 + 2]),
        op(op::SUBSCRIBE, &[3]),
        op(op::PUBLISH, b"\0hello"),
        op(op::PUBLISH, b"\x08soon forgotten"),
        op(op::CALL, &[3]),
    ]
    .concat();
    let mut welcome = [0; hello::MAX_WELCOME];
    let len = Hello {
        version: 1,
        features: hello::features::SERVER,
        max_datagram: 1_400,
        window: 32,
        max_body: 1_000,
        max_subject: 30,
        max_tokens: 8,
        keep_alive: 120,
        epoch: 7,
        name: "fuzz",
        session: Some(NAMED),
    }
    .encode(&mut welcome);
    let native = [
        user.clone(),
        op(op::SEGMENT, &frame(command::WELCOME, "", &welcome[..len])),
        op(op::SEGMENT, &frame(command::ACK, "", &[0, 0, 0, 1, 0])),
        op(op::SEGMENT, &frame(command::ACK, "no", &[0, 0, 0, 2, 2])),
        op(op::ACK, &[0, 1]),
        op(op::SEGMENT, &frame(command::MSG, "a.b", &[1; 100])),
        // WINS, PUSH, PATIENT, SACK, ACK, PROBE, CHALLENGE, and what the server alone can say.
        op(op::ITEMS, &[0x10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 1, 0, 32, 0]),
        op(op::ITEMS, &[&[5, 4, 0][..], &frame(command::MSG, "a.b", &[1; 50])].concat()),
        op(op::ITEMS, &[&[0x26, 5, 0, 11, 0][..], &frame(command::MSG, "a", &[3; 3]), &[2, 1, 0, 1, 0]].concat()),
        op(op::ITEMS, &[1, 2, 0, 32, 0, 1, 0, 9, 0, 2, 0, 0]),
        op(op::DATAGRAM, &[&native::header(NAMED.id, native::kind::RESET, 0)[..], &[8; Named::TOKEN]].concat()),
        op(op::EVENTS, &[1]),
        op(op::SEGMENT, &frame(command::PONG, "", b"")),
        op(op::PUBLISH, b"\xc4what becomes of it?"),
        op(op::PUBLISH, b"\xc8and of this?"),
        op(op::SEGMENT, &frame(command::PUBACK, "", &[0, 0, 0, 0, 0, 0, 0, 0, 2])),
        op(op::SEGMENT, &frame(command::PUBACK, "no", &[0, 0, 0, 1, 2])),
        op(op::SEGMENT, &frame(command::PUBACK, "", &[0, 0, 0, 1, 0])),
        // One that is put together, one that is too large, and one that is cut short.
        op(op::SEGMENT, &frame(command::MSG, "a.b", &[2; 240])[..150]),
        op(op::SEGMENT, &frame(command::MSG, "a.b", &[2; 240])[150..]),
        op(op::EVENTS, &[0]),
        op(op::SEGMENT, &[0, 0, 3, 0, command::MSG, 0, 1, b'a']),
        op(op::CALL, &[6]),
        op(op::CALL, &[254]),
        op(op::SEGMENT, &frame(command::ERR, "last will not taken: why", &[&[3][..], b"a.b"].concat())),
        op(op::CALL, &[7]),
        op(op::SUBSCRIBE, &[128]),
        op(op::DEADLINE, b""),
        op(op::CALL, &[0]),
        op(op::WAIT, &[0; 255]),
        op(op::CALL, &[1]),
        op(op::RESET, b""),
        op(op::WAIT, &[0; 100]),
        op(op::DEADLINE, b""),
        op(op::PUBLISH, &[0; 250]),
        op(op::SEGMENT, &frame(command::CLOSE, "bye", &[1])),
        op(op::DEADLINE, b""),
        op(op::CALL, &[5]),
        op(op::EVENTS, &[0]),
    ]
    .concat();
    let original = [
        user,
        op(op::FEC_SEGMENT, &frame(command::ERR, "handle error: unknown command", b"")),
        op(op::FEC_SEGMENT, &frame(command::OK, "subscribed to a.*", b"")),
        op(op::FEC_SEGMENT, &frame(command::MSG, "a.b", b"over FEC")),
        op(op::PARITY, &[7; 60]),
        op(op::EVENTS, &[0]),
        op(op::FEC_SEGMENT, &frame(command::ERR, "invalid pattern", b"")),
        op(op::WAIT, &[0; 200]),
        op(op::SEGMENT, &[0, 0, 0, 1, 9]),
        op(op::DATAGRAM, &[0; 40]),
        op(op::DEADLINE, b""),
    ]
    .concat();
    let start = |choice: u8, operations: &[u8]| [&[choice], operations].concat();
    vec![
        ("native".to_owned(), start(1, &native)),
        ("native-late".to_owned(), start(0, &native)),
        ("original".to_owned(), start(1, &original)),
        ("original-late".to_owned(), start(0, &original)),
    ]
}
