//! The frame codec against frames that the original's encoder wrote and verdicts that its parser gave.

#[path = "common/json.rs"]
mod json;

use fastrand::Rng;
use kcpq_core::frame::{Flaw, Frame, FrameError, Limits, Reader, Whole};
use kcpq_core::store::{Heap, HeapInbox, Inbox, Lent, LentInbox, Store};
use serde_json::Value;

use self::json::{hex, list, number, text};

const VECTORS: &str = include_str!("vectors/frames.json");
const VERSIONS: [(&str, Limits); 2] = [("v2.0", Limits::NONE), ("v2.1", Limits::KCPQ)];

/// A frame with its own memory.
#[derive(Debug, PartialEq)]
struct Owned {
    command: u8,
    subject: Vec<u8>,
    payload: Vec<u8>,
}

impl Owned {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, FrameError> {
        let frame = Frame::parse(bytes, limits)?;
        Ok(Self { command: frame.command, subject: frame.subject.to_vec(), payload: frame.payload.to_vec() })
    }

    fn borrowed(&self) -> Frame<'_> {
        Frame { command: self.command, subject: &self.subject, payload: &self.payload }
    }
}

/// What a reader made of a stream: the frames up to its end, or to the first error.
type Outcome = (Vec<Owned>, Option<FrameError>);

/// Feeds `stream` in pieces whose lengths `piece` gives; bytes that were not taken come again at once.
fn read<S: Store>(mut reader: Reader<S>, stream: &[u8], mut piece: impl FnMut() -> usize) -> Outcome {
    let mut frames = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut input, behind) = rest.split_at(piece().clamp(1, rest.len()));
        rest = behind;
        while !input.is_empty() {
            let limits = *reader.limits();
            let (taken, read) = reader.read(input);
            let parsed = match read {
                Ok(None) => None,
                Ok(Some(Whole { in_place: Some(frame), .. })) => Some(Owned::parse(frame, &limits)),
                Ok(Some(_)) => Some(Owned::parse(reader.inbox().take().as_ref(), &limits)),
                Err(Flaw::Oversize { limit, actual }) => panic!("frame of {actual} bytes, the inbox takes {limit}"),
                Err(Flaw::Frame(error) | Flaw::Stream(error)) => return (frames, Some(error)),
            };
            match parsed {
                Some(Ok(frame)) => frames.push(frame),
                Some(Err(error)) => return (frames, Some(error)),
                None => {}
            }
            assert!(taken > 0, "a reader that takes nothing would spin");
            input = &input[taken..];
        }
    }
    (frames, None)
}

/// Reads `stream` over both stores: whole, in random pieces, byte by byte. All must agree.
fn read_all_ways(stream: &[u8], limits: Limits) -> Outcome {
    let heap = || Reader::<Heap>::new(limits, HeapInbox::new(usize::MAX, 4096));
    // A frame of any announced length may begin to be put together, so the slice is as long as what can come.
    let mut memory = vec![0; stream.len()];
    let outcome = read(heap(), stream, || usize::MAX);
    assert_eq!(read(heap(), stream, || 1), outcome, "byte by byte");
    for seed in 0..4 {
        let mut rng = Rng::with_seed(seed);
        let longest = rng.usize(2..40).max(stream.len() / 50);
        assert_eq!(read(heap(), stream, || rng.usize(1..=longest)), outcome, "seed {seed}");
    }
    // What is announced but not there would be called oversize here, so only what is complete is read.
    let complete = outcome.0.iter().map(|frame| frame.borrowed().encoded_len()).sum();
    if outcome.1.is_none() {
        let mut lent = |piece: &mut dyn FnMut() -> usize| {
            let inbox = LentInbox::new(&mut memory);
            read(Reader::<Lent<'_>>::new(limits, inbox), &stream[..complete], piece)
        };
        assert_eq!(lent(&mut || usize::MAX), outcome);
        assert_eq!(lent(&mut || 1), outcome, "byte by byte");
        let mut rng = Rng::with_seed(9);
        assert_eq!(lent(&mut || rng.usize(1..50)), outcome);
    }
    outcome
}

/// The recording's name of an error.
fn class(error: FrameError) -> &'static str {
    match error {
        FrameError::BodyTooShort { .. } => "body_too_short",
        FrameError::BodyTooLarge { .. } => "body_too_large",
        FrameError::SubjectOverrunsBody { .. } => "subject_overruns_body",
        FrameError::SubjectTooLong { .. } => "subject_too_long",
        FrameError::Incomplete => "need_more_data",
        other => panic!("{other}: recorded under no name"),
    }
}

