//! Frames out of a byte stream that comes in pieces (PROTOCOL.md 3.1).
//!
//! The first two bytes of the input say how long the pieces are, the rest is the stream. The reader has to find what
//! [`Model`] finds in the whole stream, over both stores.

use kcpq_core::frame::{Flaw, Frame, Head, Limits, Properties, Reader};
use kcpq_core::store::{Heap, HeapInbox, Inbox, Lent, LentInbox, Store};

use crate::Seed;

/// Small, so that short inputs reach them.
const LIMITS: Limits = Limits { max_body: 1000, max_subject: 100 };
/// What the inboxes hold: less than the longest frame.
const INBOX: usize = 256;

/// Cuts a stream into frames by nothing but their length fields. Ends where the rest is no whole frame.
struct Model<'a> {
    rest: &'a [u8],
}

impl<'a> Model<'a> {
    /// The length of the next frame, as soon as it is announced.
    fn announced(&self) -> Option<usize> {
        let length = self.rest.first_chunk()?;
        Some(4 + u32::from_be_bytes(*length) as usize)
    }

    /// Whether no frame can follow.
    fn is_broken(&self) -> bool {
        self.announced().is_some_and(|len| len < 4 + 3 || len > 4 + LIMITS.max_body as usize)
    }
}

impl<'a> Iterator for Model<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = self.announced().filter(|_| !self.is_broken())?;
        let (frame, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(frame)
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((cuts, stream)) = data.split_first_chunk() else { return };
    check_reader(Reader::<Heap>::new(LIMITS, HeapInbox::new(INBOX, 64)), *cuts, stream);
    check_reader(Reader::<Lent<'_>>::new(LIMITS, LentInbox::new(&mut [0; INBOX])), *cuts, stream);
    for bytes in (Model { rest: stream }) {
        check_codec(bytes);
    }
}

/// Feeds the stream piece by piece and compares each result with the model's.
fn check_reader<S: Store>(mut reader: Reader<S>, cuts: [u8; 2], stream: &[u8]) {
    let mut model = Model { rest: stream };
    let mut passed_over = None;
    let (mut rest, mut lengths) = (stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |cut| usize::from(*cut) + 1);
        let (mut piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        while !piece.is_empty() {
            let (taken, read) = reader.read(piece);
            match read {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    let bytes = frame.in_place.unwrap_or_else(|| reader.assembled());
                    assert_eq!(Some(bytes), model.next());
                    assert_eq!(frame.head, Head::from_bytes(*bytes.first_chunk().expect("a head")));
                    assert!(Frame::parse(bytes, &LIMITS).is_ok());
                }
                Err(Flaw::Oversize { limit, actual }) => {
                    assert_eq!(limit, INBOX);
                    assert!(actual > limit);
                    assert_eq!(Some(actual), model.announced());
                    if model.next().is_none() {
                        passed_over = Some(actual); // and the stream ends in it
                    }
                }
                Err(Flaw::Frame(error)) => {
                    let bytes = model.next().expect("a whole frame");
                    assert_eq!(Frame::parse(bytes, &LIMITS), Err(error));
                }
                Err(Flaw::Stream(error)) => {
                    // A length that cannot be, or a subject that is longer than its frame.
                    let whole = model.next().map(|bytes| Frame::parse(bytes, &LIMITS));
                    assert!(whole.map_or(model.is_broken(), |parsed| parsed == Err(error)));
                    return;
                }
            }
            assert!(taken > 0, "a reader that takes nothing is called for ever");
            assert!(reader.inbox().bytes().len() <= INBOX);
            piece = &piece[taken..];
        }
    }
    assert_eq!(model.next(), None, "a frame was not found");
    assert!(passed_over.is_some() || !model.is_broken());
}

/// Parses one frame that is whole by its length field.
fn check_codec(bytes: &[u8]) {
    let subject_len = usize::from(u16::from_be_bytes([bytes[5], bytes[6]]));
    let fits = subject_len <= usize::from(LIMITS.max_subject) && 7 + subject_len <= bytes.len();
    let parsed = Frame::parse(bytes, &LIMITS);
    assert_eq!(parsed.is_ok(), fits);
    let Ok(frame) = parsed else { return };
    assert_eq!((frame.command, frame.subject.len()), (bytes[4], subject_len));
    assert_eq!(frame.encoded_len(), bytes.len());

    // Whatever stands behind a message: no property reaches beyond it, and what is accepted can be read to its end.
    if let Some((message, properties)) = frame.message() {
        assert!(frame.payload.starts_with(message));
        if let Ok(properties) = Properties::parse(properties.as_bytes()) {
            let len: usize = properties.map(|property| 3 + property.value.len()).sum();
            assert_eq!(len, properties.as_bytes().len());
            assert!(properties.as_bytes().starts_with(properties.for_subscribers().as_bytes()));
            assert!(properties.headers().count() <= properties.count());
        }
    }

    let mut again = vec![0; bytes.len()];
    assert_eq!(frame.encode(&mut again), Some(bytes.len()));
    assert_eq!(again, bytes);
    assert_eq!(frame.encode(&mut again[1..]), None);
}

/// Every command, several frames in one stream, each kind of malformed frame, each with several sizes of pieces.
pub fn seeds() -> Vec<Seed> {
    let conversation = [
        frame(1, "foo.*", ""),
        frame(7, "subscribed to foo.*", ""),
        frame(3, "foo.bar", "hello"),
        frame(4, "foo.bar", "hello"),
        frame(5, "", ""),
        frame(6, "", ""),
        frame(2, "foo.*", ""),
        frame(8, "handle error: unknown command: 16", ""),
    ]
    .concat();
    let long = "x".repeat(INBOX + 1);
    let streams = [
        ("conversation", conversation),
        ("empty-subject", frame(3, "", "payload")),
        ("not-utf8", vec![0, 0, 0, 5, 3, 0, 2, 0xff, 0xfe]),
        ("native-command", frame(0x10, "", "")),
        ("properties", frame(0x15, "a", "hello\u{1}\0\u{1}r\u{2}\0\u{3}\u{1}nv\0\u{a}")),
        ("properties-cut", frame(0x16, "a", "\u{1}\0\u{9}r\0\u{4}")),
        ("longer-than-the-inbox", [frame(3, "a", &long), frame(5, "", "")].concat()),
        ("subject-too-long", frame(3, &long, "")),
        ("body-empty", vec![0, 0, 0, 0]),
        ("body-too-short", vec![0, 0, 0, 2, 3, 0]),
        ("body-too-long", vec![0, 0, 0x03, 0xe9, 3, 0, 0]),
        ("subject-overruns-body", vec![0, 0, 0, 4, 3, 0, 2, b'a']),
        ("lying-length", vec![0xff, 0xff, 0xff, 0xff, 3, 0, 0]),
    ];
    let cuts = [("whole", [255, 255]), ("bytes", [0, 0]), ("uneven", [4, 10])];
    let all = streams.iter().flat_map(|(what, stream)| {
        cuts.iter().map(move |(how, cuts)| (format!("{what}-{how}"), [&cuts[..], stream].concat()))
    });
    all.collect()
}

fn frame(command: u8, subject: &str, payload: &str) -> Vec<u8> {
    let frame = Frame { command, subject: subject.as_bytes(), payload: payload.as_bytes() };
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("the buffer has the frame's length");
    bytes
}
