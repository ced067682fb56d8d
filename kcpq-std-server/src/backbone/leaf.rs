//! The protocol of leaf nodes on the wire, as nats-server speaks it (`server/leafnode.go` and `server/parser.go` of 2.9.10): what a
//! hub says besides what it says to clients, and what is said to it. No socket here.
//!
//! ```text
//! LS+ SUBJECT [GROUP WEIGHT]                         what is wanted there, or with another weight
//! LS- SUBJECT [GROUP]                                that it is not any more
//! LMSG SUBJECT [REPLY] LENGTH                        a message for who wants it and is in no group
//! LMSG SUBJECT (| | + REPLY) GROUP .. LENGTH         and for one member of each of these groups
//! HMSG SUBJECT .. HEADERS LENGTH                     the same with headers, which are part of the length
//! ```

use std::io::Write as _;

use kcpq_core::broker::gateway::Publish;

use super::wire::{self, NotNats, Op};

/// What a line begins with.
const WORDS: [&[u8]; 9] = [b"INFO", b"+OK", b"-ERR", b"PING", b"PONG", b"LS+", b"LS-", b"LMSG", b"HMSG"];

/// Reads what stands in front of `bytes`: it, and how long it is. `None` if the rest has not come. No message is larger than
/// `max_payload`.
///
/// # Errors
/// It is no NATS.
pub(super) fn parse(bytes: &[u8], max_payload: usize) -> Result<Option<(Op<'_>, usize)>, NotNats> {
    let Some((word, rest, end)) = wire::line(bytes, &WORDS)? else { return Ok(None) };
    let op = match word {
        b"LS+" | b"LS-" => interest(word == b"LS+", wire::text(rest)?)?,
        b"LMSG" | b"HMSG" => {
            let head = Head::read(wire::text(rest)?, word == b"HMSG").ok_or(NotNats)?;
            let Some((headers, payload, len)) = wire::body(&bytes[end..], head.headers, head.total, max_payload)?
            else {
                return Ok(None);
            };
            let Head { subject, reply, groups, .. } = head;
            return Ok(Some((Op::Routed { subject, reply, groups, headers, payload }, end + len)));
        }
        _ => wire::word(word, rest)?,
    };
    Ok(Some((op, end)))
}

fn interest(wanted: bool, line: &str) -> Result<Op<'_>, NotNats> {
    let mut words = line.split_ascii_whitespace();
    let subject = words.next().ok_or(NotNats)?;
    let group = words.next();
    // The weight tells servers of a cluster how to share; here is one member, whatever its weight.
    let weight = words.next();
    let is_whole = words.next().is_none() && weight.is_some() == (wanted && group.is_some());
    if is_whole { Ok(Op::Interest { subject, group, wanted }) } else { Err(NotNats) }
}

/// What the line of a message says.
struct Head<'b> {
    subject: &'b str,
    reply: Option<&'b str>,
    /// With a space between them.
    groups: &'b str,
    /// Bytes of the headers, if it is to have some, and of all.
    headers: Option<usize>,
    total: usize,
}

