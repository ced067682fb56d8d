//! Path MTU discovery (DPLPMTUD, RFC 8899), between native peers: how long datagrams may be, found out with PROBEs.
//!
//! A session begins with datagrams that every path carries, and asks for more: for each length that usual paths have
//! there is a PROBE, a datagram that holds nothing but padding, and whoever receives it says so. A lost PROBE is asked
//! again a few times, harms nothing, and is no sign of a full link.
//!
//! ```text
//!          search          all longer ones, in up to five rounds
//!   Rest  <------  Search
//!    |  ^--------  ^                       a path that got narrower (black hole, RFC 8899 4.3): long segments are lost
//!    v   carries   | narrow                one after the other. Two rounds in which shorter PROBEs are answered and those
//!   Check ---------+                       of the present length are not give the verdict.
//! ```

use super::config::Config;
use super::env::Env;
use super::packet::Packet;
use super::peer::MtuSearch;
use super::segment::{Command, HEADER, Header};
use super::seq::Sn;
use super::timers::Timer;
use crate::time::{Duration, Instant};

/// Lengths of UDP payloads that usual paths carry: the least that IPv4 promises (576), what every path that is in use
/// carries, and then with an IPv6 header the least that IPv6 allows (1280), tunnels on Ethernet such as WireGuard's
/// (1420), what the original uses, Ethernet (1500), and Ethernet with jumbo frames (9000).
const RUNGS: [u16; 7] = [LEAST, 1200, 1232, 1372, 1400, 1452, 8952];
/// The shortest of them.
const LEAST: u16 = 548;
/// How often a length is asked for: at a loss of one in ten each way all of the questions get lost once in 4,000.
const ROUNDS: u8 = 5;
/// How long it waits where the path has no room for it.
const PUT_OFF: Duration = Duration::from_secs(1);
/// Minimum time between two rounds of a search; a round trip may not be known yet.
const MIN_WAIT: Duration = Duration::from_millis(200);
/// Minimum time between two rounds of a check, for which something waits; and the maximum, while nothing is answered.
const MIN_CHECK: Duration = Duration::from_millis(50);
const MAX_CHECK: Duration = Duration::from_secs(1);
/// Rounds of a check that have to agree: one long PROBE that is lost says nothing.
const STRIKES: u8 = 2;
/// PMTU_RAISE_TIMER (RFC 8899 5.1.1): after this, a session that would fill longer datagrams asks for them again.
const RAISE: Duration = Duration::from_secs(600);
/// The same after a path has got narrower: it may have been for a moment. It doubles up to [`RAISE`].
const RAISE_SOON: Duration = Duration::from_secs(60);

/// Both halves: what is asked, and what is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mtud {
    /// What was agreed upon, if both ends know PROBE.
    agreed: Option<MtuSearch>,
    phase: Phase,
    /// The shortest length that was asked for in this round; `None` between two rounds.
    asked: Option<u16>,
    /// After a search: when and how much later to ask again.
    raise_at: Option<Instant>,
    raise_after: Duration,
    /// The longest PROBE that came and was not answered.
    answer: Option<Sn>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Rest,
    /// Longer datagrams are looked for.
    Search {
        rounds: u8,
    },
    /// Present ones seem not to arrive any more.
    Check {
        /// The longest answer so far; 0 without any.
        best: u16,
        /// Whether this round had one, and how many had.
        answered: bool,
        strikes: u8,
        wait: Duration,
    },
}

impl Mtud {
    /// Begins what was agreed upon.
    pub(super) fn new(env: &mut Env) -> Self {
        env.timers.stop(Timer::MtuProbeAck);
        env.timers.stop(Timer::MtuProbe);
        let agreed = env.peer.mtu_search;
        let mut mtud =
            Self { agreed, phase: Phase::Rest, asked: None, raise_at: None, raise_after: RAISE, answer: None };
        mtud.begin(env);
        mtud
    }

