//! The frame codec (WIRE.md 4.1).
//!
//! The input is a byte stream. [`Model`] reads it in the plainest way; whatever decodes frames must agree with it,
//! however the stream is cut into pieces.

use crate::Seed;

/// The longest body (WIRE.md 4.2).
pub const MAX_BODY: usize = 8 << 20;
/// The longest subject (WIRE.md 4.2).
pub const MAX_SUBJECT: usize = 4096;

/// One frame in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// 1 to 8 are the original's commands.
    pub command: u8,
    /// The subject; the text of OK and ERR.
    pub subject: &'a [u8],
    /// All the rest.
    pub payload: &'a [u8],
}

/// Reads frames from a stream that lies there whole. Ends at the first incomplete or malformed frame.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// What is not read yet.
    pub rest: &'a [u8],
}

impl<'a> Iterator for Model<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let body = rest.get(..length).filter(|_| length <= MAX_BODY)?;
        let (&command, body) = body.split_first()?;
        let (subject_length, body) = body.split_first_chunk()?;
        let (subject, payload) = body.split_at_checked(usize::from(u16::from_be_bytes(*subject_length)))?;
        if subject.len() > MAX_SUBJECT {
            return None;
        }
        self.rest = &rest[length..];
        Some(Frame { command, subject, payload })
    }
}

/// The bytes of a frame.
pub fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let length = u32::try_from(3 + frame.subject.len() + frame.payload.len()).expect("frames here are short");
    let subject_length = u16::try_from(frame.subject.len()).expect("subjects here are short");
    let head = [&length.to_be_bytes()[..], &[frame.command], &subject_length.to_be_bytes()].concat();
    [&head, frame.subject, frame.payload].concat()
}

/// What the model reads, its encoder writes again.
pub fn run(data: &[u8]) {
    let mut model = Model { rest: data };
    let again: Vec<u8> = model.by_ref().flat_map(|frame| encode(&frame)).collect();
    assert_eq!([&again, model.rest].concat(), data);
}

/// Every command, several frames in one stream, and each kind of malformed frame.
pub fn seeds() -> Vec<Seed> {
    let frame = |command, subject: &'static str, payload: &'static str| {
        encode(&Frame { command, subject: subject.as_bytes(), payload: payload.as_bytes() })
    };
    let conversation = [
        frame(1, "foo.*", ""),
        frame(7, "subscribed to foo.*", ""),
        frame(3, "foo.bar", "hello"),
        frame(4, "foo.bar", "hello"),
        frame(5, "", ""),
        frame(6, "", ""),
        frame(2, "foo.*", ""),
        frame(8, "handle error: unknown command: 16", ""),
    ];
    vec![
        ("conversation", conversation.concat()),
        ("pub", frame(3, "foo.bar", "hello")),
        ("empty-subject", frame(3, "", "payload")),
        ("not-utf8", [&[0, 0, 0, 5, 3, 0, 2][..], &[0xff, 0xfe]].concat()),
        ("unknown-command", frame(0x10, "", "")),
        ("body-empty", vec![0, 0, 0, 0]),
        ("body-too-short", vec![0, 0, 0, 2, 3, 0]),
        ("body-too-long", vec![0x00, 0x80, 0x00, 0x01, 3, 0, 0]),
        ("subject-overruns-body", vec![0, 0, 0, 4, 3, 0, 2, b'a']),
        ("lying-length", vec![0xff, 0xff, 0xff, 0xff, 3, 0, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_reads_the_example_of_the_specification() {
        // WIRE.md 4.1: PUB `foo.bar` `hello`.
        let bytes = b"\x00\x00\x00\x0f\x03\x00\x07foo.barhello";
        let frame = Frame { command: 3, subject: b"foo.bar", payload: b"hello" };
        assert_eq!(Model { rest: bytes }.collect::<Vec<_>>(), [frame]);
        assert_eq!(encode(&frame), bytes);
    }
}
