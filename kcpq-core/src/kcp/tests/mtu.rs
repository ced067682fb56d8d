//! Paths that get narrower and wider.

use super::*;

/// Bytes of a datagram around its segments: none here.
const SEARCH: MtuSearch = MtuSearch { longest: 8_952, overhead: 0, native: false };
const PATH: sim::Config = sim::Config { mtu: 1_452, ..sim::Config::clean(Duration::from_millis(20)) };
const FRAME: Duration = Duration::from_micros(16_667);

/// Two native ends that know all there is, at the beginning of a session.
fn native(link: sim::Config, search: MtuSearch, seed: u64) -> Pair<Any, Any> {
    let config = Config { mtu: 1_200, ..Config::GAMES };
    let mut pair = Pair::new(Any::engine(CONV, config), Any::engine(CONV, config), link, seed);
    for end in [&mut pair.a, &mut pair.b] {
        let repairs = cfg!(feature = "repair");
        end.negotiated(Peer { repairs, pieces: true, mtu_search: Some(search), ..*end.peer() });
    }
    pair
}

impl Pair<Any, Any> {
    /// Changes how long datagrams may be, both ways.
    fn set_path(&mut self, link: sim::Config) {
        self.there.set_config(link);
        self.back.set_config(link);
    }

    /// Sends messages of `len` bytes, `count` of them, and returns the longest time that one took.
    fn flow(&mut self, len: usize, count: u64, data: &mut Vec<u8>) -> Duration {
        let (mut ends, mut longest) = (VecDeque::new(), Duration::ZERO);
        let mut next = self.now;
        let until = self.now + FRAME.saturating_mul(count as u32);
        while self.now < until || self.got.len() < data.len() {
            if self.now >= next && next < until {
                let message = payload(len, next.as_micros());
                self.a.send(&message).unwrap();
                data.extend(message);
                ends.push_back((data.len(), next));
                next += FRAME;
            }
            let end = next.min(until).max(self.now + Duration::from_micros(1));
            let end = if next < until { end } else { self.now + Duration::from_millis(1) };
            while self.now < end && self.step_until(end) {}
            while ends.front().is_some_and(|(end, _)| *end <= self.got.len()) {
                let (_, at) = ends.pop_front().unwrap();
                longest = longest.max(self.now.since(at));
            }
            assert!(self.now < until + Duration::from_secs(60), "stuck with {} of {}", self.got.len(), data.len());
        }
        assert!(self.got == *data, "lost, doubled, altered or out of order");
        longest
    }

    fn step_until(&mut self, end: Instant) -> bool {
        let next = [
            self.there.next_arrival(),
            self.back.next_arrival(),
            self.a.poll_timeout().map(|deadline| deadline.at),
            self.b.poll_timeout().map(|deadline| deadline.at),
        ];
        self.settle();
        match next.into_iter().flatten().min() {
            Some(next) if next < end => self.step(),
            _ => {
                self.now = end;
                self.settle();
                false
            }
        }
    }
}

#[test]
fn a_path_that_gets_narrower_is_followed_within_a_second() {
    let mut spurious = 0;
    for seed in 0..24 {
        let loss = [0.0, 0.01, 0.05][seed as usize % 3];
        let delay = Duration::from_millis([1, 10, 50, 100][seed as usize % 4]);
        let path = sim::Config { loss, delay, ..PATH };
        let (mut pair, mut data) = (native(path, SEARCH, seed), Vec::new());
        pair.flow(8_000, 240, &mut data);
        assert_eq!(pair.a.mtu(), 1_452, "seed {seed}");
        spurious += pair.a.stats().narrowed;
        pair.set_path(sim::Config { mtu: 1_280, ..path });
        let longest = pair.flow(8_000, 240, &mut data);
        assert_eq!(pair.a.mtu(), 1_232, "seed {seed}");
        let bound = Duration::from_millis(800) + delay.saturating_mul(4);
        assert!(longest < bound, "seed {seed}: a message took {longest:?}");
        let longest = pair.flow(8_000, 240, &mut data);
        assert!(longest < Duration::from_millis(600) + delay.saturating_mul(2), "seed {seed}: {longest:?} later");
        assert_eq!(pair.b.stats().malformed, 0);
    }
    assert_eq!(spurious, 0);
}

