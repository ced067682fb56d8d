//! Path MTU discovery (DPLPMTUD, RFC 8899), between native peers: how long datagrams may be, found out with PROBEs.
//!
//! A segment keeps its length however often it is sent, so one that is too long for its path is never acknowledged. A
//! session therefore begins with datagrams that every path carries, and asks for more: for each length that usual paths
//! have there is a PROBE, a datagram that holds nothing but padding, and whoever receives it says so. A lost PROBE is
//! asked again a few times, harms nothing, and is no sign of a full link.

use super::env::Env;
use super::packet::Packet;
use super::peer::MtuSearch;
use super::segment::{Command, HEADER, Header};
use super::seq::{Sn, Ts};
use super::timers::Timer;
use crate::time::Duration;

/// Lengths of UDP payloads that usual paths carry, with an IPv6 header: the least that IPv6 allows (1280), tunnels on
/// Ethernet such as WireGuard's (1420), what the original uses, Ethernet (1500), and Ethernet with jumbo frames (9000).
const RUNGS: [u16; 5] = [1232, 1372, 1400, 1452, 8952];
/// How often a length is asked for: at a loss of one in ten each way all of the questions get lost once in 4,000.
const ROUNDS: u8 = 5;
/// Minimum time between two rounds; a round trip may not be known yet.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// Both halves: what is asked, and what is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mtud {
    search: Option<Search>,
    /// The longest PROBE that came and was not answered.
    answer: Option<Sn>,
    /// Both ends know PROBE.
    known: bool,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    agreed: MtuSearch,
    /// The shortest length that was asked for in this round.
    asked: u16,
    rounds: u8,
}

impl Mtud {
    /// Begins what was agreed upon.
    pub(super) fn new(env: &mut Env) -> Self {
        let search = env.peer.mtu_search.map(|agreed| Search { agreed, asked: u16::MAX, rounds: ROUNDS });
        env.timers.stop(Timer::MtuProbeAck);
        match search {
            Some(_) => env.timers.start(Timer::MtuProbe, env.now),
            None => env.timers.stop(Timer::MtuProbe),
        }
        Self { search, answer: None, known: search.is_some() }
    }

    /// True if the other end knows PROBE as well.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// A PROBE came.
    pub(super) fn on_probe(&mut self, env: &mut Env, len: Sn) {
        if self.answer.is_none_or(|longest| longest.0 < len.0) {
            self.answer = Some(len);
            env.timers.start(Timer::MtuProbeAck, env.now);
        }
    }

    /// Writes the answer that is owed, if it fits.
    pub(super) fn write_answer(&mut self, env: &mut Env, packet: &mut Packet<'_>) {
        if let Some(sn) = self.answer
            && packet.push(Header { command: Command::MtuProbeAck, sn, ..packet.template() }).is_some()
        {
            self.answer = None;
            env.timers.stop(Timer::MtuProbeAck);
        }
    }

    /// A PROBE of `len` bytes has arrived at the other end: so much is carried.
    pub(super) fn on_answer(&mut self, env: &mut Env, len: Sn) {
        if let Ok(len) = u16::try_from(len.0)
            && self.search.is_some_and(|search| search.lengths().any(|length| length == len))
        {
            env.mtu = env.mtu.max(len);
        }
    }

    /// Writes a PROBE, which is longer than the MTU, to the front of `out`, if one is due and fits.
    pub(super) fn write_probe(
        &mut self,
        env: &mut Env,
        out: &mut [u8],
        template: Header,
        round_trip: Duration,
    ) -> Option<usize> {
        let len = self.next_length(env, out.len(), round_trip)?;
        let (sn, data) = (Sn(len.into()), u32::from(len) - HEADER as u32);
        let header = Header { command: Command::MtuProbe, ts: Ts::of(env.now), sn, len: data, ..template };
        Packet::new(out, template).push(header)?.fill(0);
        env.stats.mtu_probes += 1;
        Some(usize::from(len))
    }

    /// The length of the PROBE to send now, if there is `room` for it. Of each round the longest goes first.
    fn next_length(&mut self, env: &mut Env, room: usize, round_trip: Duration) -> Option<u16> {
        if !env.timers.is_due(Timer::MtuProbe, env.now) {
            return None;
        }
        let (search, mtu) = (self.search.as_mut()?, env.mtu);
        let asked = search.asked;
        if let Some(next) = search.lengths().filter(|length| (mtu + 1..asked).contains(length)).max() {
            return (usize::from(next) <= room).then(|| {
                search.asked = next;
                next
            });
        }
        // The round is over. There is another if there is still more to be had.
        search.rounds -= 1;
        search.asked = u16::MAX;
        if search.rounds == 0 || search.lengths().all(|length| length <= mtu) {
            self.search = None;
            env.timers.stop(Timer::MtuProbe);
        } else {
            env.timers.start(Timer::MtuProbe, env.now + round_trip.saturating_mul(2).max(MIN_WAIT));
        }
        None
    }
}

impl Search {
    /// All lengths to ask for, not in order.
    fn lengths(self) -> impl Iterator<Item = u16> {
        let MtuSearch { longest, overhead } = self.agreed;
        let inner = RUNGS.map(|rung| rung.saturating_sub(overhead));
        inner.into_iter().filter(move |length| *length < longest).chain([longest])
    }
}
