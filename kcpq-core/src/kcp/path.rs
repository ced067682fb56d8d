//! Path MTU discovery (DPLPMTUD, RFC 8899), between native peers: how long datagrams may be, found out with PROBEs.
//!
//! A segment keeps its length however often it is sent, so one that is too long for its path is never acknowledged. A
//! session therefore begins with datagrams that every path carries, and asks for more: for each length that usual paths
//! have there is a PROBE, a datagram that holds nothing but padding, and whoever receives it says so. A lost PROBE is
//! asked again a few times, harms nothing, and is no sign of a full link.

use super::seq::Sn;
use crate::time::{Duration, Instant};

/// Lengths of UDP payloads that usual paths carry, with an IPv6 header: the least that IPv6 allows (1280), tunnels on
/// Ethernet such as WireGuard's (1420), what the original uses, Ethernet (1500), and Ethernet with jumbo frames (9000).
const RUNGS: [u16; 5] = [1232, 1372, 1400, 1452, 8952];
/// How often a length is asked for: at a loss of one in ten each way all of the questions get lost once in 4,000.
const ROUNDS: u8 = 5;
/// Minimum time between two rounds; a round trip may not be known yet.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// Both halves: what is asked, and what is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    search: Option<Search>,
    /// The longest PROBE that came and was not answered, and when it came.
    answer: Option<(Sn, Instant)>,
    /// Both ends know PROBE.
    known: bool,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    /// The longest that may be found.
    most: u16,
    /// Bytes of a datagram that lie around the segments.
    overhead: u16,
    /// The shortest length that was asked for in this round.
    asked: u16,
    rounds: u8,
    at: Instant,
}

impl Path {
    /// Begins to look for a length of up to `most`, `overhead` not counted.
    pub(super) fn search(&mut self, most: u16, overhead: u16) {
        self.known = true;
        self.search = Some(Search { most, overhead, asked: u16::MAX, rounds: ROUNDS, at: Instant::ZERO });
    }

    /// True if the other end knows PROBE as well.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// A PROBE came.
    pub(super) fn on_probe(&mut self, now: Instant, len: Sn) {
        if self.answer.is_none_or(|(longest, _)| longest.0 < len.0) {
            self.answer = Some((len, now));
        }
    }

    /// The PROBE to tell about.
    pub(super) fn take_answer(&mut self) -> Option<Sn> {
        self.answer.take().map(|(len, _)| len)
    }

    /// A PROBE of `len` bytes has arrived: the new length, if datagrams of `mtu` bytes were the longest so far.
    pub(super) fn on_answer(&self, mtu: u16, len: Sn) -> Option<u16> {
        let len = u16::try_from(len.0).ok()?;
        (self.search?.lengths().any(|length| length == len) && len > mtu).then_some(len)
    }

    /// The length of the PROBE to send now, longer than `mtu` bytes, if there is `room` for it. Of each round the longest
    /// goes first.
    pub(super) fn poll(&mut self, now: Instant, mtu: u16, room: usize, round_trip: Duration) -> Option<u16> {
        let search = self.search.as_mut().filter(|search| search.at <= now)?;
        let asked = search.asked;
        if let Some(next) = search.lengths().filter(|length| (mtu + 1..asked).contains(length)).max() {
            return (usize::from(next) <= room).then(|| {
                search.asked = next;
                next
            });
        }
        // The round is over. There is another if there is still more to be had.
        search.rounds -= 1;
        search.at = now + round_trip.saturating_mul(2).max(MIN_WAIT);
        search.asked = u16::MAX;
        if search.rounds == 0 || search.lengths().all(|length| length <= mtu) {
            self.search = None;
        }
        None
    }

    /// When there is something to send.
    pub(super) fn due(&self) -> Option<Instant> {
        let answer = self.answer.map(|(_, at)| at);
        let probe = self.search.map(|search| search.at);
        match (answer, probe) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Search {
    /// All lengths to ask for, not in order.
    fn lengths(self) -> impl Iterator<Item = u16> {
        let inner = RUNGS.map(|rung| rung.saturating_sub(self.overhead));
        inner.into_iter().filter(move |length| *length < self.most).chain([self.most])
    }
}
