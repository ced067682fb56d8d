//! Where a message has been, so that it does not come back.
//!
//! A header names the links that it has crossed: a link is what is between one kcpq server and one NATS, and bridges that stand
//! side by side are one. A server that knows no headers, as an original one, gives back what it was given without: what that is is
//! remembered until it is back.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The header, one for each link.
pub(super) const HEADER: &str = "Kcpq-Bridge";
/// A message that has crossed so many links is under way in a ring of them.
const MAX_CROSSED: usize = 8;
/// What a server without headers was given is back after this time, or never.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Messages that are remembered at most; one more takes the place of the oldest.
const REMEMBERED: usize = 65_536;
/// Names are no longer than this.
const MAX_NAME: usize = 128;

/// What headers tell of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossed {
    /// It may cross this link.
    Not,
    /// It has crossed this one.
    This,
    /// It has crossed more than there should be.
    TooMany,
}

/// Looks where a message has been.
pub(super) fn crossed<'h>(link: &str, headers: impl Iterator<Item = (&'h str, &'h str)>) -> Crossed {
    let mut count = 0;
    for (_, crossed) in headers.filter(|(name, _)| *name == HEADER) {
        if crossed == link {
            return Crossed::This;
        }
        count += 1;
    }
    if count >= MAX_CROSSED { Crossed::TooMany } else { Crossed::Not }
}

/// The name of a link, as a header can have it.
pub(super) fn parse_link(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("it has to be 1 to {MAX_NAME} visible ASCII characters without spaces")),
    }
}

/// What is to come back from a server that knows no headers. Of two messages with the same subject and payload it does not matter
/// which one is taken for the other.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    hasher: RandomState,
    /// By their hash the numbers of those that have not come back.
    awaited: HashMap<u64, VecDeque<u64>>,
    /// All, in the order in which they went, those that are back among them.
    gone: VecDeque<(Instant, u64, u64)>,
    next: u64,
}

impl Echoes {
    /// A message goes to the server, which will give it back.
    pub(super) fn note(&mut self, now: Instant, subject: &str, payload: &[u8]) {
        self.forget(now);
        let (hash, number) = (self.hasher.hash_one((subject, payload)), self.next);
        self.next += 1;
        self.awaited.entry(hash).or_default().push_back(number);
        self.gone.push_back((now, hash, number));
    }

    /// True if a message from the server is one that went there.
    pub(super) fn is_back(&mut self, now: Instant, subject: &str, payload: &[u8]) -> bool {
        self.forget(now);
        let hash = self.hasher.hash_one((subject, payload));
        let Some(numbers) = self.awaited.get_mut(&hash) else { return false };
        let is_back = numbers.pop_front().is_some();
        if numbers.is_empty() {
            self.awaited.remove(&hash);
        }
        is_back
    }

    /// Those that will not come back any more.
    fn forget(&mut self, now: Instant) {
        while let Some((at, hash, number)) = self.gone.front().copied()
            && (self.gone.len() >= REMEMBERED || now.saturating_duration_since(at) >= REMEMBERED_FOR)
        {
            self.gone.pop_front();
            if let Some(numbers) = self.awaited.get_mut(&hash) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.awaited.remove(&hash);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_crosses_each_link_once_and_not_too_many() {
        let been = |links: &[&'static str]| {
            let headers: Vec<_> = links.iter().map(|link| (HEADER, *link)).chain([("Other", "here")]).collect();
            crossed("here", headers.into_iter())
        };
        assert_eq!(been(&[]), Crossed::Not);
        assert_eq!(been(&["there", "elsewhere"]), Crossed::Not);
        assert_eq!(been(&["there", "here"]), Crossed::This);
        assert_eq!(been(&["a"; MAX_CROSSED]), Crossed::TooMany);
        assert!(parse_link("10.0.0.1:4000").is_ok());
        for wrong in ["", "a b", "ä", &"x".repeat(MAX_NAME + 1)] {
            assert!(parse_link(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_went_is_back_once_for_each_time() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        assert!(!echoes.is_back(now, "a", b"1"));
        echoes.note(now, "a", b"1");
        echoes.note(now, "a", b"1");
        echoes.note(now, "a", b"2");
        assert!(echoes.is_back(now, "a", b"2") && !echoes.is_back(now, "a", b"2"));
        assert!(!echoes.is_back(now, "b", b"1"));
        assert!(echoes.is_back(now, "a", b"1") && echoes.is_back(now, "a", b"1") && !echoes.is_back(now, "a", b"1"));
    }

    #[test]
    fn what_does_not_come_back_is_forgotten() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        echoes.note(now, "a", b"1");
        echoes.note(now, "a", b"2");
        assert!(echoes.is_back(now, "a", b"1"));
        let later = now + REMEMBERED_FOR;
        assert!(!echoes.is_back(later, "a", b"2"));
        assert!(echoes.awaited.is_empty() && echoes.gone.is_empty());
        for number in 0..2 * REMEMBERED {
            echoes.note(later, "a", &number.to_be_bytes());
        }
        assert!(echoes.gone.len() <= REMEMBERED && echoes.awaited.len() <= REMEMBERED);
        let (first, last) = (0_usize.to_be_bytes(), (2 * REMEMBERED - 1).to_be_bytes());
        assert!(!echoes.is_back(later, "a", &first) && echoes.is_back(later, "a", &last));
    }
}
