//! How messages are printed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kcpq_smol::Message;
use serde_json::json;

/// The ways to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Subject and payload as they are, a line for each; before it a line for each header.
    Text { headers: bool },
    /// The same for people: what a terminal would act on is escaped.
    Terminal { headers: bool },
    /// The payload alone, byte for byte.
    Raw,
    /// The payload, a line for each.
    Lines,
    /// The payload and a line end; for a terminal escaped.
    Payload { terminal: bool },
    /// The subject alone, a line for each; for a terminal escaped.
    Subject { terminal: bool },
    /// One JSON object a line.
    Json,
}

/// What is printed of a message.
#[derive(Clone)]
struct Parts<'m> {
    subject: &'m str,
    payload: &'m [u8],
    headers: &'m [(&'m str, &'m str)],
    reply_to: Option<&'m str>,
    /// For how long the server has kept it, if it is no new one.
    kept: Option<Duration>,
    /// What is known of it, if it was stored.
    stored: Option<Stored>,
    /// When it came, if that is printed.
    time: Option<&'m str>,
}

/// What is known of a stored message.
#[derive(Clone, Debug)]
struct Stored {
    sequence: u64,
    stored_at: String,
    deliveries: u32,
}

impl Format {
    /// Appends the message to `out`; with `time`, where it says when it came.
    pub(super) fn write(self, message: &Message, time: Option<SystemTime>, out: &mut Vec<u8>) {
        let headers: Vec<_> = message.headers().iter().collect();
        let (subject, payload, reply_to) = (message.subject(), message.payload(), message.reply_to());
        let time = time.map(|time| humantime::format_rfc3339_micros(time).to_string());
        let (time, kept) = (time.as_deref(), message.age());
        let stored = message.sequence().zip(message.stored_at()).map(|(sequence, at)| Stored {
            sequence,
            stored_at: humantime::format_rfc3339_millis(at).to_string(),
            deliveries: message.deliveries(),
        });
        self.write_parts(Parts { subject, payload, headers: &headers, reply_to, kept, stored, time }, out);
    }