#[test]
fn what_has_become_wider_is_found_out_later_and_later_and_only_by_who_sends_that_much() {
    let (mut pair, mut data) = (native(PATH, SEARCH, 1), Vec::new());
    pair.flow(8_000, 20, &mut data);
    pair.set_path(sim::Config { mtu: 1_280, ..PATH });
    for minutes in [1, 2, 4, 8, 10, 10] {
        pair.flow(8_000, 60, &mut data);
        pair.run_for(Duration::from_secs(5));
        assert_eq!(pair.a.mtu(), 1_232);
        let probes = pair.a.stats().mtu_probes;
        pair.now += Duration::from_secs(minutes * 60 - 20);
        pair.flow(8_000, 5, &mut data);
        assert_eq!(pair.a.stats().mtu_probes, probes, "too soon after {minutes}");
        pair.run_for(Duration::from_secs(1));
        pair.now += Duration::from_secs(30);
        pair.flow(100, 5, &mut data);
        assert_eq!(pair.a.stats().mtu_probes, probes, "nobody needs it after {minutes}");
    }
    pair.set_path(PATH);
    pair.flow(8_000, 20, &mut data);
    assert_eq!(pair.a.mtu(), 1_452);
}

#[test]
fn long_datagrams_within_a_machine_are_followed_down_to_what_a_relay_passes() {
    let local = MtuSearch { longest: 16_000, overhead: 0, native: false };
    let link = sim::Config::clean(Duration::from_micros(50));
    for narrow in [9_000, 1_472, 1_300, 600] {
        let (mut pair, mut data) = (native(link, local, 7), Vec::new());
        pair.flow(60_000, 20, &mut data);
        assert_eq!(pair.a.mtu(), 16_000);
        pair.set_path(sim::Config { mtu: narrow, ..link });
        let longest = pair.flow(60_000, 120, &mut data);
        assert!(longest < Duration::from_millis(700), "{narrow}: {longest:?}");
        assert!(usize::from(pair.a.mtu()) > narrow * 9 / 10 && usize::from(pair.a.mtu()) <= narrow);
    }
    // And one that was there from the beginning is found at once.
    let (mut pair, mut data) = (native(sim::Config { mtu: 1_472, ..link }, local, 7), Vec::new());
    assert!(pair.flow(60_000, 20, &mut data) < Duration::from_millis(50));
    assert_eq!((pair.a.mtu(), pair.a.stats().narrowed), (1_452, 0));
}

/// One large message after the other and nothing short beside it: only the PROBEs tell.
#[test]
fn a_bulk_flow_without_anything_short_is_followed_too() {
    for seed in 0..10 {
        let path = sim::Config { mtu: 8_952, bandwidth: Some(12_500_000), queue: 200_000, ..PATH };
        let (mut pair, mut data) = (native(path, SEARCH, seed), Vec::new());
        pair.flow(100, 120, &mut data);
        assert_eq!(pair.a.mtu(), 8_952);
        let bulk = payload(4_000_000, seed);
        pair.a.send(&bulk).unwrap();
        data.extend(bulk);
        pair.run_for(Duration::from_millis(100 + seed * 10));
        pair.set_path(sim::Config { mtu: 1_500, ..path });
        let longest = pair.flow(100, 60, &mut data);
        assert!(longest < Duration::from_secs(4), "seed {seed}: {longest:?}");
        assert_eq!((pair.a.mtu(), pair.a.stats().narrowed), (1_452, 1), "seed {seed}");
    }
}

