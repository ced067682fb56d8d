//! What crossed, and what did not, and why.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::openmetrics::{Family, counter, counters};

/// Of one direction. What was received has passed, was dropped for one of these reasons, or waits.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) received: Count,
    pub(super) passed: Count,
    /// Its headers say that it has crossed this link, or it is what the kcpq server was given.
    pub(super) returned: Count,
    /// It has crossed too many links.
    pub(super) looped: Count,
    /// There was no room.
    pub(super) full: Count,
    /// Its time was over.
    pub(super) expired: Count,
    /// The other side cannot be told it: too large, or no subject there.
    pub(super) refused: Count,
    /// The program ended before it could go.
    pub(super) ended: Count,
}

/// Both.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) to_nats: Way,
    pub(super) to_kcpq: Way,
    /// Messages that went without headers or subjects for answers, since the kcpq server knows none.
    pub(super) stripped: Count,
    /// Messages handed to the kcpq server of which it is not known whether it had them when it was lost.
    pub(super) in_doubt: Count,
    /// Requests from the kcpq server that nobody at NATS answers. Who asked is not told.
    pub(super) nobody: Count,
    /// Times that the kcpq server has refused something, and gone on.
    pub(super) complaints: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// What it is counted elsewhere.
    pub(super) fn set(&self, now: u64) {
        self.0.store(now, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Way {
    /// The program ends: what has neither passed nor was dropped does not any more.
    pub(super) fn close(&self) {
        let known = self.passed.get() + self.dropped().iter().map(|(_, count)| count).sum::<u64>();
        self.ended.add(self.received.get().saturating_sub(known));
    }

    /// Messages that were dropped, each reason's.
    fn dropped(&self) -> [(&'static str, u64); 6] {
        let Self { returned, looped, full, expired, refused, ended, .. } = self;
        [
            ("returned", returned),
            ("looped", looped),
            ("full", full),
            ("expired", expired),
            ("refused", refused),
            ("ended", ended),
        ]
        .map(|(reason, count)| (reason, count.get()))
    }
}

/// For people: `7 messages, 5 passed, dropped: 2 returned`.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages, {} passed", self.received.get(), self.passed.get())?;
        let dropped = self.dropped().into_iter().filter(|(_, count)| *count > 0);
        for (index, (reason, count)) in dropped.enumerate() {
            f.write_str(if index == 0 { ", dropped: " } else { ", " })?;
            write!(f, "{count} {reason}")?;
        }
        Ok(())
    }
}

impl Counters {
    /// All of them, for Prometheus.
    pub(super) fn families(&self) -> Vec<Family> {
        let Self { to_nats, to_kcpq, stripped, in_doubt, nobody, complaints } = self;
        let dropped = "Messages that did not cross";
        vec![
            counters(
                "bridge_messages_received",
                "Messages that came",
                "to",
                [("nats", to_nats.received.get()), ("kcpq", to_kcpq.received.get())],
            ),
            counters(
                "bridge_messages_passed",
                "Messages that were handed to the other side",
                "to",
                [("nats", to_nats.passed.get()), ("kcpq", to_kcpq.passed.get())],
            ),
            counters("bridge_to_nats_dropped", dropped, "reason", to_nats.dropped()),
            counters("bridge_to_kcpq_dropped", dropped, "reason", to_kcpq.dropped()),
            counter(
                "bridge_stripped",
                "Messages that went without headers, which the kcpq server does not know",
                stripped.get(),
            ),
            counter(
                "bridge_in_doubt",
                "Messages that the kcpq server may have had or not when it was lost",
                in_doubt.get(),
            ),
            counter("bridge_nobody", "Requests that nobody at NATS answers", nobody.get()),
            counter("bridge_complaints", "Times that the kcpq server has refused something", complaints.get()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_in_a_line() {
        let way = Way::default();
        assert_eq!(way.to_string(), "0 messages, 0 passed");
        way.received.add(7);
        way.passed.add(3);
        way.full.set(2);
        way.returned.add(1);
        assert_eq!(way.to_string(), "7 messages, 3 passed, dropped: 1 returned, 2 full");
        way.close();
        assert_eq!(way.to_string(), "7 messages, 3 passed, dropped: 1 returned, 2 full, 1 ended");
    }
}
