//! The clients of a simulation: what each is like, and how its process is made.

use fastrand::Rng;
use kcpq_core::client::{Client, ConfirmMemory, LaneMemory, Memory, Overflow, Parts};
use kcpq_core::lane::Lane;
use kcpq_core::seal::Cipher;
use kcpq_core::sim;
use kcpq_core::store::{Heap, Lent};
use kcpq_core::time::{Duration, Instant};

use crate::end::{End, How, Native, config};
use crate::keys::Shows;
use crate::original::Original;
use crate::plan::{Kind, Plan};

/// What a microcontroller has.
#[derive(Default)]
pub(crate) struct Pocket {
    client: Memory<1376, 16, 4096, 20_000, 6>,
    /// For state.
    lanes: Lanes,
    confirms: Confirms,
}

type Lanes = LaneMemory<2, 4096, 16>;
/// More than its queue and its window hold.
type Confirms = ConfirmMemory<256>;
/// Processes of clients without an allocator in one simulation.
pub(crate) const POCKETS: usize = 6;

/// How a client is made.
#[derive(Clone, Debug)]
pub(crate) struct Make {
    pub(crate) shows: Shows,
    pub(crate) lent: bool,
    /// Messages are handed out of their datagrams.
    pub(crate) push: bool,
    cipher: Cipher,
    early: bool,
    native_datagram: u16,
    pub(crate) queue: usize,
    pub(crate) overflow: Overflow,
    pub(crate) path: sim::Config,
    /// Longer datagrams are refused at once (EMSGSIZE).
    pub(crate) system_mtu: usize,
    pub(crate) subscriptions: Vec<(String, How)>,
}

/// What clients are made of.
pub(crate) struct Fleet<'m> {
    pockets: Vec<(Parts<Lent<'m>>, &'m mut Lanes, &'m mut Confirms)>,
    rng: Rng,
}

impl<'m> Fleet<'m> {
    pub(crate) fn new(plan: &Plan, pockets: &'m mut [Pocket]) -> Self {
        let lend = |Pocket { client, lanes, confirms }: &'m mut Pocket| (client.lend(), lanes, confirms);
        Self { pockets: pockets.iter_mut().map(lend).collect(), rng: plan.rng(2) }
    }

    /// What client `index` is like.
    pub(crate) fn draw(&mut self, plan: &Plan, index: usize) -> Make {
        // Each from numbers of its own, so that clients stay as they are when others are left out.
        let mut rng = plan.rng(1_000 + index as u64);
        let sealed = [Shows::Sealed, Shows::Secret, Shows::Key, Shows::Token];
        let (shows, lent) = match rng.u8(..5) {
            0 if plan.kinds.has(Kind::Sealed) => (sealed[rng.usize(..4)], rng.u8(..4) == 0),
            1 if plan.kinds.has(Kind::Lent) => (Shows::Nothing, true),
            2 if plan.kinds.has(Kind::Original) => (Shows::Original, false),
            _ => (Shows::Nothing, false),
        };
        let lent = lent && plan.kinds.has(Kind::Lent);
        let delay = Duration::from_micros([100, 5_000, 20_000, 80_000][rng.usize(..4)]);
        let mtu = [1_500, 9_000, 65_000][rng.usize(..3)];
        Make {
            shows,
            lent,
            push: rng.bool(),
            cipher: if rng.bool() { Cipher::ChaChaPoly } else { Cipher::AesGcm },
            early: rng.bool(),
            native_datagram: [1_400, 9_000][rng.usize(..2)],
            queue: if lent { 4_096 } else { [20_000, 1 << 20][rng.usize(..2)] },
            overflow: [Overflow::Refuse, Overflow::DropNewest, Overflow::DropOldest][rng.usize(..3)],
            path: sim::Config { mtu, ..sim::Config::clean(delay) },
            system_mtu: if rng.u8(..4) == 0 { 1_472 } else { usize::MAX },
            subscriptions: subscriptions(plan, &mut rng, if lent { 3 } else { 5 }),
        }
    }