    fn write_parts(self, parts: Parts<'_>, out: &mut Vec<u8>) {
        let Parts { subject, payload, headers, reply_to, kept, stored, time } = parts;
        let stamp = time.map(|time| format!("{time} ")).unwrap_or_default();
        if matches!(self, Self::Subject { .. } | Self::Payload { .. } | Self::Lines) {
            out.extend_from_slice(stamp.as_bytes());
        }
        match self {
            Self::Raw => return out.extend_from_slice(payload),
            Self::Text { headers: shown } => {
                for (name, value) in headers.iter().filter(|_| shown) {
                    out.extend_from_slice(format!("{name}: {value}\n").as_bytes());
                }
                out.extend_from_slice(stamp.as_bytes());
                out.extend_from_slice(subject.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(payload);
            }
            Self::Terminal { headers: shown } => {
                for (name, value) in headers.iter().filter(|_| shown) {
                    escape(format!("{name}: {value}").as_bytes(), out);
                    out.push(b'\n');
                }
                out.extend_from_slice(stamp.as_bytes());
                escape(subject.as_bytes(), out);
                out.extend_from_slice(b": ");
                escape(payload, out);
            }
            Self::Subject { terminal: true } => escape(subject.as_bytes(), out),
            Self::Subject { terminal: false } => out.extend_from_slice(subject.as_bytes()),
            Self::Payload { terminal: true } => escape(payload, out),
            Self::Payload { terminal: false } => out.extend_from_slice(payload),
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
                let mut object = match std::str::from_utf8(payload) {
                    Ok(text) => json!({ "subject": subject, "payload": text }),
                    Err(_) => json!({ "subject": subject, "payload_base64": BASE64_STANDARD.encode(payload) }),
                };
                if !headers.is_empty() {
                    let mut all = BTreeMap::<_, Vec<_>>::new();
                    headers.iter().for_each(|(name, value)| all.entry(name).or_default().push(value));
                    object["headers"] = json!(all);
                }
                if let Some(time) = time {
                    object["time"] = json!(time);
                }
                if let Some(subject) = reply_to {
                    object["reply_to"] = json!(subject);
                }
                if let Some(Stored { sequence, stored_at, deliveries }) = stored {
                    object["sequence"] = json!(sequence);
                    object["stored_at"] = json!(stored_at);
                    object["deliveries"] = json!(deliveries);
                }
                if let Some(age) = kept {
                    object["kept_ms"] = json!(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                }
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
        with_headers(format, payload, &[])
    }

    fn with_headers(format: Format, payload: &[u8], headers: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        let reply_to = headers.first().map(|_| "r");
        let kept = headers.first().map(|_| Duration::from_millis(1_500));
        let stored = headers.first().map(|_| Stored { sequence: 7, stored_at: "2026".into(), deliveries: 2 });
        format.write_parts(Parts { subject: "a.b", payload, headers, reply_to, kept, stored, time: None }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_printed_where_that_is_asked_for() {
        let headers = [("x", "1"), ("y", "\u{9b}"), ("x", "2")];
        let text = with_headers(Format::Text { headers: true }, b"one", &headers[..1]);
        assert_eq!(text, "x: 1\na.b: one\n");
        let terminal = with_headers(Format::Terminal { headers: true }, b"one", &headers);
        assert_eq!(terminal, "x: 1\ny: \\u{9b}\nx: 2\na.b: one\n");
        assert_eq!(with_headers(TEXT, b"one", &headers), "a.b: one\n");
        let json: serde_json::Value = serde_json::from_str(&with_headers(Format::Json, b"1", &headers)).unwrap();
        let all = json!({ "x": ["1", "2"], "y": ["\u{9b}"] });
        assert_eq!(
            json,
            json!({
                "subject": "a.b", "payload": "1", "headers": all, "reply_to": "r", "kept_ms": 1_500,
                "sequence": 7, "stored_at": "2026", "deliveries": 2,
            })
        );
    }

    const TEXT: Format = Format::Text { headers: false };
    const TERMINAL: Format = Format::Terminal { headers: false };

    #[test]
    fn raw_adds_nothing() {
        assert_eq!(written(Format::Raw, b"one\ntwo"), "one\ntwo");
        assert_eq!(written(Format::Raw, b""), "");
    }

    #[test]
    fn a_line_is_a_line_whatever_is_in_it() {
        assert_eq!(written(Format::Lines, b"one\r\ntwo"), "one\\r\\ntwo\n");
        assert_eq!(written(Format::Lines, b""), "\n");
        assert_eq!(written(TEXT, b"one"), "a.b: one\n");
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_acts_on() {
        let tricky = "red \u{1b}[31m\u{9b}2J\u{7}\nx.y: forged\t\u{fc}".as_bytes();
        let shown = written(TERMINAL, tricky);
        assert_eq!(shown, "a.b: red \\u{1b}[31m\\u{9b}2J\\u{7}\\nx.y: forged\\t\u{fc}\n");
        assert_eq!(written(TERMINAL, b"\xff\xfe"), "a.b: \\xff\\xfe\n");
    }

    #[test]
    fn the_time_stands_before_the_message_or_in_it() {
        let timed = |format: Format| {
            let (mut out, time) = (Vec::new(), Some("2026-01-01T00:00:00Z"));
            format.write_parts(
                Parts { subject: "a", payload: b"b", headers: &[], reply_to: None, kept: None, stored: None, time },
                &mut out,
            );
            String::from_utf8(out).unwrap()
        };
        assert_eq!(timed(TEXT), "2026-01-01T00:00:00Z a: b\n");
        assert_eq!(timed(Format::Subject { terminal: false }), "2026-01-01T00:00:00Z a\n");
        assert_eq!(timed(Format::Lines), "2026-01-01T00:00:00Z b\n");
        assert_eq!(timed(Format::Raw), "b");
        let json: serde_json::Value = serde_json::from_str(&timed(Format::Json)).unwrap();
        assert_eq!(json["time"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn json_carries_everything() {
        let parsed =
            |payload: &[u8]| serde_json::from_str::<serde_json::Value>(&written(Format::Json, payload)).unwrap();
        assert_eq!(parsed(b"a \"quote\"\n"), json!({ "subject": "a.b", "payload": "a \"quote\"\n" }));
        assert_eq!(parsed(b"\xff\x00"), json!({ "subject": "a.b", "payload_base64": "/wA=" }));
    }
}
