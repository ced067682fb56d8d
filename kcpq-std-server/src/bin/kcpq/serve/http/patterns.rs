//! The patterns that sessions have, and how many messages each matches in a second, from one look to the next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// All patterns at one moment.
#[derive(Debug)]
pub(super) struct Patterns {
    at: Instant,
    all: HashMap<Box<str>, Counted>,
}

/// What is known of a pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    /// Sessions that have it.
    pub(super) subscribers: usize,
    /// Messages that it matched in a second since the look before; `None` if there was none.
    pub(super) rate: Option<f64>,
    /// Those since somebody has it, modulo 2^32.
    messages: u32,
}

/// Looks further apart than this say nothing of what happens at the moment.
const MEMORY: Duration = Duration::from_secs(10);

impl Patterns {
    /// Those that were `found`, with subscribers and messages, after what was known of them.
    pub(super) fn new(at: Instant, found: impl Iterator<Item = (Box<str>, usize, u32)>, before: Option<&Self>) -> Self {
        let before = before.filter(|before| !before.is_over(at));
        let span = before.map(|before| at.duration_since(before.at).as_secs_f64()).filter(|span| *span > 0.0);
        let all = found.map(|(text, subscribers, messages)| {
            // One that was not there then has matched everything since.
            let then = before.and_then(|before| before.all.get(&text)).map_or(0, |counted| counted.messages);
            let since = messages.wrapping_sub(then);
            // Far too many: it was given up meanwhile, and begun anew.
            let rate = span.filter(|_| since < u32::MAX / 2).map(|span| f64::from(since) / span);
            (text, Counted { subscribers, rate, messages })
        });
        Self { at, all: all.collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Counted)> {
        self.all.iter().map(|(text, counted)| (&**text, counted))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// True if it says nothing any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.at) > MEMORY
    }

    /// When it will say nothing any more.
    pub(super) fn until(&self) -> Instant {
        self.at + MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, found: &[(&str, u32)], before: Option<&Patterns>) -> Patterns {
        Patterns::new(at, found.iter().map(|(text, messages)| ((*text).into(), 1, *messages)), before)
    }

    fn rate(patterns: &Patterns, text: &str) -> Option<f64> {
        patterns.iter().find(|(known, _)| *known == text).unwrap().1.rate
    }

    #[test]
    fn rates_are_of_the_last_look_whatever_comes_and_goes() {
        let begin = Instant::now();
        let first = look(begin, &[("a", 10), ("b", u32::MAX), ("c", 700)], None);
        assert_eq!(rate(&first, "a"), None);
        let second = look(begin + Duration::from_secs(2), &[("a", 30), ("b", 9), ("c", 5), ("d", 8)], Some(&first));
        let rates = ["a", "b", "c", "d"].map(|text| rate(&second, text));
        assert_eq!(rates, [Some(10.0), Some(5.0), None, Some(4.0)], "c was given up and begun anew");
        let late = look(begin + MEMORY * 2, &[("a", 40)], Some(&second));
        assert_eq!(rate(&late, "a"), None, "nobody has looked for long");
    }
}