impl<'b> Head<'b> {
    fn read(line: &'b str, has_headers: bool) -> Option<Self> {
        let (subject, rest) = first(line)?;
        let (rest, total) = last(rest);
        let (rest, headers) = if has_headers {
            let (rest, headers) = last(rest);
            (rest, Some(headers.parse().ok()?))
        } else {
            (rest, None)
        };
        let (reply, groups) = match first(rest) {
            Some(("|", groups)) if !groups.is_empty() => (None, groups),
            Some(("+", rest)) => {
                let (reply, groups) = first(rest).filter(|(_, groups)| !groups.is_empty())?;
                (Some(reply), groups)
            }
            Some((reply, "")) if !matches!(reply, "|" | "+") => (Some(reply), ""),
            Some(_) => return None,
            None => (None, ""),
        };
        Some(Self { subject, reply, groups, headers, total: total.parse().ok()? })
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The first word, and what follows it; `None` if there is none.
fn first(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_matches(BLANKS);
    let (word, rest) = text.split_once(BLANKS).unwrap_or((text, ""));
    (!word.is_empty()).then(|| (word, rest.trim_matches(BLANKS)))
}

/// What stands before the last word, and that, which may be empty.
fn last(text: &str) -> (&str, &str) {
    let text = text.trim_matches(BLANKS);
    text.rsplit_once(BLANKS).map_or(("", text), |(rest, word)| (rest.trim_matches(BLANKS), word))
}

// --- what a leaf node says ---

/// Appends a message. There may be hundreds of thousands in a second, so nothing is formatted.
pub(super) fn publish(out: &mut Vec<u8>, message: &Publish<'_>) {
    let has_headers = message.size() > message.payload.len();
    out.extend_from_slice(if has_headers { b"HMSG " } else { b"LMSG " });
    out.extend_from_slice(message.subject.as_bytes());
    out.push(b' ');
    if !message.groups.is_empty() {
        out.extend_from_slice(if message.reply.is_some() { b"+ " } else { b"| " });
    }
    for part in message.reply.into_iter().chain(Some(message.groups).filter(|groups| !groups.is_empty())) {
        out.extend_from_slice(part.as_bytes());
        out.push(b' ');
    }
    wire::message_body(out, message);
}

/// Appends that a pattern is wanted, of a group by so many members.
pub(super) fn want(out: &mut Vec<u8>, subject: &str, group: Option<&str>, weight: u32) {
    // Writing to memory does not fail.
    let _ = match group {
        Some(group) => write!(out, "LS+ {subject} {group} {weight}\r\n"),
        None => write!(out, "LS+ {subject}\r\n"),
    };
}

/// Appends that it is not any more.
pub(super) fn unwant(out: &mut Vec<u8>, subject: &str, group: Option<&str>) {
    let _ = match group {
        Some(group) => write!(out, "LS- {subject} {group}\r\n"),
        None => write!(out, "LS- {subject}\r\n"),
    };
}

#[cfg(test)]
mod tests {
    use super::super::wire::Headers;
    use super::*;

    fn all(mut bytes: &[u8]) -> Vec<String> {
        let mut ops = Vec::new();
        while let Some((op, len)) = parse(bytes, 1_000).unwrap() {
            ops.push(format!("{op:?}"));
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty(), "{bytes:?} is left");
        ops
    }

    #[test]
    fn what_a_hub_says_is_read_wherever_it_is_cut() {
        let said: &[u8] = b"INFO {\"a\":1} \r\nLS+ a.*\r\nLS+ jobs.> workers 3\r\nLS- a.*\r\nLS- jobs.> workers\r\n\
            LMSG a.b 3\r\nxyz\r\nLMSG a.b re.1 0\r\n\r\nLMSG a | g 1\r\nx\r\nLMSG a + re g h 1\r\ny\r\n\
            HMSG h 22 24\r\nNATS/1.0\r\nUnit:  K\r\n\r\nhi\r\nHMSG h re 22 22\r\nNATS/1.0\r\nUnit:  K\r\n\r\n\r\n\
            HMSG h | g 22 23\r\nNATS/1.0\r\nUnit:  K\r\n\r\nz\r\nPING\r\nPONG\r\n-ERR 'Loop detected'\r\n";
        let routed = |subject, reply, groups, payload| Op::Routed {
            subject,
            reply,
            groups,
            headers: Headers::default(),
            payload,
        };
        let headers = || Headers { status: None, reason: "", size: 22, all: vec![("Unit", "K")] };
        let interest = |subject, group, wanted| Op::Interest { subject, group, wanted };
        let wanted: Vec<String> = [
            Op::Info(b"{\"a\":1}"),
            interest("a.*", None, true),
            interest("jobs.>", Some("workers"), true),
            interest("a.*", None, false),
            interest("jobs.>", Some("workers"), false),
            routed("a.b", None, "", b"xyz"),
            routed("a.b", Some("re.1"), "", b""),
            routed("a", None, "g", b"x"),
            routed("a", Some("re"), "g h", b"y"),
            Op::Routed { subject: "h", reply: None, groups: "", headers: headers(), payload: b"hi" },
            Op::Routed { subject: "h", reply: Some("re"), groups: "", headers: headers(), payload: b"" },
            Op::Routed { subject: "h", reply: None, groups: "g", headers: headers(), payload: b"z" },
            Op::Ping,
            Op::Pong,
            Op::Error("Loop detected"),
        ]
        .iter()
        .map(|op| format!("{op:?}"))
        .collect();
        assert_eq!(all(said), wanted);
        // Whatever has come of it, what is whole is read, and the rest is waited for.
        for cut in 0..said.len() {
            let (mut rest, mut count) = (&said[..cut], 0);
            while let Some((op, len)) = parse(rest, 1_000).unwrap() {
                assert_eq!(format!("{op:?}"), wanted[count], "cut at {cut}");
                (rest, count) = (&rest[len..], count + 1);
            }
        }
    }

    #[test]
    fn what_is_no_hub_is_refused() {
        for wrong in [
            "MSG a 1 3\r\nxyz\r\n",
            "LS+\r\n",
            "LS+ a g\r\n",
            "LS+ a g 1 2\r\n",
            "LS- a g 1 2\r\n",
            "LMSG a\r\n",
            "LMSG a x\r\n",
            "LMSG a | 3\r\nxyz\r\n",
            "LMSG a + re 3\r\nxyz\r\n",
            "LMSG a re g 3\r\nxyz\r\n",
            "LMSG a 99999999\r\n",
            "HMSG a 3\r\nxyz\r\n",
            "HMSG a 4 3\r\nxyz\r\n",
            "HTTP/1.1 400\r\n",
            "GET",
        ] {
            assert!(parse(wrong.as_bytes(), 1_000).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused_and_never_more_than_has_come() {
        let begin: &[u8] = b"LS+ a.* g 2\r\nLMSG a.b + re g h 3\r\nxyz\r\nHMSG h | g 22 23\r\nNATS/1.0\r\nUnit:  K\r\n\r\nz\r\nLS- a\r\n";
        let mut rng = fastrand::Rng::with_seed(19);
        for _ in 0..20_000 {
            let mut bytes = begin.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = *rng.choice(b"\r\n |+-019LHMSG.>*\xff").unwrap(),
                    2 => drop(bytes.remove(at)),
                    _ => drop(bytes.splice(at..at, begin[rng.usize(..begin.len())..].iter().copied().take(7))),
                }
                if bytes.is_empty() {
                    bytes.push(b'L');
                }
            }
            let mut rest = &bytes[..];
            while let Ok(Some((_, len))) = parse(rest, 100) {
                assert!(len > 0 && len <= rest.len());
                rest = &rest[len..];
            }
        }
    }

    #[test]
    fn what_is_said_is_what_a_hub_reads() {
        let mut out = Vec::new();
        want(&mut out, "a.*", None, 1);
        want(&mut out, "a.*", Some("g"), 3);
        unwant(&mut out, "a.*", Some("g"));
        unwant(&mut out, "a.*", None);
        assert_eq!(out, b"LS+ a.*\r\nLS+ a.* g 3\r\nLS- a.* g\r\nLS- a.*\r\n");
    }
}