/// Expects of the first frame in `bytes` what the original's parser said about it.
fn expect_verdict(name: &str, version: &str, verdict: &Value, bytes: &[u8], limits: &Limits) -> Outcome {
    let parsed = Owned::parse(bytes, limits);
    let outcome = read_all_ways(bytes, *limits);
    if text(&verdict["result"]) == "ok" {
        assert_eq!(outcome.0.first(), parsed.ok().as_ref(), "{name} {version}");
        assert!(!outcome.0.is_empty(), "{name} {version}");
    } else {
        let want = text(&verdict["class"]);
        assert_eq!(parsed.map_err(class), Err(want), "{name} {version}");
        // A reader waits for what is missing; that is no error of the stream.
        assert_eq!(outcome.1.map_or("need_more_data", class), want, "{name} {version}");
        assert!(outcome.0.is_empty());
    }
    outcome
}

/// A field that is given in full, or as a description such as "4097 x 's'" or "8388598 zero bytes".
fn field(entry: &Value, name: &str) -> Vec<u8> {
    let full = &entry[format!("{name}_hex")];
    if full.is_string() {
        return hex(full);
    }
    let description = text(&entry[format!("{name}_desc")]);
    let count = description.split(' ').next().unwrap().parse().unwrap();
    vec![if description.ends_with("zero bytes") { 0 } else { b's' }; count]
}

/// The bytes of a frame as the original writes them; a subject length beyond the field wraps there.
fn original_bytes(command: u8, subject: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = (3 + subject.len() + payload.len()) as u32;
    [&body.to_be_bytes()[..], &[command], &(subject.len() as u16).to_be_bytes(), subject, payload].concat()
}

#[test]
fn frames_are_encoded_as_the_original_does() {
    let vectors = json::parse(VECTORS);
    for entry in list(&vectors["encode"]) {
        let name = text(&entry["name"]);
        let (subject, payload) = (field(entry, "subject"), field(entry, "payload"));
        let command = number(&entry["command"]) as u8;
        let frame = Frame { command, subject: &subject, payload: &payload };
        let len = number(&entry["len"]) as usize;
        let mut out = vec![0xee; len];
        if subject.len() > usize::from(u16::MAX) {
            // The original writes a frame that says something else; here it is refused.
            assert_eq!(frame.encode(&mut out), None, "{name}");
        } else {
            assert_eq!(frame.encoded_len(), len, "{name}");
            assert_eq!(frame.encode(&mut out[..len - 1]), None, "{name}: one byte too few");
            assert_eq!(frame.encode(&mut out), Some(len), "{name}");
            let head = Frame::head(command, subject.len(), payload.len()).unwrap();
            assert_eq!(head, out[..head.len()], "{name}");
        }
        let bytes = original_bytes(command, &subject, &payload);
        if entry["frame_hex"].is_string() {
            assert_eq!(bytes, hex(&entry["frame_hex"]), "{name}");
        } else {
            assert!(bytes.starts_with(&hex(&entry["head_hex"])), "{name}");
            assert!(bytes.ends_with(&hex(&entry["tail_hex"])), "{name}");
        }
        if subject.len() <= usize::from(u16::MAX) {
            assert!(out == bytes, "{name}");
        }
        for (version, limits) in VERSIONS {
            let verdict = &entry["stream_parse"][version];
            let (frames, _) = expect_verdict(name, version, verdict, &bytes, &limits);
            if let Some(first) = frames.first()
                && subject.len() <= usize::from(u16::MAX)
            {
                assert!(*first == Owned { command, subject: subject.clone(), payload: payload.clone() }, "{name}");
            }
        }
    }
}

#[test]
fn malformed_and_partial_frames_are_judged_as_the_original_does() {
    let vectors = json::parse(VECTORS);
    for entry in list(&vectors["parse"]) {
        let bytes = hex(&entry["hex"]);
        for (version, limits) in VERSIONS {
            expect_verdict(text(&entry["name"]), version, &entry["stream_parse"][version], &bytes, &limits);
        }
    }
}

#[test]
fn all_frames_in_one_stream_come_out_one_by_one() {
    let vectors = json::parse(VECTORS);
    let mut stream = Vec::new();
    let mut want = Vec::new();
    for entry in list(&vectors["encode"]) {
        let (subject, payload) = (field(entry, "subject"), field(entry, "payload"));
        if subject.len() > 4096 || payload.len() > 10_000 {
            continue;
        }
        let command = number(&entry["command"]) as u8;
        stream.extend(original_bytes(command, &subject, &payload));
        want.push(Owned { command, subject, payload });
    }
    assert!(want.len() > 25);
    assert_eq!(read_all_ways(&stream, Limits::KCPQ), (want, None));
}
