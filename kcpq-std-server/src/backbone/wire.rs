//! NATS on the wire: lines of text, and messages behind some of them
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>). No socket here.

use std::fmt;
use std::io::Write as _;

use kcpq_core::broker::gateway::Publish;

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op<'b> {
    /// What it is, as JSON.
    Info(&'b [u8]),
    Message {
        sid: u64,
        subject: &'b str,
        reply: Option<&'b str>,
        headers: Headers<'b>,
        payload: &'b [u8],
    },
    /// To a leaf node: somebody wants what a pattern matches, or a queue group does, or nobody does any more.
    Interest {
        subject: &'b str,
        group: Option<&'b str>,
        wanted: bool,
    },
    /// To a leaf node: a message, also for one member of each of these groups.
    Routed {
        subject: &'b str,
        reply: Option<&'b str>,
        groups: &'b str,
        headers: Headers<'b>,
        payload: &'b [u8],
    },
    Ok,
    /// Why it does not do something, or ends the connection.
    Error(&'b str),
    Ping,
    Pong,
}

/// The headers of a message, and what its first line says besides the version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Headers<'b> {
    pub(super) status: Option<u16>,
    /// What follows that, for people.
    pub(super) reason: &'b str,
    /// Bytes of all of it.
    pub(super) size: usize,
    pub(super) all: Vec<(&'b str, &'b str)>,
}

/// What is no NATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotNats;

impl fmt::Display for NotNats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what answers there does not speak NATS")
    }
}

/// The longest line that a server may send: an INFO names all of its cluster.
const MAX_LINE: usize = 256 * 1024;
/// Headers of a message are no longer than this.
const MAX_HEADERS: usize = 64 * 1024;

/// What a line begins with.
const WORDS: [&[u8]; 7] = [b"INFO", b"+OK", b"-ERR", b"PING", b"PONG", b"MSG", b"HMSG"];

/// Reads what stands in front of `bytes`: it, and how long it is. `None` if the rest has not come. No message is larger than
/// `max_payload`.
///
/// # Errors
/// It is no NATS.
pub(super) fn parse(bytes: &[u8], max_payload: usize) -> Result<Option<(Op<'_>, usize)>, NotNats> {
    let Some((first, rest, end)) = line(bytes, &WORDS)? else { return Ok(None) };
    match first {
        b"MSG" | b"HMSG" => message(first == b"HMSG", text(rest)?, &bytes[end..], end, max_payload),
        _ => Ok(Some((word(first, rest)?, end))),
    }
}

/// The first word of a line and the rest of it, and how long the line is.
type Line<'b> = (&'b [u8], &'b [u8], usize);
/// What stands behind the line of a message: headers and payload, and how long both are with what ends them.
type Body<'b> = (Headers<'b>, &'b [u8], usize);

/// Reads a line; `None` if its end has not come.
///
/// # Errors
/// It is too long, or cannot become one that begins with one of these words.
pub(super) fn line<'b>(bytes: &'b [u8], words: &[&[u8]]) -> Result<Option<Line<'b>>, NotNats> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_LINE)]) else {
        // Who speaks something else may never end a line.
        return if bytes.len() >= MAX_LINE || !begins_like_one(bytes, words) { Err(NotNats) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let (word, rest) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(at) => (&line[..at], line[at..].trim_ascii()),
        None => (line, &[][..]),
    };
    Ok(Some((word, rest, end + 1)))
}

/// What a line says that is no message.
///
/// # Errors
/// Nothing of NATS.
pub(super) fn word<'b>(word: &[u8], rest: &'b [u8]) -> Result<Op<'b>, NotNats> {
    Ok(match word {
        b"INFO" => Op::Info(rest),
        b"+OK" => Op::Ok,
        b"-ERR" => Op::Error(text(rest)?.trim_matches('\'')),
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        _ => return Err(NotNats),
    })
}

/// True if a line that has not ended can still be one.
fn begins_like_one(bytes: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| {
        let len = word.len().min(bytes.len());
        word[..len] == bytes[..len]
    })
}