#[test]
fn neither_loss_nor_an_outage_is_taken_for_a_narrow_path() {
    for seed in 0..20 {
        let path = sim::Config { loss: 0.15, jitter: Duration::from_millis(10), ..PATH };
        let (mut pair, mut data) = (native(path, SEARCH, seed), Vec::new());
        pair.flow(5_000, 600, &mut data);
        pair.set_path(PATH);
        pair.flow(5_000, 60, &mut data);
        for outage in [100, 300, 2_000, 10_000] {
            pair.a.send(&[1; 5_000]).unwrap();
            data.extend([1; 5_000]);
            for link in [&mut pair.there, &mut pair.back] {
                link.set_down(true);
            }
            pair.run_for(Duration::from_millis(outage));
            for link in [&mut pair.there, &mut pair.back] {
                link.set_down(false);
            }
            pair.flow(5_000, 60, &mut data);
        }
        assert_eq!((pair.a.mtu(), pair.a.stats().narrowed), (1_452, 0), "seed {seed}");
    }
}

/// EMSGSIZE: the first datagram that does not leave is enough.
#[test]
fn what_the_system_refuses_makes_datagrams_shorter_at_once() {
    let (mut pair, mut data) = (native(PATH, SEARCH, 3), Vec::new());
    pair.flow(8_000, 60, &mut data);
    pair.there.set_config(sim::Config { mtu: 1_300, ..PATH });
    pair.a.send(&[7; 8_000]).unwrap();
    data.extend([7; 8_000]);
    let mut buf = [0; 10_000];
    let now = pair.now;
    let refused = pair.a.poll_transmit(now, &mut buf).unwrap();
    assert!((1_449..=1_452).contains(&refused), "{refused}");
    pair.a.on_too_long(now, refused as u16);
    assert_eq!(pair.a.mtu(), 1_400);
    let refused = pair.a.poll_transmit(now, &mut buf).unwrap();
    assert_eq!(refused, 1_400);
    pair.a.on_too_long(now, refused as u16);
    pair.a.on_too_long(now, 1_372);
    assert_eq!(pair.a.mtu(), 1_232);
    let longest = pair.flow(8_000, 60, &mut data);
    assert!(longest < Duration::from_millis(100), "{longest:?}");
    // Of what was refused as a question nothing shorter suffers.
    pair.a.on_too_long(pair.now, 8_952);
    assert_eq!(pair.a.mtu(), 1_232);
    // It never gets so short that nothing fits.
    for _ in 0..100 {
        pair.a.on_too_long(pair.now, pair.a.mtu());
    }
    assert_eq!(pair.a.mtu(), Config::MIN_MTU);
    pair.flow(100, 10, &mut data);
}

/// A peer that knows no pieces, such as an original one: what is queued later is shorter, the rest goes as it is.
#[test]
fn without_pieces_only_new_segments_get_shorter() {
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), PATH, 1);
    pair.run_for(Duration::from_millis(100));
    pair.there.set_config(sim::Config { mtu: 1_300, ..PATH });
    pair.a.send(&[7; 5_000]).unwrap();
    let mut buf = [0; 1_400];
    while pair.a.poll_transmit(pair.now, &mut buf).is_some() {}
    pair.a.on_too_long(pair.now, 1_400);
    pair.a.send(&[8; 5_000]).unwrap();
    pair.run_for(Duration::from_millis(500));
    assert!(pair.got.is_empty() && pair.a.in_flight() > 0);
    // Later it is carried again, in full: nobody waits for ever.
    pair.there.set_config(PATH);
    pair.run_for(Duration::from_secs(10));
    let data = [[7; 5_000], [8; 5_000]].concat();
    assert!(pair.got == data, "{} of {}", pair.got.len(), data.len());
}

/// Small messages that got lost may be packed into one datagram when they go again, which must not be too long for good.
#[test]
fn small_messages_get_through_whatever_they_are_packed_into() {
    for seed in 0..20 {
        let path = sim::Config { loss: 0.2, ..PATH };
        let (mut pair, mut data) = (native(path, SEARCH, seed), Vec::new());
        pair.flow(300, 120, &mut data);
        pair.set_path(sim::Config { mtu: 1_280, ..path });
        let longest = pair.flow(300, 600, &mut data);
        assert!(longest < Duration::from_secs(1), "seed {seed}: {longest:?}");
    }
}