    /// A process. None if there is no memory for it.
    pub(crate) fn make(&mut self, make: &Make, index: usize, life: u32, now: Instant) -> Option<Box<dyn End + 'm>> {
        let seed = self.rng.u64(..) ^ (index as u64) << 32 ^ u64::from(life);
        if make.shows == Shows::Original {
            return Some(Box::new(Original::new(seed as u32, now)));
        }
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&seed.to_le_bytes());
        let mut config = config(make.queue, make.early, make.native_datagram);
        config.overflow = make.overflow;
        let trust = make.shows.trust();
        if make.lent {
            (config.kcp.send_window, config.kcp.recv_window, config.native_datagram) = (16, 16, 1_400);
            let (parts, lanes, confirms) = self.pockets.pop()?;
            let mut client = Client::new(config, seed, parts);
            client.lend_lanes(lanes).expect("it is new, and its window is as long");
            client.lend_confirms(confirms).expect("it is new");
            let client = match trust {
                Some(trust) => client.with_keys(trust, make.cipher, &entropy).expect("keys"),
                None => client,
            };
            return Some(Box::new(Native::new(client, false)));
        }
        let client: Client<Heap> = Client::new(config, seed, Parts::heap(&config));
        let client = match trust {
            Some(trust) => client.with_keys(trust, make.cipher, &entropy).expect("keys"),
            None => client,
        };
        Some(Box::new(Native::new(client, make.push)))
    }
}

const PATTERNS: [&str; 16] = [
    "s.>", "s.*.1", "s.1.*", "s.0.0", "s.2.2", ">", "*.1", "kept.*", "kept.1", "kept.>", "auto.>", "auto.0",
    "secret.*", "secret.1", "*.*.2", "s.2.*",
];
const STATE: [&str; 4] = ["state.*", "state.1", "state.2", "*.0"];
pub(crate) const GROUPS: [&str; 2] = ["g1", "g2"];

/// A subscription.
pub(crate) fn subscription(plan: &Plan, rng: &mut Rng) -> (String, How) {
    let has = |kind| plan.kinds.has(kind);
    let pattern = match has(Kind::State) && rng.bool() {
        true => STATE[rng.usize(..STATE.len())],
        false => PATTERNS[rng.usize(..PATTERNS.len())],
    };
    let pattern = pattern.into();
    let how = match rng.u8(..8) {
        0 if has(Kind::Latest) => How::Latest,
        1 if has(Kind::Retain) => How::WithoutKept,
        2..=3 if has(Kind::Group) => How::Group(GROUPS[rng.usize(..2)]),
        _ => How::Every,
    };
    if has(Kind::Request) && rng.u8(..4) == 0 {
        let how = if matches!(how, How::Latest) { How::Every } else { how };
        return (format!("req.{}", rng.u8(..3)), how);
    }
    (pattern, how)
}

fn subscriptions(plan: &Plan, rng: &mut Rng, most: usize) -> Vec<(String, How)> {
    (0..rng.usize(..=most)).map(|_| subscription(plan, rng)).collect()
}

/// A subject to publish to.
pub(crate) fn subject(plan: &Plan, rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => format!("secret.{}", rng.u8(..3)),
        1..=2 if plan.kinds.has(Kind::Retain) => format!("kept.{}", rng.u8(..3)),
        3 if plan.kinds.has(Kind::Retain) => format!("auto.{}", rng.u8(..3)),
        4..=6 if plan.kinds.has(Kind::State) => format!("state.{}", rng.u8(..3)),
        _ => format!("s.{}.{}", rng.u8(..3), rng.u8(..3)),
    }
}

/// The lane of state on this subject: always the same, and one of them that of all else.
pub(crate) fn lane_of_state(subject: &str) -> Option<Lane> {
    Lane::new(3 * subject.strip_prefix("state.")?.parse::<u8>().ok()?)
}

/// Subjects of state.
pub(crate) fn subjects_of_state() -> impl Iterator<Item = String> {
    (0..3).map(|number| format!("state.{number}"))
}

/// All other subjects that may be published to.
pub(crate) fn subjects() -> impl Iterator<Item = String> {
    let of = |first: &'static str| (0..3).map(move |n| format!("{first}.{n}"));
    let deep = (0..9).map(|n| format!("s.{}.{}", n / 3, n % 3));
    of("secret").chain(of("kept")).chain(of("auto")).chain(of("req")).chain(deep)
}