fn message<'b>(
    has_headers: bool,
    line: &'b str,
    behind: &'b [u8],
    end: usize,
    max_payload: usize,
) -> Result<Option<(Op<'b>, usize)>, NotNats> {
    // SUBJECT SID [REPLY] [LENGTH OF HEADERS] LENGTH
    let mut words = line.split_ascii_whitespace();
    let (Some(subject), Some(sid)) = (words.next(), words.next()) else { return Err(NotNats) };
    let rest = [words.next(), words.next(), words.next(), words.next()];
    let (reply, headers, total) = match (has_headers, rest) {
        (false, [Some(total), None, ..]) => (None, "0", total),
        (false, [reply, Some(total), None, _]) => (reply, "0", total),
        (true, [Some(headers), Some(total), None, _]) => (None, headers, total),
        (true, [reply, Some(headers), Some(total), None]) => (reply, headers, total),
        _ => return Err(NotNats),
    };
    let number = |word: &str| word.parse::<usize>().map_err(|_| NotNats);
    let (sid, headers, total) = (sid.parse().map_err(|_| NotNats)?, number(headers)?, number(total)?);
    let Some((headers, payload, len)) = body(behind, has_headers.then_some(headers), total, max_payload)? else {
        return Ok(None);
    };
    Ok(Some((Op::Message { sid, subject, reply, headers, payload }, end + len)))
}

/// Reads what stands behind the line of a message: headers, if it is to have so many bytes of them, of so many in all. `None` if the
/// rest has not come.
///
/// # Errors
/// It is too large, or its headers are none.
pub(super) fn body(
    behind: &[u8],
    headers: Option<usize>,
    total: usize,
    max_payload: usize,
) -> Result<Option<Body<'_>>, NotNats> {
    let len = headers.unwrap_or(0);
    if len > total || len > MAX_HEADERS || total > max_payload.saturating_add(MAX_HEADERS) {
        return Err(NotNats);
    }
    let Some(body) = behind.get(..total + 2) else { return Ok(None) };
    let (block, payload) = body[..total].split_at(len);
    let headers = if headers.is_some() { parse_headers(block)? } else { Headers::default() };
    Ok(Some((headers, payload, total + 2)))
}

/// `NATS/1.0 503` and lines of name and value, up to an empty one. What is no header is left out.
fn parse_headers(block: &[u8]) -> Result<Headers<'_>, NotNats> {
    let text = text(block)?;
    let mut lines = text.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).ok_or(NotNats)?;
    let (code, reason) = first.trim_ascii().split_once(' ').unwrap_or_else(|| (first.trim_ascii(), ""));
    let all =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim_matches([' ', '\t'])));
    Ok(Headers { status: code.parse().ok(), reason, size: block.len(), all: all.collect() })
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, NotNats> {
    str::from_utf8(bytes).map_err(|_| NotNats)
}

// --- what a client says ---

/// Appends a message. There may be hundreds of thousands in a second, so nothing is formatted.
pub(super) fn publish(out: &mut Vec<u8>, message: &Publish<'_>) {
    out.extend_from_slice(if message.size() > message.payload.len() { b"HPUB " } else { b"PUB " });
    out.extend_from_slice(message.subject.as_bytes());
    out.push(b' ');
    if let Some(reply) = message.reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
    message_body(out, message);
}

