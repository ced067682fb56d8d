//! What JetStream says of a message that it is to store: its PubAck
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>), a JSON object.

use kcpq_core::broker::gateway::Receipt;
use kcpq_core::puback::Stored;
use serde_json::Value;

/// A PubAck.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PubAck {
    Stored {
        sequence: u64,
        duplicate: bool,
    },
    Refused {
        why: String,
        /// It may be otherwise a moment later.
        for_now: bool,
    },
}

/// Numbers of errors that are over soon: a cluster has no leader, or not all of its servers.
const FOR_NOW: [u64; 3] = [10_005, 10_008, 10_009];
/// The code of an error of a server that is asked too much at a time.
const TOO_MUCH: u64 = 429;
/// The longest text of an error that is passed on, in bytes.
const MAX_TEXT: usize = 200;

impl PubAck {
    /// Reads one; `None` if it is none: somebody else has answered, who only listens to the subject.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        if let Some(sequence) = read_usual(payload) {
            return Some(Self::Stored { sequence, duplicate: false });
        }
        let answer: Value = serde_json::from_slice(payload).ok()?;
        if let Some(error) = answer.get("error") {
            let number = |name: &str| error[name].as_u64().unwrap_or_default();
            let text = error["description"].as_str().unwrap_or("no reason");
            let why = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_TEXT).map(|(_, c)| c).collect();
            let for_now = FOR_NOW.contains(&number("err_code")) || number("code") == TOO_MUCH;
            return Some(Self::Refused { why, for_now });
        }
        answer["stream"].as_str()?;
        let sequence = answer["seq"].as_u64().filter(|sequence| *sequence > 0)?;
        Some(Self::Stored { sequence, duplicate: answer["duplicate"].as_bool().unwrap_or(false) })
    }

    pub(super) fn receipt(&self) -> Receipt<'_> {
        match self {
            Self::Stored { sequence, duplicate } => {
                Receipt::Stored(Stored { sequence: *sequence, duplicate: *duplicate })
            }
            Self::Refused { why, for_now } => Receipt::Refused { why, for_now: *for_now },
        }
    }
}

/// The number in an answer that says nothing but that and the name of the stream, as nearly all do:
/// `{"stream":"ORDERS", "seq":7}`. `None` if it may say more: then it is read as any JSON.
fn read_usual(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(br#"{"stream":""#)?;
    let (name, rest) = rest.split_at(memchr::memchr2(b'"', b'\\', rest)?);
    let rest = rest.strip_prefix(br#"","#)?.trim_ascii_start().strip_prefix(br#""seq":"#)?;
    let digits = rest.strip_suffix(b"}")?.trim_ascii();
    let is_plain = name.iter().all(u8::is_ascii_graphic) && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()?;
    Some(number).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jetstream_says_is_understood() {
        let read = |text: &str| PubAck::read(text.as_bytes());
        assert_eq!(read(r#"{"stream":"ORDERS","seq":7}"#), Some(PubAck::Stored { sequence: 7, duplicate: false }));
        assert_eq!(
            read(r#"{"stream":"ORDERS","domain":"hub","seq":18446744073709551615,"duplicate":true}"#),
            Some(PubAck::Stored { sequence: u64::MAX, duplicate: true })
        );
        let error = |code: u32, number: u32, text: &str| {
            read(&format!(
                r#"{{"error":{{"code":{code},"err_code":{number},"description":"{text}"}},"stream":"ORDERS","seq":0}}"#
            ))
        };
        let refused = |why: &str, for_now| Some(PubAck::Refused { why: why.into(), for_now });
        assert_eq!(error(503, 10_077, "maximum messages exceeded"), refused("maximum messages exceeded", false));
        assert_eq!(error(503, 10_008, "unavailable"), refused("unavailable", true));
        assert_eq!(error(429, 10_167, "too many requests"), refused("too many requests", true));
        assert_eq!(error(500, 1, &"ä".repeat(150)), refused(&"ä".repeat(100), false));
        assert_eq!(read(r#"{"error":{}}"#), refused("no reason", false));
        for (usual, number) in [
            (r#"{"stream":"O","seq":1}"#, Some(1)),
            (r#"{"stream":"O", "seq":20}"#, Some(20)),
            (r#"{"stream":"O", "seq": 20 }"#, Some(20)),
            (r#"{"stream":"O","seq":0}"#, None),
            (r#"{"stream":"O","seq":+1}"#, None),
            (r#"{"stream":"O","seq":18446744073709551616}"#, None),
            (r#"{"stream":"O","seq":1,"duplicate":true}"#, None),
            (r#"{"stream":"O","domain":"hub","seq":1}"#, None),
            (r#"{"stream":"\"","seq":1}"#, None),
        ] {
            assert_eq!(read_usual(usual.as_bytes()), number, "{usual}");
        }
        for other in
            ["", "thanks", "7", "[]", "{}", r#"{"stream":"ORDERS"}"#, r#"{"stream":"O","seq":0}"#, r#"{"seq":1}"#]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