    /// Begins the search, if the peer has proved where it is and datagrams have the form that it is about.
    pub(super) fn begin(&mut self, env: &mut Env) {
        if self.agreed.is_some_and(|agreed| !agreed.native || env.numbers.is_some()) && env.proved {
            self.search(env);
        }
    }

    /// True if the other end knows PROBE as well.
    pub(super) fn is_known(&self) -> bool {
        self.agreed.is_some()
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

    /// A PROBE of `len` bytes has arrived at the other end: so much is carried. True if that is no less than the present
    /// length, so that whatever got lost was lost for another reason.
    pub(super) fn on_answer(&mut self, env: &mut Env, len: Sn) -> bool {
        let asked = |len: &u16| *len == env.mtu || self.lengths().any(|length| length == *len);
        let Some(len) = u16::try_from(len.0).ok().filter(asked) else { return false };
        if len < env.mtu {
            if let Phase::Check { best, answered, .. } = &mut self.phase {
                *best = len.max(*best);
                *answered = true;
            }
            return false;
        }
        env.mtu = len;
        true
    }

    /// A datagram with `len` bytes of segments was sent: if that is all it can have, more is asked for if that has not
    /// happened for long.
    #[inline]
    pub(super) fn on_sent(&mut self, env: &mut Env, len: usize) {
        if self.raise_at.is_some_and(|at| at <= env.now) && len >= HEADER + env.mss() {
            self.search(env);
        }
    }

    /// True if there is nothing to follow and nothing to do now.
    #[inline]
    pub(super) fn is_quiet(&self, env: &Env, suspected: bool) -> bool {
        !suspected && !env.timers.is_due(Timer::MtuProbe, env.now) && !matches!(self.phase, Phase::Check { .. })
    }

    /// Follows what the losses say: `suspected`, only the longer segments seem to get lost.
    pub(super) fn suspect(&mut self, env: &mut Env, suspected: bool) {
        let checks = matches!(self.phase, Phase::Check { .. });
        if suspected == checks {
            return;
        }
        if checks {
            self.search(env); // what was interrupted
        } else if self.lengths().any(|length| length < env.mtu) {
            self.phase = Phase::Check { best: 0, answered: false, strikes: 0, wait: MIN_CHECK };
            self.asked = Some(u16::MAX);
            env.timers.start(Timer::MtuProbe, env.now);
        }
    }

    /// The system says that a datagram with `len` bytes of segments does not leave, which is as long as the present length
    /// or, if it was a PROBE, longer. Later ones are shorter. True if that is news.
    pub(super) fn on_too_long(&mut self, env: &mut Env, len: u16) -> bool {
        let overhead = self.agreed.map_or(0, |agreed| agreed.overhead);
        let shorter = RUNGS.map(|rung| rung.saturating_sub(overhead)).into_iter().filter(|length| *length < len).max();
        // On a path that carries less than the least, by halves.
        let shorter = shorter.unwrap_or(len / 2).max(Config::MIN_MTU);
        if let Some(agreed) = &mut self.agreed {
            agreed.longest = agreed.longest.min(shorter);
        }
        let news = len <= env.mtu && shorter < env.mtu;
        if news {
            self.narrow(env, shorter);
        }
        news
    }

    /// The timer between two rounds. True if the path was found to carry less than before.
    pub(super) fn on_time(&mut self, env: &mut Env) -> bool {
        if self.asked.is_some() || !env.timers.is_due(Timer::MtuProbe, env.now) {
            return false;
        }
        match &mut self.phase {
            Phase::Rest => env.timers.stop(Timer::MtuProbe),
            Phase::Search { rounds } => {
                *rounds -= 1;
                let over = *rounds == 0;
                if over || self.lengths().all(|length| length <= env.mtu) {
                    self.rest(env);
                } else {
                    self.asked = Some(u16::MAX);
                }
            }
            Phase::Check { best, answered, strikes, wait } => {
                if core::mem::take(answered) {
                    *strikes += 1;
                    *wait = MIN_CHECK;
                } else {
                    // An outage, it seems.
                    *wait = (*wait + *wait).min(MAX_CHECK);
                }
                if *strikes >= STRIKES {
                    let best = *best;
                    self.narrow(env, best);
                    return true;
                }
                self.asked = Some(u16::MAX);
            }
        }
        false
    }

    /// A PROBE that is due waits, because the path has no room for it.
    pub(super) fn put_off(&mut self, env: &mut Env) {
        if env.timers.is_due(Timer::MtuProbe, env.now) {
            env.timers.start(Timer::MtuProbe, env.now + PUT_OFF);
        }
    }

    /// Writes a PROBE, which is as long as it says, to the front of `out`, if one is due and fits.
    pub(super) fn write_probe(
        &mut self,
        env: &mut Env,
        out: &mut [u8],
        template: Header,
        round_trip: Duration,
    ) -> Option<usize> {
        let len = self.next_length(env, out.len(), round_trip)?;
        let (sn, ts) = (Sn(len.into()), env.ts());
        let mut packet = Packet::new(env, out.get_mut(..usize::from(len))?, template);
        let data = packet.room_for(Command::MtuProbe)? as u32;
        packet.push(Header { command: Command::MtuProbe, ts, sn, len: data, ..template })?.fill(0);
        env.stats.mtu_probes += 1;
        Some(usize::from(len))
    }

    /// The length of the PROBE to send now, if there is `room` for it. Of each round the longest goes first.
    fn next_length(&mut self, env: &mut Env, room: usize, round_trip: Duration) -> Option<u16> {
        let asked = self.asked?;
        let check = match self.phase {
            Phase::Check { wait, .. } => Some(wait),
            _ => None,
        };
        // A check asks for the present length and all below it, a search for all above.
        let wanted = |length: &u16| *length < asked && (*length > env.mtu) == check.is_none();
        let present = Some(env.mtu).filter(|_| check.is_some());
        if let Some(next) = self.lengths().chain(present).filter(wanted).max() {
            return (usize::from(next) <= room).then(|| {
                self.asked = Some(next);
                next
            });
        }
        self.asked = None;
        let wait = match check {
            Some(wait) => (round_trip + round_trip.div(4)).max(wait),
            None => round_trip.saturating_mul(2).max(MIN_WAIT),
        };
        env.timers.start(Timer::MtuProbe, env.now + wait);
        None
    }

    /// Datagrams are `len` bytes long from now on; what lies between that and what is too long is asked for.
    fn narrow(&mut self, env: &mut Env, len: u16) {
        env.mtu = len;
        env.stats.narrowed += 1;
        self.raise_after = RAISE_SOON;
        if self.is_known() {
            self.search(env);
        }
    }

    #[cold]
    fn search(&mut self, env: &mut Env) {
        self.phase = Phase::Search { rounds: ROUNDS };
        self.asked = Some(u16::MAX);
        self.raise_at = None;
        env.timers.start(Timer::MtuProbe, env.now);
    }

    fn rest(&mut self, env: &mut Env) {
        self.phase = Phase::Rest;
        env.timers.stop(Timer::MtuProbe);
        if self.lengths().any(|length| length > env.mtu) {
            self.raise_at = Some(env.now + self.raise_after);
            self.raise_after = (self.raise_after + self.raise_after).min(RAISE);
        }
    }

    /// All lengths to ask for, not in order.
    fn lengths(&self) -> impl Iterator<Item = u16> + use<> {
        let (longest, overhead) = self.agreed.map_or((0, 0), |agreed| (agreed.longest, agreed.overhead));
        let inner = RUNGS.map(|rung| rung.saturating_sub(overhead));
        inner
            .into_iter()
            .filter(move |length| *length < longest)
            .chain([longest])
            .filter(|length| *length > HEADER as u16)
    }
}

/// Segments of at most so many bytes of data cannot be too long for a path.
pub(super) const SHORT: u16 = LEAST - 128;