/// Appends the lengths of headers and message, which end the line of one, and these.
pub(super) fn message_body(out: &mut Vec<u8>, message: &Publish<'_>) {
    let size = message.size();
    let headers = size - message.payload.len();
    if headers > 0 {
        number(out, headers);
        out.push(b' ');
    }
    number(out, size);
    out.extend_from_slice(b"\r\n");
    if headers > 0 {
        out.extend_from_slice(b"NATS/1.0\r\n");
        message.headers(|name, value| {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        });
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(message.payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal digits.
fn number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Appends a message of the server's own.
pub(super) fn say(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
    // Writing to memory does not fail.
    let _ = match reply {
        Some(reply) => write!(out, "PUB {subject} {reply} {}\r\n", payload.len()),
        None => write!(out, "PUB {subject} {}\r\n", payload.len()),
    };
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a subscription.
pub(super) fn subscribe(out: &mut Vec<u8>, sid: u64, subject: &str, group: Option<&str>) {
    let _ = match group {
        Some(group) => write!(out, "SUB {subject} {group} {sid}\r\n"),
        None => write!(out, "SUB {subject} {sid}\r\n"),
    };
}

/// Appends the end of one.
pub(super) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    let _ = write!(out, "UNSUB {sid}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read_wherever_it_is_cut() {
        let said: &[u8] = b"INFO {\"a\":1} \r\n+OK\r\nMSG a.b 7 3\r\nxyz\r\nMSG a.b 7 _INBOX.1 0\r\n\r\n\
            HMSG r 1 30 30\r\nNATS/1.0 503 No Responders\r\n\r\n\r\nHMSG h 2 re 22 24\r\nNATS/1.0\r\nUnit:  K\r\n\r\nhi\r\n\
            PING\r\nPONG\r\n-ERR 'Authorization Violation'\r\n";
        let wanted = |op: Op<'_>| format!("{op:?}");
        let message = |sid, subject, reply, status, all: Vec<_>, payload| Op::Message {
            sid,
            subject,
            reply,
            headers: Headers {
                status,
                reason: if status.is_some() { "No Responders" } else { "" },
                size: if status.is_some() { 30 } else { 22 * all.len() },
                all,
            },
            payload,
        };
        let all = [
            wanted(Op::Info(b"{\"a\":1}")),
            wanted(Op::Ok),
            wanted(message(7, "a.b", None, None, vec![], b"xyz")),
            wanted(message(7, "a.b", Some("_INBOX.1"), None, vec![], b"")),
            wanted(message(1, "r", None, Some(503), vec![], b"")),
            wanted(message(2, "h", Some("re"), None, vec![("Unit", "K")], b"hi")),
            wanted(Op::Ping),
            wanted(Op::Pong),
            wanted(Op::Error("Authorization Violation")),
        ];
        for step in [1, 2, 7, said.len()] {
            let (mut have, mut from, mut found) = (0, 0, Vec::new());
            while from < said.len() {
                match parse(&said[from..have], 1_000).unwrap() {
                    Some((op, len)) => {
                        found.push(wanted(op));
                        from += len;
                    }
                    None => have = (have + step).min(said.len()),
                }
            }
            assert_eq!(found, all);
        }
    }

    #[test]
    fn a_number_is_written_in_digits() {
        let mut out = Vec::new();
        for value in [0, 7, 10, 1_234_567, usize::MAX] {
            out.clear();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    fn what_is_no_nats_is_refused_before_it_takes_memory() {
        for said in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"SSH-2.0-OpenSSH",
            b"\x16\x03\x01",
            b"MSG a 1 99999999999\r\n",
            b"MSG a 1 100000\r\n",
            b"MSG a x 1\r\nx\r\n",
            b"MSG a 1\r\n",
            b"HMSG a 1 5 4\r\nxxxx\r\n",
            b"HMSG a 1 4 4\r\nxxxx\r\n",
            b"MSG \xff 1 1\r\nx\r\n",
        ] {
            assert_eq!(parse(said, 1_000), Err(NotNats), "{}", said.escape_ascii());
        }
        let endless = [b"INFO ".as_slice(), &[b'x'; MAX_LINE]].concat();
        assert_eq!(parse(&endless, 1_000), Err(NotNats));
        assert_eq!(parse(b"INF", 1_000), Ok(None));
        assert_eq!(parse(b"", 1_000), Ok(None));
    }

    #[test]
    fn garbage_is_read_or_refused() {
        let said: &[u8] =
            b"MSG a.b 7 _INBOX.1 3\r\nxyz\r\nHMSG h 2 re 22 24\r\nNATS/1.0\r\nUnit:  K\r\n\r\nhi\r\nPING\r\n";
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = said.to_vec();
            for _ in 0..rng.usize(1..5) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..3) {
                    0 => bytes[at] = rng.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, *rng.choice(b" \r\n0129M").unwrap()),
                }
            }
            let mut rest = &bytes[..];
            while let Ok(Some((_, len))) = parse(rest, 1_000) {
                assert!(len > 0 && len <= rest.len());
                rest = &rest[len..];
            }
        }
    }
}
