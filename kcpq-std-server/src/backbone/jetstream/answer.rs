//! What JetStream answers, and what it says of a message.

use kcpq_core::hello::Refusal;
use serde_json::Value;

use super::Sent;
use crate::view::StreamView;

/// What JetStream says that it does not find, by its own numbers; and that a pattern asks for what is not in the stream.
pub(super) const NO_CONSUMER: u64 = 10_014;
const NO_STREAM: u64 = 10_059;
const NOT_IN_STREAM: u64 = 10_093;

/// What that means for who asks.
pub(super) fn refusal(code: u64, number: u64) -> Refusal {
    match (code, number) {
        (_, NO_STREAM | NOT_IN_STREAM) => Refusal::NoStream,
        (503 | 504, _) => Refusal::StoreAway,
        _ => Refusal::StoreRefused,
    }
}

/// What is said of a stream.
pub(super) fn stream(value: &Value) -> StreamView {
    let (config, state) = (&value["config"], &value["state"]);
    let number = |name: &str| state[name].as_u64().unwrap_or_default();
    let subjects = config["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // Of an empty one the year 1 is said.
    let time = |name: &str| state[name].as_str().filter(|_| number("messages") > 0).map(str::to_owned);
    StreamView {
        name: config["name"].as_str().unwrap_or_default().to_owned(),
        subjects: subjects.map(str::to_owned).collect(),
        messages: number("messages"),
        bytes: number("bytes"),
        first_sequence: number("first_seq"),
        last_sequence: number("last_seq"),
        first_time: time("first_ts"),
        last_time: time("last_ts"),
        consumers: number("consumer_count"),
    }
}

/// What a question is answered with.
pub(super) enum Answer {
    Done(Value),
    Error { code: u64, number: u64, text: String },
}

impl Answer {
    /// Reads it.
    pub(super) fn read(sent: &Sent<'_>) -> Self {
        if let Some(code) = sent.headers.status {
            return Self::Error { code: code.into(), number: 0, text: format!("JetStream is not there ({code})") };
        }
        let Ok(answer) = serde_json::from_slice::<Value>(sent.payload) else {
            return Self::Error {
                code: 500,
                number: 0,
                text: "JetStream has answered something that is no JSON".into(),
            };
        };
        let error = &answer["error"];
        if error.is_null() {
            return Self::Done(answer);
        }
        let text = error["description"].as_str().unwrap_or("without a word");
        let number = |name: &str| error[name].as_u64().unwrap_or_default();
        Self::Error { code: number("code"), number: number("err_code"), text: format!("JetStream says: {text}") }
    }
}

/// What the subject says by which a message is acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) deliveries: u32,
    pub(super) sequence: u64,
    pub(super) place: u64,
    pub(super) stored_at: u64,
    pub(super) pending: u64,
}

impl Place {
    /// `$JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQUENCE.PLACE.NANOSECONDS.PENDING`; in later versions domain and account stand before
    /// the stream, and more may follow.
    pub(super) fn read(subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        let skipped = if rest.split('.').count() >= 9 { 4 } else { 2 };
        let mut numbers = rest.split('.').skip(skipped).map_while(|token| token.parse::<u64>().ok());
        let mut next = || numbers.next();
        Some(Self {
            deliveries: u32::try_from(next()?).unwrap_or(u32::MAX),
            sequence: next()?,
            place: next()?,
            stored_at: next()? / 1_000_000,
            pending: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ANSWERS;
    use super::super::wire::Headers;
    use super::*;

    #[test]
    fn the_place_of_a_message_is_read_from_old_and_new_subjects() {
        let place = Place { deliveries: 2, sequence: 30, place: 4, stored_at: 1_795_734_759_700, pending: 5 };
        for subject in [
            "$JS.ACK.S.c.2.30.4.1795734759700606634.5",
            "$JS.ACK.domain.hash.S.c.2.30.4.1795734759700606634.5",
            "$JS.ACK.domain.hash.S.c.2.30.4.1795734759700606634.5.token",
        ] {
            assert_eq!(Place::read(subject).as_ref(), Some(&place), "{subject}");
        }
        for subject in ["$JS.ACK.S.c.2.30.4", "_INBOX.x", "$JS.ACK.S.c.a.30.4.1795734759700606634.5"] {
            assert_eq!(Place::read(subject), None, "{subject}");
        }
    }

    #[test]
    fn what_jetstream_says_no_to_is_told_apart() {
        let headers = Headers::default();
        let read = |payload: &str| {
            let sent = Sent { sid: ANSWERS, subject: "", reply: None, headers: &headers, payload: payload.as_bytes() };
            match Answer::read(&sent) {
                Answer::Done(_) => None,
                Answer::Error { code, number, text } => Some((refusal(code, number), text)),
            }
        };
        assert_eq!(read("{\"streams\":null}"), None);
        let (why, text) = read(r#"{"error":{"code":503,"err_code":10039,"description":"not enabled"}}"#).unwrap();
        assert_eq!((why, &*text), (Refusal::StoreAway, "JetStream says: not enabled"));
        let (why, _) = read(r#"{"error":{"code":400,"err_code":10093,"description":"x"}}"#).unwrap();
        assert_eq!(why, Refusal::NoStream);
        assert_eq!(read("no").unwrap().0, Refusal::StoreRefused);
    }
}
