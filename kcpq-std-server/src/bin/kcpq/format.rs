//! How messages are printed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kcpq_smol::Message;
use serde_json::json;

/// The ways to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Subject and payload as they are, a line for each.
    Text,
    /// The same for people: what a terminal would act on is escaped.
    Terminal,
    /// The payload alone, byte for byte.
    Raw,
    /// The payload, a line for each.
    Lines,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Appends the message to `out`.
    pub(super) fn write(self, message: &Message, out: &mut Vec<u8>) {
        self.write_parts(message.subject(), message.payload(), out);
    }

    fn write_parts(self, subject: &str, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Raw => return out.extend_from_slice(payload),
            Self::Text => {
                out.extend_from_slice(subject.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(payload);
            }
            Self::Terminal => {
                escape(subject.as_bytes(), out);
                out.extend_from_slice(b": ");
                escape(payload, out);
            }
            Self::Lines => {
                for byte in payload {
                    match byte {
                        b'\n' => out.extend_from_slice(b"\\n"),
                        b'\r' => out.extend_from_slice(b"\\r"),
                        byte => out.push(*byte),
                    }
                }
            }
            Self::Json => {
                let object = match std::str::from_utf8(payload) {
                    Ok(text) => json!({ "subject": subject, "payload": text }),
                    Err(_) => json!({ "subject": subject, "payload_base64": BASE64_STANDARD.encode(payload) }),
                };
                out.extend_from_slice(object.to_string().as_bytes());
            }
        }
        out.push(b'\n');
    }
}

/// Text, but control characters and what is no text as `\n`, `\u{1b}` or `\xff`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() {
                out.extend(char.escape_default().map(|char| char as u8));
            } else {
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            out.extend(format!("\\x{byte:02x}").bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, payload: &[u8]) -> String {
        let mut out = Vec::new();
        format.write_parts("a.b", payload, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn raw_adds_nothing() {
        assert_eq!(written(Format::Raw, b"one\ntwo"), "one\ntwo");
        assert_eq!(written(Format::Raw, b""), "");
    }

    #[test]
    fn a_line_is_a_line_whatever_is_in_it() {
        assert_eq!(written(Format::Lines, b"one\r\ntwo"), "one\\r\\ntwo\n");
        assert_eq!(written(Format::Lines, b""), "\n");
        assert_eq!(written(Format::Text, b"one"), "a.b: one\n");
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_acts_on() {
        let tricky = "red \u{1b}[31m\u{9b}2J\u{7}\nx.y: forged\t\u{fc}".as_bytes();
        let shown = written(Format::Terminal, tricky);
        assert_eq!(shown, "a.b: red \\u{1b}[31m\\u{9b}2J\\u{7}\\nx.y: forged\\t\u{fc}\n");
        assert_eq!(written(Format::Terminal, b"\xff\xfe"), "a.b: \\xff\\xfe\n");
    }

    #[test]
    fn json_carries_everything() {
        let parsed =
            |payload: &[u8]| serde_json::from_str::<serde_json::Value>(&written(Format::Json, payload)).unwrap();
        assert_eq!(parsed(b"a \"quote\"\n"), json!({ "subject": "a.b", "payload": "a \"quote\"\n" }));
        assert_eq!(parsed(b"\xff\x00"), json!({ "subject": "a.b", "payload_base64": "/wA=" }));
    }
}
