//! After a restart: those who had a session in the server's last life are told that it is no more (PROTOCOL.md 4.6). Who only
//! listens would not notice before its next heartbeat.

use alloc::vec::Vec;

use crate::time::{Duration, Instant};

/// How long after the first one the second and the third round begin, for those who have not come back: a word may get lost.
const ROUNDS: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1_600)];
/// Words that go out together, and the pause between two such groups: 5,000 a second.
const GROUP: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Who is still to be told.
#[derive(Debug)]
pub(super) struct Announcements<P> {
    /// Everybody, until the last round is over.
    peers: Vec<(P, u64)>,
    /// The place of the one who is next in this round.
    next: usize,
    round: usize,
    began_at: Instant,
    next_at: Instant,
    group: u32,
}

impl<P: Copy> Announcements<P> {
    pub(super) fn new() -> Self {
        Self { peers: Vec::new(), next: 0, round: 0, began_at: Instant::ZERO, next_at: Instant::ZERO, group: 0 }
    }

    /// These had sessions of these names.
    pub(super) fn begin(&mut self, now: Instant, peers: impl IntoIterator<Item = (P, u64)>) {
        self.peers.extend(peers);
        (self.next, self.round, self.began_at, self.next_at) = (0, 0, now, now);
    }

    /// The next one to tell, unless it `is_back`.
    pub(super) fn poll(&mut self, now: Instant, is_back: impl Fn(P) -> bool) -> Option<(P, u64)> {
        while now >= self.next_at
            && let Some(&(peer, name)) = self.peers.get(self.next)
        {
            self.next += 1;
            if self.next == self.peers.len() {
                self.end_round();
            }
            if is_back(peer) {
                continue;
            }
            self.group += 1;
            if self.group == GROUP {
                self.group = 0;
                self.next_at = self.next_at.max(now + PAUSE);
            }
            return Some((peer, name));
        }
        None
    }

    /// All were told: who has not come back is told again, later.
    fn end_round(&mut self) {
        let Some(after) = ROUNDS.get(self.round) else {
            self.peers = Vec::new();
            return;
        };
        (self.next, self.group) = (0, 0);
        self.round += 1;
        self.next_at = self.next_at.max(self.began_at + *after);
    }

    /// When there is somebody to tell.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn everyone_is_told_three_times_at_a_pace_until_it_is_back() {
        let mut announcements = Announcements::new();
        announcements.begin(Instant::from_millis(5), (0..1_000).map(|peer| (peer, u64::from(peer) + 7)));
        let mut told = BTreeMap::<u32, Vec<u64>>::new();
        let mut sent = 0;
        while let Some(now) = announcements.poll_timeout() {
            let mut together = 0;
            while let Some((peer, name)) = announcements.poll(now, |peer| peer % 2 == 1 && sent > 1_200) {
                assert_eq!(name, u64::from(peer) + 7);
                told.entry(peer).or_default().push(now.as_micros() / 1_000);
                together += 1;
                sent += 1;
            }
            assert!(together <= GROUP, "{together} at {now:?}");
        }
        assert_eq!(told.len(), 1_000);
        assert_eq!(told[&0], [5, 405, 1_605]);
        assert_eq!(told[&1].len(), 2, "it came back after the second time");
        assert_eq!(told[&999].len(), 1, "it came back after the first time");
        assert!(told[&998][0] < 210, "{:?}", told[&998]);
        assert_eq!(told[&998].len(), 3);
    }

    #[test]
    fn the_last_one_is_told_as_often_as_the_others() {
        let mut announcements = Announcements::new();
        announcements.begin(Instant::from_millis(5), [(1, 7), (2, 8)]);
        let mut told = Vec::new();
        while let Some(now) = announcements.poll_timeout() {
            while let Some(one) = announcements.poll(now, |_| false) {
                told.push(one);
            }
        }
        assert_eq!(told, [(1, 7), (2, 8), (1, 7), (2, 8), (1, 7), (2, 8)]);
    }
}
